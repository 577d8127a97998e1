//! Where the edges of a stream usually lie, and whether the newest lie elsewhere.

use std::collections::VecDeque;

/// Pairs remembered of each kind.
const KEPT: usize = 400;
/// It is known where pairs of a kind usually lie after so many, over at least so long.
const KNOWN_PAIRS: usize = 12;
const KNOWN_SECS: f64 = 300.0;
/// They lie together when their standard deviation (by quartiles) is at most this. Pairs by chance alone reach a
/// quarter of the span in which pairs are looked for.
const SPREAD_MAX_SECS: f64 = 0.08;
/// The newest pairs, which are judged: at most, at least, and how old they may be.
const NEWEST: usize = 12;
const NEWEST_MIN: usize = 8;
const NEWEST_SECS: f64 = 4.0 * 3_600.0;
/// Share of the newest that must agree, and within what (three deviations, within bounds).
const AGREE_SHARE: f64 = 0.66;
const AGREE_SECS: (f64, f64) = (0.04, 0.06);
/// A smaller change is told without proof, since nobody is warned of it.
pub(super) const FLOOR_SECS: f64 = 0.045;
/// A change is so many standard errors away.
const ERRORS: f64 = 4.0;
/// Chance at most that so many of the newest lie together there, going by how many lay there before.
const CHANCE_MAX: f64 = 1e-6;
/// After so many pairs at another place that place is the usual one.
const FORGET_PAIRS: u32 = 100;

/// Kinds of pairs, each with a distribution of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PairKind {
    /// A cut, and a step of the sound.
    Cut,
    /// A flat colour begins where the sound falls, or ends where it rises.
    Flat,
}

/// An edge of the picture and the edge of the sound that belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) kind: PairKind,
    /// When, in seconds of pictures watched.
    pub(super) at_secs: f64,
    /// By how much the sound is earlier than the picture.
    pub(super) early_secs: f64,
}

/// What the newest pairs say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// By how much sound is earlier than usual.
    pub(super) early_secs: f64,
    /// Standard deviation of the newest pairs.
    pub(super) spread_secs: f64,
    /// Standard error of the change.
    pub(super) error_secs: f64,
    /// How many of the newest pairs agree.
    pub(super) pairs: usize,
    /// When the newest pair was, in seconds of pictures watched.
    pub(super) at_secs: f64,
}

impl Change {
    /// 0 to 9: nearly all of the newest pairs agree, and closely.
    pub(super) fn confidence(&self) -> f64 {
        let share = self.pairs as f64 / NEWEST as f64;
        let close = (1.0 - self.error_secs / FLOOR_SECS).max(0.0);
        (9.0 * share * close).clamp(0.0, 9.0)
    }

    /// Whether it is too long ago to be true still.
    pub(super) fn is_old(&self, now_secs: f64) -> bool {
        now_secs - self.at_secs > NEWEST_SECS
    }
}

/// Pairs of one sound track.
#[derive(Debug, Default)]
pub(super) struct Usual {
    cuts: VecDeque<Pair>,
    flats: VecDeque<Pair>,
    newest: VecDeque<Pair>,
    /// Pairs since the newest lie elsewhere, and have not been seen back.
    elsewhere: u32,
}

impl Usual {
    /// Takes in a pair; gives what is now known.
    pub(super) fn add(&mut self, pair: Pair) -> Option<Change> {
        let stale = |old: &mut Pair| pair.at_secs - old.at_secs > NEWEST_SECS;
        while let Some(old) = self.newest.pop_front_if(stale) {
            self.retire(old);
        }
        if Place::of(self.before(pair.kind)).is_none() {
            self.retire(pair);
            return self.judge();
        }
        self.newest.push_back(pair);
        if self.newest.len() > NEWEST
            && let Some(old) = self.newest.pop_front()
        {
            self.retire(old);
        }
        let change = self.judge();
        let moved = change.map(|c| c.early_secs.abs() >= FLOOR_SECS);
        self.elsewhere = match moved.unwrap_or(self.elsewhere > 0) {
            true => self.elsewhere + 1,
            false => 0,
        };
        if self.elsewhere > FORGET_PAIRS {
            *self = Self::default();
        }
        change
    }

    /// How many pairs there are.
    pub(super) fn pairs(&self) -> usize {
        self.cuts.len() + self.flats.len() + self.newest.len()
    }

    fn before(&self, kind: PairKind) -> &VecDeque<Pair> {
        match kind {
            PairKind::Cut => &self.cuts,
            PairKind::Flat => &self.flats,
        }
    }

    /// While the newest lie elsewhere they must not become what is usual.
    fn retire(&mut self, pair: Pair) {
        if self.elsewhere == 0 {
            self.remember(pair);
        }
    }

    fn remember(&mut self, pair: Pair) {
        let of_kind = match pair.kind {
            PairKind::Cut => &mut self.cuts,
            PairKind::Flat => &mut self.flats,
        };
        if of_kind.len() == KEPT {
            of_kind.pop_front();
        }
        of_kind.push_back(pair);
    }

    /// Whether the newest pairs agree, and on what.
    fn judge(&self) -> Option<Change> {
        let places = [PairKind::Cut, PairKind::Flat].map(|k| (k, Place::of(self.before(k))));
        let place = |kind| places.iter().find(|p| p.0 == kind)?.1;
        let off = |pair: &Pair| Some((pair.early_secs - place(pair.kind)?.middle, pair.kind));
        let newest: Vec<(f64, PairKind)> = self.newest.iter().filter_map(off).collect();
        if newest.len() < NEWEST_MIN {
            return None;
        }
        let all = Place::among(newest.iter().map(|n| n.0))?;
        let agree = (3.0 * all.spread).clamp(AGREE_SECS.0, AGREE_SECS.1);
        let near = |off: f64, middle: f64| (off - middle).abs() <= agree;
        let group = newest.iter().filter(|n| near(n.0, all.middle));
        let group = Place::among(group.map(|n| n.0))?;
        if (group.count as f64) < AGREE_SHARE * newest.len() as f64 {
            return None;
        }
        // How many lay there before, of how many, and how well it is known where they usually lie.
        let (mut there, mut of, mut error) = (0.0, 0.0, group.error());
        for (kind, place) in places {
            let share = newest.iter().filter(|n| n.1 == kind).count() as f64 / newest.len() as f64;
            let (Some(place), true) = (place, share > 0.0) else {
                continue;
            };
            let before = self.before(kind).iter();
            let lay = before.filter(|p| near(p.early_secs - place.middle, group.middle));
            there += share * lay.count() as f64;
            of += share * place.count as f64;
            error = error.hypot(share * place.error());
        }
        let moved = group.middle.abs();
        let before = (there.ceil() as usize, of.ceil() as usize);
        let chance = at_least((group.count, newest.len()), before);
        let proven = moved >= ERRORS * error && chance <= CHANCE_MAX;
        (moved < FLOOR_SECS || proven).then_some(Change {
            early_secs: group.middle,
            spread_secs: group.spread,
            error_secs: error,
            pairs: group.count,
            at_secs: self.newest.back()?.at_secs,
        })
    }
}

/// A distribution.
#[derive(Debug, Clone, Copy)]
struct Place {
    middle: f64,
    /// Standard deviation, by quartiles.
    spread: f64,
    count: usize,
}

impl Place {
    /// Where pairs usually lie, if they lie together.
    fn of(pairs: &VecDeque<Pair>) -> Option<Self> {
        let span = pairs.back()?.at_secs - pairs.front()?.at_secs;
        let place = Self::among(pairs.iter().map(|p| p.early_secs))?;
        let known = pairs.len() >= KNOWN_PAIRS && span >= KNOWN_SECS;
        (known && place.spread <= SPREAD_MAX_SECS).then_some(place)
    }

    fn among(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let count = sorted.len();
        let at = |share: usize| sorted.get((share * (count - 1) + 2) / 4).copied();
        let quartiles = (count > 0).then(|| Some((at(1)?, at(2)?, at(3)?)))??;
        Some(Self {
            middle: quartiles.1,
            // Of a normal distribution.
            spread: (quartiles.2 - quartiles.0) / 1.349,
            count,
        })
    }

    /// Standard error of the middle, which is a median; edges are dated no better than to a few milliseconds.
    fn error(&self) -> f64 {
        1.253 * self.spread.max(0.004) / (self.count.max(1) as f64).sqrt()
    }
}

/// Chance of so many out of so many, or more, when it is as likely as before (Fisher's exact test, one-sided).
fn at_least((count, of): (usize, usize), (before, of_before): (usize, usize)) -> f64 {
    let ways = |of: usize, count: usize| {
        let factors = (0..count).map(|n| ((of - n) as f64 / (n + 1) as f64).ln());
        factors.sum::<f64>()
    };
    let all = count + before;
    let ending = (count..=of.min(all)).filter(|n| all - n <= of_before);
    ending
        .map(|n| (ways(of, n) + ways(of_before, all - n) - ways(of + of_before, all)).exp())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_that_of_a_known_table() {
        // The lady who tastes tea: all four right of eight, and three or more.
        assert!((at_least((4, 4), (0, 4)) - 1.0 / 70.0).abs() < 1e-12);
        assert!((at_least((3, 4), (1, 4)) - 17.0 / 70.0).abs() < 1e-12);
        assert!(at_least((12, 12), (0, 400)) < 1e-20);
        assert!((at_least((0, 12), (0, 400)) - 1.0).abs() < 1e-9);
    }
}

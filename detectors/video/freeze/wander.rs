//! What wanders over a picture that otherwise stands: far players, a ball, a walker in the distance.
//!
//! They are as small as a running clock, and may keep to the edge of the picture as long as a ticker does. But a clock
//! stirs the same tiles again and again, now and then; a ticker stirs all of its band all the time; whoever plays stirs few
//! tiles at a time, on most pictures, and soon others. And a ball is only passing: it stirs tiles that nothing stirred
//! before, and they are at rest again on the next pictures.
//!
//! Thresholds: some 80 freezes of 20 clips under clocks, tickers, logos and noise, where the union of lively tiles was at most
//! 1.45 times their usual number and at most three pictures with visitors came within a second; and a hundred runs of more than 0.9 s that live
//! tennis of 288 and 360 rows had, in four codecs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::recent::remember;
use super::shape::Shape;
use crate::base::MediaTime;

/// The first pictures of a run are still being redrawn.
const AGE_SECS: f64 = 0.3;
/// Tiles are counted by so many seconds, over so many of these.
const BIN_SECS: f64 = 0.5;
const BINS: usize = 8;
/// A lively tile moves on this share of the pictures, and on so many.
const LIVELY_RATIO: f64 = 0.3;
const LIVELY: u32 = 2;
/// It wanders when at least so many tiles were lively, and this many times more than at a time.
const WANDERED: usize = 3;
const WANDERED_RATIO: f64 = 1.8;
/// So many pictures with visitors in so many seconds, each in at most so many tiles.
const VISITS: usize = 4;
const VISITS_SECS: f64 = 1.0;
const VISITORS: usize = 4;
/// Players whom noise half hides stir now this tile, now that: few at a time on so many of the pictures of a second, so
/// many different ones, this many times more than at a time; and further apart than what runs in one place.
const SCATTER_SECS: f64 = 1.0;
const SCATTER_AT_ONCE: usize = 8;
const SCATTER_SHARE: f64 = 0.4;
const SCATTERED: usize = 5;
const SCATTERED_RATIO: f64 = 2.0;
/// Pictures of that second, at least and at most.
const SCATTER_PICTURES: usize = 16;
const MEMORY_PICTURES: usize = 128;
/// More than this share of the tiles is no small thing that moves: the picture is redrawn.
const REDRAWN_RATIO: f64 = 0.1;
/// How long after the newest sign the picture still counts as live.
const HOLD_SECS: f64 = 0.7;

/// Follows one run of still pictures.
#[derive(Debug)]
pub(super) struct Wander {
    began: MediaTime,
    /// Lively tiles of the parts of the run that are over, the newest last.
    lively: VecDeque<BTreeSet<usize>>,
    bin: Bin,
    visits: VecDeque<MediaTime>,
    /// Tiles that moved on the newest pictures, where they were few.
    stirs: VecDeque<(MediaTime, Vec<usize>)>,
    /// When life began to show, and its newest sign.
    alive: Option<(MediaTime, MediaTime)>,
}

#[derive(Debug)]
struct Bin {
    from: MediaTime,
    pictures: u32,
    moved: BTreeMap<usize, u32>,
}

impl Wander {
    pub(super) fn new(began: MediaTime) -> Self {
        Self {
            began,
            lively: VecDeque::new(),
            bin: Bin::new(began),
            visits: VecDeque::new(),
            stirs: VecDeque::new(),
            alive: None,
        }
    }

    /// Notes which tiles moved since the picture before; `known` ones have stirred in this run, or belong to an overlay.
    pub(super) fn note(
        &mut self,
        now: MediaTime,
        moved: &[usize],
        shape: &Shape,
        known: impl Fn(usize) -> bool,
    ) {
        if now.secs_after(self.began) < AGE_SECS {
            self.bin.from = now;
            return;
        }
        if now.secs_after(self.bin.from) >= BIN_SECS {
            self.close(now);
        }
        self.bin.pictures += 1;
        if moved.len() as f64 <= REDRAWN_RATIO * (shape.columns * shape.rows) as f64 {
            for tile in moved {
                *self.bin.moved.entry(*tile).or_default() += 1;
            }
        }
        let visitors = moved.iter().filter(|tile| !known(**tile)).count();
        if (1..=VISITORS).contains(&visitors) {
            self.visits.push_back(now);
        }
        self.visits.retain(|at| now.secs_after(*at) <= VISITS_SECS);
        if self.visits.len() >= VISITS
            && let (Some(first), Some(last)) = (self.visits.front(), self.visits.back())
        {
            self.show(*first, *last);
        }
        let few = match moved.len() <= SCATTER_AT_ONCE {
            true => moved.to_vec(),
            false => Vec::new(),
        };
        let stir = (now, few);
        remember(
            &mut self.stirs,
            stir,
            |s| s.0,
            SCATTER_SECS,
            MEMORY_PICTURES,
        );
        if self.scatters(shape)
            && let Some((first, _)) = self.stirs.front()
        {
            self.show(*first, now);
        }
    }

    /// Whether few tiles at a time stirred on most of the newest pictures, never the same, and far apart.
    fn scatters(&self, shape: &Shape) -> bool {
        let stirring = self.stirs.iter().filter(|(_, tiles)| !tiles.is_empty());
        let (count, of) = (stirring.clone().count(), self.stirs.len());
        let sum: usize = stirring.clone().map(|(_, tiles)| tiles.len()).sum();
        let all: BTreeSet<usize> = stirring.flat_map(|(_, tiles)| tiles).copied().collect();
        of >= SCATTER_PICTURES
            && count as f64 >= SCATTER_SHARE * of as f64
            && all.len() >= SCATTERED
            && (all.len() * count) as f64 >= SCATTERED_RATIO * sum as f64
            && shape.is_wide(&all)
    }

    /// Life showed from one time to another.
    fn show(&mut self, from: MediaTime, to: MediaTime) {
        let began = self.alive.map_or(from, |(began, _)| began.min(from));
        self.alive = Some((began, to));
    }

    /// Ends a part of the run.
    fn close(&mut self, now: MediaTime) {
        let bin = std::mem::replace(&mut self.bin, Bin::new(now));
        let least = LIVELY.max((LIVELY_RATIO * f64::from(bin.pictures)).ceil() as u32);
        let lively: BTreeSet<usize> = (bin.moved.iter())
            .filter(|(_, count)| **count >= least)
            .map(|(tile, _)| *tile)
            .collect();
        let stirs = !lively.is_empty();
        self.lively.push_back(lively);
        if self.lively.len() > BINS {
            self.lively.pop_front();
        }
        let parts = self.lively.iter().filter(|tiles| !tiles.is_empty());
        let sum: usize = parts.clone().map(BTreeSet::len).sum();
        let usual = sum as f64 / parts.clone().count().max(1) as f64;
        let all: BTreeSet<usize> = parts.flatten().copied().collect();
        if stirs && all.len() >= WANDERED && all.len() as f64 >= WANDERED_RATIO * usual {
            self.show(bin.from, now);
        }
    }

    /// When life began to show, while its newest sign still counts.
    pub(super) fn alive(&self, now: MediaTime) -> Option<MediaTime> {
        let (began, newest) = self.alive?;
        (now.secs_after(newest) <= HOLD_SECS).then_some(began)
    }

    /// Forgets what showed, and says when it last did.
    pub(super) fn forget(&mut self) -> Option<MediaTime> {
        self.alive.take().map(|(_, newest)| newest)
    }
}

impl Bin {
    fn new(from: MediaTime) -> Self {
        Self {
            from,
            pictures: 0,
            moved: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILES: usize = 920;

    /// Whether life is ever seen in eight seconds at 25 Hz, in which so many tiles move on the n-th picture.
    fn lives(moved: impl Fn(usize) -> Vec<usize>, known: impl Fn(usize) -> bool + Copy) -> bool {
        let at = |n: usize| MediaTime::from_millis(40 * n as i64);
        let shape = Shape {
            columns: 40,
            rows: TILES / 40,
        };
        let mut wander = Wander::new(at(0));
        (0..200).any(|n| {
            wander.note(at(n), &moved(n), &shape, known);
            wander.alive(at(n)).is_some()
        })
    }

    #[test]
    fn who_walks_along_the_edge_is_alive_and_clocks_and_tickers_are_not() {
        let all = |_: usize| true;
        // A player of two tiles who takes a step of a tile every half second.
        assert!(lives(|n| vec![810 + n / 12, 811 + n / 12], all));
        // A clock: seconds, and tens of seconds beside them; with hundredths, too.
        let clock = |n: usize| match n % 25 {
            0..3 if n > 100 => vec![44, 45, 46],
            0..3 => vec![45, 46],
            _ => vec![],
        };
        assert!(!lives(clock, all));
        let hundredths = |n: usize| [clock(n), vec![47]].concat();
        assert!(!lives(hundredths, all));
        // A ticker, of which every picture stirs two thirds.
        let ticker = |n: usize| {
            (840..880)
                .filter(|tile| !(tile * 7 + n * 5).is_multiple_of(3))
                .collect()
        };
        assert!(!lives(ticker, all));
        assert!(!lives(|_| vec![], all));
    }

    #[test]
    fn few_tiles_never_the_same_are_alive_and_a_flickering_few_are_not() {
        let all = |_: usize| true;
        // Two of three pictures show something of six players.
        let players = |n: usize| match n % 3 {
            0 => vec![],
            _ => vec![300 + 41 * (n * 5 % 7)],
        };
        assert!(lives(players, all));
        // Four tiles in which the codec flickers, two at a time.
        let flicker = |n: usize| vec![300 + n % 2, 400 + n % 2];
        assert!(!lives(flicker, all));
        // Strays now and then.
        let strays = |n: usize| if n.is_multiple_of(4) { vec![n] } else { vec![] };
        assert!(!lives(strays, all));
    }

    #[test]
    fn a_ball_is_a_visitor_and_a_stray_is_not() {
        let none = |_: usize| false;
        assert!(lives(|n| vec![100 + 41 * (n % 15)], none));
        let stray = |n: usize| if n % 30 == 7 { vec![3 * n] } else { vec![] };
        assert!(!lives(stray, none));
        // Redrawn as a whole, at every key picture.
        let redrawn = |n: usize| {
            if n.is_multiple_of(12) {
                (0..TILES).collect()
            } else {
                vec![]
            }
        };
        assert!(!lives(redrawn, none));
    }
}

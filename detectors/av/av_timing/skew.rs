//! Where audio lies beside video, and whether that followed a step of a clock.

use std::collections::VecDeque;

use super::clocks::{SHIFT_MIN_SECS, Step};
use crate::av::median;
use crate::base::{MediaTime, SkewBasis};

/// Log likelihood ratio at which it is decided whether the skew followed a clock step (a sequential test after
/// Wald, with errors of about e^-12 if skews were independent; they are not quite).
const DECIDE_AT: f64 = 12.0;
/// A skew step confirms a clock step when they differ by no more than this share, within bounds.
const CONFIRM_SHARE: f64 = 0.35;
const CONFIRM_SECS: (f64, f64) = (0.03, 0.15);
/// Skews kept: a segment's worth may run ahead of decoded sound.
const SKEWS: usize = 1024;
/// A baseline follows skews no faster than by this share each.
const FOLLOW: f64 = 2e-4;

/// A clock step that may be a shift.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) step: Step,
    /// Skews from here on belong to what follows the step.
    pub(super) from: MediaTime,
}

/// Distribution of the skew: interleaving jitters, by 60 ms (standard deviation) where audio PES are long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) mean: f64,
    variance: f64,
    count: f64,
    /// Short-term mean.
    pub(super) present: f64,
}

/// Where audio lies beside video, by one way of reading it.
#[derive(Debug)]
pub(super) struct Skew {
    basis: SkewBasis,
    pub(super) facts: VecDeque<(MediaTime, f64)>,
    /// How many facts, from the front, have been taken into the level.
    taken: usize,
    /// Learned at the start; then moved by confirmed steps, and slowly.
    pub(super) level: Option<Level>,
    /// The short-term mean has been off the level since.
    pub(super) off_since: Option<MediaTime>,
}

impl Skew {
    pub(super) fn new(basis: SkewBasis) -> Self {
        Self {
            basis,
            facts: VecDeque::new(),
            taken: 0,
            level: None,
            off_since: None,
        }
    }

    /// Least number of readings that decide, smallest standard deviation, gain of the short-term mean:
    /// segments are read nearly exactly, a multiplex jitters.
    fn nature(&self) -> (usize, f64, f64) {
        match self.basis {
            SkewBasis::Multiplex => (5, 0.02, 0.1),
            SkewBasis::Segment => (2, 0.012, 0.5),
        }
    }

    pub(super) fn add(&mut self, at: MediaTime, secs: f64) {
        if self.facts.len() == SKEWS {
            self.facts.pop_front();
            self.taken = self.taken.saturating_sub(1);
        }
        self.facts.push_back((at, secs));
        if self.level.is_none() && self.enough() {
            self.level = Some(self.learn());
            self.taken = self.facts.len();
        }
    }

    fn enough(&self) -> bool {
        let count = self.facts.len();
        let span = match (self.facts.front(), self.facts.back()) {
            (Some(first), Some(last)) => last.0.secs_after(first.0).abs(),
            _ => 0.0,
        };
        match self.basis {
            // Facts of a burst may all bear one time.
            SkewBasis::Multiplex => (count >= 16 && span >= 3.0) || count >= 256,
            SkewBasis::Segment => count >= 2,
        }
    }

    /// Mean and variance without outliers: the start of a multiplex is often uneven.
    fn learn(&self) -> Level {
        let mut all: Vec<f64> = self.facts.iter().map(|f| f.1).collect();
        let middle = median(all.iter().copied()).unwrap_or(0.0);
        let off = all.iter().map(|x| (x - middle).abs());
        let most = 4.5 * median(off).unwrap_or(0.0) + 0.1;
        all.retain(|x| (x - middle).abs() <= most);
        let count = all.len().max(1) as f64;
        let mean = all.iter().sum::<f64>() / count;
        let variance = all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        Level {
            mean,
            variance,
            count,
            present: mean,
        }
    }

    fn deviation(&self, level: Level) -> f64 {
        level.variance.sqrt().max(self.nature().1)
    }

    /// Takes in what decoded sound has passed; `calm`: no clock step waits to be judged.
    pub(super) fn follow(&mut self, heard: MediaTime, calm: bool) {
        let gain = self.nature().2;
        while let (Some(level), Some((at, secs))) = (self.level, self.facts.get(self.taken)) {
            if heard.secs_after(*at) < 0.5 {
                break;
            }
            let mut next = level;
            next.present += (secs - level.present) * gain;
            let off = secs - level.mean;
            let usual = off.abs() < 4.0 * self.deviation(level);
            if calm && usual && self.off_since.is_none() {
                next.count += 1.0;
                let gain = f64::max(1.0 / next.count, FOLLOW);
                next.mean += off * gain;
                next.variance += (off * off - level.variance) * gain;
            }
            let is_off = (next.present - next.mean).abs() > SHIFT_MIN_SECS;
            self.off_since = is_off.then(|| self.off_since.unwrap_or(*at));
            self.level = Some(next);
            self.taken += 1;
        }
    }

    /// Whether the skew has followed a clock step; `None` = cannot tell yet.
    pub(super) fn followed(&self, candidate: &Candidate) -> Option<bool> {
        let level = self.level?;
        let (quorum, ..) = self.nature();
        let deviation = self.deviation(level);
        let step = candidate.step.secs;
        let most = step.abs() + 4.0 * deviation;
        let (mut ratio, mut sum, mut count) = (0.0, 0.0, 0usize);
        for (_, secs) in self.facts.iter().filter(|f| f.0 >= candidate.from) {
            let off = (secs - level.mean).clamp(-most, most);
            ratio += step * (off - step / 2.0) / (deviation * deviation);
            sum += off;
            count += 1;
            if count < quorum {
                continue;
            }
            if ratio <= -DECIDE_AT {
                return Some(false);
            }
            if ratio >= DECIDE_AT && agree(sum / count as f64, step) {
                return Some(true);
            }
        }
        None
    }

    /// Moves the level for good.
    pub(super) fn settle(&mut self, mean: f64) {
        if let Some(level) = &mut self.level {
            level.mean = mean;
            level.present = mean;
            level.count = level.count.min(50.0);
        }
        self.off_since = None;
    }
}

pub(super) fn agree(skew: f64, clock: f64) -> bool {
    let slack = (CONFIRM_SHARE * clock.abs()).clamp(CONFIRM_SECS.0, CONFIRM_SECS.1);
    (skew - clock).abs() <= slack
}

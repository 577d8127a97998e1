//! Sound against its samples, pictures against their cadence.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{Arrival, Gap, MediaTime, Reading};

/// Largest drift told; more is not a clock.
pub(super) const DRIFT_MAX_PPM: f64 = 10_000.0;
/// Largest sum of gaps told, seconds.
pub(super) const GAP_MAX_SECS: f64 = 3600.0;
/// Gaps and overlaps are summed over this window.
const RECENT: Duration = Duration::from_secs(10);
/// Smallest step of the sample clock: below the shortest audio frame (20 ms Opus), above the jitter of
/// timestamps in milliseconds.
const STEP_MIN_SECS: f64 = 0.015;
/// A step is one when this many blocks in a row agree, within this.
const STEP_BLOCKS: u32 = 3;
const STEP_AGREE_SECS: f64 = 0.01;
/// Points of the drift fit, one a second, and the least that gives a slope.
const FIT_POINTS: usize = 300;
const FIT_MIN_SECS: f64 = 40.0;
/// Picture intervals kept, and the least that make a cadence.
const INTERVALS: usize = 32;
const INTERVALS_MIN: usize = 8;
/// Smallest shift looked for: detectability begins at 45 ms.
pub(super) const SHIFT_MIN_SECS: f64 = 0.04;

/// A step of a clock: media later by `secs` than what came before it foretold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) at: MediaTime,
    pub(super) secs: f64,
}

/// Steps of the last 10 s.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Step>);

impl Recent {
    pub(super) fn push(&mut self, step: Step) {
        if self.0.len() == 256 {
            self.0.pop_front();
        }
        self.0.push_back(step);
    }

    fn sum(&mut self, now: MediaTime) -> (f64, Option<MediaTime>) {
        let span = RECENT.as_secs_f64();
        self.0.retain(|s| now.secs_after(s.at).abs() < span);
        let sum = self.0.iter().map(|s| s.secs).sum::<f64>();
        (sum.min(GAP_MAX_SECS), self.0.front().map(|s| s.at))
    }

    pub(super) fn reading(&mut self, now: MediaTime) -> Reading {
        let (sum, since) = self.sum(now);
        Reading::measured(sum).since(since)
    }
}

/// Least-squares slope through one point a second.
#[derive(Debug, Default)]
struct Fit {
    points: VecDeque<(f64, f64)>,
    /// Second in hand: number, sum of errors, count.
    second: Option<(f64, f64, u32)>,
    slope: Option<f64>,
}

impl Fit {
    fn add(&mut self, t: f64, error: f64) {
        let number = t.floor();
        match &mut self.second {
            Some((n, sum, count)) if *n == number => {
                *sum += error;
                *count += 1;
                return;
            }
            Some((n, sum, count)) => {
                if self.points.len() == FIT_POINTS {
                    self.points.pop_front();
                }
                self.points.push_back((*n, *sum / f64::from(*count)));
            }
            None => {}
        }
        self.second = Some((number, error, 1));
        self.slope = self.solve();
    }

    fn solve(&self) -> Option<f64> {
        let span = self.points.back()?.0 - self.points.front()?.0;
        let n = self.points.len() as f64;
        if span < FIT_MIN_SECS || n < FIT_MIN_SECS * 0.75 {
            return None;
        }
        let (st, se) = self
            .points
            .iter()
            .fold((0.0, 0.0), |a, p| (a.0 + p.0, a.1 + p.1));
        let (mt, me) = (st / n, se / n);
        let (tt, te) = self.points.iter().fold((0.0, 0.0), |a, (t, e)| {
            (a.0 + (t - mt) * (t - mt), a.1 + (t - mt) * (e - me))
        });
        (tt > 0.0).then(|| te / tt)
    }
}

/// Decoded samples against audio timestamps.
#[derive(Debug)]
pub(super) struct SampleClock {
    pub(super) rate_hz: u32,
    /// Start of the drift fit.
    origin: MediaTime,
    /// Samples are counted from here, so that rounded timestamps never add up.
    anchor: MediaTime,
    samples: u64,
    /// Usual timestamp minus count, seconds; follows slowly.
    level: f64,
    /// Error of the same kind that steps and anchors have put aside; not drift.
    aside: f64,
    /// A deviation that may become a step: where it began, its error, blocks.
    suspect: Option<(MediaTime, f64, u32)>,
    fit: Fit,
}

impl SampleClock {
    pub(super) fn new(at: MediaTime, rate_hz: u32) -> Self {
        Self {
            rate_hz,
            origin: at,
            anchor: at,
            samples: 0,
            level: 0.0,
            aside: 0.0,
            suspect: None,
            fit: Fit::default(),
        }
    }

    /// Timestamp minus sample count.
    fn error(&self, at: MediaTime) -> f64 {
        at.secs_after(self.anchor) - self.samples as f64 / f64::from(self.rate_hz)
    }

    /// Starts counting at `at`; tells by how much that lies off what was expected.
    pub(super) fn anchor(&mut self, at: MediaTime) -> f64 {
        let step = self.error(at) - self.level;
        self.aside -= self.level;
        self.anchor = at;
        self.samples = 0;
        self.level = 0.0;
        self.suspect = None;
        step
    }

    pub(super) fn observe(&mut self, at: MediaTime, frames: u64) -> Option<Step> {
        let error = self.error(at);
        self.samples += frames;
        let off = error - self.level;
        if off.abs() < STEP_MIN_SECS {
            self.suspect = None;
            self.level += off * 0.05;
            let t = at.secs_after(self.origin);
            self.fit.add(t, error - self.aside);
            return None;
        }
        let (since, first, blocks) = match self.suspect {
            Some((since, first, blocks)) if (error - first).abs() < STEP_AGREE_SECS => {
                (since, first, blocks + 1)
            }
            _ => (at, error, 1),
        };
        if blocks < STEP_BLOCKS {
            self.suspect = Some((since, first, blocks));
            return None;
        }
        self.suspect = None;
        self.level += off;
        self.aside += off;
        Some(Step {
            at: since,
            secs: off,
        })
    }

    /// Positive = more samples than timestamps tell.
    pub(super) fn drift_ppm(&self) -> Option<f64> {
        let ppm = self.fit.slope? * -1e6;
        Some(ppm.clamp(-DRIFT_MAX_PPM, DRIFT_MAX_PPM))
    }
}

/// Picture times against their cadence.
#[derive(Debug, Default)]
pub(super) struct PictureClock {
    /// The first picture of all.
    pub(super) first: Option<MediaTime>,
    last: Option<MediaTime>,
    pub(super) seen: Option<Arrival>,
    pub(super) told: Option<MediaTime>,
    intervals: VecDeque<f64>,
    pub(super) gaps: Recent,
    pub(super) announced_secs: f64,
}

impl PictureClock {
    /// A possible step; long ones are kept as gaps.
    pub(super) fn observe(&mut self, at: MediaTime, gap: Gap) -> Option<Step> {
        let last = self.last.replace(at)?;
        let interval = at.secs_after(last);
        let mut sorted: Vec<f64> = self.intervals.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let usual = sorted.get(sorted.len() / 2).copied();
        // A tenth may be outliers: a second gap is still one, a variable rate is none.
        let long = sorted.get(sorted.len() * 9 / 10).copied();
        let ours = matches!(gap, Gap::WeDropped(_));
        if interval > 0.0 && !ours {
            if self.intervals.len() == INTERVALS {
                self.intervals.pop_front();
            }
            self.intervals.push_back(interval.min(5.0));
        }
        let (Some(usual), Some(long)) = (usual, long) else {
            return None;
        };
        if ours || sorted.len() < INTERVALS_MIN {
            return None;
        }
        let secs = interval - usual;
        if gap == Gap::None && interval > f64::max(0.5, 3.0 * long) {
            let missing = unannounced(secs, &mut self.announced_secs);
            self.gaps.push(Step { at, secs: missing });
        }
        (secs.abs() >= SHIFT_MIN_SECS).then_some(Step { at, secs })
    }
}

/// What remains of a gap after what was announced.
pub(super) fn unannounced(secs: f64, announced: &mut f64) -> f64 {
    (secs - std::mem::take(announced)).max(0.0)
}

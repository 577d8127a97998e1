//! Change too slow to be seen from one picture to the next: a slow zoom, light that goes or comes.

use std::collections::VecDeque;

use super::recent::remember;
use crate::base::MediaTime;

/// Creep: the distance to the anchor grows by this many codes in the last part of a second, picture by picture. The
/// sharpening of a coarse first picture has slowed down by this age; exposure, dusk and slow zooms have not.
const CREEP_CODES: f32 = 1.3;
const CREEP_SPAN_SECS: f64 = 0.7;
const CREEP_AGE_SECS: f64 = 1.4;
/// Light that goes or comes: the mean of the picture drifts by so many codes in that time, in many steps. Redrawing keeps
/// the mean.
const DRIFT_CODES: f32 = 0.3;
const DRIFT_AGE_SECS: f64 = 0.5;
/// Most pictures that are remembered.
const MEMORY_PICTURES: usize = 128;

/// What tells slow change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distance {
    pub(super) at: MediaTime,
    /// Difference to the anchor that 99 % of the tiles stay below, codes.
    pub(super) codes: f32,
    /// Mean luma of the picture, codes.
    pub(super) level: f32,
}

/// Recent distances to the anchor.
#[derive(Debug, Default)]
pub(super) struct Creep {
    distances: VecDeque<Distance>,
}

impl Creep {
    /// Notes a picture.
    pub(super) fn note(&mut self, now: Distance) {
        let past = &mut self.distances;
        remember(past, now, |d| d.at, CREEP_SPAN_SECS, MEMORY_PICTURES);
    }

    /// Whether the picture of a run of this age, in seconds, moves away from the anchor steadily, not in one step; or its
    /// light goes.
    pub(super) fn is_seen(&self, age: f64) -> bool {
        let steps = |of: fn(&Distance) -> f32| {
            (self.distances.iter().zip(self.distances.iter().skip(1)))
                .map(move |(a, b)| of(b) - of(a))
        };
        let growth: f32 = steps(|d| d.codes).sum();
        let largest = steps(|d| d.codes).fold(0.0, f32::max);
        let drift: f32 = steps(|d| d.level).sum();
        let jump = steps(|d| d.level).fold(0.0, |most: f32, step| most.max(step.abs()));
        (age >= CREEP_AGE_SECS && growth - largest >= CREEP_CODES)
            || (age >= DRIFT_AGE_SECS && drift.abs() >= DRIFT_CODES && 3.0 * jump <= drift.abs())
    }
}

//! Edges of the sound: where its level or its spectrum steps.
//!
//! The level of three bands, in hops of 2.5 ms, before and after: the mean over a quarter of a second tells how large a
//! step is, that over 20 ms where it lies and whether it is one at all; what swells or dies away has no place.

use std::collections::VecDeque;

use super::Direction;
use crate::base::{MediaTime, SampleClock, Sound};

/// Hops a second.
const HOPS_HZ: u32 = 400;
/// Slower sound has no bands to speak of.
const RATE_MIN_HZ: u32 = 8_000;
/// Bands: below, between, above (hertz).
const BANDS: usize = 3;
const LOW_HZ: f32 = 400.0;
const HIGH_HZ: f32 = 2_500.0;
/// Quieter is silence, and the noise of its coding, dBFS.
const FLOOR_DBFS: f64 = -70.0;
/// Hops in the two means of a side (250 ms, 20 ms), and how far from the middle of a step its place is looked for.
const LONG: usize = 100;
const SHORT: usize = 8;
const REACH: usize = 40;
/// Hops kept: an edge is known when it is the largest step of its surroundings.
const KEPT: usize = 4 * LONG + 2 * REACH;
/// Least step of an edge, dB: the three bands as one vector.
const STEP_MIN_DB: f64 = 18.0;
/// Share of the step that must happen within 20 ms.
const SHARP: f64 = 0.6;

/// An edge of the sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SoundEdge {
    pub(super) at: MediaTime,
    /// Size of the step, dB.
    pub(super) step_db: f64,
    pub(super) direction: Direction,
    /// Steep enough to have a place in time.
    pub(super) sharp: bool,
}

/// Listens for edges on one track.
#[derive(Debug, Default)]
pub(super) struct Ear {
    clock: SampleClock,
    /// Samples of the hop in hand.
    in_hop: u32,
    low: f32,
    middle: f32,
    powers: [f32; BANDS],
    /// Running sums of the level of each band, dB, one entry a hop boundary.
    sums: VecDeque<[f64; BANDS]>,
    /// Boundaries gone from the front.
    gone: u64,
    /// Size of the step at each boundary that has both its sides; the first is `LONG` boundaries into `sums`.
    steps: VecDeque<f64>,
    settled: Option<MediaTime>,
}

impl Ear {
    /// Takes in a block; gives the edges that are now known. `follows`: nothing is missing before it.
    pub(super) fn hear(
        &mut self,
        at: MediaTime,
        sound: &Sound<'_>,
        follows: bool,
    ) -> Vec<SoundEdge> {
        if sound.rate_hz() < RATE_MIN_HZ {
            *self = Self::default();
            return Vec::new();
        }
        if !follows {
            *self = Self::default();
        }
        if self.clock.follow(at, sound) {
            *self = Self {
                clock: self.clock,
                ..Self::default()
            };
        }
        let rate = sound.rate_hz() as f32;
        let share = |hz: f32| (std::f32::consts::TAU * hz / rate).min(1.0);
        let (below, above) = (share(LOW_HZ), share(HIGH_HZ));
        let hop = self.hop();
        let mut edges = Vec::new();
        for frame in sound.samples().chunks_exact(sound.channels()) {
            let x = mixed(frame);
            self.low += (x - self.low) * below;
            let rest = x - self.low;
            self.middle += (rest - self.middle) * above;
            let bands = [self.low, self.middle, rest - self.middle];
            for (power, band) in self.powers.iter_mut().zip(bands) {
                *power += band * band;
            }
            self.in_hop += 1;
            if self.in_hop == hop {
                edges.extend(self.end_hop());
            }
        }
        edges
    }

    /// Up to when all edges are known.
    pub(super) fn settled(&self) -> Option<MediaTime> {
        self.settled
    }

    fn hop(&self) -> u32 {
        self.clock.rate_hz() / HOPS_HZ
    }

    fn end_hop(&mut self) -> Option<SoundEdge> {
        let count = f64::from(std::mem::take(&mut self.in_hop));
        let powers = std::mem::take(&mut self.powers);
        if self.sums.is_empty() {
            self.sums.push_back([0.0; BANDS]);
        }
        let mut sums = self.sums.back().copied().unwrap_or_default();
        for (sum, power) in sums.iter_mut().zip(powers) {
            let floor = 10f64.powf(FLOOR_DBFS / 10.0);
            *sum += 10.0 * (f64::from(power) / count + floor).log10();
        }
        self.sums.push_back(sums);
        let newest = self.sums.len() - 1;
        if newest < 2 * LONG {
            return None;
        }
        self.steps.push_back(self.step(newest - LONG, LONG).1);
        if self.sums.len() > KEPT {
            self.sums.pop_front();
            self.steps.pop_front();
            self.gone += 1;
        }
        // The step in the middle of those known, when it is the largest within `LONG`.
        let due = self.steps.len().checked_sub(LONG + 1)?;
        let place = due + LONG;
        self.settled = Some(self.at(place));
        let size = *self.steps.get(due)?;
        let first = due.saturating_sub(LONG);
        let largest = size >= STEP_MIN_DB
            && (self.steps.range(first..due)).all(|s| *s < size)
            && self.steps.range(due + 1..).all(|s| *s <= size);
        largest.then(|| self.edge(place, size))
    }

    /// The edge near a boundary at which the step is largest.
    fn edge(&self, place: usize, step_db: f64) -> SoundEdge {
        let near = place - REACH..=place + REACH;
        let steepest = near.map(|n| (n, self.step(n, SHORT)));
        let steepest = steepest.max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let (place, (rise, steep)) = steepest.unwrap_or((place, (0.0, 0.0)));
        SoundEdge {
            at: self.at(place),
            step_db,
            direction: match rise > 0.0 {
                true => Direction::More,
                false => Direction::Less,
            },
            sharp: steep >= SHARP * step_db,
        }
    }

    /// Level after a boundary against that before, over so many hops each: sum over the bands, and length as a vector.
    fn step(&self, place: usize, hops: usize) -> (f64, f64) {
        let at = |n: usize| self.sums.get(n).copied().unwrap_or_default();
        let (before, here, after) = (at(place - hops), at(place), at(place + hops));
        let (mut rise, mut squares) = (0.0, 0.0);
        for ((before, here), after) in before.iter().zip(here).zip(after) {
            let step = (after - 2.0 * here + before) / hops as f64;
            rise += step;
            squares += step * step;
        }
        (rise, squares.sqrt())
    }

    fn at(&self, place: usize) -> MediaTime {
        let boundary = self.gone + place as u64;
        self.clock.at(boundary * u64::from(self.hop()))
    }
}

/// One channel of all. Weights differ, so that channels of opposite sign do not cancel.
fn mixed(frame: &[f32]) -> f32 {
    let (mut sum, mut weight, mut weights) = (0.0, 1.0, 0.0);
    for x in frame {
        let x = if x.is_finite() {
            x.clamp(-1.0, 1.0)
        } else {
            0.0
        };
        sum += weight * x;
        weights += weight;
        weight *= 0.7;
    }
    sum / weights
}

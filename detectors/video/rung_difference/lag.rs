//! How much later one rendition shows the programme than another, from their maps.

use crate::base::MediaTime;

/// Steps that are tried either way.
pub(super) const REACH: i32 = 12;
const TRIED: usize = 2 * REACH as usize + 1;
/// Every so many cells are compared: enough for a mean.
const STRIDE: usize = 19;
/// Pictures over which is judged.
const MEMORY: f32 = 75.0;
/// Before so many nothing is.
const LEAST: f32 = 25.0;
/// The best place must differ by so much less than the places beside it: in a picture that stands still all are alike.
const CLEAR: f32 = 0.8;
/// Steps around the best place that may be as good.
const SKIRT: i32 = 1;
/// A picture is of another place when it differs there by so much less, ...
const ELSEWHERE: f32 = 0.7;
/// ... and when so many in a row are of that place: what is damaged is always most like the last sound picture, which
/// is another place each time.
const IN_A_ROW: u32 = 3;
/// Mean difference below which pictures are the same, codes.
const SAME: f32 = 0.5;

/// What one more picture told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is where it should be, as far as can be seen.
    Here,
    /// It is more like a picture of another time.
    Elsewhere,
    /// The delay is another from now on.
    Moved,
}

/// Looks for the delay of one rendition.
#[derive(Debug, Clone)]
pub(super) struct Lag {
    /// Mean difference at each place, codes.
    costs: [f32; TRIED],
    /// Mean time from the place to the picture found there, seconds.
    beside: [f32; TRIED],
    pictures: f32,
    steps: i32,
    known: bool,
    /// Best place of the newest picture alone, and for how many in a row.
    alone: (i32, u32),
}

impl Default for Lag {
    fn default() -> Self {
        Self {
            costs: [0.0; TRIED],
            beside: [0.0; TRIED],
            pictures: 0.0,
            steps: 0,
            known: false,
            alone: (0, 0),
        }
    }
}

impl Lag {
    /// Compares a picture of the leader with those of the other rendition around the same time, which `find` gives
    /// with their times.
    pub(super) fn look<'a>(
        &mut self,
        at: MediaTime,
        map: &[u8],
        step_secs: f64,
        find: impl Fn(MediaTime) -> Option<(MediaTime, &'a [u8])>,
    ) -> Told {
        let mut now = [(0.0, 0.0); TRIED];
        for (now, steps) in now.iter_mut().zip(-REACH..) {
            let place = shifted(at, f64::from(steps) * step_secs);
            // A hole says nothing about any place.
            let Some((found, other)) = find(place) else {
                return Told::Here;
            };
            *now = (difference(map, other), found.secs_after(place) as f32);
        }
        self.pictures += 1.0;
        let rate = 1.0 / self.pictures.min(MEMORY);
        let all = self.costs.iter_mut().zip(&mut self.beside).zip(now);
        for ((cost, beside), (now, off)) in all {
            *cost += rate * (now - *cost);
            *beside += rate * (off - *beside);
        }
        if self.pictures >= LEAST && self.decide() {
            return Told::Moved;
        }
        let here = (now.iter().zip(-REACH..)).find(|(_, n)| *n == self.steps);
        let here = here.map_or(0.0, |(now, _)| now.0);
        let best = (now.iter().zip(-REACH..)).min_by(|a, b| a.0.0.total_cmp(&b.0.0));
        let better = best.filter(|(now, _)| here > SAME && now.0 < ELSEWHERE * here);
        self.alone = match better {
            Some((_, n)) if n == self.alone.0 => (n, self.alone.1 + 1),
            Some((_, n)) => (n, 1),
            None => (0, 0),
        };
        match self.alone.1 >= IN_A_ROW {
            true => Told::Elsewhere,
            false => Told::Here,
        }
    }

    /// Whether another delay was found.
    fn decide(&mut self) -> bool {
        let best = (self.costs.iter().zip(-REACH..)).min_by(|a, b| a.0.total_cmp(b.0));
        let Some((least, steps)) = best else {
            return false;
        };
        let near = |n: i32| (n - steps).abs() <= 2 * SKIRT + 1 && (n - steps).abs() > SKIRT;
        let beside = (self.costs.iter().zip(-REACH..)).filter(|(_, n)| near(*n));
        let clear = beside.clone().all(|(cost, _)| *least < CLEAR * cost);
        if !clear || steps.abs() == REACH {
            return false;
        }
        // Within the skirt the present place is kept unless another is clearly better.
        let present = self.cost(self.steps);
        let moved = steps != self.steps && *least < CLEAR * present;
        if moved {
            self.steps = steps;
        }
        self.known = true;
        moved
    }

    fn cost(&self, steps: i32) -> f32 {
        let at = usize::try_from(steps + REACH).unwrap_or_default();
        self.costs.get(at).copied().unwrap_or_default()
    }

    /// Delay against the leader, seconds; `None` while nothing that moved told.
    pub(super) fn secs(&self, step_secs: f64) -> Option<f64> {
        let at = usize::try_from(self.steps + REACH).unwrap_or_default();
        let beside = self.beside.get(at).copied().unwrap_or_default();
        self.known
            .then_some(f64::from(self.steps) * step_secs + f64::from(beside))
    }
}

/// Later by so many seconds, which may be negative.
pub(super) fn shifted(at: MediaTime, secs: f64) -> MediaTime {
    MediaTime::from_nanos(at.nanos().saturating_add((secs * 1e9) as i64))
}

/// Mean difference beyond that of the means, codes.
fn difference(a: &[u8], b: &[u8]) -> f32 {
    let pairs = || {
        let both = a.iter().zip(b).step_by(STRIDE);
        both.map(|(a, b)| f32::from(*a) - f32::from(*b))
    };
    let count = pairs().count().max(1) as f32;
    let mean = pairs().sum::<f32>() / count;
    pairs().map(|d| (d - mean).abs()).sum::<f32>() / count
}

//! Motion of pictures of one side: kept for a while, and compared by correlation.

use std::collections::VecDeque;

use super::align::Peak;
use super::bits::vertex;
use crate::base::{MediaTime, PicturePrint};

/// Points a second of a wide search, and of a close one.
const COARSE_HZ: f64 = 25.0;
const FINE_HZ: f64 = 100.0;
/// Mean over this long is taken away: slow changes of motion hold no time.
const LEVEL_SECS: f64 = 1.5;
/// Prints further apart than this leave a hole.
const HOLE_SECS: f64 = 0.5;
/// Share of a window that must be known on both sides.
const KNOWN_MIN: f64 = 0.8;
/// Standard deviation of motion (half octaves) below which nothing moves in a way that could be compared.
const STILL: f64 = 0.25;
/// A close search looks this far around what a wide one found.
const CLOSE_SECS: f64 = 0.08;
/// What lies this near the peak belongs to it.
const SKIRT_SECS: f64 = 0.4;

/// One point: four quarters, level taken away; `None` where unknown.
type Point = Option<[f32; 4]>;

/// Prints of pictures in order.
#[derive(Debug, Default)]
pub(super) struct Motion {
    prints: VecDeque<PicturePrint>,
}

impl Motion {
    /// Adds a print; what is older than `keep_secs` goes.
    pub(super) fn add(&mut self, print: PicturePrint, keep_secs: f64) {
        let after = self.prints.back().map(|last| print.at.secs_after(last.at));
        // Back, or far ahead: another timeline.
        if after.is_some_and(|secs| secs <= 0.0 || secs > keep_secs) {
            self.prints.clear();
        }
        self.prints.push_back(print);
        while (self.prints.front()).is_some_and(|p| print.at.secs_after(p.at) > keep_secs) {
            self.prints.pop_front();
        }
    }

    /// Time of the newest print.
    pub(super) fn end(&self) -> Option<MediaTime> {
        self.prints.back().map(|p| p.at)
    }

    /// Seconds that are kept.
    pub(super) fn secs(&self) -> f64 {
        match (self.prints.front(), self.prints.back()) {
            (Some(first), Some(last)) => last.at.secs_after(first.at),
            _ => 0.0,
        }
    }

    /// Whether the window that ends at `end` says something.
    pub(super) fn is_lively(&self, end: MediaTime, secs: f64) -> bool {
        let points = self.points(end.secs() - secs, (secs * COARSE_HZ) as usize, COARSE_HZ);
        let known = points.iter().flatten().count();
        known as f64 >= KNOWN_MIN * points.len() as f64 && spread(&points) >= STILL
    }

    /// As [`super::bits::Bits::find`].
    pub(super) fn find(
        &self,
        end: MediaTime,
        secs: f64,
        reference: &Motion,
        delays_secs: (f64, f64),
    ) -> Option<Peak> {
        let (first, last) = (reference.prints.front()?, reference.prints.back()?);
        let from = end.secs() - secs;
        // Only where the reference has something: a window may stick out by what need not be known.
        let out = (1.0 - KNOWN_MIN) * secs;
        let low = delays_secs.0.max(end.secs() - last.at.secs() - out);
        let high = delays_secs.1.min(from - first.at.secs() + out);
        let wide = self.search(from, secs, reference, (low, high), COARSE_HZ)?;
        let around = (wide.delay_secs - CLOSE_SECS, wide.delay_secs + CLOSE_SECS);
        let close = self.search(from, secs, reference, around, FINE_HZ)?;
        Some(Peak {
            second: wide.second,
            ..close
        })
    }

    fn search(
        &self,
        from: f64,
        secs: f64,
        reference: &Motion,
        (low, high): (f64, f64),
        hz: f64,
    ) -> Option<Peak> {
        if low > high {
            return None;
        }
        let count = (secs * hz) as usize;
        let lags = ((high - low) * hz) as usize + 1;
        let probe = self.points(from, count, hz);
        // The largest delay lies at the front of the reference.
        let other = reference.points(from - high, count + lags - 1, hz);
        if spread(&probe) < STILL {
            return None;
        }
        let likeness: Vec<f64> = other.windows(count).map(|w| likeness(&probe, w)).collect();
        let best = (likeness.iter().enumerate()).max_by(|a, b| a.1.total_cmp(b.1))?;
        let (best, peak) = (best.0, *best.1);
        let skirt = (SKIRT_SECS * hz) as usize;
        let others = likeness.iter().enumerate();
        let second = others
            .filter(|(at, _)| at.abs_diff(best) > skirt)
            .map(|o| *o.1)
            .fold(0.0, f64::max);
        let beside = |at: Option<usize>| at.and_then(|at| likeness.get(at)).copied();
        let off = match (beside(best.checked_sub(1)), beside(Some(best + 1))) {
            (Some(before), Some(after)) => vertex(before, peak, after),
            _ => 0.0,
        };
        Some(Peak {
            delay_secs: high - (best as f64 + off) / hz,
            likeness: peak,
            second,
        })
    }

    /// `count` points from `from` on, between the prints around them.
    fn points(&self, from: f64, count: usize, hz: f64) -> Vec<Point> {
        // The level at the edges is that of what lies around them too.
        let reach = (LEVEL_SECS * hz / 2.0) as usize;
        let from = from - reach as f64 / hz;
        let wanted = count;
        let count = count + 2 * reach;
        let at = |n: usize| from + n as f64 / hz;
        let mut next = (self.prints).partition_point(|p| p.at.secs() < from);
        let mut raw: Vec<Point> = Vec::with_capacity(count);
        for n in 0..count {
            while (self.prints.get(next)).is_some_and(|p| p.at.secs() < at(n)) {
                next += 1;
            }
            let before = next.checked_sub(1).and_then(|i| self.prints.get(i));
            raw.push(match (before, self.prints.get(next)) {
                (Some(a), Some(b)) if b.at.secs_after(a.at) <= HOLE_SECS => {
                    let share = (at(n) - a.at.secs()) / b.at.secs_after(a.at);
                    let mut point = [0.0; 4];
                    for (value, (a, b)) in point.iter_mut().zip(a.motion.iter().zip(&b.motion)) {
                        let (a, b) = (f64::from(*a), f64::from(*b));
                        *value = (a + (b - a) * share) as f32;
                    }
                    Some(point)
                }
                _ => None,
            });
        }
        let points = without_level(&raw, reach).into_iter();
        points.skip(reach).take(wanted).collect()
    }
}

/// Each point less the mean of those within `reach` of it.
fn without_level(raw: &[Point], reach: usize) -> Vec<Point> {
    let mut sums = vec![([0.0f64; 4], 0.0f64)];
    for point in raw {
        let (mut sum, mut count) = sums.last().copied().unwrap_or_default();
        if let Some(point) = point {
            sum.iter_mut()
                .zip(point)
                .for_each(|(s, p)| *s += f64::from(*p));
            count += 1.0;
        }
        sums.push((sum, count));
    }
    let level = |n: usize| {
        let low = sums.get(n.saturating_sub(reach))?;
        let high = sums.get((n + reach + 1).min(raw.len()))?;
        let count = high.1 - low.1;
        let mut mean = [0.0f32; 4];
        for (mean, (high, low)) in mean.iter_mut().zip(high.0.iter().zip(&low.0)) {
            *mean = ((high - low) / count) as f32;
        }
        Some(mean)
    };
    let points = raw.iter().enumerate();
    let off = |(n, point): (usize, &Point)| {
        let (mut point, level) = ((*point)?, level(n)?);
        point.iter_mut().zip(level).for_each(|(p, l)| *p -= l);
        Some(point)
    };
    points.map(off).collect()
}

/// Standard deviation over all quarters.
fn spread(points: &[Point]) -> f64 {
    let all = points.iter().flatten().flatten().map(|x| f64::from(*x));
    let (count, squares) = all.fold((0.0, 0.0), |(n, s), x| (n + 1.0, s + x * x));
    if count > 0.0 {
        f64::sqrt(squares / count)
    } else {
        0.0
    }
}

/// Mean over the quarters that move of the correlation of two runs.
fn likeness(a: &[Point], b: &[Point]) -> f64 {
    let mut count = 0.0f32;
    let mut sums = [[0.0f32; 5]; 4];
    for (a, b) in a.iter().zip(b) {
        let (Some(a), Some(b)) = (a, b) else { continue };
        count += 1.0;
        for (sums, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            let [x, y, xx, yy, xy] = sums;
            *x += a;
            *y += b;
            *xx += a * a;
            *yy += b * b;
            *xy += a * b;
        }
    }
    if f64::from(count) < KNOWN_MIN * a.len() as f64 {
        return 0.0;
    }
    let still = (STILL / 2.0).powi(2) as f32;
    let (mut sum, mut weight) = (0.0, 0.0);
    for [x, y, xx, yy, xy] in sums.map(|s| s.map(|v| v / count)) {
        let (vx, vy) = (xx - x * x, yy - y * y);
        // A quarter that stands still on both sides says nothing; on one side only, that they differ.
        if vx.max(vy) < still {
            continue;
        }
        sum += (xy - x * y) / (vx.max(still) * vy.max(still)).sqrt();
        weight += 1.0;
    }
    if weight > 0.0 {
        f64::from(sum / weight)
    } else {
        0.0
    }
}

//! Sound bits of one side: kept for a while, and compared by counting.

use std::collections::VecDeque;

use super::align::Peak;
use crate::base::{MediaTime, SOUND_BITS_HZ, SoundPrint};

const WORD: i64 = 64;
const HZ: f64 = SOUND_BITS_HZ as f64;
/// Share of a window that must be known on both sides, and share of ones that says something.
const KNOWN_MIN: f64 = 0.6;
const ONES: std::ops::RangeInclusive<f64> = 0.04..=0.96;
/// A wide search looks at every third lag first: the peak is some 5 ms wide.
const STRIDE: i64 = 3;
/// Peaks of a wide search that are looked at closely.
const CANDIDATES: usize = 4;
/// What lies this near the peak belongs to it.
const SKIRT_SECS: f64 = 0.3;

/// Bits by their place in time, and which of them are known.
#[derive(Debug, Default)]
pub(in crate::av) struct Bits {
    /// Place of the first bit of the first word, a multiple of 64.
    first: i64,
    words: VecDeque<(u64, u64)>,
    /// Time of a bit less its place, seconds; of the newest run.
    phase_secs: f64,
    end: i64,
}

impl Bits {
    /// Adds a run; what is older than `keep_secs` goes.
    pub(in crate::av) fn add(&mut self, run: &SoundPrint, keep_secs: f64) {
        let place = run.from.secs() * HZ;
        let from = place.round() as i64;
        let count = i64::try_from(run.bits.len()).unwrap_or(i64::MAX);
        let keep = (keep_secs * HZ) as i64;
        // Far ahead of what there is, or far behind it: another timeline.
        if !self.words.is_empty() && (from - self.end).abs() > keep {
            *self = Self::default();
        }
        if count == 0 || count > keep {
            return;
        }
        self.phase_secs = (place - from as f64) / HZ;
        if self.words.is_empty() {
            self.first = from.div_euclid(WORD) * WORD;
            self.end = from;
        }
        for (place, bit) in (from..).zip(&run.bits) {
            self.put(place, *bit);
        }
        self.end = self.end.max(from + count);
        while self.words.len() as i64 * WORD > keep {
            self.words.pop_front();
            self.first += WORD;
        }
    }

    fn put(&mut self, place: i64, bit: bool) {
        let Ok(at) = usize::try_from((place - self.first).div_euclid(WORD)) else {
            return;
        };
        if at >= self.words.len() {
            self.words.resize(at + 1, (0, 0));
        }
        if let Some((bits, known)) = self.words.get_mut(at) {
            let mask = 1u64 << (place - self.first).rem_euclid(WORD);
            *bits = (*bits & !mask) | (u64::from(bit) * mask);
            *known |= mask;
        }
    }

    /// Time after the newest bit.
    pub(in crate::av) fn end(&self) -> Option<MediaTime> {
        let secs = self.end as f64 / HZ + self.phase_secs;
        (!self.words.is_empty()).then(|| MediaTime::from_nanos((secs * 1e9) as i64))
    }

    /// Seconds that are kept.
    pub(in crate::av) fn secs(&self) -> f64 {
        (self.end - self.first).max(0) as f64 / HZ
    }

    /// 64 bits from a place on: bits, known.
    fn word(&self, place: i64) -> (u64, u64) {
        let off = place - self.first;
        let (at, shift) = (off.div_euclid(WORD), off.rem_euclid(WORD));
        let get = |at: i64| {
            let at = usize::try_from(at).ok();
            at.and_then(|at| self.words.get(at))
                .copied()
                .unwrap_or((0, 0))
        };
        let (low, high) = (get(at), get(at + 1));
        if shift == 0 {
            return low;
        }
        let join = |low: u64, high: u64| (low >> shift) | (high << (WORD - shift));
        (join(low.0, high.0), join(low.1, high.1))
    }

    fn window(&self, from: i64, words: usize) -> Vec<(u64, u64)> {
        let places = (0..words as i64).map(|n| from + n * WORD);
        places.map(|place| self.word(place)).collect()
    }

    /// Whether the window that ends `back_secs` before the newest bit says something.
    pub(in crate::av) fn is_lively(&self, end: MediaTime, secs: f64) -> bool {
        let (from, words) = extent(end, secs);
        let (mut known, mut ones) = (0, 0);
        for (bits, seen) in self.window(from, words) {
            known += seen.count_ones();
            ones += (bits & seen).count_ones();
        }
        let (known, ones) = (f64::from(known), f64::from(ones));
        known >= KNOWN_MIN * words as f64 * WORD as f64 && ONES.contains(&(ones / known))
    }

    /// Where the window of `self` that ends at `end` lies in `reference`: by how much it is later, looked for between
    /// the two `delays_secs`.
    pub(in crate::av) fn find(
        &self,
        end: MediaTime,
        secs: f64,
        reference: &Bits,
        delays_secs: (f64, f64),
    ) -> Option<Peak> {
        let (from, words) = extent(end, secs);
        let probe = self.window(from, words);
        let lag = |secs: f64| (secs * HZ).round() as i64;
        let (low, high) = (lag(delays_secs.0), lag(delays_secs.1));
        // Only where the reference has something: a window may stick out by what need not be known.
        let out = ((1.0 - KNOWN_MIN) * words as f64 * WORD as f64) as i64;
        let low = low.max(from + words as i64 * WORD - reference.end - out);
        let high = high.min(from - reference.first + out);
        if low > high {
            return None;
        }
        let at = |lag: i64| likeness(&probe, reference, from - lag).unwrap_or(0.0);
        let mut coarse: Vec<(i64, f64)> = (low..=high)
            .step_by(STRIDE as usize)
            .map(|lag| (lag, at(lag)))
            .collect();
        coarse.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        let (best, likeness) = coarse
            .iter()
            .take(CANDIDATES)
            .flat_map(|(lag, _)| lag - STRIDE..=lag + STRIDE)
            .map(|lag| (lag, at(lag)))
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        let skirt = lag(SKIRT_SECS);
        let second = (coarse.iter()).find(|(lag, _)| (lag - best).abs() > skirt);
        let off = vertex(at(best - 1), likeness, at(best + 1));
        Some(Peak {
            delay_secs: (best as f64 + off) / HZ + self.phase_secs - reference.phase_secs,
            likeness,
            second: second.map_or(0.0, |s| s.1),
        })
    }
}

fn extent(end: MediaTime, secs: f64) -> (i64, usize) {
    let words = ((secs * HZ) as i64 / WORD).max(1);
    (
        (end.secs() * HZ).round() as i64 - words * WORD,
        words as usize,
    )
}

/// Correlation (phi) of two runs of bits where both are known.
fn likeness(probe: &[(u64, u64)], reference: &Bits, from: i64) -> Option<f64> {
    let (mut n, mut a, mut b, mut both) = (0u32, 0u32, 0u32, 0u32);
    for (place, (bits, seen)) in (from..).step_by(WORD as usize).zip(probe) {
        let (other, known) = reference.word(place);
        let known = known & seen;
        n += known.count_ones();
        a += (bits & known).count_ones();
        b += (other & known).count_ones();
        both += (bits & other & known).count_ones();
    }
    let [n, a, b, both] = [n, a, b, both].map(f64::from);
    if n < KNOWN_MIN * (probe.len() as i64 * WORD) as f64 {
        return None;
    }
    if !ONES.contains(&(a / n)) || !ONES.contains(&(b / n)) {
        return None;
    }
    Some((n * both - a * b) / (a * (n - a) * b * (n - b)).sqrt())
}

/// Where the parabola through three equidistant points has its vertex, -0.5..=0.5 around the middle one.
pub(super) fn vertex(before: f64, at: f64, after: f64) -> f64 {
    let bend = before - 2.0 * at + after;
    if bend < 0.0 {
        (0.5 * (before - after) / bend).clamp(-0.5, 0.5)
    } else {
        0.0
    }
}

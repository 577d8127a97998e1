//! Damage put straight into decoded pictures: plenty of it, to learn from.
//!
//! What a decoder does with lost data adds an error to the picture: content of another place or moment, grey, rows
//! repeated downwards, wrong residuals, in a run of macroblocks. Later pictures are predicted from it, so that the
//! error stays until the next key picture. Scaling and another encoder blur it.

use super::decode::Luma;
use super::truth::{self, BLOCK, Frame, State, Truth};
use crate::chance::Chance;

/// Pictures kept, for stale content.
const KEPT: usize = 8;
/// What is left of the error from picture to picture.
const KEEPS: f32 = 0.98;

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Content of one other place.
    Shifted,
    /// Content of a moment ago.
    Stale,
    /// Every block from somewhere else.
    Garbled,
    /// The grey of missing references.
    Grey,
    /// The row above, repeated downwards.
    Striped,
    /// Slopes and steps added to every block.
    Residual,
    /// The mean of every block.
    Coarse,
}

const KINDS: [Kind; 9] = [
    Kind::Shifted,
    Kind::Shifted,
    Kind::Stale,
    Kind::Stale,
    Kind::Garbled,
    Kind::Grey,
    Kind::Striped,
    Kind::Residual,
    Kind::Coarse,
];

/// Damages pictures from time to time.
#[derive(Debug)]
pub struct Vandal {
    chance: Chance,
    /// Pictures to the next change.
    left: usize,
    error: Option<Vec<f32>>,
    graphic: Option<Graphic>,
    past: Vec<Vec<u8>>,
    /// What it did.
    pub truth: Truth,
}

impl Vandal {
    /// Everything follows from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::named(seed, "vandal"),
            left: 16,
            error: None,
            graphic: None,
            past: Vec::new(),
            truth: Truth::default(),
        }
    }

    /// Damages the next picture, or leaves it.
    pub fn touch(&mut self, luma: &mut Luma) {
        let clean = luma.rows.clone();
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            (self.error, self.graphic) = match (&self.error, &self.graphic) {
                (None, None) if self.chance.hit(0.4) => {
                    (None, Graphic::new(&mut self.chance, luma))
                }
                (None, None) => (self.born(luma), None),
                _ => (None, None),
            };
            self.left = 5 + self.chance.below(16);
        }
        if let Some(graphic) = &self.graphic {
            graphic.draw(luma);
        }
        let before = luma.clone();
        if let Some(error) = &mut self.error {
            for (v, e) in luma.rows.iter_mut().zip(error) {
                *v = (f32::from(*v) + *e).round().clamp(0.0, 255.0) as u8;
                *e *= KEEPS;
            }
        }
        let off = truth::differences(&before, luma);
        self.truth.columns = luma.width.div_ceil(BLOCK);
        self.truth.frames.push(Frame {
            secs: luma.secs,
            state: State::Shown,
            area: 0.0,
            mask: truth::mask(&off),
        });
        self.past.insert(0, clean);
        self.past.truncate(KEPT);
    }

    /// A new error.
    fn born(&mut self, luma: &Luma) -> Option<Vec<f32>> {
        let chance = &mut self.chance;
        let (width, height) = (luma.width, luma.rows.len() / luma.width.max(1));
        let (columns, rows) = (width.div_ceil(BLOCK), height.div_ceil(BLOCK));
        let kind = *chance.pick(&KINDS)?;
        let top = chance.below(rows);
        let most = if chance.hit(0.5) { 4 } else { rows / 2 + 1 };
        let tall = 1 + chance.below(most);
        // A run of macroblocks in reading order, or a box of them.
        let boxed = chance.hit(0.3);
        let (from, to) = (chance.below(columns), chance.below(columns));
        let (first, last) = (from.min(to), (from.max(to)).max(from.min(to) + 4));
        let share = if chance.hit(0.3) { 0.6 } else { 1.0 };
        let hit = |chance: &mut Chance, x: usize, y: usize| {
            let inside = match boxed {
                true => (first..=last).contains(&x) && (top..top + tall).contains(&y),
                false => {
                    (top * columns + from..(top + tall) * columns).contains(&(y * columns + x))
                }
            };
            inside && chance.hit(share)
        };
        let past = self.past.get(match kind {
            Kind::Stale => chance.below(self.past.len().max(1)),
            _ => 0,
        })?;
        let reach = |chance: &mut Chance, by: f64| chance.between(-by, by) as isize;
        let common = (reach(chance, 24.0), reach(chance, 12.0));
        let gain = chance.between(0.7, 1.0) as f32;
        let mut error = vec![0.0f32; luma.rows.len()];
        let strip = luma.rows.get(top * BLOCK * width..)?;
        for (x, y) in (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y))) {
            if !hit(chance, x, y) {
                continue;
            }
            let (dx, dy) = match kind {
                Kind::Shifted if chance.hit(0.2) => (reach(chance, 24.0), reach(chance, 24.0)),
                Kind::Shifted => common,
                Kind::Garbled => (reach(chance, 90.0), reach(chance, 60.0)),
                _ => (0, 0),
            };
            let slope: [f64; 3] = std::array::from_fn(|_| chance.between(-30.0, 30.0));
            let inside = (y * BLOCK..((y + 1) * BLOCK).min(height))
                .flat_map(|py| (x * BLOCK..((x + 1) * BLOCK).min(width)).map(move |px| (px, py)));
            let own = |px: usize, py: usize| {
                f32::from(luma.rows.get(py * width + px).copied().unwrap_or(0))
            };
            let (sum, count) =
                (inside.clone()).fold((0.0, 0.0), |(s, n), (px, py)| (s + own(px, py), n + 1.0));
            for (px, py) in inside {
                let value = match kind {
                    Kind::Shifted | Kind::Stale | Kind::Garbled => {
                        let sx = px.saturating_add_signed(dx).min(width - 1);
                        let sy = py.saturating_add_signed(dy).min(height - 1);
                        f32::from(past.get(sy * width + sx).copied().unwrap_or(0))
                    }
                    Kind::Grey => 128.0,
                    Kind::Striped => f32::from(strip.get(px).copied().unwrap_or(0)),
                    Kind::Residual => {
                        let (u, v) = ((px % 8) as f64 / 4.0 - 1.0, (py % 8) as f64 / 4.0 - 1.0);
                        own(px, py) + (slope[0] + slope[1] * u + slope[2] * v) as f32
                    }
                    Kind::Coarse => sum / f32::max(count, 1.0) + slope[0] as f32 / 3.0,
                };
                if let Some(e) = error.get_mut(py * width + px) {
                    *e = gain * (value - own(px, py));
                }
            }
        }
        for _ in 0..chance.below(3) {
            error = blurred(&error, width);
        }
        Some(error)
    }
}

/// A board with lines of letters, or letters alone.
#[derive(Debug)]
struct Graphic {
    left: usize,
    top: usize,
    width: usize,
    /// Row by row, and how much of the picture shows through.
    samples: Vec<(u8, f32)>,
}

impl Graphic {
    fn new(chance: &mut Chance, luma: &Luma) -> Option<Self> {
        let (wide, tall) = (luma.width, luma.rows.len() / luma.width.max(1));
        let width = wide / 8 + chance.below(wide * 3 / 4);
        let height = tall / 16 + chance.below(tall / 2);
        let (left, top) = (
            chance.below(wide.checked_sub(width)?.max(1)),
            chance.below(tall.checked_sub(height)?.max(1)),
        );
        let (from, to) = (chance.between(16.0, 235.0), chance.between(16.0, 235.0));
        let through = match chance.below(4) {
            0 => 1.0,
            1 => 0.3,
            _ => 0.0,
        };
        let slope = if chance.hit(0.5) { to - from } else { 0.0 };
        let down = chance.hit(0.5);
        let ink = if chance.hit(0.5) { 230 } else { 25 };
        let letter = 4 + chance.below(20);
        let lettered = through == 1.0 || chance.hit(0.7);
        let glyphs: Vec<u64> = (0..64).map(|_| chance.bits()).collect();
        let sample = |i: usize| {
            let (x, y) = (i % width, i / width);
            // Letters of 5x7 strokes, every other line of them empty.
            let (u, v) = (x * 6 / letter, y * 8 / letter);
            let glyph = glyphs.get((u / 6 + v / 8 * 13) % 64).copied().unwrap_or(0);
            let inked = lettered
                && u % 6 < 5
                && v % 8 < 7
                && v / 8 % 2 == 0
                && glyph >> (u % 6 + v % 8 * 5) & 1 == 1;
            let along = if down {
                y as f64 / height as f64
            } else {
                x as f64 / width as f64
            };
            match inked {
                true => (ink, 0.0),
                false => (
                    (from + slope * along).clamp(16.0, 235.0) as u8,
                    through as f32,
                ),
            }
        };
        Some(Self {
            left,
            top,
            width,
            samples: (0..width * height).map(sample).collect(),
        })
    }

    fn draw(&self, luma: &mut Luma) {
        for (y, row) in self.samples.chunks(self.width.max(1)).enumerate() {
            let from = (self.top + y) * luma.width + self.left;
            let Some(to) = luma.rows.get_mut(from..from + row.len()) else {
                continue;
            };
            for (v, (value, through)) in to.iter_mut().zip(row) {
                *v = (f32::from(*value) * (1.0 - through) + f32::from(*v) * through) as u8;
            }
        }
    }
}

/// One, two, one; across and down.
fn blurred(values: &[f32], width: usize) -> Vec<f32> {
    let pass = |values: &[f32], step: usize| -> Vec<f32> {
        let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
        (0..values.len())
            .map(|i| (2.0 * at(i) + at(i.wrapping_sub(step)) + at(i + step)) / 4.0)
            .collect()
    };
    pass(&pass(values, 1), width)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_damaged_is_known_and_the_rest_is_untouched() {
        let mut vandal = Vandal::new(3);
        let (mut damaged, mut sound) = (0, 0);
        for n in 0..200usize {
            let rows: Vec<u8> = (0..320 * 160)
                .map(|i| ((i % 320 * 7 + 5 * n) % 160 + i / 3200) as u8)
                .collect();
            let mut luma = Luma {
                pts: n as i64,
                secs: n as f64 / 25.0,
                width: 320,
                rows: rows.clone(),
            };
            vandal.touch(&mut luma);
            let frame = vandal.truth.frames.last().unwrap();
            if frame.mask.is_empty() {
                sound += 1;
            } else {
                damaged += 1;
                assert_ne!(rows, luma.rows, "{n}");
            }
        }
        assert!(damaged > 40 && sound > 40, "{damaged} {sound}");
    }
}

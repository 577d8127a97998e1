//! Maps of several renditions at one moment: what most of them show, and which cells of which are off.

use super::scene::{ACROSS, CELLS, DOWN, KINDS, SAMPLES, Scene, blurred, cells};
use crate::kernel::spread::Spread;

/// Gain of one rendition's luma against another's that is taken for a matter of levels, not of pictures.
const GAINS: (f32, f32) = (0.75, 1.35);
/// Draws gains towards one where the picture is flat, squared codes.
const RIDGE: f32 = 25.0;
/// Levels are found from every so many samples: enough for a straight line.
const STRIDE: usize = 7;
/// So many times, what does not fit is left out: damage of a fifth of the picture must not move the rest.
const TRIMS: usize = 6;
/// What renditions differ by before anything is known of a kind of place, codes: anywhere, and shares of the texture and
/// of the motion. It weighs as much as so many cells.
const PRIOR: (f32, f32, f32) = (0.5, 0.2, 0.2);
const PRIOR_CELLS: f32 = 100.0;
/// A cell is off when it differs by so many times what is usual of its kind of place, or of itself.
const USUAL: f32 = 2.5;
/// ... and at least by such a share of what the rendition that differs most does: where that is far off, the middle of
/// all is another one's, and those that were the middle seem to differ.
const MOST: f32 = 0.5;
/// Share of the change from picture to picture that pictures may differ by that are apart in time by one.
const APART: f32 = 1.5;
/// Pictures over which the usual difference of a kind of place is learned, and over how many while more than a share
/// of its cells are off: those may be damaged, and what stays becomes usual.
const KIND_MEMORY: f32 = 25.0;
const KIND_MEMORY_OFF: f32 = 250.0;
const KIND_OFF: f32 = 0.2;
/// Pictures over which the usual difference of a cell is learned.
const MEMORY: f32 = 100.0;
/// A cell that is off in so many of the pictures seen is off by habit: a logo that only one rendition has.
const HABIT: f32 = 0.35;
/// Pictures over which habits are learned: ten minutes at 25 a second.
const HABIT_MEMORY: f32 = 15_000.0;
/// No larger share of the picture becomes a habit once what is usual has been learned.
const HABITS: f32 = 0.05;
/// From this share of cells off by habit on, renditions do not show the same.
const UNLIKE: f32 = 0.4;
/// So many of its neighbours must be off too.
const COMPANY: usize = 2;
/// Pictures in a row for which a cell must be off: encoders take a moment after a cut.
pub(super) const STAND: u8 = 3;
/// Pictures that must have been compared before anything is told.
const LEARNED: f32 = 75.0;

/// The median of every sample, of three maps or more; the mean of the middle two when their number is even.
pub(super) fn median(maps: &[Vec<f32>]) -> Vec<f32> {
    if let [a, b, c] = maps {
        let three = a.iter().zip(b).zip(c);
        return three
            .map(|((a, b), c)| a.min(*b).max(a.max(*b).min(*c)))
            .collect();
    }
    let mut column = Vec::with_capacity(maps.len());
    (0..SAMPLES)
        .map(|i| {
            column.clear();
            column.extend(maps.iter().filter_map(|map| map.get(i)).copied());
            column.sort_by(f32::total_cmp);
            let middle = column.len() / 2;
            let high = column.get(middle).copied().unwrap_or_default();
            match column.len() % 2 {
                1 => high,
                _ => (high + column.get(middle.wrapping_sub(1)).copied().unwrap_or(high)) / 2.0,
            }
        })
        .collect()
}

/// By how much every cell of a map, with those around it, differs from another map, codes.
pub(super) fn differences(map: &[f32], from: &[f32]) -> Vec<f32> {
    let differences: Vec<f32> = map.iter().zip(from).map(|(a, b)| (a - b).abs()).collect();
    blurred(&cells(&differences))
}

/// A map with the levels of another one: least squares over some samples, then over those of them that fit.
pub(super) fn levelled(map: &[f32], to: &[f32]) -> Vec<f32> {
    let some = || map.iter().zip(to).step_by(STRIDE).map(|(a, b)| (*a, *b));
    let mut level = fit(some());
    let off = |(gain, offset): (f32, f32), a: f32, b: f32| (gain * a + offset - b).abs();
    for _ in 0..TRIMS {
        let usual = Spread::of(some().map(|(a, b)| off(level, a, b))).quantile(0.5);
        let most = 3.0 * usual + 1.0;
        level = fit(some().filter(|(a, b)| off(level, *a, *b) <= most));
    }
    map.iter().map(|v| level.0 * v + level.1).collect()
}

/// Gain and offset that make the second of the first of each pair.
fn fit(pairs: impl Iterator<Item = (f32, f32)>) -> (f32, f32) {
    let mut sums = [0f64; 5];
    for (a, b) in pairs {
        let (a, b) = (f64::from(a), f64::from(b));
        for (sum, more) in sums.iter_mut().zip([1.0, a, b, a * a, a * b]) {
            *sum += more;
        }
    }
    let n = sums[0].max(1.0);
    let [_, x, y, xx, xy] = sums.map(|sum| (sum / n) as f32);
    let gain = ((xy - x * y + RIDGE) / (xx - x * x + RIDGE).max(1.0)).clamp(GAINS.0, GAINS.1);
    (gain, y - gain * x)
}

/// A cell and the up to eight around it.
pub(super) fn around(i: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (i % ACROSS, i / ACROSS);
    let rows = y.saturating_sub(1)..(y + 2).min(DOWN);
    let columns = x.saturating_sub(1)..(x + 2).min(ACROSS);
    rows.flat_map(move |y| columns.clone().map(move |x| y * ACROSS + x))
}

/// What is usual of the cells of one rendition, and how long each has been off.
#[derive(Debug, Clone)]
pub(super) struct Usual {
    cells: Vec<Cell>,
    kinds: Vec<Kind>,
    pictures: f32,
    habits: usize,
}

/// A kind of place.
#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    /// Usual difference, codes.
    difference: f32,
    /// Cells seen lately.
    cells: f32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// Usual difference, codes.
    difference: f32,
    /// How often it is off.
    habit: f32,
    /// Pictures in a row for which it has been off.
    run: u8,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            cells: vec![Cell::default(); CELLS],
            kinds: vec![Kind::default(); KINDS],
            pictures: 0.0,
            habits: 0,
        }
    }
}

impl Usual {
    /// Takes the differences of the next picture, beside the largest of any rendition; `codes` are allowed anywhere.
    pub(super) fn look(&mut self, differences: &[f32], largest: &[f32], scene: &Scene, codes: f32) {
        self.pictures += 1.0;
        let kinds = scene.kinds();
        let allowances = self.allowances(scene, &kinds, codes);
        let off: Vec<bool> = (differences.iter().zip(largest))
            .zip(allowances.iter().zip(&self.cells))
            .map(|((difference, largest), (allowance, cell))| {
                // As much as a cell is used to, but what is damaged for long does not explain itself.
                let own = codes + USUAL * cell.difference.min(*allowance);
                *difference > allowance.max(own) && *difference >= MOST * largest
            })
            .collect();
        // Damage is not usual.
        let seen: Vec<f32> = (differences.iter().zip(&allowances))
            .map(|(difference, allowance)| difference.min(*allowance))
            .collect();
        self.learn_kinds(&kinds, &seen, &off);
        let learned = self.is_learned();
        let rate = 1.0 / self.pictures.min(MEMORY);
        let habit_rate = 1.0 / self.pictures.min(HABIT_MEMORY);
        let room = !learned || (self.habits as f32) < HABITS * CELLS as f32;
        self.habits = 0;
        let all = self.cells.iter_mut().zip(seen).zip(&off);
        for (i, ((cell, seen), is_off)) in all.enumerate() {
            cell.difference += rate * (seen - cell.difference);
            if room || !is_off || cell.habit > HABIT {
                cell.habit += habit_rate * (f32::from(u8::from(*is_off)) - cell.habit);
            }
            let habit = learned && cell.habit > HABIT;
            self.habits += usize::from(habit);
            let company = || around(i).filter(|n| off.get(*n) == Some(&true)).count() > COMPANY;
            cell.run = match *is_off && !habit && company() {
                true => cell.run.saturating_add(1),
                false => 0,
            };
        }
    }

    /// By how much every cell may differ for the kind of place that it shows.
    fn allowances(&self, scene: &Scene, kinds: &[usize], codes: f32) -> Vec<f32> {
        let places = scene.texture.iter().zip(&scene.motion).zip(kinds);
        let of = |((texture, motion), kind): ((&f32, &f32), &usize)| {
            let kind = self.kinds.get(*kind).copied().unwrap_or_default();
            let prior = PRIOR.0 + PRIOR.1 * texture + PRIOR.2 * motion;
            let usual =
                (kind.difference * kind.cells + prior * PRIOR_CELLS) / (kind.cells + PRIOR_CELLS);
            codes + USUAL * usual + APART * scene.apart * motion
        };
        places.map(of).collect()
    }

    fn learn_kinds(&mut self, kinds: &[usize], seen: &[f32], off: &[bool]) {
        #[derive(Clone, Copy, Default)]
        struct Sum {
            difference: f32,
            cells: f32,
            off: f32,
        }
        let mut sums = vec![Sum::default(); self.kinds.len()];
        for ((kind, seen), off) in kinds.iter().zip(seen).zip(off) {
            if let Some(sum) = sums.get_mut(*kind) {
                sum.difference += seen;
                sum.cells += 1.0;
                sum.off += f32::from(u8::from(*off));
            }
        }
        let learned = self.is_learned();
        let rate = 1.0 / self.pictures.min(KIND_MEMORY);
        for (kind, sum) in self.kinds.iter_mut().zip(sums) {
            if sum.cells > 0.0 {
                let slow = match learned && sum.off > KIND_OFF * sum.cells {
                    true => KIND_MEMORY / KIND_MEMORY_OFF,
                    false => 1.0,
                };
                kind.cells += sum.cells - rate * kind.cells;
                let mean = sum.difference / sum.cells;
                kind.difference += slow * sum.cells / kind.cells * (mean - kind.difference);
            }
        }
    }

    /// Enough has been seen.
    pub(super) fn is_learned(&self) -> bool {
        self.pictures > LEARNED
    }

    /// It shows another picture by habit.
    pub(super) fn is_unlike(&self) -> bool {
        self.habits as f32 > UNLIKE * CELLS as f32
    }

    /// Share of the picture that has been off for long enough.
    pub(super) fn share(&self) -> f64 {
        let standing = self.cells.iter().filter(|cell| cell.run >= STAND).count();
        standing as f64 / (CELLS - self.habits.min(CELLS - 1)) as f64
    }

    /// Cells that have been off since this picture.
    pub(super) fn newly_off(&self) -> impl Iterator<Item = usize> {
        (self.cells.iter().enumerate())
            .filter(|(_, cell)| cell.run == 1)
            .map(|(i, _)| i)
    }

    /// Begins to count anew: what comes is not the next picture.
    pub(super) fn interrupt(&mut self) {
        for cell in &mut self.cells {
            cell.run = 0;
        }
    }
}

//! Maps of several renditions at one moment: what most of them show, and which cells of which are off.

use crate::kernel::spread::Spread;

/// Cells across and down: 30x30 pixels each at 1080 rows.
pub(super) const COLUMNS: usize = 64;
pub(super) const ROWS: usize = 36;
pub(super) const CELLS: usize = COLUMNS * ROWS;

/// Gain of one rendition's luma against another's that is taken for a matter of levels, not of pictures.
const GAINS: (f32, f32) = (0.75, 1.35);
/// Draws gains towards one where the picture is flat, squared codes.
const RIDGE: f32 = 25.0;
/// Share of the contrast around a cell that scaling and coding may move into it.
const EDGE: f32 = 0.15;
/// Share of the change of a cell from picture to picture that coding may owe it, and how fast that change is forgotten.
const MOTION: f32 = 0.5;
const MOTION_RATE: f32 = 0.3;
/// A cell is off when it differs by so many times its usual difference more than everything may.
const USUAL: f32 = 3.0;
/// Pictures over which the usual difference is learned.
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

/// The median of every cell, of three maps or more; the mean of the middle two when their number is even.
pub(super) fn median(maps: &[Vec<f32>]) -> Vec<f32> {
    let mut column = Vec::with_capacity(maps.len());
    (0..CELLS)
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

/// A map with the levels of another one: least squares over all cells, then over those that fit.
pub(super) fn levelled(map: &[f32], to: &[f32]) -> Vec<f32> {
    let mut level = fit(map, to, |_, _| true);
    let off = |(gain, offset): (f32, f32), a: f32, b: f32| (gain * a + offset - b).abs();
    for _ in 0..2 {
        let usual = Spread::of(map.iter().zip(to).map(|(a, b)| off(level, *a, *b))).quantile(0.5);
        let most = 3.0 * usual + 1.0;
        level = fit(map, to, |a, b| off(level, a, b) <= most);
    }
    map.iter().map(|v| level.0 * v + level.1).collect()
}

/// Gain and offset that make `b` of `a`, over the cells that count.
fn fit(a: &[f32], b: &[f32], counts: impl Fn(f32, f32) -> bool) -> (f32, f32) {
    let mut sums = [0f64; 5];
    for (a, b) in a.iter().zip(b).filter(|(a, b)| counts(**a, **b)) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        for (sum, more) in sums.iter_mut().zip([1.0, a, b, a * a, a * b]) {
            *sum += more;
        }
    }
    let n = sums[0].max(1.0);
    let [_, x, y, xx, xy] = sums.map(|sum| (sum / n) as f32);
    let gain = ((xy - x * y + RIDGE) / (xx - x * x + RIDGE).max(1.0)).clamp(GAINS.0, GAINS.1);
    (gain, y - gain * x)
}

/// By how much a cell may be off wherever it is: `codes`, and shares of the contrast and of the motion around it.
pub(super) fn allowance(map: &[f32], motion: &[f32], apart: f32, codes: f32) -> Vec<f32> {
    let of = |i: usize| {
        let (mut least, mut most, mut moves) = (f32::MAX, f32::MIN, 0f32);
        for n in around(i) {
            let value = map.get(n).copied().unwrap_or_default();
            (least, most) = (least.min(value), most.max(value));
            moves = moves.max(motion.get(n).copied().unwrap_or_default());
        }
        codes + EDGE * (most - least).max(0.0) + (MOTION + apart) * moves
    };
    (0..map.len()).map(of).collect()
}

/// Takes the next map into the usual change of every cell from picture to picture.
pub(super) fn follow(motion: &mut Vec<f32>, before: Option<&[f32]>, map: &[f32]) {
    motion.resize(map.len(), 0.0);
    let Some(before) = before else { return };
    for (motion, (a, b)) in motion.iter_mut().zip(before.iter().zip(map)) {
        *motion += MOTION_RATE * ((a - b).abs() - *motion);
    }
}

/// A cell and the up to eight around it.
fn around(i: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (i % COLUMNS, i / COLUMNS);
    let rows = y.saturating_sub(1)..(y + 2).min(ROWS);
    let columns = x.saturating_sub(1)..(x + 2).min(COLUMNS);
    rows.flat_map(move |y| columns.clone().map(move |x| y * COLUMNS + x))
}

/// What is usual of the cells of one rendition, and how long each has been off.
#[derive(Debug, Clone)]
pub(super) struct Usual {
    cells: Vec<Cell>,
    pictures: f32,
    habits: usize,
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
            pictures: 0.0,
            habits: 0,
        }
    }
}

impl Usual {
    /// Takes the differences of the next picture.
    pub(super) fn look(&mut self, differences: &[f32], allowance: &[f32]) {
        self.pictures += 1.0;
        let off: Vec<bool> = (self.cells.iter().zip(differences).zip(allowance))
            .map(|((cell, difference), allowance)| {
                difference.abs() > allowance + USUAL * cell.difference.min(*allowance)
            })
            .collect();
        let learned = self.is_learned();
        let rate = 1.0 / self.pictures.min(MEMORY);
        let habit_rate = 1.0 / self.pictures.min(HABIT_MEMORY);
        let room = !learned || (self.habits as f32) < HABITS * CELLS as f32;
        self.habits = 0;
        let all = self.cells.iter_mut().zip(differences).zip(allowance);
        for (i, ((cell, difference), allowance)) in all.enumerate() {
            let is_off = off.get(i).copied().unwrap_or_default();
            // Damage is not usual.
            let seen = difference.abs().min(*allowance);
            cell.difference += rate * (seen - cell.difference);
            if room || !is_off || cell.habit > HABIT {
                cell.habit += habit_rate * (f32::from(u8::from(is_off)) - cell.habit);
            }
            let habit = learned && cell.habit > HABIT;
            self.habits += usize::from(habit);
            let company = || around(i).filter(|n| off.get(*n) == Some(&true)).count() > COMPANY;
            cell.run = match is_off && !habit && company() {
                true => cell.run.saturating_add(1),
                false => 0,
            };
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

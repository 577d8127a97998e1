//! What renditions show at a moment, as far as it decides by how much they may differ.

/// Samples of a map across and down: 15x15 pixels each at 1080 rows.
pub(super) const COLUMNS: usize = 128;
pub(super) const ROWS: usize = 72;
pub(super) const SAMPLES: usize = COLUMNS * ROWS;
/// Edge of a cell, samples; cells across and down, and all of them.
const EDGE: usize = 2;
pub(super) const ACROSS: usize = COLUMNS / EDGE;
pub(super) const DOWN: usize = ROWS / EDGE;
pub(super) const CELLS: usize = ACROSS * DOWN;

/// How fast change from picture to picture is forgotten.
const MOTION_RATE: f32 = 0.2;
/// Kinds of places by texture, and by motion, in steps of half an octave; and all of them.
const TEXTURES: usize = 12;
const MOTIONS: usize = 8;
pub(super) const KINDS: usize = TEXTURES * MOTIONS;

/// What most renditions show.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    /// Mean step from sample to sample in and around every cell, codes.
    pub(super) texture: Vec<f32>,
    /// Mean change from picture to picture in and around every cell, lately, codes.
    pub(super) motion: Vec<f32>,
    /// By how many pictures those that are compared are apart in time.
    pub(super) apart: f32,
    before: Vec<f32>,
}

impl Scene {
    /// Takes the next map.
    pub(super) fn follow(&mut self, map: Vec<f32>, apart: f32) {
        self.apart = apart;
        self.texture = blurred(&cells(&steps(&map)));
        self.motion.resize(CELLS, 0.0);
        if !self.before.is_empty() {
            let change = map.iter().zip(&self.before).map(|(a, b)| (a - b).abs());
            let change = blurred(&cells(&change.collect::<Vec<f32>>()));
            for (motion, now) in self.motion.iter_mut().zip(change) {
                *motion = now.max(*motion * (1.0 - MOTION_RATE));
            }
        }
        self.before = map;
    }

    /// Forgets what was before: what comes is not the next picture.
    pub(super) fn cut(&mut self) {
        self.before.clear();
    }

    /// Of which kind every cell is.
    pub(super) fn kinds(&self) -> Vec<usize> {
        let level = |v: f32, levels: usize| ((2.0 * (1.0 + v).log2()) as usize).min(levels - 1);
        (self.texture.iter().zip(&self.motion))
            .map(|(texture, motion)| level(*texture, TEXTURES) * MOTIONS + level(*motion, MOTIONS))
            .collect()
    }
}

/// A sample of a cell.
pub(super) fn sample(cell: usize) -> usize {
    EDGE * (cell / ACROSS * COLUMNS + cell % ACROSS)
}

/// Step from every sample to the next and to the one below.
fn steps(map: &[f32]) -> Vec<f32> {
    let mut steps = vec![0.0; map.len()];
    let below = map.iter().skip(COLUMNS);
    for ((step, a), b) in steps.iter_mut().zip(map).zip(below) {
        *step = (b - a).abs();
    }
    let rows = steps
        .chunks_exact_mut(COLUMNS)
        .zip(map.chunks_exact(COLUMNS));
    for (steps, row) in rows {
        for ((step, a), b) in steps.iter_mut().zip(row).zip(row.iter().skip(1)) {
            *step += (b - a).abs();
        }
    }
    steps
}

/// Means over the cells of a map.
pub(super) fn cells(map: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; CELLS];
    for (row, samples) in map.chunks_exact(COLUMNS).enumerate() {
        let cells = out.iter_mut().skip(row / EDGE * ACROSS);
        for (cell, samples) in cells.zip(samples.chunks_exact(EDGE)) {
            *cell += samples.iter().sum::<f32>() / (EDGE * EDGE) as f32;
        }
    }
    out
}

/// Means over every cell and those around it; those at the border count twice.
pub(super) fn blurred(of: &[f32]) -> Vec<f32> {
    let mut rows = Vec::with_capacity(CELLS);
    for row in of.chunks_exact(ACROSS) {
        let before = row.iter().take(1).chain(row);
        let after = row.iter().skip(1).chain(row.last());
        rows.extend(before.zip(row).zip(after).map(|((a, b), c)| a + b + c));
    }
    let last = rows.len().saturating_sub(ACROSS);
    let above = rows.iter().take(ACROSS).chain(&rows);
    let below = rows.iter().skip(ACROSS).chain(rows.iter().skip(last));
    let sums = above.zip(&rows).zip(below);
    sums.map(|((a, b), c)| (a + b + c) / 9.0).collect()
}

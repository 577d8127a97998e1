//! Steps across the coding grid.

use super::half::HalfLuma;
use super::tiles::TILE;
use super::{abs_diffs, add_lanes, band};

/// Edge of a coding block in pixels: one tile.
pub const BLOCK: usize = 2 * TILE;
/// Where the off-grid twin of a tile's edge lies, in half-resolution samples: off the 8- and 16-pixel grids.
const OFF: usize = 3;

/// For each 16x16 block, the step across its left or upper edge (whichever stands out more) beyond the larger
/// step beside that edge, in 8-bit codes.
///
/// Measured on half-resolution luma, where a step on an even grid stays sharp. Real texture steps anywhere:
/// the same measure off the grid ([`Grid::twins`]) tells how much of it is texture.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    seams: Vec<f32>,
    corners: Vec<f32>,
    twins: Vec<f32>,
    columns: usize,
}

impl Grid {
    /// Measures all seams.
    pub fn of(half: &HalfLuma) -> Self {
        let (width, height) = (half.width(), half.height());
        let columns = width.div_ceil(TILE);
        let rows = height.div_ceil(TILE);
        let mut grid = Self {
            seams: Vec::with_capacity(columns * rows),
            corners: Vec::with_capacity(columns * rows),
            twins: Vec::with_capacity(columns * rows),
            columns,
        };
        // Steps to the left neighbour, summed down the tile; entry 0 has none.
        let mut across = vec![0u16; width];
        let mut down = Down::new(width);
        let (mut on, mut off) = (Edges::new(columns), Edges::new(columns));
        let blank = vec![0; width];
        for top in (0..height).step_by(TILE) {
            let rows = band(half, top, &blank);
            abs_diffs(&rows.map(|row| &row[1..]), &rows, &mut across[1..]);
            let tall = (height - top).min(TILE) as f32;
            for (edges, offset) in [(&mut on, 0), (&mut off, OFF)] {
                for (tile, left) in edges.left.iter_mut().enumerate() {
                    *left = beyond(&across, tile * TILE + offset) / tall;
                }
                down.measure(half, top + offset, &mut edges.upper);
            }
            grid.seams.extend(on.stronger());
            grid.corners.extend(on.weaker());
            grid.twins.extend(off.stronger());
        }
        grid
    }

    /// Blocks a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Seam strength of every block, row by row.
    pub fn seams(&self) -> &[f32] {
        &self.seams
    }

    /// The weaker of the two steps of every block: what stands out on both sides is a block, not a line.
    pub fn corners(&self) -> &[f32] {
        &self.corners
    }

    /// The same measure 6 pixels right of and below each block's edges, where no coding grid lies.
    pub fn twins(&self) -> &[f32] {
        &self.twins
    }
}

/// Step `at` beyond the larger step beside it; 0 at the border.
fn beyond(steps: &[u16], at: usize) -> f32 {
    match steps.get(at.saturating_sub(1)..at + 2) {
        Some(&[before, here, after]) if at >= 2 => f32::from(here) - f32::from(before.max(after)),
        _ => 0.0,
    }
}

/// What stands out at the left and upper edges of a row of tiles, a sample, in codes.
struct Edges {
    left: Vec<f32>,
    upper: Vec<f32>,
}

impl Edges {
    fn new(columns: usize) -> Self {
        Self {
            left: vec![0.0; columns],
            upper: vec![0.0; columns],
        }
    }

    fn stronger(&self) -> impl Iterator<Item = f32> {
        (self.left.iter().zip(&self.upper)).map(|(left, upper)| left.max(*upper).max(0.0))
    }

    fn weaker(&self) -> impl Iterator<Item = f32> {
        (self.left.iter().zip(&self.upper)).map(|(left, upper)| left.min(*upper).max(0.0))
    }
}

/// Measures steps downwards.
struct Down {
    /// Samples across each tile.
    wide: Vec<f32>,
    /// Steps of one row, sample by sample; none beyond the picture.
    steps: Vec<u8>,
    /// Sums a tile: into the rows before, at and after the edge.
    sums: [Vec<u16>; 3],
}

impl Down {
    fn new(width: usize) -> Self {
        let lefts = (0..width).step_by(TILE);
        let wide: Vec<f32> = lefts.map(|l| (width - l).min(TILE) as f32).collect();
        Self {
            steps: vec![0; wide.len() * TILE],
            sums: std::array::from_fn(|_| vec![0; wide.len()]),
            wide,
        }
    }

    /// The step into row `y` beyond the larger one beside it, of every tile; 0 at the border.
    fn measure(&mut self, half: &HalfLuma, y: usize, out: &mut [f32]) {
        if y < 2 || y + 1 >= half.height() {
            return out.fill(0.0);
        }
        for (i, sums) in self.sums.iter_mut().enumerate() {
            tile_steps(
                half.row(y + i - 2),
                half.row(y + i - 1),
                &mut self.steps,
                sums,
            );
        }
        let [before, here, after] = &self.sums;
        let steps = before.iter().zip(here).zip(after).zip(&self.wide);
        for (out, (((before, here), after), wide)) in out.iter_mut().zip(steps) {
            *out = (f32::from(*here) - f32::from(*before.max(after))) / wide;
        }
    }
}

/// Absolute differences of two rows, summed tile by tile.
fn tile_steps(a: &[u8], b: &[u8], steps: &mut [u8], sums: &mut [u16]) {
    row_steps(a, b, steps);
    for (sum, tile) in sums.iter_mut().zip(steps.as_chunks().0) {
        let word = u64::from_le_bytes(*tile);
        let even = 0x00ff_00ff_00ff_00ff;
        *sum = add_lanes((word & even).wrapping_add(word >> 8 & even));
    }
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn row_steps(a: &[u8], b: &[u8], steps: &mut [u8]) {
    for ((step, a), b) in steps.iter_mut().zip(a).zip(b) {
        *step = a.abs_diff(*b);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::plane::{Plane, Samples};

    fn half(bytes: &[u8], width: usize, height: usize) -> HalfLuma {
        HalfLuma::of(&Plane::new(Samples::U8(bytes), width, height, width).unwrap())
    }

    /// The definition, with signed per-pixel look-ups.
    fn plain(half: &HalfLuma, left: usize, top: usize, off: usize) -> (f32, f32) {
        let (w, h) = (half.width(), half.height());
        let at = |x: usize, y: usize| f32::from(half.row(y)[x]);
        let (bottom, right) = ((top + TILE).min(h), (left + TILE).min(w));
        let column = |x: usize| {
            (top..bottom)
                .map(|y| (at(x, y) - at(x - 1, y)).abs())
                .sum::<f32>()
        };
        let row = |y: usize| {
            (left..right)
                .map(|x| (at(x, y) - at(x, y - 1)).abs())
                .sum::<f32>()
        };
        let (x, y) = (left + off, top + off);
        let vertical = if x >= 2 && x + 1 < w {
            (column(x) - column(x - 1).max(column(x + 1))) / (bottom - top) as f32
        } else {
            0.0
        };
        let horizontal = if y >= 2 && y + 1 < h {
            (row(y) - row(y - 1).max(row(y + 1))) / (right - left) as f32
        } else {
            0.0
        };
        let (strong, weak) = (vertical.max(horizontal), vertical.min(horizontal));
        (strong.max(0.0), weak.max(0.0))
    }

    proptest! {
        #[test]
        fn seams_equal_definition(
            width in 1usize..160, height in 1usize..60, bytes in prop::collection::vec(any::<u8>(), 160 * 60)
        ) {
            let half = half(&bytes, width, height);
            let grid = Grid::of(&half);
            let blocks = grid.columns() * half.height().div_ceil(TILE);
            prop_assert_eq!([grid.seams().len(), grid.corners().len(), grid.twins().len()], [blocks; 3]);
            for i in 0..blocks {
                let (left, top) = (i % grid.columns() * TILE, i / grid.columns() * TILE);
                prop_assert_eq!((grid.seams()[i], grid.corners()[i]), plain(&half, left, top, 0));
                prop_assert_eq!(grid.twins()[i], plain(&half, left, top, OFF).0);
            }
        }
    }

    #[test]
    fn a_misplaced_block_has_seams_and_no_twin() {
        let mut bytes = vec![100; 64 * 64];
        for y in 16..32 {
            bytes[y * 64 + 32..y * 64 + 48].fill(140);
        }
        let grid = Grid::of(&half(&bytes, 64, 64));
        assert_eq!(grid.seams()[4 + 2], 40.0);
        assert!(grid.twins().iter().all(|&t| t == 0.0));
        // Only the block itself has a step on both sides; its right and lower neighbours are entered by one.
        let cornered: Vec<usize> = (0..16).filter(|&i| grid.corners()[i] > 0.0).collect();
        assert_eq!(cornered, [4 + 2]);
    }
}

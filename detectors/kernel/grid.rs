//! Steps across the coding grid.

use super::add_abs_diff;
use super::half::HalfLuma;
use super::tiles::TILE;

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
        let mut down = Down::new(columns);
        for top in (0..height).step_by(TILE) {
            let tall = (height - top).min(TILE);
            across.fill(0);
            for y in top..top + tall {
                let row = half.row(y);
                add_abs_diff(&row[1..], row, &mut across[1..]);
            }
            down.measure(half, top);
            for (tile, left) in (0..width).step_by(TILE).enumerate() {
                let wide = (width - left).min(TILE) as f32;
                let seam = |x: usize| beyond(&across, x) / tall as f32;
                let (on, off) = down.of_tile(tile);
                let (vertical, horizontal) = (seam(left), on / wide);
                grid.seams.push(vertical.max(horizontal).max(0.0));
                grid.corners.push(vertical.min(horizontal).max(0.0));
                grid.twins.push(seam(left + OFF).max(off / wide).max(0.0));
            }
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

/// Sums of the steps downwards around the upper edges of a row of tiles, and around their twins: into the rows
/// before, at and after the edge, a sum a tile. Zero at the picture's border.
struct Down {
    on: [Vec<u16>; 3],
    off: [Vec<u16>; 3],
}

impl Down {
    fn new(columns: usize) -> Self {
        let zeros = || std::array::from_fn(|_| vec![0; columns]);
        Self {
            on: zeros(),
            off: zeros(),
        }
    }

    fn measure(&mut self, half: &HalfLuma, top: usize) {
        steps_around(half, top, &mut self.on);
        steps_around(half, top + OFF, &mut self.off);
    }

    /// Sums of a tile, on and off the grid, beyond those beside.
    fn of_tile(&self, tile: usize) -> (f32, f32) {
        let beyond = |[before, here, after]: &[Vec<u16>; 3]| {
            f32::from(here[tile]) - f32::from(before[tile].max(after[tile]))
        };
        (beyond(&self.on), beyond(&self.off))
    }
}

fn steps_around(half: &HalfLuma, y: usize, out: &mut [Vec<u16>; 3]) {
    let inside = y >= 2 && y + 1 < half.height();
    for (i, out) in out.iter_mut().enumerate() {
        match inside {
            true => tile_steps(half.row(y + i - 2), half.row(y + i - 1), out),
            false => out.fill(0),
        }
    }
}

/// Absolute differences of two rows, summed tile by tile.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn tile_steps(a: &[u8], b: &[u8], sums: &mut [u16]) {
    let sum = |a: &[u8], b: &[u8]| {
        (a.iter().zip(b)).fold(0u16, |sum, (a, b)| {
            sum.wrapping_add(u16::from(a.abs_diff(*b)))
        })
    };
    let (whole_a, rest_a) = a.as_chunks::<TILE>();
    let (whole_b, rest_b) = b.as_chunks::<TILE>();
    for ((out, a), b) in sums.iter_mut().zip(whole_a).zip(whole_b) {
        *out = sum(a, b);
    }
    if let Some(out) = sums.get_mut(whole_a.len()) {
        *out = sum(rest_a, rest_b);
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
    fn plain(half: &HalfLuma, left: usize, top: usize, off: usize) -> f32 {
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
        vertical.max(horizontal).max(0.0)
    }

    proptest! {
        #[test]
        fn seams_equal_definition(
            width in 1usize..90, height in 1usize..60, bytes in prop::collection::vec(any::<u8>(), 90 * 60)
        ) {
            let half = half(&bytes, width, height);
            let grid = Grid::of(&half);
            for (i, (&seam, &twin)) in grid.seams().iter().zip(grid.twins()).enumerate() {
                let (left, top) = (i % grid.columns() * TILE, i / grid.columns() * TILE);
                prop_assert_eq!(seam, plain(&half, left, top, 0));
                prop_assert_eq!(twin, plain(&half, left, top, OFF));
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

//! Statistics of 8x8 tiles of half-resolution luma.

use super::add_abs_diff;
use super::half::HalfLuma;

/// Edge of a tile in half-resolution samples.
pub const TILE: usize = 8;

/// One tile's statistics, in 8-bit codes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tile {
    /// Mean luma.
    pub mean: f32,
    /// Smallest sample.
    pub min: u8,
    /// Largest sample.
    pub max: u8,
    /// Variance of luma.
    pub variance: f32,
    /// Mean absolute difference to the previous picture; `None` without one.
    pub change: Option<f32>,
}

/// All tiles of a picture. Tiles at the right and lower edge may be cut short.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    tiles: Vec<Tile>,
    columns: usize,
}

impl Tiles {
    /// Computes the statistics; `before` must have the size of `half` to count.
    pub fn of(half: &HalfLuma, before: Option<&HalfLuma>) -> Self {
        let before = before.filter(|b| same_size(b, half));
        let width = half.width();
        let columns = width.div_ceil(TILE);
        let mut tiles = Vec::with_capacity(columns * half.height().div_ceil(TILE));
        let mut sums = Columns::new(width);
        for top in (0..half.height()).step_by(TILE) {
            let rows = top..(top + TILE).min(half.height());
            sums.clear();
            for y in rows.clone() {
                let row = half.row(y);
                add_row(row, &mut sums.sum, &mut sums.squares);
                add_extremes(row, &mut sums.min, &mut sums.max);
                if let Some(before) = before {
                    add_abs_diff(row, before.row(y), &mut sums.change);
                }
            }
            sums.fold_into(&mut tiles, rows.len(), before.is_some());
        }
        Self { tiles, columns }
    }

    /// Tiles a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Share (0..=1) of the tiles whose brightest sample is at or below `limit`.
    pub fn dark_share(&self, limit: u8) -> f64 {
        let dark = self.tiles.iter().filter(|t| t.max <= limit).count();
        dark as f64 / self.tiles.len().max(1) as f64
    }

    /// All tiles, row by row.
    pub fn all(&self) -> &[Tile] {
        &self.tiles
    }
}

/// Mean absolute difference of every tile between two pictures, row by row, into `out` (whose memory is used
/// again); empty when their sizes differ.
pub fn differences(a: &HalfLuma, b: &HalfLuma, out: &mut Vec<f32>) {
    out.clear();
    if !same_size(a, b) {
        return;
    }
    let mut sums = vec![0u16; a.width()];
    for top in (0..a.height()).step_by(TILE) {
        let rows = top..(top + TILE).min(a.height());
        sums.fill(0);
        for y in rows.clone() {
            add_abs_diff(a.row(y), b.row(y), &mut sums);
        }
        let scaled = |c: &[u16]| total(c) / (c.len() * rows.len()) as f32;
        out.extend(sums.chunks(TILE).map(scaled));
    }
}

fn same_size(a: &HalfLuma, b: &HalfLuma) -> bool {
    a.width() == b.width() && a.height() == b.height()
}

/// Per-column accumulators of one tile row. Eight rows of 8-bit samples fit 16 bits (2,040).
struct Columns {
    sum: Vec<u16>,
    squares: Vec<u32>,
    change: Vec<u16>,
    min: Vec<u8>,
    max: Vec<u8>,
}

impl Columns {
    fn new(width: usize) -> Self {
        Self {
            sum: vec![0; width],
            squares: vec![0; width],
            change: vec![0; width],
            min: vec![0; width],
            max: vec![0; width],
        }
    }

    fn clear(&mut self) {
        self.sum.fill(0);
        self.squares.fill(0);
        self.change.fill(0);
        self.min.fill(u8::MAX);
        self.max.fill(u8::MIN);
    }

    /// Folds the columns into tiles of `rows` rows.
    fn fold_into(&self, tiles: &mut Vec<Tile>, rows: usize, compared: bool) {
        let columns = (self.sum.chunks(TILE).zip(self.squares.chunks(TILE)))
            .zip(self.change.chunks(TILE))
            .zip(self.min.chunks(TILE).zip(self.max.chunks(TILE)));
        tiles.extend(columns.map(|(((sum, squares), change), (min, max))| {
            let n = (sum.len() * rows) as f32;
            let mean = total(sum) / n;
            let squares = fold(squares, 0u32, u32::wrapping_add) as f32 / n;
            Tile {
                mean,
                min: fold(min, u8::MAX, u8::min),
                max: fold(max, u8::MIN, u8::max),
                variance: (squares - mean * mean).max(0.0),
                change: compared.then(|| total(change) / n),
            }
        }));
    }
}

/// Sum of a tile's columns.
fn total(columns: &[u16]) -> f32 {
    f32::from(fold(columns, 0, u16::wrapping_add))
}

/// Folds a tile's columns, whose number is fixed but at the right edge: that is what makes it quick.
fn fold<T: Copy>(columns: &[T], start: T, f: impl Fn(T, T) -> T) -> T {
    match <&[T; TILE]>::try_from(columns) {
        Ok(whole) => whole.iter().fold(start, |a, &b| f(a, b)),
        Err(_) => columns.iter().fold(start, |a, &b| f(a, b)),
    }
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn add_row(row: &[u8], sums: &mut [u16], squares: &mut [u32]) {
    for ((&v, sum), square) in row.iter().zip(sums).zip(squares) {
        *sum = sum.wrapping_add(u16::from(v));
        let v = u16::from(v);
        *square = square.wrapping_add(u32::from(v.wrapping_mul(v)));
    }
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn add_extremes(row: &[u8], low: &mut [u8], high: &mut [u8]) {
    for ((&v, low), high) in row.iter().zip(low).zip(high) {
        *low = v.min(*low);
        *high = v.max(*high);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::plane::{Plane, Samples};

    /// The definition: every sample of the tile, one by one.
    fn plain(half: &HalfLuma, before: Option<&HalfLuma>, tile_x: usize, tile_y: usize) -> Tile {
        let mut all = Vec::new();
        let mut change = 0.0;
        for y in tile_y * TILE..((tile_y + 1) * TILE).min(half.height()) {
            for x in tile_x * TILE..((tile_x + 1) * TILE).min(half.width()) {
                let v = half.row(y)[x];
                all.push(v);
                change += before.map_or(0.0, |b| f32::from(v.abs_diff(b.row(y)[x])));
            }
        }
        let n = all.len() as f32;
        let mean = all.iter().map(|&v| f32::from(v)).sum::<f32>() / n;
        let squares = all
            .iter()
            .map(|&v| f32::from(v) * f32::from(v))
            .sum::<f32>()
            / n;
        Tile {
            mean,
            min: *all.iter().min().unwrap(),
            max: *all.iter().max().unwrap(),
            variance: (squares - mean * mean).max(0.0),
            change: before.map(|_| change / n),
        }
    }

    proptest! {
        #[test]
        fn statistics_equal_definition(
            width in 1usize..90, height in 1usize..40, compared in any::<bool>(),
            bytes in prop::collection::vec(any::<u8>(), 90 * 40 + 1)
        ) {
            let half = |at: usize| HalfLuma::of(&Plane::new(Samples::U8(&bytes[at..]), width, height, width).unwrap());
            let (now, then) = (half(0), half(1));
            let before = compared.then_some(&then);
            let tiles = Tiles::of(&now, before);
            let rows = now.height().div_ceil(TILE);
            prop_assert_eq!(tiles.all().len(), tiles.columns() * rows);
            for (i, tile) in tiles.all().iter().enumerate() {
                let (x, y) = (i % tiles.columns(), i / tiles.columns());
                prop_assert_eq!(*tile, plain(&now, before, x, y));
            }
            let mut changes = vec![9.0];
            differences(&now, &then, &mut changes);
            for (i, change) in changes.iter().enumerate() {
                let (x, y) = (i % tiles.columns(), i / tiles.columns());
                prop_assert_eq!(Some(*change), plain(&now, Some(&then), x, y).change);
            }
            prop_assert_eq!(changes.len(), tiles.all().len());
        }
    }

    #[test]
    fn other_sizes_do_not_compare() {
        let bytes = [7; 64];
        let half = |w, h| HalfLuma::of(&Plane::new(Samples::U8(&bytes), w, h, w).unwrap());
        let (a, b) = (half(8, 8), half(8, 6));
        assert!(
            Tiles::of(&a, Some(&b))
                .all()
                .iter()
                .all(|t| t.change.is_none())
        );
        let mut out = vec![1.0];
        differences(&a, &b, &mut out);
        assert!(out.is_empty());
    }
}

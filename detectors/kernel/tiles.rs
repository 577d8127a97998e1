//! Statistics of 8x8 tiles of half-resolution luma.

use super::half::HalfLuma;
use super::{Band, abs_diffs, band, level, total};

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
        let (mut of, mut folded) = (Columns::new(columns), Folded::new(columns));
        let blank = vec![0; width];
        for top in (0..half.height()).step_by(TILE) {
            let rows = (half.height() - top).min(TILE);
            let now = band(half, top, &blank);
            moments(&now, &mut of.sum, &mut of.squares);
            // Rows that are not there must not be darker than those that are.
            let real = band(half, top, half.row(top));
            extremes(&real, &mut of.min, &mut of.max);
            if let Some(before) = before {
                abs_diffs(&now, &band(before, top, &blank), &mut of.change);
            }
            fold_squares(&of.squares, &mut folded.squares);
            fold_extremes(&of, &mut folded);
            let samples = Samples::of(width, rows);
            let sums = (of.sum.as_chunks().0.iter()).zip(of.change.as_chunks().0);
            let extremes = folded.min[2].iter().zip(&folded.max[2]);
            let all = sums.zip(&folded.squares[2]).zip(extremes).enumerate();
            tiles.extend(all.map(|(x, (((sum, change), squares), (min, max)))| {
                let n = samples.at(x);
                let mean = f32::from(total(sum)) / n;
                Tile {
                    mean,
                    min: *min,
                    max: *max,
                    variance: (*squares as f32 / n - mean * mean).max(0.0),
                    change: before.map(|_| f32::from(total(change)) / n),
                }
            }));
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
    let (width, columns) = (a.width(), a.width().div_ceil(TILE));
    let mut sums = vec![0u16; columns * TILE];
    let blank = vec![0; width];
    for top in (0..a.height()).step_by(TILE) {
        let rows = (a.height() - top).min(TILE);
        abs_diffs(&band(a, top, &blank), &band(b, top, &blank), &mut sums);
        let samples = Samples::of(width, rows);
        let tiles = sums.as_chunks().0.iter().enumerate();
        out.extend(tiles.map(|(x, tile)| f32::from(total(tile)) / samples.at(x)));
    }
}

/// How many samples the tiles of one row hold: the last may be cut short.
struct Samples {
    most: f32,
    last: f32,
    last_at: usize,
}

impl Samples {
    fn of(width: usize, rows: usize) -> Self {
        let last_at = width.div_ceil(TILE).saturating_sub(1);
        Self {
            most: (TILE * rows) as f32,
            last: ((width - last_at * TILE) * rows) as f32,
            last_at,
        }
    }

    fn at(&self, x: usize) -> f32 {
        match x == self.last_at {
            true => self.last,
            false => self.most,
        }
    }
}

fn same_size(a: &HalfLuma, b: &HalfLuma) -> bool {
    a.width() == b.width() && a.height() == b.height()
}

/// What the columns of one row of tiles hold. Eight rows of 8-bit samples fit 16 bits (2,040). Columns beyond the
/// picture are there, so that all tiles are whole, and count for nothing.
struct Columns {
    sum: Vec<u16>,
    squares: Vec<u32>,
    change: Vec<u16>,
    min: Vec<u8>,
    max: Vec<u8>,
}

impl Columns {
    fn new(tiles: usize) -> Self {
        let count = tiles * TILE;
        Self {
            sum: vec![0; count],
            squares: vec![0; count],
            change: vec![0; count],
            min: vec![u8::MAX; count],
            max: vec![u8::MIN; count],
        }
    }
}

/// The columns, folded into tiles: each step halves their number.
struct Folded {
    squares: [Vec<u32>; 3],
    min: [Vec<u8>; 3],
    max: [Vec<u8>; 3],
}

impl Folded {
    fn new(tiles: usize) -> Self {
        Self {
            squares: [4, 2, 1].map(|n| vec![0; n * tiles]),
            min: [4, 2, 1].map(|n| vec![0; n * tiles]),
            max: [4, 2, 1].map(|n| vec![0; n * tiles]),
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn fold_squares(columns: &[u32], steps: &mut [Vec<u32>; 3]) {
    fold(columns, steps, u32::wrapping_add);
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn fold_extremes(columns: &Columns, folded: &mut Folded) {
    fold(&columns.min, &mut folded.min, u8::min);
    fold(&columns.max, &mut folded.max, u8::max);
}

/// Folds every eight columns into one, by pairs.
#[inline(always)]
fn fold<T: Copy>(columns: &[T], [four, two, one]: &mut [Vec<T>; 3], f: impl Fn(T, T) -> T) {
    let pairs = |from: &[T], to: &mut [T]| {
        for (to, [a, b]) in to.iter_mut().zip(from.as_chunks::<2>().0) {
            *to = f(*a, *b);
        }
    };
    pairs(columns, four);
    pairs(four, two);
    pairs(two, one);
}

/// Sums and sums of squares down the columns.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn moments(rows: &Band<'_>, sums: &mut [u16], squares: &mut [u32]) {
    let (rows, width) = level(rows, sums.len().min(squares.len()));
    let (sums, squares) = (&mut sums[..width], &mut squares[..width]);
    for x in 0..width {
        let (mut sum, mut square) = (0u16, 0u32);
        for row in rows {
            let v = u16::from(row[x]);
            sum = sum.wrapping_add(v);
            square = square.wrapping_add(u32::from(v.wrapping_mul(v)));
        }
        (sums[x], squares[x]) = (sum, square);
    }
}

/// Smallest and largest samples down the columns.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn extremes(rows: &Band<'_>, low: &mut [u8], high: &mut [u8]) {
    let (rows, width) = level(rows, low.len().min(high.len()));
    let (low, high) = (&mut low[..width], &mut high[..width]);
    for x in 0..width {
        let (mut least, mut most) = (u8::MAX, u8::MIN);
        for row in rows {
            (least, most) = (least.min(row[x]), most.max(row[x]));
        }
        (low[x], high[x]) = (least, most);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::plane::{Plane, Samples as Luma};

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
            width in 1usize..160, height in 1usize..40, compared in any::<bool>(),
            bytes in prop::collection::vec(any::<u8>(), 160 * 40 + 1)
        ) {
            let half = |at: usize| HalfLuma::of(&Plane::new(Luma::U8(&bytes[at..]), width, height, width).unwrap());
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
        let half = |w, h| HalfLuma::of(&Plane::new(Luma::U8(&bytes), w, h, w).unwrap());
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

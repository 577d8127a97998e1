//! Statistics of 8x8 tiles of half-resolution luma.

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
        let before = before.filter(|b| b.width() == half.width() && b.height() == half.height());
        let columns = half.width().div_ceil(TILE);
        let rows = half.height().div_ceil(TILE);
        let mut tiles = Vec::with_capacity(columns * rows);
        for tile_y in 0..rows {
            for tile_x in 0..columns {
                let (mut n, mut sum, mut squares, mut change) = (0u32, 0u32, 0u32, 0u32);
                let (mut min, mut max) = (u8::MAX, u8::MIN);
                for y in tile_y * TILE..((tile_y + 1) * TILE).min(half.height()) {
                    let span = tile_x * TILE..((tile_x + 1) * TILE).min(half.width());
                    for &v in &half.row(y)[span.clone()] {
                        n += 1;
                        sum += u32::from(v);
                        squares += u32::from(v) * u32::from(v);
                        min = min.min(v);
                        max = max.max(v);
                    }
                    if let Some(before) = before {
                        change += half.row(y)[span.clone()]
                            .iter()
                            .zip(&before.row(y)[span])
                            .map(|(&a, &b)| u32::from(a.abs_diff(b)))
                            .sum::<u32>();
                    }
                }
                let n = n.max(1) as f32;
                let mean = sum as f32 / n;
                tiles.push(Tile {
                    mean,
                    min,
                    max,
                    variance: (squares as f32 / n - mean * mean).max(0.0),
                    change: before.map(|_| change as f32 / n),
                });
            }
        }
        Self { tiles, columns }
    }

    /// Tiles a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All tiles, row by row.
    pub fn all(&self) -> &[Tile] {
        &self.tiles
    }
}

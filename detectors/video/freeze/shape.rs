//! Where overlays run.

use std::collections::BTreeSet;

use crate::kernel::tiles::Tiles;

/// The picture as rows and columns of tiles.
pub(super) struct Shape {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Shape {
    pub(super) fn of(tiles: &Tiles) -> Self {
        Self {
            columns: tiles.columns(),
            rows: tiles.all().len().div_ceil(tiles.columns().max(1)),
        }
    }

    /// Whether these tiles lie further apart than a quarter of the picture's width or height.
    pub(super) fn is_wide(&self, tiles: &BTreeSet<usize>) -> bool {
        let columns = self.columns.max(1);
        let extent = |of: fn(usize, usize) -> usize| {
            let places = tiles.iter().map(|tile| of(*tile, columns));
            places.clone().max().unwrap_or(0) - places.min().unwrap_or(0)
        };
        4 * extent(|tile, columns| tile % columns) > self.columns
            || 4 * extent(|tile, columns| tile / columns) > self.rows
    }

    /// The small boxes, or thin bands, near the upper or lower edge into which these tiles fall: where clocks,
    /// scores and tickers stand. A mouth or a far player moves elsewhere, or wanders.
    pub(super) fn overlay(&self, tiles: impl Iterator<Item = usize>, area_ratio: f64) -> Overlay {
        let mut boxes: Vec<[usize; 4]> = Vec::new();
        for tile in tiles {
            let (x, y) = (tile % self.columns.max(1), tile / self.columns.max(1));
            let near =
                |b: &[usize; 4]| x + 3 >= b[0] && x <= b[2] + 3 && y + 3 >= b[1] && y <= b[3] + 3;
            match boxes.iter().position(near) {
                Some(i) => {
                    let [x0, y0, x1, y1] = boxes[i];
                    boxes[i] = [x0.min(x), y0.min(y), x1.max(x), y1.max(y)];
                }
                None if boxes.len() < 8 => boxes.push([x, y, x, y]),
                None => {}
            }
        }
        let margin = self.rows.div_ceil(4);
        boxes.retain(|&[_, y0, _, y1]| y1 < margin || y0 + margin >= self.rows);
        let area: usize = (boxes.iter())
            .map(|[x0, y0, x1, y1]| (x1 - x0 + 1) * (y1 - y0 + 1))
            .sum();
        let share = area as f64 / (self.columns * self.rows).max(1) as f64;
        // A band that is no thicker than two tiles: in small pictures that is more than a tenth.
        let thin = |b: &[usize; 4]| (b[3] - b[1] + 1) as f64 <= (0.1 * self.rows as f64).max(2.0);
        let small = share <= area_ratio
            || (share <= 5.0 * area_ratio && boxes.len() <= 2 && boxes.iter().all(thin));
        if !small {
            boxes.clear();
        }
        Overlay {
            columns: self.columns.max(1),
            boxes,
        }
    }
}

/// Where something is allowed to run on top of a still picture, in tiles.
pub(super) struct Overlay {
    columns: usize,
    boxes: Vec<[usize; 4]>,
}

impl Overlay {
    /// Whether the tile is in it or next to it.
    pub(super) fn is_near(&self, tile: usize) -> bool {
        let (x, y) = (tile % self.columns, tile / self.columns);
        let near =
            |b: &[usize; 4]| x + 1 >= b[0] && x <= b[2] + 1 && y + 1 >= b[1] && y <= b[3] + 1;
        self.boxes.iter().any(near)
    }

    pub(super) fn contains(&self, tile: usize) -> bool {
        let (x, y) = (tile % self.columns, tile / self.columns);
        let inside = |b: &[usize; 4]| (b[0]..=b[2]).contains(&x) && (b[1]..=b[3]).contains(&y);
        self.boxes.iter().any(inside)
    }
}

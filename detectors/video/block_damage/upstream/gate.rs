//! Where a picture changed all at once, more than its surroundings and its past explain.
//!
//! Cheap, on the shared tile statistics alone, and meant to let much through: a net looks at what it finds.

use crate::kernel::tiles::{TILE, Tile};

/// Edge of a patch in tiles.
pub const PATCH_TILES: usize = 8;
/// Edge of a patch in half-resolution samples.
pub const PATCH: usize = PATCH_TILES * TILE;
/// Most patches of a picture.
pub const MOST_SPOTS: usize = 12;
/// Tiles from one place where a patch may lie to the next.
const STRIDE: usize = 4;
/// A tile must change by this much beyond [`USUAL_FACTOR`] of what it and its neighbours do, 8-bit codes.
const EXCESS_CODES: f32 = 4.0;
const USUAL_FACTOR: f32 = 1.3;
/// Tiles of a patch that must.
const LEAST_TILES: u32 = 9;
/// Change of a tile at a cut, codes.
const CUT_CODES: f32 = 10.0;
/// Where more of the picture than this changes, it is a cut.
pub const CUT_SHARE: f32 = 0.7;
/// Weight of the newest picture in what is usual.
const LEARNING: f32 = 0.1;
/// How the largest change of late fades, a picture: drawings that are held for some pictures jump again and again.
const FADING: f32 = 0.97;

/// Below this variance a tile is plain.
const PLAIN_VARIANCE: f32 = 1.5;
/// The grey that decoders put where they have nothing, codes.
const GREY_CODES: std::ops::RangeInclusive<f32> = 120.0..=136.0;

/// Whether somebody drew it so: boards of graphics are plain; of damage only the grey of decoders is.
fn is_drawn(tile: &Tile) -> bool {
    tile.variance < PLAIN_VARIANCE && !GREY_CODES.contains(&tile.mean)
}

/// A place to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// Left edge, half-resolution samples.
    pub left: usize,
    /// Upper edge, half-resolution samples.
    pub top: usize,
    /// Share of its tiles that changed beyond what is usual, 0..1.
    pub filled: f32,
    /// Mean change of its tiles, codes.
    pub change: f32,
    /// What is usual there, codes.
    pub usual: f32,
}

/// One picture as the gate sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Glance {
    /// Share of tiles that changed beyond what is usual, 0..1.
    pub excess: f32,
    /// Share of tiles that changed as at a cut, 0..1.
    pub changed: f32,
    /// Mean change of all tiles, codes.
    pub change: f32,
    /// Places to look at, most changed first; empty of most pictures.
    pub spots: Vec<Spot>,
}

/// Learns what is usual of every tile.
#[derive(Debug, Default)]
pub struct Gate {
    columns: usize,
    usual: Vec<f32>,
    /// Largest change of late, fading.
    peak: Vec<f32>,
    /// Change of the previous picture, the largest of nine tiles.
    last: Vec<f32>,
    /// Which tiles of the previous picture were drawn plain.
    drawn: Vec<bool>,
    excess: Vec<bool>,
    scratch: Vec<f32>,
    /// Excessive tiles above and left of every corner.
    counts: Vec<u32>,
}

impl Gate {
    /// Which tiles of the newest picture changed beyond what is usual.
    pub fn excess(&self) -> &[bool] {
        &self.excess
    }

    /// Looks at the next picture; `size` is that of its half-resolution luma. Nothing is found in the first one
    /// and after a change of size.
    pub fn look(&mut self, tiles: &[Tile], columns: usize, size: (usize, usize)) -> Glance {
        // Without a picture before there is no change to learn from.
        let compared = tiles.first().is_some_and(|t| t.change.is_some());
        let known = compared && self.usual.len() == tiles.len() && self.columns == columns;
        let mut glance = Glance::default();
        self.excess.clear();
        if known {
            let mut changed = 0u32;
            let past =
                (self.usual.iter().zip(&self.last)).zip(self.peak.iter_mut().zip(&self.drawn));
            for (tile, ((usual, last), (peak, drawn))) in tiles.iter().zip(past) {
                let change = tile.change.unwrap_or_default();
                let expected = (USUAL_FACTOR * usual.max(*last)).max(0.8 * *peak);
                let excess = change > EXCESS_CODES + expected;
                self.excess.push(excess && !drawn && !is_drawn(tile));
                changed += u32::from(change > CUT_CODES);
                glance.change += change;
                *peak = change.max(FADING * *peak);
            }
            let n = tiles.len().max(1) as f32;
            glance.change /= n;
            glance.changed = changed as f32 / n;
            let excess = self.excess.iter().filter(|e| **e).count();
            glance.excess = excess as f32 / n;
            if excess as u32 >= LEAST_TILES && glance.changed <= CUT_SHARE {
                glance.spots = self.spots(tiles, size);
            }
            for (usual, tile) in self.usual.iter_mut().zip(tiles) {
                *usual += LEARNING * (tile.change.unwrap_or_default() - *usual);
            }
        } else {
            self.columns = columns;
            self.excess.resize(tiles.len(), false);
            self.usual.clear();
            self.usual.extend(tiles.iter().filter_map(|t| t.change));
            self.peak.clone_from(&self.usual);
        }
        self.drawn.clear();
        self.drawn.extend(tiles.iter().map(is_drawn));
        self.remember(tiles);
        glance
    }

    /// The largest change of every tile and its neighbours, for the next picture.
    fn remember(&mut self, tiles: &[Tile]) {
        let columns = self.columns.max(1);
        self.scratch.clear();
        for row in tiles.chunks(columns) {
            let change = |i: usize| row.get(i).and_then(|t| t.change).unwrap_or_default();
            self.scratch.extend(
                (0..row.len()).map(|i| change(i.wrapping_sub(1)).max(change(i)).max(change(i + 1))),
            );
        }
        self.last.clear();
        let rows: Vec<&[f32]> = self.scratch.chunks(columns).collect();
        for (y, row) in rows.iter().enumerate() {
            let near = |y: usize| rows.get(y).copied().unwrap_or(row);
            let (above, below) = (near(y.wrapping_sub(1)), near(y + 1));
            let three = row.iter().zip(above.iter().zip(below));
            // The last row may be shorter in no picture: all rows have as many tiles.
            self.last
                .extend(three.map(|(here, (above, below))| here.max(*above).max(*below)));
        }
    }

    /// Patches with enough excess, the fullest first, none covering more than half of another.
    fn spots(&mut self, tiles: &[Tile], (width, height): (usize, usize)) -> Vec<Spot> {
        let columns = self.columns.max(1);
        let rows = tiles.len() / columns;
        if width < PATCH || height < PATCH {
            return Vec::new();
        }
        self.counts.clear();
        self.counts.resize(columns + 1, 0);
        for (y, row) in self.excess.chunks(columns).enumerate() {
            let mut sum = 0;
            self.counts.push(0);
            for (x, &excess) in row.iter().enumerate() {
                sum += u32::from(excess);
                let above = self.counts.get(y * (columns + 1) + x + 1);
                self.counts.push(sum + above.copied().unwrap_or_default());
            }
        }
        let corner = |x: usize, y: usize| {
            let at = y.min(rows) * (columns + 1) + x.min(columns);
            self.counts.get(at).copied().unwrap_or_default()
        };
        let mut found: Vec<(u32, usize, usize)> = Vec::new();
        for y in (0..rows.max(STRIDE) - STRIDE).step_by(STRIDE) {
            for x in (0..columns.max(STRIDE) - STRIDE).step_by(STRIDE) {
                let (right, bottom) = (x + PATCH_TILES, y + PATCH_TILES);
                let count =
                    corner(right, bottom) + corner(x, y) - corner(right, y) - corner(x, bottom);
                if count >= LEAST_TILES {
                    found.push((count, x, y));
                }
            }
        }
        found.sort_by_key(|f| std::cmp::Reverse(f.0));
        let mut spots: Vec<(usize, usize)> = Vec::new();
        let mut chosen = Vec::new();
        for (count, x, y) in found {
            let apart = |&(ox, oy): &(usize, usize)| {
                ox.abs_diff(x) > STRIDE || oy.abs_diff(y) > STRIDE || {
                    ox.abs_diff(x) + oy.abs_diff(y) > STRIDE
                }
            };
            if !spots.iter().all(apart) {
                continue;
            }
            spots.push((x, y));
            let inside = (y..(y + PATCH_TILES).min(rows))
                .flat_map(|y| (x..(x + PATCH_TILES).min(columns)).map(move |x| y * columns + x));
            let (mut change, mut usual, mut n) = (0.0, 0.0, 0.0);
            for i in inside {
                change += tiles.get(i).and_then(|t| t.change).unwrap_or_default();
                usual += self.usual.get(i).copied().unwrap_or_default();
                n += 1.0;
            }
            chosen.push(Spot {
                left: (x * TILE).min(width - PATCH),
                top: (y * TILE).min(height - PATCH),
                filled: count as f32 / (PATCH_TILES * PATCH_TILES) as f32,
                change: change / f32::max(n, 1.0),
                usual: usual / f32::max(n, 1.0),
            });
            if chosen.len() == MOST_SPOTS {
                break;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::kernel::half::HalfLuma;
    use crate::kernel::tiles::Tiles;
    use crate::testkit::Frame;

    const SIZE: (usize, usize) = (640, 384);

    fn run(count: usize, make: impl Fn(usize) -> Frame) -> Vec<Glance> {
        let mut gate = Gate::default();
        let mut before: Option<HalfLuma> = None;
        (0..count)
            .map(|i| {
                let frame = make(i);
                let half = HalfLuma::of(&frame.plane().unwrap());
                let tiles = Tiles::of(&half, before.as_ref());
                let glance = gate.look(tiles.all(), tiles.columns(), (half.width(), half.height()));
                before = Some(half);
                glance
            })
            .collect()
    }

    fn scene(i: usize) -> Frame {
        Frame::scene(SIZE.0, SIZE.1, 2.0 * i as f64, 0.0)
    }

    #[test]
    fn a_part_that_changes_at_once_is_found_where_it_is() {
        let other = Frame::scene(SIZE.0, SIZE.1, 333.0, 77.0);
        let glances = run(20, |i| {
            let mut frame = scene(i);
            if i >= 10 {
                frame.paste(&other, 320, 128, 128, 128);
            }
            frame
        });
        for (i, glance) in glances.iter().enumerate() {
            assert_eq!(glance.spots.is_empty(), i != 10, "picture {i}");
        }
        let first = &glances[10].spots[0];
        assert_eq!((first.left, first.top), (160, 64));
        assert!(first.filled > 0.9 && first.change > 2.0 * first.usual);
    }

    #[test]
    fn a_plain_board_is_a_graphic_unless_it_is_grey() {
        for (code, found) in [(40, false), (200, false), (128, true)] {
            let glances = run(20, |i| {
                let mut frame = scene(i);
                if (10..15).contains(&i) {
                    frame.fill(320, 128, 128, 128, code);
                }
                frame
            });
            assert_eq!(!glances[10].spots.is_empty(), found, "{code}");
            assert!(found || glances[15].spots.is_empty(), "{code}");
        }
    }

    #[test]
    fn motion_cuts_and_small_pictures_pass() {
        let moving = run(20, scene);
        assert!(moving.iter().all(|g| g.spots.is_empty()));
        let cut = run(20, |i| scene(i + i / 10 * 500));
        assert!(cut[10].changed > CUT_SHARE);
        assert!(cut.iter().all(|g| g.spots.is_empty()));
        let small = run(4, |i| {
            Frame::flat(96, 96, if i % 2 == 0 { 30 } else { 200 })
        });
        assert!(small.iter().all(|g| g.spots.is_empty()));
    }
}

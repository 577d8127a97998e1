//! Edges of the picture: hard cuts, and where one flat colour (mostly black) begins or ends at once.
//!
//! The mean change from picture to picture stands out of those within a quarter of a second on both sides: fades,
//! flashes, fast motion and strobes do not.

use std::collections::VecDeque;

use super::Direction;
use crate::base::MediaTime;
use crate::kernel::tiles::Tiles;

/// How far the pictures beside are looked at, and how many of them at most.
const BESIDE_SECS: f64 = 0.25;
const LOOKS_MAX: usize = 128;
/// A picture that comes later after the one before is no neighbour.
const HOLE_SECS: f64 = 0.5;
/// At an edge the picture changes by this factor more than any beside, but for its neighbours: an edge may lie between
/// two fields, or be blended by a change of the picture rate.
const STANDS_OUT: f32 = 3.0;
/// Mean change at a cut (codes), and the share of the tiles that change by so much.
const CUT_CODES: f32 = 8.0;
const TILE_CODES: f32 = 10.0;
const CUT_WIDTH: f32 = 0.4;
/// Mean change where a flat colour begins or ends.
const FLAT_CODES: f32 = 3.0;
/// Of a flat picture so many tiles have little in them (codes between darkest and brightest sample) and lie within
/// so many neighbouring codes. The rest may be a logo.
const FLAT_SHARE: f32 = 0.95;
const CALM_CODES: u8 = 20;
const ALIKE_CODES: usize = 7;

/// An edge of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PictureEdge {
    /// The first picture after it.
    pub(super) at: MediaTime,
    /// Into a flat colour (less), out of one (more), or `None` for a cut.
    pub(super) flat: Option<Direction>,
}

/// One picture.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: MediaTime,
    /// Mean change to the one before, codes.
    change: f32,
    /// Share of the tiles that changed much.
    width: f32,
    flat: bool,
}

/// Looks for edges.
#[derive(Debug, Default)]
pub(super) struct Eye {
    looks: VecDeque<Look>,
    /// How many of them, from the front, have been judged.
    judged: usize,
}

impl Eye {
    /// Takes in a picture; gives the edges that are now known. `follows`: nothing is missing before it.
    pub(super) fn see(&mut self, at: MediaTime, tiles: &Tiles, follows: bool) -> Vec<PictureEdge> {
        let beside = |last: &Look| (0.0..=HOLE_SECS).contains(&at.secs_after(last.at));
        if !follows || !self.looks.back().is_some_and(beside) {
            *self = Self::default();
        }
        self.looks.push_back(look(at, tiles));
        let mut edges = Vec::new();
        while let Some(due) = self.looks.get(self.judged) {
            if at.secs_after(due.at) < BESIDE_SECS && self.looks.len() <= LOOKS_MAX {
                break;
            }
            edges.extend(self.judge());
            self.judged += 1;
            while self.judged > 2 && self.is_full_or_old() {
                self.looks.pop_front();
                self.judged -= 1;
            }
        }
        edges
    }

    /// Up to when all edges are known.
    pub(super) fn settled(&self) -> Option<MediaTime> {
        self.looks.get(self.judged.checked_sub(1)?).map(|l| l.at)
    }

    /// Whether the oldest picture is beside none that is still to be judged, or there are too many.
    fn is_full_or_old(&self) -> bool {
        let (front, due) = (self.looks.front(), self.looks.get(self.judged));
        let old = front
            .zip(due)
            .is_some_and(|(f, d)| d.at.secs_after(f.at) > BESIDE_SECS);
        old || self.looks.len() > LOOKS_MAX
    }

    /// Whether there is an edge at the picture that is due.
    fn judge(&self) -> Option<PictureEdge> {
        let (due, at) = (self.judged, self.looks.get(self.judged)?);
        let before = self.looks.get(due.checked_sub(1)?)?;
        let (mut near, mut far) = (0.0f32, 0.0f32);
        for (n, look) in self.looks.iter().enumerate() {
            match n.abs_diff(due) {
                0 => {}
                _ if look.at.secs_after(at.at).abs() > BESIDE_SECS => {}
                1 => near = near.max(look.change),
                _ => far = far.max(look.change),
            }
        }
        if at.change <= near || at.change < STANDS_OUT * far {
            return None;
        }
        let flat = |n: Option<usize>| n.and_then(|n| self.looks.get(n)).is_some_and(|l| l.flat);
        let was_flat = before.flat || flat(due.checked_sub(2));
        let is_flat = at.flat || flat(Some(due + 1));
        let flat = match (was_flat, is_flat) {
            (false, true) => Some(Direction::Less),
            (true, false) => Some(Direction::More),
            _ => None,
        };
        let enough = match flat {
            Some(_) => at.change >= FLAT_CODES,
            None => at.change >= CUT_CODES && at.width >= CUT_WIDTH,
        };
        enough.then_some(PictureEdge { at: at.at, flat })
    }
}

fn look(at: MediaTime, tiles: &Tiles) -> Look {
    let all = tiles.all();
    let count = all.len().max(1) as f32;
    let (mut total, mut wide, mut codes) = (0.0, 0u32, [0u32; 256]);
    for tile in all {
        let change = tile.change.unwrap_or(0.0);
        total += change;
        wide += u32::from(change >= TILE_CODES);
        if tile.max.saturating_sub(tile.min) <= CALM_CODES
            && let Some(code) = codes.get_mut(tile.mean as usize)
        {
            *code += 1;
        }
    }
    let alike = codes.windows(ALIKE_CODES).map(|w| w.iter().sum::<u32>());
    let alike = alike.max().unwrap_or(0) as f32;
    Look {
        at,
        change: total / count,
        width: wide as f32 / count,
        flat: alike >= FLAT_SHARE * count,
    }
}

//! What the net is shown of a suspicious place: before, at and after the moment, and what no motion explains.

use super::gate::{PATCH, Spot};
use crate::kernel::half::HalfLuma;
use crate::kernel::tiles::TILE;

/// Samples of one plane of a patch.
pub const PLANE: usize = PATCH * PATCH;
/// Numbers that tell of the picture around.
pub const CONTEXT: usize = 8;
/// How far a block is looked for, half-resolution samples.
const REACH: isize = 12;

/// A place of a picture, cut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The picture before the moment.
    pub before: Vec<u8>,
    /// The picture of the moment.
    pub born: Vec<u8>,
    /// What of it is nowhere near in the picture before: absolute difference to the best block.
    pub unexplained: Vec<u8>,
    /// A few pictures later.
    pub later: Vec<u8>,
}

impl Patch {
    /// Cuts a place out of the picture of the moment and the one before; `later` is empty until
    /// [`Patch::add_later`].
    pub fn cut(spot: &Spot, before: &HalfLuma, born: &HalfLuma) -> Self {
        Self {
            before: cut(spot, before),
            born: cut(spot, born),
            unexplained: unexplained(spot, before, born),
            later: Vec::new(),
        }
    }

    /// Adds the picture a little later.
    pub fn add_later(&mut self, spot: &Spot, later: &HalfLuma) {
        self.later = cut(spot, later);
    }
}

fn cut(spot: &Spot, from: &HalfLuma) -> Vec<u8> {
    let mut plane = Vec::with_capacity(PLANE);
    for y in spot.top..spot.top + PATCH {
        plane.extend_from_slice(from.row(y).get(spot.left..spot.left + PATCH).unwrap_or(&[]));
    }
    plane.resize(PLANE, 0);
    plane
}

type Block = [[u8; TILE]; TILE];

fn block(from: &HalfLuma, left: usize, top: usize) -> Option<Block> {
    let mut block = [[0; TILE]; TILE];
    for (y, row) in block.iter_mut().enumerate() {
        *row = *from.row(top + y).get(left..)?.first_chunk()?;
    }
    Some(block)
}

fn distance(a: &Block, from: &HalfLuma, left: usize, top: usize) -> Option<u16> {
    let mut sum = 0u16;
    for (y, row) in a.iter().enumerate() {
        let other: &[u8; TILE] = from.row(top + y).get(left..)?.first_chunk()?;
        for (a, b) in row.iter().zip(other) {
            sum = sum.wrapping_add(u16::from(a.abs_diff(*b)));
        }
    }
    Some(sum)
}

/// Block by block, the difference to where the previous picture fits best: every other sample within reach, then
/// the eight around the best.
fn unexplained(spot: &Spot, before: &HalfLuma, born: &HalfLuma) -> Vec<u8> {
    let mut plane = vec![0; PLANE];
    for top in (0..PATCH).step_by(TILE) {
        for left in (0..PATCH).step_by(TILE) {
            let (x, y) = (spot.left + left, spot.top + top);
            let Some(own) = block(born, x, y) else {
                continue;
            };
            let mut best = (u16::MAX, x, y);
            let mut try_at = |dx: isize, dy: isize, from: (usize, usize)| {
                let (Some(x), Some(y)) =
                    (from.0.checked_add_signed(dx), from.1.checked_add_signed(dy))
                else {
                    return;
                };
                if let Some(d) = distance(&own, before, x, y).filter(|d| *d < best.0) {
                    best = (d, x, y);
                }
            };
            try_at(0, 0, (x, y));
            for dy in (-REACH..=REACH).step_by(2) {
                for dx in (-REACH..=REACH).step_by(2) {
                    try_at(dx, dy, (x, y));
                }
            }
            let (_, bx, by) = best;
            let mut try_near = |dx: isize, dy: isize| {
                let (Some(x), Some(y)) = (bx.checked_add_signed(dx), by.checked_add_signed(dy))
                else {
                    return;
                };
                if let Some(d) = distance(&own, before, x, y).filter(|d| *d < best.0) {
                    best = (d, x, y);
                }
            };
            for (dx, dy) in [
                (-1, -1),
                (0, -1),
                (1, -1),
                (-1, 0),
                (1, 0),
                (-1, 1),
                (0, 1),
                (1, 1),
            ] {
                try_near(dx, dy);
            }
            let Some(found) = block(before, best.1, best.2) else {
                continue;
            };
            for (dy, (own, found)) in own.iter().zip(&found).enumerate() {
                let at = (top + dy) * PATCH + left;
                if let Some(out) = plane.get_mut(at..at + TILE) {
                    for ((out, a), b) in out.iter_mut().zip(own).zip(found) {
                        *out = a.abs_diff(*b);
                    }
                }
            }
        }
    }
    plane
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::testkit::Frame;

    #[test]
    fn motion_is_explained_and_what_is_new_is_not() {
        let half = |frame: &Frame| HalfLuma::of(&frame.plane().unwrap());
        let before = half(&Frame::scene(320, 320, 0.0, 0.0));
        let mut frame = Frame::scene(320, 320, 12.0, -8.0);
        frame.fill(128, 128, 32, 32, 230);
        let born = half(&frame);
        let spot = Spot {
            left: 48,
            top: 48,
            filled: 1.0,
            change: 0.0,
            usual: 0.0,
        };
        let mut patch = Patch::cut(&spot, &before, &born);
        patch.add_later(&spot, &before);
        assert_eq!(patch.before, patch.later);
        assert_eq!(patch.born[0], born.row(48)[48]);
        for (i, &v) in patch.unexplained.iter().enumerate() {
            let (x, y) = (48 + i % PATCH, 48 + i / PATCH);
            let new = (64..80).contains(&x) && (64..80).contains(&y);
            match new {
                true => assert!(v > 20, "{x} {y}: {v}"),
                false => assert_eq!(v, 0, "{x} {y}"),
            }
        }
    }
}

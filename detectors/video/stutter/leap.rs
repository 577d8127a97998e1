//! Whether motion leapt: whether what moved by one step before and after moved by several steps in between.

use crate::kernel::half::HalfLuma;

/// Wider planes are halved: a step of two pixels in 1080p is half a sample then, which can still be measured.
const WIDEST: usize = 512;
/// Edge of a block in samples.
const BLOCK: usize = 16;
/// Blocks looked at: columns and rows of a lattice.
const LATTICE: (usize, usize) = (10, 7);
/// Longest ordinary step, and longest leap, in samples.
const STEP: i32 = 10;
const LEAP: f32 = 40.0;
/// A block of less contrast (mean step between neighbours, codes) is found anywhere.
const TEXTURE: f32 = 1.5;
/// A block that is found again differs by no more (mean, codes).
const FOUND: f32 = 7.0;
/// Shorter steps are too short to be measured (samples).
const SHORTEST: f32 = 0.3;
/// Blocks that must tell the same, at least and of those that move.
const LEAST: usize = 8;
const AGREE: f64 = 0.35;

/// What is kept of a picture.
pub(super) fn small(half: &HalfLuma) -> HalfLuma {
    let mut small = match half.width() > WIDEST {
        true => half.halved(),
        false => return half.clone(),
    };
    while small.width() > WIDEST {
        small = small.halved();
    }
    small
}

/// By how many ordinary steps the picture moved between the second and the third of four neighbours, when
/// that is one motion that goes on before and after, and the same for most of what moves.
pub(super) fn leap(four: [&HalfLuma; 4]) -> Option<f32> {
    let [a, b, c, d] = four;
    let same = |p: &&HalfLuma| p.width() == a.width() && p.height() == a.height();
    let room = a.width() > 4 * BLOCK && a.height() > 3 * BLOCK;
    if !room || ![b, c, d].iter().all(same) {
        return None;
    }
    let mut leaps = Vec::new();
    let mut moving = 0;
    for row in 0..LATTICE.1 {
        for column in 0..LATTICE.0 {
            let x = (column + 1) * (a.width() - BLOCK) / (LATTICE.0 + 1);
            let y = (row + 1) * (a.height() - BLOCK) / (LATTICE.1 + 1);
            if texture(b, x, y) < TEXTURE || texture(c, x, y) < TEXTURE {
                continue;
            }
            // Where the block of `b` came from, turned round; where the block of `c` goes.
            let (Some(before), Some(after)) = (step(b, a, x, y), step(c, d, x, y)) else {
                continue;
            };
            let (before, after) = ((-before.0, -before.1), after);
            let (ux, uy) = ((before.0 + after.0) / 2.0, (before.1 + after.1) / 2.0);
            let size = ux.hypot(uy);
            if size < SHORTEST {
                continue;
            }
            moving += 1;
            let apart = (before.0 - after.0).hypot(before.1 - after.1);
            if apart <= 0.5 * size + 0.5
                && let Some(steps) = along(b, c, x, y, (ux, uy))
            {
                leaps.push(steps);
            }
        }
    }
    leaps.sort_by(f32::total_cmp);
    let usual = *leaps.get(leaps.len() / 2)?;
    let agree = leaps
        .iter()
        .filter(|l| (*l - usual).abs() <= 1.0 + 0.4 * usual)
        .count();
    (agree >= LEAST && agree as f64 >= AGREE * f64::from(moving)).then_some(usual)
}

/// Mean step between neighbours of a block, in the direction in which it is smaller.
fn texture(plane: &HalfLuma, x: usize, y: usize) -> f32 {
    let (mut across, mut down) = (0u32, 0u32);
    for row in y..y + BLOCK - 1 {
        let here = plane.row(row).get(x..x + BLOCK).unwrap_or(&[]);
        let below = plane.row(row + 1).get(x..x + BLOCK).unwrap_or(&[]);
        across += here
            .windows(2)
            .map(|w| u32::from(w[0].abs_diff(w[1])))
            .sum::<u32>();
        down += difference(here, below);
    }
    across.min(down) as f32 / ((BLOCK - 1) * BLOCK) as f32
}

fn difference(a: &[u8], b: &[u8]) -> u32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum()
}

/// Mean difference of the block at (`x`, `y`) in `from` to the one `by` further in `to`; `None` outside.
fn apart(from: &HalfLuma, to: &HalfLuma, x: usize, y: usize, by: (i32, i32)) -> Option<f32> {
    let left = x.checked_add_signed(by.0 as isize)?;
    let top = y.checked_add_signed(by.1 as isize)?;
    if left + BLOCK > to.width() || top + BLOCK > to.height() {
        return None;
    }
    let sum: u32 = (0..BLOCK)
        .map(|row| {
            let a = from.row(y + row).get(x..x + BLOCK).unwrap_or(&[]);
            let b = to.row(top + row).get(left..left + BLOCK).unwrap_or(&[]);
            difference(a, b)
        })
        .sum();
    Some(sum as f32 / (BLOCK * BLOCK) as f32)
}

/// Where the block went, to a fraction of a sample; `None` when it is not found.
fn step(from: &HalfLuma, to: &HalfLuma, x: usize, y: usize) -> Option<(f32, f32)> {
    let mut best = ((0, 0), apart(from, to, x, y, (0, 0))?);
    for dy in -STEP..=STEP {
        for dx in -STEP..=STEP {
            if let Some(codes) = apart(from, to, x, y, (dx, dy))
                && codes < best.1
            {
                best = ((dx, dy), codes);
            }
        }
    }
    let ((dx, dy), codes) = best;
    if codes > FOUND {
        return None;
    }
    // The dip between a sample and its neighbours, taken for a wedge: absolute differences grow evenly.
    let fraction = |less: Option<f32>, more: Option<f32>| match (less, more) {
        (Some(less), Some(more)) => {
            let steep = less.max(more) - codes;
            match steep > 0.0 {
                true => 0.5 * (less - more) / steep,
                false => 0.0,
            }
        }
        _ => 0.0,
    };
    let at = |dx, dy| apart(from, to, x, y, (dx, dy));
    Some((
        dx as f32 + fraction(at(dx - 1, dy), at(dx + 1, dy)),
        dy as f32 + fraction(at(dx, dy - 1), at(dx, dy + 1)),
    ))
}

/// By how many times `unit` the block went, when it is found on that line.
fn along(from: &HalfLuma, to: &HalfLuma, x: usize, y: usize, unit: (f32, f32)) -> Option<f32> {
    let size = unit.0.hypot(unit.1);
    let mut best: Option<(f32, f32)> = None;
    // A sample further each time, and more and more beside: what comes nearer or turns leaves the line.
    for length in 0..=LEAP as i32 {
        let (dx, dy) = (unit.0 / size * length as f32, unit.1 / size * length as f32);
        let beside = 1 + length / 8;
        let edge = 2 * beside + 1;
        for place in 0..edge * edge {
            let (sx, sy) = (place % edge - beside, place / edge - beside);
            let by = (dx.round() as i32 + sx, dy.round() as i32 + sy);
            let Some(codes) = apart(from, to, x, y, by) else {
                continue;
            };
            let steps = (by.0 as f32 * unit.0 + by.1 as f32 * unit.1) / (size * size);
            if best.is_none_or(|b| codes < b.1) {
                best = Some((steps, codes));
            }
        }
    }
    let ordinary = apart(
        from,
        to,
        x,
        y,
        (unit.0.round() as i32, unit.1.round() as i32),
    )?;
    best.filter(|b| b.1 <= FOUND.max(texture(from, x, y)) && (b.1 <= 0.75 * ordinary || b.0 < 2.0))
        .map(|b| b.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::plane::{Plane, Samples};
    use crate::testkit::{Frame, Noise};

    fn seen(frame: &Frame) -> HalfLuma {
        let plane = Plane::new(
            Samples::U8(&frame.samples),
            frame.width,
            frame.height,
            frame.width,
        );
        small(&HalfLuma::of(&plane.unwrap()))
    }

    fn steps(at: [f64; 4]) -> Option<f32> {
        let four = at.map(|dx| seen(&Frame::scene(640, 384, dx, 0.4 * dx)));
        leap([&four[0], &four[1], &four[2], &four[3]])
    }

    #[test]
    fn a_leap_is_measured_in_steps() {
        assert!((steps([0.0, 3.0, 15.0, 18.0]).unwrap() - 4.0).abs() < 0.8);
        assert!((steps([0.0, 3.0, 6.0, 9.0]).unwrap() - 1.0).abs() < 0.5);
    }

    #[test]
    fn cuts_jolts_and_stills_are_no_leaps() {
        let scene = |dx: f64, seed: u64| {
            let frame = Frame::scene(640, 384, dx, 0.0);
            seen(&frame.grain(&mut Noise::new(seed), 2.0))
        };
        let other = |dx: f64| seen(&Frame::scene(640, 384, 3000.0 + 7.3 * dx, 900.0 + 5.0 * dx));
        let cut = [scene(0.0, 1), scene(3.0, 2), other(0.0), other(1.0)];
        assert_eq!(
            leap([&cut[0], &cut[1], &cut[2], &cut[3]]).filter(|l| *l > 2.0),
            None
        );
        // There and back again.
        assert_eq!(steps([0.0, 3.0, 15.0, 12.0]).filter(|l| *l > 2.0), None);
        assert_eq!(steps([0.0, 0.0, 12.0, 12.0]).filter(|l| *l > 2.0), None);
    }
}

//! Whether motion leapt: whether what moved by one step before and after moved by several steps in between.

use crate::kernel::half::HalfLuma;

/// Wider planes are halved: a step of two pixels in 1080p is half a sample then, which can still be measured.
const WIDEST: usize = 512;
/// Edge of a block in samples.
const BLOCK: usize = 8;
/// Most blocks looked at.
const MOST: usize = 160;
/// A block that moves changes by this (mean, codes).
const CHANGES: f32 = 1.5;
/// Longest ordinary step, and longest leap, in samples.
const STEP: i32 = 10;
const LEAP: f32 = 40.0;
/// And longest leap in ordinary steps.
const MOST_STEPS: f32 = 32.0;
/// Farthest jump in two samples, and the edge of the square of places.
const JUMP: i32 = 12;
const JUMP_EDGE: i32 = 2 * JUMP + 1;
/// Shortest jump in two samples, squared.
const JUMP_LEAST: i32 = 1;
/// A picture that is found again differs there by no more than this share of what it does unmoved.
const JUMP_RATIO: f32 = 0.4;
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
    for (x, y) in changing(a, b, c) {
        // Where the block came from, turned round.
        let Some(before) = step(b, a, x, y).map(|(dx, dy)| (-dx, -dy)) else {
            continue;
        };
        if before.0.hypot(before.1) < SHORTEST {
            continue;
        }
        moving += 1;
        let Some(((dx, dy), _)) = along(b, c, x, y, before) else {
            continue;
        };
        let (Some(x), Some(y)) = (
            x.checked_add_signed(dx as isize),
            y.checked_add_signed(dy as isize),
        ) else {
            continue;
        };
        let Some(after) = step(c, d, x, y) else {
            continue;
        };
        let (ux, uy) = ((before.0 + after.0) / 2.0, (before.1 + after.1) / 2.0);
        let size = ux.hypot(uy);
        let apart = (before.0 - after.0).hypot(before.1 - after.1);
        if size >= SHORTEST && apart <= 0.5 * size + 0.5 {
            leaps.push((dx as f32 * ux + dy as f32 * uy) / (size * size));
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

/// Whether the whole picture jumped: whether it is found again elsewhere, and there only.
pub(super) fn jumped(b: &HalfLuma, c: &HalfLuma) -> bool {
    let (coarse, into) = (b.halved(), c.halved());
    let Some(unmoved) = shifted(&coarse, &into, (0, 0)) else {
        return false;
    };
    let mut best = ((0, 0), unmoved);
    for place in 0..JUMP_EDGE * JUMP_EDGE {
        let by = (place % JUMP_EDGE - JUMP, place / JUMP_EDGE - JUMP);
        if let Some(codes) = shifted(&coarse, &into, by)
            && codes < best.1
        {
            best = (by, codes);
        }
    }
    let ((dx, dy), codes) = best;
    dx * dx + dy * dy >= JUMP_LEAST && codes <= JUMP_RATIO * unmoved
}

/// Mean difference of what two pictures share when one is shifted; `None` without a size.
fn shifted(from: &HalfLuma, to: &HalfLuma, by: (i32, i32)) -> Option<f32> {
    let span = |size: usize, by: i32| {
        let (less, more) = ((-by).max(0) as usize, by.max(0) as usize);
        (less, more, size.saturating_sub(less + more))
    };
    let (x, to_x, width) = span(from.width(), by.0);
    let (y, to_y, height) = span(from.height(), by.1);
    let mut sum = 0u64;
    for row in 0..height {
        let a = from.row(y + row).get(x..x + width)?;
        let b = to.row(to_y + row).get(to_x..to_x + width)?;
        sum += u64::from(difference(a, b));
    }
    let count = width * height;
    (count > 0).then(|| sum as f32 / count as f32)
}

/// Blocks of the second of three pictures that moved before and are elsewhere after; evenly chosen when they are many.
fn changing(a: &HalfLuma, b: &HalfLuma, c: &HalfLuma) -> Vec<(usize, usize)> {
    let columns = (b.width() - BLOCK) / BLOCK + 1;
    let rows = (b.height() - BLOCK) / BLOCK + 1;
    let mut found: Vec<(usize, usize)> = (0..columns * rows)
        .map(|n| (n % columns * BLOCK, n / columns * BLOCK))
        .filter(|&(x, y)| {
            texture(b, x, y) >= TEXTURE
                && apart(a, b, x, y, (0, 0)).is_some_and(|codes| codes >= CHANGES)
                && apart(b, c, x, y, (0, 0)).is_some_and(|codes| codes >= CHANGES)
        })
        .collect();
    let every = found.len().div_ceil(MOST).max(1);
    let mut n = 0;
    found.retain(|_| {
        n += 1;
        n % every == 0
    });
    found
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

/// Where the block went, and by how many times `unit`, when it is found on that line.
fn along(
    from: &HalfLuma,
    to: &HalfLuma,
    x: usize,
    y: usize,
    unit: (f32, f32),
) -> Option<((i32, i32), f32)> {
    let size = unit.0.hypot(unit.1);
    let mut best: Option<((i32, i32), f32, f32)> = None;
    let longest = LEAP.min(MOST_STEPS * size + 2.0) as i32;
    // A sample further each time, and more and more beside: what comes nearer or turns leaves the line.
    for length in 0..=longest {
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
            if best.is_none_or(|b| codes < b.2) {
                best = Some((by, steps, codes));
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
    best.filter(|b| b.2 <= FOUND.max(texture(from, x, y)) && (b.2 <= 0.75 * ordinary || b.1 < 2.0))
        .map(|b| (b.0, b.1))
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

    #[test]
    fn a_picture_that_jumped_is_found_elsewhere_and_a_cut_is_not() {
        let mut noise = Noise::new(3);
        let mut cut = Frame::flat(640, 384, 0);
        for n in 0..40 * 24 {
            cut.fill(n % 40 * 16, n / 40 * 16, 16, 16, noise.bits() as u8);
        }
        let here = seen(&Frame::scene(640, 384, 0.0, 0.0));
        assert!(jumped(&here, &seen(&Frame::scene(640, 384, 24.0, -16.0))));
        assert!(!jumped(&here, &here));
        assert!(!jumped(&here, &seen(&cut)));
    }
}

//! A 64-bit hash of what a picture shows, equal or nearly so however it was scaled and encoded.

use super::half::HalfLuma;

/// Edge of the picture that is transformed, in samples.
const EDGE: usize = 32;
/// Frequencies in each direction.
const WAVES: usize = 8;
/// A picture whose mean deviates by less than this (codes) shows nothing that a hash could stand for: noise and
/// rounding would decide its bits.
const FLAT_CODES: f64 = 5.0;

/// Bits by which two hashes differ, 0..=64.
pub fn distance(a: u64, b: u64) -> u32 {
    (a ^ b).count_ones()
}

/// Whether a hash can be one of a picture: by construction about half of its bits are set.
pub fn is_plausible(hash: u64) -> bool {
    (28..=36).contains(&hash.count_ones())
}

/// The hash: the picture is averaged to 32x32 samples whatever its size and shape, the lowest 8x8 cosine waves but the
/// constant one (and the next beyond, so that there are 64) are compared with their median, and each bit tells which are
/// above. Brightness and contrast cancel, noise and coding lie in higher waves, and a small logo or clock moves few
/// bits. `None` for nearly flat pictures (black, grey, fades). The method is the common "DCT pHash" (Zauner, 2010).
pub fn hash(half: &HalfLuma) -> Option<u64> {
    let samples = reduced(half);
    let count = (EDGE * EDGE) as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let spread = (samples.iter().map(|s| (s - mean) * (s - mean))).sum::<f64>() / count;
    if spread.sqrt() < FLAT_CODES {
        return None;
    }
    let waves = lowest_waves(&samples);
    let mut sorted = waves.clone();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted.get(31)? + sorted.get(32)?) / 2.0;
    Some(
        waves
            .iter()
            .fold(0, |hash, wave| hash << 1 | u64::from(*wave > median)),
    )
}

/// The picture as 32x32 means, with the parts of samples that fall on edges.
fn reduced(half: &HalfLuma) -> Vec<f64> {
    let (across, down) = (shares(half.width()), shares(half.height()));
    let mut out = vec![0.0; EDGE * EDGE];
    let mut row_means = [0.0; EDGE];
    for (y, (first, share)) in down.iter().enumerate() {
        let row = half.row(y);
        row_means.fill(0.0);
        for (v, (cell, part)) in row.iter().zip(&across) {
            let v = f64::from(*v);
            row_means[*cell] += part * v;
            if *part < 1.0 && *cell + 1 < EDGE {
                row_means[*cell + 1] += (1.0 - part) * v;
            }
        }
        for x in 0..EDGE {
            out[first * EDGE + x] += share * row_means[x];
            if *share < 1.0 && first + 1 < EDGE {
                out[(first + 1) * EDGE + x] += (1.0 - share) * row_means[x];
            }
        }
    }
    let area = half.width() as f64 * half.height() as f64 / (EDGE * EDGE) as f64;
    out.iter_mut().for_each(|v| *v /= area);
    out
}

/// For each of `count` samples: the first of the 32 cells that it falls into, and the share of it that does; the
/// rest falls into the next. Planes of fewer than 32 samples leave cells empty, which does not matter: a hash of so small
/// a picture compares with others of its size.
fn shares(count: usize) -> Vec<(usize, f64)> {
    let scale = EDGE as f64 / count.max(1) as f64;
    (0..count)
        .map(|i| {
            let (from, to) = (i as f64 * scale, (i + 1) as f64 * scale);
            let cell = (from as usize).min(EDGE - 1);
            let edge = (cell + 1) as f64;
            match to > edge {
                true => (cell, (edge - from) / (to - from)),
                false => (cell, 1.0),
            }
        })
        .collect()
}

/// 64 coefficients of the cosine transform (DCT-II), without the constant one.
fn lowest_waves(samples: &[f64]) -> Vec<f64> {
    // One wave more than eight, for the one that takes the constant's place.
    let mut table = [[0.0; EDGE]; WAVES + 1];
    for (k, wave) in table.iter_mut().enumerate() {
        for (x, value) in wave.iter_mut().enumerate() {
            let angle = std::f64::consts::PI * k as f64 * (x as f64 + 0.5) / EDGE as f64;
            *value = angle.cos();
        }
    }
    let across: Vec<Vec<f64>> = (table.iter())
        .map(|wave| {
            let of_row = |row: &[f64]| row.iter().zip(wave).map(|(s, w)| s * w).sum();
            samples.chunks(EDGE).map(of_row).collect()
        })
        .collect();
    let coefficient = |x: usize, y: usize| -> f64 {
        match (across.get(x), table.get(y)) {
            (Some(column), Some(wave)) => column.iter().zip(wave).map(|(s, w)| s * w).sum(),
            _ => 0.0,
        }
    };
    (0..WAVES * WAVES)
        .map(|i| match (i % WAVES, i / WAVES) {
            (0, 0) => coefficient(WAVES, 0),
            (x, y) => coefficient(x, y),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::plane::{Plane, Samples};
    use crate::testkit::{Frame, Noise};

    fn of(frame: &Frame) -> Option<u64> {
        let (w, h) = (frame.width, frame.height);
        hash(&HalfLuma::of(
            &Plane::new(Samples::U8(&frame.samples), w, h, w).unwrap(),
        ))
    }

    /// Boxes of many shapes: a slate, drawn at any size.
    fn slate(width: usize, height: usize, seed: u64) -> Frame {
        let mut noise = Noise::new(seed);
        let mut frame = Frame::flat(width, height, 40);
        for _ in 0..14 {
            let mut part = |of: usize| (noise.bits() % 1000) as usize * of / 1000;
            let (x, y, w, h) = (part(width), part(height), part(width / 2), part(height / 2));
            frame.fill(x, y, w, h, 30 + part(200) as u8);
        }
        frame
    }

    #[test]
    fn scaling_noise_levels_and_a_logo_move_few_bits() {
        for seed in 1..40 {
            let known = of(&slate(1280, 720, seed)).unwrap();
            assert!(is_plausible(known));
            let mut shown = slate(720, 576, seed).grain(&mut Noise::new(seed), 4.0);
            for v in &mut shown.samples {
                *v = 16 + (f64::from(*v) * 219.0 / 255.0) as u8;
            }
            shown.fill(630, 30, 50, 40, 220);
            let apart = distance(known, of(&shown).unwrap());
            assert!(apart <= 6, "slate {seed}: {apart}");
        }
    }

    #[test]
    fn other_pictures_are_far() {
        for seed in 1..40 {
            let known = of(&slate(640, 360, seed)).unwrap();
            for other in seed + 1..60 {
                let apart = distance(known, of(&slate(640, 360, other)).unwrap());
                assert!(apart > 10, "{seed} and {other}: {apart}");
            }
        }
    }

    #[test]
    fn flat_pictures_have_none() {
        assert_eq!(of(&Frame::flat(320, 180, 16)), None);
        assert_eq!(of(&Frame::flat(320, 180, 235)), None);
        assert_eq!(
            of(&Frame::flat(320, 180, 20).grain(&mut Noise::new(3), 6.0)),
            None
        );
        assert!(!is_plausible(0) && !is_plausible(u64::MAX));
        // Sizes down to a pixel do no harm.
        for (w, h) in [(1, 1), (2, 33), (33, 2), (64, 64)] {
            let _ = of(&Frame::scene(w, h, 0.0, 0.0));
        }
    }
}

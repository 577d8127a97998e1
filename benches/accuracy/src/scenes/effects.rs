//! Scenes that starve encoders and fool difference detectors: confetti, waves, strobes, fades, cuts.

use super::{Painter, Stage};
use crate::motion::ease;
use crate::paint::{BLACK, Colour, blend, expose, rect};
use crate::raw::Raw;
use crate::world::{Camera, Family};

/// Hundreds of small things that fall and turn before a moving camera.
pub(super) fn confetti(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.3, 2.0));
    let camera = stage.hand(5.0);
    let (w, h, unit) = (stage.width as f64, stage.height as f64, stage.unit);
    let snow = stage.family == Family::Cells;
    let bits: Vec<(f64, f64, f64, f64, f64, Colour)> = (0..stage.chance.below(500) + 200)
        .map(|_| {
            let c = &mut stage.chance;
            let tint = |c: &mut crate::chance::Chance| c.between(70.0, 186.0) as u8;
            let ink = if snow {
                (225, 128, 128)
            } else {
                (c.between(60.0, 230.0) as u8, tint(c), tint(c))
            };
            (
                c.unit() * w,
                c.unit() * h,
                unit * c.between(1.5, 5.0),
                unit * c.between(40.0, 160.0),
                c.between(0.5, 5.0),
                ink,
            )
        })
        .collect();
    let (width, height) = (stage.width, stage.height);
    Box::new(move |t| {
        let mut raw = world.look(camera(t), width, height);
        for (n, (x, y, size, fall, turn, ink)) in bits.iter().enumerate() {
            let phase = t * turn * 2.0 + n as f64;
            let x = (x + size * 3.0 * phase.sin()).rem_euclid(w);
            let y = (y + fall * t).rem_euclid(h + 10.0) - 5.0;
            rect(
                &mut raw,
                x,
                y,
                size * (0.2 + phase.cos().abs()),
                *size,
                *ink,
            );
        }
        noise.add(&mut raw);
        raw
    })
}

/// Waves, each of one direction and speed, on a shaded ground.
pub(super) fn water(stage: &mut Stage) -> Painter {
    let mut noise = stage.noise(0.3, 1.8);
    let (width, height) = (stage.width, stage.height);
    let waves: Vec<(f64, f64, f64, f64)> = (0..7)
        .map(|n| {
            let c = &mut stage.chance;
            let turn = c.between(-0.9, 0.9)
                + if stage.family == Family::Cells {
                    1.2
                } else {
                    0.0
                };
            let pitch = stage.unit * c.between(9.0, 60.0) / (1.0 + 0.2 * f64::from(n));
            let k = std::f64::consts::TAU / pitch;
            (
                k * turn.sin(),
                k * turn.cos(),
                c.between(1.5, 6.0),
                c.between(6.0, 17.0),
            )
        })
        .collect();
    let base = stage.chance.between(70.0, 130.0);
    // A wave of the sum of two directions is a product of sines by rows and columns: quick enough for every pixel.
    Box::new(move |t| {
        let mut raw = Raw::flat(width, height, (base as u8, 140, 116));
        let mut field = vec![base as f32; width * height];
        for (kx, ky, speed, gain) in &waves {
            let columns: Vec<(f32, f32)> = (0..width)
                .map(|x| {
                    let (s, c) = (x as f64 * kx - speed * t).sin_cos();
                    (s as f32, c as f32)
                })
                .collect();
            for (y, row) in field.chunks_mut(width).enumerate() {
                let (s, c) = (y as f64 * ky).sin_cos();
                let near = (0.4 + 0.6 * y as f64 / height as f64) * gain;
                let (s, c) = ((s * near) as f32, (c * near) as f32);
                for (v, (cs, cc)) in row.iter_mut().zip(&columns) {
                    *v += cs * c + cc * s;
                }
            }
        }
        for (to, v) in raw.y.iter_mut().zip(&field) {
            // Crests glint.
            let glint = if *v > 150.0 { (*v - 150.0) * 1.5 } else { 0.0 };
            *to = (v + glint).clamp(16.0, 235.0) as u8;
        }
        noise.add(&mut raw);
        raw
    })
}

/// A dance floor: the light flashes a few times a second, dark in between.
pub(super) fn strobe(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.4, 2.0));
    let reach = stage.chance.between(4.0, 12.0);
    let camera = stage.hand(reach);
    let (hz, lit) = (
        stage.chance.between(2.0, 9.0),
        stage.chance.between(0.15, 0.5),
    );
    let (dark, bright) = (
        stage.chance.between(0.06, 0.4),
        stage.chance.between(1.1, 1.7),
    );
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let mut raw = world.look(camera(t), w, h);
        let on = (t * hz).fract() < lit;
        expose(&mut raw, if on { bright } else { dark });
        noise.add(&mut raw);
        raw
    })
}

/// Shots that fade through black for less than a second and a half, or dissolve into one another.
pub(super) fn fades(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.2, 1.6));
    let cameras: Vec<_> = (0..4)
        .map(|_| {
            let speed = stage.chance.between(0.04, 0.25);
            stage.wander(speed)
        })
        .collect();
    let shot_secs = stage.chance.between(5.0, 12.0);
    let (fade, rest) = (
        stage.chance.between(0.3, 1.5),
        stage.chance.between(0.0, 1.2),
    );
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let shot = (t / shot_secs).floor();
        let within = t - shot * shot_secs;
        let shot = shot as usize;
        let look = |n: usize| {
            cameras
                .get(n % cameras.len().max(1))
                .map_or_else(|| Raw::flat(w, h, BLACK), |c| world.look(c(t), w, h))
        };
        let left = shot_secs - within;
        let mut raw = look(shot);
        noise.add(&mut raw);
        let black = Raw::flat(w, h, BLACK);
        if shot.is_multiple_of(2) {
            // Out to black, a rest, and in again.
            if left < fade + rest {
                raw = blend(&raw, &black, ease(((fade + rest - left) / fade).min(1.0)));
            }
            raw
        } else if within < fade {
            blend(&black, &raw, ease(within / fade))
        } else if left < fade {
            let mut next = look(shot + 1);
            noise.add(&mut next);
            blend(&raw, &next, ease((fade - left) / fade))
        } else {
            raw
        }
    })
}

/// A cut every second or so to a few seconds, some of them to shots that hardly move.
pub(super) fn cuts(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.5, 2.0));
    let seed = stage.wobble();
    let hand = stage.hand(4.0);
    let pace = stage.chance.between(0.3, 1.4);
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let n = (t * pace + 0.6 * seed.at(t * pace * 0.5)).floor();
        let at = hand(t);
        let mut raw = world.look(
            Camera {
                x: at.x + 977.0 * n,
                y: at.y + 613.0 * n,
                scale: 0.7 + 0.5 * (n * 0.37).sin().abs(),
            },
            w,
            h,
        );
        noise.add(&mut raw);
        raw
    })
}

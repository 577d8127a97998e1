//! Scenes that a camera makes: panning, held, fixed, zooming, in bad light.

use super::{Painter, Stage};
use crate::grain::Grain;
use crate::paint::{ball, expose};
use crate::world::Camera;

/// A camera that pans.
pub(super) fn pan(stage: &mut Stage) -> Painter {
    let speed = stage.chance.between(0.05, 0.5);
    let (world, camera, mut noise) = (stage.world(), stage.wander(speed), stage.noise(0.0, 2.0));
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let mut raw = world.look(camera(t), w, h);
        noise.add(&mut raw);
        raw
    })
}

/// A camera held by hand.
pub(super) fn handheld(stage: &mut Stage) -> Painter {
    let reach = stage.chance.between(2.0, 14.0);
    let (world, camera, mut noise) = (stage.world(), stage.hand(reach), stage.noise(0.3, 2.5));
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let mut raw = world.look(camera(t), w, h);
        noise.add(&mut raw);
        raw
    })
}

/// Nothing moves but the noise.
pub(super) fn static_shot(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(1.0, 3.5));
    let (w, h) = (stage.width, stage.height);
    let still = world.look(Camera::at(40.0, 30.0), w, h);
    Box::new(move |_| {
        let mut raw = still.clone();
        noise.add(&mut raw);
        raw
    })
}

/// A street at night: lamps, headlights, a noisy camera.
pub(super) fn dark(stage: &mut Stage) -> Painter {
    let top = stage.chance.between(34.0, 70.0);
    let world = stage.world().graded(16.0, top);
    let reach = stage.chance.between(1.0, 5.0);
    let (camera, mut noise) = (stage.hand(reach), stage.noise(0.8, 3.0));
    let lamps: Vec<(f64, f64, f64, f64)> = (0..stage.chance.below(7) + 3)
        .map(|_| {
            (
                stage.chance.unit() * stage.width as f64,
                stage.chance.unit() * stage.height as f64 * 0.7,
                stage.unit * stage.chance.between(1.5, 6.0),
                // Lamps stand; headlights drive.
                if stage.chance.hit(0.4) {
                    stage.chance.between(-90.0, 90.0) * stage.unit
                } else {
                    0.0
                },
            )
        })
        .collect();
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let at = camera(t);
        let mut raw = world.look(at, w, h);
        for (n, (x, y, r, speed)) in lamps.iter().enumerate() {
            let x = (x + speed * t).rem_euclid(w as f64 + 20.0) - 10.0;
            let luma = 150 + (n * 17 % 80) as u8;
            ball(&mut raw, x, *y, *r, *r, (luma, 112, 138));
        }
        noise.add(&mut raw);
        raw
    })
}

/// Hardly above black: a figure moves through a room without light.
pub(super) fn near_black(stage: &mut Stage) -> Painter {
    let top = stage.chance.between(24.0, 33.0);
    let world = stage.world().graded(16.0, top);
    let (camera, mut noise) = (stage.hand(6.0), stage.noise(0.5, 1.8));
    let (walk, nod) = (stage.wobble(), stage.wobble());
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let mut raw = world.look(camera(t), w, h);
        let x = w as f64 * (0.5 + 0.4 * walk.rough(t * 0.4));
        let y = h as f64 * (0.5 + 0.1 * nod.rough(t));
        let luma = (top + 6.0) as u8;
        ball(
            &mut raw,
            x,
            y,
            h as f64 * 0.12,
            h as f64 * 0.3,
            (luma, 126, 130),
        );
        noise.add(&mut raw);
        raw
    })
}

/// A zoom of a per cent or two a second, nothing else.
pub(super) fn slow_zoom(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.2, 1.5));
    let (w, h) = (stage.width as f64, stage.height as f64);
    let pace = stage.chance.between(0.008, 0.03);
    let sign = if stage.chance.hit(0.5) { 1.0 } else { -1.0 };
    let at = (stage.chance.unit() * w, stage.chance.unit() * h);
    let (width, height) = (stage.width, stage.height);
    Box::new(move |t| {
        // In for some seconds, then a cut back.
        let run = t.rem_euclid(12.0);
        let scale = 1.0 - sign * pace * (run - 6.0);
        let camera = Camera {
            x: at.0 - scale * w / 2.0,
            y: at.1 - scale * h / 2.0,
            scale,
        };
        let mut raw = world.look(camera, width, height);
        noise.add(&mut raw);
        raw
    })
}

/// Light that goes slowly and comes back: dusk, clouds, a dimmer.
pub(super) fn dusk(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.4, 1.5));
    let (w, h) = (stage.width, stage.height);
    let still = world.look(Camera::at(40.0, 30.0), w, h);
    let (period, depth) = (
        stage.chance.between(14.0, 40.0),
        stage.chance.between(0.25, 0.6),
    );
    Box::new(move |t| {
        let mut raw = still.clone();
        let phase = (t / period * std::f64::consts::TAU).cos();
        expose(&mut raw, 1.0 - depth * (0.5 - 0.5 * phase));
        noise.add(&mut raw);
        raw
    })
}

/// Film: heavy grain, 24 pictures a second; at other rates pictures are shown again, grain and all.
pub(super) fn film(stage: &mut Stage) -> Painter {
    let world = stage.world();
    let (reach, sigma) = (
        stage.chance.between(3.0, 12.0),
        stage.chance.between(2.5, 6.0),
    );
    let camera = stage.hand(reach);
    let mut grain = Grain::film(stage.chance.bits(), sigma);
    let (w, h) = (stage.width, stage.height);
    let mut held: Option<(i64, crate::raw::Raw)> = None;
    Box::new(move |t| {
        let n = (t * 24.0 + 1e-6).floor() as i64;
        match &held {
            Some((of, raw)) if *of == n => raw.clone(),
            _ => {
                let mut raw = world.look(camera(n as f64 / 24.0), w, h);
                grain.add(&mut raw);
                held = Some((n, raw.clone()));
                raw
            }
        }
    })
}

//! Scenes with people: walking, talking, playing, drawn.

use super::{Painter, Stage};
use crate::chance::Chance;
use crate::motion::{Wobble, bounce, ease};
use crate::paint::{Colour, ball, limb, rect};
use crate::raw::Raw;
use crate::world::{Camera, Family};

/// Somebody who walks.
struct Walker {
    family: Family,
    height: f64,
    ground: f64,
    start: f64,
    speed: f64,
    stride_hz: f64,
    coat: Colour,
    skin: Colour,
    sway: Wobble,
}

impl Walker {
    fn new(stage: &mut Stage, low: f64, high: f64) -> Self {
        let height = stage.height as f64 * stage.chance.between(low, high);
        let c = &mut stage.chance;
        let colour = |c: &mut Chance| {
            (
                c.between(30.0, 210.0) as u8,
                c.between(90.0, 166.0) as u8,
                c.between(90.0, 166.0) as u8,
            )
        };
        let coat = colour(c);
        let side = if c.hit(0.5) { 1.0 } else { -1.0 };
        Self {
            family: stage.family,
            height,
            ground: stage.height as f64 * c.between(0.6, 1.0),
            start: c.unit() * stage.width as f64,
            speed: side * height * c.between(0.3, 0.8),
            stride_hz: c.between(0.7, 1.2),
            coat,
            skin: (c.between(90.0, 180.0) as u8, 112, 148),
            sway: Wobble::new(c.bits()),
        }
    }

    /// At a place: feet on the ground, limbs by the step.
    fn draw(&self, raw: &mut Raw, x: f64, step: f64) {
        let (h, y) = (self.height, self.ground);
        let swing = (step * std::f64::consts::TAU).sin();
        let rise = h * 0.02 * (step * 2.0 * std::f64::consts::TAU).cos();
        let (hip, neck) = (y - 0.48 * h + rise, y - 0.82 * h + rise);
        match self.family {
            Family::Noise => {
                let dark = (self.coat.0 / 2 + 12, self.coat.1, self.coat.2);
                for side in [1.0, -1.0] {
                    limb(
                        raw,
                        (x, hip),
                        (x + side * swing * 0.2 * h, y),
                        0.05 * h,
                        dark,
                    );
                    let hand = (x - side * swing * 0.16 * h, neck + 0.34 * h);
                    limb(raw, (x, neck + 0.04 * h), hand, 0.035 * h, self.coat);
                    ball(raw, hand.0, hand.1, 0.03 * h, 0.03 * h, self.skin);
                }
                limb(raw, (x, hip), (x, neck), 0.1 * h, self.coat);
                ball(raw, x, neck - 0.1 * h, 0.07 * h, 0.09 * h, self.skin);
            }
            Family::Cells => {
                // Blocks that lean with the step.
                let lean = swing * 0.05 * h;
                for side in [1.0, -1.0] {
                    let foot = x + side * (0.06 * h + swing * 0.1 * h);
                    rect(raw, foot - 0.04 * h, hip, 0.08 * h, y - hip, (40, 130, 126));
                    let arm = x + side * 0.15 * h - lean;
                    rect(raw, arm - 0.03 * h, neck, 0.06 * h, 0.3 * h, self.coat);
                }
                rect(
                    raw,
                    x - 0.13 * h + lean,
                    neck,
                    0.26 * h,
                    hip - neck,
                    self.coat,
                );
                rect(
                    raw,
                    x - 0.06 * h + lean,
                    neck - 0.16 * h,
                    0.12 * h,
                    0.15 * h,
                    self.skin,
                );
            }
        }
    }

    fn walk(&self, raw: &mut Raw, t: f64, width: f64) {
        let margin = self.height * 0.4;
        let x = (self.start + self.speed * (t + 0.5 * self.sway.at(t * 0.5)))
            .rem_euclid(width + 2.0 * margin)
            - margin;
        self.draw(raw, x, t * self.stride_hz);
    }
}

/// People who walk before a fixed camera.
pub(super) fn people(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.3, 2.0));
    let walkers: Vec<Walker> = (0..stage.chance.below(8) + 3)
        .map(|_| Walker::new(stage, 0.2, 0.6))
        .collect();
    let (w, h) = (stage.width, stage.height);
    let still = world.look(Camera::at(0.0, 0.0), w, h);
    Box::new(move |t| {
        let mut raw = still.clone();
        for walker in &walkers {
            walker.walk(&mut raw, t, w as f64);
        }
        noise.add(&mut raw);
        raw
    })
}

/// A head that talks: the mouth moves with the syllables and rests for less than a second, the head sways by a pixel
/// or two, the eyes blink.
pub(super) fn talking_head(stage: &mut Stage) -> Painter {
    let blur = (6.0 * stage.unit).max(1.0) as usize;
    let world = stage.world().blurred(blur);
    let mut noise = stage.noise(0.3, 1.3);
    let (w, h) = (stage.width as f64, stage.height as f64);
    let still = world.look(Camera::at(20.0, 20.0), stage.width, stage.height);
    let size = h * stage.chance.between(0.16, 0.28);
    let skin = (stage.chance.between(100.0, 185.0) as u8, 110, 150);
    let coat = (stage.chance.between(30.0, 110.0) as u8, 132, 124);
    let place = w * stage.chance.between(0.35, 0.65);
    let sway = stage.chance.between(0.8, 3.0) * stage.unit;
    let (dx, dy, speech, brow) = (
        stage.wobble(),
        stage.wobble(),
        stage.wobble(),
        stage.wobble(),
    );
    let syllables_hz = stage.chance.between(3.0, 5.5);
    let hair = (stage.chance.between(20.0, 70.0) as u8, 124, 134);
    let block = stage.family == Family::Cells;
    Box::new(move |t| {
        let mut raw = still.clone();
        let x = place + sway * dx.rough(t * 0.8);
        let y = h * 0.42 + sway * 0.6 * dy.rough(t * 0.9);
        ball(&mut raw, x, h * 1.02, size * 2.0, size * 1.5, coat);
        limb(&mut raw, (x, y + size), (x, h * 0.8), size * 0.4, skin);
        if block {
            rect(
                &mut raw,
                x - size * 0.9,
                y - size * 1.4,
                size * 1.8,
                size * 1.2,
                hair,
            );
            rect(
                &mut raw,
                x - size * 0.8,
                y - size,
                size * 1.6,
                size * 2.1,
                skin,
            );
        } else {
            ball(&mut raw, x, y - size * 0.25, size * 0.95, size * 1.2, hair);
            ball(&mut raw, x, y, size * 0.8, size * 1.1, skin);
        }
        // Blinks: a sixth of a second every few seconds.
        let blink = (t + 0.7 * brow.at(t * 0.2)).rem_euclid(3.1) < 0.16;
        for side in [-1.0, 1.0] {
            let (ex, ey) = (x + side * size * 0.32, y - size * 0.2);
            let ry = if blink { 0.02 } else { 0.09 };
            ball(&mut raw, ex, ey, size * 0.14, size * ry, (215, 128, 128));
            if !blink {
                ball(&mut raw, ex, ey, size * 0.06, size * 0.06, (25, 128, 128));
            }
            let up = size * (0.38 + 0.03 * brow.at(t * 1.1));
            rect(
                &mut raw,
                ex - size * 0.17,
                y - up,
                size * 0.34,
                size * 0.06,
                hair,
            );
        }
        limb(
            &mut raw,
            (x, y),
            (x + size * 0.06, y + size * 0.25),
            size * 0.05,
            (95, 112, 146),
        );
        // Pauses for breath: a good half of a second every few seconds.
        let pause = t.rem_euclid(4.3) < 0.6;
        let open = if pause {
            0.02
        } else {
            0.03 + 0.16 * (0.5 + 0.5 * speech.rough(t * syllables_hz))
        };
        let wide = size * (0.3 + 0.05 * speech.at(t * 2.0));
        ball(
            &mut raw,
            x,
            y + size * 0.55,
            wide,
            size * open,
            (48, 122, 150),
        );
        noise.add(&mut raw);
        raw
    })
}

/// Two far players and a ball; the camera stands.
pub(super) fn tennis(stage: &mut Stage) -> Painter {
    let mut noise = stage.noise(0.3, 1.4);
    let (w, h) = (stage.width as f64, stage.height as f64);
    let ground = (stage.chance.between(70.0, 140.0) as u8, 118, 120);
    let crowd = stage.world().graded(40.0, 150.0);
    let mut court = crowd.look(Camera::at(5.0, 5.0), stage.width, stage.height);
    rect(&mut court, 0.0, h * 0.22, w, h * 0.78, ground);
    let line = (225, 128, 128);
    let pen = (0.9 * stage.unit).max(0.6);
    let corner = move |u: f64, v: f64| {
        (
            w * (0.5 + (u - 0.5) * (0.45 + 0.4 * v)),
            h * (0.3 + 0.62 * v),
        )
    };
    for (a, b) in [
        ((0.0, 0.0), (1.0, 0.0)),
        ((0.0, 1.0), (1.0, 1.0)),
        ((0.0, 0.0), (0.0, 1.0)),
        ((1.0, 0.0), (1.0, 1.0)),
        ((0.12, 0.0), (0.12, 1.0)),
        ((0.88, 0.0), (0.88, 1.0)),
        ((0.12, 0.27), (0.88, 0.27)),
        ((0.12, 0.7), (0.88, 0.7)),
        ((0.5, 0.27), (0.5, 0.7)),
    ] {
        limb(&mut court, corner(a.0, a.1), corner(b.0, b.1), pen, line);
    }
    limb(
        &mut court,
        corner(-0.05, 0.45),
        corner(1.05, 0.45),
        pen * 1.8,
        (45, 128, 128),
    );
    let mut players = [
        Walker::new(stage, 0.055, 0.09),
        Walker::new(stage, 0.09, 0.14),
    ];
    players[0].ground = h * 0.31;
    players[1].ground = h * 0.93;
    let (run, rally_secs) = (
        [stage.wobble(), stage.wobble()],
        stage.chance.between(0.9, 1.5),
    );
    let jitter = [stage.wobble(), stage.wobble()];
    Box::new(move |t| {
        let mut raw = court.clone();
        for (n, player) in players.iter().enumerate() {
            // Never quite at rest: on their toes between the strokes.
            let x = w * (0.5 + 0.22 * run[n].rough(t * 0.35)) + 2.0 * jitter[n].rough(t * 3.0);
            player.draw(&mut raw, x, t * 1.6 + n as f64 * 0.4);
        }
        let leg = t / rally_secs;
        let far = bounce(leg, 1.0);
        let aim = |k: f64| 0.5 + 0.32 * run[0].at(k * 1.7);
        let u =
            aim(leg.floor()) + (aim(leg.floor() + 1.0) - aim(leg.floor())) * (leg - leg.floor());
        let (bx, by) = corner(u, far);
        let lift = h * 0.09 * (1.0 - (2.0 * (leg - leg.floor()) - 1.0).powi(2));
        let r = (1.3 * h / 360.0 * (0.7 + 0.6 * far)).max(0.8);
        ball(&mut raw, bx, by - lift, r, r, (228, 90, 140));
        noise.add(&mut raw);
        raw
    })
}

/// Blinds, bricks or mesh, fixed, and somebody behind or before them.
pub(super) fn blinds(stage: &mut Stage) -> Painter {
    let mut noise = stage.noise(0.3, 1.6);
    let world = stage.world();
    let (w, h) = (stage.width, stage.height);
    let mut still = world.look(Camera::at(11.0, 7.0), w, h);
    let pitch = stage.chance.between(6.0, 22.0) * stage.unit;
    let kind = stage.chance.below(3);
    let (bright, shade) = (
        stage.chance.between(140.0, 225.0),
        stage.chance.between(30.0, 90.0),
    );
    for y in 0..h {
        for x in 0..w {
            let (row, column) = (y as f64 / pitch, x as f64 / pitch);
            let on = match kind {
                0 => row.fract() < 0.55,
                1 => {
                    row.fract() > 0.12 && (column / 2.0 + (row.floor() % 2.0) * 0.5).fract() > 0.06
                }
                _ => row.fract() > 0.2 && column.fract() > 0.2,
            };
            let under = f64::from(still.y[y * w + x]) - 128.0;
            still.y[y * w + x] = (if on { bright } else { shade } + under * 0.15) as u8;
        }
    }
    let walkers = [Walker::new(stage, 0.35, 0.7), Walker::new(stage, 0.2, 0.5)];
    Box::new(move |t| {
        let mut raw = still.clone();
        for walker in &walkers {
            walker.walk(&mut raw, t, w as f64);
        }
        noise.add(&mut raw);
        raw
    })
}

/// Drawn: a fixed background without noise, characters on twos (12 drawings a second), holds of up to 0.8 s.
pub(super) fn animation(stage: &mut Stage) -> Painter {
    let (w, h) = (stage.width, stage.height);
    let ground = (stage.chance.between(90.0, 200.0) as u8, 140, 110);
    let sky = (stage.chance.between(120.0, 220.0) as u8, 150, 110);
    let mut still = Raw::flat(w, h, sky);
    rect(
        &mut still,
        0.0,
        h as f64 * 0.7,
        w as f64,
        h as f64 * 0.3,
        ground,
    );
    for _ in 0..14 {
        let c = &mut stage.chance;
        let colour = (
            c.between(40.0, 220.0) as u8,
            c.between(90.0, 165.0) as u8,
            c.between(90.0, 165.0) as u8,
        );
        let (x, y) = (c.unit() * w as f64, h as f64 * c.between(0.2, 0.8));
        let (rx, ry) = (
            stage.unit * c.between(8.0, 50.0),
            stage.unit * c.between(8.0, 50.0),
        );
        if stage.family == Family::Noise {
            ball(&mut still, x, y, rx, ry, colour);
        } else {
            rect(&mut still, x, y, rx, ry, colour);
        }
    }
    let walkers: Vec<Walker> = (0..2).map(|_| Walker::new(stage, 0.3, 0.55)).collect();
    let holds = stage.wobble();
    Box::new(move |t| {
        let drawing = (t * 12.0 + 1e-6).floor() / 12.0;
        // Every two seconds the characters stop for up to 0.8 s; then they catch up.
        let scene = (drawing / 2.0).floor();
        let hold = 0.4 + 0.4 * holds.at(scene * 1.3);
        let within = drawing - scene * 2.0;
        let moving = if within < hold {
            0.0
        } else {
            (within - hold) / (2.0 - hold)
        };
        let acted = scene * 2.0 + 2.0 * ease(moving);
        let mut raw = still.clone();
        for walker in &walkers {
            walker.walk(&mut raw, acted, w as f64);
        }
        raw
    })
}

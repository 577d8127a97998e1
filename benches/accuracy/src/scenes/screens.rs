//! Graphics: overlays, slides, test pictures, tiles, lamps, pixel art, mosaics, credits.

use super::{Painter, Stage};
use crate::chance::Chance;
use crate::paint::{BARS_75, BLACK, Colour, WHITE, ball, rect, text};
use crate::raw::Raw;
use crate::world::{Camera, Family};

fn colour(c: &mut Chance) -> Colour {
    (
        c.between(30.0, 220.0) as u8,
        c.between(80.0, 176.0) as u8,
        c.between(80.0, 176.0) as u8,
    )
}

/// Words that mean nothing.
pub(crate) fn words(c: &mut Chance, signs: usize) -> String {
    const LETTERS: &[u8] = b"AACDEEFGHIJLNOOPRSTUY";
    let mut out = String::new();
    while out.len() < signs {
        for _ in 0..c.below(7) + 2 {
            let letter = c.pick(LETTERS).copied().unwrap_or(b'A');
            out.push(char::from(letter));
        }
        out.push(' ');
    }
    out
}

/// Programme under a scoreboard with a running clock, a logo and a ticker.
pub(super) fn graphics(stage: &mut Stage) -> Painter {
    let speed = stage.chance.between(0.03, 0.3);
    let (world, camera, mut noise) = (stage.world(), stage.wander(speed), stage.noise(0.2, 1.5));
    let (w, h, unit) = (stage.width, stage.height, stage.unit);
    let (board, band) = (colour(&mut stage.chance), colour(&mut stage.chance));
    let line = words(&mut stage.chance, 400);
    let pace = stage.chance.between(40.0, 110.0) * unit;
    let score = (stage.chance.below(5), stage.chance.below(5));
    Box::new(move |t| {
        let mut raw = world.look(camera(t), w, h);
        noise.add(&mut raw);
        let (high, top) = (16.0 * unit, 18.0 * unit);
        rect(&mut raw, 20.0 * unit, top, 180.0 * unit, 24.0 * unit, board);
        let says = format!(
            "AC {}:{} FE  {:02}:{:02}",
            score.0,
            score.1,
            12 + (t / 60.0) as u64,
            t as u64 % 60
        );
        text(&mut raw, 26.0 * unit, top + 4.0 * unit, high, &says, WHITE);
        let y = h as f64 - 34.0 * unit;
        rect(&mut raw, 0.0, y, w as f64, 24.0 * unit, band);
        let x = w as f64 - (t * pace).rem_euclid(400.0 * 11.0 * unit);
        text(&mut raw, x, y + 4.0 * unit, high, &line, WHITE);
        raw
    })
}

/// Slides that change every ten to thirty seconds.
pub(super) fn slides(stage: &mut Stage) -> Painter {
    let (w, h, unit) = (stage.width, stage.height, stage.unit);
    let pages: Vec<Raw> = (0..6)
        .map(|_| {
            let c = &mut stage.chance;
            let paper = if c.hit(0.5) {
                (225, 128, 128)
            } else {
                (40, 140, 120)
            };
            let ink = if paper.0 > 128 { (30, 128, 128) } else { WHITE };
            let mut page = Raw::flat(w, h, paper);
            let title = words(c, 14);
            text(
                &mut page,
                40.0 * unit,
                30.0 * unit,
                30.0 * unit,
                &title,
                ink,
            );
            for n in 0..c.below(6) + 2 {
                let y = (90.0 + 36.0 * n as f64) * unit;
                ball(
                    &mut page,
                    50.0 * unit,
                    y + 9.0 * unit,
                    4.0 * unit,
                    4.0 * unit,
                    ink,
                );
                let item = words(c, 28);
                text(&mut page, 64.0 * unit, y, 16.0 * unit, &item, ink);
            }
            if c.hit(0.5) {
                let (x, y) = (w as f64 * 0.66, h as f64 * 0.35);
                for n in 0..5 {
                    let high = h as f64 * c.between(0.1, 0.45);
                    let bar = colour(c);
                    rect(
                        &mut page,
                        x + n as f64 * 30.0 * unit,
                        y + h as f64 * 0.45 - high,
                        22.0 * unit,
                        high,
                        bar,
                    );
                }
            }
            page
        })
        .collect();
    let secs = stage.chance.between(10.0, 30.0);
    Box::new(move |t| {
        let n = (t / secs) as usize % pages.len().max(1);
        pages
            .get(n)
            .cloned()
            .unwrap_or_else(|| Raw::flat(w, h, BLACK))
    })
}

/// Colour bars, a ramp, a grid: test pictures.
pub(super) fn bars(stage: &mut Stage) -> Painter {
    let (w, h) = (stage.width, stage.height);
    let mut raw = Raw::flat(w, h, BLACK);
    let wide = w as f64 / 7.0;
    match stage.chance.below(3) {
        0 => {
            for (n, bar) in BARS_75.iter().enumerate() {
                rect(&mut raw, n as f64 * wide, 0.0, wide + 1.0, h as f64, *bar);
            }
        }
        1 => {
            for (n, bar) in BARS_75.iter().enumerate() {
                rect(
                    &mut raw,
                    n as f64 * wide,
                    0.0,
                    wide + 1.0,
                    h as f64 * 0.67,
                    *bar,
                );
            }
            for x in 0..w {
                let luma = 16 + (x * 219 / w.max(1)) as u8;
                let at = x as f64;
                rect(
                    &mut raw,
                    at,
                    h as f64 * 0.75,
                    1.0,
                    h as f64 * 0.25,
                    (luma, 128, 128),
                );
            }
        }
        _ => {
            let step = 20.0 * stage.unit;
            let mut at = 0.0;
            while at < w.max(h) as f64 {
                rect(&mut raw, at, 0.0, 1.5, h as f64, WHITE);
                rect(&mut raw, 0.0, at, w as f64, 1.5, WHITE);
                at += step;
            }
            ball(
                &mut raw,
                w as f64 / 2.0,
                h as f64 / 2.0,
                h as f64 * 0.3,
                h as f64 * 0.3,
                (120, 128, 128),
            );
        }
    }
    Box::new(move |_| raw.clone())
}

/// A multiview: pictures edge to edge, with a line between them or none.
pub(super) fn tiles(stage: &mut Stage) -> Painter {
    let (w, h) = (stage.width, stage.height);
    let side = stage.chance.below(3) + 2;
    let (tw, th) = ((w / side) & !1, (h / side) & !1);
    let speed = stage.chance.between(0.1, 0.5);
    let cameras: Vec<_> = (0..side * side).map(|_| stage.wander(speed)).collect();
    let (world, mut noise) = (stage.world(), stage.noise(0.0, 1.0));
    let rim = stage.chance.hit(0.5);
    Box::new(move |t| {
        let mut raw = Raw::flat(w, h, BLACK);
        for (n, camera) in cameras.iter().enumerate() {
            let (x0, y0) = (n % side * tw, n / side * th);
            let part = world.look(camera(t), tw, th);
            paste(&mut raw, &part, x0, y0);
            if rim {
                rect(
                    &mut raw,
                    x0 as f64,
                    y0 as f64,
                    tw as f64,
                    2.0,
                    (60, 128, 128),
                );
                rect(
                    &mut raw,
                    x0 as f64,
                    y0 as f64,
                    2.0,
                    th as f64,
                    (60, 128, 128),
                );
            }
        }
        noise.add(&mut raw);
        raw
    })
}

/// Copies a smaller picture; places are even.
fn paste(to: &mut Raw, from: &Raw, x: usize, y: usize) {
    let (w, h) = (from.width.min(to.width - x), from.height.min(to.height - y));
    for row in 0..h {
        let at = (y + row) * to.width + x;
        to.y[at..at + w].copy_from_slice(&from.y[row * from.width..row * from.width + w]);
    }
    let (tw, fw) = (to.width / 2, from.width / 2);
    for row in 0..h / 2 {
        let (at, of) = ((y / 2 + row) * tw + x / 2, row * fw);
        to.u[at..at + w / 2].copy_from_slice(&from.u[of..of + w / 2]);
        to.v[at..at + w / 2].copy_from_slice(&from.v[of..of + w / 2]);
    }
}

/// Every sample of a small picture as a square of `side` pixels; with `gap`, dark lines between the squares.
fn coarse(raw: &mut Raw, area: (usize, usize, usize, usize), side: usize, gap: bool) {
    let side = side.max(2);
    let (x0, y0, x1, y1) = area;
    let (w, cw) = (raw.width, raw.width / 2);
    for y in y0..y1.min(raw.height) {
        let from_y = (y0 + (y - y0) / side * side + side / 2).min(raw.height - 1);
        for x in x0..x1.min(w) {
            let from_x = (x0 + (x - x0) / side * side + side / 2).min(w - 1);
            let dark = gap && ((x - x0) % side == 0 || (y - y0) % side == 0);
            // The middle of a square keeps its value, so it can be read after its square was begun.
            raw.y[y * w + x] = if dark { 20 } else { raw.y[from_y * w + from_x] };
            if (x | y) & 1 == 0 {
                let (to, of) = (y / 2 * cw + x / 2, from_y / 2 * cw + from_x / 2);
                raw.u[to] = raw.u[of];
                raw.v[to] = raw.v[of];
            }
        }
    }
}

/// A wall of lamps, filmed or fed: a coarse moving picture with dark lines.
pub(super) fn led_wall(stage: &mut Stage) -> Painter {
    let speed = stage.chance.between(0.1, 0.6);
    let (world, camera, mut noise) = (stage.world(), stage.wander(speed), stage.noise(0.0, 1.5));
    let side = stage.chance.below(9) + 4;
    let gap = stage.chance.hit(0.7);
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let mut raw = world.look(camera(t), w, h);
        coarse(&mut raw, (0, 0, w, h), side, gap);
        noise.add(&mut raw);
        raw
    })
}

/// A game of large square pixels: scrolls by whole ones, figures step.
pub(super) fn pixel_art(stage: &mut Stage) -> Painter {
    let (w, h) = (stage.width, stage.height);
    let side = stage.chance.below(4) * 2 + 4;
    let (cols, rows) = (w / side * 3, h / side + 1);
    let palette: Vec<Colour> = (0..10).map(|_| colour(&mut stage.chance)).collect();
    let sheet: Vec<u8> = (0..cols * rows)
        .map(|n| {
            let low = n / cols > rows * 2 / 3;
            (stage.chance.below(4) + if low { 4 } else { 0 }) as u8
        })
        .collect();
    let speed = stage.chance.between(4.0, 16.0);
    let flat = stage.family == Family::Cells;
    Box::new(move |t| {
        let mut raw = Raw::flat(w, h, BLACK);
        let scroll = (t * speed) as usize;
        for y in 0..h {
            for x in 0..w {
                let (column, row) = (x / side + scroll, y / side);
                // Patches of one colour, so that it looks drawn and not like noise.
                let patch = if flat { 5 } else { 3 };
                let (pc, pr) = (column / patch * patch % cols, row / patch * patch % rows);
                let ink = palette[usize::from(sheet[pr * cols + pc]) % palette.len()];
                raw.put(x, y, ink);
            }
        }
        let step = (t * 8.0).floor();
        for n in 0..3 {
            let size = side as f64;
            let x = ((step * 2.0 + n as f64 * 17.0) * size).rem_euclid(w as f64);
            let y = h as f64 * 0.6 - ((step + n as f64) % 4.0) * size;
            let ink = palette[(n + 7) % palette.len()];
            rect(&mut raw, x, y.floor(), size * 3.0, size * 4.0, ink);
            rect(&mut raw, x + size, y.floor(), size, size, WHITE);
        }
        raw
    })
}

/// Something hidden behind a coarse mosaic that follows it.
pub(super) fn mosaic(stage: &mut Stage) -> Painter {
    let (world, mut noise) = (stage.world(), stage.noise(0.2, 1.5));
    let camera = stage.hand(8.0);
    let follow = [stage.wobble(), stage.wobble()];
    let side = stage.chance.below(12) + 8;
    let (w, h) = (stage.width, stage.height);
    Box::new(move |t| {
        let mut raw = world.look(camera(t), w, h);
        noise.add(&mut raw);
        let place = |f: f64, size: usize| (size as f64 * (0.35 + 0.25 * f)).max(0.0) as usize & !1;
        let (x, y) = (
            place(follow[0].at(t * 0.4), w),
            place(follow[1].at(t * 0.5), h),
        );
        coarse(&mut raw, (x, y, x + w / 4, y + h / 3), side, false);
        raw
    })
}

/// White words that roll over black.
pub(super) fn credits(stage: &mut Stage) -> Painter {
    let (w, h, unit) = (stage.width, stage.height, stage.unit);
    let lines: Vec<(String, f64)> = (0..80)
        .map(|_| {
            let signs = stage.chance.below(20) + 6;
            (
                words(&mut stage.chance, signs),
                stage.chance.between(0.2, 0.5),
            )
        })
        .collect();
    let high = stage.chance.between(9.0, 16.0) * unit;
    let pace = stage.chance.between(18.0, 60.0) * unit;
    let ghost = stage.chance.hit(0.4).then(|| {
        stage
            .world()
            .graded(16.0, 40.0)
            .look(Camera::at(3.0, 3.0), w, h)
    });
    Box::new(move |t| {
        let mut raw = ghost.clone().unwrap_or_else(|| Raw::flat(w, h, BLACK));
        let step = high * 2.2;
        let all = step * lines.len() as f64;
        for (n, (line, x)) in lines.iter().enumerate() {
            let y = (h as f64 * 0.4 + step * n as f64 - t * pace).rem_euclid(all) - step;
            if y < h as f64 {
                text(&mut raw, x * w as f64, y, high, line, (220, 128, 128));
            }
        }
        raw
    })
}

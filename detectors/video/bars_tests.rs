//! Patterns by formula, and what only looks like them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::base::Value;
use crate::testkit::{Bench, Colour, Frame, Noise, Step, coloured, pictures};

type Rgb = [f64; 3];

const BLACK: Rgb = [0.0; 3];
/// White, yellow, cyan, green, magenta, red, blue at full amplitude (ITU-R BT.471-1).
const BARS: [Rgb; 7] = [
    [1.0, 1.0, 1.0],
    [1.0, 1.0, 0.0],
    [0.0, 1.0, 1.0],
    [0.0, 1.0, 0.0],
    [1.0, 0.0, 1.0],
    [1.0, 0.0, 0.0],
    [0.0, 0.0, 1.0],
];

fn times(rgb: Rgb, level: f64) -> Rgb {
    rgb.map(|v| v * level)
}

fn grey(level: f64) -> Rgb {
    [level; 3]
}

/// How R'G'B' becomes codes: luma weights of red and blue, black, and spans of luma and chroma.
#[derive(Debug, Clone, Copy)]
struct Coding {
    weights: (f64, f64),
    black: f64,
    spans: (f64, f64),
}

/// ITU-R BT.601-7 (2.5.1, 2.5.3), BT.709-6 (3.2, 3.5), and BT.709 over the full range.
const SD: Coding = Coding {
    weights: (0.299, 0.114),
    black: 16.0,
    spans: (219.0, 224.0),
};
const HD: Coding = Coding {
    weights: (0.2126, 0.0722),
    ..SD
};
const FULL: Coding = Coding {
    black: 0.0,
    spans: (255.0, 255.0),
    ..HD
};

impl Coding {
    fn codes(self, [r, g, b]: Rgb) -> [u8; 3] {
        let (kr, kb) = self.weights;
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        let difference = |c: f64, k: f64| 128.0 + self.spans.1 * (c - y) / (2.0 * (1.0 - k));
        let all = [
            self.black + self.spans.0 * y,
            difference(b, kb),
            difference(r, kr),
        ];
        all.map(|v| v.round().clamp(0.0, 255.0) as u8)
    }
}

/// A pattern: R'G'B' at a place, both coordinates in 0..1.
type Pattern = fn(f64, f64) -> Rgb;

/// A pattern with a name.
type Case = (&'static str, Box<dyn Fn(f64, f64) -> Rgb>);

/// 100/0/75/0: white at 100 %, colours at 75 %, black.
fn ebu_75(u: f64, _: f64) -> Rgb {
    match (u * 8.0) as usize {
        0 => grey(1.0),
        n => BARS.get(n).map_or(BLACK, |c| times(*c, 0.75)),
    }
}

/// 100/0/100/0.
fn ebu_100(u: f64, _: f64) -> Rgb {
    BARS.get((u * 8.0) as usize).copied().unwrap_or(BLACK)
}

/// Seven bars at 100 % over the whole field.
fn full_field(u: f64, _: f64) -> Rgb {
    BARS[((u * 7.0) as usize).min(6)]
}

/// SMPTE ECR 1-1978: bars at 75 % on the upper two thirds, reverse blue bars on a twelfth, -I, white, Q and PLUGE on
/// the lower quarter.
fn smpte(u: f64, v: f64) -> Rgb {
    let bar = ((u * 7.0) as usize).min(6);
    if v < 2.0 / 3.0 {
        times(BARS[bar], 0.75)
    } else if v < 0.75 {
        let blue = [6, 7, 4, 7, 2, 7, 0][bar];
        BARS.get(blue).map_or(BLACK, |c| times(*c, 0.75))
    } else {
        match (u * 28.0 / 5.0) as usize {
            0 => [0.0, 0.2456, 0.4125],
            1 => grey(1.0),
            2 => [0.2536, 0.0, 0.4703],
            _ => BLACK,
        }
    }
}

/// SMPTE RP 219 and ARIB STD-B28: bars at 75 % on 3/4 of the width and 7/12 of the height, 40 % grey at both sides;
/// below: 75 % white between cyan and blue, a ramp between yellow and red, and 15 % grey with white and PLUGE.
fn hd(u: f64, v: f64) -> Rgb {
    let across = (u - 0.125) / 0.75;
    let inside = (0.0..1.0).contains(&across);
    let (left, right) = (across < 0.0, across >= 1.0);
    match (v * 12.0) as usize {
        0..=6 if inside => times(BARS[((across * 7.0) as usize).min(6)], 0.75),
        0..=6 => grey(0.4),
        7 if inside => grey(0.75),
        7 => BARS[if left { 2 } else { 6 }],
        8 if inside => grey(across),
        8 => BARS[if right { 5 } else { 1 }],
        _ if !inside => grey(0.15),
        _ if (0.2..0.4).contains(&across) => grey(1.0),
        _ => BLACK,
    }
}

const PATTERNS: [(Pattern, Cause); 5] = [
    (ebu_75, Cause::Bars),
    (ebu_100, Cause::Bars),
    (full_field, Cause::BarsSmpte),
    (smpte, Cause::BarsSmpte),
    (hd, Cause::BarsHd),
];

const SIZE: (usize, usize) = (640, 360);

/// The pattern as pixels, blurred across by `soft` pixels each way as by a scaler.
fn draw(
    size: (usize, usize),
    coding: Coding,
    soft: f64,
    pattern: impl Fn(f64, f64) -> Rgb,
) -> Colour {
    Colour::of(size.0, size.1, |x, y| {
        let v = (y as f64 + 0.5) / size.1 as f64;
        let taps: &[f64] = if soft > 0.0 {
            &[-1.0, -0.5, 0.0, 0.5, 1.0]
        } else {
            &[0.0]
        };
        let at = |tap: &f64| {
            let u = (x as f64 + 0.5 + tap * soft) / size.0 as f64;
            pattern(u.clamp(0.0, 0.999_999), v)
        };
        let sum = (taps.iter().map(at)).fold(BLACK, |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        coding.codes(times(sum, 1.0 / taps.len() as f64))
    })
}

/// What a picture that stands for 1.2 s is said to be.
fn told(colour: &Colour) -> Option<Cause> {
    let mut bench = Bench::new(&DETECTOR);
    for at in [0, 600, 1_200] {
        bench.step(&Step::coloured(at, colour.clone()));
    }
    let newest = bench.newest("bars_secs").unwrap();
    assert_eq!(newest.cause.is_some(), newest.value == Value::Measured(1.2));
    newest.cause
}

#[test]
fn every_pattern_is_known_in_every_coding() {
    for (n, (pattern, cause)) in PATTERNS.into_iter().enumerate() {
        for coding in [SD, HD, FULL] {
            let found = told(&draw(SIZE, coding, 0.0, pattern));
            assert_eq!(found, Some(cause), "pattern {n} {coding:?}");
        }
    }
}

#[test]
fn scaling_and_blur_do_not_hide_them() {
    let sizes = [(1280, 720), (718, 405), (352, 288), (320, 180)];
    let mut missed = Vec::new();
    for (n, (pattern, cause)) in PATTERNS.into_iter().enumerate() {
        for size in sizes {
            for soft in [0.0, size.0 as f64 / 300.0] {
                let found = told(&draw(size, SD, soft, pattern));
                if found != Some(cause) {
                    missed.push((n, size, soft, found));
                }
            }
        }
    }
    assert_eq!(missed, []);
}

#[test]
fn letterboxes_and_pillarboxes_do_not_hide_them() {
    for (n, (pattern, cause)) in PATTERNS.into_iter().enumerate() {
        let letterbox = draw(SIZE, HD, 1.0, |u, v| match v {
            0.125..0.875 => pattern(u, (v - 0.125) / 0.75),
            _ => BLACK,
        });
        assert_eq!(told(&letterbox), Some(cause), "pattern {n}");
        let pillarbox = draw(SIZE, HD, 1.0, |u, v| match u {
            0.125..0.875 => pattern((u - 0.125) / 0.75, v),
            _ => BLACK,
        });
        assert_eq!(told(&pillarbox), Some(cause), "pattern {n}");
    }
}

#[test]
fn text_logo_noise_and_coarse_coding_do_not_hide_them() {
    for (n, (pattern, cause)) in PATTERNS.into_iter().enumerate() {
        let mut with_text = draw(SIZE, HD, 1.0, pattern);
        with_text.fill(540, 20, 64, 40, [200, 140, 100]);
        // A box with an ident, letter by letter, over a sixth of the height and most of the width.
        with_text.fill(100, 120, 440, 60, [16, 128, 128]);
        for letter in 0..20 {
            with_text.fill(110 + 20 * letter, 130, 10, 40, [235, 128, 128]);
        }
        assert_eq!(told(&with_text), Some(cause), "pattern {n}");
        let noisy = draw(SIZE, HD, 1.0, pattern).grain(&mut Noise::new(n as u64), 4.0);
        assert_eq!(told(&noisy), Some(cause), "pattern {n}");
        let mut coarse = draw(SIZE, HD, 1.0, pattern);
        coarse.luma = coarse.luma.coarse(6, 1);
        coarse.cb = coarse.cb.coarse(8, 3);
        coarse.cr = coarse.cr.coarse(8, 5);
        assert_eq!(told(&coarse), Some(cause), "pattern {n}");
    }
}

#[test]
fn bars_count_from_their_first_picture_once_they_stood_a_second() {
    let bars = draw((320, 180), SD, 0.0, smpte);
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&coloured(0, 25, |i| Colour::scene(320, 180, i as f64)));
    bench.run(&coloured(1_000, 25, |_| bars.clone()));
    assert_eq!(bench.peak("bars_secs"), 0.0);
    bench.run(&coloured(2_000, 26, |_| bars.clone()));
    assert_eq!(bench.value("bars_secs"), 2.0);
    let since = bench.newest("bars_secs").unwrap().since;
    assert_eq!(since, Some(MediaTime::from_millis(1_000)));
    bench.run(&coloured(3_040, 1, |i| Colour::scene(320, 180, i as f64)));
    assert_eq!(bench.value("bars_secs"), 0.0);
}

#[test]
fn bars_that_move_are_a_wall_or_a_flag() {
    let moving = |i: usize| {
        draw((320, 180), SD, 0.0, |u, v| {
            full_field((u + i as f64 * 0.0125).fract(), v)
        })
    };
    let mut bench = Bench::new(&DETECTOR);
    assert_eq!(bench.run(&coloured(0, 90, moving)).peak("bars_secs"), 0.0);
}

#[test]
fn what_only_looks_like_bars_is_none() {
    let orders = |order: &'static [usize]| {
        move |u: f64, _: f64| BARS[order[((u * order.len() as f64) as usize).min(order.len() - 1)]]
    };
    // A bar chart: the right colours in the right order on white, each as high as its value, with gaps.
    let chart = |gap: f64, high: [f64; 7]| {
        move |u: f64, v: f64| {
            let (bar, inside) = ((u * 7.0) as usize, (u * 7.0).fract());
            match inside >= gap && inside < 1.0 - gap && 1.0 - v < high[bar.min(6)] {
                true => BARS[bar.min(6)],
                false => grey(1.0),
            }
        }
    };
    let shirt = |u: f64, v: f64| full_field((u * 5.0).fract(), v);
    let sweep = |u: f64, _: f64| {
        let hue = |shift: f64| ((u + shift) * std::f64::consts::TAU).sin() * 0.5 + 0.5;
        [hue(0.0), hue(0.33), hue(0.66)]
    };
    let screen = |u: f64, v: f64| match (0.3..0.7).contains(&u) && (0.2..0.8).contains(&v) {
        true => full_field((u - 0.3) / 0.4, (v - 0.2) / 0.6),
        false => [0.3, 0.35, 0.3],
    };
    let strip = |u: f64, v: f64| match v {
        0.8.. => full_field(u, v),
        _ => [0.2, 0.3, 0.35],
    };
    let uneven = |u: f64, v: f64| full_field(u * u, v);
    let pastel = |u: f64, v: f64| {
        let pale = full_field(u, v);
        let much = [0.0, 0.9, 0.3, 0.9, 0.3, 0.9, 0.3][((u * 7.0) as usize).min(6)];
        pale.map(|c| 0.6 * (1.0 - much) + c * much)
    };
    // All bars of the same luma: the colours of a poster, not of a pattern.
    let level = |u: f64, _: f64| {
        let colour = BARS[((u * 7.0) as usize).min(6)];
        let luma = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2];
        colour.map(|c| 0.4 + 0.5 * (c - luma))
    };
    let down = |u: f64, v: f64| full_field(v, u);
    let cases: Vec<Case> = vec![
        ("backwards", Box::new(orders(&[6, 5, 4, 3, 2, 1, 0]))),
        ("rainbow", Box::new(orders(&[5, 1, 3, 2, 6, 4]))),
        ("tricolour", Box::new(orders(&[3, 0, 5]))),
        ("two exchanged", Box::new(orders(&[0, 1, 3, 2, 4, 5, 6]))),
        ("one missing", Box::new(orders(&[0, 1, 2, 3, 4, 5]))),
        ("gaps", Box::new(chart(0.15, [1.0; 7]))),
        (
            "chart",
            Box::new(chart(0.0, [0.9, 0.2, 0.6, 0.5, 0.8, 0.3, 0.7])),
        ),
        ("shirt", Box::new(shirt)),
        ("sweep", Box::new(sweep)),
        ("screen", Box::new(screen)),
        ("strip", Box::new(strip)),
        ("uneven", Box::new(uneven)),
        ("pastel", Box::new(pastel)),
        ("level", Box::new(level)),
        ("on its side", Box::new(down)),
    ];
    for (name, pattern) in cases {
        assert_eq!(told(&draw(SIZE, HD, 0.0, pattern)), None, "{name}");
    }
    let mut credits = Colour::flat(SIZE.0, SIZE.1, [16, 128, 128]);
    for line in 0..12 {
        credits.fill(200, 20 + 28 * line, 240, 10, [235, 128, 128]);
    }
    assert_eq!(told(&credits), None);
}

#[test]
fn pictures_that_cannot_be_judged_are_not() {
    let mut bench = Bench::new(&DETECTOR);
    let why = |bench: &Bench| bench.newest("bars_secs").unwrap().value;
    bench.run(&pictures(0, 3, |_| Frame::flat(640, 360, 90)));
    assert_eq!(why(&bench), Value::Unmeasurable(Why::NotApplicable));
    bench.run(&coloured(200, 3, |_| draw((160, 90), SD, 0.0, smpte)));
    assert_eq!(why(&bench), Value::Unmeasurable(Why::NotApplicable));
    let mut unstamped = Step::coloured(400, draw((320, 180), SD, 0.0, smpte));
    unstamped.at.media = None;
    bench.step(&unstamped);
    assert_eq!(why(&bench), Value::Unmeasurable(Why::NoTimestamps));
}

//! Pictures by formula: what is blank, and what a programme may look like.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::LazyLock;

use super::*;
use crate::base::Value;
use crate::testkit::{Bench, Colour as Coloured, Frame, Noise, Step, coloured, pictures};

const SIZE: (usize, usize) = (320, 192);
const GREY_CODES: [u8; 3] = [128, 128, 128];
const GREEN: [u8; 3] = [0, 0, 0];
const PINK: [u8; 3] = [255, 255, 255];
/// Blue at 75 %, BT.601: a playout device without a signal.
const BLUE: [u8; 3] = [35, 212, 114];

fn flat(codes: [u8; 3]) -> Coloured {
    Coloured::flat(SIZE.0, SIZE.1, codes)
}

/// A camera that pans and starts over; drawn once.
static SCENES: LazyLock<Vec<Coloured>> = LazyLock::new(|| {
    (0..40)
        .map(|i| Coloured::scene(SIZE.0, SIZE.1, 3.0 * f64::from(i)))
        .collect()
});

fn scene(i: usize) -> Coloured {
    SCENES[i % SCENES.len()].clone()
}

/// Four seconds of pictures.
fn run(make: impl Fn(usize) -> Coloured) -> Bench {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&coloured(0, 100, make));
    bench
}

fn cause(bench: &Bench, signal: &str) -> Option<Cause> {
    bench.newest(signal).unwrap().cause
}

/// Whole for nearly as long as it was shown, with that cause, and no part of anything.
fn assert_blank(bench: &Bench, cause_of: Cause, what: &str) {
    let secs = bench.value("blank_secs");
    assert!(secs >= 3.9, "{what}: {secs}");
    assert_eq!(cause(bench, "blank_secs"), Some(cause_of), "{what}");
    assert_eq!(bench.peak("blank_part_ratio"), 0.0, "{what}");
}

/// Neither rule fires: no two seconds of one colour, and never a tenth of the picture for as long as the rule holds.
fn assert_clean(bench: &Bench, what: &str) {
    assert!(bench.peak("blank_secs") < 1.9, "{what}");
    let large = (bench.emitted.iter())
        .filter(|e| e.signal == "blank_part_ratio")
        .map(|e| matches!(e.reading.value, Value::Measured(ratio) if ratio >= 0.1));
    let all: Vec<bool> = large.collect();
    assert!(!all.windows(8).any(|w| w.iter().all(|l| *l)), "{what}");
}

#[test]
fn one_colour_runs_from_its_first_picture() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&coloured(0, 25, scene));
    assert_eq!(bench.peak("blank_secs"), 0.0);
    bench.run(&coloured(1_000, 76, |_| flat(BLUE)));
    assert_eq!(bench.value("blank_secs"), 3.0);
    let since = bench.newest("blank_secs").unwrap().since;
    assert_eq!(since, Some(MediaTime::from_millis(1_000)));
    assert_eq!(cause(&bench, "blank_secs"), Some(Cause::BlankColour));
    bench.run(&coloured(4_040, 1, scene));
    assert_eq!(bench.value("blank_secs"), 0.0);
}

#[test]
fn each_kind_of_blank_has_its_cause() {
    for (codes, cause) in [
        (BLUE, Cause::BlankColour),
        ([235, 128, 128], Cause::BlankColour),
        ([63, 102, 240], Cause::BlankColour),
        (GREY_CODES, Cause::BlankGrey),
        (GREEN, Cause::BlankGreen),
        ([16, 16, 16], Cause::BlankGreen),
        (PINK, Cause::BlankPink),
    ] {
        assert_blank(&run(|_| flat(codes)), cause, &format!("{codes:?}"));
        let noisy = |i| flat(codes).grain(&mut Noise::new(i as u64), 1.5);
        assert_blank(&run(noisy), cause, &format!("{codes:?} with noise"));
    }
    let mono = |_| Frame::flat(SIZE.0, SIZE.1, 128);
    let mut bench = Bench::new(&DETECTOR);
    assert_blank(
        bench.run(&pictures(0, 100, mono)),
        Cause::BlankGrey,
        "without chroma",
    );
}

#[test]
fn chroma_that_is_lost_is_told_although_the_luma_lives() {
    for (code, cause) in [(0, Cause::BlankGreen), (255, Cause::BlankPink)] {
        let make = |i| {
            let mut scene = scene(i);
            scene.cb.samples.fill(code);
            scene.cr.samples.fill(code);
            scene
        };
        assert_blank(&run(make), cause, &format!("chroma {code}"));
    }
}

#[test]
fn a_logo_and_a_letterbox_leave_it_blank() {
    let logo = |_| {
        let mut picture = flat(BLUE);
        picture.fill(272, 16, 32, 32, [200, 128, 128]);
        picture
    };
    assert_blank(&run(logo), Cause::BlankColour, "logo");
    let boxed = |_| {
        let mut picture = flat([16, 128, 128]);
        picture.fill(40, 0, 240, 192, BLUE);
        picture
    };
    assert_blank(&run(boxed), Cause::BlankColour, "pillarbox");
}

#[test]
fn black_is_left_to_black() {
    for codes in [[16, 128, 128], [20, 126, 131], [0, 128, 128]] {
        assert_eq!(run(|_| flat(codes)).peak("blank_secs"), 0.0, "{codes:?}");
    }
}

#[test]
fn programmes_with_flat_areas_are_not_blank() {
    let slide = |_| {
        let mut picture = flat(BLUE);
        for letter in 0..9 {
            picture.fill(120 + 9 * letter, 92, 4, 10, [220, 128, 128]);
        }
        picture
    };
    assert_clean(&run(slide), "slide with one word");
    let studio = |i: usize| {
        let mut picture = flat([180, 130, 126]);
        picture.fill(120, 60, 70 + i % 3, 132, [90, 118, 150]);
        picture
    };
    assert_clean(&run(studio), "studio");
    let sky = |_| Coloured::of(SIZE.0, SIZE.1, |_, y| [150 + (y / 8) as u8, 150, 110]);
    assert_clean(&run(sky), "sky");
    let cel = |i: usize| {
        let mut picture = flat([150, 110, 140]);
        picture.fill(60 + 2 * (i / 6 % 60), 100, 64, 64, [60, 160, 100]);
        picture
    };
    assert_clean(&run(cel), "animation");
    // Green of a keying screen at full amplitude, BT.709, limited and full range.
    for screen in [[173, 42, 26], [182, 30, 12]] {
        let keyed = |i: usize| {
            let mut picture = flat(screen);
            picture.fill(100 + i % 50, 40, 80, 152, [110, 120, 150]);
            picture
        };
        assert_clean(&run(keyed), "keying screen");
    }
    let letterbox = |i: usize| {
        let mut picture = scene(i);
        picture.fill(0, 0, 320, 32, [16, 128, 128]);
        picture.fill(0, 160, 320, 32, [16, 128, 128]);
        picture
    };
    assert_clean(&run(letterbox), "letterbox");
    let dark = |i: usize| {
        let mut picture = scene(i);
        picture
            .luma
            .samples
            .iter_mut()
            .for_each(|v| *v = 16 + *v / 14);
        picture
    };
    assert_clean(&run(dark), "night");
}

#[test]
fn fades_through_a_colour_are_not_blank() {
    for to in [[235, 128, 128], BLUE, GREY_CODES] {
        // Out in a second, half a second of colour, and in again.
        let fade = |i: usize| {
            let share = match i {
                0..25 => i as f64 / 25.0,
                25..38 => 1.0,
                _ => (63.0 - i.min(63) as f64) / 25.0,
            };
            let mut picture = scene(i);
            for (frame, to) in [
                (&mut picture.luma, to[0]),
                (&mut picture.cb, to[1]),
                (&mut picture.cr, to[2]),
            ] {
                for v in &mut frame.samples {
                    *v = (f64::from(*v) * (1.0 - share) + f64::from(to) * share).round() as u8;
                }
            }
            picture
        };
        assert_clean(&run(fade), &format!("{to:?}"));
    }
    // From white to black without anything between.
    assert_clean(
        &run(|i| flat([235 - 2 * i as u8, 128, 128])),
        "slow fade of a colour",
    );
}

/// A live picture whose lower part is filled from the second second on.
fn filled(i: usize, codes: [u8; 3], from_row: usize) -> Coloured {
    let mut picture = scene(i);
    if i >= 50 {
        picture.fill(0, from_row, 320, 192 - from_row, codes);
    }
    picture
}

#[test]
fn a_part_that_is_filled_at_once_is_measured_and_drawn() {
    for (codes, expected) in [
        (GREEN, Cause::BlankGreen),
        (PINK, Cause::BlankPink),
        (GREY_CODES, Cause::BlankGrey),
        ([127, 128, 129], Cause::BlankGrey),
    ] {
        for from_row in [96, 160] {
            let what = format!("{codes:?} from row {from_row}");
            let bench = run(|i| filled(i, codes, from_row));
            assert_eq!(bench.peak("blank_secs"), 0.0, "{what}");
            let ratio = 1.0 - from_row as f64 / 192.0;
            assert!(
                (bench.value("blank_part_ratio") - ratio).abs() < 1e-9,
                "{what}"
            );
            let newest = bench.newest("blank_part_ratio").unwrap().clone();
            assert_eq!(newest.since, Some(MediaTime::from_millis(2_000)), "{what}");
            assert_eq!(newest.cause, Some(expected), "{what}");
            let Some(Exhibit::TileMap {
                columns: 20,
                values,
                tile_px: 16,
            }) = newest.exhibit
            else {
                panic!("{what}: no map")
            };
            let rows = values.chunks(20).map(|row| row.iter().all(|v| *v == 255));
            let expected = (0..12).map(|y| 16 * y >= from_row);
            assert!(rows.eq(expected), "{what}");
        }
    }
}

#[test]
fn a_part_goes_with_its_cause() {
    let bench = run(|i| filled(i.min(49), GREY_CODES, 96));
    assert_eq!(bench.peak("blank_part_ratio"), 0.0);
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&coloured(0, 60, |i| filled(i, GREY_CODES, 96)));
    assert_eq!(bench.value("blank_part_ratio"), 0.5);
    bench.run(&coloured(2_400, 5, |i| scene(60 + i)));
    assert_eq!(bench.value("blank_part_ratio"), 0.0);
    bench.run(&coloured(2_600, 5, |i| filled(50 + i, GREEN, 96)));
    assert_eq!(bench.value("blank_part_ratio"), 0.5);
    assert_eq!(cause(&bench, "blank_part_ratio"), Some(Cause::BlankGreen));
}

#[test]
fn scattered_tiles_are_no_part() {
    let scattered = |i: usize| {
        let mut picture = scene(i);
        for block in (0..240).filter(|b| (b + b / 20) % 2 == 0 && i >= 50) {
            picture.fill(16 * (block % 20), 16 * (block / 20), 16, 16, GREEN);
        }
        picture
    };
    assert_clean(&run(scattered), "chessboard");
}

#[test]
fn grey_graphics_are_no_damage() {
    // Grey of that very code in a slide, which comes with a cut.
    let slide = |i: usize| match i {
        0..50 => scene(i),
        _ => {
            let mut picture = flat([220, 128, 128]);
            picture.fill(0, 96, 320, 96, GREY_CODES);
            picture
        }
    };
    assert_clean(&run(slide), "cut to a slide");
    // In a picture that stood still before: a page of an interface.
    let page = |i: usize| {
        let mut picture = scene(0);
        let rows = if i < 50 { 0 } else { 96 };
        picture.fill(0, 192 - rows, 320, rows, GREY_CODES);
        picture
    };
    assert_clean(&run(page), "still page");
    // Sliding in over a live picture.
    let panel = |i: usize| {
        let mut picture = scene(i);
        let rows = (8 * i.saturating_sub(50)).min(96);
        picture.fill(0, 192 - rows, 320, rows, GREY_CODES);
        picture
    };
    assert_clean(&run(panel), "panel");
    // Near to that code, or with texture.
    assert_clean(&run(|i| filled(i, [125, 128, 128], 96)), "another grey");
    let grainy = |i: usize| {
        let mut picture = filled(i, GREY_CODES, 96);
        picture.luma = picture.luma.grain(&mut Noise::new(i as u64), 4.0);
        picture
    };
    assert_clean(&run(grainy), "grainy grey");
}

#[test]
fn what_came_in_pictures_that_we_dropped_is_not_judged() {
    let mut steps = coloured(0, 100, |i| filled(i, GREY_CODES, 96));
    steps[50].at.gap = Gap::WeDropped(20);
    let mut bench = Bench::new(&DETECTOR);
    assert_eq!(bench.run(&steps).peak("blank_part_ratio"), 0.0);
}

#[test]
fn without_timestamps_nothing_is_measured() {
    let mut step = Step::coloured(0, flat(BLUE));
    step.at.media = None;
    let mut bench = Bench::new(&DETECTOR);
    bench.step(&step);
    for signal in ["blank_secs", "blank_part_ratio"] {
        let value = bench.newest(signal).unwrap().value;
        assert_eq!(value, Value::Unmeasurable(Why::NoTimestamps));
    }
}

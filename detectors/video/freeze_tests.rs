//! Pictures by formula: what stands still, and what only seems to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::base::{Cause, Exhibit};
use crate::testkit::{Bench, Frame, Noise, Step, pictures};

const SIZE: (usize, usize) = (640, 384);

fn moving(i: usize) -> Frame {
    Frame::scene(SIZE.0, SIZE.1, 3.0 * i as f64, 1.0 * i as f64)
}

/// The scene with which the moving part ends, as a codec redraws it: coarse keyframes twice a second, then finer.
fn redrawn(i: usize) -> Frame {
    let phase = (i / 12 % 3) as u8;
    moving(50).coarse(if i.is_multiple_of(12) { 5 } else { 3 }, phase)
}

fn longest(steps: &[Step]) -> f64 {
    Bench::new(&DETECTOR).run(steps).peak("still_secs")
}

#[test]
fn a_redrawn_freeze_is_one_run_dated_back() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 50, moving));
    assert!(bench.peak("still_secs") < 0.5);
    bench.run(&pictures(2_000, 100, redrawn));
    assert!((bench.value("still_secs") - 3.96).abs() < 0.1);
    let since = bench.newest("still_secs").unwrap().since.unwrap();
    assert!(since.secs_after(MediaTime::from_millis(2_000)).abs() <= 0.04);
    bench.run(&pictures(6_000, 25, |i| moving(60 + i)));
    assert!(bench.value("still_secs") < 0.5);
}

#[test]
fn a_running_clock_does_not_hide_it() {
    let clock = |i: usize| {
        let mut frame = redrawn(i);
        frame.fill(520, 16, 80, 24, 16);
        frame.fill(524 + 7 * (i % 10), 20, 6, 16, 235);
        frame
    };
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 50, moving));
    bench.run(&pictures(2_000, 100, clock));
    assert!(bench.value("still_secs") > 3.5);
    let reading = bench.newest("still_secs").unwrap();
    assert_eq!(reading.cause, Some(Cause::FrozenOverlay));
    let Some(Exhibit::TileMap {
        columns, values, ..
    }) = &reading.exhibit
    else {
        panic!("{reading:?}");
    };
    let moving = (0..values.len()).filter(|i| values[*i] > 0);
    let places = moving.map(|i| (i % columns, i / columns));
    assert!(places.clone().count() > 0);
    assert!(places.into_iter().all(|(x, y)| x >= 32 && y <= 2));
}

#[test]
fn kinds_of_standing_still_are_told_apart() {
    let cause = |still: fn(usize) -> Frame| {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 50, moving));
        bench.run(&pictures(2_000, 60, still));
        bench.newest("still_secs").unwrap().cause
    };
    assert_eq!(cause(|_| moving(49)), Some(Cause::FrozenRepeat));
    assert_eq!(cause(redrawn), Some(Cause::Frozen));
}

#[test]
fn grain_on_a_static_shot_is_alive() {
    let shot = |i: usize| moving(0).grain(&mut Noise::new(i as u64), 3.0);
    assert!(longest(&pictures(0, 100, shot)) < 1.0);
    // The same grain frozen with the picture is not.
    let frozen = |_| moving(0).grain(&mut Noise::new(1), 3.0);
    assert!(longest(&pictures(0, 100, frozen)) > 3.5);
}

#[test]
fn a_shot_that_loses_its_grain_stands_from_there_on() {
    let shot = |i: usize| moving(0).grain(&mut Noise::new(i as u64), 3.0);
    // An encoder lets the noise of a static shot through now and then.
    let fitful = |i: usize| shot(if i % 60 < 30 { i } else { i - i % 60 + 30 });
    let secs = longest(&pictures(0, 300, fitful));
    assert!(secs < 1.9, "{secs}");
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 225, |i| shot(i.min(150))));
    let since = bench.newest("still_secs").unwrap().since.unwrap();
    assert!((since.nanos() as f64 / 1e9 - 6.0).abs() < 0.1, "{since:?}");
    assert!((bench.value("still_secs") - 2.96).abs() < 0.15);
}

#[test]
fn noise_that_comes_and_goes_is_told_at_most_once_and_a_longer_lull_is() {
    let shot = |i: usize| moving(0).grain(&mut Noise::new(i as u64), 3.0);
    // Lulls of 2.6 s, five times.
    let fitful = |i: usize| shot(if i % 100 < 35 { i } else { i - i % 100 + 35 });
    let mut bench = Bench::new(&DETECTOR);
    let (mut told, mut before) = (0, 0.0);
    for step in pictures(0, 500, fitful) {
        bench.run(&[step]);
        let now = bench.value("still_secs");
        told += u32::from(before < 2.0 && now >= 2.0);
        before = now;
    }
    assert!(told <= 1, "{told}");
    bench.run(&pictures(20_000, 25, |i| shot(500 + i)));
    bench.run(&pictures(21_000, 225, |_| shot(7)));
    assert!(bench.value("still_secs") > 8.0);
}

#[test]
fn light_that_turns_is_alive_and_light_that_is_stopped_is_not() {
    let lit = |secs: f64, light: fn(f64) -> f64| {
        let mut frame = moving(0);
        for v in &mut frame.samples {
            *v = (f64::from(*v) + light(secs)).round().clamp(17.0, 234.0) as u8;
        }
        frame
    };
    let longest_of =
        |light: fn(f64) -> f64| longest(&pictures(0, 200, |i| lit(i as f64 / 25.0, light)));
    let turns = longest_of(|secs| 0.8 * (secs - 4.0).powi(2));
    assert!(turns < 2.0, "{turns}");
    let stopped = longest_of(|secs| 0.8 * (secs.min(3.0) - 5.0).powi(2));
    assert!(stopped > 4.0, "{stopped}");
}

#[test]
fn grain_added_after_motion_died_at_once_does_not_hide_it() {
    let grain = |frame: Frame, i: usize| frame.grain(&mut Noise::new(i as u64), 3.0);
    let mut steps = pictures(0, 50, |i| grain(moving(i), i));
    steps.extend(pictures(2_000, 100, |i| grain(moving(49), 100 + i)));
    assert!(longest(&steps) > 3.5);
}

#[test]
fn slow_zooms_and_small_players_are_alive() {
    let pan = |i: usize| Frame::scene(SIZE.0, SIZE.1, 0.08 * i as f64, 0.0);
    let secs = longest(&pictures(0, 150, pan));
    assert!(secs < 1.5, "{secs}");
    let players = |i: usize| {
        let mut frame = moving(0);
        for p in 0..6 {
            frame.fill(120 + 60 * p + i % 40, 150 + 13 * p, 8, 16, 230);
        }
        frame
    };
    assert!(longest(&pictures(0, 150, players)) < 1.0);
}

#[test]
fn black_and_missing_pictures_are_left_to_others() {
    let black = |_| Frame::flat(SIZE.0, SIZE.1, 16);
    assert_eq!(longest(&pictures(0, 100, black)), 0.0);
    let mut steps = pictures(0, 10, |_| moving(0));
    steps.extend(pictures(8_000, 10, |_| moving(0)));
    assert!(longest(&steps) < 0.5);
}

#[test]
fn our_own_drops_make_no_freeze() {
    let mut steps = pictures(0, 100, moving);
    for step in steps.iter_mut().step_by(5) {
        step.at.gap = Gap::WeDropped(4);
    }
    assert!(longest(&steps) < 0.5);
}

/// A camera that drifts by a fraction of a pixel a picture, and stands from picture `until` on.
fn drifting(i: usize, until: usize) -> Frame {
    Frame::scene(SIZE.0, SIZE.1, 0.3 * i.min(until) as f64, 0.0)
}

#[test]
fn slow_motion_that_stops_is_dated_to_where_it_stopped() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 150, |i| drifting(i, 75)));
    assert!((bench.value("still_secs") - 2.96).abs() < 0.2);
    let since = bench.newest("still_secs").unwrap().since.unwrap();
    assert!(since.secs_after(MediaTime::from_millis(3_000)).abs() <= 0.08);
}

#[test]
fn slow_motion_that_stops_under_fresh_grain_is_a_freeze() {
    let grainy = |i: usize| drifting(i, 75).grain(&mut Noise::new(i as u64), 3.0);
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 75, grainy));
    assert!(bench.peak("still_secs") < 0.9);
    bench.run(&pictures(3_000, 75, |i| grainy(75 + i)));
    assert!(bench.value("still_secs") > 2.5);
}

#[test]
fn the_end_is_the_first_picture_that_differs() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 50, moving));
    bench.run(&pictures(2_000, 50, |_| moving(50)));
    bench.forget();
    bench.run(&pictures(4_000, 25, |i| moving(80 + i)));
    let clear = (bench.emitted.iter())
        .filter(|e| e.signal == "still_secs")
        .find(|e| e.reading.value == crate::base::Value::Measured(0.0))
        .unwrap();
    assert!(clear.step >= 5);
    assert_eq!(clear.reading.until, Some(MediaTime::from_millis(4_000)));
}

#[test]
fn rate_control_may_settle_in_two_steps() {
    // The whole picture is redrawn 0.2 and 0.52 s after the freeze began, each time to something else.
    let settling = |i: usize| {
        let noise = |seed| moving(50).grain(&mut Noise::new(seed), 8.0);
        match i {
            0..5 => noise(1),
            5..13 => noise(2),
            _ => noise(3),
        }
    };
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 50, moving));
    bench.run(&pictures(2_000, 26, settling));
    assert!(bench.value("still_secs") > 0.9);
}

#[test]
fn a_mouth_and_failing_light_are_alive() {
    let mouth = |i: usize| {
        let mut frame = moving(0);
        if !(i / 6).is_multiple_of(3) {
            frame.fill(300, 200, 30, 12 + 16 * (i / 6 % 2), 30);
        }
        frame
    };
    let secs = longest(&pictures(0, 150, mouth));
    assert!(secs < 0.9, "{secs}");
    let dusk = |i: usize| {
        let mut frame = moving(0);
        for v in &mut frame.samples {
            *v = (f64::from(*v) * (1.0 - 0.0004 * i as f64)).round() as u8;
        }
        frame
    };
    assert!(longest(&pictures(0, 150, dusk)) < 0.9);
}

#[test]
fn a_ticker_on_a_small_picture_hides_nothing_and_does_not_delay() {
    let ticker = |frame: Frame, i: usize| {
        let mut frame = frame;
        frame.fill(0, 256, 512, 32, 40);
        for letter in 0..16 {
            frame.fill((32 * letter + 5 * i) % 500, 262, 12, 20, 220);
        }
        frame
    };
    let scene = |i: usize| Frame::scene(512, 288, 3.0 * i as f64, 0.0);
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 50, |i| ticker(scene(i), i)));
    bench.run(&pictures(2_000, 60, |i| ticker(scene(50), 50 + i)));
    assert!(bench.value("still_secs") > 2.2);
    let reading = bench.newest("still_secs").unwrap();
    assert_eq!(reading.cause, Some(Cause::FrozenOverlay));
}

/// Pictures with a key picture every half second, which is announced, with its quantiser where that is known.
fn keyed(
    count: usize,
    quantiser: impl Fn(usize) -> Option<i32>,
    make: impl Fn(usize) -> Frame,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for i in 0..count {
        let millis = 40 * i as i64;
        let at = MediaTime::from_millis(millis);
        let mut tell = |fact: Fact| steps.push(Step::fact(millis, Some(Track::video(0)), fact));
        if i.is_multiple_of(12) {
            tell(Fact::RandomAccess(at));
            if let Some(quantiser) = quantiser(i / 12) {
                tell(Fact::KeyQuantiser { at, quantiser });
            }
        }
        steps.push(Step::picture(millis, make(i)));
    }
    steps
}

/// A static shot of which an encoder codes no noise but in key pictures.
fn wiped(i: usize) -> Frame {
    moving(0).grain(&mut Noise::new((i / 12) as u64), 2.0)
}

#[test]
fn a_shot_whose_noise_is_wiped_off_between_key_pictures_is_alive() {
    assert!(longest(&pictures(0, 150, wiped)) > 5.0);
    let secs = longest(&keyed(150, |_| Some(30), wiped));
    assert!(secs < 1.1, "{secs}");
    // Where headers do not say whether key pictures are quantised alike, more of them are waited for.
    let secs = longest(&keyed(150, |_| None, wiped));
    assert!(secs < 2.1, "{secs}");
}

#[test]
fn a_still_whose_key_pictures_rate_control_changes_is_frozen() {
    let changed = |i: usize| redrawn(if i / 12 % 3 == 1 { 12 } else { 0 } + i % 12);
    let known = |key: usize| Some(if key % 3 == 1 { 28 } else { 27 });
    assert!(longest(&keyed(150, known, changed)) > 5.0);
    assert!(longest(&keyed(150, |_| None, changed)) > 5.0);
    // Every key picture is another one.
    let drifting = |i: usize| moving(50).coarse(3, (i / 12) as u8);
    assert!(longest(&keyed(150, |key| Some(key as i32), drifting)) > 5.0);
}

#[test]
fn a_wiped_shot_that_freezes_stands_from_there_on() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&keyed(300, |_| Some(30), |i| wiped(i.min(150))));
    assert!((bench.value("still_secs") - 5.96).abs() < 0.6);
    let since = bench.newest("still_secs").unwrap().since.unwrap();
    assert!((since.nanos() as f64 / 1e9 - 6.0).abs() < 0.6, "{since:?}");
}

#[test]
fn noise_put_on_a_still_is_not_taken_for_a_camera() {
    // Motion died, and every key picture has other noise since.
    let noisy = |i: usize| match i {
        0..50 => moving(i),
        _ => moving(50).grain(&mut Noise::new((i / 12) as u64), 2.0),
    };
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&keyed(150, |_| Some(30), noisy));
    assert!(bench.value("still_secs") > 3.5);
}

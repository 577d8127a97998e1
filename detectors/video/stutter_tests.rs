#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::OnceLock;

use super::*;
use crate::base::Value;
use crate::testkit::{Bench, Emitted, Frame, Noise, Step as Given, pictures};

const SIZE: (usize, usize) = (320, 192);
/// Pictures after which the camera begins anew, which is a cut.
const ROUND: usize = 300;

/// A camera that moves: picture `i` of the programme. Cut out of one large scene, which is drawn once.
fn moving(i: usize) -> Frame {
    at(3 * (i % ROUND), i % ROUND)
}

/// The picture of a camera that looks at a place of the scene.
fn at(x: usize, y: usize) -> Frame {
    static SCENE: OnceLock<Frame> = OnceLock::new();
    let scene = SCENE.get_or_init(|| {
        let (width, height) = (SIZE.0 + 3 * ROUND, SIZE.1 + ROUND);
        Frame::scene(width, height, 0.0, 0.0)
    });
    let rows = (y..y + SIZE.1).flat_map(|row| {
        let from = row * scene.width + x;
        &scene.samples[from..from + SIZE.0]
    });
    Frame {
        samples: rows.copied().collect(),
        width: SIZE.0,
        height: SIZE.1,
    }
}

/// What a codec leaves of a picture: coarse at keyframes, finer between.
fn coded(frame: Frame, i: usize) -> Frame {
    let phase = (i / 12 % 3) as u8;
    frame.coarse(if i.is_multiple_of(12) { 5 } else { 3 }, phase)
}

/// Pictures of a stream of `hz`, each showing the programme's picture that `which` names.
fn shown(hz: f64, count: usize, which: impl Fn(usize) -> usize) -> Vec<Given> {
    (0..count)
        .map(|i| {
            let mut step = Given::picture(0, coded(moving(which(i)), i));
            let nanos = (i as f64 * 1e9 / hz) as i64;
            step.at.media = Some(MediaTime::from_nanos(nanos));
            step
        })
        .collect()
}

/// Every stutter told: begin and length, milliseconds.
fn stutters(emitted: &[Emitted]) -> Vec<(i64, i64)> {
    (emitted.iter().filter(|e| e.signal == "gap_secs"))
        .filter_map(|e| match (e.reading.value, e.reading.since) {
            (Value::Measured(secs), Some(since)) => Some((
                (since.secs() * 1e3).round() as i64,
                (secs * 1e3).round() as i64,
            )),
            _ => None,
        })
        .collect()
}

fn of(steps: &[Given]) -> Vec<(i64, i64)> {
    stutters(&Bench::new(&DETECTOR).run(steps).emitted)
}

/// The programme's picture at `i` when after `at` one is shown `more` times longer and what was missed is skipped.
fn halts(i: usize, at: usize, more: usize) -> usize {
    if (at..=at + more).contains(&i) { at } else { i }
}

#[test]
fn clean_motion_has_none_and_is_measured() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&shown(25.0, 150, |i| i));
    assert_eq!(stutters(&bench.emitted), []);
    assert_eq!(bench.value("stutters_per_min"), 0.0);
    assert_eq!(bench.value("worst_gap_secs"), 0.0);
}

#[test]
fn repeats_that_were_encoded_again_are_told_with_begin_and_length() {
    // With a leap after the halt, and without: 3 and 8 pictures too long.
    assert_eq!(of(&shown(25.0, 120, |i| halts(i, 60, 3))), [(2400, 120)]);
    assert_eq!(of(&shown(25.0, 120, |i| halts(i, 60, 8))), [(2400, 320)]);
    let late = |i: usize| if i > 60 { i.max(64) - 4 } else { i };
    assert_eq!(of(&shown(25.0, 120, late)), [(2400, 160)]);
    assert_eq!(of(&shown(50.0, 240, |i| halts(i, 110, 6))), [(2200, 120)]);
}

#[test]
fn one_repeat_is_no_stutter_and_a_second_is_a_freeze() {
    assert_eq!(of(&shown(25.0, 120, |i| halts(i, 60, 1))), []);
    assert_eq!(of(&shown(25.0, 150, |i| halts(i, 60, 30))), []);
}

#[test]
fn many_are_counted_and_the_worst_is_kept() {
    let often = |i: usize| i - (i % 20).min(5);
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&shown(25.0, 25 * 60, often));
    let count = bench.value("stutters_per_min");
    assert!((64.0..=75.0).contains(&count), "{count}");
    assert_eq!((bench.value("worst_gap_secs") * 1e3).round(), 200.0);
    // A minute later they are forgotten.
    let mut calm = shown(25.0, 25 * 61, |i| i);
    for step in &mut calm {
        step.at.media = step.at.media.map(|at| at.plus(Duration::from_secs(60)));
    }
    bench.run(&calm);
    assert_eq!(bench.value("stutters_per_min"), 0.0);
}

#[test]
fn skips_are_known_by_the_motion_that_goes_on() {
    let skip = |i: usize| if i < 60 { i } else { i + 4 };
    let steps = shown(25.0, 120, skip);
    let found = of(&steps);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!((2360..=2400).contains(&found[0].0), "{found:?}");
    assert!((120..=200).contains(&found[0].1), "{found:?}");
    let mut options = Options::defaults(DETECTOR.options);
    options.set("skips", 0.0).unwrap();
    let found = stutters(&Bench::with(&DETECTOR, &options).run(&steps).emitted);
    assert_eq!(found, []);
}

#[test]
fn holes_of_the_timeline_are_told() {
    let mut steps = shown(25.0, 120, |i| i);
    steps.drain(61..65);
    assert_eq!(of(&steps), [(2400, 160)]);
    // What we dropped, or a discontinuity, is none.
    for gap in [Gap::WeDropped(4), Gap::Discontinuity] {
        let mut steps = steps.clone();
        steps[61].at.gap = gap;
        assert_eq!(of(&steps), [], "{gap:?}");
    }
}

#[test]
fn an_irregular_rate_has_no_holes_of_the_usual_length() {
    let mut noise = Noise::new(4);
    let mut millis = 0;
    let steps: Vec<Given> = (0..180)
        .map(|_| {
            millis += 20 + noise.bits() as usize % 90;
            let frame = at(millis * 7 / 100, 0);
            Given::picture(millis as i64, frame)
        })
        .collect();
    assert_eq!(of(&steps), []);
}

#[test]
fn the_cadence_of_other_rates_is_removed_and_stutter_within_it_found() {
    // 24 in 30, 24 in 60, 25 in 50, 30 in 60, 15 in 30, 12.5 in 25, 18 in 25.
    for (source, stream) in [
        (24.0, 30.0),
        (24.0, 60.0),
        (25.0, 50.0),
        (30.0, 60.0),
        (15.0, 30.0),
        (12.5, 25.0),
        (18.0, 25.0),
    ] {
        let regular = |i: usize| (i as f64 * source / stream + 1e-6) as usize;
        let clean = of(&shown(stream, (8.0 * stream) as usize, regular));
        assert_eq!(clean, [], "{source} in {stream}");
        let at = (4.0 * stream) as usize;
        let more = (0.2 * stream).ceil() as usize;
        let found = of(&shown(stream, (8.0 * stream) as usize, |i| {
            regular(halts(i, at, more))
        }));
        assert_eq!(found.len(), 1, "{source} in {stream}: {found:?}");
    }
}

#[test]
fn still_and_nearly_still_scenes_are_not_measured() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 150, |i| coded(moving(0), i)));
    assert_eq!(stutters(&bench.emitted), []);
    assert!(bench.peak("stutters_per_min").is_nan());
    // A mouth that opens and rests.
    let talks = |i: usize| {
        let mut frame = moving(0);
        let open = [0, 8, 12, 12, 12, 12, 6, 0, 0, 0, 0, 0, 9][i % 13];
        frame.fill(150, 100, 24, 4 + open, 40);
        coded(frame, i)
    };
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 250, talks));
    assert_eq!(stutters(&bench.emitted), []);
}

#[test]
fn motion_that_stops_and_sets_off_gently_is_none() {
    // A camera that eases into rest for 0.4 s and out of it, again and again.
    let mut place = 0.0;
    let places: Vec<f64> = (0..300)
        .map(|i| {
            let speed: f64 = match i % 50 {
                0..20 => 3.0,
                p @ 20..26 => 3.0 - 0.5 * (p - 20) as f64,
                26..36 => 0.0,
                p @ 36..42 => 0.5 * (p - 36) as f64,
                _ => 3.0,
            };
            place += speed;
            place
        })
        .collect();
    let steps = pictures(0, 300, |i| coded(at(places[i] as usize, 0), i));
    assert_eq!(of(&steps), []);
}

#[test]
fn held_drawings_before_a_still_background_are_none() {
    // Drawn on twos, with holds of any length; a sixth of the picture.
    let pose = |i: usize| {
        let holds = [2, 2, 7, 2, 4, 2, 2, 11, 3, 2];
        let mut left = i % 37;
        let mut drawing = i / 37 * 10;
        for hold in holds {
            if left < hold {
                break;
            }
            left -= hold;
            drawing += 1;
        }
        drawing
    };
    let steps = pictures(0, 400, |i| {
        let mut frame = moving(0);
        let drawn = moving(40 + 7 * pose(i));
        frame.paste(&drawn, 100, 45, 120, 80);
        coded(frame, i)
    });
    assert_eq!(of(&steps), []);
}

#[test]
fn cuts_flashes_and_fades_are_none() {
    // A cut each second, to motion at once.
    let cuts = |i: usize| moving(i + 120 * (i / 25));
    assert_eq!(of(&pictures(0, 250, cuts)), []);
    let flash = |i: usize| {
        let mut frame = moving(i);
        if i % 31 < 2 {
            (frame.samples.iter_mut()).for_each(|v| *v = (*v / 2).saturating_add(120));
        }
        frame
    };
    assert_eq!(of(&pictures(0, 250, flash)), []);
    let fade = |i: usize| {
        let mut frame = moving(i);
        let light = match i % 80 {
            p @ 0..20 => p as f64 / 20.0,
            p @ 60..80 => (80 - p) as f64 / 20.0,
            _ => 1.0,
        };
        (frame.samples.iter_mut())
            .for_each(|v| *v = 16 + ((f64::from(*v) - 16.0).max(0.0) * light) as u8);
        frame
    };
    assert_eq!(of(&pictures(0, 320, fade)), []);
}

#[test]
fn our_own_drops_are_none() {
    let mut steps = shown(25.0, 200, |i| i);
    let mut kept = Vec::new();
    for (i, mut step) in steps.drain(..).enumerate() {
        match i % 12 {
            5..9 => {}
            9 => {
                step.at.gap = Gap::WeDropped(4);
                kept.push(step);
            }
            _ => kept.push(step),
        }
    }
    assert_eq!(of(&kept), []);
}

#[test]
fn skips_within_a_cadence_are_told() {
    for (source, stream) in [(24.0, 30.0), (24.0, 60.0), (25.0, 50.0), (12.0, 24.0)] {
        let at = (4.0 * stream) as usize;
        let skipped = (0.17 * stream) as usize;
        let regular = |i: usize| (i as f64 * source / stream + 1e-6) as usize;
        let found = of(&shown(stream, (8.0 * stream) as usize, |i| {
            regular(if i < at { i } else { i + skipped })
        }));
        assert_eq!(found.len(), 1, "{source} in {stream}: {found:?}");
    }
}

#[test]
fn a_repeat_that_a_codec_draws_anew_belongs_to_the_stop() {
    // The first or the last of the repeats is a pixel off, a third of what motion makes.
    for drawn in [61, 65] {
        let place = |i: usize| match i {
            0..=60 => (3 * i, i),
            61..=65 => (180 + usize::from(i >= drawn), 60),
            _ => (3 * i, i),
        };
        let steps = pictures(0, 120, |i| coded(at(place(i).0, place(i).1), i));
        let found = of(&steps);
        assert_eq!(found, [(2400, 200)], "{drawn}");
    }
}

#[test]
fn a_step_that_is_missing_in_a_slow_cadence_is_none() {
    // 12.5 in 25: motion may turn, so one step too few tells nothing; two do.
    let halted = |more: usize| {
        move |i: usize| {
            let step = i / 2;
            if (50..=50 + more).contains(&step) {
                50
            } else {
                step
            }
        }
    };
    assert_eq!(of(&shown(25.0, 200, halted(1))), []);
    assert_eq!(of(&shown(25.0, 200, halted(2))).len(), 1);
}

#[test]
fn a_hand_that_often_rests_is_none() {
    // Every few pictures the camera rests for one or two; for three, now and then.
    let mut noise = Noise::new(11);
    let (mut place, mut rests) = (0, 0);
    let places: Vec<usize> = (0..400)
        .map(|_| {
            rests = match (rests, noise.bits() % 3) {
                (0, 0) => 1 + noise.bits() % 3,
                (0, _) => 0,
                (left, _) => left - 1,
            };
            place += if rests > 0 { 0 } else { 3 };
            place
        })
        .collect();
    let steps = pictures(0, 400, |i| coded(at(places[i] % 900, 0), i));
    let found = of(&steps);
    assert!(found.len() <= 1, "{found:?}");
}

#[test]
fn a_strobe_over_a_dark_floor_is_none() {
    // Light for a tenth of a second, again and again; in the dark little is left of the motion.
    let floor = |i: usize| {
        let mut frame = moving(i);
        if i % 12 >= 3 {
            (frame.samples.iter_mut()).for_each(|v| *v = 16 + (*v - 16) / 12);
        }
        frame
    };
    assert_eq!(of(&pictures(0, 300, floor)), []);
}

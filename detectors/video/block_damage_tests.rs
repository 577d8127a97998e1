#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::LazyLock;

use super::*;
use crate::base::{Evidence, Value, Why};
use crate::testkit::{Bench, Colour, Frame, Item, Noise, Step, coloured, pictures};

const SIZE: (usize, usize) = (640, 384);

fn scene(i: usize) -> Frame {
    Frame::scene(SIZE.0, SIZE.1, 1.0 * i as f64, 0.0)
}

static OTHERS: LazyLock<Vec<Frame>> = LazyLock::new(|| {
    let shifted = |n: usize| Frame::scene(SIZE.0, SIZE.1, 90.0 * n as f64, 50.0);
    (1..8).map(shifted).collect()
});

/// A band of blocks from elsewhere in the scene, each its own way off.
fn torn(i: usize) -> Frame {
    let mut frame = scene(i);
    for block in 0..60 {
        let (x, y) = (16 * (5 + block % 20), 16 * (9 + block / 20));
        frame.paste(&OTHERS[block % 7], x, y, 16, 16);
    }
    frame
}

fn evidence(millis: i64, kind: EvidenceKind) -> Step {
    let from = Some(MediaTime::from_millis(millis));
    let evidence = Evidence::new(kind, from, 3);
    Step::fact(millis, Some(Track::video(0)), Fact::Evidence(evidence))
}

fn clean(millis: i64) -> Step {
    let fact = Fact::RandomAccess(MediaTime::from_millis(millis));
    Step::fact(millis, Some(Track::video(0)), fact)
}

#[test]
fn damage_with_evidence_is_measured_until_the_next_clean_point() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 25, scene));
    assert_eq!(bench.peak("damage_ratio"), 0.0);
    bench.step(&evidence(1_000, EvidenceKind::ContinuityError));
    bench.run(&pictures(1_000, 10, |i| torn(25 + i)));
    let reading = bench.newest("damage_ratio").unwrap().clone();
    assert_eq!(reading.cause, Some(Cause::TransportLoss));
    assert_eq!(reading.since, Some(MediaTime::from_millis(1_000)));
    // 60 of 960 blocks.
    let peak = bench.peak("damage_ratio");
    assert!((0.03..0.12).contains(&peak), "{peak}");
    assert!(matches!(
        reading.exhibit,
        Some(Exhibit::TileMap { columns: 40, .. })
    ));
    bench.step(&clean(1_400));
    bench.run(&pictures(1_400, 25, |i| scene(35 + i)));
    assert_eq!(bench.value("damage_ratio"), 0.0);
    assert_eq!(bench.value("damaged_secs"), 0.0);
}

#[test]
fn evidence_may_come_before_its_pictures_and_leaves_a_trace() {
    let mut bench = Bench::new(&DETECTOR);
    bench.step(&evidence(400, EvidenceKind::Concealment));
    bench.step(&clean(800));
    bench.run(&pictures(0, 10, |_| scene(0)));
    assert_eq!(bench.peak("damage_ratio"), 0.0);
    bench.run(&pictures(400, 10, |_| scene(0)));
    assert_eq!(bench.value("damage_ratio"), TRACE_RATIO);
    let cause = bench.newest("damage_ratio").unwrap().cause;
    assert_eq!(cause, Some(Cause::BitstreamDamage));
    bench.run(&pictures(800, 1, |_| scene(0)));
    assert_eq!(bench.value("damage_ratio"), 0.0);
}

#[test]
fn damage_stands_until_the_next_clean_point() {
    let broken = |i: usize| if i == 0 { torn(25) } else { moved(i) };
    // After the birth nothing is newborn: the damage moves along with the scene.
    fn moved(i: usize) -> Frame {
        let mut frame = scene(25);
        frame.paste(&torn(25), 80, 144, 320, 48);
        frame.fill(600, 8 * (i % 8), 16, 16, 200);
        frame
    }
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 25, scene));
    bench.step(&evidence(1_000, EvidenceKind::ContinuityError));
    bench.run(&pictures(1_000, 40, broken));
    assert!(bench.value("damage_ratio") >= 0.03);
    // Another scene that is predicted from broken pictures is broken too.
    bench.run(&pictures(2_600, 10, |_| scene(900)));
    assert!(bench.value("damage_ratio") >= 0.03);
    bench.step(&clean(3_000));
    bench.run(&pictures(3_000, 1, |_| scene(900)));
    assert_eq!(bench.value("damage_ratio"), 0.0);
}

#[test]
fn damage_is_born_behind_a_hole_as_well() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 25, scene));
    bench.step(&evidence(960, EvidenceKind::PictureNumberGap));
    // Pictures of three quarters of a second are missing.
    bench.run(&pictures(1_720, 10, |i| torn(25 + i)));
    assert!(bench.value("damage_ratio") >= 0.03);
}

#[test]
fn in_the_dark_less_contrast_is_damage() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 25, |_| Frame::flat(SIZE.0, SIZE.1, 24)));
    bench.step(&evidence(1_000, EvidenceKind::Concealment));
    bench.run(&pictures(1_000, 1, |_| {
        let mut frame = Frame::flat(SIZE.0, SIZE.1, 24);
        frame.fill(80, 144, 320, 48, 29);
        frame
    }));
    // Of the three blocks that were told as concealed no more than a part can show.
    let ratio = bench.value("damage_ratio");
    assert!(ratio > 0.0, "{ratio}");
    assert!(bench.newest("damage_ratio").unwrap().exhibit.is_some());
}

#[test]
fn damage_of_a_picture_that_no_other_refers_to_ends_with_it() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 25, scene));
    let at = MediaTime::from_millis(1_000);
    let evidence = Evidence {
        until: Some(MediaTime::from_millis(1_001)),
        ..Evidence::new(EvidenceKind::ContinuityError, Some(at), 1)
    };
    let track = Some(Track::video(0));
    bench.step(&Step::fact(1_000, track, Fact::Evidence(evidence)));
    bench.run(&pictures(1_000, 1, |_| torn(25)));
    assert!(bench.value("damage_ratio") >= 0.03);
    bench.run(&pictures(1_040, 1, |_| scene(26)));
    assert_eq!(bench.value("damage_ratio"), 0.0);
}

#[test]
fn pictures_that_are_shown_before_the_broken_one_may_refer_to_it() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 25, scene));
    bench.step(&evidence(1_080, EvidenceKind::PictureNumberGap));
    bench.run(&pictures(1_000, 1, |_| torn(25)));
    assert!(bench.value("damage_ratio") >= 0.03);
    let since = bench.newest("damage_ratio").unwrap().since;
    assert_eq!(since, Some(MediaTime::from_millis(1_000)));
}

#[test]
fn no_more_shows_than_the_decoder_concealed() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 25, scene));
    // 3 of 960 blocks.
    bench.step(&evidence(1_000, EvidenceKind::Concealment));
    bench.run(&pictures(1_000, 2, |i| torn(25 + i)));
    assert_eq!(bench.value("damage_ratio"), TRACE_RATIO);
}

#[test]
fn a_window_without_clean_points_decays() {
    let mut bench = Bench::new(&DETECTOR);
    bench.step(&evidence(0, EvidenceKind::BrokenSlice));
    bench.run(&pictures(0, 75, |_| scene(0)));
    let traces = bench.emitted.iter();
    let traces = traces.filter(|e| e.reading.value == Reading::measured(TRACE_RATIO).value);
    assert_eq!(traces.count(), 50);
}

#[test]
fn evidence_on_sound_is_not_about_pictures() {
    let mut bench = Bench::new(&DETECTOR);
    let mut sound = evidence(0, EvidenceKind::ContinuityError);
    sound.track = Some(Track::audio(0));
    bench.step(&sound);
    bench.run(&pictures(0, 25, scene));
    assert_eq!(bench.peak("damage_ratio"), 0.0);
}

#[test]
fn lone_damage_needs_a_dense_field_that_stands() {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(&pictures(0, 50, scene));
    bench.run(&pictures(2_000, 2, |i| torn(50 + i)));
    assert_eq!(bench.peak("damage_ratio"), 0.0);
    bench.run(&pictures(2_080, 4, |i| torn(52 + i)));
    assert!(bench.value("damage_ratio") >= 0.01);
    let cause = bench.newest("damage_ratio").unwrap().cause;
    assert_eq!(cause, Some(Cause::PictureDamage));
}

#[test]
fn cuts_strobes_graphics_and_drops_are_not_damage() {
    let cut = |i: usize| scene(i + i / 25 * 700);
    let strobe = |i: usize| match i % 3 {
        0 => Frame::flat(SIZE.0, SIZE.1, 230),
        _ => scene(i),
    };
    let graphics = |i: usize| {
        let mut frame = scene(i);
        if i >= 40 {
            frame.fill(32, 288, 576, 64, 40);
            frame.fill(48, 304, 300, 16, 220);
        }
        frame
    };
    let noise = |i: usize| scene(i).grain(&mut Noise::new(i as u64), 6.0);
    let checks: [&dyn Fn(usize) -> Frame; 4] = [&cut, &strobe, &graphics, &noise];
    for (n, make) in checks.into_iter().enumerate() {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 100, make));
        assert_eq!(bench.peak("damage_ratio"), 0.0, "case {n}");
    }
    let mut dropped = pictures(0, 50, |i| scene(40 * i));
    dropped
        .iter_mut()
        .for_each(|s| s.at.gap = Gap::WeDropped(39));
    assert_eq!(
        Bench::new(&DETECTOR).run(&dropped).peak("damage_ratio"),
        0.0
    );
}

#[test]
fn without_the_net_grades_are_not_applicable_yet_said() {
    let graded = |log_odds: f64| {
        let mut options = Options::defaults(DETECTOR.options);
        options.set("lone_log_odds", log_odds).unwrap();
        let mut bench = Bench::with(&DETECTOR, &options);
        bench.run(&pictures(0, 10, scene));
        bench.newest("lone_damage_score").unwrap().value
    };
    assert_eq!(graded(LONE_OFF), Value::Unmeasurable(Why::NotApplicable));
    assert!(matches!(graded(99.0), Value::Measured(_)));
}

#[test]
fn pictures_that_the_decoder_gives_up_show() {
    let after = |lost: u32| {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 25, |_| scene(0)));
        let mut tick = evidence(1_000, EvidenceKind::PicturesMissing);
        if let Item::Fact(Fact::Evidence(told)) = &mut tick.item {
            told.count = lost;
        }
        bench.step(&tick);
        bench.run(&pictures(1_000, 5, |_| scene(0)));
        bench.value("damage_ratio")
    };
    assert_eq!(after(1), TRACE_RATIO);
    assert_eq!(after(3), GAPS_RATIO);
}

#[test]
fn what_a_decoder_fills_in_has_no_colour_and_drawings_do() {
    let ratio = |codes: [u8; 3]| {
        let drawn = move |i: usize| {
            let mut picture = Colour::scene(SIZE.0, SIZE.1, 0.0);
            if i >= 25 {
                picture.fill(160, 96, 128, 96, codes);
            }
            picture
        };
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&coloured(0, 35, drawn)).peak("damage_ratio")
    };
    assert!(ratio([128, 128, 128]) > 0.03);
    assert_eq!(ratio([128, 124, 131]), 0.0);
}

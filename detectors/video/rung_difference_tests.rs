#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::base::{Cause, EvidenceKind, Value};
use crate::testkit::{Bench, Emitted, Frame, Item, Noise, Step};

/// Widths and heights of a ladder.
const SIZES: [(usize, usize); 3] = [(384, 216), (320, 180), (160, 90)];
/// Pictures that are seen before anything is told, and some more.
const LEARNING: i64 = 120;

fn announced(rungs: usize) -> Step {
    let info = |i: usize| TrackInfo {
        track: Track::video(i as u8),
        codec: "h264".to_owned(),
        language: None,
        problem: None,
        member: Some(format!("{}p@{}k", SIZES[i].1, 900 - 300 * i)),
    };
    Step::fact(0, None, Fact::Tracks((0..rungs).map(info).collect()))
}

/// What is shown at a time, at a size: smooth shapes that move, of the same share of every picture.
fn scene((width, height): (usize, usize), secs: f64) -> Frame {
    let mut frame = Frame::flat(width, height, 0);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f64 / width as f64, y as f64 / height as f64);
            let wave = |a: f64, b: f64, speed: f64| (a * u + b * v + speed * secs).sin();
            let value = 120.0 + 40.0 * wave(9.0, 4.0, 2.0) + 25.0 * wave(-14.0, 17.0, 3.1);
            frame.samples[y * width + x] = value as u8;
        }
    }
    frame
}

/// Pictures of a ladder, 25 a second; `change` may alter one, and its millisecond.
fn ladder(
    rungs: usize,
    pictures: i64,
    change: impl Fn(usize, i64, Frame) -> Option<(i64, Frame)>,
) -> Vec<Step> {
    let mut noise = Noise::new(3);
    let mut steps = vec![announced(rungs)];
    for n in 0..pictures {
        for (i, size) in SIZES.iter().take(rungs).enumerate() {
            // The lower, the coarser.
            let frame = scene(*size, n as f64 / 25.0).grain(&mut noise, 1.0 + i as f64);
            if let Some((ms, frame)) = change(i, n, frame) {
                let track = Some(Track::video(i as u8));
                steps.push(Step::at(ms, track, Item::Picture(frame)));
            }
        }
    }
    steps
}

/// A sixth of the picture is shown displaced.
fn damaged(mut frame: Frame, n: i64) -> Frame {
    let (w, h) = (frame.width, frame.height);
    let other = scene((w, h), n as f64 / 25.0 + 40.0);
    frame.paste(&other, w / 4, h / 3, w / 2, h / 3);
    frame
}

fn run(steps: &[Step]) -> Bench {
    let mut bench = Bench::new(&DETECTOR);
    bench.run(steps);
    bench
}

fn of<'a>(bench: &'a Bench, signal: &'a str, rung: u8) -> impl Iterator<Item = &'a Emitted> {
    let track = Some(Track::video(rung));
    (bench.emitted.iter()).filter(move |e| e.signal == signal && e.track == track)
}

/// Largest difference of a rung; NaN when none was measured.
fn peak(bench: &Bench, rung: u8) -> f64 {
    let value = |e: &Emitted| match e.reading.value {
        Value::Measured(value) => Some(value),
        Value::Unmeasurable(_) => None,
    };
    of(bench, "differing_ratio", rung)
        .filter_map(value)
        .fold(f64::NAN, f64::max)
}

fn late(bench: &Bench, rung: u8) -> f64 {
    match of(bench, "late_secs", rung).last().map(|e| e.reading.value) {
        Some(Value::Measured(secs)) => secs,
        _ => f64::NAN,
    }
}

fn peaks(bench: &Bench) -> [f64; 3] {
    [0, 1, 2].map(|rung| peak(bench, rung))
}

#[test]
fn damage_of_one_rung_is_its_own_and_damage_of_all_is_nobodys() {
    let harmed = |who: fn(usize) -> bool| {
        let during = LEARNING + 40..LEARNING + 60;
        run(&ladder(3, LEARNING + 120, |i, n, frame| {
            let frame = if who(i) && during.contains(&n) {
                damaged(frame, n)
            } else {
                frame
            };
            Some((40 * n, frame))
        }))
    };
    for rung in 0..3 {
        let bench = harmed([|i| i == 0, |i| i == 1, |i| i == 2][rung as usize]);
        for (i, peak) in peaks(&bench).into_iter().enumerate() {
            match i == rung as usize {
                true => assert!((0.08..0.25).contains(&peak), "{rung}: {peak}"),
                false => assert_eq!(peak, 0.0, "{rung}: {i}"),
            }
        }
        let told = of(&bench, "differing_ratio", rung);
        let first = told
            .filter(|e| e.reading.since.is_some())
            .map(|e| e.reading.clone())
            .next();
        let first = first.unwrap();
        assert_eq!(
            first.since,
            Some(MediaTime::from_millis(40 * (LEARNING + 40)))
        );
        assert_eq!(first.cause, Some(Cause::RungDiffers));
        assert_eq!(
            of(&bench, "differing_ratio", rung)
                .last()
                .unwrap()
                .reading
                .value,
            Value::Measured(0.0)
        );
    }
    assert_eq!(peaks(&harmed(|_| true)), [0.0; 3]);
}

#[test]
fn what_is_different_by_habit_is_not_damage() {
    // A logo, levels, softness, and rungs that arrive out of step: none is told.
    let logo = |i: usize, n: i64, mut frame: Frame| {
        if i == 1 {
            let (w, h) = (frame.width, frame.height);
            frame.fill(w * 6 / 7, h / 12, w / 10, h / 10, 230);
        }
        Some((40 * n, frame))
    };
    let told = peaks(&run(&ladder(3, 260, logo)));
    assert!(told.iter().all(|peak| *peak < 0.003), "{told:?}");
    let levels = |i: usize, n: i64, mut frame: Frame| {
        if i == 2 {
            frame
                .samples
                .iter_mut()
                .for_each(|v| *v = (f64::from(*v) * 0.86 + 16.0) as u8);
        }
        Some((40 * n, frame))
    };
    assert_eq!(peaks(&run(&ladder(3, 260, levels))), [0.0; 3]);
    let mut steps = ladder(3, 260, |_, n, frame| Some((40 * n, frame)));
    // Each rung brings its segments of two seconds at another moment.
    steps[1..].sort_by_key(|s| {
        let ms = s.at.media.unwrap().nanos() / 1_000_000;
        let rung = i64::from(s.track.unwrap().index);
        (ms / 2_000 * 2_000 + 1_900 * rung, rung, ms)
    });
    let bench = run(&steps);
    assert_eq!(peaks(&bench), [0.0; 3]);
    assert!(of(&bench, "differing_ratio", 2).count() > 200);
}

#[test]
fn half_the_pictures_are_compared_with_every_other() {
    let half = |i: usize, n: i64, frame: Frame| {
        let frame = if i == 2 && (150..170).contains(&n) {
            damaged(frame, n)
        } else {
            frame
        };
        (i != 1 || n % 2 == 0).then_some((40 * n, frame))
    };
    let bench = run(&ladder(3, 300, half));
    assert_eq!([peak(&bench, 0), peak(&bench, 1)], [0.0; 2]);
    let whole = run(&ladder(3, 300, |i, n, frame| {
        half(i, n, frame).filter(|_| i != 1 || n % 2 == 0)
    }));
    assert_eq!(peaks(&bench), peaks(&whole));
    assert!(late(&bench, 1).abs() < 0.001);
}

#[test]
fn damage_of_texture_that_keeps_its_mean_is_told_and_lost_texture_is_not() {
    // Fine stripes, of which the lower rungs keep less.
    let striped = |i: usize, mut frame: Frame, damaged: bool| {
        let (w, h) = (frame.width, frame.height);
        let depth = [14.0, 12.0, 10.0][i];
        for y in 0..h {
            for x in 0..w {
                let (u, v) = (x as f64 / w as f64, y as f64 / h as f64);
                // Damaged, the stripes are half a stripe beside where they should be.
                let hit = damaged && (0.5..0.62).contains(&u) && (0.5..0.62).contains(&v);
                let phase = if hit { 0.5 } else { 0.0 };
                let stripe = (std::f64::consts::TAU * (u * 30.0 + phase)).sin() * depth;
                let value = f64::from(frame.samples[y * w + x]) + stripe;
                frame.samples[y * w + x] = value as u8;
            }
        }
        frame
    };
    let run = |rung: Option<usize>| {
        peaks(&run(&ladder(3, 200, |i, n, frame| {
            let hit = rung == Some(i) && (150..165).contains(&n);
            Some((40 * n, striped(i, frame, hit)))
        })))
    };
    assert_eq!(run(None), [0.0; 3]);
    let told = run(Some(0));
    assert!(told[0] > 0.005, "{told:?}");
    assert_eq!(told[1..], [0.0; 2]);
}

#[test]
fn a_late_rung_is_late_and_not_damaged() {
    for pictures in [-3, 2, 9] {
        let bench = run(&ladder(3, 300, |i, n, frame| {
            let by = if i == 1 { pictures } else { 0 };
            Some((40 * (n + by), frame)).filter(|(ms, _)| *ms >= 0)
        }));
        let secs = 0.04 * pictures as f64;
        assert!(
            (late(&bench, 1) - secs).abs() < 0.005,
            "{}",
            late(&bench, 1)
        );
        assert!(late(&bench, 0).abs() < 0.005 && late(&bench, 2).abs() < 0.005);
        assert_eq!(peaks(&bench), [0.0; 3]);
    }
    let bench = run(&ladder(2, 300, |i, n, frame| {
        Some((40 * (n + 4 * i as i64), frame))
    }));
    assert!((late(&bench, 1) - 0.16).abs() < 0.005);
}

#[test]
fn of_two_rungs_the_one_is_blamed_that_something_speaks_against() {
    let two = |evidence: bool, stale: bool| {
        let mut steps = ladder(2, 260, |i, n, frame| {
            let hit = i == 1 && (180..200).contains(&n);
            let frame = match (hit, stale) {
                (false, _) => frame,
                (true, false) => {
                    let mut frame = frame;
                    frame.fill(80, 40, 120, 80, 235);
                    frame
                }
                // What was shown there before.
                (true, true) => {
                    let mut frame = frame;
                    let old = scene((frame.width, frame.height), 179.0 / 25.0);
                    frame.paste(&old, 60, 40, 160, 100);
                    frame
                }
            };
            Some((40 * n, frame))
        });
        if evidence {
            let from = Some(MediaTime::from_millis(40 * 180));
            let fact = Fact::Evidence(Evidence::new(EvidenceKind::ContinuityError, from, 1));
            let at = steps.iter().position(|s| s.at.media == from).unwrap();
            steps.insert(at, Step::fact(40 * 180, Some(Track::video(1)), fact));
        }
        run(&steps)
    };
    let undecided = |bench: &Bench| bench.peak("undecided_ratio");
    // It jumps where the other goes on.
    let jump = two(false, false);
    assert_eq!((peak(&jump, 0), undecided(&jump)), (0.0, 0.0));
    assert!(peak(&jump, 1) > 0.05, "{}", peak(&jump, 1));
    // Something stands still in one, and goes on in the other: either may be wrong.
    let stale = two(false, true);
    assert!(undecided(&stale) > 0.03, "{}", undecided(&stale));
    assert_eq!([peak(&stale, 0), peak(&stale, 1)], [0.0; 2]);
    // Lost packets tell.
    let lost = two(true, true);
    assert!(peak(&lost, 1) > 0.03 && undecided(&lost) == 0.0);
    let cause = of(&lost, "differing_ratio", 1).find_map(|e| e.reading.cause);
    assert_eq!(cause, Some(Cause::TransportLoss));
}

#[test]
fn one_rung_alone_is_not_compared() {
    let mut steps = ladder(1, 100, |_, n, frame| Some((40 * n, frame)));
    steps.push(Step::at(4_000, None, Item::Tick));
    let bench = run(&steps);
    let why = Value::Unmeasurable(Why::NotApplicable);
    assert!(bench.emitted.iter().all(|e| e.reading.value == why));
    assert_eq!(bench.emitted.len(), SIGNALS.len());
}

#[test]
fn a_rung_that_stays_away_is_not_waited_for() {
    let mut steps = ladder(3, 700, |i, n, frame| {
        let frame = if i == 0 && n > 660 {
            damaged(frame, n)
        } else {
            frame
        };
        (i != 2 || n < 150).then_some((40 * n, frame))
    });
    steps.push(Step::at(28_000, None, Item::Tick));
    let bench = run(&steps);
    let gone = of(&bench, "differing_ratio", 2).last().unwrap();
    assert_eq!(gone.reading.value, Value::Unmeasurable(Why::NoTrack));
    assert!(peak(&bench, 0) > 0.05);
}

#[test]
fn memory_is_bounded() {
    let mut rung = Rung::new(Track::video(0), "x");
    for n in 0..5_000 {
        rung.take(Map {
            at: MediaTime::from_millis(n),
            cells: Vec::new(),
        });
    }
    assert_eq!(rung.maps.len(), KEPT);
}

//! What every row of the table owes the host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::REGISTRY;
use crate::base::{
    Descriptor, Fact, MediaTime, OptionError, Options, Reset, Scope, Track, Value, VideoFormat, Why,
};
use crate::testkit::{
    Bench, Colour, Emitted, Frame, Item, Noise, Step, coloured, hostile, pictures,
};

fn snake(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && !word.ends_with('_')
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn sentence(text: &str) -> bool {
    text.starts_with(|c: char| c.is_uppercase()) && text.ends_with('.') && !text.contains("  ")
}

/// Moving pictures, a freeze, black, a scene in colour that turns blue, and sound that falls silent, with ticks.
fn scenario() -> Vec<Step> {
    let mut noise = Noise::new(5);
    let mut steps = pictures(0, 75, |i| {
        Frame::scene(160, 96, 3.0 * i as f64, 1.0 * i as f64)
    });
    steps.extend(pictures(3_000, 75, |_| Frame::scene(160, 96, 222.0, 74.0)));
    steps.extend(pictures(6_000, 75, |_| Frame::flat(160, 96, 16)));
    steps.extend(coloured(9_000, 50, |i| match i {
        0..25 => Colour::scene(160, 96, 3.0 * i as f64),
        _ => Colour::flat(160, 96, [41, 240, 110]),
    }));
    for i in 0..450 {
        let loud = if i < 200 { 0.3 } else { 0.0 };
        let samples = (0..960).map(|_| (noise.normal(loud) as f32).clamp(-1.0, 1.0));
        steps.push(Step::sound(20 * i, samples.collect(), 2, 24_000));
    }
    steps.extend((0..36).map(|i| Step::at(250 * i, None, Item::Tick)));
    steps.sort_by_key(|s| s.at.arrival);
    steps
}

fn run(row: &'static Descriptor, steps: &[Step]) -> Vec<Emitted> {
    std::mem::take(&mut Bench::new(row).run(steps).emitted)
}

fn check(row: &Descriptor, emitted: &[Emitted]) {
    for e in emitted {
        let signal = row.signals.iter().find(|s| s.name == e.signal);
        let signal = signal.unwrap_or_else(|| panic!("{} emits undeclared {}", row.name, e.signal));
        if let Value::Measured(v) = e.reading.value {
            let (low, high) = signal.range;
            assert!(
                v.is_finite() && (low..=high).contains(&v),
                "{}.{} is {v}",
                row.name,
                signal.name
            );
        }
    }
}

#[test]
fn names_are_unique_and_well_formed() {
    let mut names = BTreeSet::new();
    for row in REGISTRY {
        assert!(snake(row.name), "{}", row.name);
        assert!(names.insert(row.name), "{} twice", row.name);
        let mut signals = BTreeSet::new();
        for signal in row.signals {
            assert!(snake(signal.name), "{}.{}", row.name, signal.name);
            assert!(
                signals.insert(signal.name),
                "{}.{} twice",
                row.name,
                signal.name
            );
            assert!(
                signal.range.0 < signal.range.1,
                "{}.{}",
                row.name,
                signal.name
            );
        }
        assert!(!row.signals.is_empty(), "{} has no signal", row.name);
        let mut options = BTreeSet::new();
        for option in row.options {
            assert!(snake(option.name), "{}.{}", row.name, option.name);
            assert!(
                options.insert(option.name),
                "{}.{} twice",
                row.name,
                option.name
            );
        }
    }
}

#[test]
fn words_are_sentences() {
    for row in REGISTRY {
        assert!(sentence(row.doc), "{}: {}", row.name, row.doc);
        for signal in row.signals {
            assert!(sentence(signal.help), "{}.{}", row.name, signal.name);
            assert!(!signal.unit.is_empty(), "{}.{}", row.name, signal.name);
        }
        for option in row.options {
            assert!(sentence(option.help), "{}.{}", row.name, option.name);
        }
        for rule in row.rules {
            assert!(sentence(rule.says), "{}.{}", row.name, rule.name);
        }
    }
}

#[test]
fn rules_judge_declared_signals_and_cannot_chatter() {
    for row in REGISTRY {
        let mut names = BTreeSet::new();
        for rule in row.rules {
            let name = format!("{}.{}", row.name, rule.name);
            assert!(snake(rule.name), "{name}");
            assert!(names.insert(rule.name), "{name} twice");
            let signal = row.signals.iter().find(|s| s.name == rule.signal);
            let (low, high) = signal.unwrap_or_else(|| panic!("{name}: no signal")).range;
            for limit in [rule.raise.value(), rule.clear.value()] {
                assert!((low..=high).contains(&limit), "{name}: {limit}");
                let both = rule.raise.met(limit) && rule.clear.met(limit);
                assert!(!both, "{name} raises and clears at {limit}");
            }
            assert!(rule.hold < Duration::from_secs(120), "{name}");
        }
    }
}

#[test]
fn options_are_checked() {
    for row in REGISTRY {
        for option in row.options {
            let name = format!("{}.{}", row.name, option.name);
            let (low, high) = option.range;
            assert!(
                low < high && (low..=high).contains(&option.default),
                "{name}"
            );
            let mut options = Options::defaults(row.options);
            assert_eq!(options.get(option.name), option.default, "{name}");
            for value in [low, high] {
                options.set(option.name, value).unwrap();
                let mut bench = Bench::with(row, &options);
                check(row, &bench.run(&hostile(3, 200)).emitted);
            }
            let refused = options.set(option.name, high + 1.0);
            assert!(
                matches!(refused, Err(OptionError::OutOfRange { .. })),
                "{name}"
            );
            assert!(options.set(option.name, f64::NAN).is_err(), "{name}");
        }
    }
}

#[test]
fn readings_keep_to_the_declaration() {
    for row in REGISTRY {
        let emitted = run(row, &scenario());
        check(row, &emitted);
        if row.needs.media {
            assert!(!emitted.is_empty(), "{} says nothing", row.name);
        }
    }
}

/// What is left out under load is blind until it is said again, also a signal that options turn off.
#[test]
fn detectors_of_pictures_say_all_that_they_declare() {
    let steps = pictures(0, 150, |i| Frame::scene(160, 96, 3.0 * i as f64, 0.0));
    for row in REGISTRY {
        if row.needs.scope != Scope::VideoTrack {
            continue;
        }
        let mut bench = Bench::new(row);
        bench.run(&steps).detector().reset(Reset::Shed);
        bench.forget();
        bench.run(&steps);
        for signal in row.signals {
            let ends_blindness = |e: &Emitted| {
                let value = e.reading.value;
                let off = value == Value::Unmeasurable(Why::NotApplicable);
                e.signal == signal.name && (off || matches!(value, Value::Measured(_)))
            };
            let said = bench.emitted.iter().any(ends_blindness);
            assert!(said, "{}.{} stays blind", row.name, signal.name);
        }
    }
}

#[test]
fn hostile_units_do_no_harm() {
    for row in REGISTRY {
        for seed in 1..9 {
            check(row, &run(row, &hostile(seed, 1_500)));
        }
        let ticks: Vec<Step> = (0..10_000)
            .map(|i| Step::at(250 * i, None, Item::Tick))
            .collect();
        check(row, &run(row, &ticks));
    }
}

#[test]
fn formats_may_change_at_any_time() {
    for row in REGISTRY {
        let mut bench = Bench::new(row);
        for (i, (w, h)) in [(64, 48), (48, 64), (64, 48), (720, 8)]
            .into_iter()
            .enumerate()
        {
            let from = 1_000 * i as i64;
            let format = Fact::Format(crate::base::Format::Video(VideoFormat {
                width: w as u32,
                height: h as u32,
                rate_hz: 25.0,
                bits: 8,
                interlaced: false,
            }));
            bench.step(&Step::fact(from, Some(Track::video(0)), format));
            if i == 2 {
                bench.detector().reset(Reset::Format);
            }
            bench.run(&pictures(from, 25, |i| Frame::scene(w, h, i as f64, 0.0)));
        }
        check(row, &bench.emitted);
    }
}

#[test]
fn the_same_input_gives_the_same_readings() {
    for row in REGISTRY {
        for steps in [scenario(), hostile(77, 2_000)] {
            // Compared as text: NaN would not equal itself.
            assert_eq!(
                format!("{:?}", run(row, &steps)),
                format!("{:?}", run(row, &steps)),
                "{}",
                row.name
            );
        }
    }
}

#[test]
fn reset_equals_new() {
    for row in REGISTRY {
        for reset in [Reset::Format, Reset::Reconnect, Reset::Shed] {
            let mut used = Bench::new(row);
            used.run(&hostile(9, 800)).run(&scenario());
            used.detector().reset(reset);
            used.drop_history();
            used.forget();
            used.run(&scenario());
            assert_eq!(
                used.emitted,
                run(row, &scenario()),
                "{} {reset:?}",
                row.name
            );
        }
    }
}

#[test]
fn shifting_media_time_shifts_results_only() {
    const SHIFT: Duration = Duration::from_secs(86_400);
    for row in REGISTRY {
        let mut late = scenario();
        for step in &mut late {
            step.at.media = step.at.media.map(|m| m.plus(SHIFT));
        }
        let mut expected = run(row, &scenario());
        for e in &mut expected {
            e.reading.since = e.reading.since.map(|since| since.plus(SHIFT));
        }
        let got = run(row, &late);
        assert_eq!(got.len(), expected.len(), "{}", row.name);
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got.reading.since, expected.reading.since, "{}", row.name);
            match (got.reading.value, expected.reading.value) {
                (Value::Measured(a), Value::Measured(b)) => {
                    assert!(
                        (a - b).abs() <= 1e-6 * a.abs().max(1.0),
                        "{}: {a} {b}",
                        row.name
                    );
                }
                (a, b) => assert_eq!(a, b, "{}", row.name),
            }
        }
    }
}

/// Final readings at common instants do not depend on the size of the blocks.
#[test]
fn rechunking_sound_changes_nothing() {
    for row in REGISTRY {
        let mut noise = Noise::new(8);
        let rate = 48_000;
        let whole: Vec<f32> = (0..2 * rate * 6)
            .map(|i| {
                let loud = if (2 * rate..2 * rate * 4).contains(&i) {
                    0.0
                } else {
                    0.2
                };
                noise.normal(loud) as f32
            })
            .collect();
        let ends = |block: usize| {
            let mut bench = Bench::new(row);
            let mut ends = Vec::new();
            for (i, samples) in whole.chunks(2 * block).enumerate() {
                let nanos = (i * block) as i64 * 1_000_000_000 / rate as i64;
                let mut step = Step::sound(0, samples.to_vec(), 2, rate as u32);
                step.at.media = Some(MediaTime::from_nanos(nanos));
                step.at.arrival = crate::base::Arrival::from_nanos(nanos as u64);
                bench.step(&step);
                // Common instants: every half second.
                if ((i + 1) * block).is_multiple_of(rate / 2) {
                    let newest = row
                        .signals
                        .iter()
                        .map(|s| bench.newest(s.name).map(|r| r.value));
                    ends.push(newest.collect::<Vec<_>>());
                }
            }
            ends
        };
        let (small, large) = (ends(480), ends(2_400));
        assert_eq!(small.len(), large.len());
        for (small, large) in small.iter().flatten().zip(large.iter().flatten()) {
            match (small, large) {
                (Some(Value::Measured(a)), Some(Value::Measured(b))) => {
                    assert!((a - b).abs() < 0.02, "{}: {a} {b}", row.name);
                }
                (a, b) => assert_eq!(a, b, "{}", row.name),
            }
        }
    }
}

/// Products are shared: a picture that others have already looked at reads the same.
#[test]
fn alone_equals_together() {
    use crate::base::{Gap, Media, Picture, Range, Sink, Stamp, Unit};
    for row in REGISTRY.iter().filter(|r| r.needs.media) {
        let frames: Vec<Colour> = (0..40)
            .map(|i| Colour::scene(96, 64, f64::from(i)))
            .collect();
        let mut carry = None;
        let mut bench = Bench::new(row);
        let mut together = Vec::new();
        let mut detector = (row.build)(&Options::defaults(row.options));
        for (i, frame) in frames.iter().enumerate() {
            let step = Step::coloured(40 * i as i64, frame.clone());
            bench.step(&step);
            let plane = frame.luma.plane().unwrap();
            let picture = Picture::new(plane, Range::Limited, carry.as_ref());
            let picture = picture.with_chroma(frame.chroma());
            let _ = (picture.grid(), picture.tiles(), picture.chroma());
            let unit = Unit {
                at: Stamp {
                    gap: Gap::None,
                    ..step.at
                },
                track: step.track,
                media: Media::Video(&picture),
            };
            if row.needs.scope != crate::base::Scope::AudioTrack {
                let mut emit = |s: &'static crate::base::Signal, _, r| together.push((s.name, r));
                detector.observe(&unit, &mut Sink::new(&mut emit));
            }
            let next = picture.into_carry();
            carry = Some(next);
        }
        let alone: Vec<_> = bench
            .emitted
            .iter()
            .map(|e| (e.signal, e.reading.clone()))
            .collect();
        assert_eq!(alone, together, "{}", row.name);
    }
}

/// A detector is a file, a `mod` line and a row: none without the others.
#[test]
fn folders_mod_lines_and_rows_agree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = include_str!("../registry.rs");
    let mut found = 0;
    for folder in ["video", "audio", "av", "transport"] {
        let listing = std::fs::read_to_string(root.join(folder).join("mod.rs")).unwrap();
        let declared: BTreeSet<&str> = listing
            .lines()
            .filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'))
            .collect();
        let files: BTreeSet<String> = std::fs::read_dir(root.join(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter_map(|f| f.strip_suffix(".rs").map(str::to_owned))
            .filter(|f| f != "mod" && !f.ends_with("_tests"))
            .collect();
        assert_eq!(
            files,
            declared.iter().map(|d| (*d).to_owned()).collect(),
            "{folder}"
        );
        for name in declared {
            let row = format!("&{folder}::{name}::DETECTOR,");
            assert!(rows.contains(&row), "no row for {folder}/{name}.rs");
            let named = REGISTRY.iter().any(|r| r.name == name);
            assert!(named, "{folder}/{name}.rs calls its detector otherwise");
            found += 1;
        }
    }
    assert_eq!(found, REGISTRY.len());
}

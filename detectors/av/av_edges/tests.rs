use super::*;
use crate::base::{Arrival, Value};
use crate::testkit::{Bench, Frame, Item, Noise, Step};

const RATE_HZ: usize = 8_000;
const PICTURES_HZ: f64 = 12.5;
const BLOCK: usize = 400;
/// Number of the scene that is black.
const BLACK: usize = usize::MAX;

/// A programme as two lists: from when on which scene is seen, and how loud it is.
#[derive(Debug, Default)]
struct Programme {
    scenes: Vec<(f64, usize)>,
    levels: Vec<(f64, f32)>,
}

/// Numbers by chance.
struct Dice(Noise);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Noise::new(seed))
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.0.bits()) / f64::from(u32::MAX)
    }
}

/// Times of edges, so far apart.
fn times(dice: &mut Dice, secs: f64, apart: (f64, f64)) -> Vec<f64> {
    let mut at = 0.0;
    std::iter::from_fn(|| {
        at += dice.between(apart.0, apart.1);
        // Pictures begin at whole multiples.
        at = (at * PICTURES_HZ).round() / PICTURES_HZ;
        (at < secs).then_some(at)
    })
    .collect()
}

impl Programme {
    /// Cuts at these times, with a step of the sound that is by so much earlier.
    fn cuts(times: &[f64], mut early: impl FnMut(f64) -> Option<f64>) -> Self {
        let mut programme = Self::default();
        for (n, at) in times.iter().enumerate() {
            programme.scenes.push((*at, n));
            if let Some(early) = early(*at) {
                let loud = programme.levels.len() % 2 == 1;
                programme
                    .levels
                    .push((at - early, if loud { 0.3 } else { 0.02 }));
            }
        }
        programme
    }

    /// Adds black with silence, half a second each, the sound by so much earlier.
    fn with_black(mut self, times: &[f64], mut early: impl FnMut(f64) -> f64) -> Self {
        let first = |at: f64| move |of: &(f64, usize)| of.0 < at;
        for at in times {
            let n = self.scenes.partition_point(first(*at));
            self.scenes.insert(n, (*at, BLACK));
            self.scenes.insert(n + 1, (at + 0.48, 1_000 + n));
            let level = self.levels.iter().rfind(|l| l.0 < *at).map_or(0.3, |l| l.1);
            let early = early(*at);
            self.levels.push((at - early, 0.0));
            self.levels.push((at + 0.48 - early, level));
        }
        self.levels.sort_by(|a, b| a.0.total_cmp(&b.0));
        self
    }
}

fn now<T: Copy>(list: &[(f64, T)], at: f64) -> Option<T> {
    let n = list.partition_point(|l| l.0 <= at);
    Some(list.get(n.checked_sub(1)?)?.1)
}

/// What is said of the change, at each second: `None` = not measurable.
fn watch(programme: &Programme, secs: f64) -> Vec<(f64, Option<f64>)> {
    let mut bench = Bench::new(&DETECTOR);
    run(&mut bench, programme, (0.0, secs))
}

fn run(
    bench: &mut Bench,
    programme: &Programme,
    (from, to): (f64, f64),
) -> Vec<(f64, Option<f64>)> {
    let mut noise = Noise::new(3);
    let noise: Vec<f32> = (0..64 * BLOCK)
        .map(|_| (f64::from(noise.bits()) / f64::from(u32::MAX) - 0.5) as f32)
        .collect();
    // Some scenes that move a little.
    let frames: Vec<Frame> = (0..64)
        .map(|n| {
            let (scene, step) = (n / 4, n % 4);
            let at = 700.0 * f64::from(scene) + f64::from(step);
            Frame::scene(64, 48, at, 390.0 * f64::from(scene))
        })
        .collect();
    let stamped = |at: f64, track, item| {
        let mut step = Step::at(0, track, item);
        step.at.media = Some(MediaTime::from_nanos((at * 1e9).round() as i64));
        step.at.arrival = Arrival::from_nanos((at * 1e9) as u64);
        step
    };
    let mut said = Vec::new();
    let block_secs = BLOCK as f64 / RATE_HZ as f64;
    let (mut picture, mut block) = (0, 0);
    let at_picture = |n: usize| from + n as f64 / PICTURES_HZ;
    let at_block = |n: usize| from + n as f64 * block_secs;
    let mut tick = from + 1.0;
    while at_block(block) < to {
        while at_picture(picture) < at_block(block + 1) {
            let at = at_picture(picture);
            let frame = match now(&programme.scenes, at + 1e-6).unwrap_or(0) {
                BLACK => Frame::flat(64, 48, 16),
                scene => frames[(scene * 7 % 16) * 4 + picture % 4].clone(),
            };
            bench.step(&stamped(at, Some(Track::video(0)), Item::Picture(frame)));
            picture += 1;
        }
        let start = at_block(block);
        let level = |at: f64| now(&programme.levels, at).unwrap_or(0.3);
        let flat = (level(start), level(start + block_secs - 1e-6));
        let noise = noise[block % 61 * BLOCK..].iter().take(BLOCK).enumerate();
        let samples = noise.map(|(i, x)| {
            // Few blocks hold an edge.
            let level = match flat.0 == flat.1 {
                true => flat.0,
                false => level(start + i as f64 / RATE_HZ as f64),
            };
            level * x
        });
        let sound = Item::Sound(samples.collect(), 1, RATE_HZ as u32);
        bench.step(&stamped(start, Some(Track::audio(0)), sound));
        block += 1;
        if start >= tick {
            bench.forget();
            bench.step(&stamped(start, None, Item::Tick));
            let early = bench.newest("audio_early_secs").unwrap().value;
            said.push((
                start,
                match early {
                    Value::Measured(value) => Some(value),
                    Value::Unmeasurable(_) => None,
                },
            ));
            tick += 1.0;
        }
    }
    said
}

/// Largest change that was said.
fn most(said: &[(f64, Option<f64>)]) -> f64 {
    let measured = said.iter().filter_map(|s| s.1);
    measured.fold(0.0, |most, early| f64::max(most, early.abs()))
}

fn measured(said: &[(f64, Option<f64>)]) -> usize {
    said.iter().filter(|s| s.1.is_some()).count()
}

/// Lengths of shots, seconds.
const SHOTS: (f64, f64) = (3.5, 22.0);

#[test]
fn a_steady_distribution_is_silent_for_an_hour() {
    let mut dice = Dice::new(1);
    let cuts = times(&mut dice, 3_600.0, SHOTS);
    // Most sound lies a little late, some is cut elsewhere on purpose, some goes on.
    let early = |_| match dice.between(0.0, 1.0) {
        0.0..0.6 => Some(-0.02 + dice.0.normal(0.025)),
        0.6..0.8 => Some(dice.between(-0.6, 0.6)),
        _ => None,
    };
    let programme = Programme::cuts(&cuts, early);
    let black = times(&mut Dice::new(2), 3_600.0, (60.0, 200.0));
    let programme = programme.with_black(&black, |_| 0.01);
    let said = watch(&programme, 3_600.0);
    assert!(most(&said) < 0.03, "{}", most(&said));
    assert!(measured(&said) > 2_000, "{}", measured(&said));
}

#[test]
fn a_step_is_told_with_its_sign_and_size() {
    for (seed, step) in [(1, 0.12), (2, -0.12), (3, 0.25), (4, -0.4)] {
        let mut dice = Dice::new(seed);
        let cuts = times(&mut dice, 1_200.0, SHOTS);
        let after = cuts[28];
        let early = |at| Some(0.03 + dice.0.normal(0.02) + if at < after { 0.0 } else { step });
        let said = watch(&Programme::cuts(&cuts, early), 1_200.0);
        let before: Vec<_> = said.iter().filter(|s| s.0 < after).copied().collect();
        assert!(most(&before) < 0.03, "{step}");
        let told = said.iter().find(|s| s.1.is_some_and(|e| e.abs() > 0.045));
        let told = told.unwrap_or_else(|| panic!("{step} is not told"));
        let pairs = cuts.iter().filter(|c| (after..told.0).contains(*c)).count();
        assert!(pairs <= 17, "{step} is told after {pairs}");
        let last = said.iter().rev().find_map(|s| s.1).unwrap();
        assert!((last - step).abs() < 0.02, "{step}: {last}");
        assert!((told.1.unwrap() - step).abs() < 0.03, "{step}: {told:?}");
    }
}

#[test]
fn a_step_is_told_among_pairs_by_chance() {
    for seed in 1..=3 {
        let mut dice = Dice::new(20 + seed);
        let cuts = times(&mut dice, 3_600.0, SHOTS);
        let after = cuts[90];
        let early = |at| match dice.between(0.0, 1.0) {
            0.0..0.65 => Some(dice.0.normal(0.01) - if at < after { 0.0 } else { 0.12 }),
            _ => Some(dice.between(-0.6, 0.6)),
        };
        let said = watch(&Programme::cuts(&cuts, early), 3_600.0);
        let before: Vec<_> = said.iter().filter(|s| s.0 < after).copied().collect();
        assert!(most(&before) < 0.045, "{seed}: {}", most(&before));
        let told = said.iter().find(|s| s.1.is_some_and(|e| e < -0.1));
        assert!(told.is_some(), "{seed}");
    }
}

#[test]
fn black_with_silence_suffices() {
    let black = times(&mut Dice::new(5), 3_600.0, (20.0, 90.0));
    let after = black[35];
    let cuts = times(&mut Dice::new(6), 3_600.0, (4.0, 9.0));
    let programme = Programme::cuts(&cuts, |_| None);
    let late = |at| if at < after { 0.0 } else { -0.2 };
    let said = watch(&programme.with_black(&black, late), 3_600.0);
    let before: Vec<_> = said.iter().filter(|s| s.0 < after).copied().collect();
    assert!(measured(&before) > 100, "{}", measured(&before));
    assert!(most(&before) < 0.02, "{}", most(&before));
    let last = said.last().unwrap().1.unwrap();
    assert!((last + 0.2).abs() < 0.02, "{last}");
}

#[test]
fn a_slow_drift_is_told() {
    let mut dice = Dice::new(7);
    let cuts = times(&mut dice, 3_600.0, SHOTS);
    let early = |at: f64| Some(-0.2 * at / 3_600.0 + dice.0.normal(0.02));
    let said = watch(&Programme::cuts(&cuts, early), 3_600.0);
    let told = said.iter().find(|s| s.1.is_some_and(|e| e <= -0.1));
    let told = told.expect("it is told").0;
    assert!((1_800.0..3_600.0).contains(&told), "{told}");
    assert!(said.iter().all(|s| s.1.is_none_or(|e| e < 0.03)));
}

#[test]
fn unrelated_edges_are_never_told() {
    for seed in 1..=3 {
        let mut dice = Dice::new(10 * seed);
        let secs = 7_200.0;
        let scenes = times(&mut dice, secs, (3.2, 14.0));
        let mut programme = Programme::cuts(&scenes, |_| None);
        let steps = times(&mut dice, secs, (2.2, 12.0)).into_iter().enumerate();
        programme.levels = steps
            .map(|(n, at)| (at + dice.between(0.0, 1.0), [0.3, 0.02][n % 2]))
            .collect();
        let mut bench = Bench::new(&DETECTOR);
        let said = run(&mut bench, &programme, (0.0, secs));
        assert!(most(&said) < 0.045, "{seed}: {}", most(&said));
        // There were pairs enough.
        assert!(
            bench.value("pairs") > 40.0,
            "{seed}: {}",
            bench.value("pairs")
        );
    }
}

#[test]
fn a_channel_of_two_habits_is_never_told() {
    for seed in 1..=3 {
        let mut dice = Dice::new(50 + seed);
        let secs = 5_400.0;
        let cuts = times(&mut dice, secs, SHOTS);
        // Each programme of about ten minutes leans to one of them.
        let habit = |at: f64| Dice::new((at / 600.0) as u64 + seed).between(0.3, 0.7);
        let early = |at| match dice.between(0.0, 1.0) < habit(at) {
            true => Some(dice.0.normal(0.01)),
            false => Some(-0.1 + dice.0.normal(0.01)),
        };
        let said = watch(&Programme::cuts(&cuts, early), secs);
        assert!(most(&said) < 0.045, "{seed}: {}", most(&said));
    }
}

#[test]
fn beats_against_cuts_are_never_told() {
    // The last wanders slowly against even cuts.
    for (period, even) in [(0.5, None), (1.7, None), (4.0, None), (8.0, Some(8.001))] {
        let secs = 3_600.0;
        let cuts = match even {
            Some(even) => (1..400).map(|n| f64::from(n) * even).collect(),
            None => times(&mut Dice::new(80), secs, (4.0, 12.0)),
        };
        let mut programme = Programme::cuts(&cuts, |_| None);
        let beats = (0..(secs / period) as usize).map(|n| n as f64 * period);
        programme.levels = beats
            .flat_map(|at| [(at, 0.3), (at + 0.5 * period, 0.02)])
            .collect();
        let said = watch(&programme, secs);
        assert!(most(&said) < 0.045, "{period}: {}", most(&said));
    }
}

#[test]
fn talk_against_cuts_pairs_with_nothing() {
    let mut dice = Dice::new(90);
    let cuts = times(&mut dice, 1_800.0, (4.0, 12.0));
    let mut programme = Programme::cuts(&cuts, |_| None);
    let mut at = 0.0;
    while at < 1_800.0 {
        programme.levels.push((at, dice.between(0.05, 0.4) as f32));
        at += dice.between(0.1, 0.6);
        programme.levels.push((at, 0.004));
        at += dice.between(0.05, 0.5);
    }
    let mut bench = Bench::new(&DETECTOR);
    let said = run(&mut bench, &programme, (0.0, 1_800.0));
    assert_eq!(measured(&said), 0);
    assert!(bench.value("pairs") <= 12.0, "{}", bench.value("pairs"));
}

#[test]
fn what_stands_for_a_hundred_pairs_is_usual() {
    let mut dice = Dice::new(11);
    let secs = 3_600.0;
    let cuts = times(&mut dice, secs, (3.5, 16.0));
    let after = cuts[40];
    let early = |at| Some(dice.0.normal(0.01) + if at < after { 0.0 } else { 0.15 });
    let said = watch(&Programme::cuts(&cuts, early), secs);
    assert!((most(&said) - 0.15).abs() < 0.02, "{}", most(&said));
    let last = said.last().unwrap().1.expect("the new place is known");
    assert!(last.abs() < 0.02, "{last}");
}

#[test]
fn what_is_usual_outlives_a_reopened_input() {
    let mut dice = Dice::new(12);
    let cuts = times(&mut dice, 900.0, (4.0, 9.0));
    let mut bench = Bench::new(&DETECTOR);
    let before = Programme::cuts(&cuts, |_| Some(0.02 + dice.0.normal(0.01)));
    run(&mut bench, &before, (0.0, 600.0));
    bench.step(&Step::fact(
        600_000,
        None,
        Fact::Input(InputEvent::Reopened),
    ));
    // Its media clock begins anew, and the sound lies elsewhere.
    let after = Programme::cuts(&cuts, |_| Some(-0.1 + dice.0.normal(0.01)));
    let said = run(&mut bench, &after, (0.0, 300.0));
    let last = said.last().unwrap().1.unwrap();
    assert!((last + 0.12).abs() < 0.02, "{last}");
}

#[test]
fn pairs_at_announced_splices_count_for_nothing() {
    let mut dice = Dice::new(13);
    let cuts = times(&mut dice, 300.0, (5.0, 12.0));
    let programme = Programme::cuts(&cuts, |_| Some(0.0));
    for announced in [false, true] {
        let mut bench = Bench::new(&DETECTOR);
        let mut from = 0.0;
        for cut in &cuts {
            run(&mut bench, &programme, (from, cut - 1.0));
            if announced {
                let fact = Fact::Break(crate::base::BreakMark {
                    edge: crate::base::BreakEdge::Start,
                    source: crate::base::BreakSource::Scte35,
                    at: Some(MediaTime::from_nanos((cut * 1e9) as i64)),
                    planned: None,
                    event_id: None,
                });
                bench.step(&Step::fact((cut * 1e3) as i64, None, fact));
            }
            from = cut - 1.0;
        }
        match announced {
            true => assert_eq!(bench.value("pairs"), 0.0),
            false => assert!(bench.value("pairs") > 15.0, "{}", bench.value("pairs")),
        }
    }
}

#[test]
fn it_says_why_nothing_can_be_measured() {
    let why = |bench: &Bench| bench.newest("audio_early_secs").unwrap().value;
    let tick = |secs: i64| Step::at(1_000 * secs, None, Item::Tick);
    let sound = |secs: i64| Step::sound(1_000 * secs, vec![0.1; 800], 1, 8_000);
    let picture = |secs: i64| Step::picture(1_000 * secs, Frame::flat(64, 48, 90));
    let mut bench = Bench::new(&DETECTOR);
    bench.step(&tick(0));
    assert_eq!(why(&bench), Value::Unmeasurable(Why::NotApplicable));
    bench.run(&[sound(1), tick(1)]);
    assert_eq!(why(&bench), Value::Unmeasurable(Why::NotApplicable));
    bench.run(&[picture(2), tick(2)]);
    assert_eq!(why(&bench), Value::Unmeasurable(Why::WarmingUp));
    assert_eq!(bench.value("pairs"), 0.0);
    bench.run(&[sound(30), tick(30)]);
    assert_eq!(why(&bench), Value::Unmeasurable(Why::NoTrack));
    bench.run(&[picture(31), tick(31)]);
    assert_eq!(why(&bench), Value::Unmeasurable(Why::WarmingUp));
}

fn edges_of_sound(rate_hz: usize, level: impl Fn(f64) -> f64) -> Vec<SoundEdge> {
    let mut ear = Ear::default();
    let mut noise = Noise::new(4);
    let mut edges = Vec::new();
    for block in 0..4 * rate_hz / 500 {
        let samples = (0..500).flat_map(|i| {
            let at = (block * 500 + i) as f64 / rate_hz as f64;
            let x = noise.normal(level(at)) as f32;
            // Opposite signs on two channels do not cancel.
            [x, -x]
        });
        let samples: Vec<f32> = samples.collect();
        let at = MediaTime::from_nanos((block * 500) as i64 * 1_000_000_000 / rate_hz as i64);
        let sound = crate::base::Sound::new(&samples, 2, rate_hz as u32).unwrap();
        edges.extend(ear.hear(at, &sound, true));
    }
    edges
}

#[test]
fn steps_of_the_sound_are_dated_to_five_milliseconds() {
    for rate_hz in [8_000, 44_100, 48_000] {
        for (before, after) in [(0.2, 0.0), (0.0, 0.2), (0.01, 0.2), (0.2, 0.02)] {
            let level = |at| if at < 2.034 { before } else { after };
            let edges = edges_of_sound(rate_hz, level);
            let [edge] = edges.as_slice() else {
                panic!("{rate_hz} {before} {after}: {edges:?}");
            };
            let off = edge.at.secs() - 2.034;
            assert!(off.abs() <= 0.005 && edge.sharp, "{rate_hz}: {edge:?}");
            assert_eq!(edge.direction == Direction::More, after > before);
        }
        // What swells or dies away over half a second has no place.
        let swell = |at: f64| 0.2 * 10f64.powf(-60.0 * (2.5 - at).clamp(0.0, 1.0) / 20.0);
        assert!(edges_of_sound(rate_hz, swell).iter().all(|e| !e.sharp));
    }
}

fn edges_of_picture(make: impl Fn(usize) -> Frame) -> Vec<(i64, Option<Direction>)> {
    use crate::base::{Picture, Range};
    let mut eye = Eye::default();
    let mut edges = Vec::new();
    let mut carry = None;
    for n in 0..100 {
        let frame = make(n);
        let picture = Picture::new(frame.plane().unwrap(), Range::Limited, carry.as_ref());
        let at = MediaTime::from_millis(40 * n as i64);
        edges.extend(eye.see(at, picture.tiles(), true));
        carry = Some(picture.into_carry());
    }
    edges
        .iter()
        .map(|e| (e.at.nanos() / 40_000_000, e.flat))
        .collect()
}

#[test]
fn cuts_and_black_are_edges_and_fades_flashes_and_motion_are_not() {
    let scene = |n: usize, of: f64| Frame::scene(160, 96, 3.0 * n as f64 + 900.0 * of, 500.0 * of);
    let cut = |n: usize| scene(n, f64::from(u8::from(n >= 50)));
    assert_eq!(edges_of_picture(cut), [(50, None)]);
    // Between two fields.
    let fields = |n: usize| {
        let (mut old, new) = (scene(n, 0.0), scene(n, 1.0));
        match n {
            0..50 => old,
            50 => {
                (0..96)
                    .step_by(2)
                    .for_each(|y| old.paste(&new, 0, y, 160, 1));
                old
            }
            _ => new,
        }
    };
    let found = edges_of_picture(fields);
    assert!(matches!(found.as_slice(), [(50 | 51, None)]), "{found:?}");
    let black = |n: usize| match n {
        40..60 => Frame::flat(160, 96, 16),
        _ => scene(n, 0.0),
    };
    let ends = [(40, Some(Direction::Less)), (60, Some(Direction::More))];
    assert_eq!(edges_of_picture(black), ends);
    let fade = |n: usize| {
        let mut frame = scene(n, 0.0);
        let dark = n.saturating_sub(40).min(25) as u32;
        for v in &mut frame.samples {
            *v = (16 + (u32::from(*v) - 16) * (25 - dark) / 25) as u8;
        }
        frame
    };
    assert_eq!(edges_of_picture(fade), []);
    let flash = |n: usize| match n {
        50 | 51 => Frame::flat(160, 96, 235),
        _ => scene(n, 0.0),
    };
    assert_eq!(edges_of_picture(flash), []);
    let pan = |n: usize| Frame::scene(160, 96, 25.0 * n as f64, 9.0 * n as f64);
    assert_eq!(edges_of_picture(pan), []);
}

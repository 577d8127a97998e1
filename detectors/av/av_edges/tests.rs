use super::*;
use crate::base::{Arrival, Value};
use crate::testkit::{Bench, Frame, Item, Noise, Step};

const RATE_HZ: usize = 8_000;
const PICTURES_HZ: f64 = 25.0;
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
        let samples = (0..BLOCK).map(|i| {
            // Few blocks hold an edge.
            let level = match flat.0 == flat.1 {
                true => flat.0,
                false => level(start + i as f64 / RATE_HZ as f64),
            };
            level * (f64::from(noise.bits()) / f64::from(u32::MAX) - 0.5) as f32
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
        assert!(pairs <= 13, "{step} is told after {pairs}");
        let last = said.last().unwrap().1.unwrap();
        assert!((last - step).abs() < 0.02, "{step}: {last}");
        assert!((told.1.unwrap() - step).abs() < 0.03, "{step}: {told:?}");
    }
}

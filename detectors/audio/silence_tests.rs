use super::*;
use crate::base::{Gap, Options, Stamp, Track, Value};

const RATE: u32 = 48_000;

struct Rig {
    detector: Box<dyn Detector>,
    seen: Vec<(&'static str, Reading)>,
    /// Media time in samples.
    at: u64,
}

impl Rig {
    fn new() -> Self {
        Self {
            detector: (DETECTOR.build)(&Options::defaults(DETECTOR.options)),
            seen: Vec::new(),
            at: 0,
        }
    }

    fn unit(&mut self, media: Media<'_>, samples_at: u64) {
        let nanos = samples_at * 1_000_000_000 / u64::from(RATE);
        let at = Stamp {
            media: Some(MediaTime::from_nanos(nanos as i64)),
            arrival: Arrival::from_nanos(nanos),
            gap: Gap::None,
        };
        let seen = &mut self.seen;
        let mut emit = |signal: &'static Signal, _: Option<Track>, reading: Reading| {
            seen.push((signal.name, reading));
        };
        let track = Some(Track::audio(0));
        self.detector
            .observe(&Unit { at, track, media }, &mut Sink::new(&mut emit));
    }

    fn hear(&mut self, samples: &[f32], channels: usize, block: usize) {
        for block in samples.chunks(block * channels) {
            let sound = Sound::new(block, channels, RATE).unwrap();
            let at = self.at;
            self.at += sound.frames() as u64;
            self.unit(Media::Audio(&sound), at);
        }
    }

    fn last(&self, name: &str) -> &Reading {
        let found = self.seen.iter().rev().find(|(n, _)| *n == name);
        &found.unwrap().1
    }

    fn value(&self, name: &str) -> f64 {
        match self.last(name).value {
            Value::Measured(value) => value,
            Value::Unmeasurable(why) => panic!("{name}: {why:?}"),
        }
    }
}

/// `frames` of a 1 kHz tone (or silence, amplitude 0) on each channel.
fn tone(frames: usize, amplitudes: &[f32]) -> Vec<f32> {
    (0..frames)
        .flat_map(|n| {
            let x = (n as f32 * std::f32::consts::TAU * 1000.0 / RATE as f32).cos();
            amplitudes.iter().map(move |a| a * x)
        })
        .collect()
}

fn secs(secs: f64) -> usize {
    (secs * f64::from(RATE)) as usize
}

#[test]
fn level_is_the_rms_of_the_loudest_channel() {
    let mut rig = Rig::new();
    rig.hear(&tone(secs(1.0), &[0.1, 0.5]), 2, 1024);
    // A tone of amplitude 0.5 has an RMS of 0.354: -9.03 dBFS.
    assert!((rig.value("level_dbfs") + 9.03).abs() < 0.01);
    rig.hear(&tone(secs(1.0), &[0.0, 0.0]), 2, 1024);
    assert_eq!(rig.value("level_dbfs"), FLOOR_DBFS);
}

#[test]
fn silence_is_back_dated_to_the_sample() {
    let mut rig = Rig::new();
    // Ends in the middle of a hop.
    rig.hear(&tone(secs(1.0) + 100, &[0.3, 0.3]), 2, 1024);
    assert_eq!(rig.value("silent_secs"), 0.0);
    rig.hear(&vec![0.0; secs(4.0) * 2], 2, 1024);
    let since = rig.last("silent_secs").since.unwrap();
    let want = 1.0 + 100.0 / 48_000.0;
    assert!((since.secs() - want).abs() < 1.5 / 48_000.0, "{since:?}");
    let newest = 5.0 - want;
    assert!((rig.value("silent_secs") - newest).abs() < 1e-6);
    rig.hear(&tone(secs(0.2), &[0.3, 0.3]), 2, 1024);
    assert!(rig.value("silent_secs") < 0.01);
}

#[test]
fn block_sizes_change_nothing() {
    let mut samples = tone(secs(1.3) + 77, &[0.3, 0.2]);
    samples.extend(tone(secs(1.1), &[0.3, 0.0]));
    samples.extend(vec![0.0; secs(2.0) * 2]);
    samples.extend(tone(secs(0.7), &[0.001, 0.0]));
    let told = |block: usize| {
        let mut rig = Rig::new();
        rig.hear(&samples, 2, block);
        let values = rig.seen.into_iter().map(|(name, reading)| {
            let since = reading.since.map(|t| (t.secs() * 1e6).round());
            (name, reading.value, since)
        });
        values.collect::<Vec<_>>()
    };
    let want = told(secs(10.0));
    assert_eq!(want.len(), 51 * 3);
    for block in [1, 7, 480, 1024, 1152, 4799, 48_000] {
        assert_eq!(told(block), want, "blocks of {block}");
    }
}

#[test]
fn quiet_room_tone_and_dc_are_told_apart_from_programme() {
    let mut rig = Rig::new();
    let hiss = (0..secs(4.0)).map(|n| 0.05 + if n % 2 == 0 { 0.0004 } else { -0.0004 });
    rig.hear(&hiss.collect::<Vec<_>>(), 1, 1024);
    assert!(
        rig.value("silent_secs") > 3.8,
        "-68 dBFS on a DC offset is silence"
    );
    assert!((rig.value("level_dbfs") + 68.0).abs() < 0.1);
    let mut rig = Rig::new();
    rig.hear(&tone(secs(4.0), &[0.003]), 1, 1024);
    assert_eq!(rig.value("silent_secs"), 0.0, "-53 dBFS is programme");
}

#[test]
fn one_silent_side_counts_only_while_the_other_sounds() {
    let mut rig = Rig::new();
    rig.hear(&tone(secs(1.0), &[0.3, 0.3]), 2, 1024);
    rig.hear(&tone(secs(5.0), &[0.3, 0.0]), 2, 1024);
    rig.hear(&tone(secs(5.0), &[0.0, 0.0]), 2, 1024);
    rig.hear(&tone(secs(6.0), &[0.3, 0.0]), 2, 1024);
    let value = rig.value("channel_silent_secs");
    assert!((value - 11.0).abs() < 0.1, "{value}");
    let since = rig.last("channel_silent_secs").since.unwrap().secs();
    assert!((since - 1.0).abs() < 0.001, "{since}");
    assert_eq!(rig.value("silent_secs"), 0.0);
    rig.hear(&tone(secs(0.2), &[0.3, 0.3]), 2, 1024);
    assert!(rig.value("channel_silent_secs") < 0.01);
}

#[test]
fn lfe_and_never_heard_surrounds_may_be_silent() {
    let mut rig = Rig::new();
    rig.hear(&tone(secs(1.0), &[0.3, 0.3, 0.3, 0.3, 0.0, 0.0]), 6, 1536);
    rig.hear(&tone(secs(12.0), &[0.3, 0.3, 0.3, 0.0, 0.0, 0.0]), 6, 1536);
    assert!(rig.value("channel_silent_secs") < 0.01);
    rig.hear(&tone(secs(12.0), &[0.3, 0.0, 0.3, 0.0, 0.0, 0.0]), 6, 1536);
    assert!(rig.value("channel_silent_secs") > 11.8);
}

#[test]
fn odd_samples_neither_break_nor_hide_anything() {
    let mut rig = Rig::new();
    let mut samples = tone(secs(1.0), &[0.3]);
    for x in samples.iter_mut().step_by(3) {
        *x = f32::NAN;
    }
    rig.hear(&samples, 1, 1024);
    assert_eq!(rig.value("silent_secs"), 0.0);
    rig.hear(
        &[f32::INFINITY, f32::NEG_INFINITY].repeat(secs(0.2)),
        1,
        1024,
    );
    assert!(rig.value("level_dbfs") > -0.1);
    rig.hear(&vec![f32::NAN; secs(1.0)], 1, 1024);
    let why = Value::Unmeasurable(Why::UnsupportedFormat);
    assert_eq!(rig.last("silent_secs").value, why);
}

#[test]
fn missing_sound_is_not_silence() {
    let mut rig = Rig::new();
    rig.hear(&vec![0.0; secs(1.0)], 1, 1024);
    rig.at += secs(20.0) as u64;
    rig.hear(&vec![0.0; secs(1.0)], 1, 1024);
    assert!((rig.value("silent_secs") - 2.0).abs() < 0.05);
    let late = rig.at + secs(11.0) as u64;
    rig.unit(Media::Tick, late);
    assert_eq!(
        rig.last("silent_secs").value,
        Value::Unmeasurable(Why::NoTrack)
    );
}

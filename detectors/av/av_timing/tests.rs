use super::*;
use crate::base::{Picture, Range, Stamp, TrackInfo, Value};
use crate::plane::{Plane, Samples};

const V: Track = Track::video(0);
const A: Track = Track::audio(0);
const FRAME: u64 = 1024;
const RATE: u32 = 48_000;

/// What a decoded unit or a skew looks like at nominal second `t`; `None` = lost.
type Map = fn(f64) -> Option<f64>;

/// Skew of a multiplex with audio PES of 0.17 s and B pictures: so uneven that it must be judged by statistics.
fn uneven(t: f64) -> f64 {
    const MS: [i32; 25] = [
        -240, -229, -219, -168, -357, -347, -256, -245, -195, -224, -173, -243, -232, -221, -171,
        -160, -349, -259, -208, -237, -227, -336, -245, -235, -224,
    ];
    f64::from(MS[(t * 5.86) as usize % MS.len()]) / 1e3
}

/// A stream of 25 pictures a second and AAC frames, in the order of a multiplex.
struct Sim {
    detector: Box<dyn Detector>,
    /// Emissions with the nominal time at which they came.
    seen: Vec<(f64, &'static str, Reading)>,
    now: f64,
    pictures: u64,
    frames: u64,
    /// Timestamp of a sound block, of a picture, and their skew beside each other.
    audio: Map,
    video: Map,
    skew: Map,
    /// Timestamps are rounded to this many a second.
    ticks: f64,
    /// Decoded sound comes this long after the fact about it, seconds.
    latency: f64,
    gap: Gap,
    basis: SkewBasis,
    /// Track of the pictures.
    of: Track,
    /// Sound blocks between two facts about the skew.
    every: u64,
}

fn same(t: f64) -> Option<f64> {
    Some(t)
}

/// Jitter of interleaving: a repeating pattern of tens of milliseconds around +30 ms.
fn jitter(t: f64) -> f64 {
    let n = (t * 47.0) as u64;
    0.03 + ((n * 7919) % 11) as f64 * 0.008 - 0.04
}

impl Sim {
    fn new() -> Self {
        Self {
            detector: Box::new(AvTiming::default()),
            seen: Vec::new(),
            now: 0.0,
            pictures: 0,
            frames: 0,
            audio: same,
            video: same,
            skew: |t| Some(jitter(t)),
            ticks: 90_000.0,
            latency: 0.3,
            gap: Gap::None,
            basis: SkewBasis::Multiplex,
            of: V,
            every: 1,
        }
    }

    fn unit(&mut self, track: Option<Track>, media: Option<f64>, gap: Gap, of: Media<'_>) {
        let media = media.map(|t| (t * self.ticks).round() / self.ticks);
        let at = Stamp {
            media: media.map(|t| MediaTime::from_nanos((t * 1e9) as i64)),
            arrival: Arrival::from_nanos(((self.now + 1.0) * 1e9) as u64),
            gap,
        };
        let (seen, now) = (&mut self.seen, self.now);
        let mut emit = |signal: &'static Signal, _: Option<Track>, reading: Reading| {
            if let Value::Measured(v) = reading.value {
                assert!((signal.range.0..=signal.range.1).contains(&v), "{v}");
            }
            seen.push((now, signal.name, reading));
        };
        let unit = Unit {
            at,
            track,
            media: of,
        };
        self.detector.observe(&unit, &mut Sink::new(&mut emit));
    }

    fn fact(&mut self, track: Option<Track>, fact: Fact) {
        let now = self.now;
        self.unit(track, Some(now), Gap::None, Media::Fact(&fact));
    }

    fn announce(&mut self, tracks: &[Track]) {
        let tracks: Vec<_> = tracks.iter().map(|track| (*track, None)).collect();
        self.announce_members(&tracks);
    }

    fn announce_members(&mut self, tracks: &[(Track, Option<&str>)]) {
        let infos = tracks.iter().map(|(track, member)| TrackInfo {
            track: *track,
            codec: "x".to_owned(),
            language: None,
            problem: None,
            member: member.map(str::to_owned),
        });
        self.fact(None, Fact::Tracks(infos.collect()));
    }

    fn run(&mut self, until: f64) -> &mut Self {
        let luma = [0; 16];
        let samples = vec![0.0; FRAME as usize];
        while self.now < until {
            let picture_at = self.pictures as f64 / 25.0;
            let sound_at = (self.frames * FRAME) as f64 / f64::from(RATE);
            self.now = picture_at.min(sound_at);
            if picture_at <= sound_at {
                self.pictures += 1;
                if let Some(media) = (self.video)(picture_at) {
                    let plane = Plane::new(Samples::U8(&luma), 4, 4, 4).unwrap();
                    let picture = Picture::new(plane, Range::Limited, None);
                    let gap = Gap::None;
                    self.unit(Some(self.of), Some(media), gap, Media::Video(&picture));
                }
                continue;
            }
            self.frames += 1;
            let ahead = sound_at + self.latency;
            if let (Some(_), Some(secs)) = ((self.audio)(ahead), (self.skew)(ahead)) {
                let fact = Fact::AvSkew {
                    audio_minus_video_secs: secs,
                    basis: self.basis,
                };
                if self.frames.is_multiple_of(self.every) {
                    self.unit(Some(A), Some(ahead), Gap::None, Media::Fact(&fact));
                }
            }
            if let Some(media) = (self.audio)(sound_at) {
                let sound = Sound::new(&samples, 1, RATE).unwrap();
                let gap = std::mem::take(&mut self.gap);
                self.unit(Some(A), Some(media), gap, Media::Audio(&sound));
            }
        }
        self
    }

    fn last(&self, name: &str) -> &Reading {
        let found = self.seen.iter().rev().find(|(_, n, _)| *n == name);
        &found.unwrap().2
    }

    fn value(&self, name: &str) -> f64 {
        match self.last(name).value {
            Value::Measured(value) => value,
            Value::Unmeasurable(why) => panic!("{name}: {why:?}"),
        }
    }

    /// Largest magnitude of a signal over the whole run.
    fn worst(&self, name: &str) -> f64 {
        let of = self.seen.iter().filter(|(_, n, _)| *n == name);
        of.filter_map(|(_, _, r)| match r.value {
            Value::Measured(v) => Some(v.abs()),
            Value::Unmeasurable(_) => None,
        })
        .fold(0.0, f64::max)
    }

    /// When a signal first met a limit.
    fn met(&self, name: &str, limit: Limit) -> Option<f64> {
        let hit = |v: Value| matches!(v, Value::Measured(v) if limit.met(v));
        let mut of = self.seen.iter().filter(|(_, n, _)| *n == name);
        of.find(|(_, _, r)| hit(r.value)).map(|(t, _, _)| *t)
    }
}

fn near(a: f64, b: f64, slack: f64) {
    assert!((a - b).abs() <= slack, "{a} is not {b}");
}

#[test]
fn a_clean_stream_with_jittering_interleave_tells_zeros() {
    for ticks in [1000.0, 90_000.0] {
        let mut sim = Sim::new();
        sim.ticks = ticks;
        sim.run(120.0);
        assert_eq!(sim.value("audio_early_secs"), 0.0);
        for name in [
            "audio_early_secs",
            "audio_gap_secs",
            "audio_overlap_secs",
            "video_gap_secs",
        ] {
            assert_eq!(sim.worst(name), 0.0, "{name}");
        }
        assert!(sim.worst("drift_ppm") < 5.0, "{}", sim.worst("drift_ppm"));
    }
}

#[test]
fn nothing_is_claimed_before_the_baseline_is_learned() {
    let mut sim = Sim::new();
    sim.run(2.0);
    let early = sim.last("audio_early_secs").value;
    assert_eq!(early, Value::Unmeasurable(Why::WarmingUp));
    sim.run(4.0);
    assert_eq!(sim.value("audio_early_secs"), 0.0);
    let drift = sim.last("drift_ppm").value;
    assert_eq!(drift, Value::Unmeasurable(Why::WarmingUp));
}

#[test]
fn sound_shifted_late_is_found_with_its_exact_size_and_start() {
    let mut sim = Sim::new();
    sim.audio = |t| {
        Some(if (10.0..30.0).contains(&t) {
            t + 0.2
        } else {
            t
        })
    };
    sim.skew = |t| Some(jitter(t) + if (10.0..30.0).contains(&t) { 0.2 } else { 0.0 });
    sim.run(29.0);
    near(sim.value("audio_early_secs"), -0.2, 0.002);
    let since = sim.last("audio_early_secs").since.unwrap();
    near(since.secs(), 10.2, 0.03);
    let found = sim.met("audio_early_secs", Limit::AtMost(-0.185)).unwrap();
    assert!(found < 11.5, "found at {found}");
    sim.run(34.0);
    assert_eq!(sim.value("audio_early_secs"), 0.0);
}

#[test]
fn sound_shifted_early_is_found_and_a_long_shift_is_not_absorbed() {
    let mut sim = Sim::new();
    sim.audio = |t| Some(if t >= 10.0 { t - 0.1 } else { t });
    sim.skew = |t| Some(jitter(t) - if t >= 10.0 { 0.1 } else { 0.0 });
    sim.run(400.0);
    near(sim.value("audio_early_secs"), 0.1, 0.002);
    let found = sim.met("audio_early_secs", Limit::AtLeast(0.09)).unwrap();
    assert!(found < 11.5, "found at {found}");
}

#[test]
fn shifts_of_seconds_add_up_and_come_back() {
    let mut sim = Sim::new();
    fn by(t: f64) -> f64 {
        match t {
            t if t < 10.0 => 0.0,
            t if t < 20.0 => 3.0,
            t if t < 30.0 => 3.06,
            _ => 0.0,
        }
    }
    sim.audio = |t| Some(t + by(t));
    sim.skew = |t| Some(jitter(t) + by(t));
    sim.run(19.0);
    near(sim.value("audio_early_secs"), -3.0, 0.002);
    sim.run(29.0);
    near(sim.value("audio_early_secs"), -3.06, 0.004);
    sim.run(40.0);
    assert_eq!(sim.value("audio_early_secs"), 0.0);
}

#[test]
fn pictures_shifted_late_are_sound_early() {
    let mut sim = Sim::new();
    sim.video = |t| Some(if t >= 10.0 { t + 0.2 } else { t });
    sim.skew = |t| Some(jitter(t) - if t >= 10.0 { 0.2 } else { 0.0 });
    sim.run(20.0);
    near(sim.value("audio_early_secs"), 0.2, 0.002);
    assert_eq!(sim.worst("audio_gap_secs"), 0.0);
}

#[test]
fn sound_is_compared_with_the_pictures_of_its_own_rendition() {
    for (member, early) in [(Some("low"), 0.2), (None, 0.0)] {
        let mut sim = Sim::new();
        sim.of = Track::video(2);
        sim.announce_members(&[(V, Some("high")), (sim.of, Some("low")), (A, member)]);
        sim.video = |t| Some(if t >= 10.0 { t + 0.2 } else { t });
        sim.skew = |t| Some(jitter(t) - if t >= 10.0 { 0.2 } else { 0.0 });
        sim.run(20.0);
        near(sim.value("audio_early_secs"), early, 0.002);
    }
}

#[test]
fn lost_sound_is_a_gap_and_no_shift() {
    let mut sim = Sim::new();
    sim.audio = |t| (!(10.0..10.2).contains(&t)).then_some(t);
    sim.run(15.0);
    near(sim.value("audio_gap_secs"), 0.2, 0.03);
    near(sim.last("audio_gap_secs").since.unwrap().secs(), 10.2, 0.03);
    assert_eq!(sim.worst("audio_early_secs"), 0.0);
    sim.run(22.0);
    assert_eq!(sim.value("audio_gap_secs"), 0.0);
}

#[test]
fn an_uneven_multiplex_hides_no_shift_and_makes_none() {
    let mut sim = Sim::new();
    sim.every = 8;
    sim.skew = |t| Some(uneven(t) - if t >= 30.0 { 0.2 } else { 0.0 });
    sim.audio = |t| Some(if t >= 30.0 { t - 0.2 } else { t });
    sim.run(40.0);
    near(sim.value("audio_early_secs"), 0.2, 0.002);
    let found = sim.met("audio_early_secs", Limit::AtLeast(0.045)).unwrap();
    assert!((30.0..32.5).contains(&found), "found at {found}");
    let mut sim = Sim::new();
    sim.every = 8;
    sim.skew = |t| Some(uneven(t));
    // Sound is lost every 7 s.
    sim.audio = |t| (t < 10.0 || t % 7.0 > 0.15).then_some(t);
    sim.run(300.0);
    assert_eq!(sim.worst("audio_early_secs"), 0.0);
    near(sim.worst("audio_gap_secs"), 0.3, 0.05);
}

#[test]
fn another_interleaving_is_no_shift() {
    let mut sim = Sim::new();
    sim.skew = |t| Some(jitter(t) + if t >= 10.0 { 0.25 } else { 0.0 });
    // Sound lost later must not be taken for the missing witness.
    sim.audio = |t| (!(60.0..60.25).contains(&t)).then_some(t);
    sim.run(90.0);
    assert_eq!(sim.worst("audio_early_secs"), 0.0);
    near(sim.worst("audio_gap_secs"), 0.25, 0.03);
}

#[test]
fn a_shift_behind_a_discontinuity_is_found_without_a_gap() {
    let mut sim = Sim::new();
    sim.audio = |t| Some(if t >= 10.0 { t + 0.2 } else { t });
    sim.skew = |t| Some(jitter(t) + if t >= 10.0 { 0.2 } else { 0.0 });
    sim.run(9.99);
    sim.gap = Gap::Discontinuity;
    sim.run(15.0);
    near(sim.value("audio_early_secs"), -0.2, 0.002);
    assert_eq!(sim.worst("audio_gap_secs"), 0.0);
}

#[test]
fn what_we_dropped_is_nobodys_gap() {
    let mut sim = Sim::new();
    sim.audio = |t| (!(10.0..10.5).contains(&t)).then_some(t);
    sim.run(9.99);
    sim.gap = Gap::WeDropped(23);
    sim.run(20.0);
    assert_eq!(sim.worst("audio_gap_secs"), 0.0);
    assert_eq!(sim.worst("audio_early_secs"), 0.0);
}

#[test]
fn a_fast_sample_clock_is_drift_and_neither_gap_nor_shift() {
    let mut sim = Sim::new();
    // 48,000 samples take 150 ppm less time than they should.
    sim.audio = |t| Some(t * (1.0 - 150e-6));
    sim.ticks = 1000.0;
    sim.run(120.0);
    near(sim.value("drift_ppm"), 150.0, 8.0);
    assert_eq!(sim.worst("audio_overlap_secs"), 0.0);
    assert_eq!(sim.worst("audio_early_secs"), 0.0);
}

#[test]
fn holes_in_pictures_are_gaps_but_a_variable_rate_is_none() {
    let mut sim = Sim::new();
    sim.video = |t| (!(10.0..11.0).contains(&t)).then_some(t);
    sim.run(15.0);
    near(sim.value("video_gap_secs"), 1.0, 0.05);
    let mut sim = Sim::new();
    // Every picture is held for 0.2 to 0.4 s.
    sim.video = |t| {
        let n = (t * 25.0).round() as u64;
        matches!(n % 25, 0 | 5 | 15).then_some(t)
    };
    sim.run(60.0);
    assert_eq!(sim.worst("video_gap_secs"), 0.0);
    assert_eq!(sim.worst("audio_early_secs"), 0.0);
}

#[test]
fn segments_that_begin_apart_are_a_shift() {
    let mut sim = Sim::new();
    sim.basis = SkewBasis::Segment;
    sim.every = 94;
    sim.latency = 4.0;
    sim.audio = |t| Some(if t >= 20.0 { t - 0.2 } else { t });
    // Segments are cut at pictures, sound begins with the next whole frame.
    sim.skew = |t| Some(((t * 1e3) as u64 % 21) as f64 / 1e3 - if t >= 20.0 { 0.2 } else { 0.0 });
    sim.run(19.0);
    assert_eq!(sim.value("audio_early_secs"), 0.0);
    sim.run(26.0);
    near(sim.value("audio_early_secs"), 0.2, 0.002);
}

#[test]
fn the_start_of_a_programme_is_measured_and_priming_has_its_name() {
    fn early<const MICROS: i64>(t: f64) -> Option<f64> {
        Some(t - MICROS as f64 / 1e6)
    }
    let told = |codec: &str, from_start, audio: Map| {
        let mut sim = Sim::new();
        sim.audio = audio;
        let infos = [V, A].map(|track| TrackInfo {
            track,
            codec: codec.to_owned(),
            language: None,
            problem: None,
            member: None,
        });
        if from_start {
            sim.fact(None, Fact::Input(InputEvent::FromStart));
        }
        sim.fact(None, Fact::Tracks(infos.to_vec()));
        sim.run(6.0);
        // Nothing of it is a shift.
        assert_eq!(sim.worst("audio_early_secs"), 0.0);
        let value = |name| sim.last(name).value;
        (value("audio_start_early_secs"), value("priming_samples"))
    };
    let measured = |(offset, samples), early: f64, primed: f64| {
        let (Value::Measured(offset), Value::Measured(samples)) = (offset, samples) else {
            panic!("{offset:?} {samples:?}");
        };
        near(offset, early, 0.001);
        near(samples, primed, 72.0);
        assert_eq!(samples > 0.0, primed > 0.0);
    };
    measured(told("aac", true, early::<0>), 0.0, 0.0);
    measured(told("aac", true, early::<21_333>), 0.0213, 1_024.0);
    measured(told("aac", true, early::<-21_333>), -0.0213, 1_024.0);
    measured(told("aac", true, early::<42_667>), 0.0427, 2_048.0);
    measured(told("aac", true, early::<48_000>), 0.048, 2_304.0);
    measured(told("aac", true, early::<32_000>), 0.032, 0.0);
    measured(told("aac", true, early::<700_000>), 0.7, 0.0);
    // Other codecs have none.
    measured(told("mp2", true, early::<21_333>), 0.0213, 0.0);
    let joined = told("aac", false, early::<21_333>);
    let none = Value::Unmeasurable(Why::NotApplicable);
    assert_eq!(joined, (none, none), "where it was joined, nothing begins");
}

#[test]
fn one_kind_alone_has_nothing_to_compare_with() {
    let mut sim = Sim::new();
    sim.announce(&[A]);
    sim.run(5.0);
    let early = sim.last("audio_early_secs").value;
    assert_eq!(early, Value::Unmeasurable(Why::NotApplicable));
    assert_eq!(sim.value("audio_gap_secs"), 0.0);
    let mut sim = Sim::new();
    sim.announce(&[V]);
    sim.unit(None, None, Gap::None, Media::Tick);
    let early = sim.last("audio_early_secs").value;
    assert_eq!(early, Value::Unmeasurable(Why::NotApplicable));
}

#[test]
fn a_withdrawn_track_is_not_judged_any_more() {
    let mut sim = Sim::new();
    sim.announce(&[V, A]);
    sim.run(5.0);
    sim.announce(&[V]);
    for name in ["audio_early_secs", "audio_gap_secs", "drift_ppm"] {
        let value = sim.last(name).value;
        assert_eq!(value, Value::Unmeasurable(Why::NotApplicable), "{name}");
    }
    assert_eq!(sim.value("video_gap_secs"), 0.0);
}

#[test]
fn after_another_timeline_the_baseline_is_learned_again() {
    let mut sim = Sim::new();
    sim.skew = |t| Some(jitter(t) + if t >= 10.0 { 0.5 } else { 0.0 });
    sim.run(10.0);
    for track in [V, A] {
        sim.fact(Some(track), Fact::TimelineJump { by_secs: -3600.0 });
    }
    sim.run(11.0);
    let early = sim.last("audio_early_secs").value;
    assert_eq!(early, Value::Unmeasurable(Why::WarmingUp));
    sim.run(60.0);
    assert_eq!(sim.worst("audio_early_secs"), 0.0);
    assert_eq!(sim.value("audio_early_secs"), 0.0);
}

#[test]
fn absence_is_unmeasurable_and_a_reset_forgets() {
    let mut sim = Sim::new();
    sim.run(8.0);
    sim.now += 11.0;
    sim.unit(None, None, Gap::None, Media::Tick);
    for name in ["audio_early_secs", "audio_gap_secs", "video_gap_secs"] {
        let value = sim.last(name).value;
        assert_eq!(value, Value::Unmeasurable(Why::NoTrack), "{name}");
    }
    sim.detector.reset(Reset::Reconnect);
    let told = sim.seen.len();
    sim.unit(None, None, Gap::None, Media::Tick);
    assert_eq!(sim.seen.len(), told, "no track is known");
}

use std::time::Duration;

use super::*;
use crate::base::{Arrival, Gap, Picture, PicturePrint, Range, Sound, SoundPrint, Stamp, Value};
use crate::testkit::{Frame, Noise};

const RATE_HZ: u32 = 48_000;

/// A programme as a function of time: how far the camera has moved, and how loud the sound is.
struct Programme {
    places: Vec<f64>,
    levels: Vec<f64>,
    sound: Vec<f32>,
}

impl Programme {
    fn new(seed: u64, secs: usize) -> Self {
        let mut noise = Noise::new(seed);
        let mut any = |n: u32| noise.bits() % n;
        // The camera changes its pace every 120 ms or so.
        let (mut place, mut pace) = (0.0, 0.0);
        let places = (0..secs * 1_000).map(|_| {
            if any(120) == 0 {
                pace = f64::from(any(9)) / 40.0;
            }
            place += pace;
            place
        });
        let places = places.collect();
        let mut level = 0.0;
        let levels: Vec<f64> = (0..secs * 1_000)
            .map(|_| {
                if any(70) == 0 {
                    level = [0.01, 0.05, 0.2, 0.6][any(4) as usize];
                }
                level
            })
            .collect();
        let samples = 0..secs * RATE_HZ as usize;
        let sound = samples.map(|n| (noise.normal(levels[n / 48]) as f32).clamp(-1.0, 1.0));
        Self {
            places,
            sound: sound.collect(),
            levels,
        }
    }

    fn secs(&self) -> f64 {
        self.levels.len() as f64 / 1e3
    }

    fn picture(&self, secs: f64, width: usize, height: usize) -> Option<Frame> {
        let place = self.places.get((secs * 1e3) as usize)?;
        let scale = width as f64 / 320.0;
        let mut frame = Frame::scene(width, height, place * scale, 0.0);
        frame.fill(width / 8, height / 8, width / 6, height / 10, 235);
        Some(frame)
    }
}

/// One place at which the programme is had.
struct Copy {
    picture_hz: f64,
    size: (usize, usize),
    gain: f32,
    /// By how much pictures and sound are later than in the programme.
    late_secs: (f64, f64),
}

const PLAIN: Copy = Copy {
    picture_hz: 25.0,
    size: (160, 96),
    gain: 1.0,
    late_secs: (0.0, 0.0),
};

enum Piece {
    Picture(Frame),
    Sound(Vec<f32>),
}

impl Copy {
    /// All units of it in order of their times.
    fn pieces(&self, of: &Programme) -> Vec<(MediaTime, Piece)> {
        let time = |secs: f64| MediaTime::from_nanos((secs * 1e9).round() as i64);
        let mut pieces = Vec::new();
        for n in 0.. {
            let at = n as f64 / self.picture_hz;
            let from = at - self.late_secs.0;
            if at > of.secs() {
                break;
            }
            if let (true, Some(frame)) = (from >= 0.0, of.picture(from, self.size.0, self.size.1)) {
                pieces.push((time(at), Piece::Picture(frame)));
            }
        }
        let late = (self.late_secs.1 * f64::from(RATE_HZ)) as i64;
        for n in (0..of.sound.len() as i64).step_by(1024) {
            let samples = (n..n + 1024).map(|n| of.sound.get(usize::try_from(n - late).ok()?));
            let samples: Vec<f32> = samples.map_while(|s| s.map(|s| s * self.gain)).collect();
            if samples.len() == 1024 {
                pieces.push((time(n as f64 / f64::from(RATE_HZ)), Piece::Sound(samples)));
            }
        }
        pieces.sort_by_key(|p| p.0);
        pieces
    }

    fn prints(&self, of: &Programme) -> Vec<(MediaTime, Print)> {
        let mut printer = Printer::default();
        let mut prints = Vec::new();
        for (at, piece) in self.pieces(of) {
            match &piece {
                Piece::Picture(frame) => {
                    let picture = Picture::new(frame.plane().unwrap(), Range::Limited, None);
                    printer.picture(at, picture.tiles());
                }
                Piece::Sound(samples) => {
                    printer.sound(0, at, &Sound::new(samples, 1, RATE_HZ).unwrap());
                }
            }
            prints.extend(printer.take(at).map(|print| (at, print)));
        }
        prints
    }
}

/// What the detector said of one signal: when, and what.
type Said = Vec<(f64, &'static str, Value)>;

fn watch(own: Vec<(MediaTime, Piece)>, reference: Vec<(MediaTime, Print)>) -> Said {
    let mut detector = AvReference::default();
    let mut said = Vec::new();
    let mut reference = reference.into_iter().peekable();
    for (at, piece) in own {
        let mut unit = |track, media: Media<'_>| {
            let mut emit = |signal: &'static Signal, _, reading: Reading| {
                said.push((at.secs(), signal.name, reading.value));
            };
            let stamp = Stamp {
                media: Some(at),
                arrival: Arrival::default().plus(at.since(MediaTime::default())),
                gap: Gap::None,
            };
            let unit = Unit {
                at: stamp,
                track,
                media,
            };
            detector.observe(&unit, &mut Sink::new(&mut emit));
        };
        while let Some((_, print)) = reference.next_if(|(then, _)| *then <= at) {
            unit(None, Media::Fact(&Fact::ReferencePrint(print)));
        }
        match &piece {
            Piece::Picture(frame) => {
                let picture = Picture::new(frame.plane().unwrap(), Range::Limited, None);
                unit(Some(Track::video(0)), Media::Video(&picture));
            }
            Piece::Sound(samples) => {
                let sound = Sound::new(samples, 1, RATE_HZ).unwrap();
                unit(Some(Track::audio(0)), Media::Audio(&sound));
            }
        }
    }
    said
}

fn measured(said: &Said, signal: &str) -> Vec<(f64, f64)> {
    let of = said.iter().filter(|s| s.1 == signal);
    of.filter_map(|(at, _, value)| match value {
        Value::Measured(value) => Some((*at, *value)),
        Value::Unmeasurable(_) => None,
    })
    .collect()
}

#[test]
fn delays_are_found_at_any_rate_size_and_loudness() {
    let programme = Programme::new(3, 22);
    let reference = PLAIN.prints(&programme);
    for (picture_hz, size, gain, late_secs) in [
        (25.0, (160, 96), 1.0, (0.0, 0.0)),
        (25.0, (320, 180), 0.2, (0.0, 0.12)),
        (24.0, (256, 144), 0.5, (0.4, 0.355)),
        (30_000.0 / 1_001.0, (256, 144), 1.0, (1.0, -0.3)),
        (50.0, (160, 96), 0.7, (-1.5, -1.62)),
        (60.0, (192, 108), 0.7, (-0.2, 1.9)),
    ] {
        let own = Copy {
            picture_hz,
            size,
            gain,
            late_secs,
        };
        let said = watch(own.pieces(&programme), reference.clone());
        let name = format!("{picture_hz} Hz, {late_secs:?}");
        let sound = measured(&said, "audio_delay_secs");
        let first = sound.first().unwrap_or_else(|| panic!("{name}: no sound"));
        assert!(first.0 <= 13.0, "{name}: sound only after {} s", first.0);
        for (at, secs) in sound {
            let off = secs - late_secs.1;
            assert!(off.abs() <= 0.002, "{name}: sound off by {off} at {at}");
        }
        let half = if picture_hz == 25.0 {
            0.003
        } else {
            0.5 / picture_hz.min(25.0)
        };
        let pictures = measured(&said, "video_delay_secs");
        let first = pictures
            .first()
            .unwrap_or_else(|| panic!("{name}: no pictures"));
        assert!(first.0 <= 13.0, "{name}: pictures only after {} s", first.0);
        for (at, secs) in pictures {
            let off = secs - late_secs.0;
            assert!(off.abs() <= half, "{name}: pictures off by {off} at {at}");
        }
        let early = measured(&said, "audio_early_secs").last().unwrap().1;
        let off = early - (late_secs.0 - late_secs.1);
        assert!(off.abs() <= half + 0.002, "{name}: early {early}");
        assert!(measured(&said, "mismatch_secs").iter().all(|m| m.1 < 10.0));
    }
}

#[test]
fn a_delay_of_half_a_minute_is_found_and_followed() {
    let programme = Programme::new(5, 90);
    let reference = PLAIN.prints(&programme);
    for late in [-28.0, 28.0] {
        let own = Copy {
            late_secs: (late, late - 0.1),
            ..PLAIN
        };
        let said = watch(own.pieces(&programme), reference.clone());
        let early = measured(&said, "audio_early_secs");
        assert!(early.len() >= 5, "{late}: {early:?}");
        for (at, secs) in early {
            assert!((secs - 0.1).abs() <= 0.006, "{late}: {secs} at {at}");
        }
    }
}

#[test]
fn another_programme_is_told_and_never_matched() {
    for seed in 0..4 {
        let (a, b) = (
            Programme::new(2 * seed, 45),
            Programme::new(2 * seed + 1, 45),
        );
        let said = watch(PLAIN.pieces(&b), PLAIN.prints(&a));
        for signal in ["audio_early_secs", "audio_delay_secs", "video_delay_secs"] {
            assert_eq!(measured(&said, signal), [], "{seed} {signal}");
        }
        let longest = measured(&said, "mismatch_secs").last().unwrap().1;
        assert!(longest >= 30.0, "{seed}: {longest}");
    }
}

#[test]
fn a_step_is_told_within_seconds() {
    let programme = Programme::new(9, 60);
    let reference = PLAIN.prints(&programme);
    let whole = PLAIN.pieces(&programme);
    let shifted = Copy {
        late_secs: (0.0, 0.08),
        ..PLAIN
    };
    let step = MediaTime::from_millis(30_000);
    let sound = |p: &Piece| matches!(p, Piece::Sound(_));
    let before = whole.into_iter().filter(|(at, p)| *at < step || !sound(p));
    let after = shifted.pieces(&programme).into_iter();
    let mut own: Vec<_> = before
        .chain(after.filter(|(at, p)| *at >= step && sound(p)))
        .collect();
    own.sort_by_key(|p| p.0);
    let early = measured(&watch(own, reference), "audio_early_secs");
    let right = |(at, secs): &(f64, f64)| match *at {
        ..30.0 => secs.abs() < 0.005,
        42.0.. => (secs + 0.08).abs() < 0.003,
        _ => true,
    };
    assert!(early.iter().all(right), "{early:?}");
    assert!(early.iter().any(|e| e.0 > 42.0), "{early:?}");
}

#[test]
fn stillness_and_silence_are_not_compared() {
    let mut programme = Programme::new(1, 30);
    programme.places.fill(7.0);
    programme.sound.fill(0.0);
    let said = watch(PLAIN.pieces(&programme), PLAIN.prints(&programme));
    assert!(!said.is_empty());
    let told = said.iter().filter(|s| matches!(s.2, Value::Measured(_)));
    assert_eq!(told.count(), 0);
}

#[test]
fn prints_are_small_and_do_not_depend_on_blocks() {
    let programme = Programme::new(4, 20);
    let own = Copy {
        picture_hz: 60.0,
        ..PLAIN
    };
    let prints = own.prints(&programme);
    let pictures: usize = prints.iter().map(|p| p.1.pictures.len()).sum();
    assert!((500..=620).contains(&pictures), "{pictures} in 20 s");
    let bits = |prints: &[(MediaTime, Print)]| -> Vec<bool> {
        let runs = prints.iter().flat_map(|p| &p.1.sound);
        runs.flat_map(|run| run.bits.iter().copied()).collect()
    };
    let whole = bits(&prints);
    let mut printer = Printer::default();
    let mut cut = Vec::new();
    let mut at = 0;
    for n in 0.. {
        let size = [1, 480, 37, 2_000][n % 4];
        let Some(samples) = programme.sound.get(at..at + size) else {
            break;
        };
        let time = MediaTime::from_nanos((at as f64 / 48e3 * 1e9).round() as i64);
        printer.sound(0, time, &Sound::new(samples, 1, RATE_HZ).unwrap());
        at += size;
        cut.extend(printer.take(time).map(|print| (time, print)));
    }
    let cut = bits(&cut);
    let common = cut.len().min(whole.len());
    assert!(common > 18_000);
    assert_eq!(whole[..common], cut[..common]);
}

#[test]
fn runs_with_holes_keep_their_places() {
    let mut bits = Bits::default();
    let run = |millis: i64, count: usize, seed: u64| {
        let mut noise = Noise::new(seed);
        SoundPrint {
            track: 0,
            from: MediaTime::from_millis(millis),
            bits: (0..count).map(|_| noise.bits().is_multiple_of(2)).collect(),
        }
    };
    bits.add(&run(500, 4_800, 1), KEEP_SECS);
    bits.add(&run(6_500, 4_800, 2), KEEP_SECS);
    let end = bits.end().unwrap().secs();
    assert!((end - 11.5).abs() < 0.002, "{end}");
    let mut later = Bits::default();
    later.add(&run(1_250, 4_800, 1), KEEP_SECS);
    later.add(&run(7_250, 4_800, 2), KEEP_SECS);
    let found = later.find(later.end().unwrap(), 10.0, &bits, (-5.0, 5.0));
    let found = found.unwrap();
    assert!((found.delay_secs - 0.75).abs() < 0.001, "{found:?}");
    assert!(found.likeness > 0.99, "{found:?}");
}

#[test]
fn a_timeline_that_begins_anew_is_followed() {
    let mut motion = Motion::default();
    let print = |millis| PicturePrint {
        at: MediaTime::from_millis(millis),
        motion: [3; 4],
    };
    for millis in [0, 40, 80] {
        motion.add(print(millis), KEEP_SECS);
    }
    motion.add(print(40), KEEP_SECS);
    assert_eq!(motion.secs(), 0.0);
    motion.add(print(3_600_000), KEEP_SECS);
    assert_eq!(motion.secs(), 0.0);
    assert_eq!(
        motion.end(),
        Some(MediaTime::default().plus(Duration::from_secs(3_600)))
    );
}

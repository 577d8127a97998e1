use super::*;
use crate::base::{Arrival, Gap, Kind, Picture, Range, Sound, Stamp, Value};
use crate::testkit::{Frame, Noise};

const RATE_HZ: u32 = 48_000;

/// A clip as two functions of time.
struct Clip<'a> {
    secs: f64,
    picture_hz: f64,
    picture: &'a dyn Fn(f64) -> Frame,
    sample: &'a dyn Fn(f64) -> f32,
}

/// All readings of the offset: when, and what.
fn watch(clip: &Clip<'_>) -> Vec<(f64, Option<f64>)> {
    let mut detector = AvPattern::default();
    let mut said = Vec::new();
    let mut times: Vec<(f64, Option<Kind>)> = Vec::new();
    let pictures = (clip.secs * clip.picture_hz) as usize;
    times.extend((0..pictures).map(|n| (n as f64 / clip.picture_hz, Some(Kind::Video))));
    let blocks = (clip.secs * f64::from(RATE_HZ) / 1024.0) as usize;
    let block = |n: usize| n as f64 * 1024.0 / f64::from(RATE_HZ);
    times.extend((0..blocks).map(|n| (block(n), Some(Kind::Audio))));
    times.extend((0..(4.0 * clip.secs) as usize).map(|n| (n as f64 / 4.0, None)));
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (at, kind) in times {
        let mut emit = |signal: &'static Signal, _, reading: Reading| {
            if signal.name == "audio_early_secs" {
                said.push((
                    at,
                    match reading.value {
                        Value::Measured(value) => Some(value),
                        Value::Unmeasurable(_) => None,
                    },
                ));
            }
        };
        let media = MediaTime::from_nanos((at * 1e9).round() as i64);
        let stamp = Stamp {
            media: Some(media),
            arrival: Arrival::default().plus(media.since(MediaTime::default())),
            gap: Gap::None,
        };
        let mut unit = |track, media: Media<'_>| {
            let unit = Unit {
                at: stamp,
                track,
                media,
            };
            detector.observe(&unit, &mut Sink::new(&mut emit));
        };
        match kind {
            Some(Kind::Video) => {
                let frame = (clip.picture)(at);
                let picture = Picture::new(frame.plane().unwrap(), Range::Limited, None);
                unit(Some(Track::video(0)), Media::Video(&picture));
            }
            Some(Kind::Audio) => {
                let time = |n: u32| at + f64::from(n) / f64::from(RATE_HZ);
                let samples: Vec<f32> = (0..1024).map(|n| (clip.sample)(time(n))).collect();
                let sound = Sound::new(&samples, 1, RATE_HZ).unwrap();
                unit(Some(Track::audio(0)), Media::Audio(&sound));
            }
            None => unit(None, Media::Tick),
        }
    }
    said
}

fn tone(secs: f64, hz: f64) -> f32 {
    (0.4 * (std::f64::consts::TAU * hz * secs).sin()) as f32
}

/// Whether something that begins at each of `starts` and lasts `length` is on.
fn is_on(at: f64, starts: &[f64], length: f64) -> bool {
    starts.iter().any(|s| (*s..s + length).contains(&at))
}

/// The offset that is told at the end of a test signal.
fn offset(starts: &[f64], early_secs: f64, picture_hz: f64, hz: f64) -> Option<f64> {
    let picture = |at: f64| {
        let mut frame = Frame::flat(192, 108, 30);
        // A clock that runs beside it.
        frame.fill((at * 25.0) as usize % 150, 90, 8, 8, 200);
        if is_on(at + 0.5 / picture_hz, starts, 0.08) {
            frame.fill(96, 16, 40, 40, 220);
        }
        frame
    };
    let early: Vec<f64> = starts.iter().map(|s| s - early_secs).collect();
    let sample = |at: f64| match is_on(at, &early, 0.05) {
        true => tone(at, hz),
        false => 0.0,
    };
    let said = watch(&Clip {
        secs: starts.last().unwrap() + 2.0,
        picture_hz,
        picture: &picture,
        sample: &sample,
    });
    said.last().unwrap().1
}

#[test]
fn flash_and_beep_tell_the_offset_within_half_a_picture_at_any_rate() {
    let even: Vec<f64> = (0..6).map(|n| 1.0 + 2.0 * f64::from(n)).collect();
    let uneven = [1.0, 2.0, 4.5, 5.0, 8.0, 9.0, 11.5, 12.0];
    for picture_hz in [
        24.0,
        25.0,
        30_000.0 / 1_001.0,
        30.0,
        50.0,
        60_000.0 / 1_001.0,
    ] {
        for early in [0.0, 0.12, -0.2, 0.041] {
            let found = offset(&even, early, picture_hz, 1_000.0);
            let off = found.unwrap_or_else(|| panic!("{picture_hz} {early}")) - early;
            assert!(
                off.abs() <= 0.5 / picture_hz + 0.001,
                "{picture_hz} {early}: {off}"
            );
        }
        for early in [1.3, -1.7] {
            let found = offset(&uneven, early, picture_hz, 440.0);
            let off = found.unwrap_or_else(|| panic!("{picture_hz} {early}")) - early;
            assert!(
                off.abs() <= 0.5 / picture_hz + 0.001,
                "{picture_hz} {early}: {off}"
            );
        }
    }
}

#[test]
fn a_signal_that_ends_is_no_longer_measured() {
    let starts = [1.0, 3.0, 5.0, 7.0];
    let picture = |at| {
        let mut frame = Frame::flat(160, 96, 20);
        if is_on(at, &starts, 0.1) {
            frame.fill(0, 0, 160, 96, 235);
        }
        frame
    };
    let sample = |at| {
        if is_on(at, &starts, 0.1) {
            tone(at, 3_000.0)
        } else {
            0.0
        }
    };
    let said = watch(&Clip {
        secs: 24.0,
        picture_hz: 25.0,
        picture: &picture,
        sample: &sample,
    });
    let first = said.iter().find(|s| s.1.is_some()).unwrap().0;
    assert!((5.0..=6.0).contains(&first), "{first}");
    assert!(
        said.iter()
            .filter(|s| (8.0..18.0).contains(&s.0))
            .all(|s| s.1.is_some())
    );
    assert_eq!(said.last().unwrap().1, None);
}

/// Clips with much of what a test signal has.
#[test]
fn ordinary_programme_is_no_test_signal() {
    let scene = |at: f64| Frame::scene(160, 96, 40.0 * at, 9.0 * at);
    let strobe = |at: f64| match (at * 5.0) as usize % 2 {
        0 => Frame::flat(160, 96, 20),
        _ => Frame::flat(160, 96, 230),
    };
    // Cameras flash at random places.
    let cameras = |at: f64| {
        let mut frame = scene(at);
        let mut noise = Noise::new((at * 1.3) as u64);
        let (x, y) = (noise.bits() as usize % 140, noise.bits() as usize % 80);
        if (at * 1.3).fract() < 0.1 {
            frame.fill(x, y, 24, 24, 235);
        }
        frame
    };
    // Lights that blink at one place, but not with the notes.
    let blinks = |at: f64| {
        let mut frame = Frame::flat(160, 96, 40);
        if (at * 0.71).fract() < 0.1 {
            frame.fill(64, 32, 32, 32, 235);
        }
        frame
    };
    // A tune with rests, a beat, a voice.
    let tune = |at: f64| match (at * 4.0) as usize {
        n if n % 3 == 2 => 0.0,
        n => tone(at, 220.0 * 2f64.powf((n * 7 % 12) as f64 / 12.0)),
    };
    let beat = |at: f64| {
        let decay = (-(at * 2.0).fract() * 12.0).exp() as f32;
        decay * (Noise::new((at * 48e3) as u64).bits() % 2_000) as f32 / 1_000.0 - decay
    };
    let voice = |at: f64| match (at * 3.0) as usize % 4 {
        0 => 0.0,
        _ => {
            (1..20)
                .map(|k| tone(at, 130.0 * f64::from(k)) / k as f32)
                .sum::<f32>()
                / 3.0
        }
    };
    let beeps = |at: f64| {
        if (at * 0.5).fract() < 0.1 {
            tone(at, 1_000.0)
        } else {
            0.0
        }
    };
    let pictures: [&dyn Fn(f64) -> Frame; 4] = [&scene, &strobe, &cameras, &blinks];
    let sounds: [&dyn Fn(f64) -> f32; 4] = [&tune, &beat, &voice, &beeps];
    for (p, picture) in pictures.into_iter().enumerate() {
        for (s, sample) in sounds.into_iter().enumerate() {
            let said = watch(&Clip {
                secs: 30.0,
                picture_hz: 25.0,
                picture,
                sample,
            });
            let told = said.iter().find(|s| s.1.is_some());
            assert_eq!(told, None, "picture {p}, sound {s}");
        }
    }
}

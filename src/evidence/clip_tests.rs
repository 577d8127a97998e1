use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use detectors::base::{Arrival, MediaTime, Sound, Track, Value, Why};

use super::clips::{ClipJob, ClipOrder};
use super::numbers::{Excerpt, Point, Series};
use super::tests::defect;
use super::*;
use crate::alert::Moment;
use crate::ingest::encoded::{EncodedUnit, Encoding};
use crate::lane::testing::{LOSS, LUMA};

fn secs(n: f64) -> MediaTime {
    MediaTime::from_millis((n * 1000.0) as i64)
}

fn at(media: f64) -> Moment {
    Moment {
        media: Some(secs(media)),
        arrival: Arrival::from_millis((media * 1000.0) as u64),
    }
}

/// A defect that begins at `start`, raised at `raised`.
fn raise(recorder: &Recorder, n: u64, start: f64, raised: f64) {
    let mut defect = defect(n, Some(Track::video(0)));
    defect.start.media = Some(secs(start));
    defect.start.arrival = at(start).arrival;
    recorder.raised(&defect, Some("luma_codes"), at(raised));
}

/// Pictures and sound of these seconds, a key picture every second.
fn play(recorder: &Recorder, from: f64, until: f64) {
    let coding = Encoding::of("video/x-h264");
    let step = 0.04;
    for n in 0..((until - from) / step) as u64 {
        let at = from + n as f64 * step;
        for track in [Track::video(0), Track::audio(0)] {
            recorder.encoded(EncodedUnit {
                track,
                encoding: Arc::clone(&coding),
                media: secs(at),
                decode_ahead_nanos: Some(0),
                key: n % 25 == 0,
                bytes: vec![0; 1000].into(),
            });
        }
    }
}

fn tick(recorder: &Recorder, at: f64) {
    let now = Arrival::from_millis((at * 1000.0) as u64);
    recorder.tick(now, &Numbers::default());
}

fn jobs(inbox: &Receiver<ClipOrder>) -> Vec<ClipJob> {
    let orders = std::iter::from_fn(|| inbox.try_recv().ok());
    orders
        .filter_map(|order| match order {
            ClipOrder::Write(job) => Some(*job),
            ClipOrder::Report(_) => None,
        })
        .collect()
}

/// Number of defects, and first and last second of the clip.
fn told(job: &ClipJob) -> (usize, f64, f64) {
    let cut = job.cut.as_ref().unwrap();
    (job.subjects.len(), cut.begins.secs(), cut.ends.secs())
}

fn near(job: &ClipJob, defects: usize, from: f64, until: f64) {
    let (n, begins, ends) = told(job);
    let right = n == defects && (begins - from).abs() < 0.1 && (ends - until).abs() < 0.1;
    assert!(right, "{n} defects, {begins} to {ends}");
}

/// The defect of [`raise`] is over.
fn clear(recorder: &Recorder, n: u64, end: f64) {
    recorder.cleared(&defect(n, Some(Track::video(0))), at(end));
}

#[test]
fn a_clip_lasts_from_five_seconds_before_the_beginning_to_five_after_the_end() {
    let (stills, (_inbox, clips)) = Stills::unattended();
    let recorder = Recorder::new(stills, Duration::from_secs(2));
    play(&recorder, 0.0, 20.0);
    raise(&recorder, 1, 18.0, 20.0);
    play(&recorder, 20.0, 21.9);
    tick(&recorder, 21.9);
    assert!(jobs(&clips).is_empty(), "not yet complete");
    play(&recorder, 21.9, 22.2);
    tick(&recorder, 22.2);
    near(&jobs(&clips)[0], 1, 13.0, 22.0);
    play(&recorder, 22.2, 40.0);
    tick(&recorder, 40.0);
    assert!(jobs(&clips).is_empty(), "once");
    clear(&recorder, 1, 40.0);
    play(&recorder, 40.0, 45.2);
    tick(&recorder, 45.2);
    near(&jobs(&clips)[0], 1, 13.0, 45.0);
    play(&recorder, 45.2, 90.0);
    tick(&recorder, 90.0);
    assert!(jobs(&clips).is_empty(), "done");
}

#[test]
fn a_clip_that_comes_in_segments_is_there_soon_and_longer_later() {
    let (stills, (_inbox, clips)) = Stills::unattended();
    let recorder = Recorder::new(stills, Duration::from_secs(2));
    play(&recorder, 0.0, 10.0);
    raise(&recorder, 1, 8.0, 9.5);
    clear(&recorder, 1, 9.9);
    tick(&recorder, 9.6);
    assert!(jobs(&clips).is_empty());
    tick(&recorder, 12.6);
    near(&jobs(&clips)[0], 1, 3.0, 9.96);
    play(&recorder, 10.0, 20.0);
    tick(&recorder, 19.5);
    near(&jobs(&clips)[0], 1, 3.0, 14.9);
}

#[test]
fn a_clip_of_what_does_not_end_is_a_minute_long_or_what_the_ring_holds() {
    let (stills, (_inbox, clips)) = Stills::unattended();
    let recorder = Recorder::new(stills, Duration::from_secs(2));
    play(&recorder, 0.0, 10.0);
    raise(&recorder, 1, 8.0, 10.0);
    play(&recorder, 10.0, 12.2);
    tick(&recorder, 12.2);
    near(&jobs(&clips)[0], 1, 3.0, 12.0);
    play(&recorder, 12.2, 62.0);
    tick(&recorder, 62.0);
    assert!(jobs(&clips).is_empty());
    play(&recorder, 62.0, 64.0);
    tick(&recorder, 64.0);
    near(&jobs(&clips)[0], 1, 3.0, 63.0);
    raise(&recorder, 2, 64.0, 64.0);
    play(&recorder, 64.0, 66.2);
    tick(&recorder, 66.2);
    near(&jobs(&clips)[0], 1, 58.2, 66.0);
    // 20 MB, and then 10: more than the ring holds.
    for (n, bytes) in [20 << 20, 10 << 20].into_iter().enumerate() {
        recorder.encoded(EncodedUnit {
            track: Track::video(0),
            encoding: Encoding::of("video/x-h264"),
            media: secs(67.0 + n as f64),
            decode_ahead_nanos: Some(0),
            key: true,
            bytes: vec![0; bytes].into(),
        });
    }
    tick(&recorder, 68.0);
    near(&jobs(&clips)[0], 1, 58.2, 67.0);
}

#[test]
fn defects_of_one_moment_share_a_clip_and_later_ones_have_their_own() {
    let (stills, (_inbox, clips)) = Stills::unattended();
    let recorder = Recorder::new(stills, Duration::from_secs(2));
    play(&recorder, 0.0, 20.0);
    raise(&recorder, 1, 19.0, 20.0);
    play(&recorder, 20.0, 21.0);
    raise(&recorder, 2, 18.0, 21.0);
    play(&recorder, 21.0, 24.0);
    raise(&recorder, 3, 24.0, 24.0);
    play(&recorder, 24.0, 40.0);
    tick(&recorder, 40.0);
    let jobs = jobs(&clips);
    assert_eq!(jobs.len(), 2);
    near(&jobs[0], 2, 13.0, 23.0);
    near(&jobs[1], 1, 19.0, 26.0);
}

#[test]
fn input_that_ends_ends_the_clip() {
    let (stills, (_inbox, clips)) = Stills::unattended();
    let recorder = Recorder::new(Arc::clone(&stills), Duration::from_secs(10));
    play(&recorder, 0.0, 20.0);
    tick(&recorder, 20.0);
    raise(&recorder, 1, 20.0, 30.0);
    tick(&recorder, 32.5);
    assert!(jobs(&clips).is_empty(), "it may come back");
    tick(&recorder, 33.0);
    near(&jobs(&clips)[0], 1, 15.0, 19.96);
    // Of another connection, whose clock is another one.
    raise(&recorder, 2, 20.0, 36.0);
    play(&recorder, 1.0, 3.0);
    tick(&recorder, 37.0);
    near(&jobs(&clips)[0], 1, 15.0, 19.96);
    raise(&recorder, 3, 2.5, 3.0);
    recorder.finish(&Numbers::default());
    near(&jobs(&clips)[0], 1, 1.0, 2.96);
    assert!(stills.counts().ring_bytes > 0);
    drop(recorder);
    assert_eq!(stills.counts().ring_bytes, 0);
}

#[test]
fn a_defect_that_began_long_ago_has_a_clip_of_a_minute() {
    let (stills, (_inbox, clips)) = Stills::unattended();
    let recorder = Recorder::new(stills, Duration::from_secs(600));
    play(&recorder, 0.0, 100.0);
    raise(&recorder, 1, 2.0, 100.0);
    play(&recorder, 100.0, 106.0);
    tick(&recorder, 106.0);
    // No more is kept than 40 s.
    near(&jobs(&clips)[0], 1, 59.0, 102.0);
}

#[test]
fn nothing_is_cut_where_nothing_came() {
    let (stills, (_inbox, clips)) = Stills::unattended();
    let recorder = Recorder::new(stills, Duration::ZERO);
    raise(&recorder, 1, 2.0, 3.0);
    tick(&recorder, 60.0);
    tick(&recorder, 120.0);
    let jobs = jobs(&clips);
    assert!(jobs.len() == 1 && jobs[0].cut.is_none());
}

#[test]
fn clips_that_no_writer_takes_are_dropped_and_counted() {
    let (stills, _inboxes) = Stills::unattended();
    let recorder = Recorder::new(Arc::clone(&stills), Duration::ZERO);
    for n in 0..6 {
        raise(&recorder, n, n as f64 * 10.0, n as f64 * 10.0);
    }
    assert_eq!(stills.counts().clips_dropped, 2, "four at once");
    recorder.finish(&Numbers::default());
    for n in 0..100 {
        raise(&recorder, n, 100.0, 100.0);
        recorder.finish(&Numbers::default());
    }
    assert_eq!(stills.counts().clips_dropped, 2 + 40);
}

#[test]
fn an_unusable_clip_leaves_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let stills = Stills::open(dir.path(), 10 << 20);
    let recorder = Recorder::new(Arc::clone(&stills), Duration::ZERO);
    play(&recorder, 0.0, 10.0);
    let mut numbers = Numbers::default();
    let video = Some(Track::video(0));
    for n in 0..100 {
        let at = at(n as f64 / 10.0);
        numbers.reading(
            "luma",
            &LUMA.signals[0],
            video,
            at,
            Value::Measured(n as f64),
        );
    }
    raise(&recorder, 0, 8.0, 9.0);
    // Zeros are no pictures.
    recorder.finish(&numbers);
    assert!(stills.flush(Duration::from_secs(60)));
    let counts = stills.counts();
    assert_eq!((counts.clips_written, counts.clips_failed), (0, 1));
    let sets = stills.list("one");
    assert_eq!(sets[0].files, ["defect.json", "plot.svg", "signals.json"]);
    let aside = dir.path().join("evidence/.clips");
    assert_eq!(std::fs::read_dir(aside).unwrap().count(), 0);
}

#[test]
fn readings_become_points_with_their_extremes() {
    let mut numbers = Numbers::default();
    let signal = &LUMA.signals[0];
    for n in 0..2500 {
        let value = match n {
            0..1250 => Value::Measured(f64::from(n % 10)),
            _ => Value::Unmeasurable(Why::NoInput),
        };
        let at = at(f64::from(n) / 25.0);
        numbers.reading("luma", signal, None, at, value);
    }
    let excerpt = numbers.excerpt(secs(45.0), secs(55.0));
    let series = excerpt.find("luma", signal.name, None).unwrap();
    assert!(
        (35..=41).contains(&series.points.len()),
        "at most four a second"
    );
    let measured: Vec<_> = series.points.iter().filter_map(|p| p.range).collect();
    assert!(measured.len() >= 15 && measured.iter().all(|(low, high)| low < high));
    assert!(series.points.back().unwrap().range.is_none());
    let json = excerpt.json(secs(50.0));
    let values = json["signals"][0]["values"].as_array().unwrap();
    assert!(values[0][0].as_f64().unwrap() <= -4.7 && values.last().unwrap()[1].is_null());
    assert!(
        numbers.excerpt(secs(0.0), secs(8.0)).series.is_empty(),
        "a minute and a half is kept"
    );
    numbers.reading("luma", signal, None, at(1.0), Value::Measured(1.0));
    assert!(
        numbers.excerpt(secs(2.0), secs(200.0)).series.is_empty(),
        "another clock"
    );
}

#[test]
fn what_is_measured_by_arrival_goes_on_where_media_stands_still() {
    let mut numbers = Numbers::default();
    let signal = &LOSS.signals[0];
    for n in 0..80 {
        let now = Moment {
            media: Some(secs(f64::from(n.min(40)) / 4.0)),
            ..at(f64::from(n) / 4.0)
        };
        numbers.reading("loss", signal, None, now, Value::Measured(f64::from(n)));
    }
    let excerpt = numbers.excerpt(secs(0.0), secs(60.0));
    let series = excerpt.find("loss", signal.name, None).unwrap();
    assert_eq!(series.points.len(), 80);
    assert_eq!(series.points.back().unwrap().at, secs(19.75));
}

#[test]
fn loudness_is_peak_and_root_mean_square_of_the_first_track() {
    let mut numbers = Numbers::default();
    let wave: Vec<f32> = (0..9600 * 2)
        .map(|n| if n % 4 < 2 { 0.5 } else { -0.5 })
        .collect();
    let sound = Sound::new(&wave, 2, 48_000).unwrap();
    let silence = vec![0.0; wave.len()];
    let quiet = Sound::new(&silence, 2, 48_000).unwrap();
    numbers.sound(Track::audio(1), at(0.0), &sound);
    numbers.sound(Track::audio(0), at(0.0), &sound);
    numbers.sound(Track::audio(1), at(0.2), &sound);
    numbers.sound(Track::audio(0), at(0.2), &quiet);
    let levels = numbers.excerpt(secs(0.0), secs(1.0)).levels;
    let told: Vec<_> = (levels.iter())
        .map(|l| (l.at.secs(), l.peak_dbfs.round(), l.rms_dbfs.round()))
        .collect();
    assert_eq!(
        told,
        [
            (0.0, -6.0, -6.0),
            (0.1, -6.0, -6.0),
            (0.2, -100.0, -100.0),
            (0.3, -100.0, -100.0)
        ]
    );
}

/// Reads a drawing as XML; gives its texts.
fn texts(svg: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(svg);
    let mut texts = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => return texts,
            quick_xml::events::Event::Text(text) => {
                texts.push(text.to_string());
            }
            quick_xml::events::Event::Start(tag) => assert_ne!(tag.name().as_ref(), "script"),
            _ => {}
        }
    }
}

#[test]
fn plots_are_plain_drawings_with_the_limit_and_the_beginning() {
    let range = |n: i32| (n % 7 != 0).then_some((n as f32, n as f32 + 1.0));
    let series = Series {
        detector: "luma",
        signal: &LUMA.signals[0],
        track: Some(Track::video(0)),
        points: (-40..40)
            .map(|n| Point {
                at: secs(100.0 + f64::from(n) / 4.0),
                range: range(n),
            })
            .collect(),
    };
    let svg = plot::signal(&series, 12.0, secs(100.0), (-10.0, 10.0));
    let said = texts(&svg);
    for wanted in ["limit 12.0", "defect begins", "-5 s"] {
        assert!(said.iter().any(|t| t == wanted), "{wanted}: {said:?}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    // Nothing measured, nothing heard, no time: still drawings.
    let empty = Series {
        points: Vec::new().into(),
        ..series
    };
    for svg in [
        plot::signal(&empty, 0.0, secs(0.0), (0.0, 0.0)),
        plot::sound(&Excerpt::default().levels, secs(0.0), (-15.0, 7.0)),
    ] {
        texts(&svg);
        assert!(!svg.contains("NaN"), "{svg}");
    }
}

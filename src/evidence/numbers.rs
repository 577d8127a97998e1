//! What the detectors said lately, and how loud it was: numbers beside a clip.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use detectors::base::{Arrival, Basis, MediaTime, Signal, Sound, Track, Value};
use serde_json::{Value as Json, json};

use crate::alert::Moment;

/// How long readings are kept, media time.
const KEPT: Duration = Duration::from_secs(90);
/// Readings of one signal within this are one point: its smallest and largest value.
const POINT: Duration = Duration::from_millis(250);
/// Sound within this is one point.
const SOUND_POINT: Duration = Duration::from_millis(100);
/// Signals and tracks that are kept, at most.
const MAX_SERIES: usize = 512;
/// A step back by more than this is another clock.
const ANOTHER_CLOCK: Duration = Duration::from_secs(10);
/// Quieter sound is told as this, dBFS: 16 bits end at -96.
const FLOOR_DBFS: f32 = -100.0;

/// Values of a signal over a quarter of a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When the first one came.
    pub at: MediaTime,
    /// Smallest and largest value; `None` when it could not be measured.
    pub range: Option<(f32, f32)>,
}

/// One signal of one track.
#[derive(Debug, Clone)]
pub struct Series {
    /// Detector name.
    pub detector: &'static str,
    /// Signal.
    pub signal: &'static Signal,
    /// Track, or `None` for the stream.
    pub track: Option<Track>,
    /// Oldest first.
    pub points: VecDeque<Point>,
}

/// Sound of a tenth of a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Where it begins.
    pub at: MediaTime,
    /// Largest sample of any channel, dBFS.
    pub peak_dbfs: f32,
    /// Root mean square of all channels, dB relative to a full-scale square wave.
    pub rms_dbfs: f32,
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    at: MediaTime,
    peak: f32,
    squares: f64,
    samples: u32,
}

impl Sum {
    fn level(&self) -> Level {
        let db = |amplitude: f32| (20.0 * amplitude.log10()).max(FLOOR_DBFS);
        let mean = self.squares / f64::from(self.samples.max(1));
        Level {
            at: self.at,
            peak_dbfs: db(self.peak),
            rms_dbfs: db(mean.sqrt() as f32),
        }
    }
}

type Key = (&'static str, &'static str, Option<Track>);

/// Readings of the last minute and a half, and levels of the first sound track.
#[derive(Default)]
pub struct Numbers {
    series: BTreeMap<Key, Series>,
    newest: Option<MediaTime>,
    /// When media time advanced last.
    advanced: Option<Arrival>,
    sound_track: Option<Track>,
    sound: VecDeque<Sum>,
}

/// A part of [`Numbers`].
#[derive(Debug, Clone, Default)]
pub struct Excerpt {
    /// Signals with a point in it.
    pub series: Vec<Series>,
    /// Levels of the first sound track.
    pub levels: Vec<Level>,
}

impl Numbers {
    /// A reading, at its media time or, when it has none, the newest one known. What is measured by arrival goes on
    /// where media stands still.
    pub fn reading(
        &mut self,
        detector: &'static str,
        signal: &'static Signal,
        track: Option<Track>,
        now: Moment,
        value: Value,
    ) {
        let Some(mut at) = now.media.or(self.newest) else {
            return;
        };
        self.pass(at, now.arrival);
        if let (Basis::Arrival, Some(newest), Some(since)) =
            (signal.basis, self.newest, self.advanced)
        {
            at = newest.plus(now.arrival.since(since));
        }
        let key = (detector, signal.name, track);
        if self.series.len() >= MAX_SERIES && !self.series.contains_key(&key) {
            return;
        }
        let series = self.series.entry(key).or_insert_with(|| Series {
            detector,
            signal,
            track,
            points: VecDeque::new(),
        });
        let value = match value {
            Value::Measured(value) => Some(value as f32),
            Value::Unmeasurable(_) => None,
        };
        match series.points.back_mut() {
            Some(last) if at.since(last.at) < POINT => {
                if let Some(value) = value {
                    let (low, high) = last.range.unwrap_or((value, value));
                    last.range = Some((low.min(value), high.max(value)));
                }
            }
            _ => {
                let range = value.map(|value| (value, value));
                series.points.push_back(Point { at, range });
                let old = at.minus(KEPT);
                while series.points.front().is_some_and(|p| p.at < old) {
                    series.points.pop_front();
                }
            }
        }
    }

    /// Decoded sound; of tracks after the first one nothing is kept.
    pub fn sound(&mut self, track: Track, now: Moment, sound: &Sound<'_>) {
        let Some(at) = now.media else { return };
        if self.sound_track.is_none_or(|first| track < first) {
            self.sound_track = Some(track);
            self.sound.clear();
        }
        if self.sound_track != Some(track) {
            return;
        }
        self.pass(at, now.arrival);
        // A point of a tenth of a second is at least one sample, whatever the rate.
        let frames = (sound.rate_hz() / 10).max(1) as usize * sound.channels().max(1);
        let mut at = at;
        let mut samples = sound.samples();
        while !samples.is_empty() {
            let room = match self.sound.back() {
                Some(last) if at.since(last.at) < SOUND_POINT => {
                    frames.saturating_sub(last.samples as usize)
                }
                _ => 0,
            };
            if room == 0 {
                self.sound.push_back(Sum {
                    at,
                    peak: 0.0,
                    squares: 0.0,
                    samples: 0,
                });
                let old = at.minus(KEPT);
                while self.sound.front().is_some_and(|sum| sum.at < old) {
                    self.sound.pop_front();
                }
            }
            let take = if room == 0 { frames } else { room }.min(samples.len());
            let (now, later) = samples.split_at(take);
            if let Some(sum) = self.sound.back_mut() {
                sum.peak = now.iter().fold(sum.peak, |peak, s| peak.max(s.abs()));
                sum.squares += now.iter().map(|s| f64::from(s * s)).sum::<f64>();
                sum.samples = sum.samples.saturating_add(take as u32);
            }
            let secs = take as f64 / sound.channels().max(1) as f64 / f64::from(sound.rate_hz());
            at = at.plus(Duration::from_secs_f64(secs));
            samples = later;
        }
    }

    fn pass(&mut self, at: MediaTime, now: Arrival) {
        if self.newest.is_some_and(|n| n.since(at) > ANOTHER_CLOCK) {
            *self = Self::default();
        }
        if self.newest.is_none_or(|newest| at > newest) {
            (self.newest, self.advanced) = (Some(at), Some(now));
        }
    }

    /// What lies between two times.
    pub fn excerpt(&self, from: MediaTime, until: MediaTime) -> Excerpt {
        let inside = |at: MediaTime| from <= at && at <= until;
        let series = self.series.values().map(|series| Series {
            points: (series.points.iter().copied())
                .filter(|p| inside(p.at))
                .collect(),
            ..*series
        });
        let levels = self.sound.iter().filter(|sum| inside(sum.at));
        Excerpt {
            series: series.filter(|s| !s.points.is_empty()).collect(),
            levels: levels.map(Sum::level).collect(),
        }
    }
}

impl Excerpt {
    /// The series that a defect was judged by.
    pub fn find(&self, detector: &str, signal: &str, track: Option<Track>) -> Option<&Series> {
        self.series
            .iter()
            .find(|s| s.detector == detector && s.signal.name == signal && s.track == track)
    }

    /// As a file: every signal, in seconds from `zero`.
    pub fn json(&self, zero: MediaTime) -> Json {
        let round = |n: f64, to: f64| (n * to).round() / to;
        let secs = |at: MediaTime| round(at.secs_after(zero), 1e3);
        let number = |n: f32| round(f64::from(n), 1e6);
        let point = |p: &Point| match p.range {
            Some((low, high)) => json!([secs(p.at), number(low), number(high)]),
            None => json!([secs(p.at), null, null]),
        };
        let series = |s: &Series| {
            json!({
                "detector": s.detector,
                "signal": s.signal.name,
                "unit": s.signal.unit,
                "track": s.track.map(|t| t.to_string()),
                "values": s.points.iter().map(point).collect::<Vec<_>>(),
            })
        };
        json!({
            "zero_media_secs": zero.secs(),
            "values_are": ["secs from the defect's start", "smallest in a quarter of a second", "largest"],
            "signals": self.series.iter().map(series).collect::<Vec<_>>(),
        })
    }
}

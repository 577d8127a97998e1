//! What an analysis says of sound against picture as a whole: one line a way of measuring and sound track.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use detectors::base::{Track, Value};
use serde::Serialize;

use crate::alert::av_offset::{Source, in_words};
use crate::lane::Sample;

/// Ways of measuring: detector, and how reports call it. Languages are compared with each other, not with the picture.
fn sources() -> impl Iterator<Item = (&'static str, &'static str)> {
    let ways = Source::ALL.map(|source| (source.detector(), source.as_str()));
    ways.into_iter().chain([("av_languages", "languages")])
}

/// Sound against picture over a whole input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AvSync {
    r#type: &'static str,
    /// `pattern`, `reference`, `timestamps`, `edges` or `languages`.
    source: &'static str,
    track: String,
    /// Median, by edges the newest, which is a change; positive = audio early. `null` when it was never measured.
    audio_early_secs: Option<f64>,
    /// 0 to 9, median; timestamps are exact.
    confidence: f64,
    /// Share of the readings that are measured.
    coverage: f64,
    /// Delays against the reference, medians, counted from the beginnings of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_delay_secs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video_delay_secs: Option<f64>,
    /// How much earlier the first sound is than the first picture, where the programme was read from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_start_early_secs: Option<f64>,
    /// What that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_start: Option<AudioStart>,
}

/// What the distance between the first sound and the first picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AudioStart {
    /// None, to half a picture of 50 a second.
    Together,
    /// The delay of the AAC encoder, which the container cannot signal: no fault of who packaged it.
    AacPriming,
    /// Anything else.
    Apart,
}

/// Sound and pictures that begin no further apart begin together.
const TOGETHER_SECS: f64 = 0.01;

impl AvSync {
    /// For people.
    pub fn text(&self) -> String {
        let source = self.source;
        let track = &self.track;
        let mut text = match self.audio_early_secs {
            None => format!("A/V sync by {source} on {track}: not measurable"),
            Some(early) => format!(
                "A/V sync by {source} on {track}: {}{} (confidence {:.0} of 9, measured {:.0} %)",
                in_words(early),
                match source {
                    "edges" => " against what is usual",
                    "languages" => " against the first sound track",
                    _ => "",
                },
                self.confidence,
                self.coverage * 100.0
            ),
        };
        if let (Some(audio), Some(video)) = (self.audio_delay_secs, self.video_delay_secs) {
            text += &format!(
                "; sound {audio:+.3} s, pictures {video:+.3} s later than in the reference"
            );
        }
        match (self.audio_start, self.audio_start_early_secs) {
            (Some(AudioStart::AacPriming), Some(early)) => {
                text += &format!(
                    "; at the start {}: priming of the AAC encoder",
                    in_words(early)
                );
            }
            (Some(AudioStart::Apart), Some(early)) => {
                text += &format!("; at the start {}", in_words(early));
            }
            _ => {}
        }
        text
    }
}

/// Readings of one signal on one track.
#[derive(Debug, Default)]
struct Readings {
    measured: Vec<f64>,
    all: u32,
}

impl Readings {
    fn median(&self) -> Option<f64> {
        let mut sorted = self.measured.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

type Key = (&'static str, &'static str, Option<Track>);

/// Keeps the readings that matter while an input is analysed.
#[derive(Debug, Default)]
pub struct SyncTally(Mutex<BTreeMap<Key, Readings>>);

impl SyncTally {
    /// Takes note of a reading.
    pub fn note(&self, sample: &Sample<'_>) {
        let wanted = [
            "audio_early_secs",
            "confidence",
            "audio_delay_secs",
            "video_delay_secs",
            "audio_start_early_secs",
            "priming_samples",
        ];
        let of_sync = sources().any(|s| s.0 == sample.detector);
        if !of_sync || !wanted.contains(&sample.signal.name) {
            return;
        }
        let key = (sample.detector, sample.signal.name, sample.track);
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let readings = readings.entry(key).or_default();
        readings.all = readings.all.saturating_add(1);
        if let Value::Measured(value) = sample.reading.value {
            readings.measured.push(value);
        }
    }

    /// One line a way of measuring and track; `compared` = there is a reference, so that its line is owed.
    pub fn lines(&self, compared: bool) -> Vec<AvSync> {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        for (detector, source) in sources() {
            let median = |signal, track| readings.get(&(detector, signal, track))?.median();
            let of_early = readings.iter().filter(|((d, s, track), _)| {
                *d == detector && *s == "audio_early_secs" && track.is_some()
            });
            for ((_, _, track), early) in of_early {
                let audio_early_secs = match detector {
                    "av_edges" => early.measured.last().copied(),
                    _ => early.median(),
                };
                let audio_start_early_secs = median("audio_start_early_secs", *track);
                let primed = median("priming_samples", *track).is_some_and(|samples| samples > 0.0);
                let audio_start = audio_start_early_secs.map(|early| match primed {
                    true => AudioStart::AacPriming,
                    false if early.abs() <= TOGETHER_SECS => AudioStart::Together,
                    false => AudioStart::Apart,
                });
                let exact = detector == "av_timing";
                let owed = compared && detector == "av_reference";
                let silent = audio_start.is_none_or(|start| start == AudioStart::Together);
                if audio_early_secs.is_none() && silent && !owed {
                    continue;
                }
                let confidence = if exact { 9.0 } else { 0.0 };
                lines.push(AvSync {
                    r#type: "av_sync",
                    source,
                    track: track.map_or(String::new(), |t| t.to_string()),
                    audio_early_secs: audio_early_secs.map(rounded),
                    confidence: median("confidence", *track).unwrap_or(confidence),
                    coverage: rounded(early.measured.len() as f64 / f64::from(early.all.max(1))),
                    audio_delay_secs: median("audio_delay_secs", *track).map(rounded),
                    video_delay_secs: median("video_delay_secs", None).map(rounded),
                    audio_start_early_secs: audio_start_early_secs.map(rounded),
                    audio_start,
                });
            }
        }
        lines
    }
}

/// To a tenth of a millisecond, or of a promille.
fn rounded(value: f64) -> f64 {
    // Not -0.
    (value * 1e4).round() / 1e4 + 0.0
}

//! Sound against picture by every way of measuring it, side by side, and where an error came in. Pure.
//!
//! Ways that compare with something known ([`Source::Pattern`], [`Source::Reference`]) tell the offset itself, timestamps
//! tell exactly how it changed since the stream was first seen, edges tell the same by statistics. Exact ways overrule
//! statistical ones, and the offset itself overrules a change of it.

use std::fmt;

use detectors::base::{Reading, Value};
use serde::Serialize;

use super::Place;

/// Offsets below this say nothing about where an error came in: comparisons at different picture rates are no finer.
const NOTABLE_SECS: f64 = 0.02;
/// Two ways agree when they are this near to each other.
const AGREE_SECS: f64 = 0.03;

/// A way of measuring; the first that measures is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Flash and beep of a test signal.
    Pattern,
    /// Comparison with another place of the same programme.
    Reference,
    /// Timestamps, against the stream's own beginning.
    Timestamps,
    /// Edges that pictures and sound have in common, against the stream's own past.
    Edges,
}

impl Source {
    /// All, in the order in which they are believed.
    pub const ALL: [Self; 4] = [
        Self::Pattern,
        Self::Reference,
        Self::Timestamps,
        Self::Edges,
    ];

    /// The detector that measures in this way.
    pub fn detector(self) -> &'static str {
        match self {
            Self::Pattern => "av_pattern",
            Self::Reference => "av_reference",
            Self::Timestamps => "av_timing",
            Self::Edges => "av_edges",
        }
    }

    /// The way in which this detector measures.
    pub fn of(detector: &str) -> Option<Self> {
        (Self::ALL.into_iter()).find(|source| source.detector() == detector)
    }

    /// As metrics, reports and events call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Reference => "reference",
            Self::Timestamps => "timestamps",
            Self::Edges => "edges",
        }
    }

    /// Standard deviation of one measurement, seconds: half a picture at 50 Hz; pictures at another rate than the
    /// reference's; a tick of 90 kHz, rounded up; the note on edges in the detector.
    pub fn deviation_secs(self) -> f64 {
        match self {
            Self::Pattern => 0.010,
            Self::Reference => 0.007,
            Self::Timestamps => 0.001,
            Self::Edges => 0.040,
        }
    }
}

/// What one way says now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Offset {
    /// Which way.
    pub source: Source,
    /// Positive = audio early.
    pub audio_early_secs: f64,
    /// Standard deviation, seconds.
    pub deviation_secs: f64,
    /// 0 to 9; timestamps are exact.
    pub confidence: u8,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = in_words(self.audio_early_secs);
        write!(f, "{}: {early}", self.source.as_str())
    }
}

/// "audio 120 ms late", to the millisecond.
pub fn in_words(audio_early_secs: f64) -> String {
    let millis = (audio_early_secs * 1e3).round();
    match millis {
        1.0.. => format!("audio {millis} ms early"),
        ..=-1.0 => format!("audio {} ms late", -millis),
        _ => "in sync".to_owned(),
    }
}

/// All ways of one sound track.
#[derive(Debug, Clone, Default)]
pub struct AvOffsets {
    ways: [Way; Source::ALL.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// The first value ever measured.
    first: Option<f64>,
    now: Option<f64>,
    confidence: Option<f64>,
}

impl AvOffsets {
    /// Takes a reading of one of the detectors that measure; others change nothing.
    pub fn hear(&mut self, source: Source, signal: &str, reading: &Reading) {
        let Some(way) = self.ways.get_mut(source as usize) else {
            return;
        };
        let value = match reading.value {
            Value::Measured(value) if value.is_finite() => Some(value),
            _ => None,
        };
        match signal {
            "audio_early_secs" => {
                way.first = way.first.or(value);
                way.now = value;
            }
            "confidence" => way.confidence = value,
            _ => {}
        }
    }

    /// What every way that measures now says, the most believed first.
    pub fn all(&self) -> impl Iterator<Item = Offset> {
        (Source::ALL.into_iter().zip(&self.ways)).filter_map(|(source, way)| {
            Some(Offset {
                source,
                audio_early_secs: way.now?,
                deviation_secs: source.deviation_secs(),
                confidence: way.confidence.unwrap_or(9.0).clamp(0.0, 9.0).round() as u8,
            })
        })
    }

    /// The offset, by the most believed way.
    pub fn best(&self) -> Option<Offset> {
        self.all().next()
    }

    /// Where the present error came in, if that is known: timestamps must be measured. Of an error that was there when the
    /// stream was first compared it is not: its timestamps may have been wrong before.
    pub fn place(&self) -> Option<Place> {
        let way = |source: Source| self.ways.get(source as usize);
        let stamps = way(Source::Timestamps)?.now?;
        let chain = [Source::Pattern, Source::Reference]
            .into_iter()
            .filter_map(way)
            .find_map(|w| Some((w.now?, w.first?)));
        let moved = |secs: f64| secs.abs() >= NOTABLE_SECS;
        match chain {
            None => moved(stamps).then_some(Place::Packager),
            Some((now, first)) if moved(stamps) => {
                let explains = |error: f64| (error - stamps).abs() <= AGREE_SECS;
                (explains(now) || explains(now - first)).then_some(Place::Packager)
            }
            Some((now, first)) => {
                (moved(now) && moved(now - first)).then_some(Place::BeforePackager)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use detectors::base::Why;

    use super::*;

    fn heard(said: &[(Source, f64)]) -> AvOffsets {
        let mut offsets = AvOffsets::default();
        for (source, early) in said {
            offsets.hear(*source, "audio_early_secs", &Reading::measured(*early));
        }
        offsets
    }

    #[test]
    fn what_is_measured_exactly_is_believed_first() {
        let mut offsets = heard(&[(Source::Edges, 0.1), (Source::Timestamps, 0.0)]);
        offsets.hear(
            Source::Reference,
            "audio_early_secs",
            &Reading::measured(-0.12),
        );
        offsets.hear(Source::Reference, "confidence", &Reading::measured(7.6));
        let best = offsets.best();
        assert_eq!(
            best.map(|b| (b.source, b.confidence)),
            Some((Source::Reference, 8))
        );
        let words: Vec<String> = offsets.all().map(|o| o.to_string()).collect();
        let wanted = [
            "reference: audio 120 ms late",
            "timestamps: in sync",
            "edges: audio 100 ms early",
        ];
        assert_eq!(words, wanted);
        let gone = Reading::unmeasurable(Why::NoReference);
        offsets.hear(Source::Reference, "audio_early_secs", &gone);
        assert_eq!(offsets.best().map(|b| b.source), Some(Source::Timestamps));
    }

    #[test]
    fn the_sign_is_in_the_words() {
        assert_eq!(in_words(0.1204), "audio 120 ms early");
        assert_eq!(in_words(-0.0213), "audio 21 ms late");
        assert_eq!(in_words(-0.0004), "in sync");
    }

    #[test]
    fn an_error_is_put_where_it_came_in() {
        use Source::{Pattern, Reference, Timestamps};
        let place = |said: &[(Source, f64)]| heard(said).place();
        // Timestamps moved, and what is compared moved with them.
        assert_eq!(place(&[(Timestamps, -0.2)]), Some(Place::Packager));
        let both = [(Reference, 0.0), (Timestamps, -0.2), (Reference, -0.198)];
        assert_eq!(place(&both), Some(Place::Packager));
        // An older error stays beside it.
        let older = [(Pattern, 0.05), (Timestamps, -0.2), (Pattern, -0.15)];
        assert_eq!(place(&older), Some(Place::Packager));
        // Timestamps stand still.
        let before = [(Reference, 0.0), (Timestamps, 0.0), (Reference, -0.12)];
        assert_eq!(place(&before), Some(Place::BeforePackager));
        // Was there from the beginning, or is not explained by the timestamps, or they are not measured.
        assert_eq!(place(&[(Reference, -0.12), (Timestamps, 0.0)]), None);
        let unlike = [(Reference, 0.0), (Timestamps, -0.2), (Reference, 0.1)];
        assert_eq!(place(&unlike), None);
        assert_eq!(place(&[(Reference, 0.0), (Reference, -0.12)]), None);
        assert_eq!(place(&[(Timestamps, 0.001)]), None);
    }
}

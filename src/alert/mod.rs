//! From numbers to defects: pure, with time passed in.

pub mod av_offset;
pub mod incident;
pub mod judge;
pub mod place;
pub mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Arrival, BreakEdge, Cause, MediaTime, Severity, Track};

pub use av_offset::Offset;
pub use place::Place;

/// What changed about a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It began.
    Raise,
    /// Severity, cause, place or worst value changed.
    Update,
    /// It ended.
    Clear,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Media clock, when known.
    pub media: Option<MediaTime>,
    /// Arrival clock.
    pub arrival: Arrival,
}

/// A defect: one rule that fired, on one track of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Defect {
    /// Unique per occurrence: fingerprint plus where it began.
    pub id: String,
    /// Stable over occurrences and instances: hash of stream, detector, rule, track.
    pub fingerprint: String,
    /// Stream id.
    pub stream: Arc<str>,
    /// Labels of the stream.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Detector name.
    pub detector: &'static str,
    /// Rule name.
    pub rule: &'static str,
    /// Track, or `None` for the stream.
    pub track: Option<Track>,
    /// The rendition of the track, where several are watched as one stream.
    pub member: Option<Arc<str>>,
    /// Severity.
    pub severity: Severity,
    /// Machine-readable cause.
    pub cause: Cause,
    /// Where it came in, once that is known: of pictures only where several renditions are watched.
    pub place: Option<Place>,
    /// Of a defect between sound and picture: what every way of measuring said last, the most believed first.
    pub av_offsets: Vec<Offset>,
    /// Newest measured value (worst so far, on updates).
    pub value: f64,
    /// The limit it broke.
    pub limit: f64,
    /// Unit of value and limit.
    pub unit: &'static str,
    /// Sentence in viewer's words.
    pub says: String,
    /// Where it began, back-dated.
    pub start: Moment,
    /// Where it ended, once cleared.
    pub end: Option<Moment>,
}

impl Defect {
    /// Of a defect between sound and picture: what every way of measuring says, and where it came in. Empty where there is
    /// nothing to add to the value: one way alone, and no place.
    pub fn av_words(&self) -> String {
        let mut words = String::new();
        if self.av_offsets.len() > 1 {
            let ways: Vec<String> = self.av_offsets.iter().map(|o| format!("by {o}")).collect();
            words = format!(" Sound against picture {}.", ways.join("; "));
        }
        if let Some(place) = self.place.filter(|place| place.is_between()) {
            words += &format!(" Came in where {}.", place.phrase(""));
        }
        words
    }
}

/// A break of the programme that was announced, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Stream id.
    pub stream: Arc<str>,
    /// Which end.
    pub edge: BreakEdge,
    /// When it takes effect.
    pub at: Arrival,
    /// Announced length of the break.
    pub planned: Option<Duration>,
}

/// A change of one defect.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// What changed.
    pub change: Change,
    /// When it was decided.
    pub at: Moment,
    /// The defect as it stands now.
    pub defect: Defect,
}

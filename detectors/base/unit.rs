//! What is handed to detectors, in order.

use std::fmt;

use super::{Arrival, Fact, MediaTime, Picture, Sound};

/// Kind of an elementary stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Kind {
    /// `video` or `audio`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Video => "video",
            Kind::Audio => "audio",
        }
    }
}

/// One elementary stream of a monitored stream; written `video:0`, `audio:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Track {
    /// Pictures or sound.
    pub kind: Kind,
    /// Position among the tracks of its kind, from 0.
    pub index: u8,
}

impl Track {
    /// The `index`-th picture track.
    pub const fn video(index: u8) -> Self {
        Self {
            kind: Kind::Video,
            index,
        }
    }

    /// The `index`-th sound track.
    pub const fn audio(index: u8) -> Self {
        Self {
            kind: Kind::Audio,
            index,
        }
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.index)
    }
}

/// What happened just before a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gap {
    /// It follows the previous unit of its track.
    #[default]
    None,
    /// The stream itself is discontinuous here (timeline jump, reconnect, decoder restart).
    Discontinuity,
    /// The monitor dropped this many units; never a defect of the stream.
    WeDropped(u32),
}

/// When a unit belongs and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Place on the stream's media clock; absent for ticks before the first picture or sound.
    /// For facts and ticks: the newest media time seen so far, when known.
    pub media: Option<MediaTime>,
    /// When it reached us.
    pub arrival: Arrival,
    /// Continuity with the previous unit of the same track.
    pub gap: Gap,
}

/// The content of a unit.
#[derive(Debug, Clone, Copy)]
pub enum Media<'a> {
    /// A decoded picture.
    Video(&'a Picture<'a>),
    /// A block of decoded sound.
    Audio(&'a Sound<'a>),
    /// Something known about the stream other than its samples.
    Fact(&'a Fact),
    /// Four times a second of arrival time, so that absence is visible.
    Tick,
}

/// One thing handed to detectors.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// When.
    pub at: Stamp,
    /// The track it belongs to: always set for pictures and sound, `None` for ticks and stream-wide facts.
    pub track: Option<Track>,
    /// What.
    pub media: Media<'a>,
}

//! Named numbers, and how a detector emits them.

use super::{Cause, MediaTime, Track};

/// Which clock a signal, and the hold times of its rules, run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Media time: freeze, black, silence, A/V offset.
    Media,
    /// Arrival time: missing input, late segments.
    Arrival,
}

/// A named number a detector emits.
#[derive(Debug)]
pub struct Signal {
    /// Snake case with the unit as suffix (`still_secs`, `level_dbfs`, `damage_ratio`).
    pub name: &'static str,
    /// Unit in words: "seconds", "ratio 0..1", "dBFS".
    pub unit: &'static str,
    /// Smallest and largest value ever emitted.
    pub range: (f64, f64),
    /// Clock its rules run on.
    pub basis: Basis,
    /// One sentence for reference docs and metric help.
    pub help: &'static str,
}

/// Why something could not be measured. Never means "fine".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Not enough material yet.
    WarmingUp,
    /// No input reaches the monitor; the loss detector tells.
    NoInput,
    /// The track delivers nothing decodable; the loss detector tells.
    NoTrack,
    /// The monitor itself dropped or skipped units.
    Shed,
    /// The sample format is not one the detector reads.
    UnsupportedFormat,
    /// Timestamps are absent or unusable.
    NoTimestamps,
    /// Nothing to compare with: one of picture or sound is missing by design.
    NotApplicable,
    /// Another place of the programme is to be compared with, and nothing comes from there.
    NoReference,
    /// The detector panicked and was switched off on this stream.
    DetectorFailed,
}

impl Why {
    /// All reasons, for label listings.
    pub const ALL: &'static [Why] = &[
        Why::WarmingUp,
        Why::NoInput,
        Why::NoTrack,
        Why::Shed,
        Why::UnsupportedFormat,
        Why::NoTimestamps,
        Why::NotApplicable,
        Why::NoReference,
        Why::DetectorFailed,
    ];

    /// Label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::WarmingUp => "warming_up",
            Why::NoInput => "no_input",
            Why::NoTrack => "no_track",
            Why::Shed => "shed",
            Why::UnsupportedFormat => "unsupported_format",
            Why::NoTimestamps => "no_timestamps",
            Why::NotApplicable => "not_applicable",
            Why::NoReference => "no_reference",
            Why::DetectorFailed => "detector_failed",
        }
    }

    /// Whether lasting blindness for this reason is worth an alert of its own: not when the loss detector
    /// already tells it, nor when the thing cannot exist.
    pub fn is_blindness(self) -> bool {
        matches!(
            self,
            Why::Shed
                | Why::UnsupportedFormat
                | Why::NoTimestamps
                | Why::NoReference
                | Why::DetectorFailed
        )
    }
}

/// A number, or the reason for its absence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Measured; finite and within the signal's range.
    Measured(f64),
    /// Not measurable now.
    Unmeasurable(Why),
}

/// Something to draw on evidence pictures.
#[derive(Debug, Clone, PartialEq)]
pub enum Exhibit {
    /// One value 0..=255 per tile, row by row; tiles are `tile_px` full-resolution pixels square.
    TileMap {
        /// Tiles a row.
        columns: usize,
        /// Values, row by row.
        values: Vec<u8>,
        /// Edge length of a tile in pixels.
        tile_px: usize,
    },
}

/// One emission of a signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The number.
    pub value: Value,
    /// Where the present run began, when the detector knows better than "now" (back-dated starts).
    pub since: Option<MediaTime>,
    /// Where the run before it ended, when the detector saw only later that it had.
    pub until: Option<MediaTime>,
    /// Overrides the rule's cause: what exactly is wrong.
    pub cause: Option<Cause>,
    /// To draw on evidence.
    pub exhibit: Option<Exhibit>,
}

impl Reading {
    /// A measured value.
    pub fn measured(value: f64) -> Self {
        Self {
            value: Value::Measured(value),
            since: None,
            until: None,
            cause: None,
            exhibit: None,
        }
    }

    /// Not measurable, because.
    pub fn unmeasurable(why: Why) -> Self {
        Self {
            value: Value::Unmeasurable(why),
            since: None,
            until: None,
            cause: None,
            exhibit: None,
        }
    }

    /// Sets where the run began.
    pub fn since(mut self, since: Option<MediaTime>) -> Self {
        self.since = since;
        self
    }

    /// Sets where the run before ended.
    pub fn until(mut self, until: Option<MediaTime>) -> Self {
        self.until = until;
        self
    }

    /// Sets the exact cause.
    pub fn cause(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Adds something to draw.
    pub fn exhibit(mut self, exhibit: Exhibit) -> Self {
        self.exhibit = Some(exhibit);
        self
    }
}

/// Where a detector puts its readings. The host decides what becomes of them.
pub struct Sink<'a> {
    emit: &'a mut dyn FnMut(&'static Signal, Option<Track>, Reading),
}

impl<'a> Sink<'a> {
    /// Wraps the host's receiver; the track is `None` when the detector means "the track I was built for"
    /// (or the stream as a whole, for stream-scoped detectors).
    pub fn new(emit: &'a mut dyn FnMut(&'static Signal, Option<Track>, Reading)) -> Self {
        Self { emit }
    }

    /// Emits on the detector's own track, or on the stream.
    pub fn put(&mut self, signal: &'static Signal, reading: Reading) {
        (self.emit)(signal, None, reading);
    }

    /// Emits on a given track; for stream-scoped detectors that tell tracks apart.
    pub fn put_on(&mut self, track: Track, signal: &'static Signal, reading: Reading) {
        (self.emit)(signal, Some(track), reading);
    }
}

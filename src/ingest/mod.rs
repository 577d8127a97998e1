//! The converter: turns one stream into decoded pictures and sound, in memory.
//!
//! A source ([`source`]) brings bytes, transport analysis and GStreamer turn them into units, and every unit is
//! pushed into an [`Intake`]. Ingest knows nothing of detectors' names, rules or alerts.

pub mod clock;
pub mod convert;
pub mod crypt;
pub mod fetch;
pub mod source;
pub mod stats;

use detectors::base::{Fact, MediaTime, Range, Track};

/// Owned counterpart of [`detectors::base::Unit`], as it travels from a media thread to a lane.
#[derive(Debug)]
pub struct OwnedUnit {
    /// Place on the stream's media clock.
    pub media: Option<MediaTime>,
    /// Monotonic arrival.
    pub arrival: detectors::base::Arrival,
    /// Whether the stream itself was discontinuous just before.
    pub discontinuity: bool,
    /// Track, for pictures, sound and track facts.
    pub track: Option<Track>,
    /// Content.
    pub content: Content,
}

/// What an owned unit holds.
#[derive(Debug)]
pub enum Content {
    /// A decoded picture, still in the decoder's buffer.
    Picture(PictureBuffer),
    /// Decoded sound.
    Sound(SoundBuffer),
    /// A fact.
    Fact(Fact),
    /// Time passes.
    Tick,
}

/// A decoded picture held by reference.
#[derive(Debug)]
pub struct PictureBuffer {
    /// Mapped decoder buffer: planes by reference, no copy.
    pub frame: gstreamer_video::VideoFrame<gstreamer_video::video_frame::Readable>,
    /// Significant bits a sample.
    pub bits: u8,
    /// Signalled range.
    pub range: Range,
}

/// Decoded sound, interleaved.
#[derive(Debug)]
pub struct SoundBuffer {
    /// Interleaved samples, full scale 1.0.
    pub samples: Vec<f32>,
    /// Channels.
    pub channels: usize,
    /// Samples a second.
    pub rate_hz: u32,
}

/// What became of a pushed unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Taken.
    Queued,
    /// Taken, and an older picture was dropped and counted.
    ReplacedOldest,
    /// The lane is gone; stop pushing.
    Closed,
}

/// Where units go. Implemented by a lane's mailbox.
pub trait Intake: Send + Sync {
    /// Takes a unit. For live input it returns at once, always; for files it may wait until there is room.
    fn push(&self, unit: OwnedUnit) -> Pushed;
}

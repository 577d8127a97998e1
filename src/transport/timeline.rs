//! Maps raw 33-bit timestamps of all tracks of a program onto one media clock that never jumps.

use detectors::base::MediaTime;

/// A mapped timestamp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mapped {
    /// Place on the media clock.
    pub media: MediaTime,
    /// Set when this timestamp began a new timeline: seconds by which it differs from what was expected.
    pub jump_secs: Option<f64>,
}

/// One media clock for the tracks of a program.
///
/// Wraps are unrolled. When a track's timestamps jump (backward, or forward by more than the jump limit), a new
/// timeline begins whose offset continues the clock; other tracks join it as their timestamps jump likewise, so
/// that A/V offsets survive the jump exactly.
#[derive(Debug, Default)]
pub struct Timeline {}

impl Timeline {
    /// Maps a timestamp (90 kHz, 33 bit) of the track with this key (PID or input number).
    pub fn map(&mut self, _track: u32, _ticks: u64) -> Mapped {
        Mapped {
            media: MediaTime::default(),
            jump_secs: None,
        }
    }
}

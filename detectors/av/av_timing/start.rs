//! How a programme begins: the first sound against the first picture.

use crate::base::MediaTime;

/// An AAC encoder puts its delay before the sound: 1024 samples, or 2048 to 2304 by encoder and profile. MPEG-TS cannot
/// say so, and players play it.
const PRIMING_SAMPLES: [(f64, f64); 2] = [(1_024.0, 1_024.0), (2_048.0, 2_304.0)];
/// Most that is told.
pub(super) const PRIMING_MAX: f64 = 2_400.0;
/// Timestamps in milliseconds, of both.
const ROUNDING_SECS: f64 = 0.001_5;

/// The first sound of a track, and the first picture that it belongs to.
#[derive(Debug)]
pub(super) struct Start {
    sound: MediaTime,
    rate_hz: u32,
    picture: Option<MediaTime>,
}

impl Start {
    pub(super) fn new(sound: MediaTime, rate_hz: u32, picture: Option<MediaTime>) -> Self {
        Self {
            sound,
            rate_hz,
            picture,
        }
    }

    /// The first picture, however often it is told.
    pub(super) fn picture(&mut self, first: MediaTime) {
        self.picture.get_or_insert(first);
    }

    /// How much earlier the sound begins than the pictures.
    pub(super) fn early_secs(&self) -> Option<f64> {
        Some(self.picture?.secs_after(self.sound))
    }

    /// Samples of priming that this offset is; 0 when it is none.
    pub(super) fn priming_samples(&self, is_aac: bool) -> f64 {
        let rate = f64::from(self.rate_hz);
        let samples = self.early_secs().unwrap_or(0.0).abs() * rate;
        let slack = ROUNDING_SECS * rate;
        let primed =
            |(least, most): &(f64, f64)| samples + slack >= *least && samples <= most + slack;
        match PRIMING_SAMPLES.iter().find(|range| primed(range)) {
            Some((least, most)) if is_aac => samples.round().clamp(*least, *most),
            _ => 0.0,
        }
    }
}

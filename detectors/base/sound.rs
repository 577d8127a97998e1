//! A block of decoded sound.

/// Interleaved samples in -1.0..=1.0 (full scale), borrowed. May hold NaN or values beyond full scale when the
/// decoder produced them: detectors cope.
#[derive(Debug, Clone, Copy)]
pub struct Sound<'a> {
    samples: &'a [f32],
    channels: usize,
    rate_hz: u32,
}

impl<'a> Sound<'a> {
    /// `samples` interleaved; `None` when there is no channel, no rate, or a torn last frame.
    pub fn new(samples: &'a [f32], channels: usize, rate_hz: u32) -> Option<Self> {
        (channels > 0 && rate_hz > 0 && samples.len().is_multiple_of(channels)).then_some(Self {
            samples,
            channels,
            rate_hz,
        })
    }

    /// Interleaved samples.
    pub fn samples(&self) -> &'a [f32] {
        self.samples
    }

    /// Channels, at least 1.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Sample rate in hertz, at least 1.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Samples per channel.
    pub fn frames(&self) -> usize {
        self.samples.len() / self.channels
    }

    /// Length in seconds.
    pub fn secs(&self) -> f64 {
        self.frames() as f64 / f64::from(self.rate_hz)
    }
}

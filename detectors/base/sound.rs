//! A block of decoded sound, and where its samples lie in time.

use super::MediaTime;

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

/// Timestamps off the count of samples by more than this begin a new run, at once or after several blocks: some
/// containers round to milliseconds.
const OFF_SECS: f64 = 0.02;
const OFF_SLIGHTLY_SECS: f64 = 0.0025;
const OFF_BLOCKS: u32 = 3;

/// Where the samples of one track lie on the media clock: counted from a timestamp on, as long as those that follow
/// agree.
#[derive(Debug, Clone, Copy, Default)]
pub struct SampleClock {
    rate_hz: u32,
    from: MediaTime,
    samples: u64,
    off_blocks: u32,
}

impl SampleClock {
    /// Takes in a block that begins at `at`; whether it begins a new run.
    pub fn follow(&mut self, at: MediaTime, sound: &Sound<'_>) -> bool {
        let known = self.rate_hz == sound.rate_hz();
        let expected = self.samples as f64 / f64::from(self.rate_hz.max(1));
        let off = (at.secs_after(self.from) - expected).abs();
        self.off_blocks = if off > OFF_SLIGHTLY_SECS {
            self.off_blocks + 1
        } else {
            0
        };
        let follows = known && off <= OFF_SECS && self.off_blocks < OFF_BLOCKS;
        if !follows {
            *self = Self {
                rate_hz: sound.rate_hz(),
                from: at,
                ..Self::default()
            };
        }
        self.samples += sound.frames() as u64;
        !follows
    }

    /// Samples a second; 0 before the first block.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Time of a sample of the run, counted from 0.
    pub fn at(&self, sample: u64) -> MediaTime {
        let nanos = u128::from(sample) * 1_000_000_000 / u128::from(self.rate_hz.max(1));
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        MediaTime::from_nanos(self.from.nanos().saturating_add(nanos))
    }
}

//! Prints: what is kept of pictures and sound so that two places of one programme can be compared.
//!
//! A print is small (less than 2 kbit/s for pictures and one sound track), says nothing of what is seen or heard, and
//! survives re-encoding, scaling, cropping, logos, other picture rates and other loudness.

use std::time::Duration;

use super::MediaTime;

/// Bits of sound a second (the rate of SMPTE ST 2064-1 for whole picture rates).
pub const SOUND_BITS_HZ: u32 = 960;

/// Motion of one picture against the one about 85 ms before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PicturePrint {
    /// The middle between the two.
    pub at: MediaTime,
    /// Upper left, upper right, lower left, lower right quarter: 0 (still) to 15, two steps for each doubling of the
    /// mean change of luma.
    pub motion: [u8; 4],
}

/// A run of sound bits without a gap: whether the short-term level is above the long-term one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoundPrint {
    /// Which sound track, from 0.
    pub track: u8,
    /// Time of the first bit; the others follow at [`SOUND_BITS_HZ`].
    pub from: MediaTime,
    /// Bits.
    pub bits: Vec<bool>,
}

impl SoundPrint {
    /// Time after the last bit.
    pub fn until(&self) -> MediaTime {
        let secs = self.bits.len() as f64 / f64::from(SOUND_BITS_HZ);
        self.from.plus(Duration::from_secs_f64(secs))
    }
}

/// About a second of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Print {
    /// Pictures of the first picture track, in order.
    pub pictures: Vec<PicturePrint>,
    /// Sound.
    pub sound: Vec<SoundPrint>,
}

impl Print {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty() && self.sound.is_empty()
    }

    /// The earliest time in it.
    pub fn from(&self) -> Option<MediaTime> {
        let pictures = self.pictures.iter().map(|p| p.at);
        pictures.chain(self.sound.iter().map(|s| s.from)).min()
    }

    /// The latest time in it.
    pub fn until(&self) -> Option<MediaTime> {
        let pictures = self.pictures.iter().map(|p| p.at);
        pictures
            .chain(self.sound.iter().map(SoundPrint::until))
            .max()
    }
}

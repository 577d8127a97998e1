//! What can be known from the bytes before any decoder: pure, bounded, fuzzed.

pub mod boxes;
pub mod continuity;
pub mod flv;
pub mod mp4;
pub mod playlist;
pub mod scte35;
pub mod span;
#[cfg(any(test, fuzzing))]
pub mod testkit;
pub mod timeline;
pub mod ts;
pub mod webm;

/// Codecs that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 / AVC, byte stream.
    H264,
    /// H.265 / HEVC, byte stream.
    Hevc,
    /// MPEG-1/2 video.
    Mpeg2,
    /// AAC in ADTS.
    AacAdts,
    /// AAC in LATM/LOAS.
    AacLatm,
    /// MPEG audio layer 1, 2 or 3.
    MpegAudio,
    /// AC-3.
    Ac3,
    /// Enhanced AC-3.
    Eac3,
    /// Opus in TS.
    Opus,
}

impl Codec {
    /// Word for [`detectors::base::TrackInfo::codec`].
    pub fn as_str(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::Hevc => "hevc",
            Codec::Mpeg2 => "mpeg2",
            Codec::AacAdts | Codec::AacLatm => "aac",
            Codec::MpegAudio => "mp2",
            Codec::Ac3 => "ac3",
            Codec::Eac3 => "eac3",
            Codec::Opus => "opus",
        }
    }
}

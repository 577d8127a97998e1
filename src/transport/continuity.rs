//! Header-level continuity of coded pictures: H.264, HEVC, MPEG-2.

use detectors::base::EvidenceKind;

use super::Codec;

/// Something found in an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Damage, counted.
    Evidence(EvidenceKind, u32),
    /// Decoding is clean from this access unit on.
    RandomAccess,
    /// Coded picture size, from the sequence header or SPS, when new.
    Size {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// Follows one elementary stream, one access unit (or partial one) at a time.
#[derive(Debug)]
pub struct Continuity {
    codec: Codec,
}

impl Continuity {
    /// `None` for codecs without a header parser.
    pub fn new(codec: Codec) -> Option<Self> {
        matches!(codec, Codec::H264 | Codec::Hevc | Codec::Mpeg2).then_some(Self { codec })
    }

    /// Reads the headers of one access unit in byte-stream format.
    pub fn access_unit(&mut self, _bytes: &[u8], _found: &mut dyn FnMut(Found)) {
        let _ = self.codec;
    }

    /// Forgets what came before (discontinuity, reconnect).
    pub fn reset(&mut self) {}
}

//! From container bytes to decoded units: one converter per run of a source.

use bytes::Bytes;

/// Container of a byte input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MPEG-TS.
    MpegTs,
    /// Fragmented MP4: an init segment, then whole `moof`+`mdat` fragments.
    FragmentedMp4,
    /// Raw ADTS AAC, MP3, AC-3 or E-AC-3, possibly after an ID3 tag with a timestamp (HLS packed audio).
    PackedAudio,
}

/// What is fed to one input of a converter.
#[derive(Debug, Clone)]
pub enum Feed {
    /// A piece (segment) begins. With `init`, an fMP4 initialisation segment comes first (again).
    Begin {
        /// Container of the piece.
        container: Container,
        /// Initialisation segment, when new or changed.
        init: Option<Bytes>,
        /// The playlist announced a discontinuity before it.
        discontinuity: bool,
    },
    /// Bytes of the piece.
    Data(Bytes),
    /// The piece is complete. `truncated`: it was cut short (known from `Content-Length` or an aborted body).
    End {
        /// Cut short.
        truncated: bool,
    },
}

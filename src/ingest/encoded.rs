//! Encoded units, as they reach a decoder: after the container, after decryption, by reference.

use std::sync::Arc;

use bytes::Bytes;
use detectors::base::{Kind, MediaTime, Track};
use gstreamer as gst;

/// How a track is coded. Equal for units that one decoder takes without being set up anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    /// As the decoder is told.
    pub(super) caps: gst::Caps,
}

impl Encoding {
    /// The word for it in a file of evidence: the media type.
    pub fn media_type(&self) -> &str {
        self.caps.structure(0).map_or("", |s| s.name().as_str())
    }

    /// An encoding as a caps string tells it.
    #[cfg(test)]
    pub(crate) fn of(caps: &str) -> Arc<Self> {
        use std::str::FromStr as _;
        gst::init().expect("GStreamer starts");
        let caps = gst::Caps::from_str(caps).expect("caps");
        Arc::new(Self { caps })
    }
}

/// One access unit on its way to the decoder. Cloning it shares the bytes.
#[derive(Debug, Clone)]
pub struct EncodedUnit {
    /// Whose.
    pub track: Track,
    /// How it is coded.
    pub encoding: Arc<Encoding>,
    /// Presentation.
    pub media: MediaTime,
    /// Presentation minus decoding time, nanoseconds; 0 when they are one, `None` when it is not known.
    pub decode_ahead_nanos: Option<i64>,
    /// Decoding may begin here.
    pub key: bool,
    /// The coded bytes.
    pub bytes: Bytes,
}

impl EncodedUnit {
    /// Whether it is a picture.
    pub fn is_picture(&self) -> bool {
        self.track.kind == Kind::Video
    }
}

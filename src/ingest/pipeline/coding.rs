//! How elementary streams are described to their chains.

use gstreamer as gst;

use detectors::base::{Cause, Kind};

use super::{Chain, demuxed, elementary};
use crate::ingest::convert::ConvertError;
use crate::transport::Codec;
use crate::transport::webm::{WebmTrack, vorbis_headers};

/// How an elementary stream is coded.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ingest) enum Coding {
    /// As in a transport stream, with the channels of sound if known.
    Stream(Codec, Option<u8>),
    /// As its container or a network element describes it.
    Described(gst::Caps),
}

impl Coding {
    /// H.264 with lengths before its NAL units; `config` is an `AVCDecoderConfigurationRecord`.
    pub(in crate::ingest) fn avc(config: &[u8]) -> Self {
        Self::with_config("video/x-h264", "avc", config)
    }

    /// HEVC with lengths before its NAL units; `config` is an `HEVCDecoderConfigurationRecord`.
    pub(in crate::ingest) fn hvc(config: &[u8]) -> Self {
        Self::with_config("video/x-h265", "hvc1", config)
    }

    fn with_config(name: &str, format: &str, config: &[u8]) -> Self {
        let caps = gst::Caps::builder(name)
            .field("stream-format", format)
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(config.to_vec()));
        Self::Described(caps.build())
    }

    /// AAC without headers; `config` is an `AudioSpecificConfig`.
    pub(in crate::ingest) fn aac(config: &[u8]) -> Self {
        let caps = gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4)
            .field("stream-format", "raw")
            .field("framed", true)
            .field("codec_data", gst::Buffer::from_slice(config.to_vec()));
        Self::Described(caps.build())
    }

    /// A track of WebM; `None` for codecs that are not read from it.
    pub(in crate::ingest) fn webm(track: &WebmTrack) -> Option<Self> {
        let plain = |name| Some(gst::Caps::new_empty_simple(name));
        let caps = match track.codec.as_str() {
            _ if track.packed => None,
            "V_VP8" => plain("video/x-vp8"),
            "V_VP9" => plain("video/x-vp9"),
            "V_AV1" => {
                let caps = gst::Caps::builder("video/x-av1")
                    .field("stream-format", "obu-stream")
                    .field("alignment", "tu");
                Some(caps.build())
            }
            // More than two channels are mapped by tables that are not read.
            "A_OPUS" if track.channels <= 2 => {
                let caps = gst::Caps::builder("audio/x-opus")
                    .field("channel-mapping-family", 0)
                    .field("channels", i32::try_from(track.channels).unwrap_or(2))
                    .field("rate", 48_000);
                Some(caps.build())
            }
            "A_VORBIS" => {
                let headers = vorbis_headers(&track.config)?.map(gst::Buffer::from_slice);
                let caps = gst::Caps::builder("audio/x-vorbis")
                    .field("channels", i32::try_from(track.channels).unwrap_or(2))
                    .field("rate", i32::try_from(track.rate_hz).unwrap_or(48_000))
                    .field("streamheader", gst::Array::new(headers));
                Some(caps.build())
            }
            _ => None,
        };
        caps.map(Self::Described)
    }

    /// Kind, codec word, and why it cannot be decoded.
    pub(in crate::ingest) fn announce(&self) -> (Option<Kind>, String, Option<Cause>) {
        match self {
            Coding::Stream(codec, _) => (None, codec.as_str().to_owned(), None),
            Coding::Described(caps) => match caps.structure(0) {
                Some(caps) => {
                    let (kind, chain, word) = demuxed(caps);
                    (kind, word, chain.err())
                }
                None => (None, String::new(), Some(Cause::UnsupportedCodec)),
            },
        }
    }

    /// Chain and its input caps.
    pub(super) fn chain(&self) -> Result<(Chain, gst::Caps), ConvertError> {
        match self {
            Coding::Stream(codec, channels) => Ok(elementary(*codec, *channels)),
            Coding::Described(caps) => {
                let chain = caps.structure(0).map(|c| demuxed(c).1);
                let chain = chain.unwrap_or(Err(Cause::UnsupportedCodec));
                chain
                    .map(|chain| (chain, caps.clone()))
                    .map_err(|cause| ConvertError {
                        cause,
                        detail: "no decoder for the codec".to_owned(),
                    })
            }
        }
    }
}

/// MP3, which containers do not tell from MP2.
pub(super) fn is_layer_3(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|s| {
        s.name() == "audio/mpeg"
            && s.get::<i32>("mpegversion") == Ok(1)
            && s.get::<i32>("layer") == Ok(3)
    })
}

/// Width and height.
pub(super) fn size(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    Some((number(caps, "width")?, number(caps, "height")?))
}

/// Channels of sound.
pub(super) fn channels(caps: &gst::CapsRef) -> Option<u32> {
    number(caps, "channels")
}

fn number(caps: &gst::CapsRef, name: &str) -> Option<u32> {
    let value = caps.structure(0)?.get::<i32>(name).ok()?;
    u32::try_from(value).ok()
}

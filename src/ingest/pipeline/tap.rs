//! Hands encoded units to whoever keeps them, where they enter the decoder.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use detectors::base::MediaTime;
use gstreamer as gst;
use gstreamer::prelude::*;

use super::running_time;
use crate::ingest::appsink::{Way, lock};
use crate::ingest::encoded::{EncodedUnit, Encoding};

/// Copies nothing: what it hands on holds the decoder's own input.
pub(super) struct EncodedTap {
    way: Arc<Way>,
    encoding: Mutex<Option<Arc<Encoding>>>,
    /// Media time of the unit before.
    last: Mutex<Option<MediaTime>>,
}

/// A unit without a time follows the one before by this.
const NEXT: Duration = Duration::from_millis(1);

impl EncodedTap {
    /// `None` when nobody keeps units of this stream.
    pub(super) fn new(way: &Arc<Way>) -> Option<Self> {
        way.hub.keeps_encoded().then(|| Self {
            way: Arc::clone(way),
            encoding: Mutex::default(),
            last: Mutex::default(),
        })
    }

    /// A buffer is about to be decoded.
    pub(super) fn buffer(&self, pad: &gst::Pad, buffer: &gst::Buffer) {
        let Some(encoding) = self.encoding(pad) else {
            return;
        };
        let Some(media) = self.media(pad, buffer) else {
            return;
        };
        let Ok(bytes) = buffer.clone().into_mapped_buffer_readable() else {
            return;
        };
        let times = buffer.pts().zip(buffer.dts());
        let ahead = times.map(|(pts, dts)| {
            let nanos = i128::from(pts.nseconds()) - i128::from(dts.nseconds());
            i64::try_from(nanos).unwrap_or(0)
        });
        self.way.hub.encoded(EncodedUnit {
            track: self.way.track,
            encoding,
            media,
            decode_ahead_nanos: ahead,
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) && begins(pad, &bytes),
            bytes: Bytes::from_owner(bytes),
        });
    }

    /// Where the unit lies. Parsers leave few without a time; without them the pictures after would not decode.
    fn media(&self, pad: &gst::Pad, buffer: &gst::Buffer) -> Option<MediaTime> {
        let mut last = lock(&self.last);
        let media = match buffer.pts().or_else(|| buffer.dts()) {
            Some(time) => self.way.media_of(running_time(pad, &self.way, time)),
            None => last.map(|last| last.plus(NEXT)),
        };
        *last = media;
        media
    }

    /// The pad's caps, shared between units for as long as they stay.
    fn encoding(&self, pad: &gst::Pad) -> Option<Arc<Encoding>> {
        let caps = pad.current_caps()?;
        // Plain samples are no encoded input, and large.
        if caps.structure(0)?.name().ends_with("/x-raw") {
            return None;
        }
        let mut kept = lock(&self.encoding);
        if let Some(encoding) = kept.as_ref().filter(|e| e.caps == caps) {
            return Some(Arc::clone(encoding));
        }
        let encoding = Arc::new(Encoding { caps });
        *kept = Some(Arc::clone(&encoding));
        Some(encoding)
    }
}

/// Codecs whose chains have no parser tell by their first bits whether decoding may begin.
fn begins(pad: &gst::Pad, bytes: &[u8]) -> bool {
    let first = bytes.first().copied().unwrap_or(0);
    let caps = pad.current_caps();
    match caps
        .as_ref()
        .and_then(|c| c.structure(0))
        .map(|s| s.name().as_str())
    {
        // RFC 6386, 9.1: the lowest bit of a frame tag is 0 in key frames.
        Some("video/x-vp8") => first & 1 == 0,
        // VP9 bitstream, 6.2: marker, profile (three bits for profile 3), show_existing_frame, frame_type.
        Some("video/x-vp9") if first & 0x30 == 0x30 => first & 0x06 == 0,
        Some("video/x-vp9") => first & 0x0c == 0,
        _ => true,
    }
}

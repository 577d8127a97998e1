//! Decoder buffers seen as planes.

use detectors::base::Transfer;
use detectors::plane::{Plane, Samples};
use gstreamer_video::VideoTransferFunction;
use gstreamer_video::prelude::*;

use crate::ingest::PictureBuffer;

/// The luma plane of a decoded picture, by reference; `None` for formats that have none on its own (packed, RGB,
/// tiled, big-endian).
pub fn luma(picture: &PictureBuffer) -> Option<Plane<'_>> {
    let frame = &picture.frame;
    let format = frame.format_info();
    if !(format.is_yuv() || format.is_gray()) || format.is_tiled() || format.is_complex() {
        return None;
    }
    let depth = *format.depth().first()?;
    let shift = *format.shift().first()?;
    let step = *format.pixel_stride().first()?;
    let data = frame.plane_data(0).ok()?;
    let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    match (depth, step) {
        (8, 1) => Plane::new(Samples::U8(data), width, height, stride),
        (9..=16, 2) if format.is_le() => {
            // Formats that keep their bits on top (P010) read as 16-bit samples: the low bits are zero.
            let bits = if shift == 0 { depth } else { depth + shift };
            let bits = u8::try_from(bits).ok()?;
            Plane::new(
                Samples::U16Le { bytes: data, bits },
                width,
                height,
                stride / 2,
            )
        }
        _ => None,
    }
}

/// The signalled transfer characteristic.
pub fn transfer(picture: &PictureBuffer) -> Transfer {
    match picture.frame.info().colorimetry().transfer() {
        VideoTransferFunction::Smpte2084 => Transfer::Pq,
        VideoTransferFunction::AribStdB67 => Transfer::Hlg,
        _ => Transfer::Sdr,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use detectors::base::Range;
    use gstreamer_video::{VideoColorimetry, VideoFormat, VideoFrame, VideoInfo};

    use super::*;

    #[test]
    fn the_transfer_is_read_from_what_the_decoder_tells() {
        gstreamer::init().unwrap();
        for (word, told) in [
            ("bt709", Transfer::Sdr),
            ("bt2100-pq", Transfer::Pq),
            ("bt2100-hlg", Transfer::Hlg),
        ] {
            let colorimetry: VideoColorimetry = word.parse().unwrap();
            let info = VideoInfo::builder(VideoFormat::I420, 16, 16)
                .colorimetry(&colorimetry)
                .build()
                .unwrap();
            let buffer = gstreamer::Buffer::with_size(info.size()).unwrap();
            let frame = VideoFrame::from_buffer_readable(buffer, &info).unwrap();
            let picture = PictureBuffer {
                frame,
                bits: 8,
                range: Range::Limited,
            };
            assert_eq!(transfer(&picture), told, "{word}");
        }
    }
}

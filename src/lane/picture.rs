//! Decoder buffers seen as planes.

use detectors::base::Transfer;
use detectors::plane::{Chroma, Layout, Order, Plane, Samples};
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoFormatInfo, VideoTransferFunction};

use crate::ingest::PictureBuffer;

/// The luma plane of a decoded picture, by reference; `None` for formats that have none on its own (packed, RGB,
/// tiled, big-endian).
pub fn luma(picture: &PictureBuffer) -> Option<Plane<'_>> {
    let frame = &picture.frame;
    let format = frame.format_info();
    if !(format.is_yuv() || format.is_gray()) || format.is_tiled() || format.is_complex() {
        return None;
    }
    let step = *format.pixel_stride().first()?;
    let data = frame.plane_data(0).ok()?;
    let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
    let (samples, bytes) = samples(data, &format, 0)?;
    if usize::try_from(step) != Ok(bytes) {
        return None;
    }
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    Plane::new(samples, width, height, stride / bytes)
}

/// The chroma samples beside a luma plane, by reference; `None` for pictures without colour.
pub fn chroma(picture: &PictureBuffer) -> Option<Chroma<'_>> {
    let frame = &picture.frame;
    let format = frame.format_info();
    if !format.is_yuv() || format.n_components() < 3 {
        return None;
    }
    let halvings = (*format.w_sub().get(1)?, *format.h_sub().get(1)?);
    let halvings = (
        u8::try_from(halvings.0).ok()?,
        u8::try_from(halvings.1).ok()?,
    );
    let size = (frame.comp_width(1) as usize, frame.comp_height(1) as usize);
    let step = usize::try_from(frame.comp_pstride(1)).ok()?;
    // Rows of samples of the component's plane, `across` a row.
    let plane = |component: u32, across: usize| {
        let data = frame.plane_data(frame.comp_plane(component)).ok()?;
        let (samples, bytes) = samples(data, &format, component as usize)?;
        let stride = usize::try_from(frame.comp_stride(component)).ok()?;
        Some((Plane::new(samples, across, size.1, stride / bytes)?, bytes))
    };
    let ((cb, bytes), (cr, _)) = (plane(1, size.0)?, plane(2, size.0)?);
    let apart = frame.comp_plane(1) != frame.comp_plane(2);
    let layout = if apart && step == bytes {
        Layout::Planar { cb, cr }
    } else if !apart && step == 2 * bytes {
        let (pairs, _) = plane(1, 2 * size.0)?;
        let order = match frame.comp_poffset(1) < frame.comp_poffset(2) {
            true => Order::CbCr,
            false => Order::CrCb,
        };
        Layout::Paired { pairs, order }
    } else {
        return None;
    };
    Chroma::new(layout, halvings)
}

/// The bytes of a plane as samples of a component, and the bytes each takes. Formats that keep their bits on top
/// (P010) read as 16-bit samples: the low bits are zero.
fn samples<'a>(
    data: &'a [u8],
    format: &VideoFormatInfo,
    component: usize,
) -> Option<(Samples<'a>, usize)> {
    let depth = *format.depth().get(component)?;
    let shift = *format.shift().get(component)?;
    match depth {
        8 => Some((Samples::U8(data), 1)),
        9..=16 if format.is_le() => {
            let bits = u8::try_from(if shift == 0 { depth } else { depth + shift }).ok()?;
            Some((Samples::U16Le { bytes: data, bits }, 2))
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
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use detectors::base::{Picture, Range};
    use gstreamer_video::{VideoColorimetry, VideoFormat, VideoFormat as F, VideoFrame, VideoInfo};

    use super::*;
    use crate::lane::testing::picture_of;

    /// Every layout that decoders give, at sizes that are no multiple of anything.
    #[test]
    fn colours_are_found_in_every_layout() {
        let bytes = [
            F::I420,
            F::Yv12,
            F::Nv12,
            F::Nv21,
            F::Y42b,
            F::Nv16,
            F::Y444,
            F::Nv24,
            F::Y41b,
        ];
        let deep = [
            (F::I42010le, 4),
            (F::I42210le, 4),
            (F::Y44410le, 4),
            (F::I42012le, 16),
            (F::Y44416le, 256),
            (F::P01010le, 4),
        ];
        let all = bytes.map(|f| (f, 1)).into_iter().chain(deep);
        for (format, scale) in all {
            for (width, height) in [(64, 48), (51, 35), (17, 9), (2, 2), (1, 1)] {
                let codes = [90, 200, 40].map(|code| code * scale);
                let buffer = picture_of(format, width, height, codes, Range::Limited);
                let picture = Picture::new(luma(&buffer).unwrap(), Range::Limited, None);
                let picture = picture.with_chroma(chroma(&buffer));
                let place = format!("{format:?} {width}x{height}");
                assert_eq!(picture.luma().at_8bit(0, 0), 90, "{place}");
                let grid = picture.chroma().unwrap_or_else(|| panic!("{place}"));
                let cells = width.div_ceil(8) * height.div_ceil(8);
                assert_eq!(grid.cb(), vec![200; cells as usize], "{place}");
                assert_eq!(grid.cr(), vec![40; cells as usize], "{place}");
            }
        }
    }

    #[test]
    fn pictures_without_colour_have_none() {
        for format in [F::Gray8, F::Gray16Le] {
            let buffer = picture_of(format, 32, 32, [90; 3], Range::Limited);
            assert!(luma(&buffer).is_some() && chroma(&buffer).is_none());
        }
        let packed = picture_of(F::Yuy2, 32, 32, [90; 3], Range::Limited);
        assert!(luma(&packed).is_none());
    }

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

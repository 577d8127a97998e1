//! From a decoder buffer to a JPEG: any planar, semi-planar or packed YUV, grey or RGB of 8 to 16 bits.

use std::io::Cursor;

use detectors::base::{Exhibit, Range};
use gstreamer_video::prelude::*;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

use crate::ingest::PictureBuffer;

/// Widest still, in pixels; wider pictures are scaled down.
pub const MAX_WIDTH: usize = 960;
/// JPEG quality, 1..=100.
const QUALITY: u8 = 85;
/// From this many rows on, colours are meant as ITU-R BT.709 (HD), below as BT.601 (SD).
const HD_ROWS: usize = 720;
/// A tile of at least this value counts as damaged: it gets an outline.
const TILE_BAD: u8 = 64;
/// Opacity of the tint of a tile of value 255.
const TINT: f32 = 0.4;

/// Why a picture could not be drawn: its format, not its content. A retry does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Tiled, palette, bit-packed or big-endian samples.
    #[error("the sample format cannot be drawn")]
    UnsupportedFormat,
    /// The buffer holds less than its format says.
    #[error("the picture buffer is too short")]
    Short,
    /// The encoder refused.
    #[error("the JPEG encoder failed")]
    Encode,
}

/// One colour component of a picture.
struct Component<'a> {
    data: &'a [u8],
    stride: usize,
    step: usize,
    width: usize,
    height: usize,
    depth: u32,
    shift: u32,
}

impl Component<'_> {
    /// Mean over the part of the component that lies under `x0..x1` x `y0..y1`, given in shares of the picture,
    /// scaled to 0..=255 (of the code range).
    fn mean(&self, x: (usize, usize), y: (usize, usize), of: (usize, usize)) -> Option<f32> {
        let columns = part(x, of.0, self.width);
        let rows = part(y, of.1, self.height);
        let (mut sum, mut n) = (0u64, 0u64);
        for row in rows {
            let line = self.data.get(row * self.stride..)?;
            for column in columns.clone() {
                let at = column * self.step;
                let raw = if self.depth > 8 {
                    u16::from_le_bytes([*line.get(at)?, *line.get(at + 1)?]) >> self.shift
                } else {
                    u16::from(*line.get(at)?)
                };
                sum += u64::from(raw);
                n += 1;
            }
        }
        let scale = f32::from(1u16 << (self.depth - 8));
        Some(sum as f32 / n.max(1) as f32 / scale)
    }
}

/// Samples `0..size` under the pixels `span` of `of`; at least one.
fn part(span: (usize, usize), of: usize, size: usize) -> std::ops::Range<usize> {
    let from = (span.0 * size / of.max(1)).min(size.saturating_sub(1));
    let to = (span.1 * size)
        .div_ceil(of.max(1))
        .clamp(from + 1, size.max(from + 1));
    from..to
}

fn components(picture: &PictureBuffer) -> Result<Vec<Component<'_>>, RenderError> {
    let frame = &picture.frame;
    let format = frame.format_info();
    let known = format.is_yuv() || format.is_gray() || format.is_rgb();
    let odd = format.is_tiled() || format.is_complex() || format.has_palette();
    if !known || odd || !format.is_le() && format.depth().iter().any(|d| *d > 8) {
        return Err(RenderError::UnsupportedFormat);
    }
    let colours = if format.is_gray() { 1 } else { 3 };
    (0..colours)
        .map(|at| {
            let index = at as usize;
            let depth = *format
                .depth()
                .get(index)
                .ok_or(RenderError::UnsupportedFormat)?;
            let shift = *format
                .shift()
                .get(index)
                .ok_or(RenderError::UnsupportedFormat)?;
            let step = usize::try_from(frame.comp_pstride(at)).unwrap_or(0);
            if !(8..=16).contains(&depth) || step < if depth > 8 { 2 } else { 1 } {
                return Err(RenderError::UnsupportedFormat);
            }
            let plane = frame
                .plane_data(frame.comp_plane(at))
                .map_err(|_| RenderError::Short)?;
            // GStreamer 1.22 gives the Cr of P010 and its kin as one byte behind Cb; it is one sample.
            let mut offset = frame.comp_poffset(at) as usize;
            if depth > 8 {
                offset = offset.next_multiple_of(2);
            }
            Ok(Component {
                data: plane.get(offset..).ok_or(RenderError::Short)?,
                stride: usize::try_from(frame.comp_stride(at)).unwrap_or(0),
                step,
                width: frame.comp_width(at) as usize,
                height: frame.comp_height(at) as usize,
                depth,
                shift,
            })
        })
        .collect()
}

/// Draws a picture, at most [`MAX_WIDTH`] wide, with the exhibit's damaged tiles tinted and outlined in red.
/// Samples are taken as square.
pub fn render(picture: &PictureBuffer, exhibit: Option<&Exhibit>) -> Result<RgbImage, RenderError> {
    let components = components(picture)?;
    let full = (
        picture.frame.width() as usize,
        picture.frame.height() as usize,
    );
    if full.0 == 0 || full.1 == 0 {
        return Err(RenderError::Short);
    }
    let width = full.0.min(MAX_WIDTH);
    let height = (full.1 * width / full.0).max(1);
    let rgb = picture.frame.format_info().is_rgb();
    let colours = Colours::of(picture.range, full.1);
    let (out_w, out_h) = (
        u32::try_from(width).map_err(|_| RenderError::UnsupportedFormat)?,
        u32::try_from(height).map_err(|_| RenderError::UnsupportedFormat)?,
    );
    let mut image = RgbImage::new(out_w, out_h);
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let (x, y) = (x as usize, y as usize);
        let mut values = [128.0; 3];
        for (value, component) in values.iter_mut().zip(&components) {
            *value = component
                .mean((x, x + 1), (y, y + 1), (width, height))
                .ok_or(RenderError::Short)?;
        }
        *pixel = if rgb {
            Rgb(values.map(|v| v.round().clamp(0.0, 255.0) as u8))
        } else {
            colours.rgb(values)
        };
    }
    if let Some(exhibit) = exhibit {
        draw(&mut image, exhibit, full.0);
    }
    Ok(image)
}

/// Draws and encodes.
pub fn jpeg(picture: &PictureBuffer, exhibit: Option<&Exhibit>) -> Result<Vec<u8>, RenderError> {
    let image = render(picture, exhibit)?;
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode_image(&image)
        .map_err(|_| RenderError::Encode)?;
    Ok(bytes.into_inner())
}

/// Y'CbCr to R'G'B', in 8-bit codes.
struct Colours {
    black: f32,
    luma: f32,
    chroma: f32,
    kr: f32,
    kb: f32,
}

impl Colours {
    /// Luma weights of ITU-R BT.709-6 (3.2) or BT.601-7 (2.5.1); ranges of BT.601-7 (2.5.3).
    fn of(range: Range, rows: usize) -> Self {
        let (kr, kb) = if rows >= HD_ROWS {
            (0.2126, 0.0722)
        } else {
            (0.299, 0.114)
        };
        let (black, luma, chroma) = match range {
            Range::Limited => (16.0, 255.0 / 219.0, 255.0 / 224.0),
            Range::Full => (0.0, 1.0, 1.0),
        };
        Self {
            black,
            luma,
            chroma,
            kr,
            kb,
        }
    }

    fn rgb(&self, [y, cb, cr]: [f32; 3]) -> Rgb<u8> {
        let y = (y - self.black) * self.luma;
        let (cb, cr) = ((cb - 128.0) * self.chroma, (cr - 128.0) * self.chroma);
        let r = y + 2.0 * (1.0 - self.kr) * cr;
        let b = y + 2.0 * (1.0 - self.kb) * cb;
        let g = (y - self.kr * r - self.kb * b) / (1.0 - self.kr - self.kb);
        Rgb([r, g, b].map(|v| v.round().clamp(0.0, 255.0) as u8))
    }
}

fn draw(image: &mut RgbImage, exhibit: &Exhibit, full_width: usize) {
    let Exhibit::TileMap {
        columns,
        values,
        tile_px,
    } = exhibit;
    let (columns, tile_px) = (*columns, (*tile_px).max(1));
    if columns == 0 {
        return;
    }
    let width = image.width() as usize;
    // The tile under an output pixel.
    let tile = |x: usize| x * full_width / width.max(1) / tile_px;
    let value = |column: usize, row: usize| {
        if column < columns {
            values.get(row * columns + column).copied().unwrap_or(0)
        } else {
            0
        }
    };
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let (x, y) = (x as usize, y as usize);
        let here = value(tile(x), tile(y));
        if here == 0 {
            continue;
        }
        let alpha = f32::from(here) / 255.0 * TINT;
        let edge = here >= TILE_BAD
            && [
                (x.wrapping_sub(1), y),
                (x + 1, y),
                (x, y.wrapping_sub(1)),
                (x, y + 1),
            ]
            .into_iter()
            .any(|(x, y)| {
                x >= usize::MAX / 2 || y >= usize::MAX / 2 || value(tile(x), tile(y)) < TILE_BAD
            });
        *pixel = if edge {
            Rgb([255, 0, 0])
        } else {
            let Rgb([r, g, b]) = *pixel;
            let fade = |c: u8, to: f32| (f32::from(c) * (1.0 - alpha) + to * alpha).round() as u8;
            Rgb([fade(r, 255.0), fade(g, 0.0), fade(b, 0.0)])
        };
    }
}

//! Borrowed samples of one picture plane: width, height, stride, bit depth.

/// Samples of a plane, as the decoder laid them out.
#[derive(Debug, Clone, Copy)]
pub enum Samples<'a> {
    /// 8-bit samples, one byte each.
    U8(&'a [u8]),
    /// 9- to 16-bit samples, two little-endian bytes each; `bits` is the number of significant (low) bits.
    U16Le {
        /// Raw bytes, two a sample.
        bytes: &'a [u8],
        /// Significant bits, 9..=16.
        bits: u8,
    },
}

/// One plane. `stride` is in *samples* and may exceed `width`; the padding is never handed out.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    samples: Samples<'a>,
    width: usize,
    height: usize,
    stride: usize,
}

impl<'a> Plane<'a> {
    /// Checks that `samples` hold `height` rows of `stride` samples (the last row may end at `width`);
    /// `None` when they do not, or when width or height is 0.
    pub fn new(samples: Samples<'a>, width: usize, height: usize, stride: usize) -> Option<Self> {
        let len = match samples {
            Samples::U8(s) => s.len(),
            Samples::U16Le { bytes, bits } if (9..=16).contains(&bits) => bytes.len() / 2,
            Samples::U16Le { .. } => return None,
        };
        let need = height
            .checked_sub(1)?
            .checked_mul(stride)?
            .checked_add(width)?;
        (width > 0 && stride >= width && len >= need).then_some(Self {
            samples,
            width,
            height,
            stride,
        })
    }

    /// Width in samples.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Significant bits a sample, 8..=16.
    pub fn bits(&self) -> u8 {
        match self.samples {
            Samples::U8(_) => 8,
            Samples::U16Le { bits, .. } => bits,
        }
    }

    /// The samples with their layout, for kernels.
    pub fn samples(&self) -> Samples<'a> {
        self.samples
    }

    /// Row `y` as 8-bit samples, exactly `width` long; `None` for deeper planes or past the last row.
    pub fn row_u8(&self, y: usize) -> Option<&'a [u8]> {
        match self.samples {
            Samples::U8(s) if y < self.height => {
                let start = y * self.stride;
                s.get(start..start + self.width)
            }
            _ => None,
        }
    }

    /// Row `y` as little-endian byte pairs, exactly `2 * width` long; `None` for 8-bit planes or past the end.
    pub fn row_u16le(&self, y: usize) -> Option<&'a [u8]> {
        match self.samples {
            Samples::U16Le { bytes, .. } if y < self.height => {
                let start = y * self.stride * 2;
                bytes.get(start..start + self.width * 2)
            }
            _ => None,
        }
    }

    /// Sample at (`x`, `y`) scaled to 8 bits; 0 outside the plane. For sparse look-ups, not for loops.
    pub fn at_8bit(&self, x: usize, y: usize) -> u8 {
        if x >= self.width {
            return 0;
        }
        match self.samples {
            Samples::U8(_) => self.row_u8(y).map_or(0, |r| r[x]),
            Samples::U16Le { bits, .. } => self.row_u16le(y).map_or(0, |r| {
                let v = u16::from_le_bytes([r[2 * x], r[2 * x + 1]]);
                (v >> (bits - 8)).min(255) as u8
            }),
        }
    }
}

//! Borrowed samples of a picture: planes with width, height, stride and bit depth, and how chroma lies in them.

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

/// Order of chroma samples that share a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// NV12, P010.
    CbCr,
    /// NV21.
    CrCb,
}

/// Where the chroma samples lie.
#[derive(Debug, Clone, Copy)]
pub enum Layout<'a> {
    /// A plane each: I420, 4:2:2, 4:4:4.
    Planar {
        /// Blue difference.
        cb: Plane<'a>,
        /// Red difference, of the same size and depth.
        cr: Plane<'a>,
    },
    /// Sample by sample in turns; the width of the plane counts both.
    Paired {
        /// Both.
        pairs: Plane<'a>,
        /// Which comes first.
        order: Order,
    },
}

/// The chroma samples of a picture, as the decoder laid them out.
#[derive(Debug, Clone, Copy)]
pub struct Chroma<'a> {
    layout: Layout<'a>,
    halvings: (u8, u8),
}

impl<'a> Chroma<'a> {
    /// `halvings` tells how often chroma is halved across and down: (1, 1) for 4:2:0, (1, 0) for 4:2:2, (0, 0) for
    /// 4:4:4, (2, 0) for 4:1:1. `None` when one exceeds 3, when planes differ in size or depth, or when pairs are
    /// not whole.
    pub fn new(layout: Layout<'a>, halvings: (u8, u8)) -> Option<Self> {
        let whole = match layout {
            Layout::Planar { cb, cr } => {
                (cb.width, cb.height, cb.bits()) == (cr.width, cr.height, cr.bits())
            }
            Layout::Paired { pairs, .. } => pairs.width.is_multiple_of(2),
        };
        (whole && halvings.0 <= 3 && halvings.1 <= 3).then_some(Self { layout, halvings })
    }

    /// Where the samples lie.
    pub fn layout(&self) -> Layout<'a> {
        self.layout
    }

    /// Samples of each kind across and down.
    pub fn size(&self) -> (usize, usize) {
        match self.layout {
            Layout::Planar { cb, .. } => (cb.width, cb.height),
            Layout::Paired { pairs, .. } => (pairs.width / 2, pairs.height),
        }
    }

    /// How often chroma is halved across and down.
    pub fn halvings(&self) -> (u8, u8) {
        self.halvings
    }

    /// Whether they belong to a picture of that size (odd pixels round up).
    pub fn fits(&self, luma: &Plane<'_>) -> bool {
        let (across, down) = self.halvings;
        let size = (
            luma.width.div_ceil(1 << across),
            luma.height.div_ceil(1 << down),
        );
        self.size() == size
    }
}

//! Half-resolution luma.

use std::sync::Arc;

use crate::plane::Plane;

/// Mean of each 2x2 pixels, scaled to 8 bit and rounded. An odd last column or row is left out, unless it is the
/// only one. Averaging halves the noise, and keeps steps on even (so also on coding) grids sharp.
///
/// Clones share the samples: an anchor changes with every moving picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfLuma {
    samples: Arc<Vec<u8>>,
    width: usize,
    height: usize,
    full: (usize, usize),
}

impl HalfLuma {
    /// Reduces a plane.
    pub fn of(plane: &Plane<'_>) -> Self {
        Self::again(plane, None)
    }

    /// Reduces a plane into the memory of another reduced one, unless somebody still looks at that. Fresh memory of this
    /// size is often new to the process, and its pages take as long as the samples.
    pub fn again(plane: &Plane<'_>, spare: Option<Self>) -> Self {
        let width = (plane.width() / 2).max(1);
        let height = (plane.height() / 2).max(1);
        let spare = spare.and_then(|spare| Arc::into_inner(spare.samples));
        let mut samples = spare.unwrap_or_default();
        samples.resize(width * height, 0);
        let shift = plane.bits().saturating_sub(8);
        for (y, out) in samples.chunks_exact_mut(width).enumerate() {
            let (y0, y1) = (2 * y, (2 * y + 1).min(plane.height() - 1));
            if let (Some(a), Some(b)) = (plane.row_u8(y0), plane.row_u8(y1)) {
                halve_u8(a, b, out);
            } else if let (Some(a), Some(b)) = (plane.row_u16le(y0), plane.row_u16le(y1)) {
                halve_u16(a, b, shift, out);
            }
        }
        Self {
            samples: Arc::new(samples),
            width,
            height,
            full: (plane.width(), plane.height()),
        }
    }

    /// Half the resolution again.
    pub fn halved(&self) -> Self {
        let (width, height) = ((self.width / 2).max(1), (self.height / 2).max(1));
        let mut samples = vec![0; width * height];
        for (y, out) in samples.chunks_exact_mut(width).enumerate() {
            let below = (2 * y + 1).min(self.height.saturating_sub(1));
            halve_u8(self.row(2 * y), self.row(below), out);
        }
        Self {
            samples: Arc::new(samples),
            width,
            height,
            full: self.full,
        }
    }

    /// Whether it came from a picture of this size.
    pub fn matches(&self, width: usize, height: usize) -> bool {
        self.full == (width, height)
    }

    /// Samples a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All samples, row by row without padding.
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// Row `y`; empty past the end.
    pub fn row(&self, y: usize) -> &[u8] {
        self.samples
            .get(y * self.width..(y + 1) * self.width)
            .unwrap_or(&[])
    }
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn halve_u8(a: &[u8], b: &[u8], out: &mut [u8]) {
    if let (&[a], &[b]) = (a, b) {
        out.fill((u16::from(a) + u16::from(b)).div_ceil(2) as u8);
        return;
    }
    let (a, b) = (a.as_chunks::<2>().0, b.as_chunks::<2>().0);
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        // Two samples as one word: no lane has to be moved.
        let (a, b) = (u16::from_le_bytes(*a), u16::from_le_bytes(*b));
        let two = |v: u16| (v & 0xff).wrapping_add(v >> 8);
        *out = (two(a).wrapping_add(two(b)).wrapping_add(2) / 4) as u8;
    }
}

/// Little-endian 16-bit rows; `shift` is the number of bits beyond 8.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn halve_u16(a: &[u8], b: &[u8], shift: u8, out: &mut [u8]) {
    if let (&[a0, a1], &[b0, b1]) = (a, b) {
        let sum = u32::from(u16::from_le_bytes([a0, a1])) + u32::from(u16::from_le_bytes([b0, b1]));
        out.fill(((sum + (1 << shift)) >> (shift + 1)).min(255) as u8);
        return;
    }
    let (a, b) = (a.as_chunks::<4>().0, b.as_chunks::<4>().0);
    let half = 2u32 << shift;
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        let (a, b) = (u32::from_le_bytes(*a), u32::from_le_bytes(*b));
        let two = |v: u32| (v & 0xffff).wrapping_add(v >> 16);
        let sum = two(a).wrapping_add(two(b)).wrapping_add(half);
        *out = (sum >> (shift & 15).wrapping_add(2)).min(255) as u8;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::plane::Samples;

    /// The definition: per pixel, no tricks.
    fn plain(
        sample: impl Fn(usize, usize) -> u32,
        width: usize,
        height: usize,
        bits: u8,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for y in 0..(height / 2).max(1) {
            for x in 0..(width / 2).max(1) {
                let (x1, y1) = ((2 * x + 1).min(width - 1), (2 * y + 1).min(height - 1));
                let sum =
                    sample(2 * x, 2 * y) + sample(x1, 2 * y) + sample(2 * x, y1) + sample(x1, y1);
                let mean = f64::from(sum) / 4.0 / f64::from(1u32 << (bits - 8));
                out.push((mean + 0.5).floor().min(255.0) as u8);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn eight_bit_equals_definition(
            width in 1usize..160, height in 1usize..9, pad in 0usize..20, bytes in prop::collection::vec(any::<u8>(), 180 * 9)
        ) {
            let stride = width + pad;
            let plane = Plane::new(Samples::U8(&bytes), width, height, stride).unwrap();
            let half = HalfLuma::of(&plane);
            let expected = plain(|x, y| u32::from(bytes[y * stride + x]), width, height, 8);
            prop_assert_eq!(half.samples(), &expected[..]);
            prop_assert!(half.matches(width, height));
            let other = HalfLuma::of(&Plane::new(Samples::U8(&[9; 40]), 8, 5, 8).unwrap());
            let kept = other.clone();
            prop_assert_eq!(&HalfLuma::again(&plane, Some(other)), &half);
            prop_assert_eq!(kept.samples(), &[9; 8]);
            prop_assert_eq!(&HalfLuma::again(&plane, Some(kept)), &half);
            let (w, h) = (half.width(), half.height());
            let halved = half.halved();
            let again = plain(|x, y| u32::from(half.samples()[y * w + x]), w, h, 8);
            prop_assert_eq!(halved.samples(), &again[..]);
        }

        #[test]
        fn deep_samples_equal_definition(
            width in 1usize..70, height in 1usize..9, pad in 0usize..20, bits in 9u8..=16,
            words in prop::collection::vec(any::<u16>(), 90 * 9)
        ) {
            let stride = width + pad;
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            let plane = Plane::new(Samples::U16Le { bytes: &bytes, bits }, width, height, stride).unwrap();
            let expected = plain(|x, y| u32::from(words[y * stride + x]), width, height, bits);
            let half = HalfLuma::of(&plane);
            prop_assert_eq!(half.samples(), &expected[..]);
        }
    }
}

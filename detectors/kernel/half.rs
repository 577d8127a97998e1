//! Half-resolution luma.

use crate::plane::Plane;

/// Mean of each 2x2 pixels, scaled to 8 bit. An odd last column or row is left out, unless it is the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfLuma {
    samples: Vec<u8>,
    width: usize,
    height: usize,
    full: (usize, usize),
}

impl HalfLuma {
    /// Reduces a plane.
    pub fn of(plane: &Plane<'_>) -> Self {
        let width = (plane.width() / 2).max(1);
        let height = (plane.height() / 2).max(1);
        let mut samples = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let (x1, y1) = (
                    (2 * x + 1).min(plane.width() - 1),
                    (2 * y + 1).min(plane.height() - 1),
                );
                let sum = [(2 * x, 2 * y), (x1, 2 * y), (2 * x, y1), (x1, y1)]
                    .into_iter()
                    .map(|(x, y)| u16::from(plane.at_8bit(x, y)))
                    .sum::<u16>();
                samples.push(((sum + 2) / 4) as u8);
            }
        }
        Self {
            samples,
            width,
            height,
            full: (plane.width(), plane.height()),
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

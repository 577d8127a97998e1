//! A picture as the encoder gets it.

/// 8-bit 4:2:0 planes without padding; both sides are even.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Luma samples a row.
    pub width: usize,
    /// Luma rows.
    pub height: usize,
    /// Luma, limited range.
    pub y: Vec<u8>,
    /// Blue difference, half the size in both directions.
    pub u: Vec<u8>,
    /// Red difference, half the size in both directions.
    pub v: Vec<u8>,
}

impl Raw {
    /// One colour everywhere. Odd sides are cut to even ones.
    pub fn flat(width: usize, height: usize, (y, u, v): (u8, u8, u8)) -> Self {
        let (width, height) = (width & !1, height & !1);
        let chroma = width / 2 * (height / 2);
        Self {
            width,
            height,
            y: vec![y; width * height],
            u: vec![u; chroma],
            v: vec![v; chroma],
        }
    }

    /// Bytes of one picture of this size, in the order Y, U, V.
    pub fn byte_len(width: usize, height: usize) -> usize {
        width * height + 2 * (width / 2 * (height / 2))
    }

    /// From bytes in the order Y, U, V; `None` when there are too few.
    pub fn from_bytes(width: usize, height: usize, bytes: &[u8]) -> Option<Self> {
        let chroma = width / 2 * (height / 2);
        let (y, rest) = bytes.split_at_checked(width * height)?;
        let (u, rest) = rest.split_at_checked(chroma)?;
        let v = rest.get(..chroma)?;
        Some(Self {
            width,
            height,
            y: y.to_vec(),
            u: u.to_vec(),
            v: v.to_vec(),
        })
    }

    /// Luma and chroma of one pixel; outside of the picture nothing happens.
    pub fn put(&mut self, x: usize, y: usize, (luma, u, v): (u8, u8, u8)) {
        if x >= self.width || y >= self.height {
            return;
        }
        if let Some(to) = self.y.get_mut(y * self.width + x) {
            *to = luma;
        }
        let at = y / 2 * (self.width / 2) + x / 2;
        if let Some(to) = self.u.get_mut(at) {
            *to = u;
        }
        if let Some(to) = self.v.get_mut(at) {
            *to = v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_plane_order_and_too_few_are_refused() {
        let bytes: Vec<u8> = (0..24).collect();
        let raw = Raw::from_bytes(4, 4, &bytes);
        assert!(raw.is_some_and(|r| r.y == (0..16).collect::<Vec<u8>>()
            && r.u == [16, 17, 18, 19]
            && r.v == [20, 21, 22, 23]));
        assert_eq!(Raw::from_bytes(4, 4, &bytes[..23]), None);
        assert_eq!(Raw::byte_len(4, 4), 24);
    }

    #[test]
    fn pixels_outside_are_left_alone() {
        let mut raw = Raw::flat(4, 2, (16, 128, 128));
        raw.put(4, 0, (200, 1, 2));
        raw.put(0, 2, (200, 1, 2));
        assert_eq!(raw, Raw::flat(4, 2, (16, 128, 128)));
        raw.put(3, 1, (200, 1, 2));
        assert_eq!((raw.y[7], raw.u[1], raw.v[1]), (200, 1, 2));
    }
}

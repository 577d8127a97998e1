//! Mean chroma on a coarse grid.
//!
//! A cell is 8x8 pixels: an eighth of the picture each way, and a quarter of a tile (16x16 pixels), so that two cells
//! across and two down make a tile at every size of a picture. Colour is wide where it tells of a defect (a test
//! pattern, a blank part, a red flash), and the narrowest pattern of interest, eight bars in a picture of 320 pixels,
//! has five cells a bar; with a tile a cell it would have two, both cut by a border.

use super::add_lanes;
use crate::plane::{Chroma, Layout, Order, Plane};

/// Edge of a cell in pixels of the picture.
pub const CELL: usize = 8;

/// Mean Cb and Cr of every cell, in 8-bit codes, rounded. Cells at the right and lower edge may be cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChromaGrid {
    cb: Vec<u8>,
    cr: Vec<u8>,
    columns: usize,
}

impl ChromaGrid {
    /// Reduces the samples.
    pub fn of(chroma: &Chroma<'_>) -> Self {
        let (across, down) = chroma.halvings();
        let (wide, tall) = (CELL >> across, CELL >> down);
        let (width, height) = chroma.size();
        let columns = width.div_ceil(wide);
        let cells = columns * height.div_ceil(tall);
        let (mut cb, mut cr) = (Vec::with_capacity(cells), Vec::with_capacity(cells));
        let mut cut = Cut {
            width,
            wide,
            sums: vec![0; columns],
        };
        match chroma.layout() {
            Layout::Planar { cb: blue, cr: red } => {
                for (plane, out) in [(blue, &mut cb), (red, &mut cr)] {
                    let done = match (wide, tall) {
                        (4, 4) => fours(&plane, 0, four_means, out),
                        _ => 0,
                    };
                    for_bands(&plane, done, tall, columns * wide, |sums, per| {
                        cut.means::<1>(sums, 0, per, out);
                    });
                }
            }
            Layout::Paired { pairs, order } => {
                let (blue, red) = match order {
                    Order::CbCr => (0, 1),
                    Order::CrCb => (1, 0),
                };
                let mut done = 0;
                if (wide, tall) == (4, 4) {
                    for (lane, out) in [(blue, &mut cb), (red, &mut cr)] {
                        done = fours(&pairs, lane, four_pair_means, out);
                    }
                }
                for_bands(&pairs, done, tall, 2 * columns * wide, |sums, per| {
                    cut.means::<2>(sums, blue, per, &mut cb);
                    cut.means::<2>(sums, red, per, &mut cr);
                });
            }
        }
        Self { cb, cr, columns }
    }

    /// Cells a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of cells.
    pub fn rows(&self) -> usize {
        self.cb.len() / self.columns.max(1)
    }

    /// Cb of every cell, row by row.
    pub fn cb(&self) -> &[u8] {
        &self.cb
    }

    /// Cr of every cell, row by row.
    pub fn cr(&self) -> &[u8] {
        &self.cr
    }

    /// Cb and Cr of the cells of row `y`, from column `x` on, `count` at most; nothing past the end.
    pub fn span(&self, x: usize, y: usize, count: usize) -> impl Iterator<Item = (u8, u8)> {
        let row = y.saturating_mul(self.columns);
        let column = |x: usize| row.saturating_add(x.min(self.columns));
        let part = column(x)..column(x.saturating_add(count));
        let cb = self.cb.get(part.clone()).unwrap_or(&[]);
        let cr = self.cr.get(part).unwrap_or(&[]);
        cb.iter().copied().zip(cr.iter().copied())
    }
}

/// Sums the samples of every column over bands of `tall` rows, beginning with row `from`, into sums of that length
/// (beyond the width of the plane they stay 0), and hands each band over, with the divisor that makes 8-bit codes of the
/// sum of one column.
fn for_bands(
    plane: &Plane<'_>,
    from: usize,
    tall: usize,
    len: usize,
    mut done: impl FnMut(&[u32], u32),
) {
    let scale = 1u32 << plane.bits().saturating_sub(8);
    let mut sums = vec![0u32; len];
    for top in (from..plane.height()).step_by(tall) {
        let rows = top..(top + tall).min(plane.height());
        sums.fill(0);
        for y in rows.clone() {
            if let Some(row) = plane.row_u8(y) {
                add_u8(row, &mut sums);
            } else if let Some(row) = plane.row_u16le(y) {
                add_u16(row, &mut sums);
            }
        }
        done(&sums, scale * rows.len() as u32);
    }
}

/// How a row of samples is cut into cells.
struct Cut {
    /// Samples a row, and a cell.
    width: usize,
    wide: usize,
    /// Sums of the cells, one a column.
    sums: Vec<u32>,
}

impl Cut {
    /// Means of the cells of a band, of which sums of columns are given: every `LANES`-th, beginning with `lane`.
    fn means<const LANES: usize>(
        &mut self,
        columns: &[u32],
        lane: usize,
        per: u32,
        out: &mut Vec<u8>,
    ) {
        match self.wide {
            8 => fold::<LANES, 8>(columns, lane, &mut self.sums),
            4 => fold::<LANES, 4>(columns, lane, &mut self.sums),
            2 => fold::<LANES, 2>(columns, lane, &mut self.sums),
            _ => fold::<LANES, 1>(columns, lane, &mut self.sums),
        }
        let (whole, last) = self.sums.split_at(self.width / self.wide);
        scale(whole, per * self.wide as u32, out);
        scale(last, per * (self.width % self.wide).max(1) as u32, out);
    }
}

/// Sums `WIDE` columns of one lane into each cell.
fn fold<const LANES: usize, const WIDE: usize>(columns: &[u32], lane: usize, cells: &mut [u32]) {
    let columns = columns.as_chunks::<LANES>().0.as_chunks::<WIDE>().0;
    for (cell, columns) in cells.iter_mut().zip(columns) {
        *cell = (columns.iter()).fold(0, |sum, lanes| sum.wrapping_add(lanes[lane]));
    }
}

/// Divides and rounds; halves go up.
fn scale(sums: &[u32], per: u32, out: &mut Vec<u8>) {
    let half = per / 2;
    let code = |v: u32| v.min(255) as u8;
    if per.is_power_of_two() {
        let bits = per.trailing_zeros();
        out.extend(sums.iter().map(|s| code(s.wrapping_add(half) >> bits)));
    } else {
        out.extend(sums.iter().map(|s| code(s.wrapping_add(half) / per.max(1))));
    }
}

/// Four rows, of what a cell takes of each.
type Rows<'a, const WIDE: usize> = [&'a [[u8; WIDE]]; 4];

/// Means of the cells of 4x4 bytes that 8-bit 4:2:0 has, by far the most common: those of one lane, in all whole rows of
/// cells. A cell takes `WIDE` bytes of a row. Returns how many rows of samples that were.
fn fours<const WIDE: usize>(
    plane: &Plane<'_>,
    lane: usize,
    means: fn(Rows<'_, WIDE>, usize, &mut Vec<u8>),
    out: &mut Vec<u8>,
) -> usize {
    for top in (0..plane.height()).step_by(4) {
        let rows: [_; 4] = std::array::from_fn(|n| plane.row_u8(top + n));
        let [Some(a), Some(b), Some(c), Some(d)] = rows else {
            return top;
        };
        let split = [a, b, c, d].map(|row| row.as_chunks());
        means(split.map(|(whole, _)| whole), lane, out);
        let lanes = WIDE / 4;
        let rest = || (split.iter()).flat_map(|(_, rest)| rest.iter().skip(lane).step_by(lanes));
        let sum: u32 = rest().map(|v| u32::from(*v)).sum();
        let per = rest().count() as u32;
        out.extend((sum + per / 2).checked_div(per).map(|mean| mean as u8));
    }
    plane.height()
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn four_means(rows: Rows<'_, 4>, _lane: usize, out: &mut Vec<u8>) {
    let [a, b, c, d] = rows;
    out.extend(a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| {
        // Four samples as two lanes of one word.
        let two = |v: &[u8; 4]| {
            let v = u32::from_le_bytes(*v);
            (v & 0x00ff_00ff).wrapping_add(v >> 8 & 0x00ff_00ff)
        };
        let lanes = (two(a).wrapping_add(two(b))).wrapping_add(two(c).wrapping_add(two(d)));
        ((lanes & 0xffff).wrapping_add(lanes >> 16).wrapping_add(8) >> 4) as u8
    }));
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn four_pair_means(rows: Rows<'_, 8>, lane: usize, out: &mut Vec<u8>) {
    let [a, b, c, d] = rows;
    let shift = 8 * (lane as u32 & 1);
    out.extend(a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| {
        let four = |v: &[u8; 8]| u64::from_le_bytes(*v) >> shift & 0x00ff_00ff_00ff_00ff;
        let lanes = (four(a).wrapping_add(four(b))).wrapping_add(four(c).wrapping_add(four(d)));
        (add_lanes(lanes).wrapping_add(8) >> 4) as u8
    }));
}

/// Eight rows of any samples fit 32 bits.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn add_u8(row: &[u8], sums: &mut [u32]) {
    for (sum, &v) in sums.iter_mut().zip(row) {
        *sum = sum.wrapping_add(u32::from(v));
    }
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn add_u16(row: &[u8], sums: &mut [u32]) {
    for (sum, v) in sums.iter_mut().zip(row.as_chunks::<2>().0) {
        *sum = sum.wrapping_add(u32::from(u16::from_le_bytes(*v)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::plane::Samples;

    /// The definition: the mean of the samples that lie under a cell's pixels, one by one.
    fn plain(
        sample: impl Fn(usize, usize) -> u32,
        size: (usize, usize),
        halvings: (u8, u8),
        bits: u8,
    ) -> Vec<u8> {
        let (width, height) = (
            size.0.div_ceil(1 << halvings.0),
            size.1.div_ceil(1 << halvings.1),
        );
        let mut out = Vec::new();
        for top in (0..size.1).step_by(CELL) {
            for left in (0..size.0).step_by(CELL) {
                let (mut sum, mut count) = (0.0, 0.0);
                for y in (0..height).filter(|y| (top..top + CELL).contains(&(y << halvings.1))) {
                    for x in (0..width).filter(|x| (left..left + CELL).contains(&(x << halvings.0)))
                    {
                        sum += f64::from(sample(x, y));
                        count += 1.0;
                    }
                }
                let mean = sum / count / f64::from(1u32 << (bits - 8));
                out.push((mean + 0.5).floor().min(255.0) as u8);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn planes_of_bytes_equal_the_definition(
            width in 1usize..70, height in 1usize..24, pad in 0usize..9, halvings in (0u8..=3, 0u8..=3),
            bytes in prop::collection::vec(any::<u8>(), 80 * 24 + 7)
        ) {
            let (w, h) = (width.div_ceil(1 << halvings.0), height.div_ceil(1 << halvings.1));
            let plane = |at: usize| Plane::new(Samples::U8(&bytes[at..]), w, h, w + pad).unwrap();
            let chroma = Chroma::new(Layout::Planar { cb: plane(0), cr: plane(7) }, halvings).unwrap();
            let expected = |at: usize| {
                plain(|x, y| u32::from(bytes[at + y * (w + pad) + x]), (width, height), halvings, 8)
            };
            let luma = Plane::new(Samples::U8(&bytes), width, height, width).unwrap();
            prop_assert!(chroma.fits(&luma));
            let grid = ChromaGrid::of(&chroma);
            prop_assert_eq!((grid.columns(), grid.rows()), (width.div_ceil(CELL), height.div_ceil(CELL)));
            prop_assert_eq!((grid.cb(), grid.cr()), (&expected(0)[..], &expected(7)[..]));
            let spans: Vec<(u8, u8)> = (0..grid.rows()).flat_map(|y| grid.span(0, y, width)).collect();
            prop_assert!(spans.iter().map(|s| s.0).eq(grid.cb().iter().copied()));
            prop_assert!(spans.iter().map(|s| s.1).eq(grid.cr().iter().copied()));
            prop_assert_eq!(grid.span(1, 0, 1).count(), usize::from(grid.columns() > 1));
            prop_assert_eq!(grid.span(0, grid.rows(), 9).count(), 0);
        }

        #[test]
        fn deep_pairs_equal_the_definition(
            width in 1usize..70, height in 1usize..24, pad in 0usize..9, halvings in (0u8..=3, 0u8..=3), bits in 9u8..=16,
            crcb in any::<bool>(), words in prop::collection::vec(any::<u16>(), 160 * 24)
        ) {
            let (w, h) = (width.div_ceil(1 << halvings.0), height.div_ceil(1 << halvings.1));
            let stride = 2 * w + pad;
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            let pairs = Plane::new(Samples::U16Le { bytes: &bytes, bits }, 2 * w, h, stride).unwrap();
            let order = if crcb { Order::CrCb } else { Order::CbCr };
            let grid = ChromaGrid::of(&Chroma::new(Layout::Paired { pairs, order }, halvings).unwrap());
            let expected = |lane: usize| {
                plain(|x, y| u32::from(words[y * stride + 2 * x + lane]), (width, height), halvings, bits)
            };
            let (first, second) = if crcb { (grid.cr(), grid.cb()) } else { (grid.cb(), grid.cr()) };
            prop_assert_eq!((first, second), (&expected(0)[..], &expected(1)[..]));
        }

        #[test]
        fn pairs_of_bytes_are_planes_in_turns(
            width in 1usize..70, height in 1usize..24, bytes in prop::collection::vec(any::<u8>(), 70 * 24)
        ) {
            let (w, h) = (width.div_ceil(2), height.div_ceil(2));
            let every = |lane: usize| bytes.iter().skip(lane).step_by(2).copied().collect::<Vec<_>>();
            let (cb, cr) = (every(0), every(1));
            let plane = |samples, w| Plane::new(Samples::U8(samples), w, h, w).unwrap();
            let apart = Layout::Planar { cb: plane(&cb, w), cr: plane(&cr, w) };
            let together = Layout::Paired { pairs: plane(&bytes, 2 * w), order: Order::CbCr };
            let of = |layout| ChromaGrid::of(&Chroma::new(layout, (1, 1)).unwrap());
            prop_assert_eq!(of(apart), of(together));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = [7; 64];
        let plane = |w, h| Plane::new(Samples::U8(&bytes), w, h, w).unwrap();
        let deep = Samples::U16Le {
            bytes: &bytes,
            bits: 10,
        };
        let deep = Plane::new(deep, 4, 4, 4).unwrap();
        let planar = |cb, cr, halvings| Chroma::new(Layout::Planar { cb, cr }, halvings);
        assert!(planar(plane(4, 4), plane(4, 3), (1, 1)).is_none());
        assert!(planar(plane(4, 4), deep, (1, 1)).is_none());
        assert!(planar(plane(4, 4), plane(4, 4), (4, 1)).is_none());
        let order = Order::CbCr;
        let odd = Layout::Paired {
            pairs: plane(3, 4),
            order,
        };
        assert!(Chroma::new(odd, (1, 1)).is_none());
        let chroma = planar(plane(4, 4), plane(4, 4), (1, 1)).unwrap();
        let fits: Vec<bool> = [(8, 8), (7, 7), (6, 8), (9, 8)]
            .map(|(w, h)| chroma.fits(&Plane::new(Samples::U8(&[0; 72]), w, h, w).unwrap()))
            .to_vec();
        assert_eq!(fits, [true, true, false, false]);
    }
}

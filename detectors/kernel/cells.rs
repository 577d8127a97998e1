//! Mean luma of a fixed number of cells, whatever the size of the picture.

use super::half::HalfLuma;

/// Means of `columns` x `rows` cells of equal area, row by row, in 8-bit codes. Cells share the samples on their
/// borders by area, so that pictures of other sizes that show the same have the same means. Empty for no cells.
pub fn means(half: &HalfLuma, columns: usize, rows: usize) -> Vec<u8> {
    if columns == 0 || rows == 0 {
        return Vec::new();
    }
    let (width, height) = (half.width(), half.height());
    let tall = height as f32 / rows as f32;
    let area = tall * width as f32 / columns as f32;
    let mut sums = vec![0f32; width];
    let mut cells = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let (top, bottom) = (row as f32 * tall, (row + 1) as f32 * tall);
        sums.fill(0.0);
        for y in top as usize..(bottom.ceil() as usize).min(height) {
            let share = bottom.min((y + 1) as f32) - top.max(y as f32);
            add(half.row(y), share.max(0.0), &mut sums);
        }
        fold(&sums, columns, area, &mut cells);
    }
    cells
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn add(row: &[u8], share: f32, sums: &mut [f32]) {
    for (sum, sample) in sums.iter_mut().zip(row) {
        *sum += share * f32::from(*sample);
    }
}

/// Adds up the columns of each cell.
fn fold(sums: &[f32], columns: usize, area: f32, cells: &mut Vec<u8>) {
    let wide = sums.len() as f32 / columns as f32;
    for column in 0..columns {
        let (left, right) = (column as f32 * wide, (column + 1) as f32 * wide);
        let last = (right.ceil() as usize).min(sums.len());
        let part = sums.get(left as usize..last).unwrap_or(&[]);
        let mut sum = 0.0;
        for (x, value) in (left as usize..).zip(part) {
            let share = right.min((x + 1) as f32) - left.max(x as f32);
            sum += share.max(0.0) * value;
        }
        cells.push((sum / area).round().clamp(0.0, 255.0) as u8);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::plane::{Plane, Samples};

    fn half(bytes: &[u8], width: usize, height: usize) -> HalfLuma {
        HalfLuma::of(&Plane::new(Samples::U8(bytes), width, height, width).unwrap())
    }

    /// The definition: every sample's share in a cell.
    fn plain(half: &HalfLuma, columns: usize, rows: usize, x: usize, y: usize) -> f64 {
        let (w, h) = (half.width() as f64, half.height() as f64);
        let share = |at: usize, cell: usize, size: f64| {
            let (from, to) = (cell as f64 * size, (cell + 1) as f64 * size);
            (to.min(at as f64 + 1.0) - from.max(at as f64)).max(0.0)
        };
        let (wide, tall) = (w / columns as f64, h / rows as f64);
        let mut sum = 0.0;
        for row in 0..half.height() {
            for column in 0..half.width() {
                let area = share(column, x, wide) * share(row, y, tall);
                sum += area * f64::from(half.row(row)[column]);
            }
        }
        sum / (wide * tall)
    }

    proptest! {
        #[test]
        fn means_equal_definition(
            width in 1usize..90, height in 1usize..60, columns in 1usize..9, rows in 1usize..9,
            bytes in prop::collection::vec(any::<u8>(), 90 * 60)
        ) {
            let half = half(&bytes, width, height);
            let cells = means(&half, columns, rows);
            prop_assert_eq!(cells.len(), columns * rows);
            for (i, cell) in cells.iter().enumerate() {
                let expected = plain(&half, columns, rows, i % columns, i / columns);
                prop_assert!((f64::from(*cell) - expected).abs() < 0.51, "{cell} {expected}");
            }
        }
    }

    #[test]
    fn no_cells_have_no_means() {
        assert!(means(&half(&[1; 64], 8, 8), 0, 4).is_empty());
    }
}

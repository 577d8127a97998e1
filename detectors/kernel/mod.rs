//! Loops over rows of samples: safe code, shaped so that the compiler vectorises it.
//!
//! The eight rows of a band of tiles are read side by side into a sum a column, and the columns are folded into tiles
//! once a band; `multiversion` compiles the loops for AVX2 too and picks at run time. Each kernel is held to a plain
//! per-pixel definition by tests. Sums are `wrapping` where eight rows of bytes cannot overflow them, because overflow
//! checks (on in development builds) would keep the loops scalar.

pub mod cells;
pub mod chroma;
pub mod grid;
pub mod half;
pub mod hash;
pub mod spread;
pub mod tiles;

use half::HalfLuma;
use tiles::TILE;

/// Rows of a band of tiles.
type Band<'a> = [&'a [u8]; TILE];

/// The rows from `top` on; `pad` stands for those below the picture.
fn band<'a>(half: &'a HalfLuma, top: usize, pad: &'a [u8]) -> Band<'a> {
    std::array::from_fn(|n| match top + n < half.height() {
        true => half.row(top + n),
        false => pad,
    })
}

/// Cuts rows to one length, `most` at most: loops over columns then need no checks.
#[inline(always)]
fn level<'a, const N: usize>(rows: &[&'a [u8]; N], most: usize) -> ([&'a [u8]; N], usize) {
    let width = rows.iter().fold(most, |width, row| width.min(row.len()));
    (rows.map(|row| &row[..width]), width)
}

/// Sums `|a - b|` down the columns of two bands.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn abs_diffs(a: &Band<'_>, b: &Band<'_>, sums: &mut [u16]) {
    let (a, width) = level(a, sums.len());
    let (b, width) = level(b, width);
    for (x, sum) in sums[..width].iter_mut().enumerate() {
        let mut all = 0u16;
        for (a, b) in a.iter().zip(b) {
            all = all.wrapping_add(u16::from(a[x].abs_diff(b[x])));
        }
        *sum = all;
    }
}

/// Sum of the columns of a tile: eight rows of bytes fit 16 bits.
fn total(columns: &[u16; TILE]) -> u16 {
    let ([left, right], []) = columns.as_chunks::<4>() else {
        return 0;
    };
    let word = |c: &[u16; 4]| c.iter().rev().fold(0u64, |w, c| w << 16 | u64::from(*c));
    add_lanes(word(left).wrapping_add(word(right)))
}

/// Adds up four lanes of 16 bits.
fn add_lanes(word: u64) -> u16 {
    let two = word.wrapping_add(word >> 32);
    two.wrapping_add(two >> 16) as u16
}

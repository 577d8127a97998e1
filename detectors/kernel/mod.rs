//! Loops over rows of samples: safe code, shaped so that the compiler vectorises it.
//!
//! Whole rows go into per-column accumulators, which are folded into tiles once per tile row; `multiversion`
//! compiles the row loops for AVX2 too and picks at run time. Each kernel is held to a plain per-pixel
//! definition by tests. Sums are `wrapping` where eight rows of bytes cannot overflow them, because overflow checks
//! (on in development builds) would keep the loops scalar.

pub mod chroma;
pub mod grid;
pub mod half;
pub mod hash;
pub mod spread;
pub mod tiles;

/// Adds `|a - b|` column by column.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn add_abs_diff(a: &[u8], b: &[u8], sums: &mut [u16]) {
    for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
        *sum = sum.wrapping_add(u16::from(a.abs_diff(b)));
    }
}

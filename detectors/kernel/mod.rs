//! Loops over rows of samples. The only place where SIMD may ever live; scalar code is the definition.

pub mod grid;
pub mod half;
pub mod tiles;

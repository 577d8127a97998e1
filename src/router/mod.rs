//! Who watches what.

pub mod plan;

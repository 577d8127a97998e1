//! Metrics and logs.

pub mod export;
pub mod log;
pub mod names;
pub mod process;

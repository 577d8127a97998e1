//! Detectors of transport defects.

pub mod loss;
pub mod manifest;
pub mod ts;

//! Detectors of transport defects.

pub mod loss;
pub mod ts;
pub mod manifest;

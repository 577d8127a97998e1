//! Detectors of transport defects.

pub mod loss;

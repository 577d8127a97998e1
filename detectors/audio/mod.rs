//! Detectors of audio defects.

pub mod silence;

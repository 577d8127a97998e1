//! Detectors of defects between sound and picture.

pub mod av_pattern;
pub mod av_reference;
pub mod av_timing;

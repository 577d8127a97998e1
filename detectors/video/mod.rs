//! Detectors of video defects.

pub mod freeze;

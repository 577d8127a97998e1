//! Detectors of video defects.

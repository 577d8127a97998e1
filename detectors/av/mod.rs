//! Detectors of av defects.

//! Detectors of audio defects.

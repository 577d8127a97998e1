//! The table of all detectors, and contract tests over every row.

use crate::base::Descriptor;
use crate::video;

/// Every detector, in the order in which they run and are listed. One row a line.
#[rustfmt::skip]
pub static REGISTRY: &[&Descriptor] = &[
    &video::black::DETECTOR,
    &video::freeze::DETECTOR,
    &video::block_damage::DETECTOR,
];

/// The detector of that name.
pub fn find(name: &str) -> Option<&'static Descriptor> {
    REGISTRY.iter().copied().find(|d| d.name == name)
}

#[cfg(test)]
mod contract;

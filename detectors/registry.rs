//! The table of all detectors, and contract tests over every row.

use crate::base::Descriptor;
use crate::{audio, av, transport, video};

/// Every detector, in the order in which they run and are listed. One row a line.
#[rustfmt::skip]
pub static REGISTRY: &[&Descriptor] = &[
    &transport::loss::DETECTOR,
    &transport::ts::DETECTOR,
    &transport::manifest::DETECTOR,
    &video::black::DETECTOR,
    &video::blank::DETECTOR,
    &video::bars::DETECTOR,
    &video::freeze::DETECTOR,
    &video::stutter::DETECTOR,
    &video::slate::DETECTOR,
    &video::block_damage::DETECTOR,
    &video::rung_difference::DETECTOR,
    &audio::silence::DETECTOR,
    &av::av_timing::DETECTOR,
    &av::av_reference::DETECTOR,
    &av::av_languages::DETECTOR,
    &av::av_pattern::DETECTOR,
    &av::av_edges::DETECTOR,
];

/// The detector of that name.
pub fn find(name: &str) -> Option<&'static Descriptor> {
    REGISTRY.iter().copied().find(|d| d.name == name)
}

#[cfg(test)]
mod contract;

//! Detectors of video defects.

pub mod bars;
pub mod black;
pub mod blank;
pub mod block_damage;
pub mod freeze;
pub mod rung_difference;
pub mod slate;
pub mod stutter;

//! Detectors of video defects.

pub mod black;
pub mod block_damage;
pub mod freeze;
pub mod slate;
pub mod stutter;

//! The proving ground of the picture detectors: clips of known truth, made from recipes and seeds, watched by the
//! product as a black box and by peers, and counted in the same way.

pub mod cells;
pub mod chance;
pub mod damage;
pub mod encode;
pub mod gates;
pub mod grain;
pub mod keep;
pub mod media;
pub mod motion;
pub mod paint;
pub mod parts;
pub mod peers;
pub mod raw;
pub mod report;
pub mod restamp;
pub mod scenes;
pub mod score;
pub mod slice;
pub mod sources;
pub mod watch;
pub mod world;

//! The built-in demonstration: a fault-injecting live source, the daemon, and a comparer.
//!
//! The source serves three streams over real loopback sockets; the daemon watches them like any others. The
//! schedule of faults is known to the source and the comparer only.

pub mod compare;
pub mod impair;
pub mod origin;
pub mod run;
pub mod scene;
pub mod schedule;
pub mod source;

//! HLS and progressive HTTP against an origin that misbehaves on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod encrypted;
mod faults;
mod http;
mod play;
mod rig;

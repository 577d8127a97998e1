//! HLS and progressive HTTP against an origin that misbehaves on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod http;
mod odd;
mod ll_origin;
mod low_latency;
mod manifest;
mod play;
mod rig;

//! HLS and progressive HTTP against an origin that misbehaves on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decoded;
mod faults;
mod http;
mod ladder;
#[path = "../ingest/rig.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the other inputs, which use more of it"
)]
mod media;
mod members;
mod play;
mod rig;

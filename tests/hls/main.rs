//! HLS and progressive HTTP against an origin that misbehaves on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod beside;
mod decoded;
mod encrypted;
mod faults;
mod http;
mod ladder;
mod ll_origin;
mod low_latency;
mod manifest;
#[path = "../ingest/rig.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the other inputs, which use more of it"
)]
mod media;
mod members;
mod odd;
mod play;
mod rig;

//! DASH against an origin that behaves, or misbehaves on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod beside;
mod encrypted;
mod faults;
#[path = "../hls/ladder.rs"]
#[allow(dead_code, reason = "shared with the HLS tests, which use more of it")]
mod ladder;
mod live;
mod manifest;
#[path = "../ingest/rig.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the other inputs, which use more of it"
)]
mod media;
mod members;
mod more;
mod origin;
mod packager;
mod play;
#[path = "../hls/rig.rs"]
#[allow(dead_code, reason = "shared with the HLS tests, which use more of it")]
mod rig;
mod webm;

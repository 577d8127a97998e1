//! The `glasswatch` command as its users see it: exit codes, output, signals, secrets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerts;
mod analyze;
mod av_sync;
mod commands;
mod daemon;
mod patterns;
mod renditions;
mod rig;
mod ts;

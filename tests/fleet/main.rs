//! The fleet: routers, instances and what they share.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod alerts;
mod memory;
mod oracle;
mod scenarios;
mod simulation;
mod world;

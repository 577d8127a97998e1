//! The fleet: what instances and routers share, over every engine; planner and workers under simulated faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod alerts;
mod contract;
#[cfg(feature = "aws")]
mod dynamodb;
#[cfg(feature = "etcd")]
mod etcd;
mod local;
mod memory;
mod oracle;
#[cfg(feature = "aws")]
#[path = "../aws/said.rs"]
mod said;
mod scenarios;
#[cfg(any(feature = "aws", feature = "etcd"))]
mod servers;
mod simulation;
mod world;

//! What instances and routers share, over every engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod contract;
#[cfg(feature = "aws")]
mod dynamodb;
#[cfg(feature = "etcd")]
mod etcd;
mod local;
#[cfg(any(feature = "aws", feature = "etcd"))]
mod servers;

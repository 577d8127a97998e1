//! Glasswatch: a live audio/video quality monitor in one process.
//!
//! The way of the data, room by room:
//! [`ingest`] (with [`transport`]) turns a stream into decoded units, a [`lane`] per stream hands them to the
//! detectors of the `detectors` crate ([`compare`] lends it prints of other streams), [`alert`] turns their numbers
//! into defects, [`notify`], [`evidence`], [`telemetry`] and [`http`] tell people and machines. [`config`] is what the
//! operator wrote, checked; [`app`] is the only place that knows every part. `ARCHITECTURE.md` has the map and the
//! invariants.

pub mod alert;
pub mod app;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod compare;
pub mod config;
pub mod demo;
pub mod evidence;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod ingest;
pub mod lane;
pub mod listing;
pub mod notify;
pub mod router;
pub mod telemetry;
pub mod transport;

//! Sources and converter against real media, made here with GStreamer's encoders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

mod changes;
mod codecs;
mod encrypted;
mod files;
mod flv;
mod live;
mod rig;
mod servers;

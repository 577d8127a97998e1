//! Sources and converter against real media, made here with GStreamer's encoders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

mod camera;
mod changes;
mod clips;
mod codecs;
mod encrypted;
mod files;
mod flv;
mod live;
mod odd;
mod peers;
mod relay;
mod rig;
mod servers;
mod tls;

//! Detectors of audio/video defects, and the vocabulary they speak.
//!
//! Pure: no GStreamer, tokio, rayon, prometheus, files, sockets, threads or clocks. Time is passed in with
//! every [`Unit`](base::unit::Unit); a detector answers with numbers ([`Reading`](base::signal::Reading)),
//! never with verdicts. Rules ([`RuleSpec`](base::rule::RuleSpec)) are data that the host judges by.
//!
//! Direction of dependencies: `plane <- kernel <- base <- {video, audio, av, transport} <- registry`.

#![warn(missing_docs)]

pub mod audio;
pub mod av;
pub mod base;
pub mod kernel;
pub mod plane;
pub mod registry;
#[cfg(test)]
pub mod testkit;
pub mod transport;
pub mod video;

//! Sources, one file per protocol: each brings bytes (or whole files) to a [`Converter`](super::convert::Converter).

pub mod hls;
pub mod http;
mod tell;

use std::sync::Arc;

use detectors::base::Cause;
use tokio_util::sync::CancellationToken;

use super::Intake;
use super::stats::Stats;
use crate::config;

/// What a source is given.
#[derive(Clone)]
pub struct SourceContext {
    /// The stream to read.
    pub stream: Arc<config::Stream>,
    /// Where units go.
    pub intake: Arc<dyn Intake>,
    /// Counters to write.
    pub stats: Arc<Stats>,
    /// Stop asked for: return soon.
    pub cancel: CancellationToken,
}

/// Whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It is over: a file or VOD played to its end, or a fault that a retry cannot mend.
    Never,
    /// After a backoff.
    Backoff,
}

/// How a run of a source ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEnd {
    /// What went wrong; `None` when it played to its end or was cancelled.
    pub cause: Option<Cause>,
    /// Whether to try again.
    pub retry: Retry,
    /// For the log and the API, in a sentence, free of secrets.
    pub detail: String,
}

//! Sources, one file per protocol: each brings bytes (or whole files) to a [`Converter`](super::convert::Converter).

mod file;
pub mod hls;
pub mod http;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Arrival, Cause, Fact, InputEvent};
use tokio_util::sync::CancellationToken;

use super::stats::Stats;
use super::{Content, Intake, OwnedUnit, clock};
use crate::config::{self, Protocol};

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

impl SourceEnd {
    /// Played to its end, or cancelled.
    pub fn complete() -> Self {
        Self {
            cause: None,
            retry: Retry::Never,
            detail: "ended".to_owned(),
        }
    }

    /// A fault that another attempt may mend.
    pub fn failed(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause: Some(cause),
            retry: Retry::Backoff,
            detail: detail.into(),
        }
    }

    /// A fault that another attempt cannot mend.
    pub fn fatal(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause: Some(cause),
            retry: Retry::Never,
            detail: detail.into(),
        }
    }
}

impl SourceContext {
    /// Tells what became of the input.
    pub fn tell(&self, event: InputEvent) {
        self.intake.push(OwnedUnit {
            media: None,
            arrival: clock::now(),
            discontinuity: false,
            dropped: 0,
            track: None,
            content: Content::Fact(Fact::Input(event)),
        });
    }
}

/// Arriving bytes are told at most this often.
const RECEIVING_EVERY: Duration = Duration::from_millis(100);

/// Counts arriving bytes and tells of them.
pub(super) struct Received {
    context: SourceContext,
    told: Option<Arrival>,
}

impl Received {
    pub(super) fn new(context: &SourceContext) -> Self {
        Self {
            context: context.clone(),
            told: None,
        }
    }

    pub(super) fn note(&mut self, bytes: usize) {
        self.context.stats.input_bytes.add(bytes as u64);
        let now = clock::now();
        if self
            .told
            .is_none_or(|told| now.since(told) >= RECEIVING_EVERY)
        {
            self.told = Some(now);
            self.context.tell(InputEvent::Receiving);
        }
    }
}

/// Reads a stream until it ends, fails, or is cancelled.
pub async fn run(context: SourceContext) -> SourceEnd {
    match context.stream.input.protocol {
        Protocol::File => file::run(context).await,
        Protocol::Hls => hls::run(&context).await,
        Protocol::Http => http::run(&context).await,
        other => SourceEnd::fatal(
            Cause::UnsupportedFormat,
            format!("no source for {}", other.as_str()),
        ),
    }
}

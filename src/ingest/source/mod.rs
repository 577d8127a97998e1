//! Sources, one file per protocol: each brings bytes (or whole files) to a [`Converter`].

pub mod dash;
mod file;
pub mod hls;
pub mod http;
mod rtp;
mod segments;
mod srt;
mod tell;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Arrival, Cause, Fact, InputEvent};
use tokio_util::sync::CancellationToken;

use super::convert::{ConvertError, Converter};
use super::fetch::policy;
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

/// Bytes arrive and nothing is decoded for this long: the run has failed.
const DECODE_WITHIN: Duration = Duration::from_secs(10);

/// Notices that bytes arrive but nothing comes out of them.
#[derive(Default)]
pub(super) struct Decoding {
    seen: u64,
    since: Option<Arrival>,
}

impl Decoding {
    /// Call whenever bytes have been fed.
    pub(super) fn check(&mut self, converter: &Converter) -> Result<(), SourceEnd> {
        let (now, decoded) = (clock::now(), converter.decoded());
        let since = *self.since.get_or_insert(now);
        if decoded != self.seen {
            self.seen = decoded;
            self.since = Some(now);
        } else if now.since(since) >= DECODE_WITHIN {
            return Err(converter.complaint().into());
        }
        Ok(())
    }
}

impl From<ConvertError> for SourceEnd {
    fn from(error: ConvertError) -> Self {
        SourceEnd::failed(error.cause, error.detail)
    }
}

/// Looks a peer's name up and applies the address policy. The address found is the one that must be called:
/// looking up again could give another one.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    allow_private: bool,
) -> Result<SocketAddr, SourceEnd> {
    let mut found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|_| SourceEnd::failed(Cause::DnsFailed, "the name does not resolve"))?
        .peekable();
    if found.peek().is_none() {
        return Err(SourceEnd::failed(
            Cause::DnsFailed,
            "the name has no address",
        ));
    }
    found
        .find(|a| policy::address_allowed(a.ip(), allow_private))
        .ok_or_else(|| {
            let detail = "the address may not be called, or not without `allow_private`";
            SourceEnd::failed(Cause::AddressRefused, detail)
        })
}

/// Reads a stream until it ends, fails, or is cancelled.
pub async fn run(context: SourceContext) -> SourceEnd {
    match context.stream.input.protocol {
        Protocol::File => file::run(context).await,
        Protocol::Dash => dash::run(&context).await,
        Protocol::Hls => hls::run(&context).await,
        Protocol::Http => http::run(&context).await,
        Protocol::Udp | Protocol::Rtp => udp::run(context).await,
        Protocol::Srt => srt::run(context).await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn only_public_addresses_may_be_called_freely() {
        for ip in ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            let refused = resolve(ip, 9000, false).await.unwrap_err();
            assert_eq!(refused.cause, Some(Cause::AddressRefused), "{ip}");
            resolve(ip, 9000, true).await.unwrap();
        }
        for ip in ["1.1.1.1", "2606:4700::1111"] {
            resolve(ip, 9000, false).await.unwrap();
        }
        resolve("169.254.169.254", 9000, true).await.unwrap_err();
    }
}

//! Sources, one file per protocol: each brings bytes (or whole files) to a [`Converter`].

pub mod dash;
mod file;
pub mod hls;
pub mod http;
mod rtmp;
mod rtp;
mod rtsp;
mod segments;
mod srt;
mod tell;
mod udp;

#[cfg(any(test, fuzzing))]
pub(crate) use segments::segment_pieces;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use detectors::base::{Arrival, Cause, Fact, InputEvent};
use tokio_util::sync::CancellationToken;

use super::convert::{Container, ConvertError, Converter, Feed};
use super::fetch::policy;
use super::pipeline::Done;
use super::stats::Stats;
use super::{Content, Intake, OwnedUnit, clock};
use crate::config::{self, Protocol};
use segments::Feeder;

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

/// Adds an input of this container that comes as one unbroken whole, begun.
fn begin<F: Feeder>(feeder: &mut F, container: Container) -> Result<usize, ConvertError> {
    let input = feeder.add_input(None, None);
    feeder.continuous(input);
    let begin = Feed::Begin {
        container,
        init: None,
        discontinuity: false,
    };
    feeder.feed(input, begin)?;
    Ok(input)
}

/// Opens a connection. That may take its time: it is not for a thread of the runtime.
async fn open<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, ConvertError> + Send + 'static,
) -> Result<T, ConvertError> {
    let panicked = |_| ConvertError {
        cause: Cause::Internal,
        detail: "opening the input panicked".to_owned(),
    };
    tokio::task::spawn_blocking(open).await.map_err(panicked)?
}

/// Waits until a pipeline has ended in a way that is `meant`.
async fn ended(
    done: &Done,
    converter: &Converter,
    meant: impl Fn(&Result<(), ConvertError>) -> bool,
) {
    let hub = converter.hub();
    loop {
        let moved = hub.moved.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        if done.ended().is_some_and(|end| meant(&end)) {
            return;
        }
        moved.await;
    }
}

/// A name service that takes longer than this has failed.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Looks a peer's name up and applies the address policy. The address found is the one that must be called:
/// looking up again could give another one.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    allow_private: bool,
) -> Result<SocketAddr, SourceEnd> {
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, port))).await;
    let mut found = found
        .map_err(|_| SourceEnd::failed(Cause::DnsFailed, "the name service does not answer"))?
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

/// A peer to call by name or address.
struct Call {
    host: String,
    port: u16,
}

/// Applies the address policy to the peer of a URL, and tells whom to call: the address that was checked; or, with the
/// scheme `by_name`, the name, because the certificate must bear it, which it does not where a changed answer of the
/// name service might lead.
async fn call(
    url: &url::Url,
    default_port: u16,
    by_name: &str,
    allow_private: bool,
) -> Result<Call, SourceEnd> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port().unwrap_or(default_port);
    let checked = resolve(host, port, allow_private).await?;
    let named = url.scheme() == by_name && host.parse::<IpAddr>().is_err();
    let host = match named {
        true => host.to_owned(),
        false => checked.ip().to_string(),
    };
    Ok(Call { host, port })
}

/// User and password of a URL.
fn credentials(url: &url::Url) -> Option<(String, String)> {
    // The only decoder at hand is that of forms, to which these three mean something else.
    let plain = |text: &str| {
        let text = text
            .replace('+', "%2B")
            .replace('&', "%26")
            .replace('=', "%3D");
        let mut pairs = url::form_urlencoded::parse(text.as_bytes());
        pairs
            .next()
            .map_or_else(String::new, |(text, _)| text.into_owned())
    };
    let user = Some(url.username()).filter(|user| !user.is_empty())?;
    Some((plain(user), plain(url.password().unwrap_or_default())))
}

/// Bytes gathered before they are analysed together.
const BATCH: usize = 128 << 10;

/// Joins what has arrived meanwhile.
fn gather(first: Bytes, more: &mut tokio::sync::mpsc::Receiver<Bytes>) -> Bytes {
    let mut batch = BytesMut::from(first);
    while batch.len() < BATCH {
        match more.try_recv() {
            Ok(bytes) => batch.extend_from_slice(&bytes),
            Err(_) => break,
        }
    }
    batch.freeze()
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
        Protocol::Rtmp => rtmp::run(context).await,
        Protocol::Rtsp => rtsp::run(context).await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn credentials_are_decoded() {
        let of = |text: &str| credentials(&url::Url::parse(text).unwrap());
        let pair = |u: &str, p: &str| Some((u.to_owned(), p.to_owned()));
        assert_eq!(of("rtsp://u:a+b&c=d%40e@h/"), pair("u", "a+b&c=d@e"));
        assert_eq!(of("rtsp://u@h/"), pair("u", ""));
        assert_eq!(of("rtsp://h/"), None);
    }

    #[tokio::test]
    async fn names_are_kept_only_where_a_certificate_vouches() {
        let of = async |text: &str| {
            let url = url::Url::parse(text).unwrap();
            let found = call(&url, 1935, "rtmps", true).await.unwrap();
            (found.host, found.port)
        };
        let (host, port) = of("rtmp://localhost/a/b").await;
        assert!(host.parse::<IpAddr>().is_ok(), "{host}");
        assert_eq!(port, 1935);
        let (host, port) = of("rtmps://localhost:44/a/b").await;
        assert_eq!((host.as_str(), port), ("localhost", 44));
        let url = url::Url::parse("rtmps://localhost/a/b").unwrap();
        assert!(call(&url, 1, "rtmps", false).await.is_err());
    }

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

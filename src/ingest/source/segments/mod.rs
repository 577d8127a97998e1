//! Media in segments, HLS or DASH: reads them in order into a converter.
//!
//! A failing playlist, segment or key never ends a live source: it is told, tried again at the pace of
//! [`fetch::pace`](crate::ingest::fetch::pace), and given up only when the playlist has moved on.

mod gauge;
mod piece;
mod reader;

use std::sync::Mutex;
use std::time::Duration;

use detectors::base::{Cause, Fact, InputEvent, Kind};
use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::tell::Teller;
use super::{Retry, SourceContext, SourceEnd};
use crate::ingest::convert::{ConvertError, Converter, Feed};
use crate::ingest::fetch::{Backoff, FetchError, Fetcher, Request, What};
use gauge::Watch;
use reader::{Reader, Stop};

pub(super) use gauge::PlaylistNews;
pub(super) use reader::{Latest, Loaded};

pub(super) use piece::{HEAD_BYTES, box_size, container, layout};

/// Encoded bytes that may wait for decoding before more is fed: bounds memory, far above what one picture needs.
pub(super) const BACKLOG_BYTES: usize = 4 << 20;

/// Feeds on their way to the converter.
const FEEDS: usize = 2;

/// Longest wait for the decoding of what was fed, at the end.
pub(super) const FINISH: Duration = Duration::from_secs(30);

/// Target duration that is assumed until a playlist tells one.
const TARGET_ASSUMED: Duration = Duration::from_secs(6);

/// Keys kept.
const KEYS_MAX: usize = 16;

/// Where bytes are fed to. Implemented by [`Converter`]; a recording fake in tests.
pub trait Feeder: Send {
    /// See [`Converter::add_input`].
    fn add_input(&mut self, only: Option<Kind>, language: Option<String>) -> usize;

    /// See [`Converter::feed`].
    fn feed(&mut self, input: usize, feed: Feed) -> Result<(), ConvertError>;

    /// See [`Converter::room`].
    fn room(&self, bytes: usize) -> impl Future<Output = Result<(), ConvertError>> + Send;

    /// See [`Converter::finish`].
    fn finish(self, deadline: Duration) -> impl Future<Output = Result<(), ConvertError>> + Send;
}

impl Feeder for Converter {
    fn add_input(&mut self, only: Option<Kind>, language: Option<String>) -> usize {
        Converter::add_input(self, only, language)
    }

    fn feed(&mut self, input: usize, feed: Feed) -> Result<(), ConvertError> {
        Converter::feed(self, input, feed)
    }

    async fn room(&self, bytes: usize) -> Result<(), ConvertError> {
        Converter::room(self, bytes).await
    }

    async fn finish(self, deadline: Duration) -> Result<(), ConvertError> {
        Converter::finish(self, deadline).await
    }
}

/// How long media may stay away from a stream with this target duration before it is shown, and before it pages.
///
/// A segment arrives once per target duration, so one target duration without bytes is how HLS works. Shown within
/// 1.5 target durations + 2 s, of which half a second is for the next tick and its publication; paged after 3
/// target durations and never before it is shown.
pub fn patience(target: Duration) -> (Duration, Duration) {
    let visible = target.mul_f64(1.5) + Duration::from_millis(1500);
    (visible, (target * 3).max(visible))
}

pub(super) fn stopped() -> SourceEnd {
    SourceEnd {
        cause: None,
        retry: Retry::Never,
        detail: "stopped".to_owned(),
    }
}

/// Plays with the shared parts until the end or the cancellation.
pub(super) async fn uncancelled(
    cx: &SourceContext,
    playing: impl Future<Output = SourceEnd>,
) -> SourceEnd {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => stopped(),
        end = playing => end,
    }
}

/// One input: what to take from it, and its segments as they become known.
pub(super) struct Track {
    pub only: Option<Kind>,
    pub language: Option<String>,
    pub latest: Latest,
}

/// Reads all tracks into the feeder, while `keep` keeps their lists fresh.
pub(super) async fn drive<F: Feeder>(
    session: &Session<'_>,
    mut feeder: F,
    tracks: Vec<Track>,
    keep: impl Future<Output = ()>,
) -> SourceEnd {
    session
        .progress
        .send_replace(vec![Duration::MAX; tracks.len()]);
    let (feeds, mut fed) = mpsc::channel(FEEDS);
    let mut readers = Vec::new();
    for (number, track) in tracks.into_iter().enumerate() {
        let feed_to = feeder.add_input(track.only, track.language);
        readers.push(Reader::new(session, number, feed_to, feeds.clone()).run(track.latest));
    }
    drop(feeds);
    let feeding = async {
        while let Some((input, feed)) = fed.recv().await {
            if !matches!(feed, Feed::End { .. }) {
                feeder.room(BACKLOG_BYTES).await?;
            }
            feeder.feed(input, feed)?;
        }
        feeder.finish(FINISH).await
    };
    let reading = async {
        let all = join_all(readers);
        tokio::pin!(all);
        tokio::select! {
            stops = &mut all => stops,
            () = keep => all.await,
            never = session.watch.heed() => match never {},
        }
    };
    tokio::pin!(feeding);
    let (stops, converted) = tokio::select! {
        converted = &mut feeding => (Vec::new(), converted),
        stops = reading => (stops, feeding.await),
    };
    if let Err(error) = converted {
        return failed(error.cause, Retry::Backoff, error.detail);
    }
    let gave_up = stops.into_iter().find_map(|stop| match stop {
        Stop::GaveUp(error) => Some(error),
        Stop::Ended | Stop::Closed => None,
    });
    if let Some(error) = gave_up {
        return failed(error.cause, Retry::Backoff, error.detail);
    }
    session.tell.fact(Fact::Input(InputEvent::Ended));
    SourceEnd {
        cause: None,
        retry: Retry::Never,
        detail: "the playlist has been played to its end".to_owned(),
    }
}

pub(super) fn failed(cause: Cause, retry: Retry, detail: String) -> SourceEnd {
    SourceEnd {
        cause: Some(cause),
        retry,
        detail,
    }
}

/// What all inputs of one stream share.
pub(super) struct Session<'a> {
    pub cx: &'a SourceContext,
    pub fetcher: Fetcher,
    pub tell: Teller,
    pub watch: Watch,
    keys: Keys,
    pub began: Instant,
    /// How far each input of a complete playlist has been read; `MAX` where that does not matter.
    progress: watch::Sender<Vec<Duration>>,
}

impl<'a> Session<'a> {
    /// Fails on a URL or header that HTTP cannot carry.
    pub fn new(cx: &'a SourceContext) -> Result<Self, SourceEnd> {
        let fetcher = Fetcher::new(&cx.stream.input, cx.stats.clone())
            .map_err(|error| failed(error.cause, Retry::Never, error.detail))?;
        let session = Self {
            cx,
            fetcher,
            tell: Teller::new(cx),
            watch: Watch::default(),
            keys: Keys::default(),
            began: Instant::now(),
            progress: watch::Sender::new(Vec::new()),
        };
        session.be_patient(TARGET_ASSUMED);
        Ok(session)
    }

    /// Tells how long media may stay away with segments of this length.
    pub fn be_patient(&self, target: Duration) {
        let (visible, page) = patience(target);
        self.tell.patience(visible, page);
    }

    /// Tells a failure and waits until the next attempt may go out.
    pub async fn rest(&self, backoff: &mut Backoff, error: &FetchError) {
        self.tell.failed(error.cause);
        if backoff.failing() {
            tracing::debug!(stream = %self.cx.stream.id, cause = error.cause.as_str(), "{error}");
        } else {
            tracing::warn!(stream = %self.cx.stream.id, cause = error.cause.as_str(), "{error}");
        }
        let wait = backoff.failed(error.retry_after, fastrand::f64());
        sleep_until(self.fetcher.pacer.slot(Instant::now() + wait)).await;
    }

    /// The list has brought something new.
    pub fn note_change(&self) {
        let now = jiff::Timestamp::now().as_millisecond();
        let now = u64::try_from(now).unwrap_or(0);
        self.cx.stats.playlist_last_change_unix_ms.set(now);
    }

    /// A key, from the cache or the origin. One that the origin does not give is [`Cause::EncryptedNoKey`].
    async fn key(&self, url: &Url, base: &Url) -> Result<[u8; 16], FetchError> {
        if let Some(key) = self.keys.get(url) {
            return Ok(key);
        }
        let request = Request {
            url,
            referrer: Some(base),
            what: What::Key,
            range: None,
            skip: 0,
            total: self.fetcher.limits().connect + self.fetcher.limits().idle,
        };
        let no_key = |detail: String| FetchError::new(Cause::EncryptedNoKey, detail);
        let (_, bytes) = self
            .fetcher
            .bytes(request)
            .await
            .map_err(|error| match error.cause {
                Cause::HttpNotFound
                | Cause::HttpClientError
                | Cause::AuthRefused
                | Cause::TooLarge
                | Cause::FileUnreadable => FetchError {
                    cause: Cause::EncryptedNoKey,
                    ..error
                },
                _ => error,
            })?;
        let key = <[u8; 16]>::try_from(&bytes[..])
            .map_err(|_| no_key(format!("the key has {} bytes, not 16", bytes.len())))?;
        self.keys.put(url, key);
        Ok(key)
    }
}

pub(super) fn join(base: &Url, uri: &str) -> Result<Url, FetchError> {
    base.join(uri)
        .map_err(|_| invalid("the playlist names a URI that cannot be read"))
}

pub(super) fn invalid(detail: &str) -> FetchError {
    FetchError::new(Cause::PlaylistInvalid, detail)
}

/// The newest keys by URL.
#[derive(Default)]
struct Keys(Mutex<Vec<(Url, [u8; 16])>>);

impl Keys {
    fn get(&self, url: &Url) -> Option<[u8; 16]> {
        let keys = self.0.lock().unwrap_or_else(|e| e.into_inner());
        keys.iter().find(|(own, _)| own == url).map(|(_, key)| *key)
    }

    fn put(&self, url: &Url, key: [u8; 16]) {
        let mut keys = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if keys.len() >= KEYS_MAX {
            keys.remove(0);
        }
        keys.push((url.clone(), key));
    }

    /// It did not fit: ask for it again next time.
    fn forget(&self, url: &Url) {
        let mut keys = self.0.lock().unwrap_or_else(|e| e.into_inner());
        keys.retain(|(own, _)| own != url);
    }
}

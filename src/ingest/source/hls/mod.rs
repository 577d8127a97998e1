//! HLS: loads playlists, pins one rendition, reads segments in order into a converter.
//!
//! A failing playlist, segment or key never ends a live source: it is told, tried again at the pace of
//! [`fetch::pace`](crate::ingest::fetch::pace), and given up only when the playlist has moved on.

mod input;
mod piece;

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
use crate::transport::playlist::{Master, Media, Playlist};
use input::{Input, Stop};

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

/// Reads the stream until it ends or is cancelled.
pub async fn run(cx: &SourceContext) -> SourceEnd {
    play(cx, Converter::new(cx)).await
}

/// As [`run`], into any feeder.
pub async fn play<F: Feeder>(cx: &SourceContext, feeder: F) -> SourceEnd {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => stopped(),
        end = read(cx, feeder) => end,
    }
}

pub(super) fn stopped() -> SourceEnd {
    SourceEnd {
        cause: None,
        retry: Retry::Never,
        detail: "stopped".to_owned(),
    }
}

async fn read<F: Feeder>(cx: &SourceContext, mut feeder: F) -> SourceEnd {
    let fetcher = match Fetcher::new(&cx.stream.input, cx.stats.clone()) {
        Ok(fetcher) => fetcher,
        Err(error) => return failed(error.cause, Retry::Never, error.detail),
    };
    let session = Session {
        cx,
        fetcher,
        tell: Teller::new(cx),
        keys: Keys::default(),
        began: Instant::now(),
        progress: watch::Sender::new(Vec::new()),
    };
    session.be_patient(TARGET_ASSUMED);
    let plans = session.plan().await;
    session
        .progress
        .send_replace(vec![Duration::MAX; plans.len()]);
    let (feeds, mut fed) = mpsc::channel(FEEDS);
    let mut inputs = Vec::new();
    for (number, plan) in plans.into_iter().enumerate() {
        let feed_to = feeder.add_input(plan.only, plan.language.clone());
        inputs.push(Input::new(&session, number, plan, feed_to, feeds.clone()));
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
    let reading = join_all(inputs.into_iter().map(Input::run));
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

/// What is to be read as one input.
struct Plan {
    url: Url,
    referrer: Option<Url>,
    /// Already loaded, when the configured URL is a media playlist itself.
    first: Option<(Url, Media)>,
    only: Option<Kind>,
    language: Option<String>,
}

/// What all inputs of one stream share.
struct Session<'a> {
    cx: &'a SourceContext,
    fetcher: Fetcher,
    tell: Teller,
    keys: Keys,
    began: Instant,
    /// How far each input of a complete playlist has been read; `MAX` where that does not matter.
    progress: watch::Sender<Vec<Duration>>,
}

impl Session<'_> {
    fn be_patient(&self, target: Duration) {
        let (visible, page) = patience(target);
        self.tell.patience(visible, page);
    }

    /// Tells a failure and waits until the next attempt may go out.
    async fn rest(&self, backoff: &mut Backoff, error: &FetchError) {
        self.tell.failed(error.cause);
        if backoff.failing() {
            tracing::debug!(stream = %self.cx.stream.id, cause = error.cause.as_str(), "{error}");
        } else {
            tracing::warn!(stream = %self.cx.stream.id, cause = error.cause.as_str(), "{error}");
        }
        let wait = backoff.failed(error.retry_after, fastrand::f64());
        sleep_until(self.fetcher.pacer.slot(Instant::now() + wait)).await;
    }

    /// Loads the configured playlist until it tells what to read.
    async fn plan(&self) -> Vec<Plan> {
        let mut backoff = Backoff::default();
        loop {
            let loaded = self.fetcher.playlist(self.fetcher.home(), None).await;
            let planned = loaded.and_then(|(base, playlist)| match playlist {
                Playlist::Media(media) => Ok(vec![Plan {
                    url: self.fetcher.home().clone(),
                    referrer: None,
                    first: Some((base, media)),
                    only: None,
                    language: None,
                }]),
                Playlist::Master(master) => self.pin(&base, &master),
            });
            match planned {
                Ok(plans) => return plans,
                Err(error) => self.rest(&mut backoff, &error).await,
            }
        }
    }

    fn pin(&self, base: &Url, master: &Master) -> Result<Vec<Plan>, FetchError> {
        let pick = master
            .pick(&self.cx.stream.input.rendition)
            .ok_or_else(|| invalid("the master playlist has no such rendition"))?;
        let plan = |uri: &str, only, language| {
            Ok(Plan {
                url: join(base, uri)?,
                referrer: Some(base.clone()),
                first: None,
                only,
                language,
            })
        };
        let mut plans = vec![plan(&pick.variant.uri, None, None)?];
        for audio in pick.audio {
            let uri = audio.uri.as_deref().unwrap_or_default();
            plans.push(plan(uri, Some(Kind::Audio), audio.language.clone())?);
        }
        Ok(plans)
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

fn join(base: &Url, uri: &str) -> Result<Url, FetchError> {
    base.join(uri)
        .map_err(|_| invalid("the playlist names a URI that cannot be read"))
}

fn invalid(detail: &str) -> FetchError {
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

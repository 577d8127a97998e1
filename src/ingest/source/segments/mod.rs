//! Media in segments, HLS or DASH: reads them in order into a converter.
//!
//! A failing playlist, segment or key never ends a live source: it is told, tried again at the pace of
//! [`fetch::pace`](crate::ingest::fetch::pace), and given up only when the playlist has moved on.

mod ahead;
mod gauge;
mod licence;
mod piece;
mod reader;
mod standing;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
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
use crate::ingest::keys::{ContentKey, SampleKeys};
use gauge::Watch;
use licence::Licences;
use reader::{Reader, Stop};
use standing::Standings;

pub(super) use gauge::PlaylistNews;
pub(super) use reader::{Latest, Loaded};

#[cfg(any(test, fuzzing))]
pub(crate) use piece::segment_pieces;
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

/// In a complete playlist nothing will get better: after this many failures in a row it is given up.
const COMPLETE_FAILURES_MAX: u32 = 3;

/// Where bytes are fed to. Implemented by [`Converter`]; a recording fake in tests.
pub trait Feeder: Send {
    /// See [`Converter::add_input`].
    fn add_input(&mut self, only: Option<Kind>, language: Option<String>) -> usize;

    /// See [`Converter::continuous`].
    fn continuous(&mut self, _input: usize) {}

    /// See [`Converter::feed`].
    fn feed(&mut self, input: usize, feed: Feed) -> Result<(), ConvertError>;

    /// See [`Converter::expect`].
    fn expect(&mut self, _input: usize, _member: &str, _kinds: &[Kind]) {}

    /// See [`Converter::trouble`].
    fn trouble(&mut self, _input: usize, _cause: Option<Cause>) {}

    /// See [`Converter::room`].
    fn room(&self, bytes: usize) -> impl Future<Output = Result<(), ConvertError>> + Send;

    /// See [`Converter::finish`].
    fn finish(self, deadline: Duration) -> impl Future<Output = Result<(), ConvertError>> + Send;
}

impl Feeder for Converter {
    fn add_input(&mut self, only: Option<Kind>, language: Option<String>) -> usize {
        Converter::add_input(self, only, language)
    }

    fn continuous(&mut self, input: usize) {
        Converter::continuous(self, input);
    }

    fn feed(&mut self, input: usize, feed: Feed) -> Result<(), ConvertError> {
        Converter::feed(self, input, feed)
    }

    fn expect(&mut self, input: usize, member: &str, kinds: &[Kind]) {
        Converter::expect(self, input, member, kinds);
    }

    fn trouble(&mut self, input: usize, cause: Option<Cause>) {
        Converter::trouble(self, input, cause);
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
    pub member: Option<Member>,
    pub latest: Latest,
}

/// One of several renditions that are watched as one stream.
pub(super) struct Member {
    pub name: String,
    /// What it brings, as far as that is known before it does.
    pub kinds: Vec<Kind>,
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
    let main: Vec<bool> = tracks.iter().map(|t| t.only != Some(Kind::Audio)).collect();
    let backlog = BACKLOG_BYTES * main.iter().filter(|main| **main).count().max(1);
    let members = tracks.iter().map(|track| track.member.as_ref());
    session
        .standings
        .begin(members.map(|m| m.map(|m| m.name.clone())));
    let (feeds, mut fed) = mpsc::channel(FEEDS);
    let mut readers = Vec::new();
    let mut inputs = Vec::new();
    for (number, track) in tracks.into_iter().enumerate() {
        if number > 0 && track.only == Some(Kind::Audio) {
            session.watch.is_sound(number);
        }
        let feed_to = feeder.add_input(track.only, track.language);
        if let Some(Member { name, kinds }) = &track.member {
            feeder.expect(feed_to, name, kinds);
        }
        let kinds = track.member.map(|member| member.kinds);
        inputs.push((feed_to, kinds.unwrap_or_default()));
        readers.push(Reader::new(session, number, feed_to, feeds.clone()).run(track.latest));
    }
    drop(feeds);
    let feeding = async {
        let mut news = session.standings.subscribe();
        loop {
            let next = tokio::select! {
                biased;
                () = news.changed() => None,
                next = fed.recv() => Some(next),
            };
            news.tell(&mut feeder, &inputs);
            match next {
                None => {}
                Some(None) => break,
                Some(Some((input, feed))) => {
                    if !matches!(feed, Feed::End { .. }) {
                        feeder.room(backlog).await?;
                    }
                    feeder.feed(input, feed)?;
                }
            }
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
    // What failed beside something that was played has been told of its track.
    let mains = stops.into_iter().zip(main);
    let mut stops = mains.filter_map(|(stop, main)| main.then_some(stop));
    let mut gave_up = None;
    let played = stops.any(|stop| match stop {
        Stop::GaveUp(error) => {
            gave_up.get_or_insert(error);
            false
        }
        Stop::Absent => false,
        Stop::Ended | Stop::Closed => true,
    });
    let missing = || {
        Some(FetchError::new(
            session.standings.trouble()?,
            "no rendition is left",
        ))
    };
    if let (false, Some(error)) = (played, gave_up.or_else(missing)) {
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

/// How the newest segments of all inputs were had: whether a clock leads to segments that are there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edge {
    /// Segments read.
    pub read: u64,
    /// Answers since then that there is no such segment.
    pub missing: u32,
}

/// What all inputs of one stream share.
pub(super) struct Session<'a> {
    pub cx: &'a SourceContext,
    pub fetcher: Fetcher,
    pub tell: Teller,
    pub watch: Watch,
    keys: Keys,
    /// The operator's.
    content_keys: SampleKeys,
    licences: Licences,
    pub began: Instant,
    /// How the newest segments were had.
    pub edge: watch::Sender<Edge>,
    /// How the inputs stand.
    pub standings: Standings,
    /// A list is complete: what cannot be had by now will not be.
    pub complete: AtomicBool,
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
            content_keys: SampleKeys::from(&cx.stream.input.content_keys),
            licences: Licences::default(),
            began: Instant::now(),
            edge: watch::Sender::new(Edge::default()),
            standings: Standings::default(),
            complete: AtomicBool::new(false),
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

    /// The list of an input was loaded.
    pub fn loaded(&self, number: usize, target: Duration, complete: bool) {
        if self.standings.leads(number) {
            self.be_patient(target);
        }
        self.complete.fetch_or(complete, Ordering::Relaxed);
    }

    /// Whether a list that failed this often in a row is given up, because others are complete. Never that of the only
    /// rendition.
    pub fn gives_up(&self, number: usize, failures: u32) -> bool {
        let complete = self.complete.load(Ordering::Relaxed);
        complete && failures >= COMPLETE_FAILURES_MAX && !self.standings.is_alone(number)
    }

    /// The list has brought something new.
    pub fn note_change(&self) {
        let now = jiff::Timestamp::now().as_millisecond();
        let now = u64::try_from(now).unwrap_or(0);
        self.cx.stats.playlist_last_change_unix_ms.set(now);
    }

    /// A key, from the cache or the origin. One that the origin does not give is [`Cause::EncryptedNoKey`].
    async fn key(&self, url: &Url, base: &Url) -> Result<ContentKey, FetchError> {
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
        Ok(self.keys.put(url, ContentKey::new(key)))
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
struct Keys(Mutex<Vec<(Url, ContentKey)>>);

impl Keys {
    /// One whose samples did not decode is asked for again.
    fn get(&self, url: &Url) -> Option<ContentKey> {
        let keys = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let (_, key) = keys.iter().find(|(own, _)| own == url)?;
        (!key.is_refuted()).then(|| key.clone())
    }

    /// The same key again is the one that is known.
    fn put(&self, url: &Url, key: ContentKey) -> ContentKey {
        let mut keys = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, known)) = keys.iter().find(|(own, known)| own == url && *known == key) {
            return known.clone();
        }
        keys.retain(|(own, _)| own != url);
        if keys.len() >= KEYS_MAX {
            keys.remove(0);
        }
        keys.push((url.clone(), key.clone()));
        key
    }

    /// It did not fit: ask for it again next time.
    fn forget(&self, url: &Url) {
        let mut keys = self.0.lock().unwrap_or_else(|e| e.into_inner());
        keys.retain(|(own, _)| own != url);
    }
}

//! DASH: keeps the manifest fresh and lays it out as time passes; its segments are read by `segments`.
//!
//! Pictures and sound are two inputs, as separate audio of HLS is; of several representations that are watched as one
//! stream, each is an input. What the layout of the (first working) pictures tells decides when the manifest is loaded
//! again and what is told of it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Cause, Kind};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::segments::{self, Feeder, Loaded, Member, Session, Track};
use super::{SourceContext, SourceEnd};
use crate::ingest::convert::Converter;
use crate::ingest::fetch::{Backoff, FetchError, Request, What};
use crate::transport::playlist::follow::News;
use crate::transport::playlist::mpd::{self, Follower, Mpd, Role, UnixNanos, Unplayable};

/// A clock that an origin names is asked again after this long, or after this long when it did not answer.
const CLOCK_GOOD_FOR: Duration = Duration::from_secs(600);
const CLOCK_RETRY: Duration = Duration::from_secs(30);

/// An index that one of several inputs lacks is asked for again after this long, this often in a row.
const INDEX_RETRY: Duration = Duration::from_secs(2);
const INDEX_FAILURES_MAX: u32 = 10;

/// Reads the stream until it ends or is cancelled.
pub async fn run(cx: &SourceContext) -> SourceEnd {
    play(cx, Converter::new(cx)).await
}

/// As [`run`], into any feeder.
pub async fn play<F: Feeder>(cx: &SourceContext, feeder: F) -> SourceEnd {
    segments::uncancelled(cx, read(cx, feeder)).await
}

async fn read<F: Feeder>(cx: &SourceContext, feeder: F) -> SourceEnd {
    let session = match Session::new(cx) {
        Ok(session) => session,
        Err(end) => return end,
    };
    let first = Manifest::load(&session, session.fetcher.home().clone(), Instant::now()).await;
    let rule = &cx.stream.input.rendition;
    let beside = first.mpd.audio_beside(rule);
    // A main input may bring sound of its own only where none lies beside it.
    let only = beside.is_some().then_some(Kind::Video);
    let members = match rule.is_several() {
        true => first.mpd.members(rule),
        false => Vec::new(),
    };
    let mut parts = Vec::new();
    for member in &members {
        let follower = Follower::member(member);
        let kinds = match only {
            None => vec![Kind::Video, Kind::Audio],
            Some(kind) => vec![kind],
        };
        let name = member.name.clone();
        parts.push((follower, only, None, Some(Member { name, kinds })));
    }
    if parts.is_empty() {
        parts.push((Follower::new(Role::Main, rule.clone()), only, None, None));
    }
    if let Some(language) = beside {
        let follower = Follower::new(Role::Audio, rule.clone());
        parts.push((follower, Some(Kind::Audio), language, None));
    }
    let (mut tracks, mut lanes) = (Vec::new(), Vec::new());
    for (follower, only, language, member) in parts {
        let (tx, latest) = watch::channel(None);
        tracks.push(Track {
            only,
            language,
            member,
            latest,
        });
        lanes.push(Lane {
            follower,
            tx,
            failures: 0,
        });
    }
    segments::drive(&session, feeder, tracks, keep(&session, first, lanes)).await
}

/// A loaded manifest.
struct Manifest {
    mpd: Mpd,
    base: Arc<Url>,
    /// When its load began.
    loaded_at: Instant,
}

impl Manifest {
    /// Loads it at that time, over as many attempts as it takes.
    async fn load(session: &Session<'_>, url: Url, at: Instant) -> Self {
        sleep_until(at).await;
        let mut backoff = Backoff::default();
        loop {
            let loaded_at = Instant::now();
            let referrer = Some(session.fetcher.home()).filter(|home| **home != url);
            match session.fetcher.mpd(&url, referrer).await {
                Ok((base, mpd)) => {
                    return Self {
                        mpd,
                        base: Arc::new(base),
                        loaded_at,
                    };
                }
                Err(error) => session.rest(&mut backoff, &error).await,
            }
        }
    }

    /// Where to load it from next time.
    fn next_url(&self, session: &Session<'_>) -> Url {
        let told = self.mpd.location.as_ref();
        told.unwrap_or(session.fetcher.home()).clone()
    }
}

/// One followed representation and the reader it is told to.
struct Lane {
    follower: Follower,
    tx: watch::Sender<Option<Loaded>>,
    /// How often in a row an index could not be had.
    failures: u32,
}

type Loading<'a> = Pin<Box<dyn Future<Output = Manifest> + Send + 'a>>;

/// Keeps all lists fresh until they are complete.
async fn keep(session: &Session<'_>, first: Manifest, mut lanes: Vec<Lane>) {
    let mut manifest = first;
    let mut clock = OriginClock::default();
    let mut backoff = Backoff::default();
    let mut loading: Option<Loading<'_>> = None;
    loop {
        clock.learn(session, &manifest).await;
        let updated = refresh(session, &manifest, &clock, &mut lanes).await;
        let reload_at = match updated {
            Ok((main, news)) => {
                backoff.worked();
                let main = lanes.get(main).map(|lane| &lane.follower);
                let wait = main.and_then(|main| main.reload_in(&manifest.mpd, news));
                wait.map(|wait| manifest.loaded_at + wait)
            }
            Err(error) => {
                session.rest(&mut backoff, &error).await;
                Some(Instant::now())
            }
        };
        let retry = |lane: &Lane| (1..INDEX_FAILURES_MAX).contains(&lane.failures);
        let retry_in = lanes.iter().any(retry).then_some(INDEX_RETRY);
        let next_in = lanes.iter().filter_map(|lane| lane.follower.next_in());
        let next_in = next_in.chain(retry_in).min();
        if let (None, Some(at)) = (&loading, reload_at) {
            let url = manifest.next_url(session);
            loading = Some(Box::pin(Manifest::load(session, url, at)));
        }
        let passed = async {
            match next_in {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        match &mut loading {
            Some(load) => tokio::select! {
                loaded = load => {
                    (manifest, loading) = (loaded, None);
                    clock.fresh = true;
                }
                () = passed => {}
            },
            None if next_in.is_some() => passed.await,
            None => return,
        }
    }
}

/// Lays the manifest out anew and tells the readers. What goes wrong with the main representation, or with all of
/// several, is the result; what goes wrong with one is told of it.
async fn refresh(
    session: &Session<'_>,
    manifest: &Manifest,
    clock: &OriginClock,
    lanes: &mut [Lane],
) -> Result<(usize, News), FetchError> {
    let mut result = None;
    let mut failed = None;
    for (number, lane) in lanes.iter_mut().enumerate() {
        let indexed = indexes(session, manifest, &mut lane.follower).await;
        let now = Instant::now().duration_since(session.began);
        let beside = session.standings.is_beside(number);
        lane.failures = match indexed {
            Ok(()) => 0,
            Err(_) => lane.failures.saturating_add(1),
        };
        let updated = match indexed {
            Ok(()) => match lane.follower.update(&manifest.mpd, clock.now(), now) {
                // Sound may be absent for a period.
                Err(_) if beside => continue,
                Err(Unplayable::NoRendition) if session.standings.is_member(number) => {
                    let detail = "the manifest does not list this representation";
                    Err(FetchError::new(Cause::MissingTrack, detail))
                }
                updated => updated.map_err(invalid),
            },
            Err(error) => Err(error),
        };
        let stalled = lane.follower.stalled(now);
        match updated {
            Err(error) => {
                session.standings.list(number, Some(error.cause));
                failed = failed.or(Some(error).filter(|_| !beside));
            }
            Ok(news) => {
                if !beside {
                    result = result.or(Some((number, news)));
                }
                let cause = stalled.then_some(Cause::PlaylistStalled);
                session.standings.list(number, cause);
                let rhythm = lane.follower.rhythm().unwrap_or_default();
                let ended = lane.follower.ended();
                session.loaded(number, rhythm, ended);
                if news != News::Same
                    && let Some((epoch, media)) = lane.follower.current()
                {
                    if session.standings.leads(number) {
                        session.note_change();
                    }
                    lane.tx.send_replace(Some(Loaded {
                        epoch,
                        media,
                        base: Arc::clone(&manifest.base),
                    }));
                }
                if stalled {
                    session.tell.failed(Cause::PlaylistStalled);
                }
            }
        }
    }
    match (result, failed) {
        (None, Some(error)) => Err(error),
        (result, _) => Ok(result.unwrap_or((0, News::Same))),
    }
}

/// Gets the indexes of resources that hold several segments.
async fn indexes(
    session: &Session<'_>,
    manifest: &Manifest,
    follower: &mut Follower,
) -> Result<(), FetchError> {
    while let Some((url, place)) = follower.wants(&manifest.mpd) {
        let limits = session.fetcher.limits();
        let request = Request {
            url: &url,
            referrer: Some(&manifest.base),
            what: What::Segment,
            range: Some(place),
            skip: 0,
            total: limits.connect + limits.idle,
        };
        let (_, bytes) = session.fetcher.bytes(request).await?;
        follower.indexed(url, place, &bytes);
    }
    Ok(())
}

fn invalid(error: Unplayable) -> FetchError {
    let cause = match error {
        Unplayable::TooLong => Cause::TooLarge,
        Unplayable::Container => Cause::UnsupportedFormat,
        Unplayable::NotYet => Cause::PlaylistStalled,
        _ => Cause::PlaylistInvalid,
    };
    FetchError::new(cause, error.to_string())
}

/// The wall clock, as far as the origin has another one than we.
struct OriginClock {
    ahead: i64,
    asked: Option<(Instant, Duration)>,
    /// The manifest is new.
    fresh: bool,
}

impl Default for OriginClock {
    fn default() -> Self {
        Self {
            ahead: 0,
            asked: None,
            fresh: true,
        }
    }
}

impl OriginClock {
    fn now(&self) -> UnixNanos {
        local_clock().saturating_add(self.ahead)
    }

    /// Learns from the first clock of a new manifest that answers. Without any, our own counts.
    async fn learn(&mut self, session: &Session<'_>, manifest: &Manifest) {
        let fresh = std::mem::take(&mut self.fresh);
        if !manifest.mpd.live || !fresh {
            return;
        }
        for clock in &manifest.mpd.clocks {
            let told = match clock {
                mpd::Clock::Direct(time) => Some(*time),
                mpd::Clock::Http(_) if !self.due() => return,
                mpd::Clock::Http(url) => ask(session, manifest, url).await,
            };
            if let mpd::Clock::Http(_) = clock {
                let again = if told.is_some() {
                    CLOCK_GOOD_FOR
                } else {
                    CLOCK_RETRY
                };
                self.asked = Some((Instant::now(), again));
            }
            if let Some(told) = told {
                self.ahead = told.saturating_sub(local_clock());
                return;
            }
        }
    }

    fn due(&self) -> bool {
        self.asked.is_none_or(|(at, again)| at.elapsed() >= again)
    }
}

async fn ask(session: &Session<'_>, manifest: &Manifest, url: &Url) -> Option<UnixNanos> {
    let limits = session.fetcher.limits();
    let request = Request {
        url,
        referrer: Some(&manifest.base),
        what: What::Key,
        range: None,
        skip: 0,
        total: limits.connect + limits.idle,
    };
    let answer = session.fetcher.bytes(request).await;
    let told = match &answer {
        Ok((_, bytes)) => std::str::from_utf8(bytes).ok().and_then(mpd::time),
        Err(_) => None,
    };
    if told.is_none() {
        let stream = &session.cx.stream.id;
        tracing::warn!(%stream, "the clock that the manifest names tells no time; ours counts");
    }
    told
}

fn local_clock() -> UnixNanos {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

//! DASH: keeps the manifest fresh and lays it out as time passes; its segments are read by `segments`.
//!
//! Pictures and sound are two inputs, as separate audio of HLS is; of several representations that are watched as one
//! stream, each is an input. What the layout of the (first working) pictures tells decides when the manifest is loaded
//! again and what is told of it.

mod clock;

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
use crate::transport::playlist::mpd::{Follower, Mpd, Role, UnixNanos, Unplayable};
use clock::OriginClock;

/// So many segments in a row are not there: the clock that led to them is doubted.
const MISSING: u32 = 2;
/// Then the manifest is loaded again, so long after the last time.
const RELOAD_MISSING: Duration = Duration::from_secs(2);

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
    /// How long it took.
    took: Duration,
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
                        took: loaded_at.elapsed(),
                    };
                }
                Err(error) => session.rest(&mut backoff, &error).await,
            }
        }
    }

    /// Loads what comes after it at that time: by a patch where one is offered, else as a whole.
    async fn next(self: Arc<Self>, session: &Session<'_>, now: UnixNanos, at: Instant) -> Self {
        if let Some(patch) = self
            .mpd
            .patch
            .as_ref()
            .filter(|p| p.until.is_none_or(|until| now < until))
        {
            sleep_until(at).await;
            let loaded_at = Instant::now();
            match session
                .fetcher
                .patch(&patch.url, &self.base, &self.mpd)
                .await
            {
                Ok(mpd) => {
                    return Self {
                        mpd,
                        base: Arc::clone(&self.base),
                        loaded_at,
                        took: loaded_at.elapsed(),
                    };
                }
                Err(error) => {
                    let stream = &session.cx.stream.id;
                    tracing::debug!(%stream, "no patch, the whole manifest is loaded: {error}");
                    let at = session.fetcher.pacer.slot(Instant::now());
                    return Self::load(session, self.next_url(session), at).await;
                }
            }
        }
        Self::load(session, self.next_url(session), at).await
    }

    /// Where to load the whole of it from next time.
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
    let mut manifest = Arc::new(first);
    let mut clock = OriginClock::default();
    let mut edge = session.edge.subscribe();
    let mut backoff = Backoff::default();
    let mut loading: Option<Loading<'_>> = None;
    let mut said_remote = false;
    loop {
        if manifest.mpd.remote && !std::mem::replace(&mut said_remote, true) {
            let stream = &session.cx.stream.id;
            tracing::warn!(%stream, "the manifest names elements elsewhere (xlink), which are not followed");
        }
        clock.learn(session, &manifest).await;
        clock.note(session);
        let updated = refresh(session, &manifest, &clock, &mut lanes).await;
        let reload_at = match updated {
            Err(error) if error.cause == Cause::PlaylistStalled && clock.doubt(session) => continue,
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
            let next = Arc::clone(&manifest).next(session, clock.now(), at);
            loading = Some(Box::pin(next));
        }
        // Only where time alone brings segments does the clock decide which there are.
        let passed = async {
            let Some(wait) = next_in else {
                return std::future::pending().await;
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => false,
                Ok(_) = edge.wait_for(|edge| edge.missing >= MISSING) => true,
            }
        };
        let missing = match &mut loading {
            Some(load) => tokio::select! {
                loaded = load => {
                    (manifest, loading) = (Arc::new(loaded), None);
                    clock.fresh = true;
                    false
                }
                missing = passed => missing,
            },
            None if next_in.is_some() => passed.await,
            None => return,
        };
        if missing {
            if clock.doubt(session) {
                lanes.iter_mut().for_each(|lane| lane.follower.restart());
            }
            // Or the origin has begun anew, and its manifest asks for no update in years.
            let at = (manifest.loaded_at + RELOAD_MISSING).max(Instant::now());
            let next = Arc::clone(&manifest).next(session, clock.now(), at);
            loading = Some(Box::pin(next));
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
                let load = (manifest.loaded_at, manifest.took);
                let (watch, tell) = (&session.watch, &session.tell);
                watch.manifest(tell, number, &lane.follower, news, now, load);
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

//! HLS: loads playlists and pins what is watched of a master: one rendition, or several as members of one stream.
//! Their segments are read by `segments`.
//!
//! A playlist that fails stops nobody else. When it fails for long, the master is loaded again, and what it lists now
//! in the place of the one that was lost is followed.

mod ladder;

use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Cause, Kind};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::segments::{self, Loaded, Member, PlaylistNews, Session, Track, invalid};
use super::{SourceContext, SourceEnd};
use crate::ingest::convert::Converter;
use crate::ingest::fetch::{Backoff, FetchError};
use crate::transport::playlist::follow::{Ask, News, Refusal, Window, held};
use crate::transport::playlist::{Media, Playlist};
use ladder::{Found, Ladder, Sought};

pub use segments::{Feeder, patience};

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
    let (plans, ladder) = plan(&session).await;
    let mut tracks = Vec::new();
    let mut reloads = Vec::new();
    for (number, plan) in plans.into_iter().enumerate() {
        let (tx, latest) = watch::channel(None);
        let member = match &plan.sought {
            Sought::Member(name) => Some(Member {
                name: name.clone(),
                kinds: plan.kinds.clone(),
            }),
            Sought::Only | Sought::Audio { .. } => None,
        };
        tracks.push(Track {
            only: plan.only,
            language: plan.language.clone(),
            member,
            latest,
        });
        reloads.push(reload(&session, number, plan, &ladder, tx));
    }
    let keep = async {
        join_all(reloads).await;
    };
    segments::drive(&session, feeder, tracks, keep).await
}

/// What is to be read as one input.
struct Plan {
    url: Url,
    referrer: Option<Url>,
    /// Already loaded, when the configured URL is a media playlist itself.
    first: Option<(Url, Media)>,
    only: Option<Kind>,
    language: Option<String>,
    /// What it brings, as far as that is known.
    kinds: Vec<Kind>,
    /// Where it is found in a master that is loaded again.
    sought: Sought,
    /// The newest master does not list it.
    vanished: bool,
}

/// Keeps the playlist fresh until it is complete.
async fn reload(
    session: &Session<'_>,
    number: usize,
    mut plan: Plan,
    ladder: &Option<Ladder>,
    tx: watch::Sender<Option<Loaded>>,
) {
    let mut window = Window::default();
    let mut backoff = Backoff::default();
    let now = || Instant::now().duration_since(session.began);
    let mut failures = 0;
    loop {
        let began = now();
        let ask = window.ask(began);
        let loaded = match plan.first.take() {
            Some(first) => Ok(first),
            None if plan.vanished => Err(Unloaded::Failed(FetchError::new(
                Cause::MissingTrack,
                "the master playlist does not list this rendition",
            ))),
            None => load(session, &plan, ask, &window).await,
        };
        let (base, media) = match loaded.and_then(|loaded| playable(loaded, ask, &window)) {
            Ok(loaded) => loaded,
            // What is wrong, if anything is, a plain load tells.
            Err(Unloaded::Refused(why)) => {
                window.refused(why);
                sleep_until(session.fetcher.pacer.slot(Instant::now())).await;
                continue;
            }
            Err(Unloaded::Failed(error)) => {
                window.failed();
                failures += 1;
                session.standings.list(number, Some(error.cause));
                if session.gives_up(number, failures) {
                    return;
                }
                session.rest(&mut backoff, &error).await;
                if failures >= ladder::LONG {
                    plan.look_again(session, number, ladder).await;
                }
                continue;
            }
        };
        failures = 0;
        backoff.worked();
        session.loaded(number, media.target, media.ended);
        let before = window.current();
        // A load that is to wait at the server counts from its answer, and says nothing of how slow that is.
        let (heard, took) = match ask.until {
            Some(_) => (now(), None),
            None => (began, Some(now().saturating_sub(began))),
        };
        let news = window.answered(ask, media, began, heard);
        let load = PlaylistNews {
            before,
            window: &window,
            news,
            began: heard,
            took,
        };
        session.watch.playlist(&session.tell, number, load);
        if news != News::Same {
            if session.standings.leads(number) {
                session.note_change();
            }
            if let Some((epoch, media)) = window.current() {
                tx.send_replace(Some(Loaded {
                    epoch,
                    media,
                    base: Arc::new(base),
                }));
            }
        }
        let stalled = window.stalled(heard).then_some(Cause::PlaylistStalled);
        session.standings.list(number, stalled);
        if stalled.is_some() {
            session.tell.failed(Cause::PlaylistStalled);
            plan.look_again(session, number, ladder).await;
        }
        match window.reload_at() {
            Some(at) => sleep_until(session.began + at).await,
            None => return,
        }
    }
}

/// Why a load brought no playlist that can be played.
enum Unloaded {
    /// The origin is at fault.
    Failed(FetchError),
    /// It was asked for more than the playlist: that may be too much.
    Refused(Refusal),
}

impl Plan {
    /// Goes where a master that is loaded again says it is.
    async fn look_again(&mut self, session: &Session<'_>, number: usize, ladder: &Option<Ladder>) {
        let Some(ladder) = ladder else {
            return;
        };
        match ladder.find(session, number, &mut self.sought).await {
            Some(Found::At(url, base)) => {
                (self.url, self.referrer) = (url, Some(base));
                self.vanished = false;
            }
            // The only rendition goes on being asked for where it was.
            Some(Found::Nowhere) => self.vanished = matches!(self.sought, Sought::Member(_)),
            None => {}
        }
    }
}

async fn load(
    session: &Session<'_>,
    plan: &Plan,
    ask: Ask,
    window: &Window,
) -> Result<(Url, Media), Unloaded> {
    let (mut url, mut wait) = (plan.url.clone(), Duration::ZERO);
    if !ask.is_plain() {
        url.query_pairs_mut().extend_pairs(ask.pairs());
    }
    if let (Some(_), Some((_, media))) = (ask.until, window.current()) {
        wait = held(media.target);
    }
    let loaded = session
        .fetcher
        .playlist_held(&url, plan.referrer.as_ref(), wait)
        .await;
    match loaded {
        Ok((base, Playlist::Media(media))) => Ok((base, media)),
        Err(_) if !ask.is_plain() => Err(Unloaded::Refused(Refusal::Failed)),
        Err(error) => Err(Unloaded::Failed(error)),
        Ok((_, Playlist::Master(_))) => {
            let error = invalid("a master playlist where media was expected");
            Err(Unloaded::Failed(error))
        }
    }
}

/// The whole of a playlist that has something to play.
fn playable(
    (base, media): (Url, Media),
    ask: Ask,
    window: &Window,
) -> Result<(Url, Media), Unloaded> {
    let failed = |detail| Err(Unloaded::Failed(invalid(detail)));
    match window.completed(media) {
        None if ask.delta => Err(Unloaded::Refused(Refusal::Unmergeable)),
        None => failed("the playlist leaves out what nobody has loaded"),
        Some(media) if media.segments.is_empty() && media.low_latency.open.is_none() => {
            failed("the playlist has no segments")
        }
        Some(media) => Ok((base, media)),
    }
}

/// Loads the configured playlist until it tells what to read.
async fn plan(session: &Session<'_>) -> (Vec<Plan>, Option<Ladder>) {
    let mut backoff = Backoff::default();
    loop {
        let loaded = session.fetcher.playlist(session.fetcher.home(), None).await;
        let planned = loaded.and_then(|(base, playlist)| match playlist {
            Playlist::Media(media) => Ok((
                vec![Plan {
                    url: session.fetcher.home().clone(),
                    referrer: None,
                    first: Some((base, media)),
                    only: None,
                    language: None,
                    kinds: Vec::new(),
                    sought: Sought::Only,
                    vanished: false,
                }],
                None,
            )),
            Playlist::Master(master) => {
                let plans = ladder::plans(session, &base, &master)?;
                Ok((plans, Some(Ladder::new(base, master))))
            }
        });
        match planned {
            Ok(planned) => return planned,
            Err(error) => session.rest(&mut backoff, &error).await,
        }
    }
}

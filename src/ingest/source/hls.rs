//! HLS: loads playlists and pins what is watched of a master: one rendition, or several as members of one stream.
//! Their segments are read by `segments`.
//!
//! A playlist that fails stops nobody else. When it fails for long, the master is loaded again, and what it lists now
//! in the place of the one that was lost is followed.

mod ladder;

use std::sync::Arc;

use detectors::base::{Cause, Kind};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::segments::{self, Loaded, Member, Session, Track, invalid};
use super::{SourceContext, SourceEnd};
use crate::ingest::convert::Converter;
use crate::ingest::fetch::{Backoff, FetchError};
use crate::transport::playlist::follow::{News, Window};
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
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let loaded = match plan.first.take() {
            Some(first) => Ok(first),
            None if plan.vanished => Err(FetchError::new(
                Cause::MissingTrack,
                "the master playlist does not list this rendition",
            )),
            None => load(session, &plan).await,
        };
        let (base, media) = match loaded.and_then(playable) {
            Ok(loaded) => loaded,
            Err(error) => {
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
        let now = began.duration_since(session.began);
        session.loaded(number, media.target, media.ended);
        let news = window.load(media, now);
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
        let stalled = window.stalled(now).then_some(Cause::PlaylistStalled);
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

async fn load(session: &Session<'_>, plan: &Plan) -> Result<(Url, Media), FetchError> {
    let loaded = session
        .fetcher
        .playlist(&plan.url, plan.referrer.as_ref())
        .await?;
    match loaded {
        (base, Playlist::Media(media)) => Ok((base, media)),
        (_, Playlist::Master(_)) => Err(invalid("a master playlist where media was expected")),
    }
}

fn playable(loaded: (Url, Media)) -> Result<(Url, Media), FetchError> {
    match loaded.1.segments.is_empty() {
        true => Err(invalid("the playlist has no segments")),
        false => Ok(loaded),
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

//! HLS: loads playlists and pins one rendition; its segments are read by `segments`.

use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Cause, Kind};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::segments::{self, Loaded, Session, Track, invalid, join};
use super::{SourceContext, SourceEnd};
use crate::ingest::convert::Converter;
use crate::ingest::fetch::{Backoff, FetchError};
use crate::transport::playlist::follow::{Ask, News, Refusal, Window, held};
use crate::transport::playlist::{Master, Media, Playlist};

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
    let mut tracks = Vec::new();
    let mut reloads = Vec::new();
    for (number, plan) in plan(&session).await.into_iter().enumerate() {
        let (tx, latest) = watch::channel(None);
        tracks.push(Track {
            only: plan.only,
            language: plan.language.clone(),
            latest,
        });
        reloads.push(reload(&session, number, plan, tx));
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
}

/// Keeps the playlist fresh until it is complete.
async fn reload(
    session: &Session<'_>,
    number: usize,
    mut plan: Plan,
    tx: watch::Sender<Option<Loaded>>,
) {
    let mut window = Window::default();
    let mut backoff = Backoff::default();
    let now = || Instant::now().duration_since(session.began);
    loop {
        let began = now();
        let ask = window.ask(began);
        let loaded = match plan.first.take() {
            Some(first) => Ok(first),
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
                session.rest(&mut backoff, &error).await;
                continue;
            }
        };
        backoff.worked();
        if number == 0 {
            session.be_patient(media.target);
        }
        let heard = match ask.until {
            Some(_) => now(),
            None => began,
        };
        let news = window.answered(ask, media, began, heard);
        if news != News::Same {
            if number == 0 {
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
        if window.stalled(heard) {
            session.tell.failed(Cause::PlaylistStalled);
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
async fn plan(session: &Session<'_>) -> Vec<Plan> {
    let mut backoff = Backoff::default();
    loop {
        let loaded = session.fetcher.playlist(session.fetcher.home(), None).await;
        let planned = loaded.and_then(|(base, playlist)| match playlist {
            Playlist::Media(media) => Ok(vec![Plan {
                url: session.fetcher.home().clone(),
                referrer: None,
                first: Some((base, media)),
                only: None,
                language: None,
            }]),
            Playlist::Master(master) => pin(session, &base, &master),
        });
        match planned {
            Ok(plans) => return plans,
            Err(error) => session.rest(&mut backoff, &error).await,
        }
    }
}

fn pin(session: &Session<'_>, base: &Url, master: &Master) -> Result<Vec<Plan>, FetchError> {
    let pick = master
        .pick(&session.cx.stream.input.rendition)
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

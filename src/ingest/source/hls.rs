//! HLS: loads playlists and pins one rendition; its segments are read by `segments`.

use std::sync::Arc;

use detectors::base::{Cause, Kind};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::segments::{self, Loaded, PlaylistNews, Session, Track, invalid, join};
use super::{SourceContext, SourceEnd};
use crate::ingest::convert::Converter;
use crate::ingest::fetch::{Backoff, FetchError};
use crate::transport::playlist::follow::{News, Window};
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
    loop {
        let began = Instant::now();
        let loaded = match plan.first.take() {
            Some(first) => Ok(first),
            None => load(session, &plan).await,
        };
        let (base, media) = match loaded.and_then(playable) {
            Ok(loaded) => loaded,
            Err(error) => {
                session.rest(&mut backoff, &error).await;
                continue;
            }
        };
        backoff.worked();
        let now = began.duration_since(session.began);
        if number == 0 {
            session.be_patient(media.target);
        }
        let took = Some(began.elapsed());
        let before = window.current();
        let news = window.load(media, now);
        let load = PlaylistNews {
            before,
            window: &window,
            news,
            began: now,
            took,
        };
        session.watch.playlist(&session.tell, number, load);
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
        if window.stalled(now) {
            session.tell.failed(Cause::PlaylistStalled);
        }
        match window.reload_at() {
            Some(at) => sleep_until(session.began + at).await,
            None => return,
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

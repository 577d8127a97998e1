//! `probe`: opens an input just long enough to tell what is in it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use detectors::base::{Cause, Fact, Format, InputEvent, Track, TrackInfo};
use serde::Serialize;
use tokio::sync::Notify;

use super::glance::glance;
use crate::config;
use crate::ingest::{Content, Intake, OwnedUnit, Pushed};

/// What was found.
#[derive(Debug, Serialize)]
pub struct Found {
    /// How it is read.
    pub protocol: &'static str,
    /// Tracks as announced, with what was decoded of them.
    pub tracks: Vec<FoundTrack>,
    /// What went wrong, if something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// In a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One track.
#[derive(Debug, Serialize)]
pub struct FoundTrack {
    /// `video:0`, `audio:1`.
    pub track: String,
    /// Codec word.
    pub codec: String,
    /// ISO 639.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The rendition, where several are watched as one stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Decoded format in words; absent when nothing was decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Why it cannot be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'static str>,
}

#[derive(Default)]
struct Seen {
    tracks: Vec<TrackInfo>,
    formats: Vec<(Track, Format)>,
    failed: Option<Cause>,
}

#[derive(Default)]
struct Watcher {
    seen: Mutex<Seen>,
    complete: Notify,
}

impl Intake for Watcher {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match unit.content {
            Content::Fact(Fact::Tracks(tracks)) => seen.tracks = tracks,
            Content::Fact(Fact::Format(format)) => {
                if let Some(track) = unit.track {
                    seen.formats.retain(|(of, _)| *of != track);
                    seen.formats.push((track, format));
                }
            }
            Content::Fact(Fact::Input(InputEvent::Failed { cause })) => seen.failed = Some(cause),
            _ => {}
        }
        let told = |info: &TrackInfo| {
            info.problem.is_some() || seen.formats.iter().any(|(track, _)| *track == info.track)
        };
        if !seen.tracks.is_empty() && seen.tracks.iter().all(told) {
            self.complete.notify_one();
        }
        Pushed::Queued
    }
}

/// Opens the stream's input until every track has been decoded or told to be undecodable, at most for `timeout`.
pub async fn probe(stream: Arc<config::Stream>, timeout: Duration) -> Found {
    let watcher = Arc::new(Watcher::default());
    let protocol = stream.input.protocol.as_str();
    let intake = Arc::clone(&watcher) as Arc<dyn Intake>;
    let end = glance(stream, intake, &watcher.complete, timeout).await;
    let seen = watcher.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let nothing = seen.formats.is_empty();
    let cause = end.as_ref().and_then(|e| e.cause).or(seen.failed);
    let unanswered = (nothing && cause.is_none()).then_some(Cause::Timeout);
    Found {
        protocol,
        tracks: seen
            .tracks
            .iter()
            .map(|info| FoundTrack {
                track: info.track.to_string(),
                codec: info.codec.clone(),
                language: info.language.clone(),
                member: info.member.clone(),
                format: seen
                    .formats
                    .iter()
                    .find(|(track, _)| *track == info.track)
                    .map(|(_, format)| format_text(format)),
                problem: info.problem.map(Cause::as_str),
            })
            .collect(),
        cause: cause
            .or(unanswered)
            .filter(|_| nothing || end.is_some())
            .map(Cause::as_str),
        detail: end.map(|e| e.detail).filter(|d| !d.is_empty()),
    }
}

impl Found {
    /// Whether something was decoded.
    pub fn is_decodable(&self) -> bool {
        self.tracks.iter().any(|t| t.format.is_some())
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("input: {}", self.protocol)];
        for track in &self.tracks {
            let language = track
                .language
                .as_ref()
                .map_or(String::new(), |l| format!(" [{l}]"));
            let member = match &track.member {
                Some(member) => format!(" {member}"),
                None => String::new(),
            };
            let rest = match (&track.format, track.problem) {
                (Some(format), _) => format.clone(),
                (None, Some(problem)) => format!("not decodable: {problem}"),
                (None, None) => "nothing decoded".to_owned(),
            };
            lines.push(format!(
                "{}{member} {}{language}: {rest}",
                track.track, track.codec
            ));
        }
        if let Some(cause) = self.cause {
            let detail = self
                .detail
                .as_ref()
                .map_or(String::new(), |d| format!(" ({d})"));
            lines.push(format!("problem: {cause}{detail}"));
        }
        lines.join("\n")
    }
}

fn format_text(format: &Format) -> String {
    match format {
        Format::Video(v) => format!(
            "{}x{}{}{}, {} bit",
            v.width,
            v.height,
            if v.interlaced { " interlaced" } else { "" },
            if v.rate_hz > 0.0 {
                format!(" at {:.3} Hz", v.rate_hz)
            } else {
                String::new()
            },
            v.bits
        ),
        Format::Audio(a) => format!("{} Hz, {} channels", a.rate_hz, a.channels),
    }
}

//! Incidents and mutes: `/api/v1/incidents`, `/api/v1/mutes`.
//!
//! What changes something takes a JSON body with that content type, so that no page of another site can send it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path as UrlPath, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit::Done;
use super::{Shared, problem};
use crate::alert::incident::Mute;
use crate::alert::incident::mute::LONGEST;
use crate::notify::desk::Desk;
use crate::notify::event::rfc3339_millis;
use crate::notify::notice::Message;

/// Incidents of the past that are given at most, and by default.
const PAST: (usize, usize) = (1000, 100);

#[derive(Deserialize)]
pub(super) struct Wanted {
    stream: Option<String>,
    open: Option<bool>,
    limit: Option<usize>,
}

pub(super) async fn incidents(
    axum::extract::State(source): Shared,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let Ok(Query(wanted)) = wanted else {
        let says = "parameters are `stream=ID`, `open=true` and `limit=NUMBER`";
        return problem(StatusCode::BAD_REQUEST, says);
    };
    let limit = wanted.limit.unwrap_or(PAST.1).min(PAST.0);
    // What is over is read from disk: not on a thread that others share.
    let found = tokio::task::spawn_blocking(move || {
        let desk = source.desk();
        // The canary's come and go all day, and are nobody's trouble.
        let of = |m: &Message| match &wanted.stream {
            Some(id) => m.stream.as_ref() == Some(id) || m.streams.contains(id),
            None => !m.is_canary(),
        };
        let mut open = desk.incidents(Timestamp::now());
        open.retain(of);
        let past: Vec<Message> = match wanted.open {
            Some(true) => Vec::new(),
            _ => {
                let all = desk.past(PAST.0).into_iter();
                all.filter(of).take(limit).collect()
            }
        };
        json!({ "open": open, "past": past })
    });
    match found.await {
        Ok(body) => Json(body).into_response(),
        Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "incidents cannot be read",
        ),
    }
}

/// An incident by its id, open or past. Reads from disk.
pub(super) fn find(desk: &Desk, id: &str) -> Option<Message> {
    let open = desk.incidents(Timestamp::now());
    let all = open.into_iter().chain(desk.past(PAST.0));
    { all }.find(|incident| incident.incident_id == id)
}

pub(super) async fn incident(
    axum::extract::State(source): Shared,
    UrlPath(id): UrlPath<String>,
) -> Response {
    let found = tokio::task::spawn_blocking(move || find(&source.desk(), &id));
    match found.await {
        Ok(Some(incident)) => Json(incident).into_response(),
        _ => problem(StatusCode::NOT_FOUND, "no such incident"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Taken {
    by: String,
}

pub(super) async fn acknowledge(
    axum::extract::State(source): Shared,
    UrlPath(id): UrlPath<String>,
    taken: Result<Json<Taken>, JsonRejection>,
) -> Response {
    let Ok(Json(taken)) = taken else {
        return problem(StatusCode::BAD_REQUEST, "the body is `{\"by\": NAME}`");
    };
    let by = taken.by.trim();
    if by.is_empty() || by.len() > 256 {
        return problem(
            StatusCode::BAD_REQUEST,
            "`by` is a name of at most 256 bytes",
        );
    }
    match source.desk().acknowledge(&id, by, Timestamp::now()) {
        true => {
            let body = json!({ "incident_id": id, "acknowledged_by": by });
            Done::Changed(body.clone()).with(Json(body))
        }
        false => problem(StatusCode::NOT_FOUND, "no incident with this id is open"),
    }
}

fn shown(mute: &Mute) -> Value {
    json!({
        "id": mute.id,
        "matchers": mute.matchers,
        "author": mute.author,
        "reason": mute.reason,
        "from": rfc3339_millis(mute.from),
        "until": rfc3339_millis(mute.until),
    })
}

pub(super) async fn mutes(axum::extract::State(source): Shared) -> Response {
    let mutes: Vec<Value> = source.desk().mutes().iter().map(shown).collect();
    Json(json!({ "mutes": mutes })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    matchers: BTreeMap<String, String>,
    author: String,
    reason: String,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    for_secs: Option<u64>,
    /// Says what it would hide, and changes nothing.
    #[serde(default)]
    preview: bool,
    /// Needed when it hides every stream.
    #[serde(default)]
    confirm: bool,
}

pub(super) async fn mute(
    axum::extract::State(source): Shared,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Response {
    let asked = match asked {
        Ok(Json(asked)) => asked,
        Err(rejected) => return problem(StatusCode::BAD_REQUEST, &rejected.body_text()),
    };
    let now = Timestamp::now();
    let from = asked.from.unwrap_or(now);
    let lasts = asked
        .for_secs
        .map(|secs| Duration::from_secs(secs.min(2 * LONGEST.as_secs())));
    let Some(until) = asked.until.or_else(|| from.checked_add(lasts?).ok()) else {
        return problem(StatusCode::BAD_REQUEST, "`until` or `for_secs` is missing");
    };
    let mute = Mute {
        id: format!("mute-{:x}{:04x}", now.as_millisecond(), fastrand::u16(..)),
        matchers: asked.matchers,
        author: asked.author,
        reason: asked.reason,
        from,
        until,
    };
    if let Err(wrong) = mute.check(now) {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, &wrong.to_string());
    }
    let desk = source.desk();
    let streams = desk.covered(&mute);
    let all = source.streams().len();
    let body = json!({
        "mute": shown(&mute),
        "streams": streams.iter().map(|id| &**id).collect::<Vec<_>>(),
        "streams_total": all,
    });
    if asked.preview {
        return Done::Looked.with(Json(body));
    }
    if streams.len() >= all && !asked.confirm {
        let says = "this would hide every stream: send `\"confirm\": true` if it is meant";
        return problem(StatusCode::CONFLICT, says);
    }
    match desk.mute(mute, now) {
        Ok(()) => {
            let detail = json!({ "mute": body["mute"], "streams": streams.len() });
            Done::Changed(detail).with((StatusCode::CREATED, Json(body)))
        }
        Err(wrong) => problem(StatusCode::UNPROCESSABLE_ENTITY, &wrong.to_string()),
    }
}

pub(super) async fn unmute(
    axum::extract::State(source): Shared,
    UrlPath(id): UrlPath<String>,
) -> Response {
    match source.desk().unmute(&id, Timestamp::now()) {
        true => {
            let detail = json!({ "mute": { "id": id, "ended": true } });
            Done::Changed(detail).with(StatusCode::NO_CONTENT)
        }
        false => problem(StatusCode::NOT_FOUND, "no such mute"),
    }
}

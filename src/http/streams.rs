//! Streams that are added, changed and removed at run time: `PUT` and `DELETE` of `/api/v1/streams/{id}`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path as UrlPath;
use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::audit::Done;
use super::{Shared, problem};
use crate::config::Problems;
use crate::config::added::{Entry, EntryError};

/// What became of a stream that was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// It is new; the effective stream, secrets masked.
    Added(Value),
    /// It was there.
    Changed(Value),
}

/// Why a stream is not added, changed or removed. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Only the file can.
    #[error("the configuration file names this stream: change it there")]
    OfFile,
    /// Only another instance can.
    #[error("another shard watches this stream: the part {owner} of {count}")]
    Elsewhere {
        /// Index of that shard.
        owner: u32,
        /// How many there are.
        count: u32,
    },
    /// There is none.
    #[error("no such stream")]
    Unknown,
    /// What is asked for is wrong, or would make others wrong.
    #[error("streams would be wrong")]
    Wrong(Problems),
    /// There are too many.
    #[error("the streams of the API take more than {0} bytes")]
    Full(usize),
    /// The disk does not work, or another change takes long; trying again may help.
    #[error("{0}")]
    NotNow(String),
}

impl Refusal {
    fn answer(&self) -> Response {
        let status = match self {
            Self::OfFile | Self::Elsewhere { .. } | Self::Full(_) => StatusCode::CONFLICT,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Wrong(problems) => return wrong(problems),
            Self::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, &self.to_string())
    }
}

/// All mistakes at once, each where it stands.
fn wrong(problems: &Problems) -> Response {
    let list: Vec<Value> = (problems.0.iter())
        .map(|p| json!({ "path": p.path, "message": p.message, "hint": p.hint }))
        .collect();
    let body = json!({
        "status": 422,
        "error": Refusal::Wrong(problems.clone()).to_string(),
        "problems": list,
    });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

pub(super) async fn put(
    axum::extract::State(source): Shared,
    UrlPath(id): UrlPath<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejected) => return problem(rejected.status(), &rejected.body_text()),
    };
    // No page of another site can send this kind.
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        let says = "the body is JSON, with that content type: an item of the file's `streams:`";
        return problem(StatusCode::BAD_REQUEST, says);
    }
    let Ok(text) = std::str::from_utf8(&body) else {
        return problem(StatusCode::BAD_REQUEST, "the body is not UTF-8");
    };
    let entry = match Entry::parse(&id, text) {
        Ok(entry) => entry,
        Err(EntryError::Wrong(problems)) => return wrong(&problems),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let (status, what, stream) = match source.put_stream(entry).await {
        Ok(Put::Added(stream)) => (StatusCode::CREATED, "added", stream),
        Ok(Put::Changed(stream)) => (StatusCode::OK, "changed", stream),
        Err(refusal) => return refusal.answer(),
    };
    let detail = json!({ "stream": id, what: { "url": stream["url"] } });
    Done::Changed(detail).with((status, Json(json!({ "origin": "api", "stream": stream }))))
}

pub(super) async fn remove(
    axum::extract::State(source): Shared,
    UrlPath(id): UrlPath<String>,
) -> Response {
    match source.remove_stream(id.clone()).await {
        Ok(()) => {
            let detail = json!({ "stream": id, "removed": true });
            Done::Changed(detail).with(StatusCode::NO_CONTENT)
        }
        Err(refusal) => refusal.answer(),
    }
}

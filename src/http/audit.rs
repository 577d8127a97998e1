//! Who changed what: `/api/v1/audit`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Shared, Source, problem};
use crate::notify::desk::Desk;
use crate::notify::event::rfc3339_millis;
use crate::notify::store::ReadError;

/// Entries that are given at most, and by default.
const ENTRIES: (usize, usize) = (1000, 100);

/// A call that changed something, or was refused.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    /// UTC.
    pub at: String,
    /// Name of the token, `http.token`, or `local` where none is asked for.
    pub by: String,
    /// Address.
    pub from: IpAddr,
    /// Method and path.
    pub call: String,
    /// Answer.
    pub status: u16,
    /// What it changed.
    pub detail: Value,
}

/// What a handler leaves for the log, with its answer.
#[derive(Clone)]
pub(super) enum Done {
    /// It changed this.
    Changed(Value),
    /// It only looked.
    Looked,
}

impl Done {
    /// An answer with what was changed.
    pub(super) fn with(self, answer: impl IntoResponse) -> Response {
        let mut answer = answer.into_response();
        answer.extensions_mut().insert(self);
        answer
    }
}

/// Writes an entry down, and into the log.
pub(super) fn write(source: &dyn Source, entry: &Entry, now: Timestamp) {
    tracing::warn!(by = %entry.by, from = %entry.from, call = %entry.call, status = entry.status,
        detail = %entry.detail, "the API was asked to change something");
    source.desk().put_audit(&json!(entry), now);
}

impl Entry {
    /// One of now.
    pub(super) fn new(by: &str, from: IpAddr, call: String, now: Timestamp) -> Self {
        Self {
            at: rfc3339_millis(now),
            by: by.to_owned(),
            from,
            call,
            status: 0,
            detail: Value::Null,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    limit: Option<usize>,
}

/// The parameter of a list of what was written down, if it is right.
pub(super) type Asked = Result<Query<Wanted>, QueryRejection>;

/// Newest entries of something that is written down. Reads from disk.
pub(super) type Read = fn(&Desk, usize) -> Result<Vec<Value>, ReadError>;

pub(super) async fn list(axum::extract::State(source): Shared, asked: Asked) -> Response {
    newest(source, asked, Desk::audit).await
}

/// Lists what was written down.
pub(super) async fn newest(source: Arc<dyn Source>, asked: Asked, read: Read) -> Response {
    let Ok(Query(wanted)) = asked else {
        return problem(StatusCode::BAD_REQUEST, "the parameter is `limit=NUMBER`");
    };
    let limit = wanted.limit.unwrap_or(ENTRIES.1).min(ENTRIES.0);
    let found = tokio::task::spawn_blocking(move || read(&source.desk(), limit));
    match found.await {
        Ok(Ok(entries)) => Json(json!({ "entries": entries })).into_response(),
        _ => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "what was written down cannot be read",
        ),
    }
}

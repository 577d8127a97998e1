//! Who changed what: `/api/v1/audit`.

use std::net::IpAddr;

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Shared, Source, problem};
use crate::notify::event::rfc3339_millis;

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

pub(super) async fn list(
    axum::extract::State(source): Shared,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let Ok(Query(wanted)) = wanted else {
        return problem(StatusCode::BAD_REQUEST, "the parameter is `limit=NUMBER`");
    };
    let limit = wanted.limit.unwrap_or(ENTRIES.1).min(ENTRIES.0);
    let found = tokio::task::spawn_blocking(move || source.desk().audit(limit));
    match found.await {
        Ok(Ok(entries)) => Json(json!({ "entries": entries })).into_response(),
        _ => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the audit log cannot be read",
        ),
    }
}

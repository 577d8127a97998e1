//! What people say of alerts: `/api/v1/feedback`. It is kept with the incident's figures and beside its evidence, so that
//! limits can be tried on it later (`glasswatch replay`).

use std::path::Path;
use std::time::Duration;

use axum::Json;
use axum::extract::Path as UrlPath;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::audit::{Asked, Done, newest};
use super::incidents::find;
use super::{Shared, problem};
use crate::notify::desk::Desk;
use crate::notify::event::{clean, rfc3339_millis};

/// Longest wait for the disk; below that for any answer, so that this one is given.
const KEPT: Duration = Duration::from_secs(5);

/// What somebody thinks of an alert.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// Nothing was wrong.
    FalseAlarm,
    /// Something was.
    Right,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    by: String,
    verdict: Verdict,
    #[serde(default)]
    note: String,
}

pub(super) async fn put(
    axum::extract::State(source): Shared,
    UrlPath(id): UrlPath<String>,
    said: Result<Json<Said>, JsonRejection>,
) -> Response {
    let Ok(Json(said)) = said else {
        let says = "the body is `{\"by\": NAME, \"verdict\": \"false_alarm\" or \"right\", \"note\": TEXT}`";
        return problem(StatusCode::BAD_REQUEST, says);
    };
    let by = said.by.trim().to_owned();
    if by.is_empty() || by.len() > 256 || said.note.len() > 2000 {
        let says = "`by` is a name of at most 256 bytes, `note` a text of at most 2000";
        return problem(StatusCode::BAD_REQUEST, says);
    }
    let kept = tokio::task::spawn_blocking(move || {
        let desk = source.desk();
        let incident = find(&desk, &id)?;
        let now = Timestamp::now();
        let entry = json!({
            "at": rfc3339_millis(now),
            "by": clean(&by),
            "verdict": said.verdict,
            "note": said.note.trim(),
            "incident": incident,
        });
        let kept = desk.put_feedback(&id, &entry, now);
        if let Some(folder) = source.evidence().folder {
            let sets = incident.defects.iter().flat_map(|defect| &defect.evidence);
            for set in sets.filter_map(|set| set.strip_prefix("evidence/")) {
                beside(&folder.join(set), &entry);
            }
        }
        Some((entry, kept))
    });
    let (entry, kept) = match kept.await {
        Ok(Some(both)) => both,
        Ok(None) => return problem(StatusCode::NOT_FOUND, "no such incident"),
        Err(_) => return problem(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be kept"),
    };
    match tokio::time::timeout(KEPT, kept).await {
        Ok(Ok(_)) => {
            let detail = json!({ "incident_id": entry["incident"]["incident_id"], "verdict": entry["verdict"] });
            Done::Changed(detail).with((StatusCode::CREATED, Json(entry)))
        }
        Ok(Err(_)) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "it cannot be kept: say it again later",
        ),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the disk takes too long: say it again later",
        ),
    }
}

/// The set may be gone by now: then only the store has it.
fn beside(set: &Path, entry: &Value) {
    if set.is_dir()
        && let Err(error) = std::fs::write(set.join("feedback.json"), entry.to_string())
    {
        tracing::warn!(%error, "feedback cannot be kept beside its evidence");
    }
}

pub(super) async fn list(axum::extract::State(source): Shared, asked: Asked) -> Response {
    newest(source, asked, Desk::feedback).await
}

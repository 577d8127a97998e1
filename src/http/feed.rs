//! Server-sent events: `/api/v1/events`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{StreamExt, once, unfold};
use tokio::sync::{Semaphore, watch};

use super::{Shared, problem};

/// Clients at a time.
const CLIENTS: usize = 64;

/// A word so often, so that both sides know that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What all clients share.
#[derive(Clone)]
pub(super) struct Feed {
    room: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Feed {
    /// Ends when `stop` changes.
    pub(super) fn new(stop: watch::Receiver<bool>) -> Self {
        Self {
            room: Arc::new(Semaphore::new(CLIENTS)),
            stop,
        }
    }
}

/// Every change of an incident as it happens. Who is too slow loses the connection, and asks anew.
pub(super) async fn events(
    axum::extract::State(source): Shared,
    Extension(feed): Extension<Feed>,
) -> Response {
    let Ok(permit) = Arc::clone(&feed.room).try_acquire_owned() else {
        let says = "too many clients listen already";
        let refusal = problem(StatusCode::SERVICE_UNAVAILABLE, says);
        return ([(RETRY_AFTER, "30")], refusal).into_response();
    };
    let listener = source.desk().listen();
    let greeting = once(async { Ok::<_, Infallible>(Event::default().comment("listening")) });
    let news = unfold(
        (listener, feed.stop, permit),
        async |(mut listener, mut stop, permit)| {
            let message = tokio::select! {
                _ = stop.changed() => return None,
                message = listener.recv() => message.ok()?,
            };
            let event = Event::default().event("incident").json_data(&*message);
            Some((Ok(event.ok()?), (listener, stop, permit)))
        },
    );
    Sse::new(greeting.chain(news))
        .keep_alive(KeepAlive::new().interval(HEARTBEAT))
        .into_response()
}

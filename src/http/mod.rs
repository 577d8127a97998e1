//! HTTP API, metrics, health, and the page.
//!
//! `routes` has every route; `/api/v1/openapi.json` describes them. With a token set, everything but the page's own files,
//! `/healthz` and `/readyz` asks for `Authorization: Bearer …`, and what changes something for one of a scope that may;
//! evidence also opens by a signed link.
//! Without one, only loopback addresses are served. What changes something is limited, and written down (`audit`).

mod audit;
mod evidence;
mod feed;
mod feedback;
mod guard;
mod incidents;
mod limit;
mod openapi;
mod page;
mod routes;
mod streams;
mod view;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::{Extension, Router, serve};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use streams::{Put, Refusal};

use crate::compare::wire;
use crate::config::added::Entry;
use crate::config::{Http, Scope};
use crate::ingest::clock;
use crate::notify::NotifyStats;
use crate::notify::desk::Desk;
use crate::notify::event::{Epoch, Event};
use crate::notify::ledger::Ledger;
use crate::notify::links::Links;
use crate::telemetry::export::{self, Engine, EvidenceCounts, Snapshot, Watched};
use crate::telemetry::process::Process;

/// Longest request body; that of a stream is the largest.
const BODY_BYTES: usize = 16 << 10;

/// Where the answers come from. Called for each request: must be quick and must not wait.
pub trait Source: Send + Sync + 'static {
    /// Name of this process.
    fn instance(&self) -> String;
    /// Every stream, with its input counters.
    fn streams(&self) -> Vec<Watched>;
    /// Health of the process.
    fn engine(&self) -> Engine;
    /// Counters of receivers.
    fn notify(&self) -> NotifyStats;
    /// Open defects and recent events.
    fn ledger(&self) -> Arc<Ledger>;
    /// Incidents and mutes.
    fn desk(&self) -> Arc<Desk>;
    /// Stills: where they are, and counters.
    fn evidence(&self) -> EvidenceCounts;
    /// What signed links are checked by, where there are any.
    fn links(&self) -> Option<Arc<Links>>;
    /// Arrival clock to UTC.
    fn epoch(&self) -> Epoch;
    /// Prints of a stream since a place, as [`wire`] writes them; `None` when there is no such stream.
    fn prints(&self, stream: &str, since: Option<wire::Place>) -> Option<Vec<u8>>;
    /// Ids of the streams that the API added; all others are the file's.
    fn added(&self) -> Arc<BTreeSet<Arc<str>>>;
    /// Adds a stream, or changes one that was added so. It is on disk and watched before the answer.
    fn put_stream(self: Arc<Self>, entry: Entry) -> BoxFuture<'static, Result<Put, Refusal>>;
    /// Removes a stream that was added so; its incidents end.
    fn remove_stream(self: Arc<Self>, id: String) -> BoxFuture<'static, Result<(), Refusal>>;
}

/// Everything a scrape tells.
pub fn snapshot(source: &dyn Source) -> Snapshot {
    Snapshot {
        streams: source.streams(),
        engine: source.engine(),
        notify: source.notify(),
        tallies: source.ledger().tallies(),
        evidence: source.evidence(),
        process: Process::read(),
        epoch: source.epoch(),
        now: clock::now(),
    }
}

/// Why the server could not start. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// An open door.
    #[error(
        "`http.listen` is {0}, which is not a loopback address: set `http.token` or `http.tokens`"
    )]
    TokenNeeded(SocketAddr),
    /// Address in use or not ours.
    #[error("cannot listen on {address}: {problem}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        problem: io::Error,
    },
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens; tells the port when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what is being asked, at most for `grace`, and ends.
    pub async fn stop(mut self, grace: Duration) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Starts the server; `None` when the configuration wants none.
pub async fn start(config: &Http, source: Arc<dyn Source>) -> Result<Option<Server>, HttpError> {
    let Some(listen) = config.listen else {
        return Ok(None);
    };
    if !config.asks_for_a_token() && !listen.ip().is_loopback() {
        return Err(HttpError::TokenNeeded(listen));
    }
    let problem = |problem| HttpError::Listen {
        address: listen,
        problem,
    };
    let listener = TcpListener::bind(listen).await.map_err(problem)?;
    let address = listener.local_addr().map_err(problem)?;
    let (stop, mut stopped) = watch::channel(false);
    let app = router(config, source, feed::Feed::new(stopped.clone()))
        .into_make_service_with_connect_info::<guard::Peer>();
    let task = tokio::spawn(async move {
        let until = async move {
            // An error means that the server's handle is gone: stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let gate = guard::Gate::new(listener);
        if let Err(error) = serve(gate, app).with_graceful_shutdown(until).await {
            tracing::error!(kind = %error.kind(), "the HTTP server ended");
        }
    });
    Ok(Some(Server {
        address,
        stop,
        task,
    }))
}

fn router(config: &Http, source: Arc<dyn Source>, feed: feed::Feed) -> Router {
    let limiter = Arc::new(Mutex::default());
    let tokens = guard::Tokens::new(config);
    let (mut open, mut closed) = (Router::new(), Router::new());
    for route in routes::ALL {
        let handler = (route.handler)();
        match route.needs {
            None => open = open.route(route.path, handler),
            // Has its own door, beside the one for all.
            Some(Scope::Read) if route.path == evidence::ROUTE => {
                let door = from_fn_with_state(tokens.clone(), guard::token_or_link);
                open = open.route(route.path, handler.route_layer(door));
            }
            Some(Scope::Read) => closed = closed.route(route.path, handler),
            Some(needs) => {
                let door = guard::Door {
                    needs,
                    limiter: Arc::clone(&limiter),
                    source: Arc::clone(&source),
                };
                let handler = handler.route_layer(from_fn_with_state(door, guard::change));
                closed = closed.route(route.path, handler);
            }
        }
    }
    let closed = closed
        .fallback(async || problem(StatusCode::NOT_FOUND, "no such page"))
        .layer(Extension(feed))
        .layer(from_fn_with_state(tokens, guard::authenticate));
    open.merge(closed)
        .method_not_allowed_fallback(async || {
            problem(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn(guard::protect))
        .with_state(source)
}

type Shared = State<Arc<dyn Source>>;

/// An error as JSON.
fn problem(status: StatusCode, what: &str) -> Response {
    let body = json!({ "status": status.as_u16(), "error": what });
    (status, Json(body)).into_response()
}

async fn ready(State(source): Shared) -> Response {
    match source.engine().unready() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(source): Shared) -> Response {
    // A page of many streams takes milliseconds: not on a thread that others share.
    let page = tokio::task::spawn_blocking(move || export::render(&snapshot(&*source)));
    match page.await {
        Ok(Ok(text)) => {
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        _ => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics cannot be written",
        ),
    }
}

async fn version() -> Response {
    let (a, b, c, _) = gstreamer::version();
    Json(json!({
        "name": "glasswatch",
        "version": env!("CARGO_PKG_VERSION"),
        "gstreamer": format!("{a}.{b}.{c}"),
        "event_schema_version": crate::notify::event::SCHEMA_VERSION,
    }))
    .into_response()
}

async fn plain(State(source): Shared) -> Html<String> {
    Html(page::plain(
        &source.instance(),
        &source.streams(),
        source.epoch(),
    ))
}

async fn streams(State(source): Shared) -> Response {
    let all = source.streams();
    let epoch = source.epoch();
    let added = source.added();
    let list: Vec<_> = (all.iter())
        .map(|(status, _)| view::brief(status, &added, epoch))
        .collect();
    Json(json!({
        "instance": source.instance(),
        "unready": source.engine().unready(),
        "streams": list,
    }))
    .into_response()
}

async fn stream(State(source): Shared, UrlPath(id): UrlPath<String>) -> Response {
    let all = source.streams();
    match all.iter().find(|(status, _)| *status.stream.id == *id) {
        Some(watched) => {
            let open = source.ledger().open();
            let defects: Vec<_> = open.iter().filter(|e| *e.stream == *id).collect();
            let full = view::full(watched, &source.added(), source.epoch());
            Json(json!({ "stream": full, "defects": as_refs(&defects) })).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "no such stream"),
    }
}

#[derive(Deserialize)]
struct Since {
    run: Option<u64>,
    next: Option<u64>,
}

async fn prints(
    State(source): Shared,
    UrlPath(id): UrlPath<String>,
    since: Result<Query<Since>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(since)) = since else {
        return problem(
            StatusCode::BAD_REQUEST,
            "parameters are `run=NUMBER` and `next=NUMBER`",
        );
    };
    let since = since.run.zip(since.next);
    let since = since.map(|(run, next)| wire::Place { run, next });
    match source.prints(&id, since) {
        Some(bytes) => {
            let kind = HeaderValue::from_static("application/octet-stream");
            ([(CONTENT_TYPE, kind)], bytes).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "no such stream"),
    }
}

/// `Arc`s as the events in them, for serialising.
fn as_refs<'a>(events: &[&'a Arc<Event>]) -> Vec<&'a Event> {
    events.iter().map(|e| &***e).collect()
}

#[derive(Deserialize)]
struct Filter {
    stream: Option<String>,
    open: Option<bool>,
}

async fn defects(
    State(source): Shared,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(filter)) = filter else {
        return problem(
            StatusCode::BAD_REQUEST,
            "parameters are `stream=ID` and `open=true`",
        );
    };
    let ledger = source.ledger();
    let wanted = |e: &&Arc<Event>| filter.stream.as_deref().is_none_or(|id| *e.stream == *id);
    let (open, recent) = (ledger.open(), ledger.recent());
    let open: Vec<_> = open.iter().filter(wanted).collect();
    let mut body = json!({ "open": as_refs(&open) });
    if filter.open != Some(true) {
        let recent: Vec<_> = recent.iter().filter(wanted).collect();
        body["recent"] = json!(as_refs(&recent));
    }
    Json(body).into_response()
}

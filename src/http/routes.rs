//! Every route, once: the router is built from this table, and the OpenAPI document describes it.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post, put};

use super::{Source, audit, evidence, feed, feedback, incidents, openapi, page, streams};
use crate::config::Scope;

/// One method of one path.
pub(super) struct Route {
    /// As OpenAPI writes it.
    pub method: &'static str,
    /// As both axum and OpenAPI write it, but for `{*path}`.
    pub path: &'static str,
    /// Scope of the token; `None`: open to everybody.
    pub needs: Option<Scope>,
    /// One sentence.
    pub says: &'static str,
    /// Query parameters: name, type, meaning.
    pub query: &'static [(&'static str, &'static str, &'static str)],
    /// Name of the body's schema.
    pub body: Option<&'static str>,
    /// What is answered when all is well.
    pub gives: (u16, Gives),
    /// Other answers that are errors.
    pub refuses: &'static [u16],
    /// Answers it.
    pub handler: fn() -> MethodRouter<Arc<dyn Source>>,
}

/// A body.
pub(super) enum Gives {
    /// JSON of a schema by name.
    Json(&'static str),
    /// Something of a media type.
    Media(&'static str),
    /// No body.
    Nothing,
}

use Gives::{Json, Media, Nothing};

const fn open(path: &'static str, gives: Gives, says: &'static str) -> Route {
    Route {
        method: "get",
        path,
        needs: None,
        says,
        query: &[],
        body: None,
        gives: (200, gives),
        refuses: &[],
        handler: || get(page::file),
    }
}

const fn read(path: &'static str, gives: Gives, says: &'static str) -> Route {
    Route {
        needs: Some(Scope::Read),
        ..open(path, gives, says)
    }
}

const LIMIT: (&str, &str, &str) = (
    "limit",
    "integer",
    "At most so many of the past; at most 1000.",
);
const STREAM: (&str, &str, &str) = ("stream", "string", "Only what is about this stream.");

/// The table.
pub(super) const ALL: &[Route] = &[
    open(
        "/",
        Media("text/html"),
        "The page. It holds no data: it asks this API.",
    ),
    open("/page/page.css", Media("text/css"), "Looks of the page."),
    open(
        "/page/page.js",
        Media("text/javascript"),
        "Script of the page.",
    ),
    open(
        "/page/icon.svg",
        Media("image/svg+xml"),
        "Icon of the page.",
    ),
    Route {
        handler: || get(async || "alive\n"),
        ..open(
            "/healthz",
            Media("text/plain"),
            "The process is alive; never depends on streams.",
        )
    },
    Route {
        refuses: &[503],
        handler: || get(super::ready),
        ..open(
            "/readyz",
            Media("text/plain"),
            "Configuration loaded, not draining, few pipelines wedged.",
        )
    },
    Route {
        handler: || get(super::plain),
        ..read(
            "/plain",
            Media("text/html"),
            "A plain table of the streams, without scripts.",
        )
    },
    Route {
        handler: || get(super::metrics),
        ..read("/metrics", Media("text/plain"), "Prometheus metrics.")
    },
    Route {
        handler: || get(super::version),
        ..read("/version", Json("Version"), "Versions.")
    },
    Route {
        handler: || get(openapi::document),
        ..read("/api/v1/openapi.json", Json("Document"), "This document.")
    },
    Route {
        handler: || get(super::streams),
        ..read("/api/v1/streams", Json("Streams"), "All streams in brief.")
    },
    Route {
        refuses: &[404],
        handler: || get(super::stream),
        ..read(
            "/api/v1/streams/{id}",
            Json("Stream"),
            "One stream in full, with its open defects.",
        )
    },
    Route {
        method: "put",
        needs: Some(Scope::Admin),
        body: Some("StreamEntry"),
        gives: (200, Json("StreamEffective")),
        refuses: &[400, 403, 409, 413, 422, 429, 503],
        handler: || put(streams::put),
        ..read(
            "/api/v1/streams/{id}",
            Nothing,
            "Adds a stream, which answers 201, or changes one that was added so. It is on disk before the answer.",
        )
    },
    Route {
        method: "delete",
        needs: Some(Scope::Admin),
        gives: (204, Nothing),
        refuses: &[403, 404, 409, 422, 429, 503],
        handler: || delete(streams::remove),
        ..read(
            "/api/v1/streams/{id}",
            Nothing,
            "Removes a stream that the API added; its incidents end.",
        )
    },
    Route {
        query: &[
            ("run", "integer", "Where the last answer ended."),
            ("next", "integer", "Where the last answer ended."),
        ],
        refuses: &[400, 404],
        handler: || get(super::prints),
        ..read(
            "/api/v1/streams/{id}/prints",
            Media("application/octet-stream"),
            "For another instance that compares: what is kept of pictures and sound.",
        )
    },
    Route {
        query: &[STREAM, ("open", "boolean", "Only what is open.")],
        refuses: &[400],
        handler: || get(super::defects),
        ..read(
            "/api/v1/defects",
            Json("Defects"),
            "Open defects and recent events, see docs/events.md.",
        )
    },
    Route {
        query: &[STREAM, ("open", "boolean", "Only what is open."), LIMIT],
        refuses: &[400],
        handler: || get(incidents::incidents),
        ..read(
            "/api/v1/incidents",
            Json("Incidents"),
            "Open incidents, worst first, and past ones, newest first.",
        )
    },
    Route {
        refuses: &[404],
        handler: || get(incidents::incident),
        ..read("/api/v1/incidents/{id}", Json("Message"), "One incident.")
    },
    Route {
        method: "post",
        needs: Some(Scope::Operate),
        body: Some("Taken"),
        refuses: &[400, 403, 404, 429],
        handler: || post(incidents::acknowledge),
        ..read(
            "/api/v1/incidents/{id}/acknowledge",
            Json("Acknowledged"),
            "Somebody takes an incident on.",
        )
    },
    Route {
        method: "post",
        needs: Some(Scope::Operate),
        body: Some("Verdict"),
        gives: (201, Json("Feedback")),
        refuses: &[400, 403, 404, 429, 503],
        handler: || post(feedback::put),
        ..read(
            "/api/v1/incidents/{id}/feedback",
            Nothing,
            "Somebody says whether an alert was right; kept beside its evidence.",
        )
    },
    Route {
        query: &[LIMIT],
        refuses: &[400],
        handler: || get(feedback::list),
        ..read(
            "/api/v1/feedback",
            Json("FeedbackList"),
            "What people said of alerts, newest first.",
        )
    },
    Route {
        handler: || get(incidents::mutes),
        ..read("/api/v1/mutes", Json("Mutes"), "Mutes that are not over.")
    },
    Route {
        method: "post",
        needs: Some(Scope::Operate),
        body: Some("MuteRequest"),
        gives: (201, Json("MuteSet")),
        refuses: &[400, 403, 409, 422, 429],
        handler: || post(incidents::mute),
        ..read(
            "/api/v1/mutes",
            Nothing,
            "Sets a mute. A preview answers 200 and changes nothing.",
        )
    },
    Route {
        method: "delete",
        needs: Some(Scope::Operate),
        gives: (204, Nothing),
        refuses: &[403, 404, 429],
        handler: || delete(incidents::unmute),
        ..read("/api/v1/mutes/{id}", Nothing, "Ends a mute early.")
    },
    Route {
        refuses: &[503],
        handler: || get(feed::events),
        ..read(
            "/api/v1/events",
            Media("text/event-stream"),
            "Server-sent events: `incident`, with a Message as data, for every change; a comment every 15 s. A \
             client that is too slow loses the connection.",
        )
    },
    Route {
        query: &[LIMIT],
        refuses: &[400],
        handler: || get(audit::list),
        ..read(
            "/api/v1/audit",
            Json("Audit"),
            "Who changed what, newest first.",
        )
    },
    Route {
        query: &[
            ("expires", "integer", "Of a link that receivers were sent."),
            ("sig", "string", "Of a link: no token is needed with it."),
        ],
        refuses: &[403, 404],
        handler: || get(evidence::serve),
        ..read(
            evidence::ROUTE,
            Json("EvidenceSet"),
            "A file of a set of evidence; of a set its page, or with `accept: application/json` the names of its files.",
        )
    },
];

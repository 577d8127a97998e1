//! Receivers: a contract that every kind keeps, and one small server per kind that enforces the real one's rules. All
//! on loopback, with time passed in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod alertmanager;
mod contract;
mod pagerduty;
mod slack;
#[cfg(feature = "aws")]
mod sns;
mod webhook;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glasswatch::config::Secret;
use glasswatch::notify::notice::Message;
use glasswatch::notify::receiver::http::{HttpOptions, any_address};
use glasswatch::notify::receiver::{Digest, Limit, Receiver};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Part of every secret, so that it is found wherever one shows.
pub const SECRET: &str = "s3cret";

/// The servers' clock: stands still until a test moves it.
#[derive(Clone)]
pub struct Clock(Arc<Mutex<Timestamp>>);

impl Clock {
    pub fn at_noon() -> Self {
        Self(Arc::new(Mutex::new(
            "2026-03-01T12:00:00Z".parse().unwrap(),
        )))
    }

    pub fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now
            .checked_add(SignedDuration::try_from(by).unwrap())
            .unwrap();
    }
}

/// Sends as fast as a limit allows: moves the clock when the bucket is empty.
pub struct Pacer {
    clock: Clock,
    limit: Limit,
    tokens: f64,
}

impl Pacer {
    pub fn new(limit: Limit, clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            limit,
            tokens: f64::from(limit.burst),
        }
    }

    pub fn take(&mut self) {
        let per_second = f64::from(self.limit.per_minute) / 60.0;
        if self.tokens < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.tokens) / per_second);
            self.clock.advance(wait);
            self.tokens = 1.0;
        }
        self.tokens -= 1.0;
    }
}

/// Serves on loopback until the test ends.
pub async fn serve(app: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

pub fn http() -> HttpOptions {
    HttpOptions {
        timeout: Duration::from_secs(60),
        ..HttpOptions::new(any_address())
    }
}

pub fn secret(text: impl Into<String>) -> Secret {
    Secret::new(text)
}

/// An incident's message, with fields of `but` in place of the usual ones.
pub fn message(but: Value) -> Message {
    let mut fields = json!({
        "schema_version": 1,
        "message_id": "0123abcd-5-1",
        "news": "raised",
        "incident_id": "0123abcd-5",
        "key": "0123abcd",
        "incarnation": 5,
        "sequence": 1,
        "state": "open",
        "severity": "critical",
        "tier": "page",
        "topic": "av_offset",
        "stream": "news1",
        "name": "News 1",
        "labels": {"name": "News 1", "data-center": "west", "severity": "gold"},
        "cause": "late_sound",
        "title": "News 1: the sound is late.",
        "text": "There is no sound either.",
        "instance": "watch 1",
        "quiet": null,
        "quiet_by": null,
        "flapping": false,
        "escalated": false,
        "overran": false,
        "unknown": false,
        "times": 1,
        "streams": [],
        "streams_bad": 0,
        "streams_total": 0,
        "whole_instance": false,
        "acknowledged_by": null,
        "opened": "2026-03-01T11:59:00.000Z",
        "resolved": null,
        "at": "2026-03-01T12:00:00.000Z",
        "defects": [defect("The sound is late.")],
    });
    for (name, value) in but.as_object().unwrap() {
        fields[name] = value.clone();
    }
    serde_json::from_value(fields).unwrap()
}

pub fn resolved() -> Message {
    message(json!({
        "message_id": "0123abcd-5-2",
        "news": "resolved",
        "state": "resolved",
        "sequence": 2,
        "resolved": "2026-03-01T12:01:00.000Z",
        "at": "2026-03-01T12:01:00.000Z",
        "title": "News 1: over: the sound is late.",
    }))
}

pub fn defect(says: &str) -> Value {
    json!({
        "defect_id": "d1", "detector": "av_offset", "rule": "late", "severity": "critical", "cause": "late_sound",
        "place": null, "track": "audio:0", "member": null, "value": 120.0, "limit": 80.0, "unit": "milliseconds",
        "says": says, "start": "2026-03-01T11:59:00.000Z", "end": null, "evidence": ["evidence/1"],
    })
}

/// What a link to evidence looks like.
pub const LINK: &str =
    "https://watch.example:9464/api/v1/evidence/news1/set?expires=1772970000&sig=Abc-_1";

pub fn linked(says: &str, links: &[&str]) -> Value {
    let mut defect = defect(says);
    defect["links"] = json!(links);
    defect
}

/// As hostile and as large as can be.
pub fn monster() -> Message {
    let nasty =
        "<!channel> <@U1> @all ]]> & \"quoted\" \\ \u{1}\u{1b}[31m\r\n\u{202e} ü 🦀 ' {{7*7}} ";
    let long = nasty.repeat(500);
    let labels: serde_json::Map<String, Value> = (0..10_000)
        .map(|i| (format!("{i}{nasty}"), json!(nasty)))
        .collect();
    message(json!({
        "stream": long, "name": long, "labels": labels, "cause": long, "title": long, "text": long,
        "instance": long, "topic": long, "acknowledged_by": long, "tier": long,
        "quiet": long, "quiet_by": long,
        "streams": vec![long.clone(); 1000],
        "defects": (0..200).map(|_| linked(&long, &[&long, LINK, "https://a.example/<!channel>|x", LINK])).collect::<Vec<_>>(),
    }))
}

pub fn digest(incidents: usize) -> Digest {
    Digest {
        instance: "watch 1".into(),
        from: "2026-03-01T10:00:00.000Z".into(),
        until: "2026-03-01T11:00:00.000Z".into(),
        titles: (0..incidents)
            .map(|i| {
                format!("News {i}: <!channel> \"the sound\" is late, and has been so for long.")
            })
            .collect(),
        id: "digest-1".into(),
    }
}

pub fn rendered(receiver: &dyn Receiver, message: &Message) -> String {
    receiver.render(message).unwrap()
}

pub fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

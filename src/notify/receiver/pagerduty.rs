//! PagerDuty, Events API v2: an alert per incident.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::http::{Http, HttpOptions, Reply, ask};
use super::{
    Digest, Limit, Outcome, Receiver, ReceiverError, Sent, fitted, in_words, is_told, json, links,
};
use crate::config::Secret;
use crate::config::template::Words;
use crate::notify::event::{clean, clean_to};
use crate::notify::notice::Message;
use crate::telemetry::log::redact;

/// Where events go outside the EU's region.
pub const ENDPOINT: &str = "https://events.pagerduty.com/v2/enqueue";

/// PagerDuty takes 512 KB; this is as much as anybody reads.
const DETAILS_BYTES: usize = 64_000;
/// PagerDuty's limit of `summary`, in characters; counted in bytes here.
const SUMMARY_BYTES: usize = 1024;
/// PagerDuty's limit of `dedup_key`, in characters; ids are far shorter.
const DEDUP_KEY_BYTES: usize = 255;

/// Which service to call.
#[derive(Debug, Clone)]
pub struct Options {
    /// Integration key of the service.
    pub routing_key: Secret,
    /// [`ENDPOINT`], unless it is another region's.
    pub endpoint: Secret,
    /// How it is called.
    pub http: HttpOptions,
}

/// A PagerDuty service.
pub struct PagerDuty {
    http: Http,
    url: Url,
    routing_key: Secret,
}

impl PagerDuty {
    /// Checks endpoint and key, and builds the client.
    pub fn new(options: &Options) -> Result<Self, ReceiverError> {
        let key = options.routing_key.expose();
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if key.is_empty() || !key.bytes().all(fits) {
            return Err(ReceiverError::RoutingKey);
        }
        let http = Http::new(&options.http)?;
        Ok(Self {
            url: http.endpoint(&options.endpoint)?,
            routing_key: options.routing_key.clone(),
            http,
        })
    }

    async fn post(&self, body: &str, now: Timestamp) -> Outcome {
        let Ok(Value::Object(mut event)) = serde_json::from_str(body) else {
            return Outcome::Dead { status: 0 };
        };
        // Not earlier: bodies are kept on disk.
        let key = self.routing_key.expose().to_owned();
        event.insert("routing_key".to_owned(), Value::String(key));
        let body = json(&event);
        match ask(self.http.post(&self.url, "application/json", body), now).await {
            Ok(reply) => judge(&reply),
            Err(outcome) => outcome,
        }
    }
}

/// Only 202 says that PagerDuty has it; another 2xx is somebody else's in between.
fn judge(reply: &Reply) -> Outcome {
    match reply.status {
        200 | 201 | 203..=299 => Outcome::Retry {
            after: reply.after,
            what: format!("status {} instead of 202", reply.status),
            sent: Sent::Maybe,
        },
        _ => reply.judge(),
    }
}

impl Receiver for PagerDuty {
    fn render_in(&self, message: &Message, words: &Words) -> Option<String> {
        if !is_told(message) {
            return None;
        }
        let of = fitted(&in_words(message, words), DETAILS_BYTES);
        let action = match of.news.as_str() {
            "acknowledged" => Action::Acknowledge,
            "resolved" => Action::Resolve,
            _ => Action::Trigger,
        };
        let payload = matches!(action, Action::Trigger).then(|| Payload {
            summary: clean_to(
                format!("{} {}", of.title, of.text.replace('\n', " ")).trim(),
                SUMMARY_BYTES,
            ),
            source: of.name.clone(),
            severity: of.severity().as_str(),
            timestamp: of.at.clone(),
            component: Some(of.topic.clone()),
            group: of.instance.clone(),
            class: of.cause.clone(),
            custom_details: rest(&of),
        });
        let key = format!("v1:{}", of.incident_id);
        Some(json(&Event {
            event_action: action,
            dedup_key: clean_to(&key, DEDUP_KEY_BYTES),
            client: "Glasswatch",
            links: links(&of).map(Link::to_evidence).collect(),
            payload,
        }))
    }

    fn send<'a>(&'a self, _id: &'a str, body: &'a str, now: Timestamp) -> BoxFuture<'a, Outcome> {
        self.post(body, now).boxed()
    }

    fn place(&self) -> String {
        redact(self.url.as_str())
    }

    /// PagerDuty takes 120 in any minute for a key: the burst and what comes in during a minute stay within it.
    fn limit(&self) -> Limit {
        Limit {
            per_minute: 100,
            burst: 20,
        }
    }

    fn shrink(&self, body: &str) -> Option<String> {
        let mut event: Value = serde_json::from_str(body).ok()?;
        let payload = event.get_mut("payload")?.as_object_mut()?;
        payload.remove("custom_details")?;
        Some(event.to_string())
    }

    /// An alert of its own, `info`: pages were missed, so a human closes it.
    fn digest(&self, digest: &Digest) -> Option<String> {
        let instance = clean(&digest.instance);
        let details =
            serde_json::json!({ "incidents": digest.lines(DETAILS_BYTES, str::to_owned) });
        Some(json(&Event {
            event_action: Action::Trigger,
            dedup_key: clean_to(&format!("v1:missed:{}", digest.id), DEDUP_KEY_BYTES),
            client: "Glasswatch",
            links: Vec::new(),
            payload: Some(Payload {
                summary: digest.headline(),
                source: instance.clone(),
                severity: "info",
                timestamp: clean(&digest.until),
                component: None,
                group: instance,
                class: "missed".to_owned(),
                custom_details: details,
            }),
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Trigger,
    Acknowledge,
    Resolve,
}

#[derive(Serialize)]
struct Event {
    event_action: Action,
    dedup_key: String,
    client: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload>,
}

#[derive(Serialize)]
struct Link {
    href: String,
    text: &'static str,
}

impl Link {
    fn to_evidence(href: &str) -> Self {
        Self {
            href: href.to_owned(),
            text: "Evidence",
        }
    }
}

#[derive(Serialize)]
struct Payload {
    summary: String,
    source: String,
    severity: &'static str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<String>,
    group: String,
    class: String,
    custom_details: Value,
}

/// What the payload's own fields do not say.
fn rest(message: &Message) -> Value {
    let mut rest = serde_json::to_value(message).unwrap_or_default();
    if let Value::Object(fields) = &mut rest {
        for said in ["name", "severity", "at", "topic", "instance", "cause"] {
            fields.remove(said);
        }
        fields.retain(|_, value| !value.is_null());
    }
    rest
}

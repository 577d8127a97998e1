//! Alertmanager, API v2: every peer is told, and told again while an incident is open.
//!
//! An alert is known by its labels. When one changes (an incident gets worse), the alert with the old labels is not
//! sent any more and ends by itself at its `endsAt`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

use super::http::{Http, HttpOptions, attempt};
use super::{
    Digest, Limit, Outcome, Receiver, ReceiverError, Sent, fitted, in_words, is_told, json, links,
};
use crate::config::Secret;
use crate::config::template::Words;
use crate::notify::event::{clean, rfc3339_millis};
use crate::notify::notice::Message;
use crate::telemetry::log::redact;

/// How often open alerts are sent again.
pub const RESEND_EVERY: Duration = Duration::from_secs(60);

/// How long an alert fires without being sent again: three sendings, so that two may be lost.
const FIRES_FOR: SignedDuration = SignedDuration::from_secs(3 * RESEND_EVERY.as_secs() as i64);

/// What is read of a message; Alertmanager takes far more.
const MESSAGE_BYTES: usize = 64_000;
/// Titles of a digest.
const TITLES_BYTES: usize = 16_000;

/// Which Alertmanagers to call.
#[derive(Debug, Clone)]
pub struct Options {
    /// Base URLs of all peers, before `/api/v2/alerts`. A cluster does not pass alerts on: each must be told.
    pub peers: Vec<Secret>,
    /// What the peers, or proxies before them, ask for.
    pub auth: Option<Auth>,
    /// How they are called.
    pub http: HttpOptions,
}

/// How to say who calls.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Name and password.
    Basic {
        /// Name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
}

/// Alertmanager, one or a cluster.
pub struct Alertmanager {
    http: Http,
    peers: Vec<Url>,
    auth: Option<Auth>,
}

impl Alertmanager {
    /// Checks the peers and builds the client.
    pub fn new(options: &Options) -> Result<Self, ReceiverError> {
        if options.peers.is_empty() {
            return Err(ReceiverError::NoPeers);
        }
        if let Some(Auth::Bearer(token)) = &options.auth
            && (token.expose().is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(ReceiverError::Token);
        }
        let http = Http::new(&options.http)?;
        let peer = |base: &Secret| {
            let mut url = http.endpoint(base)?;
            let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
            url.set_path(&path);
            Ok(url)
        };
        let peers = options.peers.iter().map(peer).collect::<Result<_, _>>()?;
        Ok(Self {
            http,
            peers,
            auth: options.auth.clone(),
        })
    }

    async fn post(&self, body: &str, now: Timestamp) -> Outcome {
        let Ok(mut alerts) = serde_json::from_str::<Vec<Alert>>(body) else {
            return Outcome::Dead { status: 0 };
        };
        for alert in &mut alerts {
            alert.fire_until(now.saturating_add(FIRES_FOR).unwrap_or(now));
        }
        let body = json(&alerts);
        let told = self.peers.iter().map(|peer| {
            let request = self.http.post(peer, "application/json", body.clone());
            let request = match &self.auth {
                Some(Auth::Basic { user, password }) => {
                    request.basic_auth(user, Some(password.expose()))
                }
                Some(Auth::Bearer(token)) => request.bearer_auth(token.expose()),
                None => request,
            };
            attempt(request, now)
        });
        let outcomes = join_all(told).await;
        outcomes
            .into_iter()
            .reduce(better)
            .unwrap_or(Outcome::Dead { status: 0 })
    }
}

/// Of two peers: one that took it is enough, one that may take it later is worth waiting for.
fn better(a: Outcome, b: Outcome) -> Outcome {
    use Outcome::{Dead, Delivered, Retry, TooLarge};
    match (a, b) {
        (Delivered, _) | (_, Delivered) => Delivered,
        (
            Retry {
                after: a,
                what,
                sent,
            },
            Retry {
                after: b,
                sent: too,
                ..
            },
        ) => Retry {
            // The one that wants no wait may be tried at once.
            after: a.zip(b).map(|(a, b)| a.min(b)),
            what,
            sent: match (sent, too) {
                (Sent::No, Sent::No) => Sent::No,
                _ => Sent::Maybe,
            },
        },
        (retry @ Retry { .. }, _) | (_, retry @ Retry { .. }) => retry,
        (TooLarge, _) | (_, TooLarge) => TooLarge,
        (dead @ Dead { .. }, Dead { .. }) => dead,
    }
}

impl Receiver for Alertmanager {
    fn render_in(&self, message: &Message, words: &Words) -> Option<String> {
        if !is_told(message) {
            return None;
        }
        let of = fitted(&in_words(message, words), MESSAGE_BYTES);
        let starts_at: Option<Timestamp> = of.opened.parse().ok();
        let ended = of.resolved.as_deref().and_then(|at| at.parse().ok());
        // Decided now is the best guess of an end that is not known.
        let ended = ended.or_else(|| of.at.parse().ok());
        let mut annotations = BTreeMap::from([("summary".to_owned(), of.title.clone())]);
        if let Some(by) = &of.acknowledged_by {
            annotations.insert("acknowledged_by".to_owned(), by.clone());
        }
        annotations.insert("description".to_owned(), of.text.clone());
        let evidence: Vec<&str> = links(&of).collect();
        annotations.insert("evidence".to_owned(), evidence.join("\n"));
        annotations.retain(|_, text| !text.is_empty());
        Some(json(&[Alert {
            labels: labels(&of),
            annotations,
            starts_at,
            // An end before the beginning is refused.
            ends_at: match of.is_resolved() {
                true => ended.max(starts_at),
                false => None,
            },
        }]))
    }

    fn send<'a>(&'a self, _id: &'a str, body: &'a str, now: Timestamp) -> BoxFuture<'a, Outcome> {
        self.post(body, now).boxed()
    }

    fn place(&self) -> String {
        let places: Vec<String> = self.peers.iter().map(|url| redact(url.as_str())).collect();
        places.join(", ")
    }

    /// It is one's own and has no limit; every open incident goes out each [`RESEND_EVERY`].
    fn limit(&self) -> Limit {
        Limit {
            per_minute: 6000,
            burst: 200,
        }
    }

    fn resend_every(&self) -> Option<Duration> {
        Some(RESEND_EVERY)
    }

    /// Labels stay: they say which alert it is.
    fn shrink(&self, body: &str) -> Option<String> {
        let mut alerts: Vec<Alert> = serde_json::from_str(body).ok()?;
        let mut less = false;
        for alert in &mut alerts {
            for text in ["description", "evidence"] {
                less |= alert.annotations.remove(text).is_some();
            }
        }
        less.then(|| json(&alerts))
    }

    /// An alert that fires once and ends by itself.
    fn digest(&self, digest: &Digest) -> Option<String> {
        let labels = [
            ("alertname", "GlasswatchMissed"),
            ("digest", &clean(&digest.id)),
            ("instance", &clean(&digest.instance)),
            ("severity", "info"),
        ];
        let annotations = [
            ("summary", digest.headline()),
            ("description", digest.lines(TITLES_BYTES, str::to_owned)),
        ];
        let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
        Some(json(&[Alert {
            labels: labels.map(owned).into(),
            annotations: annotations
                .map(|(name, text)| (name.to_owned(), text))
                .into(),
            starts_at: digest.until.parse().ok(),
            ends_at: None,
        }]))
    }
}

/// As it is stored: without an end while it fires.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "millis")]
    starts_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "millis")]
    ends_at: Option<Timestamp>,
}

impl Alert {
    /// Gives it an end, unless it has one: not before its beginning, whatever the clock says now.
    fn fire_until(&mut self, until: Timestamp) {
        self.ends_at = self.ends_at.or(Some(until).max(self.starts_at));
    }
}

/// RFC 3339 with milliseconds, as everywhere.
mod millis {
    use super::{Timestamp, rfc3339_millis};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(rfc3339_millis).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(from)
    }
}

/// Ours, and those of the stream under names that Prometheus allows. Where two would be the same, ours wins, then the
/// first; the other gets a prefix.
fn labels(of: &Message) -> BTreeMap<String, String> {
    let ours = [
        ("alertname", &*alert_name(&of.topic)),
        ("incident", &of.key),
        ("stream", of.stream.as_deref().unwrap_or("")),
        ("severity", of.severity().as_str()),
        ("tier", &of.tier),
        ("instance", &of.instance),
        ("topic", &of.topic),
    ];
    let mut labels: BTreeMap<String, String> =
        BTreeMap::from(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for (name, value) in &of.labels {
        let mut name = label_name(name);
        if labels.contains_key(&name) {
            name.insert_str(0, "label_");
        }
        labels.entry(name).or_insert_with(|| value.clone());
    }
    // To Prometheus an empty label is none.
    labels.retain(|_, value| !value.is_empty());
    labels
}

/// `av_offset`: `GlasswatchAvOffset`.
fn alert_name(topic: &str) -> String {
    let mut name = "Glasswatch".to_owned();
    for word in topic.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut letters = word.chars();
        name.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// The nearest of `[a-zA-Z_][a-zA-Z0-9_]*`.
fn label_name(name: &str) -> String {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut valid: String = name.chars().map(valid).collect();
    if valid.is_empty() || valid.starts_with(|c: char| c.is_ascii_digit()) {
        valid.insert(0, '_');
    }
    valid
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_made_valid() {
        assert_eq!(alert_name("av_offset"), "GlasswatchAvOffset");
        assert_eq!(alert_name("input"), "GlasswatchInput");
        assert_eq!(label_name("data-center.1"), "data_center_1");
        assert_eq!(label_name("4k"), "_4k");
        assert_eq!(label_name("ü"), "_");
        assert_eq!(label_name(""), "_");
    }

    #[test]
    fn one_peer_is_enough_and_one_that_may_come_back_is_waited_for() {
        let retry = |secs: Option<u64>, sent| Outcome::Retry {
            after: secs.map(Duration::from_secs),
            what: "status 503".into(),
            sent,
        };
        let dead = Outcome::Dead { status: 400 };
        let (late, soon) = (retry(Some(9), Sent::No), retry(Some(3), Sent::Maybe));
        assert_eq!(better(dead.clone(), Outcome::Delivered), Outcome::Delivered);
        assert_eq!(better(late.clone(), Outcome::Delivered), Outcome::Delivered);
        assert_eq!(better(late.clone(), soon.clone()), soon);
        assert_eq!(better(dead.clone(), late.clone()), late);
        assert_eq!(better(Outcome::TooLarge, late.clone()), late);
        assert_eq!(better(dead.clone(), Outcome::TooLarge), Outcome::TooLarge);
        assert_eq!(
            better(late, retry(None, Sent::No)),
            retry(None, Sent::No),
            "no wait was asked for by the other"
        );
        assert_eq!(better(dead.clone(), dead.clone()), dead);
    }
}

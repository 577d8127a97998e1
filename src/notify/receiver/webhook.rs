//! Webhooks of one's own: CloudEvents 1.0 (structured JSON) with Standard Webhooks headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;
use url::Url;

use super::http::{Http, HttpOptions, attempt};
use super::{Digest, Limit, Outcome, Receiver, ReceiverError, fitted, in_words, is_told, json};
use crate::config::Secret;
use crate::config::template::Words;
use crate::notify::event::clean;
use crate::notify::notice::Message;
use crate::telemetry::log::redact;

/// Standard Webhooks recommends less than 20 KB; what is in `data` leaves room for the envelope.
const DATA_BYTES: usize = 16_000;
/// Titles of a digest.
const TITLES_BYTES: usize = 12_000;

/// Where a webhook is, and what signs it.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http:` or `https:`; may carry a token.
    pub url: Secret,
    /// Signing keys, `whsec_` and base64. Several while keys are rotated: the receiver accepts any.
    pub keys: Vec<Secret>,
    /// How it is called.
    pub http: HttpOptions,
}

/// A webhook.
pub struct Webhook {
    http: Http,
    url: Url,
    keys: Vec<Vec<u8>>,
}

impl Webhook {
    /// Checks the endpoint and its keys, and builds the client.
    pub fn new(options: &Options) -> Result<Self, ReceiverError> {
        let http = Http::new(&options.http)?;
        let keys = options.keys.iter().map(|key| decode_key(key.expose()));
        Ok(Self {
            url: http.endpoint(&options.url)?,
            keys: keys.collect::<Result<_, _>>()?,
            http,
        })
    }

    /// Sends a body of any kind once, signed.
    pub(in crate::notify) async fn post(
        &self,
        id: &str,
        content_type: &str,
        body: String,
        now: Timestamp,
    ) -> Outcome {
        let timestamp = now.as_second().to_string();
        let signatures: Vec<String> = (self.keys.iter())
            .map(|key| sign(key, id, &timestamp, &body))
            .collect();
        let mut request = (self.http.post(&self.url, content_type, body))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp);
        if !signatures.is_empty() {
            request = request.header("webhook-signature", signatures.join(" "));
        }
        attempt(request, now).await
    }
}

impl Receiver for Webhook {
    fn render_in(&self, message: &Message, words: &Words) -> Option<String> {
        let data = fitted(&in_words(message, words), DATA_BYTES);
        is_told(message).then(|| {
            json(&CloudEvent {
                specversion: "1.0",
                id: &data.message_id,
                source: source(&data.instance),
                kind: format!("glasswatch.incident.{}", data.news),
                time: &data.at,
                subject: data.stream.as_deref().unwrap_or(&data.name),
                datacontenttype: "application/json",
                data: &data,
            })
        })
    }

    fn send<'a>(&'a self, id: &'a str, body: &'a str, now: Timestamp) -> BoxFuture<'a, Outcome> {
        let content_type = "application/cloudevents+json";
        self.post(id, content_type, body.to_owned(), now).boxed()
    }

    fn place(&self) -> String {
        redact(self.url.as_str())
    }

    fn limit(&self) -> Limit {
        Limit {
            per_minute: 6000,
            burst: 200,
        }
    }

    fn shrink(&self, body: &str) -> Option<String> {
        let mut event: Value = serde_json::from_str(body).ok()?;
        let data = event.get_mut("data")?;
        let mut less = false;
        for list in ["defects", "streams", "titles"] {
            if let Some(list) = data.get_mut(list).and_then(Value::as_array_mut) {
                less |= !list.is_empty();
                list.clear();
            }
        }
        less.then(|| event.to_string())
    }

    fn digest(&self, digest: &Digest) -> Option<String> {
        let (titles, not_named) = digest.newest(TITLES_BYTES, str::to_owned);
        let instance = clean(&digest.instance);
        Some(json(&CloudEvent {
            specversion: "1.0",
            id: &clean(&digest.id),
            source: source(&instance),
            kind: "glasswatch.incidents.missed".to_owned(),
            time: &clean(&digest.until),
            subject: &instance,
            datacontenttype: "application/json",
            data: &Missed {
                instance: &instance,
                from: &clean(&digest.from),
                until: &clean(&digest.until),
                text: &digest.headline(),
                titles,
                not_named,
            },
        }))
    }
}

/// The envelope.
#[derive(Serialize)]
struct CloudEvent<'a, T> {
    specversion: &'a str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: &'a str,
    subject: &'a str,
    datacontenttype: &'a str,
    data: &'a T,
}

/// Data of a digest.
#[derive(Serialize)]
struct Missed<'a> {
    instance: &'a str,
    from: &'a str,
    until: &'a str,
    text: &'a str,
    titles: Vec<String>,
    not_named: usize,
}

/// A relative URI reference: everything but RFC 3986's unreserved characters is escaped.
fn source(instance: &str) -> String {
    let mut out = "glasswatch/".to_owned();
    for byte in instance.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The bytes behind `whsec_` and base64.
fn decode_key(text: &str) -> Result<Vec<u8>, ReceiverError> {
    let text = text.trim();
    let key = STANDARD
        .decode(text.strip_prefix("whsec_").unwrap_or(text))
        .map_err(|_| ReceiverError::Key)?;
    if key.is_empty() {
        return Err(ReceiverError::Key);
    }
    Ok(key)
}

/// `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body` (Standard Webhooks, symmetric signature).
fn sign(key: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    for part in [id, ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn signature_matches_the_published_example() {
        // Test vector of the Standard Webhooks reference libraries.
        let key = decode_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(decode_key("whsec_%%"), Err(ReceiverError::Key));
        assert_eq!(decode_key("whsec_"), Err(ReceiverError::Key));
    }

    #[test]
    fn sources_are_uri_references() {
        assert_eq!(source("watch-1.a_b~"), "glasswatch/watch-1.a_b~");
        assert_eq!(source("a b/ü?#"), "glasswatch/a%20b%2F%C3%BC%3F%23");
    }
}

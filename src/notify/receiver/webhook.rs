//! Webhooks of one's own: CloudEvents 1.0 (structured JSON) with Standard Webhooks headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use url::Url;

use super::http::{Http, HttpOptions, attempt};
use super::{Digest, Limit, Outcome, Receiver, ReceiverError, cloudevent, in_words, is_told};
use crate::config::Secret;
use crate::config::template::Words;
use crate::notify::notice::Message;
use crate::telemetry::log::redact;

/// Standard Webhooks recommends less than 20 KB; what is in `data` leaves room for the envelope.
const DATA_BYTES: usize = 16_000;

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
        is_told(message).then(|| cloudevent::incident(&in_words(message, words), DATA_BYTES))
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
        cloudevent::shrink(body)
    }

    fn digest(&self, digest: &Digest) -> Option<String> {
        Some(cloudevent::missed(digest))
    }
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
}

//! One attempt to hand an event to a webhook, with Standard Webhooks headers.
//!
//! Redirects are never followed, proxies from the environment are not used, and every address that a name
//! resolves to must pass the [`AddressPolicy`]. The URL may carry a token, so no error or log line shows it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use sha2::Sha256;
use url::Host;

use crate::config::Secret;
use crate::ingest::fetch::policy::address_allowed;

/// Whether an address may be called.
pub type AddressPolicy = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Longest wait that a receiver may ask for.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(3600);

/// Why a receiver cannot be used as configured. The operator is at fault; trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Not an `http:` or `https:` URL with a host.
    #[error("the URL is not one of http or https with a host")]
    Url,
    /// The host is an address that may not be called.
    #[error("the URL's address is private, link-local or loopback; `allow_private` permits it")]
    Address,
    /// Not base64 after `whsec_`.
    #[error("the signing key is not `whsec_` and base64")]
    Key,
    /// The HTTP client cannot be built (no trusted certificates).
    #[error("the HTTP client cannot be built")]
    Client,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Delivered,
    /// Worth another attempt, not before `after` when the receiver said so.
    Retry {
        /// From `Retry-After`.
        after: Option<Duration>,
        /// What happened, in a word: `timeout`, `connect`, `status 503`.
        what: String,
    },
    /// Final: the receiver will never take this event.
    Dead {
        /// Status code.
        status: u16,
    },
}

/// An endpoint.
pub struct Webhook {
    client: reqwest::Client,
    url: url::Url,
    key: Option<Vec<u8>>,
}

impl Webhook {
    /// Checks the endpoint and builds its client.
    pub fn new(
        url: &Secret,
        key: Option<&Secret>,
        timeout: Duration,
        allowed: AddressPolicy,
    ) -> Result<Self, WebhookError> {
        let url = url::Url::parse(url.expose()).map_err(|_| WebhookError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(WebhookError::Url);
        }
        let literal = match url.host().ok_or(WebhookError::Url)? {
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            Host::Domain(_) => None,
        };
        if literal.is_some_and(|ip| !allowed(ip)) {
            return Err(WebhookError::Address);
        }
        let key = key.map(|key| decode_key(key.expose())).transpose()?;
        // Another part may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("glasswatch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(5)))
            .dns_resolver(Arc::new(PolicyResolver { allowed }))
            .build()
            .map_err(|_| WebhookError::Client)?;
        Ok(Self { client, url, key })
    }

    /// Scheme and host of the endpoint, fit for logs.
    pub fn place(&self) -> String {
        crate::telemetry::log::redact(self.url.as_str())
    }

    /// Sends one event once. `now` goes into the signature.
    pub async fn send(&self, id: &str, body: Arc<str>, now: Timestamp) -> Outcome {
        let timestamp = now.as_second().to_string();
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp);
        if let Some(key) = &self.key {
            request = request.header("webhook-signature", sign(key, id, &timestamp, &body));
        }
        match request.body(String::from(&*body)).send().await {
            Ok(reply) => {
                let after = reply
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|v| v.to_str().ok())
                    .and_then(|text| retry_after(text, now));
                judge(reply.status().as_u16(), after)
            }
            Err(error) => Outcome::Retry {
                after: None,
                // Never the error's own text: it holds the URL.
                what: match () {
                    () if error.is_timeout() => "timeout",
                    () if error.is_connect() => "connect",
                    () => "network",
                }
                .to_owned(),
            },
        }
    }
}

/// 2xx is done; 408, 425, 429 and 5xx pass; everything else is final.
fn judge(status: u16, after: Option<Duration>) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        408 | 425 | 429 | 500..=599 => Outcome::Retry {
            after,
            what: format!("status {status}"),
        },
        _ => Outcome::Dead { status },
    }
}

/// `Retry-After`: seconds or an HTTP date; at most an hour.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => {
            let until = jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(text)
                .ok()?;
            let millis = until.as_millisecond().saturating_sub(now.as_millisecond());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_LIMIT))
}

/// The bytes behind `whsec_` and base64.
fn decode_key(text: &str) -> Result<Vec<u8>, WebhookError> {
    let text = text.trim();
    let key = STANDARD
        .decode(text.strip_prefix("whsec_").unwrap_or(text))
        .map_err(|_| WebhookError::Key)?;
    if key.is_empty() {
        return Err(WebhookError::Key);
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

/// Resolves names and keeps only addresses that may be called.
struct PolicyResolver {
    allowed: AddressPolicy,
}

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let passed: Vec<SocketAddr> = found.filter(|a| allowed(a.ip())).collect();
            if passed.is_empty() {
                return Err("no permitted address".into());
            }
            Ok(Box::new(passed.into_iter()) as Addrs)
        })
    }
}

/// A policy that permits everything, for receivers with `allow_private`.
pub fn any_address() -> AddressPolicy {
    Arc::new(|_| true)
}

/// The policy of everything that is fetched: public addresses only.
pub fn public_addresses() -> AddressPolicy {
    Arc::new(|ip| address_allowed(ip, false))
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
        assert_eq!(decode_key("whsec_%%"), Err(WebhookError::Key));
        assert_eq!(decode_key("whsec_"), Err(WebhookError::Key));
    }

    #[test]
    fn statuses_are_judged() {
        assert_eq!(judge(204, None), Outcome::Delivered);
        for status in [408, 425, 429, 500, 503] {
            assert!(
                matches!(judge(status, None), Outcome::Retry { .. }),
                "{status}"
            );
        }
        for status in [301, 307, 400, 401, 404, 410, 413] {
            assert_eq!(judge(status, None), Outcome::Dead { status });
        }
    }

    #[test]
    fn retry_after_is_read_and_bounded() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let read = |text| retry_after(text, now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("999999999"), Some(RETRY_AFTER_LIMIT));
        assert_eq!(
            read("Sun, 01 Mar 2026 12:00:30 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(read("Sun, 01 Mar 2026 11:00:30 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn only_public_addresses_pass() {
        for ip in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!public_addresses()(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(public_addresses()(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn bad_endpoints_are_refused_without_showing_them() {
        let new = |url: &str| {
            Webhook::new(
                &Secret::new(url),
                None,
                Duration::from_secs(1),
                public_addresses(),
            )
            .err()
            .unwrap()
        };
        assert_eq!(new("file:///etc/passwd"), WebhookError::Url);
        assert_eq!(new("nonsense"), WebhookError::Url);
        assert_eq!(new("http://127.0.0.1/token"), WebhookError::Address);
        assert_eq!(new("http://[::1]/token"), WebhookError::Address);
        assert_eq!(new("http://0x7f.1/token"), WebhookError::Address);
        assert!(!new("http://10.0.0.1/token").to_string().contains("token"));
    }
}

//! The HTTP client of all receivers, and what its replies mean.
//!
//! Redirects are never followed, proxies from the environment are not used, and every address that a name resolves
//! to must pass the [`AddressPolicy`]. URLs may carry tokens, so no error and no outcome shows one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Proxy, RequestBuilder, Response};
use url::{Host, Url};

use super::{Outcome, ReceiverError, Sent};
use crate::config::Secret;
use crate::ingest::fetch::policy::address_allowed;

/// Whether an address may be called.
pub type AddressPolicy = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// How long an attempt may take, unless configured otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait that a receiver may ask for.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(3600);

/// How much of a reply is read.
const REPLY_BYTES: usize = 4096;

/// A policy that permits everything, for receivers with `allow_private`.
pub fn any_address() -> AddressPolicy {
    Arc::new(|_| true)
}

/// The policy of everything that is fetched: public addresses only.
pub fn public_addresses() -> AddressPolicy {
    Arc::new(|ip| address_allowed(ip, false))
}

/// How a receiver is called, whatever its kind.
#[derive(Clone)]
pub struct HttpOptions {
    /// Longest attempt, reply included.
    pub timeout: Duration,
    /// `http:` or `https:` URL of a proxy. It resolves names itself, so the policy sees only the proxy's address.
    pub proxy: Option<Secret>,
    /// Which addresses may be called, the proxy's included.
    pub allowed: AddressPolicy,
}

impl HttpOptions {
    /// [`TIMEOUT`] and no proxy.
    pub fn new(allowed: AddressPolicy) -> Self {
        Self {
            timeout: TIMEOUT,
            proxy: None,
            allowed,
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("timeout", &self.timeout)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// A client that keeps to [`HttpOptions`].
pub(in crate::notify) struct Http {
    client: Client,
    allowed: AddressPolicy,
}

impl Http {
    /// Builds the client.
    pub(in crate::notify) fn new(options: &HttpOptions) -> Result<Self, ReceiverError> {
        // Another part may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let allowed = &options.allowed;
        let mut client = Client::builder()
            .user_agent(concat!("glasswatch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_gzip()
            .no_proxy()
            .timeout(options.timeout)
            .connect_timeout(options.timeout.min(CONNECT_TIMEOUT))
            .dns_resolver(Arc::new(PolicyResolver {
                allowed: Arc::clone(allowed),
            }));
        if let Some(proxy) = &options.proxy {
            let url = endpoint(proxy, allowed).map_err(|problem| match problem {
                ReceiverError::Url => ReceiverError::Proxy,
                other => other,
            })?;
            client = client.proxy(Proxy::all(url).map_err(|_| ReceiverError::Proxy)?);
        }
        Ok(Self {
            client: client.build().map_err(|_| ReceiverError::Client)?,
            allowed: Arc::clone(allowed),
        })
    }

    /// Reads a URL that this client may call.
    pub(in crate::notify) fn endpoint(&self, url: &Secret) -> Result<Url, ReceiverError> {
        endpoint(url, &self.allowed)
    }

    /// The client itself, for who makes requests of its own; it follows the same rules.
    #[cfg(feature = "aws")]
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A request, to be completed with headers and passed to [`attempt`] or [`ask`].
    pub(in crate::notify) fn post(
        &self,
        url: &Url,
        content_type: &str,
        body: String,
    ) -> RequestBuilder {
        self.client
            .post(url.clone())
            .header(CONTENT_TYPE, content_type)
            .body(body)
    }
}

/// A URL of http or https whose host, when it is a literal address, passes. Names are checked as they are resolved.
fn endpoint(url: &Secret, allowed: &AddressPolicy) -> Result<Url, ReceiverError> {
    let url = Url::parse(url.expose()).map_err(|_| ReceiverError::Url)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ReceiverError::Url);
    }
    let literal = match url.host().ok_or(ReceiverError::Url)? {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) => None,
    };
    match literal {
        Some(ip) if !allowed(ip) => Err(ReceiverError::Address),
        _ => Ok(url),
    }
}

/// What a receiver answered.
pub(super) struct Reply {
    /// Status code.
    pub(super) status: u16,
    /// `Retry-After`.
    pub(super) after: Option<Duration>,
    /// The first [`REPLY_BYTES`]; `None` when it broke off before.
    pub(super) text: Option<String>,
}

impl Reply {
    /// By its status alone.
    pub(super) fn judge(&self) -> Outcome {
        judge(self.status, self.after)
    }
}

/// Sends a request once and judges the reply by its status.
pub(in crate::notify) async fn attempt(request: RequestBuilder, now: Timestamp) -> Outcome {
    match ask(request, now).await {
        Ok(reply) => reply.judge(),
        Err(outcome) => outcome,
    }
}

/// Sends a request once. Without a reply: what is to be done.
pub(super) async fn ask(request: RequestBuilder, now: Timestamp) -> Result<Reply, Outcome> {
    let mut reply = request.send().await.map_err(|error| unanswered(&error))?;
    let after = reply
        .headers()
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .and_then(|text| retry_after(text, now));
    Ok(Reply {
        status: reply.status().as_u16(),
        after,
        text: read(&mut reply).await,
    })
}

/// Reading to the end lets the connection be used again.
async fn read(reply: &mut Response) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < REPLY_BYTES {
        match reply.chunk().await.ok()? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    bytes.truncate(REPLY_BYTES);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Never with the error's own text: it holds the URL.
fn unanswered(error: &reqwest::Error) -> Outcome {
    if error.is_builder() {
        return Outcome::Dead { status: 0 };
    }
    Outcome::Retry {
        after: None,
        what: match () {
            () if error.is_timeout() => "timeout",
            () if error.is_connect() => "connect",
            () => "network",
        }
        .to_owned(),
        sent: match error.is_connect() {
            true => Sent::No,
            false => Sent::Maybe,
        },
    }
}

/// 2xx is done; 408, 425, 429 and 5xx pass; 413 asks for less; everything else is final.
pub(super) fn judge(status: u16, after: Option<Duration>) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        413 => Outcome::TooLarge,
        408 | 425 | 429 | 500..=599 => Outcome::Retry {
            after,
            what: format!("status {status}"),
            // These say that nothing was done with it; behind other failures of a server or a gateway it may be.
            sent: match status {
                408 | 425 | 429 | 503 => Sent::No,
                _ => Sent::Maybe,
            },
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn statuses_are_judged() {
        assert_eq!(judge(204, None), Outcome::Delivered);
        for (status, expected) in [
            (408, Sent::No),
            (425, Sent::No),
            (429, Sent::No),
            (500, Sent::Maybe),
            (502, Sent::Maybe),
            (503, Sent::No),
        ] {
            let Outcome::Retry { sent, .. } = judge(status, None) else {
                unreachable!("{status}")
            };
            assert_eq!(sent, expected, "{status}");
        }
        assert_eq!(judge(413, None), Outcome::TooLarge);
        for status in [301, 307, 400, 401, 404, 410] {
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
        let http = Http::new(&HttpOptions::new(public_addresses())).unwrap();
        let refused = |url: &str| http.endpoint(&Secret::new(url)).err().unwrap();
        assert_eq!(refused("file:///etc/passwd"), ReceiverError::Url);
        assert_eq!(refused("nonsense"), ReceiverError::Url);
        assert_eq!(refused("http://127.0.0.1/token"), ReceiverError::Address);
        assert_eq!(refused("http://[::1]/token"), ReceiverError::Address);
        assert_eq!(refused("http://0x7f.1/token"), ReceiverError::Address);
        let shown = refused("http://10.0.0.1/token").to_string();
        assert!(!shown.contains("token"));
    }

    #[test]
    fn bad_proxies_are_refused_without_showing_them() {
        let refused = |url: &str| {
            let options = HttpOptions {
                proxy: Some(Secret::new(url)),
                ..HttpOptions::new(public_addresses())
            };
            assert!(!format!("{options:?}").contains("hunter2"));
            Http::new(&options).err().unwrap()
        };
        assert_eq!(refused("socks5://u:hunter2@proxy"), ReceiverError::Proxy);
        assert_eq!(refused("hunter2"), ReceiverError::Proxy);
        assert_eq!(refused("http://10.0.0.1:3128"), ReceiverError::Address);
    }
}

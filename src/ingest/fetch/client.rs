//! One stream's way to its origin.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use detectors::base::Cause;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use tokio::io::AsyncSeekExt;
use tokio::time::{Instant, timeout};
use url::Url;

use super::body::{Body, Bytesource};
use super::pace::{Pacer, RETRY_AFTER_MAX};
use super::policy::{self, Forbidden, Guard, Names, Unresolved, shown};
use super::{FetchError, RequestResult};
use crate::config::{Input, Limits};
use crate::ingest::stats::Stats;
use crate::transport::playlist::mpd::{self, Mpd, MpdError};
use crate::transport::playlist::{self, ByteRange, Playlist, PlaylistError};

/// What a request is for; chooses the size limit, the counters and whether compression is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A playlist: [`Limits::playlist_bytes`], gzip, counted as a playlist request; see [`Fetcher::playlist`].
    Playlist,
    /// Media or an initialisation segment: [`Limits::segment_bytes`], counted as a segment request and as input.
    Segment,
    /// A decryption key: at most 64 KiB, counted as a segment request.
    Key,
    /// Only the head of an answer, for its date: counted as a segment request.
    Head,
    /// Endless media: no size limit, no total deadline, counted as a segment request and as input.
    Endless,
}

const KEY_BYTES: usize = 64 << 10;

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What to get.
    pub url: &'a Url,
    /// The playlist that named it. A `file:` URL is followed only from a local playlist.
    pub referrer: Option<&'a Url>,
    /// What for.
    pub what: What,
    /// Part of it.
    pub range: Option<ByteRange>,
    /// Bytes of that part which are there already.
    pub skip: u64,
    /// Longest time spent waiting for the body in all; ignored for [`What::Endless`]. Time in which nobody asks for
    /// more (a full decoder) does not count.
    pub total: Duration,
}

/// Fetches for one stream, within its limits.
///
/// Extra headers go to the host, scheme and port of the configured URL only, never to another host that a playlist
/// or redirect names. Proxy variables of the environment are not used: the address policy holds at the connection.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    guard: Guard,
    home: Url,
    local_root: Option<PathBuf>,
    headers: HeaderMap,
    limits: Limits,
    allow_private: bool,
    pub(super) stats: Arc<Stats>,
    /// The newest `Date` of an answer that no cache gave, minus our clock, seconds.
    date_ahead: Mutex<Option<i64>>,
    /// Spaces this stream's retries.
    pub pacer: Pacer,
}

impl Fetcher {
    /// A fetcher for this input. Fails on a URL or header that HTTP cannot carry.
    pub fn new(input: &Input, stats: Arc<Stats>) -> Result<Self, FetchError> {
        let bad = |what: &str| FetchError::new(Cause::SchemeRefused, what);
        let home = Url::parse(input.url.expose()).map_err(|_| bad("the URL cannot be read"))?;
        let local_root = match home.scheme() {
            "file" => home
                .to_file_path()
                .ok()
                .and_then(|path| path.parent().map(Path::to_owned)),
            _ => None,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &input.headers {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| bad("a configured header name is not valid"))?;
            let mut value = HeaderValue::try_from(value.expose())
                .map_err(|_| bad("a configured header value is not valid"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self {
            client: client(input.allow_private, input.limits.connect)?,
            guard: guard(input.allow_private, input.limits.connect),
            home,
            local_root,
            headers,
            limits: input.limits,
            allow_private: input.allow_private,
            stats,
            date_ahead: Mutex::new(None),
            pacer: Pacer::default(),
        })
    }

    /// The configured URL.
    pub fn home(&self) -> &Url {
        &self.home
    }

    /// Limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sends a request and follows redirects; returns with the response's head.
    pub async fn open(&self, request: Request<'_>) -> Result<Body<'_>, FetchError> {
        self.open_held(request, Duration::ZERO).await
    }

    /// As [`Fetcher::open`] of what is not there yet: the answer, or more of it, may be that much later.
    async fn open_held(
        &self,
        request: Request<'_>,
        held: Duration,
    ) -> Result<Body<'_>, FetchError> {
        let opened = match request.url.scheme() {
            "file" => self.open_file(request).await,
            _ => self.open_http(request, held).await,
        };
        opened.inspect_err(|error| self.count(request.what, error.result()))
    }

    /// Gets and reads a playlist, and tells the URL it came from in the end.
    pub async fn playlist(
        &self,
        url: &Url,
        referrer: Option<&Url>,
    ) -> Result<(Url, Playlist), FetchError> {
        self.playlist_held(url, referrer, Duration::ZERO).await
    }

    /// As [`Fetcher::playlist`], when the server may hold its answer back for that long.
    pub async fn playlist_held(
        &self,
        url: &Url,
        referrer: Option<&Url>,
        held: Duration,
    ) -> Result<(Url, Playlist), FetchError> {
        let parse = |bytes: &[u8], _: &Url| {
            playlist::parse(bytes).map_err(|error| {
                let cause = match error {
                    PlaylistError::TooLong => Cause::TooLarge,
                    PlaylistError::NotAPlaylist | PlaylistError::IFramesOnly => {
                        Cause::PlaylistInvalid
                    }
                };
                (cause, error.to_string())
            })
        };
        self.listed(url, referrer, held, parse).await
    }

    /// Gets and reads a DASH manifest, and tells the URL it came from in the end. Counted as a playlist.
    pub async fn mpd(&self, url: &Url, referrer: Option<&Url>) -> Result<(Url, Mpd), FetchError> {
        let parse = |bytes: &[u8], url: &Url| {
            mpd::parse(bytes, url).map_err(|error| {
                let cause = match error {
                    MpdError::TooLong => Cause::TooLarge,
                    _ => Cause::PlaylistInvalid,
                };
                (cause, error.to_string())
            })
        };
        self.listed(url, referrer, Duration::ZERO, parse).await
    }

    /// Gets a patch of a manifest and applies it. Limited and counted as a manifest; a patch that cannot be applied
    /// is [`Cause::PlaylistInvalid`].
    pub async fn patch(&self, url: &Url, referrer: &Url, of: &Mpd) -> Result<Mpd, FetchError> {
        let apply = |bytes: &[u8], _: &Url| {
            of.patched(bytes)
                .map_err(|error| (Cause::PlaylistInvalid, error.to_string()))
        };
        let (_, mpd) = self
            .listed(url, Some(referrer), Duration::ZERO, apply)
            .await?;
        Ok(mpd)
    }

    /// How far the clock of the origin is ahead of ours by the `Date` of its newest answer, seconds; `None` when it
    /// told none. A date is cut to whole seconds and is as old as the way is long.
    pub fn date_ahead(&self) -> Option<i64> {
        *self.date_ahead.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn note_date(&self, headers: &HeaderMap) {
        let of_cache = headers.get(header::AGE).is_some_and(|age| age != "0");
        let date = date(headers).filter(|_| !of_cache);
        let ahead = date.map(|date| date.duration_since(jiff::Timestamp::now()).as_secs());
        *self.date_ahead.lock().unwrap_or_else(|e| e.into_inner()) = ahead;
    }

    async fn listed<T>(
        &self,
        url: &Url,
        referrer: Option<&Url>,
        held: Duration,
        parse: impl FnOnce(&[u8], &Url) -> Result<T, (Cause, String)>,
    ) -> Result<(Url, T), FetchError> {
        let request = Request {
            url,
            referrer,
            what: What::Playlist,
            range: None,
            skip: 0,
            total: self.limits.connect + self.limits.idle + held,
        };
        let (base, bytes) = self.bytes_held(request, held).await?;
        let parsed = parse(&bytes, &base)
            .map_err(|(cause, error)| FetchError::new(cause, format!("{}: {error}", shown(&base))));
        let result = match &parsed {
            Ok(_) => RequestResult::Ok,
            Err(_) => RequestResult::Parse,
        };
        self.count(What::Playlist, result);
        parsed.map(|parsed| (base, parsed))
    }

    /// Posts a small JSON document and gets the answer, at most 64 KiB. Redirects are not followed: what is asked
    /// goes to the place that was named, and nowhere else.
    pub async fn post_json(&self, url: &Url, json: String) -> Result<Bytes, FetchError> {
        let limits = self.limits;
        let request = Request {
            url,
            referrer: None,
            what: What::Key,
            range: None,
            skip: 0,
            total: limits.connect + limits.idle,
        };
        let answered = async {
            self.check_hop(url, url, 0)?;
            let builder = self
                .client
                .post(url.clone())
                .headers(self.headers_for(url))
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT_ENCODING, "identity")
                .body(json);
            let response = self.answer(builder, url, Duration::ZERO).await?;
            self.accept(request, url.clone(), response)
        };
        let mut body = answered
            .await
            .inspect_err(|error| self.count(What::Key, error.result()))?;
        let mut whole = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }

    /// Gets a whole body and the URL it came from in the end.
    pub async fn bytes(&self, request: Request<'_>) -> Result<(Url, Bytes), FetchError> {
        self.bytes_held(request, Duration::ZERO).await
    }

    /// As [`Fetcher::bytes`] of what is not there yet: the answer, or more of it, may be that much later.
    pub async fn bytes_held(
        &self,
        request: Request<'_>,
        held: Duration,
    ) -> Result<(Url, Bytes), FetchError> {
        let mut body = self.open_held(request, held).await?;
        body.idle = body.idle.max(held);
        let mut whole = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok((body.url, whole.into()))
    }

    pub(super) fn count(&self, what: What, result: RequestResult) {
        let counters = match what {
            What::Playlist => &self.stats.playlist_requests,
            What::Segment | What::Key | What::Head | What::Endless => &self.stats.segment_requests,
        };
        if let Some(counter) = counters.get(result as usize) {
            counter.add(1);
        }
    }

    fn size_limit(&self, what: What) -> u64 {
        let bytes = match what {
            What::Playlist => self.limits.playlist_bytes,
            What::Segment => self.limits.segment_bytes,
            What::Key => KEY_BYTES,
            What::Head | What::Endless => return u64::MAX,
        };
        bytes as u64
    }

    async fn open_file(&self, request: Request<'_>) -> Result<Body<'_>, FetchError> {
        let from_file = request.referrer.is_none_or(|from| from.scheme() == "file");
        let Some(root) = self.local_root.as_ref().filter(|_| from_file) else {
            return Err(FetchError::new(
                Cause::SchemeRefused,
                "the scheme file may not be followed",
            ));
        };
        let path = policy::local_file(request.url, root)?;
        let unreadable =
            |e: io::Error| FetchError::new(Cause::FileUnreadable, e.kind().to_string());
        let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let start = request.range.map_or(0, |range| range.start) + request.skip;
        if start > 0 {
            file.seek(io::SeekFrom::Start(start))
                .await
                .map_err(unreadable)?;
        }
        self.pacer.note(Instant::now());
        Ok(self.body(request, request.url.clone(), Bytesource::File(file), 0))
    }

    async fn open_http(
        &self,
        request: Request<'_>,
        held: Duration,
    ) -> Result<Body<'_>, FetchError> {
        let mut url = request.url.clone();
        for hop in 0..=self.limits.redirects {
            self.check_hop(&url, request.url, hop)?;
            let response = self
                .send(&url, &request, held)
                .await
                .map_err(|error| match error {
                    error if hop > 0 && error.cause == Cause::AddressRefused => FetchError {
                        cause: Cause::RedirectRefused,
                        ..error
                    },
                    error => error,
                })?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                url = location(&response, &url)?;
                continue;
            }
            return self.accept(request, url, response);
        }
        Err(FetchError::new(
            Cause::RedirectRefused,
            format!(
                "{} redirects more than {} times",
                shown(request.url),
                self.limits.redirects
            ),
        ))
    }

    fn check_hop(&self, url: &Url, first: &Url, hop: usize) -> Result<(), FetchError> {
        let checked = policy::check_url(url, self.allow_private);
        if hop == 0 {
            return checked;
        }
        let downgraded = first.scheme() == "https" && url.scheme() != "https";
        if checked.is_err() || downgraded {
            return Err(FetchError::new(
                Cause::RedirectRefused,
                format!(
                    "{} redirects to a place that may not be followed",
                    shown(first)
                ),
            ));
        }
        Ok(())
    }

    async fn send(
        &self,
        url: &Url,
        request: &Request<'_>,
        held: Duration,
    ) -> Result<Response, FetchError> {
        let builder = match request.what {
            What::Head => self.client.head(url.clone()),
            _ => self.client.get(url.clone()),
        };
        let mut builder = builder.headers(self.headers_for(url));
        if request.what != What::Playlist {
            builder = builder.header(header::ACCEPT_ENCODING, "identity");
        }
        if let Some(value) = range_header(request) {
            builder = builder.header(header::RANGE, value);
        }
        self.answer(builder, url, held).await
    }

    /// Extra headers, for the configured origin only.
    fn headers_for(&self, url: &Url) -> HeaderMap {
        let home = url.scheme() == self.home.scheme()
            && url.host() == self.home.host()
            && url.port_or_known_default() == self.home.port_or_known_default();
        match home {
            true => self.headers.clone(),
            false => HeaderMap::new(),
        }
    }

    /// Sends it; the answer may come `held` later than otherwise.
    async fn answer(
        &self,
        builder: RequestBuilder,
        url: &Url,
        held: Duration,
    ) -> Result<Response, FetchError> {
        self.pacer.note(Instant::now());
        // A little later than the connection's own deadline, so that a peer that is not there and one that
        // accepts and stays silent are told apart.
        let first_byte = (self.limits.connect + self.limits.connect / 20).max(held);
        match timeout(first_byte, builder.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let told = judge(&error, url);
                // The deadline of a connection covers its handshake: only knocking tells which of them hangs.
                let secure = url.scheme() == "https" && error.is_timeout();
                if secure && told.cause == Cause::ConnectFailed && self.guard.answers(url).await {
                    let shown = shown(url);
                    let detail = format!("{shown} does not answer the TLS handshake");
                    return Err(FetchError::new(Cause::TlsFailed, detail));
                }
                Err(told)
            }
            Err(_) => Err(FetchError::new(
                Cause::Timeout,
                format!("{} accepted the connection and did not answer", shown(url)),
            )),
        }
    }

    fn accept(
        &self,
        request: Request<'_>,
        url: Url,
        response: Response,
    ) -> Result<Body<'_>, FetchError> {
        let status = response.status();
        let wanted_start = request.range.map_or(0, |range| range.start) + request.skip;
        let resumed_past_end = request.skip > 0
            && request.range.is_none()
            && status == StatusCode::RANGE_NOT_SATISFIABLE;
        if resumed_past_end {
            return Ok(self.body(request, url, Bytesource::Empty, 0));
        }
        self.note_date(response.headers());
        if !status.is_success() {
            return Err(refused(&response, &url));
        }
        let drop = match (range_header(&request).is_some(), status) {
            (true, StatusCode::PARTIAL_CONTENT) => match range_start(&response) {
                Some(start) if start <= wanted_start => wanted_start - start,
                _ => {
                    return Err(FetchError::new(
                        Cause::HttpClientError,
                        format!("{} answered with another byte range", shown(&url)),
                    ));
                }
            },
            // The server ignores ranges: cut the part out here.
            (true, _) => wanted_start,
            (false, _) => 0,
        };
        let limit = self.size_limit(request.what);
        let needed = match request.range {
            Some(range) => Some(drop.saturating_add(range.len.saturating_sub(request.skip))),
            None => response.content_length(),
        };
        if needed.is_some_and(|needed| needed > limit) {
            return Err(too_large(&url));
        }
        Ok(self.body(request, url, Bytesource::Http(response), drop))
    }

    fn body(&self, request: Request<'_>, url: Url, source: Bytesource, drop: u64) -> Body<'_> {
        Body {
            fetcher: self,
            url,
            source,
            what: request.what,
            drop,
            wanted: request
                .range
                .map(|range| range.len.saturating_sub(request.skip)),
            budget: self.size_limit(request.what),
            idle: self.limits.idle,
            patience: (request.what != What::Endless).then_some(request.total),
            over: false,
        }
    }
}

fn range_header(request: &Request<'_>) -> Option<String> {
    match (request.range, request.skip) {
        (None, 0) => None,
        (None, skip) => Some(format!("bytes={skip}-")),
        (Some(range), skip) => {
            let last = range.start.saturating_add(range.len).saturating_sub(1);
            Some(format!("bytes={}-{last}", range.start.saturating_add(skip)))
        }
    }
}

fn range_start(response: &Response) -> Option<u64> {
    let value = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    let (start, _) = value.trim().strip_prefix("bytes")?.trim().split_once('-')?;
    start.trim().parse().ok()
}

fn location(response: &Response, url: &Url) -> Result<Url, FetchError> {
    response
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| url.join(value).ok())
        .ok_or_else(|| {
            FetchError::new(
                Cause::RedirectRefused,
                format!("{} redirects to nowhere", shown(url)),
            )
        })
}

fn refused(response: &Response, url: &Url) -> FetchError {
    let status = response.status();
    let cause = match status.as_u16() {
        401 | 403 => Cause::AuthRefused,
        404 | 410 => Cause::HttpNotFound,
        500.. => Cause::HttpServerError,
        _ => Cause::HttpClientError,
    };
    FetchError {
        cause,
        retry_after: retry_after(response.headers()),
        detail: format!("{} answered {}", shown(url), status.as_u16()),
    }
}

pub(super) fn date(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

/// `Retry-After` in seconds or as an HTTP date, at most [`RETRY_AFTER_MAX`].
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
            let secs = at.duration_since(jiff::Timestamp::now()).as_secs();
            Duration::from_secs(u64::try_from(secs).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

pub(super) fn too_large(url: &Url) -> FetchError {
    FetchError::new(
        Cause::TooLarge,
        format!("{} sends more than the limit", shown(url)),
    )
}

pub(super) fn silent(url: &Url) -> FetchError {
    FetchError::new(
        Cause::Timeout,
        format!("{} stopped in the middle of a body", shown(url)),
    )
}

/// Finds what went wrong in the chain of an error that came before any answer.
fn judge(error: &reqwest::Error, url: &Url) -> FetchError {
    let mut cause = if error.is_timeout() || error.is_connect() {
        Cause::ConnectFailed
    } else {
        Cause::PeerClosed
    };
    let mut link: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = link {
        let io = inner.downcast_ref::<io::Error>();
        if inner.is::<Forbidden>() {
            cause = Cause::AddressRefused;
        } else if inner.is::<Unresolved>() {
            cause = Cause::DnsFailed;
        } else if inner.is::<rustls::Error>()
            // A peer that hangs up on the handshake; a TCP connection never fails to open like that.
            || (error.is_connect() && io.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof))
        {
            cause = Cause::TlsFailed;
        }
        // An I/O error hides what it wraps from `source`.
        link = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    let what = match cause {
        Cause::AddressRefused => "resolves to no address that may be reached",
        Cause::DnsFailed => "does not resolve",
        Cause::TlsFailed => "has no TLS that can be trusted",
        Cause::ConnectFailed => "cannot be connected to",
        _ => "closed the connection without an answer",
    };
    FetchError::new(cause, format!("{} {what}", shown(url)))
}

fn guard(allow_private: bool, connect: Duration) -> Guard {
    Guard {
        names: Names::System,
        allow_private,
        deadline: connect.mul_f64(0.9),
    }
}

/// HTTP clients are few (one per policy and connect deadline) and shared by all streams: each loads the system's
/// certificates, which costs milliseconds and megabytes. Whoever uses one by itself checks URLs first
/// ([`policy::check_url`]).
pub fn client(allow_private: bool, connect: Duration) -> Result<Client, FetchError> {
    type Clients = HashMap<(bool, Duration), Client>;
    static CLIENTS: Mutex<Option<Clients>> = Mutex::new(None);
    const CLIENTS_MAX: usize = 64;

    let mut clients = CLIENTS.lock().unwrap_or_else(|e| e.into_inner());
    let clients = clients.get_or_insert_default();
    let key = (allow_private, connect);
    if let Some(client) = clients.get(&key) {
        return Ok(client.clone());
    }
    // Fails when one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .user_agent(concat!("glasswatch/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(32)
            .dns_resolver(guard(allow_private, connect))
    };
    // Without system certificates plain HTTP still works, and every HTTPS origin is told as untrusted.
    let without_roots = || {
        rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    };
    let client = builder()
        .build()
        .or_else(|_| builder().tls_backend_preconfigured(without_roots()).build())
        .map_err(|_| FetchError::new(Cause::Internal, "no HTTP client can be built"))?;
    if clients.len() < CLIENTS_MAX {
        clients.insert(key, client.clone());
    }
    Ok(client)
}

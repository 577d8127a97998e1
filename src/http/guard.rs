//! Who may come in, and for how long: bearer token, connection count, time limits.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Source;
use super::audit::{self, Done, Entry};
use super::limit::Limiter;
use crate::config::{Http, Scope, Secret};

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 128;

/// Longest life of a connection, and longest silence in it: a client that dribbles or sleeps is cut off.
const LIFE: Duration = Duration::from_secs(300);
const SILENCE: Duration = Duration::from_secs(30);

/// Longest time an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Name of the token, `http.token`, or `local`.
    pub name: Arc<str>,
    /// What it may do.
    pub scope: Scope,
    /// Whether a token says so, and not the absence of any.
    pub by_token: bool,
}

/// A token as a digest, so that comparing takes the same time whatever is wrong.
struct Known {
    digest: [u8; 32],
    caller: Caller,
}

/// All tokens; without any, everybody may do everything.
#[derive(Clone)]
pub(super) struct Tokens(Arc<[Known]>);

impl Tokens {
    pub(super) fn new(config: &Http) -> Self {
        let known = |name: &str, token: &Secret, scope| Known {
            digest: Sha256::digest(token.expose().as_bytes()).into(),
            caller: Caller {
                name: name.into(),
                scope,
                by_token: true,
            },
        };
        let first = config.token.iter();
        let first = first.map(|token| known("http.token", token, Scope::Admin));
        let named = config
            .tokens
            .iter()
            .map(|t| known(&t.name, &t.token, t.scope));
        Self(first.chain(named).collect())
    }

    fn caller(&self, header: Option<&HeaderValue>) -> Option<Caller> {
        if self.0.is_empty() {
            return Some(Caller {
                name: "local".into(),
                scope: Scope::Admin,
                by_token: false,
            });
        }
        let given = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            // An empty token admits nobody, even when one is configured.
            .filter(|token| !token.is_empty())?;
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        // Every byte of every token is looked at: the time tells nothing.
        let same = |known: &Known| {
            let pairs = known.digest.iter().zip(given);
            pairs.fold(0, |d, (a, b)| d | (a ^ b)) == 0
        };
        let found = self.0.iter().fold(None, |found, known| match same(known) {
            true => Some(known),
            false => found,
        });
        found.map(|known| known.caller.clone())
    }
}

/// Asks for a token, and notes whose it is.
pub(super) async fn authenticate(
    State(tokens): State<Tokens>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(caller) = tokens.caller(request.headers().get(AUTHORIZATION)) {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let mut refusal = super::problem(StatusCode::UNAUTHORIZED, "a bearer token is required");
    let how = HeaderValue::from_static("Bearer realm=\"glasswatch\"");
    refusal.headers_mut().insert(WWW_AUTHENTICATE, how);
    refusal
}

/// A request with a link instead of a token. Whether the link is right, and for this, is for the handler to see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linked;

/// Asks for a token, unless there is a link.
pub(super) async fn token_or_link(
    tokens: State<Tokens>,
    mut request: Request,
    next: Next,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let signed = query.split('&').any(|part| part.starts_with("sig="));
    if signed && !request.headers().contains_key(AUTHORIZATION) {
        request.extensions_mut().insert(Linked);
        return next.run(request).await;
    }
    authenticate(tokens, request, next).await
}

/// What calls that change something pass through.
#[derive(Clone)]
pub(super) struct Door {
    /// Needed scope.
    pub needs: Scope,
    /// Shared by all calls.
    pub limiter: Arc<Mutex<Limiter>>,
    /// Has the audit log.
    pub source: Arc<dyn Source>,
}

/// Admits a change, if the caller may make it and does not make too many, and has it written down.
pub(super) async fn change(State(door): State<Door>, request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let (Some(caller), Some(ConnectInfo(Peer(from)))) = (
        extensions.get::<Caller>().cloned(),
        extensions.get::<ConnectInfo<Peer>>().copied(),
    ) else {
        return super::problem(StatusCode::UNAUTHORIZED, "nobody knows who asks");
    };
    let admitted = {
        let mut limiter = door.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.admit(from.ip(), std::time::Instant::now())
    };
    if let Err(wait) = admitted {
        let says = "too many changes from this address";
        let refusal = super::problem(StatusCode::TOO_MANY_REQUESTS, says);
        let wait = wait.as_secs_f64().ceil() as u64;
        return ([(RETRY_AFTER, wait.to_string())], refusal).into_response();
    }
    let now = Timestamp::now();
    let call = format!("{} {}", request.method(), request.uri().path());
    let mut entry = Entry::new(&caller.name, from.ip(), call, now);
    // Who hangs up, or is answered that it takes too long, does not keep a change from being written down.
    let done = tokio::spawn(async move {
        let mut answer = if caller.scope < door.needs {
            let says = format!(
                "the token `{}` has the scope `{}`, and this needs `{}`",
                caller.name,
                caller.scope.as_str(),
                door.needs.as_str()
            );
            super::problem(StatusCode::FORBIDDEN, &says)
        } else if !same_origin(request.headers(), caller.by_token) {
            let says = "a page of another origin may not change anything";
            super::problem(StatusCode::FORBIDDEN, says)
        } else {
            next.run(request).await
        };
        entry.status = answer.status().as_u16();
        match answer.extensions_mut().remove::<Done>() {
            Some(Done::Changed(detail)) => entry.detail = detail,
            Some(Done::Looked) => return answer,
            // What was asked wrongly changed nothing; what was not allowed may be of interest.
            None if answer.status() != StatusCode::FORBIDDEN => return answer,
            None => {}
        }
        audit::write(&*door.source, &entry, now);
        answer
    });
    let failed = |_| super::problem(StatusCode::INTERNAL_SERVER_ERROR, "it failed");
    done.await.unwrap_or_else(failed)
}

/// Whether no browser sends this for a page of another site. Where no token protects, such a page could also have had its
/// name point to this machine: then only a loopback name will do.
fn same_origin(headers: &HeaderMap, by_token: bool) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let (Some(host), Some((_, origin))) = (host, origin) else {
        return false;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        match port.bytes().all(|b| b.is_ascii_digit()) {
            true => name,
            false => host,
        }
    });
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    let here = name == "localhost" || address.is_ok_and(|a| a.is_loopback());
    origin == host && (by_token || here)
}

/// Limits the time of an answer, and puts the same protective headers on every one.
pub(super) async fn protect(request: Request, next: Next) -> Response {
    let mut answer = match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => super::problem(StatusCode::SERVICE_UNAVAILABLE, "took too long").into_response(),
    };
    let headers = answer.headers_mut();
    // A stricter policy of a single answer stays.
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    answer
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Gate>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Gate>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A listener that bounds how many connections there are and how long each lives.
pub(super) struct Gate {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }
}

impl Listener for Gate {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, from) = Listener::accept(&mut self.listener).await;
        let now = Instant::now();
        let guest = Guest {
            stream,
            leaves: now + LIFE,
            timer: Box::pin(sleep_until(now + SILENCE)),
            _permit: permit,
        };
        (guest, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with a limit on silence and on life.
pub(super) struct Guest {
    stream: TcpStream,
    leaves: Instant,
    timer: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Guest {
    /// Passes progress on and restarts the silence; reports a timeout when there was none for too long.
    fn limit<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            let until = (Instant::now() + SILENCE).min(self.leaves);
            self.timer.as_mut().reset(until);
        }
        match (poll, self.timer.as_mut().poll(cx)) {
            (Poll::Pending, Poll::Ready(())) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            (poll, _) => poll,
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.limit(cx, poll)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::config::ApiToken;

    fn tokens(first: Option<&str>, named: &[(&str, &str, Scope)]) -> Tokens {
        let named = named.iter().map(|(name, token, scope)| ApiToken {
            name: (*name).to_owned(),
            token: Secret::new(*token),
            scope: *scope,
        });
        Tokens::new(&Http {
            listen: None,
            token: first.map(Secret::new),
            tokens: named.collect(),
            ..Http::default()
        })
    }

    #[test]
    fn only_the_token_admits() {
        let known = tokens(Some("s3cret"), &[]);
        let admits = |tokens: &Tokens, text: &'static str| {
            tokens
                .caller(Some(&HeaderValue::from_static(text)))
                .is_some()
        };
        assert!(admits(&known, "Bearer s3cret") && admits(&known, "bearer  s3cret"));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
            "Bearer ",
            "Bearer",
        ] {
            assert!(!admits(&known, wrong), "{wrong}");
        }
        assert!(known.caller(None).is_none());
        assert_eq!(&*tokens(None, &[]).caller(None).unwrap().name, "local");
        let empty = tokens(Some(""), &[]);
        for text in ["x y", "Bearer ", "Bearer x"] {
            assert!(!admits(&empty, text), "{text}");
        }
    }

    #[test]
    fn a_token_has_a_name_and_a_scope() {
        let named = [("wall", "aaa", Scope::Read), ("kim", "bbb", Scope::Operate)];
        let known = tokens(Some("ccc"), &named);
        for (text, name, scope) in [
            ("Bearer aaa", "wall", Scope::Read),
            ("Bearer bbb", "kim", Scope::Operate),
            ("Bearer ccc", "http.token", Scope::Admin),
        ] {
            let caller = known.caller(Some(&HeaderValue::from_static(text))).unwrap();
            assert_eq!((&*caller.name, caller.scope), (name, scope));
        }
        assert!(Scope::Read < Scope::Operate && Scope::Operate < Scope::Admin);
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let sent = |host: &'static str, origin: &'static str, by_token| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            same_origin(&headers, by_token)
        };
        assert!(same_origin(&HeaderMap::new(), false), "no page");
        for host in [
            "localhost:9464",
            "127.0.0.1:9464",
            "[::1]:9464",
            "[::1]",
            "localhost",
        ] {
            let origin: &'static str = format!("http://{host}").leak();
            assert!(sent(host, origin, false), "{host}");
        }
        assert!(sent("watch.example", "https://watch.example", true));
        // Its name may have been made to point here.
        assert!(!sent(
            "evil.example:9464",
            "http://evil.example:9464",
            false
        ));
        assert!(!sent("localhost:9464", "http://evil.example", false));
        assert!(!sent("localhost:9464", "null", true));
        assert!(!sent("watch.example", "https://evil.example", true));
    }
}

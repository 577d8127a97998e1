//! Who may come in, and for how long: bearer token, connection count, time limits.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Secret;

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 128;

/// Longest life of a connection, and longest silence in it: a client that dribbles or sleeps is cut off.
const LIFE: Duration = Duration::from_secs(300);
const SILENCE: Duration = Duration::from_secs(30);

/// Longest time an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// The token as a digest, so that comparing takes the same time whatever is wrong.
#[derive(Clone)]
pub(super) struct Token(Option<[u8; 32]>);

impl Token {
    pub(super) fn new(token: Option<&Secret>) -> Self {
        Self(token.map(|t| Sha256::digest(t.expose().as_bytes()).into()))
    }

    fn admits(&self, header: Option<&HeaderValue>) -> bool {
        let Some(expected) = self.0 else {
            return true;
        };
        let given = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            // An empty token admits nobody, even when one is configured.
            .filter(|token| !token.is_empty());
        let Some(given) = given else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        // Every byte is looked at: the time tells nothing.
        expected.iter().zip(given).fold(0, |d, (a, b)| d | (a ^ b)) == 0
    }
}

/// Asks for the token.
pub(super) async fn authenticate(
    State(token): State<Token>,
    request: Request,
    next: Next,
) -> Response {
    if token.admits(request.headers().get(AUTHORIZATION)) {
        return next.run(request).await;
    }
    let mut refusal = super::problem(StatusCode::UNAUTHORIZED, "a bearer token is required");
    let how = HeaderValue::from_static("Bearer realm=\"glasswatch\"");
    refusal.headers_mut().insert(WWW_AUTHENTICATE, how);
    refusal
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
            "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
    use super::*;

    #[test]
    fn only_the_token_admits() {
        let token = Token::new(Some(&Secret::new("s3cret")));
        let admits = |text: &'static str| token.admits(Some(&HeaderValue::from_static(text)));
        assert!(admits("Bearer s3cret") && admits("bearer  s3cret"));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
            "Bearer ",
            "Bearer",
        ] {
            assert!(!admits(wrong), "{wrong}");
        }
        assert!(!token.admits(None));
        assert!(Token::new(None).admits(None));
        let empty = Token::new(Some(&Secret::new("")));
        for text in ["x y", "Bearer ", "Bearer x"] {
            assert!(
                !empty.admits(Some(&HeaderValue::from_static(text))),
                "{text}"
            );
        }
    }
}

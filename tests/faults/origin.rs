//! An HLS origin that serves each stream from its own folder, and spoils each in its own way when told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::media::{media, pace};

/// Segments listed, one second each.
const WINDOW: u64 = 5;

#[derive(Clone)]
pub struct Origin {
    began: Instant,
    broken: Arc<AtomicBool>,
    /// The oldest segment listed when it broke.
    broken_from: Arc<AtomicU64>,
}

impl Origin {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            broken: Arc::default(),
            broken_from: Arc::default(),
        }
    }

    pub fn set_broken(&self, broken: bool) {
        let first = self.newest() + 1 - WINDOW;
        self.broken_from.store(first, Ordering::SeqCst);
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Serves `/STREAM/live.m3u8` until the task is aborted. No connection is kept, so that none outlives it.
    pub async fn serve(&self, port: u16) -> (SocketAddr, JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/{stream}/{file}", get(answer))
            .with_state(self.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (address, task)
    }

    /// The live playlist; `rewrite` makes the lines of a segment from its file name.
    fn playlist(&self, newest: u64, rewrite: impl Fn(&str) -> String) -> Response {
        let first = newest + 1 - WINDOW;
        let anew = (1..=first).filter(|n| media().begins_anew(*n)).count();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{anew}\n"
        );
        for n in first..=newest {
            if n > first && media().begins_anew(n) {
                text += "#EXT-X-DISCONTINUITY\n";
            }
            text += &rewrite(&format!("s{n}.ts"));
        }
        ok(text)
    }

    /// The live playlist under other numbers, with `before` in front of every segment `NAMEn.ts`.
    fn renumbered(&self, number: impl Fn(u64) -> u64, before: &str, name: &str) -> Response {
        let newest = self.newest();
        let first = newest + 1 - WINDOW;
        let mut text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{first}\n",
            number(first)
        );
        for n in first..=newest {
            text += &format!("{before}#EXTINF:1,\n{name}{n}.ts\n");
        }
        ok(text)
    }

    fn newest(&self) -> u64 {
        self.began.elapsed().as_secs() + WINDOW
    }

    fn healthy(&self, file: &str) -> Response {
        if file == "live.ts" {
            return self.continuous();
        }
        if file == "live.m3u8" {
            return self.playlist(self.newest(), plain);
        }
        segment(file).map_or_else(|| StatusCode::NOT_FOUND.into_response(), ok)
    }

    /// The programme in one body; while all is broken, nothing goes on.
    fn continuous(&self) -> Response {
        let (packets, body) = mpsc::channel(256);
        let broken = Arc::clone(&self.broken);
        pace(self.began, move |bytes| {
            if !broken.load(Ordering::SeqCst) {
                // A client that has gone misses nothing.
                let _ = packets.try_send(Ok::<_, Infallible>(Bytes::copy_from_slice(bytes)));
            }
        });
        let body = stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
        ok(Body::from_stream(body))
    }

    async fn spoiled(&self, stream: &str, file: &str) -> Response {
        let is_playlist = file == "live.m3u8";
        match (stream, is_playlist) {
            ("not-found", false) => StatusCode::NOT_FOUND.into_response(),
            ("server-error", false) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            ("playlist-gone", true) => StatusCode::NOT_FOUND.into_response(),
            ("frozen-playlist", true) => self.playlist(WINDOW, plain),
            ("silent-server" | "http-silent", _) => std::future::pending().await,
            ("endless-playlist", true) => endless(b"#EXTM3U\n# and more\n".repeat(100)),
            ("endless-segment", false) => {
                let mut packet = [0xFF; 188];
                packet[..4].copy_from_slice(&[0x47, 0x1F, 0xFF, 0x10]);
                endless(packet.repeat(20))
            }
            ("file-url", true) => self.playlist(self.newest(), |name| {
                format!("#EXTINF:1,\nfile:///etc/{name}\n")
            }),
            ("redirect-loop", false) => {
                (StatusCode::FOUND, [(header::LOCATION, file.to_owned())]).into_response()
            }
            ("missing-key" | "wrong-key", true) => self.playlist(self.newest(), |name| {
                let key = "#EXT-X-KEY:METHOD=AES-128,URI=\"key.bin\"";
                format!("{key}\n{}", plain(name))
            }),
            ("missing-key", _) if file == "key.bin" => StatusCode::NOT_FOUND.into_response(),
            ("wrong-key", _) if file == "key.bin" => ok(&b"not the right one"[..16]),
            // The tables and a little.
            ("truncated", false) => match segment(file) {
                Some(whole) => ok(whole.slice(..2 * 188 + 77)),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            // The beginning of one picture, of which a decoder may still make a picture.
            ("cut-in-picture", false) => match segment(file) {
                Some(whole) => ok(whole.slice(..5 * 188)),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            ("discontinuities", true) => self.renumbered(|n| n, "#EXT-X-DISCONTINUITY\n", "jump"),
            ("unmarked-jumps", true) => self.renumbered(|n| n, "", "jump"),
            ("sequence-jump", true) => self.renumbered(|n| n + 1000, "", "s"),
            ("sequence-reset", true) => {
                let from = self.broken_from.load(Ordering::SeqCst);
                self.renumbered(|n| n - from.min(n), "", "s")
            }
            ("web-page", false) => ok("<html><body>Please sign in.</body></html>"),
            _ => self.healthy(file),
        }
    }
}

async fn answer(
    State(origin): State<Origin>,
    Path((stream, file)): Path<(String, String)>,
) -> Response {
    let mut response = match origin.broken.load(Ordering::SeqCst) {
        true => origin.spoiled(&stream, &file).await,
        false => origin.healthy(&file),
    };
    let close = header::HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn plain(name: &str) -> String {
    format!("#EXTINF:1,\n{name}\n")
}

fn segment(file: &str) -> Option<Bytes> {
    if let Some(number) = file.strip_prefix("jump") {
        // Each second from elsewhere in the programme, far from those shortly before.
        let number: u64 = number.strip_suffix(".ts")?.parse().ok()?;
        return Some(media().segment(number * 23));
    }
    let number = file.strip_prefix('s')?.strip_suffix(".ts")?;
    Some(media().segment(number.parse().ok()?))
}

fn ok(body: impl Into<Body>) -> Response {
    Response::new(body.into())
}

fn endless(piece: Vec<u8>) -> Response {
    let piece = Bytes::from(piece);
    ok(Body::from_stream(stream::repeat_with(move || {
        Ok::<_, Infallible>(piece.clone())
    })))
}

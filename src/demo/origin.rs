//! A small live HLS origin with two faults: a playlist that stalls, segments that answer 404.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::impair::{PACKET, VIDEO_PID, is_random_access, pid, pmt_pid, pts};
use super::schedule::Fault;

/// Segments are cut at the first key frame after this long.
const SEGMENT_SECS: f64 = 2.0;
/// Timestamps have 33 bits.
const PTS_MASK: u64 = (1 << 33) - 1;
/// Segments listed.
const WINDOW: usize = 6;

struct Segment {
    number: u64,
    secs: f64,
    bytes: Bytes,
}

#[derive(Default)]
struct Window {
    segments: VecDeque<Segment>,
    stalled: Option<String>,
    refusing: bool,
}

impl Window {
    fn playlist(&self) -> String {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{SEGMENT_SECS:.0}\n#EXT-X-MEDIA-SEQUENCE:{}\n",
            self.segments.front().map_or(0, |s| s.number)
        );
        for segment in &self.segments {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "#EXTINF:{:.3},\nsegment-{}.ts\n",
                segment.secs, segment.number
            );
        }
        text
    }
}

/// Segments that a playlist needs before players can start.
const PLAYABLE: usize = 3;

/// The origin's shared state.
#[derive(Clone)]
pub struct Origin {
    window: Arc<Mutex<Window>>,
    playable: Arc<watch::Sender<bool>>,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            window: Arc::default(),
            playable: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Origin {
    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves `/live.m3u8` on this loopback port (0: a free one) until the returned task is aborted.
    pub async fn serve(&self, port: u16) -> std::io::Result<(SocketAddr, JoinHandle<()>)> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/live.m3u8", get(playlist))
            .route("/{segment}", get(segment))
            .with_state(self.clone());
        let task = tokio::spawn(async move {
            // It never ends by itself; an accept error ends the demo's origin, which the demo then shows.
            let _ = axum::serve(listener, router).await;
        });
        Ok((address, task))
    }

    /// Turns true, once and for all, when there is a playlist.
    pub fn playable(&self) -> watch::Receiver<bool> {
        self.playable.subscribe()
    }

    /// Sets or lifts a fault.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut window = self.window();
        window.refusing = fault == Some(Fault::Segments404);
        match fault {
            Some(Fault::PlaylistStall) if window.stalled.is_none() => {
                window.stalled = Some(window.playlist());
            }
            Some(Fault::PlaylistStall) => {}
            _ => window.stalled = None,
        }
    }

    fn publish(&self, number: u64, secs: f64, bytes: Vec<u8>) {
        let mut window = self.window();
        window.segments.push_back(Segment {
            number,
            secs,
            bytes: bytes.into(),
        });
        // Two more than listed stay, for players that are late.
        while window.segments.len() > WINDOW + 2 {
            window.segments.pop_front();
        }
        self.playable
            .send_replace(window.segments.len() >= PLAYABLE);
    }
}

async fn playlist(State(origin): State<Origin>) -> Response {
    let window = origin.window();
    if window.segments.len() < PLAYABLE {
        return StatusCode::NOT_FOUND.into_response();
    }
    let text = window.stalled.clone().unwrap_or_else(|| window.playlist());
    (
        [(header::CONTENT_TYPE, "application/vnd.apple.mpegurl")],
        text,
    )
        .into_response()
}

async fn segment(State(origin): State<Origin>, Path(name): Path<String>) -> Response {
    let window = origin.window();
    let number = name
        .strip_prefix("segment-")
        .and_then(|rest| rest.strip_suffix(".ts"))
        .and_then(|number| number.parse::<u64>().ok());
    match window.segments.iter().find(|s| Some(s.number) == number) {
        Some(segment) if !window.refusing => (
            [(header::CONTENT_TYPE, "video/mp2t")],
            segment.bytes.clone(),
        )
            .into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Cuts the live multiplex into segments that begin with tables and a key frame.
pub struct Segmenter {
    origin: Origin,
    tables: [Option<Vec<u8>>; 2],
    pmt_pid: Option<u16>,
    held: Vec<u8>,
    /// PTS of its first picture.
    began: Option<u64>,
    number: u64,
}

impl Segmenter {
    /// Publishes to `origin`.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            tables: [None, None],
            pmt_pid: None,
            held: Vec::new(),
            began: None,
            number: 0,
        }
    }

    /// Takes whole packets. Cuts by their timestamps: a busy machine makes segments late, not long.
    pub fn push(&mut self, packets: &[u8]) {
        for packet in packets.chunks_exact(PACKET) {
            let id = pid(packet);
            if id == 0 {
                self.tables[0] = Some(packet.to_vec());
                self.pmt_pid = pmt_pid(packet);
            } else if Some(id) == self.pmt_pid {
                self.tables[1] = Some(packet.to_vec());
            }
            if id == VIDEO_PID
                && is_random_access(packet)
                && let Some(pts) = pts(packet)
            {
                let secs = self
                    .began
                    .map(|began| (pts.wrapping_sub(began) & PTS_MASK) as f64 / 90_000.0);
                if secs.is_none_or(|secs| secs >= SEGMENT_SECS - 0.1) {
                    if let Some(secs) = secs {
                        let bytes = std::mem::take(&mut self.held);
                        self.origin.publish(self.number, secs, bytes);
                        self.number += 1;
                    }
                    self.held.clear();
                    self.began = Some(pts);
                    for table in self.tables.iter().flatten() {
                        self.held.extend_from_slice(table);
                    }
                }
            }
            self.held.extend_from_slice(packet);
        }
    }
}

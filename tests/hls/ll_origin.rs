//! A low-latency origin: the programme grows by a part at a time, and the playlist offers what the test wants.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aes::Aes128;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};

use crate::rig::{ok, status};

/// Length of a part.
pub const PART: Duration = Duration::from_millis(250);
/// Parts of a segment, which is a second long.
pub const PARTS: u64 = 4;
/// Parts that are there when the origin starts.
pub const BEFORE: u64 = 12 * PARTS;
/// Segments in the playlist.
const WINDOW: u64 = 10;
/// Segments that are listed with their parts.
const WITH_PARTS: u64 = 3;
/// `PART-HOLD-BACK`, in parts.
pub const HOLD_BACK: u64 = 3;

/// What is served.
pub struct Programme {
    pub init: Option<Bytes>,
    /// Part by part; every fourth begins a segment, and every second with a key picture.
    pub parts: Vec<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    No,
    Yes,
    /// Offered, and not done.
    Lie,
    /// Offered, and never answered.
    Hang,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hints {
    No,
    Right,
    /// For something that never comes.
    Wrong,
}

/// What the playlist offers, and what is wrong with it.
#[derive(Clone, Copy)]
pub struct Offer {
    pub blocking: Blocking,
    pub hints: Hints,
    pub deltas: bool,
    /// Parts are ranges of their segment.
    pub ranges: bool,
    pub encrypted: bool,
    /// This part is not there, whatever the playlist says.
    pub lost: fn(u64) -> bool,
    /// This part is announced as missing.
    pub gap: fn(u64) -> bool,
    /// The programme ends with this part.
    pub frozen_at: u64,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            blocking: Blocking::Yes,
            hints: Hints::Right,
            deltas: true,
            ranges: false,
            encrypted: false,
            lost: |_| false,
            gap: |_| false,
            frozen_at: u64::MAX,
        }
    }
}

/// A request, and how many parts were there when it came.
#[derive(Clone)]
pub struct Logged {
    pub at: Instant,
    /// With query, and the range of bytes if there is one.
    pub path: String,
    pub there: u64,
}

pub struct LlOrigin {
    pub url: String,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    offer: Offer,
    programme: Programme,
    began: Instant,
    log: Mutex<Vec<Logged>>,
}

impl Drop for LlOrigin {
    fn drop(&mut self) {
        self.die();
    }
}

impl LlOrigin {
    pub fn start(programme: Programme, offer: Offer) -> Self {
        let shared = Arc::new(Shared {
            offer,
            programme,
            began: Instant::now(),
            log: Mutex::default(),
        });
        let mut origin = Self {
            url: "http://127.0.0.1:0".to_owned(),
            shared,
            runtime: None,
        };
        origin.live();
        origin
    }

    /// All connections break, and nobody listens.
    pub fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// (Again) at the same address.
    pub fn live(&mut self) {
        let address = self.url.trim_start_matches("http://");
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.url = format!("http://{}", listener.local_addr().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let app = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.shared));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Requests for paths with this part.
    pub fn asked(&self, part: &str) -> Vec<Logged> {
        let log = self.shared.log.lock().unwrap();
        log.iter()
            .filter(|logged| logged.path.contains(part))
            .cloned()
            .collect()
    }
}

pub fn encrypt(iv: u64, plain: &[u8]) -> Bytes {
    let (key, iv) = ([7; 16], u128::from(iv).to_be_bytes());
    cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into())
        .encrypt_padded_vec::<Pkcs7>(plain)
        .into()
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let range = request.headers().get(header::RANGE);
    let bytes = range.map_or("", |range| range.to_str().unwrap());
    shared.log.lock().unwrap().push(Logged {
        at: Instant::now(),
        path: format!("{path} {bytes}").trim_end().to_owned(),
        there: shared.there(),
    });
    let number = |from: &str| path.strip_prefix(from)?.parse::<u64>().ok();
    if path.starts_with("/a.m3u8") || path.starts_with("/sound.m3u8") {
        return shared.list(&path).await;
    }
    if let Some(part) = number("/p") {
        return shared.part(part).await;
    }
    if let Some(segment) = number("/s") {
        return shared.segment(segment, range).await;
    }
    match (path.as_str(), &shared.programme.init) {
        ("/master.m3u8", _) => ok(
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"sound.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\na.m3u8\n",
        ),
        ("/key", _) => ok(vec![7; 16]),
        ("/init", Some(init)) => ok(init.clone()),
        ("/never", _) => std::future::pending().await,
        _ => status(404),
    }
}

impl Shared {
    /// Parts that are there.
    fn there(&self) -> u64 {
        let since = self.began.elapsed().as_nanos() / PART.as_nanos();
        (BEFORE + since as u64).min(self.offer.frozen_at)
    }

    /// Until so many parts are there.
    async fn until(&self, parts: u64) {
        if parts > self.offer.frozen_at {
            std::future::pending::<()>().await;
        }
        let ready = self.began + PART * u32::try_from(parts.saturating_sub(BEFORE)).unwrap();
        tokio::time::sleep_until(ready.into()).await;
    }

    async fn list(&self, path: &str) -> Response {
        let asked = |name: &str| -> Option<u64> {
            let (_, rest) = path.split_once(&format!("{name}="))?;
            rest.split('&').next()?.parse().ok()
        };
        let part = asked("_HLS_part").unwrap_or(PARTS - 1);
        match (self.offer.blocking, asked("_HLS_msn")) {
            (Blocking::Yes, Some(segment)) => self.until(segment * PARTS + part + 1).await,
            (Blocking::Hang, Some(_)) => std::future::pending().await,
            _ => {}
        }
        let delta = self.offer.deltas && path.contains("_HLS_skip=YES");
        ok(self.write(self.there(), delta))
    }

    fn write(&self, there: u64, delta: bool) -> String {
        let offer = &self.offer;
        let (end, secs) = (there / PARTS, PART.as_secs_f64());
        let first = end.saturating_sub(WINDOW);
        let mut control = vec![format!("PART-HOLD-BACK={}", secs * HOLD_BACK as f64)];
        if offer.blocking != Blocking::No {
            control.push("CAN-BLOCK-RELOAD=YES".to_owned());
        }
        if offer.deltas {
            control.push("CAN-SKIP-UNTIL=6".to_owned());
        }
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-PART-INF:PART-TARGET={secs}\n#EXT-X-SERVER-CONTROL:{}\n",
            control.join(",")
        );
        let mut listed = first;
        if delta {
            listed = end - 6;
            text += &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={}\n", listed - first);
        } else {
            if offer.encrypted {
                text += "#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n";
            }
            if self.programme.init.is_some() {
                text += "#EXT-X-MAP:URI=\"init\"\n";
            }
        }
        for segment in listed..=end {
            for part in segment * PARTS..there.min((segment + 1) * PARTS) {
                if segment + WITH_PARTS >= end {
                    text += &self.write_part(part);
                }
            }
            if segment < end {
                text += &format!("#EXTINF:{},\ns{segment}\n", secs * PARTS as f64);
            }
        }
        match (offer.hints, offer.ranges) {
            (Hints::No, _) => {}
            (Hints::Wrong, _) => text += "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"never\"\n",
            (Hints::Right, false) => {
                text += &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p{there}\"\n");
            }
            (Hints::Right, true) => {
                let (start, len) = self.place(there);
                text += &format!(
                    "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s{end}\",BYTERANGE-START={start},BYTERANGE-LENGTH={len}\n"
                );
            }
        }
        text
    }

    fn write_part(&self, part: u64) -> String {
        let mut text = format!("#EXT-X-PART:DURATION={}", PART.as_secs_f64());
        if self.offer.ranges {
            let (start, len) = self.place(part);
            text += &format!(",URI=\"s{}\",BYTERANGE=\"{len}@{start}\"", part / PARTS);
        } else {
            text += &format!(",URI=\"p{part}\"");
        }
        if part.is_multiple_of(2) {
            text += ",INDEPENDENT=YES";
        }
        if (self.offer.gap)(part) {
            text += ",GAP=YES";
        }
        text + "\n"
    }

    fn bytes(&self, part: u64) -> Bytes {
        self.programme.parts[part as usize].clone()
    }

    /// Where a part lies in its segment.
    fn place(&self, part: u64) -> (usize, usize) {
        let first = part / PARTS * PARTS;
        let before = (first..part).map(|part| self.bytes(part).len()).sum();
        (before, self.bytes(part).len())
    }

    async fn part(&self, part: u64) -> Response {
        let lost = (self.offer.lost)(part);
        if lost || part > self.there() {
            return status(404);
        }
        self.until(part + 1).await;
        match self.offer.encrypted {
            true => ok(encrypt(part / PARTS, &self.bytes(part))),
            false => ok(self.bytes(part)),
        }
    }

    async fn segment(&self, segment: u64, range: Option<&HeaderValue>) -> Response {
        let parts = segment * PARTS..(segment + 1) * PARTS;
        let whole: Vec<u8> = parts
            .clone()
            .flat_map(|part| self.bytes(part).to_vec())
            .collect();
        let Some(range) = range else {
            if self.there() < parts.end {
                return status(404);
            }
            return match self.offer.encrypted {
                true => ok(encrypt(segment, &whole)),
                false => ok(whole),
            };
        };
        let range = range.to_str().unwrap()["bytes=".len()..].split_once('-');
        let (first, last) = range.unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let part = parts.into_iter().find(|part| self.place(*part).0 == first);
        self.until(part.unwrap() + 1).await;
        let mut response = Response::new(Body::from(whole[first..=last].to_vec()));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let told = format!("bytes {first}-{last}/*");
        let told = HeaderValue::from_str(&told).unwrap();
        response.headers_mut().insert(header::CONTENT_RANGE, told);
        response
    }
}

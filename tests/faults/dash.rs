//! DASH: origins that fail at once, beside two that do not. The clock that one of those names goes wrong by a
//! minute.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use detectors::base::Cause;
use futures_util::stream;
use tokio::task::JoinHandle;

use crate::media::media;
use crate::watch::{Case, Watch, run};

/// 1.5 times the longest segment or update, + 2 s; both are a second.
const SHOWN_WITHIN: Duration = Duration::from_millis(3500);
/// Three target durations, but never before it is shown.
const PAGED_WITHIN: Duration = Duration::from_millis(3500);
/// Segments that are listed, one second each: fewer than a fault lasts beyond what counts as a gap of the media clock.
const WINDOW: u64 = 4;
/// The same of streams that stay healthy: a busy machine must not miss any.
const HEALTHY_WINDOW: u64 = 12;
/// Seconds of the presentation that there are when the test begins.
const AGE: u64 = HEALTHY_WINDOW;

fn window(stream: &str) -> u64 {
    match stream {
        "healthy" | "numbers-wrong-clock" => HEALTHY_WINDOW,
        _ => WINDOW,
    }
}

fn case(id: &'static str, cause: &'static [Cause]) -> Case {
    Case {
        id,
        causes: cause,
        shown_within: SHOWN_WITHIN,
        paged_within: PAGED_WITHIN,
        never_worked: false,
    }
}

#[test]
fn failing_segments_are_named_paged_and_outlived() {
    prove(vec![
        case("not-found", &[Cause::HttpNotFound]),
        // Time brings the segments: their absence alone tells.
        case("numbers-not-found", &[Cause::HttpNotFound]),
        case("server-error", &[Cause::HttpServerError]),
        case("endless-segment", &[Cause::TooLarge]),
        case("redirect-loop", &[Cause::RedirectRefused]),
        case("truncated", &[Cause::Undecodable]),
        case("web-page", &[Cause::Undecodable]),
        case("refused", &[Cause::ConnectFailed]),
    ]);
}

#[test]
fn failing_manifests_are_named_paged_and_outlived() {
    prove(vec![
        case("manifest-gone", &[Cause::HttpNotFound]),
        case("frozen-manifest", &[Cause::PlaylistStalled]),
        case("no-xml", &[Cause::PlaylistInvalid]),
        case("empty-period", &[Cause::PlaylistInvalid]),
        case("silent-server", &[Cause::Timeout]),
        case("endless-manifest", &[Cause::TooLarge]),
        case("file-url", &[Cause::SchemeRefused]),
        case("protected", &[Cause::EncryptedNoKey]),
    ]);
}

fn prove(cases: Vec<Case>) {
    run(async {
        let origin = Origin::new();
        let (address, _serving) = origin.serve(0).await;
        let (of_refused, refusing) = origin.serve(0).await;
        let mut streams = String::new();
        let healthy = ["healthy", "numbers-wrong-clock"];
        for id in cases.iter().map(|c| c.id).chain(healthy) {
            let address = if id == "refused" { of_refused } else { address };
            streams += &format!("  - {{id: {id}, url: \"http://{address}/{id}/live.mpd\"}}\n");
        }
        let watch = Watch::start(&streams).await;
        let break_them = async || {
            origin.broken.store(true, Ordering::SeqCst);
            refusing.abort();
        };
        let mend_them = async || {
            origin.broken.store(false, Ordering::SeqCst);
            origin.serve(of_refused.port()).await;
        };
        watch.prove(&cases, &healthy, break_them, mend_them).await;
    });
}

/// Serves each stream from its own folder, and spoils each in its own way when told to.
#[derive(Clone)]
struct Origin {
    began: Instant,
    at: jiff::Timestamp,
    broken: Arc<AtomicBool>,
}

impl Origin {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            at: jiff::Timestamp::now(),
            broken: Arc::default(),
        }
    }

    /// No connection is kept, so that none outlives the task.
    async fn serve(&self, port: u16) -> (SocketAddr, JoinHandle<()>) {
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

    /// Seconds of the presentation that there are.
    fn end(&self) -> u64 {
        self.began.elapsed().as_secs() + AGE
    }

    fn manifest(&self, window: u64, inside: &str) -> Response {
        let from = self.at - Duration::from_secs(AGE);
        ok(format!(
            "<?xml version='1.0'?>\n<!-- live -->\n<MPD\n type='dynamic' availabilityStartTime='{from}'\n \
             timeShiftBufferDepth='PT{window}S' minimumUpdatePeriod='PT1S'>{inside}</MPD>"
        ))
    }

    /// The programme repeats, in a new period each time.
    fn timeline(&self, window: u64, end: u64, prefix: &str) -> Response {
        let first = end - window;
        let mut periods = String::new();
        let mut from = first;
        while from < end {
            let begin = (0..=from)
                .rev()
                .find(|n| *n == 0 || media().begins_anew(*n));
            let next = (from + 1..end).find(|n| media().begins_anew(*n));
            let (begin, next) = (begin.unwrap(), next.unwrap_or(end));
            let more = next - from - 1;
            periods += &period(
                begin,
                &format!(
                    "<SegmentTemplate media='{prefix}s$Time$.ts' presentationTimeOffset='{begin}'>\
                     <SegmentTimeline><S t='{from}' d='1' r='{more}'/></SegmentTimeline></SegmentTemplate>"
                ),
            );
            from = next;
        }
        self.manifest(window, &periods)
    }

    /// Time alone tells which segments there are.
    fn numbers(&self, window: u64, clock: &str) -> Response {
        let numbers = "<SegmentTemplate media='s$Number$.ts' duration='1' startNumber='0'/>";
        self.manifest(window, &(clock.to_owned() + &period(0, numbers)))
    }

    fn healthy(&self, stream: &str, file: &str) -> Response {
        let Some(number) = number(file) else {
            return match stream {
                "numbers-wrong-clock" => {
                    let wrong = self.broken.load(Ordering::SeqCst);
                    let off = Duration::from_secs(if wrong { 60 } else { 0 });
                    let told = jiff::Timestamp::now() + off;
                    self.numbers(HEALTHY_WINDOW, &format!(
                        "<UTCTiming schemeIdUri='urn:mpeg:dash:utc:direct:2014' value='{told}'/>"
                    ))
                }
                _ if stream.starts_with("numbers") => self.numbers(WINDOW, ""),
                _ => self.timeline(window(stream), self.end(), ""),
            };
        };
        // A segment that is not complete, or no longer kept, is not there.
        match (self.end().saturating_sub(HEALTHY_WINDOW + 3)..self.end()).contains(&number) {
            true => ok(media().segment(number)),
            false => StatusCode::NOT_FOUND.into_response(),
        }
    }

    async fn spoiled(&self, stream: &str, file: &str) -> Response {
        let is_manifest = file == "live.mpd";
        let segment = number(file).map(|number| media().segment(number));
        match (stream, is_manifest) {
            ("not-found" | "numbers-not-found", false) => StatusCode::NOT_FOUND.into_response(),
            ("server-error", false) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            ("manifest-gone", true) => StatusCode::NOT_FOUND.into_response(),
            ("frozen-manifest", true) => self.timeline(WINDOW, AGE, ""),
            ("no-xml", true) => ok("<MPD type='dynamic'><Period>"),
            ("empty-period", true) => self.manifest(WINDOW, "<Period start='PT0S'/>"),
            ("silent-server", _) => std::future::pending().await,
            ("endless-manifest", true) => endless(b"<MPD><Period/></MPD>".repeat(100)),
            ("endless-segment", false) => {
                let mut packet = [0xFF; 188];
                packet[..4].copy_from_slice(&[0x47, 0x1F, 0xFF, 0x10]);
                endless(packet.repeat(20))
            }
            ("file-url", true) => self.timeline(WINDOW, self.end(), "file:///etc/"),
            ("redirect-loop", false) => {
                (StatusCode::FOUND, [(header::LOCATION, file.to_owned())]).into_response()
            }
            ("protected", true) => {
                let protection = "<ContentProtection schemeIdUri='urn:mpeg:dash:mp4protection:2011' value='cenc'/>";
                let timeline = format!(
                    "{protection}<SegmentTemplate media='s$Time$.ts'><SegmentTimeline>\
                     <S t='{}' d='1' r='{}'/></SegmentTimeline></SegmentTemplate>",
                    self.end() - WINDOW,
                    WINDOW - 1
                );
                self.manifest(WINDOW, &period(0, &timeline))
            }
            // The tables and a little.
            ("truncated", false) => segment.map_or_else(
                || StatusCode::NOT_FOUND.into_response(),
                |whole| ok(whole.slice(..2 * 188 + 77)),
            ),
            ("web-page", false) => ok("<html><body>Please sign in.</body></html>"),
            _ => self.healthy(stream, file),
        }
    }
}

async fn answer(
    State(origin): State<Origin>,
    Path((stream, file)): Path<(String, String)>,
) -> Response {
    let mut response = match origin.broken.load(Ordering::SeqCst) {
        true => origin.spoiled(&stream, &file).await,
        false => origin.healthy(&stream, &file),
    };
    let close = header::HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn period(start: u64, inside: &str) -> String {
    format!(
        "<Period start='PT{start}S'><AdaptationSet mimeType='video/mp2t'>{inside}\
         <Representation id='v' bandwidth='1'/></AdaptationSet></Period>"
    )
}

fn number(file: &str) -> Option<u64> {
    file.strip_prefix('s')?.strip_suffix(".ts")?.parse().ok()
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

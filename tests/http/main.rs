//! The HTTP server and the metrics page, on loopback, with made-up streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod browser;
mod evidence;
mod incidents;
mod page;
mod streams;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use detectors::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Format, Limit, MediaTime, Needs, Options,
    Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, Track, TrackInfo, Unit, VideoFormat,
    Why,
};
use futures_util::future::BoxFuture;
use glasswatch::alert::{Change, Defect, Moment, Transition};
use glasswatch::compare::wire::{self, Place};
use glasswatch::config::added::Entry;
use glasswatch::config::{
    Decode, DetectorConfig, Expect, Http, Incidents, Input, Limits, Pace, Protocol, Rendition,
    Secret, Srt, SrtMode, Stream,
};
use glasswatch::http::{self, HttpError, Put, Refusal, Server, Source, snapshot};
use glasswatch::ingest::stats::Stats;
use glasswatch::lane::{DetectorStatus, Latest, State, Status, TrackStatus};
use glasswatch::notify::NotifyStats;
use glasswatch::notify::courier::{AWAY, CourierStats};
use glasswatch::notify::desk::{self, Desk};
use glasswatch::notify::event::{Composer, Epoch};
use glasswatch::notify::jsonl::JsonlStats;
use glasswatch::notify::ledger::Ledger;
use glasswatch::notify::links::Links;
use glasswatch::notify::receiver::http::public_addresses;
use glasswatch::notify::store::{self, StoreState};
use glasswatch::telemetry::export::{Engine, EvidenceCounts, UploadCounts, Watched, render};
use glasswatch::telemetry::names;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Idle;

impl Detector for Idle {
    fn observe(&mut self, _: &Unit<'_>, _: &mut Sink<'_>) {}
    fn reset(&mut self, _: Reset) {}
}

static OFFSET: Signal = Signal {
    name: "audio_early_secs",
    unit: "seconds",
    range: (-10.0, 10.0),
    basis: Basis::Media,
    help: "Offset.",
};

static SURE: Signal = Signal {
    name: "confidence",
    unit: "0 to 9",
    range: (0.0, 9.0),
    basis: Basis::Media,
    help: "",
};
static ODD: Signal = Signal {
    name: "odd_ratio",
    unit: "ratio 0..1",
    range: (0.0, 1.0),
    basis: Basis::Media,
    help: "Odd.",
};

static TIMING: Descriptor = Descriptor {
    name: "av_timing",
    doc: "Sound and picture apart.",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &[],
    rules: &[],
    options: &[],
    list: None,
    build: |_| Box::new(Idle),
};

const RULE: RuleSpec = RuleSpec {
    name: "audio_early",
    signal: "audio_early_secs",
    raise: Limit::AtLeast(0.1),
    clear: Limit::AtMost(0.05),
    hold: Duration::from_secs(2),
    release: Duration::from_secs(5),
    severity: Severity::Warning,
    cause: Cause::AvSkew,
    says: "The sound is early.",
};

fn stream(id: &str, protocol: Protocol) -> Arc<Stream> {
    Arc::new(Stream {
        id: id.into(),
        labels: [("name".to_owned(), "News <1>".to_owned())].into(),
        input: Input {
            url: Secret::new("http://user:s3cret@cdn.example.com/live?token=s3cret"),
            protocol,
            headers: vec![("authorization".into(), Secret::new("s3cret"))],
            rendition: Rendition::Highest,
            program: None,
            rtsp: Default::default(),
            srt: Srt {
                mode: SrtMode::Caller,
                passphrase: Some(Secret::new("s3cret-passphrase")),
                stream_id: None,
                latency: Duration::from_millis(120),
            },
            jitter: Duration::from_millis(200),
            interface: None,
            content_keys: Default::default(),
            licence: Default::default(),
            allow_private: false,
            visible_after: None,
            page_after: None,
            limits: Limits::default(),
            decode: Decode::default(),
            pace: Pace::RealTime,
        },
        reference: None,
        reference_token: None,
        expect: Expect {
            video: None,
            audio: None,
        },
        detectors: vec![DetectorConfig {
            descriptor: &TIMING,
            options: Options::defaults(&[]),
            rules: vec![RULE],
        }],
        blind_after: Duration::from_secs(60),
        expected: Vec::new(),
        quiet_tracks: Vec::new(),
        evidence: true,
    })
}

fn defect(stream: &str) -> Defect {
    let at = |ms: u64| Moment {
        media: Some(MediaTime::from_millis(ms as i64)),
        arrival: Arrival::from_millis(ms),
    };
    Defect {
        id: format!("{stream}-1"),
        fingerprint: stream.into(),
        stream: stream.into(),
        labels: Arc::default(),
        detector: "av_timing",
        rule: "audio_early",
        track: None,
        member: None,
        severity: Severity::Warning,
        cause: Cause::AvSkew,
        place: None,
        av_offsets: Vec::new(),
        value: 0.2,
        limit: 0.1,
        unit: "seconds",
        says: "The sound is <b>early</b>.".into(),
        start: at(10),
        end: None,
    }
}

fn watched(id: &str, protocol: Protocol, state: State) -> Watched {
    let info = |track| TrackInfo {
        track,
        codec: "h264\"\n\\".into(),
        language: None,
        problem: None,
        member: None,
    };
    let latest = |signal, track, reading| Latest {
        detector: "av_timing",
        signal,
        track,
        reading,
    };
    let status = Status {
        stream: stream(id, protocol),
        state,
        cause: (state == State::Down).then_some(Cause::NoInput),
        tracks: vec![
            TrackStatus {
                info: info(Track::video(0)),
                format: Some(Format::Video(VideoFormat {
                    width: 1920,
                    height: 1080,
                    rate_hz: 25.0,
                    bits: 8,
                    interlaced: false,
                })),
                decoded: 250,
                last: Some(Arrival::from_millis(500)),
            },
            TrackStatus {
                info: info(Track::audio(0)),
                format: None,
                decoded: 480_000,
                last: None,
            },
        ],
        latest: vec![
            latest(&OFFSET, Some(Track::audio(0)), Reading::measured(-0.08)),
            latest(&ODD, None, Reading::unmeasurable(Why::WarmingUp)),
            Latest {
                detector: "av_reference",
                ..latest(&SURE, Some(Track::audio(0)), Reading::measured(8.0))
            },
        ],
        detectors: vec![DetectorStatus {
            detector: "av_timing",
            busy_nanos: 1_500_000_000,
            analysed: 240,
            shed: 10,
            measured_secs: 9.0,
            due_secs: 10.0,
            failed: false,
        }],
        defects: if state == State::Degraded {
            vec![defect(id)]
        } else {
            vec![]
        },
        dropped_pictures: 3,
        queued: 2,
        media_secs: 10.0,
    };
    let stats = Stats::default();
    stats.input_bytes.add(1000);
    stats.playlist_last_change_unix_ms.set(1_700_000_000_500);
    (status, Arc::new(stats))
}

struct Fake {
    streams: Mutex<Vec<Watched>>,
    engine: Mutex<Engine>,
    ledger: Arc<Ledger>,
    folder: Option<PathBuf>,
    links: Option<Arc<Links>>,
    epoch: Epoch,
    desk: OnceLock<Arc<Desk>>,
}

/// Goes with the test.
fn fresh_folder() -> PathBuf {
    thread_local! {
        static KEPT: RefCell<Vec<tempfile::TempDir>> = const { RefCell::new(Vec::new()) };
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    KEPT.with_borrow_mut(|kept| kept.push(folder));
    path
}

impl Source for Fake {
    fn instance(&self) -> String {
        "watch-1".into()
    }
    fn streams(&self) -> Vec<Watched> {
        self.streams.lock().unwrap().clone()
    }
    fn engine(&self) -> Engine {
        *self.engine.lock().unwrap()
    }
    fn notify(&self) -> NotifyStats {
        NotifyStats {
            receivers: vec![CourierStats {
                receiver: "ops".into(),
                delivered: 3,
                delays: [1, 0, 0, 1, 0, 0, 0, 0, 0, 1],
                delay_sum_secs: 400.0,
                pending: 1,
                oldest: Some(Arrival::from_millis(900)),
                ..CourierStats::default()
            }],
            events: Some(JsonlStats::default()),
            gap_secs: 12.5,
            incidents: [0, 1, 2],
            store: StoreState::default(),
        }
    }
    fn desk(&self) -> Arc<Desk> {
        let open = || {
            let desk = Desk::open(desk::Settings {
                composer: Arc::new(Composer::new(self.epoch, "watch-1", None)),
                epoch: self.epoch,
                data_dir: fresh_folder(),
                store: store::Settings {
                    ballast_bytes: 4096,
                    ..store::Settings::default()
                },
                incidents: Incidents::default(),
                receivers: Vec::new(),
                away: AWAY,
                links: None,
                addresses: public_addresses(),
            });
            let streams = self.streams.lock().unwrap();
            let streams: Vec<_> = streams.iter().map(|(s, _)| Arc::clone(&s.stream)).collect();
            let desk = desk.unwrap();
            desk.set_streams(&streams);
            Arc::new(desk)
        };
        Arc::clone(self.desk.get_or_init(open))
    }
    fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }
    fn evidence(&self) -> EvidenceCounts {
        EvidenceCounts {
            folder: self.folder.clone(),
            uploads: Some(UploadCounts::default()),
            ..EvidenceCounts::default()
        }
    }
    fn links(&self) -> Option<Arc<Links>> {
        self.links.clone()
    }
    fn epoch(&self) -> Epoch {
        self.epoch
    }
    fn prints(&self, stream: &str, since: Option<Place>) -> Option<Vec<u8>> {
        let here = since.unwrap_or(Place { run: 1, next: 0 });
        (stream == "news").then(|| wire::encode(here, [].iter()))
    }
    fn added(&self) -> Arc<BTreeSet<Arc<str>>> {
        Arc::default()
    }
    fn put_stream(self: Arc<Self>, _: Entry) -> BoxFuture<'static, Result<Put, Refusal>> {
        Box::pin(async { Err(Refusal::OfFile) })
    }
    fn remove_stream(self: Arc<Self>, _: String) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(async { Err(Refusal::OfFile) })
    }
}

/// As a daemon on this folder would have them.
fn links(folder: Option<&Path>) -> Option<Arc<Links>> {
    let base = "https://watch.example".parse().unwrap();
    Links::open(base, Duration::from_secs(3600), folder?.parent()?).map(Arc::new)
}

fn fake(folder: Option<PathBuf>) -> Arc<Fake> {
    let epoch = Epoch {
        arrival: Arrival::from_millis(0),
        unix: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    let ledger = Ledger::default();
    let raise = Transition {
        change: Change::Raise,
        at: defect("srt1").start,
        defect: defect("srt1"),
    };
    let event = Composer::new(epoch, "watch-1", None).compose(&raise);
    ledger.note(&Arc::new(event), Arrival::from_millis(10));
    Arc::new(Fake {
        streams: Mutex::new(vec![
            watched("hls1", Protocol::Hls, State::Running),
            watched("srt1", Protocol::Srt, State::Degraded),
            watched("rtp1", Protocol::Rtp, State::Down),
        ]),
        engine: Mutex::new(Engine {
            config_loaded: true,
            draining: false,
            wedged: 0,
            wedged_limit: 3,
            reload_ok: true,
            reload_at: Arrival::from_millis(1000),
            canary_arrived: 3,
            canary_lost: 1,
            canary_at: Some(Arrival::from_millis(700)),
            heartbeat_at: Some(Arrival::from_millis(800)),
        }),
        ledger: Arc::new(ledger),
        links: links(folder.as_deref()),
        folder,
        epoch,
        desk: OnceLock::new(),
    })
}

async fn serve(source: &Arc<Fake>, token: Option<&str>) -> Server {
    let config = Http {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        token: token.map(Secret::new),
        tokens: Vec::new(),
        ..Http::default()
    };
    let source = Arc::clone(source) as Arc<dyn Source>;
    http::start(&config, source).await.unwrap().unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn ask(server: &Server, method: &str, path: &str, header: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    // A header may bring a body behind an empty line.
    let end = if header.contains("\r\n\r\n") {
        ""
    } else {
        "\r\n"
    };
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}{end}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

async fn get(server: &Server, path: &str) -> Answer {
    ask(server, "GET", path, "").await
}

async fn json(server: &Server, path: &str) -> Json {
    let answer = get(server, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Name and labels of every series of a page, read without help from the code under test.
fn series(page: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut out = Vec::new();
    for line in page.lines().filter(|l| !l.starts_with('#')) {
        let (name, rest) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').unwrap().0),
            None => (line.split_once(' ').unwrap().0, ""),
        };
        let mut labels = BTreeMap::new();
        let mut rest = rest.trim_start_matches(',');
        while let Some((label, tail)) = rest.split_once("=\"") {
            let mut end = 0;
            let bytes = tail.as_bytes();
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            labels.insert(label.to_owned(), tail[..end].to_owned());
            rest = tail[end + 1..].trim_start_matches(',');
        }
        out.push((name.to_owned(), labels));
    }
    out
}

#[test]
fn everything_exported_is_in_the_table_with_its_labels() {
    let source = fake(Some("/tmp".into()));
    let page = render(&snapshot(&*source)).unwrap();
    let all = series(&page);
    let mut seen = BTreeSet::new();
    let mut unique = BTreeSet::new();
    for (name, labels) in &all {
        let family = names::find(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let mut expected: BTreeSet<&str> = family.labels.iter().copied().collect();
        if name.ends_with("_bucket") {
            expected.insert("le");
        }
        let given: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
        assert_eq!(given, expected, "{name}");
        assert!(unique.insert((name, labels)), "{name} {labels:?} twice");
        seen.insert(family.name);
    }
    // The fake has every protocol and every kind of number except these.
    let own: BTreeSet<_> = [
        "glasswatch_audio_level_dbfs",
        "glasswatch_video_still_seconds",
        "glasswatch_audio_samples_total",
    ]
    .into();
    let missing: Vec<_> = names::ALL
        .iter()
        .map(|f| f.name)
        .filter(|n| !seen.contains(n) && !own.contains(n))
        .collect();
    assert!(missing.is_empty(), "never exported: {missing:?}");
    assert!(!page.contains("s3cret") && !page.contains("cdn.example.com"));
    promtool(&page);
}

/// `promtool check metrics`, where it is installed.
fn promtool(page: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("promtool is not installed: the exposition was not checked with it");
        return;
    };
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), page.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{text}");
}

#[test]
fn numbers_come_out_as_measured() {
    let source = fake(None);
    let page = render(&snapshot(&*source)).unwrap();
    for line in [
        r#"glasswatch_av_offset_audio_early_seconds{stream="hls1",track="audio:0",source="timestamps"} -0.08"#,
        r#"glasswatch_av_offset_confidence{stream="hls1",track="audio:0",source="reference"} 8"#,
        r#"glasswatch_signal_value{stream="hls1",detector="av_timing",signal="audio_early_secs",track="audio:0"} -0.08"#,
        r#"glasswatch_signals_unmeasurable{stream="hls1",detector="av_timing",reason="warming_up"} 1"#,
        r#"glasswatch_stream_up{stream="srt1"} 1"#,
        r#"glasswatch_stream_up{stream="rtp1"} 0"#,
        r#"glasswatch_stream_state{stream="rtp1",state="down"} 1"#,
        r#"glasswatch_stream_state{stream="rtp1",state="running"} 0"#,
        r#"glasswatch_defects_total{stream="hls1",detector="av_timing",rule="audio_early",severity="warning"} 0"#,
        r#"glasswatch_defects_total{stream="srt1",detector="av_timing",rule="audio_early",severity="warning"} 1"#,
        r#"glasswatch_defect_active{stream="srt1",detector="av_timing",rule="audio_early"} 1"#,
        r#"glasswatch_playlist_last_change_timestamp_seconds{stream="hls1"} 1700000000.5"#,
        r#"glasswatch_stream_last_frame_timestamp_seconds{stream="hls1",track="video:0"} 1772366400.5"#,
        r#"glasswatch_notification_delay_seconds_bucket{receiver="ops",le="1"} 2"#,
        r#"glasswatch_notification_delay_seconds_bucket{receiver="ops",le="+Inf"} 3"#,
        r#"glasswatch_notification_delay_seconds_count{receiver="ops"} 3"#,
        r#"glasswatch_detector_cpu_seconds_total{stream="hls1",detector="av_timing"} 1.5"#,
    ] {
        assert!(page.lines().any(|l| l == line), "missing: {line}\n{page}");
    }
    assert!(
        !page.contains("odd_ratio"),
        "what cannot be measured has no value"
    );
    assert!(!page.contains(r#"rtp_packets_lost_total{stream="hls1"#));
    assert!(!page.contains(r#"playlist_requests_total{stream="srt1"#));
    source.streams.lock().unwrap().remove(1);
    let page = render(&snapshot(&*source)).unwrap();
    assert!(!page.contains("srt1"), "a removed stream's series are gone");
}

#[tokio::test]
async fn health_and_readiness_do_not_depend_on_streams() {
    let source = fake(None);
    let server = serve(&source, None).await;
    assert_eq!(get(&server, "/healthz").await.status, 200);
    assert_eq!(get(&server, "/readyz").await.status, 200);
    source.engine.lock().unwrap().wedged = 3;
    assert_eq!(get(&server, "/readyz").await.status, 503);
    source.engine.lock().unwrap().draining = true;
    let answer = get(&server, "/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
    assert_eq!(get(&server, "/healthz").await.status, 200);
    server.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn the_token_guards_all_but_health() {
    let source = fake(None);
    let server = serve(&source, Some("letmein")).await;
    // The page's own files hold no data.
    for open in ["/healthz", "/readyz", "/", "/page/page.js"] {
        assert_eq!(get(&server, open).await.status, 200, "{open}");
    }
    for closed in [
        "/plain",
        "/page/other",
        "/metrics",
        "/version",
        "/api/v1/streams",
        "/api/v1/openapi.json",
        "/api/v1/incidents",
        "/api/v1/mutes",
        "/api/v1/audit",
        "/api/v1/streams/hls1",
        "/api/v1/streams/hls1/prints",
        "/api/v1/defects",
        "/api/v1/evidence/a.jpg",
        "/nothing",
    ] {
        let answer = get(&server, closed).await;
        assert_eq!(answer.status, 401, "{closed}");
        assert!(answer.head.contains("www-authenticate: bearer"));
        let with = ask(&server, "GET", closed, "Authorization: Bearer letmein\r\n").await;
        assert_ne!(with.status, 401, "{closed}");
        let wrong = ask(&server, "GET", closed, "Authorization: Bearer letmeim\r\n").await;
        assert_eq!(wrong.status, 401, "{closed}");
    }
}

#[tokio::test]
async fn an_open_door_to_the_network_is_refused() {
    let config = Http {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        ..Http::default()
    };
    let refused = http::start(&config, fake(None)).await.err().unwrap();
    assert!(matches!(refused, HttpError::TokenNeeded(_)), "{refused}");
    let none = Http::default();
    assert!(http::start(&none, fake(None)).await.unwrap().is_none());
}

#[tokio::test]
async fn the_api_tells_streams_and_defects() {
    let server = serve(&fake(None), None).await;
    let list = json(&server, "/api/v1/streams").await;
    assert_eq!(list["streams"].as_array().unwrap().len(), 3);
    assert_eq!(list["streams"][1]["open_defects"], 1);
    assert_eq!(list["streams"][2]["cause"], "no_input");
    let one = json(&server, "/api/v1/streams/srt1").await;
    assert_eq!(one["stream"]["track_details"][0]["format"]["width"], 1920);
    let offset = &one["stream"]["track_details"][1]["av_offsets"][0];
    assert_eq!(
        (&offset["source"], &offset["audio_early_secs"]),
        (&Json::from("timestamps"), &Json::from(-0.08))
    );
    let readings = &one["stream"]["readings"];
    assert_eq!(
        (&readings[0]["value"], &readings[0]["unit"]),
        (&Json::from(-0.08), &Json::from("seconds"))
    );
    assert_eq!(
        (&readings[1]["value"], &readings[1]["unmeasurable"]),
        (&Json::Null, &Json::from("warming_up"))
    );
    assert_eq!(one["stream"]["detectors"][0]["coverage_ratio"], 0.9);
    assert_eq!(one["defects"][0]["rule"], "audio_early");
    assert!(!one.to_string().contains("s3cret"));
    let all = json(&server, "/api/v1/defects").await;
    assert_eq!(
        (
            all["open"].as_array().unwrap().len(),
            all["recent"].as_array().unwrap().len()
        ),
        (1, 1)
    );
    let other = json(&server, "/api/v1/defects?stream=hls1&open=true").await;
    assert!(other["open"].as_array().unwrap().is_empty() && other["recent"].is_null());
    let version = json(&server, "/version").await;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn errors_are_json_and_every_answer_is_protected() {
    let server = serve(&fake(None), None).await;
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/streams/nobody", 404),
        ("GET", "/api/v1/streams/nobody/prints", 404),
        ("GET", "/api/v1/streams/news/prints?run=x", 400),
        ("GET", "/api/v1/evidence/a.jpg", 404),
        ("GET", "/api/v1/defects?open=perhaps", 400),
        ("POST", "/api/v1/streams", 405),
        ("DELETE", "/healthz", 405),
    ] {
        let answer = ask(&server, method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        let body: Json = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["status"], status, "{method} {path}");
        assert!(
            answer.head.contains("x-content-type-options: nosniff"),
            "{path}"
        );
    }
    let huge = format!("x-fill: {}\r\n", "a".repeat(1 << 20));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{huge}\r\n");
    // The server may hang up in the middle.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.starts_with("HTTP/1.1 2"), "{text}");
}

#[tokio::test]
async fn the_plain_table_is_safe() {
    let server = serve(&fake(None), None).await;
    let answer = get(&server, "/plain").await;
    assert!(answer.head.contains("content-type: text/html"));
    assert!(
        answer
            .head
            .contains("content-security-policy: default-src 'none'")
    );
    let page = answer.body;
    assert!(page.contains("✖</span> down (no_input)"));
    assert!(page.contains("News &lt;1&gt;") && page.contains("&lt;b&gt;early"));
    assert!(!page.contains("<script") && !page.contains("s3cret"));
    assert!(
        page.find("rtp1").unwrap() < page.find("hls1").unwrap(),
        "trouble first"
    );
}

/// What stands at a key, wherever that is.
fn found<'a>(tree: &'a serde_yaml::Value, key: &str) -> Option<&'a serde_yaml::Value> {
    match tree {
        serde_yaml::Value::Mapping(map) => {
            let below = || map.iter().find_map(|(_, value)| found(value, key));
            map.get(key).or_else(below)
        }
        serde_yaml::Value::Sequence(items) => items.iter().find_map(|item| found(item, key)),
        _ => None,
    }
}

/// The command by which containers check health, from the image and from the template of tasks, with our port.
fn health_commands(port: u16) -> Vec<Vec<String>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let image = std::fs::read_to_string(root.join("Dockerfile")).unwrap();
    let line = image
        .lines()
        .find_map(|l| l.trim().strip_prefix("CMD [\"bash"))
        .unwrap();
    let image: Vec<String> = serde_json::from_str(&format!("[\"bash{line}")).unwrap();
    let template = std::fs::read_to_string(root.join("ecs/glasswatch.yaml")).unwrap();
    let template: serde_yaml::Value = serde_yaml::from_str(&template).unwrap();
    let task = found(&template, "HealthCheck").unwrap()["Command"].clone();
    let task: Vec<String> = serde_yaml::from_value(task).unwrap();
    let ours = |words: &[String]| {
        let put = |w: &String| w.replace("9464", &port.to_string());
        words.iter().map(put).collect::<Vec<_>>()
    };
    vec![ours(&image), ours(&task[1..])]
}

#[tokio::test]
async fn the_containers_health_check_works() {
    let server = serve(&fake(None), Some("letmein")).await;
    let run = |words: Vec<String>| {
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).stderr(Stdio::null());
            command.status().unwrap().success()
        })
    };
    let port = server.address().port();
    for words in health_commands(port) {
        assert!(run(words.clone()).await.unwrap(), "{words:?}");
    }
    server.stop(Duration::from_secs(10)).await;
    for words in health_commands(port) {
        assert!(!run(words).await.unwrap());
    }
}

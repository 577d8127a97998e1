//! Alerts end to end: transitions in at the outlet, requests out at small receivers on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod knowledge;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use detectors::base::{Arrival, BreakEdge, Cause, MediaTime, Severity, Track};
use glasswatch::alert::incident::Mute;
use glasswatch::alert::{Announced, Change, Defect, Moment, Transition};
use glasswatch::config::template::Template;
use glasswatch::config::{Incidents, Receiver, ReceiverKind, Secret};
use glasswatch::ingest::clock;
use glasswatch::notify::courier::AWAY;
use glasswatch::notify::event::Epoch;
use glasswatch::notify::jsonl::EventsTo;
use glasswatch::notify::receiver::http::public_addresses;
use glasswatch::notify::{Notifier, Settings, StartError, store};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

const KEY: &str = "Z2xhc3N3YXRjaC1zaWduaW5nLWtleQ==";
const LONG: Duration = Duration::from_secs(60);

type Requests = mpsc::UnboundedReceiver<(HeaderMap, String)>;

struct Hook {
    /// How the n-th request is answered.
    answer: Box<dyn Fn(usize) -> Response + Send + Sync>,
    seen: Mutex<usize>,
    got: mpsc::UnboundedSender<(HeaderMap, String)>,
}

async fn take(State(hook): State<Arc<Hook>>, headers: HeaderMap, body: String) -> Response {
    let n = {
        let mut seen = hook.seen.lock().unwrap();
        *seen += 1;
        *seen - 1
    };
    let _ = hook.got.send((headers, body));
    (hook.answer)(n)
}

async fn hook(
    answer: impl Fn(usize) -> Response + Send + Sync + 'static,
) -> (SocketAddr, Requests) {
    let (got, requests) = mpsc::unbounded_channel();
    let hook = Arc::new(Hook {
        answer: Box::new(answer),
        seen: Mutex::new(0),
        got,
    });
    let app = Router::new().route("/{*any}", post(take)).with_state(hook);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, requests)
}

fn receiver(name: &str, address: SocketAddr) -> Receiver {
    Receiver {
        template: Template::default(),
        name: name.into(),
        kind: ReceiverKind::Webhook {
            url: Secret::new(format!("http://{address}/hook?token=s3cret")),
            keys: vec![Secret::new(KEY)],
        },
        timeout: Duration::from_secs(20),
        proxy: None,
        min_severity: Severity::Info,
        allow_private: true,
        canary: false,
        only: BTreeMap::new(),
    }
}

/// What a receiver has been told: stream and news of each message.
fn news(requests: &mut Requests) -> Vec<String> {
    let mut got = Vec::new();
    while let Ok((_, body)) = requests.try_recv() {
        let json: Value = serde_json::from_str(&body).unwrap();
        let word = |name: &str| json["data"][name].as_str().unwrap().to_owned();
        got.push(format!("{} {}", word("stream"), word("news")));
    }
    got
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

fn settings(receivers: Vec<Receiver>) -> Settings {
    Settings {
        instance: "watch-1".into(),
        epoch: Epoch::now(),
        data_dir: fresh_folder(),
        store: store::Settings {
            ballast_bytes: 4096,
            ..store::Settings::default()
        },
        receivers,
        // What ends is told at once.
        incidents: Incidents {
            resolve_after: Duration::ZERO,
            repage_after: Duration::ZERO,
            ..Incidents::default()
        },
        events: None,
        evidence: None,
        away: AWAY,
        links: None,
        addresses: public_addresses(),
    }
}

fn transition(change: Change, stream: &str, severity: Severity) -> Transition {
    let at = |ms: u64| Moment {
        media: Some(MediaTime::from_millis(ms as i64)),
        arrival: Arrival::from_millis(ms),
    };
    Transition {
        change,
        at: at(3000),
        defect: Defect {
            id: format!("{stream}-1"),
            fingerprint: stream.into(),
            stream: stream.into(),
            labels: Arc::default(),
            detector: "freeze",
            rule: "frozen",
            track: Some(Track::video(0)),
            member: None,
            severity,
            cause: Cause::Frozen,
            place: None,
            av_offsets: Vec::new(),
            value: 2.5,
            limit: 2.0,
            unit: "seconds",
            says: "The picture stands still.".into(),
            start: at(500),
            end: (change == Change::Clear).then(|| at(3000)),
        },
    }
}

fn tell(notifier: &Notifier, change: Change, stream: &str, severity: Severity) {
    let transition = transition(change, stream, severity);
    notifier.outlet().transition(transition).unwrap();
}

fn ok() -> Response {
    StatusCode::OK.into_response()
}

/// Asks for no wait, so that the tests need not wait either.
fn busy(status: StatusCode) -> Response {
    (status, [("retry-after", "0")]).into_response()
}

async fn next(requests: &mut Requests) -> (HeaderMap, Value) {
    let request = tokio::time::timeout(LONG, requests.recv()).await;
    let (headers, body) = request.expect("a request in time").unwrap();
    let json = serde_json::from_str(&body).unwrap();
    (headers, json)
}

#[tokio::test]
async fn a_webhook_is_signed_and_tells_the_incident() {
    let (address, mut requests) = hook(|_| ok()).await;
    let notifier = Notifier::start(settings(vec![receiver("ops", address)])).unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    let request = tokio::time::timeout(LONG, requests.recv()).await;
    let (headers, body) = request.unwrap().unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let key = STANDARD.decode(KEY).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), expected);
    let sent: i64 = timestamp.parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - sent).abs() < 60);
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["id"], *id);
    assert_eq!(json["type"], "glasswatch.incident.raised");
    assert_eq!(json["data"]["title"], "news1: the picture stands still.");
    assert_eq!(json["data"]["defects"][0]["defect_id"], "news1-1");
    assert!(!body.contains("s3cret"));
    assert_eq!(notifier.ledger().open().len(), 1);
    assert_eq!(notifier.close(LONG).await, 0);
    let stats = &notifier.stats().receivers[0];
    assert_eq!((stats.delivered, stats.pending), (1, 0));
    assert_eq!(stats.delays.iter().sum::<u64>(), 1);
    let late = transition(Change::Clear, "news1", Severity::Critical);
    assert!(notifier.outlet().transition(late).is_err());
}

#[tokio::test]
async fn failures_are_retried_with_the_same_id_and_order_holds() {
    let (address, mut requests) = hook(|n| match n {
        0 => busy(StatusCode::TOO_MANY_REQUESTS),
        1 => busy(StatusCode::SERVICE_UNAVAILABLE),
        _ => ok(),
    })
    .await;
    let notifier = Notifier::start(settings(vec![receiver("ops", address)])).unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Warning);
    tell(&notifier, Change::Update, "news1", Severity::Critical);
    tell(&notifier, Change::Clear, "news1", Severity::Critical);
    let mut order = Vec::new();
    for _ in 0..5 {
        let (headers, json) = next(&mut requests).await;
        let kind = json["data"]["news"].as_str().unwrap().to_owned();
        order.push((kind, headers["webhook-id"].clone()));
    }
    let types: Vec<_> = order.iter().map(|(t, _)| t.as_str()).collect();
    assert_eq!(types, ["raised", "raised", "raised", "updated", "resolved"]);
    assert!(order[0].1 == order[1].1 && order[1].1 == order[2].1);
    assert_ne!(order[2].1, order[3].1);
    assert_eq!(notifier.close(LONG).await, 0);
    let stats = &notifier.stats().receivers[0];
    assert_eq!((stats.delivered, stats.retried, stats.dead), (3, 2, 0));
}

#[tokio::test]
async fn what_one_receiver_refuses_for_good_goes_to_the_next_and_is_told_of() {
    let (elsewhere, mut followed) = hook(|_| ok()).await;
    let (refusing, mut refused) = hook(move |n| match n {
        0 => StatusCode::BAD_REQUEST.into_response(),
        1 => {
            let location = format!("http://{elsewhere}/");
            (StatusCode::FOUND, [("location", location)]).into_response()
        }
        _ => ok(),
    })
    .await;
    let (backup, mut requests) = hook(|_| ok()).await;
    let backup = Receiver {
        min_severity: Severity::Critical,
        ..receiver("backup", backup)
    };
    let receivers = vec![receiver("ops", refusing), backup];
    let notifier = Notifier::start(settings(receivers)).unwrap();
    for stream in ["a", "b"] {
        tell(&notifier, Change::Raise, stream, Severity::Warning);
        next(&mut refused).await;
    }
    let mut told = Vec::new();
    while told.len() < 3 {
        let (_, json) = next(&mut requests).await;
        let data = &json["data"];
        let about = data["stream"].as_str().unwrap_or("the monitor").to_owned();
        told.push(format!("{about} {}", data["cause"].as_str().unwrap()));
    }
    told.sort();
    assert_eq!(
        told,
        ["a frozen", "b frozen", "the monitor receiver_refuses"]
    );
    // It takes that, and so it is over.
    next(&mut refused).await;
    assert_eq!(notifier.close(LONG).await, 0);
    let stats = &notifier.stats().receivers[0];
    assert_eq!((stats.retried, stats.dead), (0, 2));
    assert!(followed.try_recv().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn a_slow_receiver_delays_nobody_else() {
    let (fast, mut requests) = hook(|_| ok()).await;
    // Accepts connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = silent.local_addr().unwrap();
    let accepted = Arc::new(Notify::new());
    let told = Arc::clone(&accepted);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
            told.notify_one();
        }
    });
    let receivers = vec![receiver("slow", slow), receiver("fast", fast)];
    let notifier = Notifier::start(settings(receivers)).unwrap();
    tell(&notifier, Change::Raise, "first", Severity::Critical);
    accepted.notified().await;
    for i in 0..50 {
        tell(
            &notifier,
            Change::Raise,
            &format!("s{i}"),
            Severity::Critical,
        );
    }
    for _ in 0..51 {
        next(&mut requests).await;
    }
    assert_eq!(notifier.close(Duration::from_secs(1)).await, 51);
    let stats = notifier.stats().receivers;
    assert_eq!((stats[0].delivered, stats[1].delivered), (0, 51));
}

#[tokio::test]
async fn what_severity_hid_arrives_when_it_grows_and_is_cleared() {
    let (address, mut requests) = hook(|_| ok()).await;
    let pager = Receiver {
        min_severity: Severity::Critical,
        ..receiver("pager", address)
    };
    let notifier = Notifier::start(settings(vec![pager])).unwrap();
    for (change, stream, severity) in [
        (Change::Raise, "hidden", Severity::Warning),
        (Change::Clear, "hidden", Severity::Warning),
        (Change::Raise, "grows", Severity::Warning),
        (Change::Update, "grows", Severity::Critical),
        (Change::Clear, "grows", Severity::Warning),
    ] {
        tell(&notifier, change, stream, severity);
    }
    assert_eq!(notifier.close(LONG).await, 0);
    let got = news(&mut requests);
    assert_eq!(got, ["grows raised", "grows resolved"]);
}

#[tokio::test]
async fn a_receiver_may_be_there_for_some_streams_only() {
    let (address, mut requests) = hook(|_| ok()).await;
    let only = [("stream".to_owned(), "news*".to_owned())].into();
    let some = Receiver {
        only,
        ..receiver("some", address)
    };
    let notifier = Notifier::start(settings(vec![some])).unwrap();
    for stream in ["sport1", "news2"] {
        tell(&notifier, Change::Raise, stream, Severity::Critical);
        tell(&notifier, Change::Clear, stream, Severity::Critical);
    }
    assert_eq!(notifier.close(LONG).await, 0);
    let got = news(&mut requests);
    assert_eq!(got, ["news2 raised", "news2 resolved"]);
}

#[tokio::test]
async fn an_unsteady_receiver_loses_nothing_and_keeps_every_order() {
    let (address, mut requests) = hook(|n| match n % 3 {
        2 => busy(StatusCode::BAD_GATEWAY),
        _ => ok(),
    })
    .await;
    let notifier = Notifier::start(settings(vec![receiver("ops", address)])).unwrap();
    for (change, severity) in [
        (Change::Raise, Severity::Warning),
        (Change::Update, Severity::Critical),
        (Change::Clear, Severity::Critical),
    ] {
        for i in 0..40 {
            tell(&notifier, change, &format!("s{i}"), severity);
        }
    }
    assert_eq!(notifier.close(LONG).await, 0);
    assert_eq!(notifier.stats().receivers[0].delivered, 120);
    let mut seen: HashMap<String, Vec<String>> = HashMap::new();
    while let Ok((_, body)) = requests.try_recv() {
        let json: Value = serde_json::from_str(&body).unwrap();
        let word = |name: &str| json["data"][name].as_str().unwrap().to_owned();
        seen.entry(word("stream")).or_default().push(word("news"));
    }
    assert_eq!(seen.len(), 40);
    for (stream, mut types) in seen {
        types.dedup();
        assert_eq!(types, ["raised", "updated", "resolved"], "{stream}");
    }
}

#[tokio::test]
async fn event_lines_tell_defects_and_receivers_incidents() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let (address, mut requests) = hook(|_| ok()).await;
    let notifier = Notifier::start(Settings {
        events: Some(EventsTo::File(path.clone())),
        evidence: Some(Arc::new(|d| {
            vec![format!("evidence/{}/first_bad.jpg", d.stream)]
        })),
        ..settings(vec![receiver("ops", address)])
    })
    .unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    assert_eq!(notifier.close(LONG).await, 0);
    let text = std::fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(&text).unwrap();
    let told = next(&mut requests).await.1;
    assert_eq!(line["defect_id"], told["data"]["defects"][0]["defect_id"]);
    for of in [&line, &told["data"]["defects"][0]] {
        assert_eq!(of["evidence"][0], "evidence/news1/first_bad.jpg");
    }
    let docs = include_str!("../../docs/incidents.md");
    let fields = told["data"].as_object().unwrap();
    for name in fields.keys() {
        let row = format!("| `{name}` |");
        assert!(docs.contains(&row), "{name} is not documented");
    }
    let table = docs.split("## Message").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    assert_eq!(table.matches("\n| `").count(), fields.len());
}

#[tokio::test]
async fn a_restart_delivers_what_waited_and_goes_on_with_what_was_open() {
    let dir = tempfile::tempdir().unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = closed.local_addr().unwrap();
    drop(closed);
    let on_disk = |address| Settings {
        data_dir: dir.path().to_owned(),
        ..settings(vec![receiver("ops", address)])
    };
    let notifier = Notifier::start(on_disk(gone)).unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    tell(&notifier, Change::Raise, "news2", Severity::Critical);
    tell(&notifier, Change::Clear, "news2", Severity::Critical);
    assert_eq!(notifier.close(Duration::from_secs(1)).await, 3);
    drop(notifier);
    let (address, mut requests) = hook(|_| ok()).await;
    let notifier = Notifier::start(on_disk(address)).unwrap();
    let gap = notifier.desk().gap().unwrap();
    assert!(gap < LONG && notifier.stats().gap_secs == gap.as_secs_f64());
    let mut got = Vec::new();
    for _ in 0..3 {
        let (_, json) = next(&mut requests).await;
        let word = |name: &str| json["data"][name].as_str().unwrap().to_owned();
        got.push(format!("{} {}", word("stream"), word("news")));
    }
    got.sort();
    assert_eq!(got, ["news1 raised", "news2 raised", "news2 resolved"]);
    let desk = notifier.desk();
    let open = desk.incidents(jiff::Timestamp::now());
    assert_eq!(open.len(), 1, "nothing is resolved by silence");
    assert!(open[0].unknown);
    assert_eq!(desk.past(10)[0].stream.as_deref(), Some("news2"));
    let before = desk.take_before("news1");
    assert_eq!(before[0].id, "news1-1");
    assert!(desk.take_before("news1").is_empty());
    tell(&notifier, Change::Clear, "news1", Severity::Critical);
    let (_, json) = next(&mut requests).await;
    assert_eq!(json["data"]["incident_id"], *open[0].incident_id);
    assert_eq!(json["data"]["news"], "resolved");
    assert_eq!(notifier.close(LONG).await, 0);
}

#[tokio::test]
async fn an_announced_break_excuses_a_still_and_not_a_lost_input() {
    let (address, mut requests) = hook(|_| ok()).await;
    let notifier = Notifier::start(settings(vec![receiver("ops", address)])).unwrap();
    let mark = |edge, planned| Announced {
        stream: "news1".into(),
        edge,
        at: clock::now(),
        planned,
    };
    let outlet = notifier.outlet();
    outlet.announce(mark(BreakEdge::Start, Some(LONG)));
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    tell(&notifier, Change::Raise, "other", Severity::Critical);
    assert_eq!(next(&mut requests).await.1["data"]["stream"], "other");
    let mut lost = transition(Change::Raise, "news1", Severity::Critical);
    (lost.defect.id, lost.defect.fingerprint) = ("lost-1".into(), "lost".into());
    (lost.defect.detector, lost.defect.rule) = ("loss", "no_input");
    outlet.transition(lost).unwrap();
    assert_eq!(next(&mut requests).await.1["data"]["topic"], "input");
    assert_eq!(notifier.close(LONG).await, 0);
    assert!(requests.try_recv().is_err(), "the still was told");
}

#[tokio::test]
async fn a_disk_that_hangs_holds_no_alert_back() {
    let (address, mut requests) = hook(|_| ok()).await;
    let settings = settings(vec![receiver("ops", address)]);
    let folder = settings.data_dir.join("outbox");
    let notifier = Notifier::start(settings).unwrap();
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path());
    let is_database = |path: &PathBuf| path.extension().is_some_and(|e| e == "sqlite");
    let database = { files }.find(is_database).unwrap();
    let other = rusqlite::Connection::open(database).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for i in 0..20 {
        tell(
            &notifier,
            Change::Raise,
            &format!("s{i}"),
            Severity::Critical,
        );
    }
    let mut got = Vec::new();
    for _ in 0..20 {
        got.push(next(&mut requests).await.1["data"]["stream"].clone());
    }
    assert_eq!(got.len(), 20, "told while nothing could be written");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(notifier.close(LONG).await, 0);
}

#[tokio::test]
async fn what_came_and_went_while_a_receiver_was_away_is_one_message() {
    let down = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&down);
    let (address, mut requests) = hook(move |_| match away.load(Ordering::SeqCst) {
        true => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        false => ok(),
    })
    .await;
    let notifier = Notifier::start(Settings {
        away: Duration::from_millis(1),
        ..settings(vec![receiver("ops", address)])
    })
    .unwrap();
    tell(&notifier, Change::Raise, "stays", Severity::Critical);
    next(&mut requests).await;
    for i in 0..20 {
        let stream = format!("s{i}.");
        tell(&notifier, Change::Raise, &stream, Severity::Critical);
        tell(&notifier, Change::Clear, &stream, Severity::Critical);
    }
    // The next attempt is a second later.
    let stats = || notifier.stats().receivers[0].clone();
    while stats().pending < 41 {
        tokio::task::yield_now().await;
    }
    down.store(false, Ordering::SeqCst);
    // Whichever was due first tells that the receiver is back; then it gets what still holds, and of the rest one message.
    while stats().pending > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(notifier.close(LONG).await, 0);
    let mut told = Vec::new();
    while let Ok((_, body)) = requests.try_recv() {
        told.push(serde_json::from_str::<Value>(&body).unwrap());
    }
    let (missed, rest): (Vec<Value>, Vec<Value>) =
        { told.into_iter() }.partition(|m| m["type"] == "glasswatch.incidents.missed");
    let streams: Vec<_> = rest.iter().map(|m| m["data"]["stream"].clone()).collect();
    assert!(streams.contains(&"stays".into()), "{streams:?}");
    let [missed] = &missed[..] else {
        panic!("one message of what was missed: {missed:?}");
    };
    let text = missed["data"].to_string();
    // A few may be on their way when the first is accepted: those are told in full.
    for stream in (0..20).map(|i| format!("s{i}.")) {
        let over = format!("{stream}: over: the picture stands still");
        let whole = streams.iter().filter(|s| **s == *stream).count() == 2;
        assert!(whole || text.contains(&over), "{stream}: {text}");
    }
    let compacted = stats().compacted;
    assert!(compacted >= 20 && rest.len() as u64 + compacted >= 41);
}

#[tokio::test]
async fn mutes_outlive_a_restart_and_what_they_hide_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (address, mut requests) = hook(|_| ok()).await;
    let on_disk = || Settings {
        data_dir: dir.path().to_owned(),
        ..settings(vec![receiver("ops", address)])
    };
    let now = jiff::Timestamp::now();
    let mute = Mute {
        id: "m".into(),
        matchers: [("stream".to_owned(), "news*".to_owned())].into(),
        author: "kim".into(),
        reason: "works".into(),
        from: now,
        until: now + LONG,
    };
    let notifier = Notifier::start(on_disk()).unwrap();
    notifier.desk().mute(mute, now).unwrap();
    assert_eq!(notifier.close(LONG).await, 0);
    drop(notifier);
    let notifier = Notifier::start(on_disk()).unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    tell(&notifier, Change::Raise, "sport", Severity::Critical);
    assert_eq!(next(&mut requests).await.1["data"]["stream"], "sport");
    let desk = notifier.desk();
    let open = desk.incidents(now);
    let quiet = open.iter().find(|i| i.stream.as_deref() == Some("news1"));
    assert_eq!(quiet.unwrap().quiet.as_deref(), Some("muted"));
    assert!(desk.unmute("m", jiff::Timestamp::now()));
    assert_eq!(next(&mut requests).await.1["data"]["stream"], "news1");
    assert_eq!(notifier.close(LONG).await, 0);
}

/// Collects the log lines of this process, those of the other tests too.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_fails_is_logged_without_its_url() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole process: a subscriber of one thread misses call sites that another test reached first.
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    // Bound and closed again: nobody listens there.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = closed.local_addr().unwrap();
    drop(closed);
    let (refusing, mut requests) = hook(|_| StatusCode::FORBIDDEN.into_response()).await;
    let receivers = vec![receiver("gone", gone), receiver("refusing", refusing)];
    let notifier = Notifier::start(settings(receivers)).unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    next(&mut requests).await;
    assert_eq!(notifier.close(Duration::from_secs(2)).await, 1);
    assert!(notifier.stats().receivers[0].retried >= 1);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<_> = log.lines().filter(|l| l.contains("glasswatch::")).collect();
    let tells = |words: [&str; 2]| ours.iter().any(|l| words.iter().all(|w| l.contains(w)));
    assert!(tells(["receiver=gone", "connect"]), "{log}");
    assert!(tells(["receiver=refusing", "status 403"]), "{log}");
    assert!(tells(["receiver=gone", "left=1"]), "{log}");
    // Not by us, and not by what we build on, at any level.
    assert!(!log.contains("s3cret") && !log.contains("/hook"), "{log}");
}

#[tokio::test]
async fn a_template_says_it_and_what_fails_is_said_in_our_own_words() {
    let (address, mut requests) = hook(|_| ok()).await;
    let template = Template {
        title: Some("{{ severity | upper }} on {{ name }}{{ labels.region }}".to_owned()),
        text: Some("{{ defects[0].rule }}\nsince {{ opened }}".to_owned()),
    };
    let templated = Receiver {
        template: template.clone(),
        ..receiver("ops", address)
    };
    let (other, mut others) = hook(|_| ok()).await;
    let failing = Receiver {
        template: Template {
            text: Some("{{ defects[7].says }}".to_owned()),
            ..template
        },
        ..receiver("other", other)
    };
    let notifier = Notifier::start(settings(vec![templated, failing])).unwrap();
    tell(&notifier, Change::Raise, "news", Severity::Critical);
    let (_, said) = next(&mut requests).await;
    assert_eq!(said["data"]["title"], "CRITICAL on news");
    let text = said["data"]["text"].as_str().unwrap();
    assert!(text.starts_with("frozen\nsince 20"), "{text}");
    let (_, said) = next(&mut others).await;
    assert_eq!(said["data"]["title"], "news: the picture stands still.");
    assert_eq!(notifier.close(LONG).await, 0);
    let stats = notifier.stats().receivers;
    let failed: Vec<u64> = stats.iter().map(|r| r.template_failed).collect();
    assert_eq!(failed, [0, 1]);
}

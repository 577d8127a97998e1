//! Everything behind the detectors: incidents, the store, and the couriers with a webhook.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use detectors::base::{Arrival, Cause, Severity, Track};
use glasswatch::alert::{Change, Defect, Moment, Transition};
use glasswatch::config::template::Template;
use glasswatch::config::{Incidents, Receiver, ReceiverKind, Secret};
use glasswatch::notify::courier::AWAY;
use glasswatch::notify::desk::{self, Desk};
use glasswatch::notify::event::{Composer, Epoch};
use glasswatch::notify::receiver::http::public_addresses;
use glasswatch::notify::store::{self, Phase, Store};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::{Life, words};

const ROUNDS: u64 = 200;
const CHANGES: usize = 5000;
/// How long the receiver may take.
const PATIENCE: Duration = Duration::from_millis(150);
/// Longest life of a child: a receiver that is given a rest takes nothing.
const LIFE: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(300);
/// The round of the last child, which nobody kills.
const LAST: u64 = u64::MAX;

fn settings() -> store::Settings {
    store::Settings {
        ballast_bytes: 16 << 10,
        ..store::Settings::default()
    }
}

// ---- the child

/// Not a test by itself: what the other one starts and kills.
#[test]
fn child() {
    let Some(life) = Life::given() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(live(&life));
}

fn open(life: &Life) -> Desk {
    let epoch = Epoch::now();
    Desk::open(desk::Settings {
        composer: Arc::new(Composer::new(epoch, "watch-1", None)),
        epoch,
        data_dir: life.folder.clone(),
        store: settings(),
        incidents: Incidents {
            resolve_after: Duration::ZERO,
            repage_after: Duration::ZERO,
            ..Incidents::default()
        },
        receivers: vec![Receiver {
            name: "ops".into(),
            kind: ReceiverKind::Webhook {
                url: Secret::new(format!("http://{}/", life.receiver)),
                keys: Vec::new(),
            },
            timeout: PATIENCE,
            proxy: None,
            min_severity: Severity::Info,
            only: BTreeMap::new(),
            allow_private: true,
            canary: false,
            template: Template::default(),
        }],
        away: AWAY,
        links: None,
        addresses: public_addresses(),
    })
    .unwrap()
}

async fn live(life: &Life) {
    let desk = open(life);
    println!("open");
    let tell = |change, stream: &str, turn: u32| {
        desk.hear(&transition(change, stream, turn), Timestamp::now());
    };
    let mut chance = fastrand::Rng::with_seed(life.round);
    // What the one before left open goes on, and ends now and then.
    for incident in desk.incidents(Timestamp::now()) {
        let Some(stream) = incident.stream.as_deref().filter(|_| chance.u8(..4) == 0) else {
            continue;
        };
        for defect in desk.take_before(stream) {
            let turn = defect.id.rsplit('-').next().unwrap().parse().unwrap();
            tell(Change::Clear, stream, turn);
        }
    }
    desk.flush(LONG).await;
    let pending = || desk.couriers()[0].stats().pending;
    let mut number = 0;
    while life.round != LAST && number < 500 {
        let mut batch = Vec::new();
        for _ in 0..chance.usize(1..8) {
            number += 1;
            let stream = format!("s{}x{number}", life.round);
            let changes = chance.u32(1..=4);
            for n in 0..changes {
                let change = if n % 2 == 0 {
                    Change::Raise
                } else {
                    Change::Clear
                };
                tell(change, &stream, n / 2);
            }
            batch.push((stream, changes));
        }
        desk.flush(LONG).await;
        for (stream, changes) in batch {
            println!("ack {stream} {changes}");
        }
        while pending() > 40 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    while pending() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("done");
}

fn transition(change: Change, stream: &str, turn: u32) -> Transition {
    let at = Moment {
        media: None,
        arrival: Arrival::from_millis(u64::from(turn) * 1000),
    };
    Transition {
        change,
        at,
        defect: Defect {
            id: format!("{stream}-{turn}"),
            fingerprint: stream.into(),
            stream: stream.into(),
            labels: Arc::default(),
            detector: "freeze",
            rule: "frozen",
            track: Some(Track::video(0)),
            member: None,
            severity: Severity::Critical,
            cause: Cause::Frozen,
            place: None,
            av_offsets: Vec::new(),
            value: 2.5,
            limit: 2.0,
            unit: "seconds",
            says: "The picture stands still.".into(),
            start: at,
            end: (change == Change::Clear).then_some(at),
        },
    }
}

// ---- the receiver

struct Hook {
    chance: Mutex<fastrand::Rng>,
    /// Id and body of what it has, whatever it answered.
    got: Mutex<Vec<(String, String)>>,
}

async fn take(State(hook): State<Arc<Hook>>, headers: HeaderMap, body: String) -> Response {
    let mood = hook.chance.lock().unwrap().u8(..100);
    if mood < 4 {
        let later = [("retry-after", "0")];
        return (StatusCode::TOO_MANY_REQUESTS, later, "").into_response();
    }
    if mood < 5 {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    hook.got.lock().unwrap().push((id, body));
    if mood < 6 {
        tokio::time::sleep(PATIENCE * 4 / 3).await;
    }
    if mood < 7 {
        // Cut after the head.
        let cut = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"x"))]);
        let head = [("content-length", "1000")];
        return (StatusCode::ACCEPTED, head, Body::from_stream(cut)).into_response();
    }
    StatusCode::OK.into_response()
}

// ---- the oracle

#[test]
fn kill_9_of_the_alert_path_loses_no_alert_and_ends_no_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let hook = Arc::new(Hook {
        chance: Mutex::new(fastrand::Rng::with_seed(7)),
        got: Mutex::default(),
    });
    let app = Router::new()
        .route("/", post(take))
        .with_state(Arc::clone(&hook));
    let bound = tokio::net::TcpListener::bind("127.0.0.1:0");
    let listener = runtime.block_on(bound).unwrap();
    let receiver = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, app).await });

    let folder = tempfile::tempdir().unwrap();
    let life = |round| Life {
        folder: folder.path().to_owned(),
        receiver,
        round,
    };
    let mut chance = fastrand::Rng::with_seed(43);
    let mut acknowledged: HashMap<String, u32> = HashMap::new();
    let (mut round, mut changes) = (0, 0);
    while round < ROUNDS || changes < CHANGES {
        assert!(round < ROUNDS * 5, "only {changes} changes");
        for ack in life(round).live_and_die("desk::child", LIFE, &mut chance) {
            let [stream, count] = words(&ack)[..] else {
                panic!("{ack}");
            };
            let count = count.parse().unwrap();
            changes += count as usize;
            acknowledged.insert(stream.to_owned(), count);
        }
        round += 1;
    }
    let over_the_wire = hook.got.lock().unwrap().len();
    assert!(over_the_wire > changes / 3, "{over_the_wire} of {changes}");
    let done = life(LAST).start("desk::child").wait_with_output().unwrap();
    assert!(String::from_utf8(done.stdout).unwrap().contains("done"));

    let told = judge(&hook.got.lock().unwrap());
    for (stream, count) in &acknowledged {
        let of = told.get(stream).map_or(0, |news| news.len());
        assert!(of >= *count as usize, "{stream}: {of} of {count} came");
    }
    let (store, loaded) = Store::open(&folder.path().join("outbox"), settings());
    assert!(loaded.waiting.is_empty());
    let mut open: HashMap<String, (u64, bool)> = HashMap::new();
    for incident in &loaded.incidents {
        let json: Json = serde_json::from_str(&incident.doc).unwrap();
        let stream = json["about"]["stream"].as_str();
        let Some(stream) = stream else {
            panic!("{json}");
        };
        let at = (incident.incarnation, incident.phase == Phase::Open);
        let last = open.entry(stream.to_owned()).or_insert(at);
        *last = at.max(*last);
    }
    for (stream, (_, open)) in open {
        let last = told[&stream].last().unwrap();
        assert_eq!(last == "raised", open, "{stream}: {:?}", told[&stream]);
    }
    store.close();
}

/// What came of each stream, in order, each once: raised and resolved in turn, every raise under another name, and nothing
/// twice with another content.
fn judge(got: &[(String, String)]) -> HashMap<String, Vec<String>> {
    let mut bodies: HashMap<&str, &str> = HashMap::new();
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for (id, body) in got {
        if let Some(before) = bodies.insert(id, body) {
            assert_eq!(before, body, "a repeat of another content");
            continue;
        }
        let json: Json = serde_json::from_str(body).unwrap();
        let text = |name: &str| json["data"][name].as_str().unwrap().to_owned();
        let stream = text("stream");
        let (news, of) = (text("news"), text("incident_id"));
        let all = told.entry(stream.clone()).or_default();
        let known = names.entry(stream.clone()).or_default();
        let right = match news.as_str() {
            "raised" => all.last().is_none_or(|last| last == "resolved") && !known.contains(&of),
            "resolved" => {
                all.last().is_some_and(|last| last == "raised") && known.last() == Some(&of)
            }
            _ => false,
        };
        assert!(right, "{stream}: {news} of {of} after {all:?} of {known:?}");
        if news == "raised" {
            known.push(of);
        }
        all.push(news);
    }
    told
}

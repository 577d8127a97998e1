//! Receivers that are away or slow, in virtual time. After an hour without one, what is still open is told soon after its
//! return, within its limits, and what came and went is one message.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures_util::future::BoxFuture;
use glasswatch::config::template::{Template, Words};
use glasswatch::config::{Receiver, ReceiverKind, Secret};
use glasswatch::notify::courier::{AWAY, Courier, Duty};
use glasswatch::notify::event::Epoch;
use glasswatch::notify::notice::Message;
use glasswatch::notify::receiver::{self, Digest, Limit, Outcome, Sent};
use glasswatch::notify::store::{Change, Commit, Phase, Settings, Store};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_millis(100);
/// Incidents that begin in the hour; of all but so many the end is told as well.
const RAISED: usize = 5100;
const STAY: usize = 200;
/// What PagerDuty takes.
const LIMIT: Limit = Limit {
    per_minute: 100,
    burst: 20,
};

/// A receiver that can be away.
#[derive(Default)]
struct Mock {
    away: AtomicBool,
    /// What is open must be said again so often.
    again: Option<Duration>,
    /// What is sent of this key is not answered until somebody says so.
    stuck: Mutex<Option<String>>,
    freed: Notify,
    got: Mutex<Vec<(Instant, String)>>,
    tried: Mutex<Vec<Instant>>,
}

struct Handle(Arc<Mock>);

impl receiver::Receiver for Handle {
    fn render_in(&self, message: &Message, _: &Words) -> Option<String> {
        Some(format!("{} {}", message.news, message.key))
    }

    fn send<'a>(&'a self, _: &'a str, body: &'a str, _: Timestamp) -> BoxFuture<'a, Outcome> {
        let now = Instant::now();
        self.0.tried.lock().unwrap().push(now);
        let stuck = self.0.stuck.lock().unwrap().clone();
        if stuck.is_some_and(|key| body.ends_with(&key)) {
            return Box::pin(async move {
                self.0.freed.notified().await;
                self.0.got.lock().unwrap().push((now, body.to_owned()));
                Outcome::Delivered
            });
        }
        let outcome = if self.0.away.load(Ordering::Relaxed) {
            Outcome::Retry {
                after: None,
                what: "connect".into(),
                sent: Sent::No,
            }
        } else {
            self.0.got.lock().unwrap().push((now, body.to_owned()));
            Outcome::Delivered
        };
        Box::pin(std::future::ready(outcome))
    }

    fn place(&self) -> String {
        "mock".into()
    }

    fn limit(&self) -> Limit {
        LIMIT
    }

    fn resend_every(&self) -> Option<Duration> {
        self.0.again
    }

    fn shrink(&self, _: &str) -> Option<String> {
        None
    }

    fn digest(&self, digest: &Digest) -> Option<String> {
        Some(format!("digest {}", digest.titles.len()))
    }
}

fn message(key: &str, sequence: u64, news: &str) -> Message {
    let nothing: [&str; 0] = [];
    let message = json!({
        "schema_version": 1, "message_id": "m", "news": news, "incident_id": format!("{key}-1"), "key": key,
        "incarnation": 1, "sequence": sequence, "state": "open", "severity": "critical", "tier": "page", "topic": "freeze",
        "stream": key, "name": key, "labels": {}, "cause": "frozen", "title": "t", "text": "t", "instance": "watch-1",
        "quiet": null, "quiet_by": null, "flapping": false, "escalated": false, "overran": false, "unknown": false,
        "times": 1, "streams": nothing, "streams_bad": 0, "streams_total": 0, "whole_instance": false,
        "acknowledged_by": null, "opened": "2026-01-01T00:00:00Z", "resolved": null, "at": "2026-01-01T00:00:00Z",
        "defects": nothing,
    });
    serde_json::from_value(message).unwrap()
}

struct Scene {
    mock: Arc<Mock>,
    store: Arc<Store>,
    courier: Courier,
    epoch: Epoch,
}

impl Scene {
    fn new(folder: &Path, mock: Mock) -> Self {
        let (store, _) = Store::open(folder, Settings::default());
        let store = Arc::new(store);
        let mock = Arc::new(mock);
        let epoch = Epoch::now();
        let courier = Courier::start(Duty {
            config: Receiver {
                name: "ops".into(),
                kind: ReceiverKind::Slack {
                    url: Secret::new("https://example.com/".to_owned()),
                },
                timeout: STEP,
                proxy: None,
                min_severity: detectors::base::Severity::Info,
                only: BTreeMap::new(),
                template: Template::default(),
                allow_private: false,
                canary: false,
            },
            instance: "watch-1".into(),
            receiver: Box::new(Handle(Arc::clone(&mock))),
            store: Arc::clone(&store),
            epoch,
            titles: Arc::new(<[String]>::to_vec),
            away: AWAY,
        });
        Self {
            mock,
            store,
            courier,
            epoch,
        }
    }

    /// Stores a change; its rows are for the courier.
    fn commit(&self, key: &str, sequence: u64, phase: Phase) -> Commit {
        let news = match phase {
            Phase::Open => "raised",
            Phase::Over => "resolved",
        };
        let outgoing = self.courier.outgoing(&message(key, sequence, news));
        let change = Change {
            key: key.into(),
            incarnation: 1,
            sequence,
            phase,
            doc: "{}".into(),
            at: self.epoch.utc(glasswatch::ingest::clock::now()),
            outgoing: outgoing.into_iter().collect(),
        };
        self.store.commit(change)
    }

    /// Lets a little time pass, once everybody has done what there is to do.
    async fn step(&self, time: Duration) {
        for _ in 0..3 {
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            self.store.flush().await.unwrap();
        }
        tokio::time::advance(time).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_hour_without_a_receiver_it_knows_within_five_minutes_what_is_open() {
    // Time stands still while a blocking task runs; it passes by `step` alone.
    let (end, ended) = mpsc::channel::<()>();
    let still = tokio::task::spawn_blocking(move || ended.recv());
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(folder.path(), Mock::default());

    scene.mock.away.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let mut told = 0;
    while begun.elapsed() < HOUR {
        let due = (RAISED as f64 * begun.elapsed().as_secs_f64() / HOUR.as_secs_f64()) as usize;
        let mut commits = Vec::new();
        for n in told..due.min(RAISED) {
            let key = format!("k{n}");
            commits.push(scene.commit(&key, 1, Phase::Open));
            // Some stay, from all over the hour.
            if n % (RAISED / STAY) != 0 {
                commits.push(scene.commit(&key, 2, Phase::Over));
            }
        }
        for commit in commits {
            for row in commit.done().await.rows {
                scene.courier.push(row);
            }
        }
        told = due;
        scene.step(10 * STEP).await;
    }
    let waiting = scene.courier.stats().pending;
    assert!(waiting >= 9_900, "{waiting}");
    assert!(scene.mock.got.lock().unwrap().is_empty());
    let tries = scene.mock.tried.lock().unwrap().len();
    assert!(tries < 100, "it is not hammered: {tries}");

    scene.mock.away.store(false, Ordering::Relaxed);
    let back = Instant::now();
    while scene.courier.stats().pending > 0 && back.elapsed() < HOUR {
        scene.step(STEP).await;
    }
    let got = scene.mock.got.lock().unwrap().clone();
    let open: BTreeSet<String> = (0..told)
        .filter(|n| n % (RAISED / STAY) == 0)
        .map(|n| format!("raised k{n}"))
        .collect();
    let came: BTreeSet<String> = got.iter().map(|(_, body)| body.clone()).collect();
    let missing: Vec<_> = open.difference(&came).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let last = got
        .iter()
        .filter(|(_, body)| open.contains(body))
        .map(|(at, _)| *at)
        .max();
    let took = last.unwrap() - back;
    println!(
        "{} open, all told {took:?} after the return; {} messages",
        open.len(),
        got.len()
    );
    assert!(took <= Duration::from_secs(300), "{took:?}");
    assert_eq!(came.len(), got.len(), "nothing twice");
    let digests: Vec<_> = came
        .iter()
        .filter(|body| body.starts_with("digest"))
        .collect();
    assert_eq!(digests.len(), 1, "{digests:?}");
    // What came and went is not told one by one, but for what was on its way when the receiver came back.
    assert!(got.len() <= open.len() + 20, "{}", got.len());
    for (n, (at, _)) in got.iter().enumerate() {
        let minute = got[n..]
            .iter()
            .take_while(|(t, _)| *t - *at < Duration::from_secs(60));
        assert!(minute.count() <= (LIMIT.per_minute + LIMIT.burst) as usize);
    }
    drop(end);
    assert!(still.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_never_said_again_and_who_is_slow_keeps_nothing_else() {
    let (end, ended) = mpsc::channel::<()>();
    let still = tokio::task::spawn_blocking(move || ended.recv());
    let folder = tempfile::tempdir().unwrap();
    let minute = Duration::from_secs(60);
    let mock = Mock {
        again: Some(minute),
        ..Mock::default()
    };
    let scene = Scene::new(folder.path(), mock);
    let tell = async |key: &str, sequence, phase| {
        for row in scene.commit(key, sequence, phase).done().await.rows {
            scene.courier.push(row);
        }
        scene.step(STEP).await;
    };
    let got = || -> Vec<String> {
        let got = scene.mock.got.lock().unwrap();
        got.iter().map(|(_, body)| body.clone()).collect()
    };
    tell("long", 1, Phase::Open).await;
    assert_eq!(got(), ["raised long"]);
    *scene.mock.stuck.lock().unwrap() = Some("long".to_owned());
    for _ in 0..5 {
        scene.step(minute).await;
    }
    assert_eq!(scene.mock.tried.lock().unwrap().len(), 2, "one at a time");
    // It ends while it is being said again, and others come and go.
    tell("long", 2, Phase::Over).await;
    for key in ["a", "b", "c", "d", "e"] {
        tell(key, 1, Phase::Open).await;
        tell(key, 2, Phase::Over).await;
    }
    assert_eq!(got().len(), 11, "{:?}", got());
    *scene.mock.stuck.lock().unwrap() = None;
    scene.mock.freed.notify_one();
    for _ in 0..5 {
        scene.step(minute).await;
    }
    assert_eq!(got()[11..], ["raised long", "resolved long"]);
    drop(end);
    assert!(still.await.unwrap().is_err());
}

//! Alertmanager by its own rules: label names, the order of times, alerts that end at their `endsAt`.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use glasswatch::notify::receiver::alertmanager::{Alertmanager, Auth, Options, RESEND_EVERY};
use glasswatch::notify::receiver::{Outcome, Sent};

use super::*;

type Labels = BTreeMap<String, String>;

struct Peer {
    clock: Clock,
    /// Labels to beginning and end.
    alerts: Mutex<BTreeMap<Labels, (Timestamp, Timestamp)>>,
    annotations: Mutex<Labels>,
    authorization: Mutex<Option<String>>,
    /// Answers this instead.
    broken: Mutex<Option<StatusCode>>,
    requests: Mutex<usize>,
}

impl Peer {
    fn firing(&self) -> Vec<Labels> {
        let now = self.clock.now();
        let alerts = self.alerts.lock().unwrap();
        let firing = alerts.iter().filter(|(_, (_, end))| *end > now);
        firing.map(|(labels, _)| labels.clone()).collect()
    }
}

fn valid_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

async fn take(
    State(peer): State<Arc<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let refused = |why: &str| (StatusCode::BAD_REQUEST, Json(json!(why)));
    *peer.requests.lock().unwrap() += 1;
    let authorization = headers.get("authorization").map(|v| v.to_str().unwrap());
    *peer.authorization.lock().unwrap() = authorization.map(str::to_owned);
    if let Some(status) = *peer.broken.lock().unwrap() {
        return (status, Json(json!({})));
    }
    let now = peer.clock.now();
    let Ok(alerts) = serde_json::from_slice::<Vec<Value>>(&body) else {
        return refused("no list of alerts");
    };
    for alert in alerts {
        let texts = |of: &Value| serde_json::from_value::<Labels>(of.clone());
        let (Ok(labels), Ok(annotations)) = (texts(&alert["labels"]), texts(&alert["annotations"]))
        else {
            return refused("labels and annotations are texts");
        };
        if !labels.contains_key("alertname") || labels.values().any(String::is_empty) {
            return refused("no name or an empty label");
        }
        if !labels
            .keys()
            .chain(annotations.keys())
            .all(|name| valid_name(name))
        {
            return refused("invalid label name");
        }
        let time = |name: &str| match &alert[name] {
            Value::Null => Ok(None),
            text => text.as_str().unwrap_or("").parse::<Timestamp>().map(Some),
        };
        let (Ok(start), Ok(end)) = (time("startsAt"), time("endsAt")) else {
            return refused("times");
        };
        let start = start.unwrap_or(now);
        // Its `resolve_timeout`.
        let end = end.unwrap_or_else(|| now + SignedDuration::from_secs(300));
        if end < start {
            return refused("start time must be before end time");
        }
        peer.alerts.lock().unwrap().insert(labels, (start, end));
        *peer.annotations.lock().unwrap() = annotations;
    }
    (StatusCode::OK, Json(json!({})))
}

async fn peer(clock: &Clock) -> (Arc<Peer>, String) {
    let peer = Arc::new(Peer {
        clock: clock.clone(),
        alerts: Mutex::default(),
        annotations: Mutex::default(),
        authorization: Mutex::default(),
        broken: Mutex::default(),
        requests: Mutex::default(),
    });
    let app = Router::new()
        .route("/am/api/v2/alerts", post(take))
        .with_state(Arc::clone(&peer));
    let base = format!("http://{}/am/", serve(app).await);
    (peer, base)
}

fn alertmanager(peers: &[&str], auth: Option<Auth>) -> Alertmanager {
    Alertmanager::new(&Options {
        peers: peers.iter().copied().map(Secret::new).collect(),
        auth,
        http: http(),
    })
    .unwrap()
}

#[tokio::test]
async fn an_alert_fires_while_it_is_sent_again_and_ends_when_it_is_not() {
    let clock = Clock::at_noon();
    let (peer, base) = peer(&clock).await;
    let receiver = alertmanager(&[&base], None);
    let body = rendered(&receiver, &message(json!({})));
    for _ in 0..5 {
        let outcome = receiver.send("id", &body, clock.now()).await;
        assert_eq!(outcome, Outcome::Delivered);
        assert_eq!(peer.firing().len(), 1);
        clock.advance(receiver.resend_every().unwrap());
    }
    // Two sendings may be lost.
    clock.advance(RESEND_EVERY);
    assert_eq!(peer.firing().len(), 1);
    clock.advance(RESEND_EVERY);
    assert!(
        peer.firing().is_empty(),
        "a monitor that died cries for ever"
    );
}

#[tokio::test]
async fn what_is_over_ends_at_once_and_is_the_same_alert() {
    let clock = Clock::at_noon();
    let (peer, base) = peer(&clock).await;
    let receiver = alertmanager(&[&base], None);
    let raised = rendered(&receiver, &message(json!({})));
    let over = rendered(&receiver, &resolved());
    receiver.send("id", &raised, clock.now()).await;
    let labels = &peer.firing()[0];
    let label = |name: &str| labels.get(name).map(String::as_str);
    assert_eq!(label("alertname"), Some("GlasswatchAvOffset"));
    assert_eq!(label("incident"), Some("0123abcd"));
    assert_eq!(label("stream"), Some("news1"));
    assert_eq!(label("severity"), Some("critical"));
    assert_eq!(label("label_severity"), Some("gold"));
    assert_eq!(label("data_center"), Some("west"));
    assert_eq!(label("instance"), Some("watch 1"));
    assert_eq!(
        peer.annotations.lock().unwrap()["summary"],
        "News 1: the sound is late."
    );
    clock.advance(Duration::from_secs(65));
    receiver.send("id", &over, clock.now()).await;
    assert!(peer.firing().is_empty());
    assert_eq!(peer.alerts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_clock_that_was_set_back_is_no_reason_to_refuse() {
    let clock = Clock::at_noon();
    let (peer, base) = peer(&clock).await;
    let receiver = alertmanager(&[&base], None);
    let ahead = json!({ "opened": "2026-03-01T18:00:00.000Z" });
    let body = rendered(&receiver, &message(ahead));
    let outcome = receiver.send("id", &body, clock.now()).await;
    assert_eq!(outcome, Outcome::Delivered);
    let mut over = resolved();
    over.opened = "2026-03-01T18:00:00.000Z".into();
    let body = rendered(&receiver, &over);
    let outcome = receiver.send("id", &body, clock.now()).await;
    assert_eq!(outcome, Outcome::Delivered);
    over.resolved = None;
    assert!(
        rendered(&receiver, &over).contains("endsAt"),
        "over is over"
    );
    drop(peer);
}

#[tokio::test]
async fn every_peer_is_told_and_one_is_enough() {
    let clock = Clock::at_noon();
    let (a, at_a) = peer(&clock).await;
    let (b, at_b) = peer(&clock).await;
    let receiver = alertmanager(&[&at_a, &at_b], None);
    let body = rendered(&receiver, &message(json!({})));
    assert_eq!(
        receiver.send("id", &body, clock.now()).await,
        Outcome::Delivered
    );
    assert_eq!((a.firing().len(), b.firing().len()), (1, 1));
    *a.broken.lock().unwrap() = Some(StatusCode::BAD_GATEWAY);
    assert_eq!(
        receiver.send("id", &body, clock.now()).await,
        Outcome::Delivered
    );
    *b.broken.lock().unwrap() = Some(StatusCode::BAD_REQUEST);
    let outcome = receiver.send("id", &body, clock.now()).await;
    let retry = Outcome::Retry {
        after: None,
        what: "status 502".into(),
        sent: Sent::Maybe,
    };
    assert_eq!(outcome, retry);
    *a.broken.lock().unwrap() = Some(StatusCode::BAD_REQUEST);
    let outcome = receiver.send("id", &body, clock.now()).await;
    assert_eq!(outcome, Outcome::Dead { status: 400 });
    assert_eq!(*a.requests.lock().unwrap(), 4);
    assert_eq!(*b.requests.lock().unwrap(), 4);
}

#[tokio::test]
async fn it_says_who_it_is() {
    let clock = Clock::at_noon();
    let (peer, base) = peer(&clock).await;
    let basic = Auth::Basic {
        user: "ops".into(),
        password: secret("pw"),
    };
    for (auth, header) in [
        (None, None),
        (Some(basic), Some("Basic b3BzOnB3")),
        (Some(Auth::Bearer(secret("tok"))), Some("Bearer tok")),
    ] {
        let receiver = alertmanager(&[&base], auth);
        let body = rendered(&receiver, &message(json!({})));
        receiver.send("id", &body, clock.now()).await;
        assert_eq!(peer.authorization.lock().unwrap().as_deref(), header);
    }
}

#[tokio::test]
async fn labels_of_any_kind_are_taken() {
    let clock = Clock::at_noon();
    let (peer, base) = peer(&clock).await;
    let receiver = alertmanager(&[&base], None);
    let odd = message(json!({ "stream": null, "labels": {
        "": "a", "4k": "b", "a-b": "1", "a.b": "2", "a_b": "3", "ü": "c", "empty": "", "alertname": "mine",
    }}));
    for (told, fires) in [(odd, true), (monster(), true)] {
        let body = rendered(&receiver, &told);
        let outcome = receiver.send("id", &body, clock.now()).await;
        assert_eq!(
            (outcome, !peer.firing().is_empty()),
            (Outcome::Delivered, fires)
        );
    }
    let firing = peer.firing();
    let odd = firing.iter().find(|l| l.contains_key("_4k")).unwrap();
    assert_eq!(odd["a_b"], "1");
    assert_eq!(odd["label_a_b"], "2");
    assert_eq!(odd["label_alertname"], "mine");
    assert!(!odd.contains_key("stream") && !odd.contains_key("empty"));
}

#[tokio::test]
async fn a_digest_fires_once() {
    let clock = Clock::at_noon();
    let (peer, base) = peer(&clock).await;
    let receiver = alertmanager(&[&base], None);
    let body = receiver.digest(&digest(300)).unwrap();
    let outcome = receiver.send("id", &body, clock.now()).await;
    assert_eq!(outcome, Outcome::Delivered);
    assert_eq!(peer.firing()[0]["alertname"], "GlasswatchMissed");
    clock.advance(RESEND_EVERY * 3);
    assert!(peer.firing().is_empty());
}

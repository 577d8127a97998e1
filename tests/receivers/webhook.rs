//! A careful receiver of Standard Webhooks and CloudEvents.

use std::collections::BTreeSet;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glasswatch::notify::receiver::Outcome;
use glasswatch::notify::receiver::webhook::{Options, Webhook};
use hmac::{Hmac, KeyInit, Mac};

use super::*;

const OLD_KEY: &str = "b2xkLWtleQ==";
const NEW_KEY: &str = "whsec_bmV3LWtleQ==";

/// Oldest timestamp that is taken, seconds: the libraries' five minutes.
const AGE_SECS: i64 = 300;
/// Largest body, bytes.
const BODY_BYTES: usize = 20_000;

struct Hook {
    clock: Clock,
    /// The one key it knows, base64.
    key: &'static str,
    taken: Mutex<Vec<Value>>,
    ids: Mutex<BTreeSet<String>>,
}

async fn take(State(hook): State<Arc<Hook>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap());
    if body.len() > BODY_BYTES {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    let (id, stamp) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac =
        Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(hook.key).unwrap()).unwrap();
    mac.update(format!("{id}.{stamp}.").as_bytes());
    mac.update(&body);
    let right = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let signed = header("webhook-signature").split(' ').any(|s| s == right);
    let age = stamp
        .parse::<i64>()
        .map(|at| hook.clock.now().as_second() - at);
    if !signed || !age.is_ok_and(|age| age.abs() <= AGE_SECS) {
        return StatusCode::UNAUTHORIZED;
    }
    if header("content-type") != "application/cloudevents+json" {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    let Ok(event) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let text = |name: &str| event[name].as_str().unwrap_or("");
    let uri_reference = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    let valid = text("specversion") == "1.0"
        && ["id", "source", "type", "subject"]
            .iter()
            .all(|name| !text(name).is_empty())
        && uri_reference(text("source"))
        && text("time").parse::<Timestamp>().is_ok()
        && text("datacontenttype") == "application/json"
        && event["data"].is_object();
    if !valid {
        return StatusCode::BAD_REQUEST;
    }
    // A repeat is taken and not told again.
    if hook.ids.lock().unwrap().insert(id.to_owned()) {
        hook.taken.lock().unwrap().push(event);
    }
    StatusCode::NO_CONTENT
}

async fn hook(key: &'static str) -> (Arc<Hook>, String) {
    let hook = Arc::new(Hook {
        clock: Clock::at_noon(),
        key,
        taken: Mutex::default(),
        ids: Mutex::default(),
    });
    let app = Router::new()
        .route("/in", post(take))
        .with_state(Arc::clone(&hook));
    let url = format!("http://{}/in", serve(app).await);
    (hook, url)
}

fn webhook(url: &str, keys: &[&str]) -> Webhook {
    Webhook::new(&Options {
        url: secret(url),
        keys: keys.iter().copied().map(Secret::new).collect(),
        http: http(),
    })
    .unwrap()
}

#[tokio::test]
async fn a_webhook_passes_a_careful_receiver() {
    let (hook, url) = hook("bmV3LWtleQ==").await;
    let receiver = webhook(&url, &[NEW_KEY]);
    let now = hook.clock.now();
    for told in [message(json!({})), resolved(), monster()] {
        let body = rendered(&receiver, &told);
        for _attempt in 0..2 {
            let outcome = receiver.send(&told.message_id, &body, now).await;
            assert_eq!(outcome, Outcome::Delivered);
        }
    }
    let body = receiver.digest(&digest(500)).unwrap();
    assert_eq!(
        receiver.send("digest-1", &body, now).await,
        Outcome::Delivered
    );
    let taken = hook.taken.lock().unwrap();
    // The monster has the first one's id.
    assert_eq!(taken.len(), 3);
    let first = &taken[0];
    assert_eq!(first["id"], "0123abcd-5-1");
    assert_eq!(first["source"], "glasswatch/watch%201");
    assert_eq!(first["type"], "glasswatch.incident.raised");
    assert_eq!(first["subject"], "news1");
    assert_eq!(first["time"], "2026-03-01T12:00:00.000Z");
    assert_eq!(first["data"]["defects"][0]["says"], "The sound is late.");
    assert_eq!(taken[1]["type"], "glasswatch.incident.resolved");
    assert_eq!(taken[2]["type"], "glasswatch.incidents.missed");
}

#[tokio::test]
async fn keys_are_rotated_without_a_gap() {
    for known in [OLD_KEY, "bmV3LWtleQ=="] {
        let (hook, url) = hook(known).await;
        let receiver = webhook(&url, &[NEW_KEY, OLD_KEY]);
        let body = rendered(&receiver, &message(json!({})));
        let outcome = receiver.send("id", &body, hook.clock.now()).await;
        assert_eq!(outcome, Outcome::Delivered);
        let stranger = webhook(&url, &["c3RyYW5nZXI="]);
        let outcome = stranger.send("id", &body, hook.clock.now()).await;
        assert_eq!(outcome, Outcome::Dead { status: 401 });
    }
}

#[tokio::test]
async fn a_late_attempt_is_stamped_anew() {
    let (hook, url) = hook("bmV3LWtleQ==").await;
    let receiver = webhook(&url, &[NEW_KEY]);
    let body = rendered(&receiver, &message(json!({})));
    let decided = hook.clock.now();
    hook.clock.advance(Duration::from_secs(3 * 3600));
    let stale = receiver.send("id", &body, decided).await;
    assert_eq!(stale, Outcome::Dead { status: 401 });
    let fresh = receiver.send("id", &body, hook.clock.now()).await;
    assert_eq!(fresh, Outcome::Delivered);
}

#[test]
fn defects_are_cut_first() {
    let receiver = webhook("http://receiver.example", &[]);
    let long = "x".repeat(250);
    let many = message(json!({
        "defects": vec![defect(&long); 10],
        "streams": vec![long.clone(); 40],
        "labels": {"a": "b"},
    }));
    let data = parsed(&rendered(&receiver, &many))["data"].clone();
    let count = |list: &str| data[list].as_array().unwrap().len();
    assert_eq!(
        (count("streams"), data["labels"]["a"].as_str()),
        (40, Some("b"))
    );
    assert!((1..10).contains(&count("defects")), "{}", count("defects"));
    let small = parsed(&receiver.shrink(&rendered(&receiver, &many)).unwrap());
    assert_eq!(small["data"]["defects"], json!([]));
    assert_eq!(small["data"]["streams"], json!([]));
    assert_eq!(small["data"]["title"], many.title);
}

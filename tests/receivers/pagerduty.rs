//! PagerDuty by its documented rules: required fields, sizes, 120 events in any minute for a key.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use glasswatch::notify::receiver::Outcome;
use glasswatch::notify::receiver::pagerduty::{Options, PagerDuty};

use super::*;

const BODY_BYTES: usize = 512 * 1024;
const EVENTS_A_MINUTE: usize = 120;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stands {
    Triggered,
    Acknowledged,
    Resolved,
}

struct Service {
    clock: Clock,
    came: Mutex<HashMap<String, VecDeque<Timestamp>>>,
    alerts: Mutex<HashMap<String, Stands>>,
    last: Mutex<Value>,
    /// Acknowledged or resolved without having been triggered.
    dropped: Mutex<usize>,
}

fn refused(why: &str) -> (StatusCode, Json<Value>) {
    let status = StatusCode::BAD_REQUEST;
    (
        status,
        Json(json!({ "status": "invalid event", "errors": [why] })),
    )
}

async fn enqueue(State(service): State<Arc<Service>>, body: Bytes) -> (StatusCode, Json<Value>) {
    if body.len() > BODY_BYTES {
        return (StatusCode::PAYLOAD_TOO_LARGE, Json(json!({})));
    }
    let Ok(event) = serde_json::from_slice::<Value>(&body) else {
        return refused("no JSON");
    };
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or("").to_owned();
    let key = text(&event, "routing_key");
    if key.is_empty() {
        return refused("routing_key");
    }
    let now = service.clock.now();
    {
        let mut came = service.came.lock().unwrap();
        let came = came.entry(key).or_default();
        let minute = SignedDuration::from_secs(60);
        while came
            .front()
            .is_some_and(|at| now.duration_since(*at) >= minute)
        {
            came.pop_front();
        }
        if came.len() >= EVENTS_A_MINUTE {
            return (StatusCode::TOO_MANY_REQUESTS, Json(json!({})));
        }
        came.push_back(now);
    }
    let dedup_key = text(&event, "dedup_key");
    if dedup_key.chars().count() > 255 {
        return refused("dedup_key");
    }
    let stands = match &*text(&event, "event_action") {
        "trigger" => Stands::Triggered,
        "acknowledge" => Stands::Acknowledged,
        "resolve" => Stands::Resolved,
        _ => return refused("event_action"),
    };
    if stands == Stands::Triggered {
        let payload = &event["payload"];
        let summary = text(payload, "summary").chars().count();
        let severities = ["critical", "error", "warning", "info"];
        if !(1..=1024).contains(&summary) || text(payload, "source").is_empty() {
            return refused("summary or source");
        }
        if !severities.contains(&&*text(payload, "severity")) {
            return refused("severity");
        }
        if text(payload, "timestamp").parse::<Timestamp>().is_err() {
            return refused("timestamp");
        }
    }
    let mut alerts = service.alerts.lock().unwrap();
    let open = alerts
        .get(&dedup_key)
        .is_some_and(|s| *s != Stands::Resolved);
    if stands == Stands::Triggered || open {
        // Triggered again it stays acknowledged.
        let again = stands == Stands::Triggered && open;
        if !again {
            alerts.insert(dedup_key, stands);
        }
    } else {
        *service.dropped.lock().unwrap() += 1;
    }
    *service.last.lock().unwrap() = event;
    (StatusCode::ACCEPTED, Json(json!({ "status": "success" })))
}

async fn service() -> (Arc<Service>, PagerDuty) {
    let service = Arc::new(Service {
        clock: Clock::at_noon(),
        came: Mutex::default(),
        alerts: Mutex::default(),
        last: Mutex::default(),
        dropped: Mutex::default(),
    });
    let app = Router::new()
        .route("/v2/enqueue", post(enqueue))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(&service));
    let receiver = PagerDuty::new(&Options {
        routing_key: secret("R0UTINGKEY"),
        endpoint: secret(format!("http://{}/v2/enqueue", serve(app).await)),
        http: http(),
    });
    (service, receiver.unwrap())
}

async fn tell(service: &Service, receiver: &PagerDuty, message: &Message) -> Outcome {
    let body = rendered(receiver, message);
    assert!(
        !body.contains("R0UTINGKEY"),
        "the key would be kept on disk"
    );
    receiver.send("id", &body, service.clock.now()).await
}

fn taken_on() -> Message {
    message(json!({ "news": "acknowledged", "acknowledged_by": "ann" }))
}

#[tokio::test]
async fn an_alert_lives_and_ends() {
    let (service, receiver) = service().await;
    let stands = || service.alerts.lock().unwrap()["v1:0123abcd-5"];
    let raised = message(json!({}));
    assert_eq!(tell(&service, &receiver, &raised).await, Outcome::Delivered);
    assert_eq!(stands(), Stands::Triggered);
    let event = service.last.lock().unwrap().clone();
    let payload = &event["payload"];
    assert_eq!(event["routing_key"], "R0UTINGKEY");
    assert_eq!(
        payload["summary"],
        "News 1: the sound is late. There is no sound either."
    );
    assert_eq!(payload["source"], "News 1");
    assert_eq!(payload["severity"], "critical");
    assert_eq!(payload["component"], "av_offset");
    assert_eq!(payload["class"], "late_sound");
    assert_eq!(payload["custom_details"]["labels"]["data-center"], "west");

    assert_eq!(
        tell(&service, &receiver, &taken_on()).await,
        Outcome::Delivered
    );
    assert_eq!(stands(), Stands::Acknowledged);
    let updated = message(json!({ "news": "updated", "severity": "warning" }));
    assert_eq!(
        tell(&service, &receiver, &updated).await,
        Outcome::Delivered
    );
    assert_eq!(
        stands(),
        Stands::Acknowledged,
        "an update wakes nobody again"
    );
    assert_eq!(
        tell(&service, &receiver, &resolved()).await,
        Outcome::Delivered
    );
    assert_eq!(stands(), Stands::Resolved);

    let next = message(json!({ "incident_id": "0123abcd-6" }));
    assert_eq!(tell(&service, &receiver, &next).await, Outcome::Delivered);
    let alerts = service.alerts.lock().unwrap();
    assert_eq!(
        alerts["v1:0123abcd-6"],
        Stands::Triggered,
        "another occurrence"
    );
    assert_eq!(*service.dropped.lock().unwrap(), 0);
}

#[tokio::test]
async fn an_end_without_a_beginning_is_dropped_silently() {
    let (service, receiver) = service().await;
    assert_eq!(
        tell(&service, &receiver, &resolved()).await,
        Outcome::Delivered
    );
    assert_eq!(*service.dropped.lock().unwrap(), 1);
    assert!(service.alerts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn any_severity_and_any_size_are_taken() {
    let (service, receiver) = service().await;
    for severity in ["info", "warning", "critical", "unheard of"] {
        let message = message(json!({ "severity": severity }));
        assert_eq!(
            tell(&service, &receiver, &message).await,
            Outcome::Delivered
        );
    }
    assert_eq!(
        tell(&service, &receiver, &monster()).await,
        Outcome::Delivered
    );
    let body = receiver.digest(&digest(5000)).unwrap();
    let outcome = receiver.send("id", &body, service.clock.now()).await;
    assert_eq!(outcome, Outcome::Delivered);
    assert_eq!(
        service.alerts.lock().unwrap()["v1:missed:digest-1"],
        Stands::Triggered
    );
}

#[tokio::test]
async fn what_is_too_large_or_wrong_is_told_apart() {
    let (service, receiver) = service().await;
    let mut event = parsed(&rendered(&receiver, &message(json!({}))));
    event["payload"]["custom_details"] = json!("x".repeat(BODY_BYTES));
    let (large, now) = (event.to_string(), service.clock.now());
    assert_eq!(receiver.send("id", &large, now).await, Outcome::TooLarge);
    let small = receiver.shrink(&large).unwrap();
    assert_eq!(receiver.send("id", &small, now).await, Outcome::Delivered);
    event["payload"]["custom_details"] = json!({});
    event["payload"]["severity"] = json!("fatal");
    let wrong = receiver.send("id", &event.to_string(), now).await;
    assert_eq!(wrong, Outcome::Dead { status: 400 });
}

#[tokio::test]
async fn the_limit_stays_below_pagerdutys_own() {
    let (service, receiver) = service().await;
    let body = rendered(&receiver, &message(json!({})));
    let mut pacer = Pacer::new(receiver.limit(), &service.clock);
    for n in 0..400 {
        pacer.take();
        let outcome = receiver.send("id", &body, service.clock.now()).await;
        assert_eq!(outcome, Outcome::Delivered, "event {n}");
    }
    // Without it, it would be refused.
    let mut outcomes = Vec::new();
    for _ in 0..EVENTS_A_MINUTE {
        outcomes.push(receiver.send("id", &body, service.clock.now()).await);
    }
    let busy = |o: &Outcome| matches!(o, Outcome::Retry { what, .. } if what == "status 429");
    assert!(outcomes.iter().any(busy));
}

//! Slack by its documented rules: one message a second with short bursts, well-formed blocks, errors as plain text.

use std::collections::VecDeque;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use glasswatch::notify::receiver::slack::{Options, Slack};
use glasswatch::notify::receiver::{Outcome, Sent};

use super::*;

/// What a short burst is, here: so many in so many seconds.
const BURST: (usize, i64) = (10, 5);

struct Channel {
    clock: Clock,
    came: Mutex<VecDeque<Timestamp>>,
    posts: Mutex<Vec<Value>>,
    archived: Mutex<bool>,
}

fn valid_text(text: &Value) -> bool {
    let kind = text["type"].as_str().unwrap_or("");
    let length = text["text"].as_str().map_or(0, |t| t.chars().count());
    ["mrkdwn", "plain_text"].contains(&kind) && (1..=3000).contains(&length)
}

fn valid_block(block: &Value) -> bool {
    match block["type"].as_str() {
        Some("section") => valid_text(&block["text"]),
        Some("context") => block["elements"]
            .as_array()
            .is_some_and(|e| (1..=10).contains(&e.len()) && e.iter().all(valid_text)),
        _ => false,
    }
}

async fn take(State(channel): State<Arc<Channel>>, headers: HeaderMap, body: String) -> Response {
    let now = channel.clock.now();
    {
        let mut came = channel.came.lock().unwrap();
        let window = SignedDuration::from_secs(BURST.1);
        while came
            .front()
            .is_some_and(|at| now.duration_since(*at) >= window)
        {
            came.pop_front();
        }
        if came.len() >= BURST.0 {
            let status = StatusCode::TOO_MANY_REQUESTS;
            return (status, [("retry-after", "1")], "rate_limited").into_response();
        }
        came.push_back(now);
    }
    if *channel.archived.lock().unwrap() {
        return (StatusCode::GONE, "channel_is_archived").into_response();
    }
    let invalid = |why: &'static str| (StatusCode::BAD_REQUEST, why).into_response();
    let Ok(post) = serde_json::from_str::<Value>(&body) else {
        return invalid("invalid_payload");
    };
    if headers["content-type"] != "application/json" || !post.is_object() {
        return invalid("invalid_payload");
    }
    if post["text"].as_str().is_none_or(str::is_empty) {
        return invalid("no_text");
    }
    let blocks = post["blocks"].as_array();
    if !blocks.is_none_or(|b| b.len() <= 50 && b.iter().all(valid_block)) {
        return invalid("invalid_blocks");
    }
    channel.posts.lock().unwrap().push(post);
    "ok".into_response()
}

async fn channel() -> (Arc<Channel>, Slack) {
    let channel = Arc::new(Channel {
        clock: Clock::at_noon(),
        came: Mutex::default(),
        posts: Mutex::default(),
        archived: Mutex::default(),
    });
    let app = Router::new()
        .route("/services/T0/B0/xyz", post(take))
        .with_state(Arc::clone(&channel));
    let slack = Slack::new(&Options {
        url: secret(format!("http://{}/services/T0/B0/xyz", serve(app).await)),
        http: http(),
    });
    (channel, slack.unwrap())
}

fn told(post: &Value) -> (String, String) {
    let text = |at: &str| post.pointer(at).and_then(Value::as_str).unwrap().to_owned();
    (
        text("/blocks/0/text/text"),
        text("/blocks/1/elements/0/text"),
    )
}

#[tokio::test]
async fn every_change_is_one_line_and_its_context() {
    let (channel, slack) = channel().await;
    let changes = [
        message(json!({})),
        message(json!({ "news": "updated", "severity": "warning" })),
        message(json!({ "news": "acknowledged", "acknowledged_by": "<@U1>" })),
        resolved(),
    ];
    for change in &changes {
        let body = rendered(&slack, change);
        let outcome = slack.send("id", &body, channel.clock.now()).await;
        assert_eq!(outcome, Outcome::Delivered);
    }
    let posts = channel.posts.lock().unwrap();
    let told: Vec<_> = posts.iter().map(told).collect();
    assert_eq!(told[0].0, "🔴 *Critical:* News 1: the sound is late.");
    assert_eq!(
        told[0].1,
        "There is no sound either. · Since 2026-03-01T11:59:00.000Z · Seen by watch 1 · Incident 0123abcd-5"
    );
    assert_eq!(
        told[1].0,
        "🟠 *Warning* (update): News 1: the sound is late."
    );
    assert!(
        told[2].1.contains("Taken by &lt;@\u{200b}U1&gt;"),
        "{}",
        told[2].1
    );
    assert_eq!(
        told[3].0,
        "✅ *Over* (was critical): News 1: over: the sound is late."
    );
    assert_eq!(posts[0]["text"], posts[0]["blocks"][0]["text"]["text"]);
}

#[tokio::test]
async fn nobody_is_mentioned_by_what_a_stream_says() {
    let (channel, slack) = channel().await;
    for body in [
        rendered(&slack, &monster()),
        slack.digest(&digest(500)).unwrap(),
        slack.digest(&digest(1)).unwrap(),
    ] {
        // The only markup is ours.
        let own = format!("<{}|Evidence>", LINK.replace('&', "&amp;"));
        let said = body.replacen(&own, "", 1);
        for markup in ["<", "@all", "@U1"] {
            assert!(!said.contains(markup), "{markup}: {said}");
        }
        let outcome = slack.send("id", &body, channel.clock.now()).await;
        assert_eq!(outcome, Outcome::Delivered);
        let less = slack.shrink(&body).unwrap();
        let outcome = slack.send("id", &less, channel.clock.now()).await;
        assert_eq!(outcome, Outcome::Delivered);
    }
}

#[tokio::test]
async fn a_channel_that_is_gone_is_final() {
    let (channel, slack) = channel().await;
    let body = rendered(&slack, &message(json!({})));
    *channel.archived.lock().unwrap() = true;
    let outcome = slack.send("id", &body, channel.clock.now()).await;
    assert_eq!(outcome, Outcome::Dead { status: 410 });
    *channel.archived.lock().unwrap() = false;
    let outcome = slack.send("id", "nonsense", channel.clock.now()).await;
    assert_eq!(outcome, Outcome::Dead { status: 400 });
}

#[tokio::test]
async fn the_limit_stays_below_slacks_own() {
    let (channel, slack) = channel().await;
    let body = rendered(&slack, &message(json!({})));
    let mut pacer = Pacer::new(slack.limit(), &channel.clock);
    for n in 0..100 {
        pacer.take();
        let outcome = slack.send("id", &body, channel.clock.now()).await;
        assert_eq!(outcome, Outcome::Delivered, "message {n}");
    }
    let mut last = Outcome::Delivered;
    for _ in 0..BURST.0 {
        last = slack.send("id", &body, channel.clock.now()).await;
    }
    let busy = Outcome::Retry {
        after: Some(Duration::from_secs(1)),
        what: "status 429".into(),
        sent: Sent::No,
    };
    assert_eq!(last, busy);
}

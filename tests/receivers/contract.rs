//! What holds for every kind.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use glasswatch::config::template::Template;
use glasswatch::notify::receiver::http::public_addresses;
use glasswatch::notify::receiver::{
    Outcome, ReceiverError, Sent, alertmanager, pagerduty, slack, webhook, words,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
#[cfg(feature = "aws")]
use {aws_sdk_sns::config::Credentials, glasswatch::notify::receiver::sns};

use super::*;

/// A kind, and what its real one answers when it takes something.
struct Kind {
    name: &'static str,
    receiver: Box<dyn Receiver>,
    taken: (u16, &'static str),
    /// Documented limit of a body, bytes.
    limit_bytes: usize,
}

/// Every kind, set up with one secret of each sort, or why one cannot be.
fn try_kinds(base: &str, http: &HttpOptions) -> Vec<(&'static str, Result<Kind, ReceiverError>)> {
    let kind = |name, receiver, taken, limit_bytes| Kind {
        name,
        receiver,
        taken,
        limit_bytes,
    };
    let url = secret(format!("{base}/{SECRET}?token={SECRET}"));
    let http = http.clone();
    let hook = webhook::Options {
        url: url.clone(),
        keys: vec![secret("czNjcmV0")],
        http: http.clone(),
    };
    let pager = pagerduty::Options {
        routing_key: secret(SECRET),
        endpoint: url.clone(),
        http: http.clone(),
    };
    let alerts = alertmanager::Options {
        peers: vec![url.clone()],
        auth: Some(alertmanager::Auth::Basic {
            user: "ops".into(),
            password: secret(SECRET),
        }),
        http: http.clone(),
    };
    let chat = slack::Options {
        url,
        http: http.clone(),
    };
    let shown = format!("{hook:?}{pager:?}{alerts:?}{chat:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("czNjcmV0"));
    let boxed = |receiver| -> Box<dyn Receiver> { receiver };
    #[cfg(feature = "aws")]
    let topic = {
        let options = sns::Options {
            topic_arn: "arn:aws:sns:eu-central-1:123456789012:alerts.fifo".into(),
            region: "eu-central-1".into(),
            endpoint: Some(secret(base)),
            http: http.clone(),
        };
        let taken = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
                     <MessageId>1</MessageId></PublishResult></PublishResponse>";
        assert!(!format!("{options:?}").contains(SECRET));
        let credentials = Credentials::new("AKIA", SECRET, Some(SECRET.into()), None, "test");
        let receiver = sns::Sns::new(&options).map(|r| r.signing_with(credentials));
        receiver.map(|r| kind("sns", boxed(Box::new(r)), (200, taken), 256 << 10))
    };
    vec![
        #[cfg(feature = "aws")]
        ("sns", topic),
        (
            "webhook",
            webhook::Webhook::new(&hook)
                .map(|r| kind("webhook", boxed(Box::new(r)), (204, ""), 20_000)),
        ),
        (
            "pagerduty",
            pagerduty::PagerDuty::new(&pager)
                .map(|r| kind("pagerduty", boxed(Box::new(r)), (202, "{}"), 512_000)),
        ),
        (
            "alertmanager",
            alertmanager::Alertmanager::new(&alerts)
                .map(|r| kind("alertmanager", boxed(Box::new(r)), (200, ""), 100_000)),
        ),
        (
            "slack",
            slack::Slack::new(&chat)
                .map(|r| kind("slack", boxed(Box::new(r)), (200, "ok"), 16_000)),
        ),
    ]
}

fn kinds(base: &str) -> Vec<Kind> {
    let kinds = try_kinds(base, &http());
    kinds.into_iter().map(|(_, kind)| kind.unwrap()).collect()
}

async fn send(kind: &Kind) -> Outcome {
    let body = rendered(&*kind.receiver, &message(json!({})));
    kind.receiver
        .send("id-1", &body, Clock::at_noon().now())
        .await
}

/// Answers every request with what `answer` gives.
async fn answering(answer: impl Fn(Uri) -> Response + Clone + Send + Sync + 'static) -> String {
    let app = Router::new().fallback(move |uri: Uri, _body: String| {
        let reply = answer(uri);
        async move { reply }
    });
    format!("http://{}", serve(app).await)
}

#[tokio::test]
async fn statuses_mean_the_same_to_every_kind() {
    let status = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&status);
    let base = answering(move |_| {
        let status = told.load(Ordering::Relaxed) as u16;
        let status = StatusCode::from_u16(status).unwrap();
        (status, [("retry-after", "7")], SECRET).into_response()
    })
    .await;
    for kind in kinds(&base) {
        for code in [408, 425, 429, 500, 502, 503, 504] {
            status.store(code, Ordering::Relaxed);
            let sent = match code {
                500 | 502 | 504 => Sent::Maybe,
                _ => Sent::No,
            };
            let expected = Outcome::Retry {
                after: Some(Duration::from_secs(7)),
                what: format!("status {code}"),
                sent,
            };
            assert_eq!(send(&kind).await, expected, "{} {code}", kind.name);
        }
        for code in [301, 302, 307, 400, 401, 403, 404, 410, 422] {
            status.store(code, Ordering::Relaxed);
            let expected = Outcome::Dead {
                status: code as u16,
            };
            assert_eq!(send(&kind).await, expected, "{} {code}", kind.name);
        }
        status.store(413, Ordering::Relaxed);
        assert_eq!(send(&kind).await, Outcome::TooLarge, "{}", kind.name);
    }
}

#[tokio::test]
async fn what_is_taken_is_delivered() {
    for index in 0..kinds("http://127.0.0.1:9").len() {
        let (status, text) = kinds("http://127.0.0.1:9")[index].taken;
        let status = StatusCode::from_u16(status).unwrap();
        let base = answering(move |_| (status, text).into_response()).await;
        let kind = kinds(&base).swap_remove(index);
        assert_eq!(send(&kind).await, Outcome::Delivered, "{}", kind.name);
    }
}

#[tokio::test]
async fn somebody_elses_page_is_no_delivery() {
    let page = "<html>Welcome to the hotel's network</html>";
    let base = answering(move |_| (StatusCode::OK, page).into_response()).await;
    for kind in kinds(&base) {
        // The others have no answer of their own that could be told from it.
        if ["pagerduty", "slack", "sns"].contains(&kind.name) {
            let outcome = send(&kind).await;
            let maybe = matches!(
                outcome,
                Outcome::Retry {
                    sent: Sent::Maybe,
                    ..
                }
            );
            assert!(maybe, "{}: {outcome:?}", kind.name);
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let followed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&followed);
    let base = answering(move |uri| match uri.path() {
        "/elsewhere" => {
            count.fetch_add(1, Ordering::Relaxed);
            StatusCode::OK.into_response()
        }
        _ => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
    })
    .await;
    for kind in kinds(&base) {
        assert_eq!(send(&kind).await, Outcome::Dead { status: 307 });
    }
    assert_eq!(followed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn who_cannot_be_reached_was_told_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for kind in kinds(&base) {
        let expected = Outcome::Retry {
            after: None,
            what: "connect".into(),
            sent: Sent::No,
        };
        assert_eq!(send(&kind).await, expected, "{}", kind.name);
    }
}

#[tokio::test]
async fn who_hangs_up_after_the_request_may_have_been_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 1024];
            let _ = stream.read(&mut some).await;
        }
    });
    for kind in kinds(&base) {
        let expected = Outcome::Retry {
            after: None,
            what: "network".into(),
            sent: Sent::Maybe,
        };
        assert_eq!(send(&kind).await, expected, "{}", kind.name);
    }
}

#[tokio::test]
async fn who_never_answers_may_have_been_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let impatient = HttpOptions {
        timeout: Duration::from_millis(200),
        ..http()
    };
    for (name, kind) in try_kinds(&base, &impatient) {
        let outcome = send(&kind.unwrap()).await;
        let expected = Outcome::Retry {
            after: None,
            what: "timeout".into(),
            sent: Sent::Maybe,
        };
        assert_eq!(outcome, expected, "{name}");
    }
    drop(listener);
}

#[tokio::test]
async fn endless_replies_are_not_read_to_their_end() {
    let base = answering(|_| {
        let block = || Ok::<_, std::io::Error>(vec![b'x'; 4096]);
        let endless = futures_util::stream::repeat_with(block);
        (StatusCode::SERVICE_UNAVAILABLE, Body::from_stream(endless)).into_response()
    })
    .await;
    for kind in kinds(&base) {
        let outcome = send(&kind).await;
        assert!(
            matches!(&outcome, Outcome::Retry { what, .. } if what == "status 503"),
            "{}: {outcome:?}",
            kind.name
        );
    }
}

#[tokio::test]
async fn private_addresses_are_refused() {
    let public = HttpOptions::new(public_addresses());
    for base in ["http://127.0.0.1:9", "http://[::1]:9", "http://10.1.2.3"] {
        for (name, kind) in try_kinds(base, &public) {
            assert_eq!(kind.err(), Some(ReceiverError::Address), "{name}");
        }
    }
    for (name, kind) in try_kinds("http://localhost:9", &public) {
        let outcome = send(&kind.unwrap()).await;
        assert!(
            matches!(&outcome, Outcome::Retry { what, sent: Sent::No, .. } if what == "connect"),
            "{name}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_explicit_proxy_is_used() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = HttpOptions {
        proxy: Some(secret(format!(
            "http://ops:{SECRET}@{}",
            proxy.local_addr().unwrap()
        ))),
        ..http()
    };
    for (name, kind) in try_kinds("http://receiver.invalid", &options) {
        let kind = kind.unwrap();
        let answer = async {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap();
            let (status, text) = kind.taken;
            let reply = format!(
                "HTTP/1.1 {status} Fine\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                // No length goes with 204.
                if status == 204 { 0 } else { text.len() }
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
            // Read on, so that closing does not reset what was written.
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&head[..n]).into_owned()
        };
        let (head, outcome) = tokio::join!(answer, send(&kind));
        assert!(head.starts_with("POST http://receiver.invalid/"), "{name}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic "));
        assert_eq!(outcome, Outcome::Delivered, "{name}");
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    for kind in kinds("http://user:s3cret@receiver.example") {
        let receiver = &*kind.receiver;
        let told = [message(json!({})), resolved()];
        let mut shown = vec![
            format!("{receiver:?}"),
            receiver.place(),
            receiver.digest(&digest(3)).unwrap(),
        ];
        shown.extend(told.iter().map(|message| rendered(receiver, message)));
        for text in shown {
            assert!(!text.contains(SECRET), "{}: {text}", kind.name);
        }
        assert_eq!(receiver.place(), "http://receiver.example");
    }
}

#[test]
fn what_is_only_recorded_is_not_told() {
    for kind in kinds("http://receiver.example") {
        for (news, told) in [
            ("raised", true),
            ("updated", true),
            ("acknowledged", true),
            ("resolved", true),
            ("recorded", false),
        ] {
            let message = message(json!({ "news": news }));
            let body = kind.receiver.render(&message);
            assert_eq!(body.is_some(), told, "{} {news}", kind.name);
            assert_eq!(body, kind.receiver.render(&message), "rendered the same");
        }
    }
}

#[test]
fn huge_and_hostile_messages_fit() {
    let monster = monster();
    for kind in kinds("http://receiver.example") {
        let receiver = &*kind.receiver;
        let bodies = [
            rendered(receiver, &monster),
            receiver.digest(&digest(5000)).unwrap(),
        ];
        for body in bodies {
            let mut body = body;
            assert!(
                body.len() <= kind.limit_bytes,
                "{} {}",
                kind.name,
                body.len()
            );
            let controls = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
            assert_texts(&parsed(&body), &|text| {
                assert!(!controls(text) && !text.contains('\u{202e}'), "{text:?}");
            });
            let mut times = 0;
            while let Some(less) = receiver.shrink(&body) {
                assert!(less.len() < body.len() && parsed(&less) != Value::Null);
                (body, times) = (less, times + 1);
            }
            assert!(times < 5, "{}: {times}", kind.name);
        }
        assert_eq!(receiver.shrink("no JSON"), None);
    }
}

#[test]
fn digests_name_the_newest_and_count_the_others() {
    for kind in kinds("http://receiver.example") {
        let all = kind.receiver.digest(&digest(3)).unwrap();
        assert!(all.contains("News 0") && all.contains("News 2"));
        assert!(all.contains("3 incidents came and went"), "{all}");
        let cut = kind.receiver.digest(&digest(5000)).unwrap();
        assert!(cut.contains("News 4999:") && !cut.contains("News 0:"));
        let named = cut.matches("News ").count();
        assert!(cut.contains(&(5000 - named).to_string()), "{}", kind.name);
    }
}

#[tokio::test]
async fn bodies_that_are_no_longer_readable_are_given_up() {
    for kind in kinds("http://127.0.0.1:9") {
        if ["pagerduty", "alertmanager", "sns"].contains(&kind.name) {
            let now = Clock::at_noon().now();
            let outcome = kind.receiver.send("id", "{", now).await;
            assert_eq!(outcome, Outcome::Dead { status: 0 }, "{}", kind.name);
        }
    }
}

#[test]
fn unusable_options_are_refused() {
    let key = |text: &str| {
        let options = pagerduty::Options {
            routing_key: secret(text),
            endpoint: secret(pagerduty::ENDPOINT),
            http: http(),
        };
        pagerduty::PagerDuty::new(&options).err()
    };
    assert_eq!(key(""), Some(ReceiverError::RoutingKey));
    assert_eq!(key("a key"), Some(ReceiverError::RoutingKey));
    assert_eq!(key("R0ABC"), None);
    let peers = |peers: Vec<Secret>, token: &str| {
        let options = alertmanager::Options {
            peers,
            auth: Some(alertmanager::Auth::Bearer(secret(token))),
            http: http(),
        };
        alertmanager::Alertmanager::new(&options).err()
    };
    let peer = || vec![secret("http://am:9093")];
    assert_eq!(peers(vec![], "t"), Some(ReceiverError::NoPeers));
    assert_eq!(peers(peer(), "a\nb"), Some(ReceiverError::Token));
    assert_eq!(peers(peer(), ""), Some(ReceiverError::Token));
    assert_eq!(peers(peer(), "t"), None);
}

/// Every text of a value, names of fields too.
fn assert_texts(value: &Value, check: &dyn Fn(&str)) {
    match value {
        Value::String(text) => check(text),
        Value::Array(items) => items.iter().for_each(|item| assert_texts(item, check)),
        Value::Object(fields) => fields.iter().for_each(|(name, item)| {
            check(name);
            assert_texts(item, check);
        }),
        _ => {}
    }
}

fn texts(value: &Value, note: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => note(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, note)),
        Value::Object(fields) => fields.values().for_each(|item| texts(item, note)),
        _ => {}
    }
}

/// No compression, no referrer, a name: what every kind says of itself.
#[tokio::test]
async fn requests_are_plain() {
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let app = Router::new().fallback(move |headers: HeaderMap, _body: String| {
        kept.lock().unwrap().push(headers);
        async { StatusCode::SERVICE_UNAVAILABLE }
    });
    let base = format!("http://{}", serve(app).await);
    for kind in kinds(&base) {
        send(&kind).await;
    }
    for headers in &*seen.lock().unwrap() {
        let agent = headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("glasswatch/"));
        assert!(!headers.contains_key("accept-encoding") && !headers.contains_key("referer"));
    }
    assert_eq!(seen.lock().unwrap().len(), kinds(&base).len());
}

#[test]
fn links_to_evidence_arrive_whole_or_not_at_all() {
    let long = format!("{LINK}{}", "x".repeat(2000));
    let with = message(json!({ "defects": [linked("The sound is late.", &[&long, LINK])] }));
    let without = message(json!({ "defects": [defect("The sound is late.")] }));
    for kind in kinds("http://receiver.example") {
        let body = parsed(&rendered(&*kind.receiver, &with));
        let mut found = Vec::new();
        texts(&body, &mut |text| {
            let text = text.replace("&amp;", "&");
            found.extend(text.contains("/api/v1/evidence/").then_some(text));
        });
        assert!(!found.is_empty(), "{}", kind.name);
        for text in found {
            assert!(
                text.contains(LINK) && text.len() < LINK.len() + 20,
                "{}: {text}",
                kind.name
            );
        }
        let body = rendered(&*kind.receiver, &without);
        assert!(!body.contains("/api/v1/evidence/"), "{}: {body}", kind.name);
    }
}

/// What a template says, in the place where our own words stand.
fn said(kind: &Kind, template: &Template, message: &Message) -> String {
    let receiver = &*kind.receiver;
    let words = words(template, message, receiver).unwrap();
    receiver.render_in(message, &words).unwrap()
}

#[test]
fn a_template_replaces_title_and_text_everywhere() {
    let template = Template {
        title: Some("{{ severity | upper }} {{ name }}".to_owned()),
        text: Some("Line 1 of {{ cause }}\nLine 2".to_owned()),
    };
    for kind in kinds("http://receiver.example") {
        let body = said(&kind, &template, &message(json!({})));
        let own = rendered(&*kind.receiver, &message(json!({})));
        let mut texts_of = String::new();
        texts(&parsed(&body), &mut |text| texts_of += &format!("{text}\n"));
        for part in ["CRITICAL News 1", "Line 1 of late_sound", "Line 2"] {
            assert!(texts_of.contains(part), "{}: {part}: {body}", kind.name);
        }
        for part in ["News 1: the sound is late.", "There is no sound either."] {
            assert!(
                !body.contains(part) && own.contains(part),
                "{}: {part}",
                kind.name
            );
        }
        // Only the title: the text stays ours.
        let title = Template {
            text: None,
            ..template.clone()
        };
        let body = said(&kind, &title, &message(json!({})));
        assert!(
            body.contains("There is no sound either."),
            "{}: {body}",
            kind.name
        );
        assert!(body.contains("CRITICAL News 1"), "{}: {body}", kind.name);
    }
}

#[test]
fn hostile_texts_in_a_template_do_no_harm() {
    let all = "{{ name }} {{ title }} {{ text }} {{ stream }} {{ acknowledged_by }} {{ defects[0].says }} \
               {% for l in labels %}{{ l }}{{ labels[l] }}{% endfor %}{{ streams }}";
    let template = Template {
        title: Some(all.to_owned()),
        text: Some(format!("{all}\n{all}")),
    };
    for kind in kinds("http://receiver.example") {
        let body = said(&kind, &template, &monster());
        assert!(
            body.len() <= kind.limit_bytes,
            "{} {}",
            kind.name,
            body.len()
        );
        let controls = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        assert_texts(&parsed(&body), &|text| {
            assert!(!controls(text) && !text.contains('\u{202e}'), "{text:?}");
        });
        // What looks like a template in a name stays what it is.
        assert!(
            body.contains("{{7*7}}") && !body.contains("49"),
            "{}",
            kind.name
        );
        if kind.name == "slack" {
            let own = format!("<{}|Evidence>", LINK.replace('&', "&amp;"));
            let said = body.replacen(&own, "", 1);
            for markup in ["<", "@all", "@U1"] {
                assert!(!said.contains(markup), "{markup}: {said}");
            }
        }
    }
}

#[test]
fn what_a_template_is_promised_is_what_a_message_has() {
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let sample = glasswatch::config::template::sample();
    let message: Message = serde_json::from_value(sample.clone()).unwrap();
    let written = serde_json::to_value(message).unwrap();
    assert_eq!(keys(&written), keys(&sample));
    assert_eq!(keys(&written["defects"][0]), keys(&sample["defects"][0]));
}

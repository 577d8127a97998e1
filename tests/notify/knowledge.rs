//! Receivers keep what they know: over changes of their settings, over a restart, and in place of others.

use super::*;

#[tokio::test]
async fn receivers_change_without_losing_the_others() {
    let (a, mut at_a) = hook(|_| ok()).await;
    let (b, mut at_b) = hook(|_| ok()).await;
    let notifier = Notifier::start(settings(vec![receiver("a", a)])).unwrap();
    tell(&notifier, Change::Raise, "one", Severity::Info);
    next(&mut at_a).await;
    let both = [receiver("a", a), receiver("b", b)];
    notifier.set_receivers(&both, LONG).unwrap();
    tell(&notifier, Change::Raise, "two", Severity::Info);
    assert_eq!(next(&mut at_a).await.1["data"]["stream"], "two");
    assert_eq!(next(&mut at_b).await.1["data"]["stream"], "two");
    let private = Receiver {
        allow_private: false,
        ..receiver("c", b)
    };
    let refused = notifier.set_receivers(&[private], LONG).unwrap_err();
    assert!(matches!(&refused, StartError::Receiver { name, .. } if name == "c"));
    assert!(!format!("{refused:?} {refused}").contains("s3cret"));
    assert_eq!(notifier.stats().receivers.len(), 2);
    notifier.set_receivers(&[receiver("b", b)], LONG).unwrap();
    tell(&notifier, Change::Raise, "three", Severity::Info);
    assert_eq!(next(&mut at_b).await.1["data"]["stream"], "three");
    assert_eq!(notifier.close(LONG).await, 0);
    assert!(at_a.try_recv().is_err());
    assert_eq!(notifier.stats().receivers[0].delivered, 2);
}

#[tokio::test]
async fn a_receiver_whose_settings_change_keeps_what_it_was_told_and_what_waits() {
    let (wrong, mut refused) = hook(|n| match n {
        0 => ok(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
    .await;
    let (right, mut requests) = hook(|_| ok()).await;
    let notifier = Notifier::start(settings(vec![receiver("ops", wrong)])).unwrap();
    tell(&notifier, Change::Raise, "told", Severity::Critical);
    next(&mut refused).await;
    tell(&notifier, Change::Raise, "waits", Severity::Critical);
    next(&mut refused).await;
    notifier
        .set_receivers(&[receiver("ops", right)], LONG)
        .unwrap();
    tell(&notifier, Change::Clear, "told", Severity::Critical);
    tell(&notifier, Change::Clear, "waits", Severity::Critical);
    let mut got = Vec::new();
    while got.len() < 3 {
        let (_, json) = next(&mut requests).await;
        let word = |name: &str| json["data"][name].as_str().unwrap().to_owned();
        got.push(format!("{} {}", word("stream"), word("news")));
    }
    let waits: Vec<&String> = got.iter().filter(|g| g.starts_with("waits")).collect();
    assert_eq!(waits, ["waits raised", "waits resolved"]);
    assert!(got.contains(&"told resolved".to_owned()), "{got:?}");
    assert_eq!(notifier.close(LONG).await, 0);
}

#[tokio::test]
async fn a_receiver_that_becomes_another_kind_is_told_anew() {
    let (hooked, mut told) = hook(|_| ok()).await;
    let (channel, mut requests) = hook(|_| "ok".into_response()).await;
    let notifier = Notifier::start(settings(vec![receiver("ops", hooked)])).unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    next(&mut told).await;
    let slack = Receiver {
        kind: ReceiverKind::Slack {
            url: Secret::new(format!("http://{channel}/hook")),
        },
        ..receiver("ops", channel)
    };
    notifier.set_receivers(&[slack], LONG).unwrap();
    let (_, json) = next(&mut requests).await;
    assert!(json["text"].as_str().unwrap().contains("news1"), "{json}");
    assert_eq!(notifier.close(LONG).await, 0);
}

/// What it was told in place of another it hears to the end, and after a restart everybody knows what they knew.
#[tokio::test]
async fn who_was_told_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (refusing, mut refused) = hook(|n| match n {
        0 => StatusCode::BAD_REQUEST.into_response(),
        _ => ok(),
    })
    .await;
    let (backup, mut requests) = hook(|_| ok()).await;
    let (third, _silent) = hook(|_| ok()).await;
    let of = |name: &str, address, stream: &str| Receiver {
        only: [("stream".to_owned(), stream.to_owned())].into(),
        ..receiver(name, address)
    };
    let on_disk = || Settings {
        data_dir: dir.path().to_owned(),
        ..settings(vec![
            of("ops", refusing, "news1"),
            of("backup", backup, "sport1"),
            of("third", third, "film1"),
        ])
    };
    let notifier = Notifier::start(on_disk()).unwrap();
    tell(&notifier, Change::Raise, "news1", Severity::Critical);
    next(&mut refused).await;
    let of_news = async |requests: &mut Requests| loop {
        let (_, json) = next(requests).await;
        if json["data"]["stream"] == "news1" {
            return json["data"]["news"].as_str().unwrap().to_owned();
        }
    };
    assert_eq!(of_news(&mut requests).await, "raised");
    assert_eq!(notifier.close(LONG).await, 0);
    drop(notifier);
    let notifier = Notifier::start(on_disk()).unwrap();
    let desk = notifier.desk();
    let open = desk.incidents(jiff::Timestamp::now());
    let news = open.iter().find(|i| i.stream.as_deref() == Some("news1"));
    let id = &news.unwrap().incident_id;
    let couriers = desk.couriers();
    let knowing: Vec<bool> = couriers.iter().map(|c| c.knows(id)).collect();
    // The first refused the message that was to tell it, but knows of it: its end does no harm there.
    assert_eq!(knowing, [true, true, false]);
    tell(&notifier, Change::Clear, "news1", Severity::Critical);
    assert_eq!(of_news(&mut requests).await, "resolved");
    assert_eq!(notifier.close(LONG).await, 0);
}

//! Origins that fail, lie, stall, or send us elsewhere.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::header;
use detectors::base::Cause;
use glasswatch::config::Secret;
use glasswatch::ingest::fetch::Fetcher;
use glasswatch::ingest::stats::{RequestResult, Stats};

use crate::rig::*;

#[tokio::test]
async fn segments_404_while_the_playlist_lives_then_recover() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(live(asked.since, 4)),
        _ if (2..5).contains(&asked.since.as_secs()) => status(404),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("recovery", |rig| {
        rig.recorder.marks().last().is_some_and(|mark| *mark >= 9)
    })
    .await;
    let causes = rig.facts.causes();
    assert!(causes.len() >= 2 && causes.iter().all(|cause| *cause == Cause::HttpNotFound));
    let failed = count(&rig.stats.segment_requests, RequestResult::Http4xx);
    assert!(
        (2..=7).contains(&failed),
        "{failed} failed in three seconds"
    );
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(live(asked.since, 8)),
        _ if asked.since < Duration::from_secs(1) => with(status(503), header::RETRY_AFTER, "2"),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("a segment", |rig| !rig.recorder.marks().is_empty())
        .await;
    assert_eq!(rig.facts.causes(), [Cause::HttpServerError]);
    let asked = origin.asked(".ts");
    assert!(asked[1] - asked[0] >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_failing_playlist_is_told_and_asked_for_gently() {
    let origin = Origin::start(|asked| match asked.before {
        0..2 => status(404),
        2 => status(403),
        3 => ok("<html>"),
        _ => ok("#EXTM3U\n#EXT-X-TARGETDURATION:1\n"),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("five failures", |rig| rig.facts.causes().len() >= 5)
        .await;
    assert_eq!(
        rig.facts.causes()[..5],
        [
            Cause::HttpNotFound,
            Cause::HttpNotFound,
            Cause::AuthRefused,
            Cause::PlaylistInvalid,
            Cause::PlaylistInvalid,
        ]
    );
    assert_paced(&origin.asked("a.m3u8"));
    assert_eq!(count(&rig.stats.playlist_requests, RequestResult::Parse), 1);
}

#[tokio::test]
async fn a_frozen_playlist_is_told_within_three_target_durations() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(live(Duration::ZERO, 4)),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    let began = Instant::now();
    rig.until("stall", |rig| !rig.facts.causes().is_empty())
        .await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(rig.facts.causes()[0], Cause::PlaylistStalled);
    assert_eq!(rig.recorder.marks(), [1, 2, 3]);
    assert_paced(&origin.asked("a.m3u8"));
}

#[tokio::test]
async fn silent_and_absent_servers_are_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.m3u8", listener.local_addr().unwrap());
    let told = async |url: &str| {
        let rig = rig(url);
        rig.until("a failure", |rig| !rig.facts.causes().is_empty())
            .await;
        rig.facts.causes()[0]
    };
    assert_eq!(told(&url).await, Cause::Timeout);
    drop(listener);
    assert_eq!(told(&url).await, Cause::ConnectFailed);
    let nowhere = "http://no-such-name.invalid/a.m3u8";
    assert_eq!(told(nowhere).await, Cause::DnsFailed);
    let plain = Origin::start(|_| ok("")).await;
    let tls = plain.url.replace("http:", "https:");
    assert_eq!(told(&tls).await, Cause::TlsFailed);
}

#[tokio::test]
async fn a_segment_that_stalls_is_continued_where_it_broke_off() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        "/s1.ts" if asked.before == 0 => hang(&ts(1)[..700]),
        "/s1.ts" => {
            assert_eq!(asked.headers[header::RANGE], "bytes=700-");
            ok(ts(1))
        }
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.facts.causes(), [Cause::Timeout]);
    assert_eq!(rig.recorder.marks(), [1, 2]);
}

#[tokio::test]
async fn a_segment_that_never_completes_is_given_up_as_truncated() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        "/s1.ts" if asked.before == 0 => hang(&ts(1)[..700]),
        "/s1.ts" => status(503),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    let first = &rig.recorder.pieces(0)[0];
    assert_eq!(first.data, ts(1)[..700]);
    assert_eq!(first.truncated, Some(true));
    assert_eq!(rig.recorder.marks(), [2]);
}

#[tokio::test]
async fn endless_bodies_are_cut_at_their_limits() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" if asked.before == 0 => endless(b"#EXTM3U\n# more\n".repeat(1_000)),
        "/a.m3u8" => ok(vod("#EXTINF:1,\nbig.ts\n#EXTINF:1,\ns2.ts")),
        "/big.ts" => endless(ts(1)),
        path => segment(path),
    })
    .await;
    let rig = rig_with(&format!("{}/a.m3u8", origin.url), |input| {
        input.limits.playlist_bytes = 100_000;
        input.limits.segment_bytes = 50_000;
    });
    rig.to_end().await;
    assert_eq!(rig.facts.causes(), [Cause::TooLarge, Cause::TooLarge]);
    assert_eq!(origin.asked("big.ts").len(), 1);
    assert!(rig.stats.input_bytes.get() < 2_000_000);
    assert_eq!(rig.recorder.marks(), [2]);
}

#[tokio::test]
async fn a_jump_of_the_media_sequence_and_a_restart() {
    let list = |first: usize, n: usize| {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        for n in first..first + n {
            text += &format!("#EXTINF:1,\ns{n}.ts\n");
        }
        text
    };
    let origin = Origin::start(move |asked| match (asked.path.as_str(), asked.before) {
        ("/a.m3u8", 0) => ok(list(100, 3)),
        ("/a.m3u8", 1) => ok(list(110, 2)),
        ("/a.m3u8", n) => ok(list(0, n)),
        (path, _) => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("the restarted playlist", |rig| {
        rig.recorder.marks().contains(&2)
    })
    .await;
    assert_eq!(
        rig.recorder.marks()[..8],
        [100, 101, 102, 110, 111, 0, 1, 2]
    );
    let pieces = rig.recorder.pieces(0);
    let discontinuous = pieces.iter().filter(|piece| piece.discontinuity);
    assert_eq!(discontinuous.map(|p| p.data[2]).collect::<Vec<_>>(), [0]);
    assert_eq!(rig.facts.causes(), []);
}

#[tokio::test]
async fn what_is_no_media_is_told_and_passed_over() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        "/s1.ts" => ok("<html>login</html>"),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.facts.causes(), [Cause::Undecodable]);
    assert_eq!(rig.recorder.marks(), [2]);
}

#[tokio::test]
async fn forbidden_places_inside_a_playlist_are_never_followed() {
    const LIST: &str = "#EXTINF:1,\nfile:///etc/passwd\n\
        #EXTINF:1,\nhttp://169.254.169.254/latest/meta-data\n\
        #EXT-X-MAP:URI=\"file:///etc/hosts\"\n#EXTINF:1,\ns1.ts";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(LIST)),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(
        rig.facts.causes(),
        [
            Cause::SchemeRefused,
            Cause::AddressRefused,
            Cause::SchemeRefused
        ]
    );
    assert_eq!(rig.recorder.pieces(0), []);
}

#[tokio::test]
async fn keys_maps_and_datagrams_in_forbidden_places_are_never_asked_for() {
    const PLACES: [(&str, Cause); 4] = [
        ("file:///etc/passwd", Cause::SchemeRefused),
        ("udp://239.1.1.1:5000", Cause::SchemeRefused),
        ("http://169.254.170.2/v2/credentials", Cause::AddressRefused),
        ("http://100.100.100.200/latest", Cause::AddressRefused),
    ];
    for (place, cause) in PLACES {
        let key = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{place}\"\n#EXTINF:1,\ns1.ts");
        let map = format!("#EXT-X-MAP:URI=\"{place}\"\n#EXTINF:1,\ns1.ts");
        let segment_there = format!("#EXTINF:1,\n{place}");
        for lines in [key, map, segment_there] {
            let list = vod(&lines);
            let origin = Origin::start(move |asked| match asked.path.as_str() {
                "/a.m3u8" => ok(list.clone()),
                path => segment(path),
            })
            .await;
            let rig = rig(&format!("{}/a.m3u8", origin.url));
            let end = rig.to_end().await;
            assert_eq!(end.cause, Some(cause), "{lines}");
            assert_eq!(rig.recorder.pieces(0), [], "{lines}");
        }
    }
}

#[tokio::test]
async fn private_addresses_and_names_are_refused_unless_allowed() {
    let origin = Origin::start(|_| ok("#EXTM3U\n")).await;
    let port = origin.url.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"] {
        let rig = rig_with(&format!("http://{host}:{port}/a.m3u8"), |input| {
            input.allow_private = false;
        });
        rig.until("a failure", |rig| !rig.facts.causes().is_empty())
            .await;
        assert_eq!(rig.facts.causes()[0], Cause::AddressRefused, "{host}");
    }
    assert_eq!(origin.asked("").len(), 0);
}

#[tokio::test]
async fn redirects_in_a_circle_or_to_forbidden_places_are_refused() {
    let origin = Origin::start(|asked| match asked.before {
        0 => redirect("file:///etc/passwd"),
        1 => redirect("http://169.254.169.254/latest"),
        _ => redirect("/a.m3u8"),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("three failures", |rig| rig.facts.causes().len() >= 3)
        .await;
    assert_eq!(rig.facts.causes()[..3], [Cause::RedirectRefused; 3]);
    // Two refused at once, then one request and its three redirects.
    assert_eq!(origin.asked("a.m3u8").len(), 2 + 4);
}

#[tokio::test]
async fn configured_headers_stay_with_the_configured_host() {
    type Seen = Arc<Mutex<HashMap<String, bool>>>;
    let seen = Seen::default();
    let note = |seen: &Seen, asked: &Asked| {
        let sent = asked.headers.contains_key("x-token");
        seen.lock().unwrap().insert(asked.path.clone(), sent);
    };
    let far_seen = Arc::clone(&seen);
    let far = Origin::start(move |asked| {
        note(&far_seen, asked);
        ok(ts(1))
    })
    .await;
    let list = vod(&format!(
        "#EXTINF:1,\nnear.ts\n#EXTINF:1,\n{}/far.ts",
        far.url
    ));
    let near_seen = Arc::clone(&seen);
    let origin = Origin::start(move |asked| {
        note(&near_seen, asked);
        match asked.path.as_str() {
            "/a.m3u8" => ok(list.clone()),
            _ => ok(ts(1)),
        }
    })
    .await;
    let rig = rig_with(&format!("{}/a.m3u8", origin.url), |input| {
        input.headers = vec![("X-Token".to_owned(), Secret::new("canary"))];
    });
    rig.to_end().await;
    let seen = seen.lock().unwrap();
    assert_eq!((seen["/a.m3u8"], seen["/near.ts"]), (true, true));
    assert!(!seen["/far.ts"]);
}

#[tokio::test]
async fn a_local_playlist_may_name_only_files_below_it() {
    const LIST: &str = "#EXTINF:1,\ns1.ts\n#EXTINF:1,\n../secret.ts\n\
        #EXTINF:1,\n#EXT-X-BYTERANGE:1504@0\ns1.ts";
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    let show = dir.path().join("show");
    std::fs::create_dir(&show).unwrap();
    write(&show.join("s1.ts"), &ts(1));
    write(&dir.path().join("secret.ts"), &ts(9));
    write(&show.join("a.m3u8"), vod(LIST).as_bytes());
    let url = url::Url::from_file_path(show.join("a.m3u8")).unwrap();
    let rig = rig(url.as_str());
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [1, 1]);
    assert!(
        rig.facts
            .causes()
            .iter()
            .all(|c| *c == Cause::SchemeRefused)
    );
    assert!(!rig.facts.causes().is_empty());
}

#[tokio::test]
async fn nothing_told_holds_a_secret() {
    let origin = Origin::start(|_| status(404)).await;
    let with_user = origin.url.replace("://", "://user:canary@");
    let rig = rig(&format!("{with_user}/canary/a.m3u8?token=canary"));
    let fetcher = Fetcher::new(&rig.cx.stream.input, Arc::new(Stats::default())).unwrap();
    let error = fetcher.playlist(fetcher.home(), None).await.unwrap_err();
    assert_eq!(error.cause, Cause::HttpNotFound);
    assert!(!format!("{error} {error:?}").contains("canary"));
}

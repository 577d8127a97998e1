//! `glasswatch run`: signals, reload, events, and secrets that must not get out.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::rig::*;

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn config(dir: &Path, streams: &str) -> String {
    format!(
        "version: 1\ninstance: {{data_dir: {}, drain: 10s}}\nstreams:\n{streams}",
        dir.join("data").display()
    )
}

#[test]
fn events_are_json_lines_and_sigterm_drains() {
    let dir = tempfile::tempdir().unwrap();
    clean(30)
        .showing(Show::Black, 2, 6)
        .write(dir.path(), "a.ts");
    let path = dir.path().join("watch.yaml");
    write(&path, &config(dir.path(), "  - {id: news, url: a.ts}\n"));
    let mut daemon = Daemon::start(&["--config", path.to_str().unwrap(), "--events", "-"]);
    let open = r#"glasswatch_defect_active{stream="news",detector="black""#;
    daemon.until("a clear on standard output", |d| {
        d.out().contains(r#""type":"clear""#).then_some(())
    });
    assert!(!daemon.get("/metrics").contains(&format!("{open} 1")));
    let done = daemon.stop();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("drained"), "{done:?}");
    let events = done.lines();
    let of = |kind: &str| -> Vec<&Json> {
        let own = |e: &&Json| e["type"] == kind && e["detector"] == "black";
        events.iter().filter(own).collect()
    };
    let (raised, cleared) = (of("raise"), of("clear"));
    assert_eq!((raised.len(), cleared.len()), (1, 1), "{}", done.out);
    assert_eq!(raised[0]["defect_id"], cleared[0]["defect_id"]);
    for event in &events {
        assert_eq!(event["schema_version"], 1, "{event}");
        assert_eq!(event["stream"], "news", "{event}");
        assert!(event["at"]["utc"].is_string(), "{event}");
    }
    let began = raised[0]["start"]["media_secs"].as_f64().unwrap();
    let ended = cleared[0]["end"]["media_secs"].as_f64().unwrap();
    assert!((ended - began - 4.0).abs() < 0.5, "{began} to {ended}");
}

#[test]
fn the_page_of_a_defect_shows_a_clip_of_the_input() {
    let dir = tempfile::tempdir().unwrap();
    clean(30)
        .showing(Show::Black, 6, 9)
        .write(dir.path(), "a.ts");
    let path = dir.path().join("watch.yaml");
    write(&path, &config(dir.path(), "  - {id: news, url: a.ts}\n"));
    let mut daemon = Daemon::start(&["--config", path.to_str().unwrap(), "--events", "-"]);
    let set = daemon.until("a raise", |d| {
        let out = d.out();
        let events = out
            .lines()
            .filter_map(|l| serde_json::from_str::<Json>(l).ok());
        let mut raised = events.filter(|e| e["detector"] == "black" && e["type"] == "raise");
        raised.next()?["evidence"][0].as_str().map(str::to_owned)
    });
    let clip = dir.path().join("data").join(&set).join("clip.mp4");
    daemon.until("the clip", |_| clip.exists().then_some(()));
    let page = daemon.get(&format!("/api/v1/{set}"));
    let shown = format!("<video controls preload=\"metadata\" src=\"/api/v1/{set}/clip.mp4\">");
    assert!(page.contains(&shown), "{page}");
    assert!(page.contains(&format!("/api/v1/{set}/plot.svg")), "{page}");
    let written = "glasswatch_clips_total{result=\"written\"}";
    assert!(daemon.metric(written) >= Some(1.0));
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_reload_restarts_only_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    clean(60).write(dir.path(), "a.ts");
    let path = dir.path().join("watch.yaml");
    let streams =
        "  - {id: stays, url: a.ts}\n  - {id: changes, url: a.ts}\n  - {id: goes, url: a.ts}\n";
    write(&path, &config(dir.path(), streams));
    let mut daemon = Daemon::start(&["--config", path.to_str().unwrap()]);
    let watched = |id: &str| format!("glasswatch_stream_media_seconds_total{{stream=\"{id}\"}}");
    let played = |d: &Daemon, id: &str| d.metric(&watched(id)).unwrap_or(0.0);
    let successful = "glasswatch_config_last_reload_successful";
    let far = daemon.until("all streams play", |d| {
        let far = ["stays", "changes", "goes"].map(|id| played(d, id));
        far.iter().all(|secs| *secs >= 2.0).then_some(far)
    });
    assert_eq!(daemon.metric(successful), Some(1.0));

    let streams = "  - {id: comes, url: a.ts}\n  - {id: stays, url: a.ts}\n  - {id: changes, url: a.ts, detectors: {freeze: false}}\n";
    write(&path, &config(dir.path(), streams));
    daemon.signal("HUP");
    daemon.logged("configuration taken");
    assert!(played(&daemon, "stays") >= far[0], "it went on");
    assert!(played(&daemon, "changes") < far[1], "it began again");
    assert_eq!(daemon.metric(&watched("goes")), None);
    let changed: Json = serde_json::from_str(&daemon.get("/api/v1/streams/changes")).unwrap();
    let running = |json: &Json| {
        let rows = json["stream"]["detectors"].as_array().unwrap().clone();
        let mut names = rows.into_iter().map(|row| row["detector"].clone());
        names.any(|name| name == "freeze")
    };
    assert!(!running(&changed), "{changed}");
    let stays: Json = serde_json::from_str(&daemon.get("/api/v1/streams/stays")).unwrap();
    assert!(running(&stays), "{stays}");
    daemon.until("the new stream plays", |d| {
        (played(d, "comes") > 0.5).then_some(())
    });

    let far = played(&daemon, "stays");
    write(&path, "version: 1\nstreams: [{id: NOT AN ID}]\n");
    daemon.signal("HUP");
    daemon.logged("the configuration is not taken");
    assert_eq!(daemon.metric(successful), Some(0.0));
    daemon.until("the old streams go on", |d| {
        (played(d, "stays") > far && played(d, "comes") > 0.5).then_some(())
    });

    write(&path, &config(dir.path(), streams));
    daemon.signal("HUP");
    daemon.logged("configuration taken");
    assert_eq!(daemon.metric(successful), Some(1.0));
    assert!(played(&daemon, "stays") >= far, "nothing changed");
    assert_eq!(daemon.stop().code, Some(0));
}

/// Answers every request with this status; the requests come out of the channel.
/// Sends a clip to all ports in real time, over and over, until the receiver of `stop` is gone.
fn send(clip: Vec<u8>, secs: f64, ports: Vec<u16>, stop: std::sync::mpsc::SyncSender<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams: Vec<&[u8]> = clip.chunks(7 * 188).collect();
    let pace = Duration::from_secs_f64(secs / datagrams.len() as f64);
    let began = Instant::now();
    for (n, datagram) in (0..).zip(datagrams.iter().cycle()) {
        std::thread::sleep((pace * n).saturating_sub(began.elapsed()));
        for port in &ports {
            // A port that nobody listens on yet is no error.
            let _ = socket.send_to(datagram, ("127.0.0.1", *port));
        }
        if let Err(TrySendError::Disconnected(())) = stop.try_send(()) {
            return;
        }
    }
}

#[test]
fn a_live_stream_costs_two_threads() {
    const STREAMS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let clip = clean(10).write(dir.path(), "a.ts");
    // Held until all are known, so that they differ.
    let sockets: Vec<UdpSocket> = (0..STREAMS)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports: Vec<u16> = (sockets.iter())
        .map(|s| s.local_addr().unwrap().port())
        .collect();
    drop(sockets);
    let lines: String = (ports.iter())
        .map(|p| format!("  - {{id: s{p}, url: 'udp://127.0.0.1:{p}', allow_private: true}}\n"))
        .collect();
    let path = dir.path().join("watch.yaml");
    write(&path, &config(dir.path(), &lines));
    let mut daemon = Daemon::start(&["--config", path.to_str().unwrap()]);
    let at_rest = daemon.threads();
    let (stop, _sending) = sync_channel(0);
    let clip = std::fs::read(clip).unwrap();
    let listening = ports.clone();
    std::thread::spawn(move || send(clip, 10.0, listening, stop));
    daemon.until("pictures and sound of all streams", |d| {
        let page = d.get("/metrics");
        let decoded = |port: &u16, unit: &str| {
            let series = format!("glasswatch_{unit}_total{{stream=\"s{port}\"");
            page.lines()
                .any(|l| l.starts_with(&series) && !l.ends_with(" 0"))
        };
        (ports.iter())
            .all(|p| decoded(p, "video_frames") && decoded(p, "audio_samples"))
            .then_some(())
    });
    // One decodes pictures, one sound; UDP has none of its own. Those that start streams and answer requests end by
    // themselves when they have had nothing to do for a while.
    daemon.until("two threads a stream", |d| {
        let beyond = d.threads().saturating_sub(at_rest);
        (1..=2 * STREAMS).contains(&beyond).then_some(())
    });
    daemon.stop();
}

fn origin(status: &'static str) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { break };
            let mut request = [0; 8192];
            let length = socket.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            // The client may have gone.
            let _ = socket.write_all(answer.as_bytes());
            if told.send(text).is_err() {
                break;
            }
        }
    });
    (port, requests)
}

#[test]
fn secrets_get_out_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, calls) = origin("500 Sorry");
    let (web, requests) = origin("403 Forbidden");
    let events = dir.path().join("events.jsonl");
    let path = dir.path().join("watch.yaml");
    write(
        &path,
        &format!(
            "version: 1
instance: {{data_dir: {data}, drain: 5s}}
receivers:
  - name: hook
    allow_private: true
    webhook:
      url: http://user:CANARY-1@127.0.0.1:{hook}/CANARY-2?token=CANARY-3
      secret: whsec_Q0FOQVJZLWtleS1rZXkta2V5LWtleS1rZXk=
  - name: pager
    allow_private: true
    pagerduty: {{routing_key: CANARY-10, endpoint: 'http://127.0.0.1:{hook}/CANARY-2'}}
  - name: am
    allow_private: true
    proxy: http://user:CANARY-1@127.0.0.1:{hook}
    alertmanager: {{peers: ['http://user:CANARY-1@127.0.0.1:{hook}/CANARY-2'], token: CANARY-11}}
  - name: slack
    allow_private: true
    slack: {{url: 'http://127.0.0.1:{hook}/CANARY-2'}}
heartbeat: {{endpoint: 'http://127.0.0.1:{hook}/CANARY-12', every: 1s, allow_private: true}}
defaults: {{allow_private: true, visible_after: 500ms, page_after: 1s}}
streams:
  - id: web
    url: http://user:CANARY-4@127.0.0.1:{web}/live.m3u8?token=CANARY-5
    headers: {{x-key: CANARY-6}}
  - id: ts
    url: http://user:CANARY-4@127.0.0.1:{web}/live.ts?token=CANARY-5
    headers: {{authorization: Bearer CANARY-6}}
  - id: by-url
    url: srt://127.0.0.1:1?passphrase=CANARY-7-long&streamid=CANARY-8
  - id: by-key
    url: srt://127.0.0.1:1
    srt: {{passphrase: CANARY-7-long, stream_id: CANARY-8}}
",
            data = dir.path().join("data").display()
        ),
    );
    let name = path.to_str().unwrap();
    let log = ["--log-level", "trace", "--events", events.to_str().unwrap()];
    let mut daemon = Daemon::start(&[&["--config", name], &log[..]].concat());
    for secret in ["CANARY-12", "CANARY-2"] {
        let mut made = std::iter::from_fn(|| calls.recv_timeout(DEADLINE).ok());
        made.find(|call| call.contains(secret)).expect("a call");
    }
    let request = requests
        .recv_timeout(DEADLINE)
        .expect("the origin is asked");
    assert!(
        request.contains("CANARY-5") && request.contains("CANARY-6"),
        "{request}"
    );
    let told = daemon.until("every stream is told of", |d| {
        let defects: Json = serde_json::from_str(&d.get("/api/v1/defects")).unwrap();
        let text = defects.to_string();
        let all = ["web", "ts", "by-url", "by-key"].map(|id| format!(r#""stream":"{id}""#));
        all.iter().all(|s| text.contains(s)).then_some(text)
    });
    let mut pages = vec![("/api/v1/defects".to_owned(), told)];
    let api = ["/api/v1/streams", "/api/v1/incidents", "/api/v1/mutes"];
    for page in ["/", "/plain", "/metrics", "/version"]
        .into_iter()
        .chain(api)
    {
        pages.push((page.to_owned(), daemon.get(page)));
    }
    for id in ["web", "ts", "by-url", "by-key"] {
        let page = format!("/api/v1/streams/{id}");
        let body = daemon.get(&page);
        pages.push((page, body));
    }
    write(
        &path,
        "version: 1\nstreams: [{id: x, url: 'foo://CANARY-9@h/CANARY-9?CANARY-9'}]\n",
    );
    daemon.signal("HUP");
    daemon.logged("the configuration is not taken");
    let done = daemon.stop();
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut stored = Vec::new();
    pages.push(("log".to_owned(), done.err));
    pages.push(("stdout".to_owned(), done.out));
    pages.push((
        "events".to_owned(),
        std::fs::read_to_string(events).unwrap(),
    ));
    for file in std::fs::read_dir(dir.path().join("data/outbox")).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().to_string_lossy().into_owned();
        if name != "ballast" {
            let bytes = std::fs::read(file.path()).unwrap();
            stored.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    assert!(
        stored.iter().any(|(_, text)| text.contains("no_input")),
        "{stored:?}"
    );
    for (page, text) in pages.iter().chain(&stored) {
        for line in text.lines() {
            for secret in ["CANARY", "Q0FOQVJZ"] {
                assert!(!line.contains(secret), "{page}: {line}");
            }
        }
    }
    let events = &pages.last().unwrap().1;
    assert!(events.lines().count() >= 4, "{events}");
}

#[test]
fn a_stream_of_the_api_is_watched_through_kill_and_reload_and_its_neighbours_go_on() {
    let dir = tempfile::tempdir().unwrap();
    clean(60).write(dir.path(), "a.ts");
    let path = dir.path().join("watch.yaml");
    write(&path, &config(dir.path(), "  - {id: stays, url: a.ts}\n"));
    let args = ["--config", path.to_str().unwrap()];
    let mut daemon = Daemon::start(&args);
    let watched = |id: &str| format!("glasswatch_stream_media_seconds_total{{stream=\"{id}\"}}");
    let played = |d: &Daemon, id: &str| d.metric(&watched(id)).unwrap_or(0.0);
    let plays = |d: &mut Daemon, id: &str| {
        d.until("it plays", |d| {
            Some(played(d, id)).filter(|secs| *secs > 1.0)
        })
    };
    let far = plays(&mut daemon, "stays");
    let comes = "/api/v1/streams/comes";
    let entry = r#"{"url": "a.ts"}"#;
    assert_eq!(daemon.send("PUT", comes, entry).0, 201);
    plays(&mut daemon, "comes");
    let changed = r#"{"url": "a.ts", "detectors": {"freeze": false}}"#;
    let before = played(&daemon, "comes");
    assert_eq!(daemon.send("PUT", comes, changed).0, 200);
    assert!(played(&daemon, "comes") < before, "it began again");
    assert!(played(&daemon, "stays") >= far, "it went on");
    // What was answered is there after a kill at any moment.
    assert_eq!(daemon.send("PUT", "/api/v1/streams/late", entry).0, 201);
    daemon.signal("KILL");
    drop(daemon);

    let mut daemon = Daemon::start(&args);
    for id in ["stays", "comes", "late"] {
        plays(&mut daemon, id);
    }
    let far = played(&daemon, "comes");
    let shown: Json = serde_json::from_str(&daemon.get(comes)).unwrap();
    assert_eq!(shown["stream"]["origin"], "api");
    assert!(!shown.to_string().contains("\"freeze\""), "{shown}");
    // A reload keeps it, even one that the file does not survive.
    write(&path, "version: 1\nstreams: [{id: NOT AN ID}]\n");
    daemon.signal("HUP");
    daemon.logged("the configuration is not taken");
    let streams = "  - {id: stays, url: a.ts}\n  - {id: late, url: a.ts}\n";
    write(&path, &config(dir.path(), streams));
    daemon.signal("HUP");
    daemon.logged("the configuration file names a stream that the API added");
    daemon.logged("configuration taken");
    assert!(played(&daemon, "comes") >= far, "it went on");
    assert_eq!(daemon.send("PUT", "/api/v1/streams/late", entry).0, 409);
    assert_eq!(daemon.send("DELETE", comes, "").0, 204);
    assert_eq!(daemon.metric(&watched("comes")), None);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_second_process_on_a_data_folder_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    clean(60).write(dir.path(), "a.ts");
    let path = dir.path().join("watch.yaml");
    write(&path, &config(dir.path(), "  - {id: news, url: a.ts}\n"));
    let args = ["--config", path.to_str().unwrap()];
    let daemon = Daemon::start(&args);
    let second = run(["run", "--listen", "127.0.0.1:0"].iter().chain(&args));
    assert_eq!(second.code, Some(4), "{second:?}");
    let folder = dir.path().join("data");
    let told = format!("another process uses the data folder {}", folder.display());
    assert!(second.err.contains(&told), "{second:?}");
    assert!(!second.err.contains("serving"), "{second:?}");
    // Other commands do not mind.
    let check = run(["check"].iter().chain(&args[1..]));
    assert_eq!(check.code, Some(0), "{check:?}");
    let input = dir.path().join("a.ts");
    let analysed = analyze(&input, &args);
    assert_eq!(analysed.code, Some(0), "{analysed:?}");
    daemon.signal("KILL");
    drop(daemon);
    assert_eq!(Daemon::start(&args).stop().code, Some(0));
}

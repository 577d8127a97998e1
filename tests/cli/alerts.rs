//! Alerts of a real process: through kill -9, with a canary, with a heartbeat.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value as Json;

use crate::rig::*;

/// Takes POSTs, answers with a status that may change, hands on path and body.
struct Hook {
    port: u16,
    status: Arc<AtomicU16>,
    calls: Receiver<(String, Json)>,
}

fn hook(status: u16) -> Hook {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let status = Arc::new(AtomicU16::new(status));
    let (told, calls) = channel();
    let answers = Arc::clone(&status);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { break };
            let mut request = Vec::new();
            let mut part = [0; 4096];
            let (path, body) = loop {
                let length = socket.read(&mut part).unwrap_or(0);
                request.extend_from_slice(&part[..length]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let wanted = text.split("content-length: ").nth(1);
                let wanted = wanted.and_then(|w| w.split("\r\n").next()?.parse::<usize>().ok());
                let body = text.find("\r\n\r\n").map(|at| at + 4);
                match (body, wanted) {
                    (Some(at), wanted) if request.len() >= at + wanted.unwrap_or(0) => {
                        let path = text.split(' ').nth(1).unwrap_or("").to_owned();
                        break (path, request[at..].to_vec());
                    }
                    _ if length == 0 => break (String::new(), Vec::new()),
                    _ => {}
                }
            };
            let status = answers.load(Ordering::SeqCst);
            let answer =
                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            // The client may have gone.
            let _ = socket.write_all(answer.as_bytes());
            let body = serde_json::from_slice(&body).unwrap_or_default();
            if told.send((path, body)).is_err() {
                break;
            }
        }
    });
    Hook {
        port,
        status,
        calls,
    }
}

impl Hook {
    /// The next call that was made while the answer was 200; the data of its incident.
    fn next(&self) -> Json {
        let (_, body) = self.calls.recv_timeout(DEADLINE).expect("a call");
        body["data"].clone()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_kill_loses_no_alert_and_resolves_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.yaml");
    let data = dir.path().join("data");
    let hook = hook(503);
    let config = |streams: &str| {
        format!(
            "version: 1
instance: {{data_dir: {data}, drain: 5s}}
canary: {{every: 0s}}
incidents: {{resolve_after: 1s}}
receivers:
  - name: ops
    allow_private: true
    webhook: {{url: 'http://127.0.0.1:{port}/'}}
defaults: {{allow_private: true, visible_after: 500ms, page_after: 1s}}
streams:
{streams}",
            data = data.display(),
            port = hook.port
        )
    };
    write(&path, &config("  - {id: lost, url: 'udp://127.0.0.1:9'}\n"));
    let args = ["--config", path.to_str().unwrap()];
    let mut daemon = Daemon::start(&args);
    let incidents = |d: &Daemon| -> Json {
        serde_json::from_str(&d.get("/api/v1/incidents?open=true")).unwrap()
    };
    let told = |d: &Daemon| {
        let open = incidents(d)["open"].clone();
        let found = open
            .as_array()
            .unwrap()
            .iter()
            .find(|i| i["topic"] == "input");
        found.cloned()
    };
    let first = daemon.until("the loss is told", |d| {
        told(d).filter(|i| i["news"] == "recorded")
    });
    hook.calls.recv_timeout(DEADLINE).expect("an attempt");
    daemon.signal("KILL");
    drop(daemon);
    while hook.calls.try_recv().is_ok() {}
    hook.status.store(200, Ordering::SeqCst);
    let mut daemon = Daemon::start(&args);
    let raised = hook.next();
    assert_eq!(
        (&raised["news"], &raised["stream"]),
        (&"raised".into(), &"lost".into())
    );
    assert_eq!(raised["incident_id"], first["incident_id"]);
    let again = daemon.until("it is measured again", |d| {
        told(d).filter(|i| i["unknown"] == false)
    });
    assert_eq!(
        again["incident_id"], first["incident_id"],
        "the same occurrence"
    );
    assert_eq!(again["opened"], first["opened"]);
    // The operator takes the stream away: that ends it.
    write(
        &path,
        &config("  - {id: other, url: 'udp://127.0.0.1:9'}\n"),
    );
    daemon.signal("HUP");
    let ended = loop {
        let said = hook.next();
        if said["stream"] == "lost" && said["news"] != "updated" {
            break said;
        }
    };
    assert_eq!(ended["news"], "resolved", "{ended}");
    assert_eq!(ended["incident_id"], first["incident_id"]);
    daemon.stop();
}

#[test]
fn the_canary_arrives_and_when_it_does_not_everybody_else_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.yaml");
    let (proof, people, life) = (hook(200), hook(200), hook(200));
    write(
        &path,
        &format!(
            "version: 1
instance: {{data_dir: {data}, drain: 5s}}
canary: {{every: 16s, within: 9s}}
heartbeat: {{endpoint: 'http://127.0.0.1:{life}/beat', every: 1s, allow_private: true}}
receivers:
  - name: proof
    allow_private: true
    canary: true
    webhook: {{url: 'http://127.0.0.1:{proof}/'}}
  - name: people
    allow_private: true
    webhook: {{url: 'http://127.0.0.1:{people}/'}}
streams: []
",
            data = dir.path().join("data").display(),
            proof = proof.port,
            people = people.port,
            life = life.port,
        ),
    );
    let mut daemon = Daemon::start(&["--config", path.to_str().unwrap()]);
    let (beat, _) = life.calls.recv_timeout(DEADLINE).expect("a heartbeat");
    assert_eq!(beat, "/beat");
    let told = proof.next();
    assert_eq!(
        (&told["stream"], &told["cause"]),
        (&"_canary".into(), &"frozen_repeat".into())
    );
    let arrived = r#"glasswatch_canary_alerts_total{result="arrived"}"#;
    daemon.until("it is counted", |d| d.metric(arrived).filter(|n| *n >= 1.0));
    proof.status.store(500, Ordering::SeqCst);
    let said = people.next();
    assert_eq!(
        (&said["topic"], &said["cause"]),
        (&"monitor".into(), &"canary_lost".into())
    );
    assert_eq!(said["severity"], "critical");
    daemon.logged("no heartbeat is sent");
    let done = daemon.stop();
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn an_alert_brings_a_link_to_its_evidence_that_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    clean(30)
        .showing(Show::Black, 6, 12)
        .write(dir.path(), "a.ts");
    let path = dir.path().join("watch.yaml");
    let hook = hook(200);
    let text = format!(
        "version: 1
instance: {{data_dir: {data}, drain: 5s}}
http: {{token: letmein, public_url: 'https://watch.example', link_hours: 2}}
canary: {{every: 0s}}
receivers:
  - name: ops
    allow_private: true
    webhook: {{url: 'http://127.0.0.1:{port}/'}}
streams: [{{id: news, url: a.ts}}]
",
        data = dir.path().join("data").display(),
        port = hook.port
    );
    write(&path, &text);
    let args = ["--config", path.to_str().unwrap(), "--log-level", "trace"];
    let mut daemon = Daemon::start(&args);
    let told = std::iter::from_fn(|| Some(hook.next()));
    let told = { told }.find(|said| said["defects"][0]["detector"] == "black");
    let link = told.unwrap()["defects"][0]["links"][0].clone();
    let link = link.as_str().unwrap();
    let place = link.strip_prefix("https://watch.example").unwrap();
    let (set, query) = place.split_once('?').unwrap();
    assert!(set.starts_with("/api/v1/evidence/news/"), "{link}");
    let page = daemon.until("the set is written", |d| {
        let (status, page) = d.send("GET", place, "");
        assert!([200, 404].contains(&status), "{status}: {page}");
        (status == 200).then_some(page)
    });
    assert!(page.contains(&query.replace('&', "&amp;")), "{page}");
    assert_eq!(daemon.send("GET", set, "").0, 401);
    let listed = daemon.send("GET", "/api/v1/incidents", "");
    assert_eq!(listed.0, 401);
    daemon.signal("KILL");
    drop(daemon);
    let daemon = Daemon::start(&args);
    assert_eq!(daemon.send("GET", place, "").0, 200);
    let other = place.replace("sig=", "sig=A");
    assert_eq!(daemon.send("GET", &other, "").0, 403);
    let done = daemon.stop();
    assert!(!done.err.contains("sig="), "no log holds a link");
}

//! Amazon SNS and S3 as the product sees them: a real process, an emulator on loopback, credentials in the environment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod moto;
#[path = "../cli/rig.rs"]
#[allow(dead_code, reason = "the tests of the command need more of it")]
mod rig;
mod said;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use moto::{Gate, Moto, REGION, until};
use rig::{Daemon, Done, Show, clean};

/// Part of every credential, so that it is found wherever one shows.
const SECRET: &str = "pLaNtEd";

/// As much as an operator can ask for.
const TALKATIVE: &str = "trace,glasswatch=info,aws_sigv4=trace,aws_runtime=trace,aws_smithy_runtime=trace,aws_config=trace";

/// A daemon with a folder and credentials of its own.
struct Watch {
    dir: tempfile::TempDir,
    daemon: Daemon,
}

impl Watch {
    fn start(config: &str, level: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), config);
        Self::start_in(dir, level)
    }

    fn start_in(dir: tempfile::TempDir, level: &str) -> Self {
        let key = format!("AKIA{}", SECRET.to_uppercase());
        Self::start_with(
            dir,
            level,
            [&key, &format!("{SECRET}/key"), &format!("{SECRET}/token")],
        )
    }

    /// `credentials`: key, secret and token in the environment; blank is none.
    fn start_with(dir: tempfile::TempDir, level: &str, credentials: [&str; 3]) -> Self {
        let path = dir.path().join("watch.yaml");
        let [key, secret, token] = credentials;
        let variables = [
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_SESSION_TOKEN", token),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            (
                "AWS_SHARED_CREDENTIALS_FILE",
                &dir.path().join("credentials").display().to_string(),
            ),
            ("HOME", dir.path().to_str().unwrap()),
            ("GLASSWATCH_LOG", level),
        ];
        let args = ["--config", path.to_str().unwrap(), "--events", "-"];
        let daemon = Daemon::start_in(&args, &variables);
        Self { dir, daemon }
    }

    /// The operator takes the streams away: that ends what is open.
    fn take_streams_away(&self, config: &str) {
        let (head, _) = config.split_once("streams:").unwrap();
        write(self.dir.path(), &format!("{head}streams: []\n"));
        self.daemon.signal("HUP");
    }

    /// The open incident of the lost stream.
    fn incident(&mut self) -> Json {
        self.daemon.until("an incident is told", |d| {
            let all = d.get("/api/v1/incidents?open=true");
            let all: Json = serde_json::from_str(&all).unwrap();
            let mut open = all["open"].as_array().unwrap().iter();
            open.find(|i| i["stream"] == "lost" && i["severity"] == "critical")
                .cloned()
        })
    }

    fn acknowledge(&self, incident: &Json) {
        let id = incident["incident_id"].as_str().unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", self.daemon.port())).unwrap();
        let body = r#"{"by": "kim"}"#;
        let request = format!(
            "POST /api/v1/incidents/{id}/acknowledge HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Ends it; nothing that it said holds a credential.
    fn stop(self) -> Done {
        let metrics = self.daemon.get("/metrics");
        let done = self.daemon.stop();
        assert_eq!(done.code, Some(0), "{done:?}");
        for text in [&done.err, &done.out, &metrics] {
            let at = text.to_lowercase().find(&SECRET.to_lowercase());
            let around = at.map(|at| &text[at.saturating_sub(300)..]);
            assert_eq!(
                around.map(|t| t.lines().next()),
                None,
                "a credential is shown"
            );
        }
        done
    }
}

fn write(dir: &Path, config: &str) {
    let data = dir.join("data").display().to_string();
    std::fs::write(dir.join("watch.yaml"), config.replace("DATA", &data)).unwrap();
}

/// A stream that never comes, and topics that are told of it.
fn lost(at: std::net::SocketAddr, topics: &[(&str, &str)]) -> String {
    let receivers: String = topics
        .iter()
        .map(|(name, arn)| {
            format!(
                "  - name: {name}\n    allow_private: true\n    \
                 sns: {{topic_arn: '{arn}', endpoint: 'http://{at}', timeout: 10s}}\n"
            )
        })
        .collect();
    format!(
        "version: 1
instance: {{name: watch-1, data_dir: DATA, drain: 10s}}
canary: {{every: 0s}}
incidents: {{resolve_after: 1s, hold: 0s}}
receivers:
{receivers}defaults: {{allow_private: true, visible_after: 500ms, page_after: 1s}}
streams:
  - {{id: lost, url: 'udp://127.0.0.1:9'}}
"
    )
}

fn body(message: &Json) -> Json {
    serde_json::from_str(message["Body"].as_str().unwrap()).unwrap()
}

/// What a queue got, waited for until the incident is over.
fn told(moto: &Moto, queue: &str) -> Vec<Json> {
    let mut all = Vec::new();
    until("it is over", || {
        all.extend(moto.take(queue));
        let over = |m: &Json| {
            m["Body"]
                .as_str()
                .unwrap()
                .contains("glasswatch.incident.resolved")
        };
        all.iter().any(over).then_some(())
    });
    all
}

#[test]
fn an_incident_goes_through_topics_once_and_in_order() {
    let moto = Moto::start();
    let (plain, ordered) = (moto.topic("alerts"), moto.topic("alerts.fifo"));
    let letters = moto.queue("letters", &plain, &[]);
    let ends = [(
        "FilterPolicy",
        r#"{"state": ["resolved"], "type": ["glasswatch.incident.resolved"]}"#,
    )];
    let ends = moto.queue("ends", &plain, &ends);
    let line = [("RawMessageDelivery", "true")];
    let line = moto.queue("line.fifo", &ordered, &line);
    let config = lost(moto.address, &[("plain", &plain), ("ordered", &ordered)]);
    let mut watch = Watch::start(&config, TALKATIVE);
    let incident = watch.incident();
    until("both were told", || {
        let series = |name| {
            let series = format!(
                "glasswatch_notifications_total{{receiver=\"{name}\",result=\"delivered\"}}"
            );
            watch.daemon.metric(&series).filter(|n| *n >= 1.0)
        };
        series("plain").and(series("ordered"))
    });
    watch.acknowledge(&incident);
    watch.take_streams_away(&config);

    let line = told(&moto, &line);
    let events: Vec<Json> = line.iter().map(body).collect();
    let news: Vec<&str> = events
        .iter()
        .map(|e| e["data"]["news"].as_str().unwrap())
        .filter(|news| *news != "updated")
        .collect();
    assert_eq!(news, ["raised", "acknowledged", "resolved"], "{events:#?}");
    let numbers: Vec<u64> = events
        .iter()
        .map(|e| e["data"]["sequence"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    for (message, event) in line.iter().zip(&events) {
        assert_eq!(event["specversion"], "1.0");
        let own = &message["Attributes"];
        assert_eq!(own["MessageGroupId"], incident["key"]);
        assert_eq!(own["MessageDeduplicationId"], event["id"]);
    }

    let letters = told(&moto, &letters);
    assert_eq!(letters.len(), line.len());
    let raised = letters.iter().map(body).find(|letter| {
        let event: Json = serde_json::from_str(letter["Message"].as_str().unwrap()).unwrap();
        event["type"] == "glasswatch.incident.raised"
    });
    let raised = raised.expect("a raise");
    assert_eq!(raised["Subject"], incident["title"]);
    for (name, value) in [
        ("type", "glasswatch.incident.raised"),
        ("severity", "critical"),
        ("tier", "page"),
        ("stream", "lost"),
        ("state", "open"),
    ] {
        let attribute = &raised["MessageAttributes"][name];
        assert_eq!(
            (&attribute["Type"], &attribute["Value"]),
            (&"String".into(), &value.into())
        );
    }
    assert_eq!(told(&moto, &ends).len(), 1, "what the filter lets through");
    watch.stop();
}

#[test]
fn a_topic_that_is_not_there_is_a_dead_letter_and_the_others_are_told() {
    let moto = Moto::start();
    let there = moto.topic("there");
    let missing = format!("arn:aws:sns:{REGION}:123456789012:missing");
    let queue = moto.queue("queue", &there, &[("RawMessageDelivery", "true")]);
    let config = lost(moto.address, &[("missing", &missing), ("there", &there)]);
    let mut watch = Watch::start(&config, "info");
    let refused = watch.daemon.logged("the receiver did not take a message");
    assert!(
        refused.contains("status 404") && refused.contains("\"missing\""),
        "{refused}"
    );
    let dead = "glasswatch_notifications_total{receiver=\"missing\",result=\"dead\"}";
    assert!(watch.daemon.metric(dead) >= Some(1.0));
    let own = until("the others are told", || {
        let events = moto.take(&queue).iter().map(body).collect::<Vec<_>>();
        let mut own = events
            .into_iter()
            .filter(|e| e["data"]["topic"] == "monitor");
        own.next()
    });
    assert_eq!(own["data"]["cause"], "receiver_refuses", "{own}");
    let done = watch.stop();
    assert!(done.err.contains("status 404 NotFound"), "{}", done.err);
}

#[test]
fn what_an_absent_service_missed_arrives_when_it_is_back() {
    let gate = Gate::new();
    let first = Moto::start();
    let topic = first.topic("alerts.fifo");
    let queue = |moto: &Moto| moto.queue("line.fifo", &topic, &[("RawMessageDelivery", "true")]);
    let line = queue(&first);
    gate.lead_to(Some(&first));
    let config = lost(gate.address, &[("ops", &topic)]);
    let mut watch = Watch::start(&config, "info");
    let incident = watch.incident();
    until("it is raised", || {
        let all = first.take(&line);
        all.iter()
            .any(|m| body(m)["data"]["news"] == "raised")
            .then_some(())
    });
    gate.lead_to(None);
    drop(first);
    watch.acknowledge(&incident);
    watch
        .daemon
        .logged("could not be delivered and is tried again");
    let second = Moto::start();
    assert_eq!(second.topic("alerts.fifo"), topic);
    let line = queue(&second);
    gate.lead_to(Some(&second));
    watch.take_streams_away(&config);
    let events: Vec<Json> = told(&second, &line).iter().map(body).collect();
    let news: Vec<&str> = events
        .iter()
        .map(|e| e["data"]["news"].as_str().unwrap())
        .filter(|news| *news != "updated")
        .collect();
    assert_eq!(news, ["acknowledged", "resolved"]);
    watch.stop();
}

#[test]
fn what_lacks_credentials_waits_until_there_are_some() {
    let moto = Moto::start();
    let topic = moto.topic("alerts");
    let queue = moto.queue("queue", &topic, &[("RawMessageDelivery", "true")]);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &lost(moto.address, &[("ops", &topic)]));
    let mut watch = Watch::start_with(dir, TALKATIVE, [""; 3]);
    let told = watch
        .daemon
        .logged("could not be delivered and is tried again");
    assert!(told.contains("credentials: none found"), "{told}");
    let file =
        format!("[default]\naws_access_key_id = AKIA{SECRET}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(watch.dir.path().join("credentials"), file).unwrap();
    until("it is raised", || {
        let all = moto.take(&queue);
        all.iter()
            .any(|m| body(m)["data"]["news"] == "raised")
            .then_some(())
    });
    watch.stop();
}

/// A file whose picture goes black, and a bucket for what is seen of it.
fn black(moto: &Moto) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    clean(25)
        .showing(Show::Black, 6, 9)
        .write(dir.path(), "a.ts");
    let config = format!(
        "version: 1
instance: {{name: watch-1, data_dir: DATA, drain: 20s}}
canary: {{every: 0s}}
evidence:
  s3: {{bucket: evidence, prefix: wall, region: {REGION}, endpoint: 'http://{}', allow_private: true}}
streams:
  - {{id: news, url: a.ts}}
",
        moto.address
    );
    write(dir.path(), &config);
    let data = dir.path().join("data");
    (dir, data)
}

/// The sets of the first raise of black: on disk, and in the bucket.
fn sets(daemon: &mut Daemon) -> (String, String) {
    daemon.until("a raise", |d| {
        let out = d.out();
        let events = out
            .lines()
            .filter_map(|l| serde_json::from_str::<Json>(l).ok());
        let mut raised = events.filter(|e| e["detector"] == "black" && e["type"] == "raise");
        let raised = raised.next()?;
        let set = |n: usize| raised["evidence"][n].as_str().map(str::to_owned);
        Some((set(0)?, set(1)?))
    })
}

#[test]
fn the_evidence_of_a_raise_is_in_the_bucket() {
    let moto = Moto::start();
    moto.bucket("evidence");
    let (dir, data) = black(&moto);
    let mut watch = Watch::start_in(dir, "info");
    let (here, there) = sets(&mut watch.daemon);
    let key = there.strip_prefix("s3://evidence/").expect("the bucket");
    let set = here.strip_prefix("evidence/news/").unwrap();
    assert_eq!(key, format!("wall/watch-1/news/{set}"));
    let folder = data.join(&here);
    watch.daemon.until("the clip", |_| {
        folder.join("clip.mp4").exists().then_some(())
    });
    let dir = tempfile::tempdir().unwrap();
    let dir = std::mem::replace(&mut watch.dir, dir);
    watch.stop();
    // What waited was uploaded before the process ended.
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let keys = moto.keys("evidence");
    for name in names {
        let key = format!("{key}/{name}");
        assert!(keys.contains(&key), "{key} is not among {keys:#?}");
        let (kind, bytes) = moto.object("evidence", &key);
        assert_eq!(bytes, std::fs::read(folder.join(&name)).unwrap(), "{name}");
        let wanted = match name.rsplit_once('.').unwrap().1 {
            "jpg" => "image/jpeg",
            "mp4" => "video/mp4",
            "svg" => "image/svg+xml",
            _ => "application/json",
        };
        assert_eq!(kind, wanted, "{name}");
    }
    drop(dir);
}

#[test]
fn a_bucket_that_is_missing_is_told_once_and_gets_everything_later() {
    let moto = Moto::start();
    let (dir, data) = black(&moto);
    let mut watch = Watch::start_in(dir, "info");
    let told = watch.daemon.logged("evidence cannot be uploaded");
    assert!(told.contains("status 404 NoSuchBucket"), "{told}");
    assert!(told.contains("s3://evidence"), "{told}");
    let series = |result: &str| format!("glasswatch_evidence_uploads_total{{result=\"{result}\"}}");
    let failed = watch.daemon.until("it is tried again", |d| {
        d.metric(&series("failed")).filter(|n| *n >= 2.0)
    });
    assert_eq!(
        watch.daemon.metric(&series("uploaded")),
        Some(0.0),
        "{failed}"
    );
    let waiting = "glasswatch_evidence_uploads_waiting";
    assert!(watch.daemon.metric(waiting) >= Some(1.0));
    let (here, there) = sets(&mut watch.daemon);
    assert!(data.join(&here).join("defect.json").exists());
    moto.bucket("evidence");
    watch
        .daemon
        .until("nothing waits", |d| d.metric(waiting).filter(|n| *n == 0.0));
    let key = there.strip_prefix("s3://evidence/").unwrap();
    let key = format!("{key}/defect.json");
    assert!(moto.keys("evidence").contains(&key));
    let done = watch.stop();
    assert_eq!(done.err.matches("evidence cannot be uploaded").count(), 1);
    assert_eq!(done.err.matches("evidence is uploaded again").count(), 1);
}

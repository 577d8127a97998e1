//! Streams that are added at run time, on a whole daemon.

use std::path::Path;

use glasswatch::app::{App, Settings};
use glasswatch::config::{Config, Env};

use super::*;

struct Daemon(App);

/// A daemon on this folder; `more` goes into its configuration, `streams` is the list of the file's.
async fn daemon(dir: &Path, more: &str, streams: &str) -> Daemon {
    gstreamer::init().unwrap();
    let text = format!(
        "version: 1
instance: {{data_dir: {dir:?}, name: watch-1}}
http: {{listen: '127.0.0.1:0', tokens: [{{name: kim, token: bbb, scope: operate}}, {{name: lee, token: ccc, scope: admin}}]}}
canary: {{every: 0s}}
defaults: {{allow_private: true, labels: {{region: eu}}}}
profiles: {{radio: {{expect: {{video: 0}}}}}}
{more}
streams: {streams}"
    );
    let config = Config::parse(&text, &Env::default()).unwrap_or_else(|e| panic!("{e}"));
    let started = App::start(config, Settings::default(), None).await;
    Daemon(started.unwrap())
}

impl Daemon {
    async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, Json) {
        let mut stream = TcpStream::connect(self.0.address().unwrap()).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    async fn put(&self, id: &str, body: &str) -> (u16, Json) {
        let path = format!("/api/v1/streams/{id}");
        self.ask("PUT", &path, "ccc", body).await
    }

    async fn remove(&self, id: &str) -> u16 {
        let path = format!("/api/v1/streams/{id}");
        self.ask("DELETE", &path, "ccc", "").await.0
    }

    /// Ids with their origin.
    async fn list(&self) -> Vec<(String, String)> {
        let (_, all) = self.ask("GET", "/api/v1/streams", "ccc", "").await;
        let word = |stream: &Json, key: &str| stream[key].as_str().unwrap().to_owned();
        let streams = all["streams"].as_array().unwrap().iter();
        streams
            .map(|s| (word(s, "id"), word(s, "origin")))
            .collect()
    }

    /// To be called at the end of every test: threads that still pull when the process ends may crash it.
    async fn stop(self) {
        self.0.drain(Duration::from_secs(20)).await;
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    of.iter().map(owned).collect()
}

const FILE: &str = "[{id: own, url: 'udp://127.0.0.1:9'}]";
const ADDED: &str = r#"{"url": "srt://127.0.0.1:9?passphrase=s3cret-s3cret", "profile": "radio"}"#;

#[tokio::test]
async fn streams_are_added_changed_and_removed_and_a_restart_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let one = daemon(dir.path(), "", FILE).await;
    let (status, made) = one.put("extra", ADDED).await;
    assert_eq!((status, &made["origin"]), (201, &"api".into()), "{made}");
    assert_eq!(made["stream"]["expect"]["video"], 0, "{made}");
    assert_eq!(made["stream"]["labels"]["region"], "eu");
    assert!(!made.to_string().contains("s3cret"), "{made}");
    let all = [("extra", "api"), ("own", "file")];
    assert_eq!(one.list().await, pairs(&all));
    assert_eq!(one.put("extra", ADDED).await.0, 200, "the same again");
    let (status, more) = one
        .put(
            "more",
            r#"{"url": "udp://127.0.0.1:9", "reference": "extra"}"#,
        )
        .await;
    assert_eq!(status, 201, "{more}");

    // All mistakes at once, and nothing has changed.
    let wrong = r#"{"url": "udp://127.0.0.1:9", "profile": "tv", "detectors": {"freez": true}}"#;
    let (status, told) = one.put("extra", wrong).await;
    assert_eq!(
        (status, told["problems"].as_array().map(Vec::len)),
        (422, Some(2)),
        "{told}"
    );
    assert_eq!(told["problems"][0]["path"], "profile");
    assert!(
        told["problems"][1]["hint"]
            .as_str()
            .unwrap()
            .contains("freeze")
    );
    for (body, want) in [
        ("{", 400),
        ("{\"url\": \"${HOME}\"}", 422),
        ("{\"id\": \"x\", \"url\": \"udp://:1\"}", 422),
    ] {
        assert_eq!(one.put("extra", body).await.0, want, "{body}");
    }
    // Another is compared with it.
    let (status, told) = one.ask("DELETE", "/api/v1/streams/extra", "ccc", "").await;
    assert_eq!(status, 422);
    assert!(
        told["problems"][0]["message"]
            .as_str()
            .unwrap()
            .contains("`more`"),
        "{told}"
    );
    // The file's are the file's.
    assert_eq!(one.put("own", ADDED).await.0, 409);
    assert_eq!(one.remove("own").await, 409);
    assert_eq!(one.remove("none").await, 404);
    // Who operates does not say what is watched.
    let (status, _) = one.ask("PUT", "/api/v1/streams/extra", "bbb", ADDED).await;
    assert_eq!(status, 403);
    assert_eq!(
        one.ask("DELETE", "/api/v1/streams/extra", "bbb", "")
            .await
            .0,
        403
    );
    assert_eq!(one.list().await.len(), 3);
    one.stop().await;

    let two = daemon(dir.path(), "", FILE).await;
    let all = [("extra", "api"), ("more", "api"), ("own", "file")];
    assert_eq!(two.list().await, pairs(&all));
    let (_, extra) = two.ask("GET", "/api/v1/streams/extra", "ccc", "").await;
    assert_eq!(extra["stream"]["protocol"], "srt", "{extra}");
    assert_eq!(
        (two.remove("more").await, two.remove("extra").await),
        (204, 204)
    );
    assert_eq!(two.list().await, pairs(&[("own", "file")]));
    let (_, log) = two.ask("GET", "/api/v1/audit", "ccc", "").await;
    let entries = log["entries"].as_array().unwrap();
    assert!(
        entries
            .iter()
            .any(|e| e["call"] == "PUT /api/v1/streams/extra" && e["status"] == 201),
        "{log}"
    );
    assert!(!log.to_string().contains("s3cret"), "{log}");
    two.stop().await;
    let three = daemon(dir.path(), "", FILE).await;
    assert_eq!(three.list().await.len(), 1);
    three.stop().await;
}

#[tokio::test]
async fn what_the_file_names_is_the_files_and_what_is_wrong_by_now_is_left_out() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let one = daemon(dir.path(), "", "[]").await;
    for id in ["both", "radio"] {
        assert_eq!(one.put(id, ADDED).await.0, 201);
    }
    one.stop().await;
    let kept = dir.path().join("api-streams.json");
    let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds secrets");

    // The file names one of them now.
    let two = daemon(dir.path(), "", "[{id: both, url: 'udp://127.0.0.1:9'}]").await;
    assert_eq!(
        two.list().await,
        pairs(&[("both", "file"), ("radio", "api")])
    );
    assert_eq!(two.put("both", ADDED).await.0, 409);
    two.stop().await;
    // It is the file's to take away, too.
    let three = daemon(dir.path(), "", "[]").await;
    assert_eq!(three.list().await, pairs(&[("radio", "api")]));
    three.stop().await;

    // A profile that is gone: the others are watched, and it can be mended.
    let text = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(
        &kept,
        text.replace("\"profile\":\"radio\"", "\"profile\":\"gone\""),
    )
    .unwrap();
    let four = daemon(dir.path(), "", FILE).await;
    assert_eq!(four.list().await, pairs(&[("own", "file")]));
    let (_, page) = four.ask("GET", "/metrics", "ccc", "").await;
    assert!(page.is_null(), "not JSON");
    assert_eq!(four.put("other", ADDED).await.0, 201);
    assert_eq!(four.put("radio", ADDED).await.0, 200);
    assert_eq!(four.list().await.len(), 3);
    four.stop().await;

    // What cannot be read is neither written over nor in the way of the rest.
    std::fs::write(&kept, "{").unwrap();
    let five = daemon(dir.path(), "", FILE).await;
    assert_eq!(five.list().await, pairs(&[("own", "file")]));
    assert_eq!(five.put("other", ADDED).await.0, 503);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "{");
    five.stop().await;
}

#[tokio::test]
async fn a_disk_that_does_not_work_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let one = daemon(dir.path(), "", FILE).await;
    assert_eq!(one.put("extra", ADDED).await.0, 201);
    // Where the new file would be written.
    let way = dir.path().join("api-streams.json.new");
    std::fs::create_dir(&way).unwrap();
    assert_eq!(one.put("more", ADDED).await.0, 503);
    assert_eq!(one.remove("extra").await, 503);
    assert_eq!(
        one.list().await,
        pairs(&[("extra", "api"), ("own", "file")])
    );
    std::fs::remove_dir(&way).unwrap();
    assert_eq!(one.remove("extra").await, 204);
    one.stop().await;
}

#[tokio::test]
async fn a_stream_of_another_shard_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // "a" and "sport" are of the parts 1 and 15 of 16.
    let one = daemon(dir.path(), "shard: {index: 1, count: 16}", "[]").await;
    assert_eq!(one.put("a", ADDED).await.0, 201);
    let (status, told) = one.put("sport", ADDED).await;
    assert_eq!(status, 409);
    assert!(
        told["error"].as_str().unwrap().contains("part 15 of 16"),
        "{told}"
    );
    // Compared with one of here, it is decoded here.
    let beside = r#"{"url": "udp://127.0.0.1:9", "reference": "a"}"#;
    assert_eq!(one.put("sport", beside).await.0, 201);
    assert_eq!(one.put("sport", ADDED).await.0, 409);
    assert_eq!(one.list().await, pairs(&[("a", "api"), ("sport", "api")]));
    one.stop().await;
}

#[tokio::test]
async fn incidents_of_a_stream_end_when_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let one = daemon(dir.path(), "incidents: {hold: 0s, resolve_after: 0s}", "[]").await;
    let lost = r#"{"url": "udp://127.0.0.1:9", "visible_after": "100ms", "page_after": "200ms"}"#;
    assert_eq!(one.put("lost", lost).await.0, 201);
    let open = async |wanted: usize| {
        let end = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let path = "/api/v1/incidents?stream=lost&open=true";
            let (_, all) = one.ask("GET", path, "ccc", "").await;
            if all["open"].as_array().unwrap().len() == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "{all}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    open(1).await;
    assert_eq!(one.remove("lost").await, 204);
    open(0).await;
    one.stop().await;
}

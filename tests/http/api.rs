//! Who may do what, what is written down of it, and what is told as it happens.

use super::*;
use glasswatch::config::{ApiToken, Scope};
use tokio::io::BufReader;
use tokio::io::{AsyncBufReadExt, Lines};

async fn send(server: &Server, method: &str, path: &str, head: &str, body: &str) -> Answer {
    let length = body.len();
    let kind = "content-type: application/json\r\ncontent-length";
    ask(
        server,
        method,
        path,
        &format!("{head}{kind}: {length}\r\n\r\n{body}"),
    )
    .await
}

const MUTE: &str =
    r#"{"matchers": {"stream": "srt1"}, "author": "kim", "reason": "works", "for_secs": 60}"#;

fn raise(source: &Fake) -> String {
    let raise = Transition {
        change: Change::Raise,
        at: defect("srt1").start,
        defect: defect("srt1"),
    };
    let now = jiff::Timestamp::now();
    source.desk().hear(&raise, now);
    source.desk().incidents(now)[0].incident_id.clone()
}

#[tokio::test]
async fn tokens_may_do_what_their_scope_says_and_it_is_written_down() {
    let source = fake(None);
    let id = raise(&source);
    let named = [("wall", "aaa", Scope::Read), ("kim", "bbb", Scope::Operate)];
    let config = Http {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        token: Some(Secret::new("ccc")),
        tokens: (named.iter())
            .map(|(name, token, scope)| ApiToken {
                name: (*name).to_owned(),
                token: Secret::new(*token),
                scope: *scope,
            })
            .collect(),
        ..Http::default()
    };
    let shared = Arc::clone(&source) as Arc<dyn Source>;
    let server = http::start(&config, shared).await.unwrap().unwrap();
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let path = format!("/api/v1/incidents/{id}/acknowledge");
    for (token, sees, changes) in [
        ("aaa", 200, 403),
        ("bbb", 200, 200),
        ("ccc", 200, 404),
        ("ddd", 401, 401),
    ] {
        let list = ask(&server, "GET", "/api/v1/incidents", &bearer(token)).await;
        assert_eq!(list.status, sees, "{token}");
        // What is taken on stays so.
        let answer = send(&server, "POST", &path, &bearer(token), "{\"by\": \"kim\"}").await;
        assert!(
            [changes, 200].contains(&answer.status),
            "{token}: {}",
            answer.status
        );
        assert!(answer.status != 403 || answer.body.contains("`read`, and this needs `operate`"));
    }
    assert_eq!(
        send(&server, "POST", "/api/v1/mutes", &bearer("aaa"), MUTE)
            .await
            .status,
        403
    );
    let preview = MUTE
        .replace('}', "} ")
        .replacen("60} ", "60, \"preview\": true}", 1);
    assert_eq!(
        send(&server, "POST", "/api/v1/mutes", &bearer("bbb"), &preview)
            .await
            .status,
        200
    );
    assert_eq!(
        send(&server, "POST", "/api/v1/mutes", &bearer("bbb"), MUTE)
            .await
            .status,
        201
    );

    source.desk().flush(Duration::from_secs(10)).await;
    let log = ask(&server, "GET", "/api/v1/audit?limit=2", &bearer("aaa")).await;
    let log: Json = serde_json::from_str(&log.body).unwrap();
    let entries = log["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{log}");
    assert_eq!(
        (
            &entries[0]["by"],
            &entries[0]["call"],
            &entries[0]["status"]
        ),
        (&"kim".into(), &"POST /api/v1/mutes".into(), &201.into()),
        "newest first, and what only looked is not there"
    );
    assert_eq!(entries[0]["detail"]["mute"]["reason"], "works");
    assert_eq!(entries[0]["from"], "127.0.0.1");
    assert_eq!(
        (&entries[1]["by"], &entries[1]["status"]),
        (&"wall".into(), &403.into())
    );
    let all = ask(&server, "GET", "/api/v1/audit", &bearer("aaa"))
        .await
        .body;
    assert!(
        all.contains(&id) && !all.contains("bbb"),
        "no token is written down: {all}"
    );
    assert_eq!(
        ask(&server, "GET", "/api/v1/audit?limit=x", &bearer("aaa"))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn other_sites_and_too_many_changes_are_refused() {
    let source = fake(None);
    let server = serve(&source, None).await;
    let mutes = "/api/v1/mutes";
    let foreign = "origin: http://evil.example\r\n";
    assert_eq!(
        send(&server, "POST", mutes, foreign, MUTE).await.status,
        403
    );
    let path = format!("{mutes}/none");
    assert_eq!(
        send(&server, "DELETE", &path, foreign, "").await.status,
        403
    );
    // Its name points here.
    let rebound = "origin: http://x\r\n";
    assert_eq!(
        send(&server, "POST", mutes, rebound, MUTE).await.status,
        403
    );
    assert!(source.desk().mutes().is_empty());
    assert_eq!(send(&server, "POST", mutes, "", MUTE).await.status, 201);
    let mut refused = None;
    for _ in 0..100 {
        let answer = send(&server, "DELETE", &path, "", "").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    assert!(refused.unwrap().head.contains("retry-after: "));
    assert_eq!(get(&server, mutes).await.status, 200, "reading goes on");
    let huge = MUTE.replace("works", &"x".repeat(1 << 20));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "POST {mutes} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        huge.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(huge.as_bytes()).await;
    let mut bytes = vec![0; 12];
    if stream.read_exact(&mut bytes).await.is_ok() {
        assert!(bytes.starts_with(b"HTTP/1.1 4"), "{bytes:?}");
    }
}

async fn listen(server: &Server) -> Lines<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = "GET /api/v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    BufReader::new(stream).lines()
}

/// The next line that begins so; `None` when the connection ended before.
async fn next(lines: &mut Lines<BufReader<TcpStream>>, start: &str) -> Option<String> {
    let read = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(rest) = line.strip_prefix(start) {
                return Some(rest.to_owned());
            }
        }
        None
    };
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .unwrap()
}

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    let source = fake(None);
    let server = serve(&source, None).await;
    let mut lines = listen(&server).await;
    assert_eq!(next(&mut lines, "HTTP/1.1 ").await.unwrap(), "200 OK");
    assert_eq!(
        next(&mut lines, "content-type: ").await.unwrap(),
        "text/event-stream"
    );
    next(&mut lines, ": listening").await.unwrap();
    let id = raise(&source);
    assert_eq!(next(&mut lines, "event: ").await.unwrap(), "incident");
    let told: Json = serde_json::from_str(&next(&mut lines, "data: ").await.unwrap()).unwrap();
    assert_eq!(
        (&told["incident_id"], &told["news"]),
        (&Json::from(id.clone()), &"raised".into())
    );
    source
        .desk()
        .acknowledge(&id, "kim", jiff::Timestamp::now());
    let told: Json = serde_json::from_str(&next(&mut lines, "data: ").await.unwrap()).unwrap();
    assert_eq!(
        (&told["news"], &told["acknowledged_by"]),
        (&"acknowledged".into(), &"kim".into())
    );
    // A listener does not keep the server from stopping.
    tokio::join!(server.stop(Duration::from_secs(60)), async {
        while let Ok(Some(_)) = lines.next_line().await {}
    });
}

#[tokio::test]
async fn listeners_are_bounded_and_who_is_too_slow_is_let_go() {
    let source = fake(None);
    let server = serve(&source, None).await;
    let mut all = Vec::new();
    for _ in 0..64 {
        let mut lines = listen(&server).await;
        next(&mut lines, ": listening").await.unwrap();
        all.push(lines);
    }
    let mut late = listen(&server).await;
    assert!(
        next(&mut late, "HTTP/1.1 ")
            .await
            .unwrap()
            .starts_with("503")
    );
    // More than is kept for anybody, and nobody is served meanwhile.
    for n in 0..600 {
        let defect = Defect {
            id: format!("s{n}-1"),
            ..defect(&format!("s{n}"))
        };
        let raise = Transition {
            change: Change::Raise,
            at: defect.start,
            defect,
        };
        source.desk().hear(&raise, jiff::Timestamp::now());
    }
    assert_eq!(
        next(&mut all[0], "never").await,
        None,
        "the connection ended"
    );
    assert_eq!(get(&server, "/healthz").await.status, 200);
}

#[tokio::test]
async fn the_document_has_what_is_answered() {
    let source = fake(None);
    raise(&source);
    let server = serve(&source, None).await;
    let document = json(&server, "/api/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let keys =
        |value: &Json| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    for (path, schema) in [
        ("/api/v1/incidents", "Incidents"),
        ("/api/v1/streams", "Streams"),
        ("/api/v1/streams/srt1", "Stream"),
        ("/api/v1/defects", "Defects"),
        ("/api/v1/mutes", "Mutes"),
        ("/api/v1/audit", "Audit"),
        ("/version", "Version"),
    ] {
        let answer = json(&server, path).await;
        let said = keys(&document["components"]["schemas"][schema]["properties"]);
        assert_eq!(keys(&answer), said, "{path}");
    }
    let streams = json(&server, "/api/v1/streams").await;
    let said = keys(&document["components"]["schemas"]["StreamBrief"]["properties"]);
    assert_eq!(keys(&streams["streams"][0]), said);
    // Every path of the document is there, whatever it answers.
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "srt1").replace("{path}", "a.jpg");
        if path == "/api/v1/events" {
            continue;
        }
        for method in methods.as_object().unwrap().keys() {
            let answer = ask(&server, &method.to_uppercase(), &path, "").await;
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(
                answer.status != 404 || !answer.body.contains("no such page"),
                "{method} {path}"
            );
        }
    }
}

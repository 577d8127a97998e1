//! Files of evidence, and nothing else.

use super::*;

#[tokio::test]
async fn stills_are_served_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("evidence");
    std::fs::create_dir_all(folder.join("news1")).unwrap();
    std::fs::write(folder.join("news1/first.jpg"), "still").unwrap();
    std::fs::write(folder.join("news1/notes.txt"), "no").unwrap();
    std::fs::write(dir.path().join("secret.jpg"), "secret").unwrap();
    let server = serve(&fake(Some(folder)), None).await;
    let accept = "accept: application/json\r\n";
    let list = ask(&server, "GET", "/api/v1/evidence/news1", accept).await;
    let list: Json = serde_json::from_str(&list.body).unwrap();
    assert_eq!(list["files"], serde_json::json!(["first.jpg"]));
    let still = get(&server, "/api/v1/evidence/news1/first.jpg").await;
    assert_eq!((still.status, still.body.as_str()), (200, "still"));
    assert!(still.head.contains("content-type: image/jpeg"));
    let set = get(&server, "/api/v1/evidence/news1").await;
    assert_eq!(set.status, 200);
    assert!(
        set.body
            .contains("src=\"/api/v1/evidence/news1/first.jpg\"")
    );
    assert!(!set.body.contains("notes.txt"));
    for path in [
        "..",
        "news1/..",
        "../secret.jpg",
        "%2e%2e/secret.jpg",
        "..%2fsecret.jpg",
        "news1/../../secret.jpg",
        "news1%2f..%2f..%2fsecret.jpg",
        "%2fetc%2fpasswd",
        "news1/notes.txt",
        "news2",
        "news1/none.jpg",
        "news1/first.jpg%00.png",
    ] {
        let answer = get(&server, &format!("/api/v1/evidence/{path}")).await;
        assert!(
            answer.status == 404 || answer.status == 400,
            "{path}: {}",
            answer.status
        );
        assert_ne!(answer.body, "secret", "{path}");
    }
}

#[tokio::test]
async fn clips_are_served_in_ranges_and_drawings_may_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("evidence");
    let set = folder.join("news1/set");
    std::fs::create_dir_all(&set).unwrap();
    let clip: String = (0..200_000u32)
        .map(|n| char::from(b'a' + (n % 26) as u8))
        .collect();
    std::fs::write(set.join("clip.mp4"), &clip).unwrap();
    std::fs::write(set.join("plot.svg"), "<svg/>").unwrap();
    std::fs::write(set.join("signals.json"), "{}").unwrap();
    let server = serve(&fake(Some(folder)), None).await;
    let path = "/api/v1/evidence/news1/set/clip.mp4";
    let whole = get(&server, path).await;
    assert_eq!((whole.status, whole.body == clip), (200, true));
    assert!(
        whole.head.contains("content-type: video/mp4"),
        "{}",
        whole.head
    );
    assert!(
        whole.head.contains("accept-ranges: bytes"),
        "{}",
        whole.head
    );
    for (asked, status, place, body) in [
        ("bytes=0-3", 206, "bytes 0-3/200000", "abcd"),
        (
            "bytes=199998-",
            206,
            "bytes 199998-199999/200000",
            &clip[199_998..],
        ),
        (
            "bytes=-2",
            206,
            "bytes 199998-199999/200000",
            &clip[199_998..],
        ),
        ("bytes=200000-", 416, "bytes */200000", ""),
    ] {
        let headers = format!("range: {asked}\r\n");
        let part = ask(&server, "GET", path, &headers).await;
        assert_eq!((part.status, part.body.as_str()), (status, body), "{asked}");
        let told = format!("content-range: {place}\r\n");
        assert!(
            format!("{}\r\n", part.head).contains(&told),
            "{asked}: {}",
            part.head
        );
    }
    let plot = get(&server, "/api/v1/evidence/news1/set/plot.svg").await;
    assert!(
        plot.head.contains("content-type: image/svg+xml"),
        "{}",
        plot.head
    );
    assert!(plot.head.contains("sandbox"), "{}", plot.head);
    let page = get(&server, "/api/v1/evidence/news1/set").await;
    assert!(page.head.contains("media-src 'self'"), "{}", page.head);
    for shown in [
        format!("<video controls preload=\"metadata\" src=\"{path}\">"),
        "<img src=\"/api/v1/evidence/news1/set/plot.svg\"".to_owned(),
        "<a href=\"/api/v1/evidence/news1/set/signals.json\">".to_owned(),
    ] {
        assert!(page.body.contains(&shown), "{shown}: {}", page.body);
    }
}

#[tokio::test]
async fn a_link_opens_one_set_without_a_token_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("evidence");
    for set in ["news1/set", "news1/other"] {
        std::fs::create_dir_all(folder.join(set)).unwrap();
        std::fs::write(folder.join(set).join("first.jpg"), "still").unwrap();
    }
    std::fs::write(folder.join("news1/set/feedback.json"), "{}").unwrap();
    std::fs::write(dir.path().join("secret.jpg"), "secret").unwrap();
    let source = fake(Some(folder));
    let server = serve(&source, Some("letmein")).await;
    let links = source.links().unwrap();
    let hour = jiff::Timestamp::now().as_second() + 3600;
    let query = links.query("news1/set", hour);
    let at = |path: &str| format!("/api/v1/evidence/{path}?{query}");

    let page = get(&server, &at("news1/set")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let still = format!(
        "src=\"{}\"",
        at("news1/set/first.jpg").replace('&', "&amp;")
    );
    assert!(page.body.contains(&still), "{}", page.body);
    assert!(!page.body.contains("feedback"), "{}", page.body);
    assert!(page.head.contains("referrer-policy: no-referrer"));
    let still = get(&server, &at("news1/set/first.jpg")).await;
    assert_eq!((still.status, still.body.as_str()), (200, "still"));
    let range = ask(
        &server,
        "GET",
        &at("news1/set/first.jpg"),
        "range: bytes=1-2\r\n",
    )
    .await;
    assert_eq!((range.status, range.body.as_str()), (206, "ti"));
    // What people said of it is not for whoever has the link.
    assert_eq!(
        get(&server, &at("news1/set/feedback.json")).await.status,
        404
    );

    for path in [
        "news1/other",
        "news1/other/first.jpg",
        "news1",
        "news1/set/",
        "news1/set/../other/first.jpg",
        "news1/set%2f..%2fother/first.jpg",
        "news1%2fset/../../../secret.jpg",
        "..%2fsecret.jpg",
        "secret.jpg",
    ] {
        let answer = get(&server, &at(path)).await;
        assert!(
            [403, 404].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert_ne!(answer.body, "still", "{path}");
        assert_ne!(answer.body, "secret", "{path}");
    }
    let past = links.query("news1/set", hour - 7200);
    let expired = get(&server, &format!("/api/v1/evidence/news1/set?{past}")).await;
    assert_eq!(expired.status, 403);
    assert!(
        expired.body.contains("this link has expired"),
        "{}",
        expired.body
    );
    for wrong in [
        query.replace(&hour.to_string(), &(hour + 1).to_string()),
        query.replace("sig=", "sig=A"),
        format!("expires={hour}&sig="),
        "sig=".to_owned(),
    ] {
        let answer = get(&server, &format!("/api/v1/evidence/news1/set?{wrong}")).await;
        assert_eq!(answer.status, 403, "{wrong}");
        assert!(
            answer.body.contains("this link is not valid"),
            "{}",
            answer.body
        );
    }
    // It is no token.
    for path in [
        "/api/v1/streams",
        "/api/v1/incidents",
        "/metrics",
        "/api/v1/evidence",
    ] {
        let answer = get(&server, &format!("{path}?{query}")).await;
        assert!(
            [401, 404].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
    }
    assert_eq!(get(&server, "/api/v1/evidence/news1/set").await.status, 401);
    let header = "authorization: Bearer wrong\r\n";
    assert_eq!(
        ask(&server, "GET", &at("news1/set"), header).await.status,
        401
    );
    let header = "authorization: Bearer letmein\r\n";
    assert_eq!(
        ask(&server, "GET", "/api/v1/evidence/news1/other", header)
            .await
            .status,
        200
    );
    for method in ["POST", "DELETE", "PUT"] {
        let answer = ask(&server, method, &at("news1/set"), "").await;
        assert_eq!(answer.status, 405, "{method}");
    }
}

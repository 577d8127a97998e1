//! `check`, `probe`, `hash` and `detectors`.

use serde_json::Value as Json;

use crate::rig::*;

#[test]
fn check_tells_every_mistake_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.yaml");
    let good = "version: 1
streams:
  - id: news
    url: https://user:CANARY-1@cdn.example.com/a.m3u8?token=CANARY-2
    headers: {authorization: Bearer CANARY-3}
  - id: sport
    url: srt://encoder.example.com:9000
    srt: {passphrase: CANARY-4-long-enough}
";
    std::fs::write(&path, good).unwrap();
    let name = path.to_str().unwrap();
    let fine = run(["check", name]);
    assert_eq!((fine.code, fine.err.as_str()), (Some(0), ""), "{fine:?}");
    assert!(fine.out.contains("2 streams"), "{fine:?}");

    let effective = run(["check", name, "--print-effective"]);
    assert_eq!(effective.code, Some(0), "{effective:?}");
    for key in [
        r#"id: "news""#,
        r#"id: "sport""#,
        "black_ratio: 0.975",
        "drain: 25s",
    ] {
        assert!(effective.out.contains(key), "{key}: {}", effective.out);
    }
    assert!(!effective.out.contains("CANARY"), "{}", effective.out);

    let bad = good
        .replace("srt://encoder", "gopher://encoder")
        .replace("id: sport", "id: news")
        .replace("version: 1", "version: 1\nnonsense: 1");
    std::fs::write(&path, bad).unwrap();
    let refused = run(["check", name]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(4), ""));
    for (line, told) in [(2, "nonsense"), (7, "news"), (8, "gopher")] {
        let place = format!("{name}:{line}:");
        let found = refused
            .err
            .lines()
            .any(|l| l.contains(&place) && l.contains(told));
        assert!(found, "{place} {told}: {}", refused.err);
    }
    assert!(!refused.err.contains("CANARY"), "{}", refused.err);

    let missing = run(["check", "/no/such/file.yaml"]);
    assert_eq!(missing.code, Some(4), "{missing:?}");
    assert!(missing.err.contains("/no/such/file.yaml"), "{missing:?}");
}

#[test]
fn probe_tells_what_is_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    clean(2).write(dir.path(), "part.ts");
    let list = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n\
                #EXTINF:2.0,\npart.ts\n#EXT-X-ENDLIST\n";
    std::fs::write(dir.path().join("list.m3u8"), list).unwrap();
    clean(2).write(dir.path(), "a.mp4");
    for (name, protocol) in [("part.ts", "file"), ("a.mp4", "file"), ("list.m3u8", "hls")] {
        let path = dir.path().join(name);
        let done = run(["probe", path.to_str().unwrap(), "--json"]);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
        let found: Json = serde_json::from_str(&done.out).unwrap();
        assert_eq!(found["protocol"], protocol, "{name}");
        assert!(found["cause"].is_null(), "{name} {found}");
        let tracks = found["tracks"].as_array().unwrap();
        let told = |key: &str| {
            let words = tracks.iter().map(|t| t[key].as_str().unwrap_or_default());
            words.collect::<Vec<_>>()
        };
        assert_eq!(told("track"), ["video:0", "audio:0"], "{name} {found}");
        assert_eq!(told("codec"), ["h264", "aac"], "{name} {found}");
        let formats = told("format");
        assert!(formats[0].starts_with("320x180"), "{name} {found}");
        assert_eq!(formats[1], "48000 Hz, 1 channels", "{name} {found}");
    }
    let text = run(["probe", dir.path().join("a.mp4").to_str().unwrap()]);
    assert!(text.out.contains("video:0 h264: 320x180"), "{text:?}");
}

#[test]
fn probe_names_what_it_cannot_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.mp4");
    std::fs::write(&path, b"").unwrap();
    let done = run(["probe", path.to_str().unwrap(), "--json"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let found: Json = serde_json::from_str(&done.out).unwrap();
    assert_eq!(found["cause"], "truncated", "{found}");
    // Nobody listens on port 9 of a UDP socket that nobody feeds.
    let done = run(["probe", "udp://127.0.0.1:0", "--timeout", "300ms"]);
    assert_ne!(done.code, Some(0), "{done:?}");
}

#[test]
fn the_doctor_finds_everything_on_a_machine_that_is_set_up() {
    let done = run(["doctor"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    let findings: Json = serde_json::from_str(&run(["doctor", "--json"]).out).unwrap();
    for finding in findings.as_array().unwrap() {
        assert_ne!(finding["health"], "missing", "{finding}");
        assert!(done.out.contains(finding["what"].as_str().unwrap()));
    }
}

#[test]
fn detectors_are_listed_and_described() {
    let list = run(["detectors"]);
    assert_eq!((list.code, list.err.as_str()), (Some(0), ""), "{list:?}");
    let json: Json = serde_json::from_str(&run(["detectors", "--json"]).out).unwrap();
    let rows = json.as_array().or(json["detectors"].as_array()).unwrap();
    assert!(rows.len() >= 6, "{json}");
    for row in rows {
        let name = row["name"].as_str().unwrap();
        assert!(list.out.contains(name), "{name}: {}", list.out);
        let one = run(["detectors", name]);
        assert_eq!(one.code, Some(0), "{one:?}");
        assert!(one.out.contains(name), "{one:?}");
    }
    let freeze = run(["detectors", "freeze"]);
    for word in ["still_secs", "moved_codes", "frozen", "critical"] {
        assert!(freeze.out.contains(word), "{word}: {}", freeze.out);
    }
    for (wrong, meant) in [("freze", Some("freeze")), ("nope", None)] {
        let done = run(["detectors", wrong]);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{done:?}");
        assert!(done.err.contains(wrong), "{done:?}");
        if let Some(meant) = meant {
            assert!(done.err.contains(meant), "{done:?}");
        }
    }
}

#[test]
fn hash_tells_one_hash_for_a_slate_at_any_size_and_none_for_black() {
    let dir = tempfile::tempdir().unwrap();
    let picture = |name: &str, width: u32, height: u32, slate: &dyn Fn(f64, f64) -> u8| {
        let path = dir.path().join(name);
        let picture = image::GrayImage::from_fn(width, height, |x, y| {
            let (x, y) = (f64::from(x), f64::from(y));
            image::Luma([slate(x / f64::from(width), y / f64::from(height))])
        });
        picture.save(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let slate = |x: f64, y: f64| match (x, y) {
        (0.1..0.7, 0.2..0.4) => 220,
        (0.3..0.9, 0.6..0.7) => 170,
        (0.0..0.2, 0.7..1.0) => 90,
        _ => 40,
    };
    let told = |path: &str| {
        let done = run(["hash", path]);
        assert_eq!(done.code, Some(0), "{done:?}");
        u64::from_str_radix(done.out.trim(), 16).unwrap()
    };
    let large = told(&picture("slate.png", 1280, 720, &slate));
    let small = told(&picture("slate.jpg", 480, 272, &slate));
    assert!((large ^ small).count_ones() <= 6, "{large:x} {small:x}");
    // Anything else is opened as `analyze` would open it.
    let recording = clean(2).write(dir.path(), "recording.ts");
    told(recording.to_str().unwrap());
    let black = run(["hash", &picture("black.png", 320, 180, &|_, _| 0)]);
    assert_eq!((black.code, black.out.as_str()), (Some(3), ""), "{black:?}");
    assert!(black.err.contains("flat"), "{black:?}");
    let none = run(["hash", dir.path().join("none.png").to_str().unwrap()]);
    assert_eq!(none.code, Some(3), "{none:?}");
}

#[test]
fn a_clip_of_evidence_is_replayed_with_another_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    std::fs::create_dir(&set).unwrap();
    clean(12).showing(Show::Black, 3, 8).write(&set, "clip.ts");
    let kept = r#"{"stream": "news", "detector": "black", "rule": "black"}"#;
    std::fs::write(set.join("defect.json"), kept).unwrap();
    let clip = set.join("clip.ts");
    let clip = clip.to_str().unwrap();
    let config = |name: &str, detectors: &str| {
        let path = dir.path().join(name);
        let text = format!(
            "version: 1\nstreams:\n  - {{id: news, url: 'udp://127.0.0.1:9', allow_private: true, detectors: {detectors}}}\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let usual = config("usual.yaml", "{}");
    let later = config("later.yaml", "{black: {rules: {black: {raise: 60}}}}");
    let done = run(["replay", clip, "--config", &usual]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.err
            .contains("black/black of the evidence is found again"),
        "{done:?}"
    );
    let done = run(["replay", clip, "--config", &later, "--format", "jsonl"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.err.contains("is not found with this configuration"),
        "{done:?}"
    );
    let lines = done.lines();
    let summary = lines.last().unwrap();
    assert_eq!(summary["type"], "summary");
    let done = run(["replay", clip, "--config", &usual, "--stream", "other"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.err.contains("no stream `other`"), "{done:?}");
    std::fs::remove_file(set.join("defect.json")).unwrap();
    let done = run(["replay", clip, "--config", &usual]);
    assert_eq!(done.code, Some(2), "{done:?}");
    let done = run(["replay", dir.path().to_str().unwrap(), "--config", &usual]);
    assert!(done.err.contains("holds no clip"), "{done:?}");
}

//! The configuration files of the project: the example and the reference are valid, every file in `config/bad`
//! is refused with exactly the text beside it. `GLASSWATCH_UPDATE=1` rewrites what is generated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use glasswatch::config::reference::reference;
use glasswatch::config::{Config, Env, Protocol, diff, load, print_effective};

fn config_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn updating() -> bool {
    std::env::var_os("GLASSWATCH_UPDATE").is_some()
}

/// An environment in which everything that the reference mentions is there.
fn env(file: &str) -> Env {
    let mut env = Env {
        file: file.to_owned(),
        base: config_dir(),
        host: "monitor-1".to_owned(),
        aws: true,
        ..Env::default()
    };
    for name in [
        "GLASSWATCH_TOKEN",
        "GLASSWATCH_ON_CALL_TOKEN",
        "SRT_PASSPHRASE",
        "RTSP_PASSWORD",
        "ORIGIN_TOKEN",
        "ALERTMANAGER_TOKEN",
    ] {
        env.vars.insert(name.to_owned(), "0123456789".to_owned());
    }
    let key = "00112233445566778899aabbccddeeff";
    env.vars
        .insert("CONTENT_KEYS".to_owned(), format!("{key}:{key}"));
    let files = [
        ("url", "https://cdn.example.com/a.m3u8"),
        ("secret", "whsec_Z2xhc3N3YXRjaA=="),
        ("token", "t"),
        (
            "content_keys",
            "00112233445566778899aabbccddeeff:00112233445566778899aabbccddeeff",
        ),
        ("licence_url", "https://keys.example.com/k"),
        ("passphrase", "0123456789"),
        ("password", "p"),
        ("stream_id", "s"),
        (
            "reference",
            "https://monitor-2.example.com/api/v1/streams/a",
        ),
        ("reference_token", "t"),
        ("proxy", "http://proxy.example.com:3128"),
        ("routing_key", "0123456789abcdef0123456789abcdef"),
        ("endpoint", "https://events.example.com/v2/enqueue"),
    ];
    for (name, text) in files {
        env.files
            .insert(format!("/run/secrets/{name}"), Ok(text.to_owned()));
    }
    env
}

fn parse(text: &str) -> Config {
    Config::parse(text, &env("text")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn the_example_is_valid_and_does_what_it_says() {
    let config = load(&config_dir().join("example.yaml")).unwrap();
    let protocols: Vec<_> = config.streams.iter().map(|s| s.input.protocol).collect();
    assert_eq!(
        protocols,
        [Protocol::Hls, Protocol::Srt, Protocol::Udp, Protocol::Hls]
    );
    assert_eq!(config.streams[3].expect.video, Some(0));
    assert_eq!(config.streams[3].expect.audio, Some(1));
    let detector = |n: usize, name: &str| {
        let mut all = config.streams[n].detectors.iter();
        all.find(|d| d.descriptor.name == name)
    };
    let raise = |n: usize, name: &str| detector(n, name).unwrap().rules[0].raise.value();
    assert_eq!((raise(1, "silence"), raise(1, "freeze")), (60.0, 20.0));
    assert!(detector(2, "silence").is_none());
    let pictures = config.select_groups(&["pictures".to_owned()]).unwrap();
    assert_eq!(pictures.streams[0].detectors.len(), 8);
    assert!(diff(&config, &parse(&print_effective(&config))).is_empty());
}

#[test]
fn what_the_example_leaves_out_is_valid_too() {
    let text = fs::read_to_string(config_dir().join("example.yaml")).unwrap();
    let text = text
        .replace("# receivers:", "receivers:")
        .replace("#   - name: on-call", "  - name: on-call")
        .replace("#     webhook:", "    webhook:")
        .replace(
            "#       url_file: /run/secrets/alert_url ",
            "      url_file: /run/secrets/url ",
        )
        .replace(
            "#       secret_file: /run/secrets/alert_key ",
            "      secret_file: /run/secrets/secret ",
        )
        .replace("#     min_severity", "    min_severity")
        .replace(
            "# passphrase_file: /run/secrets/nature_",
            "passphrase_file: /run/secrets/",
        );
    let config = parse(&text);
    assert_eq!(config.receivers.len(), 1);
    assert!(config.streams[1].input.srt.passphrase.is_some());
}

#[test]
fn the_reference_is_fresh() {
    let path = config_dir().join("reference.yaml");
    if updating() {
        fs::write(&path, reference()).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = committed
        .lines()
        .zip(reference().lines().map(str::to_owned))
        .position(|(a, b)| a != b);
    assert!(
        committed == reference(),
        "config/reference.yaml is stale from line {:?}; GLASSWATCH_UPDATE=1 rewrites it",
        differs.map(|n| n + 1)
    );
}

/// Every default in the reference is the one that holds when the key is left out.
#[test]
fn the_reference_tells_the_real_defaults() {
    let full = parse(&reference());
    let bare = parse(
        "version: 1\nstreams:\n  - {id: channel-1, url: 'https://cdn.example.com/channel-1/master.m3u8'}",
    );
    assert_eq!(full.streams, bare.streams);
    assert_eq!(
        (&full.instance, full.http.listen, &full.http.token),
        (&bare.instance, bare.http.listen, &bare.http.token)
    );
    assert_eq!(
        print_effective(&full).lines().count(),
        reference_lines(&full, &bare)
    );
}

/// Receivers, named tokens, the bucket and the shard have no default, so the reference has them and a bare file has not.
fn reference_lines(full: &Config, bare: &Config) -> usize {
    let bare = Config {
        receivers: full.receivers.clone(),
        evidence: full.evidence.clone(),
        http: full.http.clone(),
        shard: full.shard,
        ..bare.clone()
    };
    print_effective(&bare).lines().count()
}

/// Every line behind `#` is valid when it takes the place of the line it stands for.
#[test]
fn the_reference_is_valid_with_each_optional_key() {
    let text = reference();
    let lines: Vec<&str> = text.lines().collect();
    let mut tried = 0;
    for (n, line) in lines.iter().enumerate() {
        let Some(key) = line
            .trim_start()
            .strip_prefix('#')
            .filter(|k| !k.starts_with(' '))
        else {
            continue;
        };
        let mut changed: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        changed[n] = line.replacen('#', "", 1);
        let stem = key.split_once("_file:").map(|(stem, _)| format!("{stem}:"));
        if stem.is_some_and(|stem| lines[n - 1].trim_start().starts_with(&stem)) {
            changed[n - 1].clear();
        }
        let before = parse(&text);
        let after = parse(&changed.join("\n"));
        let shown = |c: &Config| format!("{c:?}");
        assert!(
            key.starts_with("profile")
                || key.contains("_file")
                || key.starts_with("name")
                || shown(&before) != shown(&after),
            "{key} changes nothing"
        );
        tried += 1;
    }
    assert!(tried >= 15, "{tried}");
}

#[test]
fn every_bad_file_is_refused_with_its_message() {
    let mut names: Vec<PathBuf> = fs::read_dir(config_dir().join("bad"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 15);
    let mut wrong = Vec::new();
    for path in names {
        let text = fs::read_to_string(&path).unwrap();
        let mut env = env(path.file_name().unwrap().to_str().unwrap());
        env.files
            .insert("secrets/none".to_owned(), Err("no such file".to_owned()));
        let told = match Config::parse(&text, &env) {
            Ok(_) => "valid\n".to_owned(),
            Err(problems) => format!("{problems}\n"),
        };
        let expected = path.with_extension("txt");
        if updating() {
            fs::write(&expected, &told).unwrap();
        }
        if told != fs::read_to_string(&expected).unwrap_or_default() || told == "valid\n" {
            wrong.push(told);
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

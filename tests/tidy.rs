//! The house rules that a compiler does not check: who may use whom, where clocks and files may appear, and that
//! every test that ARCHITECTURE.md names exists.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(under: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(under), &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root())
                .expect("below the root")
                .display()
                .to_string();
            (name, fs::read_to_string(path).expect("UTF-8"))
        })
        .collect()
}

/// The part of a file before its unit tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// For each room of `src/`: the rooms that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("alert", &["config"]),
    ("aws", &[]),
    ("cli", &["config"]),
    ("config", &["config", "listing"]),
    (
        "evidence",
        &["alert", "aws", "config", "ingest", "telemetry"],
    ),
    ("compare", &["config", "ingest", "lane"]),
    (
        "http",
        &[
            "compare",
            "alert",
            "config",
            "evidence",
            "ingest",
            "lane",
            "notify",
            "telemetry",
        ],
    ),
    ("ingest", &["config", "ingest", "transport", "telemetry"]),
    (
        "lane",
        &["alert", "config", "evidence", "ingest", "lane", "telemetry"],
    ),
    (
        "notify",
        &[
            "alert",
            "aws",
            "config",
            "ingest",
            "lane",
            "notify",
            "telemetry",
        ],
    ),
    ("router", &["config", "router"]),
    (
        "telemetry",
        &["alert", "config", "ingest", "lane", "notify", "telemetry"],
    ),
    ("transport", &["config", "transport"]),
];

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files("src") {
        let room = name
            .trim_start_matches("src/")
            .split(['/', '.'])
            .next()
            .expect("split gives at least one part")
            .to_owned();
        if ["tests.rs", "testing.rs", "testkit.rs"]
            .iter()
            .any(|only_tests| name.ends_with(only_tests))
        {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(of, _)| *of == room) else {
            continue;
        };
        for (number, line) in product(&text).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for (at, _) in line.match_indices("crate::") {
                let used = line[at + 7..]
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next();
                let used = used.unwrap_or("");
                if !used.is_empty() && used != room && !allowed.contains(&used) {
                    wrong.push(format!("{name}:{}: {room} may not use {used}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_composition_uses_the_app() {
    for (name, text) in rust_files("src") {
        let allowed = name.starts_with("src/app")
            || name.starts_with("src/demo")
            || ["src/main.rs", "src/lib.rs"].contains(&name.as_str());
        assert!(
            allowed || !product(&text).contains("crate::app"),
            "{name} uses the app"
        );
    }
}

#[test]
fn detectors_have_no_clock_no_file_no_thread() {
    let banned = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::process",
        "std::env",
        "Instant::now",
        "SystemTime",
        "println!",
        "eprintln!",
        "gstreamer",
        "tokio",
        "rayon",
    ];
    for (name, text) in rust_files("detectors") {
        // What only tests compile may look at the source tree.
        if ["contract.rs", "testkit.rs"]
            .iter()
            .any(|only_tests| name.ends_with(only_tests))
        {
            continue;
        }
        for (number, line) in product(&text).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in banned {
                assert!(!line.contains(word), "{name}:{}: {word}", number + 1);
            }
        }
    }
}

#[test]
fn pure_rooms_read_no_clock() {
    for (name, text) in rust_files("src") {
        let pure = [
            "src/alert/",
            "src/transport/",
            "src/router/plan.rs",
            "src/router/plan/",
            "src/router/shard",
            "src/router/unit",
            "src/ingest/supervise",
        ]
        .iter()
        .any(|p| name.starts_with(p));
        if pure {
            for word in [
                "Instant::now",
                "SystemTime::now",
                "clock::now",
                "std::fs",
                "std::net",
                "tokio::",
            ] {
                assert!(!product(&text).contains(word), "{name} names {word}");
            }
        }
    }
}

#[test]
fn long_files_state_their_reason() {
    for under in ["src", "detectors", "tests", "benches"] {
        for (name, text) in rust_files(under) {
            let reason = text.lines().take(20).any(|l| l.contains("long because"));
            assert!(
                text.lines().count() <= 800 || reason,
                "{name}: {} lines",
                text.lines().count()
            );
        }
    }
}

fn all_sources() -> String {
    let files = ["src", "detectors", "tests"].into_iter();
    files.flat_map(rust_files).map(|(_, text)| text).collect()
}

/// In `docs/faults.md` the last column of a table names tests, each in quotes of its own; what is written in quotes in
/// the columns before are causes and tags.
#[test]
fn tests_named_in_the_fault_table_exist() {
    let text = fs::read_to_string(root().join("docs/faults.md")).expect("docs/faults.md");
    let sources = all_sources();
    let (mut named, mut missing) = (0, Vec::new());
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").collect();
        let Some(tests) = cells.last() else { continue };
        for name in tests.split('`').skip(1).step_by(2) {
            let name = name.rsplit("::").next().unwrap_or(name);
            // A row of a test's table, or a file.
            let is_test = name.contains('_') && !name.contains(['.', '-', '/']);
            if is_test {
                named += 1;
                if !sources.contains(&format!("fn {name}(")) {
                    missing.push(name.to_owned());
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    assert!(named >= 100, "only {named} tests named");
}

#[test]
fn tests_named_in_the_architecture_exist() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let sources = all_sources();
    let mut named = 0;
    for line in map.lines() {
        for part in line.split("test `").skip(1) {
            let name = part
                .split('`')
                .next()
                .unwrap_or("")
                .rsplit("::")
                .next()
                .unwrap_or("");
            assert!(sources.contains(&format!("fn {name}(")), "no test `{name}`");
            named += 1;
        }
    }
    assert!(named >= 10, "only {named} tests named");
}

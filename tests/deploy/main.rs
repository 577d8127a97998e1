//! What is in `deploy/` agrees with the program: metrics, labels, states, timeouts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use glasswatch::lane::State;
use glasswatch::telemetry::names;
use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, out),
            false => out.push(path),
        }
    }
}

/// Words of the shape of a metric name, each with the text that follows it.
fn metrics(text: &str) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = [rest.find("glasswatch_"), rest.find("process_")]
        .into_iter()
        .flatten()
        .min()
    {
        let part = &rest[at..];
        let end = part
            .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
            .unwrap_or(part.len());
        out.push((&part[..end], &part[end..]));
        rest = &part[end..];
    }
    out
}

/// Label names and values of a selector: `{a="b", c=~"d|e"}`.
fn selector(text: &str) -> Vec<(String, String)> {
    let Some(inside) = text.strip_prefix('{').and_then(|t| t.split_once('}')) else {
        return Vec::new();
    };
    let inside = inside.0.replace('\\', "");
    inside
        .split("\",")
        .filter_map(|pair| pair.split_once(['=', '!']))
        .map(|(label, value)| {
            let value = value
                .trim_start_matches(['=', '~', '"'])
                .trim_end_matches('"');
            (label.trim().to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn every_metric_and_label_named_in_deploy_exists() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    let mut used = BTreeSet::new();
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        for (name, after) in metrics(&text) {
            let place = path.display();
            let family =
                names::find(name).unwrap_or_else(|| panic!("{place}: {name} does not exist"));
            used.insert(family.name);
            for (label, values) in selector(after) {
                let of_scrape = ["instance", "job"].contains(&label.as_str());
                let known = family.labels.contains(&label.as_str());
                assert!(known || of_scrape, "{place}: {name} has no label {label}");
                for value in values.split('|').filter(|v| !v.starts_with('$')) {
                    check_value(&label, value, &format!("{place}: {name}"));
                }
            }
        }
    }
    assert!(used.len() > 25, "only {} metrics found", used.len());
}

fn check_value(label: &str, value: &str, place: &str) {
    match label {
        "state" => {
            let known = State::ALL.iter().any(|s| s.as_str() == value);
            assert!(known, "{place}: no state {value}");
        }
        "detector" if !detectors::registry::REGISTRY.is_empty() => {
            let known = detectors::registry::find(value).is_some();
            assert!(known, "{place}: no detector {value}");
        }
        _ => {}
    }
}

#[test]
fn rules_are_complete_and_each_is_tested() {
    let of = |path: &str| -> Yaml { serde_yaml::from_str(&read(path)).unwrap() };
    let (own, streams) = (
        of("prometheus/rules.yaml"),
        of("prometheus/streams.rules.disabled"),
    );
    let tests: Yaml = serde_yaml::from_str(&read("prometheus/rules_test.yaml")).unwrap();
    let mut firing = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    for test in tests["tests"].as_sequence().unwrap() {
        for case in test["alert_rule_test"].as_sequence().unwrap() {
            let name = case["alertname"].as_str().unwrap();
            let expects = !case["exp_alerts"].as_sequence().unwrap().is_empty();
            match expects {
                true => firing.insert(name),
                false => quiet.insert(name),
            };
        }
    }
    let mut names = BTreeSet::new();
    let groups = [&own, &streams].map(|rules| rules["groups"].as_sequence().unwrap());
    for group in groups.into_iter().flatten() {
        for rule in group["rules"].as_sequence().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(
                name.starts_with("Glasswatch") && names.insert(name),
                "{name}"
            );
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(
                ["critical", "warning", "info"].contains(&severity),
                "{name}"
            );
            for text in ["summary", "description"] {
                assert!(
                    rule["annotations"][text].as_str().is_some(),
                    "{name}: {text}"
                );
            }
            assert!(firing.contains(name), "{name} has no firing test");
            let always = name == "GlasswatchDeadMansSwitch";
            assert!(always || quiet.contains(name), "{name} has no quiet test");
        }
    }
}

#[test]
fn the_dashboard_can_be_provisioned() {
    let board: Json = serde_json::from_str(&read("grafana/glasswatch.json")).unwrap();
    assert_eq!(board["uid"], "glasswatch");
    assert!(board.get("__inputs").is_none());
    let variables = board["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|v| v["name"] == "datasource"));
    let panels = board["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{}",
            panel["title"]
        );
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} overlaps", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_eq!(
                panel["datasource"]["uid"], "${datasource}",
                "{}",
                panel["title"]
            );
            assert!(!panel["targets"].as_array().unwrap().is_empty());
            assert!(panel["description"].as_str().is_some_and(|d| !d.is_empty()));
        }
    }
}

#[test]
fn stops_wait_longer_than_the_drain() {
    const DEFAULT_DRAIN_SECS: u64 = 25;
    let task: Json = serde_json::from_str(&read("ecs/task-definition.json")).unwrap();
    let container = &task["containerDefinitions"][0];
    let stop = container["stopTimeout"].as_u64().unwrap();
    assert!((DEFAULT_DRAIN_SECS + 5..=120).contains(&stop));
    assert_eq!(container["readonlyRootFilesystem"], true);
    assert_eq!(
        container["logConfiguration"]["options"]["mode"],
        "non-blocking"
    );
    let unit = read("systemd/glasswatch.service");
    let stop = unit
        .lines()
        .find_map(|l| l.strip_prefix("TimeoutStopSec="))
        .unwrap();
    assert!(stop.parse::<u64>().unwrap() > DEFAULT_DRAIN_SECS);
    // No secret is written down: secrets come by reference.
    for entry in container["environment"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        assert!(
            !["TOKEN", "SECRET", "URL"].iter().any(|w| name.contains(w)),
            "{name}"
        );
    }
}

#[test]
fn memory_is_kept_together_wherever_the_daemon_is_started() {
    let run = fs::read_to_string(root().join("../run")).unwrap();
    let bench = fs::read_to_string(root().join("../benches/soak.rs")).unwrap();
    let unit = read("systemd/glasswatch.service");
    for (name, text) in [
        ("run", run),
        ("soak", bench),
        ("unit", unit),
        ("image", read("Dockerfile")),
    ] {
        for setting in ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"] {
            assert!(text.contains(setting), "{name} does not set {setting}");
        }
    }
}

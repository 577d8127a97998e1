//! Metrics, rules and dashboards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glasswatch::lane::State;
use glasswatch::telemetry::names;
use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use crate::{read, root, valid, yaml};

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

/// Names of recorded series, `level:metric:operation`, and the text without them.
fn recorded(text: &str) -> (BTreeSet<&str>, String) {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    let (mut names, mut others) = (BTreeSet::new(), String::new());
    let mut rest = text;
    while let Some(begin) = rest.find(part) {
        let word = &rest[begin..];
        let word = &word[..word.find(|c| !part(c)).unwrap_or(word.len())];
        let after = &rest[begin + word.len()..];
        others.push_str(&rest[..begin]);
        match word.split(':').collect::<Vec<_>>()[..] {
            [_, metric, _] if metric.starts_with("glasswatch_") => {
                names.insert(word);
                others.push(' ');
            }
            _ => others.push_str(word),
        }
        rest = after;
    }
    others.push_str(rest);
    (names, others)
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
    let recording = yaml("prometheus/recording.yaml");
    let rules = rules_of(&recording);
    for path in all {
        let place = path.display();
        let text = fs::read_to_string(&path).unwrap();
        let (series, text) = recorded(&text);
        for name in series {
            let known = rules.iter().any(|rule| rule["record"] == *name);
            assert!(known, "{place}: {name} is not recorded");
        }
        for (name, after) in metrics(&text) {
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

fn rules_of(file: &Yaml) -> Vec<&Yaml> {
    let groups = file["groups"].as_sequence().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_sequence().unwrap())
        .collect()
}

#[test]
fn rules_are_complete_and_each_is_tested() {
    let (own, streams) = (
        yaml("prometheus/rules.yaml"),
        yaml("prometheus/streams.rules.disabled"),
    );
    let tests = yaml("prometheus/rules_test.yaml");
    let mut firing = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    for test in tests["tests"].as_sequence().unwrap() {
        for case in test["alert_rule_test"].as_sequence().into_iter().flatten() {
            let name = case["alertname"].as_str().unwrap();
            let expects = !case["exp_alerts"].as_sequence().unwrap().is_empty();
            match expects {
                true => firing.insert(name),
                false => quiet.insert(name),
            };
        }
    }
    let mut names = BTreeSet::new();
    for rule in [&own, &streams].map(rules_of).into_iter().flatten() {
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

#[test]
fn every_recorded_series_is_tested() {
    let recording = yaml("prometheus/recording.yaml");
    let tests = read("prometheus/rules_test.yaml");
    for rule in rules_of(&recording) {
        let name = rule["record"].as_str().unwrap();
        assert!(tests.contains(&format!("- expr: '{name}")), "{name}");
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    let promtool = || {
        let mut command = Command::new("promtool");
        command.current_dir(root().join("prometheus"));
        command
    };
    let rules = ["recording.yaml", "rules.yaml", "streams.rules.disabled"];
    valid(promtool().args(["check", "rules"]).args(rules));
    valid(promtool().args(["test", "rules", "rules_test.yaml"]));
    let config = root().join("compose/prometheus.yaml");
    valid(
        promtool()
            .args(["check", "config", "--syntax-only"])
            .arg(config),
    );
}

/// Name and content of every dashboard.
fn boards() -> BTreeMap<String, Json> {
    let mut all = Vec::new();
    files(&root().join("grafana"), &mut all);
    let parse = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let board = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        (name, board)
    };
    all.into_iter().map(parse).collect()
}

#[test]
fn dashboards_can_be_provisioned() {
    let boards = boards();
    let names: Vec<_> = boards.keys().map(String::as_str).collect();
    assert_eq!(names, ["engine", "fleet", "stream"]);
    for (name, board) in &boards {
        assert_eq!(board["uid"], format!("glasswatch-{name}"));
        assert!(board.get("__inputs").is_none());
        let variables = board["templating"]["list"].as_array().unwrap();
        assert!(variables.iter().any(|v| v["name"] == "datasource"));
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = format!("{name}: {}", panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{title}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{title} overlaps");
                }
            }
            if panel["type"] != "row" {
                assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
                assert!(!panel["targets"].as_array().unwrap().is_empty());
                let told = panel["description"].as_str();
                assert!(told.is_some_and(|d| !d.is_empty()), "{title}");
            }
        }
        // Every variable that is used exists, and every dashboard that is linked.
        let text = board.to_string();
        for word in ["$stream", "$instance", "$job", "$detector", "$signal"] {
            let known = variables.iter().any(|v| v["name"] == word[1..]);
            assert!(
                known || !text.contains(&format!("{word}\\\"")),
                "{name}: {word}"
            );
        }
        for (_, link) in text
            .match_indices("/d/")
            .map(|(at, _)| text.split_at(at + 3))
        {
            let uid = link.split(['?', '"']).next().unwrap();
            let known = boards.values().any(|b| b["uid"] == uid);
            assert!(known, "{name} links to {uid}");
        }
    }
}

#[test]
fn queries_of_dashboards_are_valid() {
    let mut rules = String::from("groups:\n- name: boards\n  rules:\n");
    for (name, board) in boards() {
        let panels = board["panels"].as_array().unwrap().iter();
        let targets = panels
            .filter_map(|panel| panel["targets"].as_array())
            .flatten();
        let notes = board["annotations"]["list"].as_array().unwrap().iter();
        for (i, query) in targets.chain(notes).enumerate() {
            let query = query["expr"].as_str().unwrap();
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1h");
            let query = Json::from(query);
            rules.push_str(&format!(
                "  - record: board:{name}:{i}\n    expr: {query}\n"
            ));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yaml");
    fs::write(&file, rules).unwrap();
    valid(Command::new("promtool").args(["check", "rules"]).arg(file));
}

//! What is in `deploy/` agrees with the program and with itself, and passes the validators of its formats.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ecs;
mod host;
mod image;
mod metrics;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn yaml(path: &str) -> serde_yaml::Value {
    serde_yaml::from_str(&read(path)).unwrap()
}

/// What a validator says; nothing where it is not installed, which `./test` does.
fn ask(command: &mut Command) -> Option<Output> {
    let out = command.output().ok();
    if out.is_none() {
        println!("{command:?} is not installed: not validated");
    }
    out
}

/// Fails with what the validator says.
fn valid(command: &mut Command) {
    if let Some(out) = ask(command) {
        let said = [&out.stdout[..], &out.stderr[..]].map(String::from_utf8_lossy);
        assert!(out.status.success(), "{command:?}: {}", said.concat());
    }
}

/// Seconds of `45s`, `2m` or a plain number.
fn secs(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.trim_end_matches(['s', 'm']).len());
    number.parse::<u64>().unwrap() * if unit == "m" { 60 } else { 1 }
}

#[test]
fn stops_wait_longer_than_the_drain() {
    const DEFAULT_DRAIN_SECS: u64 = 25;
    const ROOM_SECS: u64 = 10;
    let drain = |path| match &yaml(path)["instance"]["drain"] {
        serde_yaml::Value::String(drain) => secs(drain),
        _ => DEFAULT_DRAIN_SECS,
    };
    let unit = read("systemd/glasswatch.service");
    let unit = unit.lines().find_map(|l| l.strip_prefix("TimeoutStopSec="));
    let compose = yaml("docker-compose.yml");
    let compose = compose["services"]["glasswatch"]["stop_grace_period"].as_str();
    let task = ecs::container()["StopTimeout"].as_u64().unwrap();
    assert!(secs(unit.unwrap()) >= DEFAULT_DRAIN_SECS + ROOM_SECS);
    assert!(secs(compose.unwrap()) >= drain("compose/glasswatch.yaml") + ROOM_SECS);
    assert!(task >= drain("ecs/config.yaml") + ROOM_SECS && task <= 120);
}

#[test]
fn scripts_can_be_read_by_their_shells() {
    for (shell, script) in [
        ("bash", "deb.sh"),
        ("bash", "root-proof.sh"),
        ("bash", "setup.sh"),
        ("bash", "compose/source.sh"),
        ("bash", "image/collect.sh"),
        ("sh", "deb/postinst"),
        ("sh", "deb/postrm"),
    ] {
        valid(Command::new(shell).arg("-n").arg(root().join(script)));
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

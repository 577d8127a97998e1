//! The container's image, and the compose file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gstreamer::prelude::PluginFeatureExt as _;
use serde_yaml::Value as Yaml;

use crate::{ask, read, root, yaml};

/// Steps of the Dockerfile's stage of that name, or of the last stage; continued lines are one.
pub fn stage(name: Option<&str>) -> String {
    let file = read("Dockerfile").replace("\\\n", " ");
    let mut stages: Vec<&str> = file.split("\nFROM ").collect();
    let of = match name {
        Some(name) => stages
            .into_iter()
            .find(|s| s.lines().next().unwrap().ends_with(&format!(" AS {name}"))),
        None => stages.pop(),
    };
    of.unwrap().to_owned()
}

/// Command line of the image's health check.
pub fn health_check() -> Vec<String> {
    let last = stage(None);
    let (_, check) = last.split_once("HEALTHCHECK").unwrap();
    let command = check.lines().next().unwrap().split_once("CMD ").unwrap().1;
    serde_json::from_str(command).unwrap()
}

/// Packages that a stage installs.
pub fn packages(stage: &str) -> BTreeSet<String> {
    let (_, install) = stage
        .split_once("install -y --no-install-recommends")
        .unwrap();
    let names = install.split("&&").next().unwrap().split_whitespace();
    names.map(str::to_owned).collect()
}

/// Plugins that the image keeps, each with the elements that are used of it.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let list = read("image/elements");
    let lines = list
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            (words.next().unwrap(), words.collect())
        })
        .collect()
}

fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            into.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
}

#[test]
fn every_element_that_is_asked_for_is_in_the_image() {
    gstreamer::init().unwrap();
    let ingest = root().join("../src/ingest");
    let mut text = String::new();
    sources(&ingest.join("pipeline"), &mut text);
    for file in ["pipeline.rs", "source/rtsp.rs"] {
        text.push_str(&fs::read_to_string(ingest.join(file)).unwrap());
    }
    let elements: BTreeSet<String> = allowed().into_values().flatten().collect();
    let mut found = 0;
    for word in text
        .split('"')
        .filter(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
    {
        if gstreamer::ElementFactory::find(word).is_some() {
            assert!(
                elements.contains(word),
                "deploy/image/elements lacks {word}"
            );
            found += 1;
        }
    }
    assert!(found > 50, "only {found} elements found");
    for (plugin, elements) in allowed() {
        for name in elements {
            let factory = gstreamer::ElementFactory::find(&name).unwrap();
            let file = factory.plugin().unwrap().filename().unwrap();
            assert_eq!(
                file.file_name().unwrap().to_str().unwrap(),
                plugin,
                "{name}"
            );
        }
    }
}

#[test]
fn the_listed_plugins_are_enough() {
    gstreamer::init().unwrap();
    let core = gstreamer::ElementFactory::find("fakesink").unwrap();
    let from = core.plugin().unwrap().filename().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for plugin in allowed().keys() {
        let installed = from.parent().unwrap().join(plugin);
        std::os::unix::fs::symlink(installed, dir.path().join(plugin)).unwrap();
    }
    let out = Command::new(env!("CARGO_BIN_EXE_glasswatch"))
        .arg("doctor")
        .env("GST_PLUGIN_SYSTEM_PATH_1_0", dir.path())
        .env("GST_REGISTRY_1_0", dir.path().join("registry.bin"))
        .env("GST_REGISTRY_FORK", "no")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("elements: all "), "{said}");
}

#[test]
fn the_notice_names_every_crate_that_ships() {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(root().join("..")).args(args);
        command.env("CARGO_NET_OFFLINE", "true");
        let out = ask(&mut command)?;
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{program}: {said}");
        Some(String::from_utf8(out.stdout).unwrap())
    };
    let script = [
        "deploy/image/notice.py",
        "--features",
        "aws,etcd",
        "--target",
        &target,
    ];
    let Some(notice) = run("python3", &script) else {
        return;
    };
    let tree = run(
        env!("CARGO"),
        &[
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--features",
            "aws,etcd",
            "--target",
            &target,
            "--format",
            "{p}",
        ],
    );
    let shipped: BTreeSet<String> = (tree.unwrap().lines())
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, version)| format!("- {name} {}: ", version.split(' ').next().unwrap()))
        .collect();
    assert!(shipped.len() > 150, "{}", shipped.len());
    for line in &shipped {
        assert!(notice.contains(line.as_str()), "not in the notice: {line}");
    }
    for text in [
        "Apache License",
        "Permission is hereby granted",
        "MIT OR Apache-2.0",
    ] {
        assert!(notice.contains(text), "{text}");
    }
}

#[test]
fn the_image_runs_with_no_rights() {
    let last = stage(None);
    let user = last.rfind("\nUSER 10001:10001").unwrap();
    assert!(user < last.find("\nENTRYPOINT").unwrap());
    assert!(!last[user..].contains("\nRUN") && !last[user..].contains("\nCOPY"));
    // What was installed to build, or came along with a package, is not in it.
    assert!(!last.contains("apt-get"));
    assert!(last.contains("GST_REGISTRY_UPDATE=no") && last.contains("glasswatch doctor"));
    assert_eq!(health_check()[0], "bash");
    assert!(stage(Some("build")).contains("ARG FEATURES=\"aws"));
}

fn strings(value: &Yaml) -> Vec<String> {
    let list = value.as_sequence().into_iter().flatten();
    list.map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_compose_file_is_pinned_locked_down_and_whole() {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_mapping().unwrap();
    assert_eq!(services.len(), 6);
    let secrets = compose["secrets"].as_mapping().unwrap();
    let volumes = compose["volumes"].as_mapping().unwrap();
    let own = format!(":{}", env!("CARGO_PKG_VERSION"));
    for (name, service) in services {
        let name = name.as_str().unwrap();
        let merged = |key: &str| match &service[key] {
            Yaml::Null => service["<<"][key].clone(),
            own => own.clone(),
        };
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').unwrap().1.trim_start_matches('v');
        let numbers = tag.split('.').filter(|n| n.parse::<u32>().is_ok()).count();
        assert_eq!(numbers, 3, "{name}: {image}");
        assert!(
            image.ends_with(&own) || service["build"].is_null(),
            "{name}"
        );
        assert_eq!(merged("read_only"), Yaml::Bool(true), "{name}");
        assert_eq!(strings(&merged("cap_drop")), ["ALL"], "{name}");
        assert_eq!(
            strings(&merged("security_opt")),
            ["no-new-privileges:true"],
            "{name}"
        );
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        for secret in strings(&service["secrets"]) {
            assert!(secrets.contains_key(secret.as_str()), "{name}: {secret}");
        }
        for mount in strings(&service["volumes"]) {
            let (from, to) = mount.split_once(':').unwrap();
            match from.strip_prefix("./") {
                Some(file) => {
                    assert!(root().join(file).exists(), "{name}: {mount}");
                    assert!(to.ends_with(":ro"), "{name}: {mount}");
                }
                None => assert!(volumes.contains_key(from), "{name}: {mount}"),
            }
        }
        if let Some(dockerfile) = service["build"]["dockerfile"].as_str() {
            let context = root().join(service["build"]["context"].as_str().unwrap());
            assert!(context.join(dockerfile).exists(), "{name}");
        }
    }
    // No secret is written down, here or in the image; a read-only container takes them as files only.
    let ignored = [
        read("../.gitignore").replace("/deploy/secrets", "deploy/secrets"),
        read("Dockerfile.dockerignore"),
    ];
    for secret in secrets.values() {
        assert!(secret["file"].as_str().unwrap().starts_with("./secrets/"));
    }
    for list in ignored {
        assert!(list.lines().any(|line| line == "deploy/secrets"), "{list}");
    }
}

#[test]
fn what_is_around_the_daemon_finds_it() {
    let prometheus = yaml("compose/prometheus.yaml");
    let port = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0];
    let listen = yaml("compose/glasswatch.yaml")["http"]["listen"].clone();
    let port = port.as_str().unwrap().strip_prefix("glasswatch").unwrap();
    assert!(listen.as_str().unwrap().ends_with(port));
    for rules in strings(&prometheus["rule_files"]) {
        let name = rules.strip_prefix("/etc/prometheus/glasswatch/").unwrap();
        assert!(root().join("prometheus").join(name).exists(), "{name}");
    }
    let sources = yaml("compose/grafana/datasources.yaml");
    assert_eq!(sources["datasources"][0]["url"], "http://prometheus:9090");
    let boards = yaml("compose/grafana/dashboards.yaml");
    let folder = boards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = strings(&yaml("docker-compose.yml")["services"]["grafana"]["volumes"]);
    assert!(mounts.contains(&format!("./grafana:{folder}:ro")));
    let route = yaml("compose/alertmanager.yaml");
    assert_eq!(route["route"]["receiver"], route["receivers"][0]["name"]);
}

#[test]
fn the_configuration_of_the_compose_file_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["token", "scrape_token"] {
        fs::write(dir.path().join(name), format!("{name}-0123456789abcdef")).unwrap();
    }
    let text = read("compose/glasswatch.yaml");
    let file: PathBuf = dir.path().join("glasswatch.yaml");
    fs::write(
        &file,
        text.replace("/run/secrets", dir.path().to_str().unwrap()),
    )
    .unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_glasswatch"));
    crate::valid(check.arg("check").arg(file));
}

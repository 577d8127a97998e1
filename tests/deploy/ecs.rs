//! The template for Amazon ECS.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_yaml::Value as Yaml;

use crate::{image, read, root, valid, yaml};

/// Properties of the resource of that name that is made for every group and shard.
fn repeated(name: &str) -> Yaml {
    let template = yaml("ecs/glasswatch.yaml");
    let groups = &template["Resources"]["Fn::ForEach::EachGroup"][2];
    let all = &groups["Fn::ForEach::EachShard"][2];
    all[format!("{name}${{Group}}${{Shard}}").as_str()]["Properties"].clone()
}

pub fn container() -> Yaml {
    repeated("Task")["ContainerDefinitions"][0].clone()
}

#[test]
fn the_template_passes_the_linter() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let linter = target.join("cfn-lint/bin/cfn-lint");
    assert!(
        linter.exists(),
        "{} is missing: the linter of templates is not installed. `./test` installs it; by hand: \
         python3 -m venv {target}/cfn-lint && {target}/cfn-lint/bin/pip install -r tests/deploy/requirements.txt",
        linter.display(),
        target = target.display(),
    );
    valid(Command::new(linter).arg(root().join("ecs/glasswatch.yaml")));
}

#[test]
fn tasks_run_with_no_rights_and_cannot_be_stalled_by_logs() {
    let container = container();
    assert_eq!(container["ReadonlyRootFilesystem"], true);
    assert_eq!(container["User"], "10001:10001");
    assert_eq!(
        container["LinuxParameters"]["Capabilities"]["Drop"][0],
        "ALL"
    );
    let options = &container["LogConfiguration"]["Options"];
    assert_eq!(options["mode"], "non-blocking");
    assert!(options["max-buffer-size"].is_string());
    // The same check as the image's.
    let command = container["HealthCheck"]["Command"].as_sequence().unwrap();
    let command: Vec<_> = command[1..].iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(command, image::health_check());
    // What is written to is a volume, and of the image too: only then does the user own it.
    let volumes = container["MountPoints"].as_sequence().unwrap();
    for volume in volumes {
        let path = volume["ContainerPath"].as_str().unwrap();
        let line = image::stage(None);
        let line = line.lines().find(|l| l.starts_with("VOLUME")).unwrap();
        assert!(line.contains(&format!("\"{path}\"")), "{path}");
    }
}

#[test]
fn secrets_come_by_reference() {
    for entry in container()["Environment"].as_sequence().unwrap() {
        let name = entry["Name"].as_str().unwrap();
        for word in ["TOKEN", "SECRET", "URL", "KEY"] {
            assert!(!name.contains(word), "{name}");
        }
    }
    for secret in container()["Secrets"].as_sequence().unwrap() {
        assert!(matches!(secret["ValueFrom"], Yaml::Tagged(_)), "{secret:?}");
    }
}

#[test]
fn a_task_may_do_only_what_it_must() {
    let template = yaml("ecs/glasswatch.yaml");
    let role = &template["Resources"]["TaskRole"]["Properties"];
    let text = serde_yaml::to_string(&role["Policies"]).unwrap();
    assert!(role["ManagedPolicyArns"].is_null());
    for action in text.lines().filter(|l| l.contains("Action: ")) {
        let known = ["sns:Publish", "s3:PutObject"]
            .iter()
            .any(|a| action.contains(a));
        assert!(known, "{action}");
    }
    for wide in [
        "Resource: '*'",
        "sns:*",
        "s3:*",
        "dynamodb:*",
        "dynamodb:Scan",
    ] {
        assert!(!text.contains(wide), "{wide}");
    }
    // Files of evidence go where the role lets them.
    let prefix = yaml("ecs/config.yaml")["evidence"]["s3"]["prefix"].clone();
    assert!(text.contains(&format!("/{}/*", prefix.as_str().unwrap())));
}

/// Names of `${NAME}` in a text.
fn references(text: &str) -> BTreeSet<&str> {
    let begins = text.split("${").skip(1);
    begins.map(|rest| rest.split('}').next().unwrap()).collect()
}

#[test]
fn the_template_gives_what_its_configuration_asks_for() {
    let container = container();
    let named = |key: &str| container[key].as_sequence().unwrap().clone();
    let entries = [named("Environment"), named("Secrets")].concat();
    let given: BTreeSet<_> = entries
        .iter()
        .map(|e| e["Name"].as_str().unwrap())
        .collect();
    let config = read("ecs/config.yaml");
    for name in references(&config) {
        assert!(given.contains(name), "{name}");
    }
    let groups = yaml("ecs/config.yaml")["groups"].clone();
    let template = yaml("ecs/glasswatch.yaml");
    let asked = template["Parameters"]["Groups"]["Default"]
        .as_str()
        .unwrap();
    for group in asked.split(',') {
        assert!(group.bytes().all(|b| b.is_ascii_alphanumeric()), "{group}");
        assert!(groups[group].is_sequence(), "{group}");
    }
}

#[cfg(feature = "aws")]
#[test]
fn the_configuration_of_the_tasks_is_valid() {
    let mut check = Command::new(env!("CARGO_BIN_EXE_glasswatch"));
    check.arg("check").arg(root().join("ecs/config.yaml"));
    for name in references(&read("ecs/config.yaml")) {
        let value = match name {
            "GLASSWATCH_TOPIC" => "arn:aws:sns:eu-central-1:123456789012:alerts",
            "GLASSWATCH_REGION" => "eu-central-1",
            "GLASSWATCH_SHARD" => "0",
            "GLASSWATCH_SHARDS" => "1",
            "GLASSWATCH_TOKEN" => "0123456789abcdef",
            _ => "fleet-sound-0",
        };
        check.env(name, value);
    }
    valid(&mut check);
}

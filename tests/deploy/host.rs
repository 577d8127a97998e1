//! The systemd unit and the Debian package.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{image, read, root, valid};

/// Ten times the exposure that `systemd-analyze security` may find: 0 is a locked box, 100 no lock at all.
const MOST_EXPOSURE: u32 = 20;

#[test]
fn the_unit_is_correct_and_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("glasswatch.service");
    // The verifier wants to see the program.
    let text = read("systemd/glasswatch.service");
    let text = text.replace("/usr/bin/glasswatch", env!("CARGO_BIN_EXE_glasswatch"));
    fs::write(&unit, text).unwrap();
    valid(Command::new("systemd-analyze").arg("verify").arg(&unit));
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    let offline = ["security", "--offline=yes", "--no-pager", &threshold];
    valid(Command::new("systemd-analyze").args(offline).arg(&unit));
}

/// A value of `[package.metadata.deb]`; a list with its brackets. No table follows in the section.
fn deb(key: &str) -> String {
    let manifest = fs::read_to_string(root().join("../Cargo.toml")).unwrap();
    let (_, section) = manifest.split_once("\n[package.metadata.deb]\n").unwrap();
    let section = section.split("\n[").next().unwrap();
    let (_, value) = section.split_once(&format!("\n{key} = ")).unwrap();
    let end = match &value[..1] {
        "[" => value.find("]\n").unwrap() + 1,
        _ if value.starts_with("\"\"\"") => value[3..].find("\"\"\"").unwrap() + 6,
        _ => value.find('\n').unwrap(),
    };
    let value = value[..end].trim_matches('"').replace("\\\n", "");
    value.strip_suffix("\n").unwrap_or(&value).to_owned()
}

#[test]
fn the_package_depends_on_what_the_image_installs() {
    let depends = deb("depends");
    let depends: BTreeSet<_> = depends.split(',').map(|d| d.trim().to_owned()).collect();
    let mut wanted = image::packages(&image::stage(Some("libraries")));
    assert!(wanted.remove("tini"), "systemd reaps");
    wanted.extend(["$auto", "adduser"].map(str::to_owned));
    assert_eq!(depends, wanted);
}

#[test]
fn everything_that_is_packaged_exists() {
    let assets: serde_json::Value =
        serde_json::from_str(&deb("assets").replace(",\n]", "\n]")).unwrap();
    let base = root().join("..");
    let mut placed = BTreeSet::new();
    for asset in assets.as_array().unwrap() {
        let [from, to, mode] = [0, 1, 2].map(|i| asset[i].as_str().unwrap());
        let path = Path::new(from.trim_end_matches('*'));
        let built = from.starts_with("target/release/");
        assert!(built || base.join(path).exists(), "{from}");
        assert!(["644", "640", "755"].contains(&mode), "{from}");
        let name = path.file_name().unwrap().to_str().unwrap();
        placed.insert(match to.ends_with('/') {
            true => format!("/{to}{name}"),
            false => format!("/{to}"),
        });
    }
    let kept: Vec<String> = serde_json::from_str(&deb("conf-files")).unwrap();
    assert!(kept.iter().all(|file| placed.contains(file)), "{kept:?}");
    // The unit starts what is packaged, as a user that the package makes, with files that it brings.
    let unit = read("systemd/glasswatch.service");
    let value = |key: &str| unit.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    let program = value("ExecStart=").split(' ').next().unwrap();
    assert!(placed.contains(program), "{program}");
    assert!(kept.iter().any(|f| *f == value("EnvironmentFile=-")));
    assert!(
        kept.iter()
            .any(|f| *f == value("Environment=GLASSWATCH_CONFIG="))
    );
    let made = read("deb/postinst");
    assert!(made.contains("adduser") && made.contains(&format!(" {}\n", value("User="))));
    for script in ["deb/postinst", "deb/postrm"] {
        assert!(read(script).contains("\n#DEBHELPER#\n"), "{script}");
    }
    assert!(deb("systemd-units").contains("deploy/systemd/"));
}

//! `glasswatch analyze` over a folder of foreign media: nothing in it may crash it, hang it or end without a
//! named cause.
//!
//! The folder is `GLASSWATCH_MEDIA`, or `../shared/media` beside the project; without it nothing is tested. All
//! malformed files are tried, and a sample of the others; with `GLASSWATCH_MEDIA_ALL` set every file, for as long as
//! that takes (half an hour on one core).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use glasswatch::config::Rendition;
use glasswatch::transport::playlist::mpd::{self, Follower, Role};
use serde_json::Value as Json;

/// Containers that are read.
const PLAYABLE: [&str; 13] = [
    "ts", "m2ts", "mts", "mp4", "m4v", "m4a", "mov", "mkv", "webm", "m3u8", "aac", "mp3", "ac3",
];

/// Words in paths of files that are broken on purpose.
const MALFORMED: [&str; 6] = [
    "fuzz",
    "truncated",
    "invalid",
    "corrupt",
    "malformed",
    "bad",
];

/// The sample of files that are not malformed: one in so many, of at most so many bytes.
const ONE_IN: usize = 8;
const SAMPLE_BYTES: u64 = 1 << 20;

/// Longest run on one file, of the sample and of all.
const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_OF_ALL: Duration = Duration::from_secs(1200);

/// Files on which GStreamer 1.22's own Matroska demultiplexer trips over an assertion of its log. That is harmless,
/// and theirs; anything else that GLib calls critical is a fault.
const CRITICAL: [&str; 3] = [
    "invalid_vp9_bitstream-bug_1416.webm",
    "invalid_vp9_bitstream-bug_1417.webm",
    "metadata_block.webm",
];

/// Processes at a time.
const SIDE_BY_SIDE: usize = 2;

fn all_wanted() -> bool {
    std::env::var_os("GLASSWATCH_MEDIA_ALL").is_some()
}

fn folder() -> PathBuf {
    std::env::var_os("GLASSWATCH_MEDIA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/media"),
        PathBuf::from,
    )
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, into),
            false => into.push(path),
        }
    }
}

/// What is tried, always the same.
fn chosen(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    walk(root, &mut all);
    all.sort();
    let name = |path: &Path| {
        let name = path.strip_prefix(root).unwrap().to_string_lossy();
        name.to_lowercase()
    };
    if all_wanted() {
        return all;
    }
    let (malformed, others): (Vec<PathBuf>, Vec<PathBuf>) = all
        .into_iter()
        .filter(|path| !path.to_string_lossy().ends_with("LICENSE"))
        .partition(|path| MALFORMED.iter().any(|word| name(path).contains(word)));
    let playable = |path: &PathBuf| {
        let known = path.extension().and_then(|e| e.to_str());
        known.is_some_and(|e| PLAYABLE.contains(&e.to_lowercase().as_str()))
            && path.metadata().is_ok_and(|m| m.len() <= SAMPLE_BYTES)
    };
    let sample = others.into_iter().filter(playable).step_by(ONE_IN);
    malformed.into_iter().chain(sample).collect()
}

/// What is wrong with a run on `path`, if anything.
fn fault(path: &Path) -> Option<String> {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_glasswatch"));
    if !CRITICAL.iter().any(|name| path.ends_with(name)) {
        command.env("G_DEBUG", "fatal-criticals");
    }
    let limit = if all_wanted() { LIMIT_OF_ALL } else { LIMIT };
    let args = [
        "analyze",
        path.to_str()?,
        "--format",
        "jsonl",
        "--jobs",
        "1",
    ];
    let done = command.args(args).timeout(limit).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    let wrong = |what: &str| Some(format!("{}: {what}: {err}", path.display()));
    if err.contains("panicked") {
        return wrong("a panic");
    }
    let Some(code) = done.status.code() else {
        return wrong("a crash, or no end in time");
    };
    let Some(Ok(summary)) = out.lines().last().map(serde_json::from_str::<Json>) else {
        return wrong(&format!("exit {code} without a summary"));
    };
    let told = err
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("glasswatch: ")?.split_once(": "));
    match (code, told) {
        (0, _) if summary["video_frames"] != 0 || summary["audio_secs"] != 0.0 => None,
        (3, Some((cause, detail))) if summary["input_cause"] == cause && !detail.is_empty() => None,
        (3, _) => wrong("no named cause"),
        _ => wrong(&format!("exit {code}")),
    }
}

#[test]
fn foreign_media_end_decoded_or_with_a_named_cause() {
    let root = folder();
    if !root.is_dir() {
        println!("skipped: there is no folder {}", root.display());
        return;
    }
    let files = Mutex::new(chosen(&root));
    let count = files.lock().unwrap().len();
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(path) = { files.lock().unwrap().pop() } {
                    faults.lock().unwrap().extend(fault(&path));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "{} of {count}: {faults:#?}",
        faults.len()
    );
    assert!(count > 0, "no media in {}", root.display());
    println!("{count} files");
}

/// Where one track has no decoder here, the other plays, and that is not called success.
#[test]
fn pictures_without_a_decoder_are_missed_although_the_sound_plays() {
    let path = folder().join(
        "Dash-Industry-Forum_livesim2/cmd/livesim2/app/testdata/assets/testpic_2s_vvc/Manifest.mpd",
    );
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_glasswatch"))
        .args(["analyze", "--format", "jsonl", "--fail-on", "critical"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Json> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, defects) = lines.split_last().unwrap();
    assert_eq!(summary["video_frames"], 0);
    assert!(summary["audio_secs"].as_f64().unwrap() > 7.0, "{summary}");
    let missed = |line: &Json| line["detector"] == "loss" && line["track"] == "video:0";
    assert!(defects.iter().any(missed), "{text}");
}

/// A packager may cut the coded pictures anywhere between PES packets.
#[test]
fn pictures_cut_anywhere_between_pes_packets_decode_whole() {
    let path = folder()
        .join("shaka-project_shaka-player/test/test/assets/hls-ts-audio-muxed-in-video/main.ts");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_glasswatch"))
        .args(["analyze", "--format", "jsonl"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let summary: Json = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(summary["video_frames"], 1825);
    assert!(!text.contains("\"critical\""), "{text}");
}

/// Every manifest gives a plan (segments to read) or a named refusal, at several moments of its life.
#[test]
fn foreign_manifests_give_a_plan_or_a_named_error() {
    let root = folder();
    if !root.is_dir() {
        println!("skipped: there is no folder {}", root.display());
        return;
    }
    let mut all = Vec::new();
    walk(&root, &mut all);
    all.retain(|path| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("mpd"))
    });
    all.sort();
    let (mut plans, mut refusals) = (0, 0);
    for path in &all {
        let url = url::Url::from_file_path(path).unwrap();
        let told = match mpd::parse(&std::fs::read(path).unwrap(), &url) {
            Err(error) => Err(error.to_string()),
            Ok(mpd) => {
                let mut follower = Follower::new(Role::Main, Rendition::Highest);
                let week = 7 * 86_400 * 1_000_000_000;
                let mut last = Err("nothing".to_owned());
                for at in [0, week, i64::MAX / 2] {
                    let at = mpd.available_from.saturating_add(at);
                    let updated = follower.update(&mpd, at, Duration::ZERO);
                    last = updated.map(|_| ()).map_err(|error| error.to_string());
                }
                last.map(|()| follower.current().unwrap().1.segments.len())
            }
        };
        match &told {
            Ok(segments) => {
                assert!(*segments > 0, "{}", path.display());
                plans += 1;
            }
            Err(error) => {
                assert!(!error.is_empty());
                refusals += 1;
            }
        }
        println!("{}: {told:?}", path.strip_prefix(&root).unwrap().display());
    }
    println!("{plans} plans, {refusals} refusals");
    assert!(all.is_empty() || plans > refusals);
}

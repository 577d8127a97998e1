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

use detectors::base::{TsCheck, TsErrors};
use glasswatch::config::Rendition;
use glasswatch::transport::playlist::mpd::{self, Follower, Role};
use glasswatch::transport::scte35;
use glasswatch::transport::ts::{Demux, TsEvent};
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

/// What the checks of TR 101 290 find in a capture, and how many splice sections are in it.
fn checked(path: &Path, continuous: bool) -> (TsErrors, usize) {
    let demux = Demux::new(None);
    let mut demux = match continuous {
        true => demux.continuous(),
        false => demux,
    };
    let (mut all, mut splices) = (TsErrors::default(), 0);
    let mut take = |event| match event {
        TsEvent::Checked(mut errors) => {
            errors.absorb(&all);
            all = errors;
        }
        TsEvent::Splice { section } => {
            scte35::parse(&section).unwrap();
            splices += 1;
        }
        _ => {}
    };
    demux.push(&std::fs::read(path).unwrap(), &mut take);
    demux.finish(&mut take);
    (all, splices)
}

/// Errors by check, those that are.
fn told(errors: &TsErrors) -> Vec<(TsCheck, u32)> {
    let counted = TsCheck::ALL.iter().map(|c| (*c, errors.count(*c)));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// No capture of the set has lost a packet, except those whose losses are known; and none is said to have.
#[test]
fn lost_packets_of_foreign_captures_are_counted_and_none_invented() {
    /// Captures that lost packets, if they are there.
    const LOSSY: [&str; 6] = [
        "test-089",
        "test-143",
        "test-094",
        "test-059",
        "test-147",
        "teletext_live",
    ];
    let root = folder();
    if !root.is_dir() {
        println!("skipped: there is no folder {}", root.display());
        return;
    }
    let mut all = Vec::new();
    walk(&root, &mut all);
    all.retain(|path| path.extension().is_some_and(|e| e == "ts"));
    let mut faults = Vec::new();
    for path in &all {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy();
        let (errors, _) = checked(path, false);
        println!("{name}: {:?}", told(&errors));
        let lossy = LOSSY.iter().any(|l| name.contains(l));
        if lossy != (errors.count(TsCheck::ContinuityCountError) > 0) {
            faults.push(name.into_owned());
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(!all.is_empty());
}

/// Captures of continuous multiplexes, with what is known of them.
#[test]
fn continuous_captures_are_judged_by_time_as_well() {
    const DVB: &str = "Cinegy_TsDecoder/Cinegy.TsDecoder.Tests/TestStreams";
    const ANDROID: &str = "androidx_media/libraries/test_data/src/test/assets/media/ts";
    let root = folder();
    // A cut of a whole DVB multiplex; constant rates, one of them over the wrap of the clock.
    let rows: [(&str, &str, bool, usize); 4] = [
        (DVB, "cut-2ts.ts", false, 0),
        (DVB, "SD-H264-1mbps-Bars.ts", true, 0),
        (ANDROID, "sample_ac3.ts", false, 0),
        (ANDROID, "sample_scte35.ts", false, 3),
    ];
    for (dir, name, constant, splices) in rows {
        let path = root.join(dir).join(name);
        if !path.exists() {
            println!("skipped: {} is not there", path.display());
            continue;
        }
        let (errors, found) = checked(&path, true);
        println!("{name}: {errors:?}, {found} splice sections");
        assert_eq!(told(&errors), [], "{name}");
        assert_eq!(errors.pcr_inaccuracy_nanos.is_some(), constant, "{name}");
        assert_eq!(found, splices, "{name}");
    }
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

const LIVESIM: &str = "Dash-Industry-Forum_livesim2/cmd/livesim2/app/testdata/assets";
const SHAKA: &str = "shaka-project_shaka-player/test/test/assets";

/// Presentations of others: their pictures and whole seconds of sound.
const PRESENTATIONS: [(&str, &str, u64, u64); 12] = [
    (LIVESIM, "WAVE/av/combined.mpd", 200, 9),
    (LIVESIM, "bbb_hevc_ac3_8s/manifest.mpd", 192, 7),
    (LIVESIM, "testpic_2s/Manifest.mpd", 240, 8),
    (LIVESIM, "testpic_2s/Manifest_endNumber.mpd", 240, 8),
    (LIVESIM, "testpic_2s/Manifest_imsc1.mpd", 240, 8),
    (LIVESIM, "testpic_2s_av1/Manifest.mpd", 250, 10),
    (LIVESIM, "testpic_2s_low_delay/Manifest.mpd", 240, 8),
    (LIVESIM, "testpic_6s/Manifest.mpd", 360, 12),
    (LIVESIM, "testpic_8s/Manifest.mpd", 240, 8),
    (LIVESIM, "testpic_alt_seg_dur_stl/Manifest.mpd", 360, 12),
    (SHAKA, "dash-audio-ac3/dash.mpd", 0, 4),
    (SHAKA, "dash-mpd-alternate/dash.mpd", 480, 0),
];

#[test]
fn foreign_presentations_decode_whole() {
    for (from, name, pictures, seconds) in PRESENTATIONS {
        let path = folder().join(from).join(name);
        if !path.exists() {
            println!("skipped: {} is not there", path.display());
            continue;
        }
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_glasswatch"));
        let args = ["analyze", "--format", "jsonl", "--jobs", "1"];
        let done = command.args(args).arg(&path).timeout(LIMIT).output();
        let text = String::from_utf8(done.unwrap().stdout).unwrap();
        let summary: Json = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(summary["video_frames"], pictures, "{name}");
        let heard = summary["audio_secs"].as_f64().unwrap();
        assert_eq!(heard as u64, seconds, "{name}: {heard}");
        assert_eq!(summary["input_cause"], Json::Null, "{name}");
    }
}

/// One state of a foreign manifest becomes the next by a patch.
#[test]
fn foreign_manifests_are_patched() {
    let root = folder().join("Dash-Industry-Forum_livesim2/pkg/patch/testdata");
    let url = url::Url::parse("http://a.example/live.mpd").unwrap();
    for (old, new) in [
        ("testpic_2s_1", "testpic_2s_2"),
        ("testpic_2s_snr_1", "testpic_2s_snr_2"),
        ("multiperiod_1", "multiperiod_2"),
        (
            "segtimeline_multiper_full_min",
            "segtimeline_multiper_after_full_min",
        ),
    ] {
        let read = |name: &str| std::fs::read_to_string(root.join(format!("{name}.mpd")));
        let (Ok(old), Ok(new)) = (read(old), read(new)) else {
            println!("skipped: there is no {old} in {}", root.display());
            continue;
        };
        let inside = |text: &str, from: &str, to: &str| {
            let from = text.find(from).unwrap();
            let to = text.rfind(to).unwrap() + to.len();
            text[from..to].to_owned()
        };
        let published = |text: &str| {
            let (_, rest) = text.split_once("publishTime=\"").unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let id = inside(&old, " id=\"", " profiles");
        let id = id.split('"').nth(1).unwrap();
        let removed = "<remove sel='/MPD/Period[1]'/>".repeat(old.matches("<Period ").count());
        let patch = format!(
            "<Patch mpdId='{id}' originalPublishTime='{}' publishTime='{}'>\
             <replace sel='/MPD/@publishTime'>{}</replace>\
             <replace sel='/MPD/PatchLocation[1]'>{}</replace>{removed}\
             <add sel='/MPD/PatchLocation' pos='after'>{}</add></Patch>",
            published(&old),
            published(&new),
            published(&new),
            inside(&new, "<PatchLocation", "</PatchLocation>"),
            inside(&new, "<Period ", "</Period>"),
        );
        let whole = |text: &str| mpd::parse(text.as_bytes(), &url).unwrap();
        let patched = whole(&old).patched(patch.as_bytes()).unwrap();
        let expected = whole(&new);
        assert!(!expected.periods.is_empty() && expected.patch.is_some());
        assert_eq!(patched.periods, expected.periods);
        assert_eq!(patched.patch, expected.patch);
        assert_ne!(patched.patch, whole(&old).patch);
    }
}

/// Plays all renditions of a master; the lines that were told, the last of which is the summary.
fn ladder(master: &Path) -> Vec<Json> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_glasswatch"))
        .args(["analyze", "--format", "jsonl", "--set", "rendition=all"])
        .arg(master)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}: {said}",
        master.display()
    );
    let told = String::from_utf8(output.stdout).unwrap();
    told.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn frames(told: &[Json]) -> u64 {
    told.last().unwrap()["video_frames"].as_u64().unwrap()
}

/// What is told of the one rendition that is missing: its cause.
fn missing(told: &[Json]) -> &Json {
    let of_member = |line: &&Json| line["detector"] == "loss" && !line["member"].is_null();
    &told.iter().find(of_member).unwrap()["cause"]
}

/// Each ladder as it is, and with the playlist of one rendition taken away.
#[test]
fn foreign_ladders_are_decoded_and_play_on_without_one_rendition() {
    for (of, master, lost) in [
        (
            "membraneframework_membrane_http_adaptive_stream_plugin/test/membrane_http_adaptive_stream/\
             integration_test/fixtures/audio_multiple_video_tracks",
            "index.m3u8",
            "video_480x270.m3u8",
        ),
        (
            "shaka-project_shaka-player/test/test/assets/hls-multivideo",
            "master.m3u8",
            "red_2.m3u8",
        ),
    ] {
        let from = folder().join(of);
        if !from.is_dir() {
            println!("skipped: there is no folder {}", from.display());
            continue;
        }
        let told = ladder(&from.join(master));
        let whole = frames(&told);
        assert!(
            told.iter().all(|line| line["detector"] != "loss"),
            "{told:#?}"
        );
        let without = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&from).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != lost {
                std::fs::copy(entry.path(), without.path().join(entry.file_name())).unwrap();
            }
        }
        let told = ladder(&without.path().join(master));
        let left = frames(&told);
        println!("{of}: {whole} pictures, {left} without {lost}");
        assert!(left > 0 && left < whole, "{of}: {left} of {whole}");
        assert_eq!(missing(&told), "file_unreadable");
    }
}

/// Of this ladder the set lacks the segments of the upper rendition.
#[test]
fn a_foreign_ladder_that_lacks_a_rendition_is_played() {
    let master =
        folder().join("shaka-project_shaka-player/test/test/assets/hls-muxed-mp4-ts/master.m3u8");
    if !master.exists() {
        println!("skipped: {} is not there", master.display());
        return;
    }
    let told = ladder(&master);
    assert_eq!(
        (frames(&told), missing(&told)),
        (240, &Json::from("file_unreadable"))
    );
}

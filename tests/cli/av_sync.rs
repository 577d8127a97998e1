//! Sound against picture, as `glasswatch analyze` tells it: by a reference, by a test signal, by edges, by
//! timestamps.

use std::path::Path;

use serde_json::Value as Json;

use crate::rig::*;

fn rules(done: &Done) -> Vec<String> {
    let rule = |d: &Json| format!("{}/{}", d["detector"], d["rule"]).replace('"', "");
    done.defects().iter().map(rule).collect()
}

#[test]
fn late_sound_is_measured_against_a_reference_where_timestamps_are_perfect() {
    let dir = tempfile::tempdir().unwrap();
    let reference = lively(1, 16).write(dir.path(), "reference.ts");
    let mut late = lively(1, 16);
    late.sound_late_ms = 120;
    let late = late.write(dir.path(), "late.ts");
    let other = ["--reference", reference.to_str().unwrap()];

    let done = analyze(&late, &other);
    let sync = done.av_sync("reference");
    let early = sync["audio_early_secs"].as_f64().unwrap();
    assert!((early + 0.12).abs() <= 0.002, "{sync}");
    assert!(sync["confidence"].as_f64().unwrap() >= 8.0, "{sync}");
    assert!(sync["coverage"].as_f64().unwrap() >= 0.3, "{sync}");
    assert_eq!(sync["track"], "audio:0");
    let pictures = sync["video_delay_secs"].as_f64().unwrap();
    assert!(pictures.abs() <= 0.002, "{sync}");
    assert_eq!(rules(&done), ["av_reference/audio_late"], "{done:?}");
    let says = done.defects()[0]["sentence"].as_str().unwrap().to_owned();
    assert!(says.contains("Audio 120 ms late"), "{says}");
    // The timestamps see nothing of it.
    assert_eq!(done.av_sync("timestamps")["audio_early_secs"], 0.0);

    let done = analyze(&reference, &other);
    let early = done.av_sync("reference")["audio_early_secs"].clone();
    assert!(early.as_f64().unwrap().abs() <= 0.0005, "{done:?}");
    assert_eq!(rules(&done), [] as [&str; 0]);

    let text = run(["analyze", late.to_str().unwrap(), other[0], other[1]]);
    assert!(
        text.out
            .contains("A/V sync by reference on audio:0: audio 120 ms late"),
        "{text:?}"
    );
}

#[test]
fn another_programme_is_no_reference() {
    let dir = tempfile::tempdir().unwrap();
    let reference = lively(1, 36).write(dir.path(), "reference.ts");
    let other = lively(7, 36).write(dir.path(), "other.mp4");
    let done = analyze(&other, &["--reference", reference.to_str().unwrap()]);
    assert_eq!(rules(&done), ["av_reference/wrong_programme"], "{done:?}");
    let sync = done.av_sync("reference");
    assert_eq!(sync["audio_early_secs"], Json::Null, "{sync}");
    assert_eq!(sync["coverage"], 0.0, "{sync}");
}

#[test]
fn a_reference_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let input = lively(1, 2).write(dir.path(), "a.ts");
    let done = analyze(&input, &["--reference", "/nowhere/b.ts"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.err.contains("reference: file_unreadable"), "{done:?}");
    assert_eq!(done.out, "", "{done:?}");
}

#[test]
fn a_reference_needs_its_detector() {
    let dir = tempfile::tempdir().unwrap();
    let input = lively(1, 2).write(dir.path(), "a.ts");
    let off = [
        "--reference",
        input.to_str().unwrap(),
        "--set",
        "detectors.av_reference=false",
    ];
    let done = analyze(&input, &off);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.err.contains("av_reference, which is off"), "{done:?}");
}

#[test]
fn a_test_signal_is_measured_without_configuration() {
    let dir = tempfile::tempdir().unwrap();
    // A transport stream cannot tell the priming of AAC: its sound is later by 1024 samples.
    let priming_secs = 1_024.0 / 48_000.0;
    for (early_ms, told) in [
        (120, "audio_early_unacceptable"),
        (-80, "audio_late"),
        (20, ""),
    ] {
        let mut programme = clean(14);
        programme.show = Show::Flashes { early_ms };
        programme.to = 14;
        let path = programme.write(dir.path(), "signal.ts");
        let done = analyze(&path, &[]);
        let sync = done.av_sync("pattern");
        let early = sync["audio_early_secs"].as_f64().unwrap();
        let truth = early_ms as f64 / 1e3 - priming_secs;
        // Half a picture.
        assert!((early - truth).abs() <= 0.02, "{sync}");
        assert!(sync["confidence"].as_f64().unwrap() >= 5.0, "{sync}");
        let told_of_it = rules(&done)
            .iter()
            .any(|r| *r == format!("av_pattern/{told}"));
        assert!(told_of_it || told.is_empty(), "{done:?}");
        let any = rules(&done).iter().any(|r| r.starts_with("av_pattern"));
        assert_eq!(any, !told.is_empty(), "{done:?}");
    }
}

/// Cuts with steps of the sound, which is later from some time on.
#[test]
fn sound_that_moves_against_cuts_is_told_where_timestamps_are_perfect() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape {
        size: (96, 54),
        pictures_hz: 10,
        rate_hz: 16_000,
        secs: 640,
    };
    let (moved, late) = (480.0, 0.15);
    // Shots of five to eleven seconds, in whole pictures.
    let ends = (1..80u64).scan(0, |at, n| {
        *at += 50 + n * n * 7 % 61;
        Some(*at)
    });
    let ends: Vec<u64> = ends.collect();
    let shot = |picture: u64| ends.partition_point(|end| *end <= picture);
    let picture = |index: u64| {
        let scene = shot(index) * 37 + 5;
        let luma = (0..96 * 54).map(|i| (30 + (i * scene / 11 + i / 96 * scene) % 190) as u8);
        luma.chain([128; 96 * 54 / 2]).collect()
    };
    let sound = |block: u64| {
        let sample = |frame: u64| {
            let at = frame as f64 / 16_000.0;
            let at = if at < moved { at } else { at - late };
            let loud = shot((at * 10.0) as u64) % 2 == 0;
            let noise = (frame.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32;
            (noise - 0.5) * if loud { 0.6 } else { 0.03 }
        };
        let frames = block * 1024..(block + 1) * 1024;
        frames.flat_map(|f| sample(f).to_le_bytes()).collect()
    };
    let path = dir.path().join("cuts.ts");
    shape.encode(&path, picture, sound);
    let done = analyze(&path, &["--set", "detectors.stutter=false"]);
    let told = rules(&done);
    assert!(told.contains(&"av_edges/audio_late".to_owned()), "{done:?}");
    assert!(
        !told.contains(&"av_edges/audio_early".to_owned()),
        "{done:?}"
    );
    let sync = done.av_sync("edges");
    let early = sync["audio_early_secs"].as_f64().unwrap();
    assert!((early + late).abs() <= 0.02, "{sync}");
    assert_eq!(done.av_sync("timestamps")["audio_early_secs"], 0.0);
}

/// Two copies of a programme, with their sound so late; and the configuration of one stream.
fn copies(dir: &Path, secs: u64, late_ms: [u64; 2]) -> impl Fn(&str, &str) -> String {
    for (name, late_ms) in ["contribution.ts", "delivery.ts"].iter().zip(late_ms) {
        let mut copy = lively(1, secs);
        copy.sound_late_ms = late_ms;
        copy.write(dir, name);
    }
    let dir = dir.display().to_string();
    move |id, more| {
        let only =
            "av_reference: true, black: false, freeze: false, stutter: false, block_damage: false";
        format!("  - {{id: {id}, url: {dir}/{id}.ts, detectors: {{{only}}}{more}}}\n")
    }
}

fn told(daemon: &Daemon, kind: &str) -> Option<Json> {
    let lines = daemon.out();
    let mut events = lines
        .lines()
        .filter_map(|l| serde_json::from_str::<Json>(l).ok());
    events.find(|e| e["type"] == kind && e["detector"] == "av_reference")
}

fn start(dir: &Path, name: &str, streams: &str) -> Daemon {
    let path = dir.join(name).with_extension("yaml");
    let data = dir.join(name);
    let text = format!(
        "version: 1\ninstance: {{data_dir: {}}}\nstreams:\n{streams}",
        data.display()
    );
    std::fs::write(&path, text).unwrap();
    Daemon::start(&["--config", path.to_str().unwrap(), "--events", "-"])
}

#[test]
fn streams_of_one_process_are_compared_while_they_run() {
    let dir = tempfile::tempdir().unwrap();
    let stream = copies(dir.path(), 40, [0, 120]);
    let streams = [
        stream("contribution", ""),
        stream("delivery", ", reference: contribution"),
    ];
    let mut daemon = start(dir.path(), "one", &streams.concat());
    let raised = daemon.until("the late sound", |d| told(d, "raise"));
    assert_eq!(raised["stream"], "delivery", "{raised}");
    assert_eq!(raised["rule"], "audio_late", "{raised}");
    let early = raised["value"].as_f64().unwrap();
    assert!((early + 0.12).abs() <= 0.003, "{raised}");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn streams_of_two_processes_are_compared_and_a_reference_that_goes_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let stream = copies(dir.path(), 50, [70, 0]);
    let contribution = start(dir.path(), "contribution", &stream("contribution", ""));
    let reference = format!(
        ", blind_after: 15s, reference: \"http://127.0.0.1:{}/api/v1/streams/contribution\"",
        contribution.port()
    );
    let mut delivery = start(dir.path(), "delivery", &stream("delivery", &reference));
    let raised = delivery.until("the early sound", |d| told(d, "raise"));
    assert_eq!(raised["rule"], "audio_early", "{raised}");
    let early = raised["value"].as_f64().unwrap();
    assert!((early - 0.07).abs() <= 0.003, "{raised}");

    assert_eq!(contribution.stop().code, Some(0));
    delivery.logged("no reference");
    let blind =
        r#"glasswatch_defect_active{stream="delivery",detector="av_reference",rule="blind""#;
    delivery.until("blindness", |d| {
        d.get("/metrics").contains(blind).then_some(())
    });
    let done = delivery.stop();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!done.out.contains("wrong_programme"), "{}", done.out);
}

//! Sound against picture, as `glasswatch analyze` tells it: by a reference, by a test signal, by timestamps.

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

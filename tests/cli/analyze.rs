//! `glasswatch analyze` over files made here.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;

use crate::rig::*;

fn secs(line: &Json, key: &str) -> f64 {
    line[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key}: {line}"))
}

/// The only defect of `rule`; it must begin and end where it should.
fn only(done: &Done, detector: &str, start: f64, end: f64) -> Json {
    let found = done.defects();
    assert_eq!(found.len(), 1, "{done:?}");
    let line = found[0].clone();
    assert_eq!(line["detector"], detector, "{line}");
    assert!((secs(&line, "start_secs") - start).abs() <= 0.2, "{line}");
    assert!((secs(&line, "end_secs") - end).abs() <= 0.5, "{line}");
    line
}

fn without_cpu(done: &Done) -> Vec<Json> {
    let mut lines = done.lines();
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("cpu_secs");
    }
    lines
}

#[test]
fn a_clean_programme_has_no_defects() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.ts", "a.mp4", "a.mkv"] {
        let path = clean(6).write(dir.path(), name);
        let done = analyze(&path, &["--fail-on", "info"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(done.err, "", "{name}");
        assert_eq!(done.defects(), [] as [Json; 0], "{done:?}");
        let summary = done.summary();
        let keys: BTreeSet<&str> = summary.as_object().unwrap().keys().map(|k| &**k).collect();
        let wanted = [
            "type",
            "duration_secs",
            "video_frames",
            "audio_secs",
            "coverage",
            "cpu_secs",
            "defects",
        ];
        assert_eq!(keys, BTreeSet::from(wanted), "{name}");
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["video_frames"], 150, "{name}");
        assert_eq!(summary["defects"], 0, "{name}");
        assert!(
            (secs(&summary, "duration_secs") - 6.0).abs() < 0.2,
            "{summary}"
        );
        assert!(
            (secs(&summary, "audio_secs") - 6.0).abs() < 0.1,
            "{summary}"
        );
        assert!(secs(&summary, "cpu_secs") > 0.0, "{summary}");
        for detector in ["black", "freeze", "silence"] {
            let share = secs(&summary["coverage"], detector);
            assert!((0.8..=1.0).contains(&share), "{detector}: {summary}");
        }
    }
}

#[test]
fn a_freeze_that_was_encoded_again_is_found_where_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let path = clean(12)
        .showing(Show::Still, 3, 9)
        .write(dir.path(), "a.ts");
    let done = analyze(&path, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    // The clock of the multiplexer does not begin at zero; the report's does.
    let line = only(&done, "freeze", 3.0, 9.0);
    for key in [
        "type",
        "detector",
        "track",
        "severity",
        "start_secs",
        "end_secs",
        "value",
        "limit",
        "id",
    ] {
        assert!(!line[key].is_null(), "{key}: {line}");
    }
    assert_eq!(line["type"], "defect");
    assert_eq!(line["rule"], "frozen");
    assert_eq!(line["track"], "video:0");
    assert_eq!(line["severity"], "warning");
    assert_eq!(line["limit"], 2.0);
    assert!((secs(&line, "value") - 6.0).abs() <= 0.5, "{line}");
    // Told two seconds into the freeze, as a live watch tells it.
    assert!((secs(&line, "raised_secs") - 5.0).abs() <= 0.3, "{line}");
    assert_eq!(done.summary()["defects"], 1);
}

#[test]
fn black_and_silence_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let black = clean(9)
        .showing(Show::Black, 2, 6)
        .write(dir.path(), "b.ts");
    let line = only(&analyze(&black, &[]), "black", 2.0, 6.0);
    assert_eq!(
        (&line["track"], &line["rule"]),
        (&"video:0".into(), &"black".into())
    );
    let silent = clean(12).silent(3, 9).write(dir.path(), "s.mp4");
    let line = only(&analyze(&silent, &[]), "silence", 3.0, 9.0);
    assert_eq!(
        (&line["track"], &line["rule"]),
        (&"audio:0".into(), &"silent".into())
    );
}

#[test]
fn lines_come_in_start_order_and_twice_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = clean(14)
        .showing(Show::Black, 4, 10)
        .silent(4, 10)
        .write(dir.path(), "a.ts");
    let first = analyze(&path, &[]);
    let defects = first.defects();
    let names: BTreeSet<&str> = defects
        .iter()
        .filter_map(|d| d["detector"].as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(["black", "silence"]), "{first:?}");
    let starts: Vec<f64> = defects.iter().map(|d| secs(d, "start_secs")).collect();
    assert!(starts.is_sorted(), "{starts:?}");
    for jobs in ["1", "4"] {
        let again = analyze(&path, &["--jobs", jobs]);
        assert_eq!(without_cpu(&first), without_cpu(&again), "{jobs} jobs");
    }
}

#[test]
fn the_exit_code_follows_the_worst_defect() {
    let dir = tempfile::tempdir().unwrap();
    let path = clean(7)
        .showing(Show::Black, 2, 6)
        .write(dir.path(), "a.ts");
    for (more, code) in [
        (&["--fail-on", "critical"][..], 1),
        (&["--fail-on", "info"], 1),
        (&[], 0),
        (
            &[
                "--fail-on",
                "critical",
                "--set",
                "detectors.black.rules.black.severity=warning",
            ],
            0,
        ),
        (&["--fail-on", "info", "--set", "detectors.black=false"], 0),
    ] {
        let done = analyze(&path, more);
        assert_eq!(done.code, Some(code), "{more:?} {done:?}");
    }
}

#[test]
fn text_tells_the_same_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = clean(7)
        .showing(Show::Black, 2, 6)
        .write(dir.path(), "a.ts");
    let done = run(["analyze", path.to_str().unwrap()]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    let first = done.out.lines().next().unwrap();
    assert!(first.starts_with("00:00:0"), "{first}");
    assert!(
        first.contains("critical  black/black on video:0"),
        "{first}"
    );
    assert!(done.out.contains("175 pictures"), "{}", done.out);
}

#[test]
fn inputs_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, data: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, data).unwrap();
        path
    };
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    })
    .take(300_000)
    .collect();
    let whole = std::fs::read(clean(3).write(dir.path(), "whole.mp4")).unwrap();
    for (path, cause) in [
        (dir.path().join("none.ts"), "file_unreadable"),
        (dir.path().join("none.m3u8"), "file_unreadable"),
        (dir.path().to_owned(), "file_unreadable"),
        (file("noise.ts", &noise), "unsupported_format"),
        (file("noise.mp4", &noise), "unsupported_format"),
        (file("empty.ts", b""), "truncated"),
        (file("text.m3u8", b"hello\n"), "playlist_invalid"),
        (file("cut.mp4", &whole[..whole.len() / 2]), "truncated"),
    ] {
        let done = analyze(&path, &[]);
        assert_eq!(done.code, Some(3), "{path:?} {done:?}");
        let told = format!("glasswatch: {cause}: ");
        let last = done.err.lines().last().unwrap();
        assert!(last.starts_with(&told), "{path:?} {}", done.err);
        let summary = done.summary();
        assert_eq!(summary["input_cause"], cause, "{path:?}");
        assert_eq!(summary["video_frames"], 0, "{path:?}");
    }
}

#[test]
fn a_cut_transport_stream_is_judged_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(clean(6).write(dir.path(), "whole.ts")).unwrap();
    let cut = dir.path().join("cut.ts");
    std::fs::write(&cut, &whole[..whole.len() / 2 + 77]).unwrap();
    let done = analyze(&cut, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary = done.summary();
    let pictures = summary["video_frames"].as_u64().unwrap();
    assert!((50..110).contains(&pictures), "{summary}");
    // The last picture is cut, and may be told; nothing before it.
    let end = secs(&summary, "duration_secs");
    for line in done.defects() {
        assert!(secs(&line, "start_secs") > end - 0.1, "{line} in {end}");
    }
}

#[test]
fn losses_outside_pictures_and_sound_are_the_multiplexs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(clean(6).write(dir.path(), "whole.ts")).unwrap();
    let mut with_losses = Vec::new();
    for (n, packet) in whole.chunks(188).enumerate() {
        with_losses.extend_from_slice(packet);
        if n % 5 == 0 {
            // Data of a kind that nobody decodes here, of which only every third packet came.
            let mut other = [0x5a; 188];
            other[..4].copy_from_slice(&[0x47, 0x1f, 0x00, 0x10 | (n / 5 * 3 % 16) as u8]);
            with_losses.extend_from_slice(&other);
        }
    }
    let path = dir.path().join("losses.ts");
    std::fs::write(&path, with_losses).unwrap();
    let done = analyze(&path, &["--fail-on", "critical"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.summary()["video_frames"], 150);
    let defects = done.defects();
    assert!(!defects.is_empty() && defects.iter().all(|d| d["detector"] == "ts"));
}

#[test]
fn wrong_settings_and_wrong_usage_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any.ts");
    let path = path.to_str().unwrap();
    for (set, told) in [
        ("detectors.freeze.rules.frozen.raise=soon", "raise"),
        ("detectors.freze=false", "freeze"),
        ("detectors.black.black_ratio=7", "0.5"),
        ("nonsense=1", "nonsense"),
    ] {
        let done = run(["analyze", path, "--set", set]);
        assert_eq!(done.code, Some(4), "{set} {done:?}");
        assert!(done.err.contains(told), "{set} {}", done.err);
        assert_eq!(done.out, "", "{set}");
    }
    for args in [
        &["analyze"][..],
        &["analyze", path, "--set", "detectors.black"],
        &["analyze", path, "--fail-on", "everything"],
        &["analyze", path, "--jobs", "0"],
        &["frobnicate"],
        &[],
    ] {
        let done = run(args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(
            done.err.contains("--help") || done.err.contains("Usage"),
            "{done:?}"
        );
    }
}

#[test]
fn signals_are_written_as_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = clean(6)
        .showing(Show::Black, 2, 5)
        .write(dir.path(), "a.ts");
    let table = dir.path().join("signals.csv");
    let done = analyze(&path, &["--signals", table.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = std::fs::read_to_string(&table).unwrap();
    let mut lines = text.lines();
    let head = "media_secs,track,detector,signal,value,unmeasurable";
    assert_eq!(lines.next(), Some(head));
    let mut peak = 0.0_f64;
    let mut rows = 0;
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [at, track, detector, signal, value, why] = fields[..] else {
            panic!("{line}");
        };
        assert_ne!(value.is_empty(), why.is_empty(), "{line}");
        if (detector, signal) == ("black", "black_secs") && !value.is_empty() {
            assert_eq!(track, "video:0");
            let at: f64 = at.parse().unwrap();
            assert!((0.0..6.5).contains(&at), "{line}");
            peak = peak.max(value.parse().unwrap());
            rows += 1;
        }
    }
    assert!(rows >= 100, "{rows} readings of black");
    assert!((2.8..3.3).contains(&peak), "{peak} s of black");
    let nowhere = dir.path().join("no/such/folder.csv");
    let done = analyze(&path, &["--signals", nowhere.to_str().unwrap()]);
    assert_eq!(done.code, Some(70), "{done:?}");
    assert!(done.err.contains("cannot write the signals"), "{done:?}");
}

fn grouped(dir: &Path) -> String {
    let path = dir.join("groups.yaml");
    let text = "version: 1
groups: {sound: [silence], pictures: [black, freeze]}
streams: [{id: any, url: 'srt://encoder.example.com:9000'}]
";
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn groups_find_together_what_all_find() {
    let dir = tempfile::tempdir().unwrap();
    let config = grouped(dir.path());
    let path = clean(14)
        .showing(Show::Black, 4, 10)
        .silent(4, 10)
        .write(dir.path(), "a.ts");
    let with = |groups: &str| analyze(&path, &["--config", &config, "--groups", groups]);
    let key = |line: &Json| line.to_string();
    let all: BTreeSet<String> = with("all").defects().iter().map(key).collect();
    let (sound, pictures) = (with("sound"), with("pictures"));
    let apart = sound.defects().into_iter().chain(pictures.defects());
    assert_eq!(apart.map(|l| key(&l)).collect::<BTreeSet<_>>(), all);
    assert_eq!(all.len(), 2, "{all:?}");
    let coverage = |done: &Done| {
        let summary = done.summary();
        let names = summary["coverage"].as_object().unwrap().keys().cloned();
        names.collect::<Vec<_>>()
    };
    assert_eq!(coverage(&sound), ["silence"]);
    assert_eq!(coverage(&pictures), ["black", "freeze"]);
    let unknown = with("sounds");
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("sound"), "{unknown:?}");
    let alone = analyze(&path, &["--groups", "sound"]);
    assert_eq!(alone.code, Some(2), "{alone:?}");
    assert!(alone.err.contains("--config"), "{alone:?}");
}

//! Faults of timestamps that public bug reports show, and the same media without them, as `glasswatch analyze` sees them.
//! ffmpeg makes the media; then only timestamps are written anew, so that the truth is known to a tick.

use std::path::{Path, PathBuf};
use std::process::Command;

use accuracy::restamp::{Of, WRAP, delay_fragments, restamp, ticks};
use serde_json::Value as Json;

use crate::rig::*;

/// Ticks of sound in fragments.
const SOUND_HZ: f64 = 48_000.0;

/// Pictures at this rate beside AAC, for so many seconds.
fn ffmpeg(folder: &Path, (secs, rate): (u32, &str), filter: &str, out: &str) {
    let run = Command::new("ffmpeg")
        .current_dir(folder)
        .args("-hide_banner -loglevel error -nostdin -y".split(' '))
        .args([
            "-f",
            "lavfi",
            "-i",
            &format!("testsrc2=size=160x90:rate={rate}"),
        ])
        .args("-f lavfi -i sine=frequency=440:sample_rate=48000 -map 0:v -map 1:a".split(' '))
        .args(["-t", &secs.to_string()])
        .args(filter.split_ascii_whitespace())
        .args(
            "-c:v libx264 -preset ultrafast -bf 2 -g 50 -sc_threshold 0 -threads 1 -c:a aac"
                .split(' '),
        )
        // No-break spaces are spaces within an argument.
        .args(
            out.split_ascii_whitespace()
                .map(|arg| arg.replace('\u{a0}', " ")),
        )
        .output()
        .expect("ffmpeg");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// Adds so many seconds to the timestamps of one segment of sound.
fn delay(path: &Path, secs: f64) {
    let mut bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|e| e == "ts") {
        bytes = restamp(&bytes, |_, stamp| Some(stamp + ticks(secs)));
    } else {
        delay_fragments(&mut bytes, (secs * SOUND_HZ).round() as i64);
    }
    std::fs::write(path, bytes).unwrap();
}

/// A folder with pictures and sound in lists of their own, the name of its master, and what segments of sound begin with.
fn presentation(kind: &str) -> (tempfile::TempDir, PathBuf, &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let hls = "-f hls -hls_time 2 -hls_playlist_type vod -master_pl_name m.m3u8 \
        -var_stream_map a:0,agroup:aud\u{a0}v:0,agroup:aud";
    let dash = "-f dash -seg_duration 2 -adaptation_sets id=0,streams=v\u{a0}id=1,streams=a";
    let (out, master, sound) = match kind {
        "ts" => (
            format!("{hls} -hls_segment_filename s%v_%d.ts %v.m3u8"),
            "m.m3u8",
            "s0_",
        ),
        "fmp4" => (
            format!(
                "{hls} -hls_segment_type fmp4 -hls_flags program_date_time \
                 -hls_fmp4_init_filename init%v.mp4 -hls_segment_filename s%v_%d.m4s %v.m3u8"
            ),
            "m.m3u8",
            "s0_",
        ),
        "timeline" => (
            format!("{dash} -use_timeline 1 m.mpd"),
            "m.mpd",
            "chunk-stream1",
        ),
        _ => (
            format!("{dash} -use_timeline 0 -use_template 1 m.mpd"),
            "m.mpd",
            "chunk-stream1",
        ),
    };
    ffmpeg(folder.path(), (8, "25"), "", &out);
    let master = folder.path().join(master);
    (folder, master, sound)
}

/// Detectors and rules of what was told about playlists and about sound against picture, with their values.
fn told(done: &Done) -> Vec<(String, f64)> {
    let defects = done.defects();
    let of = |d: &&Json| {
        ["manifest", "av_timing"]
            .iter()
            .any(|name| d["detector"] == *name)
    };
    let told = defects.iter().filter(of).map(|d| {
        (
            d["rule"].as_str().unwrap().to_owned(),
            d["value"].as_f64().unwrap(),
        )
    });
    told.collect()
}

#[test]
fn separate_renditions_that_are_stamped_apart_are_told_with_their_size() {
    for kind in ["ts", "fmp4", "timeline", "template"] {
        let (folder, master, sound) = presentation(kind);
        let clean = analyze(&master, &[]);
        assert_eq!(clean.defects(), [] as [Json; 0], "{kind}: {clean:?}");
        // What the clean one has: priming of the encoder, and where sound is cut.
        let start = clean.av_sync("timestamps")["audio_start_early_secs"]
            .as_f64()
            .unwrap();
        assert!(start.abs() < 0.03, "{kind}: {clean:?}");
        let mut moved = 0.0;
        for secs in [3.0, 0.7] {
            for entry in std::fs::read_dir(folder.path()).unwrap() {
                let path = entry.unwrap().path();
                if path
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(sound)
                {
                    delay(&path, secs - moved);
                }
            }
            moved = secs;
            let done = analyze(&master, &[]);
            let told = told(&done);
            if kind == "template" && secs < 2.0 {
                // Segments of two seconds, nominally, may begin up to half of that off, each.
                assert_eq!(told, [], "{kind}: {done:?}");
                continue;
            }
            let [(rule, early)] = &told[..] else {
                panic!("{kind}: {done:?}");
            };
            assert_eq!(rule, "audio_stamped_late", "{kind}");
            // A list tells the time of each segment, or what begins together; priming is part of that, or cut off by
            // an edit list that later begins further in.
            let by_list = match kind {
                "timeline" => 0.0,
                "template" => 1_024.0 / 48_000.0,
                _ => start,
            };
            assert!(
                (early - (by_list - secs)).abs() <= 0.001,
                "{kind}: {early} for {secs}"
            );
            let sync = done.av_sync("timestamps");
            let early = sync["audio_start_early_secs"].as_f64().unwrap();
            assert!((early - (start - secs)).abs() <= 0.001, "{kind}: {sync}");
            assert_eq!(sync["audio_start"], "apart", "{kind}");
        }
    }
}

#[test]
fn priming_that_a_container_cannot_signal_has_its_name_and_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    for (name, start) in [("a.ts", "aac_priming"), ("a.mp4", "")] {
        ffmpeg(dir.path(), (5, "25"), "", name);
        let done = analyze(&dir.path().join(name), &[]);
        assert_eq!(done.defects(), [] as [Json; 0], "{done:?}");
        if start.is_empty() {
            assert!(!done.out.contains("aac_priming"), "{done:?}");
            continue;
        }
        let sync = done.av_sync("timestamps");
        assert_eq!(sync["audio_start"], start, "{sync}");
        let early = sync["audio_start_early_secs"].as_f64().unwrap();
        assert!((early - 1_024.0 / 48_000.0).abs() <= 0.001, "{sync}");
    }
    let text = run(["analyze", dir.path().join("a.ts").to_str().unwrap()]);
    let says = "at the start audio 21 ms early: priming of the AAC encoder";
    assert!(text.out.contains(says), "{text:?}");
}

/// Whether a timestamp lies so many seconds behind the beginning; ffmpeg begins about 1.4 s after zero.
fn after(stamp: i64, secs: f64) -> bool {
    stamp >= ticks(1.4 + secs)
}

#[test]
fn faults_of_one_multiplex_are_named_and_measured_and_its_clean_twins_are_silent() {
    let dir = tempfile::tempdir().unwrap();
    ffmpeg(dir.path(), (80, "25"), "", "clean.ts");
    let clean = std::fs::read(dir.path().join("clean.ts")).unwrap();
    let path = dir.path().join("case.ts");
    let case = |to: &dyn Fn(Of, i64) -> Option<i64>| {
        std::fs::write(&path, restamp(&clean, to)).unwrap();
        analyze(&path, &[])
    };
    let none = Vec::<(String, f64)>::new();
    assert_eq!(told(&case(&|_, stamp| Some(stamp))), none);
    // A wrap after 20 s; a splice to another timeline of all.
    let wraps = case(&|_, stamp| Some(stamp + WRAP - ticks(21.4)));
    assert_eq!(told(&wraps), none);
    let all = |stamp, by| Some(stamp + if after(stamp, 20.0) { ticks(by) } else { 0 });
    assert_eq!(told(&case(&|_, stamp| all(stamp, 3_600.0))), none);
    assert_eq!(told(&case(&|_, stamp| all(stamp, -20.0))), none);
    // Sound is later, or earlier, from 20 s on.
    let sound = |of, stamp, by: f64| match of {
        Of::Sound if after(stamp, 20.0) => Some(stamp + ticks(by)),
        _ => Some(stamp),
    };
    for (by, rules) in [
        (0.3, ["audio_late_unacceptable", "audio_late", "audio_gap"]),
        (
            -0.3,
            ["audio_early_unacceptable", "audio_early", "audio_overlap"],
        ),
    ] {
        let done = case(&|of, stamp| sound(of, stamp, by));
        let shifts = done.defects();
        let shifts = shifts.iter().filter(|d| d["cause"] == "av_skew");
        assert!(shifts.clone().all(|d| d["place"] == "packager"), "{done:?}");
        assert_eq!(shifts.count(), 2, "{done:?}");
        let told = told(&done);
        for rule in rules {
            let found = told.iter().find(|(name, _)| name == rule);
            let (_, value) = found.unwrap_or_else(|| panic!("no {rule} in {told:?}"));
            let truth = if rule == "audio_gap" { by } else { -by };
            let truth = if rule == "audio_overlap" { -by } else { truth };
            assert!((value - truth).abs() <= 0.001, "{rule}: {value}");
        }
        assert_eq!(told.len(), 3, "{told:?}");
    }
    // Sound is lost for 0.3 s, whole units of it.
    let done = case(&|of, stamp| {
        let lost = after(stamp, 20.0) && !after(stamp, 20.3);
        (of != Of::Sound || !lost).then_some(stamp)
    });
    let gaps = told(&done);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].0, "audio_gap");
    // The sample clock is 200 ppm fast.
    let done = case(&|of, stamp| match of {
        Of::Sound => Some((stamp as f64 * (1.0 - 200e-6)).round() as i64),
        _ => Some(stamp),
    });
    let drifts = told(&done);
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    assert_eq!(drifts[0].0, "clock_fast");
    assert!((drifts[0].1 - 200.0).abs() < 5.0, "{drifts:?}");
}

#[test]
fn other_rates_and_variable_ones_are_silent() {
    let dir = tempfile::tempdir().unwrap();
    for (name, rate, filter) in [
        ("ntsc.ts", "60000/1001", ""),
        ("film.ts", "24000/1001", ""),
        (
            "variable.ts",
            "30",
            "-vf select='not(eq(mod(n*n\\,7)\\,2))' -vsync vfr",
        ),
    ] {
        ffmpeg(dir.path(), (50, rate), filter, name);
        let done = analyze(&dir.path().join(name), &[]);
        assert_eq!(told(&done), Vec::<(String, f64)>::new(), "{name}: {done:?}");
    }
}

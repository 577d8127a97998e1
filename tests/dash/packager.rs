//! A packager of others, live: it moves its window, dies, and returns.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use detectors::base::{Cause, Fact, InputEvent, SegmentFate};
use glasswatch::config::Protocol;

use crate::media::*;
use crate::rig::{Origin, ok, status};

/// ffmpeg's DASH muxer at its own pace, writing into a folder.
struct Packager(Child);

impl Packager {
    fn start(folder: &Path, timeline: &str) -> Self {
        let child = Command::new("ffmpeg")
            .args("-hide_banner -loglevel error -nostdin -y".split(' '))
            .args("-re -f lavfi -i testsrc2=size=320x180:rate=25".split(' '))
            .args("-re -f lavfi -i sine=frequency=440:sample_rate=48000".split(' '))
            .args("-c:v libx264 -preset ultrafast -tune zerolatency -threads 1 -g 25".split(' '))
            .args("-c:a aac -f dash -seg_duration 1 -window_size 5".split(' '))
            .args(["-extra_window_size", "3", "-use_timeline", timeline])
            .args(["-adaptation_sets", "id=0,streams=v id=1,streams=a"])
            .arg(folder.join("live.mpd"))
            .stdin(Stdio::null())
            .spawn()
            .expect("ffmpeg");
        Self(child)
    }
}

impl Drop for Packager {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Failures told.
fn causes(seen: &[Seen]) -> Vec<Cause> {
    let cause = |event| match event {
        InputEvent::Failed { cause } => Some(cause),
        _ => None,
    };
    events(seen).into_iter().filter_map(cause).collect()
}

/// With a timeline only updates tell of segments; without one time does, and the manifest is hardly ever updated.
#[test]
fn a_live_packager_is_followed_while_it_dies_and_returns() {
    for (timeline, told) in [("1", Cause::PlaylistStalled), ("0", Cause::HttpNotFound)] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let runtime = runtime();
        let _inside = runtime.enter();
        let first = Packager::start(folder.path(), timeline);
        let origin = runtime.block_on(Origin::start(move |asked| {
            match std::fs::read(root.join(asked.path.trim_start_matches('/'))) {
                Ok(bytes) => ok(bytes),
                Err(_) => status(404),
            }
        }));
        let watched = watch(input(&format!("{}/live.mpd", origin.url), Protocol::Dash));
        let enough = |seen: &[Seen]| pictures(seen, 0).len() >= 125 && frames(seen, 0) >= 200_000;
        watched.sink.wait("five seconds of it", enough);
        let seen = watched.sink.all();
        assert_monotone(&seen);
        let formats = video_formats(&seen);
        assert_eq!((formats[0].width, formats[0].height), (320, 180));
        // Nothing is missing between the pictures, but what the packager was too late with and that was told.
        let times: Vec<_> = pictures(&seen, 0).into_iter().flatten().collect();
        let mut gaps = times.windows(2).map(|two| two[1].secs_after(two[0]));
        let late = facts(&seen).any(|(_, fact)| match fact {
            Fact::Segment(report) => matches!(report.fate, SegmentFate::Failed(_)),
            _ => false,
        });
        assert!(late || gaps.all(|secs| secs < 0.05), "{}", digest(&seen));
        watched.sink.clear();
        drop(first);
        watched.sink.wait("what its death is called", |seen| {
            causes(seen).contains(&told)
        });
        watched.sink.clear();
        let _second = Packager::start(folder.path(), timeline);
        watched.sink.wait("five seconds of the next one", enough);
        assert_monotone(&watched.sink.all());
        assert!(runtime.block_on(watched.running.stop(Duration::from_secs(10))));
    }
}

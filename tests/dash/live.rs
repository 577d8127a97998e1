//! Live, from an origin of real media to decoded pictures and sound.

use std::path::Path;

use bytes::Bytes;
use glasswatch::config::Protocol;

use crate::media::*;
use crate::origin::AGE;
use crate::rig::{Origin, ok, status};

/// Seconds of media there are.
const LENGTH: u64 = 14;
/// Frames of sound in a segment.
const RATE: usize = 48_000;

/// Initialisation section and fragments of a second each, of one track.
fn fragments(dir: &Path, chain: &str) -> (Bytes, Vec<Bytes>) {
    let path = dir.join("all.mp4");
    make(&format!(
        "{chain} ! mp4mux fragment-duration=1000 streamable=true ! filesink location={}",
        path.display()
    ));
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let (mut at, mut init, mut found) = (0, None, Vec::new());
    let mut begin = 0;
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        match &bytes[at + 4..at + 8] {
            b"moof" => {
                init.get_or_insert_with(|| bytes.slice(..at));
                begin = at;
            }
            b"mdat" => found.push(bytes.slice(begin..at + size)),
            _ => {}
        }
        at += size;
    }
    (init.unwrap(), found)
}

fn set(kind: &str, end: u64, period: u64) -> String {
    let first = period * 100;
    let n = end.saturating_sub(1);
    format!(
        "<AdaptationSet mimeType='{kind}/mp4' lang='en'>\
         <SegmentTemplate initialization='{kind}/init' media='{kind}/s$Number$.m4s' startNumber='{first}'>\
         <SegmentTimeline><S t='0' d='1' r='{n}'/></SegmentTimeline></SegmentTemplate>\
         <Representation id='{kind}' bandwidth='1'/></AdaptationSet>"
    )
}

/// Seconds after which the second period begins, with the same media from its start.
const FIRST: u64 = AGE + 4;

fn manifest(began: jiff::Timestamp, since: u64) -> String {
    let end = AGE + since;
    let from = began - std::time::Duration::from_secs(AGE);
    // The first period began eight seconds before the origin.
    let start = AGE - 8;
    let both = |end: u64, period| set("audio", end, period) + &set("video", end, period);
    let mut periods = format!(
        "<Period start='PT{start}S'>{}</Period>",
        both(end.min(FIRST) - start, 0)
    );
    if end > FIRST {
        periods += &format!(
            "<Period start='PT{FIRST}S'>{}</Period>",
            both(end - FIRST, 1)
        );
    }
    format!(
        "<MPD type='dynamic' availabilityStartTime='{from}' minimumUpdatePeriod='PT1S'>{periods}</MPD>"
    )
}

#[test]
fn pictures_and_sound_come_out_of_a_live_presentation_across_a_period() {
    let dir = tempfile::tempdir().unwrap();
    let n = LENGTH as u32;
    let picture = format!("{} ! {X264} ! h264parse", video(n * 25, (320, 180), 25));
    let picture = fragments(dir.path(), &picture);
    let sound = fragments(
        dir.path(),
        &format!("{} ! avenc_aac ! aacparse", tone(n * 47)),
    );
    assert!(picture.1.len() >= 12 && sound.1.len() >= 12);
    let runtime = runtime();
    let _inside = runtime.enter();
    let began = jiff::Timestamp::now();
    let origin = runtime.block_on(Origin::start(move |asked| {
        if asked.path == "/live.mpd" {
            return ok(manifest(began, asked.since.as_secs()));
        }
        let (init, media) = match asked.path.starts_with("/video/") {
            true => &picture,
            false => &sound,
        };
        let name = asked.path.rsplit('/').next().unwrap();
        if name == "init" {
            return ok(init.clone());
        }
        let number = name.trim_start_matches('s').trim_end_matches(".m4s");
        let number: usize = number.parse().unwrap();
        media
            .get(number % 100)
            .map_or(status(404), |bytes| ok(bytes.clone()))
    }));
    let url = format!("{}/live.mpd", origin.url);
    let watched = watch(input(&url, Protocol::Dash));
    // Seven seconds before the second period at most: more is from beyond it.
    watched
        .sink
        .wait("pictures and sound of both periods", |seen| {
            pictures(seen, 0).len() >= 250 && frames(seen, 0) >= 9 * RATE
        });
    let seen = watched.sink.all();
    assert_monotone(&seen);
    let formats = video_formats(&seen);
    assert_eq!((formats[0].width, formats[0].height), (320, 180));
    assert_eq!(cause(&seen), None, "{}", digest(&seen));
    // All that was fed came out.
    assert!(origin.asked("/video/s1").len() >= 2 && origin.asked("/audio/s1").len() >= 2);
    assert!(runtime.block_on(watched.running.stop(std::time::Duration::from_secs(10))));
}

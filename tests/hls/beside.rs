//! The list of sound beside that of the pictures: what public bug reports show, each beside its clean twin.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use axum::response::Response;
use detectors::base::{Cause, Fact, ListsBeside};

use crate::rig::*;

const MASTER: &str = "#EXTM3U\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"e\",URI=\"audio.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"a\"\nvideo.m3u8\n";

/// Ticks of the clock of MPEG-2 at which it wraps, in milliseconds.
const WRAP_MS: u64 = (1 << 33) / 90;

/// One list: when its segment 0 begins by its own dates and by its timestamps, and what stands before its segments.
#[derive(Clone, Copy)]
struct List {
    /// Whether it has dates, and of which second.
    dates: Option<u64>,
    stamps_ms: u64,
    /// What segments of a number have before them.
    mark: fn(u64) -> &'static str,
    /// Timestamps of segments from this number on begin anew at this time.
    restart: Option<(u64, u64)>,
    packed: bool,
}

const PLAIN: List = List {
    dates: None,
    stamps_ms: 10_000,
    mark: |_| "",
    restart: None,
    packed: false,
};

fn stamps(stamps_ms: u64) -> List {
    List { stamps_ms, ..PLAIN }
}

impl List {
    /// Segments of a second: all twelve, or a live window of six that moves.
    fn text(&self, live_at: Option<Duration>) -> String {
        let first = live_at.map_or(0, |since| 20 + since.as_secs());
        let count = if live_at.is_some() { 6 } else { 12 };
        let left = (0..first).filter(|n| !(self.mark)(*n).is_empty()).count();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{left}\n"
        );
        for n in first..first + count {
            text += (self.mark)(n);
            if let Some(from) = self.dates {
                let date =
                    jiff::Timestamp::UNIX_EPOCH + Duration::from_millis(from * 1_000 + n * 1_000);
                let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{date}");
            }
            let _ = writeln!(text, "#EXTINF:1,\ns{n}.ts");
        }
        match live_at {
            Some(_) => text,
            None => text + "#EXT-X-ENDLIST\n",
        }
    }

    fn segment(&self, n: u64) -> Response {
        let ms = match self.restart {
            Some((at, begin)) if n >= at => begin + (n - at) * 1_000,
            _ => self.stamps_ms + n * 1_000,
        };
        match self.packed {
            true => ok(packed(ms)),
            false => ok(timed(Duration::from_millis(ms % WRAP_MS), RATE)),
        }
    }
}

/// Sound in ADTS frames behind a tag with their time.
fn packed(ms: u64) -> Vec<u8> {
    let mut body = b"com.apple.streaming.transportStreamTimestamp\0".to_vec();
    body.extend_from_slice(&(ms * 90).to_be_bytes());
    let mut tag = b"ID3\x04\0\0\0\0\0".to_vec();
    tag.push(body.len() as u8 + 10);
    tag.extend_from_slice(b"PRIV\0\0\0");
    tag.extend_from_slice(&[body.len() as u8, 0, 0]);
    tag.extend_from_slice(&body);
    let mut frame = vec![0; 200];
    frame[..7].copy_from_slice(&[0xff, 0xf1, 0x4c, 0x80, 0x19, 0x1f, 0xfc]);
    (0..47).for_each(|_| tag.extend_from_slice(&frame));
    tag
}

async fn origin(live: bool, video: List, audio: List) -> Origin {
    Origin::start(move |asked| {
        let at = live.then_some(asked.since);
        let number = |path: &str| path.rsplit("/s").next()?.strip_suffix(".ts")?.parse().ok();
        match asked.path.as_str() {
            "/m.m3u8" => ok(MASTER
                .replace("video", "v/video")
                .replace("audio", "a/audio")),
            "/v/video.m3u8" => ok(video.text(at)),
            "/a/audio.m3u8" => ok(audio.text(at)),
            path if path.starts_with("/a/") => audio.segment(number(path).unwrap()),
            path => video.segment(number(path).unwrap()),
        }
    })
    .await
}

fn told(rig: &Rig) -> Vec<ListsBeside> {
    rig.facts.flat(|fact| match fact {
        Fact::ListsBeside(told) => vec![*told],
        _ => Vec::new(),
    })
}

fn early(rig: &Rig) -> Vec<f64> {
    told(rig)
        .iter()
        .filter_map(|t| t.audio_early_secs)
        .collect()
}

/// Plays until both lists have brought so many segments.
async fn after(rig: &Rig, segments: usize) {
    rig.until("enough segments", |rig| {
        [0, 1]
            .iter()
            .all(|input| rig.recorder.pieces(*input).len() > segments)
    })
    .await;
}

async fn played(live: bool, video: List, audio: List) -> Rig {
    let origin = origin(live, video, audio).await;
    let rig = rig(&format!("{}/m.m3u8", origin.url));
    match live {
        true => after(&rig, 5).await,
        false => drop(rig.to_end().await),
    }
    rig
}

#[tokio::test]
async fn sound_that_is_stamped_otherwise_than_listed_is_told_with_its_size() {
    let dated = |list: List, from| List {
        dates: Some(from),
        ..list
    };
    let shapes = [
        // Pictures begin at PTS 25.385 s and sound at 3.392 s: complete, live by number, live by date.
        (false, stamps(25_385), stamps(3_392), 21.993),
        (true, stamps(25_385), stamps(3_392), 21.993),
        (
            true,
            dated(stamps(25_385), 500),
            dated(stamps(3_392), 500),
            21.993,
        ),
        // Sound 3 s off, and 0.7 s behind.
        (true, dated(PLAIN, 500), dated(stamps(13_000), 500), -3.0),
        (false, PLAIN, stamps(10_700), -0.7),
        (
            false,
            PLAIN,
            List {
                packed: true,
                ..stamps(10_700)
            },
            -0.7,
        ),
        // Dates hours apart, and the same timestamps.
        (true, dated(PLAIN, 500), dated(PLAIN, 500 + 7_200), 7_200.0),
    ];
    for (live, video, audio, secs) in shapes {
        let rig = played(live, video, audio).await;
        let rule = if secs > 0.0 {
            "audio_stamped_early"
        } else {
            "audio_stamped_late"
        };
        assert_eq!(met(&rig), only(rule, Cause::RenditionOffset), "{secs}");
        let early = early(&rig);
        assert!(!early.is_empty());
        // From the first comparison on.
        assert!(
            early.iter().all(|told| (told - secs).abs() < 0.001),
            "{early:?} for {secs}"
        );
    }
}

#[tokio::test]
async fn renditions_that_begin_together_are_silent() {
    let dated = |list: List, from| List {
        dates: Some(from),
        ..list
    };
    let wrapping = stamps(WRAP_MS - 4_000);
    let clean = [
        (false, PLAIN, stamps(10_043)),
        (
            false,
            PLAIN,
            List {
                packed: true,
                ..stamps(9_979)
            },
        ),
        (true, PLAIN, stamps(10_021)),
        (false, wrapping, stamps(WRAP_MS - 3_980)),
        (false, stamps(WRAP_MS - 20), stamps(10)),
        // Sound that is listed and stamped two seconds later.
        (true, dated(PLAIN, 500), dated(stamps(12_000), 502)),
    ];
    for (n, (live, video, audio)) in clean.into_iter().enumerate() {
        let rig = played(live, video, audio).await;
        assert_eq!(met(&rig), BTreeMap::new(), "case {n}");
        assert!(!early(&rig).is_empty(), "case {n} was compared");
    }
}

const DISCONTINUITY: &str = "#EXT-X-DISCONTINUITY\n";

#[tokio::test]
async fn a_discontinuity_at_another_place_is_told_at_the_load() {
    let at = |number: u64| -> fn(u64) -> &'static str {
        match number {
            7 => |n| if n == 7 { DISCONTINUITY } else { "" },
            8 => |n| if n == 8 { DISCONTINUITY } else { "" },
            26 => |n| if n == 26 { DISCONTINUITY } else { "" },
            27 => |n| if n == 27 { DISCONTINUITY } else { "" },
            _ => |_| "",
        }
    };
    let list = |number, dates| List {
        dates,
        mark: at(number),
        // Sound goes over to the new timeline one segment later.
        restart: Some((number, 1_000 * number)),
        ..PLAIN
    };
    for (live, dates, here, there) in [
        (false, None, 7, 8),
        (true, Some(500), 26, 27),
        (true, None, 26, 27),
    ] {
        let rig = played(live, list(here, dates), list(there, dates)).await;
        let told_rules = met(&rig);
        assert!(
            told_rules.contains_key("discontinuity_mismatch"),
            "{told_rules:?}"
        );
        let worst = told(&rig)
            .iter()
            .filter_map(|t| t.discontinuity_apart_secs)
            .fold(0.0, f64::max);
        assert!((worst - 1.0).abs() < 0.001, "{worst}");
        assert_eq!(told_rules.len(), 1, "{told_rules:?}");
        let fine = played(live, list(here, dates), list(here, dates)).await;
        assert_eq!(
            met(&fine),
            BTreeMap::new(),
            "live: {live}, dates: {dates:?}"
        );
    }
}

#[tokio::test]
async fn a_restart_that_leaves_sound_apart_is_told_within_a_segment() {
    let mark = |n| if n == 24 { DISCONTINUITY } else { "" };
    let restarted = |begin| List {
        mark,
        restart: Some((24, begin)),
        ..PLAIN
    };
    let rig = played(true, restarted(80), restarted(700)).await;
    assert_eq!(
        met(&rig),
        only("audio_stamped_late", Cause::RenditionOffset)
    );
    let early = early(&rig);
    assert!(
        early.iter().any(|told| (told + 0.62).abs() < 0.001),
        "{early:?}"
    );
    let rig = played(true, restarted(80), restarted(60)).await;
    assert_eq!(met(&rig), BTreeMap::new());
}

//! What is told of playlists and of the way segments arrive: each fault beside its clean twin.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use detectors::base::{BreakEdge, BreakMark, BreakSource, Cause, Fact, PlaylistFault, SegmentFate};
use futures_util::StreamExt;

use crate::rig::*;

/// The number in `/sN.ts`.
fn number(path: &str) -> u64 {
    let name = path.rsplit("/s").next().unwrap();
    name.strip_suffix(".ts").unwrap().parse().unwrap()
}

/// A second of media, where its number says on a line that begins at 50 s.
fn second(path: &str) -> Response {
    ok(timed(Duration::from_secs(50 + number(path)), RATE))
}

/// A live window by its first number: `lines` gives what stands before a segment.
fn window(
    first: u64,
    (sequence, discontinuities): (u64, u64),
    lines: impl Fn(u64) -> &'static str,
) -> String {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n"
    );
    for n in first..first + 4 {
        text += &format!("{}#EXTINF:1,\ns{n}.ts\n", lines(n));
    }
    text
}

fn read(rig: &Rig) -> usize {
    let segments = rig.facts.segments();
    let read = |s: &&_| {
        matches!(
            s,
            detectors::base::SegmentReport {
                fate: SegmentFate::Read { .. },
                ..
            }
        )
    };
    segments.iter().filter(read).count()
}

/// Plays until so many segments have been read.
async fn after(rig: &Rig, segments: usize) {
    rig.until("enough segments", |rig| read(rig) >= segments)
        .await;
}

#[tokio::test]
async fn a_clean_live_stream_with_its_irregularities_breaks_no_rule() {
    // A discontinuity that leaves counted, an announced gap, an older copy now and then.
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => {
            let now = asked.since.as_secs();
            let first = now.saturating_sub(u64::from(asked.before % 5 == 4));
            let left = u64::from(first > 3) + u64::from(first > 4);
            ok(window(first, (first, left), |n| match n {
                3 | 4 => "#EXT-X-DISCONTINUITY\n",
                6 => "#EXT-X-GAP\n",
                _ => "",
            }))
        }
        path if (3..4).contains(&number(path)) => ok(timed(Duration::ZERO, RATE)),
        path => second(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    after(&rig, 9).await;
    assert_eq!(met(&rig), BTreeMap::new());
    for segment in rig.facts.segments() {
        let SegmentFate::Read {
            excess_secs, jumps, ..
        } = segment.fate
        else {
            panic!("{segment:?}");
        };
        assert!(!jumps, "{segment:?}");
        assert_eq!(excess_secs, Some(0.0));
        assert_eq!(
            (segment.list, segment.duration),
            (0, Duration::from_secs(1))
        );
    }
}

#[tokio::test]
async fn a_playlist_that_renumbers_is_told() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => {
            let first = asked.since.as_secs();
            // From the third second on the number stays behind what leaves.
            ok(window(first, (first.min(3), 0), |_| ""))
        }
        path => second(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("an error", |rig| !met(rig).is_empty()).await;
    assert_eq!(met(&rig), only("sequence_error", Cause::SequenceError));
}

#[tokio::test]
async fn a_restarted_playlist_is_told() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" if asked.before < 3 => ok(window(
            100 + asked.since.as_secs(),
            (100 + asked.since.as_secs(), 0),
            |_| "",
        )),
        "/a.m3u8" => ok(window(
            asked.since.as_secs(),
            (asked.since.as_secs(), 0),
            |_| "",
        )),
        path => second(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("an error", |rig| !met(rig).is_empty()).await;
    assert_eq!(met(&rig), only("sequence_error", Cause::SequenceError));
}

#[tokio::test]
async fn discontinuities_that_are_not_counted_or_not_announced_are_told() {
    // What is announced before segment 3, and what is counted when that left.
    for (announced, counted) in [("#EXT-X-DISCONTINUITY\n", 0), ("", 0)] {
        let origin = Origin::start(move |asked| match asked.path.as_str() {
            "/a.m3u8" => {
                let first = asked.since.as_secs();
                let left = counted * u64::from(first > 3);
                let line = move |n| if n == 3 { announced } else { "" };
                ok(window(first, (first, left), line))
            }
            path if number(path) >= 3 => ok(timed(Duration::from_secs(7_000 + number(path)), RATE)),
            path => second(path),
        })
        .await;
        let rig = rig(&format!("{}/a.m3u8", origin.url));
        rig.until("an error", |rig| !met(rig).is_empty()).await;
        let told = only("sequence_error", Cause::DiscontinuityError);
        assert_eq!(met(&rig), told, "announced: {announced:?}");
    }
}

#[tokio::test]
async fn segments_that_last_longer_than_declared_are_told() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => {
            let first = asked.since.as_secs();
            ok(window(first, (first, 0), |_| ""))
        }
        path => ok(timed(Duration::from_secs(2 * number(path)), 2 * RATE)),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    after(&rig, 4).await;
    assert_eq!(met(&rig), only("wrong_duration", Cause::WrongDuration));
}

#[tokio::test]
async fn broken_rules_of_the_list_itself_are_told() {
    let list = "#EXTINF:1,\ns1.ts\n#EXTINF:1.6,\ns2.ts";
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(list)),
        path => second(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert!(rig.facts.manifest()["playlist_error"].contains(&Cause::SegmentTooLong));
    let faults = |fact: &Fact| match fact {
        Fact::Playlist(load) => load.faults.clone(),
        _ => Vec::new(),
    };
    assert_eq!(rig.facts.flat(faults), [PlaylistFault::SegmentTooLong]);
}

#[tokio::test]
async fn segments_that_fail_or_leave_too_early_are_counted() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => {
            let now = asked.since.as_secs();
            // After three seconds the window leaps.
            let first = if now < 3 { now } else { now + 6 };
            ok(window(first, (first, 0), |_| ""))
        }
        "/s3.ts" => status(404),
        path => second(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    after(&rig, 6).await;
    let causes = [Cause::HttpNotFound, Cause::SegmentsMissed];
    assert_eq!(met(&rig)["segments_missing"], BTreeSet::from(causes));
}

#[tokio::test]
async fn half_the_bandwidth_is_starvation_and_nothing_else() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => {
            let first = asked.since.as_secs();
            ok(window(first, (first, 0), |_| ""))
        }
        path => {
            // A second of media, over two seconds.
            let bytes = timed(Duration::from_secs(50 + number(path)), RATE);
            let pieces: Vec<Vec<u8>> = bytes.chunks(188).map(<[u8]>::to_vec).collect();
            let slow = futures_util::stream::iter(pieces).then(|piece| async {
                tokio::time::sleep(Duration::from_millis(2_000 / RATE)).await;
                Ok::<_, std::io::Error>(piece)
            });
            ok(Body::from_stream(slow))
        }
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("starvation", |rig| {
        rig.facts.manifest().contains_key("starving")
    })
    .await;
    assert_eq!(rig.facts.causes(), []);
    let told: Vec<_> = met(&rig).into_keys().collect();
    // Whoever is that slow loses segments in the end.
    assert!(
        told.iter().all(|rule| *rule == "segments_missing"),
        "{told:?}"
    );
}

/// Pictures and sound in playlists of their own, the sound so many seconds late.
async fn rendition_origin(late: u64, dates: bool) -> Origin {
    const MASTER: &str = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"e\",URI=\"audio.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"a\"\nvideo.m3u8\n";
    Origin::start(move |asked| {
        let list = |late: u64| {
            let first = 20 + asked.since.as_secs() - late;
            // The numbers of renditions need not agree.
            let list = window(first, (first + 7 * late, 0), |_| "");
            let date = jiff::Timestamp::UNIX_EPOCH + Duration::from_secs(first);
            match dates {
                true => ok(list.replacen(
                    "#EXTINF",
                    &format!("#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF"),
                    1,
                )),
                false => ok(list),
            }
        };
        match asked.path.as_str() {
            "/m.m3u8" => ok(MASTER),
            "/video.m3u8" => list(0),
            "/audio.m3u8" => list(late),
            path => second(path),
        }
    })
    .await
}

#[tokio::test]
async fn sound_that_lags_by_its_dates_or_its_timestamps_is_out_of_step() {
    for dates in [true, false] {
        let origin = rendition_origin(5, dates).await;
        let late = rig(&format!("{}/m.m3u8", origin.url));
        late.until("lists out of step", |rig| !met(rig).is_empty())
            .await;
        assert_eq!(met(&late), only("out_of_step", Cause::OutOfStep));
        let origin = rendition_origin(1, dates).await;
        let fine = rig(&format!("{}/m.m3u8", origin.url));
        after(&fine, 12).await;
        assert_eq!(met(&fine), BTreeMap::new(), "dates: {dates}");
    }
}

#[tokio::test]
async fn break_tags_are_told_once_before_the_segment_they_precede() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => {
            let first = asked.since.as_secs();
            ok(window(first, (first, 0), |n| match n {
                4 => "#EXT-X-CUE-OUT:2\n",
                5 => "#EXT-X-CUE-OUT-CONT:1/2\n",
                6 => "#EXT-X-CUE-IN\n",
                _ => "",
            }))
        }
        path => second(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("both ends", |rig| rig.recorder.pieces(0).len() >= 7)
        .await;
    let mark = |edge, planned| BreakMark {
        edge,
        source: BreakSource::HlsTag,
        at: None,
        planned,
        event_id: None,
    };
    // Reading began with segment 1.
    let start = mark(BreakEdge::Start, Some(Duration::from_secs(2)));
    let told = [(3, start), (5, mark(BreakEdge::End, None))];
    assert_eq!(rig.recorder.breaks(), told);
    assert_eq!(met(&rig), BTreeMap::new());
}

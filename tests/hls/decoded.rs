//! Members, decoded and judged.

use detectors::base::{Cause, Fact, Format, Kind, Severity, Track};
use glasswatch::alert::Place;
use glasswatch::app::analyze::Analysis;
use glasswatch::config::{Protocol, Rendition};

use crate::ladder::{LADDER, PICTURES, SECS, analysed, playlist, ready, segment};
use crate::media::{assert_monotone, ended, facts, input, watch};
use crate::rig::{Origin, ok, status};

fn master() -> String {
    let variants = LADDER.iter().map(|(name, (width, height), bandwidth, _)| {
        format!(
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={width}x{height}\n{name}/v.m3u8\n"
        )
    });
    "#EXTM3U\n".to_owned() + &variants.rev().collect::<String>()
}

/// Decoded pictures, size and name of a picture track.
type Pictures<'a> = (u64, Option<(u32, u32)>, &'a str);

/// Detector, track and rendition of a defect, and its cause.
type Found<'a> = (&'a str, Option<String>, Option<&'a str>, Cause);

/// All picture tracks, in order.
fn pictures(done: &Analysis) -> Vec<Pictures<'_>> {
    let tracks = done.status.tracks.iter();
    tracks
        .filter(|t| t.info.track.kind == Kind::Video)
        .map(|t| {
            let size = match &t.format {
                Some(Format::Video(v)) => Some((v.width, v.height)),
                _ => None,
            };
            (t.decoded, size, t.info.member.as_deref().unwrap())
        })
        .collect()
}

/// What is worth a ticket or a page.
fn found(done: &Analysis) -> Vec<Found<'_>> {
    let worse = done
        .defects
        .iter()
        .filter(|d| d.severity >= Severity::Warning);
    worse
        .map(|d| {
            (
                d.detector,
                d.track.map(|t| t.to_string()),
                d.member.as_deref(),
                d.cause,
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_is_decoded_and_a_freeze_is_found_on_the_one_that_has_it() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(master()),
        path if path.ends_with(".m3u8") => playlist(),
        path => segment(path),
    })
    .await;
    let done = analysed(&format!("{}/m.m3u8", origin.url), "all").await;
    assert_eq!(done.end.cause, None);
    let expected = LADDER.map(|(_, size, _, name)| (PICTURES, Some(size), name));
    assert_eq!(pictures(&done), expected);
    let sound: Vec<_> = (done.status.tracks.iter())
        .filter(|t| t.info.track.kind == Kind::Audio)
        .map(|t| t.info.member.as_deref().unwrap())
        .collect();
    assert_eq!(
        sound,
        LADDER.map(|(.., name)| name),
        "sound is of its rendition"
    );
    let low = (
        "freeze",
        Some("video:2".to_owned()),
        Some("144p@200k"),
        Cause::Frozen,
    );
    let track = Some(Track::video(2));
    assert_eq!(found(&done), [low], "{:#?}", done.defects);
    // The others go on, so it came in there; the comparison itself is recorded.
    for detector in ["freeze", "rung_difference"] {
        let found = done.defects.iter().find(|d| d.detector == detector);
        let found = found.map(|d| (d.track, d.place));
        let there = Some((track, Some(Place::Encoder)));
        assert_eq!(found, there, "{detector}: {:#?}", done.defects);
    }
    assert_eq!(origin.asked("m.m3u8").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_member_is_named_and_the_others_are_decoded() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(master()),
        "/high/v.m3u8" => status(404),
        path if path.ends_with(".m3u8") => playlist(),
        path => segment(path),
    })
    .await;
    let done = analysed(&format!("{}/m.m3u8", origin.url), "all").await;
    assert_eq!(done.end.cause, None);
    let [(.., high), (_, mid_size, _, mid), (_, low_size, _, low)] = LADDER;
    assert_eq!(
        pictures(&done),
        [
            (0, None, high),
            (PICTURES, Some(mid_size), mid),
            (PICTURES, Some(low_size), low)
        ]
    );
    let missing = (
        "loss",
        Some("video:0".to_owned()),
        Some(high),
        Cause::HttpNotFound,
    );
    assert!(found(&done).contains(&missing), "{:#?}", done.defects);
    let others = found(&done)
        .into_iter()
        .filter(|(detector, ..)| *detector == "loss");
    assert_eq!(others.count(), 1, "{:#?}", done.defects);
}

/// A playlist of three segments that goes on by one a second, until all have been listed.
fn live(since: std::time::Duration) -> String {
    let first = (1 + since.as_secs()).min(SECS - 2);
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for n in first..first + 3 {
        text += &format!("#EXTINF:1,\ns{n}.ts\n");
    }
    match first + 2 == SECS {
        true => text + "#EXT-X-ENDLIST\n",
        false => text,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_members_lie_on_one_clock_and_one_that_returns_takes_its_place() {
    ready().await;
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(master()),
        "/high/v.m3u8" if asked.before < 2 => status(404),
        path if path.ends_with(".m3u8") => ok(live(asked.since)),
        path => segment(path),
    })
    .await;
    let mut input = input(&format!("{}/m.m3u8", origin.url), Protocol::Hls);
    input.rendition = Rendition::Ends;
    let watched = watch(input);
    let sink = std::sync::Arc::clone(&watched.sink);
    let waiting = tokio::task::spawn_blocking(move || sink.wait("the end", ended));
    waiting.await.unwrap();
    let seen = watched.sink.all();
    assert_monotone(&seen);
    let [high, low] = [0, 1].map(|n| crate::media::pictures(&seen, n));
    assert!(
        high.len() >= 25 && low.len() > high.len(),
        "{} {}",
        high.len(),
        low.len()
    );
    assert!(
        high.iter().all(|at| low.contains(at)),
        "the same pictures at the same times"
    );
    let told: Vec<_> = facts(&seen)
        .filter_map(|(_, fact)| match fact {
            Fact::Tracks(tracks) => tracks.first().cloned(),
            _ => None,
        })
        .collect();
    let [(.., name), ..] = LADDER;
    assert!(
        told.iter()
            .all(|first| first.member.as_deref() == Some(name))
    );
    assert!(
        told.iter()
            .any(|first| first.problem == Some(Cause::HttpNotFound))
    );
    assert_eq!(told.last().and_then(|first| first.problem), None);
}

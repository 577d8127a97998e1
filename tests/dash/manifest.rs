//! What is told of manifests and of the way segments arrive.

use std::collections::BTreeMap;
use std::time::Duration;

use detectors::base::{Cause, Fact, SegmentFate};

use crate::origin::*;
use crate::rig::*;

/// Reads segments of so many pictures, declared as one second, and gives what was met.
async fn with_segments(pictures: u64) -> (Rig, Origin) {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(began, &period(&set(NUMBERS)))),
        _ => ok(timed(Duration::from_secs(asked.since.as_secs()), pictures)),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("segments", |rig| rig.facts.segments().len() >= 6)
        .await;
    (rig, origin)
}

#[tokio::test]
async fn a_clean_presentation_breaks_no_rule() {
    // Segments of a nominal duration may be off by half of it, and lie where the manifest says.
    let (rig, _origin) = with_segments(14).await;
    assert_eq!(met(&rig), BTreeMap::new());
    for segment in rig.facts.segments() {
        let fate = segment.fate;
        assert!(
            matches!(
                fate,
                SegmentFate::Read {
                    excess_secs: Some(0.0),
                    jumps: false,
                    ..
                }
            ),
            "{segment:?}"
        );
    }
    let targets = rig.facts.flat(|fact| match fact {
        Fact::Playlist(load) => vec![(load.list, load.live, load.target)],
        _ => Vec::new(),
    });
    assert!(targets.len() >= 3);
    assert!(
        targets
            .iter()
            .all(|told| *told == (0, true, Duration::from_secs(1)))
    );
}

#[tokio::test]
async fn segments_far_off_their_nominal_duration_are_told() {
    let (rig, _origin) = with_segments(30).await;
    assert_eq!(met(&rig), only("wrong_duration", Cause::WrongDuration));
}

#[tokio::test]
async fn a_frozen_manifest_is_stale() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(began, &period(&timeline(AGE)))),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("staleness", |rig| !met(rig).is_empty()).await;
    assert_eq!(met(&rig), only("stale_playlist", Cause::PlaylistStalled));
}

#[tokio::test]
async fn missing_segments_are_counted() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(began, &period(&set(NUMBERS)))),
        path if path.ends_with("32.ts") => status(404),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("an error", |rig| !met(rig).is_empty()).await;
    assert_eq!(met(&rig), only("segments_missing", Cause::HttpNotFound));
}

#[tokio::test]
async fn sound_that_lags_is_out_of_step() {
    for (late, told) in [
        (6, only("out_of_step", Cause::OutOfStep)),
        (1, BTreeMap::new()),
    ] {
        let began = jiff::Timestamp::now();
        let origin = Origin::start(move |asked| match asked.path.as_str() {
            "/a.mpd" => {
                let end = AGE + asked.since.as_secs();
                let sound = timeline(end - late).replace("video/", "audio/");
                ok(dynamic(began, &period(&(timeline(end) + &sound))))
            }
            path => segment(path),
        })
        .await;
        let rig = dash(&format!("{}/a.mpd", origin.url));
        rig.until("segments", |rig| rig.facts.segments().len() >= 12)
            .await;
        assert_eq!(met(&rig), told);
    }
}

//! Several representations watched as one stream.

use std::time::Duration;

use detectors::base::{Cause, Format, Kind};
use glasswatch::config::Rendition;

use crate::ladder::{LADDER, PICTURES, SECS, analysed};
use crate::origin::*;
use crate::rig::*;

const SETS: &str = "<AdaptationSet contentType='audio' lang='en'>\
    <Representation id='a' bandwidth='1' mimeType='audio/mp2t'>\
    <SegmentTemplate media='sound/s$Number$.ts' duration='1' startNumber='20'/></Representation>\
    </AdaptationSet><AdaptationSet mimeType='video/mp2t' contentType='video'>\
    <SegmentTemplate media='$RepresentationID$/s$Number$.ts' duration='1'/>\
    <Representation id='low' bandwidth='100000' height='360'/>\
    <Representation id='high' bandwidth='900000' height='1080'/>\
    <Representation id='mid' bandwidth='500000' height='720'/></AdaptationSet>";

fn members(url: &str, rule: Rendition) -> Rig {
    dash_with(url, |input| input.rendition = rule)
}

#[tokio::test]
async fn members_share_the_manifest_and_the_sound() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.mpd" => ok(complete(2, &period(SETS))),
        path => segment(path),
    })
    .await;
    let rig = members(&format!("{}/a.mpd", origin.url), Rendition::All);
    let end = rig.to_end().await;
    assert_eq!(end.cause, None);
    let (video, audio) = (Some(Kind::Video), Some(Kind::Audio));
    assert_eq!(
        *rig.recorder.inputs.lock().unwrap(),
        [
            (video, None),
            (video, None),
            (video, None),
            (audio, Some("en".to_owned()))
        ]
    );
    let one = |n: usize, name: &str| (n, name.to_owned(), vec![Kind::Video]);
    assert_eq!(
        *rig.recorder.expected.lock().unwrap(),
        [
            one(0, "1080p@900k"),
            one(1, "720p@500k"),
            one(2, "360p@100k")
        ]
    );
    for (input, marks) in [(0, [1, 2]), (1, [1, 2]), (2, [1, 2]), (3, [20, 21])] {
        assert_eq!(rig.recorder.marks_of(input), marks);
    }
    for part in ["/high/", "/mid/", "/low/", "/sound/"] {
        assert_eq!(origin.asked(part).len(), 2, "{part}");
    }
    assert_eq!(origin.asked("a.mpd").len(), 1);
    assert_eq!(rig.facts.causes(), []);
}

#[tokio::test]
async fn in_a_period_of_other_names_a_member_is_what_compares_with_it() {
    let advert = SETS
        .replace("'low'", "'x'")
        .replace("'high'", "'z'")
        .replace("'mid'", "'y'");
    let periods =
        format!("<Period duration='PT1S'>{SETS}</Period><Period duration='PT1S'>{advert}</Period>");
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(complete(2, &periods)),
        path => segment(path),
    })
    .await;
    let rig = members(&format!("{}/a.mpd", origin.url), Rendition::Ends);
    rig.to_end().await;
    for (part, times) in [
        ("/high/", 1),
        ("/z/", 1),
        ("/low/", 1),
        ("/x/", 1),
        ("/mid/", 0),
        ("/y/", 0),
    ] {
        assert_eq!(origin.asked(part).len(), times, "{part}");
    }
}

#[tokio::test]
async fn a_member_that_fails_or_leaves_the_manifest_stops_nobody() {
    let began = jiff::Timestamp::now();
    let gone = Duration::from_secs(3);
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => {
            let mid = "<Representation id='mid' bandwidth='500000' height='720'/>";
            let left = match asked.since < gone {
                true => SETS.to_owned(),
                false => SETS.replace(mid, ""),
            };
            ok(dynamic(began, &period(&left)))
        }
        path if path.starts_with("/low/") && asked.since < gone => status(404),
        path => segment(path),
    })
    .await;
    let rig = members(&format!("{}/a.mpd", origin.url), Rendition::All);
    rig.until("all that", |rig| {
        let troubles = rig.recorder.troubles.lock().unwrap().clone();
        troubles.contains(&(2, Some(Cause::HttpNotFound)))
            && rig.trouble(2).is_none()
            && rig.recorder.marks_of(2).len() >= 2
            && rig.trouble(1) == Some(Cause::MissingTrack)
    })
    .await;
    assert!(rig.recorder.marks_of(0).len() >= 4);
    assert!(
        rig.recorder
            .troubles
            .lock()
            .unwrap()
            .iter()
            .all(|(of, _)| *of > 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_is_decoded() {
    let representations: String = (LADDER.iter())
        .map(|(name, (width, height), bandwidth, _)| {
            format!("<Representation id='{name}' bandwidth='{bandwidth}' width='{width}' height='{height}'/>")
        })
        .collect();
    let sets = format!(
        "<AdaptationSet mimeType='video/mp2t'>\
         <SegmentTemplate media='$RepresentationID$/s$Number$.ts' duration='1'/>{representations}</AdaptationSet>"
    );
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(complete(SECS, &period(&sets))),
        path if path.starts_with("/mid/") => status(404),
        path => crate::ladder::segment(path),
    })
    .await;
    let done = analysed(&format!("{}/a.mpd", origin.url), "all").await;
    assert_eq!(done.end.cause, None);
    let told: Vec<_> = (done.status.tracks.iter())
        .filter(|t| t.info.track.kind == Kind::Video)
        .map(|t| {
            let size = match &t.format {
                Some(Format::Video(v)) => Some((v.width, v.height)),
                _ => None,
            };
            (t.decoded, size, t.info.problem)
        })
        .collect();
    let [(_, high, ..), _, (_, low, ..)] = LADDER;
    let missing = Some(Cause::HttpNotFound);
    assert_eq!(
        told,
        [
            (PICTURES, Some(high), None),
            (0, None, missing),
            (PICTURES, Some(low), None)
        ]
    );
}

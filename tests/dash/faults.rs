//! Origins that fail, lie, stall, or send us elsewhere.

use std::time::{Duration, Instant};

use detectors::base::Cause;
use glasswatch::ingest::source::Retry;
use glasswatch::ingest::stats::RequestResult;

use crate::origin::*;
use crate::rig::*;

#[tokio::test]
async fn segments_404_while_the_manifest_lives_then_recover() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(
            began,
            &period(&timeline(AGE + asked.since.as_secs())),
        )),
        _ if (2..5).contains(&asked.since.as_secs()) => status(404),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("recovery", |rig| {
        rig.recorder.marks().last().is_some_and(|mark| *mark >= 36)
    })
    .await;
    let causes = rig.facts.causes();
    assert!(causes.len() >= 2 && causes.iter().all(|cause| *cause == Cause::HttpNotFound));
    let failed = count(&rig.stats.segment_requests, RequestResult::Http4xx);
    assert!(
        (2..=7).contains(&failed),
        "{failed} failed in three seconds"
    );
}

#[tokio::test]
async fn a_frozen_manifest_is_told_within_three_segments() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(began, &period(&timeline(AGE)))),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    let began = Instant::now();
    rig.until("stall", |rig| !rig.facts.causes().is_empty())
        .await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(rig.facts.causes()[0], Cause::PlaylistStalled);
    assert_eq!(rig.recorder.marks(), [27, 28, 29]);
    assert_paced(&origin.asked("a.mpd"));
}

#[tokio::test]
async fn a_failing_manifest_is_told_and_asked_for_gently() {
    let origin = Origin::start(|asked| match asked.before {
        0 => status(404),
        1 => status(503),
        2 => ok("<html>"),
        3 => ok("<!DOCTYPE MPD [<!ENTITY a 'aaaa'>]><MPD>&a;</MPD>"),
        4 => ok("<MPD type='static'/>"),
        _ => ok(format!("<MPD>{}", "<a>".repeat(1_000))),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("six failures", |rig| rig.facts.causes().len() >= 6)
        .await;
    assert_eq!(
        rig.facts.causes()[..6],
        [
            Cause::HttpNotFound,
            Cause::HttpServerError,
            Cause::PlaylistInvalid,
            Cause::PlaylistInvalid,
            Cause::PlaylistInvalid,
            Cause::PlaylistInvalid,
        ]
    );
    assert_paced(&origin.asked("a.mpd"));
}

#[tokio::test]
async fn a_manifest_without_end_is_cut() {
    let origin = Origin::start(|_| endless(b"<MPD><Period/></MPD>".repeat(1_000))).await;
    let rig = dash_with(&format!("{}/a.mpd", origin.url), |input| {
        input.limits.playlist_bytes = 100_000;
    });
    rig.until("a refusal", |rig| !rig.facts.causes().is_empty())
        .await;
    assert_eq!(rig.facts.causes()[0], Cause::TooLarge);
}

#[tokio::test]
async fn forbidden_places_inside_a_manifest_are_never_followed() {
    const LIST: &str = "<SegmentList duration='1'>\
        <Initialization sourceURL='file:///etc/hosts'/>\
        <SegmentURL media='s1.ts'/></SegmentList>";
    let places = "<SegmentList duration='1'><SegmentURL media='file:///etc/passwd'/>\
        <SegmentURL media='http://169.254.169.254/latest/meta-data'/>\
        <SegmentURL media='s2.ts'/></SegmentList>";
    let periods = format!(
        "<Period duration='PT1S'>{}</Period><Period duration='PT3S'>{}</Period>",
        set(LIST),
        set(places)
    );
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(complete(4, &periods)),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    let end = rig.to_end().await;
    // Three in a row are too many for what is complete.
    assert_eq!(end.cause, Some(Cause::AddressRefused));
    assert_eq!(
        rig.facts.causes(),
        [
            Cause::SchemeRefused,
            Cause::SchemeRefused,
            Cause::AddressRefused
        ]
    );
    assert_eq!(origin.asked("s1.ts").len(), 0);
}

#[tokio::test]
async fn redirects_in_a_circle_and_private_addresses_are_refused() {
    let origin = Origin::start(|_| redirect("/a.mpd")).await;
    let url = format!("{}/a.mpd", origin.url);
    let circle = dash(&url);
    circle
        .until("a refusal", |rig| !rig.facts.causes().is_empty())
        .await;
    assert_eq!(circle.facts.causes()[0], Cause::RedirectRefused);
    let asked = origin.asked("").len();
    let private = dash_with(&url, |input| input.allow_private = false);
    private
        .until("a refusal", |rig| !rig.facts.causes().is_empty())
        .await;
    assert_eq!(private.facts.causes()[0], Cause::AddressRefused);
    assert_eq!(origin.asked("").len(), asked);
}

#[tokio::test]
async fn protected_media_is_named_and_not_asked_for() {
    let protected = format!(
        "<ContentProtection schemeIdUri='urn:mpeg:dash:mp4protection:2011' value='cenc'/>{NUMBERS}"
    );
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(complete(5, &period(&set(&protected)))),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    let end = rig.to_end().await;
    assert_eq!(
        (end.cause, end.retry),
        (Some(Cause::EncryptedNoKey), Retry::Backoff)
    );
    assert!(rig.recorder.marks().is_empty());
    assert_eq!(origin.asked(".ts").len(), 0);
}

#[tokio::test]
async fn containers_that_are_not_read_are_named() {
    let ogg =
        period("<AdaptationSet mimeType='video/ogg'><Representation id='v'/></AdaptationSet>");
    let origin = Origin::start(move |_| ok(complete(5, &ogg))).await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("a cause", |rig| !rig.facts.causes().is_empty())
        .await;
    assert_eq!(rig.facts.causes()[0], Cause::UnsupportedFormat);
}

//! What a well-behaved origin serves.

use std::time::Duration;

use detectors::base::{Fact, InputEvent, Kind};
use glasswatch::config::{Protocol, Rendition};
use glasswatch::ingest::source::{Retry, http};
use glasswatch::ingest::stats::RequestResult;

use crate::origin::*;
use crate::rig::*;

#[tokio::test]
async fn a_complete_presentation_is_played_to_its_end() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.mpd" => ok(complete(3, &period(&set(NUMBERS)))),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    let end = rig.to_end().await;
    assert_eq!((end.cause, end.retry), (None, Retry::Never));
    assert_eq!(rig.recorder.marks(), [1, 2, 3]);
    assert!(rig.facts.has(&Fact::Input(InputEvent::Ended)));
    assert!(rig.facts.has(&Fact::Input(InputEvent::Receiving)));
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(count(&rig.stats.segment_requests, RequestResult::Ok), 3);
    assert_eq!(count(&rig.stats.playlist_requests, RequestResult::Ok), 1);
    assert!(rig.stats.playlist_last_change_unix_ms.get() > 1_600_000_000_000);
}

#[tokio::test]
async fn pictures_and_sound_are_two_inputs_by_the_rendition_rule() {
    const SETS: &str = "<AdaptationSet contentType='audio' lang='en'>\
        <Representation id='a' bandwidth='1' mimeType='audio/mp2t'><BaseURL>sound/</BaseURL>\
        <SegmentTemplate media='s$Number$.ts' duration='1' startNumber='20'/></Representation>\
        </AdaptationSet><AdaptationSet mimeType='video/mp2t'>\
        <SegmentTemplate media='$RepresentationID$/s$Number$.ts' duration='1'/>\
        <Representation id='low' bandwidth='1' height='360'/>\
        <Representation id='high' bandwidth='9' height='1080'/></AdaptationSet>";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/x/a.mpd" => ok(complete(2, &period(SETS))),
        path => segment(path),
    })
    .await;
    let rig = dash_with(&format!("{}/x/a.mpd", origin.url), |input| {
        input.rendition = Rendition::Lowest;
    });
    rig.to_end().await;
    assert_eq!(
        *rig.recorder.inputs.lock().unwrap(),
        [
            (Some(Kind::Video), None),
            (Some(Kind::Audio), Some("en".to_owned()))
        ]
    );
    assert_eq!(rig.recorder.marks(), [1, 2]);
    let sound: Vec<_> = rig.recorder.pieces(1).iter().map(|p| p.data[2]).collect();
    assert_eq!(sound, [20, 21]);
    assert_eq!(origin.asked("/x/low/").len(), 2);
    assert_eq!(origin.asked("/x/high/").len(), 0);
    assert_eq!(origin.asked("/x/sound/").len(), 2);
}

#[tokio::test]
async fn a_new_period_is_a_discontinuity() {
    let list = "<SegmentList duration='1'><SegmentURL media='s7.ts'/><SegmentURL media='s8.ts'/></SegmentList>";
    let periods = format!(
        "<Period duration='PT2S'>{}</Period><Period duration='PT0S'/><Period duration='PT2S'>{}</Period>",
        set(NUMBERS),
        set(list)
    );
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(complete(4, &periods)),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [1, 2, 7, 8]);
    let pieces = rig.recorder.pieces(0);
    let discontinuous: Vec<_> = pieces.iter().map(|piece| piece.discontinuity).collect();
    assert_eq!(discontinuous, [false, false, true, false]);
}

/// Answers only for segments that have ended by now.
fn available(path: &str, since: Duration) -> axum::response::Response {
    let number: u64 = path
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap();
    match Duration::from_secs(number) <= since + Duration::from_secs(AGE) {
        true => segment(path),
        false => status(404),
    }
}

#[tokio::test]
async fn live_numbers_start_at_the_edge_and_are_never_asked_for_too_early() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        // Complete as it stands: time alone brings segments.
        "/a.mpd" => {
            ok(dynamic(began, &period(&set(NUMBERS))).replace("minimumUpdatePeriod='PT1S'", ""))
        }
        path => available(path, asked.since),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("seven segments", |rig| rig.recorder.marks().len() >= 7)
        .await;
    let marks = rig.recorder.marks();
    assert!((28..=29).contains(&marks[0]), "{marks:?}");
    assert!(
        marks.windows(2).all(|two| two[1] == two[0] + 1),
        "{marks:?}"
    );
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(origin.asked("a.mpd").len(), 1);
}

#[tokio::test]
async fn a_live_timeline_is_followed_over_its_reloads() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(
            began,
            &period(&timeline(AGE + asked.since.as_secs())),
        )),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("seven segments", |rig| rig.recorder.marks().len() >= 7)
        .await;
    assert_from_edge(&rig.recorder.marks(), 7);
    assert_eq!(rig.facts.causes(), []);
    assert_paced(&origin.asked("a.mpd"));
}

#[tokio::test]
async fn a_live_presentation_goes_on_in_its_next_period() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| {
        let end = AGE + asked.since.as_secs();
        match asked.path.as_str() {
            "/a.mpd" if end <= AGE + 1 => ok(dynamic(began, &period(&timeline(end)))),
            "/a.mpd" => {
                let (start, n) = (AGE + 1, end - AGE - 2);
                let second = set(&format!(
                    "<SegmentTemplate media='t/s$Number$.ts' startNumber='100'><SegmentTimeline>\
                     <S t='0' d='1' r='{n}'/></SegmentTimeline></SegmentTemplate>"
                ));
                let second = format!("<Period start='PT{start}S'>{second}</Period>");
                ok(dynamic(began, &(period(&timeline(AGE + 1)) + &second)))
            }
            path => segment(path),
        }
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("the next period", |rig| rig.recorder.marks().contains(&102))
        .await;
    let marks = rig.recorder.marks();
    let (before, after) = marks.split_at(marks.iter().position(|mark| *mark == 100).unwrap());
    assert_from_edge(before, 3);
    assert_eq!(before.last(), Some(&30));
    assert_eq!(after[..3], [100, 101, 102]);
    let pieces = rig.recorder.pieces(0);
    let marked = pieces.iter().filter(|piece| piece.discontinuity);
    assert_eq!(marked.map(|p| p.data[2]).collect::<Vec<_>>(), [100]);
    assert_eq!(rig.facts.causes(), []);
}

#[tokio::test]
async fn the_origins_clock_counts_however_it_is_told() {
    let hour = Duration::from_secs(3600);
    for direct in [true, false] {
        let began = jiff::Timestamp::now() + hour;
        let origin = Origin::start(move |asked| match asked.path.as_str() {
            "/a.mpd" => {
                let (kind, value) = match direct {
                    true => ("direct", (jiff::Timestamp::now() + hour).to_string()),
                    false => ("http-iso", "/now".to_owned()),
                };
                let clock = format!(
                    "<UTCTiming schemeIdUri='urn:mpeg:dash:utc:{kind}:2014' value='{value}'/>"
                );
                ok(dynamic(began, &(clock + &period(&set(NUMBERS)))))
            }
            "/now" => ok((jiff::Timestamp::now() + hour).to_string()),
            path => available(path, asked.since),
        })
        .await;
        let rig = dash(&format!("{}/a.mpd", origin.url));
        rig.until("four segments", |rig| rig.recorder.marks().len() >= 4)
            .await;
        let first = rig.recorder.marks()[0];
        assert!((28..=29).contains(&first), "direct {direct}: {first}");
        assert_eq!(rig.facts.causes(), []);
    }
}

#[tokio::test]
async fn the_manifest_moves_to_where_it_says() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" | "/b/c.mpd" => {
            let body = "<Location>b/c.mpd</Location><BaseURL>/m/</BaseURL>".to_owned()
                + &period(&timeline(AGE + asked.since.as_secs()));
            ok(dynamic(began, &body).replace("b/c.mpd", "/b/c.mpd"))
        }
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("five segments", |rig| rig.recorder.marks().len() >= 5)
        .await;
    assert_eq!(origin.asked("/a.mpd").len(), 1);
    assert!(origin.asked("/b/c.mpd").len() >= 2);
    assert_eq!(rig.facts.causes(), []);
}

#[tokio::test]
async fn a_body_that_turns_out_to_be_a_manifest_is_played() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/live" => ok(format!(
            "<?xml version='1.0'?><!-- {} -->{}",
            "long ".repeat(400),
            complete(2, &period(&set(NUMBERS)))
        )),
        path => segment(path),
    })
    .await;
    let rig = rig_with(&format!("{}/live", origin.url), |input| {
        input.protocol = Protocol::Http;
    });
    let no_file = async |_: &_, _: &std::path::Path| panic!("a file");
    let end = http::play(&rig.cx, rig.recorder.clone(), no_file).await;
    assert_eq!(end.cause, None);
    assert_eq!(rig.recorder.marks(), [1, 2]);
}

#[tokio::test]
async fn a_manifest_on_disk_is_played_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("a.mpd"),
        complete(2, &period(&set(NUMBERS))),
    )
    .unwrap();
    for n in [1, 2] {
        std::fs::write(dir.path().join(format!("s{n}.ts")), ts(n)).unwrap();
    }
    let rig = dash(&format!("file://{}/a.mpd", dir.path().display()));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [1, 2]);
    assert_eq!(rig.facts.causes(), []);
}

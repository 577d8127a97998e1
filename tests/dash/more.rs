//! Patches, clocks that lie, segments that are still being made, events, elements that stand elsewhere.

use std::time::{Duration, Instant};

use axum::http::header;
use axum::response::Response;
use bytes::Bytes;
use detectors::base::{BreakEdge, Cause};
use futures_util::stream;
use glasswatch::config::Protocol;
use glasswatch::ingest::convert::Feed;
use glasswatch::ingest::source::http;
use glasswatch::ingest::stats::RequestResult;

use crate::origin::*;
use crate::rig::*;

/// Seconds of the presentation at a moment of the origin.
fn end(since: Duration) -> u64 {
    AGE + since.as_secs()
}

/// When the state that ends so many seconds into the presentation was published.
fn published(began: jiff::Timestamp, end: u64) -> jiff::Timestamp {
    began - Duration::from_secs(AGE) + Duration::from_secs(end)
}

/// A live manifest of a second's state, which offers patches.
fn patchable(began: jiff::Timestamp, end: u64) -> String {
    let published = published(began, end);
    let location = format!("<PatchLocation ttl='30'>patch?of={end}</PatchLocation>");
    let inside = location + &period(&timeline(end)).replace("<Period ", "<Period id='p' ");
    let attributes = format!("<MPD id='m' publishTime='{published}' ");
    dynamic(began, &inside).replacen("<MPD ", &attributes, 1)
}

/// What leads from one second's state to another's.
fn patch(began: jiff::Timestamp, from: u64, to: u64) -> String {
    let at = |end| published(began, end);
    let sel = "/MPD/Period[@id='p']/AdaptationSet/SegmentTemplate/SegmentTimeline/S[1]/@t";
    format!(
        "<?xml version='1.0'?><!-- what changed --><Patch mpdId='m' originalPublishTime='{}' publishTime='{}'>\
         <replace sel='/MPD/@publishTime'>{}</replace><replace sel='/MPD/PatchLocation'>\
         <PatchLocation ttl='30'>patch?of={to}</PatchLocation></replace>\
         <replace sel=\"{sel}\">{}</replace></Patch>",
        at(from),
        at(to),
        at(to),
        to - 8
    )
}

#[tokio::test]
async fn a_live_manifest_is_followed_by_its_patches() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| {
        let now = end(asked.since);
        match asked.path.split_once("?of=") {
            Some((_, from)) => ok(patch(began, from.parse().unwrap(), now)),
            None if asked.path == "/a.mpd" => ok(patchable(began, now)),
            None => segment(&asked.path),
        }
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("eight segments", |rig| rig.recorder.marks().len() >= 8)
        .await;
    assert_from_edge(&rig.recorder.marks(), 8);
    assert_eq!(rig.facts.causes(), []);
    // Only the first time as a whole.
    assert_eq!(origin.asked("a.mpd").len(), 1);
    assert!(origin.asked("patch").len() >= 4);
}

#[tokio::test]
async fn the_whole_manifest_is_loaded_when_a_patch_is_not_to_be_had() {
    for bad in ["404", "other", "nonsense", "doctype", "endless", "late"] {
        let began = jiff::Timestamp::now();
        let origin = Origin::start(move |asked| {
            let now = end(asked.since);
            match (asked.path.split_once("?of="), bad) {
                (Some(_), "404") => status(404),
                (Some((_, from)), "other") => {
                    let from: u64 = from.parse().unwrap();
                    ok(patch(began, from - 1, now))
                }
                (Some(_), "nonsense") => ok("<html>"),
                (Some((_, from)), "doctype") => {
                    let text = patch(began, from.parse().unwrap(), now);
                    ok(text.replace("<Patch", "<!DOCTYPE a [<!ENTITY b 'c'>]><Patch"))
                }
                (Some(_), _) => endless(b"<Patch>".repeat(1000)),
                (None, _) if asked.path == "/a.mpd" => {
                    let ttl = if bad == "late" { "ttl='0'" } else { "ttl='30'" };
                    ok(patchable(began, now).replace("ttl='30'", ttl))
                }
                (None, _) => segment(&asked.path),
            }
        })
        .await;
        let rig = dash_with(&format!("{}/a.mpd", origin.url), |input| {
            input.limits.playlist_bytes = 100_000;
        });
        rig.until("six segments", |rig| rig.recorder.marks().len() >= 6)
            .await;
        assert_from_edge(&rig.recorder.marks(), 6);
        assert_eq!(rig.facts.causes(), [], "{bad}");
        assert!(origin.asked("a.mpd").len() >= 3, "{bad}");
        assert_eq!(origin.asked("patch").is_empty(), bad == "late", "{bad}");
        let mut all = origin.asked("a.mpd");
        all.extend(origin.asked("patch"));
        all.sort();
        assert_paced(&all);
    }
}

/// Answers only for segments of a window of eight that have ended by now.
fn in_window(path: &str, since: Duration) -> Response {
    let number: u64 = path
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap();
    match (end(since) - 8..=end(since)).contains(&number) {
        true => segment(path),
        false => status(404),
    }
}

fn clock(kind: &str, value: &str) -> String {
    format!("<UTCTiming schemeIdUri='urn:mpeg:dash:utc:{kind}:2014' value='{value}'/>")
}

#[tokio::test]
async fn a_clock_that_is_a_minute_wrong_is_corrected_within_seconds() {
    // By a minute and back before the presentation began; by so much that its segments are gone.
    for (secs, ahead) in [(60, true), (60, false), (20, false)] {
        let off = Duration::from_secs(secs);
        let began = jiff::Timestamp::now();
        let origin = Origin::start(move |asked| match asked.path.as_str() {
            "/a.mpd" => {
                let now = jiff::Timestamp::now();
                let told = if ahead { now + off } else { now - off };
                let inside = clock("direct", &told.to_string()) + &period(&set(NUMBERS));
                ok(dynamic(began, &inside))
            }
            path => in_window(path, asked.since),
        })
        .await;
        let rig = dash(&format!("{}/a.mpd", origin.url));
        let since = Instant::now();
        rig.until("five segments", |rig| rig.recorder.marks().len() >= 5)
            .await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(10), "{secs} {ahead}: {took:?}");
        let marks = rig.recorder.marks();
        let steady = marks.windows(2).all(|two| two[1] == two[0] + 1);
        assert!(steady, "{secs} {ahead}: {marks:?}");
    }
}

#[tokio::test]
async fn a_clock_that_goes_wrong_is_not_believed_while_another_leads_to_segments() {
    let minute = Duration::from_secs(60);
    for ahead in [true, false] {
        let began = jiff::Timestamp::now();
        let origin = Origin::start(move |asked| match asked.path.as_str() {
            "/a.mpd" => {
                let now = jiff::Timestamp::now();
                let told = match (asked.since.as_secs() < 3, ahead) {
                    (true, _) => now,
                    (_, true) => now + minute,
                    (_, false) => now - minute,
                };
                let inside = clock("direct", &told.to_string()) + &period(&set(NUMBERS));
                ok(dynamic(began, &inside))
            }
            path => in_window(path, asked.since),
        })
        .await;
        let rig = dash(&format!("{}/a.mpd", origin.url));
        rig.until("ten segments", |rig| rig.recorder.marks().len() >= 10)
            .await;
        let marks = rig.recorder.marks();
        let steady = marks.windows(2).all(|two| two[1] == two[0] + 1);
        assert!(steady, "ahead {ahead}: {marks:?}");
        assert_eq!(rig.facts.causes(), [], "ahead {ahead}");
    }
}

#[tokio::test]
async fn the_date_of_an_answer_is_a_clock() {
    let hour = Duration::from_secs(3600);
    let began = jiff::Timestamp::now() + hour;
    let origin = Origin::start(move |asked| {
        // As HTTP writes dates.
        let date = (jiff::Timestamp::now() + hour).strftime("%a, %d %b %Y %H:%M:%S GMT");
        let answer = match asked.path.as_str() {
            "/a.mpd" => {
                // Both are UDP.
                let clocks = clock("ntp", "127.0.0.1") + &clock("sntp", "127.0.0.1");
                let clocks = clocks + &clock("http-head", "/head");
                ok(dynamic(began, &(clocks + &period(&set(NUMBERS)))))
            }
            "/head" => ok(""),
            path => in_window(path, asked.since),
        };
        with(answer, header::DATE, &date.to_string())
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("four segments", |rig| rig.recorder.marks().len() >= 4)
        .await;
    let first = rig.recorder.marks()[0];
    // A date has whole seconds.
    assert!((27..=29).contains(&first), "{first}");
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(origin.asked("/head").len(), 1);
}

/// A body that arrives in eight pieces over the second in which it is made.
fn slowly(path: &str, since: Duration) -> Response {
    let name = path.rsplit("/s").next().unwrap();
    let number: u64 = name.strip_suffix(".ts").unwrap().parse().unwrap();
    let made = Duration::from_secs(number).saturating_sub(Duration::from_secs(AGE));
    // It may be asked for 0.8 s before it is complete.
    if since + Duration::from_millis(850) < made {
        return status(404);
    }
    let whole = ts(u8::try_from(number).unwrap());
    let left = made.saturating_sub(since) / 8;
    let pieces: Vec<_> = whole.chunks(188).map(Bytes::copy_from_slice).collect();
    let body = stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(left).await;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    });
    ok(axum::body::Body::from_stream(body))
}

#[tokio::test]
async fn segments_that_are_still_being_made_are_read_as_they_come() {
    let began = jiff::Timestamp::now();
    let early = "<SegmentTemplate media='s$Number$.ts' duration='1' \
                 availabilityTimeOffset='0.8' availabilityTimeComplete='false'/>";
    let service = "<ServiceDescription><Latency target='1000'/></ServiceDescription>";
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(began, &(service.to_owned() + &period(&set(early))))),
        path => slowly(path, asked.since),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    let since = Instant::now();
    rig.until("seven segments", |rig| rig.recorder.marks().len() >= 7)
        .await;
    let marks = rig.recorder.marks();
    let steady = marks.windows(2).all(|two| two[1] == two[0] + 1);
    assert!(steady && (29..=31).contains(&marks[0]), "{marks:?}");
    // The last one ended hardly before it was read.
    let last = AGE as f64 + since.elapsed().as_secs_f64() - f64::from(marks[6]);
    assert!(last < 1.5, "{last} s late");
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(
        count(&rig.stats.segment_requests, RequestResult::Http4xx),
        0
    );
}

#[tokio::test]
async fn a_body_that_stops_while_it_is_made_is_a_fault() {
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(dynamic(began, &period(&timeline(end(asked.since))))),
        "/s29.ts" => hang(&ts(29)[..400]),
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("what comes behind it", |rig| {
        rig.recorder.marks().contains(&31)
    })
    .await;
    assert_eq!(rig.facts.causes()[0], Cause::Timeout);
}

#[tokio::test]
async fn events_of_the_manifest_are_fed_before_their_segment_once() {
    let event = |id: u64, at: u64, out: u8| {
        format!(
            "<Event id='{id}' presentationTime='{at}'><Signal><SpliceInfoSection>\
             <SpliceInsert spliceEventId='{id}' outOfNetworkIndicator='{out}'>\
             <BreakDuration duration='180000' autoReturn='1'/></SpliceInsert></SpliceInfoSection></Signal></Event>"
        )
    };
    // All are in every manifest; the first was over before we came.
    let stream = format!(
        "<EventStream schemeIdUri='urn:scte:scte35:2013:xml' timescale='10'>{}{}{}</EventStream>",
        event(1, 230, 1),
        event(2, 305, 1),
        event(2, 325, 0)
    );
    let stream = stream.replace(
        "id='2' presentationTime='325'",
        "id='3' presentationTime='325'",
    );
    let began = jiff::Timestamp::now();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => {
            let inside = timeline(end(asked.since));
            ok(dynamic(began, &period(&(stream.clone() + &inside))))
        }
        path => segment(path),
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.until("ten segments", |rig| rig.recorder.marks().len() >= 10)
        .await;
    let fed = rig.recorder.fed.lock().unwrap().clone();
    let told: Vec<_> = fed
        .into_iter()
        .scan(0, |next, (_, feed)| {
            Some(match feed {
                Feed::Data(data) => {
                    *next = data[2] + 1;
                    None
                }
                Feed::Break(mark, offset) => {
                    let planned = mark.planned.map(|planned| planned.as_secs());
                    Some((*next, mark.edge, offset / 1_000_000, planned))
                }
                _ => None,
            })
        })
        .flatten()
        .collect();
    assert_eq!(
        told,
        [
            (30, BreakEdge::Start, 500, Some(2)),
            (32, BreakEdge::End, 500, Some(2))
        ]
    );
}

#[tokio::test]
async fn periods_that_stand_elsewhere_are_passed_over() {
    let list = "<SegmentList duration='1'><SegmentURL media='s7.ts'/><SegmentURL media='s8.ts'/></SegmentList>";
    let periods = format!(
        "<Period duration='PT2S'>{}</Period>\
         <Period xmlns:xlink='x' xlink:href='/ads.xml' xlink:actuate='onLoad'/>\
         <Period xmlns:xlink='x' xlink:href='urn:mpeg:dash:resolve-to-zero:2013' duration='PT9S'>{}</Period>\
         <Period duration='PT2S'>{}</Period>",
        set(NUMBERS),
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
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(origin.asked("ads").len(), 0);
}

#[tokio::test]
async fn manifests_are_known_by_url_media_type_or_content() {
    let head = "<?xml version='1.0'?>\n<!-- made by hand:\n <MPD is below> -->\n<MPD\n\txmlns='urn:mpeg:dash:schema:mpd:2011'\n\t";
    for (url, media_type, begin) in [
        ("/a.mpd", "application/octet-stream", head),
        ("/a.MPD?token=1", "text/plain", head),
        ("/live", "application/xml", head),
        ("/live", "application/octet-stream", head),
        ("/live?a=.ts", "application/dash+xml;charset=utf-8", head),
        // An encoding mark, and a root with a prefix.
        ("/live", "text/html", "\u{feff}  <dash:MPD xmlns:dash='u' "),
    ] {
        let origin = Origin::start(move |asked| match asked.path.as_str() {
            path if path == url => {
                let text = complete(2, &period(&set(NUMBERS)));
                let text = text.replacen("<MPD ", begin, 1);
                let text = match begin.contains("<dash:") {
                    true => text.replace("</MPD>", "</dash:MPD>"),
                    false => text,
                };
                with(ok(text), header::CONTENT_TYPE, media_type)
            }
            path => segment(path),
        })
        .await;
        let named = url.to_lowercase().starts_with("/a.mpd");
        let rig = rig_with(&format!("{}{url}", origin.url), |input| {
            input.protocol = if named {
                Protocol::Dash
            } else {
                Protocol::Http
            };
        });
        match named {
            true => {
                rig.until("both segments", |rig| rig.recorder.marks().len() == 2)
                    .await;
            }
            false => {
                let no_file = async |_: &_, _: &std::path::Path| panic!("a file");
                let end = http::play(&rig.cx, rig.recorder.clone(), no_file).await;
                assert_eq!(end.cause, None, "{url} {media_type}");
            }
        }
        assert_eq!(rig.recorder.marks(), [1, 2], "{url} {media_type}");
    }
}

#[tokio::test]
async fn a_media_type_tells_what_a_broken_body_was_meant_to_be() {
    let origin = Origin::start(|_| {
        with(
            ok("{\"error\": \"try later\"}"),
            header::CONTENT_TYPE,
            "application/dash+xml",
        )
    })
    .await;
    let rig = rig_with(&format!("{}/live", origin.url), |input| {
        input.protocol = Protocol::Http;
    });
    let (cx, recorder) = (rig.cx.clone(), rig.recorder.clone());
    let playing = tokio::spawn(async move {
        let no_file = async |_: &_, _: &std::path::Path| panic!("a file");
        http::play(&cx, recorder, no_file).await
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while rig.facts.causes().is_empty() {
        assert!(Instant::now() < deadline && !playing.is_finished());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.facts.causes()[0], Cause::PlaylistInvalid);
    rig.cx.cancel.cancel();
    playing.await.unwrap();
}

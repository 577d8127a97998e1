//! Several renditions watched as one stream.

use std::time::Duration;

use detectors::base::{Cause, Kind};
use glasswatch::config::Rendition;
use glasswatch::ingest::source::Retry;

use crate::rig::*;

const MASTER: &str = "#EXTM3U\n\
    #EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360\nlow.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080\nhigh.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720\nmid.m3u8\n";

const NAMES: [&str; 3] = ["1080p@6000k", "720p@2000k", "360p@500k"];

fn members(url: &str, rule: Rendition) -> Rig {
    rig_with(url, |input| input.rendition = rule)
}

fn names(rig: &Rig) -> Vec<(usize, String)> {
    let expected = rig.recorder.expected.lock().unwrap();
    expected
        .iter()
        .map(|(n, name, _)| (*n, name.clone()))
        .collect()
}

#[tokio::test]
async fn all_members_are_inputs_of_one_stream_and_the_master_is_asked_once() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(MASTER),
        "/high.m3u8" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        "/mid.m3u8" => ok(vod("#EXTINF:1,\ns3.ts\n#EXTINF:1,\ns4.ts")),
        "/low.m3u8" => ok(vod("#EXTINF:1,\ns5.ts\n#EXTINF:1,\ns6.ts")),
        path => segment(path),
    })
    .await;
    let url = format!("{}/m.m3u8", origin.url);
    let all = members(&url, Rendition::All);
    let end = all.to_end().await;
    assert_eq!((end.cause, end.retry), (None, Retry::Never));
    assert_eq!(
        *all.recorder.inputs.lock().unwrap(),
        [(None, None), (None, None), (None, None)]
    );
    let both = vec![Kind::Video, Kind::Audio];
    let expected: Vec<_> = (NAMES.iter().enumerate())
        .map(|(n, name)| (n, (*name).to_owned(), both.clone()))
        .collect();
    assert_eq!(*all.recorder.expected.lock().unwrap(), expected);
    for (input, marks) in [[1, 2], [3, 4], [5, 6]].into_iter().enumerate() {
        assert_eq!(all.recorder.marks_of(input), marks);
    }
    assert_eq!(all.facts.causes(), []);
    assert_eq!(*all.recorder.troubles.lock().unwrap(), []);
    assert_eq!(origin.asked("m.m3u8").len(), 1);

    let ends = members(&url, Rendition::Ends);
    ends.to_end().await;
    assert_eq!(
        names(&ends),
        [(0, NAMES[0].to_owned()), (1, NAMES[2].to_owned())]
    );
    assert_eq!(ends.recorder.marks_of(1), [5, 6]);
    assert_eq!(origin.asked("mid.m3u8").len(), 1);
}

#[tokio::test]
async fn separate_audio_that_members_share_is_read_once() {
    let audio =
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"@\",NAME=\"e\",LANGUAGE=\"en\",URI=\"en.m3u8\"\n";
    let master = MASTER
        .replace("x360", "x360,AUDIO=\"a\"")
        .replace("x1080", "x1080,AUDIO=\"b\"");
    let master = master + &audio.replace('@', "a") + &audio.replace('@', "b");
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/m.m3u8" => ok(master.clone()),
        "/en.m3u8" => ok(vod("#EXTINF:1,\ns9.ts")),
        path if path.ends_with(".m3u8") => ok(vod("#EXTINF:1,\ns1.ts")),
        path => segment(path),
    })
    .await;
    let rig = members(&format!("{}/m.m3u8", origin.url), Rendition::All);
    rig.to_end().await;
    let english = (Some(Kind::Audio), Some("en".to_owned()));
    let none = (None, None);
    assert_eq!(
        *rig.recorder.inputs.lock().unwrap(),
        [none.clone(), none.clone(), none, english]
    );
    let kinds: Vec<_> = (rig.recorder.expected.lock().unwrap().iter())
        .map(|(.., kinds)| kinds.len())
        .collect();
    assert_eq!(kinds, [1, 2, 1], "720p has no separate sound");
    assert_eq!(rig.recorder.marks_of(3), [9]);
    assert_eq!(origin.asked("en.m3u8").len(), 1);
}

#[tokio::test]
async fn a_member_that_is_not_found_stops_nobody_and_comes_back() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(MASTER),
        "/mid.m3u8" if asked.before < 3 => status(404),
        path if path.ends_with(".m3u8") => ok(live(asked.since, 10)),
        path => segment(path),
    })
    .await;
    let rig = members(&format!("{}/m.m3u8", origin.url), Rendition::All);
    rig.until("the member that was missing", |rig| {
        rig.recorder.marks_of(1).len() >= 2 && rig.trouble(1).is_none()
    })
    .await;
    for other in [0, 2] {
        let marks = rig.recorder.marks_of(other);
        assert!(
            marks.windows(2).all(|two| two[1] == two[0] + 1),
            "{marks:?}"
        );
        assert!(marks.len() > rig.recorder.marks_of(1).len());
    }
    let troubles = rig.recorder.troubles.lock().unwrap();
    let missing = (1, Some(Cause::HttpNotFound));
    assert!(troubles.contains(&missing) && troubles.iter().all(|(of, _)| *of == 1));
    // The stream is told as well, should all fail.
    assert!(rig.facts.causes().contains(&Cause::HttpNotFound));
    assert_eq!(origin.asked("m.m3u8").len(), 1);
}

#[tokio::test]
async fn a_member_whose_segments_fail_is_told_of_alone() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(MASTER),
        "/low.m3u8" => ok(live(asked.since, 10).replace("\ns", "\nlow/s")),
        path if path.ends_with(".m3u8") => ok(live(asked.since, 10)),
        path if path.starts_with("/low/") && asked.since < Duration::from_secs(3) => status(503),
        path => segment(path),
    })
    .await;
    let rig = members(&format!("{}/m.m3u8", origin.url), Rendition::Ends);
    rig.until("both", |rig| {
        rig.recorder.marks_of(1).len() >= 2 && rig.trouble(1).is_none()
    })
    .await;
    let troubles = rig.recorder.troubles.lock().unwrap();
    assert!(troubles.contains(&(1, Some(Cause::HttpServerError))));
    assert!(troubles.iter().all(|(of, _)| *of == 1));
}

#[tokio::test]
async fn of_a_complete_ladder_the_others_are_played_to_their_end() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(MASTER),
        "/high.m3u8" => status(404),
        path if path.ends_with(".m3u8") => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        path => segment(path),
    })
    .await;
    let url = format!("{}/m.m3u8", origin.url);
    let rig = members(&url, Rendition::All);
    let end = rig.to_end().await;
    assert_eq!((end.cause, end.retry), (None, Retry::Never));
    assert!(rig.recorder.marks_of(0).is_empty());
    assert_eq!(
        (rig.recorder.marks_of(1), rig.recorder.marks_of(2)),
        (vec![1, 2], vec![1, 2])
    );
    assert_eq!(rig.trouble(0), Some(Cause::HttpNotFound));
    assert!((3..=4).contains(&origin.asked("high.m3u8").len()));
    // Alone it is the stream that is not found: told, and asked for again.
    let alone = members(&url, Rendition::Highest);
    alone
        .until("failures", |rig| rig.facts.causes().len() >= 4)
        .await;
    assert_eq!(*alone.recorder.troubles.lock().unwrap(), []);
}

#[tokio::test]
async fn separate_sound_that_is_not_found_is_told_and_the_pictures_are_played() {
    const SOUND: &str = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"e\",URI=\"en.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"a\"\nv.m3u8\n";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(SOUND),
        "/v.m3u8" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        "/en.m3u8" => status(404),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/m.m3u8", origin.url));
    let end = rig.to_end().await;
    assert_eq!((end.cause, end.retry), (None, Retry::Never));
    assert_eq!(rig.recorder.marks(), [1, 2]);
    assert_eq!(rig.trouble(1), Some(Cause::HttpNotFound));
}

#[tokio::test]
async fn a_named_member_that_is_not_listed_is_missed() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(MASTER),
        path if path.ends_with(".m3u8") => ok(live(asked.since, 10)),
        path => segment(path),
    })
    .await;
    let rule = vec![Rendition::Name("4k".into()), Rendition::Lowest];
    let rig = members(&format!("{}/m.m3u8", origin.url), Rendition::Several(rule));
    rig.until("the other and the trouble", |rig| {
        rig.recorder.marks().len() >= 2 && rig.trouble(1) == Some(Cause::MissingTrack)
    })
    .await;
    assert_eq!(
        names(&rig),
        [(0, NAMES[2].to_owned()), (1, "4k".to_owned())]
    );
}

/// From a moment on the middle of the ladder is gone, and what the master lists in its place is `instead`.
async fn with_changed_ladder(instead: &'static str) -> (Origin, Rig) {
    const CHANGED: Duration = Duration::from_secs(2);
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/m.m3u8" if asked.since < CHANGED => ok(MASTER),
        "/m.m3u8" => {
            let mid = MASTER.find("#EXT-X-STREAM-INF:BANDWIDTH=2000000").unwrap();
            ok(MASTER[..mid].to_owned() + instead)
        }
        "/mid.m3u8" if asked.since >= CHANGED => status(404),
        path if path.ends_with(".m3u8") => ok(live(asked.since, 10)),
        path => segment(path),
    })
    .await;
    let rig = members(&format!("{}/m.m3u8", origin.url), Rendition::All);
    (origin, rig)
}

#[tokio::test]
async fn a_rendition_in_the_place_of_a_lost_one_is_followed() {
    let instead = "#EXT-X-STREAM-INF:BANDWIDTH=1500000,RESOLUTION=1280x720\nnew.m3u8\n";
    let (origin, rig) = with_changed_ladder(instead).await;
    rig.until("the new rendition", |rig| {
        let expected = rig.recorder.expected.lock().unwrap();
        expected
            .iter()
            .any(|(n, name, _)| (*n, name.as_str()) == (1, "720p@1500k"))
            && !origin.asked("new.m3u8").is_empty()
            && rig.trouble(1).is_none()
    })
    .await;
    assert!(rig.recorder.marks_of(0).len() > 5);
}

#[tokio::test]
async fn a_rendition_that_left_the_ladder_is_missed() {
    let (origin, rig) = with_changed_ladder("").await;
    rig.until("its absence", |rig| {
        rig.trouble(1) == Some(Cause::MissingTrack)
    })
    .await;
    assert_eq!(origin.asked("m.m3u8").len(), 2);
    let others: Vec<_> = [0, 2].map(|n| rig.recorder.marks_of(n).len()).into();
    assert!(others.iter().all(|marks| *marks > 5), "{others:?}");
}

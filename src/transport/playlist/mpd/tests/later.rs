//! What came into manifests with later editions: early segments, parts, patches, events; and clocks in doubt.

use super::*;

#[test]
fn segments_may_be_asked_for_before_they_are_complete() {
    let early = "<BaseURL availabilityTimeOffset='0.5'>m/</BaseURL>\
        <SegmentTemplate media='$Number$' duration='2' availabilityTimeOffset='1' \
        availabilityTimeComplete='false'/>";
    let numbers = with(LIVE, &[("start='PT0S'", early)]);
    let mut rig = Rig::new();
    rig.at(&numbers, 10.4).unwrap();
    assert_eq!(names(&rig.media()).last(), Some(&"5"));
    assert_eq!(rig.follower.next_in(), Some(secs(0.1)));
    rig.at(&numbers, 10.5).unwrap();
    assert_eq!(names(&rig.media()).last(), Some(&"6"));
    // The target latency wins over the suggested delay, and counts from what is complete.
    let service = "<ServiceDescription><Latency target='1500'/></ServiceDescription>";
    let text = format!(
        "<MPD {LIVE} suggestedPresentationDelay='PT4S'>{service}<Period start='PT0S'>\
         <AdaptationSet mimeType='video/mp4'>{early}<Representation id='v'/></AdaptationSet></Period></MPD>"
    );
    rig = Rig::new();
    rig.at(&mpd(&text), 10.0).unwrap();
    assert_eq!(rig.media().hold_back, Some(secs(3.0)));
    let endless = early.replace("'1'", "'INF'").replace("'0.5'", "'-1'");
    let numbers = with(LIVE, &[("start='PT0S'", &endless)]);
    rig = Rig::new();
    rig.at(&numbers, 10.4).unwrap();
    assert_eq!(names(&rig.media()).last(), Some(&"5"));
    assert_eq!(rig.read()[0].0, "3");
}

#[test]
fn parts_of_segments_are_read_one_by_one_where_they_are_named() {
    let timeline = "<SegmentTimeline><S t='8' d='3' r='1' k='2'/></SegmentTimeline>";
    let parts = format!(
        "<SegmentTemplate timescale='3' media='$Time$.$SubNumber$' presentationTimeOffset='8'>{timeline}</SegmentTemplate>"
    );
    let media = laid_out(&with(STATIC, &[("", &parts)])).unwrap();
    assert_eq!(names(&media), ["8.1", "8.2", "11.1", "11.2"]);
    assert_eq!(media.segments[0].duration, span_of(1, 3));
    let whole = parts.replace(".$SubNumber$", "");
    let media = laid_out(&with(STATIC, &[("", &whole)])).unwrap();
    assert_eq!(names(&media), ["8", "11"]);
    let many = parts
        .replace("k='2'", "k='99999999'")
        .replace("d='3'", "d='900000'");
    let many = many
        .replace("r='1'", "r='400'")
        .replace("timescale='3'", "timescale='900000'");
    let long = STATIC.replace("PT10S", "PT1H");
    assert_eq!(
        laid_out(&with(&long, &[("", &many)])),
        Err(Unplayable::TooLong)
    );
}

fn span_of(ticks: u64, timescale: u64) -> Duration {
    Duration::from_nanos(ticks * 1_000_000_000 / timescale)
}

#[test]
fn remote_elements_are_not_followed_and_nothing_stands_for_nothing() {
    let set = "<AdaptationSet mimeType='video/mp4'><SegmentTemplate media='$Number$' duration='5'/>\
        <Representation id='v'/></AdaptationSet>";
    let zero = "xmlns:xlink='x' xlink:href='urn:mpeg:dash:resolve-to-zero:2013'";
    let remote = "xmlns:xlink='x' xlink:href='http://ads.example/' xlink:actuate='onLoad'";
    let all = mpd(&format!(
        "<MPD type='static'><Period duration='PT5S'>{set}</Period><Period {remote}/>\
         <Period {zero} duration='PT9S'>{set}</Period>\
         <Period duration='PT5S'>{set}<AdaptationSet {zero} mimeType='audio/mp4'>\
         <Representation id='a'/></AdaptationSet></Period>\
         <Period {remote} duration='PT5S'>{set}</Period></MPD>"
    ));
    assert!(all.remote);
    let periods: Vec<_> = all
        .periods
        .iter()
        .map(|p| (p.start, p.sets.len()))
        .collect();
    assert_eq!(
        periods,
        [
            (secs(0.0), 1),
            (secs(5.0), 0),
            (secs(5.0), 1),
            (secs(10.0), 1)
        ]
    );
    assert_eq!(names(&laid_out(&all).unwrap()), ["1", "1", "1"]);
    let none = mpd(&format!(
        "<MPD type='static'><Period duration='PT5S'>{set}</Period><Period {zero}/></MPD>"
    ));
    assert!(!none.remote);
}

#[test]
fn a_patched_manifest_equals_the_newer_one() {
    let whole = |from: u64, published: u64| {
        format!(
            "<MPD id='m' {LIVE} publishTime='2024-01-01T00:00:0{published}Z'>\
             <PatchLocation ttl='60'>patch?t=1</PatchLocation><Period id='p' start='PT0S'>\
             <AdaptationSet id='1' mimeType='video/mp4'><Representation id='v'/>\
             <SegmentTemplate media='$Time$'><SegmentTimeline><S t='{from}' d='2' r='3'/></SegmentTimeline>\
             </SegmentTemplate></AdaptationSet></Period></MPD>"
        )
    };
    let old = mpd(&whole(90, 1));
    let location = old.patch.clone().unwrap();
    assert_eq!(location.url.as_str(), "http://a.example/x/patch?t=1");
    assert_eq!(location.until, Some(EPOCH + 61 * SECOND));
    let patch = "<Patch mpdId='m' originalPublishTime='2024-01-01T00:00:01Z' publishTime='2024-01-01T00:00:02Z'>\
        <replace sel='/MPD/@publishTime'>2024-01-01T00:00:02Z</replace>\
        <replace sel=\"/MPD/Period[@id='p']/AdaptationSet[@id='1']/SegmentTemplate/SegmentTimeline/S[@t='90']/@t\">92</replace>\
        </Patch>";
    let new = old.patched(patch.as_bytes()).unwrap();
    assert_eq!(new, mpd(&whole(92, 2)));
    assert_eq!(new.patched(patch.as_bytes()), Err(PatchError::OtherState));
    let doctyped = format!("<!DOCTYPE a>{patch}");
    let refused = old.patched(doctyped.as_bytes());
    assert_eq!(refused, Err(PatchError::Document(MpdError::DocumentType)));
    let nameless = whole(90, 1).replace("id='m'", "");
    assert_eq!(mpd(&nameless).patch, None);
    assert_eq!(
        mpd(&nameless).patched(patch.as_bytes()),
        Err(PatchError::OtherState)
    );
}

#[test]
fn break_markers_wait_for_their_segment() {
    let mark = |id: u64, at: u64, out: u8| {
        format!(
            "<Event id='{id}' presentationTime='{at}' duration='4'><SpliceInfoSection>\
             <SpliceInsert spliceEventId='{id}' outOfNetworkIndicator='{out}'/></SpliceInfoSection></Event>"
        )
    };
    let events = format!(
        "<EventStream schemeIdUri='urn:scte:scte35:2013:xml'>{}{}{}{}</EventStream>",
        mark(1, 80, 1),
        mark(2, 91, 1),
        mark(3, 97, 1),
        mark(3, 101, 0)
    );
    let text = format!(
        "<MPD {LIVE}><Period start='PT0S'>{events}<AdaptationSet mimeType='video/mp4'>\
         <SegmentTemplate media='$Number$' duration='2'/><Representation id='v'/></AdaptationSet></Period></MPD>"
    );
    let all = mpd(&text);
    let mut rig = Rig::new();
    let told = |rig: &Rig| -> Vec<_> {
        let media = rig.media();
        let breaks = media.events.iter();
        breaks
            .map(|b| {
                (
                    b.mark.event_id,
                    media.segments[b.segment].uri.clone(),
                    b.offset_nanos,
                )
            })
            .map(|(id, uri, offset)| {
                let name = uri.rsplit('/').next().unwrap().to_owned();
                (id.unwrap(), name, offset / SECOND)
            })
            .collect()
    };
    // The window is 94 to 100: the second began before it and still lasts, the last is not there yet.
    rig.at(&all, 100.0).unwrap();
    assert_eq!(names(&rig.media())[0], "48");
    assert_eq!(
        told(&rig),
        [(2, "48".to_owned(), -3), (3, "49".to_owned(), 1)]
    );
    rig.at(&all, 102.0).unwrap();
    assert_eq!(
        told(&rig),
        [(3, "49".to_owned(), 1), (3, "51".to_owned(), 1)]
    );
}

#[test]
fn another_clock_begins_anew_at_its_edge() {
    let numbers = with(
        LIVE,
        &[(
            "start='PT0S'",
            "<SegmentTemplate media='$Number$' duration='2'/>",
        )],
    );
    let mut rig = Rig::new();
    rig.at(&numbers, 160.0).unwrap();
    assert_eq!(rig.read().last().unwrap().0, "80");
    rig.follower.restart();
    assert_eq!(rig.at(&numbers, 100.0), Ok(News::Restarted));
    let read = rig.read();
    assert_eq!((read[0].1, read.last().unwrap().0.as_str()), (true, "50"));
    assert_eq!(rig.at(&numbers, 102.0), Ok(News::Changed));
}

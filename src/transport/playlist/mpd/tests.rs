#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod later;

use super::*;
use crate::config::Rendition;
use crate::transport::playlist::follow::{Cursor, News, Passed, Step};
use crate::transport::playlist::{ENTRIES_MAX, Encryption, Media};

const SECOND: i64 = 1_000_000_000;
/// 2024-01-01T00:00:00Z.
const EPOCH: i64 = 1_704_067_200 * SECOND;

fn secs(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

fn url() -> Url {
    Url::parse("http://a.example/x/live.mpd?t=1").unwrap()
}

fn mpd(text: &str) -> Mpd {
    parse(text.as_bytes(), &url()).unwrap()
}

/// A manifest with one video representation per period.
fn with(attributes: &str, periods: &[(&str, &str)]) -> Mpd {
    let periods: String = periods
        .iter()
        .map(|(attributes, inside)| {
            format!(
                "<Period {attributes}><AdaptationSet mimeType='video/mp4'>{inside}\
                 <Representation id='v1' bandwidth='5000' height='720'/></AdaptationSet></Period>"
            )
        })
        .collect();
    mpd(&format!("<MPD {attributes}>{periods}</MPD>"))
}

const STATIC: &str = "type='static' mediaPresentationDuration='PT10S'";
const LIVE: &str = "type='dynamic' availabilityStartTime='2024-01-01T00:00:00Z' \
                    timeShiftBufferDepth='PT6S' minimumUpdatePeriod='PT2S'";

struct Rig {
    follower: Follower,
    cursor: Cursor,
}

impl Rig {
    fn new() -> Self {
        Self {
            follower: Follower::new(Role::Main, Rendition::Highest),
            cursor: Cursor::default(),
        }
    }

    /// Updates at so many seconds of the presentation.
    fn at(&mut self, mpd: &Mpd, at: f64) -> Result<News, Unplayable> {
        let clock = EPOCH + (at * SECOND as f64) as i64;
        self.follower.update(mpd, clock, secs(at))
    }

    fn media(&self) -> Arc<Media> {
        self.follower.current().unwrap().1
    }

    /// What is read now: file name, discontinuity, missed.
    fn read(&mut self) -> Vec<(String, bool, u64)> {
        let (epoch, media) = self.follower.current().unwrap();
        let mut out = Vec::new();
        while let Step::Read {
            sequence,
            segment,
            discontinuity,
            missed,
        } = self.cursor.step(epoch, &media)
        {
            let name = segment.uri.rsplit('/').next().unwrap().to_owned();
            out.push((name, discontinuity, missed));
            self.cursor.done(&media, sequence, Passed::Read);
        }
        out
    }
}

fn names(media: &Media) -> Vec<&str> {
    let name = |uri: &'_ str| uri.rfind('/').map_or(0, |at| at + 1);
    let all = media.segments.iter();
    all.map(|s| &s.uri[name(&s.uri)..]).collect()
}

fn laid_out(mpd: &Mpd) -> Result<Arc<Media>, Unplayable> {
    let mut rig = Rig::new();
    rig.at(mpd, 100.0).map(|_| rig.media())
}

#[test]
fn templates_are_filled_in() {
    let all = with(STATIC, &[("", "<SegmentTemplate media='m' duration='1'/>")]);
    let own = &all.periods[0].sets[0].representations[0];
    let place = segments::Place {
        number: 7,
        time: 90_000,
        part: 3,
    };
    for (template, expected) in [
        ("$RepresentationID$/$Number$.m4s", Ok("v1/7.m4s")),
        ("$Bandwidth$-$Number%05d$", Ok("5000-00007")),
        ("$Time$", Ok("90000")),
        ("$Time%010d$$$", Ok("0000090000$")),
        ("$Number%05x$", Err(Unplayable::Template)),
        ("$Number%099d$", Err(Unplayable::Template)),
        ("$Number$.$SubNumber%02d$", Ok("7.03")),
        ("$Part$", Err(Unplayable::Template)),
        ("$Number", Err(Unplayable::Template)),
        ("plain", Ok("plain")),
    ] {
        let filled = segments::fill(template, own, Some(place));
        assert_eq!(filled.as_deref().map_err(|e| *e), expected, "{template}");
    }
    let init = segments::fill("i-$RepresentationID$-$Number$", own, None);
    assert_eq!(init, Err(Unplayable::Template));
}

#[test]
fn base_urls_and_attributes_are_inherited() {
    let all = mpd(
        "<MPD type='static' mediaPresentationDuration='PT4S'><BaseURL>http://b.example/c/</BaseURL>\
         <Period><BaseURL>p&amp;q/</BaseURL><SegmentTemplate timescale='10' duration='20'/>\
         <AdaptationSet mimeType='video/mp4' height='480'><BaseURL>s/</BaseURL>\
         <SegmentTemplate media='$Number$.m4s' initialization='i' startNumber='5'/>\
         <Representation id='a' bandwidth='1'><BaseURL>/abs/</BaseURL></Representation>\
         <Representation id='b' bandwidth='2'><SegmentTemplate startNumber='9'/></Representation>\
         </AdaptationSet></Period></MPD>",
    );
    let media = laid_out(&all).unwrap();
    assert_eq!(media.segments[0].uri, "http://b.example/c/p&q/s/9.m4s");
    assert_eq!(media.segments[0].duration, secs(2.0));
    assert_eq!(media.segments.len(), 2);
    let init = media.segments[1].init.as_ref().unwrap();
    assert_eq!(init.uri, "http://b.example/c/p&q/s/i");
    let other = &all.periods[0].sets[0].representations[0];
    assert_eq!(other.base.as_str(), "http://b.example/abs/");
    assert_eq!(other.height, Some(480));
}

#[test]
fn static_segments_of_every_addressing() {
    let rows = [
        (
            "<SegmentTemplate media='$Number$' duration='4'/>",
            vec!["1", "2", "3"],
        ),
        (
            "<SegmentTemplate media='$Number$' duration='4' startNumber='0' endNumber='1'/>",
            vec!["0", "1"],
        ),
        (
            "<SegmentTemplate media='$Time$' duration='4' presentationTimeOffset='100'/>",
            vec!["100", "104", "108"],
        ),
        (
            "<SegmentTemplate media='$Time$-$Number$'><SegmentTimeline><S t='5' d='2' r='1'/><S d='3'/>\
             </SegmentTimeline></SegmentTemplate>",
            vec!["5-1", "7-2", "9-3"],
        ),
        (
            "<SegmentTemplate media='$Time$'><SegmentTimeline><S t='0' d='3' r='-1'/></SegmentTimeline>\
             </SegmentTemplate>",
            vec!["0", "3", "6", "9"],
        ),
        (
            "<SegmentTemplate media='$Time$'><SegmentTimeline><S t='0' d='2' r='-1'/><S t='4' d='3'/>\
             </SegmentTimeline></SegmentTemplate>",
            vec!["0", "2", "4"],
        ),
        (
            "<SegmentTemplate media='$Time$'><SegmentTimeline><S t='0' d='4' r='90000000000'/>\
             </SegmentTimeline></SegmentTemplate>",
            vec!["0", "4", "8"],
        ),
        (
            "<SegmentList duration='4'><SegmentURL media='a'/><SegmentURL media='b'/></SegmentList>",
            vec!["a", "b"],
        ),
        (
            "<SegmentList><SegmentTimeline><S d='4' r='5'/></SegmentTimeline><SegmentURL media='a'/>\
             <SegmentURL media='b'/></SegmentList>",
            vec!["a", "b"],
        ),
        (
            "<SegmentList><SegmentURL media='a'/></SegmentList>",
            vec!["a"],
        ),
        (
            "<BaseURL>film.mp4</BaseURL><SegmentBase/>",
            vec!["film.mp4"],
        ),
        ("<BaseURL>film.mp4</BaseURL>", vec!["film.mp4"]),
    ];
    for (inside, expected) in rows {
        let media = laid_out(&with(STATIC, &[("", inside)])).unwrap();
        assert_eq!(names(&media), expected, "{inside}");
        assert!(media.ended, "{inside}");
    }
}

#[test]
fn what_cannot_be_played_says_why() {
    let no_length = "type='static'";
    let rows = [
        (
            no_length,
            "<SegmentTemplate media='$Number$' duration='4'/>",
            Unplayable::NoLength,
        ),
        (
            STATIC,
            "<SegmentTemplate media='$Foo$' duration='4'/>",
            Unplayable::Template,
        ),
        (
            "type='static' mediaPresentationDuration='P10Y'",
            "<SegmentTemplate media='$Number$' duration='1'/>",
            Unplayable::TooLong,
        ),
        (
            STATIC,
            "<SegmentList duration='4'/>",
            Unplayable::NoSegments,
        ),
        (
            LIVE,
            "<SegmentTemplate media='$Number$' duration='400'/>",
            Unplayable::NotYet,
        ),
    ];
    for (attributes, inside, expected) in rows {
        assert_eq!(
            laid_out(&with(attributes, &[("start='PT0S'", inside)])),
            Err(expected),
            "{inside}"
        );
    }
    let ogg = "<MPD><Period duration='PT1S'><AdaptationSet mimeType='video/ogg'><Representation/>\
                </AdaptationSet></Period></MPD>";
    assert_eq!(laid_out(&mpd(ogg)), Err(Unplayable::Container));
    // Beside what can be read, it is told segment by segment.
    let mixed = ogg.replace(
        "</MPD>",
        "<Period duration='PT1S'><AdaptationSet mimeType='video/mp4'>\
        <Representation/></AdaptationSet></Period></MPD>",
    );
    assert_eq!(laid_out(&mpd(&mixed)).unwrap().segments.len(), 2);
    assert_eq!(laid_out(&mpd("<MPD/>")), Err(Unplayable::NoRendition));
    let text = ogg.replace("video/ogg", "text/vtt");
    assert_eq!(laid_out(&mpd(&text)), Err(Unplayable::NoRendition));
}

#[test]
fn documents_are_refused_by_name() {
    let deep = format!("<MPD>{}", "<a>".repeat(DEPTH_MAX));
    let long = format!("<MPD>{}</MPD>", "<a/>".repeat(ELEMENTS_MAX));
    for (text, expected) in [
        ("", MpdError::NotXml),
        ("<MPD>", MpdError::NotXml),
        ("<MPD></Period></MPD>", MpdError::NotXml),
        ("<html><body/></html>", MpdError::NotAnMpd),
        (
            "<!DOCTYPE MPD [<!ENTITY a 'b'>]><MPD/>",
            MpdError::DocumentType,
        ),
        (
            "<MPD><BaseURL>http://[bad</BaseURL></MPD>",
            MpdError::BadUrl,
        ),
        (&deep, MpdError::TooDeep),
        (&long, MpdError::TooLong),
    ] {
        let short: String = text.chars().take(40).collect();
        assert_eq!(
            parse(text.as_bytes(), &url()).unwrap_err(),
            expected,
            "{short}"
        );
    }
    assert_eq!(parse(b"\xff\xfe<\0", &url()), Err(MpdError::NotXml));
    let marked = "\u{feff}<!-- first\n comment --><?pi?>\n<m:MPD xmlns:m='x'/>";
    assert!(!mpd(marked).live);
}

#[test]
fn manifests_are_told_by_their_first_bytes() {
    for yes in [
        "<MPD>",
        "<MPD\n type='static'>",
        "\u{feff} <?xml version='1.0'?>\n<!-- a --><!-- <html> -->\n<m:MPD a='b'>",
        "<?xml version='1.0'?><!-- a comment that goes on",
        "<?xml version='1.0'?>",
    ] {
        assert!(looks_like_mpd(yes.as_bytes()), "{yes}");
    }
    for no in [
        "",
        "<html>",
        "<!DOCTYPE html>",
        "<?xml?><svg>",
        "<MPDX>",
        "#EXTM3U",
        "MPD",
    ] {
        assert!(!looks_like_mpd(no.as_bytes()), "{no}");
    }
}

#[test]
fn numbers_become_available_as_time_passes() {
    let mpd = with(
        LIVE,
        &[(
            "start='PT10S'",
            "<SegmentTemplate media='$Number$' duration='2' startNumber='0'/>",
        )],
    );
    let mut rig = Rig::new();
    assert_eq!(rig.at(&mpd, 9.0), Err(Unplayable::NotYet));
    assert_eq!(rig.at(&mpd, 11.9), Err(Unplayable::NotYet));
    assert_eq!(rig.at(&mpd, 30.5), Ok(News::Changed));
    // Six seconds of them, the last of which has ended at 30 s.
    assert_eq!(names(&rig.media()), ["7", "8", "9"]);
    assert_eq!(rig.follower.next_in(), Some(secs(1.5)));
    let read: Vec<_> = rig.read().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(read, ["7", "8", "9"]);
    assert_eq!(rig.at(&mpd, 31.9), Ok(News::Same));
    assert_eq!(rig.at(&mpd, 32.0), Ok(News::Changed));
    assert_eq!(rig.read(), [("10".to_owned(), false, 0)]);
    // A clock that is set back a little takes nothing away.
    assert_eq!(rig.at(&mpd, 29.0), Ok(News::Same));
    assert_eq!(names(&rig.media()), ["8", "9", "10"]);
    // Away for long: what left the window is counted.
    assert_eq!(rig.at(&mpd, 52.0), Ok(News::Changed));
    assert_eq!(rig.read()[0], ("18".to_owned(), false, 7));
    assert!(!rig.follower.stalled(secs(53.0)));
}

fn timeline(runs: &str) -> String {
    format!(
        "<SegmentTemplate media='$Time$'><SegmentTimeline>{runs}</SegmentTimeline></SegmentTemplate>"
    )
}

fn live_timeline(runs: &str) -> Mpd {
    with(LIVE, &[("start='PT0S'", &timeline(runs))])
}

#[test]
fn timelines_slide_miss_stall_and_restart() {
    let mut rig = Rig::new();
    let runs = |first: u64, n: u64| live_timeline(&format!("<S t='{first}' d='2' r='{}'/>", n - 1));
    let read = |rig: &mut Rig| rig.read();
    assert_eq!(rig.at(&runs(100, 3), 106.0), Ok(News::Changed));
    assert_eq!(read(&mut rig).len(), 3);
    assert_eq!(rig.follower.next_in(), None);
    assert_eq!(
        rig.follower.reload_in(&runs(100, 3), News::Changed),
        Some(secs(2.0))
    );
    assert_eq!(rig.at(&runs(102, 3), 108.0), Ok(News::Changed));
    assert_eq!(read(&mut rig), [("106".to_owned(), false, 0)]);
    // An older copy from another cache.
    assert_eq!(rig.at(&runs(100, 3), 109.0), Ok(News::Same));
    assert!(!rig.follower.stalled(secs(110.9)));
    assert!(rig.follower.stalled(secs(111.1)));
    assert_eq!(rig.at(&runs(114, 3), 120.0), Ok(News::Changed));
    assert_eq!(
        read(&mut rig),
        [
            ("114".to_owned(), false, 3),
            ("116".to_owned(), false, 0),
            ("118".to_owned(), false, 0)
        ]
    );
    // Begun anew: another timeline.
    assert_eq!(rig.at(&runs(0, 3), 121.0), Ok(News::Restarted));
    assert_eq!(read(&mut rig)[0], ("0".to_owned(), true, 0));
}

#[test]
fn an_open_run_grows_with_the_clock() {
    let mpd = live_timeline("<S t='90' d='2' r='-1'/>");
    let mut rig = Rig::new();
    assert_eq!(rig.at(&mpd, 97.0), Ok(News::Changed));
    assert_eq!(names(&rig.media()), ["90", "92", "94"]);
    assert_eq!(rig.follower.next_in(), Some(secs(1.0)));
    rig.at(&mpd, 98.0).unwrap();
    assert_eq!(names(&rig.media()), ["92", "94", "96"]);
}

#[test]
fn a_new_period_is_a_discontinuity_even_when_the_old_one_is_gone() {
    let one = |start: u64, runs: &str| (format!("start='PT{start}S'"), timeline(runs));
    let mpd_of = |periods: &[(String, String)]| {
        let periods: Vec<_> = periods
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        with(LIVE, &periods)
    };
    let mut rig = Rig::new();
    rig.at(&mpd_of(&[one(0, "<S t='100' d='2' r='2'/>")]), 106.0)
        .unwrap();
    assert_eq!(rig.read().len(), 3);
    // The second begins at 0 with its own clock.
    let both = mpd_of(&[
        one(0, "<S t='102' d='2' r='1'/>"),
        one(106, "<S t='0' d='2'/>"),
    ]);
    rig.at(&both, 108.0).unwrap();
    assert_eq!(rig.read(), [("0".to_owned(), true, 0)]);
    rig.at(&mpd_of(&[one(106, "<S t='0' d='2' r='1'/>")]), 110.0)
        .unwrap();
    assert_eq!(rig.read(), [("2".to_owned(), false, 0)]);
    // The third is there when the second has left.
    rig.at(&mpd_of(&[one(110, "<S t='0' d='2'/>")]), 112.0)
        .unwrap();
    assert_eq!(rig.read(), [("0".to_owned(), true, 0)]);
    // A part of the fourth was missed, and with it its beginning.
    rig.at(&mpd_of(&[one(112, "<S t='6' d='2'/>")]), 120.0)
        .unwrap();
    assert_eq!(rig.read(), [("6".to_owned(), true, 3)]);
}

#[test]
fn a_live_manifest_that_becomes_static_ends() {
    let mut rig = Rig::new();
    rig.at(&live_timeline("<S t='100' d='2' r='2'/>"), 106.0)
        .unwrap();
    rig.read();
    let over = |runs: &str| {
        with(
            "type='static' mediaPresentationDuration='PT108S'",
            &[("", &timeline(runs))],
        )
    };
    assert_eq!(
        rig.at(&over("<S t='0' d='2' r='53'/>"), 110.0),
        Ok(News::Changed)
    );
    assert_eq!(rig.read(), [("106".to_owned(), false, 0)]);
    assert!(rig.media().ended);
    assert_eq!(
        rig.follower
            .reload_in(&over("<S t='0' d='2'/>"), News::Changed),
        None
    );
    assert!(!rig.follower.stalled(secs(1e6)));
}

#[test]
fn the_rendition_rule_is_that_of_hls() {
    let all = mpd(
        "<MPD type='static' mediaPresentationDuration='PT2S'><Period>\
         <AdaptationSet contentType='audio' lang='de'><SegmentTemplate media='$RepresentationID$' duration='2'/>\
         <Representation id='de' mimeType='audio/mp4' bandwidth='9'/></AdaptationSet>\
         <AdaptationSet contentType='audio' lang='en'><Role value='main'/>\
         <SegmentTemplate media='$RepresentationID$' duration='2'/>\
         <Representation id='en1' mimeType='audio/mp4' bandwidth='1'/>\
         <Representation id='en2' mimeType='audio/mp4' bandwidth='2'/></AdaptationSet>\
         <AdaptationSet mimeType='video/mp4'><SegmentTemplate media='$RepresentationID$' duration='2'/>\
         <Representation id='low' bandwidth='100' height='360'/>\
         <Representation id='high' bandwidth='300' height='1080'/>\
         <Representation id='mid' bandwidth='200' height='720'/></AdaptationSet>\
         <AdaptationSet mimeType='video/mp4'><EssentialProperty schemeIdUri='http://dashif.org/guidelines/trickmode' value='1'/>\
         <Representation id='trick' bandwidth='999' height='1080'/></AdaptationSet>\
         <AdaptationSet mimeType='text/vtt'><Representation id='t' bandwidth='9999'/></AdaptationSet>\
         </Period></MPD>",
    );
    let picked = |role, rule: &Rendition| {
        let mut follower = Follower::new(role, rule.clone());
        follower.update(&all, EPOCH, Duration::ZERO).ok()?;
        let (_, media) = follower.current()?;
        Some(names(&media)[0].to_owned())
    };
    let rows = [
        (Rendition::Highest, Some("high"), Some("en2")),
        (Rendition::Lowest, Some("low"), Some("en1")),
        (Rendition::Height(700), Some("mid"), Some("en2")),
        (Rendition::Bandwidth(250), Some("mid"), Some("en2")),
        (Rendition::Name("low".to_owned()), Some("low"), Some("en2")),
        (Rendition::Name("none".to_owned()), None, None),
    ];
    for (rule, main, audio) in rows {
        assert_eq!(picked(Role::Main, &rule).as_deref(), main, "{rule:?}");
        assert_eq!(picked(Role::Audio, &rule).as_deref(), audio, "{rule:?}");
    }
    assert_eq!(
        all.audio_beside(&Rendition::Highest),
        Some(Some("en".to_owned()))
    );
}

#[test]
fn protection_is_told_by_what_is_loaded() {
    let told = |inside: &str| {
        let inside = format!("{inside}<SegmentTemplate media='$Number$' duration='5'/>");
        let media = laid_out(&with(STATIC, &[("", &inside)])).unwrap();
        media.segments[0].encryption.clone()
    };
    let common = "<ContentProtection schemeIdUri='urn:mpeg:dash:mp4protection:2011' value='cenc'/>";
    assert_eq!(told(common), Encryption::Told { licence: None });
    let clear_key = "<ContentProtection schemeIdUri='urn:uuid:E2719D58-A985-B3C9-781A-B030AF78D30E'>\
        <dashif:Laurl xmlns:dashif='https://dashif.org/CPS'> keys/ask </dashif:Laurl></ContentProtection>";
    let Encryption::Told { licence: Some(url) } = told(&format!("{common}{clear_key}")) else {
        panic!("no licence");
    };
    assert!(
        url.starts_with("http") && url.ends_with("/keys/ask"),
        "{url}"
    );
}

#[test]
fn clocks_are_read_in_their_order() {
    let all = mpd(
        "<MPD type='dynamic'><UTCTiming schemeIdUri='urn:mpeg:dash:utc:http-ntp:2014' value='x'/>\
         <UTCTiming schemeIdUri='urn:mpeg:dash:utc:http-iso:2014' value='http://t.example/a http://t.example/b'/>\
         <UTCTiming schemeIdUri='urn:mpeg:dash:utc:http-xsdate:2014' value='/now'/>\
         <UTCTiming schemeIdUri='urn:mpeg:dash:utc:direct:2014' value='2024-01-01T00:00:01Z'/></MPD>",
    );
    let http = |text| Clock::Http(Url::parse(text).unwrap());
    assert_eq!(
        all.clocks,
        [
            Clock::Unused("http-ntp"),
            http("http://t.example/a"),
            http("http://a.example/now"),
            Clock::Direct(EPOCH + SECOND)
        ]
    );
    let others = mpd(
        "<MPD type='dynamic'><UTCTiming schemeIdUri='urn:mpeg:dash:utc:ntp:2014' value='a.example'/>\
         <UTCTiming schemeIdUri='urn:mpeg:dash:utc:sntp:2014' value='a.example'/>\
         <UTCTiming schemeIdUri='urn:example:sundial' value='x'/>\
         <UTCTiming schemeIdUri='urn:mpeg:dash:utc:direct:2014' value='noon'/>\
         <UTCTiming schemeIdUri='urn:mpeg:dash:utc:http-head:2014' value='/head'/></MPD>",
    );
    assert_eq!(
        others.clocks,
        [
            Clock::Unused("ntp"),
            Clock::Unused("sntp"),
            Clock::Unused("unknown"),
            Clock::Head(Url::parse("http://a.example/head").unwrap())
        ]
    );
    assert_eq!(time(" 2024-01-01T00:00:00\n"), Some(EPOCH));
    assert_eq!(
        time("2024-01-01T01:00:00.5+01:00"),
        Some(EPOCH + SECOND / 2)
    );
    assert_eq!(time("yesterday"), None);
}

#[test]
fn an_index_cuts_a_resource_into_segments() {
    let inside = "<BaseURL>film.mp4</BaseURL><SegmentBase indexRange='100-199'>\
                  <Initialization range='0-99'/></SegmentBase>";
    let mpd = with(STATIC, &[("", inside)]);
    let mut rig = Rig::new();
    let (url, place) = rig.follower.wants(&mpd).unwrap();
    assert_eq!(
        (url.path(), place),
        (
            "/x/film.mp4",
            ByteRange {
                start: 100,
                len: 100
            }
        )
    );
    let mut sidx = vec![0, 0, 0, 56];
    sidx.extend_from_slice(b"sidx");
    for word in [0_u32, 1, 1000, 0, 10, 2, 700, 4000, 0, 300, 2000, 0] {
        sidx.extend_from_slice(&word.to_be_bytes());
    }
    rig.follower.indexed(url, place, &sidx);
    assert_eq!(rig.follower.wants(&mpd), None);
    rig.at(&mpd, 0.0).unwrap();
    let media = rig.media();
    let parts: Vec<_> = media
        .segments
        .iter()
        .map(|s| (s.range.unwrap(), s.duration))
        .collect();
    assert_eq!(
        parts,
        [
            (
                ByteRange {
                    start: 166,
                    len: 700
                },
                secs(4.0)
            ),
            (
                ByteRange {
                    start: 866,
                    len: 300
                },
                secs(2.0)
            )
        ]
    );
    let init = media.segments[0].init.as_ref().unwrap();
    assert_eq!(init.range, Some(ByteRange { start: 0, len: 100 }));
    // What is no index leaves one segment.
    let mut rig = Rig::new();
    let (url, place) = rig.follower.wants(&mpd).unwrap();
    rig.follower.indexed(url, place, b"\x1a\x45\xdf\xa3");
    rig.at(&mpd, 0.0).unwrap();
    assert_eq!(rig.media().segments.len(), 1);
    assert_eq!(rig.media().segments[0].init, None);
}

#[test]
fn live_playback_begins_as_far_back_as_the_origin_suggests() {
    let mpd = with(
        &format!("{LIVE} suggestedPresentationDelay='PT4S'"),
        &[(
            "start='PT0S'",
            "<SegmentTemplate media='$Number$' duration='1'/>",
        )],
    );
    let mut rig = Rig::new();
    rig.at(&mpd, 100.0).unwrap();
    assert_eq!(rig.media().hold_back, Some(secs(4.0)));
    assert_eq!(rig.read().len(), 4);
}

#[test]
fn endless_live_lists_stay_bounded() {
    let forever = "type='dynamic' minimumUpdatePeriod='PT2S' timeShiftBufferDepth='P99Y'";
    let mpd = with(
        forever,
        &[(
            "start='PT0S'",
            "<SegmentTemplate media='$Number$' duration='1' timescale='1000'/>",
        )],
    );
    let media = laid_out(&mpd).unwrap();
    assert!(media.segments.len() <= ENTRIES_MAX);
}

proptest::proptest! {
    #[test]
    fn any_manifest_is_read_or_refused(
        root in "( (type='dynamic'|minimumUpdatePeriod='PT0S'|mediaPresentationDuration='P(1|T9)S'|\
                 availabilityStartTime='(2024-01-01T00:00:00Z|x)'|timeShiftBufferDepth='PT(0|9)S')){0,4}",
        period in "( (start='PT[0-9]{1,9}S'|duration='PT[0-9]{1,2}S')){0,2}",
        template in "( (media='[$a-zA-Z%0-9]{0,20}'|media='\\$Number%0[0-9]{1,2}d\\$'|duration='[0-9]{1,20}'|\
                     timescale='[0-9]{1,20}'|startNumber='[0-9]{1,20}'|presentationTimeOffset='[0-9]{1,20}'|\
                     endNumber='[0-9]{1,20}')){0,6}",
        runs in "(<S( (t|d|r)='-?[0-9]{1,20}'){0,3}/>){0,6}",
        timed: bool,
        at in proptest::num::i64::ANY,
    ) {
        let inside = if timed { format!("<SegmentTimeline>{runs}</SegmentTimeline>") } else { String::new() };
        let text = format!(
            "<MPD{root}><Period{period}><AdaptationSet mimeType='video/mp4'><SegmentTemplate{template}>{inside}\
             </SegmentTemplate><Representation id='a'/></AdaptationSet></Period></MPD>"
        );
        if let Ok(mpd) = parse(text.as_bytes(), &url()) {
            let mut follower = Follower::new(Role::Main, Rendition::Highest);
            for at in [at, at.saturating_add(SECOND), EPOCH] {
                let _ = follower.update(&mpd, at, Duration::ZERO);
                proptest::prop_assert!(
                    follower.current().is_none_or(|(_, media)| media.segments.len() <= ENTRIES_MAX)
                );
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0_u8.., 0..300), tags in "[<>/!A-Z'= a-z-]{0,200}") {
        let _ = parse(&bytes, &url());
        let _ = parse(format!("<MPD>{tags}").as_bytes(), &url());
        looks_like_mpd(&bytes);
        let _ = Index::read(&bytes, ByteRange { start: 0, len: 10 });
    }
}

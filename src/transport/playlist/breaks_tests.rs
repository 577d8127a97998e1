use super::super::{Playlist, parse};
use super::*;
use crate::transport::ts::crc32;

const SECS: fn(u64) -> Duration = Duration::from_secs;

fn media(text: &str) -> Media {
    match parse(text.as_bytes()).unwrap() {
        Playlist::Media(media) => media,
        Playlist::Master(_) => panic!("a master"),
    }
}

/// A window of four-second segments over lines by segment number.
fn window(first: usize, lines: &[&str]) -> Media {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for (at, line) in lines.iter().enumerate().skip(first).take(5) {
        text += &format!("{line}\n#EXTINF:4,\ns{at}.ts\n");
    }
    media(&text)
}

fn mark(edge: BreakEdge, planned: Option<u64>, event_id: Option<u32>) -> BreakMark {
    BreakMark {
        edge,
        source: BreakSource::HlsTag,
        at: None,
        planned: planned.map(SECS),
        event_id,
    }
}

/// Reads the segments one by one while the window moves, from a given one; gives what was told before which.
fn told(lines: &[&str], from: usize) -> Vec<(u64, BreakMark)> {
    let mut breaks = Breaks::default();
    let mut told = Vec::new();
    for at in from..lines.len() {
        let media = window(at.saturating_sub(2), lines);
        let marks = breaks.passing(0, &media, at as u64);
        told.extend(marks.into_iter().map(|mark| (at as u64, mark)));
    }
    told
}

/// An insert that leaves the programme for 30 s, at once, with event 7.
fn insert() -> Vec<u8> {
    let mut bytes = vec![0xFC, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF0, 15, 5];
    // Event; out, whole programme, with duration, at once.
    bytes.extend([0, 0, 0, 7, 0x7F, 0xFF]);
    let planned = (0xFE_u64 << 32) | (30 * 90_000);
    bytes.extend(&planned.to_be_bytes()[3..]);
    // Programme, availabilities; no descriptors.
    bytes.extend([0; 6]);
    bytes[2] = (bytes.len() + 4 - 3) as u8;
    let crc = crc32(&bytes);
    bytes.extend(crc.to_be_bytes());
    bytes
}

#[test]
fn each_event_is_told_once_when_the_reader_comes_to_it() {
    let lines = [
        "",
        "",
        "",
        "#EXT-X-CUE-OUT:8",
        "#EXT-X-CUE-OUT-CONT:4/8",
        "#EXT-X-CUE-IN",
        "",
        "#EXT-X-CUE-OUT:DURATION=12.5",
        "",
        "",
    ];
    let start = mark(BreakEdge::Start, Some(8), None);
    let end = mark(BreakEdge::End, None, None);
    let mut later = mark(BreakEdge::Start, None, None);
    later.planned = Some(Duration::from_millis(12_500));
    let all = [(3, start), (5, end), (7, later)];
    assert_eq!(told(&lines, 0), all);
    // Whoever comes after the break hears nothing of it.
    assert_eq!(told(&lines, 6), all[2..]);
}

#[test]
fn whoever_comes_in_the_middle_is_told_what_is_left() {
    let lines = [
        "#EXT-X-CUE-OUT:20",
        "#EXT-X-CUE-OUT-CONT:ElapsedTime=4,Duration=20,SCTE35=/DAl",
        "#EXT-X-CUE-OUT-CONT:8/20",
        "",
        "",
        "#EXT-X-CUE-IN",
    ];
    for (from, left) in [(1, 16), (2, 12), (3, 8)] {
        let start = mark(BreakEdge::Start, Some(left), None);
        let end = mark(BreakEdge::End, None, None);
        assert_eq!(told(&lines, from), [(from as u64, start), (5, end)]);
    }
}

#[test]
fn several_tags_for_one_event_are_one() {
    let section = insert();
    let scte = format!("#EXT-OATCLS-SCTE35:{}", STANDARD.encode(&section));
    let digits: String = section.iter().map(|byte| format!("{byte:02X}")).collect();
    let range = format!(
        "#EXT-X-DATERANGE:ID=\"x\",START-DATE=\"2024-01-01T00:00:08Z\",SCTE35-OUT=0x{digits}"
    );
    let all = format!("{scte}\n#EXT-X-CUE-OUT:30\n{range}");
    let start = mark(BreakEdge::Start, Some(30), Some(7));
    for out in [&scte, &range, &all] {
        let lines = ["", "", out.as_str(), "", ""];
        assert_eq!(told(&lines, 0), [(2, start.clone())], "{out}");
    }
    // With a damaged payload the plain tag still counts.
    let lines = ["", "", "#EXT-OATCLS-SCTE35:/DAl\n#EXT-X-CUE-OUT", "", ""];
    assert_eq!(told(&lines, 0), [(2, mark(BreakEdge::Start, None, None))]);
}

#[test]
fn date_ranges_lie_where_their_date_says() {
    let date = "#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:00Z";
    let out = "#EXT-X-DATERANGE:ID=\"12\",START-DATE=\"2024-01-01T00:00:12.1Z\",\
               PLANNED-DURATION=8,SCTE35-OUT=0xFC";
    let back = "#EXT-X-DATERANGE:ID=\"12\",START-DATE=\"2024-01-01T00:00:12.1Z\",DURATION=8.1,\
                SCTE35-IN=0xFC";
    // Announced before its segment is listed, and repeated for as long as the window shows it.
    let all = format!("{date}\n{out}\n{back}");
    let list = |first: u64| {
        let mut media = window(0, &[&all, "", "", "", "", "", "", ""]);
        let more = window(5, &["", "", "", "", "", "", "", "", ""]);
        media.segments.extend(more.segments);
        media.segments.drain(..first as usize);
        let millis = 1_704_067_200_000 + 4_000 * first as i64;
        media.segments[0].program_date_time_unix_ms = Some(millis);
        media.sequence = first;
        media
    };
    let run = |from: u64| {
        let mut breaks = Breaks::default();
        let told = (from..8).flat_map(|at| {
            let marks = breaks.passing(0, &list(at.saturating_sub(1)), at);
            marks.into_iter().map(|mark| (at, mark)).collect::<Vec<_>>()
        });
        told.collect::<Vec<_>>()
    };
    let start = mark(BreakEdge::Start, Some(8), Some(12));
    let end = mark(BreakEdge::End, None, Some(12));
    assert_eq!(run(0), [(3, start), (5, end.clone())]);
    // Behind its start, in the middle.
    let left = mark(BreakEdge::Start, Some(4), Some(12));
    assert_eq!(run(4), [(4, left), (5, end)]);
    assert_eq!(run(6), []);
}

#[test]
fn interstitials_are_breaks_and_other_date_ranges_are_not() {
    let line = |class: &str| {
        format!(
            "#EXT-X-DATERANGE:ID=\"a\",CLASS=\"{class}\",START-DATE=\"2024-01-01T00:00:00Z\",\
             DURATION=15,X-ASSET-URI=\"ad.m3u8\""
        )
    };
    let ad = line(INTERSTITIAL);
    let expected = mark(BreakEdge::Start, Some(15), None);
    assert_eq!(told(&["", &ad, "", ""], 0), [(1, expected)]);
    assert_eq!(told(&["", &line("com.example.song"), "", ""], 0), []);
}

#[test]
fn a_restarted_list_is_another_place() {
    let mut breaks = Breaks::default();
    let list = window(0, &["", "#EXT-X-CUE-OUT", "#EXT-X-CUE-IN", ""]);
    assert_eq!(breaks.passing(0, &list, 0), []);
    assert_eq!(breaks.passing(0, &list, 1).len(), 1);
    assert_eq!(breaks.passing(0, &list, 2).len(), 1);
    assert_eq!(breaks.passing(1, &list, 3), []);
}

proptest::proptest! {
    #[test]
    fn any_marker_is_survived(
        values in proptest::collection::vec("(8/9|DURATION=|ID=\"a\",START-DATE=\"2024-01-01T00:00:00Z\",SCTE35-OUT=0x)?[ -~]{0,30}", 0..20),
        at in 0..30_u64,
    ) {
        let tags = ["CUE-OUT", "CUE-OUT-CONT", "CUE-IN", "DATERANGE"];
        let mut text = "#EXTM3U\n#EXT-OATCLS-SCTE35:/DA=\n".to_owned();
        for (n, value) in values.iter().enumerate() {
            text += &format!("#EXT-X-{}:{value}\n#EXTINF:4,\ns{n}.ts\n", tags[n % 4]);
        }
        if let Ok(Playlist::Media(media)) = parse(text.as_bytes()) {
            let mut breaks = Breaks::default();
            breaks.passing(0, &media, at);
            breaks.passing(0, &media, at + 1);
        }
    }
}

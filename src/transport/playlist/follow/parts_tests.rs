//! Following the parts of segments.

use super::*;

const SECS: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Segments of four one-second parts, of which the first begins with a key picture; the last `open` of them
/// belong to the segment that is being made.
fn parts(sequence: u64, segments: u64, listed: u64, open: usize) -> Media {
    let part = |of: u64, n: usize| Part {
        uri: format!("{of}.{n}"),
        duration: SECS(1),
        independent: n == 0,
        ..Part::default()
    };
    let end = sequence + segments;
    let mut media = Media {
        target: SECS(4),
        sequence,
        ..Media::default()
    };
    media.segments = (sequence..end)
        .map(|of| Segment {
            uri: format!("{of}"),
            duration: SECS(4),
            parts: (0..4)
                .filter(|_| of + listed >= end)
                .map(|n| part(of, n))
                .collect(),
            ..Segment::default()
        })
        .collect();
    media.low_latency.part_target = Some(SECS(1));
    media.low_latency.open = (open > 0).then(|| {
        Box::new(Segment {
            parts: (0..open).map(|n| part(end, n)).collect(),
            ..Segment::default()
        })
    });
    media
}

/// All that can be done now, in words: `n` a segment, `n.i` a part, `n!` the end of one's parts, `|` before
/// what a discontinuity precedes.
fn steps(cursor: &mut Cursor, media: &Media) -> String {
    let mut out = Vec::new();
    loop {
        let bar = |there: bool| if there { "|" } else { "" };
        match cursor.step(0, media) {
            Step::Read {
                sequence,
                discontinuity,
                ..
            } => {
                out.push(format!("{}{sequence}", bar(discontinuity)));
                cursor.done(media, sequence, Passed::Read);
            }
            Step::Part {
                sequence,
                index,
                part,
                discontinuity,
                ..
            } => {
                out.push(format!("{}{sequence}.{index}", bar(discontinuity)));
                let passed = match part.gap {
                    true => Passed::Unread,
                    false => Passed::Read,
                };
                cursor.part_done(media, sequence, index, passed);
            }
            Step::Close { sequence } => {
                out.push(format!("{sequence}!"));
                cursor.done(media, sequence, Passed::Read);
            }
            Step::Wait | Step::Ended => return out.join(" "),
        }
    }
}

#[test]
fn starts_at_the_first_part_within_the_hold_back_that_can_be_decoded() {
    let at = |media: &Media| {
        let (sequence, within) = start(media);
        (sequence, within.next)
    };
    let mut media = parts(10, 5, 3, 2);
    // Three seconds reach into segment 14, six to its beginning.
    assert_eq!(at(&media), (15, 0));
    media.low_latency.control.part_hold_back = Some(SECS(6));
    assert_eq!(at(&media), (14, 0));
    media.segments[4].parts[2].independent = true;
    media.low_latency.control.part_hold_back = Some(MS(5_900));
    assert_eq!(at(&media), (14, 2));
    // None so near the end: the newest one.
    let mut far = parts(10, 5, 3, 3);
    far.low_latency.control.part_hold_back = Some(SECS(2));
    assert_eq!(at(&far), (15, 0));
    if let Some(open) = &mut far.low_latency.open {
        open.parts[0].gap = true;
    }
    assert_eq!(at(&far), (14, 0));
    // No parts listed: as any other.
    assert_eq!(at(&parts(10, 5, 0, 0)), (12, 0));
}

#[test]
fn parts_are_read_as_they_come_and_nothing_twice() {
    let mut cursor = Cursor::default();
    assert_eq!(steps(&mut cursor, &parts(10, 5, 2, 2)), "15.0 15.1");
    assert_eq!(steps(&mut cursor, &parts(10, 5, 2, 2)), "");
    assert_eq!(steps(&mut cursor, &parts(10, 5, 2, 3)), "15.2");
    // The last part comes with the whole segment, the next with its successor.
    assert_eq!(steps(&mut cursor, &parts(11, 5, 2, 0)), "15.3 15!");
    assert_eq!(steps(&mut cursor, &parts(11, 5, 2, 1)), "16.0");
    // Late: what is left of one by parts, whole segments where they are there, parts at the edge.
    assert_eq!(
        steps(&mut cursor, &parts(14, 5, 3, 2)),
        "16.1 16.2 16.3 16! 17 18 19.0 19.1"
    );
    // The parts are listed no more: the rest from the whole.
    assert_eq!(steps(&mut cursor, &parts(17, 4, 1, 1)), "19 20 21.0");
    // Their list lost its beginning.
    let mut cut = parts(18, 4, 1, 1);
    cut.segments[3].parts.remove(0);
    assert_eq!(steps(&mut cursor, &cut), "21 22.0");
    let mut cut = parts(19, 4, 1, 1);
    cut.segments[3].parts[1].uri += "?token=2";
    assert_eq!(steps(&mut cursor, &cut), "22.1 22.2 22.3 22! 23.0");
    let mut ended = parts(19, 5, 0, 0);
    ended.ended = true;
    assert_eq!(steps(&mut cursor, &ended), "23");
    assert_eq!(cursor.step(0, &ended), Step::Ended);
}

#[test]
fn whole_segments_do_where_parts_fail() {
    let mut cursor = Cursor::default();
    cursor.step(0, &parts(10, 5, 2, 1));
    cursor.leave_parts(15);
    assert_eq!(steps(&mut cursor, &parts(10, 5, 2, 3)), "");
    assert_eq!(steps(&mut cursor, &parts(11, 5, 2, 1)), "15 16.0");
    cursor.only_whole_segments();
    assert_eq!(steps(&mut cursor, &parts(12, 5, 2, 1)), "16");
    assert_eq!(steps(&mut cursor, &parts(13, 5, 2, 3)), "17");
}

#[test]
fn discontinuities_and_gaps_of_parts() {
    let mut cursor = Cursor::default();
    steps(&mut cursor, &parts(10, 5, 2, 3));
    let mut media = parts(11, 5, 2, 3);
    if let Some(open) = &mut media.low_latency.open {
        open.discontinuity = true;
        open.parts[0].gap = true;
    }
    assert_eq!(steps(&mut cursor, &media), "15.3 15! |16.0 |16.1 16.2");
    // Away until after another one.
    let mut later = parts(20, 5, 2, 1);
    later.discontinuity_sequence = 2;
    assert!(steps(&mut cursor, &later).starts_with("|20 21 "));
}

#[test]
fn the_hint_is_for_what_comes_next() {
    let hinted = |mut media: Media| {
        media.low_latency.part_hint = Some(Hint {
            uri: "next".to_owned(),
            start: 0,
            len: None,
        });
        media
    };
    let mut cursor = Cursor::default();
    let media = hinted(parts(10, 5, 2, 2));
    assert_eq!(cursor.hint(0, &media), None);
    cursor.step(0, &media);
    assert_eq!(cursor.hint(0, &media), None);
    steps(&mut cursor, &media);
    assert!(cursor.hint(0, &media).is_some() && cursor.hint(1, &media).is_none());
    let whole = hinted(parts(11, 5, 2, 0));
    assert_eq!(cursor.hint(0, &whole), None);
    steps(&mut cursor, &whole);
    assert!(cursor.hint(0, &whole).is_some());
    cursor.leave_parts(16);
    assert_eq!(cursor.hint(0, &whole), None);
}

#[test]
fn another_part_is_news_and_fewer_are_an_older_copy() {
    let mut window = Window::default();
    assert_eq!(window.load(parts(10, 5, 2, 1), MS(0)), News::Changed);
    assert_eq!(window.load(parts(10, 5, 2, 1), MS(1)), News::Same);
    assert_eq!(window.load(parts(10, 5, 2, 2), MS(2)), News::Changed);
    assert_eq!(window.load(parts(10, 5, 2, 1), MS(3)), News::Same);
    assert_eq!(window.load(parts(10, 5, 2, 0), MS(4)), News::Same);
    assert_eq!(window.load(parts(11, 5, 2, 0), MS(5)), News::Changed);
    assert_eq!(window.load(parts(0, 5, 2, 0), MS(6)), News::Restarted);
}

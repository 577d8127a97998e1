use super::*;

const MIB: usize = 1 << 20;

fn limits(secs: u64, bytes: usize) -> Limits {
    Limits {
        span: Duration::from_secs(secs),
        bytes,
    }
}

fn coding(width: u32) -> Arc<Encoding> {
    Encoding::of(&format!("video/x-h264, width={width}"))
}

fn ms(n: i64) -> MediaTime {
    MediaTime::from_millis(n)
}

fn unit(track: Track, at: i64, key: bool, bytes: usize, encoding: &Arc<Encoding>) -> EncodedUnit {
    EncodedUnit {
        track,
        encoding: Arc::clone(encoding),
        media: ms(at),
        decode_ahead_nanos: Some(0),
        key,
        bytes: vec![0; bytes].into(),
    }
}

/// Pictures every 40 ms, one in `group` a key, and sound every 20 ms.
fn fill(ring: &mut Ring, from: i64, until: i64, group: i64, bytes: usize) {
    let coding = coding(320);
    for at in (from..until).step_by(20) {
        if at % 40 == 0 {
            let key = at % (group * 40) == 0;
            ring.push(unit(Track::video(0), at, key, bytes, &coding));
        }
        ring.push(unit(Track::audio(0), at, true, bytes / 10, &coding));
    }
}

fn spans(cut: &Cut) -> Vec<(String, f64, f64)> {
    let row = |part: &Part| {
        let (from, to) = part.span();
        (part.track.to_string(), from.secs(), to.secs())
    };
    cut.parts.iter().map(row).collect()
}

#[test]
fn what_is_kept_begins_with_a_key_picture_and_stays_within_the_limits() {
    let mut ring = Ring::new(limits(12, 24 * MIB));
    fill(&mut ring, 0, 100_000, 50, 1000);
    let cut = ring.cut(ms(0), ms(99_000), ms(200_000), None).unwrap();
    // 12 s back is 87.98: the group there begins at 86.
    assert_eq!(
        spans(&cut),
        [
            ("video:0".to_owned(), 86.0, 99.96),
            ("audio:0".to_owned(), 86.0, 99.96)
        ]
    );
    assert!(cut.parts[0].units[0].key);
    assert_eq!(
        cut.bytes(),
        ring.bytes() - 100,
        "the newest sound lies after the last picture"
    );
    for limit in [MIB / 4, MIB, 3 * MIB] {
        let mut ring = Ring::new(limits(12, limit));
        for n in 0..500 {
            fill(&mut ring, n * 200, (n + 1) * 200, 25, 30_000);
            assert!(ring.bytes() <= limit, "{} of {limit}", ring.bytes());
        }
    }
}

#[test]
fn a_group_of_pictures_larger_than_everything_is_given_up_whole() {
    let mut ring = Ring::new(limits(12, MIB));
    fill(&mut ring, 0, 40_000, 1_000_000, 60_000);
    assert!(ring.bytes() <= MIB);
    let cut = ring.cut(ms(30_000), ms(35_000), ms(40_000), None).unwrap();
    assert!(cut.parts.iter().all(|part| part.track.kind == Kind::Audio));
}

#[test]
fn a_clip_begins_with_the_last_key_picture_before_it() {
    let mut ring = Ring::new(limits(30, 24 * MIB));
    fill(&mut ring, 0, 30_000, 25, 500);
    let cut = ring.cut(ms(10_500), ms(15_500), ms(20_500), None).unwrap();
    assert_eq!(
        spans(&cut),
        [
            ("video:0".to_owned(), 10.0, 20.48),
            ("audio:0".to_owned(), 10.0, 20.48)
        ]
    );
    assert_eq!((cut.begins, cut.ends), (ms(10_000), ms(20_480)));
}

#[test]
fn a_pin_keeps_what_a_clip_still_needs_and_no_more_than_the_bytes_allow() {
    let mut ring = Ring::new(limits(12, 24 * MIB));
    fill(&mut ring, 0, 10_000, 25, 500);
    ring.pin(Some(ms(3_000)));
    fill(&mut ring, 10_000, 50_000, 25, 500);
    let cut = ring.cut(ms(3_000), ms(8_000), ms(49_000), None).unwrap();
    assert_eq!(cut.begins, ms(3_000));
    ring.pin(None);
    fill(&mut ring, 50_000, 50_040, 25, 500);
    let cut = ring.cut(ms(3_000), ms(8_000), ms(50_000), None).unwrap();
    assert_eq!(cut.begins, ms(38_000));
}

#[test]
fn where_the_coding_changes_the_stretch_around_the_defect_is_taken() {
    let (small, large) = (coding(320), coding(640));
    let mut ring = Ring::new(limits(30, 24 * MIB));
    for n in 0..50 {
        let encoding = if n < 20 { &small } else { &large };
        ring.push(unit(Track::video(0), n * 200, n % 5 == 0, 100, encoding));
    }
    let cut = |at| ring.cut(ms(0), ms(at), ms(20_000), None).unwrap();
    let widths = |at| {
        let cut = cut(at);
        (cut.begins.secs(), cut.ends.secs())
    };
    assert_eq!(widths(1_000), (0.0, 3.8));
    assert_eq!(widths(4_000), (4.0, 9.8));
    assert_eq!(widths(90_000), (4.0, 9.8));
    assert_eq!(cut(4_000).parts[0].encoding, large);
}

#[test]
fn the_track_of_the_defect_is_shown_and_two_tracks_are_heard() {
    let coding = coding(320);
    let mut ring = Ring::new(limits(30, 24 * MIB));
    for n in 0..100 {
        for index in 0..3 {
            ring.push(unit(Track::video(index), n * 40, n % 25 == 0, 10, &coding));
            ring.push(unit(Track::audio(index), n * 40, true, 10, &coding));
        }
    }
    let of = |track| {
        let cut = ring.cut(ms(0), ms(2_000), ms(3_000), track).unwrap();
        cut.parts
            .iter()
            .map(|p| p.track.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Some(Track::video(2))), ["video:2", "audio:0", "audio:1"]);
    for other in [None, Some(Track::video(9)), Some(Track::audio(1))] {
        assert_eq!(of(other), ["video:0", "audio:0", "audio:1"]);
    }
}

#[test]
fn another_clock_begins_anew() {
    let mut ring = Ring::new(limits(12, 24 * MIB));
    fill(&mut ring, 100_000, 110_000, 25, 500);
    assert!(ring.breaks(&unit(Track::video(0), 0, true, 1, &coding(320))));
    fill(&mut ring, 0, 2_000, 25, 500);
    assert_eq!(ring.newest(), Some(ms(1_980)));
    let cut = ring.cut(ms(0), ms(1_000), ms(200_000), None).unwrap();
    assert_eq!((cut.begins, cut.ends), (ms(0), ms(1_960)));
}

#[test]
fn decoding_times_rise_and_are_never_after_presentation() {
    let coding = coding(320);
    // I P B B P B B, decoded 80 ms ahead; once told, once not.
    for told in [true, false] {
        let mut ring = Ring::new(limits(12, MIB));
        for (n, shown) in [0, 120, 40, 80, 240, 160, 200].into_iter().enumerate() {
            let mut unit = unit(Track::video(0), 1000 + shown, n == 0, 10, &coding);
            let decoded = n as i64 * 40 - 80;
            unit.decode_ahead_nanos = told.then_some((shown - decoded) * 1_000_000);
            ring.push(unit);
        }
        let cut = ring.cut(ms(1000), ms(1000), ms(3000), None).unwrap();
        let strands = cut.strands();
        let units = &strands[0].units;
        assert_eq!(units.len(), 7);
        assert!(units.windows(2).all(|w| w[0].dts_nanos < w[1].dts_nanos));
        assert!(units.iter().all(|u| u.dts_nanos <= u.pts_nanos));
        assert_eq!(units[0].dts_nanos, 0);
        assert_eq!(units[1].pts_nanos - units[0].pts_nanos, 120_000_000);
    }
}

#[test]
fn a_clip_is_complete_when_every_track_that_goes_on_is_past_its_end() {
    let coding = coding(320);
    let mut ring = Ring::new(limits(30, MIB));
    let push = |ring: &mut Ring, track, at| ring.push(unit(track, at, true, 1, &coding));
    assert!(!ring.is_past(ms(0)));
    push(&mut ring, Track::video(0), 6_000);
    assert!(ring.is_past(ms(5_000)));
    push(&mut ring, Track::audio(0), 4_000);
    assert!(!ring.is_past(ms(5_000)));
    push(&mut ring, Track::audio(0), 5_000);
    assert!(ring.is_past(ms(5_000)));
    push(&mut ring, Track::video(0), 14_000);
    assert!(ring.is_past(ms(6_000)), "the sound has ended");
}

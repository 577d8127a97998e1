use super::super::Manifested;
use super::*;

const SECS: fn(u64) -> Duration = Duration::from_secs;

/// Segments of four seconds; a discontinuity lies before those with a leading `!`.
fn live(sequence: u64, segments: &str) -> Media {
    let segment = |name: &str| Segment {
        uri: name.to_owned(),
        duration: SECS(4),
        discontinuity: name.starts_with('!'),
        ..Segment::default()
    };
    Media {
        target: SECS(4),
        sequence,
        segments: segments.split_whitespace().map(segment).collect(),
        ..Media::default()
    }
}

fn ended(media: Media) -> Media {
    Media {
        ended: true,
        ..media
    }
}

/// With a date at every segment: the first one at this second.
fn dated(mut media: Media, from: f64) -> Media {
    let mut at = from;
    for segment in &mut media.segments {
        segment.program_date_time_unix_ms = Some((at * 1e3).round() as i64);
        at += segment.duration.as_secs_f64();
    }
    media
}

/// A list of which these segments have been read, with their first timestamps.
fn listed(media: Media, read: &[(u64, f64)]) -> Listed {
    let mut listed = Listed::default();
    listed.renew(Arc::new(media), None);
    for (sequence, stamp) in read {
        let anchor = Anchor::of(&listed.media, *sequence, *stamp).unwrap();
        listed.read(anchor);
    }
    listed
}

fn early(pictures: &Listed, sound: &Listed) -> Option<f64> {
    sound.beside(pictures, None).audio_early_secs
}

fn apart_secs(pictures: &Listed, sound: &Listed) -> Option<f64> {
    sound.beside(pictures, None).discontinuity_apart_secs
}

fn near(told: Option<f64>, secs: f64) {
    assert!(
        told.is_some_and(|told| (told - secs).abs() < 1e-3),
        "{told:?} is not {secs}"
    );
}

#[test]
fn complete_lists_begin_together() {
    // The video begins at PTS 25.385 s, the audio at 3.392 s.
    let list = || ended(live(0, "a b c"));
    let pictures = listed(list(), &[(0, 25.385)]);
    near(early(&pictures, &listed(list(), &[(0, 3.392)])), 21.993);
    near(early(&pictures, &listed(list(), &[(0, 26.085)])), -0.7);
    // Over the wrap of the timestamps.
    let wrapped = listed(list(), &[(0, STAMPS_WRAP_SECS - 1.0)]);
    near(early(&listed(list(), &[(0, 2.0)]), &wrapped), 3.0);
    // Later segments of sound are cut elsewhere; the beginning was the same.
    let clean = listed(list(), &[(0, 25.385), (1, 29.401), (2, 33.39)]);
    near(early(&pictures, &clean), 0.0);
    assert_eq!(early(&pictures, &listed(list(), &[])), None);
    // Of what was live before, nobody knows which segments begin together.
    let late = listed(ended(live(7, "d e f")), &[(7, 3.0)]);
    assert_eq!(early(&pictures, &late), None);
}

#[test]
fn dates_tell_where_segments_belong() {
    let pictures = || listed(dated(live(90, "a b c"), 1_000.0), &[(91, 54.0)]);
    let sound = |from, stamp| listed(dated(live(7, "p q r"), from), &[(8, stamp)]);
    near(early(&pictures(), &sound(1_000.0, 54.0)), 0.0);
    // Sound that is listed two seconds later, and is.
    near(early(&pictures(), &sound(1_002.0, 56.0)), 0.0);
    // Audio fMP4 three seconds off; dates hours apart.
    near(early(&pictures(), &sound(1_000.0, 57.0)), -3.0);
    near(early(&pictures(), &sound(1_000.0 + 7_200.0, 54.0)), 7_200.0);
    // Dates in whole seconds beside durations that are not: nobody knows better than to a second.
    let whole = |from| {
        let mut media = live(7, "p q r s t");
        for segment in &mut media.segments {
            segment.duration = Duration::from_millis(4_170);
        }
        let mut media = dated(media, from);
        for segment in &mut media.segments {
            let millis = segment.program_date_time_unix_ms.unwrap();
            segment.program_date_time_unix_ms = Some(millis / 1_000 * 1_000);
        }
        media
    };
    let vague = |stamp| listed(whole(1_000.9), &[(8, stamp)]);
    near(early(&pictures(), &vague(54.8)), 0.0);
    near(early(&pictures(), &vague(64.8)), -9.8);
}

#[test]
fn dates_are_carried_over_durations_and_never_over_a_discontinuity() {
    let mut media = live(7, "p q r s !t u");
    media.segments[0].program_date_time_unix_ms = Some(1_000_250);
    for segment in &mut media.segments {
        segment.duration = Duration::from_millis(4_010);
    }
    let pictures = listed(media.clone(), &[(9, 50.0)]);
    near(
        early(&pictures, &listed(media.clone(), &[(10, 55.01)])),
        -1.0,
    );
    let behind = listed(media, &[(12, 0.0)]);
    assert_eq!(early(&pictures, &behind), None);
}

#[test]
fn timelines_begin_together_after_a_restart() {
    // Encoders begin anew, and leave the sound 0.62 s later.
    let list = || live(40, "a b !c d e");
    let read = |stamp| [(41, 700.0), (42, stamp), (43, stamp + 4.0)];
    let pictures = listed(list(), &read(0.08));
    near(early(&pictures, &listed(list(), &read(0.7))), -0.62);
    near(early(&pictures, &listed(list(), &read(0.06))), 0.02);
    // Not where the beginnings were found apart.
    let sound = listed(list(), &read(4.08));
    near(early(&pictures, &sound), -4.0);
    let distrusted = Some(sound.newest_timeline());
    assert_ne!(
        sound.beside(&pictures, distrusted).audio_early_secs,
        Some(-4.0)
    );
}

#[test]
fn numbers_count_where_lists_agree_in_all_and_only_to_a_target_duration() {
    let list = |sequence| live(sequence, "a b c d e");
    let pictures = listed(list(20), &[(22, 125.385)]);
    near(
        early(&pictures, &listed(list(20), &[(22, 103.392)])),
        21.993,
    );
    near(
        early(&pictures, &listed(list(21), &[(23, 107.392)])),
        21.993,
    );
    near(early(&pictures, &listed(list(20), &[(22, 122.0)])), 0.0);
    // Other numbers, other durations.
    assert_eq!(early(&pictures, &listed(list(27), &[(29, 103.0)])), None);
    let mut other = list(20);
    other.segments[3].duration = SECS(3);
    assert_eq!(early(&pictures, &listed(other, &[(22, 103.0)])), None);
}

#[test]
fn a_manifest_tells_time_and_what_it_may_be_wrong_by() {
    let media = |offset_ms: i64, nominal| {
        let mut media = live(0, "a b");
        for (n, segment) in (0_i64..).zip(&mut media.segments) {
            let period = 1_700_000_000_000_000_000;
            segment.manifested = Some(Manifested {
                begins: period + n * 4_000_000_000,
                zero: period - offset_ms * 1_000_000,
                period,
                first: n == 0,
                nominal,
            });
        }
        media
    };
    let read = |offset_ms, nominal, stamp| {
        let mut listed = listed(media(offset_ms, nominal), &[(1, stamp)]);
        listed.manifest_end_secs = Some(0.0);
        listed
    };
    let pictures = read(0, false, 4.0);
    // After `presentationTimeOffset`, sound begins with the pictures.
    near(early(&pictures, &read(90_000_000, false, 90_004.0)), 0.0);
    near(early(&pictures, &read(90_000_000, false, 90_007.0)), -3.0);
    // Segments of a nominal duration may begin up to half of it off.
    near(early(&pictures, &read(0, true, 5.9)), 0.0);
    near(early(&pictures, &read(0, true, 7.0)), -3.0);
}

#[test]
fn discontinuities_at_one_place_are_fine_however_sound_is_cut() {
    let pictures = listed(ended(live(0, "a b !c d !e")), &[]);
    let mut sound = ended(live(0, "p q !r s !t"));
    for (segment, millis) in sound
        .segments
        .iter_mut()
        .zip([4_010, 3_987, 4_010, 4_010, 3_990])
    {
        segment.duration = Duration::from_millis(millis);
    }
    assert_eq!(apart_secs(&pictures, &listed(sound, &[])), Some(0.0));
    // Twice as many segments.
    let mut halves = ended(live(0, "p q r s !t u v w !x y"));
    halves
        .segments
        .iter_mut()
        .for_each(|s| s.duration = SECS(2));
    assert_eq!(apart_secs(&pictures, &listed(halves, &[])), Some(0.0));
}

#[test]
fn discontinuities_elsewhere_or_in_one_list_only_are_told_at_the_load() {
    let pictures = |media| listed(media, &[]);
    let told = |own: &str, beside: &str| {
        let whole = apart_secs(
            &pictures(ended(live(0, beside))),
            &pictures(ended(live(0, own))),
        );
        let dates = |list| pictures(dated(live(5, list), 500.0));
        assert_eq!(apart_secs(&dates(beside), &dates(own)), whole, "by dates");
        whole
    };
    near(told("a b c !d e", "a b !c d e"), 4.0);
    near(told("a !b c d e", "a b c !d e"), 8.0);
    near(told("a b c d e", "a b c !d e"), 8.0);
    near(told("a b !c d e", "a b c d e"), 12.0);
    near(told("a b !c d e", "a b !c d e"), 0.0);
    // The lists count differently what has left them.
    let counted = Media {
        discontinuity_sequence: 3,
        ..live(5, "a b c")
    };
    let other = pictures(dated(live(5, "a b c"), 500.0));
    near(apart_secs(&other, &pictures(dated(counted, 500.0))), 12.0);
    // What only the newer list knows is not compared.
    let newer = pictures(dated(live(6, "b c d !e"), 504.0));
    near(
        apart_secs(&pictures(dated(live(5, "a b c d"), 500.0)), &newer),
        0.0,
    );
}

#[test]
fn without_dates_what_was_read_tells_where_discontinuities_are() {
    let pictures = listed(live(20, "a b c !d e"), &[(21, 54.0)]);
    let sound = |list, read| listed(live(7, list), read);
    near(
        apart_secs(&pictures, &sound("p q r !s t", &[(8, 54.0)])),
        0.0,
    );
    near(
        apart_secs(&pictures, &sound("p q r s !t", &[(8, 54.0)])),
        4.0,
    );
    near(
        apart_secs(&pictures, &sound("p q r s t", &[(9, 58.0)])),
        8.0,
    );
    assert_eq!(apart_secs(&pictures, &sound("p q r !s t", &[])), None);
    // Behind the discontinuity, nothing is known of what was before it.
    let passed = listed(live(20, "a b c !d e"), &[(23, 1.0)]);
    near(apart_secs(&passed, &sound("p q !r s t", &[(10, 5.0)])), 0.0);
}

#[test]
fn periods_that_begin_apart() {
    let media = |late_ms: i64| {
        let mut media = live(0, "a b !c d");
        for (n, segment) in (0_i64..).zip(&mut media.segments) {
            let period = if n < 2 { 0 } else { 8_000_000_000 };
            let late = if n == 2 { late_ms * 1_000_000 } else { 0 };
            segment.manifested = Some(Manifested {
                begins: n * 4_000_000_000 + late,
                zero: period,
                period,
                first: n == 0 || n == 2,
                nominal: false,
            });
        }
        let mut listed = listed(media, &[]);
        listed.manifest_end_secs = Some(16.0);
        listed
    };
    near(apart_secs(&media(0), &media(20)), 0.02);
    near(apart_secs(&media(0), &media(2_000)), 2.0);
    // What lies before the period is not presented.
    near(apart_secs(&media(0), &media(-2_000)), 0.0);
}

#[test]
fn ends_lie_apart_only_where_no_clock_says_otherwise() {
    let main = listed(live(10, "a b c"), &[(11, 50.0)]);
    // By timestamps, also over their wrap.
    let sound = |list, stamp| listed(list, &[(31, stamp)]);
    near(sound(live(31, "p q"), 50.0).behind(&main, SECS(0)), 0.0);
    near(sound(live(31, "p q"), 42.0).behind(&main, SECS(0)), 8.0);
    near(sound(live(31, "p q"), 62.0).behind(&main, SECS(3)), -9.0);
    near(sound(live(31, "p q"), 52.0).behind(&main, SECS(3)), 0.0);
    assert_eq!(sound(live(31, "p !q"), 50.0).behind(&main, SECS(0)), None);
    // By dates.
    let by_date = |from| listed(dated(live(31, "p q"), from), &[]);
    let main = |stamp| listed(dated(live(10, "a b c"), 100.0), &[(10, stamp)]);
    near(by_date(96.0).behind(&main(0.0), SECS(0)), 8.0);
    // Dates are hours apart, and timestamps are not.
    let mut odd = by_date(90_000.0);
    odd.read(Anchor::of(&odd.media, 31, 50.0).unwrap());
    near(odd.behind(&main(46.0), SECS(0)), 0.0);
    // Complete lists of one length, whatever their timestamps.
    let whole = |stamp| listed(ended(live(0, "a b c")), &[(0, stamp)]);
    near(whole(3.392).behind(&whole(25.385), SECS(0)), 0.0);
}

proptest::proptest! {
    #[test]
    fn any_lists_are_survived(
        own in "[a!. ]{0,40}", beside in "[a!. ]{0,40}", sequence in 0_u64..9, stamp in proptest::num::f64::ANY,
    ) {
        let some = |text: &str, sequence| {
            let mut listed = Listed::default();
            let media = dated(live(sequence, text), sequence as f64);
            let anchor = Anchor::of(&media, sequence + 1, stamp);
            listed.renew(Arc::new(media), None);
            anchor.into_iter().for_each(|anchor| listed.read(anchor));
            listed
        };
        let (own, beside) = (some(&own, sequence), some(&beside, 3));
        let _ = (own.beside(&beside, None), own.behind(&beside, SECS(1)));
    }
}

use detectors::base::{Cause, Evidence, EvidenceKind, TrackInfo};

use super::*;
use crate::lane::testing::{fact, picture, sound};

fn show(unit: &OwnedUnit) -> String {
    let ms = unit.media.map_or(-1, |m| m.nanos() / 1_000_000);
    match (&unit.content, unit.track) {
        (Content::Fact(Fact::Evidence(_)), _) => format!("evidence {ms}"),
        (Content::Fact(Fact::RandomAccess(at)), _) => {
            format!("random access {}", at.nanos() / 1_000_000)
        }
        (Content::Fact(Fact::Input(event)), _) => format!("{event:?}"),
        (Content::Fact(_), _) => "fact".to_owned(),
        (_, Some(track)) => format!("{track} {ms}"),
        (_, None) => "?".to_owned(),
    }
}

fn announce(tracks: &[(Track, Option<Cause>)]) -> OwnedUnit {
    let infos = tracks
        .iter()
        .map(|(track, problem)| TrackInfo {
            track: *track,
            codec: "any".to_owned(),
            language: None,
            problem: *problem,
            member: None,
        })
        .collect();
    fact(None, None, Fact::Tracks(infos))
}

const BOTH: [(Track, Option<Cause>); 2] = [(Track::video(0), None), (Track::audio(0), None)];

fn evidence(at: i64) -> OwnedUnit {
    let evidence = Evidence::new(EvidenceKind::ContinuityError, None, 1);
    fact(Some(Track::video(0)), Some(at), Fact::Evidence(evidence))
}

fn ended() -> OwnedUnit {
    fact(None, None, Fact::Input(InputEvent::Ended))
}

fn pop_all(merge: &mut Merge) -> Vec<String> {
    std::iter::from_fn(|| merge.pop())
        .map(|u| show(&u))
        .collect()
}

#[test]
fn any_interleaving_of_the_threads_gives_one_sequence() {
    // Pictures every 40 ms from 0, sound every 21 ms from -10; damage evidence races ahead of its pictures.
    let video = || (0..200).map(|n| picture(0, n * 40, 1));
    let audio = || (0..380).map(|n| sound(0, n * 21 - 10, 21, 0.0));
    let mut expected: Option<Vec<String>> = None;
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut merge = Merge::default();
        let mut out = Vec::new();
        merge.push(announce(&BOTH));
        for at in [333, 4000, 4001] {
            merge.push(evidence(at));
        }
        let mut threads: [std::iter::Peekable<Box<dyn Iterator<Item = OwnedUnit>>>; 2] = [
            (Box::new(video()) as Box<dyn Iterator<Item = OwnedUnit>>).peekable(),
            (Box::new(audio()) as Box<dyn Iterator<Item = OwnedUnit>>).peekable(),
        ];
        while threads.iter_mut().any(|t| t.peek().is_some()) {
            let who = random.usize(0..2);
            for _ in 0..random.usize(0..60) {
                if threads[who].peek().is_some_and(|u| !merge.must_wait(u))
                    && let Some(unit) = threads[who].next()
                {
                    merge.push(unit);
                }
            }
            out.extend(pop_all(&mut merge));
        }
        merge.push(ended());
        out.extend(pop_all(&mut merge));
        assert_eq!(out.len(), 1 + 3 + 200 + 380 + 1);
        assert_eq!(out.last().map(String::as_str), Some("Ended"));
        match &expected {
            None => expected = Some(out),
            Some(expected) => assert_eq!(&out, expected, "seed {seed}"),
        }
    }
    let sequence = expected.unwrap();
    let at = sequence.iter().position(|s| s == "evidence 4000").unwrap();
    assert_eq!(
        sequence[at + 1],
        "video:0 4000",
        "a fact comes before the picture of its time"
    );
}

#[test]
fn a_track_that_stays_away_is_waited_for_then_left_behind_then_welcome() {
    let mut merge = Merge::default();
    merge.push(announce(&BOTH));
    assert_eq!(pop_all(&mut merge), ["fact"]);
    let mut n = 0;
    while !merge.must_wait(&sound(0, n * 20, 20, 0.0)) {
        merge.push(sound(0, n * 20, 20, 0.0));
        n += 1;
    }
    assert_eq!(n, 100, "two seconds");
    assert!(!merge.ready());
    merge.give_up_waiting();
    assert_eq!(pop_all(&mut merge).len(), 100);
    merge.push(sound(0, 2000, 20, 0.0));
    assert_eq!(
        pop_all(&mut merge),
        ["audio:0 2000"],
        "nobody is waited for"
    );
    merge.push(picture(0, 2040, 1));
    merge.push(picture(0, 2080, 1));
    assert!(!merge.ready(), "with pictures back, sound is waited for");
    merge.push(sound(0, 2020, 20, 0.0));
    merge.push(sound(0, 2060, 20, 0.0));
    assert_eq!(
        pop_all(&mut merge),
        ["audio:0 2020", "video:0 2040", "audio:0 2060"]
    );
}

#[test]
fn a_track_that_cannot_be_decoded_is_not_waited_for() {
    let mut merge = Merge::default();
    let tracks = [
        (Track::video(0), Some(Cause::UnsupportedCodec)),
        (Track::audio(0), None),
    ];
    merge.push(announce(&tracks));
    merge.push(sound(0, 0, 20, 0.0));
    assert_eq!(pop_all(&mut merge), ["fact", "audio:0 0"]);
}

#[test]
fn pictures_are_bounded_by_their_bytes() {
    let codes = [16, 128, 128];
    let large = |at| {
        let picture = crate::lane::testing::picture_of(
            gstreamer_video::VideoFormat::I420,
            4096,
            2160,
            codes,
            detectors::base::Range::Limited,
        );
        crate::lane::testing::unit(Some(Track::video(0)), Some(at), Content::Picture(picture))
    };
    let mut merge = Merge::default();
    merge.push(announce(&BOTH));
    let mut n = 0;
    while !merge.must_wait(&picture(0, 0, 1)) {
        merge.push(large(n * 40));
        n += 1;
    }
    assert_eq!(n, 11, "13 MB each, 128 MiB at most");
    let mut small = Merge::default();
    small.push(announce(&BOTH));
    let mut n = 0;
    while !small.must_wait(&picture(0, 0, 1)) {
        small.push(picture(0, n * 40, 1));
        n += 1;
    }
    assert!((50..=51).contains(&n), "two seconds of small ones, not {n}");
}

#[test]
fn facts_without_a_place_keep_it_in_their_track() {
    let mut merge = Merge::default();
    merge.push(picture(0, 0, 1));
    merge.push(fact(
        Some(Track::video(0)),
        None,
        Fact::TimelineJump { by_secs: 3.0 },
    ));
    merge.push(picture(0, 40, 1));
    assert_eq!(pop_all(&mut merge), ["video:0 0", "fact", "video:0 40"]);
}

#[test]
fn the_end_comes_after_everything_and_pushes_wait_behind_it() {
    let mut merge = Merge::default();
    merge.push(announce(&BOTH));
    merge.push(picture(0, 40, 1));
    merge.push(evidence(9000));
    merge.push(fact(None, None, Fact::Input(InputEvent::Reopened)));
    assert!(merge.must_wait(&picture(0, 0, 1)));
    assert_eq!(
        pop_all(&mut merge),
        ["fact", "video:0 40", "evidence 9000", "Reopened"]
    );
    assert!(!merge.must_wait(&picture(0, 0, 1)));
    merge.push(picture(0, 0, 1));
    assert_eq!(pop_all(&mut merge), ["video:0 0"], "tracks start anew");
}

#[test]
fn reports_of_bytes_pass_only_before_media() {
    let mut merge = Merge::default();
    let receiving = || fact(None, None, Fact::Input(InputEvent::Receiving));
    merge.push(receiving());
    merge.push(picture(0, 0, 1));
    assert_eq!(pop_all(&mut merge), ["Receiving", "video:0 0"]);
    merge.push(receiving());
    assert!(!merge.ready());
}

#[test]
fn facts_are_bounded() {
    let mut merge = Merge::default();
    for at in 0..5000 {
        merge.push(evidence(at));
        merge.push(fact(
            None,
            Some(at),
            Fact::AnnouncedGap {
                span: std::time::Duration::ZERO,
            },
        ));
        merge.push(fact(
            None,
            None,
            Fact::Input(InputEvent::Failed {
                cause: Cause::Timeout,
            }),
        ));
    }
    assert!(merge.waiting() <= 2 * MAX_FACTS);
    assert_eq!(merge.merged_facts() as usize + merge.waiting(), 15_000);
}

use detectors::base::{Evidence, EvidenceKind, MediaTime, Range};
use gstreamer_video::VideoFormat;

use super::*;
use crate::lane::testing::{fact, picture, picture_of, sound, unit};

fn drain(mailbox: &Mailbox) -> Vec<Item> {
    let mut items = Vec::new();
    mailbox.take(usize::MAX, &mut items);
    items
}

fn evidence(kind: EvidenceKind, at: i64) -> OwnedUnit {
    let evidence = Evidence::new(kind, Some(MediaTime::from_millis(at)), 1);
    fact(Some(Track::video(0)), Some(at), Fact::Evidence(evidence))
}

#[test]
fn live_the_oldest_picture_goes_and_the_next_of_its_track_tells() {
    let mailbox = Mailbox::new(Mode::Live);
    let mut pushed = Vec::new();
    mailbox.push(picture(1, 0, 50));
    for at in 0..MAX_PICTURES as i64 + 7 {
        pushed.push(mailbox.push(picture(0, at * 40, 50)).0);
        mailbox.push(sound(0, at * 40, 40, 0.1));
    }
    let replaced = pushed
        .iter()
        .filter(|p| **p == Pushed::ReplacedOldest)
        .count();
    assert_eq!(replaced, 8);
    assert_eq!(mailbox.counts().dropped_pictures, 8);
    assert_eq!(mailbox.counts().dropped_sound, 0, "sound is kept");
    let items = drain(&mailbox);
    let pictures: Vec<&Item> = items
        .iter()
        .filter(|i| i.unit.track == Some(Track::video(0)))
        .collect();
    assert_eq!(pictures.len(), MAX_PICTURES);
    assert_eq!(pictures[0].unit.media, Some(MediaTime::from_millis(7 * 40)));
    assert_eq!(pictures[0].dropped, 7);
    assert!(pictures[1..].iter().all(|p| p.dropped == 0));
    // The other track lost its only picture: its next one tells, whenever it comes.
    mailbox.push(sound(1, 0, 40, 0.1));
    mailbox.push(picture(1, 9000, 50));
    mailbox.push(picture(1, 9040, 50));
    let dropped: Vec<u32> = drain(&mailbox).iter().map(|i| i.dropped).collect();
    assert_eq!(dropped, [0, 1, 0]);
}

#[test]
fn live_large_pictures_are_bounded_by_bytes() {
    let mailbox = Mailbox::new(Mode::Live);
    let large = |at| {
        let codes = [16, 128, 128];
        let content = picture_of(VideoFormat::I420, 3840, 2160, codes, Range::Limited);
        unit(Some(Track::video(0)), Some(at), Content::Picture(content))
    };
    for at in 0..6 {
        mailbox.push(large(at));
    }
    assert_eq!(drain(&mailbox).len(), MIN_PICTURES);
    assert_eq!(mailbox.counts().dropped_pictures, 2);
}

#[test]
fn a_discontinuity_survives_the_drop_of_its_unit() {
    let mailbox = Mailbox::new(Mode::Live);
    let mut first = picture(0, 0, 50);
    first.discontinuity = true;
    mailbox.push(first);
    for at in 1..=MAX_PICTURES as i64 {
        mailbox.push(picture(0, at * 40, 50));
    }
    let items = drain(&mailbox);
    assert_eq!(items[0].dropped, 1);
    assert!(items[0].unit.discontinuity);
    assert!(!items[1].unit.discontinuity);
}

#[test]
fn live_sound_is_kept_for_seconds_then_the_oldest_of_its_track_goes() {
    let mailbox = Mailbox::new(Mode::Live);
    mailbox.push(sound(1, 0, 20, 0.1));
    for at in 0..250 {
        mailbox.push(sound(0, at * 20, 20, 0.1));
    }
    let kept = MAX_SOUND.as_millis() as u64 / 20;
    assert_eq!(mailbox.counts().dropped_sound, 250 - kept);
    let items = drain(&mailbox);
    assert_eq!(
        items[0].unit.track,
        Some(Track::audio(1)),
        "the other track keeps its own"
    );
    assert_eq!(u64::from(items[1].dropped), 250 - kept);
    // Blocks without length are bounded too.
    for at in 0..2 * MAX_SOUND_BLOCKS as i64 {
        mailbox.push(sound(0, at, 0, 0.1));
    }
    assert_eq!(drain(&mailbox).len(), MAX_SOUND_BLOCKS);
}

#[test]
fn live_facts_merge_and_count_on() {
    let mailbox = Mailbox::new(Mode::Live);
    mailbox.push(evidence(EvidenceKind::SyncLoss, 0));
    mailbox.push(fact(None, None, Fact::Input(InputEvent::Reopened)));
    let many = 3 * MAX_FACTS as i64;
    for at in 1..=many {
        mailbox.push(evidence(EvidenceKind::ContinuityError, at));
    }
    let items = drain(&mailbox);
    assert_eq!(items.len(), MAX_FACTS);
    let mut packets = 0;
    for item in &items {
        if let Content::Fact(Fact::Evidence(e)) = &item.unit.content
            && e.kind == EvidenceKind::ContinuityError
        {
            packets += i64::from(e.count);
        }
    }
    assert_eq!(packets, many, "no evidence is lost");
    let reopened = |i: &&Item| {
        matches!(
            &i.unit.content,
            Content::Fact(Fact::Input(InputEvent::Reopened))
        )
    };
    assert_eq!(items.iter().filter(reopened).count(), 1);
}

#[test]
fn live_milestones_survive_a_flood_of_facts_that_cannot_merge() {
    let mailbox = Mailbox::new(Mode::Live);
    mailbox.push(fact(None, None, Fact::Input(InputEvent::Ended)));
    for at in 0..2 * MAX_FACTS as i64 {
        let jump = Fact::TimelineJump { by_secs: 1.0 };
        mailbox.push(fact(None, Some(at), jump));
    }
    let items = drain(&mailbox);
    assert_eq!(items.len(), MAX_FACTS);
    assert!(matches!(
        items[0].unit.content,
        Content::Fact(Fact::Input(InputEvent::Ended))
    ));
    assert_eq!(mailbox.counts().merged_facts, MAX_FACTS as u64 + 1);
}

#[test]
fn live_ticks_are_bounded() {
    let mailbox = Mailbox::new(Mode::Live);
    for _ in 0..1000 {
        mailbox.push(unit(None, None, Content::Tick));
    }
    assert_eq!(drain(&mailbox).len(), MAX_TICKS);
}

#[test]
fn one_drain_at_a_time() {
    let mailbox = Mailbox::new(Mode::Live);
    assert_eq!(mailbox.push(picture(0, 0, 1)).1, Wake::Schedule);
    assert_eq!(mailbox.push(picture(0, 40, 1)).1, Wake::No);
    let mut items = Vec::new();
    mailbox.take(1, &mut items);
    assert_eq!(mailbox.nudge(), Wake::No);
    assert_eq!(mailbox.rest(), Wake::Schedule, "one is left");
    mailbox.take(2, &mut items);
    assert_eq!(items.len(), 2);
    assert_eq!(mailbox.rest(), Wake::No);
    assert_eq!(mailbox.push(picture(0, 80, 1)).1, Wake::Schedule);
}

#[test]
fn closed_refuses_but_hands_out_what_it_has() {
    let mailbox = Mailbox::new(Mode::Live);
    mailbox.push(picture(0, 0, 1));
    assert_eq!(mailbox.close(), Wake::No, "a drain is scheduled already");
    assert_eq!(mailbox.push(picture(0, 40, 1)), (Pushed::Closed, Wake::No));
    assert_eq!(drain(&mailbox).len(), 1);
}

#[test]
fn offline_a_push_waits_for_room_and_no_longer() {
    let mailbox = Mailbox::new(Mode::Offline);
    let pushes = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0..400 {
                mailbox.push(sound(0, at * 20, 20, 0.1));
                pushes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let mut items = Vec::new();
        while items.len() < 400 {
            let waiting = mailbox.counts().queued;
            assert!(
                waiting <= 101,
                "{waiting} blocks of 20 ms wait, more than two seconds"
            );
            mailbox.take(items.len() + 1, &mut items);
            std::thread::yield_now();
        }
        let places: Vec<_> = items.iter().map(|i| i.unit.media).collect();
        assert!(places.is_sorted());
    });
    assert_eq!(pushes.load(std::sync::atomic::Ordering::SeqCst), 400);
}

#[test]
fn offline_closing_frees_a_waiting_push() {
    let mailbox = Mailbox::new(Mode::Offline);
    std::thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let mut at = 0;
            while mailbox.push(sound(0, at * 20, 20, 0.1)).0 != Pushed::Closed {
                at += 1;
            }
        });
        while mailbox.counts().queued < 100 {
            std::thread::yield_now();
        }
        mailbox.close();
        pusher.join().unwrap();
    });
    assert!(drain(&mailbox).len() >= 100);
}

//! Whole lanes on a real pool.

use std::sync::atomic::Ordering;

use detectors::base::{BreakEdge, BreakMark, BreakSource, Fact, InputEvent, MediaTime, Severity};

use super::testing::{Journal, LUMA, WITNESS, bright, fact, picture, recorder, sound, stream};
use super::*;
use crate::ingest::Pushed;

const SOON: Duration = Duration::from_secs(60);

fn open(pool: &Pool, stream: config::Stream, mode: Mode) -> (Arc<Lane>, Arc<Journal>) {
    let journal = Arc::new(Journal::default());
    let outlet = Arc::clone(&journal) as Arc<dyn Outlet>;
    (
        Lane::open(pool, Arc::new(stream), mode, outlet, None),
        journal,
    )
}

fn ended() -> OwnedUnit {
    fact(None, None, Fact::Input(InputEvent::Ended))
}

#[test]
fn fifty_lanes_share_two_threads_completely_and_in_order() {
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.threads(), 2);
    let lanes: Vec<_> = (0..50)
        .map(|_| {
            let (lane, _) = open(&pool, stream(&[(&WITNESS, &[])]), Mode::Offline);
            let (tap, lines) = recorder();
            lane.set_signal_tap(tap);
            (lane, lines)
        })
        .collect();
    std::thread::scope(|scope| {
        for some in lanes.chunks(13) {
            scope.spawn(move || {
                for at in 0..2000 {
                    for (lane, _) in some {
                        assert_eq!(lane.intake().push(sound(0, at, 1, 0.0)), Pushed::Queued);
                    }
                }
                for (lane, _) in some {
                    lane.intake().push(ended());
                }
            });
        }
    });
    for (lane, lines) in &lanes {
        lane.join();
        let lines = lines.lock().unwrap();
        let places: Vec<&str> = lines
            .iter()
            .filter(|l| l.starts_with("sound_ms"))
            .map(String::as_str)
            .collect();
        assert_eq!(places.len(), 2000);
        for (at, place) in places.iter().enumerate() {
            assert_eq!(*place, format!("sound_ms audio:0 Measured({at}.0) @{at}"));
        }
        assert_eq!(lane.status().state, State::Ended);
    }
}

#[test]
fn offline_every_run_reads_the_same_whatever_the_threads_do() {
    let run = |threads: usize| {
        let pool = Pool::new(threads).unwrap();
        let rules = [bright("luma_codes", 100, Severity::Critical)];
        let config = stream(&[(&WITNESS, &[]), (&LUMA, &rules)]);
        let (lane, journal) = open(&pool, config, Mode::Offline);
        let (tap, lines) = recorder();
        lane.set_signal_tap(tap);
        let intake = lane.intake();
        let infos = [Track::video(0), Track::audio(0)].map(|track| TrackInfo {
            track,
            codec: "any".to_owned(),
            language: None,
            problem: None,
            member: None,
        });
        intake.push(fact(None, None, Fact::Tracks(infos.to_vec())));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..250 {
                    let code = if (n / 50) % 2 == 1 { 250 } else { 20 };
                    intake.push(picture(0, n * 40, code));
                }
            });
            scope.spawn(|| {
                for n in 0..500 {
                    intake.push(sound(0, n * 20, 20, 0.0));
                }
            });
        });
        intake.push(ended());
        lane.join();
        let lines = lines.lock().unwrap().clone();
        (lines, journal.ids())
    };
    let first = run(1);
    assert!(first.0.len() > 250 + 500 + 40);
    assert_eq!(first.1.len(), 4, "{:?}", first.1);
    for threads in [1, 2, 4, 2] {
        assert!(
            run(threads) == first,
            "another sequence with {threads} threads"
        );
    }
}

#[test]
fn live_a_push_returns_although_no_detector_thread_is_free() {
    let pool = Pool::new(1).unwrap();
    // The only thread is held up by another lane's tap.
    let (holder, _) = open(&pool, stream(&[(&LUMA, &[])]), Mode::Live);
    let gate = Arc::new(std::sync::Barrier::new(2));
    let (reached, free) = (Arc::clone(&gate), Arc::clone(&gate));
    holder.set_signal_tap(Arc::new(move |_| {
        reached.wait();
        reached.wait();
    }));
    holder.intake().push(picture(0, 0, 1));
    gate.wait();
    let (lane, _) = open(&pool, stream(&[(&WITNESS, &[])]), Mode::Live);
    let (tap, lines) = recorder();
    lane.set_signal_tap(tap);
    let intake = lane.intake();
    let replaced = (0..100)
        .filter(|n| intake.push(picture(0, n * 40, 1)) == Pushed::ReplacedOldest)
        .count();
    let status = lane.status();
    assert_eq!(replaced, 100 - mailbox::MAX_PICTURES);
    assert_eq!(status.dropped_pictures, replaced as u64);
    assert_eq!(status.queued, mailbox::MAX_PICTURES);
    assert_eq!(status.state, State::Connecting);
    assert_eq!(pool.waiting(), 1);
    free.wait();
    assert!(lane.wait_idle(SOON));
    let lines = lines.lock().unwrap();
    assert!(
        lines.contains(&"gap video:0 Measured(68.0) @2720".to_owned()),
        "{lines:?}"
    );
    assert_eq!(
        lines.iter().filter(|l| l.starts_with("picture")).count(),
        mailbox::MAX_PICTURES
    );
}

#[test]
fn closing_handles_what_is_queued_and_refuses_the_rest() {
    let pool = Pool::new(1).unwrap();
    let rules = [bright("luma_codes", 0, Severity::Warning)];
    let (lane, journal) = open(&pool, stream(&[(&LUMA, &rules)]), Mode::Live);
    let intake = lane.intake();
    for n in 0..20 {
        intake.push(picture(0, n * 40, 250));
    }
    assert!(lane.close_and_wait(SOON));
    assert_eq!(intake.push(picture(0, 800, 1)), Pushed::Closed);
    let status = lane.status();
    assert_eq!(status.tracks[0].decoded, 20);
    assert_eq!(status.defects.len(), 1, "an open defect stays open");
    assert_eq!(journal.ids().len(), 1);
    lane.join();
    drop(lane);
    assert_eq!(intake.push(picture(0, 840, 1)), Pushed::Closed);
}

#[test]
fn a_closed_lane_still_delivers_what_was_refused() {
    let pool = Pool::new(1).unwrap();
    let rules = [bright("luma_codes", 0, Severity::Warning)];
    let (lane, journal) = open(&pool, stream(&[(&LUMA, &rules)]), Mode::Live);
    journal.refusing.store(true, Ordering::SeqCst);
    lane.intake().push(picture(0, 0, 250));
    assert!(lane.close_and_wait(SOON));
    assert_eq!(lane.health().held_transitions, 1);
    journal.refusing.store(false, Ordering::SeqCst);
    lane.tick(Arrival::from_millis(250));
    assert!(lane.wait_idle(SOON));
    assert_eq!(journal.ids().len(), 1);
}

#[test]
fn ticks_reach_detectors_and_publish_the_state() {
    let pool = Pool::new(1).unwrap();
    let (lane, _) = open(&pool, stream(&[(&WITNESS, &[])]), Mode::Live);
    lane.intake().push(sound(0, 0, 20, 0.0));
    lane.intake().push(sound(0, 20, 20, 0.0));
    lane.tick(Arrival::from_millis(250));
    assert!(lane.wait_idle(SOON));
    let status = lane.status();
    assert_eq!(status.tracks[0].decoded, 40);
    assert_eq!(status.state, State::Running);
    assert!(status.latest.iter().any(|l| l.signal.name == "tick_ms"));
    assert!((status.media_secs - 0.02).abs() < 1e-9);
}

#[test]
fn an_announced_break_is_handed_on_with_the_time_at_which_it_begins() {
    let pool = Pool::new(1).unwrap();
    let (lane, journal) = open(&pool, stream(&[(&LUMA, &[])]), Mode::Live);
    let mark = |at: Option<i64>| {
        Fact::Break(BreakMark {
            edge: BreakEdge::Start,
            source: BreakSource::Scte35,
            at: at.map(MediaTime::from_millis),
            planned: Some(Duration::from_secs(30)),
            event_id: None,
        })
    };
    for at in [None, Some(14_000), Some(2_000), Some(9_000_000)] {
        lane.intake().push(fact(None, Some(10_000), mark(at)));
    }
    assert!(lane.close_and_wait(SOON));
    let announced = journal.announced.lock().unwrap();
    let said = fact(None, Some(10_000), mark(None)).arrival;
    let ahead: Vec<u64> = announced
        .iter()
        .map(|a| a.at.since(said).as_secs())
        .collect();
    assert_eq!(
        ahead,
        [0, 4, 0, 60],
        "what is a minute ahead is a mistake of the clocks"
    );
    assert_eq!(announced[0].planned, Some(Duration::from_secs(30)));
    assert_eq!(&*announced[0].stream, "one");
}

//! The worker alone: no pool, no threads, no clocks.

use std::sync::Mutex;

use detectors::base::{Cost, Evidence, EvidenceKind, RuleSpec, Scope, VideoFormat};

use super::*;
use crate::lane::testing::{
    COSTLY, Journal, LOSS, LUMA, WITNESS, bright, fact, needs, picture, picture_of, recorder,
    sound, stream, unit,
};

struct Bench {
    worker: Worker,
    journal: Arc<Journal>,
    lines: Arc<Mutex<Vec<String>>>,
}

fn bench(mode: Mode, stream: config::Stream) -> Bench {
    let journal = Arc::new(Journal::default());
    let outlet = Arc::clone(&journal) as Arc<dyn Outlet>;
    let mut worker = Worker::new(Arc::new(stream), mode, outlet, None);
    let (tap, lines) = recorder();
    worker.tap = Some(tap);
    Bench {
        worker,
        journal,
        lines,
    }
}

impl Bench {
    fn give(&mut self, units: impl IntoIterator<Item = OwnedUnit>) -> Vec<String> {
        self.give_under(units, None, 0.0)
    }

    fn give_under(
        &mut self,
        units: impl IntoIterator<Item = OwnedUnit>,
        newest: Option<Arrival>,
        fill: f64,
    ) -> Vec<String> {
        for unit in units {
            let taken = Taken {
                newest: newest.unwrap_or(unit.arrival),
                fill,
                emptied: true,
            };
            self.worker.batch(vec![Item { unit, dropped: 0 }], taken);
        }
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    fn state(&self) -> (State, Option<Cause>) {
        self.worker.state()
    }
}

fn tick(at_ms: u64) -> OwnedUnit {
    let mut tick = unit(None, None, Content::Tick);
    tick.arrival = Arrival::from_millis(at_ms);
    tick
}

fn announce(tracks: &[Track]) -> OwnedUnit {
    let infos = tracks.iter().map(|t| TrackState::unannounced(*t).info);
    fact(None, None, Fact::Tracks(infos.collect()))
}

#[test]
fn a_panicking_detector_is_off_and_blind_while_others_go_on() {
    let mut bench = bench(Mode::Live, stream(&[(&LUMA, &[]), (&COSTLY, &[])]));
    let lines = bench.give([picture(0, 0, 50), picture(0, 40, 13), picture(0, 80, 60)]);
    assert_eq!(
        lines,
        [
            "luma_codes video:0 Measured(50.0) @0",
            "costly_codes video:0 Measured(50.0) @0",
            "costly_codes video:0 Measured(13.0) @40",
            "luma_codes video:0 Unmeasurable(DetectorFailed) @40",
            "costly_codes video:0 Measured(60.0) @80",
        ]
    );
    let status = bench.worker.board().status;
    assert!(status.detectors[0].failed && !status.detectors[1].failed);
    assert_eq!(status.detectors[0].analysed, 1);
    assert_eq!(status.detectors[1].analysed, 3);
    // Off on the stream, so on a track that comes later too.
    let lines = bench.give([picture(1, 120, 70)]);
    assert_eq!(lines, ["costly_codes video:1 Measured(70.0) @120"]);
    // And the blind rule tells after a while.
    bench.give((1..=41).map(|n| tick(n * 250)));
    let transitions = bench.journal.transitions.lock().unwrap();
    assert_eq!(transitions.len(), 1);
    assert_eq!(
        (transitions[0].defect.detector, transitions[0].defect.rule),
        ("luma", "blind")
    );
    assert_eq!(transitions[0].defect.track, Some(Track::video(0)));
}

#[test]
fn a_detector_that_panics_while_it_is_built_is_off() {
    static BROKEN: detectors::base::Descriptor = detectors::base::Descriptor {
        name: "broken",
        doc: "",
        needs: detectors::base::Needs {
            scope: Scope::Stream,
            cost: Cost::Cheap,
            media: true,
        },
        signals: LUMA.signals,
        rules: &[],
        options: &[],
        list: None,
        build: |_| panic!("on purpose"),
    };
    let mut bench = bench(Mode::Live, stream(&[(&BROKEN, &[]), (&COSTLY, &[])]));
    let lines = bench.give([picture(0, 0, 50)]);
    assert_eq!(
        lines,
        [
            "luma_codes  Unmeasurable(DetectorFailed) @0",
            "costly_codes video:0 Measured(50.0) @0",
        ]
    );
}

#[test]
fn costly_detectors_skip_then_are_suspended_then_return() {
    assert_eq!(
        needs(Scope::VideoTrack, Cost::Costly).cost,
        COSTLY.needs.cost
    );
    let mut bench = bench(Mode::Live, stream(&[(&LUMA, &[]), (&COSTLY, &[])]));
    bench.give([picture(0, 0, 1)]);
    let lag = |ms: i64| Some(Arrival::from_millis(ms as u64 + 600));
    let mut costly = Vec::new();
    let mut cheap = 0;
    for n in 1..=80 {
        let lines = bench.give_under([picture(0, n * 40, 1)], lag(n * 40), 0.0);
        cheap += lines.iter().filter(|l| l.starts_with("luma")).count();
        costly.push(match lines.iter().find(|l| l.starts_with("costly")) {
            Some(l) if l.contains("Measured") => 'm',
            Some(l) if l.contains("Shed") => 's',
            _ => '-',
        });
    }
    assert_eq!(cheap, 80, "cheap detectors never notice");
    let costly: String = costly.into_iter().collect();
    // 200 ms of patience, two seconds of every other picture, then nothing but word of it.
    let skipping = "ms".repeat(25);
    assert_eq!(costly, format!("mmmmm{skipping}s{}", "-".repeat(24)));
    let lines = bench.give_under([tick(4000)], lag(4000), 0.0);
    assert_eq!(lines, ["costly_codes video:0 Unmeasurable(Shed) @4000"]);
    assert_eq!(bench.worker.tallies[1].shed, 25 + 25);
    // Calm for three seconds each: one step back, then the other.
    let mut calm = String::new();
    for n in 0..160 {
        let lines = bench.give([picture(0, 5000 + n * 40, 1)]);
        calm.push(match lines.iter().find(|l| l.starts_with("costly")) {
            Some(l) if l.contains("Measured") => 'm',
            Some(_) => 's',
            None => '-',
        });
    }
    assert!(calm.starts_with(&"-".repeat(75)), "{calm}");
    assert!(calm.ends_with("mmmmmm"), "{calm}");
    assert!(calm.contains("smsmsmsm"), "{calm}");
}

#[test]
fn a_spared_picture_is_told_as_our_own_drop() {
    static SEES_GAPS: detectors::base::Descriptor = detectors::base::Descriptor {
        name: "sees_gaps",
        doc: "",
        needs: detectors::base::Needs {
            scope: Scope::Stream,
            cost: Cost::Costly,
            media: true,
        },
        ..WITNESS
    };
    let mut bench = bench(Mode::Live, stream(&[(&SEES_GAPS, &[])]));
    let mut gaps = Vec::new();
    for n in 0..20 {
        gaps.extend(bench.give_under([picture(0, n * 40, 1)], None, 0.9));
    }
    gaps.retain(|l| l.starts_with("gap") && l.contains("Measured"));
    assert!(
        gaps.len() >= 6 && gaps.iter().all(|g| g.contains("Measured(1.0)")),
        "{gaps:?}"
    );
}

#[test]
fn a_format_change_and_a_reopening_reset_the_detectors_of_the_track() {
    let rules: [RuleSpec; 0] = [];
    static OF_TRACK: detectors::base::Descriptor = detectors::base::Descriptor {
        name: "witness_of_track",
        needs: detectors::base::Needs {
            scope: Scope::VideoTrack,
            cost: Cost::Cheap,
            media: true,
        },
        ..WITNESS
    };
    let config = stream(&[(&WITNESS, &rules), (&OF_TRACK, &rules)]);
    let mut bench = bench(Mode::Live, config);
    let resets = |lines: &[String]| {
        let resets = lines.iter().filter(|l| l.starts_with("resets "));
        resets.cloned().collect::<Vec<_>>()
    };
    let format = |width| {
        let format = Format::Video(VideoFormat {
            width,
            height: 32,
            rate_hz: 25.0,
            bits: 8,
            interlaced: false,
        });
        fact(Some(Track::video(0)), Some(0), Fact::Format(format))
    };
    bench.give([format(32), picture(0, 0, 50)]);
    assert!(bench.worker.carries.contains_key(&Track::video(0)));
    bench.give([format(32)]);
    assert!(
        bench.worker.carries.contains_key(&Track::video(0)),
        "nothing changed"
    );
    let own = ["resets video:0 Measured(1.0) @0"];
    assert_eq!(resets(&bench.give([format(64)])), own);
    assert!(bench.worker.carries.is_empty());
    // The detector of the stream sees the fact itself, and keeps what it knows of the outage.
    let reopened = fact(None, None, Fact::Input(InputEvent::Reopened));
    assert_eq!(resets(&bench.give([reopened, picture(0, 40, 50)])), own);
}

#[test]
fn the_state_follows_tracks_overdue_defects_and_end() {
    let rules = [bright("luma_codes", 0, Severity::Warning)];
    let mut config = stream(&[(&LOSS, &[]), (&LUMA, &rules)]);
    config.expect.audio = Some(1);
    let mut bench = bench(Mode::Live, config);
    assert_eq!(bench.state(), (State::Connecting, None));
    bench.give([announce(&[Track::video(0)]), picture(0, 0, 50)]);
    assert_eq!(
        bench.state(),
        (State::Connecting, None),
        "sound is expected"
    );
    bench.give([sound(0, 0, 20, 0.0), tick(10)]);
    assert_eq!(bench.state(), (State::Running, None));
    bench.give([picture(0, 40, 250)]);
    assert_eq!(bench.state(), (State::Degraded, None));
    bench.give([sound(0, 20, 20, 0.1), tick(50)]);
    assert_eq!(bench.state(), (State::Down, Some(Cause::PeerClosed)));
    bench.give([sound(0, 40, 20, 0.0), tick(60), picture(0, 80, 10)]);
    assert_eq!(bench.state(), (State::Running, None));
    bench.give([fact(None, None, Fact::Input(InputEvent::Ended))]);
    assert_eq!(bench.state(), (State::Ended, None));
    bench.give([fact(None, None, Fact::Input(InputEvent::Reopened))]);
    assert_eq!(bench.state(), (State::Connecting, None));
    let status = bench.worker.board().status;
    let decoded: Vec<u64> = status.tracks.iter().map(|t| t.decoded).collect();
    assert_eq!(decoded, [3, 60], "pictures, samples");
}

#[test]
fn coverage_counts_media_time_with_and_without_a_measurement() {
    let mut bench = bench(Mode::Live, stream(&[(&LUMA, &[])]));
    bench.give((0..26).map(|n| picture(0, n * 40, if n < 13 { 1 } else { 13 })));
    let tally = &bench.worker.tallies[0];
    assert!((tally.due_secs - 1.0).abs() < 1e-9, "{}", tally.due_secs);
    assert!(
        (tally.measured_secs - 0.52).abs() < 1e-9,
        "{}",
        tally.measured_secs
    );
}

#[test]
fn refused_transitions_are_kept_in_order_and_offered_again() {
    let rules = [bright("luma_codes", 0, Severity::Info)];
    let mut bench = bench(Mode::Live, stream(&[(&LUMA, &rules)]));
    let refuse = |yes| {
        bench
            .journal
            .refusing
            .store(yes, std::sync::atomic::Ordering::SeqCst)
    };
    refuse(true);
    let flap = |from: i64, n: i64| {
        (from..from + n).map(|n| picture(0, n * 40, if n % 2 == 0 { 250 } else { 10 }))
    };
    refuse(true);
    bench.give(flap(0, 10));
    assert_eq!(bench.worker.board().held, 10);
    assert_eq!(bench.journal.ids().len(), 0);
    bench
        .journal
        .refusing
        .store(false, std::sync::atomic::Ordering::SeqCst);
    bench.give([tick(1000)]);
    let told = bench.journal.ids();
    assert_eq!(told.len(), 10);
    for (at, told) in told.iter().enumerate() {
        assert!(
            told.starts_with(if at % 2 == 0 { "Raise" } else { "Clear" }),
            "{told}"
        );
    }
    assert_eq!(bench.worker.board().held, 0);
    // The bound.
    bench
        .journal
        .refusing
        .store(true, std::sync::atomic::Ordering::SeqCst);
    bench.give(flap(100, 1100));
    let board = bench.worker.board();
    assert_eq!(
        (board.held, board.lost),
        (crate::lane::outbox::MAX_HELD, 76)
    );
}

#[test]
fn tracks_beyond_the_bound_and_nonsense_are_left_out() {
    let mut bench = bench(Mode::Live, stream(&[(&LUMA, &[])]));
    let mut torn = sound(0, 0, 20, 0.0);
    if let Content::Sound(sound) = &mut torn.content {
        sound.channels = 3;
    }
    let mut nowhere = picture(0, 0, 1);
    nowhere.track = None;
    let all: Vec<Track> = (0..=255).map(Track::video).collect();
    bench.give([nowhere, torn, picture(200, 0, 1), announce(&all)]);
    assert_eq!(bench.worker.instances.len(), usize::from(MAX_TRACKS));
    assert!(bench.worker.tracks.len() <= usize::from(MAX_TRACKS) + 1);
}

#[test]
fn sample_layouts_reach_detectors_as_they_are_meant() {
    use gstreamer_video::VideoFormat as F;
    let mut bench = bench(Mode::Live, stream(&[(&LUMA, &[])]));
    let range = detectors::base::Range::Limited;
    let table = [
        (F::I420, 200, "Measured(200.0)"),
        (F::Nv12, 200, "Measured(200.0)"),
        (F::Y42b, 200, "Measured(200.0)"),
        (F::Y444, 200, "Measured(200.0)"),
        (F::Gray8, 200, "Measured(200.0)"),
        (F::I42010le, 800, "Measured(200.0)"),
        (F::I42212le, 3200, "Measured(200.0)"),
        (F::P01010le, 800, "Measured(200.0)"),
        (F::Yuy2, 200, "Unmeasurable(UnsupportedFormat)"),
        (F::Rgb, 200, "Unmeasurable(UnsupportedFormat)"),
    ];
    for (format, code, expected) in table {
        let picture = picture_of(format, 34, 18, [code; 3], range);
        let unit = unit(Some(Track::video(0)), Some(0), Content::Picture(picture));
        let lines = bench.give([unit]);
        assert_eq!(
            lines,
            [format!("luma_codes video:0 {expected} @0")],
            "{format:?}"
        );
    }
}

#[test]
fn offline_arrival_and_ticks_follow_the_media() {
    let mut bench = bench(Mode::Offline, stream(&[(&WITNESS, &[])]));
    let evidence = Fact::Evidence(Evidence::new(EvidenceKind::SyncLoss, None, 1));
    let lines = bench.give([
        picture(0, 10_000, 1),
        picture(0, 10_240, 1),
        fact(Some(Track::video(0)), Some(10_300), evidence),
        picture(0, 10_510, 1),
        fact(None, None, Fact::Input(InputEvent::Ended)),
    ]);
    assert_eq!(
        lines,
        [
            "picture_ms video:0 Measured(10000.0) @0",
            "picture_ms video:0 Measured(10240.0) @240",
            "fact_ms video:0 Measured(10300.0) @240",
            "fact_ms  Measured(10240.0) @250",
            "tick_ms  Measured(10240.0) @250",
            "fact_ms  Measured(10240.0) @500",
            "tick_ms  Measured(10240.0) @500",
            "picture_ms video:0 Measured(10510.0) @510",
            "fact_ms  Measured(10510.0) @510",
            "tick_ms  Measured(10510.0) @510",
        ]
    );
    // A jump of a day is not a day of ticks.
    let lines = bench.give([picture(0, 86_400_000, 1)]);
    assert_eq!(lines.len() as u32, 2 * MAX_TICKS_AT_ONCE + 1);
}

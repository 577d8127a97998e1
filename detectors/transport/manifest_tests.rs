use super::*;
use crate::base::{Gap, Stamp, Value};

const SECS: fn(u64) -> Duration = Duration::from_secs;

struct Rig {
    detector: Box<dyn Detector>,
    readings: BTreeMap<&'static str, Reading>,
}

impl Rig {
    fn new() -> Self {
        Self {
            detector: (DETECTOR.build)(&Options::defaults(DETECTOR.options)),
            readings: BTreeMap::new(),
        }
    }

    fn unit(&mut self, ms: u64, media: Media<'_>) {
        let at = Stamp {
            media: None,
            arrival: Arrival::from_millis(ms),
            gap: Gap::None,
        };
        let readings = &mut self.readings;
        let mut emit = |signal: &'static Signal, track, reading| {
            assert_eq!(track, None);
            readings.insert(signal.name, reading);
        };
        let unit = Unit {
            at,
            track: None,
            media,
        };
        self.detector.observe(&unit, &mut Sink::new(&mut emit));
    }

    fn tick(&mut self, ms: u64) {
        self.unit(ms, Media::Tick);
    }

    fn load(&mut self, ms: u64, adjust: impl FnOnce(&mut PlaylistLoad)) {
        let mut load = PlaylistLoad {
            list: 0,
            live: true,
            target: SECS(4),
            unchanged: Duration::ZERO,
            took: Some(Duration::from_millis(50)),
            behind_secs: None,
            faults: Vec::new(),
        };
        adjust(&mut load);
        self.unit(ms, Media::Fact(&Fact::Playlist(load)));
    }

    fn segment(&mut self, ms: u64, fate: SegmentFate) {
        let report = SegmentReport {
            list: 0,
            duration: SECS(4),
            fate,
        };
        self.unit(ms, Media::Fact(&Fact::Segment(report)));
    }

    fn read(&mut self, ms: u64, took_ms: u64, excess_secs: f64) {
        let fate = SegmentFate::Read {
            took: Some(Duration::from_millis(took_ms)),
            excess_secs: Some(excess_secs),
            jumps: false,
        };
        self.segment(ms, fate);
    }

    fn value(&self, signal: &str) -> f64 {
        match self.readings[signal].value {
            Value::Measured(value) => value,
            Value::Unmeasurable(why) => panic!("{signal}: {why:?}"),
        }
    }

    fn why(&self, signal: &str) -> Why {
        match self.readings[signal].value {
            Value::Measured(value) => panic!("{signal}: {value}"),
            Value::Unmeasurable(why) => why,
        }
    }

    /// Rules whose raise limit is met now.
    fn met(&self) -> Vec<&'static str> {
        let met = |rule: &&RuleSpec| match self.readings[rule.signal].value {
            Value::Measured(value) => rule.raise.met(value),
            Value::Unmeasurable(_) => false,
        };
        DETECTOR
            .rules
            .iter()
            .filter(met)
            .map(|rule| rule.name)
            .collect()
    }
}

#[test]
fn an_input_without_a_list_is_not_measured() {
    let mut rig = Rig::new();
    rig.tick(0);
    assert!(
        SIGNALS
            .iter()
            .all(|s| rig.why(s.name) == Why::NotApplicable)
    );
}

#[test]
fn a_clean_stream_meets_no_rule() {
    let mut rig = Rig::new();
    for n in 0..40 {
        let at = 4_000 * n;
        rig.load(at, |load| {
            load.unchanged = [Duration::ZERO, SECS(4)][n as usize % 2];
        });
        rig.load(at + 20, |load| {
            load.list = 1;
            load.behind_secs = Some([0.0, 4.0, -2.0][n as usize % 3]);
        });
        rig.read(at + 300, 300, [0.1, -0.2][n as usize % 2]);
        rig.tick(at + 500);
        assert_eq!(rig.met(), [""; 0], "at {at} ms");
    }
    assert_eq!(rig.value("download_ratio"), 0.075);
    assert_eq!(rig.value("playlist_load_ratio"), 0.0125);
}

#[test]
fn a_list_that_stands_still_is_overdue_then_stale() {
    let mut rig = Rig::new();
    rig.load(0, |_| {});
    rig.load(4_000, |load| load.unchanged = SECS(4));
    assert_eq!(rig.met(), [""; 0]);
    rig.load(6_000, |load| load.unchanged = SECS(6));
    assert_eq!(rig.met(), ["overdue_playlist"]);
    rig.load(8_000, |load| load.unchanged = SECS(8));
    assert_eq!(rig.met(), ["overdue_playlist", "stale_playlist"]);
    assert_eq!(rig.value("playlist_age_ratio"), 2.0);
    // When it cannot be loaded at all, the loss of input tells.
    rig.tick(21_000);
    assert_eq!(rig.why("playlist_age_ratio"), Why::NoInput);
    rig.load(22_000, |_| {});
    assert_eq!(rig.met(), [""; 0]);
    // A complete list does not age.
    rig.load(23_000, |load| {
        (load.live, load.unchanged) = (false, SECS(99))
    });
    assert_eq!(rig.why("playlist_age_ratio"), Why::NotApplicable);
}

#[test]
fn errors_of_sequence_count_for_a_window() {
    let mut rig = Rig::new();
    rig.load(0, |load| load.faults = vec![PlaylistFault::Renumbered]);
    rig.load(4_000, |load| {
        load.faults = vec![PlaylistFault::DiscontinuityMiscounted]
    });
    assert_eq!(rig.value("sequence_errors_count"), 2.0);
    let cause = |rig: &Rig| rig.readings["sequence_errors_count"].cause;
    assert_eq!(cause(&rig), Some(Cause::DiscontinuityError));
    assert_eq!(rig.met(), ["sequence_error"]);
    rig.segment(
        5_000,
        SegmentFate::Read {
            took: None,
            excess_secs: None,
            jumps: true,
        },
    );
    assert_eq!(rig.value("sequence_errors_count"), 3.0);
    rig.tick(34_999);
    assert_eq!(rig.value("sequence_errors_count"), 1.0);
    rig.tick(35_000);
    assert_eq!(rig.value("sequence_errors_count"), 0.0);
    assert_eq!(cause(&rig), None);
}

#[test]
fn a_rule_that_stays_broken_counts_once() {
    let mut rig = Rig::new();
    for n in 0..10 {
        rig.load(4_000 * n, |load| {
            load.faults = vec![PlaylistFault::SegmentTooLong];
        });
    }
    assert_eq!(rig.value("playlist_errors_count"), 1.0);
    let cause = rig.readings["playlist_errors_count"].cause;
    assert_eq!(cause, Some(Cause::SegmentTooLong));
    rig.load(40_000, |load| {
        (load.list, load.faults) = (1, vec![PlaylistFault::WindowTooShort]);
    });
    assert_eq!(rig.value("playlist_errors_count"), 2.0);
    rig.tick(66_000);
    assert_eq!(rig.value("playlist_errors_count"), 1.0);
}

#[test]
fn wrong_durations_and_the_clean_twin() {
    let mut rig = Rig::new();
    rig.load(0, |_| {});
    assert_eq!(rig.why("duration_error_secs"), Why::NotApplicable);
    rig.read(1_000, 100, 0.5);
    assert_eq!(rig.met(), [""; 0]);
    rig.read(2_000, 100, -2.0);
    assert_eq!(rig.met(), ["wrong_duration"]);
    assert_eq!(rig.value("duration_error_secs"), 2.0);
    rig.tick(32_000);
    assert_eq!(rig.why("duration_error_secs"), Why::NotApplicable);
}

#[test]
fn missing_segments_are_counted_with_their_cause() {
    let mut rig = Rig::new();
    rig.segment(0, SegmentFate::Failed(Cause::HttpNotFound));
    assert_eq!(rig.met(), ["segments_missing"]);
    let cause = |rig: &Rig| rig.readings["segments_missing_count"].cause;
    assert_eq!(cause(&rig), Some(Cause::HttpNotFound));
    rig.segment(1_000, SegmentFate::Gone(3));
    assert_eq!(rig.value("segments_missing_count"), 4.0);
    assert_eq!(cause(&rig), Some(Cause::SegmentsMissed));
}

#[test]
fn one_slow_segment_is_no_starvation_and_half_the_bandwidth_is() {
    let mut rig = Rig::new();
    for (n, took) in [200, 8_000, 200].into_iter().enumerate() {
        rig.read(4_000 * n as u64, took, 0.0);
    }
    assert!(rig.value("download_ratio") < 1.0);
    for n in 3..6 {
        rig.read(8_000 * n, 8_000, 0.0);
    }
    assert_eq!(rig.value("download_ratio"), 2.0);
    assert_eq!(rig.met(), ["starving"]);
    rig.tick(40_000 + 30_001);
    assert_eq!(rig.why("download_ratio"), Why::NoInput);
}

#[test]
fn one_slow_load_is_none_and_two_are() {
    let mut rig = Rig::new();
    rig.load(0, |load| load.took = Some(SECS(3)));
    assert_eq!(rig.why("playlist_load_ratio"), Why::WarmingUp);
    rig.load(4_000, |_| {});
    rig.load(8_000, |load| load.took = Some(SECS(3)));
    assert_eq!(rig.met(), [""; 0]);
    rig.load(12_000, |load| load.took = Some(SECS(2)));
    assert_eq!(rig.met(), ["slow_playlist"]);
    // An answer that the origin was asked to hold back says nothing.
    rig.load(16_000, |load| load.took = None);
    assert_eq!(rig.value("playlist_load_ratio"), 0.5);
    rig.load(20_000, |_| {});
    assert_eq!(rig.met(), [""; 0]);
}

#[test]
fn lists_that_lie_apart() {
    let mut rig = Rig::new();
    rig.load(0, |_| {});
    assert_eq!(rig.why("out_of_step_ratio"), Why::NotApplicable);
    rig.load(0, |load| {
        (load.list, load.behind_secs) = (1, Some(-12.0));
    });
    assert_eq!(rig.value("out_of_step_ratio"), 3.0);
    assert_eq!(rig.met(), ["out_of_step"]);
    rig.load(4_000, |load| {
        (load.list, load.behind_secs) = (1, Some(4.0));
    });
    assert_eq!(rig.met(), [""; 0]);
}

#[test]
fn what_lists_say_of_each_other() {
    let mut rig = Rig::new();
    for list in 0..3 {
        rig.load(0, |load| load.list = list);
    }
    assert_eq!(rig.why("audio_early_secs"), Why::NotApplicable);
    assert_eq!(rig.why("discontinuity_apart_secs"), Why::NotApplicable);
    let mut tell = |ms, list, audio_early_secs, discontinuity_apart_secs| {
        let told = ListsBeside {
            list,
            audio_early_secs,
            discontinuity_apart_secs,
        };
        rig.unit(ms, Media::Fact(&Fact::ListsBeside(told)));
        (rig.met(), rig.value("audio_early_secs"))
    };
    // Priming of an encoder, and sound cut between two pictures.
    assert_eq!(tell(100, 1, Some(-0.043), Some(0.0)), (vec![], -0.043));
    assert_eq!(tell(200, 1, Some(0.199), Some(0.0)), (vec![], 0.199));
    let late = vec!["audio_stamped_late"];
    assert_eq!(tell(300, 2, Some(-0.7), None), (late, -0.7));
    let early = vec!["audio_stamped_early"];
    assert_eq!(tell(400, 1, Some(21.993), None), (early, 21.993));
    assert_eq!(tell(500, 1, Some(0.0), Some(0.0)).1, -0.7);
    assert_eq!(tell(600, 2, None, Some(4.0)).0, ["discontinuity_mismatch"]);
    rig.tick(30_700);
    assert_eq!(rig.met(), [""; 0], "it is long past");
    assert_eq!(rig.why("audio_early_secs"), Why::NoInput);
}

#[test]
fn another_input_begins_with_lists_of_its_own() {
    let mut rig = Rig::new();
    rig.load(0, |load| {
        (load.unchanged, load.faults) = (SECS(20), vec![PlaylistFault::SequenceBack]);
    });
    rig.unit(100, Media::Fact(&Fact::Input(InputEvent::Reopened)));
    rig.load(200, |_| {});
    assert_eq!(rig.met(), ["sequence_error"]);
}

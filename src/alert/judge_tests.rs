use detectors::base::{Arrival, MediaTime};

use super::*;
use crate::lane::testing::{LUMA, bright, stream};

const LIVE: Epoch = Epoch::Wall {
    now_unix_ms: 1_700_000_000_000,
};

struct Bench {
    judge: Judge,
    out: Vec<Transition>,
    now_ms: u64,
}

impl Bench {
    fn new(severity: Severity) -> Self {
        let rules = [bright("luma_codes", 0, severity)];
        Self {
            judge: Judge::new(&stream(&[(&LUMA, &rules)])),
            out: Vec::new(),
            now_ms: 0,
        }
    }

    fn say(&mut self, at_ms: u64, reading: &Reading, epoch: Epoch) -> Vec<Transition> {
        self.now_ms = at_ms;
        let said = Testimony {
            detector: 0,
            signal: &LUMA.signals[0],
            track: Some(Track::video(0)),
            reading,
        };
        let now = Moment {
            media: Some(MediaTime::from_millis(at_ms as i64)),
            arrival: Arrival::from_millis(at_ms),
        };
        self.judge.hear(said, now, epoch, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn value(&mut self, at_ms: u64, value: f64) -> Vec<Transition> {
        self.say(at_ms, &Reading::measured(value), LIVE)
    }

    fn dark(&mut self, at_ms: u64, why: Why) -> Vec<Transition> {
        self.say(at_ms, &Reading::unmeasurable(why), LIVE)
    }
}

#[test]
fn a_defect_has_a_stable_fingerprint_and_an_id_per_occurrence() {
    let mut bench = Bench::new(Severity::Critical);
    let first = bench.value(1000, 200.0).remove(0);
    assert_eq!(first.change, Change::Raise);
    assert_eq!(
        first.defect.fingerprint,
        fingerprint("one", "luma", "bright", Some(Track::video(0)))
    );
    assert_eq!(first.defect.fingerprint.len(), 16);
    assert_eq!(
        first.defect.id,
        format!("{}-{:x}", first.defect.fingerprint, 1_700_000_000_000u64)
    );
    assert_eq!(first.defect.labels["site"], "north");
    assert_eq!(
        first.defect.says,
        "The picture glares. Measured 200 codes (limit 200 codes)."
    );
    assert_eq!(bench.judge.open().count(), 1);
    let cleared = bench.value(3400, 1.0).remove(0);
    assert_eq!(cleared.change, Change::Clear);
    assert_eq!(cleared.defect.id, first.defect.id);
    assert!(
        cleared.defect.says.ends_with(" Over after 2.4 s."),
        "{}",
        cleared.defect.says
    );
    assert_eq!(bench.judge.open().count(), 0);
    // The same millisecond by the wall clock: another occurrence all the same.
    let second = bench.value(3400, 200.0).remove(0);
    assert_eq!(second.defect.fingerprint, first.defect.fingerprint);
    assert_ne!(second.defect.id, first.defect.id);
}

#[test]
fn fingerprints_tell_all_four_parts_apart() {
    let all = [
        fingerprint("a", "b", "c", None),
        fingerprint("ab", "", "c", None),
        fingerprint("a", "bc", "", None),
        fingerprint("a", "b", "c", Some(Track::video(0))),
        fingerprint("a", "b", "c", Some(Track::audio(0))),
        fingerprint("a", "b", "c", Some(Track::video(1))),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    // A published key: changing it would page every open defect again.
    assert_eq!(fingerprint("a", "b", "c", None), "13e228567e8249fc");
}

#[test]
fn offline_ids_follow_the_media_clock() {
    let mut bench = Bench::new(Severity::Info);
    let raised = bench.say(0x1234, &Reading::measured(255.0), Epoch::Media);
    assert!(
        raised[0].defect.id.ends_with("-1234"),
        "{}",
        raised[0].defect.id
    );
}

#[test]
fn updates_are_told_when_much_worse_or_for_another_cause_but_not_often() {
    let mut bench = Bench::new(Severity::Warning);
    bench.value(0, 210.0);
    assert!(bench.value(5_000, 900.0).is_empty(), "too soon");
    assert!(bench.value(9_999, 205.0).is_empty(), "too soon");
    let update = bench.value(10_000, 206.0).remove(0);
    assert_eq!(update.change, Change::Update);
    assert_eq!(update.defect.value, 900.0, "the worst so far");
    assert!(
        bench.value(30_000, 1_500.0).is_empty(),
        "not twice as far beyond the limit"
    );
    assert_eq!(bench.value(40_000, 1_700.0).len(), 1);
    let other = Reading::measured(300.0).cause(Cause::TransportLoss);
    assert!(bench.say(49_999, &other, LIVE).is_empty(), "too soon");
    let update = bench.say(50_000, &other, LIVE).remove(0);
    assert_eq!(update.defect.cause, Cause::TransportLoss);
    assert!(bench.value(90_000, 150.0).is_empty(), "between the limits");
}

#[test]
fn the_readings_cause_wins_over_the_rules() {
    let mut bench = Bench::new(Severity::Warning);
    let reading = Reading::measured(255.0).cause(Cause::TransportLoss);
    assert_eq!(
        bench.say(0, &reading, LIVE)[0].defect.cause,
        Cause::TransportLoss
    );
}

#[test]
fn an_occurrence_does_not_begin_before_the_last_one_ended() {
    let mut bench = Bench::new(Severity::Warning);
    let since = Some(MediaTime::from_millis(1000));
    bench.say(5000, &Reading::measured(255.0).since(since), LIVE);
    let end = bench.value(6000, 0.0).remove(0).defect.end.unwrap();
    let again = bench.say(7000, &Reading::measured(255.0).since(since), LIVE);
    assert_eq!(again[0].defect.start, end);
}

#[test]
fn lasting_blindness_raises_and_a_measurement_clears() {
    let mut bench = Bench::new(Severity::Critical);
    assert!(bench.dark(1_000, Why::Shed).is_empty());
    assert!(bench.dark(5_000, Why::WarmingUp).is_empty());
    assert!(bench.dark(10_999, Why::Shed).is_empty());
    let blind = bench.dark(11_000, Why::NoTimestamps).remove(0);
    assert_eq!((blind.change, blind.defect.rule), (Change::Raise, BLIND));
    assert_eq!(
        (blind.defect.severity, blind.defect.cause),
        (Severity::Warning, Cause::Blind)
    );
    assert_eq!(blind.defect.start.arrival, Arrival::from_millis(1_000));
    assert!(
        bench.dark(12_000, Why::NoInput).is_empty(),
        "stays without a measurement"
    );
    let clear = bench.value(13_000, 0.0).remove(0);
    assert_eq!((clear.change, clear.defect.rule), (Change::Clear, BLIND));
}

#[test]
fn blindness_that_is_somebody_elses_story_does_not_raise() {
    for why in Why::ALL.iter().filter(|w| !w.is_blindness()) {
        let mut bench = Bench::new(Severity::Critical);
        for at in 0..100 {
            assert!(bench.dark(at * 1000, *why).is_empty(), "{why:?}");
        }
    }
    // Neither does a blindness that the loss of input interrupts.
    let mut bench = Bench::new(Severity::Critical);
    for at in 0..100 {
        let why = if at % 5 == 0 { Why::NoInput } else { Why::Shed };
        assert!(bench.dark(at * 1000, why).is_empty());
    }
}

#[test]
fn an_open_defect_outlives_darkness() {
    let mut bench = Bench::new(Severity::Critical);
    bench.value(0, 255.0);
    for at in 1..100 {
        bench.dark(at * 1000, Why::NoInput);
    }
    assert_eq!(bench.judge.open().count(), 1);
    assert_eq!(bench.value(100_000, 0.0).len(), 1);
}

#[test]
fn numbers_read_well() {
    assert_eq!(
        sentence("Still.", "seconds", 2.44, Limit::AtLeast(2.0)),
        "Still. For 2.4 s (limit 2 s)."
    );
    assert_eq!(
        sentence("Lips.", "seconds early", -0.1201, Limit::AtMost(-0.06)),
        "Lips. Audio 120 ms late (limit 60 ms late)."
    );
    assert_eq!(
        sentence("Lips.", "seconds early", 1.5, Limit::AtLeast(0.04)),
        "Lips. Audio 1.5 s early (limit 40 ms early)."
    );
    assert_eq!(
        sentence("Quiet.", "dBFS", -72.0, Limit::AtMost(-60.5)),
        "Quiet. Measured -72 dBFS (limit -60.5 dBFS)."
    );
    assert_eq!(
        sentence("Bad.", "ratio 0..1", 0.125, Limit::AtLeast(0.05)),
        "Bad. Measured 12.5 % (limit 5 %)."
    );
    assert_eq!(
        sentence(
            "Gone.",
            "ratio of the page limit",
            1.04,
            Limit::AtLeast(1.0)
        ),
        "Gone. For 1 times the page limit."
    );
    assert_eq!(seconds(754.2), "12 min 34 s");
    assert_eq!(number(1e-9), "0");
}

/// Judges `av_timing` and `av_reference` of one sound track.
fn between(said: &[(u64, &str, f64)]) -> Vec<Transition> {
    let rows = ["av_timing", "av_reference"].map(|name| detectors::registry::find(name).unwrap());
    let rows = rows.map(|row| (row, row.rules));
    let mut judge = Judge::new(&stream(&rows));
    let mut out = Vec::new();
    for (at_ms, detector, early) in said {
        let at = rows
            .iter()
            .position(|(row, _)| row.name == *detector)
            .unwrap();
        let signals = rows[at].0.signals.iter();
        let testimony = Testimony {
            detector: at,
            signal: signals
                .clone()
                .find(|s| s.name == "audio_early_secs")
                .unwrap(),
            track: Some(Track::audio(0)),
            reading: &Reading::measured(*early),
        };
        let now = Moment {
            media: Some(MediaTime::from_millis(*at_ms as i64)),
            arrival: Arrival::from_millis(*at_ms),
        };
        judge.hear(testimony, now, LIVE, &mut out);
    }
    out
}

#[test]
fn a_shift_of_the_timestamps_is_the_packagers_and_the_reference_agrees_later() {
    let alone = between(&[
        (0, "av_timing", 0.0),
        (5_000, "av_timing", -0.2),
        (6_500, "av_timing", -0.2),
    ]);
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert_eq!(alone[0].defect.place, Some(Place::Packager));
    // A comparison needs seconds to see it: until then nothing is said of the place.
    let both = between(&[
        (0, "av_timing", 0.0),
        (0, "av_reference", 0.001),
        (5_000, "av_timing", -0.2),
        (6_500, "av_timing", -0.2),
        (10_000, "av_reference", -0.199),
    ]);
    let places: Vec<_> = both.iter().map(|t| (t.change, t.defect.place)).collect();
    let wanted = [
        (Change::Raise, None),
        (Change::Update, Some(Place::Packager)),
    ];
    assert_eq!(places, wanted, "{both:?}");
    let words = both[1].defect.av_words();
    assert!(
        words.contains("by reference: audio 199 ms late; by timestamps: audio 200 ms late"),
        "{words}"
    );
}

#[test]
fn an_error_under_perfect_timestamps_came_in_before_them() {
    let told = between(&[
        (0, "av_timing", 0.0),
        (0, "av_reference", 0.001),
        (5_000, "av_timing", 0.0),
        (9_000, "av_reference", -0.199),
        (11_500, "av_reference", -0.199),
    ]);
    // Too late, and far too late.
    assert_eq!(told.len(), 2, "{told:?}");
    for turn in &told {
        assert_eq!(turn.defect.place, Some(Place::BeforePackager));
        assert_eq!(turn.defect.av_offsets.len(), 2);
    }
    // Silent while all is well.
    assert_eq!(
        between(&[(0, "av_timing", 0.0), (9_000, "av_reference", 0.01)]),
        []
    );
}

#[test]
fn a_place_is_told_with_the_raise_or_as_soon_as_it_is_known() {
    use detectors::video::{freeze, rung_difference};
    let mut rows = Vec::new();
    for row in [&freeze::DETECTOR, &rung_difference::DETECTOR] {
        rows.push((row, row.rules));
    }
    let mut judge = Judge::new(&stream(&rows));
    let track = Track::video(1);
    let name = |i: u8| (Track::video(i), Arc::from(format!("{i}p")));
    judge.set_members((0..3).map(name).collect());
    let mut say = |at_ms: u64, detector: usize, reading: Reading| {
        let said = Testimony {
            detector,
            signal: &rows[detector].0.signals[0],
            track: Some(track),
            reading: &reading,
        };
        let now = Moment {
            media: Some(MediaTime::from_millis(at_ms as i64)),
            arrival: Arrival::from_millis(at_ms),
        };
        let mut out = Vec::new();
        judge.hear(said, now, LIVE, &mut out);
        let told = out
            .into_iter()
            .map(|t| (t.change, t.defect.rule, t.defect.place));
        told.collect::<Vec<_>>()
    };
    let since = Some(MediaTime::from_millis(10_000));
    let still = |secs: f64| Reading::measured(secs).since(since);
    // Nothing was compared yet: the place follows.
    assert_eq!(
        say(14_000, 0, still(4.0)),
        [(Change::Raise, "frozen", None)]
    );
    let differs = Reading::measured(0.2)
        .since(since)
        .cause(Cause::RungDiffers);
    let encoder = Some(Place::Encoder);
    let told = [
        (Change::Raise, "rung_damaged", encoder),
        (Change::Update, "frozen", encoder),
    ];
    let mut first = say(14_100, 1, differs.clone());
    first.sort_by_key(|t| t.1 == "frozen");
    assert_eq!(first, told);
    assert_eq!(say(14_200, 1, differs), []);
    // Known by now.
    let long = say(21_000, 0, still(11.0));
    assert_eq!(long, [(Change::Raise, "frozen_long", encoder)]);
}

#[test]
fn a_defect_of_before_a_restart_goes_on_and_ends_when_it_is_measured_clear() {
    let mut before = Bench::new(Severity::Critical);
    let open = before.value(0, 250.0)[0].defect.clone();
    let mut after = Bench::new(Severity::Critical);
    assert!(after.judge.take_up(open.clone()));
    assert!(
        after.dark(5000, Why::NoInput).is_empty(),
        "silence ends nothing"
    );
    let confirmed = after.value(6000, 250.0);
    assert_eq!(confirmed.len(), 1, "heard of again: said at once");
    assert_eq!(confirmed[0].change, Change::Update);
    assert_eq!(confirmed[0].defect.id, open.id);
    assert!(after.value(6500, 250.0).is_empty());
    let mut ended = Vec::new();
    for ms in (7000..12_000).step_by(500) {
        ended.extend(after.value(ms, 0.0));
    }
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].change, &ended[0].defect.id),
        (Change::Clear, &open.id)
    );

    let mut gone = open;
    gone.rule = "no_such_rule";
    assert!(!Bench::new(Severity::Critical).judge.take_up(gone));
}

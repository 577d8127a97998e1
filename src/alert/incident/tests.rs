#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::group::Labels;
use super::*;
use crate::alert::{Change, Moment, Transition, judge};
use detectors::base::{Arrival, Cause, Track};

/// A machine, its clock in seconds, and everything that it said.
struct Desk {
    machine: Machine,
    now_secs: f64,
    said: Vec<Notice>,
}

fn at(secs: f64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + (secs * 1000.0) as i64).unwrap()
}

fn labels(of: &[(&str, &str)]) -> Labels {
    let pairs = of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Arc::new(pairs.collect())
}

/// (detector, rule, severity) of defects that the tests use.
const LOST: (&str, &str, Severity) = ("loss", "no_input", Severity::Critical);
const FROZEN: (&str, &str, Severity) = ("freeze", "frozen", Severity::Warning);
const FROZEN_LONG: (&str, &str, Severity) = ("freeze", "frozen_long", Severity::Critical);
const SILENT: (&str, &str, Severity) = ("silence", "silent", Severity::Warning);
const SLATE: (&str, &str, Severity) = ("slate", "slate", Severity::Warning);
const DAMAGED: (&str, &str, Severity) = ("block_damage", "visible", Severity::Warning);

impl Desk {
    fn new(streams: usize, of: &[(&str, &str)]) -> Self {
        let mut machine = Machine::new("instance", Policy::default());
        let all = (0..streams).map(|n| (name(n), labels(of)));
        machine.set_streams(all.collect::<Vec<_>>());
        Self {
            machine,
            now_secs: 0.0,
            said: Vec::new(),
        }
    }

    fn hear(
        &mut self,
        change: Change,
        stream: usize,
        what: (&'static str, &'static str, Severity),
    ) {
        let (detector, rule, severity) = what;
        let track = match detector {
            "loss" => None,
            "silence" => Some(Track::audio(0)),
            _ => Some(Track::video(0)),
        };
        let moment = Moment {
            media: None,
            arrival: Arrival::from_millis((self.now_secs * 1000.0) as u64),
        };
        let fingerprint = judge::fingerprint(&name(stream), detector, rule, track);
        let labels = self.machine.streams().get(&name(stream)).cloned();
        let transition = Transition {
            change,
            at: moment,
            defect: Defect {
                id: format!("{fingerprint}-1"),
                fingerprint,
                stream: name(stream),
                labels: labels.unwrap_or_default(),
                detector,
                rule,
                track,
                member: None,
                severity,
                cause: Cause::Frozen,
                place: None,
                av_offsets: Vec::new(),
                value: 2.0,
                limit: 2.0,
                unit: "seconds",
                says: "It is bad.".into(),
                start: moment,
                end: (change == Change::Clear).then_some(moment),
            },
        };
        let said = self.machine.hear(&transition, at(self.now_secs));
        self.said.extend(said);
    }

    fn raise(&mut self, stream: usize, what: (&'static str, &'static str, Severity)) {
        self.hear(Change::Raise, stream, what);
    }

    fn clear(&mut self, stream: usize, what: (&'static str, &'static str, Severity)) {
        self.hear(Change::Clear, stream, what);
    }

    /// Lets time pass, ticking once a second.
    fn pass(&mut self, secs: f64) {
        let end = self.now_secs + secs;
        while self.now_secs < end {
            self.now_secs = (self.now_secs + 1.0).min(end);
            self.said.extend(self.machine.tick(at(self.now_secs)));
        }
    }

    /// What people were told since the last call: the news, whom about, how bad.
    fn told(&mut self) -> Vec<(News, String, Severity)> {
        let said = std::mem::take(&mut self.said);
        let told = said.iter().filter(|n| n.is_told());
        told.map(|n| {
            (
                n.news,
                n.incident.key.about.to_string(),
                n.incident.severity,
            )
        })
        .collect()
    }
}

fn name(stream: usize) -> Arc<str> {
    format!("s{stream}").into()
}

fn told(news: News, about: &str, severity: Severity) -> (News, String, Severity) {
    (news, about.to_owned(), severity)
}

use News::{Raised, Resolved, Updated};
use Severity::{Critical, Warning};

#[test]
fn an_incident_is_told_once_and_ends_when_it_was_well_for_a_while() {
    let mut desk = Desk::new(1, &[]);
    desk.raise(0, FROZEN);
    assert_eq!(desk.told(), [told(Raised, "s0", Warning)]);
    desk.pass(8.0);
    desk.raise(0, FROZEN_LONG);
    assert_eq!(
        desk.told(),
        [told(Updated, "s0", Critical)],
        "worse: at once"
    );
    desk.clear(0, FROZEN_LONG);
    desk.clear(0, FROZEN);
    desk.pass(29.0);
    assert_eq!(desk.told(), []);
    desk.pass(1.0);
    assert_eq!(desk.told(), [told(Resolved, "s0", Critical)]);
    assert_eq!(desk.machine.incidents().count(), 0);
}

#[test]
fn still_and_silent_is_one_page() {
    let mut desk = Desk::new(1, &[]);
    desk.raise(0, FROZEN);
    desk.raise(0, SILENT);
    assert_eq!(
        desk.told(),
        [told(Raised, "s0", Warning), told(Updated, "s0", Critical)]
    );
    assert_eq!(desk.machine.incidents().count(), 1);
}

#[test]
fn a_lost_input_speaks_for_its_stream() {
    let mut desk = Desk::new(2, &[]);
    desk.raise(0, LOST);
    desk.raise(0, FROZEN_LONG);
    desk.raise(0, SILENT);
    desk.raise(0, DAMAGED);
    desk.raise(1, FROZEN);
    assert_eq!(
        desk.told(),
        [told(Raised, "s0", Critical), told(Raised, "s1", Warning)]
    );
    desk.clear(0, LOST);
    desk.clear(0, SILENT);
    desk.clear(0, DAMAGED);
    desk.pass(9.0);
    assert_eq!(desk.told(), []);
    desk.pass(2.0);
    assert_eq!(
        desk.told(),
        [told(Raised, "s0", Critical)],
        "the freeze stayed"
    );
}

#[test]
fn five_hundred_streams_of_one_origin_are_one_page() {
    let mut desk = Desk::new(500, &[("origin", "a"), ("cdn", "b")]);
    for stream in 0..500 {
        desk.raise(stream, LOST);
        if stream % 40 == 0 {
            desk.pass(1.0);
        }
    }
    desk.pass(20.0);
    assert_eq!(desk.told(), [told(Raised, "origin=a", Critical)]);
    let parent = desk
        .machine
        .incidents()
        .find(|i| i.key.topic == Topic::Together);
    let parent = parent.unwrap();
    assert_eq!((parent.streams.len(), parent.of_streams), (500, 500));
    assert!(parent.whole_instance);
    for stream in 0..497 {
        desk.clear(stream, LOST);
    }
    desk.pass(120.0);
    let mut last = desk.told();
    last.sort_by_key(|t| t.1.clone());
    assert_eq!(
        last,
        [
            told(Resolved, "origin=a", Critical),
            told(Raised, "s497", Critical),
            told(Raised, "s498", Critical),
            told(Raised, "s499", Critical),
        ],
        "those that stay bad are told when their parent ends"
    );
}

#[test]
fn without_a_shared_label_the_monitor_is_suspected_first() {
    let mut desk = Desk::new(6, &[]);
    for stream in 0..6 {
        desk.raise(stream, FROZEN_LONG);
    }
    let told = desk.told();
    assert_eq!(
        told.len(),
        6,
        "not held, so that each but the last was told: {told:?}"
    );
    assert_eq!(told[5], (Raised, "instance".into(), Critical));
}

#[test]
fn a_lone_loss_among_many_is_held_for_a_quarter_of_a_minute() {
    let mut desk = Desk::new(8, &[("origin", "a")]);
    desk.raise(3, LOST);
    desk.pass(14.0);
    assert_eq!(desk.told(), []);
    desk.pass(1.0);
    assert_eq!(desk.told(), [told(Raised, "s3", Critical)]);
    let mut desk = Desk::new(4, &[("origin", "a")]);
    desk.raise(3, LOST);
    assert_eq!(
        desk.told(),
        [told(Raised, "s3", Critical)],
        "no company, no hold"
    );
}

#[test]
fn an_hour_of_flapping_is_three_notices_at_most() {
    for half in [2.5, 40.0, 100.0] {
        let mut desk = Desk::new(1, &[]);
        while desk.now_secs < 3600.0 {
            desk.raise(0, FROZEN_LONG);
            desk.pass(half);
            desk.clear(0, FROZEN_LONG);
            desk.pass(half);
        }
        let told = desk.told();
        // A fault every 200 s is no flapping; it is not told more often than every five minutes.
        let most = if half < 50.0 { 3 } else { 24 };
        assert!(!told.is_empty() && told.len() <= most, "{half}: {told:?}");
    }
}

#[test]
fn a_break_on_a_slate_is_no_page_and_a_stuck_slate_is_one() {
    let mut desk = Desk::new(1, &[]);
    let of_break = |desk: &mut Desk, lasts: f64| {
        desk.machine
            .expect(&name(0), at(desk.now_secs), Some(at(desk.now_secs + 60.0)));
        desk.pass(2.0);
        desk.raise(0, SLATE);
        desk.raise(0, FROZEN);
        desk.pass(8.0);
        desk.raise(0, FROZEN_LONG);
        desk.raise(0, SILENT);
        desk.pass(lasts - 10.0);
        for what in [SLATE, FROZEN, FROZEN_LONG, SILENT] {
            desk.clear(0, what);
        }
        desk.pass(100.0);
        desk.told()
    };
    assert_eq!(of_break(&mut desk, 62.0), []);
    assert_eq!(
        of_break(&mut desk, 200.0),
        [told(Raised, "s0", Critical), told(Resolved, "s0", Critical)]
    );
    desk.machine.expect(&name(0), at(desk.now_secs), None);
    desk.raise(0, LOST);
    assert_eq!(
        desk.told(),
        [told(Raised, "s0", Critical)],
        "a loss is never expected"
    );
}

#[test]
fn a_slate_without_a_break_may_stand_for_two_minutes() {
    let mut desk = Desk::new(1, &[]);
    desk.raise(0, SLATE);
    desk.raise(0, FROZEN_LONG);
    desk.pass(119.0);
    assert_eq!(desk.told(), []);
    desk.pass(1.0);
    assert_eq!(desk.told(), [told(Raised, "s0", Critical)]);
    assert!(desk.machine.incidents().all(|i| i.overran));
}

#[test]
fn what_the_schedule_expects_is_told_when_it_lasts_longer() {
    let mut desk = Desk::new(1, &[]);
    // The tests' clock begins on Tuesday, 14 November 2023, at 22:13:20 UTC.
    let text = "version: 1\nstreams:\n  - {id: s0, url: 'udp://127.0.0.1:9', allow_private: true, \
                quiet_tracks: ['audio:0'], expected: [{days: [tue], from: '22:00', until: '22:15'}]}\n";
    let config = crate::config::Config::parse(text, &crate::config::Env::default()).unwrap();
    let stream = &config.streams[0];
    let (expected, quiet) = (stream.expected.clone(), stream.quiet_tracks.clone());
    desk.machine.set_programme(&name(0), expected, quiet);
    desk.raise(0, SILENT);
    assert_eq!(
        desk.machine.incidents().count(),
        0,
        "its silence is never told"
    );
    desk.raise(0, FROZEN_LONG);
    desk.raise(0, DAMAGED);
    assert_eq!(
        desk.told(),
        [told(Raised, "s0", Warning)],
        "damage is never expected"
    );
    desk.pass(99.0);
    assert_eq!(desk.told(), []);
    desk.pass(2.0);
    assert_eq!(desk.told(), [told(Raised, "s0", Critical)]);
}

fn mute(of: &[(&str, &str)], until_secs: f64) -> Mute {
    Mute {
        id: "m1".into(),
        matchers: (*labels(of)).clone(),
        author: "kim".into(),
        reason: "works".into(),
        from: at(0.0),
        until: at(until_secs),
    }
}

#[test]
fn what_is_still_bad_when_a_mute_ends_is_told_then() {
    let mut desk = Desk::new(3, &[("origin", "a")]);
    let works = mute(&[("origin", "a"), ("stream", "s*")], 60.0);
    assert_eq!(desk.machine.covered(&works).len(), 3);
    desk.machine.mute(works, at(0.0)).unwrap();
    desk.raise(0, FROZEN_LONG);
    desk.raise(1, DAMAGED);
    desk.clear(1, DAMAGED);
    desk.pass(59.0);
    assert_eq!(desk.told(), []);
    desk.pass(2.0);
    assert_eq!(desk.told(), [told(Raised, "s0", Critical)]);
    assert_eq!(desk.machine.mutes().count(), 0);
}

#[test]
fn a_mute_has_an_end_an_author_and_a_reason() {
    let check = |of: &[(&str, &str)], until| mute(of, until).check(at(0.0));
    assert_eq!(check(&[], 60.0), Err(MuteError::Everything));
    assert_eq!(check(&[("stream", "a")], 0.0), Err(MuteError::Over));
    assert_eq!(
        check(&[("stream", "a")], 8.0 * 86_400.0),
        Err(MuteError::TooLong)
    );
    assert_eq!(check(&[("stream", "a")], 7.0 * 86_400.0), Ok(()));
    let mut nobodys = mute(&[("stream", "a")], 60.0);
    nobodys.author.clear();
    assert_eq!(nobodys.check(at(0.0)), Err(MuteError::Words));
}

#[test]
fn what_comes_again_soon_waits_and_is_another_occurrence() {
    let mut desk = Desk::new(1, &[]);
    let once = |desk: &mut Desk| {
        desk.raise(0, FROZEN_LONG);
        desk.pass(20.0);
        desk.clear(0, FROZEN_LONG);
        desk.pass(40.0);
        let ids: BTreeSet<u64> = desk.said.iter().map(|n| n.incident.incarnation).collect();
        (ids, desk.told())
    };
    let (first, news) = once(&mut desk);
    assert_eq!(news.len(), 2);
    let (second, news) = once(&mut desk);
    assert_eq!(news, [], "over before it was due");
    assert!(first.last() < second.first());
    desk.raise(0, FROZEN_LONG);
    desk.pass(400.0);
    assert_eq!(
        desk.told(),
        [told(Raised, "s0", Critical)],
        "still bad: told when due"
    );
}

#[test]
fn a_warning_that_comes_again_and_again_pages() {
    let mut desk = Desk::new(1, &[]);
    for _ in 0..5 {
        desk.raise(0, DAMAGED);
        desk.pass(5.0);
        desk.clear(0, DAMAGED);
        desk.pass(60.0);
    }
    let told = desk.told();
    assert_eq!(told[0], (Raised, "s0".into(), Warning));
    assert_eq!(
        told.iter()
            .filter(|t| t.2 == Critical && t.0 == Raised)
            .count(),
        1,
        "{told:?}"
    );
}

#[test]
fn after_a_restart_nothing_is_resolved_by_silence() {
    let mut desk = Desk::new(2, &[]);
    desk.raise(0, FROZEN_LONG);
    desk.raise(1, FROZEN_LONG);
    let open: Vec<Incident> = desk.machine.incidents().cloned().collect();
    desk.said.clear();
    desk.machine = Desk::new(2, &[]).machine;
    desk.now_secs = 20.0;
    for incident in &open {
        assert_eq!(desk.machine.restore(incident.clone(), at(20.0)), None);
    }
    desk.pass(100.0);
    assert_eq!(desk.told(), []);
    assert!(desk.machine.incidents().all(|i| i.unknown));
    desk.clear(0, FROZEN_LONG);
    desk.pass(40.0);
    assert_eq!(desk.told(), [told(Resolved, "s0", Critical)]);
    desk.pass(600.0);
    assert_eq!(
        desk.told(),
        [told(Updated, "s1", Critical)],
        "nothing heard for ten minutes"
    );
    desk.raise(1, FROZEN_LONG);
    assert!(desk.machine.incidents().all(|i| !i.unknown));
    desk.clear(1, FROZEN_LONG);
    desk.pass(40.0);
    assert_eq!(desk.told(), [told(Resolved, "s1", Critical)]);
    // The disk came late, and the same trouble has begun anew.
    desk.raise(0, FROZEN_LONG);
    let over = desk
        .machine
        .restore(open[0].clone(), at(desk.now_secs))
        .unwrap();
    assert_eq!((over.news, over.incident.id()), (Resolved, open[0].id()));
    assert_eq!(desk.machine.incidents().count(), 1);
}

#[test]
fn a_parent_and_its_children_find_each_other_after_a_restart() {
    let mut desk = Desk::new(8, &[("origin", "a")]);
    for stream in 0..8 {
        desk.raise(stream, LOST);
    }
    assert_eq!(desk.told(), [told(Raised, "origin=a", Critical)]);
    let open: Vec<Incident> = desk.machine.incidents().cloned().collect();
    desk.machine = Desk::new(8, &[("origin", "a")]).machine;
    for incident in open.iter().rev() {
        assert_eq!(
            desk.machine.restore(incident.clone(), at(desk.now_secs)),
            None
        );
    }
    desk.pass(120.0);
    assert_eq!(desk.told(), [], "neither ended nor told one by one");
    for stream in 0..8 {
        desk.clear(stream, LOST);
    }
    desk.pass(60.0);
    assert_eq!(desk.told(), [told(Resolved, "origin=a", Critical)]);
    assert_eq!(desk.machine.incidents().count(), 0);
}

#[test]
fn an_acknowledged_incident_says_by_whom() {
    let mut desk = Desk::new(1, &[]);
    desk.raise(0, FROZEN_LONG);
    let id = desk.machine.incidents().next().unwrap().id();
    let notice = desk.machine.acknowledge(&id, "kim", at(3.0)).unwrap();
    assert!(notice.is_told());
    assert_eq!(notice.incident.acknowledged.as_ref().unwrap().by, "kim");
    assert!(desk.machine.acknowledge("nobody", "kim", at(3.0)).is_none());
}

#[test]
fn keys_are_stable() {
    let key = Key {
        about: About::Stream("news1".into()),
        topic: Topic::Programme,
    };
    assert_eq!(key.hash().len(), 32);
    assert_eq!(key.hash(), key.clone().hash());
    for topic in [
        Topic::Input,
        Topic::Detector("freeze"),
        Topic::Together,
        Topic::Monitor,
    ] {
        assert_eq!(Topic::parse(topic.as_str()), Some(topic));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes: an occurrence is raised before anything else is told of it and resolved at most once, as the last;
    /// sequences grow; a later occurrence has a larger number; all that is open is in an incident; in the end all is over.
    #[test]
    fn what_is_told_makes_sense(
        steps in prop::collection::vec((0usize..12, 0usize..6, any::<bool>(), 0.0f64..40.0), 1..120),
        muted in any::<bool>(),
    ) {
        let what = [LOST, FROZEN, FROZEN_LONG, SILENT, SLATE, DAMAGED];
        let mut desk = Desk::new(12, &[("origin", "a")]);
        if muted {
            desk.machine.mute(mute(&[("stream", "s1*")], 300.0), at(0.0)).unwrap();
        }
        let mut open = BTreeSet::new();
        for (stream, kind, raise, secs) in steps {
            match raise {
                true => {
                    desk.raise(stream, what[kind]);
                    open.insert((stream, kind));
                }
                false => {
                    if open.remove(&(stream, kind)) {
                        desk.clear(stream, what[kind]);
                    }
                }
            }
            desk.pass(secs);
            let in_incidents: usize = desk.machine.incidents().map(|i| i.open().count()).sum();
            prop_assert_eq!(in_incidents, open.len());
            for incident in desk.machine.incidents() {
                let bad = incident.open().next().is_some();
                prop_assert!(incident.told || incident.quiet.is_some() || !bad, "{:?}", incident);
            }
        }
        for (stream, kind) in std::mem::take(&mut open) {
            desk.clear(stream, what[kind]);
        }
        desk.pass(1000.0);
        prop_assert_eq!(desk.machine.incidents().count(), 0);
        let mut last: BTreeMap<Key, (u64, u64, bool, bool)> = BTreeMap::new();
        for notice in &desk.said {
            let i = &notice.incident;
            let now = last.entry(i.key.clone()).or_insert((i.incarnation, 0, false, false));
            if i.incarnation != now.0 {
                prop_assert!(i.incarnation > now.0 && now.3, "{:?}", i);
                *now = (i.incarnation, 0, false, false);
            }
            prop_assert!(!now.3, "said after its end: {:?}", i);
            prop_assert!(i.sequence > now.1);
            now.1 = i.sequence;
            match notice.news {
                News::Raised => {
                    prop_assert!(!now.2);
                    now.2 = true;
                }
                News::Resolved => now.3 = true,
                News::Updated => prop_assert!(now.2),
                _ => {}
            }
            prop_assert_eq!(notice.is_told() && notice.news != News::Raised, now.2 && notice.news != News::Raised && notice.news != News::Recorded);
        }
    }
}

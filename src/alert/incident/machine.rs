//! The machine that makes incidents of transitions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Kind, Severity, Track};
use jiff::Timestamp;

use super::flap::Flaps;
use super::group::{Group, Labels, Shared};
use super::mute;
use super::{
    About, Acknowledged, CANARY, DEFECTS, Incident, Key, Mute, MuteError, Mutes, News, Notice,
    Policy, Quiet, Topic,
};
use crate::alert::{Change, Defect, Transition};
use crate::config::Expected;

/// What an input that is back leaves behind for so long, it still explains.
const INPUT_SETTLES: Duration = Duration::from_secs(10);
/// An incident of before a restart of which nothing was heard for so long is told to be out of sight.
const UNKNOWN_FOR: Duration = Duration::from_secs(600);
/// Part of a parent's streams that must be bad, or it ends.
const PARENT_SHARE: usize = 4;

/// Makes incidents. State is bounded by streams x topics, besides mutes.
pub struct Machine {
    instance: Arc<str>,
    policy: Policy,
    streams: BTreeMap<Arc<str>, Labels>,
    shared: Shared,
    expected: BTreeMap<Arc<str>, Vec<(Timestamp, Timestamp)>>,
    programmes: BTreeMap<Arc<str>, Programme>,
    mutes: Mutes,
    live: BTreeMap<Key, Live>,
    past: BTreeMap<Key, Past>,
}

/// What is part of a stream's programme.
#[derive(Default)]
struct Programme {
    expected: Vec<Expected>,
    quiet_tracks: Vec<Track>,
}

/// An incident that has not ended.
struct Live {
    incident: Incident,
    bad_since: Option<Timestamp>,
    well_since: Option<Timestamp>,
    held_until: Option<Timestamp>,
    parent: Option<Key>,
    /// What was told last.
    said: Said,
    /// Something changed that nobody was told.
    news: bool,
    was_expected: bool,
    /// When it was taken up after a restart, until it was heard of again or told to be out of sight.
    restored: Option<Timestamp>,
}

/// What is worth telling again when it changes.
#[derive(Debug, Clone, Default, PartialEq)]
struct Said {
    at: Option<Timestamp>,
    severity: Option<Severity>,
    kinds: BTreeSet<(&'static str, Option<&'static str>)>,
    streams: usize,
    flags: [bool; 4],
}

/// What is remembered of a key when its incident has ended.
#[derive(Default)]
struct Past {
    flaps: Flaps,
    turned_bad: VecDeque<Timestamp>,
    raised: Option<(Timestamp, Severity)>,
    incarnation: u64,
}

impl Machine {
    /// Nothing open. `instance`: name of this process.
    pub fn new(instance: &str, policy: Policy) -> Self {
        let instance = Arc::from(instance);
        let streams = BTreeMap::new();
        Self {
            shared: Shared::new(&instance, &policy, &streams),
            instance,
            policy,
            streams,
            expected: BTreeMap::new(),
            programmes: BTreeMap::new(),
            mutes: Mutes::default(),
            live: BTreeMap::new(),
            past: BTreeMap::new(),
        }
    }

    /// Which streams there are, with their labels; replaces what was said before.
    pub fn set_streams(&mut self, streams: impl IntoIterator<Item = (Arc<str>, Labels)>) {
        self.streams = streams.into_iter().collect();
        self.shared = Shared::new(&self.instance, &self.policy, &self.streams);
        let known = &self.streams;
        self.expected.retain(|id, _| known.contains_key(id));
        self.programmes.retain(|id, _| known.contains_key(id));
    }

    /// What is part of the programme of a stream: when stills, blacks and silences are, and which tracks may be silent.
    pub fn set_programme(
        &mut self,
        stream: &Arc<str>,
        expected: Vec<Expected>,
        quiet_tracks: Vec<Track>,
    ) {
        let programme = Programme {
            expected,
            quiet_tracks,
        };
        self.programmes.insert(Arc::clone(stream), programme);
    }

    /// Streams and their labels.
    pub fn streams(&self) -> &BTreeMap<Arc<str>, Labels> {
        &self.streams
    }

    /// A defect began, changed or ended.
    pub fn hear(&mut self, transition: &Transition, now: Timestamp) -> Vec<Notice> {
        let defect = &transition.defect;
        // Events have it; nobody is told.
        let quiet = (self.programmes.get(&defect.stream)).is_some_and(|programme| {
            let track = defect.track.as_ref();
            track.is_some_and(|track| programme.quiet_tracks.contains(track))
        });
        if quiet && defect.detector == "silence" {
            return Vec::new();
        }
        let topic = Topic::of(defect);
        let key = Key {
            about: match topic {
                Topic::Monitor => About::Instance(Arc::clone(&self.instance)),
                _ => About::Stream(Arc::clone(&defect.stream)),
            },
            topic,
        };
        if !self.live.contains_key(&key) {
            if transition.change == Change::Clear {
                return Vec::new();
            }
            self.open(&key, Arc::clone(&defect.labels), now);
        }
        if let Some(live) = self.live.get_mut(&key) {
            live.note(defect);
        }
        self.settle(now)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Notice> {
        self.settle(now)
    }

    /// A still, a black or a silence of this stream is expected: a break was announced, or the schedule says so. What
    /// lasts beyond `until` and the slack of the policy is told.
    pub fn expect(&mut self, stream: &Arc<str>, from: Timestamp, until: Option<Timestamp>) {
        let until = match until {
            Some(until) => until + self.policy.break_slack,
            None => from + self.policy.unannounced_break,
        };
        let spans = self.expected.entry(Arc::clone(stream)).or_default();
        spans.retain(|span| span.1 > from);
        spans.push((from, until));
    }

    /// The break is over, earlier than announced.
    pub fn expect_no_more(&mut self, stream: &str, now: Timestamp) {
        let end = now + self.policy.break_slack;
        for (_, until) in self.expected.get_mut(stream).into_iter().flatten() {
            *until = (*until).min(end);
        }
    }

    /// Adds a mute.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn mute(&mut self, mute: Mute, now: Timestamp) -> Result<(), MuteError> {
        self.mutes.add(mute, now)
    }

    /// Ends a mute early; whether there was one.
    pub fn unmute(&mut self, id: &str) -> bool {
        self.mutes.remove(id)
    }

    /// Mutes that are not over.
    pub fn mutes(&self) -> impl Iterator<Item = &Mute> {
        self.mutes.all()
    }

    /// Which streams a mute would cover.
    pub fn covered(&self, mute: &Mute) -> Vec<Arc<str>> {
        let streams = self.streams.iter();
        let covered = streams.filter(|(id, labels)| {
            // A matcher on the topic narrows what is hidden of a stream, not which streams.
            let topic = mute.matchers.get("topic").map(String::as_str);
            mute.covers(id, labels, topic)
        });
        covered.map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Whether an incident is of what these matchers name: what is about several streams when one of them is; the
    /// monitor's own trouble always.
    pub fn concerns(&self, matchers: &BTreeMap<String, String>, incident: &Incident) -> bool {
        let topic = Some(incident.key.topic.as_str());
        let empty = BTreeMap::new();
        match &incident.key.about {
            About::Stream(id) => mute::fits(matchers, id, &incident.labels, topic),
            _ if matchers.is_empty() || incident.key.topic == Topic::Monitor => true,
            _ => incident.streams.iter().any(|id| {
                let labels = self.streams.get(id).map_or(&empty, |labels| &**labels);
                mute::fits(matchers, id, labels, topic)
            }),
        }
    }

    /// Somebody takes an incident on. `None` when there is none with this id.
    pub fn acknowledge(&mut self, id: &str, by: &str, now: Timestamp) -> Option<Notice> {
        let live = (self.live.values_mut()).find(|live| live.incident.id() == id)?;
        live.incident.acknowledged = Some(Acknowledged {
            by: by.to_owned(),
            at: now,
        });
        Some(live.notice(News::Acknowledged, now))
    }

    /// An open incident, once more: it did not arrive where it was sent. `None` when there is none.
    pub fn repeat(&mut self, key: &str, incarnation: u64, now: Timestamp) -> Option<Notice> {
        let same = |live: &&mut Live| {
            live.incident.incarnation == incarnation && live.incident.key.hash() == key
        };
        let live = self.live.values_mut().find(same)?;
        live.incident.told.then(|| live.notice(News::Updated, now))
    }

    /// Takes up an incident of before a restart: it stays open until its defects are measured again. Where another
    /// occurrence has begun meanwhile, it is over: the answer says so.
    pub fn restore(&mut self, mut incident: Incident, now: Timestamp) -> Option<Notice> {
        let key = incident.key.clone();
        if self.live.contains_key(&key) {
            incident.resolved = Some(now);
            incident.sequence += 1;
            return Some(Notice {
                news: News::Resolved,
                at: now,
                incident: Arc::new(incident),
            });
        }
        incident.unknown = key.topic != Topic::Together;
        let past = self.past.entry(key.clone()).or_default();
        past.incarnation = past.incarnation.max(incident.incarnation);
        if incident.told {
            past.raised = Some((incident.opened, incident.severity));
        }
        let said = Said::of(&incident, Some(incident.opened));
        let bad = key.topic == Topic::Together || incident.open().next().is_some();
        self.live.insert(
            key,
            Live {
                bad_since: Some(incident.opened),
                well_since: (!bad).then_some(incident.opened),
                held_until: None,
                parent: None,
                said,
                news: false,
                was_expected: false,
                restored: Some(now),
                incident,
            },
        );
        self.adopt_restored();
        None
    }

    /// Children find their parents again.
    fn adopt_restored(&mut self) {
        let parents: BTreeMap<String, Key> = (self.live.iter())
            .filter(|(key, _)| key.topic == Topic::Together)
            .map(|(key, live)| (live.incident.id(), key.clone()))
            .collect();
        for live in self.live.values_mut() {
            if let Some(Quiet::Child(id)) = &live.incident.quiet {
                live.parent = parents.get(id).cloned();
            }
        }
    }

    /// Incidents that have not ended.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.live.values().map(|live| &live.incident)
    }

    fn open(&mut self, key: &Key, labels: Labels, now: Timestamp) {
        let past = self.past.entry(key.clone()).or_default();
        let opened = u64::try_from(now.as_millisecond()).unwrap_or(0);
        past.incarnation = opened.max(past.incarnation + 1);
        let incident = Incident {
            key: key.clone(),
            incarnation: past.incarnation,
            sequence: 0,
            severity: Severity::Info,
            labels,
            defects: Vec::new(),
            streams: BTreeSet::new(),
            of_streams: 0,
            whole_instance: false,
            quiet: None,
            overran: false,
            flapping: false,
            escalated: false,
            times: 0,
            unknown: false,
            told: false,
            acknowledged: None,
            opened: now,
            resolved: None,
        };
        let live = Live {
            incident,
            bad_since: None,
            well_since: None,
            held_until: None,
            parent: None,
            said: Said::default(),
            news: true,
            was_expected: false,
            restored: None,
        };
        self.live.insert(key.clone(), live);
    }

    /// Brings everything up to `now`.
    fn settle(&mut self, now: Timestamp) -> Vec<Notice> {
        self.mutes.forget(now);
        for spans in self.expected.values_mut() {
            spans.retain(|(_, until)| *until > now);
        }
        self.turn(now);
        self.quieten(now);
        self.gather(now);
        self.quieten(now);
        let notices = self.tell(now);
        self.forget(now);
        notices
    }

    /// Who turned bad or well, and how bad it is.
    fn turn(&mut self, now: Timestamp) {
        let bad_children = self.bad_children();
        for (key, live) in &mut self.live {
            let bad = match key.topic {
                Topic::Together => {
                    // As long as there are enough left to be many pages, or many of those that failed.
                    let bad = bad_children.get(key).copied().unwrap_or(0);
                    bad >= self.policy.together_min
                        || bad * PARENT_SHARE >= live.incident.streams.len().max(1)
                }
                _ => live.incident.open().next().is_some(),
            };
            let past = self.past.entry(key.clone()).or_default();
            if bad != (live.bad_since.is_some() && live.well_since.is_none()) {
                past.flaps.turned(now);
                live.news = true;
                match bad {
                    true => {
                        live.bad_since = Some(now);
                        live.well_since = None;
                        live.incident.times += 1;
                        past.turned_bad.push_back(now);
                    }
                    false => live.well_since = Some(now),
                }
            }
            let flapping = past.flaps.stood(now);
            live.news |= flapping != live.incident.flapping;
            live.incident.flapping = flapping;
            if let Some((times, within)) = self.policy.escalate {
                let oldest = now - within;
                while past.turned_bad.front().is_some_and(|at| *at < oldest) {
                    past.turned_bad.pop_front();
                }
                let often = past.turned_bad.len() >= times as usize;
                live.incident.escalated |= often && live.incident.severity == Severity::Warning;
            }
            let severity = live.severity();
            live.news |= severity > live.incident.severity;
            live.incident.severity = live.incident.severity.max(severity);
            if key.topic == Topic::Input
                && live.held_until.is_none()
                && self.shared.has_company(&self.policy, stream_of(key))
            {
                live.held_until = Some(now + self.policy.hold);
            }
        }
    }

    fn bad_children(&self) -> BTreeMap<Key, usize> {
        let mut bad: BTreeMap<Key, BTreeSet<&str>> = BTreeMap::new();
        for (key, live) in &self.live {
            if let Some(parent) = live.parent.clone().filter(|_| live.well_since.is_none()) {
                bad.entry(parent).or_default().insert(stream_of(key));
            }
        }
        bad.into_iter().map(|(key, of)| (key, of.len())).collect()
    }

    /// Why each incident is not told, if it is not.
    fn quieten(&mut self, now: Timestamp) {
        let lost: BTreeSet<Arc<str>> = (self.live.iter())
            .filter(|(key, _)| key.topic == Topic::Input)
            .filter(|(_, live)| live.well_since.is_none_or(|at| now < at + INPUT_SETTLES))
            .filter_map(|(key, _)| match &key.about {
                About::Stream(id) => Some(Arc::clone(id)),
                _ => None,
            })
            .collect();
        let parents: BTreeMap<Key, String> = (self.live.iter())
            .filter(|(key, _)| key.topic == Topic::Together)
            .map(|(key, live)| (key.clone(), live.incident.id()))
            .collect();
        for (key, live) in &mut self.live {
            let stream = stream_of(key);
            if live
                .parent
                .as_ref()
                .is_some_and(|of| !parents.contains_key(of))
            {
                live.parent = None;
            }
            let scheduled = || {
                let programme = self.programmes.get(stream);
                programme.is_some_and(|p| p.expected.iter().any(|span| span.covers(now)))
            };
            let expected = key.topic == Topic::Programme
                && (scheduled()
                    || is_expected(&self.expected, stream, now)
                    || live.is_slate(now, self.policy.unannounced_break));
            live.was_expected |= expected;
            let labels = &live.incident.labels;
            let muted = self.mutes.covering(stream, labels, key.topic.as_str(), now);
            let by_input = !matches!(key.topic, Topic::Input | Topic::Together | Topic::Monitor);
            let lately = (self.past.get(key).and_then(|past| past.raised))
                .filter(|_| !live.incident.told)
                .is_some_and(|(at, severity)| {
                    now < at + self.policy.repage_after && live.incident.severity <= severity
                });
            let quiet = match () {
                // Its alert is meant to arrive, whatever else goes on.
                () if stream == CANARY => None,
                () if live.parent.is_some() => {
                    (live.parent.as_ref().and_then(|of| parents.get(of)))
                        .cloned()
                        .map(Quiet::Child)
                }
                () if muted.is_some() => muted.map(|mute| Quiet::Muted(mute.id.clone())),
                () if by_input && lost.contains(stream) => Some(Quiet::InputLost),
                () if expected => Some(Quiet::Expected),
                () if live.held_until.is_some_and(|until| now < until) => Some(Quiet::Held),
                () if lately => Some(Quiet::ToldLately),
                () => None,
            };
            let bad = live.well_since.is_none();
            live.incident.overran |= live.was_expected && quiet.is_none() && bad;
            live.news |= quiet != live.incident.quiet;
            live.incident.quiet = quiet;
        }
    }

    /// Streams that fail together get a parent.
    fn gather(&mut self, now: Timestamp) {
        let mut bad = self.bad_streams();
        let parents: Vec<Key> = (self.live.iter())
            .filter(|(key, live)| key.topic == Topic::Together && live.well_since.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for key in parents {
            let Some(members) = self.shared.members(&self.policy, &key.about).cloned() else {
                continue;
            };
            let orphans = (bad.iter()).filter(|(id, (_, has))| !has && members.contains(*id));
            let streams: BTreeSet<Arc<str>> = orphans.map(|(id, _)| Arc::clone(id)).collect();
            if !streams.is_empty() {
                self.adopt(&key, &streams);
                bad = self.bad_streams();
            }
        }
        while let Some(group) = self.shared.together(&self.policy, &bad) {
            self.found(group, now);
            bad = self.bad_streams();
        }
        let everyone = !self.shared.all().is_empty()
            && self.shared.all().iter().all(|id| bad.contains_key(id));
        for (key, live) in &mut self.live {
            if key.topic == Topic::Together && everyone && !live.incident.whole_instance {
                live.incident.whole_instance = true;
                live.news = true;
            }
        }
    }

    /// Streams with something that pages now, since when, and whether they have a parent.
    fn bad_streams(&self) -> BTreeMap<Arc<str>, (Timestamp, bool)> {
        let mut bad: BTreeMap<Arc<str>, (Timestamp, bool)> = BTreeMap::new();
        for (key, live) in &self.live {
            let excused = matches!(
                live.incident.quiet,
                Some(Quiet::Expected | Quiet::Muted(_) | Quiet::InputLost)
            );
            let (About::Stream(id), Some(since)) = (&key.about, live.bad_since) else {
                continue;
            };
            if live.well_since.is_some()
                || excused
                || live.incident.unknown
                || live.incident.severity < Severity::Critical
            {
                continue;
            }
            let entry = bad.entry(Arc::clone(id)).or_insert((since, false));
            entry.0 = entry.0.max(since);
            entry.1 |= live.parent.is_some();
        }
        bad
    }

    fn found(&mut self, group: Group, now: Timestamp) {
        let labels = match &group.about {
            About::Label { name, value } => [(name.clone(), value.clone())].into(),
            _ => BTreeMap::new(),
        };
        let key = Key {
            about: group.about,
            topic: Topic::Together,
        };
        if !self.live.contains_key(&key) {
            self.open(&key, Arc::new(labels), now);
        }
        if let Some(live) = self.live.get_mut(&key) {
            live.incident.of_streams = group.of_streams;
            live.bad_since = Some(live.bad_since.unwrap_or(now));
            live.well_since = None;
            live.incident.times = live.incident.times.max(1);
            live.incident.severity = Severity::Critical;
        }
        self.adopt(&key, &group.streams);
    }

    fn adopt(&mut self, parent: &Key, streams: &BTreeSet<Arc<str>>) {
        for (key, live) in &mut self.live {
            let About::Stream(id) = &key.about else {
                continue;
            };
            if streams.contains(id) && live.incident.severity == Severity::Critical {
                live.parent = Some(parent.clone());
                live.news = true;
            }
        }
        if let Some(live) = self.live.get_mut(parent) {
            live.incident.streams.extend(streams.iter().cloned());
            live.news = true;
        }
    }

    /// What is to be told and stored.
    fn tell(&mut self, now: Timestamp) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut ended = Vec::new();
        for (key, live) in &mut self.live {
            let well_for = live
                .well_since
                .map(|at| now.duration_since(at).unsigned_abs());
            let over = well_for.is_some_and(|well| well >= self.policy.resolve_after);
            if over && !live.incident.flapping {
                live.incident.resolved = live.well_since;
                notices.push(live.notice(News::Resolved, now));
                ended.push(key.clone());
                continue;
            }
            if live.incident.quiet.is_none() && live.well_since.is_none() {
                if !live.incident.told {
                    live.incident.told = true;
                    if let Some(past) = self.past.get_mut(key) {
                        past.raised = Some((now, live.incident.severity));
                    }
                    notices.push(live.notice(News::Raised, now));
                    continue;
                }
                if live.worth_telling(&self.policy, now) {
                    notices.push(live.notice(News::Updated, now));
                    continue;
                }
            }
            if live.news {
                notices.push(live.notice(News::Recorded, now));
            }
        }
        for key in ended {
            self.live.remove(&key);
        }
        notices
    }

    /// Drops what no longer matters of the past.
    fn forget(&mut self, now: Timestamp) {
        let (live, policy) = (&self.live, &self.policy);
        self.past.retain(|key, past| {
            past.flaps.stood(now);
            let lately = |at: Timestamp, span: Duration| now < at + span;
            live.contains_key(key)
                || !past.flaps.is_quiet()
                || past
                    .raised
                    .is_some_and(|(at, _)| lately(at, policy.repage_after))
                || (past.turned_bad.back().zip(policy.escalate))
                    .is_some_and(|(at, (_, within))| lately(*at, within))
        });
    }
}

fn stream_of(key: &Key) -> &str {
    match &key.about {
        About::Stream(id) => id,
        _ => "",
    }
}

fn is_expected(
    expected: &BTreeMap<Arc<str>, Vec<(Timestamp, Timestamp)>>,
    stream: &str,
    now: Timestamp,
) -> bool {
    let mut spans = expected.get(stream).into_iter().flatten();
    spans.any(|(from, until)| *from <= now && now < *until)
}

impl Said {
    fn of(incident: &Incident, at: Option<Timestamp>) -> Self {
        Self {
            at,
            severity: Some(incident.severity),
            kinds: (incident.open())
                .map(|d| (d.detector, d.place.map(|place| place.as_str())))
                .collect(),
            streams: incident.streams.len(),
            flags: [
                incident.flapping,
                incident.escalated,
                incident.overran,
                incident.whole_instance,
            ],
        }
    }

    /// Whether `new` says more than this did.
    fn is_less_than(&self, new: &Said) -> bool {
        !new.kinds.is_subset(&self.kinds)
            || new.streams >= self.streams * 2 && new.streams > self.streams
            || (self.flags.iter().zip(&new.flags)).any(|(old, new)| *new && !*old)
    }
}

impl Live {
    fn note(&mut self, defect: &Defect) {
        let defects = &mut self.incident.defects;
        self.incident.unknown = false;
        self.restored = None;
        // After a restart the same defect may come with another id; what ends is ended by its own id only.
        let came_again = |old: &Defect| {
            let open = old.end.is_none() && defect.end.is_none();
            open && old.fingerprint == defect.fingerprint
        };
        let same = |old: &Defect| old.id == defect.id || came_again(old);
        match defects.iter().position(same) {
            Some(at) => defects[at] = defect.clone(),
            None => defects.push(defect.clone()),
        }
        if defects.len() > DEFECTS {
            let over = defects.iter().position(|d| d.end.is_some());
            let gone = over.unwrap_or(1);
            defects.remove(gone);
        }
        self.news = true;
    }

    /// How bad what is open now is.
    fn severity(&self) -> Severity {
        let open = || self.incident.open();
        let worst = open().map(|d| d.severity).max().unwrap_or(Severity::Info);
        let picture = open().any(|d| d.track.is_some_and(|t| t.kind == Kind::Video));
        let silent = open().any(|d| (d.detector, d.rule) == ("silence", "silent"));
        let dead = self.incident.key.topic == Topic::Programme
            && picture
            && silent
            && worst >= Severity::Warning;
        match dead || self.incident.escalated && open().next().is_some() {
            true => Severity::Critical,
            false => worst,
        }
    }

    /// A slate is shown, and not for too long.
    fn is_slate(&self, now: Timestamp, longest: Duration) -> bool {
        let slate = self.incident.open().any(|d| d.detector == "slate");
        slate && self.bad_since.is_some_and(|since| now < since + longest)
    }

    fn worth_telling(&mut self, policy: &Policy, now: Timestamp) -> bool {
        if self
            .restored
            .take_if(|since| now >= *since + UNKNOWN_FOR)
            .is_some()
        {
            return true;
        }
        let next = Said::of(&self.incident, Some(now));
        let worse = next.severity > self.said.severity;
        let rested = self
            .said
            .at
            .is_none_or(|at| now >= at + policy.update_every);
        worse || rested && self.said.is_less_than(&next)
    }

    fn notice(&mut self, news: News, now: Timestamp) -> Notice {
        self.news = false;
        self.incident.sequence += 1;
        if self.incident.told && news != News::Recorded {
            let mut said = Said::of(&self.incident, Some(now));
            said.kinds.extend(self.said.kinds.iter().copied());
            self.said = said;
        }
        Notice {
            news,
            at: now,
            incident: Arc::new(self.incident.clone()),
        }
    }
}

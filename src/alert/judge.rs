//! From the readings of one stream's detectors to its open defects and their transitions. Pure; both clocks
//! and the wall time are passed in.
//!
//! Nothing closes by silence: a defect ends only when its signal is measured clear. What a stream that is
//! taken out of service leaves open, the owner of the lane decides about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{
    Arrival, Cause, Kind, Limit, Reading, RuleSpec, Severity, Signal, Track, Value, Why,
};
use sha2::{Digest, Sha256};

use super::av_offset::{AvOffsets, Offset, Source};
use super::place::{Asked, Place, Places};
use super::rule::{self, Phase, Turn};
use super::{Change, Defect, Moment, Transition};
use crate::config;

/// Name of the built-in rule that raises when a detector cannot measure for long.
pub const BLIND: &str = "blind";

/// Shortest time between two updates of one defect, by arrival.
pub const UPDATE_EVERY: Duration = Duration::from_secs(10);

/// An update is due when the value is this many times as far beyond its limit as last told.
const WORSE_BY: f64 = 2.0;
/// ... and at least this share of the limit beyond it.
const WORSE_FLOOR: f64 = 0.1;

/// What the ids of defects are stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epoch {
    /// Live: milliseconds since 1970 at the moment of judging.
    Wall {
        /// Now.
        now_unix_ms: u64,
    },
    /// Offline: the media clock, so that a run is repeatable.
    Media,
}

type Key = (usize, &'static str, Option<Track>);

/// Judges one stream. State is bounded by detectors x rules x tracks.
pub struct Judge {
    stream: Arc<str>,
    labels: Arc<BTreeMap<String, String>>,
    blind_after: Duration,
    detectors: Vec<(&'static str, Vec<RuleSpec>)>,
    rules: BTreeMap<Key, Watch>,
    blind: BTreeMap<(usize, Option<Track>), Blind>,
    members: BTreeMap<Track, Arc<str>>,
    places: Places,
    offsets: BTreeMap<Track, AvOffsets>,
}

/// One rule on one track.
#[derive(Default)]
struct Watch {
    state: rule::State,
    book: Book,
}

/// One detector's eyesight on one track.
#[derive(Default)]
struct Blind {
    dark: BTreeMap<&'static str, (Moment, Why)>,
    book: Book,
}

/// The open defect of a rule, and what was told of it.
#[derive(Default)]
struct Book {
    open: Option<Open>,
    last_stamp: Option<u64>,
    last_end: Option<Moment>,
}

struct Open {
    defect: Defect,
    says: &'static str,
    limit: Limit,
    told_value: f64,
    told_cause: Cause,
    told_at: Arrival,
    /// Taken up after a restart, and not measured since.
    taken_up: bool,
}

/// A reading with its origin.
#[derive(Debug, Clone, Copy)]
pub struct Testimony<'a> {
    /// Position of the detector in the stream's list.
    pub detector: usize,
    /// Signal.
    pub signal: &'static Signal,
    /// Track, or `None` for the stream.
    pub track: Option<Track>,
    /// Reading.
    pub reading: &'a Reading,
}

impl Judge {
    /// A judge of this stream, with nothing open.
    pub fn new(stream: &config::Stream) -> Self {
        Self {
            stream: Arc::clone(&stream.id),
            labels: Arc::new(stream.labels.clone()),
            blind_after: stream.blind_after,
            detectors: stream
                .detectors
                .iter()
                .map(|d| (d.descriptor.name, d.rules.clone()))
                .collect(),
            rules: BTreeMap::new(),
            blind: BTreeMap::new(),
            members: BTreeMap::new(),
            places: Places::default(),
            offsets: BTreeMap::new(),
        }
    }

    /// Which rendition each track is of, where several are watched; for defects that begin from now on.
    pub fn set_members(&mut self, members: BTreeMap<Track, Arc<str>>) {
        self.members = members;
    }

    /// Takes up a defect that was open before a restart: it goes on, and ends when its signal is measured clear. Nothing
    /// happens when this stream has no such rule any more, or has found the same anew; then `false`.
    pub fn take_up(&mut self, mut defect: Defect) -> bool {
        // The media clock of before the restart says nothing about this one.
        defect.start.media = None;
        let known = |(name, _): &&(&'static str, Vec<RuleSpec>)| *name == defect.detector;
        let Some(index) = self.detectors.iter().position(|d| known(&d)) else {
            return false;
        };
        let (start, track) = (defect.start, defect.track);
        if defect.rule == BLIND {
            let Some(signal) = detectors::registry::find(defect.detector)
                .and_then(|descriptor| descriptor.signals.first())
            else {
                return false;
            };
            let limit = Limit::AtLeast(defect.limit);
            let blind = self.blind.entry((index, track)).or_default();
            (blind.dark).insert(signal.name, (start, Why::WarmingUp));
            blind.book.take_up(defect, "The monitor cannot see.", limit);
            return true;
        }
        let rules = self.detectors.get(index).map(|(_, rules)| rules);
        let mut rules = rules.into_iter().flatten();
        let Some(spec) = rules.find(|rule| rule.name == defect.rule) else {
            return false;
        };
        let watch = self.rules.entry((index, spec.name, track)).or_default();
        if watch.book.open.is_some() {
            return false;
        }
        watch.state = rule::State::firing(start);
        watch.book.take_up(defect, spec.says, spec.raise);
        true
    }

    /// Judges a reading; transitions are appended to `out`.
    pub fn hear(
        &mut self,
        said: Testimony<'_>,
        now: Moment,
        epoch: Epoch,
        out: &mut Vec<Transition>,
    ) {
        let Some((name, rules)) = self.detectors.get(said.detector) else {
            return;
        };
        let name = *name;
        let mut placeable = match self.members.is_empty() {
            true => false,
            false => (self.places).hear(name, said.signal.name, said.track, said.reading),
        };
        let av_offsets = match (Source::of(name), said.track) {
            (Some(source), Some(track)) => {
                let offsets = self.offsets.entry(track).or_default();
                offsets.hear(source, said.signal.name, said.reading);
                placeable = true;
                offsets.all().collect()
            }
            _ => Vec::new(),
        };
        let already = out.len();
        let value = match said.reading.value {
            Value::Measured(v) => Some(v),
            Value::Unmeasurable(_) => None,
        };
        for spec in rules.iter().filter(|r| r.signal == said.signal.name) {
            let watch = self
                .rules
                .entry((said.detector, spec.name, said.track))
                .or_default();
            let (state, turn) = rule::step(
                spec,
                said.signal.basis,
                watch.state,
                now,
                value,
                said.reading.since,
                said.reading.until,
            );
            watch.state = state;
            match (turn, value) {
                (Turn::Raise { start }, Some(value)) => {
                    let facts = Facts {
                        stream: &self.stream,
                        labels: &self.labels,
                        detector: name,
                        rule: spec.name,
                        track: said.track,
                        member: said.track.and_then(|track| self.members.get(&track)),
                        severity: spec.severity,
                        cause: said.reading.cause.unwrap_or(spec.cause),
                        value,
                        limit: spec.raise,
                        unit: said.signal.unit,
                        says: spec.says,
                        av_offsets: av_offsets.clone(),
                    };
                    out.push(watch.book.raise(&facts, start, now, epoch));
                    placeable |= !self.members.is_empty();
                }
                (Turn::Clear { end, .. }, _) => out.extend(watch.book.clear(end, now)),
                (_, Some(value)) if spec.raise.met(value) => {
                    let cause = said.reading.cause.unwrap_or(spec.cause);
                    out.extend(watch.book.update(value, cause, &av_offsets, now));
                }
                _ => {}
            }
        }
        if placeable {
            self.place(now, already, out);
        }
        self.watch_sight(name, said, now, epoch, out);
    }

    /// Says where open defects came in, once that is known: with the raise where it is in `out` from `already` on.
    fn place(&mut self, now: Moment, already: usize, out: &mut Vec<Transition>) {
        let open = |w: &Watch| w.book.open.as_ref().map(|open| open.defect.place);
        let unplaced: Vec<Key> = (self.rules.iter())
            .filter(|(_, watch)| open(watch) == Some(None))
            .map(|(key, _)| *key)
            .collect();
        for key in unplaced {
            let Some((track, place)) = key.2.and_then(|t| Some((t, self.place_of(&key, t)?)))
            else {
                continue;
            };
            let offsets = self.offsets.get(&track);
            let book = self.rules.get_mut(&key).map(|watch| &mut watch.book);
            let Some(update) = book.and_then(|book| book.place(place, offsets, now)) else {
                continue;
            };
            let news = out.get_mut(already..).unwrap_or_default().iter_mut();
            match { news }.find(|t| t.defect.id == update.defect.id) {
                Some(told) => told.defect.place = update.defect.place,
                None => out.push(update),
            }
        }
    }

    fn place_of(&self, key: &Key, track: Track) -> Option<Place> {
        let defect = &self.rules.get(key)?.book.open.as_ref()?.defect;
        if Source::of(defect.detector).is_some() {
            return self.offsets.get(&track)?.place();
        }
        self.members.get(&track)?;
        self.places.of(Asked {
            detector: defect.detector,
            track,
            cause: defect.cause,
            start: defect.start.media,
            everywhere: self.is_everywhere(key.0, track),
        })
    }

    /// Whether all other renditions have a defect of this detector open.
    fn is_everywhere(&self, detector: usize, track: Track) -> bool {
        let others = || {
            let pictures = self.members.keys().filter(|t| t.kind == Kind::Video);
            pictures.filter(|other| **other != track)
        };
        let open = |other: &Track| {
            let mut rules = self.rules.iter();
            rules.any(|(key, watch)| {
                (key.0, key.2) == (detector, Some(*other)) && watch.book.open.is_some()
            })
        };
        others().next().is_some() && others().all(open)
    }

    /// The built-in blind rule, per detector and track: raises when any signal has been blind for long, clears
    /// when none is. Warming up neither starts nor stops it (a detector that is paused by load warms up again
    /// and again); reasons that the loss detector tells stop it while it has not raised.
    fn watch_sight(
        &mut self,
        name: &'static str,
        said: Testimony<'_>,
        now: Moment,
        epoch: Epoch,
        out: &mut Vec<Transition>,
    ) {
        let key = (said.detector, said.track);
        let signal = said.signal.name;
        match said.reading.value {
            Value::Unmeasurable(why) if why.is_blindness() => {
                let blind = self.blind.entry(key).or_default();
                blind.dark.entry(signal).or_insert((now, why)).1 = why;
            }
            Value::Unmeasurable(Why::WarmingUp) => {}
            Value::Measured(_) | Value::Unmeasurable(Why::NotApplicable) => {
                if let Some(blind) = self.blind.get_mut(&key) {
                    blind.dark.remove(signal);
                }
            }
            Value::Unmeasurable(_) => {
                if let Some(blind) = self.blind.get_mut(&key)
                    && blind.book.open.is_none()
                {
                    blind.dark.remove(signal);
                }
            }
        }
        let Some(blind) = self.blind.get_mut(&key) else {
            return;
        };
        let oldest = blind.dark.values().min_by_key(|(since, _)| since.arrival);
        match (oldest.copied(), &blind.book.open) {
            (Some((since, why)), None) => {
                let dark_for = now.arrival.since(since.arrival);
                if dark_for >= self.blind_after {
                    let facts = Facts {
                        stream: &self.stream,
                        labels: &self.labels,
                        detector: name,
                        rule: BLIND,
                        track: said.track,
                        member: said.track.and_then(|track| self.members.get(&track)),
                        severity: Severity::Warning,
                        cause: Cause::Blind,
                        value: dark_for.as_secs_f64(),
                        limit: Limit::AtLeast(self.blind_after.as_secs_f64()),
                        unit: "seconds",
                        says: blind_says(why),
                        av_offsets: Vec::new(),
                    };
                    out.push(blind.book.raise(&facts, since, now, epoch));
                }
            }
            (None, Some(_)) => {
                out.extend(blind.book.clear(now, now));
                self.blind.entry(key).and_modify(|b| b.dark.clear());
            }
            _ => {}
        }
    }

    /// All open defects, by detector, rule and track.
    pub fn open(&self) -> impl Iterator<Item = &Defect> {
        let rules = self.rules.values().map(|w| &w.book);
        let blind = self.blind.values().map(|b| &b.book);
        rules
            .chain(blind)
            .filter_map(|book| book.open.as_ref())
            .map(|open| &open.defect)
    }

    /// Whether any rule on this track is pending, firing or clearing.
    pub fn troubled(&self, track: Track) -> bool {
        self.rules
            .iter()
            .any(|((_, _, on), w)| *on == Some(track) && w.state.phase() != Phase::Ok)
    }
}

/// Everything a new defect is made of, besides times.
struct Facts<'a> {
    stream: &'a Arc<str>,
    labels: &'a Arc<BTreeMap<String, String>>,
    detector: &'static str,
    rule: &'static str,
    track: Option<Track>,
    member: Option<&'a Arc<str>>,
    severity: Severity,
    cause: Cause,
    value: f64,
    limit: Limit,
    unit: &'static str,
    says: &'static str,
    av_offsets: Vec<Offset>,
}

impl Book {
    fn raise(&mut self, facts: &Facts<'_>, start: Moment, now: Moment, epoch: Epoch) -> Transition {
        // An occurrence cannot begin before the previous one ended.
        let start = match self.last_end {
            Some(end) => Moment {
                media: start.media.max(end.media.filter(|e| Some(*e) <= now.media)),
                arrival: start.arrival.max(end.arrival.min(now.arrival)),
            },
            None => start,
        };
        let mut stamp = stamp_of(start, now, epoch);
        if self.last_stamp == Some(stamp) {
            stamp = stamp.saturating_add(1);
        }
        self.last_stamp = Some(stamp);
        let fingerprint = fingerprint(facts.stream, facts.detector, facts.rule, facts.track);
        let defect = Defect {
            id: format!("{fingerprint}-{stamp:x}"),
            fingerprint,
            stream: Arc::clone(facts.stream),
            labels: Arc::clone(facts.labels),
            detector: facts.detector,
            rule: facts.rule,
            track: facts.track,
            member: facts.member.cloned(),
            severity: facts.severity,
            cause: facts.cause,
            place: None,
            av_offsets: facts.av_offsets.clone(),
            value: facts.value,
            limit: facts.limit.value(),
            unit: facts.unit,
            says: sentence(facts.says, facts.unit, facts.value, facts.limit),
            start,
            end: None,
        };
        self.open = Some(Open {
            defect: defect.clone(),
            says: facts.says,
            limit: facts.limit,
            told_value: facts.value,
            told_cause: facts.cause,
            told_at: now.arrival,
            taken_up: false,
        });
        Transition {
            change: Change::Raise,
            at: now,
            defect,
        }
    }

    fn take_up(&mut self, defect: Defect, says: &'static str, limit: Limit) {
        self.open = Some(Open {
            says,
            limit,
            told_value: defect.value,
            told_cause: defect.cause,
            told_at: defect.start.arrival,
            taken_up: true,
            defect,
        });
    }

    fn update(
        &mut self,
        value: f64,
        cause: Cause,
        av_offsets: &[Offset],
        now: Moment,
    ) -> Option<Transition> {
        let open = self.open.as_mut()?;
        av_offsets.clone_into(&mut open.defect.av_offsets);
        let worse = match open.limit {
            Limit::AtLeast(_) => value > open.defect.value,
            Limit::AtMost(_) => value < open.defect.value,
        };
        if worse {
            open.defect.value = value;
            open.defect.says = sentence(open.says, open.defect.unit, value, open.limit);
        }
        open.defect.cause = cause;
        let limit = open.limit.value();
        let beyond = (open.defect.value - limit).abs();
        let told = (open.told_value - limit).abs();
        let grown = beyond > (told * WORSE_BY).max(limit.abs() * WORSE_FLOOR);
        let news = grown || cause != open.told_cause;
        let due = news && now.arrival.since(open.told_at) >= UPDATE_EVERY;
        if !std::mem::take(&mut open.taken_up) && !due {
            return None;
        }
        open.told_value = open.defect.value;
        open.told_cause = cause;
        open.told_at = now.arrival;
        Some(Transition {
            change: Change::Update,
            at: now,
            defect: open.defect.clone(),
        })
    }

    /// A place is told at once: it decides whom to call, and is found once.
    fn place(
        &mut self,
        place: Place,
        offsets: Option<&AvOffsets>,
        now: Moment,
    ) -> Option<Transition> {
        let open = self.open.as_mut()?;
        open.defect.place = Some(place);
        if let (Some(_), Some(offsets)) = (Source::of(open.defect.detector), offsets) {
            open.defect.av_offsets = offsets.all().collect();
        }
        open.told_value = open.defect.value;
        open.told_cause = open.defect.cause;
        open.told_at = now.arrival;
        Some(Transition {
            change: Change::Update,
            at: now,
            defect: open.defect.clone(),
        })
    }

    fn clear(&mut self, end: Moment, now: Moment) -> Option<Transition> {
        let mut defect = self.open.take()?.defect;
        defect.end = Some(end);
        let lasted = match (defect.start.media, end.media) {
            (Some(from), Some(to)) if to > from => to.since(from),
            _ => end.arrival.since(defect.start.arrival),
        };
        defect.says = format!(
            "{} Over after {}.",
            defect.says,
            seconds(lasted.as_secs_f64())
        );
        self.last_end = Some(end);
        Some(Transition {
            change: Change::Clear,
            at: now,
            defect,
        })
    }
}

/// Stable over occurrences, runs and instances: the first 16 hex digits of SHA-256 over stream, detector, rule
/// and track, separated by zero bytes (none of them can hold one).
pub fn fingerprint(stream: &str, detector: &str, rule: &str, track: Option<Track>) -> String {
    let track = track.map(|t| t.to_string()).unwrap_or_default();
    let digest = Sha256::digest([stream, detector, rule, &track].join("\0").as_bytes());
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Milliseconds that tell one occurrence from another.
fn stamp_of(start: Moment, now: Moment, epoch: Epoch) -> u64 {
    match epoch {
        Epoch::Wall { now_unix_ms } => {
            let ago = now.arrival.since(start.arrival).as_millis();
            now_unix_ms.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
        }
        Epoch::Media => match start.media {
            Some(media) => u64::try_from(media.nanos() / 1_000_000).unwrap_or(0),
            None => start.arrival.nanos() / 1_000_000,
        },
    }
}

/// "The picture stands still. For 2.4 s (limit 2 s)."
fn sentence(says: &str, unit: &str, value: f64, limit: Limit) -> String {
    let (value, limit) = (value, limit.value());
    if unit == "seconds" {
        return format!("{says} For {} (limit {}).", seconds(value), seconds(limit));
    }
    let (value, limit, unit) = match unit {
        "seconds early" => {
            let (value, limit) = (aside(value), aside(limit));
            return format!("{says} Audio {value} (limit {limit}).");
        }
        "ratio 0..1" => (100.0 * value, 100.0 * limit, "%"),
        "ratio of the page limit" => {
            return format!("{says} For {} times the page limit.", number(value));
        }
        _ => (value, limit, unit),
    };
    format!(
        "{says} Measured {} {unit} (limit {} {unit}).",
        number(value),
        number(limit)
    )
}

fn seconds(secs: f64) -> String {
    if secs.abs() >= 60.0 {
        let whole = secs.round() as i64;
        return format!("{} min {} s", whole / 60, whole % 60);
    }
    format!("{} s", number(secs))
}

/// "120 ms late"
fn aside(early_secs: f64) -> String {
    let side = if early_secs < 0.0 { "late" } else { "early" };
    match early_secs.abs() {
        secs if secs < 1.0 => format!("{:.0} ms {side}", secs * 1e3),
        secs => format!("{} {side}", seconds(secs)),
    }
}

/// Three significant places at most, no trailing zeros, no exponent.
fn number(value: f64) -> String {
    let places = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 1.0 => 1,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn blind_says(why: Why) -> &'static str {
    match why {
        Why::Shed => "Not watched: the monitor is overloaded and leaves this check out.",
        Why::UnsupportedFormat => "Not watched: the sample format is not one this check reads.",
        Why::NoTimestamps => "Not watched: the timestamps are missing or unusable.",
        Why::NoReference => "Not watched: nothing comes from the reference to compare with.",
        Why::DetectorFailed => "Not watched: this check failed and was switched off.",
        _ => "Not watched.",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "judge_tests.rs"]
mod tests;

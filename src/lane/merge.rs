//! Offline: units of all tracks in media-time order, whatever the threads that decode them do. Pure.
//!
//! What is guaranteed: as long as every announced or seen track delivers (none stays away for two seconds of
//! wall time while another is full), and each track pushes the same units in the same order, the sequence that
//! comes out is the same in every run. Facts with a place on the media clock come out at that place, before
//! a picture or sound of the same time; track facts without a place keep theirs among the units of their
//! track; stream facts without a place come out at once. Reports that bytes arrive are not passed on (they come
//! by the wall clock): the lane makes its own.
//! The end of the input and a re-opening are barriers: everything pushed before comes out first.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use detectors::base::{Fact, InputEvent, MediaTime, Track};

use super::mailbox::{MAX_FACTS, absorb, picture_bytes, same_kind, sound_span};
use crate::ingest::{Content, OwnedUnit};

/// Bytes of pictures of one track, at most ...
const MAX_BYTES: usize = 128 << 20;
/// ... but this many have room, however large, ...
const MIN_PICTURES: usize = 4;
/// ... and no more than this many units, however small.
const MAX_UNITS: usize = 512;
/// Media of one track, at most, in nanoseconds.
const MAX_NANOS: u64 = 2_000_000_000;

/// Orders the units of several tracks.
#[derive(Debug, Default)]
pub struct Merge {
    lines: BTreeMap<Track, Line>,
    /// Stream facts without a place.
    loose: VecDeque<OwnedUnit>,
    /// Facts with a place on the media clock.
    placed: BTreeMap<(MediaTime, u64), OwnedUnit>,
    /// An end or a re-opening, once everything before it is out.
    barrier: Option<OwnedUnit>,
    flushing: bool,
    serial: u64,
    merged_facts: u64,
    /// Media has come out.
    begun: bool,
}

/// Waiting units of one track.
#[derive(Debug, Default)]
struct Line {
    units: VecDeque<OwnedUnit>,
    pictures: usize,
    bytes: usize,
    nanos: u64,
    /// Stayed away: the others do not wait for it until it delivers again.
    idle: bool,
}

/// Where the next unit comes from.
enum Next {
    Loose,
    Placed((MediaTime, u64)),
    Line(Track),
    Barrier,
}

impl Merge {
    /// Whether a push of this unit has to wait.
    pub fn must_wait(&self, unit: &OwnedUnit) -> bool {
        if self.barrier.is_some() {
            return true;
        }
        match (&unit.content, unit.track) {
            (Content::Picture(_) | Content::Sound(_), Some(track)) => {
                self.lines.get(&track).is_some_and(Line::full)
            }
            _ => false,
        }
    }

    /// Takes a unit; the caller has waited for room.
    pub fn push(&mut self, mut unit: OwnedUnit) {
        match &unit.content {
            Content::Tick => {}
            Content::Picture(_) | Content::Sound(_) => {
                if let Some(track) = unit.track {
                    self.lines.entry(track).or_default().push(unit);
                }
            }
            Content::Fact(Fact::Input(InputEvent::Ended | InputEvent::Reopened)) => {
                self.barrier = Some(unit);
            }
            Content::Fact(Fact::Input(InputEvent::Receiving)) if self.begun => {}
            Content::Fact(fact) => {
                if let Fact::Tracks(tracks) = fact {
                    let announced: Vec<Track> = tracks
                        .iter()
                        .filter(|t| t.problem.is_none())
                        .map(|t| t.track)
                        .collect();
                    self.announce(&announced);
                }
                let place = match fact {
                    Fact::Input(_) | Fact::Tracks(_) => None,
                    Fact::RandomAccess(at) | Fact::KeyQuantiser { at, .. } => Some(*at),
                    Fact::Evidence(evidence) => unit.media.or(evidence.from),
                    _ => unit.media,
                };
                match (place, unit.track) {
                    (Some(place), _) => {
                        if self.placed.len() >= MAX_FACTS {
                            self.make_room_for_fact(&mut unit);
                        }
                        self.serial += 1;
                        self.placed.insert((place, self.serial), unit);
                    }
                    (None, Some(track)) => self.lines.entry(track).or_default().push_fact(unit),
                    (None, None) => {
                        if self.loose.len() >= MAX_FACTS {
                            self.loose.pop_front();
                            self.merged_facts += 1;
                        }
                        self.loose.push_back(unit);
                    }
                }
            }
        }
    }

    /// The full set of tracks: others are not waited for.
    fn announce(&mut self, tracks: &[Track]) {
        for (track, line) in &mut self.lines {
            line.idle |= !tracks.contains(track);
        }
        for track in tracks {
            self.lines.entry(*track).or_default();
        }
    }

    fn make_room_for_fact(&mut self, unit: &mut OwnedUnit) {
        let same = self.placed.iter().rev().find_map(|(key, waiting)| {
            matches!((&waiting.content, &unit.content),
                (Content::Fact(a), Content::Fact(b)) if waiting.track == unit.track && same_kind(a, b))
            .then_some(*key)
        });
        self.merged_facts += 1;
        match same.and_then(|key| self.placed.remove(&key)) {
            Some(gone) => absorb(unit, gone),
            None => {
                self.placed.pop_first();
            }
        }
    }

    /// Stops waiting for tracks that have nothing here.
    pub fn give_up_waiting(&mut self) {
        for line in self.lines.values_mut().filter(|l| l.units.is_empty()) {
            line.idle = true;
        }
    }

    /// Lets everything out, waiting for nobody; for good.
    pub fn flush(&mut self) {
        self.flushing = true;
    }

    /// Whether [`Merge::pop`] would give something.
    pub fn ready(&self) -> bool {
        self.next().is_some()
    }

    /// The next unit in order, if it is certain.
    pub fn pop(&mut self) -> Option<OwnedUnit> {
        match self.next()? {
            Next::Loose => self.loose.pop_front(),
            Next::Placed(key) => self.placed.remove(&key),
            Next::Line(track) => {
                let unit = self.lines.get_mut(&track)?.pop();
                self.begun |= unit
                    .as_ref()
                    .is_some_and(|u| !matches!(u.content, Content::Fact(_)));
                unit
            }
            Next::Barrier => {
                for line in self.lines.values_mut() {
                    line.idle = true;
                }
                self.begun = false;
                self.barrier.take()
            }
        }
    }

    fn next(&self) -> Option<Next> {
        if !self.loose.is_empty() {
            return Some(Next::Loose);
        }
        // A head without a time cannot be compared: its place is its line alone.
        let untimed = self
            .lines
            .iter()
            .find(|(_, l)| l.units.front().is_some_and(|u| u.media.is_none()));
        if let Some((track, _)) = untimed {
            return Some(Next::Line(*track));
        }
        let flushing = self.flushing || self.barrier.is_some();
        let waiting = self.lines.values().any(|l| l.units.is_empty() && !l.idle);
        if waiting && !flushing {
            return None;
        }
        let head = self
            .lines
            .iter()
            .filter_map(|(track, l)| Some((l.units.front()?.media?, *track)))
            .min();
        let fact = self.placed.keys().next().copied();
        match (head, fact) {
            (Some((at, _)), Some(key)) if key.0 <= at => Some(Next::Placed(key)),
            (Some((_, track)), _) => Some(Next::Line(track)),
            (None, Some(key)) if flushing => Some(Next::Placed(key)),
            (None, _) if self.barrier.is_some() => Some(Next::Barrier),
            (None, _) => None,
        }
    }

    /// Units waiting.
    pub fn waiting(&self) -> usize {
        let lines: usize = self.lines.values().map(|l| l.units.len()).sum();
        lines + self.loose.len() + self.placed.len() + usize::from(self.barrier.is_some())
    }

    /// Facts merged or lost for want of room.
    pub fn merged_facts(&self) -> u64 {
        self.merged_facts
    }
}

impl Line {
    fn full(&self) -> bool {
        let ends = self.units.front().zip(self.units.back());
        let span = ends.and_then(|(first, last)| Some(last.media?.since(first.media?)));
        span.is_some_and(|s| s >= Duration::from_nanos(MAX_NANOS))
            || self.units.len() >= MAX_UNITS
            || self.nanos >= MAX_NANOS
            || (self.bytes >= MAX_BYTES && self.pictures >= MIN_PICTURES)
    }

    fn push(&mut self, unit: OwnedUnit) {
        self.idle = false;
        self.weigh(&unit, true);
        self.units.push_back(unit);
    }

    /// Facts have room always: a few beside each unit.
    fn push_fact(&mut self, unit: OwnedUnit) {
        if self.units.len() < MAX_UNITS + MAX_FACTS {
            self.units.push_back(unit);
        }
    }

    fn pop(&mut self) -> Option<OwnedUnit> {
        let unit = self.units.pop_front()?;
        self.weigh(&unit, false);
        Some(unit)
    }

    fn weigh(&mut self, unit: &OwnedUnit, comes: bool) {
        let (pictures, bytes, nanos) = match &unit.content {
            Content::Picture(picture) => (1, picture_bytes(picture), 0),
            Content::Sound(sound) => (
                0,
                0,
                u64::try_from(sound_span(sound).as_nanos()).unwrap_or(MAX_NANOS),
            ),
            Content::Fact(_) | Content::Tick => (0, 0, 0),
        };
        if comes {
            self.pictures += pictures;
            self.bytes += bytes;
            self.nanos = self.nanos.saturating_add(nanos);
        } else {
            self.pictures -= pictures;
            self.bytes -= bytes;
            self.nanos = self.nanos.saturating_sub(nanos);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "merge_tests.rs"]
mod tests;

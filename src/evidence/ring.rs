//! The newest encoded units of a stream. Pure: bytes and times in, cuts out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Kind, MediaTime, Track};

use crate::ingest::encoded::{EncodedUnit, Encoding};
use crate::ingest::{Strand, StrandUnit};

/// Sound tracks of a clip: the first ones.
const SOUND_TRACKS: u8 = 2;
/// A track whose newest unit is older than the stream's by this much has ended, or stands still.
const STALLED: Duration = Duration::from_secs(8);
/// A unit so far before the newest of its track is of another clock: the input was opened again.
const ANOTHER_CLOCK: Duration = Duration::from_secs(10);

/// Bounds of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Media kept, besides the rest of the group of pictures that it begins in.
    pub span: Duration,
    /// Coded bytes of all tracks together.
    pub bytes: usize,
}

/// Encoded units of all tracks, the oldest going as new ones come. Pictures always begin with one from which
/// decoding may begin.
pub struct Ring {
    limits: Limits,
    /// What lies after this stays, as far as the bytes allow.
    pin: Option<MediaTime>,
    tracks: BTreeMap<Track, Row>,
    newest: Option<MediaTime>,
    bytes: usize,
}

/// Units of one track, oldest first.
#[derive(Default)]
struct Row {
    units: VecDeque<EncodedUnit>,
    /// Units that left at the front.
    gone: u64,
    /// Where decoding may begin, counted with those that left: a group may hold thousands of units.
    keys: VecDeque<u64>,
}

impl Row {
    fn push(&mut self, unit: EncodedUnit) {
        if unit.key {
            self.keys.push_back(self.gone + self.units.len() as u64);
        }
        self.units.push_back(unit);
    }

    /// Where the second group of pictures begins.
    fn second_group(&self) -> Option<usize> {
        let first = self.gone;
        let next = self.keys.iter().find(|key| **key > first)?;
        usize::try_from(next - first).ok()
    }

    /// Drops the first `n` units; tells their bytes.
    fn drop_front(&mut self, n: usize) -> usize {
        self.gone += n as u64;
        while self.keys.front().is_some_and(|key| *key < self.gone) {
            self.keys.pop_front();
        }
        self.units.drain(..n).map(|unit| unit.bytes.len()).sum()
    }
}

impl Ring {
    /// Holds nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pin: None,
            tracks: BTreeMap::new(),
            newest: None,
            bytes: 0,
        }
    }

    /// Coded bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Newest media time of all tracks.
    pub fn newest(&self) -> Option<MediaTime> {
        self.newest
    }

    /// Keeps what lies after a time, or no longer.
    pub fn pin(&mut self, from: Option<MediaTime>) {
        self.pin = from;
    }

    /// Whether a unit is of another clock than what is held; [`Ring::push`] then forgets everything before it.
    pub fn breaks(&self, unit: &EncodedUnit) -> bool {
        let last = (self.tracks.get(&unit.track)).and_then(|row| row.units.back());
        last.is_some_and(|last| last.media.since(unit.media) > ANOTHER_CLOCK)
    }

    /// Whether there is no room for a unit without dropping the oldest.
    pub fn is_full(&self, unit: &EncodedUnit) -> bool {
        self.bytes.saturating_add(unit.bytes.len()) > self.limits.bytes
    }

    /// Takes a unit; of each track they come in decoding order.
    pub fn push(&mut self, unit: EncodedUnit) {
        if self.breaks(&unit) {
            self.tracks.clear();
            (self.newest, self.bytes) = (None, 0);
        }
        if unit.track.kind == Kind::Audio && unit.track.index >= SOUND_TRACKS {
            return;
        }
        let row = self.tracks.entry(unit.track).or_default();
        if row.units.is_empty() && unit.is_picture() && !unit.key {
            return;
        }
        self.newest = self.newest.max(Some(unit.media));
        self.bytes = self.bytes.saturating_add(unit.bytes.len());
        row.push(unit);
        self.trim();
    }

    fn trim(&mut self) {
        let Some(newest) = self.newest else { return };
        let mut floor = newest.minus(self.limits.span);
        if let Some(pin) = self.pin {
            floor = floor.min(pin);
        }
        // Sound reaches back as far as pictures do.
        let mut sound_floor = floor;
        for (track, row) in &mut self.tracks {
            if track.kind != Kind::Video {
                continue;
            }
            while let Some(next) = row.second_group()
                && row.units.get(next).is_some_and(|unit| unit.media <= floor)
            {
                self.bytes -= row.drop_front(next);
            }
            if let Some(first) = row.units.front() {
                sound_floor = sound_floor.min(first.media);
            }
        }
        for (track, row) in &mut self.tracks {
            if track.kind == Kind::Audio {
                let units = row.units.iter();
                let old = units.take_while(|u| u.media < sound_floor).count();
                self.bytes -= row.drop_front(old);
            }
        }
        while self.bytes > self.limits.bytes && self.drop_oldest() {}
    }

    /// Drops the oldest group of pictures, or unit of sound.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self
            .tracks
            .iter_mut()
            .filter_map(|(track, row)| Some((row.units.front()?.media, track.kind, row)))
            .min_by_key(|(media, ..)| *media);
        let Some((_, kind, row)) = oldest else {
            return false;
        };
        let n = match kind {
            Kind::Video => row.second_group().unwrap_or(row.units.len()),
            Kind::Audio => 1,
        };
        self.bytes -= row.drop_front(n);
        true
    }

    /// Whether nothing more is to come for a clip until `at`: every track that goes on is past it.
    pub fn is_past(&self, at: MediaTime) -> bool {
        let Some(newest) = self.newest else {
            return false;
        };
        let mut last = self.tracks.values().filter_map(|row| row.units.back());
        last.all(|unit| unit.media >= at || newest.since(unit.media) > STALLED && newest >= at)
    }

    /// What is held from the last picture at or before `from` from which decoding may begin, until `until`: the
    /// picture track `pictures` when there is something of it, else the first one, and the first sound tracks. Where
    /// a track's coding changes, only the stretch around `at` is taken.
    pub fn cut(
        &self,
        from: MediaTime,
        at: MediaTime,
        until: MediaTime,
        pictures: Option<Track>,
    ) -> Option<Cut> {
        let shown = |track: &Track| {
            let units = &self.tracks.get(track)?.units;
            let first = units.iter().rposition(|u| u.key && u.media <= from);
            let units = units.iter().skip(first.unwrap_or(0));
            Part::of(*track, units.take_while(|u| decoded(u) <= until), at)
        };
        let pictures = pictures.filter(|track| track.kind == Kind::Video);
        let all = self.tracks.keys().filter(|t| t.kind == Kind::Video);
        let video = pictures.iter().chain(all).find_map(shown);
        let span = video.as_ref().map_or((from, until), Part::span);
        let heard = |(track, row): (&Track, &Row)| {
            let units = row.units.iter();
            let units = units.filter(|u| u.media >= span.0 && u.media <= span.1);
            Part::of(*track, units, at)
        };
        let sound = self.tracks.iter().filter(|(t, _)| t.kind == Kind::Audio);
        let parts: Vec<Part> = video.into_iter().chain(sound.filter_map(heard)).collect();
        let begins = parts.iter().map(|part| part.span().0).min()?;
        let ends = parts.iter().map(|part| part.span().1).max()?;
        Some(Cut {
            parts,
            begins,
            ends,
        })
    }
}

fn decoded(unit: &EncodedUnit) -> MediaTime {
    let nanos = unit.media.nanos();
    MediaTime::from_nanos(nanos.saturating_sub(unit.decode_ahead_nanos.unwrap_or(0)))
}

/// One track of a cut.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which.
    pub track: Track,
    /// How it is coded.
    pub encoding: Arc<Encoding>,
    /// Units in decoding order, at least one.
    units: Vec<EncodedUnit>,
}

impl Part {
    /// The stretch of one encoding around `at`.
    fn of<'a>(
        track: Track,
        units: impl Iterator<Item = &'a EncodedUnit>,
        at: MediaTime,
    ) -> Option<Self> {
        let mut stretch: Vec<EncodedUnit> = Vec::new();
        for unit in units {
            if stretch.first().is_some_and(|f| f.encoding != unit.encoding) {
                if unit.media > at {
                    break;
                }
                stretch.clear();
            }
            if !stretch.is_empty() || unit.key || !unit.is_picture() {
                stretch.push(unit.clone());
            }
        }
        let encoding = Arc::clone(&stretch.first()?.encoding);
        Some(Self {
            track,
            encoding,
            units: stretch,
        })
    }

    /// First and last presentation.
    fn span(&self) -> (MediaTime, MediaTime) {
        let times = || self.units.iter().map(|unit| unit.media);
        let first = times().min().unwrap_or_default();
        (first, times().max().unwrap_or_default())
    }

    /// Units held.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Presentation and decoding times, nanoseconds, rising in decoding order. Where decoding times are missing or
    /// make no sense they follow from the order of presentation.
    fn times(&self) -> Vec<(i64, i64)> {
        let told: Option<Vec<(i64, i64)>> = (self.units.iter())
            .map(|u| Some((u.media.nanos(), u.media.nanos() - u.decode_ahead_nanos?)))
            .collect();
        let sensible = |told: &Vec<(i64, i64)>| {
            told.iter().all(|(pts, dts)| dts <= pts)
                && told.windows(2).all(|w| matches!(w, [a, b] if a.1 < b.1))
        };
        if let Some(told) = told.filter(sensible) {
            return told;
        }
        let shown: Vec<i64> = self.units.iter().map(|unit| unit.media.nanos()).collect();
        let mut sorted = shown.clone();
        sorted.sort_unstable();
        let behind = sorted.iter().zip(&shown).map(|(s, p)| s - p).max();
        let behind = behind.unwrap_or(0);
        let pairs = shown.iter().zip(&sorted);
        pairs.map(|(pts, order)| (*pts, order - behind)).collect()
    }
}

/// Units of a clip, by reference.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Pictures first, if any.
    pub parts: Vec<Part>,
    /// First presentation of all tracks.
    pub begins: MediaTime,
    /// Last presentation of all tracks.
    pub ends: MediaTime,
}

impl Cut {
    /// Coded bytes.
    pub fn bytes(&self) -> usize {
        let units = self.parts.iter().flat_map(|part| &part.units);
        units.map(|unit| unit.bytes.len()).sum()
    }

    /// What a multiplexer takes: times from the beginning of the clip.
    pub fn strands(&self) -> Vec<Strand> {
        let times: Vec<Vec<(i64, i64)>> = self.parts.iter().map(Part::times).collect();
        let base = times.iter().flatten().map(|(_, dts)| *dts).min();
        let base = base.unwrap_or(0);
        let from_base = |nanos: i64| u64::try_from(nanos.saturating_sub(base)).unwrap_or(0);
        let strand = |(part, times): (&Part, &Vec<(i64, i64)>)| Strand {
            encoding: Arc::clone(&part.encoding),
            pictures: part.track.kind == Kind::Video,
            units: (part.units.iter().zip(times))
                .map(|(unit, (pts, dts))| StrandUnit {
                    pts_nanos: from_base(*pts),
                    dts_nanos: from_base(*dts),
                    key: unit.key,
                    bytes: unit.bytes.clone(),
                })
                .collect(),
        };
        self.parts.iter().zip(&times).map(strand).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "ring_tests.rs"]
mod tests;

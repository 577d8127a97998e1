//! The list of sound beside the list of pictures: where both end, whether their timestamps lie where the lists put
//! them, and whether both have their discontinuities at the same place.
//!
//! What a list says of a segment's place is taken from `EXT-X-PROGRAM-DATE-TIME` or a manifest; else from where the
//! segment is listed: timelines (what lies between two discontinuities) begin together in all lists (RFC 8216, 6.2.4).
//! Numbers of segments need not agree (6.3.3), so that they count only where the lists agree in all that they share.

use std::sync::Arc;
use std::time::Duration;

use super::follow::number;
use super::{Media, Segment};

/// Timestamps of MPEG-2 count modulo this many seconds.
pub const STAMPS_WRAP_SECS: f64 = (1_u64 << 33) as f64 / 90_000.0;

/// Sound is cut elsewhere than pictures: what lies no further apart than this is one place.
const SAME_PLACE_SECS: f64 = 0.5;
/// Rounding of what is written in milliseconds.
const MILLIS_SECS: f64 = 0.001;
/// A lone date in whole seconds may have been cut to them.
const WHOLE_SECS: f64 = 1.0;
/// Neighbours by which it is told how evenly dates follow each other.
const NEIGHBOURS: usize = 8;
/// Dates further off than so many segments are not believed, because durations are rounded.
const CARRIED: usize = 64;
/// Segments at the end of two lists that are compared one by one.
const COMPARED: u64 = 256;
/// Timelines of which an anchor is kept.
const TIMELINES: usize = 4;
/// Durations of segments that agree lie within this share of a target duration.
const AGREE_SHARE: f64 = 0.1;

/// The beginning of a segment that has been read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anchor {
    /// Media sequence number.
    pub sequence: u64,
    /// First timestamp in order of presentation, seconds; of MPEG-2, modulo [`STAMPS_WRAP_SECS`]. In DASH, on the wall
    /// clock: where the manifest has it presented.
    pub start_secs: f64,
    /// Which timeline it is of: its discontinuity sequence number, or when its period begins.
    timeline: i64,
    /// A timeline begins with it.
    begins: bool,
    /// Where the list puts it on the wall clock, and by how much that may be wrong, seconds.
    clock: Option<(f64, f64)>,
}

impl Anchor {
    /// Of a segment whose first timestamp is this; `None` when it is not listed any more.
    pub fn of(media: &Media, sequence: u64, stamp_secs: f64) -> Option<Self> {
        let index = usize::try_from(sequence.checked_sub(media.sequence)?).ok()?;
        let segment = media.segments.get(index)?;
        let (start_secs, timeline, begins) = match segment.manifested {
            Some(own) => (secs(own.zero) + stamp_secs, own.period, own.first),
            None => (
                stamp_secs,
                i64::try_from(number(media, sequence)).unwrap_or(i64::MAX),
                segment.discontinuity || (media.ended && index == 0),
            ),
        };
        Some(Self {
            sequence,
            start_secs,
            timeline,
            begins,
            clock: clock(media, index),
        })
    }
}

/// A list, and what has been read of it.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// The list.
    pub media: Arc<Media>,
    /// Where a manifest says that it ends, seconds of the wall clock; `None` in HLS.
    pub manifest_end_secs: Option<f64>,
    /// The newest segment that was read of each of the newest timelines, oldest first.
    anchors: Vec<Anchor>,
    /// The newest one with which a timeline begins.
    begin: Option<Anchor>,
}

/// What two lists say of each other; each is `None` where it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Beside {
    /// How much earlier sound lies, against the pictures, by the timestamps of its segments than by the lists; 0 when
    /// that is within what the lists may be wrong by.
    pub audio_early_secs: Option<f64>,
    /// How far apart they put a discontinuity (in DASH, the beginning of a period), seconds.
    pub discontinuity_apart_secs: Option<f64>,
}

/// A segment on a line that two lists share.
#[derive(Debug, Clone, Copy)]
struct Place {
    from: f64,
    to: f64,
    timeline: u64,
}

impl Listed {
    /// The same list as it is now.
    pub fn renew(&mut self, media: Arc<Media>, manifest_end_secs: Option<f64>) {
        (self.media, self.manifest_end_secs) = (media, manifest_end_secs);
    }

    /// The numbers of segments began anew.
    pub fn restart(&mut self) {
        self.anchors.clear();
        self.begin = None;
    }

    /// A segment has been read.
    pub fn read(&mut self, anchor: Anchor) {
        self.anchors
            .retain(|other| other.timeline != anchor.timeline);
        if self.anchors.len() >= TIMELINES {
            self.anchors.remove(0);
        }
        self.anchors.push(anchor);
        if anchor.begins {
            self.begin = Some(anchor);
        }
    }

    fn newest(&self) -> Option<Anchor> {
        self.anchors.last().copied()
    }

    /// The newest timeline that is listed.
    pub fn newest_timeline(&self) -> i64 {
        let number = number(&self.media, self.media.end());
        i64::try_from(number).unwrap_or(i64::MAX)
    }

    /// Compares the list of sound with that of the pictures. What begins timelines up to `distrusted` is not compared:
    /// their beginnings were found apart.
    pub fn beside(&self, pictures: &Self, distrusted: Option<i64>) -> Beside {
        let early = self.early(pictures, distrusted);
        Beside {
            audio_early_secs: early,
            discontinuity_apart_secs: self.apart(pictures, early),
        }
    }

    fn apart(&self, pictures: &Self, early: Option<f64>) -> Option<f64> {
        let moved = early.is_some_and(|early| early.abs() > SAME_PLACE_SECS);
        // What is complete was compared before both had been read.
        let read = |listed: &Self| listed.media.ended && !listed.anchors.is_empty();
        let known = read(self) && read(pictures);
        match self.manifest_end_secs {
            _ if known => None,
            Some(_) => self.periods_apart(pictures),
            // Lists whose places contradict their timestamps tell no places.
            None if moved => None,
            None => self.discontinuities_apart(pictures),
        }
    }

    fn early(&self, pictures: &Self, distrusted: Option<i64>) -> Option<f64> {
        let by_clock = self.early_by_clock(pictures);
        let by_beginning = self.early_by_beginning(pictures, distrusted);
        let (early, within) = match (by_clock, by_beginning) {
            // Where both say the same, the beginning says it to the tick.
            (Some((vague, within)), Some((exact, _))) => {
                let same = (exact - vague).abs() <= within;
                (if same { exact } else { vague }, within)
            }
            (Some(told), None) | (None, Some(told)) => told,
            (None, None) => self.early_by_number(pictures)?,
        };
        Some(if early.abs() > within { early } else { 0.0 })
    }

    /// By where both lists put what was read last.
    fn early_by_clock(&self, pictures: &Self) -> Option<(f64, f64)> {
        let (own, beside) = (self.newest()?, pictures.newest()?);
        let ((at, within), (beside_at, beside_within)) = (own.clock?, beside.clock?);
        let early = (beside.start_secs - beside_at) - (own.start_secs - at);
        (own.timeline == beside.timeline).then_some((centred(early), within + beside_within))
    }

    /// By the beginning of a timeline that both have read.
    fn early_by_beginning(&self, pictures: &Self, distrusted: Option<i64>) -> Option<(f64, f64)> {
        let (own, beside) = (self.begin?, pictures.begin?);
        let same = own.timeline == beside.timeline && Some(own.timeline) > distrusted;
        // The first segments of what was live once need not be the same.
        let first = |listed: &Self, anchor: Anchor| anchor.sequence == listed.media.sequence;
        let cut = first(self, own) && self.media.sequence != pictures.media.sequence;
        let early = centred(beside.start_secs - own.start_secs);
        (same && !cut).then_some((early, MILLIS_SECS))
    }

    /// By the number of what was read last, to a target duration.
    fn early_by_number(&self, pictures: &Self) -> Option<(f64, f64)> {
        let (own, beside) = (self.newest()?, pictures.newest()?);
        if own.timeline != beside.timeline || !self.in_step(pictures) {
            return None;
        }
        let listed = |from: u64, to: u64| -> f64 {
            let segments = (from..to).filter_map(|n| pictures.media.segment(n));
            segments.map(|s| s.duration.as_secs_f64()).sum()
        };
        let between = listed(beside.sequence, own.sequence) - listed(own.sequence, beside.sequence);
        let early = centred(beside.start_secs + between - own.start_secs);
        Some((early, self.media.target.as_secs_f64()))
    }

    /// Whether both list the same numbers, but for what came between two loads, and the same durations by them.
    fn in_step(&self, pictures: &Self) -> bool {
        let (own, beside) = (&self.media, &pictures.media);
        let to = own.end().min(beside.end());
        let from = own.sequence.max(beside.sequence);
        let from = from.max(to.saturating_sub(COMPARED));
        let near =
            own.sequence.abs_diff(beside.sequence) <= 1 && own.end().abs_diff(beside.end()) <= 1;
        let slack = own.target.mul_f64(AGREE_SHARE);
        let agrees = |n| {
            let lasts = |media: &Media| media.segment(n).map(|s| s.duration);
            lasts(own)
                .zip(lasts(beside))
                .is_some_and(|(a, b)| a.abs_diff(b) <= slack)
        };
        near && own.target == beside.target && from + 1 < to && (from..to).all(agrees)
    }

    /// How far apart the lists have what begins a timeline.
    fn discontinuities_apart(&self, pictures: &Self) -> Option<f64> {
        let by = |places: fn(&Self) -> Vec<Place>| {
            let (own, beside) = (places(self), places(pictures));
            (!own.is_empty() && !beside.is_empty()).then(|| apart(&own, &beside))
        };
        if let Some(Some(apart)) = by(Self::places_by_clock) {
            return Some(apart);
        }
        if self.is_whole_like(pictures) {
            return by(Self::places_by_order).flatten();
        }
        // Both go on from what was read of one timeline.
        let index = |media: &Media, anchor: &Anchor| {
            let index = usize::try_from(anchor.sequence.checked_sub(media.sequence)?).ok()?;
            (index < media.segments.len()).then_some(index)
        };
        self.anchors.iter().find_map(|own| {
            let mut anchors = pictures.anchors.iter();
            let beside = anchors.find(|beside| beside.timeline == own.timeline)?;
            let lead = centred(own.start_secs - beside.start_secs);
            let own = self.places(index(&self.media, own)?, lead);
            let beside = pictures.places(index(&pictures.media, beside)?, 0.0);
            apart(&own, &beside)
        })
    }

    /// Whether both are complete and begin with the same segment.
    fn is_whole_like(&self, other: &Self) -> bool {
        let (own, other) = (&self.media, &other.media);
        own.ended && other.ended && own.sequence == other.sequence
    }

    fn places_by_order(&self) -> Vec<Place> {
        self.places(0, 0.0)
    }

    /// Places one after the other, of the segments from this one on.
    fn places(&self, from: usize, mut at: f64) -> Vec<Place> {
        let media = &self.media;
        let mut timeline = number(media, media.sequence.saturating_add(from as u64));
        let mut places = Vec::new();
        for (n, segment) in media.segments.iter().enumerate().skip(from) {
            timeline += u64::from(segment.discontinuity && n > from);
            let end = at + segment.duration.as_secs_f64();
            places.push(Place {
                from: at,
                to: end,
                timeline,
            });
            at = end;
        }
        places
    }

    fn places_by_clock(&self) -> Vec<Place> {
        let media = &self.media;
        let mut timeline = media.discontinuity_sequence;
        let mut at = None;
        let mut places = Vec::new();
        for segment in &media.segments {
            timeline += u64::from(segment.discontinuity);
            let date = segment.program_date_time_unix_ms.map(|ms| ms as f64 / 1e3);
            at = date.or(at.filter(|_| !segment.discontinuity));
            let Some(from) = at else { continue };
            let to = from + segment.duration.as_secs_f64();
            places.push(Place { from, to, timeline });
            at = Some(to);
        }
        places
    }

    /// How far apart the first segments of a period are.
    fn periods_apart(&self, pictures: &Self) -> Option<f64> {
        let firsts = |listed: &Self| {
            let slots = listed.media.segments.iter().filter_map(|s| s.manifested);
            let firsts = slots.filter(|slot| slot.first);
            firsts
                .map(|slot| (slot.period, slot.begins.max(slot.period)))
                .collect::<Vec<_>>()
        };
        let (own, beside) = (firsts(self), firsts(pictures));
        let pairs = own.iter().filter_map(|(period, begins)| {
            let other = beside.iter().find(|(other, _)| other == period)?;
            Some(begins.abs_diff(other.1) as f64 / 1e9)
        });
        pairs.reduce(f64::max)
    }

    /// How far this list ends behind the main one, at least, seconds; negative = ahead. `since`: how long the main list
    /// had been loaded when this one was: it may have grown since, so that much ahead is none. Where the clocks
    /// contradict each other, the lists lie no further apart than by the better of them.
    pub fn behind(&self, main: &Self, since: Duration) -> Option<f64> {
        let by_stamps = || {
            let (own, main) = (self.end_by_stamps()?, main.end_by_stamps()?);
            Some(centred(main - own))
        };
        let by_clock = || Some(main.end_by_clock()? - self.end_by_clock()?);
        let by_number = || {
            let ahead = main.media.end() as f64 - self.media.end() as f64;
            self.in_step(main)
                .then(|| ahead * self.media.target.as_secs_f64())
        };
        let by_order = || {
            let lasts = |media: &Media| media.segments.iter().map(|s| s.duration).sum::<Duration>();
            let behind = lasts(&main.media).as_secs_f64() - lasts(&self.media).as_secs_f64();
            self.is_whole_like(main).then_some(behind)
        };
        let all = match self.manifest_end_secs {
            Some(_) => [by_clock(), None, None, None],
            None => [by_clock(), by_stamps(), by_number(), by_order()],
        };
        // Numbers and order only soften what a clock says.
        let told = all[0].or(all[1])?;
        let least = all.into_iter().flatten().fold(told, |least, behind| {
            if behind.abs() < least.abs() {
                behind
            } else {
                least
            }
        });
        Some(match least < 0.0 {
            true => (least + since.as_secs_f64()).min(0.0),
            false => least,
        })
    }

    fn end_by_clock(&self) -> Option<f64> {
        if let Some(end) = self.manifest_end_secs {
            return Some(end);
        }
        let mut after = Duration::ZERO;
        for segment in self.media.segments.iter().rev() {
            after += segment.duration;
            if let Some(millis) = segment.program_date_time_unix_ms {
                return Some(millis as f64 / 1e3 + after.as_secs_f64());
            }
            if segment.discontinuity {
                return None;
            }
        }
        None
    }

    /// `None` where a discontinuity lies between what was read and the end.
    fn end_by_stamps(&self) -> Option<f64> {
        let (media, anchor) = (&self.media, self.newest()?);
        let from = usize::try_from(anchor.sequence.checked_sub(media.sequence)?).ok()?;
        let rest = media.segments.get(from..).filter(|rest| !rest.is_empty())?;
        if rest.iter().skip(1).any(|segment| segment.discontinuity) {
            return None;
        }
        let rest: Duration = rest.iter().map(|segment| segment.duration).sum();
        Some(anchor.start_secs + rest.as_secs_f64())
    }
}

fn secs(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// The difference of two timestamps that may have wrapped.
fn centred(secs: f64) -> f64 {
    secs - (secs / STAMPS_WRAP_SECS).round() * STAMPS_WRAP_SECS
}

/// Where a list puts a segment on the wall clock, and by how much that may be wrong, seconds.
fn clock(media: &Media, index: usize) -> Option<(f64, f64)> {
    let segment = media.segments.get(index)?;
    if let Some(own) = segment.manifested {
        let half = segment.duration.as_secs_f64() / 2.0;
        return Some((
            secs(own.begins),
            if own.nominal { half } else { MILLIS_SECS },
        ));
    }
    let dated = |n: usize| media.segments.get(n)?.program_date_time_unix_ms;
    let (mut after, mut rounding) = (0.0, 0.0);
    for n in (index.saturating_sub(CARRIED)..=index).rev() {
        if n < index {
            let lasts = media.segments.get(n)?.duration;
            after += lasts.as_secs_f64();
            rounding += rounded_by(lasts);
        }
        if let Some(millis) = dated(n) {
            let uneven = uneven(&media.segments, n, millis);
            return Some((millis as f64 / 1e3 + after, MILLIS_SECS + rounding + uneven));
        }
        if media.segments.get(n)?.discontinuity {
            return None;
        }
    }
    None
}

/// By how much a written duration may be wrong, seconds.
fn rounded_by(duration: Duration) -> f64 {
    match duration.subsec_nanos() {
        0 => 0.5,
        nanos if nanos.is_multiple_of(1_000_000) => 0.000_5,
        _ => 1e-6,
    }
}

/// How far off the durations between them the dates around this one are, seconds.
fn uneven(segments: &[Segment], at: usize, millis: i64) -> f64 {
    let around = at.saturating_sub(NEIGHBOURS)..(at + NEIGHBOURS).min(segments.len());
    let around = segments.get(around).unwrap_or_default();
    let errors = around.windows(2).filter_map(|two| {
        let [a, b] = two else { return None };
        let between = b.program_date_time_unix_ms? - a.program_date_time_unix_ms?;
        let error = between as f64 / 1e3 - a.duration.as_secs_f64();
        (!b.discontinuity).then_some(error.abs())
    });
    let lone = if millis % 1_000 == 0 { WHOLE_SECS } else { 0.0 };
    errors.reduce(f64::max).unwrap_or(lone)
}

/// The longest stretch that one list has in another timeline than the other, seconds; 0 when that may be a matter of
/// where sound is cut, `None` when no stretch is in both.
fn apart(own: &[Place], beside: &[Place]) -> Option<f64> {
    let (mut a, mut b) = (own.iter().peekable(), beside.iter().peekable());
    let (mut longest, mut differs, mut shared) = (0.0_f64, 0.0, 0.0);
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        let common = one.to.min(other.to) - one.from.max(other.from);
        if common > 0.0 {
            shared += common;
            differs = match one.timeline == other.timeline {
                true => 0.0,
                false => differs + common,
            };
            longest = longest.max(differs);
        }
        if one.to <= other.to {
            a.next();
        } else {
            b.next();
        }
    }
    (shared > 0.0).then_some(if longest > SAME_PLACE_SECS {
        longest
    } else {
        0.0
    })
}

#[cfg(test)]
#[path = "beside_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

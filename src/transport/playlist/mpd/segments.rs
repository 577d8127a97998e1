//! Where the segments of a representation are, and when they become available.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::super::{ENTRIES_MAX, Encryption, Init, Manifested, Segment};
use super::{Addressing, ByteRange, Period, Representation, Segments, Timing, UnixNanos};
use crate::transport::boxes;

/// Widest number that a template may ask for.
const WIDTH_MAX: usize = 32;
/// Longest URL that is made.
const URI_MAX: usize = 8 << 10;

/// Why a well-formed manifest cannot be played. The origin is at fault; another load may mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unplayable {
    /// No representation of pictures or sound, or none that the rule names.
    #[error("the manifest has no such rendition")]
    NoRendition,
    /// Only containers that are not read here.
    #[error("the manifest offers no container that is read here")]
    Container,
    /// No segment is named.
    #[error("the manifest names no segments")]
    NoSegments,
    /// No segment is available yet.
    #[error("the manifest's media is not available yet")]
    NotYet,
    /// Nothing tells how many segments there are.
    #[error("the manifest tells no length")]
    NoLength,
    /// A template with identifiers that are not known.
    #[error("a segment template cannot be filled in")]
    Template,
    /// A URL that makes no URL.
    #[error("the manifest names a URL that cannot be read")]
    BadUrl,
    /// More segments than [`ENTRIES_MAX`].
    #[error("more than {ENTRIES_MAX} segments")]
    TooLong,
}

/// A segment and the moment when it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    pub start: UnixNanos,
    pub segment: Segment,
}

/// Segments of one length in a row, in ticks.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    time: u64,
    duration: u64,
    count: u64,
    number: u64,
    /// Of each segment.
    parts: u64,
}

/// A representation in its period: which segments there are by now.
pub(super) struct Layout<'a> {
    representation: &'a Representation,
    /// Where the period begins.
    origin: UnixNanos,
    clock: Option<UnixNanos>,
    stretches: Vec<Stretch>,
    index: Option<&'a Index>,
    /// Until the next segment becomes available as time passes.
    pub next_in: Option<Duration>,
}

pub(super) fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// Ticks in a span, rounded down.
fn ticks(span: Duration, timescale: u64) -> u64 {
    let ticks = span.as_nanos().saturating_mul(u128::from(timescale)) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn span(ticks: u64, timescale: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(timescale);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl<'a> Layout<'a> {
    /// `origin`: when the period begins. `clock`: the time, of a live presentation.
    pub fn new(
        period: &Period,
        representation: &'a Representation,
        origin: UnixNanos,
        clock: Option<UnixNanos>,
        index: Option<&'a Index>,
    ) -> Result<Self, Unplayable> {
        let addressing = &representation.addressing;
        // What may be asked for early is there early.
        let clock = clock.map(|clock| clock.saturating_add(nanos(addressing.early)));
        let since = clock.map(|clock| {
            let nanos = u64::try_from(clock.saturating_sub(origin)).unwrap_or(0);
            ticks(Duration::from_nanos(nanos), addressing.timescale)
        });
        let length = period
            .duration
            .map(|length| ticks(length, addressing.timescale));
        let mut layout = Self {
            representation,
            origin,
            clock,
            stretches: Vec::new(),
            index: index.filter(|index| !index.parts.is_empty()),
            next_in: None,
        };
        match (&addressing.media, &addressing.timing) {
            (Segments::Whole { .. }, _) => layout.whole(length),
            (_, Timing::Every(duration)) => layout.every(*duration, length, since)?,
            (_, Timing::Timeline(runs)) => layout.timeline(runs, length, since)?,
            (Segments::List(list), Timing::Untold) if !list.is_empty() => {
                // One segment that lasts as long as the period, or parts of it of unknown length.
                let count = list.len() as u64;
                layout.stretches.push(Stretch {
                    time: addressing.offset,
                    duration: (length.unwrap_or(0) / count).max(1),
                    count,
                    number: addressing.start_number,
                    parts: 1,
                });
            }
            (Segments::Template(_), Timing::Untold) if length.is_some() => {
                layout.every(length.unwrap_or(1).max(1), length, since)?;
            }
            (_, Timing::Untold) => return Err(Unplayable::NoLength),
        }
        layout.cap();
        if clock.is_none() && layout.count() > ENTRIES_MAX as u64 {
            return Err(Unplayable::TooLong);
        }
        Ok(layout)
    }

    fn addressing(&self) -> &'a Addressing {
        &self.representation.addressing
    }

    /// How long before their end segments may be asked for.
    pub fn early(&self) -> Duration {
        self.addressing().early
    }

    /// Where a segment that begins then is put.
    pub fn manifested(&self, start: UnixNanos, first: bool) -> Manifested {
        let timing = &self.addressing().timing;
        Manifested {
            begins: start,
            zero: self.at(0),
            period: self.origin,
            first,
            nominal: self.index.is_none() && !matches!(timing, Timing::Timeline(_)),
        }
    }

    /// Number of segments.
    pub fn count(&self) -> u64 {
        self.stretches
            .iter()
            .fold(0, |all, stretch| all.saturating_add(stretch.count))
    }

    /// When the last segment ends.
    pub fn end(&self) -> Option<UnixNanos> {
        let last = self.stretches.iter().rfind(|s| s.count > 0)?;
        let ticks = last
            .time
            .saturating_add(last.duration.saturating_mul(last.count));
        Some(self.at(ticks))
    }

    /// The wall clock at this media time.
    fn at(&self, ticks: u64) -> UnixNanos {
        let addressing = self.addressing();
        let relative = i128::from(ticks) - i128::from(addressing.offset);
        let nanos = relative * 1_000_000_000 / i128::from(addressing.timescale);
        i64::try_from(i128::from(self.origin) + nanos).unwrap_or(i64::MAX)
    }

    fn whole(&mut self, length: Option<u64>) {
        let scale = self.addressing().timescale;
        self.stretches.push(Stretch {
            time: self.addressing().offset,
            duration: length.unwrap_or(scale).max(1),
            count: 1,
            number: 0,
            parts: 1,
        });
    }

    fn every(
        &mut self,
        duration: u64,
        length: Option<u64>,
        since: Option<u64>,
    ) -> Result<(), Unplayable> {
        let addressing = self.addressing();
        let named = match (&addressing.media, addressing.end_number) {
            (Segments::List(list), _) => Some(list.len() as u64),
            (_, Some(end)) => Some(
                end.saturating_add(1)
                    .saturating_sub(addressing.start_number),
            ),
            _ => None,
        };
        let all = match (length.map(|length| length.div_ceil(duration)), named) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let count = self.repeated(addressing.offset, duration, all, since)?;
        self.stretches.push(Stretch {
            time: addressing.offset,
            duration,
            count,
            number: addressing.start_number,
            parts: 1,
        });
        Ok(())
    }

    /// How many segments in a row there are from `time` on: `all` in the end, and only those that have ended by now.
    fn repeated(
        &mut self,
        time: u64,
        duration: u64,
        all: Option<u64>,
        since: Option<u64>,
    ) -> Result<u64, Unplayable> {
        let count = match (all, since.map(|since| since / duration)) {
            (Some(all), Some(by_now)) => all.min(by_now),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Err(Unplayable::NoLength),
        };
        if let Some(clock) = self.clock.filter(|_| since.is_some())
            && all.is_none_or(|all| all > count)
        {
            let next = count.saturating_add(1).saturating_mul(duration);
            let wait = self.at(time.saturating_add(next)).saturating_sub(clock);
            self.next_in = Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(0)));
        }
        Ok(count)
    }

    fn timeline(
        &mut self,
        runs: &[super::Run],
        length: Option<u64>,
        since: Option<u64>,
    ) -> Result<(), Unplayable> {
        let addressing = self.addressing();
        let limit = length.map(|length| length.saturating_add(addressing.offset));
        let now = since.map(|since| since.saturating_add(addressing.offset));
        let (mut next, mut number) = (0_u64, addressing.start_number);
        for (at, run) in runs.iter().enumerate() {
            let time = run.time.unwrap_or(next);
            let mut count = match run.repeat {
                Some(more) => more.saturating_add(1),
                None => {
                    let following = runs.get(at + 1).and_then(|run| run.time);
                    let until = following.or(limit).map(|until| until.saturating_sub(time));
                    let since = now.filter(|_| following.is_none());
                    self.repeated(
                        time,
                        run.duration,
                        until.map(|until| until.div_ceil(run.duration)),
                        since.map(|now| now.saturating_sub(time)),
                    )?
                }
            };
            // Nothing begins at or after the end of the period.
            if let Some(limit) = limit {
                count = count.min(limit.saturating_sub(time).div_ceil(run.duration));
            }
            // Time that goes back is no order of segments.
            if time.saturating_add(run.duration) > next && count > 0 {
                self.stretches.push(Stretch {
                    time,
                    duration: run.duration,
                    count,
                    number,
                    parts: self.parts(run.parts).min(run.duration),
                });
                next = time.saturating_add(run.duration.saturating_mul(count));
            }
            number = number.saturating_add(count);
        }
        Ok(())
    }

    /// Parts of a segment are read one by one where the template names them.
    fn parts(&self, told: u64) -> u64 {
        match &self.addressing().media {
            Segments::Template(template) if template.contains("$SubNumber") => told,
            _ => 1,
        }
    }

    /// Cuts off what a list or `endNumber` does not name.
    fn cap(&mut self) {
        let addressing = self.addressing();
        let end = match (&addressing.media, addressing.end_number) {
            (Segments::List(list), _) => addressing.start_number.saturating_add(list.len() as u64),
            (Segments::Template(_), Some(end)) => end.saturating_add(1),
            _ => return,
        };
        for stretch in &mut self.stretches {
            stretch.count = stretch.count.min(end.saturating_sub(stretch.number));
        }
    }

    /// The segments that end after `from`, the last `most` of them; tells whether the first is the period's first.
    pub fn slots(&self, from: UnixNanos, most: u64) -> Result<(bool, Vec<Slot>), Unplayable> {
        if let Some(index) = self.index {
            return self.indexed(index).map(|slots| (true, slots));
        }
        let init = self.init()?;
        let mut spare = self.count().saturating_sub(most);
        let mut first = true;
        let mut slots = Vec::new();
        for stretch in &self.stretches {
            let (begin, scale) = (self.at(stretch.time), self.addressing().timescale);
            let behind = u64::try_from(from.saturating_sub(begin)).unwrap_or(0);
            let over = ticks(Duration::from_nanos(behind), scale) / stretch.duration.max(1);
            let skip = over.max(spare).min(stretch.count);
            spare = spare.saturating_sub(stretch.count);
            first &= skip == 0 || !slots.is_empty();
            for n in skip..stretch.count {
                let time = stretch
                    .time
                    .saturating_add(n.saturating_mul(stretch.duration));
                let number = stretch.number.saturating_add(n);
                let length = stretch.duration / stretch.parts;
                for part in 0..stretch.parts {
                    let place = Place {
                        number,
                        time,
                        part: part + 1,
                    };
                    slots.push(Slot {
                        start: self.at(time.saturating_add(length.saturating_mul(part))),
                        segment: Segment {
                            duration: span(length, scale),
                            init: init.clone(),
                            ..self.segment(place)?
                        },
                    });
                }
                if slots.len() > ENTRIES_MAX {
                    return Err(Unplayable::TooLong);
                }
            }
        }
        Ok((first, slots))
    }

    fn segment(&self, place: Place) -> Result<Segment, Unplayable> {
        let (own, addressing) = (self.representation, self.addressing());
        let (uri, range) = match &addressing.media {
            Segments::Template(template) => (fill(template, own, Some(place))?, None),
            Segments::List(list) => {
                let at = usize::try_from(place.number.saturating_sub(addressing.start_number));
                let entry = at.ok().and_then(|at| list.get(at));
                let entry = entry.ok_or(Unplayable::NoSegments)?;
                (entry.uri.clone(), entry.range)
            }
            Segments::Whole { .. } => (String::new(), None),
        };
        Ok(Segment {
            uri: join(&own.base, &uri)?,
            range,
            encryption: encryption(own),
            ..Segment::default()
        })
    }

    fn init(&self) -> Result<Option<Arc<Init>>, Unplayable> {
        let own = self.representation;
        let Some(init) = &own.addressing.init else {
            return Ok(None);
        };
        let uri = match &own.addressing.media {
            Segments::Template(_) => fill(&init.uri, own, None)?,
            Segments::List(_) => init.uri.clone(),
            // The whole resource brings it.
            Segments::Whole { .. } => return Ok(None),
        };
        Ok(Some(Arc::new(Init {
            uri: join(&own.base, &uri)?,
            range: init.range,
            encryption: Encryption::None,
        })))
    }

    fn indexed(&self, index: &Index) -> Result<Vec<Slot>, Unplayable> {
        let own = self.representation;
        let told = own.addressing.init.as_ref();
        let uri = join(&own.base, "")?;
        let init = Arc::new(Init {
            uri: match told {
                Some(init) => join(&own.base, &init.uri)?,
                None => uri.clone(),
            },
            range: match told {
                Some(init) => init.range,
                None => Some(ByteRange {
                    start: 0,
                    len: index.place.start.max(1),
                }),
            },
            encryption: Encryption::None,
        });
        let mut start = self.origin;
        let slots = index.parts.iter().map(|(range, duration)| {
            let begins = start;
            start = start.saturating_add(nanos(*duration));
            Slot {
                start: begins,
                segment: Segment {
                    uri: uri.clone(),
                    range: Some(*range),
                    duration: *duration,
                    init: Some(Arc::clone(&init)),
                    encryption: encryption(own),
                    ..Segment::default()
                },
            }
        });
        Ok(slots.collect())
    }
}

fn encryption(representation: &Representation) -> Encryption {
    let mp4 = representation.mime.ends_with("/mp4") || representation.mime.is_empty();
    match (representation.encrypted, mp4) {
        (true, true) => Encryption::Told {
            licence: representation.licence.clone(),
        },
        // Nothing is agreed on for other containers.
        (true, false) => Encryption::NoKey,
        (false, _) => Encryption::None,
    }
}

fn join(base: &Url, uri: &str) -> Result<String, Unplayable> {
    let url = base.join(uri).map_err(|_| Unplayable::BadUrl)?;
    Ok(url.into())
}

/// What a template may name of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub number: u64,
    /// Ticks.
    pub time: u64,
    /// Counted from 1.
    pub part: u64,
}

/// Fills a template in (5.3.9.4.4). `place`: of a segment.
pub(super) fn fill(
    template: &str,
    representation: &Representation,
    place: Option<Place>,
) -> Result<String, Unplayable> {
    let mut out = String::with_capacity(template.len() + 16);
    for (at, part) in template.split('$').enumerate() {
        if at % 2 == 0 {
            out.push_str(part);
            continue;
        }
        let (name, width) = match part.split_once('%') {
            Some((name, format)) => (name, width(format).ok_or(Unplayable::Template)?),
            None => (part, 1),
        };
        let number = match (name, place) {
            ("", _) if part.is_empty() => {
                out.push('$');
                continue;
            }
            ("RepresentationID", _) => {
                out.push_str(&representation.id);
                continue;
            }
            ("Bandwidth", _) => representation.bandwidth,
            ("Number", Some(place)) => place.number,
            ("Time", Some(place)) => place.time,
            ("SubNumber", Some(place)) => place.part,
            _ => return Err(Unplayable::Template),
        };
        write!(out, "{number:0width$}").map_err(|_| Unplayable::Template)?;
    }
    // Identifiers stand between two signs.
    let whole = template.matches('$').count().is_multiple_of(2);
    match whole && out.len() <= URI_MAX {
        true => Ok(out),
        false => Err(Unplayable::Template),
    }
}

/// The width in `0Nd`.
fn width(format: &str) -> Option<usize> {
    let digits = format.strip_prefix('0')?.strip_suffix('d')?;
    let width = digits.parse().ok()?;
    (1..=WIDTH_MAX).contains(&width).then_some(width)
}

/// A segment index, as far as it is of use here (ISO/IEC 14496-12, 8.16.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    place: ByteRange,
    parts: Vec<(ByteRange, Duration)>,
}

impl Index {
    /// Reads what lies at this place of the resource. Without a use (another format, an index of indexes) it is
    /// empty, and the resource is read as one segment.
    pub fn read(bytes: &[u8], place: ByteRange) -> Self {
        let parts = parts(bytes, place).unwrap_or_default();
        Self { place, parts }
    }
}

fn parts(bytes: &[u8], place: ByteRange) -> Option<Vec<(ByteRange, Duration)>> {
    let u32_at = |at: usize| boxes::u32_at(bytes, at);
    let (size, timescale) = (u32_at(0)?, u64::from(u32_at(16)?.max(1)));
    if bytes.get(4..8)? != b"sidx" {
        return None;
    }
    let (first_offset, mut at) = match bytes.get(8)? {
        0 => (u64::from(u32_at(24)?), 28),
        _ => ((u64::from(u32_at(28)?) << 32) | u64::from(u32_at(32)?), 36),
    };
    let count = u32_at(at)? & 0xffff;
    at += 4;
    let mut start = place
        .start
        .checked_add(u64::from(size))?
        .checked_add(first_offset)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let (reference, duration) = (u32_at(at)?, u32_at(at + 4)?);
        if reference >> 31 == 1 {
            return None;
        }
        let len = u64::from(reference);
        parts.push((
            ByteRange { start, len },
            span(u64::from(duration), timescale),
        ));
        start = start.checked_add(len)?;
        at += 12;
    }
    parts.retain(|(range, _)| range.len > 0);
    Some(parts)
}

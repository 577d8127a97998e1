//! Break markers of media playlists: `EXT-X-CUE-OUT`, `EXT-X-CUE-OUT-CONT`, `EXT-X-CUE-IN`, `EXT-OATCLS-SCTE35`, and
//! `EXT-X-DATERANGE` with SCTE-35 (RFC 8216, 4.3.2.7.1) or of Apple's class for interstitials.
//!
//! A live playlist repeats its markers with every load, and packagers write several for one event: [`Breaks`] tells
//! each event once, when the reader comes to it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use detectors::base::{BreakEdge, BreakMark, BreakSource};

use super::Media;
use super::attributes::{get, pairs};
use crate::transport::scte35::{self, SpliceMark};

/// Most markers read from one playlist, and date ranges remembered.
const TAGS_MAX: usize = 1_000;
/// Longest SCTE-35 payload, characters.
const PAYLOAD_MAX: usize = 16 << 10;
/// Longest length of a break that is believed, seconds.
const PLANNED_MAX: f64 = 86_400.0;

/// Class of date ranges that announce interstitials.
const INTERSTITIAL: &str = "com.apple.hls.interstitial";

/// A break marker as written.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakTag {
    /// Segments of its playlist that stand before it.
    pub before: usize,
    /// Which end.
    pub edge: BreakEdge,
    /// It only says that a break is still going on.
    pub goes_on: bool,
    /// Announced length, from here on.
    pub planned: Option<Duration>,
    /// Identifier of the event, when it is a number.
    pub event_id: Option<u32>,
    /// Of a date range: its identity, and when it takes effect, Unix milliseconds.
    pub dated: Option<(u64, i64)>,
}

pub(super) fn is_break(tag: &str) -> bool {
    matches!(
        tag,
        "EXT-X-CUE-OUT"
            | "EXT-X-CUE-OUT-CONT"
            | "EXT-X-CUE-IN"
            | "EXT-OATCLS-SCTE35"
            | "EXT-X-DATERANGE"
    )
}

/// Reads a tag for which [`is_break`] holds.
pub(super) fn read(tag: &str, value: &str, before: usize, into: &mut Vec<BreakTag>) {
    if into.len() >= TAGS_MAX {
        return;
    }
    let plain = |edge, planned| BreakTag {
        before,
        edge,
        goes_on: false,
        planned,
        event_id: None,
        dated: None,
    };
    match tag {
        "EXT-X-CUE-OUT" => into.push(plain(
            BreakEdge::Start,
            seconds(value).or(attribute(value, "DURATION")),
        )),
        "EXT-X-CUE-IN" => into.push(plain(BreakEdge::End, None)),
        "EXT-X-CUE-OUT-CONT" => {
            // `elapsed/all`, or attributes, whose payload may hold a slash too.
            let (elapsed, all) = match value.split_once('/') {
                Some((elapsed, all)) if !value.contains('=') => (seconds(elapsed), seconds(all)),
                _ => (
                    attribute(value, "ElapsedTime"),
                    attribute(value, "Duration"),
                ),
            };
            let left = all.map(|all| all.saturating_sub(elapsed.unwrap_or_default()));
            into.push(BreakTag {
                goes_on: true,
                ..plain(BreakEdge::Start, left)
            });
        }
        "EXT-OATCLS-SCTE35" => {
            let section = (value.len() <= PAYLOAD_MAX).then(|| STANDARD.decode(value.trim()));
            for mark in splices(section.and_then(Result::ok)).into_iter().take(2) {
                into.push(BreakTag {
                    event_id: mark.event_id,
                    ..plain(mark.edge, mark.planned)
                });
            }
        }
        _ => date_range(value, before, into),
    }
}

fn date_range(list: &str, before: usize, into: &mut Vec<BreakTag>) {
    let date = |name| {
        let stamp = get(list, name)?.parse::<jiff::Timestamp>().ok()?;
        Some(stamp.as_millisecond())
    };
    let (Some(id), Some(start)) = (get(list, "ID"), date("START-DATE")) else {
        return;
    };
    let end = date("END-DATE").filter(|end| *end >= start);
    let told = attribute(list, "DURATION")
        .or_else(|| Some(Duration::from_millis(end?.abs_diff(start))))
        .or_else(|| attribute(list, "PLANNED-DURATION"));
    let event_id = id.parse().ok();
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let identity = hasher.finish();
    let mut push = |edge, planned: Option<Duration>, event_id, at| {
        into.push(BreakTag {
            before,
            edge,
            goes_on: false,
            planned,
            event_id,
            dated: Some((identity, at)),
        });
    };
    let ends = start
        .saturating_add(i64::try_from(told.unwrap_or_default().as_millis()).unwrap_or(i64::MAX));
    if let Some(section) = get(list, "SCTE35-OUT") {
        let mark = splices(hex(section)).into_iter().next();
        let planned = told.or(mark.as_ref().and_then(|mark| mark.planned));
        let event_id = mark.and_then(|mark| mark.event_id).or(event_id);
        push(BreakEdge::Start, planned, event_id, start);
    }
    if let Some(section) = get(list, "SCTE35-IN") {
        let mark = splices(hex(section)).into_iter().next();
        let event_id = mark.and_then(|mark| mark.event_id).or(event_id);
        push(BreakEdge::End, None, event_id, ends);
    }
    if let Some(section) = get(list, "SCTE35-CMD") {
        for mark in splices(hex(section)).into_iter().take(2) {
            let planned = match mark.edge {
                BreakEdge::Start => told.or(mark.planned),
                BreakEdge::End => None,
            };
            push(mark.edge, planned, mark.event_id.or(event_id), start);
        }
    }
    if get(list, "CLASS") == Some(INTERSTITIAL) {
        let planned = attribute(list, "X-PLAYOUT-LIMIT").or(told);
        push(BreakEdge::Start, planned, event_id, start);
    }
}

fn splices(section: Option<Vec<u8>>) -> Vec<SpliceMark> {
    // A marker that cannot be read is none.
    section
        .and_then(|section| scte35::parse(&section).ok())
        .unwrap_or_default()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"))?;
    if digits.len() > PAYLOAD_MAX || !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn seconds(text: &str) -> Option<Duration> {
    let secs: f64 = text.trim().parse().ok()?;
    (0.0..=PLANNED_MAX)
        .contains(&secs)
        .then(|| Duration::from_secs_f64(secs))
}

/// An attribute in seconds; packagers do not agree on upper and lower case.
fn attribute(list: &str, name: &str) -> Option<Duration> {
    let (_, value) = pairs(list).find(|(own, _)| own.eq_ignore_ascii_case(name))?;
    seconds(value)
}

/// Tells each break of one playlist once.
#[derive(Debug, Default)]
pub struct Breaks {
    epoch: u64,
    /// The next segment to come to; `None` until the first.
    next: Option<u64>,
    /// Date ranges that were dealt with.
    dated: VecDeque<(u64, BreakEdge)>,
    /// The newest end that was told, and before which segment.
    newest: Option<(BreakEdge, u64)>,
}

/// A marker on its way out.
struct Due {
    place: u64,
    /// Media between its place and the segment at hand.
    passed: Duration,
    edge: BreakEdge,
    goes_on: bool,
    planned: Option<Duration>,
    event_id: Option<u32>,
}

impl Breaks {
    /// The marks that take effect with this segment, which is about to be read. Those of the past are left out when
    /// this is the first segment of all, but for a break that is still going on.
    pub fn passing(&mut self, epoch: u64, media: &Media, sequence: u64) -> Vec<BreakMark> {
        let same = std::mem::replace(&mut self.epoch, epoch) == epoch;
        let from = self
            .next
            .replace(sequence.saturating_add(1))
            .filter(|_| same);
        let mut due = self.due(from, media, sequence);
        due.sort_by_key(|due| due.place);
        if from.is_none() {
            let last = due.pop();
            due.clear();
            due.extend(last.filter(|last| last.edge == BreakEdge::Start));
        } else {
            due.retain(|due| !due.goes_on);
        }
        let mut marks: Vec<BreakMark> = Vec::new();
        for due in due {
            let planned = due.planned.map(|all| all.saturating_sub(due.passed));
            if due.edge == BreakEdge::Start && planned == Some(Duration::ZERO) {
                continue;
            }
            // Several tags for one event.
            let again = self
                .newest
                .is_some_and(|(edge, place)| edge == due.edge && place.abs_diff(due.place) <= 1);
            if again {
                if let Some(told) = marks.last_mut() {
                    told.planned = told.planned.or(planned);
                    told.event_id = told.event_id.or(due.event_id);
                }
                continue;
            }
            self.newest = Some((due.edge, due.place));
            marks.push(BreakMark {
                edge: due.edge,
                source: BreakSource::HlsTag,
                at: None,
                planned,
                event_id: due.event_id,
            });
        }
        marks
    }

    fn due(&mut self, from: Option<u64>, media: &Media, sequence: u64) -> Vec<Due> {
        let mut due = Vec::new();
        let dates = match media.breaks.iter().any(|tag| tag.dated.is_some()) {
            true => dates(media),
            false => Vec::new(),
        };
        for tag in &media.breaks {
            let written = media.sequence.saturating_add(tag.before as u64);
            let (place, early) = match tag.dated {
                None => (written, Duration::ZERO),
                Some((_, at)) => match place(media, &dates, at) {
                    Placed::Before(index, early) => {
                        (media.sequence.saturating_add(index as u64), early)
                    }
                    Placed::Later => continue,
                    Placed::Unknown => (written, Duration::ZERO),
                },
            };
            if place > sequence {
                continue;
            }
            match tag.dated {
                None if from.is_some_and(|from| place < from) => continue,
                None => {}
                Some((identity, _)) => {
                    let key = (identity, tag.edge);
                    if self.dated.contains(&key) {
                        continue;
                    }
                    if self.dated.len() >= TAGS_MAX {
                        self.dated.pop_front();
                    }
                    self.dated.push_back(key);
                }
            }
            // Nobody knows whether one of long ago still goes on.
            if tag.planned.is_none() && !early.is_zero() {
                continue;
            }
            due.push(Due {
                place,
                passed: early.saturating_add(between(media, place, sequence)),
                edge: tag.edge,
                goes_on: tag.goes_on,
                planned: tag.planned,
                event_id: tag.event_id,
            });
        }
        due
    }
}

/// Length of the segments from one up to another.
fn between(media: &Media, from: u64, to: u64) -> Duration {
    let index = |n: u64| usize::try_from(n.saturating_sub(media.sequence)).unwrap_or(usize::MAX);
    let segments = media.segments.iter().take(index(to)).skip(index(from));
    segments.map(|segment| segment.duration).sum()
}

/// When each segment begins, Unix milliseconds, as far as it is told.
fn dates(media: &Media) -> Vec<Option<i64>> {
    let mut next: Option<i64> = None;
    let mut all = Vec::with_capacity(media.segments.len());
    for segment in &media.segments {
        let carried = next.filter(|_| !segment.discontinuity);
        let date = segment.program_date_time_unix_ms.or(carried);
        all.push(date);
        let millis = i64::try_from(segment.duration.as_millis()).unwrap_or(i64::MAX);
        next = date.map(|date| date.saturating_add(millis));
    }
    all
}

enum Placed {
    /// Before the segment with this index, and so long before the list begins.
    Before(usize, Duration),
    /// Behind the end of the list.
    Later,
    /// The list tells no dates.
    Unknown,
}

/// The boundary between segments that is nearest to a date.
fn place(media: &Media, dates: &[Option<i64>], at: i64) -> Placed {
    let mut known = false;
    for (index, (segment, date)) in media.segments.iter().zip(dates).enumerate() {
        let Some(date) = *date else {
            continue;
        };
        let millis = i64::try_from(segment.duration.as_millis()).unwrap_or(i64::MAX);
        if at < date.saturating_add(millis / 2) {
            let early = match known {
                true => 0,
                false => date.saturating_sub(at).max(0),
            };
            return Placed::Before(index, Duration::from_millis(early.unsigned_abs()));
        }
        if at < date.saturating_add(millis) {
            return Placed::Before(index + 1, Duration::ZERO);
        }
        known = true;
    }
    match known {
        true => Placed::Later,
        false => Placed::Unknown,
    }
}

#[cfg(test)]
#[path = "breaks_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

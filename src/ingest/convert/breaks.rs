//! Break markers that come with media: events of a DASH manifest, and `emsg` boxes in segments (ISO/IEC 23009-1,
//! 5.10.3.3).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Buf;
use detectors::base::{BreakMark, BreakSource, Fact, MediaTime};

use super::Core;
use crate::transport::playlist::mpd::{is_splice_scheme, splices};
use crate::transport::scte35::SpliceMark;

/// Marks that are remembered, and that wait for their media.
pub(super) const MARKS_MAX: usize = 64;
/// Marks of one event id that are closer than this are one: events are repeated, and told in several places.
const SAME_NANOS: u64 = 10_000_000_000;

/// The marks told last.
#[derive(Default)]
pub(super) struct Told(VecDeque<BreakMark>);

impl Told {
    /// Whether the mark is new; it is then remembered.
    fn is_news(&mut self, mark: &BreakMark) -> bool {
        let near = |a: Option<MediaTime>, b: Option<MediaTime>| match (a, b) {
            (Some(a), Some(b)) => a.nanos().abs_diff(b.nanos()) < SAME_NANOS,
            _ => true,
        };
        let same = |own: &BreakMark| {
            (own.edge, own.event_id) == (mark.edge, mark.event_id) && near(own.at, mark.at)
        };
        if self.0.iter().any(same) {
            return false;
        }
        if self.0.len() >= MARKS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(mark.clone());
        true
    }
}

impl Core {
    /// Tells a mark, once.
    pub(super) fn tell_break(&mut self, mark: BreakMark) {
        if self.told_breaks.is_news(&mark) {
            self.hub.fact(None, mark.at, Fact::Break(mark));
        }
    }
}

/// The mark that is told of a splice.
pub(in crate::ingest) fn break_mark(splice: &SpliceMark, at: Option<MediaTime>) -> BreakMark {
    BreakMark {
        edge: splice.edge,
        source: BreakSource::DashEvent,
        at,
        planned: splice.planned,
        event_id: splice.event_id,
    }
}

/// When an event takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// Nanoseconds after the first media of its segment.
    After(i64),
    /// On the clock of its track, nanoseconds.
    At(i64),
}

/// An `emsg` box that marks ends of breaks.
#[derive(Debug, PartialEq)]
pub(super) struct InBand {
    time: Time,
    splices: Vec<SpliceMark>,
}

impl InBand {
    /// Reads the content of an `emsg` box; `None` for another scheme and for what is no such box.
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        let (version, mut rest) = (*content.first()?, content.get(4..)?);
        let mut head = [0_u64; 4];
        let (scheme, message) = match version {
            0 => {
                let scheme = text(&mut rest)?;
                text(&mut rest)?;
                numbers(&mut rest, &mut head, [4; 4])?;
                (scheme, rest)
            }
            1 => {
                numbers(&mut rest, &mut head, [4, 8, 4, 4])?;
                let scheme = text(&mut rest)?;
                text(&mut rest)?;
                (scheme, rest)
            }
            _ => return None,
        };
        let [timescale, time, lasts, _id] = head;
        let scheme = std::str::from_utf8(scheme).ok()?;
        if timescale == 0 || !is_splice_scheme(scheme) {
            return None;
        }
        let nanos = |ticks: u64| {
            let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(timescale);
            i64::try_from(nanos).unwrap_or(i64::MAX)
        };
        // All bits set: not known.
        let lasts = (lasts != u64::from(u32::MAX))
            .then(|| Duration::from_nanos(nanos(lasts).unsigned_abs()));
        let splices = splices(message, lasts);
        let time = match version {
            0 => Time::After(nanos(time)),
            _ => Time::At(nanos(time)),
        };
        (!splices.is_empty()).then_some(Self { time, splices })
    }

    /// The marks, in a fragment that begins at `media`, which is `nanos` on the clock of its track.
    pub(super) fn marks(&self, media: MediaTime, nanos: i64) -> impl Iterator<Item = BreakMark> {
        let after = match self.time {
            Time::After(after) => after,
            Time::At(at) => at.saturating_sub(nanos),
        };
        let at = MediaTime::from_nanos(media.nanos().saturating_add(after));
        self.splices
            .iter()
            .map(move |one| break_mark(one, Some(at)))
    }
}

/// A text with its end mark.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (text, behind) = rest.split_at_checked(end)?;
    *rest = behind.get(1..)?;
    Some(text)
}

fn numbers(rest: &mut &[u8], into: &mut [u64; 4], sizes: [usize; 4]) -> Option<()> {
    for (number, size) in into.iter_mut().zip(sizes) {
        let (head, behind) = rest.split_at_checked(size)?;
        let mut head = head;
        *number = head.get_uint(size);
        *rest = behind;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use detectors::base::BreakEdge;

    use super::*;

    const OUT: &[u8] =
        b"<SpliceInfoSection><SpliceInsert spliceEventId='5' outOfNetworkIndicator='1'/>\
        </SpliceInfoSection>";
    const SCHEME: &[u8] = b"urn:scte:scte35:2013:xml\0";

    fn emsg(version: u8, time: u64, lasts: u32) -> Vec<u8> {
        let head = |time: &[u8]| {
            let (scale, lasts, id) = (90_000_u32.to_be_bytes(), lasts.to_be_bytes(), [0; 4]);
            [&scale[..], time, &lasts, &id].concat()
        };
        let begin = [version, 0, 0, 0];
        match version {
            0 => {
                let time = (time as u32).to_be_bytes();
                [&begin, SCHEME, b"1\0", &head(&time)[..], OUT].concat()
            }
            _ => [&begin, &head(&time.to_be_bytes())[..], SCHEME, b"\0", OUT].concat(),
        }
    }

    #[test]
    fn events_in_segments_lie_on_the_media_clock() {
        let media = MediaTime::from_nanos(7_000_000_000);
        for (event, at) in [
            (emsg(0, 90_000, u32::MAX), 8_000_000_000),
            (emsg(1, 90_000 * 99, 2_700_000), 6_000_000_000),
        ] {
            let read = InBand::read(&event).unwrap();
            let marks: Vec<_> = read.marks(media, 100_000_000_000).collect();
            let planned = (event[0] == 1).then_some(Duration::from_secs(30));
            assert_eq!(
                marks,
                [BreakMark {
                    edge: BreakEdge::Start,
                    source: BreakSource::DashEvent,
                    at: Some(MediaTime::from_nanos(at)),
                    planned,
                    event_id: Some(5),
                }]
            );
        }
    }

    #[test]
    fn every_cut_and_every_other_box_is_nothing() {
        for version in [0, 1] {
            let whole = emsg(version, 1, 1);
            for end in 0..whole.len() {
                assert_eq!(InBand::read(&whole[..end]), None, "{version} cut at {end}");
            }
            let mut other = whole.clone();
            let at = other.windows(3).position(|w| w == b"urn").unwrap();
            other[at] = b'x';
            assert_eq!(InBand::read(&other), None);
        }
        assert_eq!(InBand::read(&emsg(2, 1, 1)), None);
    }

    #[test]
    fn a_mark_is_news_once() {
        let mut told = Told::default();
        let mark = |at: i64, event_id| BreakMark {
            edge: BreakEdge::Start,
            source: BreakSource::DashEvent,
            at: Some(MediaTime::from_nanos(at)),
            planned: None,
            event_id,
        };
        assert!(told.is_news(&mark(0, Some(1))));
        assert!(!told.is_news(&mark(9_000_000_000, Some(1))));
        assert!(told.is_news(&mark(20_000_000_000, Some(1))));
        assert!(told.is_news(&mark(0, Some(2))));
        let end = BreakMark {
            edge: BreakEdge::End,
            ..mark(0, Some(1))
        };
        assert!(told.is_news(&end));
        for n in 0..200 {
            assert!(told.is_news(&mark(n * 20_000_000_000, Some(3))));
        }
        assert_eq!(told.0.len(), MARKS_MAX);
    }
}

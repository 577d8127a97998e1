//! Following a media playlist over its reloads: what changed, when to load it again, which segment is next.
//!
//! Time is passed in, as the time since any fixed moment.

use std::sync::Arc;
use std::time::Duration;

use super::reload::Server;
use super::{ByteRange, Hint, Media, Part, Segment};

pub use super::reload::{Ask, Refusal, held};

/// Never reload more often than this.
pub const RELOAD_MIN: Duration = Duration::from_millis(500);

/// A live playlist is stalled when it has been the same for this many target durations.
pub const STALLED_AFTER_TARGETS: f64 = 1.5;

/// Live playback begins this many target durations before the end (RFC 8216, 6.3.3).
const LIVE_EDGE_TARGETS: u32 = 3;

/// What a load of the playlist brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something new.
    Changed,
    /// Nothing new, or an older copy from another cache.
    Same,
    /// The sequence numbers began anew: it is another timeline now.
    Restarted,
}

/// The state of one media playlist.
#[derive(Debug, Default)]
pub struct Window {
    current: Option<Arc<Media>>,
    epoch: u64,
    changed_at: Duration,
    loaded_at: Duration,
    last_was_news: bool,
    server: Server,
}

impl Window {
    /// Takes a freshly loaded playlist. `now`: when its load began.
    pub fn load(&mut self, media: Media, now: Duration) -> News {
        self.answered(Ask::default(), media, now, now)
    }

    /// Takes the answer to a load that began then. `now`: when it came, if it was to wait at the server, else when the
    /// load began.
    pub fn answered(&mut self, ask: Ask, media: Media, began: Duration, now: Duration) -> News {
        let news = match &self.current {
            None => News::Changed,
            Some(old) => compare(old, &media),
        };
        self.server.answered(ask, &media, news, began, now);
        self.loaded_at = now;
        self.last_was_news = news != News::Same;
        if self.last_was_news {
            self.changed_at = now;
            self.current = Some(Arc::new(media));
        }
        if news == News::Restarted {
            self.epoch += 1;
        }
        news
    }

    /// The newest playlist, and how often the sequence began anew before it.
    pub fn current(&self) -> Option<(u64, Arc<Media>)> {
        self.current.clone().map(|media| (self.epoch, media))
    }

    /// Puts back what a delta update left out. `None`: it must be loaded whole.
    pub fn completed(&self, media: Media) -> Option<Media> {
        media.completed(self.current.as_deref())
    }

    /// A load that asked for more than the playlist brought nothing.
    pub fn refused(&mut self, why: Refusal) {
        self.server.refused(why);
    }

    /// A plain load brought nothing.
    pub fn failed(&mut self) {
        self.server.failed();
    }

    /// What to ask for in a load that begins now.
    pub fn ask(&self, now: Duration) -> Ask {
        let age = now.saturating_sub(self.loaded_at);
        (self.current.as_deref()).map_or(Ask::default(), |media| self.server.ask(media, age))
    }

    /// When to load again (RFC 8216, 6.3.4): a target duration (of parts, where there are any) after a load that
    /// brought something new, half of it after one that did not; at once where the request waits at the server.
    /// `None` once the playlist is complete.
    pub fn reload_at(&self) -> Option<Duration> {
        let media = self.current.as_ref()?;
        let next = (self.server).next(media, self.loaded_at, self.last_was_news);
        (!media.ended).then_some(next)
    }

    /// How long the playlist has brought nothing new.
    pub fn unchanged(&self, now: Duration) -> Duration {
        now.saturating_sub(self.changed_at)
    }

    /// Whether a live playlist has brought nothing new for too long.
    pub fn stalled(&self, now: Duration) -> bool {
        self.current.as_ref().is_some_and(|media| {
            let patience = media.target.mul_f64(STALLED_AFTER_TARGETS);
            !media.ended && now.saturating_sub(self.changed_at) > patience
        })
    }
}

fn compare(old: &Media, new: &Media) -> News {
    let uri = |media: &Media, sequence| media.segment(sequence).map(|s| path(&s.uri).to_owned());
    if new.end() == old.end() && new.sequence == old.sequence {
        let last = new.end().wrapping_sub(1);
        let same = uri(old, last) == uri(new, last) && old.ended == new.ended;
        return match same && !has_new_parts(old, new) {
            true => News::Same,
            false => News::Changed,
        };
    }
    if new.sequence >= old.sequence && new.end() >= old.end() {
        return News::Changed;
    }
    // Something went back. An older copy names the same segments by the same numbers; a restart does not.
    let shared = new.sequence.max(old.sequence)..new.end().min(old.end());
    let agrees = !shared.is_empty() && shared.into_iter().all(|n| uri(old, n) == uri(new, n));
    match agrees {
        true if new.end() > old.end() => News::Changed,
        true if new.ended && !old.ended => News::Changed,
        true => News::Same,
        false => News::Restarted,
    }
}

/// Whether the segment that is being made has grown. An older copy has fewer parts of it.
fn has_new_parts(old: &Media, new: &Media) -> bool {
    let last = |media: &Media| Some(PartId::of(media.low_latency.open.as_ref()?.parts.last()?));
    let (before, now) = (old.low_latency.open_parts(), new.low_latency.open_parts());
    now > before || (now == before && last(old) != last(new))
}

/// A URI without its query, which may hold a changing token.
pub(super) fn path(uri: &str) -> &str {
    uri.split(['?', '#']).next().unwrap_or(uri)
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// Read this segment, or what its parts have not brought yet.
    Read {
        /// Its media sequence number.
        sequence: u64,
        /// The segment.
        segment: &'a Segment,
        /// A discontinuity lies between it and what was read before.
        discontinuity: bool,
        /// Segments that left the playlist unread just before it.
        missed: u64,
    },
    /// Read this part of a segment.
    Part {
        /// The segment's media sequence number.
        sequence: u64,
        /// The segment; it may have no URI yet.
        segment: &'a Segment,
        /// Index of the part.
        index: usize,
        /// The part.
        part: &'a Part,
        /// A discontinuity lies between it and what was read before.
        discontinuity: bool,
        /// Segments that left the playlist unread just before it.
        missed: u64,
    },
    /// All parts of this segment have been dealt with, and it has no more.
    Close {
        /// Its media sequence number.
        sequence: u64,
    },
    /// Nothing now.
    Wait,
    /// All has been read and nothing will come.
    Ended,
}

/// A reader's place in a media playlist.
#[derive(Debug, Default)]
pub struct Cursor {
    place: Option<Place>,
    pending_discontinuity: bool,
    /// Parts are not read.
    whole_segments: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    epoch: u64,
    next: u64,
    discontinuity_number: u64,
    within: Within,
}

/// A place inside the next segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Within {
    /// Index of the next part.
    next: usize,
    /// The part before it.
    before: Option<PartId>,
    /// A part of the segment has been dealt with.
    begun: bool,
    /// The rest is read from the whole segment.
    whole: bool,
}

/// What makes a part the same one in a later playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PartId(String, Option<ByteRange>);

impl PartId {
    fn of(part: &Part) -> Self {
        Self(path(&part.uri).to_owned(), part.range)
    }
}

impl Within {
    /// Just before the part with this index.
    fn at(segment: &Segment, index: usize) -> Self {
        let before = index.checked_sub(1).and_then(|n| segment.parts.get(n));
        Self {
            next: index,
            before: before.map(PartId::of),
            ..Self::default()
        }
    }

    /// Index of the next part as the segment is listed now; `None` when the parts before it are listed no more.
    fn index(&self, segment: &Segment) -> Option<usize> {
        let Some(before) = &self.before else {
            return Some(self.next);
        };
        let is_before = |part: &Part| PartId::of(part) == *before;
        let usual = self.next.checked_sub(1)?;
        if segment.parts.get(usual).is_some_and(is_before) {
            return Some(self.next);
        }
        segment.parts.iter().position(is_before).map(|n| n + 1)
    }
}

impl Cursor {
    /// The next step. The same until it is told how that one went, or the playlist moves on.
    pub fn step<'a>(&mut self, epoch: u64, media: &'a Media) -> Step<'a> {
        let place = match self.place.clone() {
            Some(place) if place.epoch == epoch => place,
            before => {
                self.pending_discontinuity |= before.is_some();
                let (next, within) = start(media);
                let place = Place {
                    epoch,
                    next,
                    discontinuity_number: number(media, next),
                    within,
                };
                self.place = Some(place.clone());
                place
            }
        };
        let missed = media.sequence.saturating_sub(place.next);
        let sequence = place.next.max(media.sequence);
        let within = match missed {
            0 => place.within,
            _ => Within::default(),
        };
        let idle = match media.ended {
            true => Step::Ended,
            false => Step::Wait,
        };
        let Some(segment) = any_segment(media, sequence) else {
            return idle;
        };
        let discontinuity = self.pending_discontinuity
            || (segment.discontinuity && !within.begun)
            || (missed > 0 && number(media, sequence) > place.discontinuity_number);
        let by_parts = !self.whole_segments && !within.whole;
        let index = within.index(segment).filter(|_| by_parts);
        let part = index.and_then(|index| Some((index, segment.parts.get(index)?)));
        let is_whole = sequence < media.end();
        match (is_whole, part) {
            // One request in place of many, where nothing of it has been read.
            (true, _) if within.next == 0 => {}
            (true, None) if index == Some(segment.parts.len()) => return Step::Close { sequence },
            (true, None) => {}
            (false, None) => return idle,
            (_, Some((index, part))) => {
                return Step::Part {
                    sequence,
                    segment,
                    index,
                    part,
                    discontinuity,
                    missed,
                };
            }
        }
        Step::Read {
            sequence,
            segment,
            discontinuity,
            missed,
        }
    }

    /// The segment with this number is dealt with: read, or (with `Passed::Unread`) given up.
    pub fn done(&mut self, media: &Media, sequence: u64, passed: Passed) {
        self.pass(media, sequence, passed);
        if let Some(place) = &mut self.place {
            place.next = sequence.saturating_add(1);
            place.within = Within::default();
        }
    }

    /// The part with this index is dealt with.
    pub fn part_done(&mut self, media: &Media, sequence: u64, index: usize, passed: Passed) {
        self.pass(media, sequence, passed);
        if let (Some(place), Some(segment)) = (&mut self.place, any_segment(media, sequence)) {
            place.next = sequence;
            place.within = Within {
                begun: true,
                ..Within::at(segment, index.saturating_add(1))
            };
        }
    }

    /// The rest of the segment with this number is to be read from the whole.
    pub fn leave_parts(&mut self, sequence: u64) {
        if let Some(place) = &mut self.place {
            if place.next != sequence {
                place.within = Within::default();
            }
            place.next = sequence;
            place.within.whole = true;
        }
    }

    /// Parts are of no use here: only whole segments from now on.
    pub fn only_whole_segments(&mut self) {
        self.whole_segments = true;
    }

    /// What is said of the part that is waited for.
    pub fn hint<'a>(&self, epoch: u64, media: &'a Media) -> Option<&'a Hint> {
        let hint = media.low_latency.part_hint.as_ref()?;
        let place = self.place.as_ref().filter(|place| place.epoch == epoch)?;
        let next = match &media.low_latency.open {
            Some(open) => place.within.index(open)?,
            None => place.within.next,
        };
        let is_next = place.next == media.end() && next == media.low_latency.open_parts();
        let by_parts = !self.whole_segments && !place.within.whole && !media.ended;
        Some(hint).filter(|_| is_next && by_parts)
    }

    fn pass(&mut self, media: &Media, sequence: u64, passed: Passed) {
        let Some(place) = &mut self.place else {
            return;
        };
        let begun = place.next == sequence && place.within.begun;
        let marked = !begun && any_segment(media, sequence).is_some_and(|s| s.discontinuity);
        self.pending_discontinuity = match passed {
            Passed::Read => false,
            Passed::Unread => self.pending_discontinuity || marked,
        };
        if !media.ended {
            place.discontinuity_number = number(media, sequence);
        }
    }
}

/// A segment, or the one that is being made.
fn any_segment(media: &Media, sequence: u64) -> Option<&Segment> {
    let open = media.low_latency.open.as_deref();
    media
        .segment(sequence)
        .or(open.filter(|_| sequence == media.end()))
}

/// How a segment was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Handed on, whole or in part.
    Read,
    /// Nothing of it was handed on.
    Unread,
}

/// Discontinuity sequence number of a segment, as its playlist counts.
pub(super) fn number(media: &Media, sequence: u64) -> u64 {
    let before = usize::try_from(sequence.saturating_sub(media.sequence)).unwrap_or(usize::MAX);
    let marks = media
        .segments
        .iter()
        .chain(media.low_latency.open.as_deref())
        .take(before.saturating_add(1))
        .filter(|segment| segment.discontinuity)
        .count();
    media.discontinuity_sequence.saturating_add(marks as u64)
}

/// Where to begin: at the first segment of all when complete, else at the live edge.
fn start(media: &Media) -> (u64, Within) {
    if media.ended {
        return (media.sequence, Within::default());
    }
    if let Some(place) = start_part(media) {
        return place;
    }
    let hold = media.hold_back.unwrap_or(media.target * LIVE_EDGE_TARGETS);
    let mut from_end = Duration::ZERO;
    let mut sequence = media.end();
    for segment in media.segments.iter().rev() {
        from_end += segment.duration;
        // Always at least one segment; then only while it lies within the hold-back.
        if from_end > hold && sequence != media.end() {
            break;
        }
        sequence -= 1;
    }
    (sequence, Within::default())
}

/// The first part within the part hold-back that decoding may begin with; the newest such part when none is so near.
fn start_part(media: &Media) -> Option<(u64, Within)> {
    let hold = media.low_latency.part_hold_back()?;
    let open = media.low_latency.open.as_deref();
    let segments = (media.sequence..).zip(media.segments.iter().chain(open));
    let newest_first = segments.collect::<Vec<_>>().into_iter().rev();
    let mut from_end = Duration::ZERO;
    let mut found = None;
    for (sequence, segment) in newest_first.take_while(|(_, s)| !s.parts.is_empty()) {
        for (index, part) in segment.parts.iter().enumerate().rev() {
            from_end += part.duration;
            if from_end > hold && found.is_some() {
                return found;
            }
            if (part.independent || index == 0) && !part.gap {
                found = Some((sequence, Within::at(segment, index)));
            }
        }
    }
    found
}

#[cfg(test)]
mod parts_tests;

#[cfg(test)]
mod tests {
    use super::*;

    const SECS: fn(u64) -> Duration = Duration::from_secs;

    fn live(sequence: u64, names: &[&str]) -> Media {
        Media {
            target: SECS(4),
            sequence,
            segments: names
                .iter()
                .map(|name| Segment {
                    uri: (*name).to_owned(),
                    duration: SECS(4),
                    ..Segment::default()
                })
                .collect(),
            ..Media::default()
        }
    }

    fn read(cursor: &mut Cursor, epoch: u64, media: &Media) -> Vec<(u64, bool, u64)> {
        let mut out = Vec::new();
        while let Step::Read {
            sequence,
            discontinuity,
            missed,
            ..
        } = cursor.step(epoch, media)
        {
            out.push((sequence, discontinuity, missed));
            cursor.done(media, sequence, Passed::Read);
        }
        out
    }

    #[test]
    fn reloads_after_a_target_duration_or_half() {
        let mut window = Window::default();
        assert_eq!(window.load(live(0, &["a", "b"]), SECS(10)), News::Changed);
        assert_eq!(window.reload_at(), Some(SECS(14)));
        assert_eq!(window.load(live(0, &["a", "b"]), SECS(14)), News::Same);
        assert_eq!(window.reload_at(), Some(SECS(16)));
        assert!(!window.stalled(SECS(16)));
        assert!(window.stalled(Duration::from_millis(16_001)));
        assert_eq!(window.load(live(1, &["b", "c"]), SECS(17)), News::Changed);
        assert!(!window.stalled(SECS(18)));
        let mut ended = live(1, &["b", "c"]);
        ended.ended = true;
        assert_eq!(window.load(ended, SECS(21)), News::Changed);
        assert_eq!(window.reload_at(), None);
        assert!(!window.stalled(SECS(1_000)));
    }

    #[test]
    fn an_older_copy_is_no_news_and_a_restart_is() {
        let mut window = Window::default();
        window.load(live(10, &["a", "b", "c?t=1"]), SECS(0));
        assert_eq!(window.load(live(9, &["z", "a", "b"]), SECS(1)), News::Same);
        assert_eq!(
            window.load(live(10, &["a", "b", "c?t=2"]), SECS(2)),
            News::Same
        );
        assert_eq!(window.load(live(0, &["x", "y"]), SECS(3)), News::Restarted);
        assert_eq!(window.current().map(|(epoch, _)| epoch), Some(1));
        assert_eq!(
            window.load(live(0, &["x", "y", "w"]), SECS(4)),
            News::Changed
        );
        // Restarted so fast that the numbers have overtaken the old ones.
        window.load(live(5, &["p", "q"]), SECS(5));
        let fresh = live(0, &["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(window.load(fresh, SECS(6)), News::Restarted);
    }

    #[test]
    fn starts_three_targets_from_the_live_edge_and_at_the_start_of_a_complete_list() {
        let names = ["a", "b", "c", "d", "e"];
        let mut media = live(100, &names);
        assert_eq!(start(&media).0, 102);
        for segment in &mut media.segments {
            segment.duration = Duration::from_millis(4_001);
        }
        assert_eq!(start(&media).0, 103);
        media
            .segments
            .iter_mut()
            .for_each(|s| s.duration = SECS(99));
        assert_eq!(start(&media).0, 104);
        media.ended = true;
        assert_eq!(start(&media).0, 100);
        assert_eq!(start(&live(7, &[])).0, 7);
    }

    #[test]
    fn reads_in_order_and_counts_what_was_missed() {
        let mut cursor = Cursor::default();
        let first = live(0, &["a", "b", "c"]);
        assert_eq!(
            read(&mut cursor, 0, &first),
            [(0, false, 0), (1, false, 0), (2, false, 0)]
        );
        assert_eq!(cursor.step(0, &first), Step::Wait);
        assert_eq!(
            read(&mut cursor, 0, &live(6, &["g", "h"])),
            [(6, false, 3), (7, false, 0)]
        );
        let mut last = live(7, &["h", "i"]);
        last.ended = true;
        assert_eq!(read(&mut cursor, 0, &last), [(8, false, 0)]);
        assert_eq!(cursor.step(0, &last), Step::Ended);
    }

    #[test]
    fn a_restart_goes_to_the_live_edge_with_a_discontinuity() {
        let mut cursor = Cursor::default();
        read(&mut cursor, 0, &live(50, &["a", "b"]));
        let restarted = live(0, &["q", "r", "s", "t"]);
        assert_eq!(
            read(&mut cursor, 1, &restarted),
            [(1, true, 0), (2, false, 0), (3, false, 0)]
        );
    }

    #[test]
    fn discontinuities_of_unread_segments_are_not_lost() {
        let mut media = live(0, &["a", "b", "c"]);
        media.segments[1].discontinuity = true;
        let mut cursor = Cursor::default();
        cursor.step(0, &media);
        cursor.done(&media, 0, Passed::Read);
        cursor.done(&media, 1, Passed::Unread);
        assert_eq!(read(&mut cursor, 0, &media), [(2, true, 0)]);
        // One that left the playlist unseen shows in the discontinuity sequence.
        let mut later = live(9, &["j", "k"]);
        later.discontinuity_sequence = 2;
        assert_eq!(read(&mut cursor, 0, &later), [(9, true, 6), (10, false, 0)]);
    }
}

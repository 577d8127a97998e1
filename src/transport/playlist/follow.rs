//! Following a media playlist over its reloads: what changed, when to load it again, which segment is next.
//!
//! Time is passed in, as the time since any fixed moment.

use std::sync::Arc;
use std::time::Duration;

use super::{Media, Segment};

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
}

impl Window {
    /// Takes a freshly loaded playlist. `now`: when its load began.
    pub fn load(&mut self, media: Media, now: Duration) -> News {
        let news = match &self.current {
            None => News::Changed,
            Some(old) => compare(old, &media),
        };
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

    /// When to load again (RFC 8216, 6.3.4): a target duration after a load that brought something new, half of it
    /// after one that did not. `None` once the playlist is complete.
    pub fn reload_at(&self) -> Option<Duration> {
        let media = self.current.as_ref()?;
        let wait = match self.last_was_news {
            true => media.target,
            false => media.target / 2,
        };
        (!media.ended).then(|| self.loaded_at + wait.max(RELOAD_MIN))
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
        return match uri(old, last) == uri(new, last) && old.ended == new.ended {
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

/// A URI without its query, which may hold a changing token.
fn path(uri: &str) -> &str {
    uri.split(['?', '#']).next().unwrap_or(uri)
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// Read this segment.
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
}

#[derive(Debug, Clone, Copy)]
struct Place {
    epoch: u64,
    next: u64,
    discontinuity_number: u64,
}

impl Cursor {
    /// The next step. The same until [`Cursor::done`] is called or the playlist moves on.
    pub fn step<'a>(&mut self, epoch: u64, media: &'a Media) -> Step<'a> {
        let place = match self.place {
            Some(place) if place.epoch == epoch => place,
            before => {
                self.pending_discontinuity |= before.is_some();
                let next = start(media);
                let place = Place {
                    epoch,
                    next,
                    discontinuity_number: number(media, next),
                };
                self.place = Some(place);
                place
            }
        };
        let missed = media.sequence.saturating_sub(place.next);
        let sequence = place.next.max(media.sequence);
        match media.segment(sequence) {
            Some(segment) => Step::Read {
                sequence,
                segment,
                discontinuity: self.pending_discontinuity
                    || segment.discontinuity
                    || (missed > 0 && number(media, sequence) > place.discontinuity_number),
                missed,
            },
            None if media.ended => Step::Ended,
            None => Step::Wait,
        }
    }

    /// The segment with this number is dealt with: read, or (with `Passed::Unread`) given up.
    pub fn done(&mut self, media: &Media, sequence: u64, passed: Passed) {
        let marked = media.segment(sequence).is_some_and(|s| s.discontinuity);
        self.pending_discontinuity = match passed {
            Passed::Read => false,
            Passed::Unread => self.pending_discontinuity || marked,
        };
        if let Some(place) = &mut self.place {
            place.next = sequence.saturating_add(1);
            if !media.ended {
                place.discontinuity_number = number(media, sequence);
            }
        }
    }
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
        .take(before.saturating_add(1))
        .filter(|segment| segment.discontinuity)
        .count();
    media.discontinuity_sequence.saturating_add(marks as u64)
}

/// First segment to read: the first of all when complete, else the live edge.
fn start(media: &Media) -> u64 {
    if media.ended {
        return media.sequence;
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
    sequence
}

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
        assert_eq!(start(&media), 102);
        for segment in &mut media.segments {
            segment.duration = Duration::from_millis(4_001);
        }
        assert_eq!(start(&media), 103);
        media
            .segments
            .iter_mut()
            .for_each(|s| s.duration = SECS(99));
        assert_eq!(start(&media), 104);
        media.ended = true;
        assert_eq!(start(&media), 100);
        assert_eq!(start(&live(7, &[])), 7);
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

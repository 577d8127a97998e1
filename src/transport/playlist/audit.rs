//! What a media playlist does wrong, from one load to the next. For playlists beside each other see
//! [`beside`](super::beside).
//!
//! Sections are those of RFC 8216. A playlist that is merely an older copy from another cache is not compared: see
//! [`follow`](super::follow).

use std::collections::BTreeSet;
use std::time::Duration;

use detectors::base::PlaylistFault;

use super::follow::{News, number};
use super::{ByteRange, Media, Segment};

/// Segments at the end of a list that are compared.
const COMPARED: usize = 256;

/// A live window holds three target durations (6.2.2). Target durations are written in whole seconds, mostly rounded
/// up, and nobody stumbles over that: three segments of 3.4 s under a target of 4 s pass.
const WINDOW_TARGETS: f64 = 2.5;

/// Rules that the newest list breaks, each once. `old`: the list before it; `news`: what the load brought.
pub fn faults(old: Option<&Media>, new: &Media, news: News) -> Vec<PlaylistFault> {
    let mut found = Vec::new();
    if news == News::Same {
        return found;
    }
    // 4.3.3.1: rounded to the nearest integer.
    let longest = new.segments.iter().map(|s| s.duration).max();
    if longest.is_some_and(|longest| longest.as_secs_f64().round() > new.target.as_secs_f64()) {
        found.push(PlaylistFault::SegmentTooLong);
    }
    let Some(old) = old else {
        return found;
    };
    // 6.2.1: what may change is told there, and neither of these is.
    if old.target != new.target {
        found.push(PlaylistFault::TargetChanged);
    }
    if old.ended && !new.ended {
        found.push(PlaylistFault::EndlistWithdrawn);
    }
    if let Some(fault) = disorder(old, new, news) {
        found.push(fault);
    }
    let holds: Duration = new.segments.iter().map(|s| s.duration).sum();
    let removed = news == News::Changed && new.sequence > old.sequence;
    if removed && !new.ended && holds < new.target.mul_f64(WINDOW_TARGETS) {
        found.push(PlaylistFault::WindowTooShort);
    }
    found
}

/// Numbers that contradict those before (6.2.2).
fn disorder(old: &Media, new: &Media, news: News) -> Option<PlaylistFault> {
    if news == News::Restarted {
        return Some(PlaylistFault::SequenceBack);
    }
    let end = new.end().min(old.end());
    let first = new
        .sequence
        .max(old.sequence)
        .max(end.saturating_sub(COMPARED as u64));
    if first < end {
        let named = |media: &'_ Media, n| media.segment(n).map(Name::of).map(Name::owned);
        if (first..end).any(|n| named(old, n) != named(new, n)) {
            return Some(PlaylistFault::Renumbered);
        }
        let miscounted = [first, end - 1]
            .into_iter()
            .any(|n| number(old, n) != number(new, n));
        return miscounted.then_some(PlaylistFault::DiscontinuityMiscounted);
    }
    if moved(old, new) {
        return Some(PlaylistFault::Renumbered);
    }
    let before = number(old, old.end().saturating_sub(1));
    (number(new, new.sequence) < before).then_some(PlaylistFault::DiscontinuityMiscounted)
}

/// Whether segments of lists that share no number are listed in both all the same. Names that are listed more than
/// once, like those of a slate, tell nothing.
fn moved(old: &Media, new: &Media) -> bool {
    let names = |media: &'_ Media| {
        let names = media.segments.iter().rev().take(COMPARED);
        let names: Vec<_> = names.map(|s| Name::of(s).owned()).collect();
        let different: BTreeSet<_> = names.iter().cloned().collect();
        (different.len() == names.len()).then_some(different)
    };
    match (names(old), names(new)) {
        (Some(old), Some(new)) => old.intersection(&new).count() > 1,
        _ => false,
    }
}

/// What tells a segment from others: its file name, without what tokens and hosts change, and the part of it.
struct Name<'a> {
    file: &'a str,
    range: Option<ByteRange>,
}

impl<'a> Name<'a> {
    fn of(segment: &'a Segment) -> Self {
        let path = segment.uri.split(['?', '#']).next().unwrap_or_default();
        Self {
            file: path.rsplit('/').next().unwrap_or_default(),
            range: segment.range,
        }
    }

    fn owned(self) -> (String, Option<(u64, u64)>) {
        let range = self.range.map(|range| (range.start, range.len));
        (self.file.to_owned(), range)
    }
}

#[cfg(test)]
mod tests {
    use super::super::follow::Window;
    use super::*;

    const SECS: fn(u64) -> Duration = Duration::from_secs;

    fn segment(name: &str, secs: f64) -> Segment {
        Segment {
            uri: name.to_owned(),
            duration: Duration::from_secs_f64(secs),
            ..Segment::default()
        }
    }

    /// Names with a leading `!` come after a discontinuity.
    fn live(sequence: u64, names: &[&str]) -> Media {
        let named = |name: &&str| Segment {
            discontinuity: name.starts_with('!'),
            ..segment(name.trim_start_matches('!'), 4.0)
        };
        Media {
            target: SECS(4),
            sequence,
            segments: names.iter().map(named).collect(),
            ..Media::default()
        }
    }

    /// Faults of the loads, in order, as a source asks for them.
    fn all(loads: Vec<Media>) -> Vec<Vec<PlaylistFault>> {
        let mut window = Window::default();
        let mut found = Vec::new();
        for (at, media) in loads.into_iter().enumerate() {
            let old = window.current();
            let news = window.load(media, SECS(4 * at as u64));
            let (_, new) = window.current().unwrap_or_default();
            found.push(faults(old.as_ref().map(|(_, old)| &**old), &new, news));
        }
        found
    }

    fn last(loads: Vec<Media>) -> Vec<PlaylistFault> {
        all(loads).pop().unwrap_or_default()
    }

    #[test]
    fn healthy_irregularities_are_no_faults() {
        let mut gap = live(13, &["d", "e", "f", "g"]);
        gap.segments[3].gap = true;
        let mut short = live(14, &["e", "f", "g", "h"]);
        short.segments[3].duration = Duration::from_millis(300);
        let mut rounded = live(15, &["f", "g", "h", "i"]);
        rounded.segments[3].duration = Duration::from_millis(4_499);
        let loads = vec![
            live(10, &["a", "b", "c"]),
            live(10, &["a", "b", "c", "d"]),
            live(11, &["b", "c", "d", "e?token=1"]),
            // One more segment than before, an older copy, other hosts and tokens.
            live(10, &["a", "b", "c", "d", "e", "f"]),
            live(9, &["z", "a", "b", "c"]),
            live(12, &["//other/x/c", "y/d", "e?token=2", "f"]),
            gap,
            short,
            rounded,
            // What left unseen.
            live(40, &["n", "o", "p"]),
            // A slate in a loop, as long as it takes.
            live(60, &["s", "s", "s"]),
            live(90, &["s", "s", "s"]),
        ];
        for (at, faults) in all(loads).into_iter().enumerate() {
            assert_eq!(faults, [], "load {at}");
        }
        let three = |at: u64| Media {
            segments: vec![segment(&at.to_string(), 3.84); 3],
            ..live(at, &[])
        };
        assert_eq!(last(vec![three(1), three(9)]), []);
    }

    #[test]
    fn discontinuities_count_when_they_leave() {
        let begin = live(10, &["a", "b", "!x", "!y", "c"]);
        let after = |sequence, discontinuity_sequence, names: &[&str]| Media {
            discontinuity_sequence,
            ..live(sequence, names)
        };
        // The tag leaves with the segment behind it, or with the one before it.
        let good = [
            after(12, 0, &["!x", "!y", "c", "d"]),
            after(12, 1, &["x", "!y", "c", "d"]),
            after(13, 1, &["!y", "c", "d"]),
            after(14, 2, &["c", "d", "e"]),
            after(30, 5, &["k", "l", "m"]),
        ];
        for new in good {
            assert_eq!(last(vec![begin.clone(), new]), []);
        }
        let bad = [
            after(12, 1, &["!x", "!y", "c", "d"]),
            after(14, 0, &["c", "d", "e"]),
            after(14, 1, &["c", "d", "e"]),
            after(11, 0, &["b", "x", "y", "c", "d"]),
            after(30, 1, &["k", "l", "m"]),
        ];
        for new in bad {
            let told = last(vec![begin.clone(), new.clone()]);
            assert_eq!(told, [PlaylistFault::DiscontinuityMiscounted], "{new:?}");
        }
    }

    #[test]
    fn numbers_that_go_back_or_stand_for_others() {
        let begin = live(10, &["a", "b", "c", "d"]);
        let told = |new: Media| last(vec![begin.clone(), new]);
        assert_eq!(told(live(0, &["x", "y"])), [PlaylistFault::SequenceBack]);
        // Segments leave and the number stays; or it grows by more than what left.
        let renumbered = [PlaylistFault::Renumbered];
        assert_eq!(told(live(10, &["b", "c", "d", "e"])), renumbered);
        assert_eq!(told(live(12, &["b", "c", "d", "e"])), renumbered);
        assert_eq!(told(live(20, &["b", "c", "d", "e"])), renumbered);
        assert_eq!(told(live(11, &["b", "X", "d", "e"])), renumbered);
        let mut part = live(11, &["b", "c", "d", "e"]);
        part.segments[0].range = Some(ByteRange { start: 0, len: 9 });
        assert_eq!(told(part), renumbered);
    }

    #[test]
    fn durations_targets_windows_and_ends() {
        let mut long = live(10, &["a", "b", "c"]);
        long.segments[1].duration = Duration::from_millis(4_500);
        assert_eq!(last(vec![long]), [PlaylistFault::SegmentTooLong]);
        let begin = live(10, &["a", "b", "c", "d"]);
        let other = Media {
            target: SECS(5),
            ..live(11, &["b", "c", "d", "e"])
        };
        let told = last(vec![begin.clone(), other]);
        assert_eq!(told, [PlaylistFault::TargetChanged]);
        let told = last(vec![begin.clone(), live(13, &["d", "e"])]);
        assert_eq!(told, [PlaylistFault::WindowTooShort]);
        // A list that has only begun is short by nature, and so is the last one.
        assert_eq!(last(vec![live(0, &["a"]), live(0, &["a", "b"])]), []);
        let ended = |media| Media {
            ended: true,
            ..media
        };
        assert_eq!(last(vec![begin.clone(), ended(live(13, &["d"]))]), []);
        let told = last(vec![ended(begin), live(11, &["b", "c", "d", "e"])]);
        assert_eq!(told, [PlaylistFault::EndlistWithdrawn]);
    }
}

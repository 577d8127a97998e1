//! When a media playlist is loaded again, and what the reload asks of the server
//! (draft-pantos-hls-rfc8216bis, 6.2.5 and 6.3.4).

use std::time::Duration;

use super::Media;
use super::follow::{News, RELOAD_MIN, STALLED_AFTER_TARGETS};

/// A server that answers blocking reloads keeps the pace; one that invents parts is still not asked more often than
/// this.
const BLOCKING_RELOAD_MIN: Duration = Duration::from_millis(100);

/// After so many broken promises in a row the server is taken to offer less than it says.
const BROKEN_MAX: u32 = 3;

/// What a reload asks of the server, beside the playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// `_HLS_msn` and `_HLS_part`: answer once this is there.
    pub until: Option<(u64, Option<usize>)>,
    /// `_HLS_skip=YES`: leave out what is known.
    pub delta: bool,
}

impl Ask {
    /// Only the playlist as it is.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The query that says so, in the order that the draft wants.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let (sequence, part) = self.until.unzip();
        let sequence = sequence.map(|n| ("_HLS_msn", n.to_string()));
        let part = part.flatten().map(|n| ("_HLS_part", n.to_string()));
        let delta = self.delta.then(|| ("_HLS_skip", "YES".to_owned()));
        sequence.into_iter().chain(part).chain(delta)
    }

    /// Whether the answer holds what was asked for.
    fn met_by(&self, media: &Media) -> bool {
        self.until.is_none_or(|(sequence, part)| {
            let end = media.end();
            let listed = part.is_some_and(|part| media.low_latency.open_parts() > part);
            media.ended || end > sequence || (end == sequence && listed)
        })
    }
}

/// Why a load with directives brought nothing. A plain load follows, and tells whether it was them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An error, or no answer in time.
    Failed,
    /// A delta update that does not go with what was loaded before.
    Unmergeable,
}

/// What has been learnt of a server.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// Blocking reloads in a row that did not block, or failed where a plain one did not.
    unblocked: u32,
    /// Delta updates in a row that could not be merged.
    unmerged: u32,
    refused: Option<Refusal>,
    /// The next load is a plain one.
    plain: bool,
    /// The next load may follow at once, and wait at the server.
    at_once: bool,
    began: Duration,
}

impl Server {
    /// A load has been answered.
    pub fn answered(
        &mut self,
        ask: Ask,
        media: &Media,
        news: News,
        began: Duration,
        now: Duration,
    ) {
        let fresh = news != News::Same;
        match self.refused.take().filter(|_| fresh) {
            Some(Refusal::Failed) => self.unblocked += 1,
            Some(Refusal::Unmergeable) => self.unmerged += 1,
            None => {}
        }
        let met = ask.met_by(media);
        if ask.until.is_some() {
            let waited = now.saturating_sub(began);
            // What was there already proves nothing.
            if met && waited >= rhythm(media) / 2 {
                self.unblocked = 0;
            } else if !met && waited < rhythm(media) {
                self.unblocked += 1;
            }
        }
        if ask.delta {
            self.unmerged = 0;
        }
        if news == News::Restarted {
            *self = Self::default();
        }
        self.plain = false;
        self.at_once = fresh && met;
        self.began = began;
    }

    /// A load with directives failed. Tells nothing of the server yet.
    pub fn refused(&mut self, why: Refusal) {
        self.refused = Some(why);
        self.plain = true;
    }

    /// A plain load failed: it was not the directives.
    pub fn failed(&mut self) {
        self.refused = None;
        self.plain = true;
    }

    /// What the next load asks for. `age`: of the newest playlist.
    pub fn ask(&self, media: &Media, age: Duration) -> Ask {
        if self.plain || media.ended {
            return Ask::default();
        }
        let low = &media.low_latency;
        let part = low.part_target.map(|_| low.open_parts());
        // Deltas are for those who know a list that is not older than half the boundary (6.2.5.1).
        let known = low.control.can_skip_until.is_some_and(|until| {
            let whole: Duration = media.segments.iter().map(|segment| segment.duration).sum();
            age <= until / 2 && whole > until
        });
        Ask {
            until: self.blocks(media).then(|| (media.end(), part)),
            delta: known && self.unmerged < BROKEN_MAX,
        }
    }

    /// How long after the newest load began the next one goes out (`loaded_at` is when it was answered).
    pub fn next(&self, media: &Media, loaded_at: Duration, last_was_news: bool) -> Duration {
        if self.at_once && self.blocks(media) {
            let apart = (rhythm(media) / 2).max(BLOCKING_RELOAD_MIN);
            return loaded_at.max(self.began + apart);
        }
        let wait = match last_was_news {
            true => rhythm(media),
            false => rhythm(media) / 2,
        };
        loaded_at + wait.max(RELOAD_MIN)
    }

    fn blocks(&self, media: &Media) -> bool {
        media.low_latency.control.can_block_reload && self.unblocked < BROKEN_MAX
    }
}

/// How often something new is to be expected.
fn rhythm(media: &Media) -> Duration {
    media.low_latency.part_target.unwrap_or(media.target)
}

/// How long a request for something that is not there yet may wait for its answer.
///
/// A server may take three target durations. A list without news is stalled before that, and then a plain load is
/// to tell what is wrong.
pub fn held(target: Duration) -> Duration {
    target.mul_f64(STALLED_AFTER_TARGETS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::follow::Window;
    use super::super::{LowLatency, Part, Segment, ServerControl};
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Ten segments of 4 s before `end`, and parts of the next one.
    fn list(end: u64, parts: usize) -> Media {
        let part = |n: usize| Part {
            uri: format!("{end}.{n}"),
            duration: MS(500),
            ..Part::default()
        };
        let open = Segment {
            parts: (0..parts).map(part).collect(),
            ..Segment::default()
        };
        Media {
            target: MS(4_000),
            sequence: end - 10,
            segments: (end - 10..end)
                .map(|n| Segment {
                    uri: n.to_string(),
                    duration: MS(4_000),
                    ..Segment::default()
                })
                .collect(),
            low_latency: Box::new(LowLatency {
                control: ServerControl {
                    can_block_reload: true,
                    can_skip_until: Some(MS(24_000)),
                    part_hold_back: None,
                },
                part_target: Some(MS(500)),
                open: (parts > 0).then(|| Box::new(open)),
                ..LowLatency::default()
            }),
            ..Media::default()
        }
    }

    fn until(sequence: u64, part: usize) -> Ask {
        Ask {
            until: Some((sequence, Some(part))),
            delta: true,
        }
    }

    #[test]
    fn a_server_that_blocks_is_asked_for_the_next_part_at_once() {
        let mut window = Window::default();
        assert!(window.ask(MS(0)).is_plain());
        window.load(list(20, 2), MS(1_000));
        let ask = window.ask(MS(1_250));
        assert_eq!(ask, until(20, 2));
        let query: Vec<_> = ask.pairs().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(query, ["_HLS_msn=20", "_HLS_part=2", "_HLS_skip=YES"]);
        assert_eq!(window.reload_at(), Some(MS(1_250)));
        // Answered half a second later: again at once. Answered with a whole segment: the part after it.
        window.answered(ask, list(20, 3), MS(1_250), MS(1_700));
        assert_eq!(window.reload_at(), Some(MS(1_700)));
        window.answered(window.ask(MS(1_700)), list(21, 0), MS(1_700), MS(2_200));
        assert_eq!(window.ask(MS(2_200)), until(21, 0));
        // Not known for long enough to leave anything out.
        assert!(!window.ask(MS(60_000)).delta);
        // Everything new within no time: half a part apart.
        window.answered(until(21, 0), list(21, 1), MS(2_200), MS(2_201));
        assert_eq!(window.reload_at(), Some(MS(2_450)));
        let mut ended = list(22, 0);
        ended.ended = true;
        window.answered(until(21, 1), ended, MS(3_000), MS(3_100));
        assert_eq!(window.reload_at(), None);
    }

    #[test]
    fn without_blocking_parts_are_asked_for_by_their_own_rhythm_and_never_more_than_twice_a_second()
    {
        let mut window = Window::default();
        let mut list = list(20, 2);
        list.low_latency.control = ServerControl::default();
        list.low_latency.part_target = Some(MS(1_500));
        window.load(list.clone(), MS(0));
        assert!(window.ask(MS(0)).is_plain());
        assert_eq!(window.reload_at(), Some(MS(1_500)));
        window.load(list.clone(), MS(1_500));
        assert_eq!(window.reload_at(), Some(MS(2_250)));
        list.low_latency.part_target = Some(MS(200));
        list.low_latency.open.as_mut().unwrap().parts.pop();
        list.sequence += 1;
        window.load(list, MS(2_000));
        assert_eq!(window.reload_at(), Some(MS(2_500)));
    }

    #[test]
    fn a_server_that_does_not_block_is_found_out() {
        let mut window = Window::default();
        window.load(list(20, 0), MS(0));
        let mut now = MS(250);
        for strike in 0..BROKEN_MAX {
            let ask = window.ask(now);
            assert_eq!(ask.until, Some((20, Some(0))), "{strike}");
            window.answered(ask, list(20, 0), now, now + MS(5));
            assert_eq!(window.reload_at(), Some(now + MS(505)), "{strike}");
            now = window.reload_at().unwrap();
        }
        assert_eq!(window.ask(now).until, None);
        // By chance it was there in between: that is no proof.
        let mut other = Window::default();
        other.load(list(20, 0), MS(0));
        for n in 0..3 {
            let at = MS(n * 1_000);
            other.answered(until(20, n as usize), list(20, n as usize), at, at + MS(5));
            let at = at + MS(505);
            other.answered(
                until(20, n as usize),
                list(20, n as usize + 1),
                at,
                at + MS(5),
            );
        }
        assert_eq!(other.ask(MS(9_000)).until, None);
        window.answered(window.ask(now), list(20, 1), now, now);
        assert_eq!(window.reload_at(), Some(now + MS(500)));
        // One that holds the request for as long as a part takes, and then has nothing, is only late.
        let mut window = Window::default();
        window.load(list(20, 0), MS(0));
        for n in 0..9 {
            let began = MS(n * 1_000);
            window.answered(until(20, 0), list(20, 0), began, began + MS(600));
        }
        assert_eq!(window.ask(MS(9_000)).until, Some((20, Some(0))));
    }

    #[test]
    fn directives_that_fail_are_given_up_when_a_plain_load_works_each_time() {
        let mut window = Window::default();
        window.load(list(20, 0), MS(0));
        for n in 1..=u64::from(BROKEN_MAX) {
            assert!(window.ask(MS(n)).until.is_some());
            window.refused(Refusal::Failed);
            assert!(window.ask(MS(n)).is_plain());
            window.load(list(20 + n, 0), MS(n));
        }
        let ask = window.ask(MS(9));
        assert_eq!((ask.until, ask.delta), (None, true));
        for n in 4..=6 {
            window.refused(Refusal::Unmergeable);
            window.load(list(20 + n, 0), MS(n));
        }
        assert!(window.ask(MS(9)).is_plain());
        // An outage is not held against the directives.
        let mut window = Window::default();
        window.load(list(20, 0), MS(0));
        for n in 1..9 {
            window.refused(Refusal::Failed);
            window.failed();
            assert!(window.ask(MS(n)).is_plain());
            window.load(list(20 + n, 0), MS(n));
        }
        assert!(window.ask(MS(9)).until.is_some());
    }
}

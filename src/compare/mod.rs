//! Prints that streams exchange, so that `av_reference` can compare them: within this process, and over HTTP with
//! others.
//!
//! A stream is printed only while somebody wants its prints: another stream of this process that names it as its
//! reference, or another instance that asked lately.

pub mod fetch;
pub mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use detectors::base::{Arrival, Print};

use crate::ingest::clock;
use crate::lane::{Feed, PrintTap};
use wire::Place;

/// Prints kept of a stream for instances that ask; about as many seconds.
const KEPT: usize = 30;
/// A stream is printed for so long after another instance asked.
const ASKED: Duration = Duration::from_secs(30);

/// All streams whose prints may be wanted.
#[derive(Debug)]
pub struct Exchange {
    run: u64,
    topics: Mutex<BTreeMap<Arc<str>, Arc<Topic>>>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            run: fastrand::u64(..),
            topics: Mutex::default(),
        }
    }
}

impl Exchange {
    /// What takes the prints of a stream.
    pub fn tap(&self, stream: &Arc<str>) -> Arc<dyn PrintTap> {
        self.topic(stream)
    }

    /// Prints of a stream go to this feed too, for as long as somebody else holds it; the stream need not be watched
    /// yet.
    pub fn subscribe(&self, stream: &Arc<str>, feed: &Arc<Feed>) {
        self.topic(stream).state().feeds.push(Arc::downgrade(feed));
    }

    /// Prints for another instance, as [`wire`] writes them: those since `place`, or none but the place to go on from
    /// when that is not one of this run.
    pub fn since(&self, stream: &Arc<str>, place: Option<Place>, now: Arrival) -> Vec<u8> {
        let topic = self.topic(stream);
        let mut state = topic.state();
        state.asked = Some(now);
        let here = Place {
            run: self.run,
            next: state.next,
        };
        let missed = place
            .filter(|place| place.run == self.run)
            .map_or(0, |place| state.next.saturating_sub(place.next));
        let kept = state.kept.len();
        let missed = usize::try_from(missed).map_or(kept, |missed| missed.min(kept));
        wire::encode(here, state.kept.range(kept - missed..))
    }

    fn topic(&self, stream: &Arc<str>) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(topics.entry(Arc::clone(stream)).or_default())
    }
}

/// One stream.
#[derive(Debug, Default)]
struct Topic(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    feeds: Vec<Weak<Feed>>,
    kept: VecDeque<Print>,
    /// Number of the next print.
    next: u64,
    asked: Option<Arrival>,
}

impl Topic {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_asked(&self, now: Arrival) -> bool {
        (self.asked).is_some_and(|asked| now.since(asked) < ASKED)
    }
}

impl PrintTap for Topic {
    fn is_wanted(&self) -> bool {
        let mut state = self.state();
        state.feeds.retain(|feed| feed.strong_count() > 0);
        !state.feeds.is_empty() || state.is_asked(clock::now())
    }

    fn take(&self, print: Print) {
        let mut state = self.state();
        for feed in state.feeds.iter().filter_map(Weak::upgrade) {
            feed.push(print.clone());
        }
        state.kept.push_back(print);
        state.next += 1;
        while state.kept.len() > KEPT {
            state.kept.pop_front();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use detectors::base::{MediaTime, PicturePrint};

    use super::*;

    fn print(n: i64) -> Print {
        Print {
            pictures: vec![PicturePrint {
                at: MediaTime::from_millis(1_000 * n),
                motion: [1, 2, 3, 4],
            }],
            sound: Vec::new(),
        }
    }

    #[test]
    fn a_stream_is_wanted_while_somebody_holds_a_feed_of_it() {
        let (exchange, id) = (Exchange::default(), Arc::from("a"));
        let tap = exchange.tap(&id);
        assert!(!tap.is_wanted());
        let feed = Arc::new(Feed::default());
        exchange.subscribe(&id, &feed);
        assert!(tap.is_wanted());
        assert!(!exchange.tap(&Arc::from("b")).is_wanted());
        drop(feed);
        assert!(!tap.is_wanted());
    }

    #[test]
    fn who_asks_gets_what_came_since_and_every_print_once() {
        let (exchange, id) = (Exchange::default(), Arc::from("a"));
        let (tap, now) = (exchange.tap(&id), clock::now());
        let ask = |place| wire::decode(&exchange.since(&id, place, now)).unwrap();
        let (begin, none) = ask(None);
        assert_eq!(none, []);
        assert!(tap.is_wanted());
        for n in 0..3 {
            tap.take(print(n));
        }
        let (after, first) = ask(Some(begin));
        assert_eq!(first, [print(0), print(1), print(2)]);
        assert_eq!(ask(Some(after)), (after, vec![]));
        tap.take(print(3));
        let (after, next) = ask(Some(after));
        assert_eq!(next, [print(3)]);
        // Who stays away for long has lost what is not kept.
        for n in 4..100 {
            tap.take(print(n));
        }
        let (_, late) = ask(Some(after));
        assert_eq!(late.len(), KEPT);
        assert_eq!(late.last(), Some(&print(99)));
        // Numbers of another run mean nothing.
        let other = Place {
            run: !after.run,
            ..after
        };
        assert_eq!(ask(Some(other)).1, []);
    }

    #[test]
    fn who_no_longer_asks_is_forgotten() {
        let asked = State {
            asked: Some(Arrival::default()),
            ..State::default()
        };
        assert!(asked.is_asked(Arrival::default().plus(Duration::from_secs(29))));
        assert!(!asked.is_asked(Arrival::default().plus(ASKED)));
    }
}

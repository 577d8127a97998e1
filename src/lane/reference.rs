//! Prints: made of a lane's own pictures and sound for others, and those of a reference handed to its detectors.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use detectors::av::av_reference::Printer;
use detectors::base::{MediaTime, Picture, Print, Sound, Track};

/// Prints of a live reference that wait for their lane; the oldest go first.
const FEED_MAX: usize = 64;
/// A live print that would lie further than this from our own time is of another timeline: what is looked for lies
/// within 30 s.
const STRAY_SECS: f64 = 40.0;
/// After so long without a print nothing comes from a live reference any more.
const SILENT_SECS: f64 = 10.0;

/// Takes the prints of a lane, on the pool's threads: must not wait.
pub trait PrintTap: Send + Sync {
    /// Whether anybody wants them now; otherwise none are made.
    fn is_wanted(&self) -> bool {
        true
    }

    /// Takes the next.
    fn take(&self, print: Print);
}

/// Prints of a live reference, on their way to the lane that compares.
#[derive(Debug, Default)]
pub struct Feed(Mutex<VecDeque<Print>>);

impl Feed {
    /// Adds a print. Does not wait; when the lane does not keep up, the oldest one is lost.
    pub fn push(&self, print: Print) {
        let mut prints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if prints.len() >= FEED_MAX {
            prints.pop_front();
        }
        prints.push_back(print);
    }

    fn pop(&self) -> Option<Print> {
        let mut prints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        prints.pop_front()
    }
}

/// Another place of the same programme.
#[derive(Debug)]
pub struct Reference {
    source: Kind,
    /// From the reference's clock to ours, nanoseconds.
    shift: Option<i64>,
}

#[derive(Debug)]
enum Kind {
    /// Read to its end. The beginnings of both are laid on each other.
    Whole(VecDeque<Print>),
    /// Its first print is laid on the moment at which it comes.
    Live {
        feed: Arc<Feed>,
        /// Our time when the newest came, or when it was told that none comes.
        told: Option<MediaTime>,
    },
}

impl Reference {
    /// One that has been read to its end; `prints` in the order in which they were made.
    pub fn new(prints: impl IntoIterator<Item = Print>) -> Self {
        Self {
            source: Kind::Whole(prints.into_iter().collect()),
            shift: None,
        }
    }

    /// One that is being watched as well.
    pub fn live(feed: Arc<Feed>) -> Self {
        Self {
            source: Kind::Live { feed, told: None },
            shift: None,
        }
    }

    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        match &self.source {
            Kind::Whole(prints) => prints.is_empty(),
            Kind::Live { .. } => false,
        }
    }

    /// The next print for a detector at `now`, our time, in our time: of a whole reference when it was over by then, of a
    /// live one as it comes, and an empty one when none comes.
    pub(super) fn due(&mut self, now: MediaTime) -> Option<Print> {
        match &mut self.source {
            Kind::Whole(prints) => {
                let next = prints.front()?;
                let lay = now.nanos().saturating_sub(next.from()?.nanos());
                let shift = *self.shift.get_or_insert(lay);
                if moved(next.until()?, shift) > now {
                    return None;
                }
                prints.pop_front().map(|print| laid(print, shift))
            }
            Kind::Live { feed, told } => {
                let Some((print, until)) = feed.pop().and_then(|p| p.until().map(|u| (p, u)))
                else {
                    let silent = told.is_none_or(|at| now.secs_after(at).abs() >= SILENT_SECS);
                    return silent.then(|| {
                        *told = Some(now);
                        Print::default()
                    });
                };
                *told = Some(now);
                let strays = |shift: &i64| moved(until, *shift).secs_after(now).abs() > STRAY_SECS;
                self.shift.take_if(|shift| strays(shift));
                let lay = now.nanos().saturating_sub(until.nanos());
                Some(laid(print, *self.shift.get_or_insert(lay)))
            }
        }
    }
}

fn moved(at: MediaTime, nanos: i64) -> MediaTime {
    MediaTime::from_nanos(at.nanos().saturating_add(nanos))
}

fn laid(mut print: Print, nanos: i64) -> Print {
    for picture in &mut print.pictures {
        picture.at = moved(picture.at, nanos);
    }
    for run in &mut print.sound {
        run.from = moved(run.from, nanos);
    }
    print
}

/// What one lane does about prints.
#[derive(Default)]
pub(super) struct Prints {
    own: Option<(Printer, Arc<dyn PrintTap>)>,
    pub(super) reference: Option<Reference>,
}

impl Prints {
    /// Hands out prints from now on.
    pub(super) fn hand_out(&mut self, tap: Arc<dyn PrintTap>) {
        self.own = Some((Printer::default(), tap));
    }

    pub(super) fn picture(&mut self, track: Track, at: Option<MediaTime>, picture: &Picture<'_>) {
        if let (Some(printer), Some(at), Track { index: 0, .. }) = (self.printer(), at, track) {
            printer.picture(at, picture.tiles());
            self.hand(at);
        }
    }

    pub(super) fn sound(&mut self, track: Track, at: Option<MediaTime>, sound: &Sound<'_>) {
        if let (Some(printer), Some(at)) = (self.printer(), at) {
            printer.sound(track.index, at, sound);
            self.hand(at);
        }
    }

    fn printer(&mut self) -> Option<&mut Printer> {
        let (printer, tap) = self.own.as_mut()?;
        tap.is_wanted().then_some(printer)
    }

    fn hand(&mut self, at: MediaTime) {
        if let Some((printer, tap)) = &mut self.own
            && let Some(print) = printer.take(at)
        {
            tap.take(print);
        }
    }

    /// The input is over: what is left.
    pub(super) fn finish(&mut self) {
        if let Some((printer, tap)) = &mut self.own
            && let Some(print) = printer.finish()
        {
            tap.take(print);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use detectors::base::PicturePrint;

    use super::*;

    fn print(millis: i64) -> Print {
        let at = |millis| PicturePrint {
            at: MediaTime::from_millis(millis),
            motion: [0; 4],
        };
        Print {
            pictures: vec![at(millis), at(millis + 960)],
            sound: Vec::new(),
        }
    }

    #[test]
    fn a_live_print_is_laid_on_the_moment_at_which_it_comes_and_silence_is_told() {
        let feed = Arc::new(Feed::default());
        let mut reference = Reference::live(Arc::clone(&feed));
        let begin = MediaTime::from_millis(5_960);
        let after = |secs| begin.plus(Duration::from_secs(secs));
        let none = Some(Print::default());
        assert_eq!(reference.due(begin), none);
        assert_eq!(reference.due(begin), None);
        feed.push(print(36_000_000));
        assert_eq!(reference.due(begin), Some(print(5_000)));
        // A late one stays beside the one before it.
        feed.push(print(36_001_000));
        assert_eq!(reference.due(after(3)), Some(print(6_000)));
        assert_eq!(reference.due(after(12)), None);
        assert_eq!(reference.due(after(13)), none);
        // Another timeline is laid anew.
        feed.push(print(0));
        assert_eq!(reference.due(after(20)), Some(print(25_000)));
    }

    #[test]
    fn prints_come_when_they_would_have_been_made_counted_from_the_beginnings() {
        let mut reference = Reference::new([print(36_000_000), print(36_001_000)]);
        let second = Duration::from_secs(1);
        let begin = MediaTime::from_millis(1_400);
        assert_eq!(reference.due(begin), None);
        let first = reference.due(begin.plus(second));
        assert_eq!(first, Some(print(1_400)));
        assert_eq!(reference.due(begin.plus(second)), None);
        assert_eq!(reference.due(begin.plus(2 * second)), Some(print(2_400)));
        assert_eq!(reference.due(begin.plus(9 * second)), None);
    }
}

//! Prints: made of a lane's own pictures and sound for others, and those of a reference handed to its detectors.

use std::collections::VecDeque;
use std::sync::Arc;

use detectors::av::av_reference::Printer;
use detectors::base::{MediaTime, Picture, Print, Sound, Track};

/// Takes the prints of a lane, on the pool's threads: must not wait.
pub type PrintTap = Arc<dyn Fn(Print) + Send + Sync>;

/// A reference that has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    prints: VecDeque<Print>,
    /// From the reference's clock to ours, nanoseconds: the beginnings of both are laid on each other.
    shift: Option<i64>,
}

impl Reference {
    /// `prints` in the order in which they were made.
    pub fn new(prints: impl IntoIterator<Item = Print>) -> Self {
        Self {
            prints: prints.into_iter().collect(),
            shift: None,
        }
    }

    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// The next print that was over at `now`, our time, in our time.
    pub(super) fn due(&mut self, now: MediaTime) -> Option<Print> {
        let next = self.prints.front()?;
        let from = next.from()?;
        let shift = *(self.shift).get_or_insert_with(|| now.nanos().saturating_sub(from.nanos()));
        if moved(next.until()?, shift) > now {
            return None;
        }
        let mut print = self.prints.pop_front()?;
        for picture in &mut print.pictures {
            picture.at = moved(picture.at, shift);
        }
        for run in &mut print.sound {
            run.from = moved(run.from, shift);
        }
        Some(print)
    }
}

fn moved(at: MediaTime, nanos: i64) -> MediaTime {
    MediaTime::from_nanos(at.nanos().saturating_add(nanos))
}

/// What one lane does about prints.
#[derive(Default)]
pub(super) struct Prints {
    own: Option<(Printer, PrintTap)>,
    pub(super) reference: Option<Reference>,
}

impl Prints {
    /// Hands out prints from now on.
    pub(super) fn hand_out(&mut self, tap: PrintTap) {
        self.own = Some((Printer::default(), tap));
    }

    pub(super) fn picture(&mut self, track: Track, at: Option<MediaTime>, picture: &Picture<'_>) {
        if let (Some((printer, _)), Some(at), Track { index: 0, .. }) = (&mut self.own, at, track) {
            printer.picture(at, picture.tiles());
            self.hand(at);
        }
    }

    pub(super) fn sound(&mut self, track: Track, at: Option<MediaTime>, sound: &Sound<'_>) {
        if let (Some((printer, _)), Some(at)) = (&mut self.own, at) {
            printer.sound(track.index, at, sound);
            self.hand(at);
        }
    }

    fn hand(&mut self, at: MediaTime) {
        if let Some((printer, tap)) = &mut self.own
            && let Some(print) = printer.take(at)
        {
            tap(print);
        }
    }

    /// The input is over: what is left.
    pub(super) fn finish(&mut self) {
        if let Some((printer, tap)) = &mut self.own
            && let Some(print) = printer.finish()
        {
            tap(print);
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

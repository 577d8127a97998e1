//! Whether a key is right: no check value tells, only what decodes.
//!
//! Decoded units wait, or are dropped, until those under the key have been decoded without complaint. A wrong key thus
//! never shows, and a right one costs nothing: pictures are judged one by one as they come, sound is held back for a
//! few frames and then handed on.

use std::time::Duration;

use detectors::base::{Kind, MediaTime};
use gstreamer_video::prelude::*;

use super::keys::ContentKey;
use super::{Content, OwnedUnit};

/// Frames of sound that are judged together.
const FRAMES: u32 = 8;
/// Of [`FRAMES`], so many must come out of the decoder. Of frames under a wrong key hardly any does.
const FRAMES_GOOD: u32 = 6;
/// Pictures that may go into the decoder without one coming out. Reordering takes at most 16.
const PICTURES: u32 = 48;
/// A picture under a wrong key is concealed nearly everywhere; one that a loss damaged, in part: the limit is one of
/// so many blocks.
const CONCEALED: u32 = 4;
/// So much media may lie between a key and the first thing that decodes.
const SILENT: Duration = Duration::from_secs(3);
/// Timestamps may be rounded on their way.
const ROUNDED_NANOS: i64 = 1_000_000;

/// What a step of a trial found.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing new.
    Nothing,
    /// The key is right, or none is needed: the trial is over. With what was held back.
    Good(Vec<OwnedUnit>),
    /// The key is wrong.
    Bad,
}

/// A key whose worth is not known yet, or that is wrong.
#[derive(Debug)]
pub(super) struct Trial {
    kind: Kind,
    /// `None`: what follows is in the clear, after something under a wrong key.
    key: Option<ContentKey>,
    from: MediaTime,
    /// What comes before `from` was under a wrong key.
    wrong_before: bool,
    wrong: bool,
    fed: u32,
    out: u32,
    blocks: u32,
    stumbles: u32,
    held: Vec<OwnedUnit>,
}

impl Trial {
    /// What goes on after `before`, with `key` from `from` on; `None` when nothing needs to be watched.
    pub(super) fn of(
        before: Option<Self>,
        kind: Kind,
        from: MediaTime,
        key: Option<&ContentKey>,
    ) -> Option<Self> {
        let trusted = key.is_none_or(|key| key.is_proved(kind));
        match before {
            Some(before) if !before.wrong && before.key.as_ref() == key => Some(before),
            None if trusted => None,
            before => Some(Self {
                kind,
                key: key.filter(|_| !trusted).cloned(),
                from,
                wrong_before: before.is_some_and(|t| t.wrong || (t.wrong_before && t.out == 0)),
                wrong: false,
                fed: 0,
                out: 0,
                blocks: 0,
                stumbles: 0,
                held: Vec::new(),
            }),
        }
    }

    /// The same at its beginning, for another decoder.
    pub(super) fn anew(&self) -> Self {
        Self {
            kind: self.kind,
            key: self.key.clone(),
            from: self.from,
            wrong_before: self.wrong_before,
            wrong: self.wrong,
            fed: 0,
            out: 0,
            blocks: 0,
            stumbles: 0,
            held: Vec::new(),
        }
    }

    fn concerns(&self, media: Option<MediaTime>) -> bool {
        media.is_none_or(|m| m.nanos().saturating_add(ROUNDED_NANOS) >= self.from.nanos())
    }

    /// A coded unit goes into the decoder; without `more`, the last one has gone.
    pub(super) fn feed(&mut self, more: bool, media: Option<MediaTime>) -> Found {
        if self.key.is_none() || (more && !self.concerns(media)) {
            return Found::Nothing;
        }
        let found = match self.kind {
            Kind::Audio if self.fed >= FRAMES => self.judge_sound(),
            Kind::Audio if !more && self.out * FRAMES >= self.fed * FRAMES_GOOD => self.good(),
            Kind::Video if self.out == 0 && self.fed >= self.patience() => self.bad(),
            _ if !more && !self.wrong => self.bad(),
            _ => Found::Nothing,
        };
        self.fed = self.fed.saturating_add(1);
        found
    }

    /// All that was there has been decoded, up to here, and nothing came out: not even a parser finds its way.
    pub(super) fn stuck(&mut self, until: MediaTime) -> Found {
        let waited = until.since(self.from) >= SILENT;
        match self.key.is_some() && !self.wrong && self.out == 0 && waited {
            true => self.bad(),
            false => Found::Nothing,
        }
    }

    /// Pictures that may go in without one coming out.
    fn patience(&self) -> u32 {
        match self.stumbles {
            0 => PICTURES,
            _ => PICTURES / 3,
        }
    }

    fn judge_sound(&mut self) -> Found {
        let good = self.out >= FRAMES_GOOD;
        (self.fed, self.out) = (0, 0);
        match good {
            true => self.good(),
            false => self.bad(),
        }
    }

    /// The decoder conceals `blocks`, or cannot make sense of something (0).
    pub(super) fn complain(&mut self, feeding: Option<MediaTime>, blocks: u32) {
        if self.concerns(feeding) {
            self.blocks = self.blocks.saturating_add(blocks);
            self.stumbles = self.stumbles.saturating_add(u32::from(blocks == 0));
        }
    }

    /// A decoded unit: comes back when it may be handed on.
    pub(super) fn take(&mut self, unit: OwnedUnit) -> (Option<OwnedUnit>, Found) {
        if !self.concerns(unit.media) {
            return (Some(unit).filter(|_| !self.wrong_before), Found::Nothing);
        }
        if self.key.is_none() {
            return (Some(unit), Found::Good(Vec::new()));
        }
        self.out = self.out.saturating_add(1);
        match &unit.content {
            Content::Picture(picture) => {
                let (width, height) = (picture.frame.width(), picture.frame.height());
                let all = width.div_ceil(16) * height.div_ceil(16);
                let spoiled = match self.blocks {
                    0 => self.stumbles > 0,
                    blocks => blocks.saturating_mul(CONCEALED) >= all,
                };
                match (self.wrong, spoiled) {
                    // A later picture may come out well although what it refers to did not.
                    (true, _) => (None, Found::Nothing),
                    (false, true) => (None, self.bad()),
                    (false, false) => (Some(unit), self.good()),
                }
            }
            _ => {
                if !self.wrong {
                    self.held.push(unit);
                }
                let over = self.held.len() > 4 * FRAMES as usize;
                (
                    None,
                    if over {
                        self.judge_sound()
                    } else {
                        Found::Nothing
                    },
                )
            }
        }
    }

    fn good(&mut self) -> Found {
        if let Some(key) = &self.key {
            key.prove(self.kind);
        }
        // From here on everything passes.
        (self.key, self.wrong) = (None, false);
        Found::Good(std::mem::take(&mut self.held))
    }

    fn bad(&mut self) -> Found {
        self.held.clear();
        if let Some(key) = &self.key {
            key.refute();
        }
        match std::mem::replace(&mut self.wrong, true) {
            true => Found::Nothing,
            false => Found::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use detectors::base::{Arrival, Track};

    use super::*;
    use crate::ingest::SoundBuffer;

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_nanos(ms * 1_000_000)
    }

    fn sound(ms: i64) -> OwnedUnit {
        OwnedUnit {
            media: Some(at(ms)),
            arrival: Arrival::default(),
            discontinuity: false,
            dropped: 0,
            track: Some(Track::audio(0)),
            content: Content::Sound(SoundBuffer {
                samples: vec![0.0; 4],
                channels: 1,
                rate_hz: 48_000,
            }),
        }
    }

    fn key() -> ContentKey {
        ContentKey::new([1; 16])
    }

    fn trial(before: Option<Trial>, from: i64, key: Option<&ContentKey>) -> Option<Trial> {
        Trial::of(before, Kind::Audio, at(from), key)
    }

    /// Feeds frames, of which every `good`-th comes out of the decoder; gives how many were handed on.
    fn run(trial: &mut Trial, from: i64, frames: i64, good: i64) -> (usize, bool, bool) {
        let (mut on, mut right, mut wrong) = (0, false, false);
        for n in 0..frames {
            let ms = from + n * 20;
            let mut note = |found| match found {
                Found::Good(held) => (right, on) = (true, on + held.len()),
                Found::Bad => wrong = true,
                Found::Nothing => {}
            };
            note(trial.feed(true, Some(at(ms))));
            if n % good == 0 {
                let (unit, found) = trial.take(sound(ms));
                note(found);
                on += usize::from(unit.is_some());
            }
        }
        (on, right, wrong)
    }

    #[test]
    fn a_right_key_loses_no_sound() {
        let key = key();
        let mut trial = trial(None, 100, Some(&key)).unwrap();
        let (unit, _) = trial.take(sound(80));
        assert!(unit.is_some(), "what lies before passes");
        assert_eq!(run(&mut trial, 100, 20, 1), (20, true, false));
        assert!(key.is_proved(Kind::Audio) && !key.is_refuted());
        assert!(self::trial(None, 900, Some(&key)).is_none());
    }

    #[test]
    fn a_wrong_key_hands_nothing_on_until_the_next_one_is_right() {
        let wrong = key();
        let mut first = trial(None, 100, Some(&wrong)).unwrap();
        assert_eq!(run(&mut first, 100, 50, 3), (0, false, true));
        assert!(wrong.is_refuted());
        let right = ContentKey::new([2; 16]);
        let mut next = trial(Some(first), 2_000, Some(&right)).unwrap();
        assert!(next.take(sound(1_900)).0.is_none(), "still the wrong one's");
        assert_eq!(run(&mut next, 2_000, 20, 1), (20, true, false));
    }

    #[test]
    fn after_a_wrong_key_the_clear_passes_at_once() {
        let wrong = key();
        let mut first = trial(None, 0, Some(&wrong)).unwrap();
        run(&mut first, 0, 50, 9);
        let mut clear = trial(Some(first), 2_000, None).unwrap();
        assert!(clear.take(sound(1_980)).0.is_none());
        let (unit, found) = clear.take(sound(2_000));
        assert!(unit.is_some() && matches!(found, Found::Good(_)));
        assert!(trial(None, 0, None).is_none());
    }

    #[test]
    fn a_short_track_is_judged_at_its_end() {
        let key = key();
        let mut trial = trial(None, 0, Some(&key)).unwrap();
        assert_eq!(run(&mut trial, 0, 5, 1), (0, false, false));
        let Found::Good(held) = trial.feed(false, None) else {
            panic!("not judged");
        };
        assert_eq!(held.len(), 5);
    }
}

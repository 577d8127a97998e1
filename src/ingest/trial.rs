//! Whether a key is right: no check value tells, only what decodes.
//!
//! Decoded units wait, or are dropped, until those under the key have been decoded without complaint. A wrong key thus
//! never shows, and a right one costs nothing: pictures are judged one by one as they come, sound is held back for a
//! few frames and then handed on.

use std::collections::VecDeque;
use std::time::Duration;

use detectors::base::{Arrival, Kind, MediaTime};
use gstreamer_video::prelude::*;

use super::keys::ContentKey;
use super::{Content, OwnedUnit};

/// Frames of sound that are judged together.
const FRAMES: u32 = 8;
/// Of [`FRAMES`], so many must come out of the decoder. Of frames under a wrong key hardly any does.
const FRAMES_GOOD: u32 = 6;
/// Pictures that may go into the decoder without one coming out. Reordering takes at most 16, or 32 fields.
const PICTURES: u32 = 64;
/// A picture under a wrong key is concealed nearly everywhere; one that a loss damaged, in part: the limit is one of
/// so many blocks.
const CONCEALED: u32 = 4;
/// A decoder that conceals may also give a stand-in of which nothing is concealed. It complains of each unit under a
/// wrong key, and then of two matters or more (2.0 to 4.2 of them in two dozen trials of H.264); of those under a right one
/// hardly ever.
const COMPLAINTS: u32 = 2;
/// All may have been taken and nothing come out for this long.
const SILENT: Duration = Duration::from_secs(10);
/// Timestamps may be rounded on their way.
const ROUNDED_NANOS: i64 = 1_000_000;

/// Keys that may wait for their turn: pieces are fed faster than they are decoded.
const KEYS_MAX: usize = 256;

/// What a step found.
#[derive(Debug)]
pub(super) enum Found {
    /// The key is right, or none is needed. With what was held back.
    Good(Vec<OwnedUnit>),
    /// The key is wrong.
    Bad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Open,
    Right,
    Wrong,
}

/// One key, from a media time on.
#[derive(Debug)]
struct Trial {
    /// `None`: what follows is in the clear, or under a key that is known to be right.
    key: Option<ContentKey>,
    from: MediaTime,
    began: Arrival,
    verdict: Verdict,
    fed: u32,
    out: u32,
    blocks: u32,
    stumbles: u32,
    held: Vec<OwnedUnit>,
}

/// Keys of a track whose worth is not known yet, or that are wrong, in the order of what they open.
#[derive(Debug)]
pub(super) struct Trials {
    kind: Kind,
    /// The decoder tells what it conceals; other complaints of it say nothing of a key.
    conceals: bool,
    keys: VecDeque<Trial>,
    /// The key before the oldest of these was wrong.
    wrong_before: bool,
}

impl Trials {
    /// Of a track with this codec word.
    pub(super) fn new(kind: Kind, codec: &str) -> Self {
        Self {
            kind,
            conceals: matches!(codec, "h264" | "mpeg2"),
            keys: VecDeque::new(),
            wrong_before: false,
        }
    }

    /// Nothing needs to be watched.
    pub(super) fn is_over(&self) -> bool {
        self.keys.is_empty()
    }

    /// The same at its beginning, for another decoder.
    pub(super) fn anew(&self) -> Self {
        let last = self.keys.back().filter(|t| t.verdict != Verdict::Right);
        let last = last.map(|t| Trial {
            verdict: t.verdict,
            ..Trial::new(t.key.clone(), t.from, t.began)
        });
        Self {
            kind: self.kind,
            conceals: self.conceals,
            keys: last.into_iter().collect(),
            wrong_before: self.wrong_before,
        }
    }

    /// From here on `key` is in use; `None`: it is in the clear.
    pub(super) fn begin(&mut self, from: MediaTime, now: Arrival, key: Option<&ContentKey>) {
        let key = key.filter(|key| !key.is_proved(self.kind));
        match (self.keys.back(), key) {
            (None, None) => return,
            (Some(last), None) if last.verdict == Verdict::Right => return,
            (Some(last), key) if last.key.as_ref() == key && last.verdict != Verdict::Wrong => {
                return;
            }
            _ => {}
        }
        if self.keys.len() >= KEYS_MAX {
            self.keys.pop_front();
        }
        self.keys.push_back(Trial::new(key.cloned(), from, now));
    }

    /// Whose turn it is at that time; without one, the oldest's.
    fn at(&self, media: Option<MediaTime>) -> Option<usize> {
        let begun = |t: &Trial| {
            media.is_none_or(|m| m.nanos().saturating_add(ROUNDED_NANOS) >= t.from.nanos())
        };
        self.keys.partition_point(begun).checked_sub(1)
    }

    /// A coded unit goes into the decoder; without `more`, the last one has gone, and all that there is has come out.
    pub(super) fn feed(&mut self, more: bool, media: Option<MediaTime>, found: &mut Vec<Found>) {
        let kind = self.kind;
        if !more {
            for trial in self.keys.iter_mut().filter(|t| t.verdict == Verdict::Open) {
                trial.judge(kind, trial.sounds_good(kind) || trial.key.is_none(), found);
            }
            return;
        }
        let Some(turn) = self.at(media) else { return };
        for past in self.keys.iter_mut().take(turn) {
            past.close(kind, found);
        }
        let gone = turn.saturating_sub(2);
        if let Some(last) = self.keys.drain(..gone).next_back() {
            self.wrong_before = last.verdict == Verdict::Wrong;
        }
        let Some(trial) = self.keys.get_mut(turn - gone) else {
            return;
        };
        if trial.key.is_none() {
            return;
        }
        match kind {
            Kind::Audio if trial.fed >= FRAMES => {
                let right = trial.sounds_good(kind);
                (trial.fed, trial.out) = (0, 0);
                trial.judge(kind, right, found);
            }
            Kind::Video if trial.out == 0 && trial.fed >= PICTURES => {
                trial.judge(kind, false, found);
            }
            _ => {}
        }
        trial.fed = trial.fed.saturating_add(1);
    }

    /// All that was there has been taken, and nothing comes out: not even a parser finds its way.
    pub(super) fn idle(&mut self, now: Arrival, found: &mut Vec<Found>) {
        let kind = self.kind;
        if let Some(trial) = self.keys.front_mut()
            && trial.key.is_some()
            && trial.out == 0
            && now.since(trial.began) >= SILENT
        {
            trial.judge(kind, false, found);
        }
    }

    /// The decoder conceals `blocks`, or cannot make sense of something (0).
    pub(super) fn complain(&mut self, feeding: Option<MediaTime>, blocks: u32) {
        let turn = self.at(feeding);
        if let Some(trial) = turn.and_then(|turn| self.keys.get_mut(turn)) {
            trial.blocks = trial.blocks.saturating_add(blocks);
            trial.stumbles = trial.stumbles.saturating_add(u32::from(blocks == 0));
        }
    }

    /// A decoded unit: comes back when it may be handed on.
    pub(super) fn take(&mut self, unit: OwnedUnit, found: &mut Vec<Found>) -> Option<OwnedUnit> {
        let Some(turn) = self.at(unit.media) else {
            // Under a wrong key even the order is wrong.
            return Some(unit).filter(|_| !self.wrong_before);
        };
        let (kind, conceals) = (self.kind, self.conceals);
        for past in self.keys.iter_mut().take(turn) {
            past.close(kind, found);
        }
        // Units come out in the order of their times: what is before this turn is over.
        if let Some(last) = self.keys.drain(..turn).next_back() {
            self.wrong_before = last.verdict == Verdict::Wrong;
        }
        let is_last = self.keys.len() == 1;
        let trial = self.keys.front_mut()?;
        trial.out = trial.out.saturating_add(1);
        if trial.key.is_none() {
            trial.judge(kind, true, found);
        }
        if let (Verdict::Open, Content::Picture(picture)) = (trial.verdict, &unit.content) {
            let (width, height) = (picture.frame.width(), picture.frame.height());
            let all = width.div_ceil(16) * height.div_ceil(16);
            let spoiled = trial.spoiled(all, conceals);
            trial.judge(kind, !spoiled, found);
        }
        match trial.verdict {
            Verdict::Right => {
                if is_last {
                    self.keys.clear();
                    self.wrong_before = false;
                }
                Some(unit)
            }
            // A later picture may come out well although what it refers to did not.
            Verdict::Wrong => None,
            Verdict::Open => {
                trial.held.push(unit);
                if trial.held.len() > 4 * FRAMES as usize {
                    trial.judge(kind, true, found);
                }
                None
            }
        }
    }
}

impl Trial {
    fn new(key: Option<ContentKey>, from: MediaTime, began: Arrival) -> Self {
        Self {
            key,
            from,
            began,
            verdict: Verdict::Open,
            fed: 0,
            out: 0,
            blocks: 0,
            stumbles: 0,
            held: Vec::new(),
        }
    }

    /// Whether nearly all frames of sound that were fed came out.
    fn sounds_good(&self, kind: Kind) -> bool {
        kind == Kind::Audio && self.fed > 0 && self.out * FRAMES >= self.fed * FRAMES_GOOD
    }

    /// Whether a picture of `all` blocks that came out is no picture of the stream.
    fn spoiled(&self, all: u32, conceals: bool) -> bool {
        match self.blocks {
            0 if conceals => self.stumbles >= self.fed.max(1).saturating_mul(COMPLAINTS),
            0 => self.stumbles > 0,
            blocks => blocks.saturating_mul(CONCEALED) >= all,
        }
    }

    /// The next key's turn has come. Pictures that were fed may still be on their way.
    fn close(&mut self, kind: Kind, found: &mut Vec<Found>) {
        let told = kind == Kind::Audio || self.fed == 0 || self.blocks > 0;
        if self.verdict == Verdict::Open && told {
            let right = self.sounds_good(kind) || self.key.is_none();
            self.judge(kind, right, found);
        }
    }

    fn judge(&mut self, kind: Kind, right: bool, found: &mut Vec<Found>) {
        let verdict = match right {
            true => Verdict::Right,
            false => Verdict::Wrong,
        };
        if std::mem::replace(&mut self.verdict, verdict) == verdict {
            return;
        }
        match (&self.key, right) {
            (Some(key), true) => key.prove(kind),
            (Some(key), false) => key.refute(),
            (None, _) => {}
        }
        let held = std::mem::take(&mut self.held);
        found.push(match right {
            true => Found::Good(held),
            false => Found::Bad,
        });
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

    fn trials() -> Trials {
        Trials::new(Kind::Audio, "aac")
    }

    fn begin(trials: &mut Trials, from: i64, key: Option<&ContentKey>) {
        trials.begin(at(from), Arrival::default(), key);
    }

    /// Feeds frames, of which every `good`-th comes out of the decoder; gives how many were handed on, and what was
    /// found.
    fn run(trials: &mut Trials, from: i64, frames: i64, good: i64) -> (usize, bool, bool) {
        let mut on = 0;
        let mut found = Vec::new();
        for n in 0..frames {
            let ms = from + n * 20;
            trials.feed(true, Some(at(ms)), &mut found);
            if n % good == 0 {
                on += usize::from(trials.take(sound(ms), &mut found).is_some());
            }
        }
        let held = found.iter().map(|f| match f {
            Found::Good(held) => held.len(),
            Found::Bad => 0,
        });
        on += held.sum::<usize>();
        let right = found.iter().any(|f| matches!(f, Found::Good(_)));
        let wrong = found.iter().any(|f| matches!(f, Found::Bad));
        (on, right, wrong)
    }

    #[test]
    fn a_right_key_loses_no_sound() {
        let (key, mut trials) = (key(), trials());
        begin(&mut trials, 100, Some(&key));
        assert!(
            trials.take(sound(80), &mut Vec::new()).is_some(),
            "what lies before passes"
        );
        assert_eq!(run(&mut trials, 100, 20, 1), (20, true, false));
        assert!(key.is_proved(Kind::Audio) && !key.is_refuted());
        assert!(trials.is_over());
        begin(&mut trials, 900, Some(&key));
        assert!(trials.is_over());
    }

    #[test]
    fn a_wrong_key_hands_nothing_on_until_the_next_one_is_right() {
        let (wrong, right, mut trials) = (key(), ContentKey::new([2; 16]), trials());
        begin(&mut trials, 100, Some(&wrong));
        assert_eq!(run(&mut trials, 100, 50, 3), (0, false, true));
        assert!(wrong.is_refuted());
        begin(&mut trials, 2_000, Some(&right));
        assert!(
            trials.take(sound(1_900), &mut Vec::new()).is_none(),
            "still the wrong one's"
        );
        assert_eq!(run(&mut trials, 2_000, 20, 1), (20, true, false));
    }

    #[test]
    fn a_picture_is_judged_by_what_the_decoder_said_of_it() {
        // Units, blocks concealed of 240, complaints: as an H.264 decoder told them under right and wrong keys.
        for (fed, blocks, stumbles, wanted) in [
            (1, 0, 0, false),
            (1, 0, 1, false),
            (9, 0, 5, false),
            (1, 59, 1, false),
            (1, 241, 2, true),
            (36, 1_205, 102, true),
            (5, 0, 15, true),
            (4, 0, 12, true),
        ] {
            let mut trial = Trial::new(Some(key()), at(0), Arrival::default());
            (trial.fed, trial.blocks, trial.stumbles) = (fed, blocks, stumbles);
            assert_eq!(trial.spoiled(240, true), wanted, "{trial:?}");
        }
    }

    #[test]
    fn keys_that_are_fed_long_before_they_are_needed_wait_for_their_turn() {
        let keys = [1, 2, 3, 4].map(|n| ContentKey::new([n; 16]));
        let mut trials = trials();
        for (n, key) in keys.iter().enumerate() {
            begin(&mut trials, 1_000 * n as i64, Some(key));
        }
        begin(&mut trials, 4_000, None);
        // The third is wrong; the first is right although it had few frames.
        assert_eq!(run(&mut trials, 0, 6, 1), (0, false, false));
        assert_eq!(run(&mut trials, 1_000, 50, 1), (56, true, false));
        assert_eq!(run(&mut trials, 2_000, 50, 5), (0, false, true));
        assert_eq!(run(&mut trials, 3_000, 50, 1), (50, true, false));
        assert_eq!(run(&mut trials, 4_000, 50, 1), (50, true, false));
        assert!(trials.is_over());
        let proved = keys.map(|key| key.is_proved(Kind::Audio));
        assert_eq!(proved, [true, true, false, true]);
    }

    #[test]
    fn after_a_wrong_key_the_clear_passes_at_once() {
        let (wrong, mut trials) = (key(), trials());
        begin(&mut trials, 0, Some(&wrong));
        run(&mut trials, 0, 50, 9);
        begin(&mut trials, 2_000, None);
        assert!(trials.take(sound(1_980), &mut Vec::new()).is_none());
        let mut found = Vec::new();
        assert!(trials.take(sound(2_000), &mut found).is_some());
        assert!(matches!(found[..], [Found::Good(_)]) && trials.is_over());
        begin(&mut trials, 0, None);
        assert!(trials.is_over());
    }

    #[test]
    fn a_short_track_is_judged_at_its_end() {
        for (good, wanted) in [(1, 5), (4, 0)] {
            let (key, mut trials) = (key(), trials());
            begin(&mut trials, 0, Some(&key));
            assert_eq!(run(&mut trials, 0, 5, good), (0, false, false));
            let mut found = Vec::new();
            trials.feed(false, None, &mut found);
            match &found[..] {
                [Found::Good(held)] => assert_eq!(held.len(), wanted),
                [Found::Bad] => assert_eq!(wanted, 0),
                other => panic!("{other:?}"),
            }
        }
    }
}

//! Where one side lies against the other: found once in a wide search, then followed.

use super::bits::Bits;
use super::motion::Motion;
use crate::base::MediaTime;

/// Longest window that is compared, and shortest.
const WINDOW_SECS: (f64, f64) = (6.0, 10.0);
/// Delays that are looked for, either way.
pub(super) const BULK_SECS: f64 = 30.0;
/// Prints are kept for this long: the largest delay, and a window.
pub(super) const KEEP_SECS: f64 = BULK_SECS + 2.0 * WINDOW_SECS.1;
/// A side that is known is looked for within this of where it was, and of where the other medium is.
const FOLLOW_SECS: f64 = 2.5;
const FINE_SECS: f64 = 5.0;
/// Windows this far back are tried in turn: what comes first here is found further back only.
const BACK_SECS: [f64; 6] = [0.0, 2.0, 5.0, 10.0, 20.0, 30.0];
/// After so many tries, and when there is all to look in that is kept, only every so often.
const EAGER: u32 = 18;
const LAZY: u32 = 5;
/// A place is given up after so many misses.
const MISSES: u32 = 3;
/// The second best place may be this share as likely.
const SECOND_MAX: f64 = 0.85;

/// A place that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::av) struct Peak {
    /// By how much the window is later than in the reference, seconds.
    pub(in crate::av) delay_secs: f64,
    /// Correlation there.
    pub(in crate::av) likeness: f64,
    /// The largest correlation elsewhere.
    pub(in crate::av) second: f64,
}

impl Peak {
    /// 0 (a guess) to 9 (no doubt).
    pub(super) fn confidence(&self) -> f64 {
        let height = ((self.likeness - 0.4) / 0.45).clamp(0.0, 1.0);
        let alone = ((1.0 - self.second / self.likeness.max(1e-6)) / 0.3).clamp(0.0, 1.0);
        (9.0 * height * alone.sqrt()).round()
    }
}

/// One side's memory of one medium.
pub(super) trait Memory {
    /// Smallest correlation that is no chance: measured over unlike programmes at most 0.37 for sound (6 s), 0.49 for
    /// motion; over the same programme at least 0.61 for sound, 0.75 in 19 of 20 windows for motion.
    const LIKENESS_MIN: f64;
    /// After the newest.
    fn end(&self) -> Option<MediaTime>;
    /// Length.
    fn secs(&self) -> f64;
    /// Whether the window says something.
    fn is_lively(&self, end: MediaTime, secs: f64) -> bool;
    /// Where the window lies in the reference.
    fn find(&self, end: MediaTime, secs: f64, reference: &Self, delays: (f64, f64))
    -> Option<Peak>;
}

macro_rules! memory {
    ($name:ident, $likeness:literal) => {
        impl Memory for $name {
            const LIKENESS_MIN: f64 = $likeness;
            fn end(&self) -> Option<MediaTime> {
                $name::end(self)
            }
            fn secs(&self) -> f64 {
                $name::secs(self)
            }
            fn is_lively(&self, end: MediaTime, secs: f64) -> bool {
                $name::is_lively(self, end, secs)
            }
            fn find(
                &self,
                end: MediaTime,
                secs: f64,
                reference: &Self,
                delays: (f64, f64),
            ) -> Option<Peak> {
                $name::find(self, end, secs, reference, delays)
            }
        }
    };
}
memory!(Bits, 0.5);
memory!(Motion, 0.6);

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// There.
    At(Peak),
    /// Both sides say something, and not the same.
    Nowhere,
    /// There is nothing to compare, or not enough of it yet.
    Nothing,
}

/// Follows one medium.
#[derive(Debug, Default)]
pub(super) struct Aligner {
    held: Option<Peak>,
    misses: u32,
    tries: u32,
}

impl Aligner {
    /// The place, when it is known.
    pub(super) fn delay_secs(&self) -> Option<f64> {
        self.held.map(|peak| peak.delay_secs)
    }

    /// Looks again; `hint` = where the other medium is.
    pub(super) fn look<M: Memory>(&mut self, own: &M, reference: &M, hint: Option<f64>) -> Found {
        let (Some(newest), Some(theirs)) = (own.end(), reference.end()) else {
            return Found::Nothing;
        };
        let length = own.secs().min(reference.secs()).min(WINDOW_SECS.1);
        if length < WINDOW_SECS.0 {
            return Found::Nothing;
        }
        let clear = |peak: &Peak| {
            peak.likeness >= M::LIKENESS_MIN && peak.second <= SECOND_MAX * peak.likeness
        };
        // The newest that both sides have, were the delay this.
        let shared = |delay: f64| {
            let end = theirs.secs() + delay;
            MediaTime::from_nanos((end.min(newest.secs()) * 1e9) as i64)
        };
        let near = |delay: f64, reach: f64| {
            let around = (delay - reach, delay + reach);
            let found = own.find(shared(delay), length, reference, around);
            found.filter(clear)
        };
        if let Some(held) = self.held {
            if let Some(peak) = near(held.delay_secs, FOLLOW_SECS) {
                return self.hold(peak);
            }
            let end = shared(held.delay_secs);
            if !own.is_lively(end, length) {
                return Found::Nothing;
            }
            self.misses += 1;
            if self.misses < MISSES {
                return Found::Nowhere;
            }
            *self = Self::default();
        }
        if let Some(peak) = hint.and_then(|delay| near(delay, FINE_SECS)) {
            return self.hold(peak);
        }
        let lively = own.is_lively(newest, length) && reference.is_lively(theirs, length);
        if !lively {
            return Found::Nothing;
        }
        if let Some(back) = self.turn(own.secs() - length) {
            let end = MediaTime::from_nanos(((newest.secs() - back) * 1e9) as i64);
            let found = own.find(end, length, reference, (-KEEP_SECS, KEEP_SECS));
            if let Some(peak) = found
                .filter(clear)
                .filter(|p| p.delay_secs.abs() <= BULK_SECS)
            {
                return self.hold(peak);
            }
        }
        Found::Nowhere
    }

    /// How far back the window of the next wide search ends, at most `most_secs`; `None` = not now.
    fn turn(&mut self, most_secs: f64) -> Option<f64> {
        let possible = BACK_SECS.iter().filter(|back| **back <= most_secs);
        let filling = most_secs < KEEP_SECS - WINDOW_SECS.1 - 1.0;
        let eager = self.tries < EAGER || filling;
        let turn = if eager { self.tries } else { self.tries / LAZY };
        let now = eager || self.tries.is_multiple_of(LAZY);
        self.tries = self.tries.wrapping_add(1);
        let count = possible.clone().count().max(1);
        possible.copied().nth(turn as usize % count).filter(|_| now)
    }

    fn hold(&mut self, peak: Peak) -> Found {
        *self = Self {
            held: Some(peak),
            ..Self::default()
        };
        Found::At(peak)
    }
}

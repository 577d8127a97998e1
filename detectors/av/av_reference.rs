//! Sound and picture against another place of the same programme.
//!
//! Prints of the stream's own pictures and sound ([`Printer`]) are laid over those of a reference
//! ([`Fact::ReferencePrint`]): contribution against delivery, one rendition or region against another. Where the
//! pictures lie and where the sound lies are found apart; their difference is the error that came in between, whatever
//! the timestamps say and whatever is shown. Nothing matches: it is another programme. An empty print says that nothing
//! comes from the reference (any more): then nothing is measurable, and nothing is a mismatch.
//!
//! Method and constants were measured over nine clips, each encoded again in eight ways (rates down to 80 kbit/s at 144
//! rows, 24, 25 and 29.97 pictures a second, logo, crop, loudness): sound within 0.2 ms (95 % of windows), motion within
//! 2 ms at the same picture rate, 13 ms at another.

mod align;
pub(super) mod bits;
mod motion;
mod printer;
mod step;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::align::{Aligner, BULK_SECS, Found, KEEP_SECS, Peak};
use self::bits::Bits;
use self::motion::Motion;
pub use self::printer::Printer;
use self::step::Steps;
use super::{median, offset_rules, step_rules};
use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Fact, InputEvent, Kind, Limit, Media, MediaTime,
    Needs, Print, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, Track, Unit, Why,
};

/// Looks are this far apart, on the media clock.
const LOOK_EVERY_SECS: f64 = 1.0;
/// A jump of the media clock beyond this is another timeline.
const JUMP_SECS: f64 = 2.0;
/// The error told is the median of so many looks.
const MEDIAN_OF: usize = 3;
/// Longest mismatch told, seconds.
const MISMATCH_MAX_SECS: f64 = 1e7;
/// Largest error told, seconds.
const SKEW_MAX_SECS: f64 = 2.0 * BULK_SECS;

static SIGNALS: [Signal; 8] = [
    Signal {
        name: "audio_early_secs",
        unit: "seconds early",
        range: (-SKEW_MAX_SECS, SKEW_MAX_SECS),
        basis: Basis::Media,
        help: "By how much sound is earlier beside the picture than in the reference; positive = audio early.",
    },
    Signal {
        name: "confidence",
        unit: "0 to 9",
        range: (0.0, 9.0),
        basis: Basis::Media,
        help: "How sure the comparison is: 9 is beyond doubt.",
    },
    Signal {
        name: "audio_delay_secs",
        unit: "seconds",
        range: (-BULK_SECS - 6.0, BULK_SECS + 6.0),
        basis: Basis::Media,
        help: "By how much the sound is later than in the reference, on the media clocks of both.",
    },
    Signal {
        name: "video_delay_secs",
        unit: "seconds",
        range: (-BULK_SECS - 6.0, BULK_SECS + 6.0),
        basis: Basis::Media,
        help: "By how much the pictures are later than in the reference, on the media clocks of both.",
    },
    Signal {
        name: "audio_fidelity_percent",
        unit: "percent",
        range: (0.0, 100.0),
        basis: Basis::Media,
        help: "How alike the sound is.",
    },
    Signal {
        name: "video_fidelity_percent",
        unit: "percent",
        range: (0.0, 100.0),
        basis: Basis::Media,
        help: "How alike the motion of the pictures is.",
    },
    Signal {
        name: "mismatch_secs",
        unit: "seconds",
        range: (0.0, MISMATCH_MAX_SECS),
        basis: Basis::Media,
        help: "How long neither pictures nor sound have been found in the reference although there were some.",
    },
    Signal {
        name: "step_secs",
        unit: "seconds early",
        range: (-2.0 * SKEW_MAX_SECS, 2.0 * SKEW_MAX_SECS),
        basis: Basis::Media,
        help: "By how much audio_early_secs lies off what it was in the last minute; positive = earlier than before.",
    },
];
static AUDIO_EARLY: &Signal = &SIGNALS[0];
static CONFIDENCE: &Signal = &SIGNALS[1];
static AUDIO_DELAY: &Signal = &SIGNALS[2];
static VIDEO_DELAY: &Signal = &SIGNALS[3];
static AUDIO_FIDELITY: &Signal = &SIGNALS[4];
static VIDEO_FIDELITY: &Signal = &SIGNALS[5];
static MISMATCH: &Signal = &SIGNALS[6];
static STEP: &Signal = &SIGNALS[7];
/// Signals of an audio track.
static OF_AUDIO: [&Signal; 5] = [AUDIO_EARLY, CONFIDENCE, AUDIO_DELAY, AUDIO_FIDELITY, STEP];
/// Signals of the stream.
static OF_STREAM: [&Signal; 3] = [VIDEO_DELAY, VIDEO_FIDELITY, MISMATCH];

static RULES: [RuleSpec; 7] = {
    let [far_early, far_late, early, late] = offset_rules(
        Cause::AvSkewReference,
        [
            "The sound comes far too early for the picture, compared with the reference.",
            "The sound comes far too late for the picture, compared with the reference.",
            "The sound comes too early for the picture, compared with the reference.",
            "The sound comes too late for the picture, compared with the reference.",
        ],
    );
    let wrong_programme = RuleSpec {
        name: "wrong_programme",
        signal: "mismatch_secs",
        raise: Limit::AtLeast(20.0),
        clear: Limit::AtMost(0.0),
        hold: Duration::ZERO,
        release: Duration::from_secs(2),
        severity: Severity::Critical,
        cause: Cause::WrongProgramme,
        says: "The programme is not that of the reference.",
    };
    let [step_early, step_late] = step_rules(
        Cause::AvSkewReference,
        [
            "The sound suddenly comes earlier for the picture than before, compared with the reference.",
            "The sound suddenly comes later for the picture than before, compared with the reference.",
        ],
    );
    [
        far_early,
        far_late,
        early,
        late,
        wrong_programme,
        step_early,
        step_late,
    ]
};

/// Comparison with a reference.
pub static DETECTOR: Descriptor = Descriptor {
    name: "av_reference",
    doc: "Lips and sound are apart when compared with another place of the same programme, or it is another \
          programme. It needs a reference, and tells what came in between, also where the timestamps are perfect. \
          Limits are those of EBU R37 for a whole chain (40 ms early, 60 ms late) and the acceptability of ITU-R \
          BT.1359-1 (90 ms early, 185 ms late).",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &RULES,
    options: &[],
    list: None,
    build: |_| Box::new(AvReference::default()),
};

/// What is kept of one place.
#[derive(Debug, Default)]
struct Place {
    motion: Motion,
    sounds: BTreeMap<u8, Bits>,
    /// Something has come, and comes still.
    comes: bool,
}

impl Place {
    fn add(&mut self, print: &Print) {
        for picture in &print.pictures {
            self.motion.add(*picture, KEEP_SECS);
        }
        for run in &print.sound {
            let sound = self.sounds.entry(run.track).or_default();
            sound.add(run, KEEP_SECS);
        }
    }
}

/// One sound track of our own.
#[derive(Debug, Default)]
struct Hearing {
    aligner: Aligner,
    /// Errors of the last looks.
    recent: VecDeque<f64>,
    steps: Steps,
}

#[derive(Default)]
struct AvReference {
    /// There is a reference; without one nothing is printed.
    reference: Option<Place>,
    printer: Printer,
    own: Place,
    sight: Aligner,
    hearings: BTreeMap<u8, Hearing>,
    newest: Option<MediaTime>,
    looked: Option<MediaTime>,
    /// Nothing has matched since.
    apart_since: Option<MediaTime>,
}

impl AvReference {
    fn take_in(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let (Some(at), Some(track)) = (unit.at.media, unit.track) else {
            return;
        };
        if track.kind == Kind::Audio {
            self.hearings.entry(track.index).or_default();
        }
        if self.reference.is_none() {
            return;
        }
        let back = |newest: MediaTime| newest.secs_after(at) > JUMP_SECS;
        if self.newest.is_some_and(back) {
            self.forget_own();
        }
        match unit.media {
            Media::Video(picture) if track.index == 0 => self.printer.picture(at, picture.tiles()),
            Media::Audio(sound) => self.printer.sound(track.index, at, sound),
            _ => {}
        }
        self.newest = self.newest.max(Some(at));
        let due = (self.looked).is_none_or(|last| at.secs_after(last) >= LOOK_EVERY_SECS);
        if due {
            self.looked = Some(at);
            if let Some(print) = self.printer.finish() {
                self.own.add(&print);
            }
            self.look(at, out);
        }
    }

    fn look(&mut self, now: MediaTime, out: &mut Sink<'_>) {
        let Some(reference) = &self.reference else {
            return;
        };
        if !reference.comes {
            self.apart_since = None;
            self.blind(Why::NoReference, out);
            return;
        }
        let heard = (self.hearings.values()).find_map(|h| h.aligner.delay_secs());
        let seen = self.sight.look(&self.own.motion, &reference.motion, heard);
        let mut found = vec![seen];
        tell(seen, VIDEO_DELAY, VIDEO_FIDELITY, None, out);
        for (index, hearing) in &mut self.hearings {
            let theirs = (reference.sounds.get(index)).or_else(|| reference.sounds.get(&0));
            let (Some(own), Some(theirs)) = (self.own.sounds.get(index), theirs) else {
                continue;
            };
            let hint = self.sight.delay_secs();
            let sound = hearing.aligner.look(own, theirs, hint);
            found.push(sound);
            let track = Track::audio(*index);
            tell(sound, AUDIO_DELAY, AUDIO_FIDELITY, Some(track), out);
            let (Found::At(picture), Found::At(sound)) = (seen, sound) else {
                hearing.recent.clear();
                for signal in [AUDIO_EARLY, CONFIDENCE, STEP] {
                    out.put_on(track, signal, Reading::unmeasurable(Why::WarmingUp));
                }
                continue;
            };
            if hearing.recent.len() == MEDIAN_OF {
                hearing.recent.pop_front();
            }
            let error = picture.delay_secs - sound.delay_secs;
            hearing.recent.push_back(error);
            let early = median(hearing.recent.iter().copied()).unwrap_or(error);
            let early = early.clamp(-SKEW_MAX_SECS, SKEW_MAX_SECS);
            out.put_on(track, AUDIO_EARLY, Reading::measured(early));
            let confidence = picture.confidence().min(sound.confidence());
            out.put_on(track, CONFIDENCE, Reading::measured(confidence));
            let step = match hearing.steps.note(error) {
                Some(secs) => Reading::measured(secs.clamp(STEP.range.0, STEP.range.1)),
                None => Reading::unmeasurable(Why::WarmingUp),
            };
            out.put_on(track, STEP, step);
        }
        self.mismatch(&found, now, out);
    }

    fn mismatch(&mut self, found: &[Found], now: MediaTime, out: &mut Sink<'_>) {
        if found.iter().any(|f| matches!(f, Found::At(_))) {
            self.apart_since = None;
            out.put(MISMATCH, Reading::measured(0.0));
        } else if found.contains(&Found::Nowhere) {
            let since = *self.apart_since.get_or_insert(now);
            let secs = now.secs_after(since).clamp(0.0, MISMATCH_MAX_SECS);
            out.put(MISMATCH, Reading::measured(secs).since(Some(since)));
        } else {
            out.put(MISMATCH, Reading::unmeasurable(Why::WarmingUp));
        }
    }

    fn forget_own(&mut self) {
        let reference = self.reference.take();
        *self = Self {
            reference,
            ..Self::default()
        };
    }

    /// Nothing to say: no reference, or nothing comes.
    fn idle(&self, out: &mut Sink<'_>) {
        let why = match (&self.reference, self.newest) {
            (None, _) => Why::NotApplicable,
            (Some(_), None) => Why::WarmingUp,
            (Some(_), Some(_)) => return,
        };
        self.blind(why, out);
        if self.hearings.is_empty() {
            for signal in OF_AUDIO {
                out.put(signal, Reading::unmeasurable(why));
            }
        }
    }

    fn blind(&self, why: Why, out: &mut Sink<'_>) {
        for signal in OF_STREAM {
            out.put(signal, Reading::unmeasurable(why));
        }
        for index in self.hearings.keys() {
            for signal in OF_AUDIO {
                out.put_on(Track::audio(*index), signal, Reading::unmeasurable(why));
            }
        }
    }
}

/// Tells where a medium lies, and how alike it is.
fn tell(
    found: Found,
    delay: &'static Signal,
    fidelity: &'static Signal,
    track: Option<Track>,
    out: &mut Sink<'_>,
) {
    let (place, alike) = match found {
        Found::At(Peak {
            delay_secs,
            likeness,
            ..
        }) => {
            let (low, high) = delay.range;
            (
                Reading::measured(delay_secs.clamp(low, high)),
                Reading::measured((100.0 * likeness).clamp(0.0, 100.0)),
            )
        }
        Found::Nowhere => (
            Reading::unmeasurable(Why::WarmingUp),
            Reading::measured(0.0),
        ),
        Found::Nothing => (
            Reading::unmeasurable(Why::WarmingUp),
            Reading::unmeasurable(Why::WarmingUp),
        ),
    };
    for (signal, reading) in [(delay, place), (fidelity, alike)] {
        match track {
            Some(track) => out.put_on(track, signal, reading),
            None => out.put(signal, reading),
        }
    }
}

impl Detector for AvReference {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Video(_) | Media::Audio(_) => self.take_in(unit, out),
            Media::Fact(Fact::ReferencePrint(print)) if print.is_empty() => {
                self.forget_own();
                self.reference = Some(Place::default());
            }
            Media::Fact(Fact::ReferencePrint(print)) => {
                let reference = self.reference.get_or_insert_default();
                reference.comes = true;
                reference.add(print);
            }
            Media::Fact(Fact::Input(InputEvent::Reopened)) => self.forget_own(),
            Media::Fact(_) => {}
            Media::Tick => self.idle(out),
        }
    }

    fn reset(&mut self, _cause: Reset) {
        *self = Self::default();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

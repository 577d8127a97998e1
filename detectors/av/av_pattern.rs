//! Sound and picture of a test signal: flash and beep.
//!
//! A part of the picture, anywhere, lights up for a moment, and a pure tone sounds out of silence, again and again. Both
//! are looked for all the time. It is a test signal when three flashes at one place and three tones of one frequency pair
//! up with one and the same difference, and hardly any are left over. That difference is the offset itself, not a change of
//! it: exact to half a picture, which is how far a flash can be from its beep in the test signal.
//!
//! Evenly spaced signals are ambiguous by their period: the smallest offset is taken. Uneven ones are not.

mod beep;
mod flash;

use std::collections::{BTreeMap, VecDeque};

use self::beep::{Beep, Ear};
use self::flash::{Eye, Flash};
use super::{median, offset_rules};
use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Fact, InputEvent, Media, MediaTime, Needs, Reading,
    Reset, RuleSpec, Scope, Signal, Sink, Track, Unit, Why,
};

/// Largest offset looked for, seconds.
const OFFSET_MAX_SECS: f64 = 5.0;
/// Flashes and beeps remembered.
const KEPT: usize = 12;
/// Pairs that make a test signal.
const PAIRS_MIN: usize = 3;
/// Pairs agree within so many pictures.
const AGREE_PICTURES: f64 = 1.2;
/// Share of the beeps, and of the flashes, that must have a partner.
const PAIRED_MIN: f64 = 0.75;
/// Tones within this share of each other are one.
const SAME_TONE: f64 = 0.03;
/// Without another pair for this long, or three of the usual gaps, the test signal is over.
const OVER_SECS: f64 = 12.0;

static SIGNALS: [Signal; 2] = [
    Signal {
        name: "audio_early_secs",
        unit: "seconds early",
        range: (-OFFSET_MAX_SECS, OFFSET_MAX_SECS),
        basis: Basis::Media,
        help: "By how much the beep is earlier than the flash; positive = audio early.",
    },
    Signal {
        name: "confidence",
        unit: "0 to 9",
        range: (0.0, 9.0),
        basis: Basis::Media,
        help: "How many pairs of flash and beep agree, nine at most.",
    },
];
static AUDIO_EARLY: &Signal = &SIGNALS[0];
static CONFIDENCE: &Signal = &SIGNALS[1];

static RULES: [RuleSpec; 4] = offset_rules(
    Cause::AvSkewPattern,
    [
        "The beep comes far too early for the flash.",
        "The beep comes far too late for the flash.",
        "The beep comes too early for the flash.",
        "The beep comes too late for the flash.",
    ],
);

/// Flash and beep.
pub static DETECTOR: Descriptor = Descriptor {
    name: "av_pattern",
    doc: "Lips and sound would be apart, as a test signal of flash and beep shows. It is found without \
          configuration, anywhere in the picture, and tells the offset itself. Limits are those of EBU R37 for a whole \
          chain (40 ms early, 60 ms late) and the acceptability of ITU-R BT.1359-1 (90 ms early, 185 ms late).",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &RULES,
    options: &[],
    list: None,
    build: |_| Box::new(AvPattern::default()),
};

/// One sound track.
#[derive(Debug, Default)]
struct Listener {
    ear: Ear,
    beeps: VecDeque<Beep>,
    found: Option<Pattern>,
}

/// A test signal that was found.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    early_secs: f64,
    pairs: usize,
    newest: MediaTime,
    gap_secs: f64,
}

#[derive(Default)]
struct AvPattern {
    eye: Eye,
    flashes: VecDeque<Flash>,
    listeners: BTreeMap<u8, Listener>,
    newest: Option<MediaTime>,
}

impl AvPattern {
    fn pair(&mut self) {
        let Some(picture_secs) = self.eye.interval_secs() else {
            return;
        };
        for listener in self.listeners.values_mut() {
            let found = pattern(&self.flashes, &listener.beeps, picture_secs);
            listener.found = found.or(listener.found);
        }
    }

    fn tell(&mut self, out: &mut Sink<'_>) {
        let now = self.newest.unwrap_or_default();
        for (index, listener) in &mut self.listeners {
            listener.found = listener.found.take_if(|found| {
                now.secs_after(found.newest) <= f64::max(OVER_SECS, 3.0 * found.gap_secs)
            });
            let track = Track::audio(*index);
            let none = || Reading::unmeasurable(Why::NotApplicable);
            let (early, confidence) = match &listener.found {
                Some(found) => (
                    Reading::measured(found.early_secs),
                    Reading::measured(found.pairs.min(9) as f64),
                ),
                None => (none(), none()),
            };
            out.put_on(track, AUDIO_EARLY, early);
            out.put_on(track, CONFIDENCE, confidence);
        }
        if self.listeners.is_empty() {
            for signal in &SIGNALS {
                out.put(signal, Reading::unmeasurable(Why::NotApplicable));
            }
        }
    }
}

/// The test signal that flashes and beeps make, if they do.
fn pattern(
    flashes: &VecDeque<Flash>,
    beeps: &VecDeque<Beep>,
    picture_secs: f64,
) -> Option<Pattern> {
    let (last_flash, last_beep) = (flashes.back()?, beeps.back()?);
    let flashes = flashes.iter().filter(|f| f.is_beside(last_flash));
    let flashes: Vec<MediaTime> = flashes.map(|f| f.at).collect();
    let same = |b: &&Beep| (b.hz / last_beep.hz - 1.0).abs() <= SAME_TONE;
    let beeps: Vec<MediaTime> = beeps.iter().filter(same).map(|b| b.at).collect();
    let differences = flashes.iter().flat_map(|flash| {
        let near = beeps.iter().map(move |beep| flash.secs_after(*beep));
        near.filter(|secs| secs.abs() <= OFFSET_MAX_SECS)
    });
    let differences: Vec<f64> = differences.collect();
    let agree = AGREE_PICTURES * picture_secs;
    let groups: Vec<Vec<f64>> = (differences.iter())
        .map(|offset| {
            let close = differences.iter().copied();
            close
                .filter(|d| (d - offset).abs() <= agree / 2.0)
                .collect()
        })
        .collect();
    // An even signal pairs nearly as well a period further on.
    let most = groups.iter().map(Vec::len).max()?;
    let good = groups.iter().filter(|g| 4 * g.len() >= 3 * most);
    let middle = |group: &Vec<f64>| median(group.iter().copied());
    let far = |group: &Vec<f64>| middle(group).map_or(f64::MAX, f64::abs);
    let group = good.min_by(|a, b| far(a).total_cmp(&far(b)))?;
    if group.len() < PAIRS_MIN {
        return None;
    }
    let early_secs = middle(group)?;
    // Those that both could have: the oldest and newest may miss their partner.
    let partner = |at: f64, of: &[MediaTime]| of.iter().any(|o| (o.secs() - at).abs() <= agree);
    let whole = |own: &[MediaTime], of: &[MediaTime], offset: f64| {
        let (first, last) = (of.first()?.secs() - 0.5, of.last()?.secs() + 0.5);
        let times = own.iter().map(|own| own.secs() + offset);
        let due: Vec<f64> = times.filter(|t| (first..=last).contains(t)).collect();
        let paired = due.iter().filter(|t| partner(**t, of)).count();
        (paired as f64 >= PAIRED_MIN * due.len() as f64).then_some(())
    };
    whole(&beeps, &flashes, early_secs)?;
    whole(&flashes, &beeps, -early_secs)?;
    let gaps = flashes.windows(2).filter_map(|w| match w {
        [a, b] => Some(b.secs_after(*a)),
        _ => None,
    });
    Some(Pattern {
        early_secs: early_secs.clamp(-OFFSET_MAX_SECS, OFFSET_MAX_SECS),
        pairs: group.len(),
        newest: last_flash.at.max(last_beep.at),
        gap_secs: gaps.fold(0.0, f64::max),
    })
}

fn keep<T>(queue: &mut VecDeque<T>, new: T) {
    if queue.len() == KEPT {
        queue.pop_front();
    }
    queue.push_back(new);
}

impl Detector for AvPattern {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let (at, track) = (unit.at.media, unit.track);
        match (unit.media, at, track) {
            (Media::Video(picture), Some(at), Some(Track { index: 0, .. })) => {
                self.newest = self.newest.max(Some(at));
                if let Some(flash) = self.eye.see(at, picture.tiles()) {
                    keep(&mut self.flashes, flash);
                    self.pair();
                }
            }
            (Media::Audio(sound), Some(at), Some(Track { index, .. })) => {
                self.newest = self.newest.max(Some(at));
                let listener = self.listeners.entry(index).or_default();
                let beeps = listener.ear.hear(at, sound);
                let heard = !beeps.is_empty();
                for beep in beeps {
                    keep(&mut listener.beeps, beep);
                }
                if heard {
                    self.pair();
                }
            }
            (Media::Fact(Fact::Input(InputEvent::Reopened)), ..) => *self = Self::default(),
            (Media::Tick, ..) => self.tell(out),
            _ => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        *self = Self::default();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

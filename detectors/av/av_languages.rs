//! Sound tracks of one stream against each other.
//!
//! A dub shares music and effects with the original: where nobody speaks, the levels of both rise and fall together. Bits
//! of sound as `av_reference` compares them ([`Printer`]) of every further track are looked for in those of the first,
//! over twenty seconds and five seconds either way. Speech of two languages has nothing in common, so a place counts only
//! when it stands out and three looks in a row agree; where tracks share nothing, nothing is measurable.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::av_reference::Printer;
use super::av_reference::bits::Bits;
use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Fact, InputEvent, Kind, Limit, Media, MediaTime,
    Needs, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, Track, Unit, Why,
};

/// Length of what is compared, how far it is looked for, and how often.
const WINDOW_SECS: f64 = 20.0;
const REACH_SECS: f64 = 5.0;
const LOOK_EVERY_SECS: f64 = 5.0;
/// Sound is kept for so long.
const KEEP_SECS: f64 = WINDOW_SECS + 2.0 * REACH_SECS;
/// Smallest correlation that counts, and the second best by the best at most. Chance makes 0.37 over 6 s of unlike
/// programmes, and less over more.
const LIKENESS_MIN: f64 = 0.3;
const SECOND_MAX: f64 = 0.7;
/// Correlation that is told as confidence 9: the same sound in another codec reaches it.
const LIKENESS_SURE: f64 = 0.8;
/// So many looks in a row must lie this near to each other.
const LOOKS: usize = 3;
const AGREE_SECS: f64 = 0.005;
/// What was found stands for so long: there is music now and then.
const STANDS_SECS: f64 = 120.0;
/// A jump of the media clock beyond this is another timeline.
const JUMP_SECS: f64 = 2.0;

static SIGNALS: [Signal; 3] = [
    Signal {
        name: "audio_early_secs",
        unit: "seconds early",
        range: (-REACH_SECS - 1.0, REACH_SECS + 1.0),
        basis: Basis::Media,
        help: "By how much what this track has in common with the first sound track is earlier in it; positive = early.",
    },
    Signal {
        name: "confidence",
        unit: "0 to 9",
        range: (0.0, 9.0),
        basis: Basis::Media,
        help: "How much the tracks had in common where they agreed; 9 is most of what is heard.",
    },
    Signal {
        name: "likeness_percent",
        unit: "percent",
        range: (0.0, 100.0),
        basis: Basis::Media,
        help: "How alike the newest twenty seconds of both are where they are most alike.",
    },
];
static AUDIO_EARLY: &Signal = &SIGNALS[0];
static CONFIDENCE: &Signal = &SIGNALS[1];
static LIKENESS: &Signal = &SIGNALS[2];

const fn rule(name: &'static str, (raise, clear): (Limit, Limit), says: &'static str) -> RuleSpec {
    RuleSpec {
        name,
        signal: "audio_early_secs",
        raise,
        clear,
        hold: Duration::ZERO,
        release: Duration::ZERO,
        severity: Severity::Warning,
        cause: Cause::AvSkewLanguages,
        says,
    }
}

/// Sound tracks against the first.
pub static DETECTOR: Descriptor = Descriptor {
    name: "av_languages",
    doc: "One sound track lies early or late beside the first one, such as a dub beside the original. It needs sound that \
          both have in common: music, effects. Limits are those of EBU R37 for a whole chain (40 ms early, 60 ms late).",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        rule(
            "audio_early",
            (Limit::AtLeast(0.040), Limit::AtMost(0.030)),
            "This sound track comes too early, compared with the first one.",
        ),
        rule(
            "audio_late",
            (Limit::AtMost(-0.060), Limit::AtLeast(-0.050)),
            "This sound track comes too late, compared with the first one.",
        ),
    ],
    options: &[],
    list: None,
    build: |_| Box::new(AvLanguages::default()),
};

/// One sound track.
#[derive(Debug, Default)]
struct Voice {
    bits: Bits,
    /// Places found by the newest looks, by how much later than in the first track, seconds.
    delays: VecDeque<f64>,
    agreed: Option<Agreed>,
}

/// What looks in a row agreed on.
#[derive(Debug)]
struct Agreed {
    early_secs: f64,
    confidence: f64,
    at: MediaTime,
}

#[derive(Debug, Default)]
struct AvLanguages {
    printer: Printer,
    voices: BTreeMap<u8, Voice>,
    newest: Option<MediaTime>,
    looked: Option<MediaTime>,
}

impl AvLanguages {
    fn hear(&mut self, at: MediaTime, out: &mut Sink<'_>) {
        self.newest = self.newest.max(Some(at));
        let looked = *self.looked.get_or_insert(at);
        if at.secs_after(looked) < LOOK_EVERY_SECS {
            return;
        }
        self.looked = Some(at);
        for run in self.printer.finish().iter().flat_map(|print| &print.sound) {
            if let Some(voice) = self.voices.get_mut(&run.track) {
                voice.bits.add(run, KEEP_SECS);
            }
        }
        let mut voices = self.voices.iter_mut();
        let Some((_, first)) = voices.next() else {
            return;
        };
        for (index, voice) in voices {
            voice.look(&first.bits, at, Track::audio(*index), out);
        }
    }

    /// A single track has nothing to be compared with.
    fn idle(&self, out: &mut Sink<'_>) {
        let first = self.voices.keys().next();
        let alone = Reading::unmeasurable(Why::NotApplicable);
        for signal in &SIGNALS {
            match first {
                Some(index) => out.put_on(Track::audio(*index), signal, alone.clone()),
                None => out.put(signal, alone.clone()),
            }
        }
    }
}

impl Voice {
    fn look(&mut self, first: &Bits, now: MediaTime, track: Track, out: &mut Sink<'_>) {
        let warming = || Reading::unmeasurable(Why::WarmingUp);
        let found = self.find(first);
        if let Some((delay, likeness, counts)) = found {
            if self.delays.len() == LOOKS {
                self.delays.pop_front();
            }
            if counts {
                self.delays.push_back(delay);
            } else {
                self.delays.clear();
            }
            let near = |d: &f64| (d - delay).abs() <= AGREE_SECS;
            if self.delays.len() == LOOKS && self.delays.iter().all(near) {
                let sure = (likeness - LIKENESS_MIN) / (LIKENESS_SURE - LIKENESS_MIN);
                self.agreed = Some(Agreed {
                    early_secs: -delay,
                    confidence: (9.0 * sure.clamp(0.0, 1.0)).round(),
                    at: now,
                });
            }
        }
        let stands = (self.agreed.as_ref()).filter(|a| now.secs_after(a.at) <= STANDS_SECS);
        let (early, confidence) = match stands {
            Some(agreed) => (
                Reading::measured(
                    agreed
                        .early_secs
                        .clamp(AUDIO_EARLY.range.0, AUDIO_EARLY.range.1),
                ),
                Reading::measured(agreed.confidence),
            ),
            None => (warming(), warming()),
        };
        let likeness = found.map_or_else(warming, |(_, likeness, _)| {
            Reading::measured((100.0 * likeness).clamp(0.0, 100.0))
        });
        out.put_on(track, AUDIO_EARLY, early);
        out.put_on(track, CONFIDENCE, confidence);
        out.put_on(track, LIKENESS, likeness);
    }

    /// Where the newest sound lies in the first track: by how much later, how alike it is, and whether that counts.
    fn find(&self, first: &Bits) -> Option<(f64, f64, bool)> {
        let end = self.bits.end()?.min(first.end()?);
        if self.bits.secs().min(first.secs()) < WINDOW_SECS
            || !self.bits.is_lively(end, WINDOW_SECS)
        {
            return None;
        }
        let reach = (-REACH_SECS, REACH_SECS);
        let peak = self.bits.find(end, WINDOW_SECS, first, reach)?;
        let counts = peak.likeness >= LIKENESS_MIN && peak.second <= SECOND_MAX * peak.likeness;
        Some((peak.delay_secs, peak.likeness, counts))
    }
}

impl Detector for AvLanguages {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match (unit.media, unit.at.media, unit.track) {
            (Media::Audio(sound), Some(at), Some(track)) => {
                let back = |newest: MediaTime| newest.secs_after(at) > JUMP_SECS;
                if self.newest.is_some_and(back) {
                    *self = Self::default();
                }
                self.voices.entry(track.index).or_default();
                // A single track is compared with nothing.
                if self.voices.len() > 1 {
                    self.printer.sound(track.index, at, sound);
                    self.hear(at, out);
                }
            }
            (Media::Fact(Fact::Tracks(infos)), ..) => {
                let listed = |index: &u8| infos.iter().any(|i| i.track == Track::audio(*index));
                let gone: Vec<u8> = (self.voices.keys().copied())
                    .filter(|index| !listed(index))
                    .collect();
                for index in gone {
                    self.voices.remove(&index);
                    for signal in &SIGNALS {
                        let gone = Reading::unmeasurable(Why::NotApplicable);
                        out.put_on(Track::audio(index), signal, gone);
                    }
                }
                let sounds = infos.iter().filter(|i| i.track.kind == Kind::Audio);
                for info in sounds {
                    self.voices.entry(info.track.index).or_default();
                }
            }
            (Media::Fact(Fact::Input(InputEvent::Reopened)), ..) => *self = Self::default(),
            (Media::Tick, ..) => self.idle(out),
            _ => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        *self = Self::default();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testkit::{Bench, Noise, Step};

    const RATE_HZ: u32 = 16_000;
    const BLOCK: usize = 1_600;

    /// Noise whose level changes at random, as of speech or effects, in steps of a millisecond.
    fn levels(seed: u64, secs: usize) -> Vec<f64> {
        let mut noise = Noise::new(seed);
        let mut level = 0.0;
        (0..secs * 1_000)
            .map(|_| {
                if noise.bits().is_multiple_of(80) {
                    level = [0.01, 0.05, 0.2, 0.5][(noise.bits() % 4) as usize];
                }
                level
            })
            .collect()
    }

    /// A track of effects, `late_millis` late, under speech that is there for `spoken` of every ten seconds.
    fn track(index: u8, effects: &[f64], speech: &[f64], spoken: usize, late: usize) -> Vec<Step> {
        let mut noise = Noise::new(77 + u64::from(index));
        let samples = effects.len() * RATE_HZ as usize / 1_000;
        let sound = (0..samples).map(|n| {
            let millis = n * 1_000 / RATE_HZ as usize;
            let from = millis.saturating_sub(late);
            let speaks = from / 1_000 % 10 < spoken;
            let level = effects[from] * 0.3 + if speaks { speech[from] } else { 0.0 };
            (noise.normal(level) as f32).clamp(-1.0, 1.0)
        });
        let sound: Vec<f32> = sound.collect();
        let blocks = sound.chunks_exact(BLOCK).enumerate();
        let step = |(n, block): (usize, &[f32])| {
            let mut step = Step::sound(100 * n as i64, block.to_vec(), 1, RATE_HZ);
            step.track = Some(Track::audio(index));
            step
        };
        blocks.map(step).collect()
    }

    fn compared(tracks: Vec<Vec<Step>>) -> Bench {
        let mut steps: Vec<Step> = tracks.into_iter().flatten().collect();
        steps.sort_by_key(|step| step.at.media);
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&steps);
        bench
    }

    #[test]
    fn a_dub_is_found_late_by_what_it_shares_with_the_original() {
        let (effects, english, french) = (levels(1, 60), levels(2, 60), levels(3, 60));
        let dub = |late: usize| {
            let original = track(0, &effects, &english, 5, 0);
            compared(vec![original, track(1, &effects, &french, 5, late)])
        };
        let told = dub(120);
        let late = told.value("audio_early_secs");
        assert!((late + 0.12).abs() < 0.003, "{late}");
        assert!(told.value("confidence") >= 2.0);
        let aligned = dub(0).value("audio_early_secs");
        assert!(aligned.abs() < 0.003, "{aligned}");
    }

    #[test]
    fn tracks_that_share_nothing_are_not_measurable() {
        for seed in 0..4 {
            let (one, other) = (levels(10 + seed, 60), levels(20 + seed, 60));
            let silent = vec![0.0; one.len()];
            let bench = compared(vec![
                track(0, &one, &silent, 0, 0),
                track(1, &other, &silent, 0, 0),
            ]);
            let newest = bench.newest("audio_early_secs").unwrap();
            assert_eq!(
                newest.value,
                crate::base::Value::Unmeasurable(Why::WarmingUp)
            );
        }
    }
}

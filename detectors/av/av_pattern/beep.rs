//! Beeps: a pure tone out of silence.

use std::collections::VecDeque;

use crate::base::{MediaTime, Sound};

/// Steps in which sound is looked at.
const HOPS_HZ: u32 = 1_000;
/// A beep is this loud (-46 dBFS), and this much louder than what was before it (20 dB).
const POWER_MIN: f64 = 2.5e-5;
const CONTRAST: f64 = 100.0;
/// What is before a beep, and the start of a beep that is looked at, in hops.
const BEFORE: usize = 60;
const TONE: usize = 24;
/// Encoders smear an onset: the first hops of a tone are left out of its measure.
const SKIRT: usize = 4;
/// Frequencies of tones, hertz.
const TONES_HZ: std::ops::RangeInclusive<f64> = 150.0..=9_000.0;
/// Share of the power that must lie in one sine.
const PURITY_MIN: f64 = 0.9;
/// Timestamps off the count of samples by more than this begin a new run.
const OFF_SECS: f64 = 0.02;

/// A beep that was heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Beep {
    /// Onset.
    pub(super) at: MediaTime,
    pub(super) hz: f64,
}

/// Listens for beeps on one track.
#[derive(Debug, Default)]
pub(super) struct Ear {
    rate_hz: u32,
    /// Time of the first sample of `mono`.
    from: MediaTime,
    mono: VecDeque<f32>,
    /// Power of each whole hop of `mono`.
    power: VecDeque<f64>,
    /// Hops at the front in which a beep is known not to begin.
    done: usize,
}

impl Ear {
    /// Takes in a block; gives the beeps that are now whole.
    pub(super) fn hear(&mut self, at: MediaTime, sound: &Sound<'_>) -> Vec<Beep> {
        let expected = self.mono.len() as f64 / f64::from(self.rate_hz.max(1));
        let off = (at.secs_after(self.from) - expected).abs();
        if self.rate_hz != sound.rate_hz() || off > OFF_SECS {
            *self = Self {
                rate_hz: sound.rate_hz(),
                from: at,
                ..Self::default()
            };
        }
        let hop = self.hop();
        if hop < 8 {
            return Vec::new();
        }
        let share = 1.0 / sound.channels() as f32;
        let frames = sound.samples().chunks_exact(sound.channels());
        self.mono.extend(frames.map(|frame| {
            let mixed = frame.iter().sum::<f32>() * share;
            if mixed.is_finite() {
                mixed.clamp(-1.0, 1.0)
            } else {
                0.0
            }
        }));
        while (self.power.len() + 1) * hop <= self.mono.len() {
            let from = self.power.len() * hop;
            let squares = self.mono.range(from..from + hop).map(|x| f64::from(x * x));
            self.power.push_back(squares.sum::<f64>() / hop as f64);
        }
        let mut beeps = Vec::new();
        while self.done.max(BEFORE) + TONE < self.power.len() {
            let at = self.done.max(BEFORE);
            self.done = at + 1;
            if let Some(beep) = self.beep_at(at) {
                beeps.push(beep);
                self.done = at + TONE;
            }
        }
        self.forget();
        beeps
    }

    fn hop(&self) -> usize {
        (self.rate_hz / HOPS_HZ) as usize
    }

    /// Keeps what may lie before the next beep.
    fn forget(&mut self) {
        let gone = self.done.saturating_sub(BEFORE);
        let hop = self.hop();
        self.power.drain(..gone.min(self.power.len()));
        self.mono.drain(..(gone * hop).min(self.mono.len()));
        self.done -= gone;
        let secs = (gone * hop) as f64 / f64::from(self.rate_hz.max(1));
        self.from = self.from.plus(std::time::Duration::from_secs_f64(secs));
    }

    /// Whether a beep begins in this hop.
    fn beep_at(&self, hop: usize) -> Option<Beep> {
        let mean = |from: usize, count: usize| {
            let hops = self.power.iter().skip(from).take(count);
            hops.sum::<f64>() / count as f64
        };
        let tone = mean(hop + SKIRT, TONE - SKIRT);
        // Half the amplitude is reached here.
        if tone < POWER_MIN || *self.power.get(hop)? < tone / 4.0 {
            return None;
        }
        // The hops just before hold what the encoder smeared.
        if mean(hop - BEFORE, BEFORE - SKIRT) * CONTRAST > tone {
            return None;
        }
        let size = self.hop();
        let samples = self.mono.range((hop + SKIRT) * size..(hop + TONE) * size);
        let samples: Vec<f64> = samples.map(|x| f64::from(*x)).collect();
        let hz = pure(&samples, f64::from(self.rate_hz))?;
        let secs = (hop * size) as f64 / f64::from(self.rate_hz);
        let at = self.from.plus(std::time::Duration::from_secs_f64(secs));
        Some(Beep { at, hz })
    }
}

/// Frequency, when nearly all power lies in one sine.
fn pure(samples: &[f64], rate_hz: f64) -> Option<f64> {
    let crossings = samples.windows(2).filter(|w| match w {
        [a, b] => (*a < 0.0) != (*b < 0.0),
        _ => false,
    });
    let count = crossings.count() as f64;
    let rough = count / 2.0 * rate_hz / samples.len().max(1) as f64;
    let power = samples.iter().map(|x| x * x).sum::<f64>();
    if !TONES_HZ.contains(&rough) || power <= 0.0 {
        return None;
    }
    let width = rate_hz / samples.len() as f64;
    let steps = (-8..=8).map(|n| rough + f64::from(n) * width / 6.0);
    let (hz, share) = steps
        .map(|hz| (hz, share_at(samples, hz / rate_hz) / power))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    (share >= PURITY_MIN).then_some(hz)
}

/// Power of the sine of that frequency (cycles a sample) that fits best.
fn share_at(samples: &[f64], cycles: f64) -> f64 {
    let (mut sin, mut cos) = (0.0, 0.0);
    for (n, x) in samples.iter().enumerate() {
        let (s, c) = (std::f64::consts::TAU * cycles * n as f64).sin_cos();
        sin += x * s;
        cos += x * c;
    }
    2.0 * (sin * sin + cos * cos) / samples.len().max(1) as f64
}

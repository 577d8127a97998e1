//! Light that goes or comes, as at dusk, and slows down: where it turns, the picture stands still for a while, and lives.
//!
//! A freeze in the middle of such a drift stops it from one picture to the next. Thresholds: 29 turns of light in 22 clips
//! of four codecs, all of which had slowed to 0.71 of their speed two seconds before or less.

use std::collections::VecDeque;

use super::recent::remember;
use crate::base::MediaTime;

/// The picture stood still, but for its light, for so long before.
const QUIET_SECS: f64 = 2.0;
/// Most tiles that moved on any picture of that time, share.
const QUIET_RATIO: f64 = 0.002;
/// What is remembered: that time, a speed before it, and what a run takes to be dated.
const MEMORY_SECS: f64 = 5.0;
const MEMORY_PICTURES: usize = 640;
/// Speeds are taken over so long.
const SPEED_SECS: f64 = 0.5;
/// Codes a second that tell a drift.
const DRIFT: f32 = 1.0;
/// Speed at the end by speed before, at most.
const SLOWED: f32 = 0.75;

/// Mean luma of the last pictures.
#[derive(Debug, Default)]
pub(super) struct Light {
    pictures: VecDeque<Level>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    at: MediaTime,
    codes: f32,
    moved: f64,
}

impl Light {
    /// Notes a picture: its mean luma, and the share of tiles that moved.
    pub(super) fn note(&mut self, at: MediaTime, codes: f32, moved: f64) {
        let level = Level { at, codes, moved };
        let past = &mut self.pictures;
        remember(past, level, |p| p.at, MEMORY_SECS, MEMORY_PICTURES);
    }

    /// Mean luma of the newest picture.
    pub(super) fn level(&self) -> f32 {
        self.pictures.back().map_or(0.0, |p| p.codes)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.pictures.clear();
    }

    /// Whether light drifted before `since`, nothing else moved, and the drift slowed down.
    pub(super) fn ebbs(&self, since: MediaTime) -> bool {
        let age = |p: &Level| since.secs_after(p.at);
        let quiet = (self.pictures.iter())
            .filter(|p| (0.1..=QUIET_SECS).contains(&age(p)))
            .all(|p| p.moved <= QUIET_RATIO);
        let (Some(first), Some(middle), Some(last)) = (
            self.speed(since, QUIET_SECS),
            self.speed(since, QUIET_SECS / 2.0),
            self.speed(since, 0.0),
        ) else {
            return false;
        };
        let one_way = first * middle > 0.0 && first * last >= 0.0;
        let slows = last.abs() <= SLOWED * first.abs() && middle.abs() <= 1.1 * first.abs();
        quiet && one_way && slows && first.abs() >= DRIFT
    }

    /// Codes a second in the half second that ended so long before `since`; `None` where too little is known.
    fn speed(&self, since: MediaTime, before_secs: f64) -> Option<f32> {
        let end = self.around(since, before_secs)?;
        let begin = self.around(since, before_secs + SPEED_SECS)?;
        Some((end - begin) / SPEED_SECS as f32)
    }

    /// Mean over a quarter of a second: single pictures flicker.
    fn around(&self, since: MediaTime, before_secs: f64) -> Option<f32> {
        let near = |p: &&Level| (since.secs_after(p.at) - before_secs).abs() <= 0.13;
        let (mut sum, mut count) = (0.0, 0u16);
        for picture in self.pictures.iter().filter(near) {
            sum += picture.codes;
            count += 1;
        }
        (count >= 3).then(|| sum / f32::from(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether light that follows `codes` (by seconds) ebbs at 4 s, of pictures of which so much moved.
    fn ebbs(codes: impl Fn(f32) -> f32, moved: f64) -> bool {
        let mut light = Light::default();
        for n in 0..125 {
            let secs = n as f32 / 25.0;
            light.note(MediaTime::from_millis(40 * n), codes(secs), moved);
        }
        light.ebbs(MediaTime::from_millis(4_000))
    }

    #[test]
    fn light_that_turns_ebbs_and_light_that_is_stopped_does_not() {
        // Turns at 4.6 s.
        let turn = |secs: f32| 80.0 - 0.8 * (4.6 - secs).powi(2);
        assert!(ebbs(turn, 0.0));
        assert!(ebbs(|secs| 160.0 - turn(secs), 0.0));
        assert!(!ebbs(turn, 0.01));
        // Frozen in the middle of it.
        assert!(!ebbs(|secs| 80.0 - 2.5 * secs.min(4.0), 0.0));
        assert!(!ebbs(|_| 80.0, 0.0));
        // Goes up and down.
        assert!(!ebbs(|secs| 80.0 + 5.0 * (2.0 * secs).sin(), 0.0));
    }
}

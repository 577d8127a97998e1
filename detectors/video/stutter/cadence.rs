//! How long each picture stands in the ordinary course, when the rate of the programme is not that of the stream.
//!
//! Whatever the two rates, a picture of a regular programme stands for *k* or *k* + 1 pictures of the stream, with one
//! *k* for all: 1,1,1,2 (24 in 30), 2,3 (24 in 60), 2 (25 in 50, 30 in 60, animation on twos). That is known from
//! the newest pictures without looking for a period, and a sequence that breaks its period by one is no stutter.

use std::collections::VecDeque;

use crate::base::MediaTime;

/// Memory, in seconds and at most so many pictures.
const MEMORY_SECS: f64 = 2.0;
const MEMORY_PICTURES: usize = 128;
/// Share of the pictures that stand no longer than the cadence says.
const USUAL_RATIO: f64 = 0.8;
/// Fewer pictures tell no cadence.
const LEAST: usize = 6;
/// A programme of fewer pictures a second is animation.
const ANIMATION_HZ: f64 = 17.0;
/// A cadence's repeats tell how much a codec redraws; what changes more, by this factor, is the next picture.
const REDRAWN_FACTOR: f32 = 2.5;
const REDRAWN_LEAST: f32 = 0.15;
/// So many of the newest pictures count for that, and so often each must be repeated on the mean.
const REDRAWN_PACE: f32 = 1.0 / 16.0;
const REDRAWN_REPEATS: f32 = 0.12;

/// The newest pictures that differed from the ones before, and how long they stood.
#[derive(Debug, Default)]
pub(super) struct Cadence {
    stood: VecDeque<(MediaTime, f64)>,
    /// Distances of the stream's own pictures, seconds.
    distances: VecDeque<f64>,
    /// How often a picture was repeated lately in the ordinary course, and the sum of the changes of its repeats, by
    /// what is usual for motion.
    repeats: f32,
    redrawn: f32,
}

impl Cadence {
    pub(super) fn clear(&mut self) {
        self.stood.clear();
        self.distances.clear();
        (self.repeats, self.redrawn) = (0.0, 0.0);
    }

    /// Notes the distance of two neighbouring pictures of the stream, seconds.
    pub(super) fn note_distance(&mut self, secs: f64) {
        self.distances.push_back(secs);
        if self.distances.len() > 64 {
            self.distances.pop_front();
        }
    }

    /// Notes how long a picture stood, seconds.
    pub(super) fn note_stood(&mut self, now: MediaTime, secs: f64) {
        self.stood.push_back((now, secs));
        while self.stood.len() > MEMORY_PICTURES
            || (self.stood.front()).is_some_and(|(at, _)| now.secs_after(*at) > MEMORY_SECS)
        {
            self.stood.pop_front();
        }
    }

    /// Notes how often a picture was repeated in the ordinary course, and the sum of the changes of its repeats.
    pub(super) fn note_repeats(&mut self, count: u32, redrawn: f32) {
        self.repeats += REDRAWN_PACE * (count as f32 - self.repeats);
        self.redrawn += REDRAWN_PACE * (redrawn - self.redrawn);
    }

    /// Largest change of a picture, by what is usual for motion, that may be a repeat drawn anew by the codec; known
    /// where the cadence repeats all the time.
    pub(super) fn redrawn_limit(&self) -> Option<f32> {
        (self.repeats >= REDRAWN_REPEATS)
            .then(|| (REDRAWN_FACTOR * self.redrawn / self.repeats).max(REDRAWN_LEAST))
    }

    /// Usual distance of the stream's pictures, seconds.
    pub(super) fn distance(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.distances.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        (sorted.len() >= LEAST).then(|| sorted[sorted.len() / 2])
    }

    /// Whether the stream's pictures come at a regular rate, as far as they come.
    pub(super) fn is_regular(&self) -> bool {
        let Some(usual) = self.distance() else {
            return false;
        };
        let near = |d: &&f64| (**d - usual).abs() <= 0.15 * usual;
        let multiple = |d: &&f64| (**d / usual - (**d / usual).round()).abs() <= 0.15;
        let count = self.distances.len().max(1) as f64;
        let share =
            |of: &dyn Fn(&&f64) -> bool| self.distances.iter().filter(of).count() as f64 / count;
        share(&near) >= 0.6 && share(&multiple) >= 0.9
    }

    /// The distance of two pictures beyond which pictures are missing: for a stream with a regular rate any that
    /// could hold another, else the rule of WebRTC's statistics (`freezeCount`), max(3 x mean, mean + 150 ms).
    pub(super) fn hole_secs(&self) -> f64 {
        let count = self.distances.len().max(1) as f64;
        let mean = self.distances.iter().sum::<f64>() / count;
        let Some(usual) = self.distance() else {
            return f64::MAX;
        };
        match self.is_regular() {
            true => 1.5 * usual,
            false => (3.0 * mean).max(mean + 0.15),
        }
    }

    /// How long a picture may stand by the cadence, seconds; `None` until it is known.
    pub(super) fn usual_secs(&self) -> Option<f64> {
        let distance = self.distance()?;
        if self.stood.len() < LEAST {
            return None;
        }
        let mut sorted: Vec<f64> = self.stood.iter().map(|s| s.1).collect();
        sorted.sort_by(f64::total_cmp);
        let usual = sorted[(sorted.len() as f64 * USUAL_RATIO) as usize];
        let median = sorted[(sorted.len() - 1) / 2];
        Some(usual.min(median + 1.1 * distance))
    }

    /// Mean time for which a picture stands in the ordinary course, seconds.
    pub(super) fn mean_secs(&self) -> Option<f64> {
        let most = self.usual_secs()? + 0.5 * self.distance()?;
        let usual = || self.stood.iter().map(|s| s.1).filter(|s| *s <= most);
        let count = usual().count();
        (count > 0).then(|| usual().sum::<f64>() / count as f64)
    }

    /// Whether it is that of animation: held drawings are its style.
    pub(super) fn is_animation(&self) -> bool {
        let secs: f64 = self.stood.iter().map(|s| s.1).sum();
        let irregular = self.usual_secs().is_none_or(|usual| {
            let long = |s: &&(MediaTime, f64)| s.1 > 1.2 * usual;
            5 * self.stood.iter().filter(long).count() > self.stood.len()
        });
        irregular || (self.stood.len() as f64) < ANIMATION_HZ * secs
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn cadence(hz: f64, stood: &[u32]) -> Cadence {
        let mut cadence = Cadence::default();
        let mut at = 0.0;
        for pictures in stood.iter().cycle().take(40) {
            for _ in 0..*pictures {
                cadence.note_distance(1.0 / hz);
            }
            let secs = f64::from(*pictures) / hz;
            at += secs;
            cadence.note_stood(MediaTime::from_nanos((at * 1e9) as i64), secs);
        }
        cadence
    }

    fn pictures(hz: f64, stood: &[u32]) -> f64 {
        (cadence(hz, stood).usual_secs().unwrap() * hz).round()
    }

    #[test]
    fn every_conversion_of_rates_is_known() {
        assert_eq!(pictures(25.0, &[1]), 1.0);
        assert_eq!(pictures(30.0, &[1, 1, 1, 2]), 2.0);
        assert_eq!(pictures(60.0, &[2, 3]), 3.0);
        assert_eq!(pictures(50.0, &[2]), 2.0);
        assert_eq!(pictures(24.0, &[2]), 2.0);
        assert_eq!(pictures(24.0, &[2, 3, 2, 2]), 3.0);
    }

    #[test]
    fn stutter_is_no_cadence_however_much_there_is() {
        assert!(pictures(25.0, &[1, 1, 5]) <= 2.0);
        assert!(pictures(25.0, &[1, 5, 1, 1, 7, 1]) <= 2.0);
    }

    #[test]
    fn drawings_on_twos_are_animation_and_camera_pictures_are_not() {
        assert!(cadence(24.0, &[2]).is_animation());
        assert!(cadence(24.0, &[1, 1, 4, 3]).is_animation());
        assert!(!cadence(50.0, &[2]).is_animation());
        assert!(!cadence(60.0, &[2, 3]).is_animation());
        assert!(!cadence(30.0, &[1, 1, 1, 2]).is_animation());
        assert!(!cadence(25.0, &[1]).is_animation());
    }

    #[test]
    fn holes_are_judged_by_how_regular_the_stream_is() {
        assert!((cadence(25.0, &[1]).hole_secs() - 0.06).abs() < 1e-9);
        let mut cadence = Cadence::default();
        for i in 0..30 {
            cadence.note_distance([0.03, 0.05, 0.07][i % 3]);
        }
        assert!((cadence.hole_secs() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_cadence_knows_its_mean_and_how_much_is_redrawn() {
        let mut pulldown = cadence(60.0, &[2, 3]);
        assert!((pulldown.mean_secs().unwrap() * 60.0 - 2.5).abs() < 1e-6);
        // A stop does not count.
        let stops = [2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 12];
        assert!((cadence(60.0, &stops).mean_secs().unwrap() * 60.0 - 2.5).abs() < 0.1);
        assert_eq!(pulldown.redrawn_limit(), None);
        (0..60).for_each(|_| pulldown.note_repeats(1, 0.02));
        assert_eq!(pulldown.redrawn_limit(), Some(REDRAWN_LEAST));
        (0..60).for_each(|_| pulldown.note_repeats(2, 0.3));
        assert!((pulldown.redrawn_limit().unwrap() - 0.375).abs() < 0.01);
        (0..60).for_each(|_| pulldown.note_repeats(0, 0.0));
        assert_eq!(pulldown.redrawn_limit(), None);
    }
}

//! Where the picture came to rest.
//!
//! Slow motion stays below what a tile may differ by, so the anchor of a run may lie some pictures before the true
//! start; a coarse first picture may put it behind. The means of tiles tell better: grain and redrawing hardly touch
//! them. Their distance to the picture that stands falls while motion goes on, and is flat from the first still
//! picture on.

use std::collections::VecDeque;

use crate::base::MediaTime;
use crate::kernel::tiles::Tiles;

/// How long means are remembered, how close together, and at most how many pictures.
const MEMORY_SECS: f64 = 1.6;
const SPACING_SECS: f64 = 0.03;
const MEMORY: usize = 56;
/// Means are kept in steps of this part of a code.
const STEPS: f32 = 64.0;
/// A corner is looked for this far to either side of where the run began.
const REACH_SECS: f64 = 0.5;
/// Share of the tiles whose distance counts, and at least so many: motion may be small.
const OUTER_RATIO: f64 = 0.02;
const OUTER: usize = 4;
/// How long motion before a corner is looked at, and at least rest after it.
const MOTION_SECS: f64 = 0.17;
const REST_SECS: f64 = 0.21;
/// Codes by which rest is unsure: coding alone makes so much.
const UNSURE_CODES: f32 = 1.5;
/// How much more motion than rest (both with what is unsure) makes a corner before the run; a slope has no such.
const CORNER: f32 = 1.3;
/// The distance must fall by this many codes.
const FALL_CODES: f32 = 0.4;

/// Means of the tiles of the newest pictures.
#[derive(Debug, Default)]
pub(super) struct Onset {
    past: VecDeque<(MediaTime, Vec<u16>)>,
}

impl Onset {
    /// Starts over.
    pub(super) fn clear(&mut self) {
        self.past.clear();
    }

    /// Remembers a picture.
    pub(super) fn note(&mut self, now: MediaTime, tiles: &Tiles) {
        let due = |at: MediaTime| now.secs_after(at) >= SPACING_SECS;
        let fits = |means: &Vec<u16>| means.len() == tiles.all().len();
        match self.past.back() {
            Some((_, means)) if !fits(means) => self.past.clear(),
            Some((at, _)) if !due(*at) => return,
            _ => {}
        }
        let mut means = match self.past.len() >= MEMORY {
            true => self.past.pop_front().unwrap_or_default().1,
            false => Vec::with_capacity(tiles.all().len()),
        };
        means.clear();
        means.extend(tiles.all().iter().map(|t| (t.mean * STEPS) as u16));
        self.past.push_back((now, means));
        while (self.past.front()).is_some_and(|p| now.secs_after(p.0) > MEMORY_SECS) {
            self.past.pop_front();
        }
    }

    /// The first picture of the rest that still lasts, near `since`; tiles for which `passed_over` holds do not count.
    pub(super) fn find(
        &self,
        since: MediaTime,
        passed_over: impl Fn(usize) -> bool,
    ) -> Option<MediaTime> {
        let (last, still) = self.past.back()?;
        let counted: Vec<usize> = (0..still.len()).filter(|i| !passed_over(*i)).collect();
        let outer = ((counted.len() as f64 * OUTER_RATIO) as usize).max(OUTER);
        if counted.len() <= outer {
            return None;
        }
        let distance = |means: &[u16]| {
            let mut all: Vec<u16> = (counted.iter())
                .filter_map(|i| Some(means.get(*i)?.abs_diff(*still.get(*i)?)))
                .collect();
            all.select_nth_unstable_by(outer, |a, b| b.cmp(a));
            let sum: u32 = all.iter().take(outer).map(|v| u32::from(*v)).sum();
            sum as f32 / (STEPS * outer as f32)
        };
        let falls: Vec<(MediaTime, f32)> = (self.past.iter())
            .map(|(at, means)| (*at, distance(means)))
            .collect();
        let score = |at: MediaTime| {
            let within = |from: f64, to: f64| {
                (falls.iter())
                    .filter(move |f| (from..to).contains(&f.0.secs_after(at)))
                    .map(|f| f.1)
            };
            let count = within(-MOTION_SECS, 0.0).count();
            let before = within(-MOTION_SECS, 0.0).sum::<f32>() / count as f32;
            let after = within(0.0, f64::MAX).fold(0.0, f32::max);
            (count >= 3 && before - after >= FALL_CODES && last.secs_after(at) >= REST_SECS)
                .then(|| (before + UNSURE_CODES) / (after + UNSURE_CODES))
        };
        // What lies before the run must look like it, else it is an earlier cut.
        let at_rest = (falls.iter())
            .filter(|f| (0.0..REST_SECS).contains(&f.0.secs_after(since)))
            .fold(0.0, |most: f32, f| most.max(f.1));
        let alike = |f: &&(MediaTime, f32)| f.0 >= since || f.1 <= 1.2 * at_rest + 0.3;
        (falls.iter())
            .filter(|f| f.0.secs_after(since).abs() <= REACH_SECS)
            .filter(alike)
            .filter_map(|f| Some((f.0, score(f.0)?)))
            .filter(|f| f.0 >= since || f.1 >= CORNER)
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|f| f.0)
    }
}

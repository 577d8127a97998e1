//! What the tiles say: whether a picture repeats the one before, moves on, or begins another scene.

use crate::kernel::tiles::Tiles;

/// A tile in which usually at least this much changes from picture to picture (codes) is one that moves. Codecs
/// and sensors alone stay below, averaged over the pictures between keyframes.
const ACTIVE_CODES: f32 = 1.2;
/// A moving tile stands when it changes by no more than this share of what is usual. A repeat that was encoded again
/// changes by what a keyframe redraws, far less than motion does.
const STANDS_RATIO: f32 = 0.3;
/// Moving tiles that must stand at once for a repeat: what is drawn on top downstream may move on.
const REPEAT_RATIO: f32 = 0.85;
/// Share of the usual change from which on motion goes on.
const MOVES_RATIO: f32 = 0.5;
/// Share of the tiles that changes at a cut, and by how much each (codes).
const CUT_RATIO: f64 = 0.5;
const CUT_CODES: f32 = 10.0;
/// Pictures of motion from which on it is known what is usual.
const KNOWN_PICTURES: u32 = 6;

/// Next to nothing: this share of the largest change; so many pictures in a row may be a cadence's.
const QUIET_RATIO: f32 = 0.25;
const QUIET_PICTURES: u32 = 4;

/// What one picture is to the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Look {
    /// Too little moves, or it is not known yet what does.
    Unknown,
    /// The same picture again.
    Repeat,
    /// Motion goes on as it did.
    Moves,
    /// Motion slows down.
    Slows,
    /// Another scene.
    Cut,
}

/// What usually changes from one picture to the next, tile by tile, while there is motion.
#[derive(Debug, Default)]
pub(super) struct Activity {
    usual: Vec<f32>,
    learned: u32,
    /// Share of the picture that moves.
    area: f64,
    /// Mean change of the newest picture, codes.
    level: f32,
    /// Largest such change lately.
    peak: f32,
    /// Pictures in a row that changed next to nothing and were not learned from.
    quiet: u32,
}

impl Activity {
    /// Starts over.
    pub(super) fn clear(&mut self) {
        self.usual.clear();
        (self.learned, self.area, self.level) = (0, 0.0, 0.0);
        (self.peak, self.quiet) = (0.0, 0);
    }

    /// Share of the picture that moves, 0..=1.
    pub(super) fn area(&self) -> f64 {
        self.area
    }

    /// Mean change of the newest picture, codes.
    pub(super) fn level(&self) -> f32 {
        self.level
    }

    /// Whether it is known what is usual.
    pub(super) fn is_known(&self) -> bool {
        self.learned >= KNOWN_PICTURES
    }

    /// Judges a picture whose neighbour, `steps` usual steps away, was not dropped by us.
    pub(super) fn judge(&mut self, tiles: &Tiles, steps: f32) -> Look {
        let all = tiles.all();
        if self.usual.len() != all.len() {
            self.clear();
            self.usual.resize(all.len(), 0.0);
        }
        let (mut active, mut standing, mut cut) = (0u32, 0u32, 0u32);
        let (mut change, mut usual, mut total) = (0.0, 0.0, 0.0);
        for (tile, &used) in all.iter().zip(&self.usual) {
            let codes = tile.change.unwrap_or(0.0);
            total += codes;
            if codes >= CUT_CODES && codes > (4.0 + steps) * used + 5.0 {
                cut += 1;
            }
            if used >= ACTIVE_CODES {
                active += 1;
                standing += u32::from(codes <= STANDS_RATIO * used);
                change += codes;
                usual += used;
            }
        }
        let count = all.len().max(1) as f64;
        self.level = total / count as f32;
        if self.learned > 0 && f64::from(cut) >= CUT_RATIO * count {
            self.clear();
            return Look::Cut;
        }
        self.area = f64::from(active) / count;
        if !self.is_known() || active == 0 {
            return Look::Unknown;
        }
        if standing as f32 >= REPEAT_RATIO * active as f32 {
            Look::Repeat
        } else if change >= MOVES_RATIO * usual {
            Look::Moves
        } else {
            Look::Slows
        }
    }

    /// Learns from a picture that is no repeat. Falls faster than it rises, so that keyframe pulses and flicker on
    /// a still picture do not pass for motion. A few pictures in a row that change next to nothing are passed over:
    /// as long as it is not known what is usual, a cadence looks like that.
    pub(super) fn learn(&mut self, tiles: &Tiles) {
        self.peak = (0.98 * self.peak).max(self.level);
        if self.level < QUIET_RATIO * self.peak && self.quiet < QUIET_PICTURES {
            self.quiet += 1;
            return;
        }
        if self.level >= QUIET_RATIO * self.peak {
            self.quiet = 0;
        }
        self.learned = self.learned.saturating_add(1);
        let first = 1.0 / self.learned as f32;
        for (used, tile) in self.usual.iter_mut().zip(tiles.all()) {
            let codes = tile.change.unwrap_or(0.0);
            let pace = if codes > *used { 0.15 } else { 0.35 };
            *used += first.max(pace) * (codes - *used);
        }
    }
}

//! What the tiles say: whether a picture repeats the one before, moves on, or begins another scene.

use crate::kernel::tiles::Tiles;

/// A tile in which usually at least this much changes from picture to picture (codes) is one that moves. Codecs
/// and sensors alone stay below, averaged over the pictures between keyframes.
const ACTIVE_CODES: f32 = 1.2;
/// A moving tile stands when it changes by no more than this share of what is usual. A repeat that was encoded again
/// changes by what a keyframe redraws, far less than motion does.
const STANDS_RATIO: f32 = 0.3;
/// Moving tiles that must stand at once for a repeat, unless all together change by no more than that: what is drawn on
/// top downstream may move on.
const REPEAT_RATIO: f32 = 0.85;
/// Share of the usual change from which on motion goes on.
const MOVES_RATIO: f32 = 0.5;
/// Share of the tiles that changes at a cut, and by how much each (codes).
const CUT_RATIO: f64 = 0.5;
const CUT_CODES: f32 = 10.0;
/// The light changes when so much of the change has one sign, and is as large as this (codes).
const LIGHT_RATIO: f32 = 0.7;
const LIGHT_CODES: f32 = 4.0;
/// A tile surges when it changes by this factor more than is usual; one that changes less than this (codes) rests.
const SURGE_RATIO: f32 = 1.5;
const RESTS_CODES: f32 = 2.0;
/// At least so much of the picture rests, and so much of what moves surges, by this factor on the whole.
const SURGE_RESTS: f32 = 0.6;
const SURGE_AREA: f32 = 0.45;
const SURGE_TOTAL: f32 = 2.1;
/// Pictures of motion from which on it is known what is usual.
const KNOWN_PICTURES: u32 = 6;

/// Next to nothing: this share of the largest change; so many pictures in a row may be a cadence's.
const QUIET_RATIO: f32 = 0.4;
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
    /// Another scene, or another light.
    Cut,
}

/// Whether what moves moves more than usual.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surge {
    /// Share of what moves that moved much more.
    surging: f32,
    /// Share of the picture that rests.
    resting: f32,
    /// Change of what moves, by what is usual there.
    ratio: f32,
}

impl Surge {
    /// Whether all that moves before a camera that stands surged at once, and did so neither before nor after.
    /// What is drawn on top, or redrawn by a codec, surges elsewhere; at a cut nothing rests.
    pub(super) fn stands_out(&self, before: &Self, after: &Self) -> bool {
        let beside = before.ratio.max(after.ratio).max(1.0);
        self.resting >= SURGE_RESTS
            && self.surging >= SURGE_AREA
            && self.ratio >= SURGE_TOTAL * beside
    }
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
    /// Mean luma of each tile in the newest picture.
    means: Vec<f32>,
    /// Change of what moves, by what is usual there.
    ratio: f32,
    /// Share of what moves that moved much more than usual, and share of the picture that rests.
    surging: f32,
    resting: f32,
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

    /// Change of what moves in the newest picture, by what is usual there.
    pub(super) fn ratio(&self) -> f32 {
        self.ratio
    }

    /// How the newest picture differs from what is usual.
    pub(super) fn surge(&self) -> Surge {
        Surge {
            surging: self.surging,
            resting: self.resting,
            ratio: self.ratio,
        }
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
        let lit_before = self.means.len() == all.len();
        self.means.resize(all.len(), 0.0);
        let (mut active, mut standing, mut cut) = (0u32, 0u32, 0u32);
        let (mut surging, mut resting) = (0u32, 0u32);
        let (mut change, mut usual, mut total, mut light) = (0.0, 0.0, 0.0, 0.0);
        for ((tile, &used), mean) in all.iter().zip(&self.usual).zip(&mut self.means) {
            light += tile.mean - std::mem::replace(mean, tile.mean);
            let codes = tile.change.unwrap_or(0.0);
            total += codes;
            resting += u32::from(codes < RESTS_CODES);
            if codes >= CUT_CODES && codes > (4.0 + steps) * used + 5.0 {
                cut += 1;
            }
            if used >= ACTIVE_CODES {
                active += 1;
                surging += u32::from(codes >= SURGE_RATIO * used);
                standing += u32::from(codes <= STANDS_RATIO * used);
                change += codes;
                usual += used;
            }
        }
        let count = all.len().max(1) as f64;
        self.level = total / count as f32;
        self.surging = surging as f32 / active.max(1) as f32;
        self.resting = resting as f32 / count as f32;
        let lit = light.abs() >= LIGHT_RATIO * total && self.level >= LIGHT_CODES;
        if self.learned > 0 && (f64::from(cut) >= CUT_RATIO * count || lit && lit_before) {
            self.clear();
            return Look::Cut;
        }
        self.area = f64::from(active) / count;
        if !self.is_known() || active == 0 {
            return Look::Unknown;
        }
        self.ratio = change / usual;
        let stands = standing as f32 >= REPEAT_RATIO * active as f32;
        if stands || change <= STANDS_RATIO * usual {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surge_is_of_all_that_moves_while_the_rest_stands() {
        let usual = Surge {
            surging: 0.1,
            resting: 0.8,
            ratio: 1.1,
        };
        let surge = Surge {
            surging: 0.7,
            resting: 0.75,
            ratio: 3.0,
        };
        assert!(surge.stands_out(&usual, &usual));
        // Motion that was as quick before; what pops up elsewhere; a cut.
        assert!(!surge.stands_out(&surge, &usual));
        let pops_up = Surge {
            surging: 0.2,
            ..surge
        };
        let cut = Surge {
            resting: 0.1,
            ..surge
        };
        assert!(!pops_up.stands_out(&usual, &usual));
        assert!(!cut.stands_out(&usual, &usual));
    }
}

//! Key pictures against each other: what the encoder was given, and not what it made of it in between.
//!
//! Between key pictures an encoder may code nothing at all, so that the noise of a static shot is wiped off and the shot
//! looks like a still. A key picture is coded from nothing: of a still it comes out nearly the same each time, and equal in
//! many tiles even while rate control changes its mind; of a live camera no tile comes out equal.
//!
//! Thresholds: 72 clips of 20 s, half of them held after two seconds, H.264, HEVC and MPEG-2 at low and high rates, a key
//! picture every half to two seconds. Live: at most 6 in 100 tiles alike in any pair. Held: 11 or more in half of the pairs
//! and 60 or more at best, in HEVC and MPEG-2 nearly all.

use std::collections::VecDeque;

use crate::base::MediaTime;
use crate::kernel::half::HalfLuma;
use crate::kernel::tiles::{Tiles, differences};

/// A tile that differs by less came out the same, codes.
const ALIKE_CODES: f32 = 0.1;
/// Tiles flatter than this (variance, codes squared) say nothing: bars, clipped skies.
const FLAT: f32 = 0.25;
/// Share of the other tiles that there must be.
const TEXTURED_RATIO: f64 = 0.1;
/// A pair of which less is alike is of a live camera,
const LIVE_RATIO: f64 = 0.1;
/// and one of which more is alike is of a still.
const STILL_RATIO: f64 = 0.6;
/// Pairs that count, the newest of a run: rate control spoils some of a still.
const PAIRS: usize = 3;
/// Announced key pictures that are kept.
const ANNOUNCED: usize = 64;
/// Timestamps may be rounded on their way.
const NEAR_SECS: f64 = 0.002;

/// Keeps the newest key picture, and how much the newest pairs are alike.
#[derive(Debug, Default)]
pub(super) struct Keys {
    announced: VecDeque<MediaTime>,
    newest: Option<(MediaTime, HalfLuma)>,
    pairs: VecDeque<Pair>,
    differences: Vec<f32>,
}

/// Two key pictures, one after the other.
#[derive(Debug, Clone, Copy)]
struct Pair {
    from: MediaTime,
    /// Share of the tiles that came out the same.
    alike: f64,
}

/// What the key pictures of a run say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Says {
    /// Too little.
    Nothing,
    /// A live camera.
    Live,
    /// The same, of as many pairs as count.
    SurelyLive,
    /// A still.
    Still {
        /// The older key picture of the pair that says so.
        from: MediaTime,
    },
}

impl Keys {
    /// A key picture is at this time, or will be.
    pub(super) fn announce(&mut self, at: MediaTime) {
        if self.announced.len() == ANNOUNCED {
            self.announced.pop_front();
        }
        self.announced.push_back(at);
    }

    /// Takes a picture, to be compared if it is a key picture.
    pub(super) fn note(&mut self, now: MediaTime, half: &HalfLuma, tiles: &Tiles) {
        let count = self.announced.len();
        (self.announced).retain(|at| now.secs_after(*at).abs() > NEAR_SECS);
        if self.announced.len() == count {
            return;
        }
        if let Some((from, before)) = &self.newest {
            differences(half, before, &mut self.differences);
            let textured = (tiles.all().iter().zip(&self.differences))
                .filter(|(tile, _)| tile.variance >= FLAT)
                .map(|(_, difference)| *difference);
            let count = textured.clone().count() as f64;
            if count > TEXTURED_RATIO * tiles.all().len() as f64 {
                let alike = textured.filter(|codes| *codes < ALIKE_CODES).count();
                self.pairs.push_back(Pair {
                    from: *from,
                    alike: alike as f64 / count,
                });
                if self.pairs.len() > PAIRS {
                    self.pairs.pop_front();
                }
            }
        }
        self.newest = Some((now, half.clone()));
    }

    /// What the newest key pictures since then say.
    pub(super) fn say(&self, since: MediaTime) -> Says {
        let pairs = || self.pairs.iter().filter(|pair| pair.from >= since);
        if let Some(still) = pairs().rfind(|pair| pair.alike >= STILL_RATIO) {
            return Says::Still { from: still.from };
        }
        let live = pairs().all(|pair| pair.alike < LIVE_RATIO);
        match pairs().count() {
            1..PAIRS if live => Says::Live,
            PAIRS.. if live => Says::SurelyLive,
            _ => Says::Nothing,
        }
    }

    /// Forgets the pictures, not what was announced: that may be about pictures to come.
    pub(super) fn clear(&mut self) {
        self.newest = None;
        self.pairs.clear();
    }
}

//! Key pictures against each other: what the encoder was given, and not what it made of it in between.
//!
//! Between key pictures an encoder may code nothing at all, so that the noise of a static shot is wiped off and the shot
//! looks like a still. A key picture is coded from nothing: of a still it comes out nearly the same as another one of the
//! same quantiser, and equal in many tiles even where rate control moves bits from tile to tile; of a live camera hardly a
//! tile comes out equal.
//!
//! Thresholds: 80 clips of 20 s of `tune`, half of them held after two seconds, H.264, HEVC and MPEG-2 at low and high rates,
//! a key picture every half to two seconds. Live: at most 6 in 100 tiles are alike. Held: nearly all in HEVC and MPEG-2; in
//! H.264 20 or more in any but the first seconds, where the quantiser is still moving, and often nearly all.

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
/// A key picture of which less is in any other is of a live camera,
const LIVE_RATIO: f64 = 0.1;
/// and one of which more is in another is of a still.
const STILL_RATIO: f64 = 0.6;
/// So many key pictures must say so of a live camera; more where quantisers are not known, as rate control may change each.
const LIVE: usize = 2;
const LIVE_UNKNOWN: usize = 4;
/// Key pictures that are kept. Rate control may alternate between quantisers.
const KEPT: usize = 5;
/// Announcements that are kept.
const ANNOUNCED: usize = 64;
/// Timestamps may be rounded on their way.
const NEAR_SECS: f64 = 0.002;

/// Keeps the newest key pictures, and how much they are alike.
#[derive(Debug, Default)]
pub(super) struct Keys {
    announced: VecDeque<MediaTime>,
    quantisers: VecDeque<(MediaTime, i32)>,
    kept: VecDeque<Key>,
    differences: Vec<f32>,
}

#[derive(Debug)]
struct Key {
    at: MediaTime,
    half: HalfLuma,
    quantiser: Option<i32>,
    /// Times of older ones that it can be compared with, and the share of the tiles that are the same in both.
    alike: Vec<(MediaTime, f64)>,
}

/// What the key pictures of a run say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Says {
    /// Too little.
    Nothing,
    /// A live camera.
    Live,
    /// The same, for long.
    SurelyLive,
    /// A still.
    Still {
        /// The older of the two key pictures that say so.
        from: MediaTime,
    },
}

impl Keys {
    /// A key picture is at this time, or will be.
    pub(super) fn announce(&mut self, at: MediaTime) {
        keep(&mut self.announced, at);
    }

    /// It is quantised so.
    pub(super) fn quantised(&mut self, at: MediaTime, quantiser: i32) {
        keep(&mut self.quantisers, (at, quantiser));
    }

    /// Takes a picture, to be compared if it is a key picture.
    pub(super) fn note(&mut self, now: MediaTime, half: &HalfLuma, tiles: &Tiles) {
        let is_now = |at: MediaTime| now.secs_after(at).abs() <= NEAR_SECS;
        let count = self.announced.len();
        self.announced.retain(|at| !is_now(*at));
        if self.announced.len() == count {
            return;
        }
        let found = self.quantisers.iter().rfind(|q| is_now(q.0));
        let quantiser = found.map(|q| q.1);
        let mut alike = Vec::new();
        for key in self.kept.iter().filter(|k| k.quantiser == quantiser) {
            differences(half, &key.half, &mut self.differences);
            if let Some(share) = same(tiles, &self.differences) {
                alike.push((key.at, share));
            }
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Key {
            at: now,
            half: half.clone(),
            quantiser,
            alike,
        });
    }

    /// What the newest key pictures since then say.
    pub(super) fn say(&self, since: MediaTime) -> Says {
        // Of each: the one that it is most alike.
        let best = self.kept.iter().filter_map(|key| {
            let of_run = key.alike.iter().filter(|a| a.0 >= since);
            let most = of_run.max_by(|a, b| a.1.total_cmp(&b.1))?;
            Some((*most, key.quantiser.is_some()))
        });
        let mut still = best.clone().filter(|((_, share), _)| *share >= STILL_RATIO);
        if let Some(((from, _), _)) = still.next_back() {
            return Says::Still { from };
        }
        if !best.clone().all(|((_, share), _)| share < LIVE_RATIO) {
            return Says::Nothing;
        }
        let (count, known) = (best.clone().count(), best.filter(|b| b.1).count());
        match known >= LIVE || count >= LIVE_UNKNOWN {
            true if count >= LIVE_UNKNOWN => Says::SurelyLive,
            true => Says::Live,
            false => Says::Nothing,
        }
    }

    /// Forgets the pictures, not what was announced: that may be about pictures to come.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }
}

/// Share of the textured tiles that came out the same; `None` where hardly any are.
fn same(tiles: &Tiles, differences: &[f32]) -> Option<f64> {
    let textured = (tiles.all().iter().zip(differences)).filter(|(tile, _)| tile.variance >= FLAT);
    let count = textured.clone().count() as f64;
    let alike = textured.filter(|(_, codes)| **codes < ALIKE_CODES).count();
    (count > TEXTURED_RATIO * tiles.all().len() as f64).then_some(alike as f64 / count)
}

fn keep<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == ANNOUNCED {
        queue.pop_front();
    }
    queue.push_back(item);
}

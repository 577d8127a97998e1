//! Flashes: a part of the picture that lights up for a moment, while nothing else does.

use std::collections::VecDeque;

use crate::av::median;
use crate::base::MediaTime;
use crate::kernel::tiles::Tiles;

/// A tile lights up by at least this many codes of mean luma.
const RISE: f32 = 40.0;
/// A flash lasts no longer.
const LENGTH_MAX_SECS: f64 = 0.6;
/// Share of its tiles that must go dark again.
const BACK_MIN: f64 = 0.8;
/// Pictures in which as much lights up as in a flash, among those of the last two seconds, at most: programme moves.
const BUSY_SECS: f64 = 2.0;
const BUSY_MAX: usize = 3;
/// Tiles are remembered up to this many (4K).
const TILES_MAX: usize = 40_000;

/// A flash that was seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flash {
    /// The first picture of it.
    pub(super) at: MediaTime,
    /// Which tiles.
    pub(super) place: Vec<u32>,
}

impl Flash {
    /// Whether both are at the same place.
    pub(super) fn is_beside(&self, other: &Flash) -> bool {
        let both = self
            .place
            .iter()
            .filter(|t| other.place.binary_search(t).is_ok());
        let both = both.count() as f64;
        both >= 0.6 * (self.place.len() + other.place.len()) as f64 - 0.6 * both
    }
}

/// Looks for flashes.
#[derive(Debug, Default)]
pub(super) struct Eye {
    columns: usize,
    before: Vec<f32>,
    /// Memory for the next picture.
    spare: Vec<f32>,
    last: Option<MediaTime>,
    /// A flash that has not gone dark yet, and what its tiles were before.
    lit: Option<(Flash, Vec<f32>)>,
    /// Pictures in which something lit up: when, how many tiles.
    rises: VecDeque<(MediaTime, usize)>,
    /// Intervals of pictures, seconds.
    intervals: VecDeque<f64>,
}

impl Eye {
    /// Takes in a picture; gives the flash that has just ended.
    pub(super) fn see(&mut self, at: MediaTime, tiles: &Tiles) -> Option<Flash> {
        let mut now = std::mem::take(&mut self.spare);
        now.clear();
        now.extend(tiles.all().iter().map(|t| t.mean));
        let after = self.last.map(|last| at.secs_after(last));
        let follows = after.is_some_and(|secs| secs > 0.0 && secs < LENGTH_MAX_SECS);
        let same = self.columns == tiles.columns() && self.before.len() == now.len();
        if !follows || !same || now.len() > TILES_MAX {
            *self = Self::default();
        } else if let Some(secs) = after {
            if self.intervals.len() == 25 {
                self.intervals.pop_front();
            }
            self.intervals.push_back(secs);
        }
        let ended = self.fade(at, &now);
        let risen = now.iter().zip(&self.before).enumerate();
        let place: Vec<u32> = risen
            .filter(|(_, (now, before))| *now - *before >= RISE)
            .filter_map(|(tile, _)| u32::try_from(tile).ok())
            .collect();
        if !place.is_empty() {
            self.rise(at, place);
        }
        self.spare = std::mem::replace(&mut self.before, now);
        self.columns = tiles.columns();
        self.last = Some(at);
        ended
    }

    /// Usual interval of pictures, seconds.
    pub(super) fn interval_secs(&self) -> Option<f64> {
        median(self.intervals.iter().copied())
    }

    fn rise(&mut self, at: MediaTime, place: Vec<u32>) {
        self.rises.retain(|r| at.secs_after(r.0) < BUSY_SECS);
        let busy = self.rises.iter().filter(|r| 2 * r.1 >= place.len()).count();
        self.rises.push_back((at, place.len()));
        if busy > BUSY_MAX {
            self.lit = None;
            return;
        }
        let levels = place.iter().filter_map(|t| self.before.get(*t as usize));
        let levels = levels.copied().collect();
        self.lit = Some((Flash { at, place }, levels));
    }

    /// Whether what was lit has gone dark.
    fn fade(&mut self, at: MediaTime, now: &[f32]) -> Option<Flash> {
        let (flash, levels) = self.lit.as_ref()?;
        let tiles = flash.place.iter().zip(levels);
        let dark = tiles.filter(|(tile, level)| {
            let now = now.get(**tile as usize);
            now.is_some_and(|now| now - **level < RISE / 2.0)
        });
        let gone = dark.count() as f64 >= BACK_MIN * flash.place.len() as f64;
        let late = at.secs_after(flash.at) > LENGTH_MAX_SECS;
        if !gone && !late {
            return None;
        }
        let (flash, _) = self.lit.take()?;
        gone.then_some(flash)
    }
}

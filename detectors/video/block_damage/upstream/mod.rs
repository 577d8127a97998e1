//! Damage that happened before the last encoder: no evidence, no coding grid, only pixels.
//!
//! It is born, or healed, within one picture and in a part of it, and no motion explains it. A gate on the tile
//! statistics finds such moments ([`gate`]); what they look like before, then and three pictures later is cut out
//! ([`patch`]) and shown to a small net ([`net`]). A moment counts by its two most damaged places.
//!
//! Cost (`cargo run -p glasswatch-accuracy --bin upstream -- cost`): 0.1 ms of a 1080p picture; about 1 ms a place of
//! a suspicious one, at most twelve.
//!
//! Known limits: the net learned from little and is not sure enough of re-encoded damage on hard material; lamp
//! walls, blinds, mosaics and pixel art fool it. By default it is off (`lone_log_odds`).

pub mod gate;
pub mod net;
pub mod patch;

use gate::{Gate, Glance, PATCH_TILES, Spot};
use net::NET;
use patch::{CONTEXT, Patch};

use crate::base::{MediaTime, Picture};
use crate::kernel::tiles::TILE;

/// Pictures from a moment to the last look at it.
const LATER: u32 = 3;
/// A later moment takes the place of one that is still waited for when it is so much larger.
const LARGER: f32 = 2.0;
/// How fast a cut is forgotten: pictures.
const CUT_PICTURES: f32 = 12.0;

/// A moment that was looked at to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// Places, fullest first.
    pub spots: Vec<Spot>,
    /// What they look like.
    pub patches: Vec<Patch>,
    /// Tiles that changed beyond what is usual, row by row.
    pub excess: Vec<bool>,
    /// Pictures since the moment.
    pub age: u32,
    /// Share of the pictures before that were suspicious, 0..1.
    pub habit: f32,
    picture: [f32; 5],
}

impl Moment {
    /// What is told of the picture around a place, each about 0..1.
    pub fn context(&self, spot: &Spot) -> [f32; CONTEXT] {
        let [excess, changed, change, since_cut, later] = self.picture;
        [
            excess,
            changed,
            change / 20.0,
            since_cut,
            later,
            spot.filled,
            spot.change / 40.0,
            spot.usual / 20.0,
        ]
    }

    fn size(&self) -> f32 {
        self.spots.iter().map(|s| s.filled).sum()
    }
}

/// Finds moments.
#[derive(Debug, Default)]
pub struct Finder {
    gate: Gate,
    waiting: Option<Moment>,
    /// 1 at a cut, falling after it.
    cut: f32,
    /// Share of pictures that were suspicious of late.
    habit: f32,
    /// Pictures that were looked at, and those with a suspicion.
    pub seen: (u64, u64),
}

impl Finder {
    /// Looks at the next picture; gives a moment once it was followed to its end.
    pub fn look(&mut self, picture: &Picture<'_>) -> Option<Moment> {
        let (tiles, half) = (picture.tiles(), picture.half());
        let size = (half.width(), half.height());
        let glance = self.gate.look(tiles.all(), tiles.columns(), size);
        self.seen.0 += 1;
        let mut done = None;
        if let Some(mut moment) = self.waiting.take() {
            moment.age += 1;
            let [.., later] = &mut moment.picture;
            *later = later.max(glance.changed);
            if moment.age < LATER {
                self.waiting = Some(moment);
            } else {
                for (patch, spot) in moment.patches.iter_mut().zip(&moment.spots) {
                    patch.add_later(spot, half);
                }
                done = Some(moment);
            }
        }
        self.cut *= 1.0 - 1.0 / CUT_PICTURES;
        if let Some(before) = picture.before().filter(|_| !glance.spots.is_empty()) {
            self.seen.1 += 1;
            let size: f32 = glance.spots.iter().map(|s| s.filled).sum();
            if (self.waiting.as_ref()).is_none_or(|w| size > LARGER * w.size()) {
                self.waiting =
                    Some(self.moment(glance.clone(), |spot| Patch::cut(spot, &before.half, half)));
            }
        }
        let suspicious = if glance.spots.is_empty() { 0.0 } else { 1.0 };
        self.habit += HABIT_LEARNING * (suspicious - self.habit);
        if glance.changed > 0.5 {
            self.cut = 1.0;
        }
        done
    }

    fn moment(&self, glance: Glance, cut: impl Fn(&Spot) -> Patch) -> Moment {
        Moment {
            patches: glance.spots.iter().map(cut).collect(),
            spots: glance.spots,
            excess: self.gate.excess().to_vec(),
            age: 0,
            habit: self.habit,
            picture: [glance.excess, glance.changed, glance.change, self.cut, 0.0],
        }
    }
}

/// Places that a moment is judged by; one that is not there says nothing.
const JUDGED: usize = 2;
/// How much of the newest picture goes into the share of pictures that are suspicious.
const HABIT_LEARNING: f32 = 0.04;
/// A share of suspicious pictures that damage alone may bring, and what each more of the share costs in log odds:
/// what jumps all the time is held drawings or pixel art, not damage.
const HABIT_SHARE: f32 = 0.08;
const HABIT_LOG_ODDS: f32 = 60.0;
/// Log odds from which a place belongs to the damage, once there is any.
const BELONGS: f32 = 0.0;
/// Suspicion halves in this time.
const HALVES_SECS: f64 = 1.0;

/// Damage that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its moment.
    pub since: MediaTime,
    /// Tiles that were damaged, or healed, in it.
    pub tiles: Vec<usize>,
}

/// Watches a track for damage that no evidence announces.
#[derive(Debug, Default)]
pub struct Upstream {
    finder: Finder,
    /// Times of the newest pictures, newest first.
    times: [Option<MediaTime>; LATER as usize + 1],
    suspicion: Option<(MediaTime, f64)>,
}

impl Upstream {
    /// Looks at the next picture. `least_log_odds` is how sure it must be, `least_tiles` how large.
    pub fn look(
        &mut self,
        now: MediaTime,
        picture: &Picture<'_>,
        least_log_odds: f32,
        least_tiles: usize,
    ) -> Option<Found> {
        self.times.rotate_right(1);
        if let Some(newest) = self.times.first_mut() {
            *newest = Some(now);
        }
        let moment = self.finder.look(picture)?;
        let since = (self.times.get(moment.age as usize).copied().flatten()).unwrap_or(now);
        let odds: Vec<f32> = (moment.spots.iter().zip(&moment.patches))
            .map(|(spot, patch)| NET.log_odds(patch, &moment.context(spot)))
            .collect();
        let verdict = verdict(&odds) - HABIT_LOG_ODDS * (moment.habit - HABIT_SHARE).max(0.0);
        let score = 1.0 / (1.0 + f64::from(-verdict).exp());
        if score > self.score(now) {
            self.suspicion = Some((now, score));
        }
        if verdict < least_log_odds {
            return None;
        }
        let columns = picture.tiles().columns();
        let mut tiles: Vec<usize> = (moment.spots.iter().zip(&odds))
            .filter(|(_, odds)| **odds >= BELONGS)
            .flat_map(|(spot, _)| {
                let (x, y) = (spot.left.div_ceil(TILE), spot.top.div_ceil(TILE));
                (y..y + PATCH_TILES).flat_map(move |y| {
                    (x..(x + PATCH_TILES).min(columns)).map(move |x| y * columns + x)
                })
            })
            .filter(|&i| moment.excess.get(i) == Some(&true))
            .collect();
        tiles.sort_unstable();
        tiles.dedup();
        (tiles.len() >= least_tiles).then_some(Found { since, tiles })
    }

    /// How much speaks for damage, 0..1: highest after a moment that looks like it, then fading.
    pub fn score(&self, now: MediaTime) -> f64 {
        self.suspicion.map_or(0.0, |(at, score)| {
            score * 0.5f64.powf(now.secs_after(at).max(0.0) / HALVES_SECS)
        })
    }
}

/// Mean log odds of the two most damaged places.
fn verdict(odds: &[f32]) -> f32 {
    let mut odds = odds.to_vec();
    odds.sort_by(|a, b| b.total_cmp(a));
    odds.resize(JUDGED, 0.0);
    odds.iter().sum::<f32>() / JUDGED as f32
}

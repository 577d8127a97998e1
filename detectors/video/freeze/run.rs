//! A run of still pictures, and what speaks for and against it.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::creep::Creep;
use super::keys::Says;
use super::wander::Wander;
use crate::base::{Cause, Exhibit, MediaTime, Reading};
use crate::kernel::half::HalfLuma;
use crate::kernel::tiles::{TILE, Tiles};

/// Grain must be gone for so long to be gone for good; it is noticed half of [`super::MEMORY_SECS`] after it went.
const GRAIN_HOLD_SECS: f64 = 0.3;
/// An overlay that moves at least so often is live: a clock shows each second, a ticker runs.
const OVERLAY_HZ: f64 = 0.6;
/// From here on a reading brings a map of what still moves.
const MAP_SECS: f64 = 1.0;
/// Where nothing but noise stirs, and that came back after a lull longer than this, the next lull is told only when it has
/// lasted for so many times as long: what an encoder leaves of noise comes and goes.
const LULL_SECS: f64 = 0.7;
const LULL_RATIO: f64 = 2.5;

/// The picture that a run is compared with.
#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) half: HalfLuma,
    pub(super) at: MediaTime,
    pub(super) abrupt: bool,
    /// Pictures of the same scene, some time before.
    pub(super) before: Vec<Arc<HalfLuma>>,
}

/// Pictures that stand still, one after the other.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) anchor: Anchor,
    pub(super) since: MediaTime,
    /// Where the run before ended.
    pub(super) before_until: Option<MediaTime>,
    pub(super) last_still: MediaTime,
    /// The first picture after the newest still one.
    pub(super) disturbed: Option<MediaTime>,
    pub(super) unrest_secs: f64,
    pub(super) renewals: u32,
    /// How often the whole picture was redrawn while the run was young.
    pub(super) settlings: u32,
    pub(super) renewed: MediaTime,
    /// Tiles that moved in still pictures of this run, an overlay or a few strays, and by how many times the limit.
    pub(super) touched: BTreeMap<usize, f32>,
    /// Still pictures, those of them that equal the one before, and those in which the overlay moved.
    pub(super) stills: u32,
    pub(super) repeats: u32,
    pub(super) overlays: u32,
    /// How often its start was looked for.
    pub(super) dated: usize,
    /// Whether something moved before it began; once it was looked at.
    pub(super) moved_before: Option<bool>,
    /// Newest picture on which fresh grain told that the camera is live.
    pub(super) alive: Option<MediaTime>,
    /// The longest that it seemed to stand still before life showed again, seconds.
    pub(super) lull_secs: f64,
    /// Whether it showed on the newest picture.
    pub(super) showed: bool,
    /// Key pictures told for long that the camera is live.
    pub(super) lived: bool,
    /// What is too small to end it and yet lives.
    pub(super) wander: Wander,
    pub(super) creep: Creep,
}

impl Run {
    pub(super) fn new(anchor: Anchor) -> Self {
        Self {
            since: anchor.at,
            before_until: None,
            last_still: anchor.at,
            disturbed: None,
            renewed: anchor.at,
            unrest_secs: 0.0,
            renewals: 0,
            settlings: 0,
            touched: BTreeMap::new(),
            stills: 0,
            repeats: 0,
            overlays: 0,
            dated: 0,
            moved_before: None,
            alive: None,
            lull_secs: 0.0,
            showed: false,
            lived: false,
            wander: Wander::new(anchor.at),
            anchor,
            creep: Creep::default(),
        }
    }

    pub(super) fn renew(&mut self, next: Anchor, now: MediaTime) {
        let (abrupt, before) = (self.anchor.abrupt, mem::take(&mut self.anchor.before));
        self.anchor = Anchor {
            abrupt,
            before,
            ..next
        };
        self.last_still = now;
        self.disturbed = None;
        self.unrest_secs = 0.0;
        self.renewals += 1;
        self.renewed = now;
        self.touched.clear();
        self.wander = Wander::new(now);
        self.creep = Creep::default();
    }

    /// The same for one of the steps in which rate control catches up.
    pub(super) fn settle(&mut self, next: Anchor, now: MediaTime) {
        let renewals = self.renewals;
        self.renew(next, now);
        self.renewals = renewals;
        self.settlings += 1;
    }

    /// Whether grain tells of a live camera, `now` or until shortly before. A run that outlives its grain begins where
    /// that went.
    pub(super) fn is_alive(&mut self, now: MediaTime, grain: bool) -> bool {
        if grain {
            self.alive = Some(now);
        }
        let Some(alive) = self.alive else {
            return false;
        };
        if now.secs_after(alive) < GRAIN_HOLD_SECS {
            return true;
        }
        let went = alive.minus(Duration::from_secs_f64(super::MEMORY_SECS / 2.0));
        self.since = self.since.max(went);
        self.alive = None;
        false
    }

    /// Since when something small that wanders tells the same. A run that outlives it begins where it was last seen.
    pub(super) fn wanders(&mut self, now: MediaTime) -> Option<MediaTime> {
        let began = self.wander.alive(now);
        if began.is_none()
            && let Some(seen) = self.wander.forget()
        {
            self.since = self.since.max(seen);
        }
        began
    }

    /// Whether key pictures tell of a live camera. Where something moved before, noise may have been added to a still. A run
    /// that outlives what they tell begins where they came out the same.
    pub(super) fn is_redrawn(&mut self, says: Says) -> bool {
        let noise = self.anchor.abrupt || self.moved_before == Some(true);
        match says {
            Says::Live => !noise,
            Says::SurelyLive => {
                self.lived |= !noise;
                !noise
            }
            Says::Still { from } if mem::take(&mut self.lived) => {
                self.since = self.since.max(from);
                false
            }
            Says::Still { .. } | Says::Nothing => false,
        }
    }

    /// Whether the programme lives: it shows so, or nothing ever moved and this lull has not lasted for longer than those
    /// after which life showed again.
    pub(super) fn lives(&mut self, shows: bool, still_secs: f64) -> bool {
        if shows && !self.showed && self.moved_before == Some(false) {
            self.lull_secs = self.lull_secs.max(still_secs);
        }
        self.showed = shows;
        shows || (self.lull_secs >= LULL_SECS && still_secs < LULL_RATIO * self.lull_secs)
    }

    pub(super) fn creeps(&self, now: MediaTime) -> bool {
        self.creep.is_seen(now.secs_after(self.since))
    }

    pub(super) fn reading(&self, still_secs: f64, tiles: &Tiles) -> Reading {
        let reading = Reading::measured(still_secs)
            .since(Some(self.since))
            .until(self.before_until)
            .cause(self.class(still_secs));
        if self.touched.is_empty() || still_secs < MAP_SECS {
            return reading;
        }
        // What still moves.
        let value = |i: usize| {
            if self.touched.contains_key(&i) {
                255
            } else {
                0
            }
        };
        reading.exhibit(Exhibit::TileMap {
            columns: tiles.columns(),
            values: (0..tiles.all().len()).map(value).collect(),
            tile_px: 2 * TILE,
        })
    }

    /// What kind of standing still it is.
    pub(super) fn class(&self, still_secs: f64) -> Cause {
        let moves_on = f64::from(self.overlays) >= (OVERLAY_HZ * still_secs).max(2.0);
        match moves_on {
            true => Cause::FrozenOverlay,
            false if self.stills > 0 && self.repeats == self.stills => Cause::FrozenRepeat,
            false => Cause::Frozen,
        }
    }
}

//! Frozen picture: the picture stands still while pictures keep arriving.
//!
//! A frozen programme that is encoded downstream of the fault is never bit-exact: every keyframe redraws it,
//! frame types flicker, rate control sharpens it for seconds, and a clock or logo may run on top. Whole-picture
//! means cannot tell that from two small players on a court. So tiles of 16x16 pixels are compared, each against
//! what its own texture lets a codec do to it, and against an *anchor*: the picture with which the run began.
//! Flicker comes back to the anchor; motion, however slow, does not.
//!
//! - A tile has *moved* when its mean difference to the anchor exceeds a few codes plus a share of its texture.
//! - A picture is *still* when no more than a handful of tiles moved, or when everything that ever moved in the
//!   run lies in a small region near the upper or lower edge (running clock, score, ticker).
//! - Other pictures disturb the run. Short disturbances are forgiven (keyframe pulses). When the picture then rests, the
//!   anchor is taken anew: at most twice, while the run is young (the first pictures after motion are coded
//!   coarsely), and later only for a few tiles at a time. Rate control that catches up redraws the whole picture, and
//!   may do so in more steps in the first second; what goes far in one place only is a mouth.
//! - A picture that *creeps* away from the anchor steadily (slow zoom), or whose light drifts (exposure, dusk), is live.
//! - Fresh grain on every picture means a live camera, however still the shot, unless motion died from one picture
//!   to the next without a cut, or slow motion was there before and is no more: then grain was added downstream. Where
//!   encoders let it come and go, a lull must outlast those after which life showed again.
//! - Key pictures of a still come out the same, those of a live camera do not, even where nothing but key pictures shows
//!   its noise (`keys`). Noise that was added to a still downstream does the same, so that it is only believed where
//!   nothing moved before.
//! - Light that had slowed down turns (`light`): the picture must stand longer than that takes.
//! - Something small that wanders (far players, a ball) means a live picture as well (`wander`).
//! - The start is where the means of the tiles came to rest (`onset`), the end the first picture that was not still.
//!
//! What stands still is told apart by cause: the same picture again and again, a still that is encoded anew, a
//! programme that stands still under a live overlay.
//!
//! Black pictures are left to `black`: this detector answers 0. Missing pictures are left to the loss detector.
//! Irreducible: a live, grain-free, motionless shot (slide, slate, held drawing) looks the same as a freeze.
//!
//! Cost: two passes over half-resolution luma, about 0.1 ms for 1080p, beyond the shared tile statistics; one more while
//! slow motion is looked for, and a few milliseconds once a run has lasted. Memory: two anchors and eight pictures at half
//! resolution, and tile means of 1.6 s: some 6 MB for 1080p.

mod creep;
mod keys;
mod light;
mod onset;
mod recent;
mod run;
mod shape;
mod wander;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Fact, Gap, InputEvent, Limit, Media, MediaTime,
    Needs, OptionSpec, Options, Picture, Range, Reading, Reset, RuleSpec, Scope, Severity, Signal,
    Sink, Stamp, Track, Unit, Why,
};
use crate::kernel::half::HalfLuma;
use crate::kernel::spread::Spread;
use crate::kernel::tiles::{Tile, Tiles, differences};

use creep::Distance;
use keys::{Keys, Says};
use light::Light;
use onset::Onset;
use recent::remember;
use run::{Anchor, Run};
use shape::Shape;

static SIGNALS: [Signal; 2] = [
    Signal {
        name: "still_secs",
        unit: "seconds",
        range: (0.0, 1e9),
        basis: Basis::Media,
        help: "Seconds of media for which the picture has stood still.",
    },
    Signal {
        name: "change_codes",
        unit: "8-bit codes",
        range: (0.0, 64.0),
        basis: Basis::Media,
        help: "Difference to the previous picture that 99 % of the tiles stay below.",
    },
];
static STILL_SECS: &Signal = &SIGNALS[0];
static CHANGE_CODES: &Signal = &SIGNALS[1];

static OPTIONS: [OptionSpec; 3] = [
    OptionSpec {
        name: "moved_codes",
        default: 2.5,
        range: (0.5, 20.0),
        help: "Difference beyond which a flat tile has moved.",
    },
    OptionSpec {
        name: "texture_ratio",
        default: 0.15,
        range: (0.0, 1.0),
        help: "Share of a tile's own contrast that is added to the limit, because codecs flicker there.",
    },
    OptionSpec {
        name: "overlay_area_ratio",
        default: 0.025,
        range: (0.0, 0.2),
        help: "Largest share of the picture that a running clock or score may take.",
    },
];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "freeze",
    doc: "The picture stands still although pictures keep arriving. Keyframe pulses, codec flicker, a running \
          clock or a ticker do not hide it.",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Costly,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        RuleSpec {
            name: "frozen",
            signal: "still_secs",
            raise: Limit::AtLeast(2.0),
            clear: Limit::AtMost(0.5),
            hold: Duration::ZERO,
            release: Duration::from_millis(200),
            severity: Severity::Warning,
            cause: Cause::Frozen,
            says: "The picture stands still.",
        },
        RuleSpec {
            name: "frozen_long",
            signal: "still_secs",
            raise: Limit::AtLeast(10.0),
            clear: Limit::AtMost(0.5),
            hold: Duration::ZERO,
            release: Duration::from_millis(200),
            severity: Severity::Critical,
            cause: Cause::Frozen,
            says: "The picture has stood still for long.",
        },
    ],
    options: &OPTIONS,
    list: None,
    build: |options| Box::new(Freeze::new(options)),
};

/// Disturbances that end a run, in seconds; while the picture is still they are forgiven slowly.
const GRACE_SECS: f64 = 0.35;
/// Forgiven seconds of disturbance per second of stillness: keyframes twice a second at 25 Hz stay below.
const FORGIVEN: f64 = 0.15;
/// How old a run may be when its anchor is taken anew for the first time (the first keyframe after motion) and
/// for the second.
const FIRST_RENEWAL_SECS: f64 = 3.0;
const SECOND_RENEWAL_SECS: f64 = 1.3;
/// Rate control catches up in steps: while a run is younger than this, the whole picture (its median tile at least
/// this share of the outermost ones) may be redrawn so often when it rests for so long after each.
const SETTLED_SECS: f64 = 1.0;
const WHOLE_RATIO: f32 = 0.3;
const SETTLINGS: u32 = 3;
const REST_SECS: f64 = 0.15;
/// While it rests, nine of ten tiles stay as near to where it came to rest.
const RESTLESS_CODES: f32 = 1.0;
/// Later, keyframes may still redraw this share of the tiles for good, this often.
const FEW_RATIO: f64 = 0.02;
const FEW_SECS: f64 = 0.9;
/// A step to beyond this many times the limit is a cut, not a keyframe.
const FAR: f32 = 3.0;
/// A disturbance of less than this share of the tiles weighs more.
const LOCAL_RATIO: f64 = 0.02;
const LOCAL_WEIGHT: f64 = 2.5;
/// What was forgiven once may go further by this factor.
const STRAY: f32 = 1.4;
/// The same where only a part of the picture changed.
const FAR_ALONE: f32 = 2.0;
/// Pictures further apart than this do not belong to one run: the loss detector tells about missing pictures.
const HOLE_SECS: f64 = 1.0;
/// Grain: half of the tiles change by this much, on half of the pictures. An encoded still shows 0.
const GRAIN_CODES: f32 = 0.12;
/// Where nothing moved before, less is enough, on more of the pictures: encoders leave so little of a static shot's noise.
/// Of a still in H.264, HEVC or MPEG-2 at 0.3 to 5 Mb/s at most two in five did (11 clips, from two seconds on).
const FAINT_CODES: f32 = 0.03;
const FAINT_RATIO: f64 = 0.6;
/// From this age on a run begins anew when it outlives its grain; before, only when it outlives faint grain.
const GRAIN_TOLD_SECS: f64 = 2.0;
/// A run that lasted for so long may have been told.
const TOLD_SECS: f64 = 0.5;
/// A picture is kept this often, and so many of them.
const GLIMPSE_SECS: f64 = 0.4;
const GLIMPSES: usize = 3;
/// Share of the tiles that such a picture and the first still one differ in, when slow motion stopped there.
const MOVING_RATIO: f64 = 0.01;
const CHANGED_RATIO: f64 = 0.9;
/// Share of the tiles that move at a cut.
const CUT_RATIO: f64 = 0.6;
/// A run is dated when it has lasted for so long, and again when it is surer; what is nearer than this stays as it is.
const DATED_SECS: [f64; 2] = [0.6, 1.3];
const NEAR_SECS: f64 = 0.05;
/// Where light that went or came has slowed down before the picture stood still, it stands as long as if such a lull
/// had been: most drifts turn.
const EBB_SECS: f64 = 1.7;
/// How far back grain and motion are remembered, and at most how many pictures.
const MEMORY_SECS: f64 = 1.0;
const MEMORY_PICTURES: usize = 128;

#[derive(Debug)]
struct Freeze {
    moved_codes: f32,
    texture_ratio: f32,
    overlay_area_ratio: f64,
    run: Option<Run>,
    /// Where a new run would begin, while the present one is disturbed.
    next: Option<Anchor>,
    recent: VecDeque<Past>,
    glimpses: VecDeque<Glimpse>,
    onset: Onset,
    light: Light,
    keys: Keys,
    track: Option<Track>,
    before: Option<MediaTime>,
    differences: Vec<f32>,
}

/// A picture kept for a while, to tell slow motion from none.
#[derive(Debug)]
struct Glimpse {
    at: MediaTime,
    half: Arc<HalfLuma>,
}

/// What is remembered of a picture.
#[derive(Debug, Clone, Copy)]
struct Past {
    at: MediaTime,
    /// Median change to the picture before, in codes.
    median: f32,
    /// Share of tiles that moved since the picture before.
    moved: f64,
}

impl Freeze {
    fn new(options: &Options) -> Self {
        Self {
            moved_codes: options.get("moved_codes") as f32,
            texture_ratio: options.get("texture_ratio") as f32,
            overlay_area_ratio: options.get("overlay_area_ratio"),
            run: None,
            next: None,
            recent: VecDeque::new(),
            glimpses: VecDeque::new(),
            onset: Onset::default(),
            light: Light::default(),
            keys: Keys::default(),
            track: None,
            before: None,
            differences: Vec::new(),
        }
    }

    /// Compares with the anchor, and continues, renews or ends the run.
    fn follow(
        &mut self,
        now: MediaTime,
        elapsed: f64,
        picture: &Picture<'_>,
        moved: &[usize],
        abrupt: bool,
    ) {
        let half = picture.half();
        let before: Vec<_> = self.glimpses.iter().map(|g| Arc::clone(&g.half)).collect();
        let begin = || Anchor {
            half: half.clone(),
            at: now,
            abrupt,
            before: before.clone(),
        };
        let Some(mut run) = self.run.take() else {
            self.run = Some(Run::new(begin()));
            return;
        };
        let tiles = picture.tiles();
        differences(half, &run.anchor.half, &mut self.differences);
        if self.differences.len() != tiles.all().len() {
            self.run = Some(Run::new(begin()));
            return;
        }
        let spread = Spread::of(self.differences.iter().copied());
        // What runs on top does not creep.
        let shape = Shape::of(tiles);
        let known = shape.overlay(run.touched.keys().copied(), self.overlay_area_ratio);
        let below = (self.differences.iter().enumerate())
            .filter(|(i, _)| !known.contains(*i))
            .map(|(_, difference)| *difference);
        run.creep.note(Distance {
            at: now,
            codes: Spread::of(below).quantile(0.99),
            level: self.light.level(),
        });
        let median = spread.quantile(0.5);
        let slack = self.moved_codes + median.min(2.0);
        // Tiles that moved and are not known to, or not so far: their index, and by how many times the limit.
        let fresh: Vec<(usize, f32)> = (tiles.all().iter().zip(&self.differences).enumerate())
            .map(|(i, (tile, difference))| (i, difference / self.limit(slack, tile)))
            .filter(|(i, times)| *times > STRAY * run.touched.get(i).map_or(1.0 / STRAY, |t| *t))
            .collect();
        // A handful of strays is forgiven, but not one after the other: that is something small that wanders. Nor
        // one that goes far: that is a mouth.
        let allowed = 1 + tiles.all().len() / 4000;
        let suspects = run.touched.keys().copied().chain(fresh.iter().map(|f| f.0));
        let overlay = shape.overlay(suspects, self.overlay_area_ratio);
        let new = fresh.iter().filter(|f| !overlay.contains(f.0)).count();
        let gone = (fresh.iter())
            .filter(|f| f.1 > FAR && !overlay.contains(f.0))
            .count();
        let old = run
            .touched
            .keys()
            .filter(|t| !overlay.contains(**t))
            .count();
        let known = |tile| overlay.contains(tile) || run.touched.contains_key(&tile);
        run.wander.note(now, moved, &shape, known);
        let holds = gone == 0 && new <= allowed && (new == 0 || new + old <= 4 * allowed);
        if holds && !run.creeps(now) {
            run.touched.extend(fresh.iter().copied());
            run.last_still = now;
            run.disturbed = None;
            run.stills = run.stills.saturating_add(1);
            let repeats = tiles.all().iter().all(|t| t.change == Some(0.0));
            run.repeats = run.repeats.saturating_add(repeats.into());
            let overlaid = moved.iter().any(|m| overlay.contains(*m));
            run.overlays = run.overlays.saturating_add(overlaid.into());
            run.unrest_secs = (run.unrest_secs - FORGIVEN * elapsed).max(0.0);
            self.next = None;
            self.run = Some(run);
            return;
        }

        // A codec that catches up redraws most of the picture; what goes far in one place is motion.
        let whole = spread.quantile(0.5) >= WHOLE_RATIO * spread.quantile(0.99);
        let far = match whole {
            true => gone > allowed,
            false => (fresh.iter()).any(|f| f.1 > FAR_ALONE && !overlay.contains(f.0)),
        };
        let ticking = shape.overlay(moved.iter().copied(), self.overlay_area_ratio);
        let moving = (moved.iter())
            .filter(|m| !overlay.contains(**m) && !ticking.contains(**m))
            .count()
            > allowed;
        // What stirs in one place is less likely to be the codec.
        let local = !whole && (new as f64) < LOCAL_RATIO * tiles.all().len() as f64;
        run.unrest_secs += elapsed * if local { LOCAL_WEIGHT } else { 1.0 };
        run.disturbed.get_or_insert(now);
        let creeping = !moving && self.has_left_next(half, tiles, &shape, allowed);
        match &mut self.next {
            Some(next) if moving || creeping => {
                next.half.clone_from(half);
                (next.at, next.abrupt, next.before) = (now, abrupt, before.clone());
            }
            Some(_) => {}
            None => self.next = Some(begin()),
        }
        // The differences are those to the next anchor by now.
        let astray = (self.differences.iter())
            .filter(|codes| **codes > RESTLESS_CODES)
            .count();
        let rests = !moving && !creeping && 10 * astray <= tiles.all().len();
        let settles = whole && rests && !far && run.settlings < SETTLINGS;
        let early = |next: &Anchor| next.at.secs_after(run.since) <= SETTLED_SECS;
        let grace_secs = match settles && self.next.as_ref().is_some_and(early) {
            true => GRACE_SECS + REST_SECS,
            false => GRACE_SECS,
        };
        let rested = |next: &mut Anchor| early(next) && now.secs_after(next.at) >= REST_SECS;
        if settles && let Some(next) = self.next.take_if(rested) {
            run.settle(next, now);
            self.run = Some(run);
            return;
        }
        if run.unrest_secs <= grace_secs && !holds {
            self.run = Some(run);
            return;
        }
        let next = self.next.take().unwrap_or_else(begin);
        let age = next.at.secs_after(run.since);
        let settled = now.secs_after(next.at) >= 0.7 * GRACE_SECS;
        let young = match run.renewals {
            0 => age <= FIRST_RENEWAL_SECS,
            1 => age <= SECOND_RENEWAL_SECS,
            _ => false,
        };
        let few = new as f64 <= FEW_RATIO * tiles.all().len() as f64
            && next.at.secs_after(run.renewed) >= FEW_SECS;
        if settled && !far && (young || few) && !run.creeps(now) {
            run.renew(next, now);
            self.run = Some(run);
        } else {
            let before_until = run.disturbed;
            self.run = Some(Run {
                before_until,
                ..Run::new(next)
            });
        }
    }

    /// Whether the picture has moved away from the one with which a new run would begin, too slowly to be seen from
    /// one picture to the next.
    fn has_left_next(
        &mut self,
        half: &HalfLuma,
        tiles: &Tiles,
        shape: &Shape,
        allowed: usize,
    ) -> bool {
        let Some(next) = &self.next else {
            return false;
        };
        differences(half, &next.half, &mut self.differences);
        let median = Spread::of(self.differences.iter().copied()).quantile(0.5);
        let slack = self.moved_codes + median.min(2.0);
        let left: Vec<usize> = (tiles.all().iter().zip(&self.differences).enumerate())
            .filter(|(_, (tile, difference))| **difference > self.limit(slack, tile))
            .map(|(i, _)| i)
            .collect();
        let overlay = shape.overlay(left.iter().copied(), self.overlay_area_ratio);
        left.iter().filter(|l| !overlay.contains(**l)).count() > allowed
    }

    /// Difference beyond which a tile has moved.
    fn limit(&self, slack: f32, tile: &Tile) -> f32 {
        slack + self.texture_ratio * tile.variance.sqrt()
    }

    /// Dates the run once it has lasted: to where the picture came to rest.
    fn date(&self, run: &mut Run, tiles: &Tiles) {
        let Some(after) = DATED_SECS.get(run.dated) else {
            return;
        };
        if run.last_still.secs_after(run.since) < *after {
            return;
        }
        run.dated += 1;
        let overlay =
            Shape::of(tiles).overlay(run.touched.keys().copied(), self.overlay_area_ratio);
        let runs = |tile| overlay.is_near(tile) || run.touched.contains_key(&tile);
        let found = self.onset.find(run.since, runs);
        if let Some(at) = found.filter(|at| at.secs_after(run.since).abs() > NEAR_SECS) {
            run.since = at;
        }
        if self.light.ebbs(run.since) {
            run.lull_secs = run.lull_secs.max(EBB_SECS);
        }
    }

    /// Keeps a picture now and then; a cut starts over.
    fn glimpse(&mut self, now: MediaTime, half: &HalfLuma, cut: bool) {
        if cut {
            self.glimpses.clear();
        }
        if (self.glimpses.back()).is_none_or(|g| now.secs_after(g.at) >= GLIMPSE_SECS) {
            if self.glimpses.len() >= GLIMPSES {
                self.glimpses.pop_front();
            }
            let half = Arc::new(half.clone());
            self.glimpses.push_back(Glimpse { at: now, half });
        }
    }

    /// Whether the programme was moving when the run began, a part of it and however slowly.
    fn moved_before(&mut self, anchor: &Anchor, tiles: &Tiles) -> bool {
        let all = tiles.all();
        anchor.before.iter().any(|before| {
            differences(&anchor.half, before, &mut self.differences);
            let median = Spread::of(self.differences.iter().copied()).quantile(0.5);
            let slack = self.moved_codes + median.min(2.0);
            let moved = (all.iter().zip(&self.differences))
                .filter(|(tile, difference)| **difference > self.limit(slack, tile))
                .count();
            (MOVING_RATIO..=CHANGED_RATIO).contains(&(moved as f64 / all.len().max(1) as f64))
        })
    }

    /// Whether every picture brings fresh grain.
    fn grain(&self) -> bool {
        share(self.recent.iter(), GRAIN_CODES) > 0.5
    }

    /// Whether most pictures since the run began do, if only a little.
    fn faint_grain(&self, run: &Run) -> bool {
        share(self.recent.iter().filter(|p| p.at > run.since), FAINT_CODES) > FAINT_RATIO
    }

    /// Whether this picture still moves as much as the second before it, and is no cut: if the next ones stand
    /// still, motion died from one picture to the next, as it does in a freeze and hardly ever before a camera.
    fn dies_abruptly(&self, now: Past) -> bool {
        let mut moved: Vec<f64> = self.recent.iter().map(|p| p.moved).collect();
        if moved.len() < 8 {
            return false;
        }
        moved.sort_by(f64::total_cmp);
        let usual = moved[moved.len() / 2];
        usual >= 0.012 && (0.3 * usual..=3.0 * usual + 0.05).contains(&now.moved)
    }
}

/// Share of the pictures that changed by so much all over; 0 of too few.
fn share<'a>(pictures: impl Iterator<Item = &'a Past>, codes: f32) -> f64 {
    let (mut all, mut grainy) = (0u32, 0u32);
    for past in pictures {
        all += 1;
        grainy += u32::from(past.median >= codes);
    }
    match all {
        0..8 => 0.0,
        _ => f64::from(grainy) / f64::from(all),
    }
}

/// Near-black and flat: the black detector's business.
fn is_black(tiles: &Tiles, range: Range) -> bool {
    let limit = match range {
        Range::Limited => 38,
        Range::Full => 26,
    };
    tiles.dark_share(limit) >= 0.98
}

impl Freeze {
    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let Some(now) = at.media else {
            self.restart();
            out.put(STILL_SECS, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let elapsed = self.before.map_or(0.0, |before| now.secs_after(before));
        if at.gap == Gap::Discontinuity || !(0.0..=HOLE_SECS).contains(&elapsed) {
            self.restart();
        }
        self.before = Some(now);

        let tiles = picture.tiles();
        let change = Spread::of(tiles.all().iter().filter_map(|t| t.change));
        if picture.before().is_some() {
            let codes = f64::from(change.quantile(0.99)).clamp(0.0, 64.0);
            out.put(CHANGE_CODES, Reading::measured(codes));
        }
        if is_black(tiles, picture.range()) {
            (self.run, self.next) = (None, None);
            out.put(STILL_SECS, Reading::measured(0.0));
            return;
        }

        let median = change.quantile(0.5);
        let slack = self.moved_codes + median.min(2.0);
        let moved: Vec<usize> = (tiles.all().iter().enumerate())
            .filter(|(_, t)| t.change.is_some_and(|c| c > self.limit(slack, t)))
            .map(|(i, _)| i)
            .collect();
        let past = Past {
            at: now,
            median,
            moved: moved.len() as f64 / tiles.all().len().max(1) as f64,
        };
        let abrupt = self.dies_abruptly(past);
        // After pictures that we dropped, the difference says nothing about one picture's worth of motion.
        if picture.before().is_some() && at.gap == Gap::None {
            remember(
                &mut self.recent,
                past,
                |p| p.at,
                MEMORY_SECS,
                MEMORY_PICTURES,
            );
        }

        let level = tiles.all().iter().map(|t| t.mean).sum::<f32>() / tiles.all().len() as f32;
        self.light.note(now, level, past.moved);
        self.follow(now, elapsed, picture, &moved, abrupt);
        self.glimpse(now, picture.half(), past.moved >= CUT_RATIO);
        self.onset.note(now, tiles);
        self.keys.note(now, picture.half(), tiles);
        let grain = self.grain();
        if let Some(mut run) = self.run.take() {
            self.date(&mut run, tiles);
            let faint = self.faint_grain(&run);
            let doubtful = (grain || faint) && !run.anchor.abrupt;
            let due = doubtful || run.dated > 0;
            if run.moved_before.is_none() && due && run.last_still > run.since {
                run.moved_before = Some(self.moved_before(&run.anchor, tiles));
                run.anchor.before.clear();
            }
            let quiet = doubtful && run.moved_before != Some(true);
            // A young run need not have been told of yet, and loses nothing of its age when grain goes.
            let told = now.secs_after(run.since) >= GRAIN_TOLD_SECS;
            let alive = run.is_alive(now, (faint || (grain && told)) && quiet) || (grain && quiet);
            let says = self.keys.say(run.since);
            let redrawn = run.is_redrawn(says);
            let wanders = run.wanders(now);
            // What has been told ends there.
            let until =
                (wanders.filter(|at| at.secs_after(run.since) >= TOLD_SECS)).or(run.before_until);
            let still = run.last_still.secs_after(run.since).clamp(0.0, 1e9);
            let lulls = !matches!(says, Says::Still { .. });
            let shows = (alive && lulls) || redrawn || wanders.is_some();
            let live = run.lives(shows, still) && (shows || lulls);
            out.put(
                STILL_SECS,
                match live {
                    true => Reading::measured(0.0).until(until),
                    false => run.reading(still, tiles),
                },
            );
            self.run = Some(run);
        }
    }

    fn restart(&mut self) {
        self.run = None;
        self.next = None;
        self.recent.clear();
        self.glimpses.clear();
        self.onset.clear();
        self.light.clear();
        self.keys.clear();
        self.before = None;
    }
}

impl Detector for Freeze {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Video(picture) => {
                self.track = unit.track.or(self.track);
                self.picture(&unit.at, picture, out);
            }
            Media::Fact(Fact::Input(InputEvent::Reopened)) => {
                self.restart();
                self.keys = Keys::default();
            }
            Media::Fact(_)
                if unit
                    .track
                    .is_some_and(|t| self.track.is_some_and(|own| own != t)) => {}
            Media::Fact(Fact::RandomAccess(at)) => self.keys.announce(*at),
            Media::Fact(Fact::KeyQuantiser { at, quantiser }) => {
                self.keys.quantised(*at, *quantiser);
            }
            Media::Fact(_) | Media::Audio(_) | Media::Tick => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.restart();
        self.keys = Keys::default();
        self.track = None;
    }
}

#[cfg(test)]
#[path = "freeze_tests.rs"]
mod tests;

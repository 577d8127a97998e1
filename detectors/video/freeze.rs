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
//!   coarsely), and later only for a few tiles at a time.
//! - A picture that *creeps* away from the anchor steadily (exposure, dusk, slow zoom) is live.
//! - Fresh grain on every picture means a live camera, however still the shot, unless motion died from one picture
//!   to the next without a cut: then grain was added downstream.
//!
//! What stands still is told apart by cause: the same picture again and again, a still that is encoded anew, a
//! programme that stands still under a live overlay.
//!
//! Black pictures are left to `black`: this detector answers 0. Missing pictures are left to the loss detector.
//! Irreducible: a live, grain-free, motionless shot (slide, slate, held drawing) looks the same as a freeze.
//!
//! Cost: two passes over half-resolution luma, about 0.1 ms for 1080p, beyond the shared tile statistics.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Exhibit, Fact, Gap, InputEvent, Limit, Media,
    MediaTime, Needs, OptionSpec, Options, Picture, Range, Reading, Reset, RuleSpec, Scope,
    Severity, Signal, Sink, Stamp, Unit, Why,
};
use crate::kernel::half::HalfLuma;
use crate::kernel::spread::Spread;
use crate::kernel::tiles::{TILE, Tile, Tiles, differences};

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
/// Later, keyframes may still redraw this share of the tiles for good, this often.
const FEW_RATIO: f64 = 0.02;
const FEW_SECS: f64 = 0.9;
/// A step to beyond this many times the limit is a cut, not a keyframe.
const FAR: f32 = 3.0;
/// Creep: the distance to the anchor grows by this many codes in the last part of a second, picture by picture. The
/// sharpening of a coarse first picture has slowed down by this age; exposure, dusk and slow zooms have not.
const CREEP_CODES: f32 = 1.3;
const CREEP_SPAN_SECS: f64 = 0.7;
const CREEP_AGE_SECS: f64 = 1.4;
/// Pictures further apart than this do not belong to one run: the loss detector tells about missing pictures.
const HOLE_SECS: f64 = 1.0;
/// Grain: half of the tiles change by this much, on half of the pictures. An encoded still shows 0.
const GRAIN_CODES: f32 = 0.12;
/// An overlay that moves at least so often is live: a clock shows each second, a ticker runs.
const OVERLAY_HZ: f64 = 0.6;
/// From here on a reading brings a map of what still moves.
const MAP_SECS: f64 = 1.0;
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
    before: Option<MediaTime>,
    differences: Vec<f32>,
}

#[derive(Debug)]
struct Anchor {
    half: HalfLuma,
    at: MediaTime,
    abrupt: bool,
}

#[derive(Debug)]
struct Run {
    anchor: Anchor,
    since: MediaTime,
    last_still: MediaTime,
    unrest_secs: f64,
    renewals: u32,
    renewed: MediaTime,
    /// Tiles that moved in still pictures of this run: an overlay, or a few strays.
    touched: BTreeSet<usize>,
    /// Still pictures, those of them that equal the one before, and those in which the overlay moved.
    stills: u32,
    repeats: u32,
    overlays: u32,
    /// Recent distances to the anchor, codes.
    distances: VecDeque<(MediaTime, f32)>,
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
            before: None,
            differences: Vec::new(),
        }
    }

    fn restart(&mut self) {
        self.run = None;
        self.next = None;
        self.recent.clear();
        self.before = None;
    }

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
            self.remember(past);
        }

        self.follow(now, elapsed, picture, &moved, abrupt);
        let grain = self.grain();
        if let Some(run) = &self.run {
            let live = grain && !run.anchor_is_abrupt();
            let still = run.last_still.secs_after(run.since).clamp(0.0, 1e9);
            out.put(
                STILL_SECS,
                match live {
                    true => Reading::measured(0.0),
                    false => run.reading(still, tiles),
                },
            );
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
        let begin = || Anchor {
            half: half.clone(),
            at: now,
            abrupt,
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
        run.note_distance(now, spread.quantile(0.99));
        let median = spread.quantile(0.5);
        let slack = self.moved_codes + median.min(2.0);
        // Tiles that moved and are not known to: their index, and by how many times the limit.
        let fresh: Vec<(usize, f32)> = (tiles.all().iter().zip(&self.differences).enumerate())
            .map(|(i, (tile, difference))| (i, difference / self.limit(slack, tile)))
            .filter(|&(i, times)| times > 1.0 && !run.touched.contains(&i))
            .collect();
        let shape = Shape {
            columns: tiles.columns(),
            rows: tiles.all().len().div_ceil(tiles.columns().max(1)),
        };
        // A handful of strays is forgiven, but not one after the other: that is something small that wanders.
        let allowed = 1 + tiles.all().len() / 4000;
        let suspects = run.touched.iter().copied().chain(fresh.iter().map(|f| f.0));
        let overlay = shape.overlay(suspects, self.overlay_area_ratio);
        let new = fresh.iter().filter(|f| !overlay.contains(f.0)).count();
        let old = run
            .touched
            .iter()
            .filter(|t| !overlay.contains(**t))
            .count();
        let holds = fresh.is_empty() || (new <= allowed && new + old <= 4 * allowed);
        if holds && !run.creeps(now) {
            run.touched.extend(fresh.iter().map(|f| f.0));
            run.last_still = now;
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

        let far = fresh
            .iter()
            .filter(|f| f.1 > FAR && !overlay.contains(f.0))
            .count()
            > allowed;
        let moving = moved.iter().filter(|m| !overlay.contains(**m)).count() > allowed;
        run.unrest_secs += elapsed;
        match &mut self.next {
            Some(next) if moving => {
                next.half.clone_from(half);
                (next.at, next.abrupt) = (now, abrupt);
            }
            Some(_) => {}
            None => self.next = Some(begin()),
        }
        if run.unrest_secs <= GRACE_SECS && !holds {
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
        if settled && !far && (young || few) {
            run.renew(next, now);
            self.run = Some(run);
        } else {
            self.run = Some(Run::new(next));
        }
    }

    /// Difference beyond which a tile has moved.
    fn limit(&self, slack: f32, tile: &Tile) -> f32 {
        slack + self.texture_ratio * tile.variance.sqrt()
    }

    fn remember(&mut self, past: Past) {
        self.recent.push_back(past);
        while self.recent.len() > MEMORY_PICTURES
            || (self.recent.front()).is_some_and(|p| past.at.secs_after(p.at) > MEMORY_SECS)
        {
            self.recent.pop_front();
        }
    }

    /// Whether every picture brings fresh grain.
    fn grain(&self) -> bool {
        let grainy = self
            .recent
            .iter()
            .filter(|p| p.median >= GRAIN_CODES)
            .count();
        self.recent.len() >= 8 && 2 * grainy > self.recent.len()
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
        usual >= 0.02 && (0.4 * usual..=3.0 * usual + 0.05).contains(&now.moved)
    }
}

impl Run {
    fn new(anchor: Anchor) -> Self {
        Self {
            since: anchor.at,
            last_still: anchor.at,
            renewed: anchor.at,
            anchor,
            unrest_secs: 0.0,
            renewals: 0,
            touched: BTreeSet::new(),
            stills: 0,
            repeats: 0,
            overlays: 0,
            distances: VecDeque::new(),
        }
    }

    fn renew(&mut self, next: Anchor, now: MediaTime) {
        let abrupt = self.anchor.abrupt;
        self.anchor = Anchor { abrupt, ..next };
        self.last_still = now;
        self.unrest_secs = 0.0;
        self.renewals += 1;
        self.renewed = now;
        self.touched.clear();
        self.distances.clear();
    }

    fn note_distance(&mut self, now: MediaTime, codes: f32) {
        self.distances.push_back((now, codes));
        while self.distances.len() > MEMORY_PICTURES
            || (self.distances.front()).is_some_and(|d| now.secs_after(d.0) > CREEP_SPAN_SECS)
        {
            self.distances.pop_front();
        }
    }

    /// Whether the picture moves away from the anchor steadily, not in one step.
    fn creeps(&self, now: MediaTime) -> bool {
        let steps = (self.distances.iter())
            .zip(self.distances.iter().skip(1))
            .map(|(a, b)| b.1 - a.1);
        let growth: f32 = steps.clone().sum();
        let largest = steps.fold(0.0, f32::max);
        now.secs_after(self.since) >= CREEP_AGE_SECS && growth - largest >= CREEP_CODES
    }

    fn reading(&self, still_secs: f64, tiles: &Tiles) -> Reading {
        let reading = Reading::measured(still_secs)
            .since(Some(self.since))
            .cause(self.class(still_secs));
        if self.touched.is_empty() || still_secs < MAP_SECS {
            return reading;
        }
        // What still moves.
        let value = |i: usize| if self.touched.contains(&i) { 255 } else { 0 };
        reading.exhibit(Exhibit::TileMap {
            columns: tiles.columns(),
            values: (0..tiles.all().len()).map(value).collect(),
            tile_px: 2 * TILE,
        })
    }

    /// What kind of standing still it is.
    fn class(&self, still_secs: f64) -> Cause {
        let moves_on = f64::from(self.overlays) >= (OVERLAY_HZ * still_secs).max(2.0);
        match moves_on {
            true => Cause::FrozenOverlay,
            false if self.stills > 0 && self.repeats == self.stills => Cause::FrozenRepeat,
            false => Cause::Frozen,
        }
    }

    fn anchor_is_abrupt(&self) -> bool {
        self.anchor.abrupt
    }
}

/// The picture as rows and columns of tiles.
struct Shape {
    columns: usize,
    rows: usize,
}

impl Shape {
    /// The small boxes, or thin bands, near the upper or lower edge into which these tiles fall: where clocks,
    /// scores and tickers stand. A mouth or a far player moves elsewhere, or wanders.
    fn overlay(&self, tiles: impl Iterator<Item = usize>, area_ratio: f64) -> Overlay {
        let mut boxes: Vec<[usize; 4]> = Vec::new();
        for tile in tiles {
            let (x, y) = (tile % self.columns.max(1), tile / self.columns.max(1));
            let near =
                |b: &[usize; 4]| x + 3 >= b[0] && x <= b[2] + 3 && y + 3 >= b[1] && y <= b[3] + 3;
            match boxes.iter().position(near) {
                Some(i) => {
                    let [x0, y0, x1, y1] = boxes[i];
                    boxes[i] = [x0.min(x), y0.min(y), x1.max(x), y1.max(y)];
                }
                None if boxes.len() < 8 => boxes.push([x, y, x, y]),
                None => {}
            }
        }
        let margin = self.rows.div_ceil(4);
        boxes.retain(|&[_, y0, _, y1]| y1 < margin || y0 + margin >= self.rows);
        let area: usize = (boxes.iter())
            .map(|[x0, y0, x1, y1]| (x1 - x0 + 1) * (y1 - y0 + 1))
            .sum();
        let share = area as f64 / (self.columns * self.rows).max(1) as f64;
        let thin = |b: &[usize; 4]| (b[3] - b[1] + 1) as f64 <= 0.1 * self.rows as f64;
        let small = share <= area_ratio
            || (share <= 4.0 * area_ratio && boxes.len() <= 2 && boxes.iter().all(thin));
        if !small {
            boxes.clear();
        }
        Overlay {
            columns: self.columns.max(1),
            boxes,
        }
    }
}

/// Where something is allowed to run on top of a still picture, in tiles.
struct Overlay {
    columns: usize,
    boxes: Vec<[usize; 4]>,
}

impl Overlay {
    fn contains(&self, tile: usize) -> bool {
        let (x, y) = (tile % self.columns, tile / self.columns);
        let inside = |b: &[usize; 4]| (b[0]..=b[2]).contains(&x) && (b[1]..=b[3]).contains(&y);
        self.boxes.iter().any(inside)
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

impl Detector for Freeze {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Video(picture) => self.picture(&unit.at, picture, out),
            Media::Fact(Fact::Input(InputEvent::Reopened)) => self.restart(),
            Media::Fact(_) | Media::Audio(_) | Media::Tick => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.restart();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::testkit::{Bench, Frame, Noise, Step, pictures};

    const SIZE: (usize, usize) = (640, 384);

    fn moving(i: usize) -> Frame {
        Frame::scene(SIZE.0, SIZE.1, 3.0 * i as f64, 1.0 * i as f64)
    }

    /// The scene with which the moving part ends, as a codec redraws it: coarse keyframes twice a second, then finer.
    fn redrawn(i: usize) -> Frame {
        let phase = (i / 12 % 3) as u8;
        moving(50).coarse(if i.is_multiple_of(12) { 5 } else { 3 }, phase)
    }

    fn longest(steps: &[Step]) -> f64 {
        Bench::new(&DETECTOR).run(steps).peak("still_secs")
    }

    #[test]
    fn a_redrawn_freeze_is_one_run_dated_back() {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 50, moving));
        assert!(bench.peak("still_secs") < 0.5);
        bench.run(&pictures(2_000, 100, redrawn));
        assert!((bench.value("still_secs") - 3.96).abs() < 0.1);
        let since = bench.newest("still_secs").unwrap().since.unwrap();
        assert!(since.secs_after(MediaTime::from_millis(2_000)).abs() <= 0.04);
        bench.run(&pictures(6_000, 25, |i| moving(60 + i)));
        assert!(bench.value("still_secs") < 0.5);
    }

    #[test]
    fn a_running_clock_does_not_hide_it() {
        let clock = |i: usize| {
            let mut frame = redrawn(i);
            frame.fill(520, 16, 80, 24, 16);
            frame.fill(524 + 7 * (i % 10), 20, 6, 16, 235);
            frame
        };
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 50, moving));
        bench.run(&pictures(2_000, 100, clock));
        assert!(bench.value("still_secs") > 3.5);
        let reading = bench.newest("still_secs").unwrap();
        assert_eq!(reading.cause, Some(Cause::FrozenOverlay));
        let Some(Exhibit::TileMap {
            columns, values, ..
        }) = &reading.exhibit
        else {
            panic!("{reading:?}");
        };
        let moving = (0..values.len()).filter(|i| values[*i] > 0);
        let places = moving.map(|i| (i % columns, i / columns));
        assert!(places.clone().count() > 0);
        assert!(places.into_iter().all(|(x, y)| x >= 32 && y <= 2));
    }

    #[test]
    fn kinds_of_standing_still_are_told_apart() {
        let cause = |still: fn(usize) -> Frame| {
            let mut bench = Bench::new(&DETECTOR);
            bench.run(&pictures(0, 50, moving));
            bench.run(&pictures(2_000, 60, still));
            bench.newest("still_secs").unwrap().cause
        };
        assert_eq!(cause(|_| moving(49)), Some(Cause::FrozenRepeat));
        assert_eq!(cause(redrawn), Some(Cause::Frozen));
    }

    #[test]
    fn grain_on_a_static_shot_is_alive() {
        let shot = |i: usize| moving(0).grain(&mut Noise::new(i as u64), 3.0);
        assert!(longest(&pictures(0, 100, shot)) < 1.0);
        // The same grain frozen with the picture is not.
        let frozen = |_| moving(0).grain(&mut Noise::new(1), 3.0);
        assert!(longest(&pictures(0, 100, frozen)) > 3.5);
    }

    #[test]
    fn grain_added_after_motion_died_at_once_does_not_hide_it() {
        let grain = |frame: Frame, i: usize| frame.grain(&mut Noise::new(i as u64), 3.0);
        let mut steps = pictures(0, 50, |i| grain(moving(i), i));
        steps.extend(pictures(2_000, 100, |i| grain(moving(49), 100 + i)));
        assert!(longest(&steps) > 3.5);
    }

    #[test]
    fn slow_zooms_and_small_players_are_alive() {
        let pan = |i: usize| Frame::scene(SIZE.0, SIZE.1, 0.08 * i as f64, 0.0);
        assert!(longest(&pictures(0, 150, pan)) < 1.5);
        let players = |i: usize| {
            let mut frame = moving(0);
            for p in 0..6 {
                frame.fill(120 + 60 * p + i % 40, 150 + 13 * p, 8, 16, 230);
            }
            frame
        };
        assert!(longest(&pictures(0, 150, players)) < 1.0);
    }

    #[test]
    fn black_and_missing_pictures_are_left_to_others() {
        let black = |_| Frame::flat(SIZE.0, SIZE.1, 16);
        assert_eq!(longest(&pictures(0, 100, black)), 0.0);
        let mut steps = pictures(0, 10, |_| moving(0));
        steps.extend(pictures(8_000, 10, |_| moving(0)));
        assert!(longest(&steps) < 0.5);
    }

    #[test]
    fn our_own_drops_make_no_freeze() {
        let mut steps = pictures(0, 100, moving);
        for step in steps.iter_mut().step_by(5) {
            step.at.gap = Gap::WeDropped(4);
        }
        assert!(longest(&steps) < 0.5);
    }
}

//! Block damage: parts of the picture are smeared, displaced, stale or flat because coded data were lost.
//!
//! Pixels alone cannot page anyone: low bit rate, cuts, strobes, LED walls and graphics look like damage for a
//! picture or two, and the decoder hides most of the rest. So evidence and pixels are fused:
//!
//! - Every [`Fact::Evidence`] (lost packets, picture number gaps, broken slices, concealment) opens a *window* from
//!   its media time to the next [`Fact::RandomAccess`] after it; a stream that never announces one (intra refresh)
//!   gets two seconds. Inside it a tile counts as damaged on little: a newborn step on the coding grid that has no
//!   twin off the grid, a burst of change beyond what the tile is used to, a copy of the previous picture amid
//!   moving neighbours, flat grey or green, vertical stripes. When pixels show nothing, the window still reports a
//!   trace ([`TRACE_RATIO`]), so that the loss is on record.
//! - Outside a window only a dense field of newborn grid steps (or of flat grey or green) counts, that stands for
//!   three pictures, covers a part of the picture, and was not born near a cut.
//!
//! Damage is born in one picture and carried on by motion; a tile that was hit counts for half a second.
//!
//! Cost: one pass over the tile statistics; grid steps only inside windows and after suspicious bursts.
//! Known limits: damage that was re-encoded upstream after scaling has no steps on the grid and is missed outside
//! windows.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{
    Basis, Carry, Cause, Cost, Descriptor, Detector, Evidence, Exhibit, Fact, Gap, InputEvent,
    Kind, Limit, Media, MediaTime, Needs, OptionSpec, Options, Picture, Reading, Reset, RuleSpec,
    Scope, Severity, Signal, Sink, Stamp, Track, Unit, Why,
};
use crate::kernel::grid::{BLOCK, Grid};
use crate::kernel::half::HalfLuma;
use crate::kernel::tiles::{TILE, Tile};

static SIGNALS: [Signal; 2] = [
    Signal {
        name: "damage_ratio",
        unit: "ratio 0..1",
        range: (0.0, 1.0),
        basis: Basis::Media,
        help: "Share of the picture judged damaged; a trace (0.002) stands for a loss that pixels do not show.",
    },
    Signal {
        name: "damaged_secs",
        unit: "seconds",
        range: (0.0, 1e9),
        basis: Basis::Media,
        help: "Seconds of media since the present damage began.",
    },
];
static DAMAGE_RATIO: &Signal = &SIGNALS[0];
static DAMAGED_SECS: &Signal = &SIGNALS[1];

static OPTIONS: [OptionSpec; 3] = [
    OptionSpec {
        name: "seam_codes",
        default: 6.0,
        range: (1.0, 60.0),
        help: "Newborn step on the coding grid that marks a tile inside an evidence window.",
    },
    OptionSpec {
        name: "lone_seam_codes",
        default: 10.0,
        range: (4.0, 100.0),
        help: "The same on two sides of a block, without any evidence.",
    },
    OptionSpec {
        name: "lone_area_ratio",
        default: 0.01,
        range: (0.001, 1.0),
        help: "Smallest share of the picture that counts as damaged without any evidence.",
    },
];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "block_damage",
    doc: "Parts of the picture are smeared, displaced, stale or flat because coded data were lost or broken.",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Costly,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        RuleSpec {
            name: "severe_damage",
            signal: "damage_ratio",
            raise: Limit::AtLeast(0.05),
            clear: Limit::AtMost(0.01),
            hold: Duration::ZERO,
            release: Duration::from_secs(2),
            severity: Severity::Critical,
            cause: Cause::PictureDamage,
            says: "Large parts of the picture are damaged.",
        },
        RuleSpec {
            name: "visible_damage",
            signal: "damage_ratio",
            raise: Limit::AtLeast(0.01),
            clear: Limit::AtMost(0.003),
            hold: Duration::ZERO,
            release: Duration::from_secs(2),
            severity: Severity::Warning,
            cause: Cause::PictureDamage,
            says: "Parts of the picture are damaged.",
        },
        RuleSpec {
            name: "slight_damage",
            signal: "damage_ratio",
            raise: Limit::AtLeast(0.001),
            clear: Limit::AtMost(0.0),
            hold: Duration::ZERO,
            release: Duration::from_secs(2),
            severity: Severity::Info,
            cause: Cause::PictureDamage,
            says: "Coded pictures were lost or broken; little of it shows.",
        },
    ],
    options: &OPTIONS,
    list: None,
    build: |options| Box::new(BlockDamage::new(options)),
};

/// Reported while a window is open and pixels show less.
pub const TRACE_RATIO: f64 = 0.002;
/// Length of a window that no random access point ends.
const DECAY_SECS: f64 = 2.0;
/// Longest window, and how far facts are kept around the newest picture: the longest group of pictures in use.
const LONGEST_SECS: f64 = 12.0;
/// Facts kept.
const KEPT: usize = 64;
/// How long a hit tile counts.
const HIT_SECS: f64 = 0.5;
/// How long after evidence a burst of change is its doing; later ones are motion.
const BIRTH_SECS: f64 = 0.3;
/// Share of tiles that changes at a cut, and by how much each (codes).
const CUT_RATIO: f64 = 0.5;
const CUT_CODES: f32 = 10.0;
/// After a cut everything is newborn for a while.
const CUT_SECS: f64 = 0.5;
/// Pictures for which lone damage must stand.
const LONE_PICTURES: u32 = 3;

#[derive(Debug)]
struct BlockDamage {
    seam_codes: f32,
    lone_seam_codes: f32,
    lone_area_ratio: f64,
    track: Option<Track>,
    evidence: VecDeque<(MediaTime, Cause, Option<Track>)>,
    /// Random access points, with their tracks, in order of coming.
    clean: VecDeque<(MediaTime, Option<Track>)>,
    tiles: Vec<Memory>,
    /// Newest time at which the whole picture changed.
    cut: Option<MediaTime>,
    before: Option<MediaTime>,
    /// Where the present damage began.
    since: Option<MediaTime>,
    lone: Option<Lone>,
}

/// What is remembered of a tile.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Usual change from picture to picture, codes.
    usual: f32,
    /// Change of the previous picture, codes.
    last: f32,
    /// When it was hit last.
    hit: Option<MediaTime>,
}

/// Suspected damage without evidence.
#[derive(Debug)]
struct Lone {
    since: MediaTime,
    tiles: Vec<usize>,
    pictures: u32,
}

impl BlockDamage {
    fn new(options: &Options) -> Self {
        Self {
            seam_codes: options.get("seam_codes") as f32,
            lone_seam_codes: options.get("lone_seam_codes") as f32,
            lone_area_ratio: options.get("lone_area_ratio"),
            track: None,
            evidence: VecDeque::new(),
            clean: VecDeque::new(),
            tiles: Vec::new(),
            cut: None,
            before: None,
            since: None,
            lone: None,
        }
    }

    /// Forgets the pictures, not the facts: those may be about the pictures to come.
    fn forget_pictures(&mut self) {
        self.tiles.clear();
        (self.cut, self.before, self.since, self.lone) = (None, None, None, None);
    }

    fn restart(&mut self) {
        self.forget_pictures();
        self.evidence.clear();
        self.clean.clear();
        self.track = None;
    }

    fn fact(&mut self, unit: &Unit<'_>, fact: &Fact) {
        let foreign = unit
            .track
            .is_some_and(|t| t.kind != Kind::Video || self.track.is_some_and(|own| own != t));
        match fact {
            Fact::Input(InputEvent::Reopened) => self.restart(),
            _ if foreign => {}
            Fact::Evidence(Evidence { kind, from, .. }) => {
                let cause = match kind.is_transport() {
                    true => Cause::TransportLoss,
                    false => Cause::BitstreamDamage,
                };
                if let Some(from) = from.or(unit.at.media) {
                    keep(&mut self.evidence, (from, cause, unit.track));
                }
            }
            Fact::RandomAccess(at) => keep(&mut self.clean, (*at, unit.track)),
            _ => {}
        }
    }

    /// The windows open at `now`: where the oldest began, and why.
    fn window(&mut self, now: MediaTime) -> Option<(MediaTime, Cause)> {
        let own = self.track;
        let mine = move |track: Option<Track>| track.is_none_or(|t| own.is_none_or(|own| own == t));
        let near = move |at: MediaTime| now.secs_after(at).abs() <= 2.0 * LONGEST_SECS;
        self.clean.retain(|c| near(c.0) && mine(c.1));
        let clean = &self.clean;
        let open_until = |from: MediaTime| {
            let decay = if clean.is_empty() {
                DECAY_SECS
            } else {
                LONGEST_SECS
            };
            let end = from.plus(Duration::from_secs_f64(decay));
            (clean.iter().map(|c| c.0).filter(|&c| c > from).min()).map_or(end, |c| c.min(end))
        };
        self.evidence
            .retain(|e| near(e.0) && mine(e.2) && now < open_until(e.0));
        let open = || self.evidence.iter().filter(|e| e.0 <= now);
        let begin = open().map(|e| e.0).min()?;
        let transport = open().any(|e| e.1 == Cause::TransportLoss);
        let cause = match transport {
            true => Cause::TransportLoss,
            false => Cause::BitstreamDamage,
        };
        Some((begin, cause))
    }

    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let Some(now) = at.media else {
            self.forget_pictures();
            out.put(DAMAGE_RATIO, Reading::unmeasurable(Why::NoTimestamps));
            out.put(DAMAGED_SECS, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let tiles = picture.tiles();
        let backwards = self.before.is_some_and(|before| now < before);
        if at.gap == Gap::Discontinuity || backwards || self.tiles.len() != tiles.all().len() {
            self.forget_pictures();
            self.tiles = vec![Memory::default(); tiles.all().len()];
        }
        self.before = Some(now);

        let window = self.window(now);
        let comparable = at.gap == Gap::None && picture.before().is_some();
        if comparable {
            let changed = (tiles.all().iter())
                .filter(|t| t.change.is_some_and(|c| c > CUT_CODES))
                .count();
            if changed as f64 > CUT_RATIO * tiles.all().len() as f64 {
                self.cut = Some(now);
                self.lone = None;
                self.tiles.iter_mut().for_each(|m| m.hit = None);
            }
            let view = View::new(picture);
            if window.is_some() {
                self.look_in_window(now, &view);
            } else {
                self.look_alone(now, &view);
            }
            self.learn(tiles.all());
        }
        self.report(now, window, tiles.columns(), out);
    }

    /// Marks tiles on little.
    fn look_in_window(&mut self, now: MediaTime, view: &View<'_>) {
        self.lone = None;
        if self.cut == Some(now) {
            return;
        }
        let newborn =
            (self.evidence.iter()).any(|e| (0.0..=BIRTH_SECS).contains(&now.secs_after(e.0)));
        for i in 0..self.tiles.len() {
            let Memory { usual, last, .. } = self.tiles[i];
            let change = view.change(i);
            let burst = newborn && change > 8.0 + 3.0 * usual;
            let stale = change < 0.3 && last > 4.0 && view.texture(i) > 4.0 && {
                let neighbours = view.neighbours(i);
                neighbours.clone().count() >= 5
                    && neighbours.filter(|&n| view.change(n) > 6.0).count() >= 5
            };
            let seam = view.newborn_seam(i, self.seam_codes);
            if burst || stale || seam || view.newly_flat(i) || view.newly_striped(i) {
                self.tiles[i].hit = Some(now);
            }
        }
    }

    /// Looks for what cannot be anything else.
    fn look_alone(&mut self, now: MediaTime, view: &View<'_>) {
        if let Some(mut lone) = self.lone.take() {
            let stands =
                |&&i: &&usize| view.seam(i) > 0.5 * self.lone_seam_codes || view.is_flat(i);
            let standing = lone.tiles.iter().filter(stands).count();
            if 2 * standing >= lone.tiles.len() {
                lone.pictures += 1;
                if lone.pictures >= LONE_PICTURES {
                    for &i in &lone.tiles {
                        self.tiles[i].hit = Some(now);
                    }
                    self.since.get_or_insert(lone.since);
                }
                self.lone = Some(lone);
            }
            return;
        }
        if (self.cut).is_some_and(|cut| now.secs_after(cut) < CUT_SECS) {
            return;
        }
        let least = (self.lone_area_ratio * self.tiles.len() as f64).max(4.0);
        let bursts = (self.tiles.iter().enumerate())
            .filter(|&(i, m)| view.change(i) > CUT_CODES + 3.0 * m.usual)
            .count();
        if (bursts as f64) < least {
            return;
        }
        let hits: Vec<bool> = (0..self.tiles.len())
            .map(|i| view.newborn_corner(i, self.lone_seam_codes) || view.newly_flat(i))
            .collect();
        let twins = (0..self.tiles.len())
            .filter(|&i| view.newborn_twin(i, self.lone_seam_codes))
            .count();
        // A dense field of blocks: borders of graphics are thin lines.
        let dense: Vec<usize> = (0..hits.len())
            .filter(|&i| hits[i] && view.neighbours(i).filter(|&n| hits[n]).count() >= 3)
            .collect();
        let partial = 2 * hits.iter().filter(|h| **h).count() < hits.len();
        if dense.len() as f64 >= least && dense.len() > 8 * twins && partial {
            self.lone = Some(Lone {
                since: now,
                tiles: dense,
                pictures: 1,
            });
        }
    }

    fn learn(&mut self, tiles: &[Tile]) {
        for (memory, tile) in self.tiles.iter_mut().zip(tiles) {
            memory.last = tile.change.unwrap_or_default();
            memory.usual += 0.1 * (memory.last - memory.usual);
        }
    }

    fn report(
        &mut self,
        now: MediaTime,
        window: Option<(MediaTime, Cause)>,
        columns: usize,
        out: &mut Sink<'_>,
    ) {
        let hit = |m: &Memory| m.hit.is_some_and(|at| now.secs_after(at) < HIT_SECS);
        let hits = self.tiles.iter().filter(|m| hit(m)).count();
        let seen = hits as f64 / self.tiles.len().max(1) as f64;
        let ratio = match window {
            Some(_) => seen.max(TRACE_RATIO),
            None => seen,
        };
        if ratio == 0.0 {
            self.since = None;
            out.put(DAMAGE_RATIO, Reading::measured(0.0));
            out.put(DAMAGED_SECS, Reading::measured(0.0));
            return;
        }
        let since = *self.since.get_or_insert(window.map_or(now, |w| w.0));
        let cause = window.map_or(Cause::PictureDamage, |w| w.1);
        let mut reading = Reading::measured(ratio).since(Some(since)).cause(cause);
        if hits > 0 {
            reading = reading.exhibit(Exhibit::TileMap {
                columns,
                values: (self.tiles.iter())
                    .map(|m| if hit(m) { 255 } else { 0 })
                    .collect(),
                tile_px: BLOCK,
            });
        }
        out.put(DAMAGE_RATIO, reading);
        let secs = now.secs_after(since).clamp(0.0, 1e9);
        out.put(
            DAMAGED_SECS,
            Reading::measured(secs).since(Some(since)).cause(cause),
        );
    }
}

fn keep<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == KEPT {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// A picture beside the one before it, tile by tile. Grids are measured on first use; the one of the picture is
/// kept for the next.
struct View<'a> {
    tiles: &'a [Tile],
    columns: usize,
    picture: &'a Picture<'a>,
    before: Option<&'a Carry>,
    grid_before: OnceCell<Grid>,
}

impl<'a> View<'a> {
    fn new(picture: &'a Picture<'a>) -> Self {
        Self {
            tiles: picture.tiles().all(),
            columns: picture.tiles().columns().max(1),
            picture,
            before: picture.before(),
            grid_before: OnceCell::new(),
        }
    }

    fn grid(&self) -> &Grid {
        self.picture.grid()
    }

    fn grid_before(&self) -> Option<&Grid> {
        let carry = self.before?;
        let measure = || Grid::of(&carry.half);
        let kept = carry.grid.as_ref();
        Some(kept.unwrap_or_else(|| self.grid_before.get_or_init(measure)))
    }

    fn change(&self, i: usize) -> f32 {
        self.tiles[i].change.unwrap_or_default()
    }

    fn texture(&self, i: usize) -> f32 {
        self.tiles[i].variance.sqrt()
    }

    fn seam(&self, i: usize) -> f32 {
        self.grid().seams()[i]
    }

    /// A step on the grid that was not there before, and is not matched off the grid.
    fn newborn_seam(&self, i: usize, codes: f32) -> bool {
        if self.change(i) < 1.0 {
            return false;
        }
        let old = self.grid_before().map_or(0.0, |b| b.seams()[i]);
        self.seam(i) - old >= codes && self.grid().twins()[i] < 0.5 * codes
    }

    /// The same on two sides of the block.
    fn newborn_corner(&self, i: usize, codes: f32) -> bool {
        let old = self.grid_before().map_or(0.0, |b| b.corners()[i]);
        self.newborn_seam(i, codes) && self.grid().corners()[i] - old >= codes
    }

    fn newborn_twin(&self, i: usize, codes: f32) -> bool {
        let old = self.grid_before().map_or(0.0, |b| b.twins()[i]);
        self.grid().twins()[i] - old >= codes
    }

    /// The grey of missing references, or the luma of all-zero planes (green).
    fn is_flat(&self, i: usize) -> bool {
        let Tile { mean, variance, .. } = self.tiles[i];
        variance < 1.0 && ((126.0..=130.0).contains(&mean) || mean < 3.0)
    }

    fn newly_flat(&self, i: usize) -> bool {
        self.is_flat(i) && self.change(i) > 8.0
    }

    /// Rows repeated downwards, where there was a picture before: concealed intra loss.
    fn newly_striped(&self, i: usize) -> bool {
        self.change(i) > 4.0
            && self.tiles[i].variance > 30.0
            && downward_step(self.picture.half(), self.columns, i) < 0.5
            && self
                .before
                .is_some_and(|b| downward_step(&b.half, self.columns, i) > 2.0)
    }

    /// The up to eight tiles around.
    fn neighbours(&self, i: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let (columns, count) = (self.columns, self.tiles.len());
        let (x, y) = (i % columns, i / columns);
        (y.saturating_sub(1)..=y + 1)
            .flat_map(move |ny| (x.saturating_sub(1)..=x + 1).map(move |nx| (nx, ny)))
            .filter(move |&(nx, ny)| nx < columns && (nx, ny) != (x, y))
            .map(move |(nx, ny)| ny * columns + nx)
            .filter(move |&n| n < count)
    }
}

/// Mean step from row to row inside a tile, in codes.
fn downward_step(half: &HalfLuma, columns: usize, i: usize) -> f32 {
    let (left, top) = (i % columns * TILE, i / columns * TILE);
    let (mut sum, mut count) = (0u32, 0u32);
    for y in top + 1..top + TILE {
        let part = |y: usize| half.row(y).iter().skip(left).take(TILE);
        for (a, b) in part(y).zip(part(y - 1)) {
            sum += u32::from(a.abs_diff(*b));
            count += 1;
        }
    }
    sum as f32 / count.max(1) as f32
}

impl Detector for BlockDamage {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Video(picture) => {
                self.track = unit.track.or(self.track);
                self.picture(&unit.at, picture, out);
            }
            Media::Fact(fact) => self.fact(unit, fact),
            Media::Audio(_) | Media::Tick => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.restart();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::LazyLock;

    use super::*;
    use crate::base::EvidenceKind;
    use crate::testkit::{Bench, Frame, Noise, Step, pictures};

    const SIZE: (usize, usize) = (640, 384);

    fn scene(i: usize) -> Frame {
        Frame::scene(SIZE.0, SIZE.1, 1.0 * i as f64, 0.0)
    }

    static OTHERS: LazyLock<Vec<Frame>> = LazyLock::new(|| {
        let shifted = |n: usize| Frame::scene(SIZE.0, SIZE.1, 90.0 * n as f64, 50.0);
        (1..8).map(shifted).collect()
    });

    /// A band of blocks from elsewhere in the scene, each its own way off.
    fn torn(i: usize) -> Frame {
        let mut frame = scene(i);
        for block in 0..60 {
            let (x, y) = (16 * (5 + block % 20), 16 * (9 + block / 20));
            frame.paste(&OTHERS[block % 7], x, y, 16, 16);
        }
        frame
    }

    fn evidence(millis: i64, kind: EvidenceKind) -> Step {
        let from = Some(MediaTime::from_millis(millis));
        let evidence = Evidence {
            kind,
            from,
            count: 3,
        };
        Step::fact(millis, Some(Track::video(0)), Fact::Evidence(evidence))
    }

    fn clean(millis: i64) -> Step {
        let fact = Fact::RandomAccess(MediaTime::from_millis(millis));
        Step::fact(millis, Some(Track::video(0)), fact)
    }

    #[test]
    fn damage_with_evidence_is_measured_until_the_next_clean_point() {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 25, scene));
        assert_eq!(bench.peak("damage_ratio"), 0.0);
        bench.step(&evidence(1_000, EvidenceKind::ContinuityError));
        bench.run(&pictures(1_000, 10, |i| torn(25 + i)));
        let reading = bench.newest("damage_ratio").unwrap().clone();
        assert_eq!(reading.cause, Some(Cause::TransportLoss));
        assert_eq!(reading.since, Some(MediaTime::from_millis(1_000)));
        // 60 of 960 blocks.
        let peak = bench.peak("damage_ratio");
        assert!((0.03..0.12).contains(&peak), "{peak}");
        assert!(matches!(
            reading.exhibit,
            Some(Exhibit::TileMap { columns: 40, .. })
        ));
        bench.step(&clean(1_400));
        bench.run(&pictures(1_400, 25, |i| scene(35 + i)));
        assert_eq!(bench.value("damage_ratio"), 0.0);
        assert_eq!(bench.value("damaged_secs"), 0.0);
    }

    #[test]
    fn evidence_may_come_before_its_pictures_and_leaves_a_trace() {
        let mut bench = Bench::new(&DETECTOR);
        bench.step(&evidence(400, EvidenceKind::Concealment));
        bench.step(&clean(800));
        bench.run(&pictures(0, 10, |_| scene(0)));
        assert_eq!(bench.peak("damage_ratio"), 0.0);
        bench.run(&pictures(400, 10, |_| scene(0)));
        assert_eq!(bench.value("damage_ratio"), TRACE_RATIO);
        let cause = bench.newest("damage_ratio").unwrap().cause;
        assert_eq!(cause, Some(Cause::BitstreamDamage));
        bench.run(&pictures(800, 1, |_| scene(0)));
        assert_eq!(bench.value("damage_ratio"), 0.0);
    }

    #[test]
    fn a_window_without_clean_points_decays() {
        let mut bench = Bench::new(&DETECTOR);
        bench.step(&evidence(0, EvidenceKind::BrokenSlice));
        bench.run(&pictures(0, 75, |_| scene(0)));
        let traces = bench.emitted.iter();
        let traces = traces.filter(|e| e.reading.value == Reading::measured(TRACE_RATIO).value);
        assert_eq!(traces.count(), 50);
    }

    #[test]
    fn evidence_on_sound_is_not_about_pictures() {
        let mut bench = Bench::new(&DETECTOR);
        let mut sound = evidence(0, EvidenceKind::ContinuityError);
        sound.track = Some(Track::audio(0));
        bench.step(&sound);
        bench.run(&pictures(0, 25, scene));
        assert_eq!(bench.peak("damage_ratio"), 0.0);
    }

    #[test]
    fn lone_damage_needs_a_dense_field_that_stands() {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 50, scene));
        bench.run(&pictures(2_000, 2, |i| torn(50 + i)));
        assert_eq!(bench.peak("damage_ratio"), 0.0);
        bench.run(&pictures(2_080, 4, |i| torn(52 + i)));
        assert!(bench.value("damage_ratio") >= 0.01);
        let cause = bench.newest("damage_ratio").unwrap().cause;
        assert_eq!(cause, Some(Cause::PictureDamage));
    }

    #[test]
    fn cuts_strobes_graphics_and_drops_are_not_damage() {
        let cut = |i: usize| scene(i + i / 25 * 700);
        let strobe = |i: usize| match i % 3 {
            0 => Frame::flat(SIZE.0, SIZE.1, 230),
            _ => scene(i),
        };
        let graphics = |i: usize| {
            let mut frame = scene(i);
            if i >= 40 {
                frame.fill(32, 288, 576, 64, 40);
                frame.fill(48, 304, 300, 16, 220);
            }
            frame
        };
        let noise = |i: usize| scene(i).grain(&mut Noise::new(i as u64), 6.0);
        let checks: [&dyn Fn(usize) -> Frame; 4] = [&cut, &strobe, &graphics, &noise];
        for (n, make) in checks.into_iter().enumerate() {
            let mut bench = Bench::new(&DETECTOR);
            bench.run(&pictures(0, 100, make));
            assert_eq!(bench.peak("damage_ratio"), 0.0, "case {n}");
        }
        let mut dropped = pictures(0, 50, |i| scene(40 * i));
        dropped
            .iter_mut()
            .for_each(|s| s.at.gap = Gap::WeDropped(39));
        assert_eq!(
            Bench::new(&DETECTOR).run(&dropped).peak("damage_ratio"),
            0.0
        );
    }
}

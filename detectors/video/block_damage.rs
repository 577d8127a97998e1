//! Block damage: parts of the picture are smeared, displaced, stale or flat because coded data were lost.
//!
//! Pixels alone cannot page anyone: low bit rate, cuts, strobes, LED walls and graphics look like damage for a
//! picture or two, and the decoder hides most of the rest. So evidence and pixels are fused:
//!
//! - Every [`Fact::Evidence`] (lost packets, picture number gaps, broken slices, concealment) opens a *window* from
//!   its media time, less what pictures may be reordered by, to the next [`Fact::RandomAccess`] after it; a stream
//!   that never announces one (intra refresh) gets two seconds, a picture that no other refers to gets itself alone.
//!   When the damage is born a tile is hit on little: a newborn step on the coding grid that has no twin off the
//!   grid, a burst of change beyond what the tile is used to, a copy of the previous picture amid moving neighbours,
//!   flat grey or green, vertical stripes. Later pictures refer to the broken one, those of the next scene as well, so
//!   a hit stands until the window closes. When pixels show nothing, the window still reports a trace ([`TRACE_RATIO`]), so
//!   that the loss is on record.
//! - Outside a window only a dense field of newborn grid steps (or of flat grey or green) counts, that stands for
//!   three pictures, covers a part of the picture, and was not born near a cut. Damage from before the last encoder
//!   shows no such grid: a small learned net ([`upstream`]) grades how much speaks for it (`lone_damage_score`) and
//!   counts, where `lone_log_odds` turns it on.
//!
//! Outside a window a hit counts for half a second.
//!
//! Cost: one pass over the tile statistics; grid steps only inside windows and after suspicious bursts.
//! Known limits: damage that was re-encoded upstream after scaling has no steps on the grid and is missed outside
//! windows.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{
    Basis, Carry, Cause, Cost, Descriptor, Detector, EvidenceKind, Exhibit, Fact, Gap, InputEvent,
    Kind, Limit, Media, MediaTime, Needs, OptionSpec, Options, Picture, Reading, Reset, RuleSpec,
    Scope, Severity, Signal, Sink, Stamp, Track, Unit, Why,
};
use crate::kernel::grid::{BLOCK, Grid};
use crate::kernel::half::HalfLuma;
use crate::kernel::tiles::{TILE, Tile};

pub mod upstream;

use upstream::Upstream;

static SIGNALS: [Signal; 3] = [
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
    Signal {
        name: "lone_damage_score",
        unit: "ratio 0..1",
        range: (0.0, 1.0),
        basis: Basis::Media,
        help: "How much pixels alone, without evidence, speak for damage; halves every second. Not applicable while lone_log_odds turns it off.",
    },
];
static DAMAGE_RATIO: &Signal = &SIGNALS[0];
static DAMAGED_SECS: &Signal = &SIGNALS[1];
static LONE_DAMAGE_SCORE: &Signal = &SIGNALS[2];

static OPTIONS: [OptionSpec; 4] = [
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
        name: "lone_log_odds",
        default: 100.0,
        range: (-10.0, 100.0),
        help: "How sure the learned net must be (natural log odds) to call something damage without evidence; at 100 it is off and costs nothing.",
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
/// The same where the decoder gave up so many pictures of it: the gaps show, however whole the others are.
const GAPS_RATIO: f64 = 0.01;
const GAPS: u32 = 3;
/// Length of a window that no random access point ends.
const DECAY_SECS: f64 = 2.0;
/// Longest window, and how far facts are kept around the newest picture: the longest group of pictures in use.
const LONGEST_SECS: f64 = 12.0;
/// Facts kept.
const KEPT: usize = 64;
/// How long a tile counts that was hit without evidence.
const HIT_SECS: f64 = 0.5;
/// How long after evidence damage is born of it; what changes later is motion.
const BIRTH_SECS: f64 = 0.3;
/// How long after evidence a change of the whole scene may be its doing.
const YOUNG_SECS: f64 = 0.1;
/// A picture may be shown by so many before one that is decoded first: three B pictures in a pyramid.
const REORDERED: f64 = 3.2;
/// Change of a tile beyond what is usual in a window, codes.
const BURST_CODES: f32 = 8.0;
/// Largest share of concealed blocks that shows.
const VISIBLE_RATIO: f64 = 0.4;
/// Share of tiles that changes at a cut, and by how much each (codes).
const CUT_RATIO: f64 = 0.5;
const CUT_CODES: f32 = 10.0;
/// After a cut everything is newborn for a while.
const CUT_SECS: f64 = 0.5;
/// The net is off from here on.
const LONE_OFF: f64 = 100.0;
/// Chroma of no colour: what a decoder without a reference fills in.
const GREY: u8 = 128;
/// Pictures for which lone damage must stand.
const LONE_PICTURES: u32 = 3;

#[derive(Debug)]
struct BlockDamage {
    seam_codes: f32,
    lone_seam_codes: f32,
    lone_log_odds: f32,
    lone_area_ratio: f64,
    track: Option<Track>,
    claims: VecDeque<Claim>,
    /// Random access points, with their tracks, in order of coming.
    clean: VecDeque<(MediaTime, Option<Track>)>,
    tiles: Vec<Memory>,
    /// Newest time at which the whole picture changed.
    cut: Option<MediaTime>,
    before: Option<MediaTime>,
    /// Usual time from picture to picture.
    step_secs: f64,
    /// Where the present damage began.
    since: Option<MediaTime>,
    lone: Option<Lone>,
    /// Off: `None`.
    upstream: Option<Upstream>,
}

/// Evidence of damage to pictures.
#[derive(Debug, Clone, Copy)]
struct Claim {
    from: MediaTime,
    /// Where it ends by itself.
    until: Option<MediaTime>,
    kind: EvidenceKind,
    count: u32,
    track: Option<Track>,
}

/// The claims that are open at a picture, together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    /// Where the oldest began.
    since: MediaTime,
    /// The oldest began by its own time, not only by what pictures may be reordered by.
    begun: bool,
    cause: Cause,
    /// Damage that pictures to come refer to is being born.
    births: bool,
    /// The same within the time in which a change of scene may be its doing.
    young: bool,
    /// Some damage outlasts its picture.
    lasts: bool,
    /// Largest share of the picture that can be damaged, as far as the decoder told what it concealed.
    most: f64,
    /// Least share that is reported.
    least: f64,
}

/// What is remembered of a tile.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Usual change from picture to picture, codes.
    usual: f32,
    /// Change of the previous picture, codes.
    last: f32,
    /// When it was hit last without evidence.
    hit: Option<MediaTime>,
    /// Hit in a window whose damage lasts.
    stands: bool,
    /// Hit in this picture alone.
    passes: bool,
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
            lone_log_odds: options.get("lone_log_odds") as f32,
            lone_area_ratio: options.get("lone_area_ratio"),
            track: None,
            claims: VecDeque::new(),
            clean: VecDeque::new(),
            tiles: Vec::new(),
            cut: None,
            before: None,
            step_secs: 0.04,
            since: None,
            lone: None,
            upstream: (options.get("lone_log_odds") < LONE_OFF).then(Upstream::default),
        }
    }

    /// Forgets the pictures, not the facts: those may be about the pictures to come.
    fn forget_pictures(&mut self) {
        self.tiles.clear();
        (self.cut, self.before, self.since, self.lone) = (None, None, None, None);
        self.forget_upstream();
    }

    /// What it saw is no longer the past of what comes.
    fn forget_upstream(&mut self) {
        if let Some(upstream) = &mut self.upstream {
            *upstream = Upstream::default();
        }
    }

    fn restart(&mut self) {
        self.forget_pictures();
        self.claims.clear();
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
            Fact::Evidence(evidence) => {
                if let Some(from) = evidence.from.or(unit.at.media) {
                    let claim = Claim {
                        from,
                        until: evidence.until,
                        kind: evidence.kind,
                        count: evidence.count,
                        track: unit.track,
                    };
                    keep(&mut self.claims, claim);
                }
            }
            Fact::RandomAccess(at) => keep(&mut self.clean, (*at, unit.track)),
            _ => {}
        }
    }

    /// The window at `now` in a picture of so many `blocks`.
    fn window(
        &mut self,
        now: MediaTime,
        before: Option<MediaTime>,
        blocks: usize,
    ) -> Option<Window> {
        let own = self.track;
        let mine = move |track: Option<Track>| track.is_none_or(|t| own.is_none_or(|own| own == t));
        let near = move |at: MediaTime| now.secs_after(at).abs() <= 2.0 * LONGEST_SECS;
        self.clean.retain(|c| near(c.0) && mine(c.1));
        let clean = &self.clean;
        let open_until = |claim: &Claim| {
            if let Some(until) = claim.until {
                return until;
            }
            let decay = if clean.is_empty() {
                DECAY_SECS
            } else {
                LONGEST_SECS
            };
            let end = claim.from.plus(Duration::from_secs_f64(decay));
            let later = clean.iter().map(|c| c.0).filter(|&c| c > claim.from);
            later.min().map_or(end, |c| c.min(end))
        };
        self.claims
            .retain(|c| near(c.from) && mine(c.track) && now < open_until(c));
        let reorder_secs = REORDERED * self.step_secs;
        let open = || {
            self.claims.iter().filter(move |c| match c.until {
                Some(_) => c.from <= now,
                None => now.secs_after(c.from) >= -reorder_secs,
            })
        };
        let from = open().map(|c| c.from).min()?;
        let lasting = || open().filter(|c| c.until.is_none());
        // The first picture after a hole is as near to the evidence as the one before the hole.
        let next = before.map(|before| before.plus(Duration::from_secs_f64(self.step_secs)));
        let near_evidence = next.map_or(now, |next| next.min(now));
        let within = |secs: f64| lasting().any(|c| near_evidence.secs_after(c.from) <= secs);
        let transport = open().any(|c| c.kind.is_transport());
        let told = || open().filter(|c| c.kind == EvidenceKind::Concealment);
        let missing = open().any(|c| {
            matches!(
                c.kind,
                EvidenceKind::PictureNumberGap | EvidenceKind::PicturesMissing
            )
        });
        let gaps = (open().filter(|c| c.kind == EvidenceKind::PicturesMissing))
            .fold(0, |sum: u32, c| sum.saturating_add(c.count));
        let concealed: u32 = told().map(|c| c.count).fold(0, u32::saturating_add);
        let most = match missing || told().next().is_none() {
            true => 1.0,
            false => VISIBLE_RATIO * f64::from(concealed) / blocks.max(1) as f64,
        };
        Some(Window {
            since: from.min(now),
            begun: from <= now,
            cause: match transport {
                true => Cause::TransportLoss,
                false => Cause::BitstreamDamage,
            },
            births: within(BIRTH_SECS) || open().any(|c| c.until.is_some()),
            young: within(YOUNG_SECS),
            lasts: lasting().next().is_some(),
            least: match gaps >= GAPS {
                true => GAPS_RATIO,
                false => TRACE_RATIO,
            },
            most,
        })
    }

    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let Some(now) = at.media else {
            self.forget_pictures();
            out.put(DAMAGE_RATIO, Reading::unmeasurable(Why::NoTimestamps));
            out.put(DAMAGED_SECS, Reading::unmeasurable(Why::NoTimestamps));
            let why = match self.upstream {
                Some(_) => Why::NoTimestamps,
                None => Why::NotApplicable,
            };
            out.put(LONE_DAMAGE_SCORE, Reading::unmeasurable(why));
            return;
        };
        let tiles = picture.tiles();
        let backwards = self.before.is_some_and(|before| now < before);
        if at.gap == Gap::Discontinuity || backwards || self.tiles.len() != tiles.all().len() {
            self.forget_pictures();
            self.tiles = vec![Memory::default(); tiles.all().len()];
        }
        let before = self.before.replace(now);
        if let Some(before) = before {
            let step = now.secs_after(before).clamp(0.005, 0.1);
            self.step_secs += 0.1 * (step - self.step_secs);
        }

        let window = self.window(now, before, tiles.all().len());
        let lasts = window.is_some_and(|w| w.lasts);
        for memory in &mut self.tiles {
            memory.stands &= lasts;
            memory.passes = false;
        }
        let comparable = at.gap == Gap::None && picture.before().is_some();
        if comparable {
            let changed = (tiles.all().iter())
                .filter(|t| t.change.is_some_and(|c| c > CUT_CODES))
                .count();
            if changed as f64 > CUT_RATIO * tiles.all().len() as f64 {
                self.cut = Some(now);
                self.lone = None;
                // A scene that is predicted from broken pictures shows through what was broken.
                for memory in &mut self.tiles {
                    memory.hit = None;
                    memory.stands &= lasts;
                }
            }
            let view = View::new(picture);
            match &window {
                Some(window) => self.look_in_window(now, window, &view),
                None => {
                    self.look_alone(now, &view);
                    self.look_upstream(now, picture);
                }
            }
            self.learn(tiles.all());
        }
        if !comparable || window.is_some() {
            self.forget_upstream();
        }
        self.report(now, window, tiles.columns(), out);
        // Said even when it is off: a signal that was shed stays blind until it is said again.
        let score = match &self.upstream {
            Some(upstream) => Reading::measured(upstream.score(now)),
            None => Reading::unmeasurable(Why::NotApplicable),
        };
        out.put(LONE_DAMAGE_SCORE, score);
    }

    /// Marks tiles on little.
    fn look_in_window(&mut self, now: MediaTime, window: &Window, view: &View<'_>) {
        self.lone = None;
        // A scene that begins where pictures were lost is as broken as what it refers to.
        if !window.births || (self.cut == Some(now) && !window.young) {
            return;
        }
        for i in 0..self.tiles.len() {
            let Memory { usual, last, .. } = self.tiles[i];
            let change = view.change(i);
            let burst = change > view.burst_codes(i) + 3.0 * usual;
            let stale = change < 0.3 && last > 4.0 && view.texture(i) > 4.0 && {
                let neighbours = view.neighbours(i);
                neighbours.clone().count() >= 5
                    && neighbours.filter(|&n| view.change(n) > 6.0).count() >= 5
            };
            let seam = view.newborn_seam(i, self.seam_codes);
            if burst || stale || seam || view.newly_flat(i) || view.newly_striped(i) {
                self.tiles[i].stands |= window.lasts;
                self.tiles[i].passes = true;
            }
        }
    }

    /// Looks for what cannot be anything else.
    fn look_alone(&mut self, now: MediaTime, view: &View<'_>) {
        if let Some(mut lone) = self.lone.take() {
            let stands =
                |&&i: &&usize| view.seam(i) > 0.5 * self.lone_seam_codes || view.is_unfilled(i);
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
            .map(|i| {
                view.newborn_corner(i, self.lone_seam_codes)
                    || (view.newly_flat(i) && view.is_unfilled(i))
            })
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

    /// Looks for damage that was encoded again.
    fn look_upstream(&mut self, now: MediaTime, picture: &Picture<'_>) {
        let least = (self.lone_area_ratio * self.tiles.len() as f64).ceil() as usize;
        let Some(upstream) = &mut self.upstream else {
            return;
        };
        let Some(found) = upstream.look(now, picture, self.lone_log_odds, least) else {
            return;
        };
        for i in found.tiles {
            if let Some(memory) = self.tiles.get_mut(i) {
                memory.hit = Some(now);
            }
        }
        self.since.get_or_insert(found.since);
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
        window: Option<Window>,
        columns: usize,
        out: &mut Sink<'_>,
    ) {
        let hit = |m: &Memory| {
            m.stands || m.passes || m.hit.is_some_and(|at| now.secs_after(at) < HIT_SECS)
        };
        let hits = self.tiles.iter().filter(|m| hit(m)).count();
        let seen = hits as f64 / self.tiles.len().max(1) as f64;
        let trace = window.filter(|w| w.begun).map_or(0.0, |w| w.least);
        let ratio = seen.min(window.map_or(1.0, |w| w.most)).max(trace);
        if ratio == 0.0 {
            self.since = None;
            out.put(DAMAGE_RATIO, Reading::measured(0.0));
            out.put(DAMAGED_SECS, Reading::measured(0.0));
            return;
        }
        let since = *self.since.get_or_insert(window.map_or(now, |w| w.since));
        let cause = window.map_or(Cause::PictureDamage, |w| w.cause);
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

    /// Change beyond what is usual that only damage brings about: less where it is dark, as all contrast is less.
    fn burst_codes(&self, i: usize) -> f32 {
        BURST_CODES * ((self.tiles[i].mean - 16.0) / 48.0).clamp(0.5, 1.0)
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

    /// The same in chroma, too: drawings have surfaces of any luma, but seldom of no colour.
    fn is_unfilled(&self, i: usize) -> bool {
        let fill = if self.tiles[i].mean < 3.0 { 0 } else { GREY };
        self.is_flat(i)
            && (self.picture.chroma()).is_none_or(|grid| {
                let (x, y) = (i % self.columns, i / self.columns);
                let cell = 2 * y * grid.columns() + 2 * x;
                [grid.cb(), grid.cr()]
                    .iter()
                    .all(|plane| plane.get(cell).is_none_or(|c| c.abs_diff(fill) <= 1))
            })
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
#[path = "block_damage_tests.rs"]
mod tests;

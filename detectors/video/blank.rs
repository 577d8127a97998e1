//! Blank picture: one colour where there should be a programme, in the whole picture or in a part of it.
//!
//! Three things leave such pictures behind, and each has its cause:
//!
//! - *A device without a signal* shows one flat colour, often blue (`blank_colour`). The picture is that when every tile
//!   (16x16 pixels) has the same colour within a few codes and no texture, but for the borders of a letterbox and for a
//!   logo in a corner. Text anywhere else makes it a slide. The colour must stand: a fade through colour restarts
//!   the run with every step.
//! - *A decoder without references* fills with the middle of the scale, Y = Cb = Cr = 128 (`blank_grey`).
//! - *Memory that nobody wrote* is all zeros or all ones: strong green (`blank_green`) or pink (`blank_pink`), also when
//!   only the chroma was lost and the luma lives. No colour of a camera or a computer gets there: of R'G'B' within 0..1
//!   no matrix (BT.601, BT.709, BT.2020) makes both Cb and Cr at most 20, or both at least 235, in limited or in
//!   full range; the green of a keying screen stays above 25.
//!
//! A *part* of the picture counts from one connected tenth on. Green and pink cannot be anything else. Grey can: a
//! panel of a graphic may have that very code. So a grey part must be exact (within a code, without texture), and it must
//! have come at once, in a picture that moved before and was not cut to another one at that moment.
//!
//! Black is left to `black`. A picture without chroma is judged as grey. Known limits: a live, motionless shot of nothing
//! but one evenly lit colour is told as blank; a grey panel of exactly code 128, without text, that is switched on over
//! a moving picture is told as a blank part; grey that was there from the first picture of a stream is not.
//!
//! Cost: the chroma grid, and a look over it and over the tile statistics.

use std::ops::Range as Span;
use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Exhibit, Gap, Limit, MediaTime, Needs, OptionSpec, Options,
    Picture, PictureDetector, Range, Reading, RuleSpec, Scope, Severity, Signal, Sink, Stamp, Why,
};
use crate::kernel::chroma::ChromaGrid;
use crate::kernel::tiles::Tile;

static SIGNALS: [Signal; 2] = [
    Signal {
        name: "blank_secs",
        unit: "seconds",
        range: (0.0, 1e9),
        basis: Basis::Media,
        help: "Seconds of media for which the whole picture has been one colour other than black.",
    },
    Signal {
        name: "blank_part_ratio",
        unit: "ratio 0..1",
        range: (0.0, 1.0),
        basis: Basis::Media,
        help: "Share of the picture that the largest connected blank part takes; 0 while all of it is blank.",
    },
];
static BLANK_SECS: &Signal = &SIGNALS[0];
static BLANK_PART_RATIO: &Signal = &SIGNALS[1];

static OPTIONS: [OptionSpec; 1] = [OptionSpec {
    name: "flat_codes",
    default: 3.0,
    range: (0.5, 10.0),
    help: "How far the tiles of a picture of one colour may lie from it, and their samples from each other.",
}];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "blank",
    doc: "The picture, or a large part of it, is one colour: a device without a signal, a decoder without \
          references, memory that nobody wrote. Black, fades, slides and skies are not.",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        RuleSpec {
            name: "blank",
            signal: "blank_secs",
            raise: Limit::AtLeast(2.0),
            clear: Limit::AtMost(0.0),
            hold: Duration::ZERO,
            release: Duration::from_millis(200),
            severity: Severity::Critical,
            cause: Cause::BlankColour,
            says: "The picture shows nothing but one colour.",
        },
        RuleSpec {
            name: "part_blank",
            signal: "blank_part_ratio",
            raise: Limit::AtLeast(0.1),
            clear: Limit::AtMost(0.03),
            hold: Duration::from_millis(400),
            release: Duration::from_millis(500),
            severity: Severity::Warning,
            cause: Cause::BlankGrey,
            says: "A part of the picture is green, pink or grey where there should be a programme.",
        },
    ],
    options: &OPTIONS,
    list: None,
    build: |options| Box::new(Blank::new(options)),
};

/// Colours that differ by more than this, in any component, are not one run, codes.
const SAME_CODES: f32 = 6.0;
/// Chroma that both components lie beyond is no colour: below this, or as far from the upper end.
const NO_COLOUR: f32 = 20.0;
/// Share of the tiles that have no colour when the picture has none.
const WHOLE_RATIO: f64 = 0.975;
/// Shares of the tiles that may differ from the one colour: in the corners, and elsewhere.
const LOGO_RATIO: f64 = 0.025;
const STRAY_RATIO: f64 = 0.001;
/// A corner: this share of the rows and of the columns.
const CORNER_RATIO: f64 = 0.3;
/// What is left between the borders of a letterbox is at least this share of the picture.
const PROGRAMME_RATIO: f64 = 0.5;
/// Black, in codes above the black of the range and beside neutral chroma.
const BLACK_CODES: f32 = 20.0;
const NEUTRAL_CODES: f32 = 12.0;
/// The grey of a decoder: how exact, codes; a whole picture may be a little off after it was encoded again.
const GREY: f32 = 128.0;
const GREY_CODES: f32 = 1.0;
const WHOLE_GREY_CODES: f32 = 3.0;
/// Smaller parts are not measured.
const LEAST_PART_RATIO: f64 = 0.03;
/// How much grey there may be just before a grey part comes, and how much it may grow in a while: more is a panel that
/// slides in.
const GREY_BEFORE_RATIO: f64 = 0.01;
const GREY_GROWTH: f64 = 2.0;
const GREY_GROWTH_SECS: f64 = 1.0;
/// At a cut this share of the tiles changes by this much, codes.
const CUT_RATIO: f64 = 0.7;
const CUT_CODES: f32 = 12.0;
/// A picture moves when this share of the tiles changes by this much, codes; remembered for a while.
const MOVING_RATIO: f64 = 0.02;
const MOVING_CODES: f32 = 1.0;
const MOVING_SECS: f64 = 1.0;
/// Pictures further apart than this do not belong to one run: the loss detector tells about missing pictures.
const HOLE_SECS: f64 = 1.0;

#[derive(Debug)]
struct Blank {
    flat_codes: f32,
    before: Option<MediaTime>,
    run: Option<Run>,
    part: Option<Part>,
    grey: Grey,
}

/// A picture that is blank.
#[derive(Debug, Clone, Copy)]
struct Run {
    since: MediaTime,
    whole: Whole,
}

/// What a blank picture shows.
#[derive(Debug, Clone, Copy)]
struct Whole {
    cause: Cause,
    /// The one colour; `None` for a picture whose chroma alone is lost.
    colour: Option<Colour>,
}

/// A part of the picture that is blank.
#[derive(Debug, Clone, Copy)]
struct Part {
    since: MediaTime,
    cause: Cause,
}

/// What is remembered about grey tiles.
#[derive(Debug, Default)]
struct Grey {
    /// Share of the tiles in the picture before.
    share: Option<f64>,
    /// When it came at once, and how much; `None` while it did not.
    born: Option<(MediaTime, f64)>,
    /// When the picture last moved.
    moved: Option<MediaTime>,
}

/// Mean codes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Colour {
    y: f32,
    cb: f32,
    cr: f32,
}

impl Colour {
    const NEUTRAL: Self = Self {
        y: GREY,
        cb: GREY,
        cr: GREY,
    };

    /// Whether no component differs by more than `codes`.
    fn near(self, other: Self, codes: f32) -> bool {
        (self.y - other.y).abs() <= codes && self.near_in_hue(other, codes)
    }

    fn near_in_hue(self, other: Self, codes: f32) -> bool {
        (self.cb - other.cb).abs() <= codes && (self.cr - other.cr).abs() <= codes
    }

    /// Green or pink beyond what any colour is.
    fn impossible(self) -> Option<Cause> {
        let high = 255.0 - NO_COLOUR;
        if self.cb <= NO_COLOUR && self.cr <= NO_COLOUR {
            Some(Cause::BlankGreen)
        } else if self.cb >= high && self.cr >= high {
            Some(Cause::BlankPink)
        } else {
            None
        }
    }
}

/// A tile: its colour, and how far from it its samples lie.
#[derive(Debug, Clone, Copy)]
struct Patch {
    colour: Colour,
    rough: f32,
}

impl Patch {
    fn is_grey(&self) -> bool {
        self.rough <= GREY_CODES && self.colour.near(Colour::NEUTRAL, GREY_CODES)
    }
}

/// A picture in tiles. Few pictures are flat or of no colour, so what tells that of all tiles at once is asked first.
struct View<'a> {
    tiles: &'a [Tile],
    grid: Option<&'a ChromaGrid>,
    /// Shares of the cells that have no colour.
    green: f64,
    pink: f64,
    columns: usize,
    rows: usize,
    /// Luma up to which a tile is black.
    black: f32,
}

impl<'a> View<'a> {
    fn of(picture: &'a Picture<'_>) -> Self {
        let tiles = picture.tiles();
        let columns = tiles.columns().max(1);
        let floor = match picture.range() {
            Range::Limited => 16.0,
            Range::Full => 0.0,
        };
        let grid = picture.chroma();
        let lost = |flip| grid.map_or(0.0, |grid| lost_share(grid, flip));
        Self {
            tiles: tiles.all(),
            grid,
            green: lost(0),
            pink: lost(u8::MAX),
            columns,
            rows: tiles.all().len() / columns,
            black: floor + BLACK_CODES,
        }
    }

    /// The tile at that place; none past the end.
    fn patch(&self, i: usize) -> Option<Patch> {
        let tile = self.tiles.get(i)?;
        let mut rough = tile.variance.sqrt();
        let mut colour = Colour {
            y: tile.mean,
            ..Colour::NEUTRAL
        };
        if let Some(grid) = self.grid {
            let (x, y) = (2 * (i % self.columns), 2 * (i / self.columns));
            let (mut cb, mut cr) = (Extent::new(), Extent::new());
            for (b, r) in grid.span(x, y, 2).chain(grid.span(x, y + 1, 2)) {
                cb.take(b);
                cr.take(r);
            }
            (colour.cb, colour.cr) = (cb.middle(), cr.middle());
            rough = rough.max(cb.reach()).max(cr.reach());
        }
        Some(Patch { colour, rough })
    }

    fn is_lost(&self, i: usize, cause: Cause) -> bool {
        let patch = self.patch(i);
        patch.is_some_and(|p| p.colour.impossible() == Some(cause))
    }

    fn is_grey(&self, i: usize) -> bool {
        let near = |t: &Tile| (t.mean - GREY).abs() <= GREY_CODES && t.variance <= GREY_CODES;
        self.tiles.get(i).is_some_and(near) && self.patch(i).is_some_and(|p| p.is_grey())
    }

    /// Share of the picture's cells that have no colour.
    fn lost_share(&self, cause: Cause) -> f64 {
        match cause {
            Cause::BlankPink => self.pink,
            _ => self.green,
        }
    }

    fn is_black(&self, colour: Colour) -> bool {
        colour.y <= self.black && colour.near_in_hue(Colour::NEUTRAL, NEUTRAL_CODES)
    }

    /// Share of the tiles.
    fn share(&self, count: usize) -> f64 {
        count as f64 / self.tiles.len().max(1) as f64
    }

    /// Columns and rows between the black borders of a letterbox or pillarbox; the tiles that a border ends in are left
    /// out.
    fn programme(&self) -> (Span<usize>, Span<usize>) {
        let black = |x: usize, y: usize| {
            let i = y * self.columns + x;
            let is_dark = self.tiles.get(i).is_none_or(|t| t.mean <= self.black);
            is_dark && self.patch(i).is_none_or(|p| self.is_black(p.colour))
        };
        let dark_row = |y: &usize| (0..self.columns).all(|x| black(x, *y));
        let dark_column = |x: &usize| (0..self.rows).all(|y| black(*x, y));
        let inner = |dark: &dyn Fn(&usize) -> bool, end: usize| {
            let count = |n: usize| if n == 0 { 0 } else { n + 1 };
            let low = count((0..end).take_while(|n| dark(n)).count());
            let high = count((0..end).rev().take_while(|n| dark(n)).count());
            low.min(end)..end.saturating_sub(high).max(low.min(end))
        };
        (
            inner(&dark_column, self.columns),
            inner(&dark_row, self.rows),
        )
    }

    /// What the whole picture shows, when it is blank.
    fn whole(&self, flat_codes: f32) -> Option<Whole> {
        let lost = [Cause::BlankGreen, Cause::BlankPink]
            .into_iter()
            .find(|cause| self.lost_share(*cause) >= WHOLE_RATIO);
        if let Some(cause) = lost {
            return Some(Whole {
                cause,
                colour: None,
            });
        }
        let smooth = (self.tiles.iter()).filter(|t| t.variance <= flat_codes * flat_codes);
        if self.share(smooth.count()) < PROGRAMME_RATIO {
            return None;
        }
        let (across, down) = self.programme();
        // Too much texture is seen before any colour is asked for.
        let rough = down.clone().map(|y| y * self.columns).map(|row| {
            let tiles = (self.tiles).get(row + across.start..row + across.end);
            let rough = |t: &&Tile| t.variance.sqrt() > flat_codes;
            tiles.map_or(0, |tiles| tiles.iter().filter(rough).count())
        });
        let most = (LOGO_RATIO + STRAY_RATIO) * (across.len() * down.len()) as f64;
        if rough.sum::<usize>() as f64 > most + 1.0 {
            return None;
        }
        let inside: Vec<(usize, usize, Patch)> = (down.clone())
            .flat_map(|y| across.clone().map(move |x| (x, y)))
            .filter_map(|(x, y)| Some((x, y, self.patch(y * self.columns + x)?)))
            .collect();
        if self.share(inside.len()) < PROGRAMME_RATIO {
            return None;
        }
        let middle = |of: fn(&Patch) -> f32| {
            let mut all: Vec<f32> = inside.iter().map(|(.., p)| of(p)).collect();
            let at = all.len() / 2;
            *all.select_nth_unstable_by(at, f32::total_cmp).1
        };
        let colour = Colour {
            y: middle(|p| p.colour.y),
            cb: middle(|p| p.colour.cb),
            cr: middle(|p| p.colour.cr),
        };
        if self.is_black(colour) {
            return None;
        }
        let outer = |at: usize, span: &Span<usize>| {
            let edge = CORNER_RATIO * span.len() as f64;
            ((at - span.start) as f64) < edge || ((span.end - at) as f64) <= edge
        };
        let (mut corner, mut stray) = (0, 0);
        for &(x, y, patch) in &inside {
            if patch.rough > flat_codes || !patch.colour.near(colour, flat_codes) {
                match outer(x, &across) && outer(y, &down) {
                    true => corner += 1,
                    false => stray += 1,
                }
            }
        }
        let share = |count: usize| count as f64 / inside.len() as f64;
        let cause = match colour.near(Colour::NEUTRAL, WHOLE_GREY_CODES) {
            true => Cause::BlankGrey,
            false => Cause::BlankColour,
        };
        (share(corner) <= LOGO_RATIO && share(stray) <= STRAY_RATIO).then_some(Whole {
            cause,
            colour: Some(colour),
        })
    }

    /// The largest connected part of the tiles that `belongs` picks, when it is worth telling.
    fn part(&self, belongs: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut open: Vec<bool> = (0..self.tiles.len()).map(belongs).collect();
        let least = (LEAST_PART_RATIO * open.len() as f64).max(4.0) as usize;
        let mut largest = Vec::new();
        if open.iter().filter(|o| **o).count() < least {
            return largest;
        }
        for start in 0..open.len() {
            if !std::mem::take(&mut open[start]) {
                continue;
            }
            let mut part = vec![start];
            let mut next = 0;
            while let Some(&at) = part.get(next) {
                next += 1;
                let x = at % self.columns;
                let beside = [
                    (x > 0).then(|| at - 1),
                    (x + 1 < self.columns).then_some(at + 1),
                    at.checked_sub(self.columns),
                    Some(at + self.columns),
                ];
                for other in beside.into_iter().flatten() {
                    if open.get_mut(other).is_some_and(std::mem::take) {
                        part.push(other);
                    }
                }
            }
            if part.len() > largest.len() {
                largest = part;
            }
        }
        match largest.len() < least {
            true => Vec::new(),
            false => largest,
        }
    }
}

/// Share of the cells whose codes, with the bits of `flip` turned over, lie below all colours.
fn lost_share(grid: &ChromaGrid, flip: u8) -> f64 {
    let low = NO_COLOUR as u8;
    let lost: u32 = (grid.cb().iter().zip(grid.cr()))
        .map(|(b, r)| u32::from((b ^ flip).max(r ^ flip) <= low))
        .sum();
    f64::from(lost) / grid.cb().len().max(1) as f64
}

/// Smallest and largest of some codes.
struct Extent {
    low: u8,
    high: u8,
}

impl Extent {
    fn new() -> Self {
        Self {
            low: u8::MAX,
            high: u8::MIN,
        }
    }

    fn take(&mut self, code: u8) {
        (self.low, self.high) = (self.low.min(code), self.high.max(code));
    }

    fn middle(&self) -> f32 {
        (f32::from(self.low) + f32::from(self.high)) / 2.0
    }

    fn reach(&self) -> f32 {
        f32::from(self.high.saturating_sub(self.low)) / 2.0
    }
}

impl Blank {
    fn new(options: &Options) -> Self {
        Self {
            flat_codes: options.get("flat_codes") as f32,
            before: None,
            run: None,
            part: None,
            grey: Grey::default(),
        }
    }

    fn tell_whole(&mut self, now: MediaTime, whole: Option<Whole>, out: &mut Sink<'_>) {
        let Some(whole) = whole else {
            self.run = None;
            out.put(BLANK_SECS, Reading::measured(0.0));
            return;
        };
        let run = match self.run {
            Some(run) if run.whole.same_as(whole) => run,
            _ => Run { since: now, whole },
        };
        self.run = Some(run);
        let secs = now.secs_after(run.since).clamp(0.0, 1e9);
        let reading = Reading::measured(secs).since(Some(run.since));
        out.put(BLANK_SECS, reading.cause(run.whole.cause));
    }

    fn tell_part(&mut self, now: MediaTime, view: &View<'_>, out: &mut Sink<'_>) {
        let lost = |cause| match view.lost_share(cause) >= LEAST_PART_RATIO {
            true => view.part(|i| view.is_lost(i, cause)),
            false => Vec::new(),
        };
        let grey = match self.grey.born {
            Some(_) => view.part(|i| view.is_grey(i)),
            None => Vec::new(),
        };
        let parts = [
            (grey, Cause::BlankGrey),
            (lost(Cause::BlankPink), Cause::BlankPink),
            (lost(Cause::BlankGreen), Cause::BlankGreen),
        ];
        let largest = parts.into_iter().max_by_key(|(tiles, _)| tiles.len());
        let Some((tiles, cause)) = largest.filter(|(tiles, _)| !tiles.is_empty()) else {
            self.part = None;
            out.put(BLANK_PART_RATIO, Reading::measured(0.0));
            return;
        };
        let part = match self.part {
            Some(part) if part.cause == cause => part,
            _ => Part { since: now, cause },
        };
        self.part = Some(part);
        let mut values = vec![0; view.tiles.len()];
        tiles.iter().for_each(|&i| values[i] = u8::MAX);
        let exhibit = Exhibit::TileMap {
            columns: view.columns,
            values,
            tile_px: 16,
        };
        let reading = Reading::measured(view.share(tiles.len())).since(Some(part.since));
        out.put(BLANK_PART_RATIO, reading.cause(cause).exhibit(exhibit));
    }
}

impl Whole {
    fn same_as(self, other: Self) -> bool {
        let alike = match (self.colour, other.colour) {
            (Some(a), Some(b)) => a.near(b, SAME_CODES),
            (a, b) => a == b,
        };
        alike && self.cause == other.cause
    }
}

impl Grey {
    /// Takes up a picture. `unbroken`: it is the next one after the picture before.
    fn follow(&mut self, now: MediaTime, view: &View<'_>, unbroken: bool) {
        let (mut count, mut far, mut moving) = (0, 0, 0);
        for (i, tile) in view.tiles.iter().enumerate() {
            let grey = view.is_grey(i);
            let changed = |codes| usize::from(!grey && tile.change.is_some_and(|c| c > codes));
            count += usize::from(grey);
            far += changed(CUT_CODES);
            moving += changed(MOVING_CODES);
        }
        let share = view.share(count);
        // Shares of the other tiles that changed by so much.
        let others = (view.tiles.len() - count).max(1) as f64;
        let (far, moving) = (far as f64 / others, moving as f64 / others);
        let cut = far >= CUT_RATIO;
        let slides = |(at, born): &(MediaTime, f64)| {
            share > GREY_GROWTH * born && now.secs_after(*at) < GREY_GROWTH_SECS
        };
        self.born = match self.born {
            _ if share < GREY_BEFORE_RATIO => None,
            Some(born) => Some(born).filter(|born| !slides(born)),
            None => {
                let at_once = self.share.is_some_and(|before| before < GREY_BEFORE_RATIO);
                let moved = (self.moved).is_some_and(|at| now.secs_after(at) <= MOVING_SECS);
                let live = unbroken && !cut && moved;
                (at_once && live && share >= LEAST_PART_RATIO).then_some((now, share))
            }
        };
        self.share = Some(share);
        if !cut && moving >= MOVING_RATIO {
            self.moved = Some(now);
        }
    }
}

impl PictureDetector for Blank {
    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let Some(now) = at.media else {
            self.restart();
            out.put(BLANK_SECS, Reading::unmeasurable(Why::NoTimestamps));
            out.put(BLANK_PART_RATIO, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let follows =
            (self.before).is_some_and(|before| (0.0..=HOLE_SECS).contains(&now.secs_after(before)));
        if !follows || at.gap == Gap::Discontinuity {
            self.restart();
        }
        self.before = Some(now);
        let view = View::of(picture);
        // What came since a picture that we dropped did not come at once.
        self.grey.follow(now, &view, at.gap == Gap::None);
        let whole = view.whole(self.flat_codes);
        self.tell_whole(now, whole, out);
        match whole {
            Some(_) => {
                self.part = None;
                out.put(BLANK_PART_RATIO, Reading::measured(0.0));
            }
            None => self.tell_part(now, &view, out),
        }
    }

    fn restart(&mut self) {
        (self.before, self.run, self.part) = (None, None, None);
        self.grey = Grey::default();
    }
}

#[cfg(test)]
#[path = "blank_tests.rs"]
mod tests;

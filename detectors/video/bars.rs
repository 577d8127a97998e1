//! Test pattern: colour bars where there should be a programme.
//!
//! Every standard pattern shows the same thing somewhere: white (or grey), yellow, cyan, green, magenta, red and blue
//! beside each other, equally wide, each darker than the one before. That is looked for in rows of the chroma grid
//! (cells of 8x8 pixels), by hue and order and not by exact codes: scaling, 75 % or 100 % amplitude, limited or full range
//! and the matrix (BT.601, BT.709) change codes by tens, and hues by a few degrees. A row counts when
//!
//! - the six colours have their hues within 20 degrees, in order, with equal widths, and the neutral bar before them,
//! - their saturation is much the same, as it is in bars and in hardly any graphic,
//! - luma falls from bar to bar and is even inside each,
//! - the seven bars take at least half of the picture.
//!
//! The picture shows bars when at least a quarter of its rows do, all in the same place: a logo, a clock or a line of
//! text costs the rows that it covers, and what lies below the bars (castellations, ramps, PLUGE) is not looked at. They
//! must stand in their place for a second before anything is said. What stands beside the bars tells the class:
//!
//! - `bars`: a black eighth column at the right. EBU 75 % and 100 % (ITU-R BT.471-1), full field.
//! - `bars_smpte`: nothing. SMPTE ECR 1-1978 (EG 1), seven full-field bars.
//! - `bars_hd`: grey at both sides. SMPTE RP 219, ARIB STD-B28.
//!
//! Critical by default: who watches such a stream sees no programme. For contribution feeds that are lined up with bars
//! lower `rules.bars.severity`.
//!
//! Striped shirts, flags, charts and LED walls have other orders, other widths, other saturations, or no luma staircase.
//! Known limits: pictures narrower than 320 pixels and pictures without chroma are not judged; bars of HDR (ITU-R
//! BT.2111), monochrome bars, and bars that lie on their side are not known.
//!
//! Cost: the chroma grid, and a look at no more than 32 rows of it.

use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Gap, Limit, MediaTime, Needs, Picture, PictureDetector,
    Reading, RuleSpec, Scope, Severity, Signal, Sink, Stamp, Why,
};
use crate::kernel::chroma::{CELL, ChromaGrid};
use crate::kernel::half::HalfLuma;

static SIGNALS: [Signal; 1] = [Signal {
    name: "bars_secs",
    unit: "seconds",
    range: (0.0, 1e9),
    basis: Basis::Media,
    help: "Seconds of media for which the picture has shown colour bars; 0 during the first.",
}];
static BARS_SECS: &Signal = &SIGNALS[0];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "bars",
    doc: "The picture is a test pattern of colour bars (EBU, SMPTE, ARIB), scaled, letterboxed or with text on it. \
          Stripes, flags and charts are not.",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[RuleSpec {
        name: "bars",
        signal: "bars_secs",
        raise: Limit::AtLeast(2.0),
        clear: Limit::AtMost(0.0),
        hold: Duration::ZERO,
        release: Duration::from_millis(200),
        severity: Severity::Critical,
        cause: Cause::Bars,
        says: "The picture is a test pattern.",
    }],
    options: &[],
    list: None,
    build: |_| {
        Box::new(Bars {
            run: None,
            before: None,
        })
    },
};

/// Narrower pictures have too few cells a bar.
const LEAST_WIDTH: usize = 320;
/// Rows that are looked at.
const LOOKS: usize = 32;
/// Share of them that must show the bars.
const ROW_RATIO: f64 = 0.25;
/// Share of the picture's width that the seven bars take at least.
const WIDTH_RATIO: f32 = 0.5;
/// Saturation up to which a cell is neutral, and from which it has a hue, codes from neutral chroma.
const NEUTRAL_CODES: f32 = 14.0;
const COLOUR_CODES: f32 = 40.0;
/// Cosine of 20 degrees.
const HUE_COSINE: f32 = 0.94;
/// The most saturated bar has at most this times the saturation of the least: 1.19 with BT.709.
const SATURATION_TIMES: f32 = 1.5;
/// Bars differ in width, and stray from their place, by no more than this share of a bar (and a cell).
const WIDTH_SLACK: f32 = 0.2;
/// Least step down in luma from a bar to the next (cyan to green is 11 codes with BT.709 at 75 %), and from first to
/// last.
const STEP_CODES: f32 = 4.0;
const STAIR_CODES: f32 = 60.0;
/// Largest difference of luma inside a bar.
const UNEVEN_CODES: u8 = 48;
/// The bars must stand for so long before they are told.
const STAND_SECS: f64 = 1.0;
/// Pictures further apart than this do not belong to one run: the loss detector tells about missing pictures.
const HOLE_SECS: f64 = 1.0;

/// What a cell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hue {
    Neutral,
    Yellow,
    Cyan,
    Green,
    Magenta,
    Red,
    Blue,
}

/// The bars from left to right.
const ORDER: [Hue; 7] = [
    Hue::Neutral,
    Hue::Yellow,
    Hue::Cyan,
    Hue::Green,
    Hue::Magenta,
    Hue::Red,
    Hue::Blue,
];

/// Directions of the colours in the plane of Cb and Cr, of length 1: midway between those of BT.601 and BT.709, which
/// lie at most 6 degrees apart.
const DIRECTIONS: [(Hue, f32, f32); 6] = [
    (Hue::Yellow, -0.992, 0.125),
    (Hue::Cyan, 0.272, -0.962),
    (Hue::Green, -0.633, -0.774),
    (Hue::Magenta, 0.633, 0.774),
    (Hue::Red, -0.272, 0.962),
    (Hue::Blue, 0.992, -0.125),
];

/// `None` for a colour of no bar.
fn hue(cb: u8, cr: u8) -> Option<Hue> {
    let (cb, cr) = (f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let saturation = cb.hypot(cr);
    if saturation <= NEUTRAL_CODES {
        return Some(Hue::Neutral);
    }
    let near = |d: &&(Hue, f32, f32)| d.1 * cb + d.2 * cr >= HUE_COSINE * saturation;
    (DIRECTIONS.iter().find(near))
        .filter(|_| saturation >= COLOUR_CODES)
        .map(|d| d.0)
}

/// Bars found in a row, or in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    /// Where the neutral bar begins, and how wide a bar is, in cells.
    left: f32,
    wide: f32,
    cause: Cause,
}

impl Found {
    /// Whether they lie in the same place.
    fn near(&self, other: &Found) -> bool {
        let slack = WIDTH_SLACK * self.wide.min(other.wide) + 1.0;
        let right = |f: &Found| f.left + 7.0 * f.wide;
        (self.left - other.left).abs() <= slack && (right(self) - right(other)).abs() <= slack
    }
}

/// A stretch of cells of one hue.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    hue: Hue,
    from: usize,
    to: usize,
}

/// One row of cells.
struct Row<'a> {
    chroma: Vec<(u8, u8)>,
    /// A row of half-resolution luma through the middle of the cells.
    luma: &'a [u8],
}

impl<'a> Row<'a> {
    fn of(grid: &ChromaGrid, half: &'a HalfLuma, y: usize) -> Self {
        let middle = (y * CELL + CELL / 2) / 2;
        Self {
            chroma: grid.span(0, y, grid.columns()).collect(),
            luma: half.row(middle.min(half.height().saturating_sub(1))),
        }
    }

    /// Stretches of one hue; those of a few cells lie between two bars, or belong to something small, and are left out.
    fn stretches(&self) -> Vec<Stretch> {
        let shortest = (self.chroma.len() / 40).max(2);
        let hues: Vec<Option<Hue>> = self.chroma.iter().map(|&(b, r)| hue(b, r)).collect();
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut from = 0;
        for same in hues.chunk_by(|a, b| a == b) {
            let to = from + same.len();
            if let (Some(Some(hue)), true) = (same.first().copied(), same.len() >= shortest) {
                match stretches.last_mut() {
                    Some(last) if last.hue == hue && from - last.to <= shortest => last.to = to,
                    _ => stretches.push(Stretch { hue, from, to }),
                }
            }
            from = to;
        }
        stretches
    }

    fn bars(&self) -> Option<Found> {
        let stretches = self.stretches();
        (stretches.windows(ORDER.len()))
            .filter(|bars| bars.iter().map(|b| b.hue).eq(ORDER))
            .find_map(|bars| self.judge(bars))
    }

    /// Whether stretches of the right hues are bars.
    fn judge(&self, bars: &[Stretch]) -> Option<Found> {
        // Borders between the bars: five widths from the end of the neutral one to the start of the blue one.
        let borders: Vec<f32> = (bars.windows(2))
            .map(|b| (b[0].to + b[1].from) as f32 / 2.0)
            .collect();
        let (first, last) = (*borders.first()?, *borders.last()?);
        let (neutral, blue) = (bars.first()?, bars.last()?);
        let wide = (last - first) / 5.0;
        let slack = WIDTH_SLACK * wide + 1.0;
        let regular = borders
            .windows(2)
            .all(|b| (b[1] - b[0] - wide).abs() <= slack);
        let tight = (bars.windows(2)).all(|b| (b[1].from - b[0].to) as f32 <= 2.0 * slack);
        let outer = (neutral.to - neutral.from) as f32 >= wide - slack
            && ((blue.to - blue.from) as f32 - wide).abs() <= 2.0 * slack;
        let large = 7.0 * wide >= WIDTH_RATIO * self.chroma.len() as f32;
        if !(regular && tight && outer && large) {
            return None;
        }
        let left = first - wide;
        let parts: Vec<Part> = (0..ORDER.len())
            .map(|i| self.part(left + wide * i as f32, wide))
            .collect::<Option<_>>()?;
        let falls = parts
            .windows(2)
            .all(|p| p[0].luma - p[1].luma >= STEP_CODES);
        let (white, blue) = (parts.first()?, parts.last()?);
        let stair = white.luma - blue.luma >= STAIR_CODES;
        let even = parts.iter().all(|p| p.uneven <= UNEVEN_CODES);
        let saturations = || parts.iter().skip(1).map(|p| p.saturation);
        let least = saturations().fold(f32::INFINITY, f32::min);
        let most = saturations().fold(0.0, f32::max);
        if !(falls && stair && even && most <= SATURATION_TIMES * least) {
            return None;
        }
        Some(Found {
            left,
            wide,
            cause: self.class(left, wide, blue.luma),
        })
    }

    /// What stands beside the bars.
    fn class(&self, left: f32, wide: f32, blue: f32) -> Cause {
        let right = left + 7.0 * wide;
        let space = self.chroma.len() as f32 - right;
        let before = self.part(left - wide, wide).filter(Part::is_neutral);
        let after = self.part(right, wide).filter(Part::is_neutral);
        if after.is_some_and(|p| p.luma < blue) && space - left >= 0.5 * wide {
            Cause::Bars
        } else if before
            .zip(after)
            .is_some_and(|(b, a)| b.luma > blue && a.luma > blue)
        {
            Cause::BarsHd
        } else {
            Cause::BarsSmpte
        }
    }

    /// The inner three fifths of a bar; `None` where they are not inside the row.
    fn part(&self, left: f32, wide: f32) -> Option<Part> {
        let (from, to) = (left + 0.2 * wide, left + 0.8 * wide);
        if from < 0.0 || to > self.chroma.len() as f32 {
            return None;
        }
        let span = |scale: f32| {
            let from = (from * scale) as usize;
            from..((to * scale) as usize).max(from + 1)
        };
        let luma = self.luma.get(span(CELL as f32 / 2.0))?;
        let chroma = self.chroma.get(span(1.0))?;
        let sum = |of: fn(&(u8, u8)) -> u8| chroma.iter().map(|c| f32::from(of(c))).sum::<f32>();
        let count = chroma.len() as f32;
        let (cb, cr) = (sum(|c| c.0) / count, sum(|c| c.1) / count);
        let (low, high) = (luma.iter().min()?, luma.iter().max()?);
        Some(Part {
            luma: luma.iter().map(|v| f32::from(*v)).sum::<f32>() / luma.len() as f32,
            uneven: high - low,
            saturation: (cb - 128.0).hypot(cr - 128.0),
        })
    }
}

/// The inside of a bar.
#[derive(Debug, Clone, Copy)]
struct Part {
    luma: f32,
    /// Largest luma less the smallest.
    uneven: u8,
    saturation: f32,
}

impl Part {
    fn is_neutral(&self) -> bool {
        self.saturation <= NEUTRAL_CODES
    }
}

/// Bars that enough rows show in the same place.
fn look(grid: &ChromaGrid, half: &HalfLuma) -> Option<Found> {
    let step = grid.rows().div_ceil(LOOKS).max(1);
    let looks = grid.rows().div_ceil(step);
    let found: Vec<Found> = (0..grid.rows())
        .step_by(step)
        .filter_map(|y| Row::of(grid, half, y).bars())
        .collect();
    let least = (ROW_RATIO * looks as f64).ceil().max(1.0) as usize;
    if found.len() < least {
        return None;
    }
    let mut by_place = found.clone();
    let at = by_place.len() / 2;
    let (_, &mut middle, _) =
        by_place.select_nth_unstable_by(at, |a, b| f32::total_cmp(&a.left, &b.left));
    let same = || found.iter().filter(|f| f.near(&middle));
    if same().count() < least {
        return None;
    }
    // Text beside the bars hides what stands there: the class that most rows tell.
    let told = |cause: Cause| same().filter(|f| f.cause == cause).count();
    [Cause::BarsSmpte, Cause::BarsHd, Cause::Bars]
        .into_iter()
        .max_by_key(|cause| told(*cause))
        .map(|cause| Found { cause, ..middle })
}

#[derive(Debug)]
struct Bars {
    run: Option<(MediaTime, Found)>,
    before: Option<MediaTime>,
}

impl PictureDetector for Bars {
    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let Some(now) = at.media else {
            self.restart();
            out.put(BARS_SECS, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let follows =
            (self.before).is_some_and(|before| (0.0..=HOLE_SECS).contains(&now.secs_after(before)));
        if !follows || at.gap == Gap::Discontinuity {
            self.run = None;
        }
        self.before = Some(now);
        let wide = picture.luma().width() >= LEAST_WIDTH;
        let Some(grid) = picture.chroma().filter(|_| wide) else {
            self.run = None;
            out.put(BARS_SECS, Reading::unmeasurable(Why::NotApplicable));
            return;
        };
        let Some(found) = look(grid, picture.half()) else {
            self.run = None;
            out.put(BARS_SECS, Reading::measured(0.0));
            return;
        };
        let (since, place) = match self.run {
            Some((since, place)) if place.near(&found) => (since, place),
            _ => (now, found),
        };
        self.run = Some((since, place));
        let secs = now.secs_after(since).clamp(0.0, 1e9);
        out.put(
            BARS_SECS,
            match secs < STAND_SECS {
                true => Reading::measured(0.0),
                false => Reading::measured(secs)
                    .since(Some(since))
                    .cause(place.cause),
            },
        );
    }

    fn restart(&mut self) {
        (self.run, self.before) = (None, None);
    }
}

#[cfg(test)]
#[path = "bars_tests.rs"]
mod tests;

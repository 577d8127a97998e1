//! Black picture: what a viewer calls "nothing on the screen".
//!
//! A picture is black when at least `black_ratio` of its tiles (16x16 pixels) hold no sample brighter
//! than the limit, and what is brighter is a logo: one small region near a corner that stays where it is. The brightest
//! sample of a tile of half-resolution luma is judged, so one noisy pixel does not hide black. Where noise lies over
//! the whole picture alike, the limit rises with it. Credits, a line of text, a candle or a lit window lie elsewhere than a
//! logo, or move. Black behind a logo is told by its cause, `black_with_logo`: what draws the logo works, so the fault
//! lies before it.
//!
//! A dark scene has shape: when the tiles differ by more than 1.5 codes (deviation) it is no black picture,
//! however dark.
//!
//! The limit follows the signalled range: black is code 16 of 8 bit (64 of 10) in limited range and 0 in full range, in
//! BT.709 and BT.2020 as in BT.2100 (table 9), so for PQ and HLG too. What differs is the light of the codes above it.
//! 20 codes above black are 0.3 cd/m2 on a BT.1886 display of 100 cd/m2 and 0.25 cd/m2 in PQ (BT.2100 table 4), the same
//! to the eye; in HLG they are 0.85 cd/m2 on a display of 1000 cd/m2 (table 5, system gamma 1.2), so that there the
//! limit is 13/20 of the option. Full range has more codes for the same light (255 for 219). Fades pass through black
//! for less than the rule's two seconds.
//!
//! Cost: two passes over the shared tile statistics, the second only on dark pictures.
//! Limits: a dark moving scene whose brightest part stays in one corner for two seconds reads as black with a logo; a
//! logo outside the corners prevents black.

use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Gap, Limit, MediaTime, Needs, OptionSpec, Options, Picture,
    PictureDetector, Range, Reading, RuleSpec, Scope, Severity, Signal, Sink, Stamp, Transfer, Why,
};
use crate::kernel::spread::Spread;
use crate::kernel::tiles::Tiles;

static SIGNALS: [Signal; 2] = [
    Signal {
        name: "black_secs",
        unit: "seconds",
        range: (0.0, 1e9),
        basis: Basis::Media,
        help: "Seconds of media for which the picture has been black.",
    },
    Signal {
        name: "black_ratio",
        unit: "ratio 0..1",
        range: (0.0, 1.0),
        basis: Basis::Media,
        help: "Share of the picture that is black.",
    },
];
static BLACK_SECS: &Signal = &SIGNALS[0];
static BLACK_RATIO: &Signal = &SIGNALS[1];

static OPTIONS: [OptionSpec; 2] = [
    OptionSpec {
        name: "above_black_codes",
        default: 20.0,
        range: (2.0, 100.0),
        help: "A tile is black when no sample lies more than this above the black of the signalled range; HLG takes \
               13/20 of it.",
    },
    OptionSpec {
        name: "black_ratio",
        default: 0.975,
        range: (0.5, 1.0),
        help: "Share of black tiles that makes the picture black; the rest may be a logo near a corner.",
    },
];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "black",
    doc: "The picture is black, or black but for a small logo near a corner, which is told apart by its cause. \
          Credits, night scenes and fades are not black.",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[RuleSpec {
        name: "black",
        signal: "black_secs",
        raise: Limit::AtLeast(2.0),
        clear: Limit::AtMost(0.0),
        hold: Duration::ZERO,
        release: Duration::from_millis(200),
        severity: Severity::Critical,
        cause: Cause::Black,
        says: "The picture is black.",
    }],
    options: &OPTIONS,
    list: None,
    build: |options| Box::new(Black::new(options)),
};

/// How far the mean colour of a black picture may lie from neutral, codes.
const NEUTRAL_CODES: f64 = 12.0;
/// Standard deviation of the dark tiles' means beyond which there is a scene in the dark.
const SHAPE_CODES: f64 = 1.5;
/// Pictures further apart than this do not belong to one run: the loss detector tells about missing pictures.
const HOLE_SECS: f64 = 1.0;
/// HLG's share of the option: 13 codes above black give the light that 20 do in SDR and PQ.
const HLG_RATIO: f64 = 0.65;
/// Noise that lies over most of the picture raises the limit by this many deviations, to at most so many codes.
const NOISE_DEVIATIONS: f64 = 3.0;
const NOISE_CODES: f64 = 14.0;
/// Noise of up to this deviation fits the limit as it is.
const NOISE_FREE_CODES: f64 = 3.0;
/// A logo lies wholly within this share of the width and height from two edges, and its box is no larger than this
/// share of the picture.
const CORNER_RATIO: f64 = 0.36;
const LOGO_AREA: f64 = 0.05;
/// By how many tiles it may grow.
const LOGO_TILES: usize = 3;

/// What exceeds the limit by no more than this is noise, not part of a logo.
const FAINT_CODES: f64 = 6.0;

#[derive(Debug)]
struct Black {
    above_black: f64,
    ratio: f64,
    since: Option<MediaTime>,
    /// Where something bright was seen first in the present run.
    logo: Option<Region>,
    before: Option<MediaTime>,
}

/// What one picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Seen,
    Black,
    BlackBut(Region),
}

/// A box of tiles: left, top, right, bottom, all inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region([usize; 4]);

impl Region {
    /// Whether the other lies within, give or take what a logo that fades in or turns may add.
    fn holds(self, other: Self) -> bool {
        let (Region([a, b, c, d]), Region([e, f, g, h])) = (self, other);
        e + LOGO_TILES >= a && f + LOGO_TILES >= b && g <= c + LOGO_TILES && h <= d + LOGO_TILES
    }

    fn with(self, other: Self) -> Self {
        let (Region([a, b, c, d]), Region([e, f, g, h])) = (self, other);
        Region([a.min(e), b.min(f), c.max(g), d.max(h)])
    }

    /// Whether a logo could stand there, in a picture of so many tiles.
    fn is_logo(self, columns: usize, rows: usize) -> bool {
        let Region([left, top, right, bottom]) = self;
        let beside = |first: usize, last: usize, of: usize| {
            let margin = (CORNER_RATIO * of as f64).ceil() as usize;
            last < margin || first + margin >= of
        };
        let area = ((right - left + 1) * (bottom - top + 1)) as f64;
        beside(left, right, columns)
            && beside(top, bottom, rows)
            && area <= (LOGO_AREA * (columns * rows) as f64).max(4.0)
    }
}

impl Black {
    fn new(options: &Options) -> Self {
        Self {
            above_black: options.get("above_black_codes"),
            ratio: options.get("black_ratio"),
            since: None,
            logo: None,
            before: None,
        }
    }

    fn limit(&self, picture: &Picture<'_>) -> f64 {
        let above = match picture.transfer() {
            Transfer::Sdr | Transfer::Pq => self.above_black,
            Transfer::Hlg => HLG_RATIO * self.above_black,
        };
        match picture.range() {
            Range::Limited => 16.0 + above,
            Range::Full => above * 255.0 / 219.0,
        }
    }

    fn follow(&mut self, now: MediaTime, logo: Option<Region>) {
        self.since.get_or_insert(now);
        self.logo = logo;
    }
}

fn codes(limit: f64) -> u8 {
    limit.clamp(0.0, 255.0) as u8
}

/// What a picture of which nearly everything is dark is.
fn look(tiles: &Tiles, limit: u8) -> Look {
    let columns = tiles.columns().max(1);
    let bright = (tiles.all().iter().enumerate())
        .filter(|(_, t)| f64::from(t.max) > f64::from(limit) + FAINT_CODES)
        .map(|(i, _)| Region([i % columns, i / columns, i % columns, i / columns]));
    let rows = tiles.all().len().div_ceil(columns);
    match bright.reduce(Region::with) {
        None => Look::Black,
        Some(region) if region.is_logo(columns, rows) => Look::BlackBut(region),
        Some(_) => Look::Seen,
    }
}

/// By how much noise that lies over most of the picture alike lifts the brightest sample of a tile, in codes.
fn noise(tiles: &Tiles) -> f64 {
    let deviation = Spread::of(tiles.all().iter().map(|t| t.variance.sqrt())).quantile(0.25);
    (NOISE_DEVIATIONS * (f64::from(deviation) - NOISE_FREE_CODES)).clamp(0.0, NOISE_CODES)
}

/// Whether the picture as a whole has no colour: dark green and blue are the business of `blank`.
fn is_neutral(picture: &Picture<'_>) -> bool {
    picture.chroma().is_none_or(|grid| {
        [grid.cb(), grid.cr()].into_iter().all(|codes| {
            let sum: f64 = codes.iter().map(|&code| f64::from(code)).sum();
            (sum / codes.len().max(1) as f64 - 128.0).abs() <= NEUTRAL_CODES
        })
    })
}

/// Standard deviation of the means of the tiles that are dark, in codes.
fn shape(tiles: &Tiles, limit: u8) -> f64 {
    let dark = || {
        (tiles.all().iter())
            .filter(|t| t.max <= limit)
            .map(|t| f64::from(t.mean))
    };
    let count = dark().count().max(1) as f64;
    let mean = dark().sum::<f64>() / count;
    (dark().map(|m| (m - mean) * (m - mean)).sum::<f64>() / count).sqrt()
}

impl PictureDetector for Black {
    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let tiles = picture.tiles();
        let mut limit = codes(self.limit(picture));
        let mut share = tiles.dark_share(limit);
        if share < 1.0 && share > 0.0 {
            limit = codes(f64::from(limit) + noise(tiles));
            share = tiles.dark_share(limit);
        }
        out.put(BLACK_RATIO, Reading::measured(share));

        let Some(now) = at.media else {
            self.restart();
            out.put(BLACK_SECS, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let follows =
            (self.before).is_some_and(|before| (0.0..=HOLE_SECS).contains(&now.secs_after(before)));
        if !follows || at.gap == Gap::Discontinuity {
            self.since = None;
        }
        self.before = Some(now);
        let dark = share >= self.ratio && shape(tiles, limit) <= SHAPE_CODES;
        let look = match dark && is_neutral(picture) {
            true => look(tiles, limit),
            false => Look::Seen,
        };
        if self.since.is_none() {
            self.logo = None;
        }
        match look {
            Look::Seen => {}
            Look::Black => self.follow(now, self.logo),
            Look::BlackBut(region) => {
                let logo = *self.logo.get_or_insert(region);
                // What wanders is no logo, and the run begins anew.
                if logo.holds(region) {
                    self.follow(now, Some(logo));
                } else {
                    self.since = None;
                    self.follow(now, Some(region));
                }
            }
        }
        let Some(since) = self.since.filter(|_| look != Look::Seen) else {
            self.since = None;
            out.put(BLACK_SECS, Reading::measured(0.0));
            return;
        };
        let cause = match look {
            Look::BlackBut(_) => Cause::BlackWithLogo,
            Look::Black | Look::Seen => Cause::Black,
        };
        let secs = now.secs_after(since).clamp(0.0, 1e9);
        out.put(
            BLACK_SECS,
            Reading::measured(secs).since(Some(since)).cause(cause),
        );
    }

    fn restart(&mut self) {
        (self.since, self.logo, self.before) = (None, None, None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::testkit::{Bench, Colour, Frame, Noise, coloured, pictures};

    #[test]
    fn dark_colours_are_not_black() {
        let longest = |cb: u8, cr: u8| {
            let steps = coloured(0, 75, |_| Colour::of(128, 96, |_, _| [16, cb, cr]));
            Bench::new(&DETECTOR).run(&steps).peak("black_secs")
        };
        assert!(longest(128, 128) > 2.5);
        assert!(longest(133, 124) > 2.5);
        assert_eq!((longest(0, 0), longest(212, 114)), (0.0, 0.0));
    }

    fn longest(make: impl Fn(usize) -> Frame) -> f64 {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 75, make)).peak("black_secs")
    }

    #[test]
    fn black_runs_from_its_first_picture() {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 25, |i| Frame::scene(320, 192, i as f64, 0.0)));
        assert_eq!(bench.value("black_secs"), 0.0);
        bench.run(&pictures(1_000, 76, |_| Frame::flat(320, 192, 16)));
        assert_eq!(bench.value("black_secs"), 3.0);
        let since = bench.newest("black_secs").unwrap().since;
        assert_eq!(since, Some(MediaTime::from_millis(1_000)));
        bench.run(&pictures(4_040, 1, |i| {
            Frame::scene(320, 192, i as f64, 0.0)
        }));
        assert_eq!(bench.value("black_secs"), 0.0);
    }

    #[test]
    fn noise_and_a_small_logo_leave_it_black() {
        assert!(longest(|i| Frame::flat(320, 192, 18).grain(&mut Noise::new(i as u64), 3.0)) > 2.9);
        assert!(
            longest(|_| {
                let mut frame = Frame::flat(320, 192, 16);
                frame.fill(272, 16, 32, 32, 200);
                frame
            }) > 2.9
        );
    }

    #[test]
    fn a_logo_is_told_by_the_cause() {
        let cause = |make: &dyn Fn(usize) -> Frame| {
            let mut bench = Bench::new(&DETECTOR);
            bench.run(&pictures(0, 60, make));
            assert!(bench.value("black_secs") > 2.3);
            bench.newest("black_secs").unwrap().cause
        };
        assert_eq!(cause(&|_| black()), Some(Cause::Black));
        // It may turn where it stands.
        let logo = |i: usize| {
            let mut frame = black();
            frame.fill(560 + i % 9, 24, 40, 24, 60 + (i % 100) as u8);
            frame
        };
        assert_eq!(cause(&logo), Some(Cause::BlackWithLogo));
        // One run, whether the logo is there or not, dated back to its begin.
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 50, |_| black()));
        bench.run(&pictures(2_000, 50, logo));
        let newest = bench.newest("black_secs").unwrap();
        assert_eq!(newest.since, Some(MediaTime::from_millis(0)));
        assert_eq!(newest.cause, Some(Cause::BlackWithLogo));
    }

    #[test]
    fn small_lights_elsewhere_or_moving_are_no_logo() {
        // A line of credits, a candle, a light that crosses the corner.
        let line = |_| {
            let mut frame = black();
            frame.fill(250, 180, 140, 14, 200);
            frame
        };
        assert_eq!(longest(line), 0.0);
        let candle = |i: usize| {
            let mut frame = black();
            frame.fill(310, 220, 12, 24, 150 + (i % 20) as u8);
            frame
        };
        assert_eq!(longest(candle), 0.0);
        let lamp = |i: usize| {
            let mut frame = black();
            frame.fill(420 + 3 * i, 20, 16, 16, 220);
            frame
        };
        assert!(longest(lamp) < 2.0);
        // Credits that roll.
        let roll = |i: usize| {
            let mut frame = black();
            for line in 0..20 {
                let y = (60 * line + 1200 - 2 * i) % 1200;
                frame.fill(220, y, 200, 12, 200);
            }
            frame
        };
        assert_eq!(longest(roll), 0.0);
    }

    #[test]
    fn heavy_noise_over_black_is_black_and_over_a_dark_scene_is_not() {
        let noisy = |i: usize| black().grain(&mut Noise::new(i as u64), 9.0);
        assert!(longest(noisy) > 2.9);
        let dark = |i: usize| {
            let mut frame = Frame::scene(640, 384, i as f64, 0.0);
            frame.samples.iter_mut().for_each(|v| *v = 16 + *v / 12);
            frame.grain(&mut Noise::new(i as u64), 6.0)
        };
        assert_eq!(longest(dark), 0.0);
    }

    fn black() -> Frame {
        Frame::flat(640, 384, 16)
    }

    /// Whether two seconds of one code, at a range and transfer, are black.
    fn is_black(code: u8, range: Range, transfer: Transfer) -> bool {
        use crate::plane::{Plane, Samples};
        let samples = vec![code; 64 * 48];
        let mut black = Black::new(&Options::defaults(&OPTIONS));
        let mut newest = 0.0;
        for i in 0..60 {
            let plane = Plane::new(Samples::U8(&samples), 64, 48, 64).unwrap();
            let picture = Picture::new(plane, range, None).with_transfer(transfer);
            let at = Stamp {
                media: Some(MediaTime::from_millis(40 * i)),
                arrival: crate::base::Arrival::default(),
                gap: Gap::None,
            };
            let mut emit = |signal: &'static Signal, _, reading: Reading| {
                if let (true, crate::base::Value::Measured(v)) =
                    (signal.name == "black_secs", reading.value)
                {
                    newest = v;
                }
            };
            black.picture(&at, &picture, &mut Sink::new(&mut emit));
        }
        newest > 2.0
    }

    #[test]
    fn black_follows_range_and_transfer() {
        for transfer in [Transfer::Sdr, Transfer::Pq, Transfer::Hlg] {
            assert!(is_black(16, Range::Limited, transfer));
            assert!(is_black(0, Range::Full, transfer));
            assert!(!is_black(60, Range::Limited, transfer));
            assert!(!is_black(40, Range::Full, transfer));
        }
        // The same light: 20 codes in SDR and PQ, 13 in HLG; full range has 255 codes for 219.
        assert!(is_black(36, Range::Limited, Transfer::Pq));
        assert!(!is_black(37, Range::Limited, Transfer::Pq));
        assert!(is_black(29, Range::Limited, Transfer::Hlg));
        assert!(!is_black(30, Range::Limited, Transfer::Hlg));
        assert!(is_black(23, Range::Full, Transfer::Sdr));
        assert!(!is_black(24, Range::Full, Transfer::Sdr));
    }

    #[test]
    fn credits_and_night_scenes_are_not_black() {
        assert_eq!(
            longest(|_| {
                let mut frame = Frame::flat(320, 192, 16);
                for line in 0..4 {
                    frame.fill(90, 30 + 36 * line, 140, 3, 180);
                }
                frame
            }),
            0.0
        );
        assert_eq!(
            longest(|i| {
                let mut frame = Frame::scene(320, 192, i as f64, 0.0);
                frame.samples.iter_mut().for_each(|v| *v = 16 + *v / 14);
                frame
            }),
            0.0
        );
    }
}

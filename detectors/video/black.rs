//! Black picture: what a viewer calls "nothing on the screen".
//!
//! A picture is black when at least `black_ratio` of its tiles (16x16 pixels) hold no sample brighter
//! than the limit. The brightest sample of a tile of half-resolution luma is
//! judged, so one noisy pixel does not hide black, and thin white credits (many tiles) prevent it, while a small
//! logo (about 2 % of the picture) does not. Night scenes keep lit windows and skies in more tiles than that.
//!
//! A dark scene has shape: when the tiles differ by more than 1.5 codes (deviation) it is no black picture,
//! however dark.
//!
//! The limit follows the signalled range: black is code 16 of 8 bit in limited range and 0 in full range. Fades pass
//! through black for less than the rule's two seconds.
//!
//! Cost: one pass over the shared tile statistics.

use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Fact, Gap, InputEvent, Limit, Media, MediaTime,
    Needs, OptionSpec, Options, Picture, Range, Reading, Reset, RuleSpec, Scope, Severity, Signal,
    Sink, Stamp, Unit, Why,
};
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
        help: "A tile is black when no sample lies more than this above the black of the signalled range.",
    },
    OptionSpec {
        name: "black_ratio",
        default: 0.975,
        range: (0.5, 1.0),
        help: "Share of black tiles that makes the picture black; the rest may be a logo.",
    },
];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "black",
    doc: "The picture is black, or black but for a small logo. Credits, night scenes and fades are not.",
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
    build: |options| Box::new(Black::new(options)),
};

/// Standard deviation of the dark tiles' means beyond which there is a scene in the dark.
const SHAPE_CODES: f64 = 1.5;
/// Pictures further apart than this do not belong to one run: the loss detector tells about missing pictures.
const HOLE_SECS: f64 = 1.0;

#[derive(Debug)]
struct Black {
    above_black: f64,
    ratio: f64,
    since: Option<MediaTime>,
    before: Option<MediaTime>,
}

impl Black {
    fn new(options: &Options) -> Self {
        Self {
            above_black: options.get("above_black_codes"),
            ratio: options.get("black_ratio"),
            since: None,
            before: None,
        }
    }

    fn restart(&mut self) {
        (self.since, self.before) = (None, None);
    }

    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let floor = match picture.range() {
            Range::Limited => 16.0,
            Range::Full => 0.0,
        };
        let limit = (floor + self.above_black).clamp(0.0, 255.0);
        let tiles = picture.tiles();
        let share = tiles.dark_share(limit as u8);
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
        if share < self.ratio || shape(tiles, limit as u8) > SHAPE_CODES {
            self.since = None;
            out.put(BLACK_SECS, Reading::measured(0.0));
        } else {
            let since = *self.since.get_or_insert(now);
            let secs = now.secs_after(since).clamp(0.0, 1e9);
            out.put(BLACK_SECS, Reading::measured(secs).since(Some(since)));
        }
    }
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

impl Detector for Black {
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
    use crate::testkit::{Bench, Frame, Noise, pictures};

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

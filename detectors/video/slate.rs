//! Slate: the viewer gets a card instead of the programme ("technical difficulties", "we will be right back").
//!
//! A card is a perfectly good picture, so only the operator can say which ones matter: their hashes stand in
//! `hashes`, and `glasswatch hash FILE` tells the hash of a picture or of a recording of the card. A hash is 64 bit of the
//! lowest cosine waves of the luma ([`crate::kernel::hash`]): encoding, scaling, levels and a small logo or clock move
//! few bits, and pictures of something else differ in about half. A picture within `distance_bits` of any of the hashes
//! is that card. Nearly flat pictures have no hash, so that black or grey never match.
//!
//! Without hashes nothing is measured. Cost: four pictures a second are hashed, about 0.6 ms each for 1080p.
//! Limits: cards that differ only in a line of text share a hash; a card that moves (a loop) is known by the
//! moments that were hashed only.

use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Gap, Limit, ListSpec, MediaTime, Needs, OptionSpec, Picture,
    PictureDetector, Reading, RuleSpec, Scope, Severity, Signal, Sink, Stamp, Why,
};
use crate::kernel::hash::{distance, hash, is_plausible};

static SIGNALS: [Signal; 2] = [
    Signal {
        name: "slate_secs",
        unit: "seconds",
        range: (0.0, 1e9),
        basis: Basis::Media,
        help: "Seconds of media for which one of the given slates has been shown.",
    },
    Signal {
        name: "distance_bits",
        unit: "bits",
        range: (0.0, 64.0),
        basis: Basis::Media,
        help: "Bits by which the picture differs from the nearest of the given slates; 64 for flat pictures.",
    },
];
static SLATE_SECS: &Signal = &SIGNALS[0];
static DISTANCE_BITS: &Signal = &SIGNALS[1];

static OPTIONS: [OptionSpec; 1] = [OptionSpec {
    name: "distance_bits",
    default: 6.0,
    range: (0.0, 16.0),
    help: "A picture that differs from a given hash by no more bits is that slate.",
}];

static HASHES: ListSpec = ListSpec {
    name: "hashes",
    most: 64,
    help: "Hashes of slates, 16 hexadecimal digits in quotes, as `glasswatch hash FILE` tells them.",
    wrong: |hash| (!is_plausible(hash)).then_some("is no hash of a picture that shows something"),
};

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "slate",
    doc: "A slate is on screen instead of the programme, such as a card about technical difficulties. Known are the \
          slates whose hashes are given; `glasswatch hash FILE` tells them.",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[RuleSpec {
        name: "slate",
        signal: "slate_secs",
        raise: Limit::AtLeast(2.0),
        clear: Limit::AtMost(0.0),
        hold: Duration::ZERO,
        release: Duration::from_millis(500),
        severity: Severity::Warning,
        cause: Cause::Slate,
        says: "A slate is shown instead of the programme.",
    }],
    options: &OPTIONS,
    list: Some(&HASHES),
    build: |options| {
        Box::new(Slate {
            hashes: options.list().to_vec(),
            distance_bits: options.get("distance_bits") as u32,
            run: None,
            looked: None,
        })
    },
};

/// Pictures are hashed no more often than this.
const LOOK_SECS: f64 = 0.24;
/// Pictures further apart than this do not belong to one run: the loss detector tells about missing pictures.
const HOLE_SECS: f64 = 1.0;

#[derive(Debug)]
struct Slate {
    hashes: Vec<u64>,
    distance_bits: u32,
    /// Since when a slate has been shown.
    run: Option<MediaTime>,
    /// When a picture was hashed last.
    looked: Option<MediaTime>,
}

impl PictureDetector for Slate {
    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        if self.hashes.is_empty() {
            out.put(SLATE_SECS, Reading::unmeasurable(Why::NotApplicable));
            out.put(DISTANCE_BITS, Reading::unmeasurable(Why::NotApplicable));
            return;
        }
        let Some(now) = at.media else {
            self.restart();
            out.put(SLATE_SECS, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let elapsed = self.looked.map(|looked| now.secs_after(looked));
        if elapsed.is_some_and(|secs| !(0.0..=HOLE_SECS).contains(&secs))
            || at.gap == Gap::Discontinuity
        {
            self.restart();
        } else if elapsed.is_some_and(|secs| secs < LOOK_SECS) {
            return;
        }
        self.looked = Some(now);
        let nearest = hash(picture.half())
            .and_then(|shown| {
                self.hashes
                    .iter()
                    .map(|known| distance(shown, *known))
                    .min()
            })
            .unwrap_or(64);
        out.put(DISTANCE_BITS, Reading::measured(f64::from(nearest)));
        if nearest > self.distance_bits {
            self.run = None;
            out.put(SLATE_SECS, Reading::measured(0.0));
            return;
        }
        let since = *self.run.get_or_insert(now);
        let secs = now.secs_after(since).clamp(0.0, 1e9);
        out.put(SLATE_SECS, Reading::measured(secs).since(Some(since)));
    }

    fn restart(&mut self) {
        (self.run, self.looked) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::base::Options;
    use crate::kernel::half::HalfLuma;
    use crate::plane::{Plane, Samples};
    use crate::testkit::{Bench, Frame, Noise, pictures};

    /// A card: bars and a box, at any size.
    fn card(width: usize, height: usize) -> Frame {
        let mut frame = Frame::flat(width, height, 50);
        frame.fill(0, 0, width, height / 6, 120);
        frame.fill(width / 5, height / 3, width / 2, height / 8, 210);
        frame.fill(width / 4, height / 2, width / 3, height / 10, 180);
        frame.fill(width * 3 / 5, height * 3 / 4, width / 4, height / 6, 90);
        frame.fill(width / 12, height * 2 / 3, width / 8, height / 4, 160);
        frame
    }

    fn bench(known: &Frame) -> Bench {
        let plane = Plane::new(
            Samples::U8(&known.samples),
            known.width,
            known.height,
            known.width,
        );
        let mut options = Options::defaults(DETECTOR.options);
        options.set_list(vec![
            0x5555_5555_5555_5555,
            hash(&HalfLuma::of(&plane.unwrap())).unwrap(),
        ]);
        Bench::with(&DETECTOR, &options)
    }

    fn programme(i: usize) -> Frame {
        Frame::scene(320, 192, 5.0 * i as f64, 2.0 * i as f64)
    }

    #[test]
    fn a_slate_runs_from_its_first_look_whatever_was_done_to_it() {
        let mut bench = bench(&card(1280, 720));
        bench.run(&pictures(0, 50, programme));
        assert_eq!(bench.peak("slate_secs"), 0.0);
        let shown = |i: usize| {
            let mut frame = card(320, 192).grain(&mut Noise::new(i as u64), 3.0);
            frame.fill(285, 8, 20 + i % 7, 10, 230);
            frame.coarse(5, (i / 12) as u8 % 3)
        };
        bench.run(&pictures(2_000, 100, shown));
        assert!(bench.value("slate_secs") > 3.5);
        let since = bench.newest("slate_secs").unwrap().since.unwrap();
        assert!((0.0..0.3).contains(&since.secs_after(MediaTime::from_millis(2_000))));
        bench.run(&pictures(6_000, 25, programme));
        assert_eq!(bench.value("slate_secs"), 0.0);
    }

    #[test]
    fn black_grey_and_other_cards_are_no_slate() {
        let mut bench = bench(&card(640, 384));
        bench.run(&pictures(0, 50, |_| Frame::flat(320, 192, 16)));
        bench.run(&pictures(2_000, 50, |i| {
            Frame::flat(320, 192, 20).grain(&mut Noise::new(i as u64), 4.0)
        }));
        bench.run(&pictures(4_000, 50, |_| {
            let mut other = Frame::flat(320, 192, 50);
            other.fill(40, 70, 240, 50, 210);
            other
        }));
        assert_eq!(bench.peak("slate_secs"), 0.0);
        assert!(bench.value("distance_bits") > 10.0);
    }

    #[test]
    fn without_hashes_nothing_is_measured() {
        let mut bench = Bench::new(&DETECTOR);
        bench.run(&pictures(0, 25, programme));
        assert!(bench.peak("slate_secs").is_nan());
        let newest = bench.newest("slate_secs").unwrap().value;
        assert!(matches!(newest, crate::base::Value::Unmeasurable(why) if !why.is_blindness()));
    }

    #[test]
    fn hashes_that_no_picture_has_are_refused() {
        for hash in [0, u64::MAX, 1, 0xff] {
            assert!((HASHES.wrong)(hash).is_some(), "{hash:x}");
        }
        assert!((HASHES.wrong)(0xf0e1_d2c3_b4a5_9687).is_none());
    }
}

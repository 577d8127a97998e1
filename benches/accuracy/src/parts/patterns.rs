//! One colour, test patterns and slates in the place of the programme; the programme around them must not be taken
//! for any.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::form::{self, Form, GOPS, RATES};
use super::{Extent, Outcome, each, share_text};
use crate::chance::Chance;
use crate::encode::{Codec, Encoding, encode};
use crate::keep::{Bench, Made, Truth};
use crate::paint::{BARS_75, ball, rect, text};
use crate::raw::Raw;
use crate::report::Table;
use crate::scenes;
use crate::score::{Share, Span, match_events, quantile, rate_bound};
use crate::sources::{Class, Set, Source};
use crate::watch::{Ask, Watched};

/// Clips of each kind.
const CLIPS: usize = 32;
/// Live, other, live again.
const SECS: [f64; 3] = [5.0, 5.0, 4.0];
/// Different slates; their hashes are all known in every clip.
const CARDS: usize = 6;

/// Instead of the programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blank,
    Bars,
    Slate,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Blank, Kind::Bars, Kind::Slate];

    /// The detector that must tell it.
    fn name(self) -> &'static str {
        match self {
            Kind::Blank => "blank",
            Kind::Bars => "bars",
            Kind::Slate => "slate",
        }
    }
}

/// What devices and decoders show that have nothing: blue, grey, green of zeros, pink of ones, white.
const COLOURS: [(u8, u8, u8); 5] = [
    (41, 240, 110),
    (128, 128, 128),
    (0, 0, 0),
    (255, 255, 255),
    (235, 128, 128),
];

#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    /// Which of its kind.
    variant: usize,
    source: Source,
    encoding: Encoding,
}

impl Case {
    fn recipe(&self) -> String {
        format!(
            "pattern {} {} {} {:x} {} {SECS:?}",
            self.kind.name(),
            self.variant,
            self.source.name,
            self.source.seed,
            self.encoding.recipe()
        )
    }

    fn picture(&self) -> Raw {
        let (width, height) = (self.encoding.width, self.encoding.height);
        match self.kind {
            Kind::Blank => Raw::flat(width, height, COLOURS[self.variant % COLOURS.len()]),
            Kind::Bars => bars(self.variant, width, height),
            Kind::Slate => card(self.source.set, self.variant % CARDS, width, height),
        }
    }

    fn make(&self, path: &Path) -> io::Result<Truth> {
        let hz = self.encoding.rate_hz;
        let [live, other, after] = SECS.map(|secs| (secs * hz).round() as usize);
        let picture = self.picture();
        let programme = form::programme(&self.source, &self.encoding);
        let pictures = programme
            .take(live + other + after)
            .enumerate()
            .map(|(n, raw)| {
                let shown = (live..live + other).contains(&n);
                if shown { picture.clone() } else { raw }
            });
        encode(pictures, &self.encoding, path)?;
        Ok(Truth {
            events: vec![Span {
                start: live as f64 / hz,
                end: (live + other) as f64 / hz,
            }],
            secs: (live + other + after) as f64 / hz,
        })
    }
}

/// Full-field bars; bars with a black column; bars between grey, over a ramp.
fn bars(variant: usize, width: usize, height: usize) -> Raw {
    let (w, h) = (width as f64, height as f64);
    let (mut raw, left, wide, high) = match variant % 3 {
        0 => (Raw::flat(width, height, (16, 128, 128)), 0.0, w / 7.0, h),
        1 => (Raw::flat(width, height, (16, 128, 128)), 0.0, w / 8.0, h),
        _ => (
            Raw::flat(width, height, (104, 128, 128)),
            w / 8.0,
            w * 3.0 / 28.0,
            h * 0.6,
        ),
    };
    for (n, colour) in BARS_75.into_iter().enumerate() {
        rect(
            &mut raw,
            left + n as f64 * wide,
            0.0,
            wide + 1.0,
            high,
            colour,
        );
    }
    if variant % 3 == 1 {
        rect(
            &mut raw,
            w * 7.0 / 8.0,
            0.0,
            w / 8.0 + 1.0,
            h,
            (16, 128, 128),
        );
    }
    if variant % 3 == 2 {
        rect(
            &mut raw,
            w * 7.0 / 8.0,
            0.0,
            w / 8.0 + 1.0,
            high,
            (104, 128, 128),
        );
        for x in 0..width {
            let luma = 16 + (x * 219 / width.max(1)) as u8;
            rect(&mut raw, x as f64, high, 1.0, h - high, (luma, 128, 128));
        }
    }
    raw
}

/// A card with a ground, a sign and some words; the same at every size.
fn card(set: Set, number: usize, width: usize, height: usize) -> Raw {
    let mut chance = Chance::named(number as u64, &format!("card of {}", set.name()));
    let (w, h) = (width as f64, height as f64);
    let mut colour = |low: f64, high: f64| {
        (
            chance.between(low, high) as u8,
            chance.between(90.0, 170.0) as u8,
            chance.between(90.0, 170.0) as u8,
        )
    };
    let (ground, band, sign) = (
        colour(30.0, 90.0),
        colour(90.0, 160.0),
        colour(150.0, 230.0),
    );
    let mut raw = Raw::flat(width, height, ground);
    let top = chance.between(0.1, 0.6);
    rect(
        &mut raw,
        0.0,
        h * top,
        w,
        h * chance.between(0.15, 0.35),
        band,
    );
    let (x, r) = (chance.between(0.15, 0.85), chance.between(0.08, 0.2));
    ball(
        &mut raw,
        w * x,
        h * chance.between(0.2, 0.8),
        h * r,
        h * r,
        sign,
    );
    let words = scenes::words(&mut chance, 24);
    text(
        &mut raw,
        w * 0.1,
        h * chance.between(0.2, 0.8),
        h * 0.07,
        &words,
        (225, 128, 128),
    );
    raw
}

fn plan(set: Set, seed: u64) -> Vec<Case> {
    let mut chance = Chance::named(seed, "patterns");
    let mut cases = Vec::new();
    for n in 0..CLIPS {
        for kind in Kind::ALL {
            let class = loop {
                let class = chance
                    .pick(&Class::GENERATED)
                    .copied()
                    .unwrap_or(Class::Pan);
                if class != Class::Bars {
                    break class;
                }
            };
            let codec = Codec::ALL[chance.below(4)];
            // Low rates mostly: they are what blurs codes and edges.
            let (high, rate) = (chance.hit(0.25), RATES[chance.below(3)]);
            let (size, gop) = (form::size(&mut chance), GOPS[chance.below(5)]);
            cases.push(Case {
                kind,
                variant: n,
                source: Source::generated(set, class, 450_000 + cases.len() as u64),
                encoding: form::encoding(codec, high, Form::Plain, size, rate, gop),
            });
        }
    }
    cases
}

/// The hashes of all cards, as the product tells them of recordings.
fn hashes(bench: &Bench, set: Set) -> io::Result<Vec<String>> {
    (0..CARDS)
        .map(|number| {
            let encoding = Encoding::new(Codec::H264, 640, 360, 25.0, 1_500, 1.0);
            let recipe = format!("card {} {number} {}", set.name(), encoding.recipe());
            let made = bench.clip(&recipe, encoding.codec.extension(), |path| {
                let card = card(set, number, encoding.width, encoding.height);
                let pictures = std::iter::repeat_n(card, 50);
                encode(pictures, &encoding, path)?;
                Ok(Truth {
                    events: Vec::new(),
                    secs: 2.0,
                })
            })?;
            bench.product.hash_of(&made.path)
        })
        .collect()
}

#[derive(Default)]
struct Column {
    found: Share,
    invented: u64,
    hours: f64,
    starts: Vec<f64>,
    latencies: Vec<f64>,
}

/// Runs the part.
///
/// # Errors
/// When the product cannot tell the hash of a slate.
pub fn run(bench: &Bench, extent: &Extent) -> io::Result<Outcome> {
    let hashes = hashes(bench, extent.set)?;
    let ask = Ask::only(&bench.product, &Kind::ALL.map(Kind::name))
        .set("detectors.slate.hashes", &format!("{hashes:?}"));
    let cases = extent.take(plan(extent.set, extent.seed), "patterns", |c| &c.encoding);
    let (answers, lost) = each("patterns", &cases, |case| {
        let made = bench.clip(&case.recipe(), case.encoding.codec.extension(), |path| {
            case.make(path)
        })?;
        let watched = bench.watched(&made, &ask)?;
        bench.done(&made);
        Ok((made, watched))
    });
    let mut outcome = Outcome::default();
    let mut columns: BTreeMap<&str, Column> = BTreeMap::new();
    for (n, (made, watched)) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        for kind in Kind::ALL {
            let column = columns.entry(kind.name()).or_default();
            let truth = if kind == case.kind {
                &made.truth[..]
            } else {
                &[]
            };
            let failures = column.judge(kind.name(), truth, made, watched);
            let about = |why: String| {
                format!(
                    "patterns: {why} of {} {} in {} ({}) in {}",
                    case.kind.name(),
                    case.variant,
                    case.source.name,
                    case.encoding.recipe(),
                    made.path.display()
                )
            };
            outcome.failures.extend(failures.into_iter().map(about));
        }
    }
    let mut table = Table::new(
        "One colour, test patterns and slates of 5 s",
        &[
            "detector",
            "found",
            "told of other programme",
            "at most per hour",
            "start error median, p95",
            "told after, median",
        ],
    );
    for (name, mut column) in columns {
        let secs = |values: &mut Vec<f64>, share: f64| {
            quantile(values, share).map_or("–".to_owned(), |v| format!("{v:.2}"))
        };
        table.row(&[
            name.to_owned(),
            share_text(&column.found),
            format!("{} in {:.2} h", column.invented, column.hours),
            format!("{:.2}", rate_bound(column.invented, column.hours)),
            format!(
                "{}, {} s",
                secs(&mut column.starts, 0.5),
                secs(&mut column.starts, 0.95)
            ),
            format!("{} s", secs(&mut column.latencies, 0.5)),
        ]);
        let figures = &mut outcome.figures;
        if column.found.of > 0 {
            figures.insert(format!("{name}_recall"), column.found.ratio());
        }
        figures.insert(format!("{name}_false"), column.invented as f64);
        figures.insert(format!("{name}_hours"), column.hours);
    }
    if lost > 0 {
        outcome
            .failures
            .insert(0, format!("patterns: {lost} clips could not be run"));
    }
    outcome.tables = vec![table];
    Ok(outcome)
}

impl Column {
    /// Counts what one detector told of one clip; gives what is wrong.
    fn judge(
        &mut self,
        detector: &str,
        truth: &[Span],
        made: &Made,
        watched: &Watched,
    ) -> Vec<String> {
        let told: Vec<_> = watched.of(detector, None).collect();
        let spans: Vec<Span> = told.iter().map(|d| d.span()).collect();
        let matched = match_events(truth, &spans, 0.3);
        let mut failures = Vec::new();
        for (event, by) in truth.iter().zip(&matched.found_by) {
            self.found.add(by.is_some());
            let Some(hit) = by.and_then(|n| told.get(n)) else {
                failures.push(format!("missed {:.2}–{:.2} s", event.start, event.end));
                continue;
            };
            self.starts.push((hit.start_secs - event.start).abs());
            self.latencies
                .extend(hit.raised_secs.map(|at| at - event.start));
        }
        for (event, _) in spans.iter().zip(&matched.is_true).filter(|(_, ok)| !**ok) {
            self.invented += 1;
            failures.push(format!(
                "{detector} invented {:.2}–{:.2} s",
                event.start, event.end
            ));
        }
        let other: f64 = truth.iter().map(Span::len).sum();
        self.hours += (made.secs - other) / 3600.0;
        failures
    }
}

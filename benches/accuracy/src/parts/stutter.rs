//! Stutter: pictures held or left out for a tenth of a second or more, at no regular times; against cadence material.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::form::{self, Form, GOPS};
use super::{Extent, Outcome, each, share_text};
use crate::chance::Chance;
use crate::encode::{Codec, Encoding, encode};
use crate::keep::{Bench, Truth};
use crate::raw::Raw;
use crate::report::Table;
use crate::score::{Share, Span, f1, match_events};
use crate::sources::{Class, Set, Source};
use crate::watch::Ask;

/// Clips with a fault, and as many without.
const CLIPS: usize = 60;
const CLIP_SECS: f64 = 40.0;
/// Programme that moves all over at every moment, so that truth is what was done to it.
const MOVING: [Class; 7] = [
    Class::Pan,
    Class::Handheld,
    Class::People,
    Class::Graphics,
    Class::Confetti,
    Class::Water,
    Class::Tiles,
];
/// Programme that holds pictures, cuts or flashes by nature.
const HOLDING: [Class; 5] = [
    Class::Animation,
    Class::Cuts,
    Class::Strobe,
    Class::Tennis,
    Class::TalkingHead,
];
/// From and to pictures a second.
const CADENCES: [(f64, f64); 8] = [
    (25.0, 25.0),
    (30.0, 30.0),
    (50.0, 50.0),
    (60.0, 60.0),
    (24.0, 30.0),
    (25.0, 50.0),
    (24.0, 60.0),
    (12.0, 24.0),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    None,
    Repeats,
    Skips,
    RepeatsAndSkips,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Repeats => "repeats",
            Kind::Skips => "skips",
            Kind::RepeatsAndSkips => "repeats, then skips",
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    source: Source,
    encoding: Encoding,
    from_hz: f64,
    kind: Kind,
    /// Where and for how many seconds.
    faults: Vec<(f64, f64)>,
}

impl Case {
    fn recipe(&self) -> String {
        format!(
            "stutter {} {:x} {} {} {:?} {:?}",
            self.source.name,
            self.source.seed,
            self.encoding.recipe(),
            self.from_hz,
            self.kind,
            self.faults
        )
    }

    fn about(&self) -> String {
        format!(
            "{} ({}, {} in {} Hz, {})",
            self.source.name,
            self.kind.name(),
            self.from_hz,
            self.encoding.rate_hz,
            self.encoding.recipe()
        )
    }

    fn make(&self, path: &Path) -> io::Result<Truth> {
        let (w, h, hz) = (
            self.encoding.width,
            self.encoding.height,
            self.encoding.rate_hz,
        );
        let source = self.source.open(w, h, self.from_hz);
        let mut programme: Box<dyn Iterator<Item = Raw> + Send> = if self.from_hz < hz {
            Box::new(form::cadence(source, self.from_hz, hz))
        } else {
            source
        };
        let mut faults = self.faults.iter().peekable();
        let mut events = Vec::new();
        let (mut held, mut last, mut shown) = (0u64, None::<Raw>, 0u64);
        let total = (CLIP_SECS * hz) as u64;
        let pictures = std::iter::from_fn(|| {
            if shown >= total {
                return None;
            }
            let at = shown as f64 / hz;
            if held == 0
                && let Some((_, secs)) = faults.next_if(|(start, _)| *start <= at)
            {
                let count = (secs * hz).round().max(2.0) as u64;
                let repeats = self.kind != Kind::Skips;
                if self.kind != Kind::Repeats {
                    // What is lost while a picture is held is as long as the hold.
                    for _ in 0..count {
                        programme.next();
                    }
                }
                let length = if repeats { count as f64 / hz } else { 1.0 / hz };
                events.push(Span {
                    start: at - 1.0 / hz,
                    end: at + length,
                });
                held = if repeats { count } else { 0 };
            }
            shown += 1;
            if held > 0 {
                held -= 1;
                return last.clone();
            }
            last = programme.next();
            last.clone()
        });
        encode(pictures, &self.encoding, path)?;
        Ok(Truth {
            events,
            secs: shown as f64 / hz,
        })
    }
}

fn plan(set: Set, seed: u64) -> Vec<Case> {
    let mut chance = Chance::named(seed, "stutter");
    let mut cases = Vec::new();
    for n in 0..2 * CLIPS {
        let kind = match n % 6 {
            0 => Kind::Repeats,
            2 => Kind::Skips,
            4 => Kind::RepeatsAndSkips,
            _ => Kind::None,
        };
        let (from_hz, rate_hz) = CADENCES[n / 6 % CADENCES.len()];
        // Only what is whole may hold by nature: in it truth is not what was done to it.
        let classes: &[Class] = if kind == Kind::None && n % 4 == 1 {
            &HOLDING
        } else {
            &MOVING
        };
        let class = chance.pick(classes).copied().unwrap_or(Class::Pan);
        let source = Source::generated(set, class, 400_000 + n as u64);
        let codec = Codec::ALL[chance.below(4)];
        let (high, gop) = (chance.hit(0.5), GOPS[chance.below(5)]);
        let size = form::size(&mut chance);
        let encoding = form::encoding(codec, high, Form::Plain, size, rate_hz, gop);
        let mut faults = Vec::new();
        if kind != Kind::None {
            let mut at = chance.between(2.0, 5.0);
            while at < CLIP_SECS - 1.5 {
                let secs = chance.between(0.1, 0.4);
                faults.push((at, secs));
                at += secs + chance.between(1.2, 6.0);
            }
        }
        cases.push(Case {
            source,
            encoding,
            from_hz,
            kind,
            faults,
        });
    }
    cases
}

/// Runs the part.
///
/// # Errors
/// None at present: what cannot be run is told and counted.
pub fn run(bench: &Bench, extent: &Extent) -> io::Result<Outcome> {
    if !bench.product.has("stutter") {
        return Ok(super::without("stutter"));
    }
    let ask = Ask::only(&bench.product, &["stutter", "freeze"]);
    let cases = extent.take(plan(extent.set, extent.seed), "stutter", |c| &c.encoding);
    let (answers, lost) = each("stutter", &cases, |case| {
        let made = bench.clip(&case.recipe(), case.encoding.codec.extension(), |path| {
            case.make(path)
        })?;
        let watched = bench.watched(&made, &ask)?;
        bench.done(&made);
        Ok((made, watched))
    });
    let mut outcome = Outcome::default();
    let (mut right, mut missed, mut invented) = (0, 0, 0);
    let mut rows: BTreeMap<(Kind, String), (Share, Share)> = BTreeMap::new();
    for (n, (made, watched)) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        let told: Vec<Span> = watched.of("stutter", None).map(|f| f.span()).collect();
        let row = rows
            .entry((
                case.kind,
                format!("{} in {} Hz", case.from_hz, case.encoding.rate_hz),
            ))
            .or_default();
        row.0.add(!told.is_empty());
        for by in match_events(&made.truth, &told, 1.0).found_by {
            row.1.add(by.is_some());
        }
        match (case.kind == Kind::None, told.is_empty()) {
            (false, false) => right += 1,
            (false, true) => missed += 1,
            (true, false) => invented += 1,
            (true, true) => {}
        }
        if (case.kind == Kind::None) != told.is_empty() {
            outcome.failures.push(format!(
                "stutter: {} {} in {}",
                if told.is_empty() {
                    "missed"
                } else {
                    "invented"
                },
                case.about(),
                made.path.display()
            ));
        }
    }
    let score = f1(right, missed, invented);
    let mut table = Table::new(
        "Stutter: clips told, and faults within a second of what was told",
        &["fault", "cadence", "clips told", "faults covered"],
    );
    for ((kind, cadence), (clips, faults)) in rows {
        table.row(&[
            kind.name().to_owned(),
            cadence,
            share_text(&clips),
            share_text(&faults),
        ]);
    }
    let mut head = Table::new(
        "Stutter of 0.1 s or more, by clip",
        &["clips with faults told", "missed", "whole clips told", "F1"],
    );
    head.row(&[
        right.to_string(),
        missed.to_string(),
        invented.to_string(),
        format!("{score:.3}"),
    ]);
    outcome.figures.insert("stutter_f1".to_owned(), score);
    outcome
        .figures
        .insert("stutter_false".to_owned(), invented as f64);
    if lost > 0 {
        outcome
            .failures
            .insert(0, format!("stutter: {lost} clips could not be run"));
    }
    outcome.tables = vec![head, table];
    Ok(outcome)
}

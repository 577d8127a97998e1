//! Black pictures: plain, under a logo, with noise; and programme that is dark but not black.

use std::io;
use std::path::Path;

use super::form::{self, Form, GOPS, RATES};
use super::overlay::Overlay;
use super::{Extent, Outcome, each, merged, pair_text, share_text, told_after};
use crate::cells::cover;
use crate::chance::Chance;
use crate::encode::{Codec, Encoding, encode};
use crate::keep::{Bench, Made, Truth};
use crate::paint::{BLACK, blend};
use crate::peers::Peer;
use crate::raw::Raw;
use crate::report::Table;
use crate::score::{Share, Span, f1, match_events, rate_bound};
use crate::sources::{Class, Set, Source};
use crate::watch::{Ask, Watched};

const ROUNDS: u64 = 3;
const SECONDS: [f64; 6] = [0.4, 1.0, 3.0, 4.0, 6.0, 10.0];
/// Black for at least this long must be told; for less it may be.
const LEAST_SECS: f64 = 3.0;
const OVERLAYS: [Overlay; 4] = [
    Overlay::Plain,
    Overlay::Logo,
    Overlay::Noise1,
    Overlay::Noise2,
];
const NEGATIVES: u64 = 6;
const NEGATIVE_SECS: f64 = 60.0;
const PEERS: [Peer; 1] = [Peer::Black { secs: 2.0 }];

#[derive(Debug, Clone)]
struct Case {
    source: Source,
    overlay: Overlay,
    encoding: Encoding,
    full_range: bool,
    /// Seconds of fading out and in; 0 cuts.
    fade_secs: f64,
    /// Live and black seconds.
    holds: Vec<(f64, f64)>,
    tail_secs: f64,
    seed: u64,
}

impl Case {
    fn recipe(&self) -> String {
        format!(
            "black {} {:x} {:?} {} {} {:?} {:.3} {}",
            self.source.name,
            self.source.seed,
            self.overlay,
            self.encoding.recipe(),
            self.fade_secs,
            self.holds,
            self.tail_secs,
            self.seed
        )
    }

    fn about(&self) -> String {
        format!(
            "{} ({}, {}, {}, {})",
            self.source.name,
            self.overlay.name(),
            self.encoding.recipe(),
            if self.full_range {
                "full range"
            } else {
                "limited range"
            },
            if self.fade_secs > 0.0 {
                "fades"
            } else {
                "cuts"
            },
        )
    }

    /// When it is black, and how much at a moment.
    fn blackness(&self) -> (Vec<Span>, f64) {
        let mut at = 0.0;
        let mut spans = Vec::new();
        for (live, black) in &self.holds {
            at += live;
            spans.push(Span {
                start: at,
                end: at + black,
            });
            at += black;
        }
        (spans, at + self.tail_secs)
    }

    fn make(&self, path: &Path) -> io::Result<Truth> {
        let (spans, secs) = self.blackness();
        let hz = self.encoding.rate_hz;
        let mut put = self
            .overlay
            .painter(self.seed, self.encoding.width, self.encoding.height);
        let black = Raw::flat(self.encoding.width, self.encoding.height, BLACK);
        let fade = self.fade_secs;
        let programme = form::programme(&self.source, &self.encoding);
        let count = (secs * hz) as usize;
        let pictures = programme.take(count).enumerate().map(|(n, raw)| {
            let t = (n as f64 + 0.5) / hz;
            let far = spans
                .iter()
                .map(|s| (s.start - t).max(t - s.end).max(0.0))
                .fold(f64::INFINITY, f64::min);
            let mut raw = if far <= 0.0 {
                black.clone()
            } else if far < fade {
                blend(&black, &raw, far / fade)
            } else {
                raw
            };
            put(&mut raw, t);
            raw
        });
        encode(pictures, &self.encoding, path)?;
        Ok(Truth {
            secs: count as f64 / hz,
            events: spans.clone(),
        })
    }
}

fn plan(set: Set, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for round in 0..ROUNDS {
        let mut chance = Chance::named(seed, &format!("black {round}"));
        let levels = [OVERLAYS.len(), 4, 2, RATES.len(), 2, 2, GOPS.len()];
        let rows = cover(&levels, &mut chance, |row| {
            // Full range is signalled in H.264 and HEVC only.
            row[5] == 0 || matches!(Codec::ALL[row[1]], Codec::H264 | Codec::Hevc)
        });
        for row in rows {
            let class = loop {
                let class = Class::GENERATED[chance.below(Class::GENERATED.len())];
                if !is_dark(class) {
                    break class;
                }
            };
            let source = Source::generated(set, class, 300_000 + chance.below(100_000) as u64);
            let size = form::size(&mut chance);
            let mut encoding = form::encoding(
                Codec::ALL[row[1]],
                row[2] == 1,
                Form::Plain,
                size,
                RATES[row[3]],
                GOPS[row[6]],
            );
            let full_range = row[5] == 1;
            if full_range {
                encoding.options = [
                    "-vf",
                    "scale=in_range=tv:out_range=pc",
                    "-color_range",
                    "pc",
                ]
                .map(str::to_owned)
                .to_vec();
            }
            let mut secs = SECONDS.to_vec();
            for n in (1..secs.len()).rev() {
                secs.swap(n, chance.below(n + 1));
            }
            cases.push(Case {
                source,
                overlay: OVERLAYS[row[0]],
                encoding,
                full_range,
                fade_secs: if row[4] == 1 {
                    chance.between(0.2, 1.0)
                } else {
                    0.0
                },
                holds: secs
                    .into_iter()
                    .map(|s| (chance.between(3.0, 7.0), s))
                    .collect(),
                tail_secs: chance.between(2.0, 4.0),
                seed: chance.bits(),
            });
        }
    }
    let mut chance = Chance::named(seed, "dark");
    for n in 0..NEGATIVES {
        for class in Class::GENERATED.into_iter().filter(|c| is_dark(*c)) {
            let codec = Codec::ALL[chance.below(4)];
            let (high, rate, gop) = (
                chance.hit(0.5),
                RATES[chance.below(5)],
                GOPS[chance.below(5)],
            );
            let size = form::size(&mut chance);
            cases.push(Case {
                source: Source::generated(set, class, 300_000 + n),
                overlay: Overlay::Plain,
                encoding: form::encoding(codec, high, Form::Plain, size, rate, gop),
                full_range: false,
                fade_secs: 0.0,
                holds: Vec::new(),
                tail_secs: NEGATIVE_SECS,
                seed: chance.bits(),
            });
        }
    }
    cases
}

fn is_dark(class: Class) -> bool {
    matches!(
        class,
        Class::Dark | Class::NearBlack | Class::Credits | Class::Fades | Class::Strobe
    )
}

struct Answer {
    made: Made,
    watched: Watched,
    peers: Vec<Vec<Span>>,
}

/// Runs the part.
///
/// # Errors
/// None at present: what cannot be run is told and counted.
pub fn run(bench: &Bench, extent: &Extent) -> io::Result<Outcome> {
    if !bench.product.has("black") {
        return Ok(super::without("black"));
    }
    let ask = Ask::only(&bench.product, &["black", "blank", "freeze"]);
    let cases = extent.take(plan(extent.set, extent.seed), "black", |c| &c.encoding);
    let (answers, lost) = each("black", &cases, |case| {
        let made = bench.clip(&case.recipe(), case.encoding.codec.extension(), |path| {
            case.make(path)
        })?;
        let answer = Answer {
            watched: bench.watched(&made, &ask)?,
            peers: bench.peers(&made, if extent.peers { &PEERS } else { &[] })?,
            made,
        };
        bench.done(&answer.made);
        Ok(answer)
    });
    let mut outcome = Outcome::default();
    let mut table = Table::new(
        "Black pictures of 3 s or more: events",
        &[
            "who",
            "found",
            "false events",
            "at most per hour",
            "F1",
            "start error median, p95",
            "end error median, p95",
            "told after median, p95",
            "plain",
            "logo",
            "noise 1",
            "noise 2",
            "full range",
        ],
    );
    let names = ["here".to_owned(), "blackdetect d=2".to_owned()];
    let asked = if extent.peers { names.len() } else { 1 };
    for (k, name) in names.iter().take(asked).enumerate() {
        let mut all = Share::default();
        let mut cells = [Share::default(); 5];
        let (mut invented, mut other_secs) = (0, 0.0);
        let (mut starts, mut ends, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for (n, a) in &answers {
            let Some(case) = cases.get(*n) else { continue };
            let told: Vec<Span> = if k == 0 {
                merged(a.watched.of("black", None).map(|f| f.span()).collect(), 0.3)
            } else {
                a.peers.first().cloned().unwrap_or_default()
            };
            let matched = match_events(&a.made.truth, &told, 0.0);
            let wide = match_events(&a.made.truth, &told, case.fade_secs + 0.5);
            let mut tell = |what: &str, event: &Span| {
                if k == 0 {
                    outcome.failures.push(format!(
                        "black: {what} {:.2}–{:.2} s of {} in {}",
                        event.start,
                        event.end,
                        case.about(),
                        a.made.path.display()
                    ));
                }
            };
            for (event, by) in a.made.truth.iter().zip(&matched.found_by) {
                if event.len() < LEAST_SECS - 0.02 {
                    continue;
                }
                all.add(by.is_some());
                let place = OVERLAYS.iter().position(|o| *o == case.overlay);
                if let Some(cell) = place.and_then(|at| cells.get_mut(at)) {
                    cell.add(by.is_some());
                }
                if case.full_range {
                    cells[4].add(by.is_some());
                }
                let Some(hit) = by.and_then(|n| told.get(n)) else {
                    tell("missed", event);
                    continue;
                };
                starts.push((hit.start - event.start).abs());
                ends.push((hit.end - event.end).abs());
                if k == 0 {
                    after.extend(told_after(event, a.watched.of("black", None)));
                }
            }
            other_secs += a.made.secs - a.made.truth.iter().map(Span::len).sum::<f64>();
            for (event, _) in told.iter().zip(&wide.is_true).filter(|(_, ok)| !**ok) {
                invented += 1;
                tell("invented", event);
            }
        }
        let score = f1(all.hits, all.of - all.hits, invented);
        let mut row = vec![
            name.clone(),
            share_text(&all),
            format!("{invented} in {:.2} h", other_secs / 3600.0),
            format!("{:.2}", rate_bound(invented, other_secs / 3600.0)),
            format!("{score:.3}"),
            pair_text(&mut starts),
            pair_text(&mut ends),
            pair_text(&mut after),
        ];
        row.extend(cells.iter().map(share_text));
        table.row(&row);
        if k == 0 {
            outcome.figures.insert("black_f1".to_owned(), score);
            outcome
                .figures
                .insert("black_recall".to_owned(), all.ratio());
            outcome
                .figures
                .insert("black_false".to_owned(), invented as f64);
        }
    }
    let frozen: usize = answers
        .iter()
        .map(|(_, a)| {
            // A black picture that stands is black, not frozen.
            let told: Vec<Span> = a.watched.of("freeze", None).map(|f| f.span()).collect();
            let both = match_events(&told, &a.made.truth, 0.0);
            both.found_by.iter().filter(|by| by.is_some()).count()
        })
        .sum();
    outcome
        .figures
        .insert("black_told_frozen".to_owned(), frozen as f64);
    if lost > 0 {
        outcome
            .failures
            .insert(0, format!("black: {lost} clips could not be run"));
    }
    outcome.tables = vec![table];
    Ok(outcome)
}

//! Freezes: the programme stands from one picture on, before overlays are put on and before it is encoded.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::form::{self, Form, GOPS, RATES};
use super::overlay::Overlay;
use super::{Extent, Outcome, alive, each, merged, pair_text, share_text, told_after};
use crate::cells::cover;
use crate::chance::Chance;
use crate::encode::{Codec, Encoding, encode};
use crate::keep::{Bench, Made, Truth};
use crate::peers::Peer;
use crate::raw::Raw;
use crate::report::Table;
use crate::score::{Share, Span, match_events, quantile};
use crate::sources::{Class, Set, Source};
use crate::watch::{Ask, Product, Watched};

/// How often the covering plan is drawn anew for a whole run: each row with other sources and other rows.
const ROUNDS: u64 = 9;
/// Seconds of the freezes of a clip; one more is drawn.
const SECONDS: [f64; 6] = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Clips of live programme for every kind.
const NEGATIVES: u64 = 10;
/// Seconds of each.
const NEGATIVE_SECS: f64 = 40.0;
/// A night that does not end gets no more holds: light is waited for so long in a clip.
const LIGHT_SECS: f64 = 20.0;
/// A found event this near to a true one belongs to it.
const SLACK_SECS: f64 = 0.5;

/// What is asked of a product: its short setting finds freezes of a second, its defaults those of three.
struct Settings {
    short: Ask,
    default: Ask,
}

impl Settings {
    fn of(product: &Product) -> Self {
        let short = Ask::only(product, &["freeze"]);
        let short = if product.has_option("freeze", "hold_secs") {
            short.set("detectors.freeze.hold_secs", "0.9")
        } else {
            short.set("detectors.freeze.rules.frozen.raise", "0.9")
        };
        Self {
            short,
            default: Ask::only(product, &["freeze", "black", "stutter", "blank", "bars"]),
        }
    }
}

const PEERS: [Peer; 4] = [
    Peer::Freeze {
        noise: 0.001,
        secs: 0.9,
    },
    Peer::Freeze {
        noise: 0.003,
        secs: 0.9,
    },
    Peer::Freeze {
        noise: 0.001,
        secs: 2.0,
    },
    Peer::Freeze {
        noise: 0.003,
        secs: 2.0,
    },
];

/// One freeze of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Hold {
    /// Live seconds before it.
    live_secs: f64,
    /// Seconds that it lasts.
    secs: f64,
    /// Whether the programme went on behind it, so that a piece is missing after it.
    lost: bool,
}

/// One clip of the plan.
#[derive(Debug, Clone)]
struct Case {
    source: Source,
    overlay: Overlay,
    encoding: Encoding,
    high: bool,
    form: Form,
    /// Repeated from a lower rate, as telecine does; only live clips have it.
    cadence_hz: Option<f64>,
    /// None in live clips.
    holds: Vec<Hold>,
    /// Live seconds at the end.
    tail_secs: f64,
    /// Decides overlay and noise.
    seed: u64,
}

impl Case {
    fn recipe(&self) -> String {
        format!(
            "freeze {} {:x} {:?} {} {:?} {:?} {:.3} {}{}",
            self.source.name,
            self.source.seed,
            self.overlay,
            self.encoding.recipe(),
            self.cadence_hz,
            self.holds,
            self.tail_secs,
            self.seed,
            if self.lives_by_noise() { " alive" } else { "" }
        )
    }

    /// Whether nothing but the noise of the camera tells the clip from a still.
    fn lives_by_noise(&self) -> bool {
        self.source.class == Class::StaticShot && self.holds.is_empty()
    }

    fn cells(&self) -> Vec<(&'static str, String)> {
        vec![
            ("overlay", self.overlay.name().to_owned()),
            ("codec", self.encoding.codec.name().to_owned()),
            ("rate", if self.high { "high" } else { "low" }.to_owned()),
            ("key pictures", format!("{} s", self.encoding.gop_secs)),
            ("pictures", format!("{} Hz", self.encoding.rate_hz)),
            ("form", self.form.name().to_owned()),
            (
                "size",
                format!("{}x{}", self.encoding.width, self.encoding.height),
            ),
            ("class", self.source.class.name().to_owned()),
        ]
    }

    fn about(&self) -> String {
        let cells: Vec<String> = self.cells().into_iter().map(|(_, v)| v).collect();
        format!("{} ({})", self.source.name, cells.join(", "))
    }

    /// Kind of a live clip.
    fn kind(&self) -> String {
        match self.cadence_hz {
            Some(hz) => format!("cadence {hz} in {}", self.encoding.rate_hz),
            None => self.source.class.name().to_owned(),
        }
    }

    fn make(&self, path: &Path) -> io::Result<Truth> {
        match self.lives_by_noise() {
            true => alive::make(path, &self.encoding, |encoding| {
                self.make_as(path, encoding)
            }),
            false => self.make_as(path, &self.encoding),
        }
    }

    fn make_as(&self, path: &Path, encoding: &Encoding) -> io::Result<Truth> {
        let hz = self.encoding.rate_hz;
        let (width, height) = (self.encoding.width, self.encoding.height);
        let programme: Box<dyn Iterator<Item = Raw> + Send> = match self.cadence_hz {
            Some(from) => Box::new(form::cadence(
                self.source.open(width, height, from),
                from,
                hz,
            )),
            None => form::programme(&self.source, &self.encoding),
        };
        let mut put = self.overlay.painter(self.seed, width, height);
        let (mut shown, mut truth) = (0u64, Truth::default());
        let mut frozen = Frozen::new(
            programme,
            self.holds.clone(),
            self.tail_secs,
            hz,
            self.encoding.interlaced,
        );
        let pictures = std::iter::from_fn(|| {
            let mut raw = frozen.next()?;
            put(&mut raw, shown as f64 / hz);
            shown += 1;
            Some(raw)
        });
        encode(pictures, encoding, path)?;
        truth.secs = shown as f64 / hz;
        truth.events = frozen.truth;
        Ok(truth)
    }
}

/// Programme with holds in it, and what was truly held.
struct Frozen {
    programme: Box<dyn Iterator<Item = Raw> + Send>,
    holds: std::vec::IntoIter<Hold>,
    next: Option<Hold>,
    hz: f64,
    one_field: bool,
    /// Live pictures until the next hold.
    live: u64,
    /// Pictures for which light was waited for.
    dark: u64,
    /// Of a hold: the picture, how often it is to be shown still, its place in `truth`.
    held: Option<(Raw, u64)>,
    /// Pictures at the end.
    tail: u64,
    last: Option<Raw>,
    /// Since when the shown picture has been the same.
    same_since: u64,
    shown: u64,
    /// The last hold is over, but the picture has not changed yet.
    lasting: bool,
    truth: Vec<Span>,
}

impl Frozen {
    fn new(
        programme: Box<dyn Iterator<Item = Raw> + Send>,
        holds: Vec<Hold>,
        tail_secs: f64,
        hz: f64,
        interlaced: bool,
    ) -> Self {
        let mut holds = holds.into_iter();
        let next = holds.next();
        let count = |secs: f64| (secs * hz).round().max(1.0) as u64;
        Self {
            programme,
            next,
            holds,
            hz,
            one_field: interlaced,
            live: next.map_or(0, |h| count(h.live_secs)),
            dark: 0,
            held: None,
            tail: count(tail_secs),
            last: None,
            same_since: 0,
            shown: 0,
            lasting: false,
            truth: Vec::new(),
        }
    }

    fn at(&self, n: u64) -> f64 {
        n as f64 / self.hz
    }

    fn live_picture(&mut self) -> Option<Raw> {
        let raw = self.programme.next()?;
        if self.last.as_ref() != Some(&raw) {
            self.same_since = self.shown;
            self.lasting = false;
        } else if self.lasting {
            let end = self.at(self.shown + 1);
            if let Some(last) = self.truth.last_mut() {
                last.end = end;
            }
        }
        self.shown += 1;
        self.last = Some(raw.clone());
        Some(raw)
    }
}

impl Iterator for Frozen {
    type Item = Raw;

    fn next(&mut self) -> Option<Raw> {
        if let Some((raw, left)) = self.held.take() {
            self.shown += 1;
            let end = self.at(self.shown);
            if let Some(last) = self.truth.last_mut() {
                last.end = end;
            }
            let again = raw.clone();
            if left > 1 {
                self.held = Some((raw, left - 1));
            } else {
                self.lasting = true;
            }
            return Some(again);
        }
        let Some(hold) = self.next else {
            self.tail = self.tail.checked_sub(1)?;
            return self.live_picture();
        };
        let mut raw = self.live_picture()?;
        self.live = self.live.saturating_sub(1);
        let mut held = raw.clone();
        let one_field = self.one_field && self.truth.len() % 2 == 1;
        if one_field {
            form::one_field(&mut held);
        }
        // A black picture that stands is the business of another detector: wait for light.
        if self.live == 0 && has_light(&held) {
            let pictures = (hold.secs * self.hz).round().max(2.0) as u64;
            if one_field {
                raw = held;
                self.same_since = self.shown - 1;
                self.last = Some(raw.clone());
            }
            let start = self.at(self.same_since);
            self.truth.push(Span {
                start,
                end: self.at(self.shown),
            });
            self.held = Some((raw.clone(), pictures - 1));
            if hold.lost {
                for _ in 0..pictures.min(40) {
                    self.programme.next();
                }
            }
            self.next = self.holds.next();
            self.live = self
                .next
                .map_or(0, |h| (h.live_secs * self.hz).round().max(1.0) as u64);
        } else if self.live == 0 {
            self.dark += 1;
            if self.dark as f64 > LIGHT_SECS * self.hz {
                self.next = None;
            }
        }
        Some(raw)
    }
}

/// Whether a picture is more than black: a tenth of it is brighter than dark grey.
fn has_light(raw: &Raw) -> bool {
    let bright = raw.y.iter().step_by(7).filter(|v| **v > 50).count();
    bright * 10 > raw.y.len() / 7
}

/// All clips of a set.
fn plan(set: Set, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for round in 0..ROUNDS {
        let mut chance = Chance::named(seed, &format!("freeze {round}"));
        let levels = [8, 4, 2, GOPS.len(), RATES.len(), 3];
        let rows = cover(&levels, &mut chance, |row| {
            Form::ALL[row[5]].fits(Codec::ALL[row[1]], RATES[row[4]])
        });
        for row in rows {
            let overlay = Overlay::ALL[row[0]];
            let source = loop {
                let source = any_source(set, &mut chance);
                let hides = source.class == Class::StaticShot && overlay.is_noise();
                // Where nothing but noise is new, new noise on top hides the freeze for good.
                let still = source.class.is_still() || source.class == Class::NearBlack;
                if !still && !hides {
                    break source;
                }
            };
            let (codec, high, form) = (Codec::ALL[row[1]], row[2] == 1, Form::ALL[row[5]]);
            let size = form::size(&mut chance);
            let encoding = form::encoding(codec, high, form, size, RATES[row[4]], GOPS[row[3]]);
            let mut secs = SECONDS.to_vec();
            secs.push(SECONDS[2 + chance.below(4)]);
            for n in (1..secs.len()).rev() {
                secs.swap(n, chance.below(n + 1));
            }
            let holds = secs
                .into_iter()
                .enumerate()
                .map(|(n, secs)| Hold {
                    live_secs: chance.between(if n == 0 { 3.0 } else { 2.0 }, 6.0),
                    secs,
                    lost: chance.hit(0.5),
                })
                .collect();
            cases.push(Case {
                source,
                overlay,
                encoding,
                high,
                form,
                cadence_hz: None,
                holds,
                tail_secs: chance.between(1.5, 4.0),
                seed: chance.bits(),
            });
        }
    }
    cases
}

fn any_source(set: Set, chance: &mut Chance) -> Source {
    // One of eight is a real clip, where there are any.
    if chance.hit(0.125) {
        let real: Vec<Source> = Source::all(set)
            .into_iter()
            .filter(|s| s.media.is_some())
            .collect();
        if let Some(source) = chance.pick(&real) {
            return source.clone();
        }
    }
    let class = chance
        .pick(&Class::GENERATED)
        .copied()
        .unwrap_or(Class::Pan);
    Source::generated(set, class, 1_000 + chance.below(100_000) as u64)
}

/// Live clips that look as if they stood.
fn live_plan(set: Set, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut chance = Chance::named(seed, "live");
    let mut add = |class: Class, n: u64, cadence: Option<(f64, f64)>| {
        let source = Source::generated(set, class, 2_000 + n);
        let codec = Codec::ALL[chance.below(4)];
        let rate = cadence.map_or(RATES[1 + chance.below(4)], |(_, to)| to);
        let form = loop {
            let form = Form::ALL[chance.below(3)];
            if form.fits(codec, rate) {
                break form;
            }
        };
        let form = if cadence.is_some() { Form::Plain } else { form };
        let high = chance.hit(0.5);
        let size = form::size(&mut chance);
        let gop = GOPS[chance.below(GOPS.len())];
        cases.push(Case {
            source,
            overlay: Overlay::Plain,
            encoding: form::encoding(codec, high, form, size, rate, gop),
            high,
            form,
            cadence_hz: cadence.map(|(from, _)| from),
            holds: Vec::new(),
            tail_secs: NEGATIVE_SECS,
            seed: chance.bits(),
        });
    };
    for n in 0..NEGATIVES {
        for class in [
            Class::StaticShot,
            Class::TalkingHead,
            Class::Tennis,
            Class::SlowZoom,
            Class::Animation,
            Class::NearBlack,
            Class::Dusk,
        ] {
            add(class, n, None);
        }
        for (m, cadence) in [(24.0, 60.0), (25.0, 50.0), (12.0, 24.0), (24.0, 30.0)]
            .into_iter()
            .enumerate()
        {
            let class = [
                Class::Pan,
                Class::People,
                Class::TalkingHead,
                Class::Handheld,
            ][m];
            add(class, 100 + n, Some(cadence));
        }
    }
    cases
}

struct Answer {
    made: Made,
    short: Watched,
    default: Watched,
    peers: Vec<Vec<Span>>,
}

fn answer(bench: &Bench, extent: &Extent, settings: &Settings, case: &Case) -> io::Result<Answer> {
    let made = bench.clip(&case.recipe(), case.encoding.codec.extension(), |path| {
        case.make(path)
    })?;
    let short = bench.watched(&made, &settings.short)?;
    let default = bench.watched(&made, &settings.default)?;
    let peers = bench.peers(&made, if extent.peers { &PEERS } else { &[] })?;
    bench.done(&made);
    Ok(Answer {
        made,
        short,
        default,
        peers,
    })
}

fn found(watched: &Watched) -> Vec<Span> {
    merged(watched.of("freeze", None).map(|f| f.span()).collect(), 0.3)
}

/// One column of the tables: somebody's events, judged against freezes of at least so many seconds.
#[derive(Default)]
struct Column {
    by_cell: BTreeMap<(&'static str, String), Share>,
    all: Share,
    false_on_frozen: u64,
    live_secs: f64,
    start_errors: Vec<f64>,
    end_errors: Vec<f64>,
    covered: Vec<f64>,
    /// Seconds from the begin of a freeze to where it was told.
    after: Vec<f64>,
    pictures_late: Vec<f64>,
}

impl Column {
    fn judge(&mut self, case: &Case, made: &Made, found: &[Span], least_secs: f64) -> Vec<String> {
        let mut failures = Vec::new();
        let matched = match_events(&made.truth, found, 0.0);
        let wide = match_events(&made.truth, found, SLACK_SECS);
        for (event, by) in made.truth.iter().zip(&matched.found_by) {
            // A picture's share is forgiven: durations are whole pictures.
            if event.len() < least_secs - 0.02 {
                continue;
            }
            self.all.add(by.is_some());
            for cell in case.cells() {
                self.by_cell.entry(cell).or_default().add(by.is_some());
            }
            let lasting = ("lasting", format!("{:.0} s", event.len()));
            self.by_cell.entry(lasting).or_default().add(by.is_some());
            let Some(hit) = by.and_then(|n| found.get(n)) else {
                failures.push(format!(
                    "missed {:.2}–{:.2} s of {} in {}",
                    event.start,
                    event.end,
                    case.about(),
                    made.path.display()
                ));
                continue;
            };
            let shared: f64 = found.iter().map(|f| f.shared(event)).sum();
            self.covered.push(shared / event.len());
            self.start_errors.push((hit.start - event.start).abs());
            self.pictures_late
                .push((hit.start - event.start).abs() * case.encoding.rate_hz);
            self.end_errors.push((hit.end - event.end).abs());
        }
        for (event, is_true) in found.iter().zip(&wide.is_true) {
            if !is_true {
                self.false_on_frozen += 1;
                failures.push(format!(
                    "invented {:.2}–{:.2} s of {} in {}",
                    event.start,
                    event.end,
                    case.about(),
                    made.path.display()
                ));
            }
        }
        let frozen: f64 = made.truth.iter().map(Span::len).sum();
        self.live_secs += (made.secs - frozen).max(0.0);
        failures
    }
}

/// Runs the part.
///
/// # Errors
/// None at present: what cannot be run is told and counted.
pub fn run(bench: &Bench, extent: &Extent) -> io::Result<Outcome> {
    let settings = Settings::of(&bench.product);
    let cases = extent.take(plan(extent.set, extent.seed), "freeze", |c| &c.encoding);
    let live = extent.take(live_plan(extent.set, extent.seed), "freeze live", |c| {
        &c.encoding
    });
    let (answers, lost) = each("freeze", &cases, |case| {
        answer(bench, extent, &settings, case)
    });
    let (quiet, lost_live) = each("freeze, live", &live, |case| {
        answer(bench, extent, &settings, case)
    });
    let names = [
        "here, hold 0.9 s",
        "freezedetect d=0.9",
        "freezedetect n=0.003 d=0.9",
        "here, defaults",
        "freezedetect d=2",
        "freezedetect n=0.003 d=2",
    ];
    let of = |a: &Answer, n: usize| match n {
        0 => found(&a.short),
        3 => found(&a.default),
        1 | 2 => a.peers.get(n - 1).cloned().unwrap_or_default(),
        _ => a.peers.get(n - 2).cloned().unwrap_or_default(),
    };
    let least = |n: usize| if n < 3 { 1.0 } else { 3.0 };
    // Of peers that were not asked nothing is told.
    let asked = |n: usize| extent.peers || n.is_multiple_of(3);
    let mut columns: Vec<Column> = names.iter().map(|_| Column::default()).collect();
    let mut outcome = Outcome::default();
    for (n, a) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        for (k, column) in columns.iter_mut().enumerate().filter(|(k, _)| asked(*k)) {
            let failures = column.judge(case, &a.made, &of(a, k), least(k));
            if k == 0 || k == 3 {
                let watched = if k == 0 { &a.short } else { &a.default };
                let long = |e: &&Span| e.len() >= least(k) - 0.02;
                let after = a.made.truth.iter().filter(long);
                let after = after.filter_map(|e| told_after(e, watched.of("freeze", None)));
                column.after.extend(after);
                let label = names.get(k).copied().unwrap_or_default();
                outcome.failures.extend(
                    failures
                        .into_iter()
                        .map(|f| format!("freeze, {label}: {f}")),
                );
            }
        }
    }
    let mut head = Table::new(
        "Freezes: events found (Wilson interval, 95 %)",
        &[
            "who",
            "found",
            "worst cell",
            "start error median, p95",
            "end error median, p95",
            "told after median, p95",
            "time covered",
            "false events between freezes",
        ],
    );
    let rows = names.iter().zip(&mut columns).enumerate();
    for (_, (name, column)) in rows.filter(|(k, _)| asked(*k)) {
        let worst = column
            .by_cell
            .iter()
            .filter(|(_, s)| s.of >= 10)
            .min_by(|a, b| a.1.ratio().total_cmp(&b.1.ratio()));
        let covered = column.covered.iter().sum::<f64>() / column.covered.len().max(1) as f64;
        head.row(&[
            (*name).to_owned(),
            share_text(&column.all),
            worst.map_or("–".to_owned(), |((factor, value), s)| {
                format!("{factor} {value}: {:.1} %", s.ratio() * 100.0)
            }),
            pair_text(&mut column.start_errors),
            pair_text(&mut column.end_errors),
            pair_text(&mut column.after),
            format!("{:.1} %", covered * 100.0),
            format!(
                "{} in {:.2} h",
                column.false_on_frozen,
                column.live_secs / 3600.0
            ),
        ]);
    }
    for (prefix, k) in [("freeze_1s", 0), ("freeze_3s", 3)] {
        if let Some(column) = columns.get_mut(k) {
            let figures = &mut outcome.figures;
            figures.insert(format!("{prefix}_recall"), column.all.ratio());
            figures.insert(format!("{prefix}_events"), column.all.of as f64);
            let cells = column.by_cell.values().filter(|s| s.of >= 10);
            if let Some(worst) = cells.map(Share::ratio).min_by(f64::total_cmp) {
                figures.insert(format!("{prefix}_worst_cell"), worst);
            }
            figures.insert(format!("{prefix}_false"), column.false_on_frozen as f64);
            if let Some(value) = quantile(&mut column.pictures_late, 0.5) {
                figures.insert(format!("{prefix}_start_error_median_pictures"), value);
            }
            if let Some(value) = quantile(&mut column.start_errors, 0.95) {
                figures.insert(format!("{prefix}_start_error_p95_secs"), value);
            }
        }
    }
    let mut by_cell = Table::new(
        "Freezes by cell: events found",
        &["factor", "value", names[0], names[3], names[1], names[5]],
    );
    let keys: Vec<(&'static str, String)> = columns
        .first()
        .map(|c| c.by_cell.keys().cloned().collect())
        .unwrap_or_default();
    for key in keys {
        let cell = |k: usize| {
            let share = columns.get(k).and_then(|c| c.by_cell.get(&key));
            share.map_or("–".to_owned(), share_text)
        };
        by_cell.row(&[
            key.0.to_owned(),
            key.1.clone(),
            cell(0),
            cell(3),
            cell(1),
            cell(5),
        ]);
    }
    let told = |a: &Answer, n: usize| asked(n).then(|| of(a, n));
    let quiet_table = on_live(&live, &quiet, &names, told, &mut outcome);
    if lost + lost_live > 0 {
        outcome.failures.insert(
            0,
            format!("freeze: {} clips could not be run", lost + lost_live),
        );
    }
    outcome.tables = vec![head, by_cell, quiet_table];
    Ok(outcome)
}

/// What was told of live clips; nothing of whom nobody asked.
fn on_live(
    live: &[Case],
    quiet: &[(usize, Answer)],
    names: &[&str],
    of: impl Fn(&Answer, usize) -> Option<Vec<Span>>,
    outcome: &mut Outcome,
) -> Table {
    let mut heads = vec!["live clips of", "hours"];
    heads.extend(names);
    let mut table = Table::new(
        "Freezes told of live programme that hardly moves: events",
        &heads,
    );
    let mut rows: BTreeMap<String, (f64, Vec<Option<u64>>)> = BTreeMap::new();
    for (n, a) in quiet {
        let Some(case) = live.get(*n) else { continue };
        let row = rows
            .entry(case.kind())
            .or_insert_with(|| (0.0, vec![None; names.len()]));
        row.0 += a.made.secs / 3600.0;
        for (k, count) in row.1.iter_mut().enumerate() {
            let Some(told) = of(a, k) else { continue };
            *count = Some(count.unwrap_or(0) + told.len() as u64);
            if k == 0 || k == 3 {
                outcome.failures.extend(told.iter().map(|e| {
                    format!(
                        "freeze, {}: invented {:.2}–{:.2} s of live {} in {}",
                        names.get(k).copied().unwrap_or_default(),
                        e.start,
                        e.end,
                        case.about(),
                        a.made.path.display()
                    )
                }));
            }
        }
    }
    let counts = |k: usize| rows.values().filter_map(move |r| *r.1.get(k)?);
    let told = |k: usize| counts(k).sum::<u64>() as f64;
    outcome
        .figures
        .insert("freeze_live_false_short".to_owned(), told(0));
    outcome
        .figures
        .insert("freeze_live_false_default".to_owned(), told(3));
    let hours = rows.values().map(|r| r.0).sum();
    outcome
        .figures
        .insert("freeze_live_hours".to_owned(), hours);
    for (kind, (hours, counts)) in rows {
        let mut cells = vec![kind, format!("{hours:.2}")];
        let cell = |count: &Option<u64>| count.map_or("–".to_owned(), |n| n.to_string());
        cells.extend(counts.iter().map(cell));
        table.row(&cells);
    }
    table
}

#[cfg(test)]
#[path = "freeze_tests.rs"]
mod tests;

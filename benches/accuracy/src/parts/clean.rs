//! Programme without a fault: what every picture detector tells of it is false.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::form::{self, Form, GOPS, RATES};
use super::{Extent, Outcome, each};
use crate::chance::Chance;
use crate::encode::{Codec, Encoding, encode};
use crate::keep::{Bench, Made, Truth};
use crate::media;
use crate::peers::Peer;
use crate::report::Table;
use crate::score::{Span, rate_bound};
use crate::sources::{Class, Set, Source};
use crate::watch::{Ask, Watched};

/// Clips a class in a whole run. Every one is a scene of its own; none is shown twice.
const CLIPS_A_CLASS: u64 = 28;
/// Seconds of each: 26 classes make 24.3 hours.
const CLIP_SECS: f64 = 120.0;

/// A day of programme has to be made in some hours: what is cheap to make comes more often.
const CODECS: [Codec; 8] = [
    Codec::H264,
    Codec::H264,
    Codec::H264,
    Codec::H264,
    Codec::Mpeg2,
    Codec::Mpeg2,
    Codec::Hevc,
    Codec::Av1,
];
const SIZES: [(usize, usize); 16] = {
    let mut all = [(512, 288); 16];
    all[0] = (1280, 720);
    (all[1], all[2]) = ((640, 360), (640, 360));
    all
};
/// Share of clips with 50 or 60 pictures a second.
const FAST: f64 = 0.04;

const PEERS: [Peer; 3] = [
    Peer::Freeze {
        noise: 0.001,
        secs: 2.0,
    },
    Peer::Freeze {
        noise: 0.003,
        secs: 2.0,
    },
    Peer::Black { secs: 2.0 },
];

struct Case {
    source: Source,
    encoding: Encoding,
    secs: f64,
}

impl Case {
    fn recipe(&self) -> String {
        format!(
            "clean {} {:x} {} {}",
            self.source.name,
            self.source.seed,
            self.secs,
            self.encoding.recipe()
        )
    }

    fn make(&self, path: &Path) -> io::Result<Truth> {
        let (w, h, hz) = (
            self.encoding.width,
            self.encoding.height,
            self.encoding.rate_hz,
        );
        let mut shown = 0u64;
        let most = (self.secs * hz) as usize;
        let counted = |_: &crate::raw::Raw| shown += 1;
        match &self.source.media {
            Some(clip) => encode(
                media::once(clip, w, h).take(most).inspect(counted),
                &self.encoding,
                path,
            )?,
            None => encode(
                form::programme(&self.source, &self.encoding)
                    .take(most)
                    .inspect(counted),
                &self.encoding,
                path,
            )?,
        }
        Ok(Truth {
            events: Vec::new(),
            secs: shown as f64 / hz,
        })
    }
}

/// Whether it is no fault of a detector to tell of a class: such programme is the thing itself.
fn is_right(detector: &str, class: Class) -> bool {
    match detector {
        "freeze" | "freezedetect" => class.is_still(),
        "bars" | "blank" => class == Class::Bars,
        _ => false,
    }
}

fn plan(set: Set, seed: u64) -> Vec<Case> {
    let mut chance = Chance::named(seed, "clean");
    let mut cases = Vec::new();
    let draw = |chance: &mut Chance, real: bool| {
        let codec = chance.pick(&CODECS).copied().unwrap_or(Codec::H264);
        let fast = !real && chance.hit(FAST);
        let rate = RATES[if fast {
            3 + chance.below(2)
        } else {
            chance.below(3)
        }];
        let form = loop {
            let form = if real {
                Form::Plain
            } else {
                Form::ALL[chance.below(3)]
            };
            if form.fits(codec, rate) {
                break form;
            }
        };
        let high = chance.hit(0.5);
        let size = *chance.pick(&SIZES).unwrap_or(&(640, 360));
        form::encoding(
            codec,
            high,
            form,
            size,
            rate,
            GOPS[chance.below(GOPS.len())],
        )
    };
    for class in Class::GENERATED {
        for n in 0..CLIPS_A_CLASS {
            cases.push(Case {
                source: Source::generated(set, class, 200_000 + n),
                encoding: draw(&mut chance, false),
                secs: CLIP_SECS,
            });
        }
    }
    for source in Source::all(set).into_iter().filter(|s| s.media.is_some()) {
        let secs = source.media.as_ref().map_or(0.0, |clip| clip.secs);
        cases.push(Case {
            encoding: draw(&mut chance, true),
            source,
            secs,
        });
    }
    cases
}

struct Answer {
    made: Made,
    watched: Watched,
    peers: Vec<Vec<Span>>,
}

/// Runs the part, of some classes of programme only or, without, of all.
///
/// # Errors
/// None at present: what cannot be run is told and counted.
pub fn run(bench: &Bench, extent: &Extent, classes: &[Class]) -> io::Result<Outcome> {
    let known = super::known(&bench.product);
    let only: Vec<&str> = known.iter().map(String::as_str).collect();
    let ask = Ask::only(&bench.product, &only);
    let mut all = plan(extent.set, extent.seed);
    all.retain(|case| classes.is_empty() || classes.contains(&case.source.class));
    let cases = extent.take(all, "clean", |c| &c.encoding);
    let asked: &[Peer] = if extent.peers { &PEERS } else { &[] };
    let (answers, lost) = each("clean", &cases, |case| {
        let made = bench.clip(&case.recipe(), case.encoding.codec.extension(), |path| {
            case.make(path)
        })?;
        let answer = Answer {
            watched: bench.watched(&made, &ask)?,
            peers: bench.peers(&made, asked)?,
            made,
        };
        bench.done(&answer.made);
        Ok(answer)
    });
    let peers: Vec<String> = asked.iter().map(Peer::name).collect();
    let mut names = known.clone();
    names.extend(peers);
    let mut outcome = Outcome::default();
    let mut by_class: BTreeMap<Class, (f64, Vec<u64>)> = BTreeMap::new();
    let mut cpu = (0.0, 0u64);
    for (n, a) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        let row = by_class
            .entry(case.source.class)
            .or_insert_with(|| (0.0, vec![0; names.len()]));
        row.0 += a.made.secs / 3600.0;
        cpu.0 += a.watched.cpu_secs;
        cpu.1 += a.watched.pictures;
        for (k, name) in names.iter().enumerate() {
            let told = match k.checked_sub(known.len()) {
                None => a.watched.of(name, None).count(),
                Some(peer) => a.peers.get(peer).map_or(0, Vec::len),
            };
            if let Some(count) = row.1.get_mut(k) {
                *count += told as u64;
            }
        }
        for f in &a.watched.defects {
            if !is_right(&f.detector, case.source.class) {
                outcome.failures.push(format!(
                    "clean: {}/{} invented {:.2}–{:.2} s (value {:.2}) of {} ({}) in {}",
                    f.detector,
                    f.rule,
                    f.start_secs,
                    f.end_secs,
                    f.value,
                    case.source.name,
                    case.encoding.recipe(),
                    a.made.path.display()
                ));
            }
        }
    }
    let mut rates = Table::new(
        "Clean programme: false events per hour (upper bound, 95 %, exact Poisson)",
        &[
            "who",
            "false events",
            "distinct hours",
            "per hour",
            "at most per hour",
        ],
    );
    for (k, name) in names.iter().enumerate() {
        let short = name.split(' ').next().unwrap_or(name);
        let judged = by_class
            .iter()
            .filter(|(class, _)| !is_right(short, **class));
        let (hours, told) = judged.fold((0.0, 0), |(hours, told), (_, row)| {
            (hours + row.0, told + row.1.get(k).copied().unwrap_or(0))
        });
        let bound = rate_bound(told, hours);
        rates.row(&[
            name.clone(),
            told.to_string(),
            format!("{hours:.2}"),
            format!("{:.3}", told as f64 / hours.max(1e-9)),
            format!("{bound:.3}"),
        ]);
        if k < known.len() {
            outcome
                .figures
                .insert(format!("clean_{name}_false"), told as f64);
            outcome.figures.insert(format!("clean_{name}_hours"), hours);
        }
    }
    let mut heads = vec!["class", "hours"];
    heads.extend(names.iter().map(String::as_str));
    let mut classes = Table::new(
        "Clean programme by class: events told (in brackets: the class is the thing itself)",
        &heads,
    );
    for (class, (hours, counts)) in &by_class {
        let mut cells = vec![class.name().to_owned(), format!("{hours:.2}")];
        cells.extend(names.iter().zip(counts).map(|(name, n)| {
            let short = name.split(' ').next().unwrap_or(name);
            if is_right(short, *class) {
                format!("({n})")
            } else {
                n.to_string()
            }
        }));
        classes.row(&cells);
    }
    if cpu.1 > 0 {
        outcome.figures.insert(
            "clean_cpu_ms_a_picture".to_owned(),
            cpu.0 * 1e3 / cpu.1 as f64,
        );
    }
    if lost > 0 {
        outcome
            .failures
            .insert(0, format!("clean: {lost} clips could not be run"));
    }
    outcome.tables = vec![rates, classes];
    Ok(outcome)
}

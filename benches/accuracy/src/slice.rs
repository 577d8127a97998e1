//! A minute's worth of the proving ground for every run of the tests: a few short clips drawn by a seed, of kinds that
//! a product that works cannot get wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::chance::Chance;
use crate::damage::decode::Decoder;
use crate::damage::impair::{Harm, Plan, impair};
use crate::damage::truth;
use crate::damage::ts;
use crate::encode::{Codec, Encoding, encode};
use crate::paint::BLACK;
use crate::parts::form::{self, Form, GOPS};
use crate::parts::overlay::Overlay;
use crate::parts::{alive, known};
use crate::raw::Raw;
use crate::score::Span;
use crate::sources::{Class, Set, Source};
use crate::watch::{Ask, Product, Watched};

const SIZE: (usize, usize) = (640, 360);
const RATE_HZ: f64 = 25.0;
/// What moves all over, so that a freeze of it is one. Water and confetti under noise, and starved encoders, are the
/// business of the whole run, which counts shares.
const MOVING: [Class; 5] = [
    Class::Pan,
    Class::Handheld,
    Class::People,
    Class::Graphics,
    Class::Tiles,
];
/// What hardly moves and is alive.
const QUIET: [Class; 4] = [
    Class::StaticShot,
    Class::TalkingHead,
    Class::Tennis,
    Class::SlowZoom,
];
const OVERLAYS: [Overlay; 4] = [
    Overlay::Plain,
    Overlay::Clock,
    Overlay::Ticker,
    Overlay::Logo,
];
/// Damage of so much of the picture must be told.
const LARGE: f64 = 0.05;
/// A clip is damaged anew until some damage is as large.
const TRIES: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Frozen,
    Live,
    Black,
    Damaged,
}

/// One clip of the slice.
#[derive(Debug, Clone)]
pub struct Clip {
    kind: Kind,
    source: Source,
    overlay: Overlay,
    encoding: Encoding,
    /// Live seconds, seconds of the fault, live seconds.
    secs: [f64; 3],
    seed: u64,
}

/// The slice that a seed draws: four freezes, two live clips, two of black and two to be damaged.
pub fn draw(seed: u64) -> Vec<Clip> {
    let mut chance = Chance::named(seed, "slice");
    let kinds = [
        (Kind::Frozen, 4),
        (Kind::Live, 2),
        (Kind::Black, 2),
        (Kind::Damaged, 2),
    ];
    let mut clips = Vec::new();
    for (kind, count) in kinds {
        let turn = chance.below(4);
        for n in 0..count {
            let classes: &[Class] = match kind {
                Kind::Live => &QUIET,
                _ => &MOVING,
            };
            let class = chance.pick(classes).copied().unwrap_or(Class::Pan);
            let overlay = chance.pick(&OVERLAYS).copied().unwrap_or(Overlay::Plain);
            let codec = match kind {
                // AV1 has no packets to lose, and HEVC costs twice as much to make.
                Kind::Damaged if n == 0 => Codec::H264,
                Kind::Damaged => Codec::Mpeg2,
                _ => Codec::ALL[(turn + n) % 4],
            };
            // Starved encoders wipe the noise that tells a quiet shot from a still, and never let a still settle.
            let high = chance.hit(0.5) || kind == Kind::Live || codec == Codec::Mpeg2;
            let gop = GOPS[chance.below(4)];
            clips.push(Clip {
                kind,
                source: Source::generated(Set::Tune, class, 600_000 + chance.below(100_000) as u64),
                overlay: match kind {
                    Kind::Frozen | Kind::Black if !is_heavy(overlay, kind) => overlay,
                    _ => Overlay::Plain,
                },
                encoding: form::encoding(codec, high, Form::Plain, SIZE, RATE_HZ, gop),
                secs: match kind {
                    Kind::Frozen | Kind::Black => [3.0, 4.0, 2.0],
                    Kind::Live => [13.0, 0.0, 0.0],
                    Kind::Damaged => [6.0, 0.0, 0.0],
                },
                seed: chance.bits(),
            });
        }
    }
    clips
}

/// A clock or a line of text on black is no black picture.
fn is_heavy(overlay: Overlay, kind: Kind) -> bool {
    kind == Kind::Black && matches!(overlay, Overlay::Clock | Overlay::Ticker)
}

/// Makes the clips in a folder and asks the product; what is wrong is told with the clip and how to look at it.
///
/// # Errors
/// When a clip cannot be made, or the product not be run.
pub fn run(clips: &[Clip], folder: &Path, product: &Product) -> io::Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    let wrong: io::Result<Vec<Vec<String>>> = clips
        .par_iter()
        .enumerate()
        .with_max_len(1)
        .map(|(n, clip)| clip.run(n, folder, product))
        .collect();
    Ok(wrong?.into_iter().flatten().collect())
}

impl Clip {
    fn run(&self, n: usize, folder: &Path, product: &Product) -> io::Result<Vec<String>> {
        let path = folder.join(format!("{n:02}.{}", self.encoding.codec.extension()));
        match (self.kind, self.source.class) {
            (Kind::Live, Class::StaticShot) => {
                alive::make(&path, &self.encoding, |encoding| self.make(&path, encoding))?
            }
            _ => self.make(&path, &self.encoding)?,
        }
        let secs: f64 = self.secs.iter().sum();
        let judges = known(product);
        let names: Vec<&str> = judges.iter().map(String::as_str).collect();
        let ask = Ask::only(product, &names);
        let watched = product.watch(&path, secs, &ask)?;
        let fault = Span {
            start: self.secs[0],
            end: self.secs[0] + self.secs[1],
        };
        let mut wrong = match self.kind {
            Kind::Frozen => missed(&watched, "freeze", fault),
            Kind::Black => missed(&watched, "black", fault),
            Kind::Live => None,
            Kind::Damaged => return self.damaged(&path, &watched, product, &ask),
        }
        .map(|why| self.told(&path, &why))
        .into_iter()
        .collect::<Vec<String>>();
        // A frozen picture of black is told as either.
        let pages = watched.defects.iter().filter(|d| {
            d.severity == "critical" && d.span().shared(&fault) <= 0.0 && self.kind != Kind::Damaged
        });
        wrong.extend(pages.map(|d| {
            let why = format!("paged {}/{} at {:.2} s", d.detector, d.rule, d.start_secs);
            self.told(&path, &why)
        }));
        Ok(wrong)
    }

    fn told(&self, path: &Path, why: &str) -> String {
        format!(
            "{:?}, {} with {} as {}: {why}; look: ffplay {path}; glasswatch analyze {path}",
            self.kind,
            self.source.name,
            self.overlay.name(),
            self.encoding.recipe(),
            path = path.display()
        )
    }

    fn make(&self, path: &Path, encoding: &Encoding) -> io::Result<()> {
        let (width, height) = SIZE;
        let count = |secs: f64| (secs * RATE_HZ).round() as usize;
        let [before, fault, after] = self.secs.map(count);
        let mut programme = self.source.open(width, height, RATE_HZ);
        let mut put = self.overlay.painter(self.seed, width, height);
        let (mut shown, mut last) = (0, Raw::flat(width, height, BLACK));
        let pictures = std::iter::from_fn(|| {
            if shown >= before + fault + after {
                return None;
            }
            let during = (before..before + fault).contains(&shown);
            let mut raw = match (during, self.kind) {
                (true, Kind::Black) => Raw::flat(width, height, BLACK),
                (true, _) => last.clone(),
                (false, _) => {
                    last = programme.next()?;
                    last.clone()
                }
            };
            put(&mut raw, shown as f64 / RATE_HZ);
            shown += 1;
            Some(raw)
        });
        encode(pictures, encoding, path)
    }

    /// The intact clip must be silent, the damaged one must be told where much of the picture is damaged.
    fn damaged(
        &self,
        intact: &Path,
        watched: &Watched,
        product: &Product,
        ask: &Ask,
    ) -> io::Result<Vec<String>> {
        let mut wrong: Vec<String> = watched
            .of("block_damage", None)
            .map(|d| format!("intact, but {} at {:.2} s", d.rule, d.start_secs))
            .map(|why| self.told(intact, &why))
            .collect();
        let bytes = fs::read(intact)?;
        let packets = ts::packets(&bytes);
        let syntax = match self.encoding.codec {
            Codec::Mpeg2 => ts::Syntax::Mpeg2,
            _ => ts::Syntax::H264,
        };
        let origin = ts::first_pts(&packets).map(|pts| pts as f64 / ts::HZ as f64);
        for seed in 0..TRIES {
            let plan = Plan {
                harm: Harm::Packets(3e-3),
                hidden: false,
                seed: self.seed.wrapping_add(seed),
            };
            let Some(harmed) = impair(&packets, syntax, plan) else {
                continue;
            };
            let path = intact.with_extension("damaged.ts");
            fs::write(&path, harmed.as_flattened())?;
            let open = |clip: &PathBuf| Decoder::open(clip, self.encoding.codec, "", SIZE);
            let (mut a, mut b) = (open(&intact.to_owned())?, open(&path)?);
            let truth = truth::compare(&mut || a.picture(), &mut || b.picture(), None, origin)?;
            let events = truth.events(LARGE);
            let Some(large) = events
                .iter()
                .max_by(|a, b| a.span.len().total_cmp(&b.span.len()))
            else {
                continue;
            };
            let watched = product.watch(&path, truth.shown_secs() * 0.6, ask)?;
            let near = Span {
                start: large.span.start - 0.2,
                end: large.span.end + 0.2,
            };
            if let Some(why) = missed(&watched, "block_damage", near) {
                wrong.push(self.told(&path, &why));
            }
            return Ok(wrong);
        }
        Err(io::Error::other(format!(
            "nothing could be damaged in {}",
            intact.display()
        )))
    }
}

/// Why a fault counts as missed; `None` when it was told.
fn missed(watched: &Watched, detector: &str, fault: Span) -> Option<String> {
    let told = watched
        .of(detector, None)
        .any(|d| d.start_secs < fault.end && d.end_secs >= fault.start);
    (!told).then(|| {
        format!(
            "no {detector} at {:.2}–{:.2} s, only {:?}",
            fault.start, fault.end, watched.defects
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_slice_and_another_another() {
        let text = |seed| format!("{:?}", draw(seed));
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        let clips = draw(3);
        let count = |kind| clips.iter().filter(|c| c.kind == kind).count();
        assert_eq!(
            [Kind::Frozen, Kind::Live, Kind::Black, Kind::Damaged].map(count),
            [4, 2, 2, 2]
        );
        // All four codecs have a freeze.
        let mut codecs: Vec<Codec> = clips
            .iter()
            .filter(|c| c.kind == Kind::Frozen)
            .map(|c| c.encoding.codec)
            .collect();
        codecs.sort_unstable();
        codecs.dedup();
        assert_eq!(codecs, Codec::ALL);
    }
}

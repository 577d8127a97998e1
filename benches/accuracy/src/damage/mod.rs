//! Corruption: clips are damaged in known ways, the product is run over them, and what it says is held against what
//! is truly damaged.
//!
//! Three populations. **A**: packets are lost or bytes wrong, and the transport shows it. **B**: the same with
//! counters written anew, lost slices, key frames and ends of segments; only the bitstream shows it. **C**: as A,
//! but decoded, cropped or scaled, and encoded again; only pixels show it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rayon::prelude::*;
use serde_json::Value;

use crate::chance::Chance;
use crate::encode::{Codec, Encoding, encode};
use crate::sources::{Set, Source};
use crate::watch::{Ask, Product, Watched};

pub mod decode;
pub mod impair;
pub mod matrix;
pub mod recode;
pub mod tally;
pub mod truth;
pub mod ts;
pub mod upstream;
pub mod vandal;

use decode::{Decoder, input_options};
use impair::{Harm, Plan};
use matrix::{Base, Case, Population};
use tally::{Evaluated, Failure, Tally};
use truth::Truth;

/// Of the way clips and truths are made: kept ones of another version are made anew.
const VERSION: u32 = 1;

/// How much of what one decoder shows of a damaged stream another must show at least.
const SEEN: f64 = 0.6;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sources.
    pub set: Set,
    /// Codecs, and how many clips of each.
    pub codecs: Vec<(Codec, usize)>,
    /// Only pictures of 360 rows.
    pub small: bool,
    /// Damages of each clip in each population.
    pub cases: usize,
    /// Length of a clip, seconds.
    pub secs: f64,
    /// Of everything random.
    pub seed: u64,
    /// Where clips and answers are kept.
    pub work: PathBuf,
    /// Whether FFmpeg's `blockdetect` runs too.
    pub peers: bool,
}

/// A failure and where it happened.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The clip that was watched.
    pub clip: PathBuf,
    /// What it is.
    pub about: String,
    /// What went wrong.
    pub failure: Failure,
}

/// All counts, by cell.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By population and codec, harm, way of coding, bit rate.
    pub cells: BTreeMap<String, Tally>,
    /// What went wrong.
    pub failures: Vec<Failed>,
    /// Clips that could not be made or watched, and why.
    pub broken: Vec<String>,
    /// Intact clips that were counted: their hours count once.
    counted: HashSet<PathBuf>,
}

impl Outcome {
    fn add(&mut self, seen: &Seen) {
        if seen.truth.is_none() && !self.counted.insert(seen.clip.clone()) {
            return;
        }
        let mut failures = Vec::new();
        for cell in &seen.cells {
            let tally = self.cells.entry(cell.clone()).or_default();
            failures = match &seen.truth {
                Some(truth) => tally.add(&Evaluated {
                    truth,
                    watched: &seen.watched,
                    twin: &seen.twin,
                    peer: seen.peer.as_deref(),
                    against_twin: seen.population == Population::C,
                }),
                None => tally.add_intact(&seen.watched),
            };
        }
        self.failures
            .extend(failures.into_iter().map(|failure| Failed {
                clip: seen.clip.clone(),
                about: seen.about.clone(),
                failure,
            }));
    }
}

/// One clip that was watched.
struct Seen {
    clip: PathBuf,
    about: String,
    cells: Vec<String>,
    /// Of a damaged clip.
    truth: Option<Truth>,
    watched: Watched,
    twin: Watched,
    peer: Option<Vec<(f64, f64)>>,
    population: Population,
}

/// Makes, watches and counts. What exists is not made again, so that a run that was stopped goes on.
///
/// # Errors
/// When nothing can be written to the folder of work.
pub fn run(product: &Product, options: &Options) -> io::Result<Outcome> {
    fs::create_dir_all(&options.work)?;
    let sources = Source::all(options.set);
    let mut bases: Vec<Base> = Vec::new();
    for &(codec, count) in &options.codecs {
        bases.extend(matrix::bases(
            codec,
            sources.len(),
            count,
            options.small,
            options.seed,
        ));
    }
    let (began, done) = (Instant::now(), AtomicUsize::new(0));
    let seen: Vec<Vec<Result<Seen, String>>> = bases
        .par_iter()
        // One by one: clips differ much in what they cost.
        .with_max_len(1)
        .map(|base| {
            let seen = match sources.get(base.source) {
                Some(source) => Bench {
                    product,
                    options,
                    base,
                    source,
                }
                .all(),
                None => Vec::new(),
            };
            let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
            let secs = began.elapsed().as_secs_f64();
            eprintln!("damage: {so_far} of {} clips, {secs:.0} s", bases.len());
            seen
        })
        .collect();
    let mut outcome = Outcome::default();
    for seen in seen.into_iter().flatten() {
        match seen {
            Ok(seen) => outcome.add(&seen),
            Err(why) => outcome.broken.push(why),
        }
    }
    Ok(outcome)
}

/// One clip and all that is done to it.
struct Bench<'a> {
    product: &'a Product,
    options: &'a Options,
    base: &'a Base,
    source: &'a Source,
}

/// An intact clip and what was said of it.
struct Twin {
    clip: PathBuf,
    watched: Watched,
}

impl Bench<'_> {
    fn all(&self) -> Vec<Result<Seen, String>> {
        let folder = self.folder();
        let told = |e: io::Error| format!("{}: {e}", folder.display());
        let mut seen = Vec::new();
        let twin = match self.intact(&folder) {
            Ok(twin) => twin,
            Err(e) => return vec![Err(told(e))],
        };
        seen.push(Ok(self.seen(
            None,
            twin.clip.clone(),
            None,
            twin.watched.clone(),
            &twin,
        )));
        for (n, case) in matrix::cases(self.base, self.options.cases)
            .into_iter()
            .enumerate()
        {
            match self.case(&folder, &twin, &case) {
                Ok(mut all) => {
                    // One clip of each population is enough for a peer that costs as much as all the rest.
                    if self.options.peers && n < 3 {
                        for seen in all.iter_mut().filter(|s| s.truth.is_some()) {
                            let codec = match case.recode {
                                Some(_) => Codec::H264,
                                None => self.base.encoding.codec,
                            };
                            seen.peer = blockdetect(&seen.clip, codec).ok();
                        }
                    }
                    seen.extend(all.into_iter().map(Ok));
                }
                Err(e) => seen.push(Err(format!("{}: {}", case.label(), told(e)))),
            }
        }
        seen
    }

    fn folder(&self) -> PathBuf {
        let recipe = format!(
            "{VERSION} {} {} {} {}",
            self.source.name,
            self.base.encoding.recipe(),
            self.options.secs,
            self.options.seed
        );
        let key = Chance::named(0, &recipe).bits();
        let codec = self.base.encoding.codec.name();
        self.options
            .work
            .join(format!("{codec}-{}-{key:016x}", self.source.name))
    }

    /// Cells that a clip counts in.
    fn cells(&self, case: Option<&Case>) -> Vec<String> {
        let Encoding {
            codec,
            height,
            bitrate_kbps,
            ..
        } = self.base.encoding;
        let population = match case {
            None => return vec![format!("intact {}", codec.name()), "intact".to_owned()],
            Some(case) => case.population.name(),
        };
        let mut cells = vec![
            population.to_owned(),
            format!("{population} {}", codec.name()),
        ];
        if let Some(case) = case {
            if case.population != Population::C {
                cells.push("A+B".to_owned());
                cells.push(format!("A+B {}", codec.name()));
            }
            cells.push(format!("{population} harm {}", case.harm.name()));
            cells.push(format!("{population} {height}p {bitrate_kbps}k"));
            cells.extend(
                case.recode
                    .map(|r| format!("{population} shape {}", r.shape.name())),
            );
        }
        cells.extend(
            self.base
                .ways
                .iter()
                .map(|way| format!("{population} {way}")),
        );
        cells
    }

    fn seen(
        &self,
        case: Option<&Case>,
        clip: PathBuf,
        truth: Option<Truth>,
        watched: Watched,
        twin: &Twin,
    ) -> Seen {
        let label = case.map_or("intact".to_owned(), Case::label);
        Seen {
            about: format!(
                "{label} {} {}",
                self.base.encoding.recipe(),
                self.source.name
            ),
            cells: self.cells(case),
            truth,
            watched,
            twin: twin.watched.clone(),
            peer: None,
            population: case.map_or(Population::A, |c| c.population),
            clip,
        }
    }

    fn intact(&self, folder: &Path) -> io::Result<Twin> {
        fs::create_dir_all(folder)?;
        let encoding = &self.base.encoding;
        let clip = folder.join(format!("intact.{}", encoding.codec.extension()));
        if !clip.exists() {
            let count = (self.options.secs * encoding.rate_hz).round() as usize;
            let frames = self
                .source
                .open(encoding.width, encoding.height, encoding.rate_hz);
            encode(frames.take(count), encoding, &clip)?;
        }
        let watched = self.watch(&clip, self.options.secs)?;
        Ok(Twin { clip, watched })
    }

    /// What the product says of a clip with pictures for so many seconds; kept beside the clip.
    fn watch(&self, clip: &Path, clip_secs: f64) -> io::Result<Watched> {
        let hash: String = self.product.hash.chars().take(12).collect();
        let kept = clip.with_extension(format!("{hash}.json"));
        if let Some(watched) = read_json(&kept).as_ref().and_then(Watched::from_json)
            && watched.covers(clip_secs)
        {
            return Ok(watched);
        }
        // Graded, also where it raises nothing.
        let mut ask = Ask::only(self.product, &[tally::DETECTOR])
            .set("detectors.block_damage.lone_log_odds", "99");
        ask.signals.push(tally::SIGNAL.to_owned());
        ask.signals.push(tally::LONE_SIGNAL.to_owned());
        let watched = self.product.watch(clip, clip_secs, &ask)?;
        write_whole(&kept, watched.to_json().to_string().as_bytes())?;
        Ok(watched)
    }

    /// One damage: the damaged clip, and in population C its intact twin too. None when there was nothing to damage.
    fn case(&self, folder: &Path, intact: &Twin, case: &Case) -> io::Result<Vec<Seen>> {
        let encoding = &self.base.encoding;
        let Some(damaged) = self.damaged(folder, &intact.clip, case)? else {
            return Ok(Vec::new());
        };
        let size = (encoding.width, encoding.height);
        let origin = match encoding.codec {
            Codec::Av1 => None,
            _ => origin_secs(&intact.clip)?,
        };
        let first = kept_truth(&damaged, || {
            let mut a = Decoder::open(&intact.clip, encoding.codec, "", size)?;
            let mut b = Decoder::open(&damaged, encoding.codec, "", size)?;
            truth::compare(&mut || a.picture(), &mut || b.picture(), None, origin)
        })?;
        let Some(recode) = case.recode else {
            let watched = self.watch(&damaged, SEEN * first.shown_secs())?;
            return Ok(vec![self.seen(
                Some(case),
                damaged,
                Some(first),
                watched,
                intact,
            )]);
        };
        let origin = origin.unwrap_or(0.0);
        let again = |clip: &Path| -> io::Result<PathBuf> {
            let stem = clip.file_stem().unwrap_or_default().to_string_lossy();
            let to = clip.with_file_name(format!("{stem}+{}.ts", recode.label()));
            if !to.exists() {
                recode.run(encoding, clip, origin, &to)?;
            }
            Ok(to)
        };
        let (twin, damaged) = (again(&intact.clip)?, again(&damaged)?);
        let truth = kept_truth(&damaged, || {
            let size = recode.shape.size(size);
            let filters = recode.filters(encoding, origin);
            let mut a = Decoder::open(&twin, Codec::H264, "", size)?;
            let mut b = Decoder::open(&damaged, Codec::H264, "", size)?;
            let mut clean = Decoder::open(&intact.clip, encoding.codec, &filters, size)?;
            let mut truth = truth::compare(
                &mut || a.picture(),
                &mut || b.picture(),
                Some(&mut || clean.picture()),
                origin_secs(&twin)?,
            )?;
            truth.mark_repeats(&first);
            Ok(truth)
        })?;
        let twin = Twin {
            watched: self.watch(&twin, self.options.secs)?,
            clip: twin,
        };
        let watched = self.watch(&damaged, self.options.secs)?;
        let mut of_twin = self.seen(None, twin.clip.clone(), None, twin.watched.clone(), &twin);
        of_twin.cells = vec!["C".to_owned(), format!("C {}", encoding.codec.name())];
        Ok(vec![
            of_twin,
            self.seen(Some(case), damaged, Some(truth), watched, &twin),
        ])
    }

    /// The damaged clip, before anything that follows; `None` when there was nothing to damage.
    fn damaged(&self, folder: &Path, intact: &Path, case: &Case) -> io::Result<Option<PathBuf>> {
        let codec = self.base.encoding.codec;
        let hidden = case.population == Population::B;
        let name = format!(
            "{}-{}.{}",
            if hidden { "hidden" } else { "open" },
            case.harm.label(),
            codec.extension()
        );
        let to = folder.join(name);
        if to.exists() {
            return Ok(Some(to));
        }
        let bytes = fs::read(intact)?;
        let seed = self.options.seed.wrapping_add(self.base.row);
        let syntax = match codec {
            Codec::H264 => ts::Syntax::H264,
            Codec::Hevc => ts::Syntax::Hevc,
            Codec::Mpeg2 => ts::Syntax::Mpeg2,
            Codec::Av1 => {
                let (zeros, chance) = match case.harm {
                    Harm::Packets(p) => (true, p),
                    Harm::Flips(p) => (false, p),
                    _ => (false, 1e-3),
                };
                let Some(harmed) = impair::impair_fragments(&bytes, zeros, chance, seed) else {
                    return Ok(None);
                };
                write_whole(&to, &harmed)?;
                return Ok(Some(to));
            }
        };
        let plan = Plan {
            harm: case.harm,
            hidden,
            seed,
        };
        let Some(packets) = impair::impair(&ts::packets(&bytes), syntax, plan) else {
            return Ok(None);
        };
        write_whole(&to, packets.as_flattened())?;
        Ok(Some(to))
    }
}

/// What the product's media clock of a transport stream counts from.
fn origin_secs(clip: &Path) -> io::Result<Option<f64>> {
    let first = ts::first_pts(&ts::packets(&fs::read(clip)?));
    Ok(first.map(|pts| pts as f64 / ts::HZ as f64))
}

fn kept_truth(clip: &Path, make: impl FnOnce() -> io::Result<Truth>) -> io::Result<Truth> {
    let kept = clip.with_extension("truth.json");
    if let Some(truth) = read_json(&kept).as_ref().and_then(Truth::from_json) {
        return Ok(truth);
    }
    let truth = make()?;
    write_whole(&kept, truth.to_json().to_string().as_bytes())?;
    Ok(truth)
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The file appears only when it is whole.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::write(&part, bytes)?;
    fs::rename(part, path)
}

/// FFmpeg's `blockdetect` over a clip: seconds from the first picture, and its value. Kept beside the clip.
fn blockdetect(clip: &Path, codec: Codec) -> io::Result<Vec<(f64, f64)>> {
    let kept = clip.with_extension("blocks.txt");
    if !kept.exists() {
        let said = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "fatal", "-threads", "1"])
            .args(input_options(codec))
            .arg("-i")
            .arg(clip)
            .args([
                "-vf",
                "blockdetect,metadata=print:file=-",
                "-f",
                "null",
                "-",
            ])
            .stdin(Stdio::null())
            .output()?;
        write_whole(&kept, &said.stdout)?;
    }
    let mut all = Vec::new();
    let mut at = None;
    for line in fs::read_to_string(&kept)?.lines() {
        if let Some((_, time)) = line.split_once("pts_time:") {
            at = time.trim().parse::<f64>().ok();
        } else if let (Some(at), Some((_, value))) = (at, line.split_once("lavfi.block=")) {
            all.extend(value.trim().parse().ok().map(|value| (at, value)));
        }
    }
    Ok(all)
}

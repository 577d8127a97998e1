//! The command of the proving ground: `benches/accuracy/run`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use accuracy::encode::Codec;
use accuracy::keep::Bench;
use accuracy::parts::{
    Extent, Outcome, black, clean, cost, damage, freeze, patterns, rungs, stutter, sync,
};
use accuracy::raw::Raw;
use accuracy::report::{self, Run};
use accuracy::sources::{Class, Set, Source};
use accuracy::watch::Product;
use clap::{Parser, ValueEnum};

/// Makes clips of known truth, runs the product and its peers over them, and counts.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  benches/accuracy/run --part freeze --slice 20      some minutes
  benches/accuracy/run --part damage --slice 4 --codecs hevc,av1
  benches/accuracy/run --set validate --publish      all of one set, into its section of RESULTS.md
  benches/accuracy/run --set sealed                  to report: RESULTS.md is written anew, the run is logged

Clips and answers are kept in target/accuracy, so a run that was stopped goes on where it was.")]
struct Args {
    /// Sources: `tune` to choose thresholds on, `validate` to look at, `sealed` only to report
    #[arg(long, value_enum, default_value_t = SetArg::Tune)]
    set: SetArg,
    /// Only these parts
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
    /// At most this many clips a part, drawn by the seed; of `damage` this many before damage
    #[arg(long, value_name = "N")]
    slice: Option<usize>,
    /// Of the part `damage` only these codecs
    #[arg(long, value_enum, value_delimiter = ',')]
    codecs: Vec<CodecArg>,
    /// Of the part `clean` only these classes of programme, as RESULTS.md names them
    #[arg(long, value_delimiter = ',', value_parser = class)]
    classes: Vec<Class>,
    /// Only pictures of at most 360 rows: a quick look
    #[arg(long)]
    small: bool,
    /// Leave FFmpeg's own detectors out
    #[arg(long)]
    no_peers: bool,
    /// Decides which sources meet which factors, and what is in a slice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The product
    #[arg(long, value_name = "FILE", default_value = "target/demo/glasswatch")]
    binary: PathBuf,
    /// Clips and answers
    #[arg(long, value_name = "FOLDER", default_value = "target/accuracy")]
    keep: PathBuf,
    /// Delete clips as soon as all was asked about them: needs little disk, but the next binary needs new clips
    #[arg(long)]
    drop_clips: bool,
    /// Clips at a time [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0)]
    jobs: usize,
    /// Write what was measured into RESULTS.md and results.json; the sealed set always is
    #[arg(long)]
    publish: bool,
    /// Failures printed a part
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures: usize,
    /// Instead of running: write one picture a source of the set to this folder, as PPM
    #[arg(long, value_name = "FOLDER")]
    look: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SetArg {
    Tune,
    Validate,
    Sealed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CodecArg {
    H264,
    Hevc,
    Mpeg2,
    Av1,
}

impl From<CodecArg> for Codec {
    fn from(given: CodecArg) -> Self {
        match given {
            CodecArg::H264 => Codec::H264,
            CodecArg::Hevc => Codec::Hevc,
            CodecArg::Mpeg2 => Codec::Mpeg2,
            CodecArg::Av1 => Codec::Av1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Freeze,
    Damage,
    Stutter,
    Black,
    Patterns,
    Clean,
    Cost,
    Sync,
    Rungs,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Freeze => "freeze",
            Part::Damage => "damage",
            Part::Stutter => "stutter",
            Part::Black => "black",
            Part::Patterns => "patterns",
            Part::Clean => "clean",
            Part::Cost => "cost",
            Part::Sync => "sync",
            Part::Rungs => "rungs",
        }
    }

    fn run(self, bench: &Bench, extent: &Extent, only: &Only) -> io::Result<Outcome> {
        match self {
            Part::Freeze => freeze::run(bench, extent),
            Part::Damage => damage::run(bench, extent, &only.codecs),
            Part::Stutter => stutter::run(bench, extent),
            Part::Black => black::run(bench, extent),
            Part::Patterns => patterns::run(bench, extent),
            Part::Clean => clean::run(bench, extent, &only.classes),
            Part::Cost => cost::run(bench, extent),
            Part::Sync => sync::run(bench, extent),
            Part::Rungs => rungs::run(bench, extent),
        }
    }
}

/// What a part is narrowed to; empty lists for all.
struct Only {
    codecs: Vec<Codec>,
    classes: Vec<Class>,
}

fn class(given: &str) -> Result<Class, String> {
    (Class::GENERATED.into_iter().chain([Class::Natural]))
        .find(|class| class.name() == given)
        .ok_or_else(|| format!("there is no class {given}"))
}

fn main() -> ExitCode {
    match work(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("accuracy: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn work(args: Args) -> io::Result<()> {
    let set = match args.set {
        SetArg::Tune => Set::Tune,
        SetArg::Validate => Set::Validate,
        SetArg::Sealed => Set::Sealed,
    };
    if let Some(folder) = &args.look {
        return look(set, folder);
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs)
        .build_global()
        .map_err(io::Error::other)?;
    let bench = Bench {
        folder: args.keep.clone(),
        product: Product::new(&args.binary)?,
        drop_clips: args.drop_clips,
    };
    let extent = Extent {
        set,
        seed: args.seed,
        slice: args.slice,
        small: args.small,
        peers: !args.no_peers,
    };
    let parts = if args.parts.is_empty() {
        Part::value_variants().to_vec()
    } else {
        args.parts
    };
    let only = Only {
        codecs: args.codecs.iter().map(|c| (*c).into()).collect(),
        classes: args.classes,
    };
    let mut outcomes = Vec::new();
    for part in parts {
        let began = Instant::now();
        let mut outcome = part.run(&bench, &extent, &only)?;
        let secs = began.elapsed().as_secs_f64();
        let figure = format!("{}_run_secs", part.name());
        outcome.figures.insert(figure, secs.round());
        outcomes.push((part.name(), outcome));
    }
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let run = Run::now(extent, &bench.product.hash, &here);
    let json = report::as_json(&run, &outcomes);
    println!("{}", report::as_markdown(set.name(), &json));
    for (_, outcome) in &outcomes {
        for failure in outcome.failures.iter().take(args.failures) {
            println!("{failure}");
        }
    }
    fs::create_dir_all(&args.keep)?;
    let json = serde_json::Value::Object(json).to_string();
    fs::write(args.keep.join(format!("{}.json", set.name())), json)?;
    let failures: Vec<&str> = (outcomes.iter())
        .flat_map(|(_, outcome)| outcome.failures.iter().map(String::as_str))
        .collect();
    let list = args.keep.join(format!("{}.failures", set.name()));
    fs::write(list, failures.join("\n") + "\n")?;
    if set == Set::Sealed || (set == Set::Validate && args.publish) {
        report::publish(&here, &run, &outcomes)?;
    }
    Ok(())
}

/// One picture of every source, a second and a half into it.
fn look(set: Set, folder: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for source in Source::all(set) {
        let Some(raw) = source.open(640, 360, 25.0).nth(37) else {
            eprintln!("{}: no pictures", source.name);
            continue;
        };
        let path = folder.join(format!("{}.ppm", source.name));
        fs::write(path, ppm(&raw))?;
    }
    Ok(())
}

/// A picture in colour as PPM (BT.709, limited range).
fn ppm(raw: &Raw) -> Vec<u8> {
    let mut out = format!("P6 {} {} 255\n", raw.width, raw.height).into_bytes();
    for y in 0..raw.height {
        for x in 0..raw.width {
            let at = y / 2 * (raw.width / 2) + x / 2;
            let of = |plane: &[u8], at: usize| f64::from(plane.get(at).copied().unwrap_or(128));
            let luma = (of(&raw.y, y * raw.width + x) - 16.0) * 255.0 / 219.0;
            let (u, v) = (of(&raw.u, at) - 128.0, of(&raw.v, at) - 128.0);
            for value in [
                luma + 1.793 * v,
                luma - 0.213 * u - 0.533 * v,
                luma + 2.112 * u,
            ] {
                out.push(value.clamp(0.0, 255.0) as u8);
            }
        }
    }
    out
}

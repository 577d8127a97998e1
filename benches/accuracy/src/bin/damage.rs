//! The corruption part of the proving ground on its own: makes, damages, watches and counts.

use std::fs;
use std::io;
use std::path::PathBuf;

use accuracy::damage::{Options, run};
use accuracy::encode::Codec;
use accuracy::sources::Set;
use accuracy::watch::Product;
use clap::{Parser, ValueEnum};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sources {
    Tune,
    Validate,
    /// Only to report.
    Sealed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Coded {
    H264,
    Hevc,
    Mpeg2,
    Av1,
}

/// Damages clips in known ways and counts what the product says of them.
#[derive(Debug, Parser)]
struct Arguments {
    /// The product.
    #[arg(long, default_value = "target/debug/glasswatch")]
    product: PathBuf,
    /// Which sources.
    #[arg(long, value_enum, default_value = "tune")]
    set: Sources,
    /// Codecs.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "h264,hevc,mpeg2,av1"
    )]
    codecs: Vec<Coded>,
    /// Clips of each codec.
    #[arg(long, default_value_t = 8)]
    clips: usize,
    /// Damages of each clip in each population.
    #[arg(long, default_value_t = 2)]
    damages: usize,
    /// Length of a clip.
    #[arg(long, default_value_t = 8.0)]
    secs: f64,
    /// Of everything random.
    #[arg(long, default_value_t = 4)]
    seed: u64,
    /// Where clips, truths and answers are kept.
    #[arg(long, default_value = "target/accuracy/damage")]
    work: PathBuf,
    /// Runs FFmpeg's `blockdetect` too.
    #[arg(long)]
    peers: bool,
}

fn main() -> io::Result<()> {
    let given = Arguments::parse();
    let product = Product::new(&given.product)?;
    let options = Options {
        set: match given.set {
            Sources::Tune => Set::Tune,
            Sources::Validate => Set::Validate,
            Sources::Sealed => Set::Sealed,
        },
        codecs: (given.codecs.iter())
            .map(|c| match c {
                Coded::H264 => Codec::H264,
                Coded::Hevc => Codec::Hevc,
                Coded::Mpeg2 => Codec::Mpeg2,
                Coded::Av1 => Codec::Av1,
            })
            .collect(),
        bases: given.clips,
        cases: given.damages,
        secs: given.secs,
        seed: given.seed,
        work: given.work,
        peers: given.peers,
    };
    let outcome = run(&product, &options)?;
    let name = options.set.name();
    let text = outcome.to_markdown();
    fs::write(
        options.work.join(format!("{name}.json")),
        outcome.to_json().to_string(),
    )?;
    fs::write(options.work.join(format!("{name}.md")), &text)?;
    fs::write(
        options.work.join(format!("{name}.failures")),
        outcome.failures_text(),
    )?;
    print!("{text}");
    Ok(())
}

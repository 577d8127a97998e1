//! Upstream damage while developing: what the net learns from, and quick figures.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use accuracy::damage::tally::Tally;
use accuracy::damage::upstream;
use accuracy::sources::Set;
use clap::{Parser, ValueEnum};
use rayon::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Sources {
    Tune,
    Validate,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// Writes records of suspicious moments.
    Learn,
    /// Counts what the detector says.
    Score,
    /// Measures what it costs.
    Cost,
}

/// Clips of upstream damage, and the detector's own code over them.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to do.
    #[arg(value_enum)]
    what: What,
    /// Which sources.
    #[arg(long, value_enum, default_value = "tune")]
    set: Sources,
    /// First clip of the matrix.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// One past the last.
    #[arg(long, default_value_t = 24)]
    to: usize,
    /// Clean clips beside: first, and one past the last.
    #[arg(long, num_args = 2, default_values_t = [0, 0])]
    clean: Vec<usize>,
    /// Damages of each clean clip, to learn from.
    #[arg(long, default_value_t = 2)]
    harms: usize,
    /// Length of a clean clip, seconds.
    #[arg(long, default_value_t = 20.0)]
    clean_secs: f64,
    /// Length of a clip, seconds.
    #[arg(long, default_value_t = 7.0)]
    secs: f64,
    /// Of everything random.
    #[arg(long, default_value_t = 4)]
    seed: u64,
    /// Where clips and truths are kept.
    #[arg(long, default_value = "target/accuracy/upstream")]
    work: PathBuf,
    /// Where records are written.
    #[arg(long, default_value = "target/train/tune.bin")]
    records: PathBuf,
}

fn main() -> io::Result<()> {
    let given = Arguments::parse();
    fs::create_dir_all(&given.work)?;
    let set = match given.set {
        Sources::Tune => Set::Tune,
        Sources::Validate => Set::Validate,
    };
    let bases = upstream::bases(set, given.from, given.to, given.seed);
    let clean = match given.clean.as_slice() {
        &[from, to] => from..to,
        _ => 0..0,
    };
    if given.what == What::Cost {
        let [gate, patch, net] = upstream::cost()?;
        println!("gate {gate:.3} ms a picture; patch {patch:.3} ms, net {net:.3} ms a place");
        return Ok(());
    }
    if given.what == What::Learn {
        return learn(&given, set, &bases, clean);
    }
    let tallies: Mutex<BTreeMap<String, Tally>> = Mutex::default();
    let count = |name: &str, add: &mut dyn FnMut(&mut Tally) -> Vec<_>| {
        if let Ok(mut tallies) = tallies.lock() {
            add(tallies.entry(name.to_owned()).or_default());
        }
    };
    bases.par_iter().for_each(
        |base| match upstream::score(base, &given.work, given.secs, count) {
            Ok(told) => told.iter().for_each(|line| println!("{line}")),
            Err(e) => println!("broken {}: {e}", base.about()),
        },
    );
    clean.into_par_iter().for_each(|n| {
        let judged = upstream::clean(set, n, &given.work, given.clean_secs)
            .and_then(|(clip, class, _)| Ok((upstream::judge(&clip)?, clip, class)));
        match judged {
            Ok((watched, clip, class)) => {
                for name in ["clean".to_owned(), format!("clean {}", class.name())] {
                    count(&name, &mut |tally| {
                        for f in tally.add_intact(&watched) {
                            if name == "clean" {
                                println!("{f:?} {}", clip.path.display());
                            }
                        }
                        Vec::new()
                    });
                }
            }
            Err(e) => println!("broken clean {n}: {e}"),
        }
    });
    print!("{}", Tally::head());
    for (name, tally) in tallies.into_inner().unwrap_or_default() {
        print!("{}", tally.row(&name));
    }
    Ok(())
}

fn learn(
    given: &Arguments,
    set: Set,
    bases: &[upstream::Base],
    clean: std::ops::Range<usize>,
) -> io::Result<()> {
    let out = Mutex::new(());
    let tell = |lesson: &upstream::Lesson, about: &str, kind: usize| -> io::Result<()> {
        let _turn = out.lock();
        let (seen, events) = (lesson.seen, lesson.events);
        println!(
            "{kind} gate {}/{} events {}/{} labels {:?} {about}",
            seen.1, seen.0, events.1, events.0, lesson.labels
        );
        upstream::append(&given.records, &lesson.bytes)
    };
    bases.par_iter().enumerate().for_each(|(n, base)| {
        let number = (given.from + n) as u32;
        let done = base.clips(&given.work, given.secs).and_then(|clips| {
            for (kind, clip) in clips.iter().enumerate() {
                let lesson = upstream::lesson(clip, number, kind.min(2) as u32, None)?;
                tell(&lesson, &base.about(), kind.min(2))?;
            }
            Ok(())
        });
        if let Err(e) = done {
            println!("broken {}: {e}", base.about());
        }
    });
    clean.into_par_iter().for_each(|n| {
        let done = upstream::clean(set, n, &given.work, given.clean_secs).and_then(
            |(clip, class, encoding)| {
                let number = 100_000 + n as u32;
                for again in 0..given.harms {
                    let seed = n * given.harms + again;
                    if let Some(harmed) = upstream::harmed(&clip, &encoding, seed)? {
                        let lesson = upstream::lesson(&harmed, number, 2, None)?;
                        fs::remove_file(&harmed.path)?;
                        tell(&lesson, class.name(), 2)?;
                    }
                }
                for (kind, seed) in [(3, None), (4, Some(n as u64)), (4, Some(!(n as u64)))] {
                    let lesson = upstream::lesson(&clip, number, kind, seed)?;
                    tell(&lesson, class.name(), kind as usize)?;
                }
                Ok(())
            },
        );
        if let Err(e) = done {
            println!("broken clean {n}: {e}");
        }
    });
    Ok(())
}

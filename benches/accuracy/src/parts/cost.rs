//! What the picture detectors cost beside decoding: the threads that detect beside the one that decodes, in one and the
//! same run of `analyze`; and FFmpeg with its own detectors.
//!
//! Another load on the machine stretches CPU time, by a third and more where cores share caches and memory. It does so to
//! all threads of one moment alike: their ratio holds where the difference of two runs drowns.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Extent, Outcome};
use crate::encode::{Codec, Encoding, encode};
use crate::keep::{Bench, Made, Truth};
use crate::report::Table;
use crate::score::quantile;
use crate::sources::{Class, Source};
use crate::watch::Ask;

/// Each is measured as often, in turns; medians are taken.
const TIMES: usize = 7;
const SECS: f64 = 5.0;
/// A hall of people, a crowd on sand and hard cuts: what costs a decoder much and little.
const SHOWN: [Class; 3] = [Class::People, Class::Handheld, Class::Cuts];
const FILTERS: &str = "freezedetect,blackdetect,blockdetect";
/// Names of threads in the product: those that detect, and the one that demuxes and decodes.
const DETECTS: &str = "detect-";
const DECODES: &str = ":src";
/// How often threads are looked at: what one did since the last look before its end is missed.
const LOOK: Duration = Duration::from_millis(5);

/// Seconds of CPU in one turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    with: Threads,
    without: Threads,
    /// FFmpeg, one thread, decoding only.
    decode: f64,
}

/// Seconds of CPU in a run of `analyze`.
#[derive(Debug, Clone, Copy, Default)]
struct Threads {
    detects: f64,
    decodes: f64,
    /// All threads.
    whole: f64,
}

impl Turn {
    /// What detectors take; the threads that run them do a little without any.
    fn detects(&self) -> f64 {
        self.with.detects - self.without.detects
    }

    fn share(&self) -> f64 {
        self.detects() / self.with.decodes
    }
}

/// Runs the part: one thing at a time, because what is measured is time.
///
/// # Errors
/// When a clip cannot be made, or neither the product nor FFmpeg be run.
pub fn run(bench: &Bench, extent: &Extent) -> io::Result<Outcome> {
    let known = super::known(&bench.product);
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let (with, without) = (
        Ask::only(&bench.product, &names),
        Ask::only(&bench.product, &[]),
    );
    let (width, height, kbps) = if extent.small {
        (640, 360, 1_000)
    } else {
        (1920, 1080, 6_000)
    };
    let mut table = Table::new(
        &format!("CPU a picture, H.264 {height}p {kbps} kb/s, one decoder thread, milliseconds"),
        &[
            "programme",
            "FFmpeg decodes",
            "analyze decodes",
            "picture detectors",
            "detectors / decode",
            "of the turns",
            "analyze / FFmpeg decodes",
            "FFmpeg with freeze, black, block",
            "its filters / decode",
        ],
    );
    let mut shares = Vec::new();
    let mut wholes = Vec::new();
    let mut filters = Vec::new();
    for class in SHOWN.into_iter().take(extent.slice.unwrap_or(SHOWN.len())) {
        let source = Source::generated(extent.set, class, 500_000 + extent.seed);
        let encoding = Encoding::new(Codec::H264, width, height, 25.0, kbps, 2.0);
        let recipe = format!("cost {} {SECS} {}", source.name, encoding.recipe());
        let made = bench.clip(&recipe, encoding.codec.extension(), |path| {
            let count = (SECS * encoding.rate_hz) as usize;
            let frames = source.open(width, height, encoding.rate_hz);
            encode(frames.take(count), &encoding, path)?;
            Ok(Truth {
                events: Vec::new(),
                secs: SECS,
            })
        })?;
        let watch = |ask: &Ask| -> io::Result<Threads> {
            let product = &bench.product;
            let (watched, seen) = product.watch_beside(&made.path, made.secs, ask, threads)?;
            let of = |name: &str| {
                let named = seen.iter().filter(|(thread, _)| thread.contains(name));
                named.map(|(_, secs)| secs).sum()
            };
            Ok(Threads {
                detects: of(DETECTS),
                decodes: of(DECODES),
                whole: watched.cpu_secs,
            })
        };
        let turns = (0..TIMES)
            .map(|_| {
                Ok(Turn {
                    decode: ffmpeg(&made, None)?,
                    without: watch(&without)?,
                    with: watch(&with)?,
                })
            })
            .collect::<io::Result<Vec<Turn>>>()?;
        if turns.iter().any(|t| t.with.decodes * t.with.detects <= 0.0) {
            return Err(io::Error::other(format!(
                "the product has no threads named `{DETECTS}` and `{DECODES}`"
            )));
        }
        let peers = match extent.peers {
            true => ffmpeg(&made, Some(FILTERS))?,
            false => f64::NAN,
        };
        bench.done(&made);
        let of = |at: f64, value: fn(&Turn) -> f64| {
            quantile(&mut turns.iter().map(value).collect::<Vec<f64>>(), at).unwrap_or(f64::NAN)
        };
        let pictures = SECS * encoding.rate_hz;
        let ms = |secs: f64| format!("{:.2}", secs / pictures * 1e3);
        let decode = of(0.5, |t| t.decode);
        let share = of(0.5, Turn::share);
        let whole = of(0.5, |t| t.with.whole / t.decode);
        shares.push(share);
        wholes.push(whole);
        filters.push((peers - decode) / decode);
        table.row(&[
            source.class.name().to_owned(),
            ms(decode),
            ms(of(0.5, |t| t.with.decodes)),
            ms(of(0.5, Turn::detects)),
            format!("{share:.3}"),
            format!("{:.3}–{:.3}", of(0.0, Turn::share), of(1.0, Turn::share)),
            format!("{whole:.3}"),
            ms(peers),
            format!("{:.2}", (peers - decode) / decode),
        ]);
    }
    let mut outcome = Outcome::default();
    let named = [
        ("cost_detectors_by_decode", shares),
        ("cost_analyze_by_decode", wholes),
        ("cost_ffmpeg_filters_by_decode", filters),
    ];
    for (name, mut values) in named {
        values.retain(|v| v.is_finite());
        if let Some(value) = quantile(&mut values, 0.5) {
            outcome.figures.insert(name.to_owned(), value);
        }
    }
    outcome.tables = vec![table];
    Ok(outcome)
}

/// Seconds of CPU of every thread of a process, by name, as of the last look before it ended.
fn threads(pid: u32) -> Vec<(String, f64)> {
    let mut seen: BTreeMap<String, (String, f64)> = BTreeMap::new();
    // The process is there until it is waited for, which is what ends this.
    while let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) {
        for task in tasks.flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            let secs = read("schedstat").as_deref().and_then(running_secs);
            if let (Some(name), Some(secs)) = (read("comm"), secs) {
                let id = task.file_name().to_string_lossy().into_owned();
                seen.insert(id, (name, secs));
            }
        }
        std::thread::sleep(LOOK);
    }
    seen.into_values().collect()
}

/// The first number of `schedstat`: nanoseconds on a core.
fn running_secs(schedstat: &str) -> Option<f64> {
    let nanos: f64 = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(nanos / 1e9)
}

/// Seconds of CPU that FFmpeg takes to decode a clip on one thread, and to filter it.
fn ffmpeg(clip: &Made, filters: Option<&str>) -> io::Result<f64> {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-benchmark", "-threads", "1", "-i"])
        .arg::<&Path>(&clip.path);
    if let Some(filters) = filters {
        command.args(["-filter_threads", "1", "-vf", filters]);
    }
    let said = command
        .args(["-an", "-f", "null", "-"])
        .stdin(Stdio::null())
        .output()?;
    let log = String::from_utf8_lossy(&said.stderr);
    bench_secs(&log)
        .filter(|_| said.status.success())
        .ok_or_else(|| {
            let last = log.lines().next_back().unwrap_or_default();
            io::Error::other(format!("ffmpeg on {}: {last}", clip.path.display()))
        })
}

/// User and system time in the last line that `-benchmark` writes of them.
fn bench_secs(log: &str) -> Option<f64> {
    let line = log.lines().rev().find(|l| l.contains("bench: utime="))?;
    let number = |key: &str| -> Option<f64> {
        let (_, rest) = line.split_once(key)?;
        rest.split('s').next()?.parse().ok()
    };
    Some(number("utime=")? + number("stime=")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_threads_are_read() {
        assert_eq!(running_secs("1500000000 20 3\n"), Some(1.5));
        assert_eq!(running_secs(""), None);
    }

    #[test]
    fn times_are_read_from_the_log() {
        let log = "x\nbench: utime=1.250s stime=0.050s rtime=1.310s\nbench: maxrss=1kB\n";
        assert_eq!(bench_secs(log), Some(1.3));
        assert_eq!(bench_secs("bench: maxrss=1kB"), None);
    }
}

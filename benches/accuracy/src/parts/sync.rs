//! Sound against picture: real clips encoded again and shifted by known times, compared with where they came from; and
//! test signals of flash and beep. What timestamps alone tell is in `stamps.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Extent, Outcome, each, share_text, stamps, without};
use crate::chance::Chance;
use crate::keep::{Bench, Made, Truth};
use crate::media;
use crate::report::Table;
use crate::score::{Share, quantile};
use crate::watch::{Ask, Watched};

/// Longest piece of a clip, seconds.
const SECS_MAX: f64 = 30.0;
/// Sound is moved by at most this, seconds.
const SHIFT_MAX_SECS: f64 = 2.0;
/// Length of a test signal, seconds.
const SIGNAL_SECS: f64 = 14.0;
/// Test signals.
const TEST_SIGNALS: usize = 48;
/// Share of packets lost.
const LOSS: f64 = 0.01;

/// What becomes of a clip on its way.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    /// FFmpeg's filters of pictures and of sound.
    filters: [&'static str; 2],
    /// Bit rates, kb/s.
    rates: [u32; 2],
    /// Another picture rate than the source's.
    another_rate: bool,
    /// In a transport stream with packets lost.
    lossy: bool,
}

impl Way {
    fn extension(&self) -> &'static str {
        if self.lossy { "ts" } else { "mp4" }
    }
}

const fn way(name: &'static str, filters: [&'static str; 2], rates: [u32; 2]) -> Way {
    Way {
        name,
        filters,
        rates,
        another_rate: false,
        lossy: false,
    }
}

const fn at_rate(name: &'static str, filter: &'static str) -> Way {
    Way {
        another_rate: true,
        ..way(name, [filter, ""], [400, 64])
    }
}

const WAYS: [Way; 10] = [
    way("360 rows, 300 kb/s", ["scale=640:360", ""], [300, 64]),
    way("144 rows, 80 kb/s", ["scale=256:144", ""], [80, 48]),
    at_rate("24 Hz", "fps=24,scale=640:360"),
    at_rate("25 Hz", "fps=25,scale=640:360"),
    at_rate("29.97 Hz", "fps=30000/1001,scale=640:360"),
    way(
        "logo",
        [
            "drawbox=x=iw*0.75:y=ih*0.05:w=iw*0.2:h=ih*0.12:color=white:t=fill",
            "",
        ],
        [400, 64],
    ),
    way(
        "cropped by a tenth",
        ["crop=iw*0.9:ih*0.9,scale=640:360", ""],
        [400, 64],
    ),
    way("9 dB less", ["", "volume=-9dB"], [400, 64]),
    way(
        "compressed",
        ["", "acompressor=threshold=0.1:ratio=3"],
        [400, 64],
    ),
    Way {
        lossy: true,
        ..way("1 % of packets lost", ["scale=640:360", ""], [600, 64])
    },
];

#[derive(Debug, Clone)]
struct Case {
    clip: PathBuf,
    way: Way,
    /// By how much the sound is later.
    late_secs: f64,
    /// Compared with this one; another programme when it is not the same clip.
    reference: PathBuf,
}

fn name(of: &Path) -> String {
    let stem = of.file_stem().unwrap_or_default().to_string_lossy();
    let more = stem.chars().count().saturating_sub(28);
    stem.chars().skip(more).collect()
}

/// Runs FFmpeg; what it writes is among the arguments.
pub(super) fn ffmpeg(arguments: &[&str]) -> io::Result<()> {
    let said = Command::new("ffmpeg")
        .args(["-y", "-nostdin", "-v", "error"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(io::Error::other(format!("ffmpeg: {}", why.trim())));
    }
    Ok(())
}

/// The same into one file, which is there when it is whole.
pub(super) fn ffmpeg_to(arguments: &[&str], to: &Path) -> io::Result<()> {
    let part = to.with_extension(format!("part{}", std::process::id()));
    let name = part.to_string_lossy();
    let all: Vec<&str> = arguments.iter().copied().chain([&*name]).collect();
    ffmpeg(&all)?;
    fs::rename(&part, to)
}

/// Encodes a piece of a clip anew.
fn encode(clip: &Path, way: &Way, late_secs: f64, to: &Path) -> io::Result<()> {
    let [pictures, sound] = way.filters;
    let join = |first: String, more: &str| match more {
        "" => first,
        _ => format!("{first},{more}"),
    };
    let even = "scale=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p";
    let pictures = match pictures {
        "" => even.to_owned(),
        _ => format!("{pictures},{even}"),
    };
    let moved = if late_secs >= 0.0 {
        format!("adelay={}:all=1", late_secs * 1e3)
    } else {
        format!("atrim=start={},asetpts=PTS-STARTPTS", -late_secs)
    };
    let sound = join(format!("aresample=48000,{moved}"), sound);
    let input = clip.to_string_lossy();
    let secs = SECS_MAX.to_string();
    let rates = way.rates.map(|kbps| format!("{kbps}k"));
    let container = if way.lossy { "mpegts" } else { "mp4" };
    let passed = if way.another_rate {
        "cfr"
    } else {
        "passthrough"
    };
    ffmpeg_to(
        &[
            "-t", &secs, "-i", &input, "-vsync", passed, "-vf", &pictures, "-af", &sound, "-c:v",
            "libx264", "-preset", "veryfast", "-threads", "1", "-b:v", &rates[0], "-c:a", "aac",
            "-b:a", &rates[1], "-ac", "2", "-f", container,
        ],
        to,
    )
}

impl Case {
    fn recipe(&self) -> String {
        format!(
            "sync {} {:?} {}",
            name(&self.clip),
            self.way,
            self.late_secs
        )
    }

    fn make(&self, to: &Path) -> io::Result<Truth> {
        encode(&self.clip, &self.way, self.late_secs, to)?;
        if self.way.lossy {
            let mut chance = Chance::named(1, &self.recipe());
            let whole = fs::read(to)?;
            // The tables at the beginning stay.
            let packets = whole.chunks(188).enumerate();
            let kept = packets.filter(|(n, _)| *n < 8 || !chance.hit(LOSS));
            let bytes: Vec<u8> = kept
                .flat_map(|(_, packet)| packet.iter().copied())
                .collect();
            fs::write(to, bytes)?;
        }
        Ok(Truth::default())
    }
}

/// The clip as it was before anything happened to it.
fn source(bench: &Bench, clip: &Path, lossy: bool) -> io::Result<Made> {
    // In the same container: a transport stream cannot tell the priming of AAC.
    let way = Way {
        lossy,
        ..way("source", ["", ""], [1_500, 128])
    };
    let recipe = format!("sync source {} {way:?}", name(clip));
    bench.clip(&recipe, way.extension(), |to| {
        encode(clip, &way, 0.0, to)?;
        Ok(Truth::default())
    })
}

fn plan(extent: &Extent) -> Vec<Case> {
    let clips = media::sounding(extent.set);
    let mut chance = Chance::named(extent.seed, "sync");
    let mut cases = Vec::new();
    for (n, clip) in clips.iter().enumerate() {
        for way in WAYS {
            let late_secs = chance.between(-SHIFT_MAX_SECS, SHIFT_MAX_SECS);
            cases.push(Case {
                clip: clip.clone(),
                way,
                late_secs: (late_secs * 1e3).round() / 1e3,
                reference: clip.clone(),
            });
        }
        // And every other programme that there is.
        for other in clips.iter().enumerate().filter(|(m, _)| *m != n) {
            cases.push(Case {
                clip: clip.clone(),
                way: WAYS[0],
                late_secs: 0.0,
                reference: other.1.clone(),
            });
        }
    }
    for n in (1..cases.len()).rev() {
        cases.swap(n, chance.below(n + 1));
    }
    cases.truncate(extent.slice.unwrap_or(usize::MAX));
    cases
}

/// Errors of one way, seconds.
#[derive(Debug, Default)]
struct Column {
    found: Share,
    sound: Vec<f64>,
    pictures: Vec<f64>,
    decided: Vec<f64>,
}

fn measured<'a>(watched: &'a Watched, signal: &str) -> impl Iterator<Item = (f64, f64)> + 'a {
    let readings = watched.readings.get(signal).into_iter().flatten();
    readings.filter_map(|(at, value)| Some((*at, (*value)?)))
}

/// Runs the part.
///
/// # Errors
/// When nothing can be run at all.
pub fn run(bench: &Bench, extent: &Extent) -> io::Result<Outcome> {
    if !bench.product.has("av_reference") {
        return Ok(without("av_reference"));
    }
    let mut outcome = Outcome::default();
    against_reference(bench, extent, &mut outcome);
    test_signals(bench, extent, &mut outcome);
    stamps::run(bench, extent, &mut outcome);
    Ok(outcome)
}

fn against_reference(bench: &Bench, extent: &Extent, outcome: &mut Outcome) {
    let cases = plan(extent);
    let ask = Ask {
        signals: ["audio_early_secs", "audio_delay_secs", "video_delay_secs"]
            .map(|signal| format!("av_reference.{signal}"))
            .to_vec(),
        ..Ask::only(&bench.product, &["av_reference"])
    };
    let (answers, lost) = each("sync", &cases, |case| {
        let extension = case.way.extension();
        let made = bench.clip(&case.recipe(), extension, |to| case.make(to))?;
        let reference = source(bench, &case.reference, case.way.lossy)?;
        let ask = Ask {
            reference: Some(reference.path),
            ..ask.clone()
        };
        bench.watched(&made, &ask)
    });
    let mut columns: BTreeMap<&str, Column> = BTreeMap::new();
    let (mut rejected, mut same_rate, mut another_rate) = (Share::default(), vec![], vec![]);
    let (mut all_sound, mut decided) = (Vec::new(), Vec::new());
    let mut found_all = Share::default();
    for (n, watched) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        let first = measured(watched, "av_reference.audio_early_secs").next();
        let who = format!("{}, {}", name(&case.clip), case.way.name);
        if case.reference != case.clip {
            let any = ["audio_delay_secs", "video_delay_secs"]
                .iter()
                .find_map(|s| measured(watched, &format!("av_reference.{s}")).next());
            rejected.add(any.is_none());
            if let Some((at, secs)) = any {
                let other = name(&case.reference);
                outcome
                    .failures
                    .push(format!("{who}: {other} matched at {at:.1} s, {secs:+.3} s"));
            }
            continue;
        }
        let column = columns.entry(case.way.name).or_default();
        column.found.add(first.is_some());
        found_all.add(first.is_some());
        if let Some((at, _)) = first {
            column.decided.push(at);
            decided.push(at);
        } else {
            outcome.failures.push(format!("{who}: not found"));
        }
        for (at, secs) in measured(watched, "av_reference.audio_delay_secs") {
            let off = secs - case.late_secs;
            column.sound.push(off.abs());
            all_sound.push(off.abs());
            if off.abs() > 0.005 {
                outcome.failures.push(format!(
                    "{who}: sound off by {:.1} ms at {at:.1} s",
                    off * 1e3
                ));
            }
        }
        for (at, secs) in measured(watched, "av_reference.video_delay_secs") {
            column.pictures.push(secs.abs());
            let of_rate = if case.way.another_rate {
                &mut another_rate
            } else {
                &mut same_rate
            };
            of_rate.push(secs.abs());
            if secs.abs() > 0.02 {
                outcome.failures.push(format!(
                    "{who}: pictures off by {:.1} ms at {at:.1} s",
                    secs * 1e3
                ));
            }
        }
    }
    let mut table = Table::new(
        "Sound and pictures against a reference (`av_reference`), errors of every look",
        &[
            "on the way",
            "found",
            "sound, median, p95, most",
            "pictures, median, p95, most",
            "decided after",
        ],
    );
    for (way, column) in &mut columns {
        table.row(&[
            (*way).to_owned(),
            share_text(&column.found),
            three(&mut column.sound),
            three(&mut column.pictures),
            quantile(&mut column.decided, 0.5).map_or("–".to_owned(), |s| format!("{s:.1} s")),
        ]);
    }
    table.row(&[
        "another programme".to_owned(),
        format!("rejected {}", share_text(&rejected)),
        "–".to_owned(),
        "–".to_owned(),
        "–".to_owned(),
    ]);
    outcome.tables.push(table);
    let mut figure = |name: &str, value: Option<f64>| {
        value.map(|value| outcome.figures.insert(name.to_owned(), value));
    };
    figure("sync_found", (found_all.of > 0).then(|| found_all.ratio()));
    figure("sync_rejected", (rejected.of > 0).then(|| rejected.ratio()));
    figure("sync_sound_p95_secs", quantile(&mut all_sound, 0.95));
    figure("sync_pictures_p95_secs", quantile(&mut same_rate, 0.95));
    figure(
        "sync_pictures_another_rate_p95_secs",
        quantile(&mut another_rate, 0.95),
    );
    figure("sync_decided_p95_secs", quantile(&mut decided, 0.95));
    if lost > 0 {
        outcome
            .failures
            .insert(0, format!("sync: {lost} clips could not be run"));
    }
}

pub(super) fn three(errors: &mut [f64]) -> String {
    let at = |errors: &mut [f64], q| quantile(errors, q).map(|s| format!("{:.1}", s * 1e3));
    match (at(errors, 0.5), at(errors, 0.95), at(errors, 1.0)) {
        (Some(half), Some(most), Some(all)) => format!("{half}, {most}, {all} ms"),
        _ => "–".to_owned(),
    }
}

/// A test signal.
#[derive(Debug, Clone)]
struct Flashes {
    rate: &'static str,
    rate_hz: f64,
    early_secs: f64,
    gap_secs: f64,
    tone_hz: u32,
    /// Place and size, as shares of the picture.
    place: [f64; 4],
    codec: [&'static str; 2],
}

fn signals(extent: &Extent) -> Vec<Flashes> {
    const RATES: [(&str, f64); 6] = [
        ("24", 24.0),
        ("25", 25.0),
        ("30000/1001", 30_000.0 / 1_001.0),
        ("30", 30.0),
        ("50", 50.0),
        ("60000/1001", 60_000.0 / 1_001.0),
    ];
    const CODECS: [[&str; 2]; 3] = [
        ["libx264", "aac"],
        ["mpeg2video", "mp2"],
        ["libx265", "aac"],
    ];
    let mut chance = Chance::named(extent.seed, extent.set.name());
    let count = extent.slice.unwrap_or(TEST_SIGNALS).min(TEST_SIGNALS);
    let all = (0..count).map(|n| {
        let (rate, rate_hz) = RATES[n % RATES.len()];
        let size = chance.between(0.08, 0.5);
        Flashes {
            rate,
            rate_hz,
            early_secs: (chance.between(-0.4, 0.4) * 1e3).round() / 1e3,
            gap_secs: [1.0, 2.0, 3.0][chance.below(3)],
            tone_hz: [400, 1_000, 3_000][chance.below(3)],
            place: [
                chance.between(0.0, 1.0 - size),
                chance.between(0.0, 1.0 - size),
                size,
                size,
            ],
            codec: CODECS[n % CODECS.len()],
        }
    });
    all.collect()
}

impl Flashes {
    /// The offset that is in the file: a flash begins with the first picture at or after its time.
    fn truth_secs(&self) -> f64 {
        let begins = (0..).map(|n| 1.0 + f64::from(n) * self.gap_secs);
        let offsets = begins.take_while(|at| *at < SIGNAL_SECS).map(|at| {
            let flash = ((at - 0.0005) * self.rate_hz).ceil() / self.rate_hz;
            flash - (at - self.early_secs)
        });
        quantile(&mut offsets.collect::<Vec<_>>(), 0.5).unwrap_or(self.early_secs)
    }

    fn make(&self, to: &Path) -> io::Result<Truth> {
        let [x, y, w, h] = self.place;
        let (gap, early) = (self.gap_secs, self.early_secs);
        // Two pictures are lit, from the first one at or after each begin.
        let lit = 2.0 / self.rate_hz;
        let pictures = format!(
            "color=c=0x505050:s=640x360:r={}:d={SIGNAL_SECS},drawbox=x=iw*{x:.3}:y=ih*{y:.3}:w=iw*{w:.3}:h=ih*{h:.3}\
             :color=white:t=fill:enable='gte(t+0.0005\\,1)*lt(mod(t+0.0005-1\\,{gap})\\,{lit:.5})',format=yuv420p",
            self.rate
        );
        let sound = format!(
            "aevalsrc='0.4*sin(2*PI*{}*t)*gte(t\\,{:.4})*lt(mod(t-1+{early:.4}+30\\,{gap})\\,0.06)':s=48000:d={SIGNAL_SECS}",
            self.tone_hz,
            1.0 - early - 0.01,
        );
        ffmpeg_to(
            &[
                "-f",
                "lavfi",
                "-i",
                &pictures,
                "-f",
                "lavfi",
                "-i",
                &sound,
                "-c:v",
                self.codec[0],
                "-b:v",
                "1M",
                "-threads",
                "1",
                "-c:a",
                self.codec[1],
                "-b:a",
                "128k",
                "-f",
                "mpegts",
            ],
            to,
        )?;
        Ok(Truth::default())
    }
}

fn test_signals(bench: &Bench, extent: &Extent, outcome: &mut Outcome) {
    if !bench.product.has("av_pattern") {
        return;
    }
    let cases = signals(extent);
    let ask = Ask {
        signals: vec!["av_pattern.audio_early_secs".to_owned()],
        ..Ask::only(&bench.product, &["av_pattern"])
    };
    let (answers, lost) = each("test signals", &cases, |case| {
        let made = bench.clip(&format!("sync {case:?}"), "ts", |to| case.make(to))?;
        bench.watched(&made, &ask)
    });
    let mut columns: BTreeMap<&str, (Share, Share, Vec<f64>)> = BTreeMap::new();
    let (mut found_all, mut half_all) = (Share::default(), Share::default());
    for (n, watched) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        let (found, half, errors) = columns.entry(case.rate).or_default();
        let last = measured(watched, "av_pattern.audio_early_secs").last();
        found.add(last.is_some());
        found_all.add(last.is_some());
        let Some((_, early)) = last else {
            outcome.failures.push(format!("not found: {case:?}"));
            continue;
        };
        let off = early - case.truth_secs();
        let right = off.abs() <= 0.5 / case.rate_hz + 0.001;
        half.add(right);
        half_all.add(right);
        errors.push(off.abs());
        if !right {
            outcome
                .failures
                .push(format!("off by {:.1} ms: {case:?}", off * 1e3));
        }
    }
    let mut table = Table::new(
        "Test signals of flash and beep (`av_pattern`)",
        &[
            "pictures a second",
            "found",
            "within half a picture",
            "error, median, p95, most",
        ],
    );
    for (rate, (found, half, errors)) in &mut columns {
        table.row(&[
            (*rate).to_owned(),
            share_text(found),
            share_text(half),
            three(errors),
        ]);
    }
    outcome.tables.push(table);
    if found_all.of > 0 {
        outcome
            .figures
            .insert("sync_pattern_found".to_owned(), found_all.ratio());
        outcome
            .figures
            .insert("sync_pattern_half".to_owned(), half_all.ratio());
    }
    if lost > 0 {
        outcome
            .failures
            .insert(0, format!("test signals: {lost} clips could not be run"));
    }
}

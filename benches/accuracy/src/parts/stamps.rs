//! Sound against picture by timestamps alone: media with stamps written anew by known amounts, and its clean twins.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::sync::{ffmpeg, ffmpeg_to, three};
use super::{Extent, Outcome, each, share_text};
use crate::chance::Chance;
use crate::keep::{Bench, Truth};
use crate::report::Table;
use crate::restamp::{Of, WRAP, delay_fragments, restamp, ticks};
use crate::score::{Share, quantile, rate_bound};
use crate::watch::{Ask, Watched};

/// Length of one multiplex, and of lists beside each other, seconds.
const MULTIPLEX_SECS: f64 = 90.0;
const LISTS_SECS: f64 = 20.0;
/// FFmpeg's transport streams begin about here, seconds.
const BEGINS_SECS: f64 = 1.4;
/// Rate of the sound, samples a second.
const SOUND_HZ: f64 = 48_000.0;
/// Cases.
const CASES: usize = 60;
/// What is named rightly is measured to this, seconds; drift in ppm.
const RIGHT_SECS: f64 = 0.001;
const RIGHT_PPM: f64 = 10.0;

/// What is done to the timestamps.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Separate lists, sound stamped so much later than listed.
    HlsLate(f64),
    DashLate(f64),
    /// Sound later from some time on.
    Shift(f64),
    /// Sound whose samples come faster than its stamps tell, ppm.
    Drift(f64),
    /// So many seconds of sound are left out.
    Lost(f64),
    /// Nothing; the stamps wrap; all go over to another timeline.
    Clean,
    Wrap,
    Splice(f64),
    /// Pictures are left out irregularly.
    Variable,
    /// Separate lists as they are.
    HlsClean,
    DashClean,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    shape: Shape,
    rate: &'static str,
    /// When it begins, seconds from the start.
    at_secs: f64,
}

impl Shape {
    fn name(&self) -> &'static str {
        match self {
            Shape::HlsLate(_) => "HLS: sound stamped otherwise than listed",
            Shape::DashLate(_) => "DASH: the same",
            Shape::Shift(_) => "sound shifted by timestamps",
            Shape::Drift(_) => "sample clock off",
            Shape::Lost(_) => "sound left out",
            Shape::Clean => "clean multiplex",
            Shape::Wrap => "clean, stamps wrap",
            Shape::Splice(_) => "clean, another timeline for all",
            Shape::Variable => "clean, variable picture rate",
            Shape::HlsClean => "clean HLS, separate sound",
            Shape::DashClean => "clean DASH",
        }
    }

    /// The rule that is to be told, and the value: of a shift, how early sound is.
    fn truth(&self) -> Option<(&'static str, f64)> {
        let stamped = |early| {
            if early > 0.0 {
                "audio_stamped_early"
            } else {
                "audio_stamped_late"
            }
        };
        match *self {
            // Priming of the encoder lies before the sound.
            Shape::HlsLate(late) => {
                let early = 1_024.0 / SOUND_HZ - late;
                Some((stamped(early), early))
            }
            Shape::DashLate(late) => Some((stamped(-late), -late)),
            Shape::Shift(late) => Some((
                if late > 0.0 {
                    "audio_late"
                } else {
                    "audio_early"
                },
                -late,
            )),
            Shape::Drift(ppm) => Some((
                if ppm > 0.0 {
                    "clock_fast"
                } else {
                    "clock_slow"
                },
                ppm,
            )),
            Shape::Lost(secs) => Some(("audio_gap", secs)),
            _ => None,
        }
    }

    fn is_of_lists(&self) -> bool {
        use Shape::{DashClean, DashLate, HlsClean, HlsLate};
        matches!(self, HlsLate(_) | DashLate(_) | HlsClean | DashClean)
    }

    fn secs(&self) -> f64 {
        if self.is_of_lists() {
            LISTS_SECS
        } else {
            MULTIPLEX_SECS
        }
    }

    fn extension(&self) -> &'static str {
        match self {
            Shape::HlsLate(_) | Shape::HlsClean => "m3u8",
            Shape::DashLate(_) | Shape::DashClean => "mpd",
            _ => "ts",
        }
    }
}

impl Case {
    fn make(&self, to: &Path) -> io::Result<Truth> {
        if self.shape.is_of_lists() {
            self.lists(to)?;
        } else {
            self.multiplex(to)?;
        }
        Ok(Truth::default())
    }

    /// What FFmpeg is to read and how it is to encode that, before where it goes.
    fn recipe(&self) -> Vec<String> {
        let pictures = format!("testsrc2=size=320x180:rate={}", self.rate);
        let secs = self.shape.secs().to_string();
        let sound = "sine=frequency=440:sample_rate=48000";
        let input = [
            "-f", "lavfi", "-i", &pictures, "-f", "lavfi", "-i", sound, "-t", &secs,
        ];
        let coded = "-map 0:v -map 1:a -c:v libx264 -preset ultrafast -bf 2 -g 50 -sc_threshold 0 -threads 1 -c:a aac";
        input
            .into_iter()
            .chain(coded.split(' '))
            .map(str::to_owned)
            .collect()
    }

    fn multiplex(&self, to: &Path) -> io::Result<()> {
        let thinned = [
            "-vf",
            "select='not(eq(mod(n*n\\,7)\\,2))'",
            "-vsync",
            "vfr",
            "-f",
            "mpegts",
        ];
        let more = if matches!(self.shape, Shape::Variable) {
            &thinned[..]
        } else {
            &thinned[4..]
        };
        let recipe = self.recipe();
        let all: Vec<&str> = recipe
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        ffmpeg_to(&all, to)?;
        let bytes = fs::read(to)?;
        let later = |stamp, secs: f64| stamp >= ticks(BEGINS_SECS + secs);
        let at = self.at_secs;
        let stamped = restamp(&bytes, |of, stamp| {
            let sound = of == Of::Sound;
            Some(match self.shape {
                Shape::Shift(late) if sound && later(stamp, at) => stamp + ticks(late),
                Shape::Drift(ppm) if sound => (stamp as f64 * (1.0 - ppm / 1e6)).round() as i64,
                Shape::Lost(secs) if sound && later(stamp, at) && !later(stamp, at + secs) => {
                    return None;
                }
                Shape::Wrap => stamp + WRAP - ticks(BEGINS_SECS + at),
                Shape::Splice(by) if later(stamp, at) => stamp + ticks(by),
                _ => stamp,
            })
        });
        fs::write(to, stamped)
    }

    fn lists(&self, to: &Path) -> io::Result<()> {
        // Segments in a folder of their own, beside the list that names them.
        let stem = to
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let folder = to.with_extension("d");
        fs::create_dir_all(&folder)?;
        let place = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (sound, late) = match self.shape {
            Shape::HlsLate(late) => ("a0_", late),
            Shape::DashLate(late) => ("s1_", late),
            _ => ("", 0.0),
        };
        if to.extension().is_some_and(|e| e == "m3u8") {
            let segments = place("a%v_%d.ts");
            let hls = [
                "-hls_time",
                "2",
                "-hls_playlist_type",
                "vod",
                "-var_stream_map",
                "a:0,agroup:s v:0,agroup:s",
                "-hls_segment_filename",
                &segments,
                "-master_pl_name",
                "m.m3u8",
                "-f",
                "hls",
            ];
            let lists = folder.join("%v.m3u8");
            self.packaged(&hls, &lists)?;
            let master = format!(
                "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"s\",URI=\"{stem}.d/0.m3u8\"\n\
                 #EXT-X-STREAM-INF:BANDWIDTH=200000,AUDIO=\"s\"\n{stem}.d/1.m3u8\n"
            );
            fs::write(to, master)?;
        } else {
            let (init, media) = (
                format!("{stem}.d/i$RepresentationID$"),
                format!("{stem}.d/s$RepresentationID$_$Number$"),
            );
            let dash = [
                "-seg_duration",
                "2",
                "-use_timeline",
                "1",
                "-init_seg_name",
                &init,
                "-media_seg_name",
                &media,
                "-adaptation_sets",
                "id=0,streams=v id=1,streams=a",
                "-f",
                "dash",
            ];
            self.packaged(&dash, to)?;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let own = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(sound));
            if !own || late == 0.0 {
                continue;
            }
            let mut bytes = fs::read(&path)?;
            if path.extension().is_some_and(|e| e == "ts") {
                bytes = restamp(&bytes, |_, stamp| Some(stamp + ticks(late)));
            } else {
                delay_fragments(&mut bytes, (late * SOUND_HZ).round() as i64);
            }
            fs::write(&path, bytes)?;
        }
        Ok(())
    }

    /// By a muxer of several files, which takes the name of its list as it is.
    fn packaged(&self, more: &[&str], to: &Path) -> io::Result<()> {
        let (recipe, to) = (self.recipe(), to.to_string_lossy());
        let named = recipe
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied());
        ffmpeg(&named.chain([&*to]).collect::<Vec<_>>())
    }
}

fn plan(extent: &Extent) -> Vec<Case> {
    let mut chance = Chance::named(extent.seed, &format!("stamps {}", extent.set.name()));
    let count = extent.slice.unwrap_or(CASES).min(CASES);
    let rates = ["25", "30000/1001", "60000/1001", "24000/1001", "50"];
    let mut either = |least: f64, most: f64| {
        let size = (chance.between(least, most) * 1e3).round() / 1e3;
        if chance.hit(0.5) { size } else { -size }
    };
    let all = (0..count).map(|n| {
        let shape = match n % 12 {
            0 => Shape::HlsLate(either(0.3, 25.0).abs()),
            1 => Shape::DashLate(either(0.3, 25.0).abs()),
            2 => Shape::Shift(either(0.13, 0.9)),
            3 => Shape::Drift(either(130.0, 500.0)),
            4 => Shape::Lost(either(0.2, 1.5).abs()),
            5 => Shape::Shift(either(0.9, 1.8)),
            6 => Shape::Clean,
            7 => Shape::Wrap,
            8 => Shape::Splice(either(10.0, 40_000.0)),
            9 => Shape::Variable,
            10 => Shape::HlsClean,
            _ => Shape::DashClean,
        };
        Case {
            shape,
            rate: rates[(n / 12 + n) % rates.len()],
            at_secs: either(15.0, 30.0).abs(),
        }
    });
    all.collect()
}

/// What the timestamp layer of the product told.
fn told(watched: &Watched) -> impl Iterator<Item = (&str, f64)> {
    let of = |detector| watched.of(detector, None);
    of("av_timing")
        .chain(of("manifest"))
        .map(|found| (found.rule.as_str(), found.value))
}

/// Rules that say the same of a shift more strictly, or that media is missing or doubled where it begins.
fn goes_with(rule: &str, of: &str) -> bool {
    rule == of
        || (of == "audio_late" && ["audio_late_unacceptable", "audio_gap"].contains(&rule))
        || (of == "audio_early" && ["audio_early_unacceptable", "audio_overlap"].contains(&rule))
}

/// Runs these cases.
pub(super) fn run(bench: &Bench, extent: &Extent, outcome: &mut Outcome) {
    let cases = plan(extent);
    let ask = Ask::only(&bench.product, &["av_timing", "manifest"]);
    let (answers, lost) = each("timestamps", &cases, |case| {
        let made = bench.clip(&format!("stamps {case:?}"), case.shape.extension(), |to| {
            case.make(to)
        })?;
        bench.watched(&made, &ask)
    });
    let mut columns: BTreeMap<&str, (Share, Vec<f64>, u64, f64)> = BTreeMap::new();
    let (mut named, mut errors_all) = (Share::default(), Vec::new());
    let (mut false_all, mut hours_all) = (0, 0.0);
    for (n, watched) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        let (right, errors, wrong, hours) = columns.entry(case.shape.name()).or_default();
        match case.shape.truth() {
            None => {
                *hours += watched.media_secs / 3_600.0;
                hours_all += watched.media_secs / 3_600.0;
                for (rule, value) in told(watched) {
                    *wrong += 1;
                    false_all += 1;
                    outcome.failures.push(format!("{case:?}: {rule} {value}"));
                }
            }
            Some((rule, value)) => {
                let is_drift = matches!(case.shape, Shape::Drift(_));
                let is_lost = matches!(case.shape, Shape::Lost(_));
                let found = told(watched).find(|(name, _)| *name == rule);
                let error = found.map(|(_, found)| (found - value).abs());
                let others = told(watched).any(|(name, _)| !goes_with(name, rule));
                // Whole units of sound are left out, so that only the kind of that is known.
                let slack = match (is_drift, is_lost) {
                    (true, _) => RIGHT_PPM,
                    (_, true) => 0.2,
                    _ => RIGHT_SECS + 0.000_5,
                };
                let is_right = error.is_some_and(|error| error <= slack) && !others;
                right.add(is_right);
                named.add(is_right);
                if !is_drift && !is_lost {
                    errors.extend(error);
                    errors_all.extend(error);
                }
                if !is_right {
                    let told: Vec<_> = told(watched).collect();
                    outcome.failures.push(format!("{case:?}: {told:?}"));
                }
            }
        }
    }
    let mut table = Table::new(
        "Timestamps written anew (`av_timing`, `manifest`)",
        &[
            "shape",
            "named rightly, and nothing else",
            "error, median, p95, most",
            "false alarms an hour",
        ],
    );
    for (name, (right, errors, wrong, hours)) in &mut columns {
        let is_clean = *hours > 0.0;
        table.row(&[
            (*name).to_owned(),
            if is_clean {
                "–".to_owned()
            } else {
                share_text(right)
            },
            three(errors),
            match is_clean {
                true => format!(
                    "{wrong} in {hours:.2} h (at most {:.1})",
                    rate_bound(*wrong, *hours)
                ),
                false => "–".to_owned(),
            },
        ]);
    }
    outcome.tables.push(table);
    let mut figure = |name: &str, value: f64| outcome.figures.insert(name.to_owned(), value);
    if named.of > 0 {
        figure("sync_stamps_named", named.ratio());
    }
    if let Some(most) = quantile(&mut errors_all, 1.0) {
        figure("sync_stamps_error_most_secs", most);
    }
    if hours_all > 0.0 {
        figure("sync_stamps_hours", hours_all);
        figure("sync_stamps_false", false_all as f64);
    }
    if lost > 0 {
        outcome
            .failures
            .insert(0, format!("timestamps: {lost} clips could not be run"));
    }
}

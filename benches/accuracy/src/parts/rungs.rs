//! Where corruption came in: ladders of three renditions, damaged before all encoders, before one, or behind one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Extent, Outcome, each, share_text, without};
use crate::chance::Chance;
use crate::damage::decode::Decoder;
use crate::damage::impair::{Harm, Plan, impair};
use crate::damage::truth::{self, AREA};
use crate::damage::ts;
use crate::encode::{Codec, Encoding, encode, rate_text};
use crate::keep::{Bench, Truth};
use crate::report::Table;
use crate::score::{Share, Span, rate_bound};
use crate::sources::{Class, Source};
use crate::watch::{Ask, Found, Watched};

/// Columns, rows, kilobits a second.
type Size = (usize, usize, u32);
/// Length of a clip, and from where on it may be damaged, a second later: renditions are compared from the fourth
/// second on.
const SECS: f64 = 8.0;
const DAMAGE_FROM_SECS: f64 = 3.0;
/// Size and bit rate of what goes into the encoders.
const CONTRIBUTION: Size = (1280, 720, 6_000);
const SMALL_CONTRIBUTION: Size = (640, 360, 3_000);
/// Size and bit rate of the renditions.
const RUNGS: [Size; 3] = [(1280, 720, 2_500), (768, 432, 1_100), (426, 240, 400)];
const SMALL_RUNGS: [Size; 3] = [(640, 360, 900), (480, 270, 500), (320, 180, 250)];
/// Constant quality (CRF of x264) of the renditions. Their rate is not limited: held to one, x264 starves key pictures of
/// scenes that move little until they are grey for a tenth of a second, which is a difference indeed.
const QUALITIES: [u32; 3] = [22, 25, 28];
/// Ladders of a whole run: damaged before one encoder, before all, behind one, and clean ones.
const LADDERS: [(Where, usize); 4] = [
    (Where::OneEncoder, 80),
    (Where::AllEncoders, 80),
    (Where::BehindOne, 24),
    (Where::Nowhere, 56),
];
/// What is told so long after the truth is still of it: half a second must have come behind pictures that are compared,
/// and what differs must stand for some.
const SLACK_SECS: f64 = 0.8;
/// Of damage that shows for less nothing can be said.
const LEAST_SECS: f64 = 0.2;
/// A ladder is damaged at most so many times until it shows.
const TRIES: u64 = 5;
/// Share of the picture from which a difference counts, as in the rule that tells it.
const SEEN: f64 = 0.005;

/// Where damage comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    OneEncoder,
    AllEncoders,
    BehindOne,
    Nowhere,
}

impl Where {
    fn name(self) -> &'static str {
        match self {
            Where::OneEncoder => "before one encoder",
            Where::AllEncoders => "before all encoders",
            Where::BehindOne => "behind one encoder",
            Where::Nowhere => "nowhere",
        }
    }

    /// What the product should say.
    fn place(self) -> Option<&'static str> {
        match self {
            Where::OneEncoder => Some("encoder"),
            Where::AllEncoders => Some("upstream"),
            Where::BehindOne => Some("delivery"),
            Where::Nowhere => None,
        }
    }
}

/// What is different about one rendition although nothing is wrong.
const VARIANTS: [(&str, &str); 7] = [
    ("all alike", "null"),
    (
        "logo",
        "drawbox=x=iw*0.86:y=ih*0.06:w=iw*0.09:h=ih*0.1:color=white@0.7:t=fill",
    ),
    ("levels", "lutyuv=y=val*0.94+9:u=(val-128)*0.85+128"),
    ("softer", "gblur=sigma=1.6"),
    ("sharper", "unsharp=5:5:1.2"),
    ("half the pictures", "null"),
    ("poor", "null"),
];

const HARMS: [Harm; 6] = [
    Harm::Packets(1e-3),
    Harm::Datagrams(1e-3),
    Harm::Bursts(1e-3, 50.0),
    Harm::Keyframe,
    Harm::Bursts(1e-3, 200.0),
    Harm::Slices(1e-2),
];

#[derive(Debug, Clone)]
struct Case {
    source: Source,
    at: Where,
    /// Of the rendition that is damaged, or that is another.
    rung: usize,
    harm: Harm,
    variant: usize,
    contribution: Encoding,
    rungs: [Size; 3],
    seed: u64,
}

impl Case {
    fn recipe(&self) -> String {
        format!(
            "rungs 4 {} {:?} {} {} {} {} {SECS}",
            self.source.name,
            self.at,
            self.rung,
            self.harm.label(),
            self.variant,
            self.contribution.recipe(),
        )
    }

    fn about(&self) -> String {
        let what = match self.at {
            Where::Nowhere => VARIANTS[self.variant].0.to_owned(),
            _ => self.harm.label(),
        };
        format!(
            "{}, {}, rendition {}, {what}",
            self.source.name,
            self.at.name(),
            self.rung
        )
    }

    /// Makes the ladder around its master playlist.
    fn make(&self, master: &Path) -> io::Result<Truth> {
        let folder = master.with_extension("ladder");
        fs::create_dir_all(&folder)?;
        let intact = folder.join("intact.ts");
        let rate = self.contribution.rate_hz;
        let count = (SECS * rate).round() as usize;
        let (width, height) = (self.contribution.width, self.contribution.height);
        let pictures = self.source.open(width, height, rate).take(count);
        encode(pictures, &self.contribution, &intact)?;
        let mut events = Vec::new();
        let damaged = folder.join("damaged.ts");
        if matches!(self.at, Where::OneEncoder | Where::AllEncoders) {
            events = self.harm_visibly(&intact, &damaged, false, (width, height))?;
        }
        let from = |rung: usize| match self.at {
            Where::AllEncoders => &damaged,
            Where::OneEncoder if rung == self.rung => &damaged,
            _ => &intact,
        };
        let mut list = "#EXTM3U\n".to_owned();
        for (n, (width, height, kbps)) in self.rungs.into_iter().enumerate() {
            let out = folder.join(format!("{n}.ts"));
            self.rung(n, from(n), &out)?;
            if self.at == Where::BehindOne && n == self.rung {
                let broken = folder.join("broken.ts");
                let hidden = self.seed.is_multiple_of(2);
                events = self.harm_visibly(&out, &broken, hidden, (width, height))?;
                fs::rename(broken, &out)?;
            }
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            fs::write(
                folder.join(format!("{n}.m3u8")),
                format!(
                    "#EXTM3U\n#EXT-X-TARGETDURATION:{SECS:.0}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:{SECS:.3},\n{n}.ts\n#EXT-X-ENDLIST\n"
                ),
            )?;
            list += &format!(
                "#EXT-X-STREAM-INF:BANDWIDTH={},RESOLUTION={width}x{height}\n{name}/{n}.m3u8\n",
                kbps * 1_000
            );
        }
        for used in [intact, damaged] {
            // There need not be a damaged one.
            let _ = fs::remove_file(used);
        }
        fs::write(master, list)?;
        Ok(Truth { events, secs: SECS })
    }

    /// Damages what lies behind the first seconds, anew until it shows for long enough; gives back where it shows.
    fn harm_visibly(
        &self,
        from: &Path,
        to: &Path,
        hidden: bool,
        size: (usize, usize),
    ) -> io::Result<Vec<Span>> {
        let mut events = Vec::new();
        for again in 0..TRIES {
            self.harm_file(from, to, hidden, self.seed.wrapping_add(again))?;
            events = difference(from, to, size)?;
            if events.iter().any(counts) {
                break;
            }
        }
        Ok(events)
    }

    fn harm_file(&self, from: &Path, to: &Path, hidden: bool, seed: u64) -> io::Result<()> {
        let packets = ts::packets(&fs::read(from)?);
        let begin = ts::first_pts(&packets).unwrap_or_default();
        let pid = ts::video_pid(&packets).unwrap_or_default();
        let limit = begin + (DAMAGE_FROM_SECS * ts::HZ as f64) as u64;
        let units = ts::units(&packets, pid);
        let cut = units
            .iter()
            .find(|unit| unit.pts >= limit)
            .and_then(|unit| unit.at.first());
        let (head, tail) = packets.split_at(cut.copied().unwrap_or(0));
        // What is damaged needs its tables.
        let tables = head.len().min(8);
        let mut whole = head[..tables].to_vec();
        whole.extend_from_slice(tail);
        let plan = Plan {
            harm: self.harm,
            hidden,
            seed,
        };
        let harmed = impair(&whole, ts::Syntax::H264, plan)
            .ok_or_else(|| io::Error::other(format!("nothing to damage in {}", from.display())))?;
        let mut bytes = head.as_flattened().to_vec();
        bytes.extend_from_slice(harmed.get(tables..).unwrap_or_default().as_flattened());
        fs::write(to, bytes)
    }

    /// Encodes one rendition of what comes in.
    fn rung(&self, n: usize, from: &Path, to: &Path) -> io::Result<()> {
        let (width, height, _) = self.rungs[n];
        let mut quality = QUALITIES[n];
        let mut rate = self.contribution.rate_hz;
        let mut filter = "null";
        let mut step = 1;
        if self.at == Where::Nowhere && n == self.rung {
            filter = VARIANTS[self.variant].1;
            match VARIANTS[self.variant].0 {
                "half the pictures" => (rate, step) = (rate / 2.0, 2),
                "poor" => quality += 8,
                _ => {}
            }
        }
        let origin = ts::first_pts(&ts::packets(&fs::read(from)?)).unwrap_or_default() as f64
            / ts::HZ as f64;
        let full = rate_text(self.contribution.rate_hz);
        // From a second on, so that the multiplexer need not shift times by what pictures are reordered by.
        let filters = format!(
            "fps={full}:start_time={origin},setpts=N/({full})/TB+1/TB,framestep={step},\
             scale={width}:{height}:flags=bicubic,{filter}"
        );
        let quality = quality.to_string();
        let gop = (2.0 * rate).round();
        let said = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "fatal", "-y", "-threads", "1"])
            .args(["-flags", "+output_corrupt", "-copyts", "-i"])
            .arg(from)
            .args(["-map", "0:v:0", "-vf", &filters, "-pix_fmt", "yuv420p"])
            .args([
                "-fps_mode",
                "passthrough",
                "-c:v",
                "libx264",
                "-preset",
                "superfast",
            ])
            .args(["-threads", "1", "-crf", &quality])
            .args([
                "-x264-params",
                &format!("keyint={gop}:min-keyint={gop}:scenecut=0"),
            ])
            .args(["-f", "mpegts"])
            .arg(to)
            .stdin(Stdio::null())
            .output()?;
        match said.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(
                String::from_utf8_lossy(&said.stderr).into_owned(),
            )),
        }
    }
}

/// Whether damage shows for long enough, and not only in the end, which has nothing behind it to be compared with.
fn counts(event: &Span) -> bool {
    event.end.min(SECS - SLACK_SECS) - event.start >= LEAST_SECS
}

/// Where a damaged clip differs from an intact one in a hundredth of the picture.
fn difference(intact: &Path, damaged: &Path, size: (usize, usize)) -> io::Result<Vec<Span>> {
    let mut a = Decoder::open(intact, Codec::H264, "", size)?;
    let mut b = Decoder::open(damaged, Codec::H264, "", size)?;
    let truth = truth::compare(&mut || a.picture(), &mut || b.picture(), None, None)?;
    Ok(truth.events(AREA).into_iter().map(|e| e.span).collect())
}

fn plan(extent: &Extent) -> Vec<Case> {
    let sources: Vec<Source> = (Source::all(extent.set).into_iter())
        // Bars and slides stand still: damage of what stands still is soon repaired, and nothing tells a delay.
        .filter(|s| !s.class.is_still() || s.class == Class::Slides)
        .collect();
    let mut chance = Chance::named(extent.seed, "rungs");
    let mut order: Vec<usize> = (0..sources.len()).collect();
    for n in (1..order.len()).rev() {
        order.swap(n, chance.below(n + 1));
    }
    let (contribution, rungs) = match extent.small {
        true => (SMALL_CONTRIBUTION, SMALL_RUNGS),
        false => (CONTRIBUTION, RUNGS),
    };
    let mut next = order.iter().cycle();
    let mut cases = Vec::new();
    for (at, count) in LADDERS {
        for n in 0..count {
            let variant = n % VARIANTS.len();
            let fast = at == Where::Nowhere && VARIANTS[variant].0 == "half the pictures";
            let rate = [25.0, 25.0, 30.0, 25.0, 50.0, 30.0][chance.below(6)];
            let (width, height, kbps) = contribution;
            let Some(source) = next.next().and_then(|i| sources.get(*i)) else {
                break;
            };
            cases.push(Case {
                source: source.clone(),
                at,
                rung: chance.below(RUNGS.len()),
                harm: HARMS[n % HARMS.len()],
                variant,
                contribution: Encoding::new(
                    Codec::H264,
                    width,
                    height,
                    if fast { 50.0 } else { rate },
                    kbps,
                    1.0,
                ),
                rungs,
                seed: chance.bits(),
            });
        }
    }
    extent.take(cases, "rungs", |case| &case.contribution)
}

/// What became of a ladder, by what the comparison says while the truth is damaged.
#[derive(Debug, Default)]
struct Column {
    ladders: u64,
    /// Ladders of which the comparison says the right thing: one rendition, or none.
    compared: Share,
    /// Ladders of which a defect was told, and those that were placed, and rightly.
    told: Share,
    placed: Share,
    right: Share,
}

/// Largest value of a signal of one rendition in some spans; `None` where it was never measured.
fn peak(watched: &Watched, rung: usize, spans: &[Span]) -> Option<f64> {
    let readings = watched.readings.get(&signal(rung))?;
    let near = |at: f64| {
        let within = |s: &Span| (s.start..=s.end + SLACK_SECS).contains(&at);
        spans.iter().any(within)
    };
    let measured = readings.iter().filter(|(at, _)| near(*at));
    measured.filter_map(|(_, value)| *value).reduce(f64::max)
}

fn signal(rung: usize) -> String {
    format!("rung_difference.differing_ratio video:{rung}")
}

/// Which renditions differ.
fn differing(watched: &Watched, spans: &[Span]) -> Vec<usize> {
    let differs = |n: &usize| peak(watched, *n, spans).is_some_and(|v| v >= SEEN);
    (0..RUNGS.len()).filter(differs).collect()
}

/// Runs the part.
///
/// # Errors
/// When nothing can be run at all.
pub fn run(bench: &Bench, extent: &Extent) -> io::Result<Outcome> {
    if !bench.product.has("rung_difference") {
        return Ok(without("rung_difference"));
    }
    let cases = plan(extent);
    let mut ask = Ask::only(&bench.product, &["rung_difference", "block_damage"])
        .set("rendition", "all")
        .set("evidence", "false");
    ask.signals = (0..RUNGS.len()).map(signal).collect();
    let (answers, lost) = each("rungs", &cases, |case| {
        let made = bench.clip(&case.recipe(), "m3u8", |to| case.make(to))?;
        let watched = bench.watched(&made, &ask)?;
        if bench.drop_clips {
            // A ladder that stays only takes room.
            let _ = fs::remove_dir_all(PathBuf::from(&made.path).with_extension("ladder"));
        }
        bench.done(&made);
        Ok((watched, made.truth))
    });
    let mut outcome = Outcome::default();
    let mut columns: BTreeMap<Where, Column> = BTreeMap::new();
    let mut clean: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut untouched = 0;
    for (n, (watched, truth)) in &answers {
        let Some(case) = cases.get(*n) else { continue };
        if case.at == Where::Nowhere {
            let all = watched.of("rung_difference", None).count() as u64;
            let (ladders, told) = clean.entry(VARIANTS[case.variant].0).or_default();
            *ladders += 1;
            *told += all;
            for found in watched.of("rung_difference", None) {
                outcome
                    .failures
                    .push(format!("rungs: {} {}", case.about(), line(found)));
            }
            continue;
        }
        let events: Vec<Span> = truth.iter().filter(|e| counts(e)).copied().collect();
        if events.is_empty() {
            untouched += 1;
            continue;
        }
        let column = columns.entry(case.at).or_default();
        column.ladders += 1;
        let differing = differing(watched, &events);
        let wanted = match case.at {
            Where::AllEncoders => vec![],
            _ => vec![case.rung],
        };
        column.compared.add(differing == wanted);
        if differing != wanted {
            let peaks: Vec<String> = (0..RUNGS.len())
                .map(|n| peak(watched, n, &events).map_or("–".to_owned(), |v| format!("{v:.3}")))
                .collect();
            outcome.failures.push(format!(
                "rungs: {} differ {}",
                case.about(),
                peaks.join(" ")
            ));
        }
        // What the comparison itself tells is only recorded, and counts.
        let is_told = |f: &Found| f.severity != "info" || f.detector == "rung_difference";
        let concerns = |f: &&Found| is_told(f) && events.iter().any(|e| f.span().shared(e) > 0.0);
        let told: Vec<&Found> = watched.defects.iter().filter(concerns).collect();
        column.told.add(!told.is_empty());
        if told.is_empty() {
            continue;
        }
        let placed: Vec<&&Found> = told.iter().filter(|f| f.place.is_some()).collect();
        column.placed.add(!placed.is_empty());
        if placed.is_empty() {
            continue;
        }
        let track = format!("video:{}", case.rung);
        let right = |f: &&&Found| {
            let there = case.at == Where::AllEncoders || f.track.as_ref() == Some(&track);
            there && f.place.as_deref() == case.at.place()
        };
        column.right.add(placed.iter().all(&right));
        for found in placed.iter().filter(|f| !right(f)) {
            outcome
                .failures
                .push(format!("rungs: {} wrong: {}", case.about(), line(found)));
        }
    }
    outcome
        .tables
        .push(attribution(&columns, &mut outcome.figures));
    outcome.tables.push(alike(&clean, &mut outcome.figures));
    if untouched > 0 {
        let line = format!("rungs: {untouched} ladders whose damage does not show");
        outcome.failures.push(line);
    }
    if lost > 0 {
        let line = format!("rungs: {lost} ladders could not be run");
        outcome.failures.insert(0, line);
    }
    Ok(outcome)
}

fn line(found: &Found) -> String {
    format!(
        "{}/{} on {} {:.2}–{:.2} s, {:.3}, place {}",
        found.detector,
        found.rule,
        found.track.as_deref().unwrap_or("–"),
        found.start_secs,
        found.end_secs,
        found.value,
        found.place.as_deref().unwrap_or("–"),
    )
}

fn attribution(columns: &BTreeMap<Where, Column>, figures: &mut BTreeMap<String, f64>) -> Table {
    let mut table = Table::new(
        "Where corruption came in: ladders of three renditions (`rung_difference`)",
        &[
            "damaged",
            "ladders",
            "comparison right",
            "a defect told",
            "of these placed",
            "of these rightly",
        ],
    );
    let mut all = Share::default();
    for (at, column) in columns {
        table.row(&[
            at.name().to_owned(),
            column.ladders.to_string(),
            share_text(&column.compared),
            share_text(&column.told),
            share_text(&column.placed),
            share_text(&column.right),
        ]);
        if *at != Where::BehindOne {
            all.hits += column.compared.hits;
            all.of += column.compared.of;
        }
        let mut put = |name: &str, share: &Share| {
            if share.of > 0 {
                let word = at.place().unwrap_or("clean");
                figures.insert(format!("rungs_{word}_{name}"), share.ratio());
            }
        };
        put("compared", &column.compared);
        put("told", &column.told);
        put("right", &column.right);
    }
    if all.of > 0 {
        figures.insert("rungs_compared".to_owned(), all.ratio());
        figures.insert("rungs_ladders".to_owned(), all.of as f64);
    }
    table
}

fn alike(clean: &BTreeMap<&str, (u64, u64)>, figures: &mut BTreeMap<String, f64>) -> Table {
    let mut table = Table::new(
        "Told of ladders in which nothing is damaged (upper bound, 95 %, exact Poisson)",
        &["one rendition", "ladders", "told", "at most per hour"],
    );
    let hours = |ladders: u64| ladders as f64 * SECS / 3_600.0;
    let (mut ladders, mut told) = (0, 0);
    for (variant, (some, wrong)) in clean {
        ladders += some;
        told += wrong;
        table.row(&[
            (*variant).to_owned(),
            some.to_string(),
            wrong.to_string(),
            format!("{:.1}", rate_bound(*wrong, hours(*some))),
        ]);
    }
    if ladders > 0 {
        figures.insert("rungs_clean_false".to_owned(), told as f64);
        figures.insert("rungs_clean_hours".to_owned(), hours(ladders));
    }
    table
}

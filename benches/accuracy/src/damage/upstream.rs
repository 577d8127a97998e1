//! Population C on its own, without the product around: clips of a small matrix, and the detector's own code over
//! them. Gives what the net learns from, and quick figures while developing.

use std::cell::RefCell;
use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use detectors::base::{
    Arrival, Carry, Gap, Media, MediaTime, Options, Picture, Range, Sink, Stamp, Track, Unit, Value,
};
use detectors::kernel::half::HalfLuma;
use detectors::kernel::tiles::Tiles;
use detectors::plane::{Plane, Samples};
use detectors::video::block_damage;
use detectors::video::block_damage::upstream::gate::{Gate, Spot};
use detectors::video::block_damage::upstream::net::NET;
use detectors::video::block_damage::upstream::patch::{CONTEXT, Patch};
use detectors::video::block_damage::upstream::{Finder, Moment};

use super::decode::{Decoder, Luma};
use super::impair::{self, Harm, Plan};
use super::recode::{Recode, Shape};
use super::tally::{self, Evaluated, Failure, Tally};
use super::truth::{self, State, Truth};
use super::vandal::Vandal;
use super::{kept_truth, origin_secs, ts, write_whole};
use crate::chance::Chance;
use crate::encode::{Codec, Encoding, encode};
use crate::sources::{Class, Set, Source};
use crate::watch::{Found, Watched};

/// To learn from: more of it in the same time.
const DENSE: [Harm; 8] = [
    Harm::Packets(2e-3),
    Harm::Bursts(8e-3, 10.0),
    Harm::Datagrams(3e-3),
    Harm::Flips(3e-3),
    Harm::Bursts(1e-2, 50.0),
    Harm::Packets(1e-3),
    Harm::Bursts(1e-2, 200.0),
    Harm::Datagrams(1e-3),
];
/// To count.
const HARMS: [Harm; 8] = [
    Harm::Packets(1e-3),
    Harm::Bursts(2e-3, 10.0),
    Harm::Datagrams(1e-3),
    Harm::Flips(1e-3),
    Harm::Bursts(4e-3, 50.0),
    Harm::Packets(3e-4),
    Harm::Bursts(4e-3, 200.0),
    Harm::Datagrams(3e-4),
];

/// One clip of the matrix, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Base {
    /// What it shows.
    pub source: Source,
    /// How it is encoded before the damage.
    pub encoding: Encoding,
    /// What follows the damage.
    pub recode: Recode,
    harms: Vec<Harm>,
    seed: u64,
}

/// Bases `from..to` of a set; each is a function of its number.
pub fn bases(set: Set, from: usize, to: usize, seed: u64) -> Vec<Base> {
    let mut sources = Source::all(set);
    let mut chance = Chance::named(seed, "upstream");
    for i in (1..sources.len()).rev() {
        sources.swap(i, chance.below(i + 1));
    }
    let make = |n: usize| {
        let mut chance = Chance::named(seed, &format!("upstream {n}"));
        let source = sources.get(n % sources.len().max(1))?.clone();
        let codec = *chance.pick(&[Codec::H264, Codec::H264, Codec::Mpeg2, Codec::Hevc])?;
        let large = chance.hit(if set == Set::Tune { 0.2 } else { 0.08 });
        let (width, height) = if large { (1280, 720) } else { (640, 360) };
        let rate = *chance.pick(&[25.0, 25.0, 30.0, 50.0])?;
        let mut kbps = *chance.pick(&[500, 800, 1500])? * if large { 2 } else { 1 };
        if codec == Codec::Mpeg2 {
            kbps *= 2;
        }
        let gop = *chance.pick(&[0.5, 1.0, 2.0, 4.0])?;
        let mut encoding = Encoding::new(codec, width, height, rate, kbps, gop);
        if codec == Codec::H264 && chance.hit(0.5) {
            encoding.options = vec!["-slices".to_owned(), "4".to_owned()];
        }
        let shape = *Shape::ALL.get(n % 3)?;
        let again = [kbps / 2, kbps, kbps * 2];
        let recode = Recode {
            shape,
            bitrate_kbps: again.get(n / 3 % 3)?.clamp(&400, &8000).to_owned(),
        };
        let list = match set {
            Set::Tune => DENSE,
            _ => HARMS,
        };
        let harm = |i: usize| list.get((2 * n + i) % list.len()).copied();
        Some(Base {
            source,
            encoding,
            recode,
            harms: (0..2).filter_map(harm).collect(),
            seed: seed.wrapping_add(n as u64),
        })
    };
    (from..to).filter_map(make).collect()
}

/// A clip made ready.
#[derive(Debug, Clone)]
pub struct Clip {
    /// File.
    pub path: PathBuf,
    /// Its codec.
    pub codec: Codec,
    /// Its size.
    pub size: (usize, usize),
    /// Of a damaged one.
    pub truth: Option<Truth>,
}

impl Base {
    /// Words for tables.
    pub fn about(&self) -> String {
        format!(
            "{} {} {}",
            self.source.name,
            self.encoding.recipe(),
            self.recode.label()
        )
    }

    /// Makes the clips: intact as first encoded, intact encoded again, and the damaged ones encoded again.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn clips(&self, work: &Path, secs: f64) -> io::Result<Vec<Clip>> {
        let encoding = &self.encoding;
        let recipe = format!("{} {secs} {}", self.about(), self.seed);
        let key = Chance::named(0, &recipe).bits();
        let folder = work.join(format!("{}-{key:016x}", self.source.name));
        fs::create_dir_all(&folder)?;
        let size = (encoding.width, encoding.height);
        let small = self.recode.shape.size(size);
        let first = folder.join("intact.ts");
        if !first.exists() {
            let count = (secs * encoding.rate_hz).round() as usize;
            let frames = (self.source).open(encoding.width, encoding.height, encoding.rate_hz);
            encode(frames.take(count), encoding, &first)?;
        }
        let origin = origin_secs(&first)?.unwrap_or(0.0);
        let again = |clip: &Path, name: &str| -> io::Result<PathBuf> {
            let to = folder.join(format!("{name}+.ts"));
            if !to.exists() {
                self.recode.run(encoding, clip, origin, &to)?;
            }
            Ok(to)
        };
        let twin = again(&first, "intact")?;
        let mut clips = vec![
            Clip {
                path: first.clone(),
                codec: encoding.codec,
                size,
                truth: None,
            },
            Clip {
                path: twin.clone(),
                codec: Codec::H264,
                size: small,
                truth: None,
            },
        ];
        let syntax = match encoding.codec {
            Codec::Hevc => ts::Syntax::Hevc,
            Codec::Mpeg2 => ts::Syntax::Mpeg2,
            _ => ts::Syntax::H264,
        };
        for &harm in &self.harms {
            let damaged = folder.join(format!("{}.ts", harm.label()));
            if !damaged.exists() {
                let plan = Plan {
                    harm,
                    hidden: false,
                    seed: self.seed,
                };
                let packets = ts::packets(&fs::read(&first)?);
                let Some(packets) = impair::impair(&packets, syntax, plan) else {
                    continue;
                };
                write_whole(&damaged, packets.as_flattened())?;
            }
            let recoded = again(&damaged, &harm.label())?;
            let truth = kept_truth(&recoded, || {
                let mut a = Decoder::open(&first, encoding.codec, "", size)?;
                let mut b = Decoder::open(&damaged, encoding.codec, "", size)?;
                let before =
                    truth::compare(&mut || a.picture(), &mut || b.picture(), None, Some(origin))?;
                let filters = self.recode.filters(encoding, origin);
                let mut a = Decoder::open(&twin, Codec::H264, "", small)?;
                let mut b = Decoder::open(&recoded, Codec::H264, "", small)?;
                let mut clean = Decoder::open(&first, encoding.codec, &filters, small)?;
                let mut truth = truth::compare(
                    &mut || a.picture(),
                    &mut || b.picture(),
                    Some(&mut || clean.picture()),
                    origin_secs(&twin)?,
                )?;
                truth.mark_repeats(&before);
                Ok(truth)
            })?;
            clips.push(Clip {
                path: recoded,
                codec: Codec::H264,
                size: small,
                truth: Some(truth),
            });
        }
        Ok(clips)
    }
}

/// Hands every picture of a clip over, with its number and its time in the product's media clock.
fn watch(clip: &Clip, see: impl FnMut(usize, f64, &Picture<'_>)) -> io::Result<f64> {
    watch_touched(clip, |_| {}, see)
}

/// The same, with every picture first given to somebody who may change it.
fn watch_touched(
    clip: &Clip,
    mut touch: impl FnMut(&mut Luma),
    mut see: impl FnMut(usize, f64, &Picture<'_>),
) -> io::Result<f64> {
    let origin = origin_secs(&clip.path)?.unwrap_or(0.0);
    let mut decoder = Decoder::open(&clip.path, clip.codec, "", clip.size)?;
    let mut carry: Option<Carry> = None;
    let (mut n, mut last) = (0, 0.0);
    while let Some(mut luma) = decoder.picture()? {
        touch(&mut luma);
        let height = luma.rows.len() / luma.width.max(1);
        let samples = Samples::U8(&luma.rows);
        let Some(plane) = Plane::new(samples, luma.width, height, luma.width) else {
            continue;
        };
        let picture = Picture::new(plane, Range::Limited, carry.as_ref());
        last = luma.secs - origin;
        see(n, last, &picture);
        carry = Some(picture.into_carry());
        n += 1;
    }
    Ok(last)
}

/// What a clip gave to learn from.
#[derive(Debug, Default)]
pub struct Lesson {
    /// Records: four planes, the context (floats), label (float: 1 damaged, 0 sound, -1 neither), number of the clip,
    /// of the picture, and of the kind of clip (0 intact, 1 encoded again, 2 damaged), all little-endian 32 bit.
    pub bytes: Vec<u8>,
    /// Pictures, and those that the gate let through.
    pub seen: (u64, u64),
    /// Large events, and those with a moment that shows them.
    pub events: (u32, u32),
    /// Records by label: damaged, sound, neither.
    pub labels: [u32; 3],
}

fn bit(mask: &[u8], i: usize) -> bool {
    mask.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1)
}

/// Share of a place's changed tiles that are damaged in a picture or the one before; `None` near pictures that are
/// missing or repeated.
fn damaged_share(truth: &Truth, n: usize, moment: &Moment, place: usize) -> Option<f64> {
    let near = truth
        .frames
        .get(n.saturating_sub(1)..(n + 4).min(truth.frames.len()))?;
    if near.iter().any(|f| f.state != State::Shown) {
        return None;
    }
    let spot = moment.spots.get(place)?;
    let (x, y) = (spot.left.div_ceil(8), spot.top.div_ceil(8));
    let (mut changed, mut damaged) = (0, 0);
    for i in (y..y + 8).flat_map(|y| (x..x + 8).map(move |x| y * truth.columns + x)) {
        if moment.excess.get(i) == Some(&true) {
            changed += 1;
            damaged += u32::from(near.iter().take(2).any(|f| bit(&f.mask, i)));
        }
    }
    Some(f64::from(damaged) / f64::from(changed.max(1)))
}

/// Looks for moments in a clip. With a seed, a [`Vandal`] damages it on the way.
///
/// # Errors
/// When it cannot be decoded.
pub fn lesson(clip: &Clip, number: u32, kind: u32, vandal: Option<u64>) -> io::Result<Lesson> {
    let mut lesson = Lesson::default();
    let mut finder = Finder::default();
    let mut shown: Vec<f64> = Vec::new();
    let vandal = RefCell::new(vandal.map(Vandal::new));
    let touch = |luma: &mut Luma| {
        if let Some(vandal) = vandal.borrow_mut().as_mut() {
            vandal.touch(luma);
        }
    };
    watch_touched(clip, touch, |n, secs, picture| {
        let Some(moment) = finder.look(picture) else {
            return;
        };
        let born = n - moment.age as usize;
        let vandal = vandal.borrow();
        let truth = (vandal.as_ref().map(|v| &v.truth)).or(clip.truth.as_ref());
        for (place, (spot, patch)) in moment.spots.iter().zip(&moment.patches).enumerate() {
            let share = truth.map_or(Some(0.0), |t| damaged_share(t, born, &moment, place));
            let (label, kind_of) = match share {
                Some(share) if share >= 0.4 => (1.0f32, 0),
                Some(share) if share <= 0.02 => (0.0, 1),
                _ => (-1.0, 2),
            };
            if label > 0.0 {
                shown.push(secs);
            }
            if let Some(count) = lesson.labels.get_mut(kind_of) {
                *count += 1;
            }
            for plane in [&patch.before, &patch.born, &patch.unexplained, &patch.later] {
                lesson.bytes.extend_from_slice(plane);
            }
            for value in moment.context(spot).into_iter().chain([label]) {
                lesson.bytes.extend_from_slice(&value.to_le_bytes());
            }
            for value in [number, born as u32, kind] {
                lesson.bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
    })?;
    lesson.seen = finder.seen;
    for event in clip.truth.iter().flat_map(|t| t.events(0.05)) {
        if event.span.len() >= 0.3 {
            lesson.events.0 += 1;
            let near = |at: &f64| (event.span.start..event.span.end + 0.3).contains(at);
            lesson.events.1 += u32::from(shown.iter().any(near));
        }
    }
    Ok(lesson)
}

/// Runs the detector over a clip, with its rules at their defaults.
///
/// # Errors
/// When it cannot be decoded.
pub fn judge(clip: &Clip) -> io::Result<Watched> {
    let descriptor = &block_damage::DETECTOR;
    let mut detector = (descriptor.build)(&Options::defaults(descriptor.options));
    let mut watched = Watched::default();
    watched.media_secs = watch(clip, |_, secs, picture| {
        watched.pictures += 1;
        let at = Stamp {
            media: Some(MediaTime::from_nanos((secs * 1e9) as i64)),
            arrival: Arrival::from_nanos((secs.max(0.0) * 1e9) as u64),
            gap: Gap::None,
        };
        let unit = Unit {
            at,
            track: Some(Track::video(0)),
            media: Media::Video(picture),
        };
        let mut emit =
            |signal: &'static detectors::base::Signal, _, reading: detectors::base::Reading| {
                let value = match reading.value {
                    Value::Measured(v) => Some(v),
                    Value::Unmeasurable(_) => None,
                };
                let name = format!("{}.{}", descriptor.name, signal.name);
                (watched.readings.entry(name).or_default()).push((secs, value));
            };
        detector.observe(&unit, &mut Sink::new(&mut emit));
    })?;
    for rule in descriptor.rules {
        let name = format!("{}.{}", descriptor.name, rule.signal);
        let mut open: Option<Found> = None;
        for &(secs, value) in watched.readings.get(&name).map_or(&[][..], Vec::as_slice) {
            let Some(value) = value else { continue };
            if rule.raise.met(value) {
                let found = open.get_or_insert_with(|| Found {
                    detector: descriptor.name.to_owned(),
                    rule: rule.name.to_owned(),
                    severity: String::new(),
                    track: None,
                    place: None,
                    raised_secs: None,
                    start_secs: secs,
                    end_secs: secs,
                    value,
                });
                (found.end_secs, found.value) = (secs, found.value.max(value));
            } else if open
                .as_ref()
                .is_some_and(|f| secs - f.end_secs > rule.release.as_secs_f64())
            {
                watched.defects.extend(open.take());
            }
        }
        watched.defects.extend(open);
    }
    Ok(watched)
}

/// Judges all clips of a base into tallies by cell.
///
/// # Errors
/// When one cannot be made or decoded.
pub fn score(
    base: &Base,
    work: &Path,
    secs: f64,
    mut cell: impl FnMut(&str, &mut dyn FnMut(&mut Tally) -> Vec<Failure>),
) -> io::Result<Vec<String>> {
    let clips = base.clips(work, secs)?;
    let mut told = Vec::new();
    let watched: Vec<Watched> = clips.iter().map(judge).collect::<io::Result<_>>()?;
    let cells = [
        "C".to_owned(),
        format!("C {}", base.encoding.codec.name()),
        format!("C shape {}", base.recode.shape.name()),
        format!(
            "C rate x{:.1}",
            f64::from(base.recode.bitrate_kbps) / f64::from(base.encoding.bitrate_kbps)
        ),
        format!("C {}p", base.encoding.height),
    ];
    for (clip, seen) in clips.iter().zip(&watched) {
        for name in &cells {
            let mut failures = Vec::new();
            cell(name, &mut |tally| {
                failures = match &clip.truth {
                    None => tally.add_intact(seen),
                    Some(truth) => tally.add(&Evaluated {
                        truth,
                        watched: seen,
                        twin: watched.get(1).unwrap_or(seen),
                        peer: None,
                        against_twin: true,
                    }),
                };
                Vec::new()
            });
            if name == "C" {
                told.extend(failures.iter().map(|f| {
                    format!(
                        "{:<12} {:6.2}..{:<6.2} peak {:.3} reading {:.4} {} {}",
                        f.kind,
                        f.span.start,
                        f.span.end,
                        f.peak,
                        f.reading,
                        base.about(),
                        clip.path.display()
                    )
                }));
            }
        }
    }
    Ok(told)
}

/// A clean clip of a generated class that is in no other part of the proving ground, at a low or a high rate.
///
/// # Errors
/// When it cannot be made.
pub fn clean(set: Set, n: usize, work: &Path, secs: f64) -> io::Result<(Clip, Class, Encoding)> {
    let mut chance = Chance::named(0, &format!("{} clean {n}", set.name()));
    let class = *(Class::GENERATED.get(n % Class::GENERATED.len())).unwrap_or(&Class::Pan);
    let source = Source::generated(set, class, 300_000 + (n / Class::GENERATED.len()) as u64);
    let codec = *(chance.pick(&[Codec::H264, Codec::H264, Codec::Mpeg2, Codec::Hevc]))
        .unwrap_or(&Codec::H264);
    let rate = *chance.pick(&[25.0, 30.0, 50.0]).unwrap_or(&25.0);
    let kbps = match codec {
        Codec::Mpeg2 => *chance.pick(&[700, 1500]).unwrap_or(&1500),
        _ => *chance.pick(&[250, 500, 1500]).unwrap_or(&500),
    };
    let gop = *chance.pick(&[0.5, 1.0, 2.0, 5.0]).unwrap_or(&2.0);
    let encoding = Encoding::new(codec, 640, 360, rate, kbps, gop);
    let path = work.join(format!("clean-{}-{n}-{secs}.ts", set.name()));
    if !path.exists() {
        let count = (secs * rate).round() as usize;
        encode(source.open(640, 360, rate).take(count), &encoding, &path)?;
    }
    let clip = Clip {
        path,
        codec,
        size: (640, 360),
        truth: None,
    };
    Ok((clip, class, encoding))
}

/// A clean clip damaged, shaped and encoded again, with the truth of before the second encoding; `None` when there
/// was nothing to damage. The file lies beside the clean one.
///
/// # Errors
/// When it cannot be made.
pub fn harmed(clean: &Clip, encoding: &Encoding, n: usize) -> io::Result<Option<Clip>> {
    let syntax = match encoding.codec {
        Codec::Hevc => ts::Syntax::Hevc,
        Codec::Mpeg2 => ts::Syntax::Mpeg2,
        _ => ts::Syntax::H264,
    };
    let mut chance = Chance::named(n as u64, "harmed");
    let (Some(&harm), Some(&shape)) = (chance.pick(&DENSE), chance.pick(&Shape::ALL)) else {
        return Ok(None);
    };
    let recode = Recode {
        shape,
        bitrate_kbps: *chance.pick(&[400, 800, 2000]).unwrap_or(&800),
    };
    let plan = Plan {
        harm,
        hidden: false,
        seed: n as u64,
    };
    let packets = ts::packets(&fs::read(&clean.path)?);
    let Some(packets) = impair::impair(&packets, syntax, plan) else {
        return Ok(None);
    };
    let damaged = clean.path.with_extension(format!("{n}.ts"));
    write_whole(&damaged, packets.as_flattened())?;
    let origin = origin_secs(&clean.path)?.unwrap_or(0.0);
    let filters = recode.filters(encoding, origin);
    let small = shape.size(clean.size);
    let mut a = Decoder::open(&clean.path, encoding.codec, &filters, small)?;
    let mut b = Decoder::open(&damaged, encoding.codec, &filters, small)?;
    let truth = truth::compare(&mut || a.picture(), &mut || b.picture(), None, None)?;
    let path = clean.path.with_extension(format!("{n}+.ts"));
    let made = recode.run(encoding, &damaged, origin, &path);
    fs::remove_file(&damaged)?;
    made?;
    Ok(Some(Clip {
        path,
        codec: Codec::H264,
        size: small,
        truth: Some(truth),
    }))
}

/// What it costs at 1080p, milliseconds, best of some: the gate on a picture, cutting a patch out, the net on it.
///
/// # Errors
/// When a picture cannot be made.
pub fn cost() -> io::Result<[f64; 3]> {
    let source = Source::generated(Set::Tune, Class::Pan, 0);
    let halves: Vec<HalfLuma> = (source.open(1920, 1080, 25.0).take(2))
        .filter_map(|raw| {
            let samples = Samples::U8(&raw.y);
            Some(HalfLuma::of(&Plane::new(
                samples, raw.width, raw.height, raw.width,
            )?))
        })
        .collect();
    let [before, born] = halves.as_slice() else {
        return Err(io::Error::other("no pictures"));
    };
    let tiles = Tiles::of(born, Some(before));
    let best = |work: &mut dyn FnMut()| {
        let times = (0..60).map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64() * 1e3
        });
        times.fold(f64::INFINITY, f64::min)
    };
    let mut gate = Gate::default();
    let size = (born.width(), born.height());
    let of_gate = best(&mut || {
        black_box(gate.look(tiles.all(), tiles.columns(), size));
    });
    let spot = Spot {
        left: 320,
        top: 200,
        filled: 0.5,
        change: 20.0,
        usual: 2.0,
    };
    let mut patch = Patch::cut(&spot, before, born);
    patch.add_later(&spot, born);
    let of_patch = best(&mut || {
        black_box(Patch::cut(&spot, before, born));
    });
    let of_net = best(&mut || {
        black_box(NET.log_odds(&patch, &[0.1; CONTEXT]));
    });
    Ok([of_gate, of_patch, of_net])
}

/// Appends records to a file.
///
/// # Errors
/// When it cannot be written.
pub fn append(to: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(to)?;
    file.write_all(bytes)
}

/// Name of the detector's reading that grades suspicion.
pub const SCORE: &str = tally::LONE_SIGNAL;

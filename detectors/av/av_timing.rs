//! Sound and picture against each other, and each against its own clock, by timestamps alone.
//!
//! Three clocks are kept. The *sample clock* compares decoded samples / rate with the audio timestamps: a step is
//! a gap or an overlap, a slope is drift. The *picture clock* compares picture times with their recent cadence.
//! The *skew* is where audio lies beside video in the multiplex ([`Fact::AvSkew`]), as a distribution, because
//! interleaving jitters by tens of milliseconds.
//!
//! A shift between sound and picture needs two witnesses: a step of the sample or picture clock, and a lasting
//! step of the skew of about the same size. A step of a clock alone is lost or repeated media: what follows
//! still lies beside the right pictures. A step of the skew alone is another interleaving, which nobody sees or
//! hears. The size told is that of the clock, which is exact. The baseline is what was learned at the start; a
//! shift that lasts does not become the new normal.
//!
//! Blind by nature to whatever was shifted before the timestamps were made.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, Gap, InputEvent, Kind, Limit, Media,
    MediaTime, Needs, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, SkewBasis, Sound,
    Track, TrackInfo, Unit, Why,
};

/// Largest shift told, seconds.
const SHIFT_MAX_SECS: f64 = 60.0;
/// Largest sum of gaps told, seconds.
const GAP_MAX_SECS: f64 = 3600.0;
/// Largest drift told; more is not a clock.
const DRIFT_MAX_PPM: f64 = 10_000.0;
/// Gaps and overlaps are summed over this window.
const RECENT: Duration = Duration::from_secs(10);
/// Signals are told this often, on the media clock.
const TELL_EVERY_SECS: f64 = 0.25;
/// Smallest step of the sample clock: below the shortest audio frame (20 ms Opus), above the jitter of
/// timestamps in milliseconds.
const STEP_MIN_SECS: f64 = 0.015;
/// A step is one when this many blocks in a row agree, within this.
const STEP_BLOCKS: u32 = 3;
const STEP_AGREE_SECS: f64 = 0.01;
/// Smallest shift looked for: detectability begins at 45 ms.
const SHIFT_MIN_SECS: f64 = 0.04;
/// A jump of raw timestamps beyond this is another timeline.
const JUMP_MIN_SECS: f64 = 2.0;
/// Log likelihood ratio at which it is decided whether the skew followed a clock step (a sequential test after
/// Wald, with errors of about e^-12 if skews were independent; they are not quite).
const DECIDE_AT: f64 = 12.0;
/// A skew step confirms a clock step when they differ by no more than this share, within bounds.
const CONFIRM_SHARE: f64 = 0.35;
const CONFIRM_SECS: (f64, f64) = (0.03, 0.15);
/// How long a clock step waits to be confirmed.
const CONFIRM_WITHIN_SECS: f64 = 10.0;
/// A skew step without a clock step is accepted as another interleaving after this long: longer than facts run
/// ahead of decoded sound (one segment).
const INTERLEAVE_AFTER_SECS: f64 = 20.0;
/// Skews kept: a segment's worth may run ahead of decoded sound.
const SKEWS: usize = 1024;
/// A baseline follows skews no faster than by this share each.
const FOLLOW: f64 = 2e-4;
/// Points of the drift fit, one a second, and the least that gives a slope.
const FIT_POINTS: usize = 300;
const FIT_MIN_SECS: f64 = 40.0;
/// Picture intervals kept, and the least that make a cadence.
const INTERVALS: usize = 32;
const INTERVALS_MIN: usize = 8;
/// Media may stay away this long before nothing can be said, unless the source tells its patience.
const ABSENT_AFTER: Duration = Duration::from_secs(10);
/// Without any skew for this long there will be none: not every container tells.
const NO_SKEW_AFTER_SECS: f64 = 30.0;

static SIGNALS: [Signal; 5] = [
    Signal {
        name: "audio_early_secs",
        unit: "seconds",
        range: (-SHIFT_MAX_SECS, SHIFT_MAX_SECS),
        basis: Basis::Media,
        help: "Shift of sound against picture since the baseline was learned; positive = audio early.",
    },
    Signal {
        name: "audio_gap_secs",
        unit: "seconds",
        range: (0.0, GAP_MAX_SECS),
        basis: Basis::Media,
        help: "Sound missing by timestamps, over the last 10 s.",
    },
    Signal {
        name: "audio_overlap_secs",
        unit: "seconds",
        range: (0.0, GAP_MAX_SECS),
        basis: Basis::Media,
        help: "Sound too much for its timestamps, over the last 10 s.",
    },
    Signal {
        name: "video_gap_secs",
        unit: "seconds",
        range: (0.0, GAP_MAX_SECS),
        basis: Basis::Media,
        help: "Pictures missing by timestamps, over the last 10 s: only holes of more than 0.5 s and three times \
               the recent interval, so that a variable frame rate is none.",
    },
    Signal {
        name: "drift_ppm",
        unit: "parts per million",
        range: (-DRIFT_MAX_PPM, DRIFT_MAX_PPM),
        basis: Basis::Media,
        help: "How much faster sound is delivered than its timestamps tell; negative = slower.",
    },
];
static AUDIO_EARLY: &Signal = &SIGNALS[0];
static AUDIO_GAP: &Signal = &SIGNALS[1];
static AUDIO_OVERLAP: &Signal = &SIGNALS[2];
static VIDEO_GAP: &Signal = &SIGNALS[3];
static DRIFT: &Signal = &SIGNALS[4];
/// Signals of an audio track.
static OF_AUDIO: [&Signal; 4] = [AUDIO_EARLY, AUDIO_GAP, AUDIO_OVERLAP, DRIFT];

const fn rule(
    name: &'static str,
    signal: &'static str,
    (raise, clear): (Limit, Limit),
    (hold, release): (u64, u64),
    severity: Severity,
    cause: Cause,
    says: &'static str,
) -> RuleSpec {
    RuleSpec {
        name,
        signal,
        raise,
        clear,
        hold: Duration::from_secs(hold),
        release: Duration::from_secs(release),
        severity,
        cause,
        says,
    }
}

/// Timing of sound and picture.
pub static DETECTOR: Descriptor = Descriptor {
    name: "av_timing",
    doc: "Lips and sound move apart, or sound or pictures are missing or doubled, by timestamps. Limits of the \
          shift are those of ITU-R BT.1359-1: a viewer notices sound 45 ms early or 125 ms late, and does not \
          accept 90 ms early or 185 ms late. It is a change against the stream's own beginning, not an absolute \
          offset.",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        rule(
            "audio_early_unacceptable",
            "audio_early_secs",
            (Limit::AtLeast(0.090), Limit::AtMost(0.080)),
            (1, 2),
            Severity::Critical,
            Cause::AvSkew,
            "The sound comes far too early for the picture.",
        ),
        rule(
            "audio_late_unacceptable",
            "audio_early_secs",
            (Limit::AtMost(-0.185), Limit::AtLeast(-0.170)),
            (1, 2),
            Severity::Critical,
            Cause::AvSkew,
            "The sound comes far too late for the picture.",
        ),
        rule(
            "audio_early",
            "audio_early_secs",
            (Limit::AtLeast(0.045), Limit::AtMost(0.040)),
            (2, 2),
            Severity::Warning,
            Cause::AvSkew,
            "The sound comes noticeably early for the picture.",
        ),
        rule(
            "audio_late",
            "audio_early_secs",
            (Limit::AtMost(-0.125), Limit::AtLeast(-0.115)),
            (2, 2),
            Severity::Warning,
            Cause::AvSkew,
            "The sound comes noticeably late for the picture.",
        ),
        rule(
            "audio_gap",
            "audio_gap_secs",
            (Limit::AtLeast(0.1), Limit::AtMost(0.0)),
            (0, 0),
            Severity::Warning,
            Cause::TimestampGap,
            "Pieces of the sound are missing.",
        ),
        rule(
            "audio_overlap",
            "audio_overlap_secs",
            (Limit::AtLeast(0.1), Limit::AtMost(0.0)),
            (0, 0),
            Severity::Warning,
            Cause::TimestampOverlap,
            "Pieces of the sound overlap or are repeated.",
        ),
        rule(
            "video_gap",
            "video_gap_secs",
            (Limit::AtLeast(0.5), Limit::AtMost(0.0)),
            (0, 0),
            Severity::Warning,
            Cause::TimestampGap,
            "Pictures are missing.",
        ),
        rule(
            "clock_fast",
            "drift_ppm",
            (Limit::AtLeast(100.0), Limit::AtMost(60.0)),
            (20, 20),
            Severity::Warning,
            Cause::ClockDrift,
            "The sound slowly drifts away from the picture.",
        ),
        rule(
            "clock_slow",
            "drift_ppm",
            (Limit::AtMost(-100.0), Limit::AtLeast(-60.0)),
            (20, 20),
            Severity::Warning,
            Cause::ClockDrift,
            "The sound slowly drifts away from the picture.",
        ),
    ],
    options: &[],
    build: |_| Box::new(AvTiming::default()),
};

/// A step of a clock: media later by `secs` than what came before it foretold.
#[derive(Debug, Clone, Copy)]
struct Step {
    at: MediaTime,
    secs: f64,
}

/// Steps of the last 10 s.
#[derive(Debug, Default)]
struct Recent(VecDeque<Step>);

impl Recent {
    fn push(&mut self, step: Step) {
        if self.0.len() == 256 {
            self.0.pop_front();
        }
        self.0.push_back(step);
    }

    fn sum(&mut self, now: MediaTime) -> (f64, Option<MediaTime>) {
        let span = RECENT.as_secs_f64();
        self.0.retain(|s| now.secs_after(s.at).abs() < span);
        let sum = self.0.iter().map(|s| s.secs).sum::<f64>();
        (sum.min(GAP_MAX_SECS), self.0.front().map(|s| s.at))
    }

    fn reading(&mut self, now: MediaTime) -> Reading {
        let (sum, since) = self.sum(now);
        Reading::measured(sum).since(since)
    }
}

fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Least-squares slope through one point a second.
#[derive(Debug, Default)]
struct Fit {
    points: VecDeque<(f64, f64)>,
    /// Second in hand: number, sum of errors, count.
    second: Option<(f64, f64, u32)>,
    slope: Option<f64>,
}

impl Fit {
    fn add(&mut self, t: f64, error: f64) {
        let number = t.floor();
        match &mut self.second {
            Some((n, sum, count)) if *n == number => {
                *sum += error;
                *count += 1;
                return;
            }
            Some((n, sum, count)) => {
                if self.points.len() == FIT_POINTS {
                    self.points.pop_front();
                }
                self.points.push_back((*n, *sum / f64::from(*count)));
            }
            None => {}
        }
        self.second = Some((number, error, 1));
        self.slope = self.solve();
    }

    fn solve(&self) -> Option<f64> {
        let span = self.points.back()?.0 - self.points.front()?.0;
        let n = self.points.len() as f64;
        if span < FIT_MIN_SECS || n < FIT_MIN_SECS * 0.75 {
            return None;
        }
        let (st, se) = self
            .points
            .iter()
            .fold((0.0, 0.0), |a, p| (a.0 + p.0, a.1 + p.1));
        let (mt, me) = (st / n, se / n);
        let (tt, te) = self.points.iter().fold((0.0, 0.0), |a, (t, e)| {
            (a.0 + (t - mt) * (t - mt), a.1 + (t - mt) * (e - me))
        });
        (tt > 0.0).then(|| te / tt)
    }
}

/// Decoded samples against audio timestamps.
#[derive(Debug)]
struct SampleClock {
    rate_hz: u32,
    /// Start of the drift fit.
    origin: MediaTime,
    /// Samples are counted from here, so that rounded timestamps never add up.
    anchor: MediaTime,
    samples: u64,
    /// Usual timestamp minus count, seconds; follows slowly.
    level: f64,
    /// Error of the same kind that steps and anchors have put aside; not drift.
    aside: f64,
    /// A deviation that may become a step: where it began, its error, blocks.
    suspect: Option<(MediaTime, f64, u32)>,
    fit: Fit,
}

impl SampleClock {
    fn new(at: MediaTime, rate_hz: u32) -> Self {
        Self {
            rate_hz,
            origin: at,
            anchor: at,
            samples: 0,
            level: 0.0,
            aside: 0.0,
            suspect: None,
            fit: Fit::default(),
        }
    }

    /// Timestamp minus sample count.
    fn error(&self, at: MediaTime) -> f64 {
        at.secs_after(self.anchor) - self.samples as f64 / f64::from(self.rate_hz)
    }

    /// Starts counting at `at`; tells by how much that lies off what was expected.
    fn anchor(&mut self, at: MediaTime) -> f64 {
        let step = self.error(at) - self.level;
        self.aside -= self.level;
        self.anchor = at;
        self.samples = 0;
        self.level = 0.0;
        self.suspect = None;
        step
    }

    fn observe(&mut self, at: MediaTime, frames: u64) -> Option<Step> {
        let error = self.error(at);
        self.samples += frames;
        let off = error - self.level;
        if off.abs() < STEP_MIN_SECS {
            self.suspect = None;
            self.level += off * 0.05;
            let t = at.secs_after(self.origin);
            self.fit.add(t, error - self.aside);
            return None;
        }
        let (since, first, blocks) = match self.suspect {
            Some((since, first, blocks)) if (error - first).abs() < STEP_AGREE_SECS => {
                (since, first, blocks + 1)
            }
            _ => (at, error, 1),
        };
        if blocks < STEP_BLOCKS {
            self.suspect = Some((since, first, blocks));
            return None;
        }
        self.suspect = None;
        self.level += off;
        self.aside += off;
        Some(Step {
            at: since,
            secs: off,
        })
    }

    /// Positive = more samples than timestamps tell.
    fn drift_ppm(&self) -> Option<f64> {
        let ppm = self.fit.slope? * -1e6;
        Some(ppm.clamp(-DRIFT_MAX_PPM, DRIFT_MAX_PPM))
    }
}

/// Picture times against their cadence.
#[derive(Debug, Default)]
struct PictureClock {
    last: Option<MediaTime>,
    seen: Option<Arrival>,
    told: Option<MediaTime>,
    intervals: VecDeque<f64>,
    gaps: Recent,
    announced_secs: f64,
}

impl PictureClock {
    /// A possible step; long ones are kept as gaps.
    fn observe(&mut self, at: MediaTime, gap: Gap) -> Option<Step> {
        let last = self.last.replace(at)?;
        let interval = at.secs_after(last);
        let mut sorted: Vec<f64> = self.intervals.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let usual = sorted.get(sorted.len() / 2).copied();
        // A tenth may be outliers: a second gap is still one, a variable rate is none.
        let long = sorted.get(sorted.len() * 9 / 10).copied();
        let ours = matches!(gap, Gap::WeDropped(_));
        if interval > 0.0 && !ours {
            if self.intervals.len() == INTERVALS {
                self.intervals.pop_front();
            }
            self.intervals.push_back(interval.min(5.0));
        }
        let (Some(usual), Some(long)) = (usual, long) else {
            return None;
        };
        if ours || sorted.len() < INTERVALS_MIN {
            return None;
        }
        let secs = interval - usual;
        if gap == Gap::None && interval > f64::max(0.5, 3.0 * long) {
            let missing = unannounced(secs, &mut self.announced_secs);
            self.gaps.push(Step { at, secs: missing });
        }
        (secs.abs() >= SHIFT_MIN_SECS).then_some(Step { at, secs })
    }
}

/// What remains of a gap after what was announced.
fn unannounced(secs: f64, announced: &mut f64) -> f64 {
    (secs - std::mem::take(announced)).max(0.0)
}

/// A clock step that may be a shift.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    step: Step,
    /// Skews from here on belong to what follows the step.
    from: MediaTime,
}

/// Distribution of the skew: interleaving jitters, by 60 ms (standard deviation) where audio PES are long.
#[derive(Debug, Clone, Copy)]
struct Level {
    mean: f64,
    variance: f64,
    count: f64,
    /// Short-term mean.
    present: f64,
}

/// Where audio lies beside video, by one way of reading it.
#[derive(Debug)]
struct Skew {
    basis: SkewBasis,
    facts: VecDeque<(MediaTime, f64)>,
    /// How many facts, from the front, have been taken into the level.
    taken: usize,
    /// Learned at the start; then moved by confirmed steps, and slowly.
    level: Option<Level>,
    /// The short-term mean has been off the level since.
    off_since: Option<MediaTime>,
}

impl Skew {
    fn new(basis: SkewBasis) -> Self {
        Self {
            basis,
            facts: VecDeque::new(),
            taken: 0,
            level: None,
            off_since: None,
        }
    }

    /// Least number of readings that decide, smallest standard deviation, gain of the short-term mean:
    /// segments are read nearly exactly, a multiplex jitters.
    fn nature(&self) -> (usize, f64, f64) {
        match self.basis {
            SkewBasis::Multiplex => (5, 0.02, 0.1),
            SkewBasis::Segment => (2, 0.012, 0.5),
        }
    }

    fn add(&mut self, at: MediaTime, secs: f64) {
        if self.facts.len() == SKEWS {
            self.facts.pop_front();
            self.taken = self.taken.saturating_sub(1);
        }
        self.facts.push_back((at, secs));
        if self.level.is_none() && self.enough() {
            self.level = Some(self.learn());
            self.taken = self.facts.len();
        }
    }

    fn enough(&self) -> bool {
        let count = self.facts.len();
        let span = match (self.facts.front(), self.facts.back()) {
            (Some(first), Some(last)) => last.0.secs_after(first.0).abs(),
            _ => 0.0,
        };
        match self.basis {
            // Facts of a burst may all bear one time.
            SkewBasis::Multiplex => (count >= 16 && span >= 3.0) || count >= 256,
            SkewBasis::Segment => count >= 2,
        }
    }

    /// Mean and variance without outliers: the start of a multiplex is often uneven.
    fn learn(&self) -> Level {
        let mut all: Vec<f64> = self.facts.iter().map(|f| f.1).collect();
        let middle = median(&mut all);
        let mut off: Vec<f64> = all.iter().map(|x| (x - middle).abs()).collect();
        let most = 4.5 * median(&mut off) + 0.1;
        all.retain(|x| (x - middle).abs() <= most);
        let count = all.len().max(1) as f64;
        let mean = all.iter().sum::<f64>() / count;
        let variance = all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        Level {
            mean,
            variance,
            count,
            present: mean,
        }
    }

    fn deviation(&self, level: Level) -> f64 {
        level.variance.sqrt().max(self.nature().1)
    }

    /// Takes in what decoded sound has passed; `calm`: no clock step waits to be judged.
    fn follow(&mut self, heard: MediaTime, calm: bool) {
        let gain = self.nature().2;
        while let (Some(level), Some((at, secs))) = (self.level, self.facts.get(self.taken)) {
            if heard.secs_after(*at) < 0.5 {
                break;
            }
            let mut next = level;
            next.present += (secs - level.present) * gain;
            let off = secs - level.mean;
            let usual = off.abs() < 4.0 * self.deviation(level);
            if calm && usual && self.off_since.is_none() {
                next.count += 1.0;
                let gain = f64::max(1.0 / next.count, FOLLOW);
                next.mean += off * gain;
                next.variance += (off * off - level.variance) * gain;
            }
            let is_off = (next.present - next.mean).abs() > SHIFT_MIN_SECS;
            self.off_since = is_off.then(|| self.off_since.unwrap_or(*at));
            self.level = Some(next);
            self.taken += 1;
        }
    }

    /// Whether the skew has followed a clock step; `None` = cannot tell yet.
    fn followed(&self, candidate: &Candidate) -> Option<bool> {
        let level = self.level?;
        let (quorum, ..) = self.nature();
        let deviation = self.deviation(level);
        let step = candidate.step.secs;
        let most = step.abs() + 4.0 * deviation;
        let (mut ratio, mut sum, mut count) = (0.0, 0.0, 0usize);
        for (_, secs) in self.facts.iter().filter(|f| f.0 >= candidate.from) {
            let off = (secs - level.mean).clamp(-most, most);
            ratio += step * (off - step / 2.0) / (deviation * deviation);
            sum += off;
            count += 1;
            if count < quorum {
                continue;
            }
            if ratio <= -DECIDE_AT {
                return Some(false);
            }
            if ratio >= DECIDE_AT && agree(sum / count as f64, step) {
                return Some(true);
            }
        }
        None
    }

    /// Moves the level for good.
    fn settle(&mut self, mean: f64) {
        if let Some(level) = &mut self.level {
            level.mean = mean;
            level.present = mean;
            level.count = level.count.min(50.0);
        }
        self.off_since = None;
    }
}

fn agree(skew: f64, clock: f64) -> bool {
    let slack = (CONFIRM_SHARE * clock.abs()).clamp(CONFIRM_SECS.0, CONFIRM_SECS.1);
    (skew - clock).abs() <= slack
}

/// One audio track.
#[derive(Debug)]
struct AudioTrack {
    clock: Option<SampleClock>,
    gaps: Recent,
    overlaps: Recent,
    announced_secs: f64,
    multiplex: Skew,
    segment: Skew,
    /// Clock steps that wait for the skew to follow; positive = audio later.
    candidates: VecDeque<Candidate>,
    early_secs: f64,
    early_since: Option<MediaTime>,
    first: Option<MediaTime>,
    newest: Option<MediaTime>,
    told: Option<MediaTime>,
    seen: Option<Arrival>,
}

impl AudioTrack {
    fn new() -> Self {
        Self {
            clock: None,
            gaps: Recent::default(),
            overlaps: Recent::default(),
            announced_secs: 0.0,
            multiplex: Skew::new(SkewBasis::Multiplex),
            segment: Skew::new(SkewBasis::Segment),
            candidates: VecDeque::new(),
            early_secs: 0.0,
            early_since: None,
            first: None,
            newest: None,
            told: None,
            seen: None,
        }
    }

    /// Another timeline: the old baseline says nothing about it.
    fn relearn(&mut self) {
        self.multiplex = Skew::new(SkewBasis::Multiplex);
        self.segment = Skew::new(SkewBasis::Segment);
        self.candidates.clear();
        self.clock = None;
        self.early_secs = 0.0;
        self.early_since = None;
        self.first = None;
    }

    fn sound(&mut self, sound: &Sound<'_>, at: MediaTime, gap: Gap) {
        self.first.get_or_insert(at);
        self.newest = Some(at);
        let rate_hz = sound.rate_hz();
        let same = |c: &SampleClock| c.rate_hz == rate_hz;
        self.clock = self.clock.take().filter(same);
        let clock = self
            .clock
            .get_or_insert_with(|| SampleClock::new(at, rate_hz));
        let aside = match gap {
            Gap::None => None,
            Gap::Discontinuity => Some(clock.anchor(at)),
            Gap::WeDropped(_) => {
                clock.anchor(at);
                None
            }
        };
        let step = clock.observe(at, sound.frames() as u64);
        if let Some(secs) = aside {
            self.wonder(Step { at, secs }, Kind::Audio);
        }
        if let Some(step) = step {
            if step.secs < 0.0 {
                let secs = -step.secs;
                self.overlaps.push(Step { secs, ..step });
            } else {
                let secs = unannounced(step.secs, &mut self.announced_secs);
                self.gaps.push(Step { secs, ..step });
            }
            self.wonder(step, Kind::Audio);
        }
        self.decide();
    }

    /// Keeps a clock step until the skew has told whether it is a shift.
    fn wonder(&mut self, step: Step, of: Kind) {
        if !(SHIFT_MIN_SECS..=SHIFT_MAX_SECS).contains(&step.secs.abs()) {
            return;
        }
        if self.candidates.len() == 8 {
            self.candidates.pop_front();
        }
        // Sound before a step back, and sound sent ahead of its pictures, bears times from after the step.
        let mut secs = f64::max(0.0, -step.secs);
        if let (Kind::Video, Some(level)) = (of, self.witness().and_then(|w| w.level)) {
            secs = step.secs.abs() + level.mean.max(0.0);
        }
        let from = step
            .at
            .plus(Duration::from_secs_f64(secs.min(SHIFT_MAX_SECS)));
        self.candidates.push_back(Candidate { step, from });
    }

    fn skew(&mut self, at: Option<MediaTime>, secs: f64, basis: SkewBasis) {
        let at = at.or(self.newest).unwrap_or_default();
        match basis {
            SkewBasis::Multiplex => self.multiplex.add(at, secs),
            SkewBasis::Segment => self.segment.add(at, secs),
        }
        self.decide();
    }

    /// The way of reading that counts.
    fn witness(&mut self) -> Option<&mut Skew> {
        [&mut self.multiplex, &mut self.segment]
            .into_iter()
            .find(|s| s.level.is_some())
    }

    fn decide(&mut self) {
        let Some(now) = self.newest else {
            return;
        };
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.retain(|c| now.secs_after(c.from) < CONFIRM_WITHIN_SECS);
        let early = self.early_secs;
        let Some(witness) = self.witness() else {
            return;
        };
        let mut found = None;
        candidates.retain(|c| match witness.followed(c) {
            Some(true) => {
                found = Some(c.step);
                false
            }
            Some(false) => false,
            None => true,
        });
        if let (Some(step), Some(level)) = (found, witness.level) {
            witness.settle(level.mean + step.secs);
            // Others were judged against the old level.
            candidates.clear();
            self.shift_to(early - step.secs, step.at);
        } else {
            witness.follow(now, candidates.is_empty());
            self.candidates = candidates;
            self.accept_interleaving(now);
        }
    }

    fn accept_interleaving(&mut self, now: MediaTime) {
        let early = self.early_secs;
        let Some(witness) = self.witness() else {
            return;
        };
        let (Some(level), Some(since)) = (witness.level, witness.off_since) else {
            return;
        };
        if now.secs_after(since) < INTERLEAVE_AFTER_SECS {
            return;
        }
        witness.settle(level.present);
        // Back by as much as was shifted: the step back was hidden, by our own loss perhaps.
        if early != 0.0 && agree(level.present - level.mean, early) {
            self.shift_to(0.0, since);
        }
    }

    fn shift_to(&mut self, early_secs: f64, at: MediaTime) {
        self.told = None;
        if early_secs.abs() < SHIFT_MIN_SECS / 2.0 {
            self.early_secs = 0.0;
            self.early_since = None;
        } else {
            self.early_secs = early_secs.clamp(-SHIFT_MAX_SECS, SHIFT_MAX_SECS);
            self.early_since = Some(at);
        }
    }

    fn early(&self, video: Option<Why>) -> Reading {
        let waited = match (self.first, self.newest) {
            (Some(first), Some(newest)) => newest.secs_after(first),
            _ => 0.0,
        };
        let learned = self.multiplex.level.is_some() || self.segment.level.is_some();
        let silent = self.multiplex.facts.is_empty() && self.segment.facts.is_empty();
        match video {
            Some(Why::WarmingUp) if waited > NO_SKEW_AFTER_SECS => {
                Reading::unmeasurable(Why::NotApplicable)
            }
            Some(why) => Reading::unmeasurable(why),
            None if learned => Reading::measured(self.early_secs).since(self.early_since),
            None if silent && waited > NO_SKEW_AFTER_SECS => {
                Reading::unmeasurable(Why::NotApplicable)
            }
            None => Reading::unmeasurable(Why::WarmingUp),
        }
    }

    fn tell(&mut self, id: Track, at: MediaTime, video: Option<Why>, out: &mut Sink<'_>) {
        out.put_on(id, AUDIO_EARLY, self.early(video));
        out.put_on(id, AUDIO_GAP, self.gaps.reading(at));
        out.put_on(id, AUDIO_OVERLAP, self.overlaps.reading(at));
        let drift = match self.clock.as_ref().and_then(SampleClock::drift_ppm) {
            Some(ppm) => Reading::measured(ppm),
            None => Reading::unmeasurable(Why::WarmingUp),
        };
        out.put_on(id, DRIFT, drift);
    }
}

struct AvTiming {
    absent_after: Duration,
    start: Option<Arrival>,
    /// Kinds announced: video, audio.
    announced: Option<(bool, bool)>,
    video: BTreeMap<Track, PictureClock>,
    audio: BTreeMap<Track, AudioTrack>,
}

impl Default for AvTiming {
    fn default() -> Self {
        Self {
            absent_after: ABSENT_AFTER,
            start: None,
            announced: None,
            video: BTreeMap::new(),
            audio: BTreeMap::new(),
        }
    }
}

/// Whether it is time to tell again.
fn due(told: &mut Option<MediaTime>, at: MediaTime) -> bool {
    let due = told.is_none_or(|t| at.secs_after(t).abs() >= TELL_EVERY_SECS);
    if due {
        *told = Some(at);
    }
    due
}

impl AvTiming {
    fn picture(&mut self, id: Track, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let clock = self.video.entry(id).or_default();
        clock.seen = Some(unit.at.arrival);
        let Some(at) = unit.at.media else {
            out.put_on(id, VIDEO_GAP, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let step = clock.observe(at, unit.at.gap);
        if due(&mut clock.told, at) {
            out.put_on(id, VIDEO_GAP, clock.gaps.reading(at));
        }
        if let (Some(step), 0) = (step, id.index) {
            // Pictures later is sound earlier.
            let secs = -step.secs;
            for track in self.audio.values_mut() {
                track.wonder(Step { secs, ..step }, Kind::Video);
                track.decide();
            }
        }
    }

    fn hear(&mut self, id: Track, sound: &Sound<'_>, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let video = self.video_missing(unit.at.arrival);
        let track = self.audio.entry(id).or_insert_with(AudioTrack::new);
        track.seen = Some(unit.at.arrival);
        let Some(at) = unit.at.media else {
            for signal in OF_AUDIO {
                out.put_on(id, signal, Reading::unmeasurable(Why::NoTimestamps));
            }
            return;
        };
        track.sound(sound, at, unit.at.gap);
        if due(&mut track.told, at) {
            track.tell(id, at, video, out);
        }
    }

    /// Why there is no picture to compare with.
    fn video_missing(&self, now: Arrival) -> Option<Why> {
        let seen = self.video.values().filter_map(|v| v.seen).max();
        match (self.announced, seen) {
            (Some((false, _)), _) => Some(Why::NotApplicable),
            (_, Some(seen)) if now.since(seen) <= self.absent_after => None,
            (_, Some(_)) => Some(Why::NoTrack),
            (_, None) => Some(Why::WarmingUp),
        }
    }

    /// Absence is told by the arrival clock.
    fn tick(&mut self, now: Arrival, out: &mut Sink<'_>) {
        let start = *self.start.get_or_insert(now);
        let after = self.absent_after;
        let gone = |seen: Option<Arrival>| now.since(seen.unwrap_or(start)) > after;
        for (id, _) in self.video.iter().filter(|(_, v)| gone(v.seen)) {
            out.put_on(*id, VIDEO_GAP, Reading::unmeasurable(Why::NoTrack));
        }
        for (id, _) in self.audio.iter().filter(|(_, a)| gone(a.seen)) {
            for signal in OF_AUDIO {
                out.put_on(*id, signal, Reading::unmeasurable(Why::NoTrack));
            }
        }
        if matches!(self.announced, Some((_, false))) {
            out.put(AUDIO_EARLY, Reading::unmeasurable(Why::NotApplicable));
        }
    }

    fn announce(&mut self, infos: &[TrackInfo], out: &mut Sink<'_>) {
        let has = |kind: Kind| infos.iter().any(|i| i.track.kind == kind);
        self.announced = Some((has(Kind::Video), has(Kind::Audio)));
        let listed = |track: &Track| infos.iter().any(|i| i.track == *track);
        // What was told of a track that is withdrawn must not stand for ever.
        let gone = Reading::unmeasurable(Why::NotApplicable);
        for id in self.video.keys().filter(|id| !listed(id)) {
            out.put_on(*id, VIDEO_GAP, gone.clone());
        }
        for id in self.audio.keys().filter(|id| !listed(id)) {
            for signal in OF_AUDIO {
                out.put_on(*id, signal, gone.clone());
            }
        }
        self.video.retain(|track, _| listed(track));
        self.audio.retain(|track, _| listed(track));
        for info in infos.iter().filter(|i| i.track.kind == Kind::Audio) {
            self.audio.entry(info.track).or_insert_with(AudioTrack::new);
        }
    }

    /// One track's raw timestamps jumped. A small jump may be a shift; after a large one everything is new,
    /// whether or not the other track has followed yet.
    fn jump(&mut self, track: Option<Track>, at: Option<MediaTime>, by_secs: f64) {
        let large = by_secs.abs() > JUMP_MIN_SECS;
        for (id, audio) in &mut self.audio {
            if large {
                audio.relearn();
                continue;
            }
            let (Some(track), Some(at)) = (track, at.or(audio.newest)) else {
                continue;
            };
            let (own, beside) = (track == *id, track == Track::video(0));
            if own || beside {
                let secs = if own { by_secs } else { -by_secs };
                audio.wonder(Step { at, secs }, track.kind);
            }
            audio.decide();
        }
    }

    fn fact(&mut self, fact: &Fact, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match fact {
            Fact::Input(InputEvent::Patience { visible_after, .. }) => {
                self.absent_after = *visible_after;
            }
            Fact::Input(InputEvent::Reopened) => {
                self.video.clear();
                self.audio.values_mut().for_each(AudioTrack::relearn);
            }
            Fact::Tracks(infos) => self.announce(infos, out),
            Fact::AvSkew {
                audio_minus_video_secs,
                basis,
            } if audio_minus_video_secs.is_finite() => {
                let audio = unit.track.filter(|t| t.kind == Kind::Audio);
                if let Some(id) = audio {
                    let track = self.audio.entry(id).or_insert_with(AudioTrack::new);
                    track.skew(unit.at.media, *audio_minus_video_secs, *basis);
                }
            }
            Fact::TimelineJump { by_secs } if by_secs.is_finite() => {
                self.jump(unit.track, unit.at.media, *by_secs);
            }
            Fact::AnnouncedGap { span } => {
                let add = |announced: &mut f64| {
                    *announced = (*announced + span.as_secs_f64()).min(GAP_MAX_SECS);
                };
                self.video
                    .values_mut()
                    .for_each(|v| add(&mut v.announced_secs));
                self.audio
                    .values_mut()
                    .for_each(|a| add(&mut a.announced_secs));
            }
            _ => {}
        }
    }
}

impl Detector for AvTiming {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        self.start.get_or_insert(unit.at.arrival);
        match (unit.media, unit.track) {
            (Media::Video(_), Some(id)) => self.picture(id, unit, out),
            (Media::Audio(sound), Some(id)) => self.hear(id, sound, unit, out),
            (Media::Fact(fact), _) => self.fact(fact, unit, out),
            (Media::Tick, _) => self.tick(unit.at.arrival, out),
            _ => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        *self = Self::default();
    }
}

#[cfg(test)]
#[path = "av_timing_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

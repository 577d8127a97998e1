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

mod clocks;
mod skew;
mod start;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::clocks::{
    DRIFT_MAX_PPM, GAP_MAX_SECS, PictureClock, Recent, SHIFT_MIN_SECS, SampleClock, Step,
    unannounced,
};
use self::skew::{Candidate, Skew, agree};
use self::start::{PRIMING_MAX, Start};
use crate::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, Gap, InputEvent, Kind, Limit, Media,
    MediaTime, Needs, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, SkewBasis, Sound,
    Track, TrackInfo, Unit, Why,
};

/// Largest shift told, seconds.
const SHIFT_MAX_SECS: f64 = 60.0;
/// Signals are told this often, on the media clock.
const TELL_EVERY_SECS: f64 = 0.25;
/// A jump of raw timestamps beyond this is another timeline.
const JUMP_MIN_SECS: f64 = 2.0;
/// How long a clock step waits to be confirmed.
const CONFIRM_WITHIN_SECS: f64 = 10.0;
/// A skew step without a clock step is accepted as another interleaving after this long: longer than facts run
/// ahead of decoded sound (one segment).
const INTERLEAVE_AFTER_SECS: f64 = 20.0;
/// Media may stay away this long before nothing can be said, unless the source tells its patience.
const ABSENT_AFTER: Duration = Duration::from_secs(10);
/// Without any skew for this long there will be none: not every container tells.
const NO_SKEW_AFTER_SECS: f64 = 30.0;

static SIGNALS: [Signal; 7] = [
    Signal {
        name: "audio_early_secs",
        unit: "seconds early",
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
    Signal {
        name: "audio_start_early_secs",
        unit: "seconds early",
        range: (-SHIFT_MAX_SECS, SHIFT_MAX_SECS),
        basis: Basis::Media,
        help: "How much earlier the first sound is than the first picture, where the programme is read from its start; \
               positive = audio begins first.",
    },
    Signal {
        name: "priming_samples",
        unit: "samples",
        range: (0.0, PRIMING_MAX),
        basis: Basis::Media,
        help: "Samples of AAC encoder priming that this start offset is, which MPEG-TS cannot signal; 0 = it is none.",
    },
];
static AUDIO_EARLY: &Signal = &SIGNALS[0];
static AUDIO_GAP: &Signal = &SIGNALS[1];
static AUDIO_OVERLAP: &Signal = &SIGNALS[2];
static VIDEO_GAP: &Signal = &SIGNALS[3];
static DRIFT: &Signal = &SIGNALS[4];
static START: &Signal = &SIGNALS[5];
static PRIMING: &Signal = &SIGNALS[6];
/// Signals of an audio track.
static OF_AUDIO: [&Signal; 6] = [AUDIO_EARLY, AUDIO_GAP, AUDIO_OVERLAP, DRIFT, START, PRIMING];

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
    list: None,
    build: |_| Box::new(AvTiming::default()),
};

/// One audio track.
#[derive(Debug)]
struct AudioTrack {
    /// Where sound began, and against which pictures; `None` where the programme is not read from its start.
    start: Option<Start>,
    is_aac: bool,
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
            start: None,
            is_aac: false,
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

    /// How the programme began; `NotApplicable` for what was joined later.
    fn tell_start(&self, id: Track, out: &mut Sink<'_>) {
        let (offset, priming) = match &self.start {
            None => (Err(Why::NotApplicable), Err(Why::NotApplicable)),
            Some(start) => match start.early_secs() {
                None => (Err(Why::WarmingUp), Err(Why::WarmingUp)),
                Some(early) => (
                    Ok(early.clamp(-SHIFT_MAX_SECS, SHIFT_MAX_SECS)),
                    Ok(start.priming_samples(self.is_aac)),
                ),
            },
        };
        let reading =
            |value: Result<f64, Why>| value.map_or_else(Reading::unmeasurable, Reading::measured);
        out.put_on(id, START, reading(offset));
        out.put_on(id, PRIMING, reading(priming));
    }

    fn tell(&mut self, id: Track, at: MediaTime, video: Option<Why>, out: &mut Sink<'_>) {
        self.tell_start(id, out);
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
    /// The programme is read from its start.
    from_start: bool,
    start: Option<Arrival>,
    /// Kinds announced: video, audio.
    announced: Option<(bool, bool)>,
    /// Pictures that sound belongs to, where that is told: both are of one rendition.
    beside: BTreeMap<Track, Track>,
    video: BTreeMap<Track, PictureClock>,
    audio: BTreeMap<Track, AudioTrack>,
}

impl Default for AvTiming {
    fn default() -> Self {
        Self {
            absent_after: ABSENT_AFTER,
            from_start: false,
            start: None,
            announced: None,
            beside: BTreeMap::new(),
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

/// The pictures that this sound lies beside: those of its rendition, else the first.
fn pictures_of(beside: &BTreeMap<Track, Track>, audio: Track) -> Track {
    beside.get(&audio).copied().unwrap_or(Track::video(0))
}

impl AvTiming {
    fn picture(&mut self, id: Track, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let clock = self.video.entry(id).or_default();
        clock.seen = Some(unit.at.arrival);
        let Some(at) = unit.at.media else {
            out.put_on(id, VIDEO_GAP, Reading::unmeasurable(Why::NoTimestamps));
            return;
        };
        let first = *clock.first.get_or_insert(at);
        let step = clock.observe(at, unit.at.gap);
        if due(&mut clock.told, at) {
            out.put_on(id, VIDEO_GAP, clock.gaps.reading(at));
        }
        // Pictures later is sound earlier.
        let step = step.map(|step| Step {
            secs: -step.secs,
            ..step
        });
        let beside = &self.beside;
        let own = |(audio, _): &(&Track, _)| pictures_of(beside, **audio) == id;
        for (_, track) in self.audio.iter_mut().filter(own) {
            if let Some(start) = &mut track.start {
                start.picture(first);
            }
            if let Some(step) = step {
                track.wonder(step, Kind::Video);
                track.decide();
            }
        }
    }

    fn hear(&mut self, id: Track, sound: &Sound<'_>, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let video = self.video_missing(id, unit.at.arrival);
        let track = self.audio.entry(id).or_insert_with(AudioTrack::new);
        track.seen = Some(unit.at.arrival);
        let Some(at) = unit.at.media else {
            for signal in OF_AUDIO {
                out.put_on(id, signal, Reading::unmeasurable(Why::NoTimestamps));
            }
            return;
        };
        if self.from_start && track.newest.is_none() {
            let beside = self.video.get(&pictures_of(&self.beside, id));
            let picture = beside.and_then(|clock| clock.first);
            track.start = Some(Start::new(at, sound.rate_hz(), picture));
        }
        track.sound(sound, at, unit.at.gap);
        if due(&mut track.told, at) {
            track.tell(id, at, video, out);
        }
    }

    /// Why there is no picture to compare this sound with.
    fn video_missing(&self, audio: Track, now: Arrival) -> Option<Why> {
        let seen = match self.beside.get(&audio) {
            Some(own) => self.video.get(own).and_then(|v| v.seen),
            None => self.video.values().filter_map(|v| v.seen).max(),
        };
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
        let video = |member: &str| {
            let own = |i: &&TrackInfo| i.member.as_deref() == Some(member);
            let pictures = infos.iter().filter(|i| i.track.kind == Kind::Video);
            pictures.filter(own).map(|i| i.track).min()
        };
        let pair = |i: &TrackInfo| Some((i.track, video(i.member.as_deref()?)?));
        let audio = infos.iter().filter(|i| i.track.kind == Kind::Audio);
        self.beside = audio.filter_map(pair).collect();
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
            let track = self.audio.entry(info.track).or_insert_with(AudioTrack::new);
            track.is_aac = info.codec == "aac";
        }
    }

    /// One track's raw timestamps jumped. A small jump may be a shift; after a large one everything is new,
    /// whether or not the other track has followed yet.
    fn jump(&mut self, track: Option<Track>, at: Option<MediaTime>, by_secs: f64) {
        let large = by_secs.abs() > JUMP_MIN_SECS;
        self.from_start &= !large;
        let pairs = &self.beside;
        for (id, audio) in &mut self.audio {
            if large {
                audio.relearn();
                // What lies on either side of a jump has no distance.
                audio.start.take_if(|start| start.early_secs().is_none());
                continue;
            }
            let (Some(track), Some(at)) = (track, at.or(audio.newest)) else {
                continue;
            };
            let (own, beside) = (track == *id, track == pictures_of(pairs, *id));
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
            Fact::Input(InputEvent::FromStart) => self.from_start = true,
            Fact::Input(InputEvent::Reopened) => {
                self.from_start = false;
                self.video.clear();
                for audio in self.audio.values_mut() {
                    audio.relearn();
                    audio.start = None;
                }
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
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

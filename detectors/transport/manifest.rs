//! Playlists and manifests: what is wrong with the lists of segments and with the way segments arrive.
//!
//! The source tells a [`PlaylistLoad`] for each load of a list and a [`SegmentReport`] for each segment; this
//! detector keeps the newest of each list and what happened in a window of time. HLS is held against RFC 8216 (and
//! its second edition, `draft-pantos-hls-rfc8216bis`). DASH is read by the same words where they exist: its lists
//! have no numbers and no target duration of their own, so that those checks find nothing there.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, InputEvent, Limit, ListsBeside, Media,
    Needs, OptionSpec, Options, PlaylistFault, PlaylistLoad, Reading, Reset, RuleSpec, Scope,
    SegmentFate, SegmentReport, Severity, Signal, Sink, Unit, Why,
};

/// Largest ratio emitted.
const RATIO_MAX: f64 = 1000.0;
/// Largest count emitted, and most events that are kept.
const COUNT_MAX: usize = 1000;
/// Largest error of a duration emitted, seconds.
const ERROR_MAX: f64 = 3600.0;
/// Largest distance between lists emitted, seconds: half of what timestamps of MPEG-2 count to, rounded up.
const APART_MAX: f64 = 48_000.0;
/// Lists that are kept.
const LISTS: usize = 32;
/// Segments whose download is averaged: one slow segment is what buffers are for.
const SEGMENTS: usize = 3;
/// Loads of a list of which the fastest counts.
const LOADS: usize = 2;
/// A list that has not been loaded for so many of its target durations is not known any more.
const FORGET_AFTER_TARGETS: u32 = 3;
/// ... and never before this.
const FORGET_AFTER_MIN: Duration = Duration::from_secs(5);

static SIGNALS: [Signal; 10] = [
    Signal {
        name: "playlist_age_ratio",
        unit: "target durations",
        range: (0.0, RATIO_MAX),
        basis: Basis::Arrival,
        help: "How long the live list had brought nothing new when it was last loaded (for DASH, against its longest \
               segment or its update period); the worst of all lists.",
    },
    Signal {
        name: "sequence_errors_count",
        unit: "errors",
        range: (0.0, COUNT_MAX as f64),
        basis: Basis::Arrival,
        help: "Errors in the order of segments within the window: numbers that go back or stand for other segments, \
               discontinuities that are not announced or not counted.",
    },
    Signal {
        name: "playlist_errors_count",
        unit: "rules",
        range: (0.0, COUNT_MAX as f64),
        basis: Basis::Arrival,
        help: "Other rules of RFC 8216 that lists broke within the window, each counted once a list.",
    },
    Signal {
        name: "duration_error_secs",
        unit: "seconds",
        range: (0.0, ERROR_MAX),
        basis: Basis::Arrival,
        help: "Largest difference within the window between the declared and the measured duration of a segment, less \
               one picture; for DASH with a nominal duration, less half of it.",
    },
    Signal {
        name: "segments_missing_count",
        unit: "segments",
        range: (0.0, COUNT_MAX as f64),
        basis: Basis::Arrival,
        help: "Segments within the window that could not be read, or left the list before they were.",
    },
    Signal {
        name: "download_ratio",
        unit: "ratio of the duration",
        range: (0.0, RATIO_MAX),
        basis: Basis::Arrival,
        help: "Time that the three newest segments took to arrive against their duration; from 1 on players run dry.",
    },
    Signal {
        name: "playlist_load_ratio",
        unit: "target durations",
        range: (0.0, RATIO_MAX),
        basis: Basis::Arrival,
        help: "Time that the list took to load: the shorter of the two newest loads; the worst of all lists.",
    },
    Signal {
        name: "out_of_step_ratio",
        unit: "target durations",
        range: (0.0, RATIO_MAX),
        basis: Basis::Arrival,
        help: "How far the ends of the lists of one stream lie apart, at least, by programme date and time, and by \
               the timestamps of their media.",
    },
    Signal {
        name: "audio_early_secs",
        unit: "seconds early",
        range: (-APART_MAX, APART_MAX),
        basis: Basis::Arrival,
        help: "How much earlier sound lies, against the pictures, by the timestamps of its segments than by the lists; \
               positive = audio early by timestamps. The largest of all lists of sound.",
    },
    Signal {
        name: "discontinuity_apart_secs",
        unit: "seconds apart",
        range: (0.0, APART_MAX),
        basis: Basis::Arrival,
        help: "How far apart the lists of sound and pictures had the same discontinuity (in DASH, the beginning of a \
               period), at most, within the window.",
    },
];
static AGE: &Signal = &SIGNALS[0];
static SEQUENCE: &Signal = &SIGNALS[1];
static RULES: &Signal = &SIGNALS[2];
static DURATION: &Signal = &SIGNALS[3];
static MISSING: &Signal = &SIGNALS[4];
static DOWNLOAD: &Signal = &SIGNALS[5];
static LOAD: &Signal = &SIGNALS[6];
static STEP: &Signal = &SIGNALS[7];
static EARLY: &Signal = &SIGNALS[8];
static APART: &Signal = &SIGNALS[9];

const fn rule(
    name: &'static str,
    signal: &'static str,
    (raise, clear): (f64, f64),
    severity: Severity,
    cause: Cause,
    says: &'static str,
) -> RuleSpec {
    RuleSpec {
        name,
        signal,
        raise: Limit::AtLeast(raise),
        clear: Limit::AtMost(clear),
        hold: Duration::ZERO,
        release: Duration::from_secs(2),
        severity,
        cause,
        says,
    }
}

/// Which of the two was meant is not told, and players differ.
const AUDIO_STAMPED: &str = "Timestamps and playlists put the sound at different places: players differ in which they follow.";

/// Playlist and manifest checks.
pub static DETECTOR: Descriptor = Descriptor {
    name: "manifest",
    doc: "Players stall, skip or cannot start, although every picture that does arrive is fine: the playlist is \
          stale, its numbers or durations are wrong, segments are missing or arrive more slowly than they are played, \
          or the playlists of picture and sound lie apart, or say otherwise than the timestamps in their segments. Not \
          measurable on inputs without a list of segments.",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: false,
    },
    signals: &SIGNALS,
    rules: &[
        // RFC 8216bis, 6.2.1: a new segment no later than 1.5 target durations after the last one.
        RuleSpec {
            release: Duration::from_secs(10),
            ..rule(
                "overdue_playlist",
                "playlist_age_ratio",
                (1.5, 1.1),
                Severity::Info,
                Cause::PlaylistStalled,
                "The playlist is updated later than it may be.",
            )
        },
        // Caches on the way may keep a list for half a target duration, so that is no ticket yet.
        rule(
            "stale_playlist",
            "playlist_age_ratio",
            (2.0, 1.1),
            Severity::Warning,
            Cause::PlaylistStalled,
            "The playlist no longer changes: players run out of segments.",
        ),
        rule(
            "sequence_error",
            "sequence_errors_count",
            (1.0, 0.0),
            Severity::Warning,
            Cause::SequenceError,
            "The playlist contradicts itself over time: players repeat or skip segments, or stop.",
        ),
        rule(
            "playlist_error",
            "playlist_errors_count",
            (1.0, 0.0),
            Severity::Warning,
            Cause::SegmentTooLong,
            "The playlist breaks a rule that players rely on.",
        ),
        // Whole seconds (playlists below version 3) round by up to 0.5 s.
        rule(
            "wrong_duration",
            "duration_error_secs",
            (0.6, 0.5),
            Severity::Warning,
            Cause::WrongDuration,
            "Segments do not last as long as declared: seeking and switching go astray.",
        ),
        rule(
            "segments_missing",
            "segments_missing_count",
            (1.0, 0.0),
            Severity::Warning,
            Cause::SegmentsMissed,
            "Segments of the playlist cannot be had: players skip or stall.",
        ),
        // A segment that is delivered while it is made takes its own length, and a little.
        rule(
            "starving",
            "download_ratio",
            (1.1, 1.05),
            Severity::Warning,
            Cause::Starving,
            "Segments arrive more slowly than they are played: players stall to fill their buffers.",
        ),
        // Half a target duration is what lies between two loads of a list that did not change (RFC 8216, 6.3.4).
        rule(
            "slow_playlist",
            "playlist_load_ratio",
            (0.5, 0.4),
            Severity::Info,
            Cause::SlowPlaylist,
            "The playlist takes long to load.",
        ),
        // Players begin three target durations before the end (RFC 8216, 6.3.3): there a list that lies so far
        // behind has nothing.
        rule(
            "out_of_step",
            "out_of_step_ratio",
            (3.0, 2.0),
            Severity::Warning,
            Cause::OutOfStep,
            "Picture and sound are listed up to different times: players stall or play one without the other.",
        ),
        // Sound is cut between pictures, and encoders begin with one before the other: that much is usual.
        rule(
            "audio_stamped_early",
            "audio_early_secs",
            (0.2, 0.15),
            Severity::Warning,
            Cause::RenditionOffset,
            AUDIO_STAMPED,
        ),
        RuleSpec {
            raise: Limit::AtMost(-0.2),
            clear: Limit::AtLeast(-0.15),
            ..rule(
                "audio_stamped_late",
                "audio_early_secs",
                (0.2, 0.15),
                Severity::Warning,
                Cause::RenditionOffset,
                AUDIO_STAMPED,
            )
        },
        rule(
            "discontinuity_mismatch",
            "discontinuity_apart_secs",
            (0.5, 0.25),
            Severity::Warning,
            Cause::DiscontinuityMismatch,
            "Picture and sound have a discontinuity at different places: players stall there, or play them apart.",
        ),
    ],
    options: &[OptionSpec {
        name: "window_secs",
        default: 30.0,
        range: (5.0, 3600.0),
        help: "How long an error counts.",
    }],
    list: None,
    build: |options: &Options| {
        Box::new(Manifest {
            window: Duration::from_secs_f64(options.get("window_secs").clamp(5.0, 3600.0)),
            lists: BTreeMap::new(),
            sequence: VecDeque::new(),
            durations: VecDeque::new(),
            missing: VecDeque::new(),
            apart: VecDeque::new(),
        })
    },
};

/// What is known of one list.
#[derive(Debug, Default)]
struct List {
    /// The newest load, and when it was told.
    load: Option<(Arrival, PlaylistLoad)>,
    /// How long the two newest loads took that tell.
    took: VecDeque<Duration>,
    /// Standing faults, and when they were seen last.
    faults: BTreeMap<PlaylistFault, Arrival>,
    /// Duration of the newest segments, and how long they took, with the arrival of the newest.
    downloads: VecDeque<(Duration, Duration)>,
    downloaded: Arrival,
    /// Of sound against pictures.
    audio_early_secs: Option<f64>,
}

#[derive(Debug)]
struct Manifest {
    window: Duration,
    lists: BTreeMap<u8, List>,
    sequence: VecDeque<(Arrival, Cause)>,
    durations: VecDeque<(Arrival, f64)>,
    missing: VecDeque<(Arrival, u32, Cause)>,
    /// Distances of discontinuities.
    apart: VecDeque<(Arrival, f64)>,
}

fn note<T>(into: &mut VecDeque<T>, event: T) {
    if into.len() >= COUNT_MAX {
        into.pop_front();
    }
    into.push_back(event);
}

fn ratio(of: Duration, to: Duration) -> f64 {
    (of.as_secs_f64() / to.as_secs_f64().max(1e-3)).min(RATIO_MAX)
}

/// The largest of these, or why there is none.
fn worst(values: impl Iterator<Item = Result<f64, Why>>) -> Result<f64, Why> {
    values
        .reduce(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => Ok(a.max(b)),
            (Ok(one), _) | (_, Ok(one)) => Ok(one),
            // That nothing arrives says more than that it does not apply.
            (Err(Why::NoInput), _) | (_, Err(Why::NoInput)) => Err(Why::NoInput),
            (first, _) => first,
        })
        .unwrap_or(Err(Why::NotApplicable))
}

impl List {
    /// The newest load, unless it is too old to say anything.
    fn known(&self, now: Arrival) -> Result<&PlaylistLoad, Why> {
        let (at, load) = self.load.as_ref().ok_or(Why::WarmingUp)?;
        let patience = load
            .target
            .saturating_mul(FORGET_AFTER_TARGETS)
            .max(FORGET_AFTER_MIN);
        match load.live && now.since(*at) > patience {
            true => Err(Why::NoInput),
            false => Ok(load),
        }
    }

    fn age(&self, now: Arrival) -> Result<f64, Why> {
        let load = self.known(now)?;
        match load.live {
            true => Ok(ratio(load.unchanged, load.target)),
            false => Err(Why::NotApplicable),
        }
    }

    fn loading(&self, now: Arrival) -> Result<f64, Why> {
        let load = self.known(now)?;
        match self.took.iter().min() {
            _ if !load.live => Err(Why::NotApplicable),
            Some(took) if self.took.len() >= LOADS => Ok(ratio(*took, load.target)),
            _ => Err(Why::WarmingUp),
        }
    }

    fn out_of_step(&self, now: Arrival) -> Result<f64, Why> {
        let load = self.known(now)?;
        let behind = load.behind_secs.filter(|secs| secs.is_finite());
        let target = load.target.as_secs_f64().max(1e-3);
        behind
            .map(|secs| (secs.abs() / target).min(RATIO_MAX))
            .ok_or(Why::NotApplicable)
    }

    fn early(&self, now: Arrival) -> Result<f64, Why> {
        self.known(now)?;
        let early = self.audio_early_secs.ok_or(Why::NotApplicable)?;
        Ok(early.clamp(-APART_MAX, APART_MAX))
    }

    fn download(&self, now: Arrival, window: Duration) -> Result<f64, Why> {
        if self.downloads.len() < SEGMENTS {
            return Err(Why::WarmingUp);
        }
        let (mut lasts, mut took) = (Duration::ZERO, Duration::ZERO);
        for (duration, own) in &self.downloads {
            lasts = lasts.saturating_add(*duration);
            took = took.saturating_add(*own);
        }
        match now.since(self.downloaded) > window {
            true => Err(Why::NoInput),
            false => Ok(ratio(took, lasts)),
        }
    }
}

impl Manifest {
    fn list(&mut self, number: u8) -> Option<&mut List> {
        if !self.lists.contains_key(&number) && self.lists.len() >= LISTS {
            return None;
        }
        Some(self.lists.entry(number).or_default())
    }

    fn loaded(&mut self, load: &PlaylistLoad, now: Arrival) {
        for fault in load.faults.iter().filter(|fault| fault.is_of_sequence()) {
            note(&mut self.sequence, (now, fault.cause()));
        }
        let Some(list) = self.list(load.list) else {
            return;
        };
        for fault in load.faults.iter().filter(|fault| !fault.is_of_sequence()) {
            list.faults.insert(*fault, now);
        }
        if let Some(took) = load.took {
            if list.took.len() >= LOADS {
                list.took.pop_front();
            }
            list.took.push_back(took);
        }
        list.load = Some((now, load.clone()));
    }

    fn beside(&mut self, told: &ListsBeside, now: Arrival) {
        if let Some(apart) = told
            .discontinuity_apart_secs
            .filter(|secs| secs.is_finite())
        {
            note(&mut self.apart, (now, apart.clamp(0.0, APART_MAX)));
        }
        if let Some(list) = self.list(told.list) {
            list.audio_early_secs = told.audio_early_secs.filter(|secs| secs.is_finite());
        }
    }

    fn dealt_with(&mut self, segment: &SegmentReport, now: Arrival) {
        let (took, excess, jumps) = match segment.fate {
            SegmentFate::Read {
                took,
                excess_secs,
                jumps,
            } => (took, excess_secs, jumps),
            SegmentFate::Failed(cause) => return note(&mut self.missing, (now, 1, cause)),
            SegmentFate::Gone(count) => {
                return note(&mut self.missing, (now, count, Cause::SegmentsMissed));
            }
        };
        if jumps {
            note(&mut self.sequence, (now, Cause::DiscontinuityError));
        }
        if let Some(excess) = excess.filter(|secs| secs.is_finite()) {
            note(&mut self.durations, (now, excess.abs().min(ERROR_MAX)));
        }
        let Some(list) = self.list(segment.list) else {
            return;
        };
        let Some(took) = took else {
            return list.downloads.clear();
        };
        if list.downloads.len() >= SEGMENTS {
            list.downloads.pop_front();
        }
        list.downloads.push_back((segment.duration, took));
        list.downloaded = now;
    }

    fn forget(&mut self, now: Arrival) {
        let window = self.window;
        let past = |at: Arrival| now.since(at) >= window;
        self.sequence.retain(|(at, _)| !past(*at));
        self.durations.retain(|(at, _)| !past(*at));
        self.missing.retain(|(at, _, _)| !past(*at));
        self.apart.retain(|(at, _)| !past(*at));
        for list in self.lists.values_mut() {
            list.faults.retain(|_, at| !past(*at));
        }
    }

    fn emit(&mut self, now: Arrival, out: &mut Sink<'_>) {
        self.forget(now);
        if self.lists.is_empty() && self.missing.is_empty() {
            for signal in &SIGNALS {
                out.put(signal, Reading::unmeasurable(Why::NotApplicable));
            }
            return;
        }
        let lists = || self.lists.values();
        put(out, AGE, worst(lists().map(|l| l.age(now))));
        put(out, LOAD, worst(lists().map(|l| l.loading(now))));
        put(out, STEP, worst(lists().map(|l| l.out_of_step(now))));
        let largest = |a: Result<f64, Why>, b: Result<f64, Why>| match (a, b) {
            (Ok(a), Ok(b)) => Ok(if b.abs() > a.abs() { b } else { a }),
            (a, b) => a.or(b),
        };
        let early = lists().map(|l| l.early(now)).reduce(largest);
        put(out, EARLY, early.unwrap_or(Err(Why::NotApplicable)));
        let apart = self.apart.iter().map(|(_, apart)| Ok(*apart));
        put(out, APART, worst(apart));
        let downloads = lists().map(|l| l.download(now, self.window));
        put(out, DOWNLOAD, worst(downloads));
        let errors = self.durations.iter().map(|(_, error)| Ok(*error));
        put(out, DURATION, worst(errors));
        let newest = self.sequence.back().map(|(_, cause)| *cause);
        count(out, SEQUENCE, self.sequence.len() as u64, newest);
        let newest = self.missing.back().map(|(_, _, cause)| *cause);
        let missing = self.missing.iter().map(|(_, n, _)| u64::from(*n)).sum();
        count(out, MISSING, missing, newest);
        let faults = lists().flat_map(|list| &list.faults);
        let newest = faults.clone().max_by_key(|(_, at)| **at);
        let cause = newest.map(|(fault, _)| fault.cause());
        count(out, RULES, faults.count() as u64, cause);
    }
}

fn put(out: &mut Sink<'_>, signal: &'static Signal, value: Result<f64, Why>) {
    out.put(
        signal,
        value.map_or_else(Reading::unmeasurable, Reading::measured),
    );
}

fn count(out: &mut Sink<'_>, signal: &'static Signal, count: u64, cause: Option<Cause>) {
    let mut reading = Reading::measured(count.min(COUNT_MAX as u64) as f64);
    reading.cause = cause.filter(|_| count > 0);
    out.put(signal, reading);
}

impl Detector for Manifest {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let now = unit.at.arrival;
        match unit.media {
            Media::Fact(Fact::Playlist(load)) => self.loaded(load, now),
            Media::Fact(Fact::Segment(segment)) => self.dealt_with(segment, now),
            Media::Fact(Fact::ListsBeside(told)) => self.beside(told, now),
            Media::Fact(Fact::Input(InputEvent::Reopened)) => {
                // What happened still counts; the lists are others.
                self.lists.clear();
                return;
            }
            Media::Tick => {}
            Media::Fact(_) | Media::Video(_) | Media::Audio(_) => return,
        }
        self.emit(now, out);
    }

    fn reset(&mut self, _cause: Reset) {
        self.lists.clear();
        self.sequence.clear();
        self.durations.clear();
        self.missing.clear();
        self.apart.clear();
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

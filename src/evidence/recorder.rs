//! Which stretch of a stream becomes a clip, and when it is complete.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use detectors::base::{Arrival, Kind, MediaTime, Track};

use super::clips::ClipJob;
use super::numbers::Numbers;
use super::ring::{Cut, Limits, Ring};
use super::store::Stills;
use crate::alert::{Defect, Moment};
use crate::ingest::encoded::EncodedUnit;

/// Media before the defect's beginning.
const BEFORE: Duration = Duration::from_secs(5);
/// Media after the raise in the clip that is there at once.
const SOON: Duration = Duration::from_secs(2);
/// Media after the end of the defect in the clip that takes its place.
const AFTER: Duration = Duration::from_secs(5);
/// Longest clip, besides the rest of the group of pictures that it begins in.
const LONGEST: Duration = Duration::from_secs(60);
/// A clip is not written again for less.
const LEAST_MORE: Duration = Duration::from_millis(500);
/// Numbers go back further than pictures.
const NUMBERS_BEFORE: Duration = Duration::from_secs(15);
/// A defect raised so soon after another shares its clip, and prolongs it.
const SHARED: Duration = SOON;
/// Defects of one clip, at most.
const MAX_SHARING: usize = 16;
/// Clips of one stream that are being recorded, at most; and as many that are to be prolonged.
const MAX_OPEN: usize = 4;
/// Input that brought nothing for so long brings no more of a clip; segments of 10 s do.
const GONE: Duration = Duration::from_secs(12);
/// Longest wait for the clip that is there at once: a segment may bring the rest long after.
const PATIENCE: Duration = Duration::from_secs(3);
/// Coded bytes kept of one stream: 10 s of 20 Mb/s.
const RING_BYTES: usize = 24 << 20;
/// Media kept, at least.
const LEAST_KEPT: Duration = Duration::from_secs(12);
/// Media kept, at most.
const MOST_KEPT: Duration = Duration::from_secs(40);
/// Decoding and detectors may lag behind what is kept.
const LAG: Duration = Duration::from_secs(3);

/// A defect with what is known of it beside.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) defect: Defect,
    /// The signal that it was judged by.
    pub(super) signal: Option<&'static str>,
    /// Where it begins.
    pub(super) start: MediaTime,
}

/// A clip that is being recorded.
#[derive(Clone)]
struct Clip {
    subjects: Vec<Subject>,
    pictures: Option<Track>,
    from: MediaTime,
    at: MediaTime,
    until: MediaTime,
    /// Numbers go on where media stands still.
    numbers_until: MediaTime,
    raised: Arrival,
    stage: Stage,
    /// Ids of the defects that go on.
    going_on: BTreeSet<String>,
    /// Where the last of the others ended.
    ended: MediaTime,
    /// What there was until the input was opened again, or until the ring was full.
    kept: Option<Option<Cut>>,
}

/// A clip is written twice: soon after the raise, and when the defect is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is written yet.
    First,
    /// What lies between these is written.
    Rest { written: (MediaTime, MediaTime) },
}

/// Keeps the newest encoded units of one stream, and cuts clips of its defects out of them. Media threads push, the
/// lane tells of defects and of time; neither waits for more than the other's few instructions.
pub struct Recorder {
    stills: Arc<Stills>,
    shared: Mutex<Shared>,
}

struct Shared {
    ring: Ring,
    open: Vec<Clip>,
    /// Something came since the lane looked last.
    moved: bool,
    last_move: Option<Arrival>,
    /// As told to the store's gauge.
    told_bytes: usize,
}

impl Recorder {
    /// A recorder for a stream on which defects are told at most `raised_after` after they begin.
    pub fn new(stills: Arc<Stills>, raised_after: Duration) -> Arc<Self> {
        let span = (BEFORE + raised_after + LAG).clamp(LEAST_KEPT, MOST_KEPT);
        Arc::new(Self {
            stills,
            shared: Mutex::new(Shared {
                ring: Ring::new(Limits {
                    span,
                    bytes: RING_BYTES,
                }),
                open: Vec::new(),
                moved: false,
                last_move: None,
                told_bytes: 0,
            }),
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an encoded unit. Never waits for the disk.
    pub fn encoded(&self, unit: EncodedUnit) {
        let mut shared = self.shared();
        let shared = &mut *shared;
        let breaks = shared.ring.breaks(&unit);
        let full = shared.ring.is_full(&unit);
        for clip in &mut shared.open {
            // What would push the beginning of a long clip out of the ring ends it.
            if breaks || full && clip.stage != Stage::First {
                clip.keep(&shared.ring);
            }
        }
        shared.ring.push(unit);
        shared.moved = true;
        let bytes = shared.ring.bytes();
        let before = std::mem::replace(&mut shared.told_bytes, bytes);
        self.stills.ring_bytes(before, bytes);
    }

    /// A defect of at least warning severity was raised.
    pub(crate) fn raised(&self, defect: &Defect, signal: Option<&'static str>, now: Moment) {
        let mut shared = self.shared();
        let shared = &mut *shared;
        let newest = shared.ring.newest();
        let Some(start) = defect.start.media.or(now.media).or(newest) else {
            return;
        };
        let raised = now.media.or(newest).map_or(start, |at| at.max(start));
        let from = start.minus(BEFORE).max(raised.minus(LONGEST - SOON));
        let subject = Subject {
            defect: defect.clone(),
            signal,
            start,
        };
        let until = raised.plus(SOON);
        let lasted = now.arrival.since(defect.start.arrival).min(LONGEST);
        let numbers_until = until.max(start.plus(lasted + SOON));
        let pictures = defect.track.filter(|track| track.kind == Kind::Video);
        let shares = |clip: &&mut Clip| {
            (clip.stage, clip.kept.is_none()) == (Stage::First, true)
                && now.arrival.since(clip.raised) <= SHARED
                && clip.subjects.len() < MAX_SHARING
                && (pictures.is_none() || clip.pictures == pictures)
                && until.since(clip.from.min(from)) <= LONGEST
        };
        if let Some(clip) = shared.open.iter_mut().rev().find(shares) {
            clip.from = clip.from.min(from);
            clip.until = clip.until.max(until);
            clip.numbers_until = clip.numbers_until.max(numbers_until);
            clip.going_on.insert(defect.id.clone());
            clip.subjects.push(subject);
        } else if shared.count(|stage| stage == Stage::First) < MAX_OPEN {
            shared.open.push(Clip {
                subjects: vec![subject],
                pictures,
                from,
                at: start,
                until,
                numbers_until,
                raised: now.arrival,
                stage: Stage::First,
                going_on: [defect.id.clone()].into(),
                ended: start,
                kept: None,
            });
        } else {
            self.stills.clip_dropped();
        }
        shared.pin();
    }

    /// A defect is over: its clip ends soon.
    pub(crate) fn cleared(&self, defect: &Defect, now: Moment) {
        let mut shared = self.shared();
        let shared = &mut *shared;
        let newest = shared.ring.newest();
        let told = defect.end.and_then(|end| end.media);
        let Some(end) = told.or(now.media).or(newest) else {
            return;
        };
        for clip in &mut shared.open {
            if clip.going_on.remove(&defect.id) {
                clip.ended = clip.ended.max(end);
                clip.aim();
            }
        }
    }

    /// Time passes: what is complete goes to the writer.
    pub fn tick(&self, now: Arrival, numbers: &Numbers) {
        let mut shared = self.shared();
        if std::mem::take(&mut shared.moved) || shared.last_move.is_none() {
            shared.last_move = Some(now);
        }
        let gone = shared.last_move.is_some_and(|at| now.since(at) >= GONE);
        let done = shared.take(|clip, ring| {
            let waited = now.since(clip.raised);
            let enough = match clip.stage {
                Stage::First => waited >= PATIENCE,
                Stage::Rest { .. } => gone || waited >= LONGEST + GONE,
            };
            clip.kept.is_some() || ring.is_past(clip.until) || enough
        });
        // In the same breath, so that no unit comes between that would push the beginning out of the ring.
        for (clip, cut) in &done {
            let Some(next) = clip.followed(cut.as_ref()).filter(|_| !gone) else {
                continue;
            };
            match shared.count(|stage| stage != Stage::First) < MAX_OPEN {
                true => shared.open.push(next),
                false => self.stills.clip_dropped(),
            }
        }
        shared.pin();
        drop(shared);
        self.submit(done, numbers);
    }

    /// Nothing more comes: clips end with what there is.
    pub fn finish(&self, numbers: &Numbers) {
        let done = self.shared().take(|_, _| true);
        self.submit(done, numbers);
    }

    /// Hands clips to the writer.
    fn submit(&self, done: Vec<(Clip, Option<Cut>)>, numbers: &Numbers) {
        for (clip, cut) in done {
            if !clip.is_news(cut.as_ref()) {
                continue;
            }
            let first = clip.subjects.iter().map(|subject| subject.start).min();
            let from = first.unwrap_or(clip.at).minus(NUMBERS_BEFORE);
            let ends = cut.as_ref().map(|cut| cut.ends);
            let until = ends.map_or(clip.numbers_until, |ends| ends.max(clip.numbers_until));
            self.stills.submit_clip(ClipJob {
                excerpt: numbers.excerpt(from, until),
                subjects: clip.subjects,
                cut,
                until,
            });
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let bytes = self.shared().told_bytes;
        self.stills.ring_bytes(bytes, 0);
    }
}

impl Clip {
    fn cut(&self, ring: &Ring) -> Option<Cut> {
        ring.cut(self.from, self.at, self.until, self.pictures)
    }

    fn keep(&mut self, ring: &Ring) {
        if self.kept.is_none() {
            self.kept = Some(self.cut(ring));
        }
    }

    /// Sets where the rest of a clip ends, once that is known.
    fn aim(&mut self) {
        if self.stage == Stage::First {
            return;
        }
        let latest = self.from.plus(LONGEST);
        self.until = match self.going_on.is_empty() {
            true => self.ended.plus(AFTER).min(latest),
            false => latest,
        };
    }

    /// Ends what is written as the first part of a clip; what follows, if more is to come.
    fn followed(&self, cut: Option<&Cut>) -> Option<Self> {
        let written = cut.map(|cut| (cut.begins, cut.ends));
        let (Stage::First, None, Some(written)) = (self.stage, &self.kept, written) else {
            return None;
        };
        let mut next = self.clone();
        next.stage = Stage::Rest { written };
        next.aim();
        Some(next)
    }

    /// Whether a cut holds more than what is written, and all of it.
    fn is_news(&self, cut: Option<&Cut>) -> bool {
        match (self.stage, cut) {
            (Stage::First, _) => true,
            (Stage::Rest { .. }, None) => false,
            (Stage::Rest { written }, Some(cut)) => {
                cut.begins <= written.0 && cut.ends.since(written.1) >= LEAST_MORE
            }
        }
    }
}

impl Shared {
    fn count(&self, which: impl Fn(Stage) -> bool) -> usize {
        self.open.iter().filter(|clip| which(clip.stage)).count()
    }

    /// Takes the clips that are done, with what of the ring they are.
    fn take(&mut self, done: impl Fn(&Clip, &Ring) -> bool) -> Vec<(Clip, Option<Cut>)> {
        let ring = &self.ring;
        let (taken, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|clip| done(clip, ring));
        let cut = |clip: Clip| {
            let cut = clip.kept.clone().unwrap_or_else(|| clip.cut(ring));
            (clip, cut)
        };
        let taken = taken.into_iter().map(cut).collect();
        self.open = rest;
        taken
    }

    fn pin(&mut self) {
        let waiting = self.open.iter().filter(|clip| clip.kept.is_none());
        let from = waiting.map(|clip| clip.from).min();
        self.ring.pin(from);
    }
}

//! Which stretch of a stream becomes a clip, and when it is complete.

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
/// Media after the raise.
const AFTER: Duration = Duration::from_secs(5);
/// Longest clip, besides the rest of the group of pictures that it begins in.
const LONGEST: Duration = Duration::from_secs(60);
/// Numbers go back further than pictures.
const NUMBERS_BEFORE: Duration = Duration::from_secs(15);
/// A defect raised so soon after another shares its clip, and prolongs it.
const SHARED: Duration = Duration::from_secs(3);
/// Defects of one clip, at most.
const MAX_SHARING: usize = 16;
/// Clips of one stream that are being recorded, at most.
const MAX_OPEN: usize = 4;
/// Input that brought nothing for so long brings no more of a clip.
const GONE: Duration = Duration::from_secs(12);
/// Longest wait for the end of a clip: segments of more than 10 s still bring it.
const PATIENCE: Duration = Duration::from_secs(25);
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
struct Clip {
    subjects: Vec<Subject>,
    pictures: Option<Track>,
    from: MediaTime,
    at: MediaTime,
    until: MediaTime,
    /// Numbers go on where media stands still.
    numbers_until: MediaTime,
    raised: Arrival,
    /// The input was opened again: what there was until then.
    kept: Option<Option<Cut>>,
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
        if shared.ring.breaks(&unit) {
            for clip in &mut shared.open {
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
        let from = start.minus(BEFORE).max(raised.minus(LONGEST - AFTER));
        let subject = Subject {
            defect: defect.clone(),
            signal,
            start,
        };
        let until = raised.plus(AFTER);
        let lasted = now.arrival.since(defect.start.arrival).min(LONGEST);
        let numbers_until = until.max(start.plus(lasted + AFTER));
        let pictures = defect.track.filter(|track| track.kind == Kind::Video);
        let shares = |clip: &&mut Clip| {
            clip.kept.is_none()
                && now.arrival.since(clip.raised) <= SHARED
                && clip.subjects.len() < MAX_SHARING
                && (pictures.is_none() || clip.pictures == pictures)
                && until.since(clip.from.min(from)) <= LONGEST
        };
        if let Some(clip) = shared.open.iter_mut().rev().find(shares) {
            clip.from = clip.from.min(from);
            clip.until = clip.until.max(until);
            clip.numbers_until = clip.numbers_until.max(numbers_until);
            clip.subjects.push(subject);
        } else if shared.open.len() < MAX_OPEN {
            shared.open.push(Clip {
                subjects: vec![subject],
                pictures,
                from,
                at: start,
                until,
                numbers_until,
                raised: now.arrival,
                kept: None,
            });
        } else {
            self.stills.clip_dropped();
        }
        shared.pin();
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
            clip.kept.is_some()
                || ring.is_past(clip.until)
                || gone && waited >= AFTER
                || waited >= PATIENCE
        });
        drop(shared);
        self.submit(done, numbers);
    }

    /// Nothing more comes: clips end with what there is.
    pub fn finish(&self, numbers: &Numbers) {
        let done = self.shared().take(|_, _| true);
        self.submit(done, numbers);
    }

    fn submit(&self, done: Vec<Clip>, numbers: &Numbers) {
        for clip in done {
            let first = clip.subjects.iter().map(|subject| subject.start).min();
            let from = first.unwrap_or(clip.at).minus(NUMBERS_BEFORE);
            self.stills.submit_clip(ClipJob {
                excerpt: numbers.excerpt(from, clip.numbers_until),
                subjects: clip.subjects,
                cut: clip.kept.flatten(),
                until: clip.numbers_until,
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
    fn keep(&mut self, ring: &Ring) {
        self.kept
            .get_or_insert_with(|| ring.cut(self.from, self.at, self.until, self.pictures));
    }
}

impl Shared {
    /// Takes the clips that are done, cut out of the ring.
    fn take(&mut self, done: impl Fn(&Clip, &Ring) -> bool) -> Vec<Clip> {
        let ring = &self.ring;
        let (mut taken, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|clip| done(clip, ring));
        for clip in &mut taken {
            clip.keep(ring);
        }
        self.open = rest;
        self.pin();
        taken
    }

    fn pin(&mut self) {
        let waiting = self.open.iter().filter(|clip| clip.kept.is_none());
        let from = waiting.map(|clip| clip.from).min();
        self.ring.pin(from);
    }
}

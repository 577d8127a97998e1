//! The mailbox of a lane: where media threads leave units and the drain picks them up.
//!
//! Live: a push never waits; when there is no room the oldest *picture* goes, is counted, and the next unit of
//! its track says so. Offline: a push waits for room, and units of all tracks come out in media-time order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use detectors::base::{Arrival, Fact, InputEvent, Track};

use super::Mode;
use super::merge::Merge;
use crate::ingest::{Content, OwnedUnit, PictureBuffer, Pushed, SoundBuffer};

/// Pictures waiting in a live mailbox, at most.
pub const MAX_PICTURES: usize = 32;
/// Bytes of pictures waiting in a live mailbox, at most (15 pictures of 1080p, 8 bit, 4:2:0) ...
pub const MAX_PICTURE_BYTES: usize = 48 << 20;
/// ... but this many pictures always have room, however large.
pub const MIN_PICTURES: usize = 4;
/// Sound of one track waiting in a live mailbox, at most.
pub const MAX_SOUND: Duration = Duration::from_secs(4);
/// Blocks of sound of one track waiting, at most, however short.
pub const MAX_SOUND_BLOCKS: usize = 1024;
/// Facts waiting, at most; beyond that, facts of the same kind are merged.
pub const MAX_FACTS: usize = 1024;
/// Ticks waiting, at most.
const MAX_TICKS: usize = 16;
/// Offline: how long a full track waits for the others before it goes on without them. Halved each time it
/// was in vain, so that a file whose tracks lie far apart costs seconds in all, not per picture.
const STALL: Duration = Duration::from_secs(2);
/// ... but no shorter than this.
const MIN_STALL: Duration = Duration::from_millis(20);

/// A unit as it leaves the mailbox.
#[derive(Debug)]
pub struct Item {
    /// The unit.
    pub unit: OwnedUnit,
    /// Units of its track that the mailbox dropped just before it.
    pub dropped: u32,
}

/// What a drain learns besides its items.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Newest arrival pushed so far.
    pub newest: Arrival,
    /// Fill before the batch was taken, 0..=1.
    pub fill: f64,
    /// Nothing is left.
    pub emptied: bool,
}

/// Counters of a mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pictures dropped.
    pub dropped_pictures: u64,
    /// Blocks of sound dropped.
    pub dropped_sound: u64,
    /// Facts that were merged into a later one of their kind, or lost.
    pub merged_facts: u64,
    /// Units waiting.
    pub queued: usize,
}

/// The mailbox.
#[derive(Debug)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    closed: bool,
    /// A drain is scheduled or at work.
    busy: bool,
    /// The end of the input has been handled.
    ended: bool,
    newest: Arrival,
    taken: u64,
    stall: Duration,
}

#[derive(Debug)]
enum Queue {
    Live(LiveQueue),
    Offline(Box<Merge>),
}

/// What a push asks its caller to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Schedule a drain.
    Schedule,
    /// Nothing.
    No,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(mode: Mode) -> Self {
        Self {
            inner: Mutex::new(Inner {
                queue: match mode {
                    Mode::Live => Queue::Live(LiveQueue::default()),
                    Mode::Offline => Queue::Offline(Box::default()),
                },
                closed: false,
                busy: false,
                ended: false,
                newest: Arrival::default(),
                taken: 0,
                stall: STALL,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half way; a poisoned lock is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a unit.
    pub fn push(&self, unit: OwnedUnit) -> (Pushed, Wake) {
        let mut inner = self.lock();
        if let Queue::Offline(_) = inner.queue {
            inner = self.wait_for_room(inner, &unit);
        }
        if inner.closed {
            return (Pushed::Closed, Wake::No);
        }
        inner.newest = inner.newest.max(unit.arrival);
        let replaced = match &mut inner.queue {
            Queue::Live(queue) => queue.push(unit),
            Queue::Offline(merge) => {
                merge.push(unit);
                false
            }
        };
        let wake = inner.wake();
        let pushed = if replaced {
            Pushed::ReplacedOldest
        } else {
            Pushed::Queued
        };
        (pushed, wake)
    }

    fn wait_for_room<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        unit: &OwnedUnit,
    ) -> MutexGuard<'a, Inner> {
        let mut patience = (inner.taken, Instant::now() + inner.stall);
        loop {
            let full = match &inner.queue {
                Queue::Offline(merge) => !inner.closed && merge.must_wait(unit),
                Queue::Live(_) => false,
            };
            if !full {
                return inner;
            }
            let now = Instant::now();
            if inner.taken != patience.0 {
                patience = (inner.taken, now + inner.stall);
            } else if now >= patience.1 {
                if inner.queue.ready() {
                    // Not the tracks, the detectors take their time.
                    patience.1 = now + inner.stall;
                } else {
                    // The other tracks stay away: go on without them, until they return. The push that
                    // follows wakes the drain.
                    if let Queue::Offline(merge) = &mut inner.queue {
                        merge.give_up_waiting();
                    }
                    inner.stall = (inner.stall / 2).max(MIN_STALL);
                    return inner;
                }
            }
            inner = self
                .changed
                .wait_timeout(inner, patience.1.saturating_duration_since(now))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Asks for a drain although nothing was pushed.
    pub fn nudge(&self) -> Wake {
        let mut inner = self.lock();
        if inner.busy {
            return Wake::No;
        }
        inner.busy = true;
        Wake::Schedule
    }

    /// Takes at most `n` units.
    pub fn take(&self, n: usize, into: &mut Vec<Item>) -> Taken {
        let mut inner = self.lock();
        let fill = match &inner.queue {
            Queue::Live(queue) => queue.fill(),
            Queue::Offline(_) => 0.0,
        };
        while into.len() < n {
            let item = match &mut inner.queue {
                Queue::Live(queue) => queue.pop(),
                Queue::Offline(merge) => merge.pop().map(|unit| Item { unit, dropped: 0 }),
            };
            let Some(item) = item else { break };
            inner.taken = inner.taken.wrapping_add(1);
            into.push(item);
        }
        let taken = Taken {
            newest: inner.newest,
            fill,
            emptied: !inner.queue.ready(),
        };
        drop(inner);
        self.changed.notify_all();
        taken
    }

    /// The drain is done with its batch: either it must come back, or it rests.
    pub fn rest(&self) -> Wake {
        let mut inner = self.lock();
        if inner.queue.ready() {
            return Wake::Schedule;
        }
        inner.busy = false;
        drop(inner);
        self.changed.notify_all();
        Wake::No
    }

    /// Refuses everything from now on; what is queued will still be drained.
    pub fn close(&self) -> Wake {
        let mut inner = self.lock();
        inner.closed = true;
        if let Queue::Offline(merge) = &mut inner.queue {
            merge.flush();
        }
        // One last drain in any case, so that the final state is published.
        let wake = if inner.busy { Wake::No } else { Wake::Schedule };
        inner.busy = true;
        drop(inner);
        self.changed.notify_all();
        wake
    }

    /// Notes whether the input has been played to its end.
    pub fn set_ended(&self, ended: bool) {
        self.lock().ended = ended;
        self.changed.notify_all();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until everything pushed so far that can be handled has been; `false` when `timeout` passed first.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        self.wait(Some(timeout), |inner| !inner.busy)
    }

    /// Waits until the end of the input, or closing, has been handled. Without a timeout: for as long as it takes.
    pub fn wait_end(&self, timeout: Option<Duration>) -> bool {
        self.wait(timeout, |inner| {
            !inner.busy && (inner.ended || inner.closed)
        })
    }

    fn wait(&self, timeout: Option<Duration>, done: impl Fn(&Inner) -> bool) -> bool {
        let deadline = timeout.map(|t| Instant::now() + t);
        let mut inner = self.lock();
        while !done(&inner) {
            inner = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    self.changed
                        .wait_timeout(inner, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// Counters.
    pub fn counts(&self) -> Counts {
        match &self.lock().queue {
            Queue::Live(queue) => Counts {
                queued: queue.items.len(),
                ..queue.counts
            },
            Queue::Offline(merge) => Counts {
                queued: merge.waiting(),
                merged_facts: merge.merged_facts(),
                ..Counts::default()
            },
        }
    }
}

impl Inner {
    fn wake(&mut self) -> Wake {
        if self.busy || !self.queue.ready() {
            return Wake::No;
        }
        self.busy = true;
        Wake::Schedule
    }
}

impl Queue {
    fn ready(&self) -> bool {
        match self {
            Queue::Live(queue) => !queue.items.is_empty(),
            Queue::Offline(merge) => merge.ready(),
        }
    }
}

/// Units in the order of their arrival, bounded by kind.
#[derive(Debug, Default)]
struct LiveQueue {
    items: VecDeque<Item>,
    pictures: usize,
    picture_bytes: usize,
    sound: BTreeMap<Track, Waiting>,
    facts: usize,
    ticks: usize,
    /// Drops whose track has had no unit since.
    owed: BTreeMap<Track, Owed>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Waiting {
    span: Duration,
    blocks: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Owed {
    units: u32,
    discontinuity: bool,
}

impl LiveQueue {
    /// Whether something older had to go.
    fn push(&mut self, unit: OwnedUnit) -> bool {
        let mut item = Item { unit, dropped: 0 };
        match &item.unit.content {
            Content::Picture(picture) => {
                self.pictures += 1;
                self.picture_bytes += picture_bytes(picture);
            }
            Content::Sound(sound) => {
                if let Some(track) = item.unit.track {
                    let waiting = self.sound.entry(track).or_default();
                    waiting.blocks += 1;
                    waiting.span += sound_span(sound);
                }
            }
            Content::Fact(_) => {
                if self.facts >= MAX_FACTS {
                    self.make_room_for_fact(&mut item.unit);
                }
                self.facts += 1;
            }
            Content::Tick => {
                if self.ticks >= MAX_TICKS
                    && let Some(at) = self.position(|u| matches!(u.content, Content::Tick))
                {
                    self.items.remove(at);
                    self.ticks -= 1;
                }
                self.ticks += 1;
            }
        }
        if is_media(&item.unit)
            && let Some(owed) = item.unit.track.and_then(|t| self.owed.remove(&t))
        {
            item.dropped = owed.units;
            item.unit.discontinuity |= owed.discontinuity;
        }
        let track = item.unit.track;
        let sound = matches!(item.unit.content, Content::Sound(_));
        self.items.push_back(item);
        self.drop_pictures() | (sound && self.drop_sound(track))
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.forget(&item.unit);
        Some(item)
    }

    /// Takes a unit that left the queue out of the books.
    fn forget(&mut self, unit: &OwnedUnit) {
        match &unit.content {
            Content::Picture(picture) => {
                self.pictures -= 1;
                self.picture_bytes -= picture_bytes(picture);
            }
            Content::Sound(sound) => {
                if let Some(waiting) = unit.track.and_then(|t| self.sound.get_mut(&t)) {
                    waiting.blocks -= 1;
                    waiting.span = waiting.span.saturating_sub(sound_span(sound));
                }
            }
            Content::Fact(_) => self.facts -= 1,
            Content::Tick => self.ticks -= 1,
        }
    }

    fn fill(&self) -> f64 {
        let by_number = self.pictures as f64 / MAX_PICTURES as f64;
        let by_bytes = if self.pictures > MIN_PICTURES / 2 {
            self.picture_bytes as f64 / MAX_PICTURE_BYTES as f64
        } else {
            0.0
        };
        by_number.max(by_bytes).min(1.0)
    }

    fn position(&self, which: impl Fn(&OwnedUnit) -> bool) -> Option<usize> {
        self.items.iter().position(|i| which(&i.unit))
    }

    fn drop_pictures(&mut self) -> bool {
        let mut dropped = false;
        while self.pictures > MAX_PICTURES
            || (self.picture_bytes > MAX_PICTURE_BYTES && self.pictures > MIN_PICTURES)
        {
            let Some(at) = self.position(|u| matches!(u.content, Content::Picture(_))) else {
                break;
            };
            self.drop_at(at);
            self.counts.dropped_pictures += 1;
            dropped = true;
        }
        dropped
    }

    fn drop_sound(&mut self, track: Option<Track>) -> bool {
        let mut dropped = false;
        while track
            .and_then(|t| self.sound.get(&t))
            .is_some_and(|w| w.blocks > MAX_SOUND_BLOCKS || (w.span > MAX_SOUND && w.blocks > 1))
        {
            let oldest = |u: &OwnedUnit| matches!(u.content, Content::Sound(_)) && u.track == track;
            let Some(at) = self.position(oldest) else {
                break;
            };
            self.drop_at(at);
            self.counts.dropped_sound += 1;
            dropped = true;
        }
        dropped
    }

    /// Drops a picture or sound; the next unit of its track will say so, whether it is here yet or not.
    fn drop_at(&mut self, at: usize) {
        let Some(gone) = self.items.remove(at) else {
            return;
        };
        self.forget(&gone.unit);
        let units = gone.dropped.saturating_add(1);
        let heir = self
            .items
            .iter_mut()
            .skip(at)
            .find(|i| i.unit.track == gone.unit.track && is_media(&i.unit));
        if let Some(heir) = heir {
            heir.dropped = heir.dropped.saturating_add(units);
            heir.unit.discontinuity |= gone.unit.discontinuity;
        } else if let Some(track) = gone.unit.track {
            let owed = self.owed.entry(track).or_default();
            owed.units = owed.units.saturating_add(units);
            owed.discontinuity |= gone.unit.discontinuity;
        }
    }

    /// Merges the newest waiting fact of the same kind and track into `unit`; without one, the oldest fact that
    /// is not a milestone of the input goes.
    fn make_room_for_fact(&mut self, unit: &mut OwnedUnit) {
        let same = self.items.iter().rposition(|i| {
            matches!((&i.unit.content, &unit.content),
                (Content::Fact(a), Content::Fact(b)) if i.unit.track == unit.track && same_kind(a, b))
        });
        let at = same.or_else(|| {
            self.position(|u| match &u.content {
                Content::Fact(Fact::Input(InputEvent::Reopened | InputEvent::Ended)) => false,
                Content::Fact(_) => true,
                _ => false,
            })
        });
        let Some(gone) = at.and_then(|at| self.items.remove(at)) else {
            return;
        };
        self.forget(&gone.unit);
        self.counts.merged_facts += 1;
        if same.is_some() {
            absorb(unit, gone.unit);
        }
    }
}

fn is_media(unit: &OwnedUnit) -> bool {
    matches!(unit.content, Content::Picture(_) | Content::Sound(_))
}

/// Whether the later of two facts can stand for both.
pub(super) fn same_kind(a: &Fact, b: &Fact) -> bool {
    match (a, b) {
        (Fact::Evidence(a), Fact::Evidence(b)) => a.kind == b.kind,
        (Fact::Input(InputEvent::Reopened | InputEvent::Ended), _) => false,
        (Fact::Input(a), Fact::Input(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
        (Fact::TimelineJump { .. } | Fact::AnnouncedGap { .. } | Fact::Break(_), _) => false,
        (Fact::Playlist(_) | Fact::Segment(_) | Fact::ListsBeside(_), _) => false,
        (Fact::ReferencePrint(_), _) => false,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// Adds what an earlier fact of the same kind said.
pub(super) fn absorb(later: &mut OwnedUnit, earlier: OwnedUnit) {
    let (Content::Fact(later), Content::Fact(earlier)) = (&mut later.content, earlier.content)
    else {
        return;
    };
    match (later, earlier) {
        (Fact::Evidence(later), Fact::Evidence(earlier)) => {
            later.count = later.count.saturating_add(earlier.count);
            later.from = match (later.from, earlier.from) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        (Fact::Ts(later), Fact::Ts(earlier)) => later.absorb(&earlier),
        _ => {}
    }
}

/// Bytes that a waiting picture holds.
pub(super) fn picture_bytes(picture: &PictureBuffer) -> usize {
    picture.frame.buffer().size()
}

/// Length of a block of sound; zero when it makes no sense.
pub(super) fn sound_span(sound: &SoundBuffer) -> Duration {
    let frames = sound.samples.len() / sound.channels.max(1);
    Duration::from_secs_f64(frames as f64 / f64::from(sound.rate_hz.max(1)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "mailbox_tests.rs"]
mod tests;

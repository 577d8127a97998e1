//! Keeps an eye on lists and segments on their way, and tells what the `manifest` detector judges.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use detectors::base::{Cause, Fact, PlaylistLoad, SegmentFate, SegmentReport};
use tokio::time::Instant;

use super::{Loaded, Session, Teller};
use crate::config::Pace;
use crate::ingest::convert::{Container, Feed};
use crate::transport::playlist::audit::{self, Anchor, End, STAMPS_WRAP_SECS};
use crate::transport::playlist::breaks::Breaks;
use crate::transport::playlist::follow::{News, Window};
use crate::transport::playlist::mpd::Follower;
use crate::transport::playlist::{Media, Segment};
use crate::transport::span::{Meter, Span};

/// A list that brought nothing new is told at most this often.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Timestamps of neighbouring segments may lie this far apart, or overlap: encoders drop pictures, and cut sound
/// elsewhere than pictures. Beyond, RFC 8216, 4.3.2.3 asks for `EXT-X-DISCONTINUITY`.
const JUMP_SECS: f64 = 1.0;

/// Where a timer of this length comes late by [`LATE`], it is this process that is slow: no time that is measured
/// meanwhile says anything about the origin.
const TIMER: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_millis(500);

/// What all lists of a stream share.
#[derive(Default)]
pub(in crate::ingest::source) struct Watch {
    lists: Mutex<BTreeMap<usize, List>>,
    /// When this process was last seen to be slow.
    slow: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct List {
    /// From a manifest, which has rules of its own.
    is_manifest: bool,
    end: Option<End>,
    /// When it was loaded, since the session began.
    loaded: Duration,
    told: Option<Duration>,
    /// When the load began that was told.
    load_told: Option<Instant>,
    /// By epoch.
    anchor: Option<(u64, Anchor)>,
}

/// One load of a media playlist.
pub(in crate::ingest::source) struct PlaylistNews<'a> {
    /// What was current before.
    pub before: Option<(u64, Arc<Media>)>,
    pub window: &'a Window,
    pub news: News,
    /// When the load began, since the session did.
    pub began: Duration,
    /// `None` when the origin was asked to hold its answer back.
    pub took: Option<Duration>,
}

impl Watch {
    /// Watches for as long as it is polled whether this process keeps up.
    pub async fn heed(&self) -> Infallible {
        loop {
            let began = Instant::now();
            tokio::time::sleep(TIMER).await;
            if began.elapsed() > TIMER + LATE {
                *self.slow.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
            }
        }
    }

    /// Whether this process was slow at any time from then on.
    fn was_slow(&self, since: Instant) -> bool {
        let slow = *self.slow.lock().unwrap_or_else(|e| e.into_inner());
        slow.is_some_and(|at| at >= since)
    }

    /// A time that has just passed, unless we were slow ourselves.
    fn measured(&self, span: Duration) -> Option<Duration> {
        let since = Instant::now().checked_sub(span)?;
        (!self.was_slow(since)).then_some(span)
    }

    /// A media playlist was loaded.
    pub fn playlist(&self, tell: &Teller, number: usize, load: PlaylistNews<'_>) {
        let Some((epoch, media)) = load.window.current() else {
            return;
        };
        let before = load.before.as_ref().map(|(_, media)| &**media);
        let faults = audit::faults(before, &media, load.news);
        let mut lists = self.lists.lock().unwrap_or_else(|e| e.into_inner());
        let list = lists.entry(number).or_default();
        let anchor = list.anchor.filter(|(own, _)| *own == epoch);
        list.end = End::of(&media, anchor.map(|(_, anchor)| anchor));
        list.loaded = load.began;
        let report = PlaylistLoad {
            list: list_number(number),
            live: !media.ended,
            target: media.target,
            unchanged: load.window.unchanged(load.began),
            took: load.took.and_then(|took| self.measured(took)),
            behind_secs: behind(&lists, number),
            faults,
        };
        drop(lists);
        tell.fact(Fact::Playlist(report));
    }

    /// A manifest was laid out at this time. `loaded`: when the load of it began, and how long it took.
    pub fn manifest(
        &self,
        tell: &Teller,
        number: usize,
        follower: &Follower,
        news: News,
        now: Duration,
        loaded: (Instant, Duration),
    ) {
        let (Some((_, media)), Some(target)) = (follower.current(), follower.rhythm()) else {
            return;
        };
        let mut lists = self.lists.lock().unwrap_or_else(|e| e.into_inner());
        let list = lists.entry(number).or_default();
        let fresh = list.load_told.replace(loaded.0) != Some(loaded.0);
        let soon = |told: Duration| now.saturating_sub(told) < TELL_EVERY;
        if news == News::Same && !fresh && list.told.is_some_and(soon) {
            return;
        }
        list.told = Some(now);
        list.is_manifest = true;
        list.end = Some(End::Clock(follower.end() as f64 / 1e9));
        list.loaded = now;
        let report = PlaylistLoad {
            list: list_number(number),
            live: !media.ended,
            target,
            unchanged: follower.unchanged(now),
            took: Some(loaded.1).filter(|took| fresh && self.measured(*took).is_some()),
            behind_secs: behind(&lists, number),
            faults: Vec::new(),
        };
        drop(lists);
        tell.fact(Fact::Playlist(report));
    }

    fn is_manifest(&self, number: usize) -> bool {
        let lists = self.lists.lock().unwrap_or_else(|e| e.into_inner());
        lists.get(&number).is_some_and(|list| list.is_manifest)
    }

    fn anchor(&self, number: usize, epoch: u64, anchor: Anchor) {
        let mut lists = self.lists.lock().unwrap_or_else(|e| e.into_inner());
        lists.entry(number).or_default().anchor = Some((epoch, anchor));
    }
}

fn list_number(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// How far a list lies behind the main one.
fn behind(lists: &BTreeMap<usize, List>, number: usize) -> Option<f64> {
    let (main, own) = (lists.get(&0)?, lists.get(&number)?);
    if number == 0 {
        return None;
    }
    let since = own.loaded.saturating_sub(main.loaded);
    own.end?.behind(main.end?, since)
}

/// Measures the segments that one reader reads.
pub(super) struct Gauge {
    number: usize,
    meter: Meter,
    container: Option<Container>,
    truncated: bool,
    began: Instant,
    /// The segment comes in parts, as fast as it is made: that says nothing of the way here.
    in_parts: bool,
    /// Time in which the converter took no more.
    held: Duration,
    /// The newest segment waited longer for the converter than for the origin.
    held_up: bool,
    /// Epoch and number of the segment that was measured last, and where it ends.
    last: Option<(u64, u64, f64)>,
    breaks: Breaks,
}

impl Gauge {
    pub fn new(number: usize) -> Self {
        Self {
            number,
            meter: Meter::default(),
            container: None,
            truncated: false,
            began: Instant::now(),
            in_parts: false,
            held: Duration::ZERO,
            held_up: false,
            last: None,
            breaks: Breaks::default(),
        }
    }

    /// The first attempt to read a segment.
    pub fn begin(&mut self) {
        self.meter.begin();
        self.began = Instant::now();
        self.in_parts = false;
        self.held = Duration::ZERO;
        self.truncated = false;
    }

    /// The first part of a segment.
    pub fn begin_parts(&mut self) {
        self.begin();
        self.in_parts = true;
    }

    /// Looks at what is about to be fed.
    pub fn look(&mut self, feeds: &[Feed]) {
        for feed in feeds {
            match feed {
                Feed::Begin {
                    container, init, ..
                } => {
                    self.container = Some(*container);
                    if let (Container::FragmentedMp4, Some(init)) = (container, init) {
                        self.meter.mp4(init);
                    }
                }
                Feed::Data(bytes) => match self.container {
                    Some(Container::MpegTs) => self.meter.ts(bytes),
                    Some(Container::FragmentedMp4) => self.meter.mp4(bytes),
                    _ => {}
                },
                Feed::End { truncated } => self.truncated = *truncated,
                Feed::Break(..) | Feed::Keys(_) => {}
            }
        }
    }

    /// The converter took its time.
    pub fn held(&mut self, span: Duration) {
        self.held = self.held.saturating_add(span);
    }

    /// The segment has been read to its end.
    pub fn read(
        &mut self,
        session: &Session<'_>,
        loaded: &Loaded,
        sequence: u64,
        discontinuity: bool,
    ) {
        let Some(segment) = loaded.media.segment(sequence) else {
            return;
        };
        let took = self.began.elapsed().saturating_sub(self.held);
        self.held_up = self.held > took;
        let is_manifest = session.watch.is_manifest(self.number);
        let span = self.meter.end().filter(|_| !self.truncated);
        let mut jumps = false;
        if let Some(span) = span {
            let before = self.last.take();
            let follows = |(epoch, number, _): &(u64, u64, f64)| {
                (*epoch, number.saturating_add(1)) == (loaded.epoch, sequence) && !discontinuity
            };
            let off = before.filter(follows).map(|(_, _, end)| {
                let off = (span.start_secs - end).rem_euclid(STAMPS_WRAP_SECS);
                off.min(STAMPS_WRAP_SECS - off)
            });
            let allowed = JUMP_SECS + span.step.as_secs_f64();
            // The segments of a manifest lie where it says.
            jumps = !is_manifest && (span.broken || off.is_some_and(|off| off > allowed));
            if !span.broken {
                let end = span.start_secs + span.duration.as_secs_f64();
                self.last = Some((loaded.epoch, sequence, end));
                let anchor = Anchor {
                    sequence,
                    start_secs: span.start_secs,
                };
                session.watch.anchor(self.number, loaded.epoch, anchor);
            }
        }
        // A list on a disk, read as fast as it goes, says nothing about a way here.
        let unpaced = loaded.media.ended && session.cx.stream.input.pace == Pace::Fast;
        let told = !unpaced && !self.in_parts && !session.watch.was_slow(self.began);
        let fate = SegmentFate::Read {
            took: told.then_some(took),
            excess_secs: span
                .filter(|span| !span.broken)
                .map(|span| excess(segment, span, is_manifest)),
            jumps,
        };
        self.tell(session, segment.duration, fate);
    }

    /// The segment was given up.
    pub fn failed(&mut self, session: &Session<'_>, segment: &Segment, cause: Cause) {
        self.last = None;
        self.tell(session, segment.duration, SegmentFate::Failed(cause));
    }

    /// Segments left the list before it was their turn.
    pub fn gone(&self, session: &Session<'_>, segment: &Segment, missed: u64) {
        // When it is us who are slow, the stream is not at fault.
        if !self.held_up && !session.watch.was_slow(self.began) {
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            self.tell(session, segment.duration, SegmentFate::Gone(missed));
        }
    }

    fn tell(&self, session: &Session<'_>, duration: Duration, fate: SegmentFate) {
        session.tell.fact(Fact::Segment(SegmentReport {
            list: list_number(self.number),
            duration,
            fate,
        }));
    }

    /// Break markers that stand before this segment.
    pub fn marks(&mut self, loaded: &Loaded, sequence: u64) -> Vec<Feed> {
        if self.number > 0 {
            return Vec::new();
        }
        let marks = self.breaks.passing(loaded.epoch, &loaded.media, sequence);
        marks.into_iter().map(|mark| Feed::Break(mark, 0)).collect()
    }
}

/// How far a segment lasts longer (or shorter: negative) than declared, seconds, beyond what its measurement may be
/// wrong by. ISO/IEC 23009-1 lets segments of a nominal duration begin up to half of it off.
fn excess(segment: &Segment, span: Span, is_manifest: bool) -> f64 {
    let error = span.duration.as_secs_f64() - segment.duration.as_secs_f64();
    let nominal = match is_manifest {
        true => segment.duration / 2,
        false => Duration::ZERO,
    };
    let allowed = (span.step + nominal).as_secs_f64();
    error.signum() * (error.abs() - allowed).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_measurement_may_be_wrong_by_is_no_excess() {
        let segment = Segment {
            duration: Duration::from_secs(4),
            ..Segment::default()
        };
        let span = |millis| Span {
            start_secs: 0.0,
            duration: Duration::from_millis(millis),
            step: Duration::from_millis(40),
            broken: false,
        };
        let told = |millis, is_manifest| excess(&segment, span(millis), is_manifest);
        assert_eq!(told(4_030, false), 0.0);
        assert!((told(6_040, false) - 2.0).abs() < 1e-9);
        assert!((told(1_960, false) + 2.0).abs() < 1e-9);
        assert_eq!(told(6_000, true), 0.0);
        assert!((told(8_040, true) - 2.0).abs() < 1e-9);
    }
}

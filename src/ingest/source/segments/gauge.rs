//! Keeps an eye on lists and segments on their way, and tells what the `manifest` detector judges.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use detectors::base::{Cause, Fact, ListsBeside, PlaylistLoad, SegmentFate, SegmentReport};
use tokio::time::Instant;

use super::{Loaded, Session, Teller};
use crate::config::Pace;
use crate::ingest::convert::packed_start_secs;
use crate::ingest::convert::{Container, Feed};
use crate::transport::playlist::audit;
use crate::transport::playlist::beside::{Anchor, Listed, STAMPS_WRAP_SECS};
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
    /// Of sound beside pictures.
    is_sound: bool,
    listed: Listed,
    epoch: u64,
    /// Timelines up to this one were found to begin apart from those of the pictures.
    distrusted: Option<i64>,
    /// When it was loaded, since the session began.
    loaded: Duration,
    told: Option<Duration>,
    /// When the load began that was told.
    load_told: Option<Instant>,
}

impl List {
    /// The list as it is now.
    fn renew(&mut self, epoch: u64, media: Arc<Media>, manifest_end_secs: Option<f64>) {
        if std::mem::replace(&mut self.epoch, epoch) != epoch {
            self.listed.restart();
            self.distrusted = None;
        }
        self.listed.renew(media, manifest_end_secs);
    }
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
        list.renew(epoch, Arc::clone(&media), None);
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
        let beside = beside(&mut lists, number);
        drop(lists);
        tell.fact(Fact::Playlist(report));
        beside.into_iter().for_each(|fact| tell.fact(fact));
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
        let (Some((epoch, media)), Some(target)) = (follower.current(), follower.rhythm()) else {
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
        let end_secs = follower.end() as f64 / 1e9;
        list.renew(epoch, Arc::clone(&media), Some(end_secs));
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
        let beside = beside(&mut lists, number);
        drop(lists);
        tell.fact(Fact::Playlist(report));
        beside.into_iter().for_each(|fact| tell.fact(fact));
    }

    fn is_manifest(&self, number: usize) -> bool {
        let lists = self.lists.lock().unwrap_or_else(|e| e.into_inner());
        lists.get(&number).is_some_and(|list| list.is_manifest)
    }

    /// This list is of sound beside pictures.
    pub fn is_sound(&self, number: usize) {
        let mut lists = self.lists.lock().unwrap_or_else(|e| e.into_inner());
        lists.entry(number).or_default().is_sound = true;
    }

    /// A segment has been read, whose first timestamp is this.
    fn read(&self, tell: &Teller, number: usize, loaded: &Loaded, sequence: u64, stamp_secs: f64) {
        let Some(anchor) = Anchor::of(&loaded.media, sequence, stamp_secs) else {
            return;
        };
        let mut lists = self.lists.lock().unwrap_or_else(|e| e.into_inner());
        let list = lists.entry(number).or_default();
        if list.epoch != loaded.epoch {
            return;
        }
        list.listed.read(anchor);
        let beside = beside(&mut lists, number);
        drop(lists);
        beside.into_iter().for_each(|fact| tell.fact(fact));
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
    own.listed.behind(&main.listed, since)
}

/// What there is to tell of lists of sound beside the first one of pictures, of which one is news.
fn beside(lists: &mut BTreeMap<usize, List>, news: usize) -> Vec<Fact> {
    let pictures = lists
        .iter()
        .find(|(_, list)| !list.is_sound)
        .map(|(number, list)| (*number, list.listed.clone()));
    let Some((pictures_number, pictures)) = pictures else {
        return Vec::new();
    };
    let concerned = |number: usize| news == number || news == pictures_number;
    let sounds = lists
        .iter_mut()
        .filter(|(number, list)| list.is_sound && concerned(**number));
    let facts = sounds.map(|(number, list)| {
        let told = list.listed.beside(&pictures, list.distrusted);
        if told
            .discontinuity_apart_secs
            .is_some_and(|apart| apart > 0.0)
        {
            let newest = list.listed.newest_timeline();
            list.distrusted = Some(newest.max(pictures.newest_timeline()));
        }
        Fact::ListsBeside(ListsBeside {
            list: list_number(*number),
            audio_early_secs: told.audio_early_secs,
            discontinuity_apart_secs: told.discontinuity_apart_secs,
        })
    });
    facts.collect()
}

/// Measures the segments that one reader reads.
pub(super) struct Gauge {
    number: usize,
    meter: Meter,
    container: Option<Container>,
    /// Start time that stands before packed sound.
    packed_start_secs: Option<f64>,
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
            packed_start_secs: None,
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
        self.packed_start_secs = None;
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
                    Some(Container::PackedAudio) => {
                        let known = self.packed_start_secs;
                        self.packed_start_secs = known.or_else(|| packed_start_secs(bytes));
                    }
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
        let whole = span.filter(|span| !span.broken);
        let start_secs = whole.map(|span| span.start_secs).or(self.packed_start_secs);
        if let Some(start_secs) = start_secs {
            let (watch, tell) = (&session.watch, &session.tell);
            watch.read(tell, self.number, loaded, sequence, start_secs);
        }
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
            }
        }
        // A list on a disk, read as fast as it goes, says nothing about a way here.
        let unpaced = loaded.media.ended && session.cx.stream.input.pace == Pace::Fast;
        let told = !unpaced && !self.in_parts && !session.watch.was_slow(self.began);
        let fate = SegmentFate::Read {
            took: told.then_some(took),
            excess_secs: whole.map(|span| excess(segment, span, is_manifest)),
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

//! What one lane knows and does with a unit: detectors, judge, outlet, stills, books. No threads, no locks; the
//! only clock is the wall clock behind the ids of live defects and the meter of detectors' work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use detectors::base::{
    Arrival, Carry, Cause, Fact, Format, Gap, InputEvent, Kind, Media, MediaTime, Picture, Reset,
    Severity, Sound, Stamp, Track, TrackInfo, Unit, Value, Why,
};

use self::dossier::{Dossier, Told};
use super::instance::{Instance, Said, Sight, Tally, kind_of, say_all};
use super::mailbox::{Item, Mailbox, Taken};
use super::outbox::Outbox;
use super::picture::{chroma, luma, transfer};
use super::reference::Prints;
use super::shed::{Ladder, Level, Load};
use super::{DetectorStatus, Latest, Mode, Outlet, Sample, State, Status, Tap, TrackStatus};
use crate::alert::Moment;
use crate::alert::judge::{Epoch, Judge, Testimony};
use crate::config;
use crate::evidence::{Recorder, Stills};
use crate::ingest::{Content, OwnedUnit};

#[path = "dossier.rs"]
mod dossier;

/// Tracks of one kind that are watched, at most.
pub(super) const MAX_TRACKS: u8 = 16;
/// Offline: a tick for this much media.
const TICK: Duration = Duration::from_millis(250);
/// Offline: ticks made up for one jump forward, at most (a minute).
const MAX_TICKS_AT_ONCE: u32 = 240;
/// A longer step of the media clock counts as this much watched time.
const MAX_STEP_SECS: f64 = 10.0;

/// What is published of a worker.
pub(super) struct Board {
    pub(super) status: Status,
    pub(super) level: Level,
    pub(super) held: usize,
    pub(super) lost: u64,
}

type Key = (usize, &'static str, Option<Track>);

/// Everything that only the drain touches.
pub(super) struct Worker {
    stream: Arc<config::Stream>,
    mode: Mode,
    outbox: Outbox,
    pub(super) judge: Judge,
    dossier: Option<Dossier>,
    pub(super) tap: Option<Tap>,
    pub(super) prints: Prints,
    instances: Vec<Instance>,
    tallies: Vec<Tally>,
    tracks: BTreeMap<Track, TrackState>,
    carries: BTreeMap<Track, Carry>,
    latest: BTreeMap<Key, Latest>,
    ladder: Ladder,
    clock: MediaClock,
    media_secs: f64,
    ended: bool,
    /// Something is worth publishing.
    news: bool,
    /// Scratch, kept for its memory.
    said: Vec<Said>,
    turns: Vec<crate::alert::Transition>,
}

struct TrackState {
    info: TrackInfo,
    announced: bool,
    format: Option<Format>,
    decoded: u64,
    last: Option<Arrival>,
    /// Has delivered since the input was (re-)opened.
    delivering: bool,
}

impl TrackState {
    fn unannounced(track: Track) -> Self {
        Self {
            info: TrackInfo {
                track,
                codec: String::new(),
                language: None,
                problem: None,
                member: None,
            },
            announced: false,
            format: None,
            decoded: 0,
            last: None,
            delivering: false,
        }
    }
}

/// Newest media time, and offline the arrival that is derived from it.
#[derive(Default)]
struct MediaClock {
    newest: Option<MediaTime>,
    origin: Option<MediaTime>,
    arrival: Arrival,
    next_tick: Arrival,
}

impl Worker {
    pub(super) fn new(
        stream: Arc<config::Stream>,
        mode: Mode,
        outlet: Arc<dyn Outlet>,
        stills: Option<Arc<Stills>>,
    ) -> Self {
        let stills = stills.filter(|_| stream.evidence);
        let dossier = stills.map(|stills| Dossier::new(stills, &stream));
        let mut worker = Self {
            judge: Judge::new(&stream),
            outbox: Outbox::new(outlet),
            dossier,
            tap: None,
            prints: Prints::default(),
            instances: Vec::new(),
            tallies: vec![Tally::default(); stream.detectors.len()],
            tracks: BTreeMap::new(),
            carries: BTreeMap::new(),
            latest: BTreeMap::new(),
            ladder: Ladder::default(),
            clock: MediaClock::default(),
            media_secs: 0.0,
            ended: false,
            news: false,
            said: Vec::new(),
            turns: Vec::new(),
            stream,
            mode,
        };
        worker.build(None);
        worker
    }

    pub(super) fn batch(&mut self, items: Vec<Item>, taken: Taken) {
        self.outbox.retry();
        for item in items {
            match self.mode {
                Mode::Live => {
                    let now = taken.newest.max(item.unit.arrival);
                    self.ladder.step(Load {
                        now,
                        lag: now.since(item.unit.arrival),
                        fill: taken.fill,
                    });
                    let is_media =
                        matches!(item.unit.content, Content::Picture(_) | Content::Sound(_));
                    if let (true, Some(media)) = (is_media, item.unit.media) {
                        self.refer(media, item.unit.arrival);
                    }
                    self.handle(item);
                }
                Mode::Offline => self.handle_offline(item),
            }
        }
    }

    /// Hands the detectors what is due of the reference.
    fn refer(&mut self, now: MediaTime, arrival: Arrival) {
        while let Some(print) = self.prints.reference.as_mut().and_then(|r| r.due(now)) {
            self.handle(made_up(arrival, Content::Fact(Fact::ReferencePrint(print))));
        }
    }

    /// Offline, arrival and ticks follow the media clock.
    fn handle_offline(&mut self, mut item: Item) {
        let is_media = matches!(item.unit.content, Content::Picture(_) | Content::Sound(_));
        if let (true, Some(media)) = (is_media, item.unit.media) {
            let origin = *self.clock.origin.get_or_insert_with(|| {
                self.clock.next_tick = self.clock.arrival.plus(TICK);
                // Arrival goes on where it stands when the input was re-opened.
                let so_far = Duration::from_nanos(self.clock.arrival.nanos());
                media.minus(so_far)
            });
            let target = Arrival::default().plus(media.since(origin));
            let mut ticks = 0;
            while self.clock.next_tick <= target && ticks < MAX_TICKS_AT_ONCE {
                let at = self.clock.next_tick;
                self.clock.arrival = self.clock.arrival.max(at);
                for content in [
                    Content::Fact(Fact::Input(InputEvent::Receiving)),
                    Content::Tick,
                ] {
                    self.handle(made_up(at, content));
                }
                self.clock.next_tick = at.plus(TICK);
                ticks += 1;
            }
            self.refer(media, self.clock.arrival);
            self.clock.arrival = self.clock.arrival.max(target);
            if self.clock.next_tick <= target {
                self.clock.next_tick = target.plus(TICK);
            }
        }
        let ended = matches!(
            item.unit.content,
            Content::Fact(Fact::Input(InputEvent::Ended))
        );
        item.unit.arrival = self.clock.arrival;
        self.handle(item);
        if ended {
            self.handle(made_up(self.clock.arrival, Content::Tick));
        }
    }

    /// One unit, all the way.
    fn handle(&mut self, item: Item) {
        let Item { unit, dropped } = item;
        let OwnedUnit {
            media,
            arrival,
            discontinuity,
            dropped: before_decoding,
            track,
            content,
        } = unit;
        let gap = match (discontinuity, dropped.saturating_add(before_decoding)) {
            (true, _) => Gap::Discontinuity,
            (false, 0) => Gap::None,
            (false, n) => Gap::WeDropped(n),
        };
        let mut at = Stamp {
            media,
            arrival,
            gap,
        };
        match content {
            Content::Picture(picture) => {
                let Some(track) = track.filter(|t| t.kind == Kind::Video && t.index < MAX_TRACKS)
                else {
                    return;
                };
                self.arrived(track, 1, &at);
                let mut before = self.carries.remove(&track);
                let spare = before.as_mut().and_then(|before| before.spare.take());
                if let Some(plane) = luma(&picture) {
                    let view = Picture::new(plane, picture.range, before.as_ref())
                        .with_chroma(chroma(&picture))
                        .with_transfer(transfer(&picture))
                        .with_spare(spare);
                    self.prints.picture(track, media, &view);
                    self.observe(&Unit {
                        at,
                        track: Some(track),
                        media: Media::Video(&view),
                    });
                    if self.wants_pictures() {
                        let mut carry = view.into_carry();
                        carry.spare = before.map(|before| before.half);
                        self.carries.insert(track, carry);
                    }
                } else {
                    self.unreadable(track);
                }
                let told = self.conclude(&at);
                self.keep_stills(track, Some(picture), told, &at);
            }
            Content::Sound(sound) => {
                let Some(track) = track.filter(|t| t.kind == Kind::Audio && t.index < MAX_TRACKS)
                else {
                    return;
                };
                match Sound::new(&sound.samples, sound.channels, sound.rate_hz) {
                    Some(view) => {
                        self.arrived(track, view.frames() as u64, &at);
                        self.prints.sound(track, media, &view);
                        if let Some(dossier) = &mut self.dossier {
                            let now = Moment { media, arrival };
                            dossier.numbers.sound(track, now, &view);
                        }
                        self.observe(&Unit {
                            at,
                            track: Some(track),
                            media: Media::Audio(&view),
                        });
                    }
                    None => self.unreadable(track),
                }
                let told = self.conclude(&at);
                self.keep_stills(track, None, told, &at);
            }
            Content::Fact(fact) => {
                at.media = at.media.or(self.clock.newest);
                self.take_note(track, &fact);
                if let Fact::Break(mark) = &fact {
                    self.outbox.announce(&self.stream.id, mark, &at);
                }
                self.observe(&Unit {
                    at,
                    track,
                    media: Media::Fact(&fact),
                });
                let told = self.conclude(&at);
                self.keep_stills(track.unwrap_or(Track::video(0)), None, told, &at);
            }
            Content::Tick => {
                at.media = self.clock.newest;
                self.observe(&Unit {
                    at,
                    track: None,
                    media: Media::Tick,
                });
                self.repeat_failures();
                let told = self.conclude(&at);
                self.keep_stills(Track::video(0), None, told, &at);
                if let Some(dossier) = &mut self.dossier {
                    dossier.tick(at.arrival);
                }
                self.news = true;
            }
        }
    }

    /// A picture or sound came: books, clock, coverage.
    fn arrived(&mut self, track: Track, decoded: u64, at: &Stamp) {
        self.meet(track);
        if let Some(state) = self.tracks.get_mut(&track) {
            self.news |= !state.delivering;
            state.decoded = state.decoded.saturating_add(decoded);
            state.last = Some(at.arrival);
            state.delivering = true;
        }
        let Some(media) = at.media else { return };
        let step = match self.clock.newest {
            Some(newest) => media.since(newest).as_secs_f64().min(MAX_STEP_SECS),
            None => 0.0,
        };
        self.clock.newest = self.clock.newest.max(Some(media));
        if step <= 0.0 {
            return;
        }
        self.media_secs += step;
        for instance in &self.instances {
            let Some(tally) = self.tallies.get_mut(instance.detector) else {
                continue;
            };
            match instance.sight {
                Sight::Measured => {
                    tally.due_secs += step;
                    tally.measured_secs += step;
                }
                Sight::Missing => tally.due_secs += step,
                Sight::NotDue => {}
            }
        }
    }

    /// A track appears: its detectors are built.
    fn meet(&mut self, track: Track) {
        if track.index < MAX_TRACKS && !self.tracks.contains_key(&track) {
            self.tracks.insert(track, TrackState::unannounced(track));
            if !self.instances.iter().any(|i| i.track == Some(track)) {
                self.build(Some(track));
            }
        }
    }

    /// Builds the detectors of a track, or of the stream.
    fn build(&mut self, track: Option<Track>) {
        let stream = Arc::clone(&self.stream);
        for (at, config) in stream.detectors.iter().enumerate() {
            let wanted = kind_of(config.descriptor.needs.scope) == track.map(|t| t.kind);
            let failed = self.tallies.get(at).is_some_and(|t| t.failed);
            if !wanted || failed {
                continue;
            }
            match Instance::build(at, config.descriptor, &config.options, track) {
                Ok(instance) => self.instances.push(instance),
                Err(_) => self.fail(at),
            }
        }
        // Results must not depend on the order in which tracks appeared.
        self.instances.sort_by_key(|i| (i.detector, i.track));
    }

    /// Facts that concern the lane itself.
    fn take_note(&mut self, track: Option<Track>, fact: &Fact) {
        match fact {
            Fact::Tracks(infos) => {
                for info in infos {
                    self.meet(info.track);
                }
                for (track, state) in &mut self.tracks {
                    let info = infos.iter().find(|i| i.track == *track);
                    state.announced = info.is_some();
                    if let Some(info) = info {
                        state.info = info.clone();
                    }
                }
                let member = |i: &TrackInfo| Some((i.track, i.member.as_deref()?.into()));
                self.judge
                    .set_members(infos.iter().filter_map(member).collect());
                // What is no longer announced and delivers nothing is no track any more.
                self.tracks.retain(|_, s| s.announced || s.delivering);
                self.news = true;
            }
            Fact::Format(format) => {
                let Some(track) = track else { return };
                self.meet(track);
                let Some(state) = self.tracks.get_mut(&track) else {
                    return;
                };
                let changed = state.format.as_ref().is_some_and(|f| f != format);
                state.format = Some(format.clone());
                self.news = true;
                if changed {
                    self.carries.remove(&track);
                    self.reset(Reset::Format, |i| i.track == Some(track));
                }
            }
            Fact::Input(InputEvent::Reopened) => {
                self.ended = false;
                self.carries.clear();
                self.clock.newest = None;
                self.clock.origin = None;
                for state in self.tracks.values_mut() {
                    state.delivering = false;
                    state.format = None;
                }
                // Detectors of the whole stream see the fact and keep what outlives a connection: patience, how
                // long an outage has lasted. Forgetting that, a stream that reconnects for ever would never page.
                self.reset(Reset::Reconnect, |i| i.track.is_some());
                self.news = true;
            }
            Fact::Input(InputEvent::Ended) => {
                self.prints.finish();
                self.ended = true;
                self.news = true;
            }
            _ => {}
        }
    }

    fn reset(&mut self, cause: Reset, which: impl Fn(&Instance) -> bool) {
        let failed: Vec<usize> = self
            .instances
            .iter_mut()
            .filter(|i| which(i))
            .filter_map(|i| i.reset(cause).is_err().then_some(i.detector))
            .collect();
        for detector in failed {
            self.fail(detector);
        }
    }

    fn observe(&mut self, unit: &Unit<'_>) {
        let level = self.ladder.level();
        let mut failed = Vec::new();
        for instance in &mut self.instances {
            let Some(tally) = self.tallies.get_mut(instance.detector) else {
                continue;
            };
            if tally.failed || !instance.wants(unit) {
                continue;
            }
            if instance
                .observe(unit, level, tally, &mut self.said)
                .is_err()
            {
                tally.failed = true;
                failed.push(instance.detector);
            }
        }
        for detector in failed {
            self.fail(detector);
        }
    }

    /// A detector panicked: it is off on this stream, and says so from now on; the others go on.
    fn fail(&mut self, detector: usize) {
        let Some(config) = self.stream.detectors.get(detector) else {
            return;
        };
        if let Some(tally) = self.tallies.get_mut(detector) {
            tally.failed = true;
        }
        tracing::error!(
            stream = %self.stream.id,
            detector = config.descriptor.name,
            "the detector panicked and is switched off on this stream"
        );
        for instance in self.instances.iter_mut().filter(|i| i.detector == detector) {
            instance.sight = Sight::Missing;
        }
        let why = Why::DetectorFailed;
        say_all(detector, config.descriptor, None, why, &mut self.said);
        self.news = true;
    }

    /// Failed detectors stay visible: unmeasurable with every tick.
    fn repeat_failures(&mut self) {
        for (at, config) in self.stream.detectors.iter().enumerate() {
            if self.tallies.get(at).is_some_and(|t| t.failed) {
                let why = Why::DetectorFailed;
                say_all(at, config.descriptor, None, why, &mut self.said);
            }
        }
    }

    /// No detector of the track can read its samples.
    fn unreadable(&mut self, track: Track) {
        for instance in self.instances.iter().filter(|i| {
            i.track == Some(track)
                && i.descriptor.needs.media
                && !self.tallies.get(i.detector).is_some_and(|t| t.failed)
        }) {
            instance.say_all(Why::UnsupportedFormat, &mut self.said);
        }
    }

    fn wants_pictures(&self) -> bool {
        self.instances.iter().any(|i| {
            i.descriptor.needs.media
                && i.track.is_none_or(|t| t.kind == Kind::Video)
                && !self.tallies.get(i.detector).is_some_and(|t| t.failed)
        })
    }

    /// Judges what was said about a unit; gives back the defects that began and those that ended.
    fn conclude(&mut self, at: &Stamp) -> Told {
        let now = Moment {
            media: at.media,
            arrival: at.arrival,
        };
        let mut told = Told::default();
        let mut said = std::mem::take(&mut self.said);
        for one in said.drain(..) {
            if !one.everywhere {
                self.hear(&one, one.track, now, &mut told);
                continue;
            }
            let tracks: Vec<Option<Track>> = self
                .latest
                .keys()
                .filter(|(d, s, _)| *d == one.detector && *s == one.signal.name)
                .map(|(_, _, track)| *track)
                .collect();
            for track in &tracks {
                self.hear(&one, *track, now, &mut told);
            }
            if tracks.is_empty() && one.reading.value == Value::Unmeasurable(Why::DetectorFailed) {
                self.hear(&one, None, now, &mut told);
            }
        }
        self.said = said;
        told
    }

    fn hear(&mut self, said: &Said, track: Option<Track>, now: Moment, told: &mut Told) {
        let Some(config) = self.stream.detectors.get(said.detector) else {
            return;
        };
        if track.is_some_and(|t| t.index >= MAX_TRACKS) {
            return;
        }
        let name = config.descriptor.name;
        if let Some(dossier) = &mut self.dossier {
            let (signal, value) = (said.signal, said.reading.value);
            (dossier.numbers).reading(name, signal, track, now, value);
        }
        if let Some(tap) = &self.tap {
            tap(&Sample {
                detector: name,
                signal: said.signal,
                track,
                at: now,
                reading: &said.reading,
            });
        }
        if config
            .descriptor
            .signals
            .first()
            .is_some_and(|main| main.name == said.signal.name)
        {
            self.see(said, track);
        }
        let epoch = match self.mode {
            Mode::Live => Epoch::Wall {
                now_unix_ms: unix_ms(),
            },
            Mode::Offline => Epoch::Media,
        };
        let testimony = Testimony {
            detector: said.detector,
            signal: said.signal,
            track,
            reading: &said.reading,
        };
        let mut turns = std::mem::take(&mut self.turns);
        self.judge.hear(testimony, now, epoch, &mut turns);
        for turn in turns.drain(..) {
            self.news = true;
            told.turn(&turn, said);
            self.outbox.send(turn);
        }
        self.turns = turns;
        self.latest.insert(
            (said.detector, said.signal.name, track),
            Latest {
                detector: name,
                signal: said.signal,
                track,
                reading: said.reading.clone(),
            },
        );
    }

    /// Notes whether a main signal is measured, for coverage.
    fn see(&mut self, said: &Said, track: Option<Track>) {
        let sight = match said.reading.value {
            Value::Measured(_) => Sight::Measured,
            Value::Unmeasurable(Why::NotApplicable) => Sight::NotDue,
            Value::Unmeasurable(_) => Sight::Missing,
        };
        for instance in self
            .instances
            .iter_mut()
            .filter(|i| i.detector == said.detector && (i.track.is_none() || i.track == track))
        {
            instance.sight = sight;
        }
    }

    /// Whether a copy of the state is due after this batch. Also tells the mailbox of the end.
    pub(super) fn publish_due(&mut self, taken: Taken, mailbox: &Mailbox) -> bool {
        mailbox.set_ended(self.ended);
        let last = taken.emptied && (self.mode == Mode::Offline || mailbox.is_closed());
        if let Some(dossier) = &mut self.dossier
            && (self.ended || taken.emptied && mailbox.is_closed())
        {
            dossier.finish();
        }
        std::mem::take(&mut self.news) || last
    }

    /// Who keeps encoded units of the stream.
    pub(super) fn recorder(&self) -> Option<Arc<Recorder>> {
        Some(Arc::clone(&self.dossier.as_ref()?.recorder))
    }

    pub(super) fn board(&self) -> Board {
        let (state, cause) = self.state();
        let status = Status {
            stream: Arc::clone(&self.stream),
            state,
            cause,
            tracks: self
                .tracks
                .values()
                .map(|t| TrackStatus {
                    info: t.info.clone(),
                    format: t.format.clone(),
                    decoded: t.decoded,
                    last: t.last,
                })
                .collect(),
            latest: self.latest.values().cloned().collect(),
            detectors: self
                .stream
                .detectors
                .iter()
                .zip(&self.tallies)
                .map(|(config, tally)| DetectorStatus {
                    detector: config.descriptor.name,
                    busy_nanos: tally.busy_nanos,
                    analysed: tally.analysed,
                    shed: tally.shed,
                    measured_secs: tally.measured_secs,
                    due_secs: tally.due_secs,
                    failed: tally.failed,
                })
                .collect(),
            defects: self.judge.open().cloned().collect(),
            dropped_pictures: 0,
            queued: 0,
            media_secs: self.media_secs,
        };
        Board {
            status,
            level: self.ladder.level(),
            held: self.outbox.held(),
            lost: self.outbox.lost(),
        }
    }

    fn state(&self) -> (State, Option<Cause>) {
        if self.ended {
            return (State::Ended, None);
        }
        if let Some(cause) = self.overdue() {
            return (State::Down, Some(cause));
        }
        if !self.all_deliver() {
            return (State::Connecting, None);
        }
        if self.judge.open().any(|d| d.severity >= Severity::Warning) {
            return (State::Degraded, None);
        }
        (State::Running, None)
    }

    /// What is overdue already, before it pages.
    fn overdue(&self) -> Option<Cause> {
        let overdue = |signal: &str| {
            self.latest
                .values()
                .filter(|l| l.signal.name == signal)
                .find(|l| matches!(l.reading.value, Value::Measured(v) if v > 0.0))
        };
        let input =
            overdue("input_overdue_ratio").map(|l| l.reading.cause.unwrap_or(Cause::NoInput));
        input.or_else(|| {
            overdue("track_overdue_ratio").map(|l| {
                l.reading.cause.unwrap_or(match l.track.map(|t| t.kind) {
                    Some(Kind::Audio) => Cause::NoAudio,
                    _ => Cause::NoVideo,
                })
            })
        })
    }

    /// Whether every announced and every expected track delivers.
    fn all_deliver(&self) -> bool {
        let expect = self.stream.expect;
        let enough = |kind: Kind, expected: Option<u8>| {
            let delivering = self
                .tracks
                .values()
                .filter(|t| t.delivering && t.info.track.kind == kind)
                .count();
            delivering >= usize::from(expected.unwrap_or(0))
        };
        self.tracks.values().any(|t| t.delivering)
            && self
                .tracks
                .values()
                .all(|t| t.delivering || t.info.problem.is_some())
            && enough(Kind::Video, expect.video)
            && enough(Kind::Audio, expect.audio)
    }
}

fn made_up(arrival: Arrival, content: Content) -> Item {
    Item {
        unit: OwnedUnit {
            media: None,
            arrival,
            discontinuity: false,
            dropped: 0,
            track: None,
            content,
        },
        dropped: 0,
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "worker_tests.rs"]
mod tests;

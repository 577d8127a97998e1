//! Missing input and missing tracks, by the arrival clock.
//!
//! "No error" is not evidence of anything: the input must bring bytes, and every expected track must bring a
//! decoded unit, each within its patience ([`InputEvent::Patience`]). Both signals are 0 while patience lasts,
//! then grow linearly; 1.0 is the limit at which a human is paged. Only the root cause is told: while the input
//! is overdue, tracks are unmeasurable.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, InputEvent, Kind, Limit, Media,
    MediaTime, Needs, OptionSpec, Options, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink,
    Track, TrackInfo, Unit, Why,
};

/// Largest ratio emitted.
const RATIO_MAX: f64 = 1000.0;
/// Patience until the source tells its own.
const VISIBLE_AFTER: Duration = Duration::from_secs(3);
/// Patience until the source tells its own.
const PAGE_AFTER: Duration = Duration::from_secs(10);
/// Announced gaps extend patience by at most this much: a playlist of nothing but gaps shows nothing.
const ANNOUNCED_MAX: Duration = Duration::from_secs(60);

static SIGNALS: [Signal; 2] = [
    Signal {
        name: "input_overdue_ratio",
        unit: "ratio of the page limit",
        range: (0.0, RATIO_MAX),
        basis: Basis::Arrival,
        help: "How overdue the input is: 0 while within patience, then the time it is away against the page limit \
               (1 pages).",
    },
    Signal {
        name: "track_overdue_ratio",
        unit: "ratio of the page limit",
        range: (0.0, RATIO_MAX),
        basis: Basis::Arrival,
        help: "How overdue decoded media of an expected track is: 0 while within patience, then the time it is \
               away against the page limit (1 pages).",
    },
];
static INPUT_OVERDUE: &Signal = &SIGNALS[0];
static TRACK_OVERDUE: &Signal = &SIGNALS[1];

/// Missing input and missing tracks.
pub static DETECTOR: Descriptor = Descriptor {
    name: "loss",
    doc: "The picture, the sound, or everything is gone: no bytes arrive, or they arrive and nothing can be \
          decoded from them, or an expected track brings nothing while others do. Judged by the arrival clock \
          against a patience that the source tells (playlists deliver in bursts). Without an expectation every \
          announced track must deliver; a count that is given makes the first so many tracks of that kind \
          obligatory and the others free.",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        RuleSpec {
            name: "no_input",
            signal: "input_overdue_ratio",
            raise: Limit::AtLeast(1.0),
            clear: Limit::AtMost(0.0),
            hold: Duration::ZERO,
            release: Duration::from_secs(1),
            severity: Severity::Critical,
            cause: Cause::NoInput,
            says: "Nothing can be seen or heard: the input is lost.",
        },
        RuleSpec {
            name: "no_track",
            signal: "track_overdue_ratio",
            raise: Limit::AtLeast(1.0),
            clear: Limit::AtMost(0.0),
            hold: Duration::ZERO,
            release: Duration::from_secs(1),
            severity: Severity::Critical,
            cause: Cause::MissingTrack,
            says: "The picture or the sound is missing, although the stream arrives.",
        },
    ],
    options: &[
        OptionSpec {
            name: "expect_video",
            default: -1.0,
            range: (-1.0, 8.0),
            help: "Picture tracks that must deliver (a count); -1 = all that are announced.",
        },
        OptionSpec {
            name: "expect_audio",
            default: -1.0,
            range: (-1.0, 64.0),
            help: "Sound tracks that must deliver (a count); -1 = all that are announced.",
        },
    ],
    list: None,
    build: |options| {
        let expect = Expect {
            video: count(options, "expect_video"),
            audio: count(options, "expect_audio"),
        };
        Box::new(Loss {
            expect,
            patience: Patience::default(),
            state: State::default(),
        })
    },
};

fn count(options: &Options, name: &str) -> Option<u8> {
    let value = options.get(name);
    (value >= 0.0).then_some(value as u8)
}

/// Obligatory tracks of each kind; `None` = all that are announced.
#[derive(Debug, Clone, Copy)]
struct Expect {
    video: Option<u8>,
    audio: Option<u8>,
}

impl Expect {
    fn of(self, kind: Kind) -> Option<u8> {
        match kind {
            Kind::Video => self.video,
            Kind::Audio => self.audio,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Patience {
    visible_after: Duration,
    page_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            visible_after: VISIBLE_AFTER,
            page_after: PAGE_AFTER,
        }
    }
}

impl Patience {
    /// Units of all tracks that arrive together are decoded within this of each other.
    fn together(self) -> Duration {
        self.visible_after / 4
    }

    /// 0 within patience, then the share of the page limit.
    fn ratio(self, absent: Duration) -> f64 {
        if absent <= self.visible_after {
            return 0.0;
        }
        let page = self.page_after.as_secs_f64().max(1e-3);
        (absent.as_secs_f64() / page).min(RATIO_MAX)
    }
}

#[derive(Debug, Clone, Copy)]
struct TrackState {
    announced: bool,
    problem: Option<Cause>,
    /// When waiting began: first expected, or the newest decoded unit.
    waiting_since: Arrival,
    delivered: bool,
    last_media: Option<MediaTime>,
}

impl TrackState {
    fn awaited(now: Arrival) -> Self {
        Self {
            announced: false,
            problem: None,
            waiting_since: now,
            delivered: false,
            last_media: None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    last_bytes: Option<Arrival>,
    last_media: Option<MediaTime>,
    /// Newest failure since media last arrived.
    failed: Option<Cause>,
    /// An attempt has failed since: what is still decoded had arrived before.
    drains: bool,
    /// Newest failure of what arrived, not of its arrival, since anything was decoded.
    spoiled: Option<Cause>,
    ended: bool,
    /// Whether tracks were announced at all; until then those that deliver count as announced.
    announced: bool,
    tracks: BTreeMap<Track, TrackState>,
    /// When waiting for the first decodable unit of anything began.
    undecoded_since: Option<Arrival>,
    /// Announced gap: its length, and until when it excuses.
    excused: Option<(Duration, Arrival)>,
}

impl State {
    /// Media reached us: an outage, if there was one, is over and is not held against the tracks.
    fn bytes_arrived(&mut self, now: Arrival, patience: Patience) {
        if let Some(last) = self.last_bytes {
            let silent = now.since(last);
            // A trickle of bytes must not excuse for ever that nothing decodes.
            let outage = if silent >= patience.page_after {
                silent
            } else {
                silent.saturating_sub(patience.visible_after)
            };
            let waits = self.tracks.values_mut().map(|t| &mut t.waiting_since);
            for since in waits.chain(self.undecoded_since.as_mut()) {
                *since = since.plus(outage).min(now);
            }
        }
        self.last_bytes = Some(now);
        self.failed = None;
        self.drains = false;
    }

    fn decoded(
        &mut self,
        track: Track,
        media: Option<MediaTime>,
        now: Arrival,
        patience: Patience,
    ) {
        if !self.drains {
            self.bytes_arrived(now, patience);
        }
        self.last_media = media.or(self.last_media);
        self.undecoded_since = None;
        self.spoiled = None;
        let implied = !self.announced;
        let state = self
            .tracks
            .entry(track)
            .or_insert_with(|| TrackState::awaited(now));
        state.announced |= implied;
        state.waiting_since = now;
        state.delivered = true;
        state.last_media = media.or(state.last_media);
        // It decodes, whatever was announced.
        state.problem = None;
    }

    fn announce(&mut self, infos: &[TrackInfo], now: Arrival) {
        self.announced = true;
        for state in self.tracks.values_mut() {
            state.announced = false;
        }
        for info in infos {
            let state = self
                .tracks
                .entry(info.track)
                .or_insert_with(|| TrackState::awaited(now));
            state.announced = true;
            state.problem = info.problem;
        }
    }

    /// How long something has been away, less what an announced gap excuses.
    fn absent(&self, since: Arrival, now: Arrival) -> Duration {
        let absent = now.since(since);
        match self.excused {
            Some((span, until)) if now < until => absent.saturating_sub(span),
            _ => absent,
        }
    }

    fn excuse(&mut self, span: Duration, now: Arrival, patience: Patience) {
        let running = match self.excused {
            Some((span, until)) if now < until => span,
            _ => Duration::ZERO,
        };
        let span = running.saturating_add(span).min(ANNOUNCED_MAX);
        self.excused = Some((span, now.plus(span).plus(patience.page_after)));
    }

    /// Nothing was announced and nothing was ever decoded.
    fn nothing_known(&self) -> bool {
        !self.tracks.values().any(|t| t.announced || t.delivered)
    }
}

struct Loss {
    expect: Expect,
    patience: Patience,
    state: State,
}

impl Loss {
    /// The first unit: patience runs from here.
    fn begin(&mut self, now: Arrival) {
        self.state.last_bytes = Some(now);
        self.state.undecoded_since = Some(now);
        for kind in [Kind::Video, Kind::Audio] {
            for index in 0..self.expect.of(kind).unwrap_or(0) {
                let track = Track { kind, index };
                self.state.tracks.insert(track, TrackState::awaited(now));
            }
        }
    }

    fn expects(&self, track: Track, state: &TrackState) -> bool {
        match self.expect.of(track.kind) {
            Some(count) => track.index < count,
            None => state.announced,
        }
    }

    fn emit(&self, now: Arrival, out: &mut Sink<'_>) {
        let (ratio, cause) = self.input_overdue(now);
        put(out, None, ratio, cause, self.state.last_media);
        for (track, state) in &self.state.tracks {
            let expected = self.expects(*track, state);
            if expected && ratio > 0.0 {
                let blind = Reading::unmeasurable(Why::NoInput);
                out.put_on(*track, TRACK_OVERDUE, blind);
                continue;
            }
            // Tracks that are no longer expected are no longer missed.
            let ratio = match expected {
                true => self.track_overdue(state, now),
                false => 0.0,
            };
            let cause = self.track_cause(*track, state, now);
            put(out, Some(*track), ratio, cause, state.last_media);
        }
    }

    /// The input as a whole. Announced tracks that do not decode tell for themselves.
    fn input_overdue(&self, now: Arrival) -> (f64, Cause) {
        let state = &self.state;
        let undecodable = state.failed.or(state.spoiled).unwrap_or(Cause::Undecodable);
        if state.ended {
            let empty = state.nothing_known();
            return (f64::from(u8::from(empty)), undecodable);
        }
        let away = |since: Option<Arrival>| {
            since.map_or(0.0, |since| self.patience.ratio(state.absent(since, now)))
        };
        let silent = away(state.last_bytes);
        if silent > 0.0 {
            (silent, state.failed.unwrap_or(Cause::NoInput))
        } else if state.nothing_known() {
            (away(state.undecoded_since), undecodable)
        } else {
            (0.0, undecodable)
        }
    }

    fn track_overdue(&self, track: &TrackState, now: Arrival) -> f64 {
        if self.state.ended {
            f64::from(u8::from(!track.delivered))
        } else if self.brought_since(track) < self.patience.together() {
            // Nothing came that could have held it: the input is about to be missed, not the track.
            0.0
        } else {
            self.patience
                .ratio(self.state.absent(track.waiting_since, now))
        }
    }

    /// For how long bytes have arrived since the track is waited for.
    fn brought_since(&self, track: &TrackState) -> Duration {
        let newest = self.state.last_bytes;
        newest.map_or(Duration::ZERO, |newest| newest.since(track.waiting_since))
    }

    fn track_cause(&self, id: Track, track: &TrackState, now: Arrival) -> Cause {
        if let Some(problem) = track.problem {
            return problem;
        }
        if !track.announced {
            return Cause::MissingTrack;
        }
        // Tracks that stopped together become overdue one after the other.
        let decodes = |other: &TrackState| {
            other.delivered
                && self.track_overdue(other, now) == 0.0
                && other.waiting_since.since(track.waiting_since) >= self.patience.together()
        };
        if !self.state.tracks.values().any(decodes) {
            return self.state.spoiled.unwrap_or(Cause::Undecodable);
        }
        match id.kind {
            Kind::Video => Cause::NoVideo,
            Kind::Audio => Cause::NoAudio,
        }
    }
}

/// Whether bytes that do arrive may be useless for this cause: it then says more than "undecodable".
fn is_of_content(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::TooLarge
            | Cause::EncryptedNoKey
            | Cause::EncryptionUnsupported
            | Cause::UnsupportedFormat
            | Cause::UnsupportedCodec
            | Cause::TooCostly
    )
}

fn put(
    out: &mut Sink<'_>,
    track: Option<Track>,
    ratio: f64,
    cause: Cause,
    since: Option<MediaTime>,
) {
    let mut reading = Reading::measured(ratio);
    if ratio > 0.0 {
        reading = reading.cause(cause).since(since);
    }
    match track {
        Some(track) => out.put_on(track, TRACK_OVERDUE, reading),
        None => out.put(INPUT_OVERDUE, reading),
    }
}

impl Detector for Loss {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let now = unit.at.arrival;
        if self.state.last_bytes.is_none() {
            self.begin(now);
        }
        match unit.media {
            Media::Video(_) | Media::Audio(_) => {
                if let Some(track) = unit.track {
                    self.state.decoded(track, unit.at.media, now, self.patience);
                }
                return;
            }
            Media::Fact(Fact::Input(event)) => match event {
                InputEvent::Patience {
                    visible_after,
                    page_after,
                } => {
                    self.patience = Patience {
                        visible_after: *visible_after,
                        page_after: *page_after,
                    };
                    return;
                }
                InputEvent::FromStart => return,
                InputEvent::Receiving => {
                    self.state.bytes_arrived(now, self.patience);
                    return;
                }
                InputEvent::Failed { cause } => {
                    self.state.failed = Some(*cause);
                    self.state.drains = true;
                    if is_of_content(*cause) {
                        self.state.spoiled = Some(*cause);
                    }
                }
                InputEvent::Reopened => {
                    // Tracks keep waiting: opening again and again brings no picture.
                    self.state.ended = false;
                    self.state.drains = false;
                    return;
                }
                InputEvent::Ended => self.state.ended = true,
            },
            Media::Fact(Fact::Tracks(infos)) => self.state.announce(infos, now),
            Media::Fact(Fact::AnnouncedGap { span }) => {
                self.state.excuse(*span, now, self.patience);
                return;
            }
            Media::Fact(_) => return,
            Media::Tick => {}
        }
        self.emit(now, out);
    }

    fn reset(&mut self, _cause: Reset) {
        self.patience = Patience::default();
        self.state = State::default();
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

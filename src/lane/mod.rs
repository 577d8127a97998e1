//! One lane per stream: mailbox, strict order, detectors, rules.
//!
//! ```text
//! media threads ─push─► mailbox ─► drain (one turn at a time, on the shared pool) ─► detectors ─► judge ─► outlet
//! tick ────────────────────┘                                                          └► stills, status
//! ```
//!
//! Back-pressure, from the outside in: a live push never waits, the oldest picture goes and is counted
//! ([`mailbox`]); a lane that lags leaves out costly detectors step by step ([`shed`]); a refused transition is
//! kept and offered again (`outbox`). Offline a push waits, and the sequence of units is the same in every run
//! as far as [`merge`] says.

pub mod mailbox;
pub mod merge;
pub mod pool;
pub mod shed;

mod drain;
mod instance;
mod outbox;
pub mod picture;
pub mod reference;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Arrival, Cause, Format, Reading, Signal, Track, TrackInfo};

use crate::alert::{Announced, Defect, Moment, Transition};
use crate::config;
use crate::evidence::Stills;
use crate::ingest::{Content, Intake, OwnedUnit, Pushed};

use self::drain::Core;
pub use self::pool::{Pool, PoolError};
pub use self::reference::{Feed, PrintTap, Reference};
pub use self::shed::Level;

/// How a lane treats time and a full mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Live: pushing never waits, the oldest picture goes when the mailbox is full, ticks come from outside.
    Live,
    /// A file, as fast as it goes: pushing waits for room, and arrival time and ticks are derived from media
    /// time, so that a run is repeatable.
    Offline,
}

/// State of a stream, one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing decoded yet, still within patience.
    Connecting,
    /// All expected tracks deliver.
    Running,
    /// Delivers, with a warning or critical defect open.
    Degraded,
    /// Input, or an expected track, is overdue.
    Down,
    /// A file that has been played to its end.
    Ended,
}

impl State {
    /// All states, for one-hot export.
    pub const ALL: [State; 5] = [
        State::Connecting,
        State::Running,
        State::Degraded,
        State::Down,
        State::Ended,
    ];

    /// Label value.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Running => "running",
            State::Degraded => "degraded",
            State::Down => "down",
            State::Ended => "ended",
        }
    }
}

/// Newest reading of one signal.
#[derive(Debug, Clone)]
pub struct Latest {
    /// Detector name.
    pub detector: &'static str,
    /// Signal, with name, unit, range, help.
    pub signal: &'static detectors::base::Signal,
    /// Track, or `None` for the stream.
    pub track: Option<Track>,
    /// Newest reading.
    pub reading: Reading,
}

/// One track as seen so far.
#[derive(Debug, Clone)]
pub struct TrackStatus {
    /// As announced.
    pub info: TrackInfo,
    /// Decoded format, once known.
    pub format: Option<Format>,
    /// Decoded pictures, or sound samples per channel.
    pub decoded: u64,
    /// Arrival of the newest decoded unit.
    pub last: Option<Arrival>,
}

/// Work of one detector on one stream.
#[derive(Debug, Clone)]
pub struct DetectorStatus {
    /// Detector name.
    pub detector: &'static str,
    /// Time spent, nanoseconds.
    pub busy_nanos: u64,
    /// Units analysed.
    pub analysed: u64,
    /// Pictures skipped because the lane lagged.
    pub shed: u64,
    /// Seconds of media in which its main signal was measured, and seconds in which it should have been.
    pub measured_secs: f64,
    /// See `measured_secs`.
    pub due_secs: f64,
    /// It panicked and is off.
    pub failed: bool,
}

/// A copy of everything there is to tell about a lane.
#[derive(Debug, Clone)]
pub struct Status {
    /// The stream.
    pub stream: Arc<config::Stream>,
    /// One word.
    pub state: State,
    /// Why it is down, when it is.
    pub cause: Option<Cause>,
    /// Tracks.
    pub tracks: Vec<TrackStatus>,
    /// Newest readings.
    pub latest: Vec<Latest>,
    /// Detectors.
    pub detectors: Vec<DetectorStatus>,
    /// Open defects.
    pub defects: Vec<Defect>,
    /// Pictures that the mailbox dropped.
    pub dropped_pictures: u64,
    /// Units waiting.
    pub queued: usize,
    /// Seconds of media seen.
    pub media_secs: f64,
}

/// Where transitions go. Called from pool threads: must not wait.
pub trait Outlet: Send + Sync {
    /// Takes a transition; gives it back when there is no room now (the lane keeps it and tries again).
    #[allow(
        clippy::result_large_err,
        reason = "the refused transition comes back to be kept; refusals are rare"
    )]
    fn transition(&self, transition: Transition) -> Result<(), Transition>;

    /// A break of the programme was announced, or its end. Lost when there is no room: what it would have excused is told.
    fn announce(&self, _mark: Announced) {}
}

/// A reading as it is emitted, for a [`Tap`].
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Detector name.
    pub detector: &'static str,
    /// Signal.
    pub signal: &'static Signal,
    /// Track, or `None` for the stream.
    pub track: Option<Track>,
    /// When: the unit's place and arrival.
    pub at: Moment,
    /// Reading.
    pub reading: &'a Reading,
}

/// Sees every reading, on the pool's threads: must not wait.
pub type Tap = Arc<dyn Fn(&Sample<'_>) + Send + Sync>;

/// Figures of a lane's own health that [`Status`] leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Step of the shedding ladder.
    pub level: Level,
    /// Transitions that the outlet refused so far and that wait for another try.
    pub held_transitions: usize,
    /// Transitions lost for want of room.
    pub lost_transitions: u64,
    /// Blocks of sound that the mailbox dropped.
    pub dropped_sound: u64,
    /// Facts merged into a later one of their kind, or lost, because too many waited.
    pub merged_facts: u64,
}

/// A running lane. Dropping it closes it.
pub struct Lane {
    core: Arc<Core>,
}

impl Lane {
    /// Opens a lane: builds nothing but its state; detectors are built as tracks appear.
    pub fn open(
        pool: &Pool,
        stream: Arc<config::Stream>,
        mode: Mode,
        outlet: Arc<dyn Outlet>,
        stills: Option<Arc<Stills>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            core: Core::new(pool, stream, mode, outlet, stills),
        })
    }

    /// Where ingest pushes.
    pub fn intake(&self) -> Arc<dyn Intake> {
        Arc::clone(&self.core) as Arc<dyn Intake>
    }

    /// Time passes: four times a second from the app. Live: detectors see it, so that absence is visible.
    /// Offline ticks come from media time; here only undelivered transitions are offered again.
    pub fn tick(&self, now: Arrival) {
        match self.core.mode() {
            Mode::Live => {
                let pushed = self.core.push(OwnedUnit {
                    media: None,
                    arrival: now,
                    discontinuity: false,
                    dropped: 0,
                    track: None,
                    content: Content::Tick,
                });
                if pushed == Pushed::Closed {
                    self.core.nudge();
                }
            }
            Mode::Offline => self.core.nudge(),
        }
    }

    /// A copy of the newest published state (published at every tick, with every transition, and at the end) with
    /// the mailbox's counters of this moment. Never waits for the detectors.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Figures of the lane's own health.
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// Lets `tap` see every reading from now on. Waits for the batch at work; call it before the input starts.
    pub fn set_signal_tap(&self, tap: Tap) {
        self.core.set_tap(tap);
    }

    /// Hands prints of the first picture track and the sound to `tap` from now on, about one a second. Call it before
    /// the input starts.
    pub fn set_print_tap(&self, tap: Arc<dyn PrintTap>) {
        self.core.hand_out_prints(tap);
    }

    /// Lets detectors compare with a reference: offline with one that has been read to its end, beginning with
    /// beginning; live with one that is watched as well. Call it before the input starts.
    pub fn set_reference(&self, reference: Reference) {
        self.core.compare_with(reference);
    }

    /// Goes on with a defect that was open before a restart. `false` when the stream has no such rule any more, or has
    /// found the same anew. Waits for the batch at work.
    pub fn take_up(&self, defect: Defect) -> bool {
        self.core.take_up(defect)
    }

    /// Refuses units from now on; what is queued is still handled. Does not wait.
    pub fn close(&self) {
        self.core.close();
    }

    /// Closes, and waits until what was queued is handled; `false` when `timeout` passed first. Blocks: not for
    /// async threads.
    pub fn close_and_wait(&self, timeout: Duration) -> bool {
        self.core.close();
        self.core.mailbox().wait_end(Some(timeout))
    }

    /// Waits until nothing that could be handled is queued; `false` when `timeout` passed first. Blocks.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        self.core.mailbox().wait_idle(timeout)
    }

    /// Waits until the input's end ([`detectors::base::InputEvent::Ended`]) has been handled, or the lane is
    /// closed and drained. Blocks for as long as that takes.
    pub fn join(&self) {
        self.core.mailbox().wait_end(None);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.core.close();
    }
}

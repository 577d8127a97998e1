//! One lane per stream: mailbox, strict order, detectors, rules.

use std::sync::Arc;

use detectors::base::{Arrival, Cause, Format, Reading, Track, TrackInfo};

use crate::alert::{Defect, Transition};
use crate::config;
use crate::ingest::Intake;

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
    fn transition(&self, transition: Transition) -> Result<(), Transition>;
}

/// A running lane. Implemented by [`Lane`]; a trait only in spirit:
/// `Lane::open(pool, stream, mode, outlet, stills) -> Arc<Lane>`, `lane.intake()`, `lane.tick(now)`,
/// `lane.status()`, `lane.close()`.
pub struct Lane {
    intake: Arc<dyn Intake>,
}

impl Lane {
    /// Where ingest pushes.
    pub fn intake(&self) -> Arc<dyn Intake> {
        Arc::clone(&self.intake)
    }
}

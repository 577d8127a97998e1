//! The converter: turns one stream into decoded pictures and sound, in memory.
//!
//! A source ([`source`]) brings bytes, transport analysis and GStreamer turn them into units, and every unit is
//! pushed into an [`Intake`]. Ingest knows nothing of detectors' names, rules or alerts.

mod appsink;
pub mod cenc;
pub mod clock;
pub mod convert;
pub mod crypt;
pub mod encoded;
pub mod fetch;
pub mod keys;
mod libav;
mod pipeline;
pub mod sample_aes;
pub mod source;
pub mod stats;
pub mod supervise;
pub mod teardown;
mod tracks;
mod trial;

pub use pipeline::remux::{RemuxError, Remuxed, Strand, StrandUnit, remux};

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use detectors::base::{BreakEdge, BreakMark, Cause, Fact, InputEvent, MediaTime, Range, Track};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Input, Protocol};
use encoded::EncodedUnit;
use source::{SourceContext, SourceEnd};
use stats::Stats;
use supervise::{Action, Event, Policy};

/// Owned counterpart of [`detectors::base::Unit`], as it travels from a media thread to a lane.
#[derive(Debug)]
pub struct OwnedUnit {
    /// Place on the stream's media clock.
    pub media: Option<MediaTime>,
    /// Monotonic arrival.
    pub arrival: detectors::base::Arrival,
    /// Whether the stream itself was discontinuous just before.
    pub discontinuity: bool,
    /// Encoded units that the monitor itself dropped just before, because decoding lagged.
    pub dropped: u32,
    /// Track, for pictures, sound and track facts.
    pub track: Option<Track>,
    /// Content.
    pub content: Content,
}

/// What an owned unit holds.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "pictures are the common case; boxing them would allocate for each"
)]
pub enum Content {
    /// A decoded picture, still in the decoder's buffer.
    Picture(PictureBuffer),
    /// Decoded sound.
    Sound(SoundBuffer),
    /// A fact.
    Fact(Fact),
    /// Time passes.
    Tick,
}

/// A decoded picture held by reference.
#[derive(Debug)]
pub struct PictureBuffer {
    /// Mapped decoder buffer: planes by reference, no copy.
    pub frame: gstreamer_video::VideoFrame<gstreamer_video::video_frame::Readable>,
    /// Significant bits a sample.
    pub bits: u8,
    /// Signalled range.
    pub range: Range,
}

/// Decoded sound, interleaved.
#[derive(Debug)]
pub struct SoundBuffer {
    /// Interleaved samples, full scale 1.0.
    pub samples: Vec<f32>,
    /// Channels.
    pub channels: usize,
    /// Samples a second.
    pub rate_hz: u32,
}

/// What became of a pushed unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Taken.
    Queued,
    /// Taken, and an older picture was dropped and counted.
    ReplacedOldest,
    /// The lane is gone; stop pushing.
    Closed,
}

/// Where units go. Implemented by a lane's mailbox.
pub trait Intake: Send + Sync {
    /// Takes a unit. For live input it returns at once, always; for files it may wait until there is room.
    fn push(&self, unit: OwnedUnit) -> Pushed;

    /// Whether encoded units are kept here; the same for as long as the intake lives.
    fn keeps_encoded(&self) -> bool {
        false
    }

    /// Takes an encoded unit that is about to be decoded. Returns at once, always.
    fn encoded(&self, _unit: EncodedUnit) {}
}

/// How long a source may take to notice that it is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// Default patience of inputs that push continuously.
const VISIBLE_AFTER: Duration = Duration::from_millis(2500);
/// See [`VISIBLE_AFTER`].
const PAGE_AFTER: Duration = Duration::from_secs(10);

/// A stream's input at work. Dropping it does not stop it.
#[derive(Debug)]
pub struct Running {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Asks the input to stop and waits; tells whether it had stopped by the deadline. Its pipelines may still be
    /// stopping on threads of their own ([`teardown::stopping`]).
    pub async fn stop(self, deadline: Duration) -> bool {
        self.cancel.cancel();
        let abort = self.task.abort_handle();
        let stopped = tokio::time::timeout(deadline, self.task).await.is_ok();
        if !stopped {
            abort.abort();
        }
        stopped
    }

    /// Waits until the input has ended for good: a file is over, or it was stopped.
    pub async fn ended(&mut self) {
        // A panic has been caught and told inside the task.
        let _ = (&mut self.task).await;
    }
}

/// Starts a stream's input, and starts it again whenever it fails. Must be called within a tokio runtime.
///
/// Pushes [`InputEvent::Patience`] first (a source of segments tells its own), [`InputEvent::Failed`] after each failed
/// run and [`InputEvent::Reopened`] before the next one, and [`InputEvent::Ended`] when it is over.
pub fn spawn(context: SourceContext) -> Running {
    let cancel = context.cancel.clone();
    let intake = Arc::new(Clerk::new(&context));
    let task = tokio::spawn(supervised(SourceContext { intake, ..context }));
    Running { cancel, task }
}

/// Plays an input once: for files and one-shot commands. What keeps failing is given up. Tells
/// the same facts as [`spawn`].
pub async fn play_once(context: &SourceContext) -> SourceEnd {
    if !tells_patience(&context.stream.input) {
        context.tell(patience(&context.stream.input));
    }
    let watched = Arc::new(Impatient {
        on: Arc::clone(&context.intake),
        failures: AtomicU32::new(0),
        decoded: AtomicBool::new(false),
        last: watch::Sender::new(None),
    });
    let mut last = watched.last.subscribe();
    let run = SourceContext {
        intake: Arc::clone(&watched) as Arc<dyn Intake>,
        cancel: context.cancel.child_token(),
        ..context.clone()
    };
    let playing = one_run(&run);
    tokio::pin!(playing);
    let end = tokio::select! {
        end = &mut playing => end,
        Ok(cause) = last.wait_for(Option::is_some) => {
            let cause = *cause;
            run.cancel.cancel();
            playing.await;
            SourceEnd {
                cause,
                ..SourceEnd::failed(Cause::NoInput, "given up after repeated failures")
            }
        }
    };
    if let Some(cause) = end.cause {
        context.tell(InputEvent::Failed { cause });
    }
    context.tell(InputEvent::Ended);
    end
}

/// Counts and logs break markers on their way, wherever they were read.
struct Clerk {
    on: Arc<dyn Intake>,
    stream: Arc<config::Stream>,
    stats: Arc<Stats>,
}

impl Clerk {
    fn new(context: &SourceContext) -> Self {
        Self {
            on: Arc::clone(&context.intake),
            stream: Arc::clone(&context.stream),
            stats: Arc::clone(&context.stats),
        }
    }

    fn note(&self, mark: &BreakMark) {
        let (edge, counter) = match mark.edge {
            BreakEdge::Start => ("start", &self.stats.break_starts),
            BreakEdge::End => ("end", &self.stats.break_ends),
        };
        counter.add(1);
        tracing::info!(
            stream = %self.stream.id,
            edge,
            source = ?mark.source,
            event_id = mark.event_id,
            at_media_secs = mark.at.map(MediaTime::secs),
            planned_secs = mark.planned.map(|p| p.as_secs_f64()),
            "break marker"
        );
    }
}

impl Intake for Clerk {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        if let Content::Fact(Fact::Break(mark)) = &unit.content {
            self.note(mark);
        }
        self.on.push(unit)
    }

    fn keeps_encoded(&self) -> bool {
        self.on.keeps_encoded()
    }

    fn encoded(&self, unit: EncodedUnit) {
        self.on.encoded(unit);
    }
}

/// Failures in a row that end a one-shot run of which nothing was ever decoded. A source that would try for ever,
/// because a live stream may come back, ends there; one that passes over a failing segment has done so before.
const ATTEMPTS: u32 = 5;
/// The same after something was decoded.
const LATER_ATTEMPTS: u32 = 12;

/// Counts failures on their way.
struct Impatient {
    on: Arc<dyn Intake>,
    failures: AtomicU32,
    decoded: AtomicBool,
    /// The last straw.
    last: watch::Sender<Option<Cause>>,
}

impl Intake for Impatient {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        match &unit.content {
            Content::Picture(_) | Content::Sound(_) => {
                self.failures.store(0, Ordering::Relaxed);
                self.decoded.store(true, Ordering::Relaxed);
            }
            Content::Fact(Fact::Input(InputEvent::Failed { cause })) => {
                let limit = match self.decoded.load(Ordering::Relaxed) {
                    true => LATER_ATTEMPTS,
                    false => ATTEMPTS,
                };
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
                    self.last.send_replace(Some(*cause));
                }
            }
            _ => {}
        }
        self.on.push(unit)
    }

    fn keeps_encoded(&self) -> bool {
        self.on.keeps_encoded()
    }

    fn encoded(&self, unit: EncodedUnit) {
        self.on.encoded(unit);
    }
}

async fn supervised(context: SourceContext) {
    let input = &context.stream.input;
    let id = &context.stream.id;
    if !tells_patience(input) {
        context.tell(patience(input));
    }
    let policy = Policy::of(input.protocol);
    let mut state = Policy::start(clock::now());
    loop {
        let before = context.stats.input_bytes.get();
        let end = one_run(&context).await;
        if let Some(cause) = end.cause {
            tracing::info!(stream = %id, cause = cause.as_str(), detail = %end.detail, "input ended");
            context.tell(InputEvent::Failed { cause });
        }
        let event = if context.cancel.is_cancelled() {
            Event::Stop
        } else {
            Event::Ended {
                retry: end.retry,
                fruitful: context.stats.input_bytes.get() > before,
            }
        };
        let (next, action) = policy.next(state, event, clock::now(), fastrand::f64());
        let Action::Wait(wait) = action else {
            break;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.cancel.cancelled() => break,
        }
        (state, _) = policy.next(next, Event::Waited, clock::now(), 0.0);
        context.stats.restarts.add(1);
        context.tell(InputEvent::Reopened);
    }
    context.tell(InputEvent::Ended);
}

/// Runs the source once; neither a panic nor a source that does not listen gets further than this.
async fn one_run(context: &SourceContext) -> SourceEnd {
    let run = AssertUnwindSafe(source::run(context.clone())).catch_unwind();
    let overdue = async {
        context.cancel.cancelled().await;
        tokio::time::sleep(CANCEL_GRACE).await;
    };
    tokio::select! {
        end = run => end.unwrap_or_else(|_| {
            SourceEnd::failed(Cause::Internal, "the source panicked")
        }),
        () = overdue => SourceEnd::complete(),
    }
}

/// How long media may stay away depends on the length of segments, which the source learns.
fn tells_patience(input: &Input) -> bool {
    matches!(input.protocol, Protocol::Hls | Protocol::Dash)
}

fn patience(input: &Input) -> InputEvent {
    InputEvent::Patience {
        visible_after: input.visible_after.unwrap_or(VISIBLE_AFTER),
        page_after: input.page_after.unwrap_or(PAGE_AFTER),
    }
}

//! The drain: takes a lane's turn on the pool. A batch of units goes through the detectors, their readings
//! through the judge, transitions to the outlet, and a copy of the state to the board.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::mailbox::{Mailbox, Wake};
use super::pool::{Pool, Turn};
use super::reference::{PrintTap, Reference};
use super::worker::{Board, Worker};
use super::{Health, Mode, Outlet, Status, Tap};
use crate::alert::Defect;
use crate::config;
use crate::evidence::{Recorder, Stills};
use crate::ingest::encoded::EncodedUnit;
use crate::ingest::{Intake, OwnedUnit, Pushed};

/// Units of one turn, at most.
const BATCH: usize = 32;
/// What the media threads, the pool and the app share of one lane.
pub(super) struct Core {
    mode: Mode,
    mailbox: Mailbox,
    pool: Pool,
    worker: Mutex<Worker>,
    board: Mutex<Arc<Board>>,
    recorder: Option<Arc<Recorder>>,
    me: Weak<Core>,
}

impl Core {
    pub(super) fn new(
        pool: &Pool,
        stream: Arc<config::Stream>,
        mode: Mode,
        outlet: Arc<dyn Outlet>,
        stills: Option<Arc<Stills>>,
    ) -> Arc<Self> {
        let worker = Worker::new(stream, mode, outlet, stills);
        let board = Arc::new(worker.board());
        let recorder = worker.recorder();
        Arc::new_cyclic(|me| Self {
            mode,
            mailbox: Mailbox::new(mode),
            pool: pool.clone(),
            worker: Mutex::new(worker),
            board: Mutex::new(board),
            recorder,
            me: Weak::clone(me),
        })
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(super) fn nudge(&self) {
        self.obey(self.mailbox.nudge());
    }

    pub(super) fn close(&self) {
        self.obey(self.mailbox.close());
    }

    pub(super) fn set_tap(&self, tap: Tap) {
        self.worker().tap = Some(tap);
    }

    pub(super) fn hand_out_prints(&self, tap: Arc<dyn PrintTap>) {
        self.worker().prints.hand_out(tap);
    }

    pub(super) fn compare_with(&self, reference: Reference) {
        self.worker().prints.reference = Some(reference);
    }

    pub(super) fn take_up(&self, defect: Defect) -> bool {
        self.worker().judge.take_up(defect)
    }

    pub(super) fn status(&self) -> Status {
        let board = self.published();
        let counts = self.mailbox.counts();
        Status {
            dropped_pictures: counts.dropped_pictures,
            queued: counts.queued,
            ..board.status.clone()
        }
    }

    pub(super) fn health(&self) -> Health {
        let board = self.published();
        let counts = self.mailbox.counts();
        Health {
            level: board.level,
            held_transitions: board.held,
            lost_transitions: board.lost,
            dropped_sound: counts.dropped_sound,
            merged_facts: counts.merged_facts,
        }
    }

    fn published(&self) -> Arc<Board> {
        Arc::clone(&self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn worker(&self) -> MutexGuard<'_, Worker> {
        // A batch that panicked outside a detector may have left a unit half handled, nothing worse.
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn obey(&self, wake: Wake) {
        if wake == Wake::Schedule
            && let Some(me) = self.me.upgrade()
        {
            self.pool.enqueue(me);
        }
    }
}

impl Intake for Core {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        let (pushed, wake) = self.mailbox.push(unit);
        self.obey(wake);
        pushed
    }

    fn keeps_encoded(&self) -> bool {
        self.recorder.is_some()
    }

    fn encoded(&self, unit: EncodedUnit) {
        if let Some(recorder) = &self.recorder {
            recorder.encoded(unit);
        }
    }
}

impl Turn for Core {
    fn turn(self: Arc<Self>) {
        let mut items = Vec::with_capacity(BATCH);
        let taken = self.mailbox.take(BATCH, &mut items);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let mut worker = self.worker();
            worker.batch(items, taken);
            if worker.publish_due(taken, &self.mailbox) {
                let board = Arc::new(worker.board());
                *self.board.lock().unwrap_or_else(PoisonError::into_inner) = board;
            }
        }));
        if handled.is_err() {
            tracing::error!("a batch of units was lost to a panic outside the detectors");
        }
        self.obey(self.mailbox.rest());
    }
}

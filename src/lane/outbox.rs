//! Transitions on their way out: a refused one is kept, in order, and offered again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{BreakMark, Severity, Stamp};

use super::Outlet;
use crate::alert::{Announced, Change, Transition};

/// A break is announced so long ahead, at most; what is farther is a mistake of the clocks.
const ANNOUNCED_AHEAD: Duration = Duration::from_secs(60);

/// Transitions kept, at most.
pub const MAX_HELD: usize = 1024;

/// The way out.
pub(super) struct Outbox {
    outlet: Arc<dyn Outlet>,
    held: VecDeque<Transition>,
    lost: u64,
}

impl Outbox {
    pub(super) fn new(outlet: Arc<dyn Outlet>) -> Self {
        Self {
            outlet,
            held: VecDeque::new(),
            lost: 0,
        }
    }

    /// Sends, after everything that was kept before.
    pub(super) fn send(&mut self, transition: Transition) {
        if self.held.len() >= MAX_HELD {
            self.make_room();
        }
        self.held.push_back(transition);
        self.retry();
    }

    /// A break was announced: when it takes effect, as far as that is told, on the arrival clock.
    pub(super) fn announce(&self, stream: &Arc<str>, mark: &BreakMark, at: &Stamp) {
        let ahead = match (mark.at, at.media) {
            (Some(then), Some(now)) => then.since(now).min(ANNOUNCED_AHEAD),
            _ => Duration::ZERO,
        };
        self.outlet.announce(Announced {
            stream: Arc::clone(stream),
            edge: mark.edge,
            at: at.arrival.plus(ahead),
            planned: mark.planned,
        });
    }

    /// Offers what was kept.
    pub(super) fn retry(&mut self) {
        while let Some(transition) = self.held.pop_front() {
            if let Err(back) = self.outlet.transition(transition) {
                self.held.push_front(back);
                return;
            }
        }
    }

    /// The least loss: the oldest update, else the oldest info, else the oldest.
    fn make_room(&mut self) {
        let update = self.held.iter().position(|t| t.change == Change::Update);
        let info = || {
            self.held
                .iter()
                .position(|t| t.defect.severity == Severity::Info)
        };
        let at = update.or_else(info).unwrap_or(0);
        if let Some(gone) = self.held.remove(at) {
            self.lost += 1;
            tracing::error!(
                stream = %gone.defect.stream,
                defect = %gone.defect.id,
                "no room for another undelivered alert, the oldest of least weight is dropped"
            );
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

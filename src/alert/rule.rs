//! The rule machine: one rule, one signal, one track. Pure; time is passed in.
//!
//! ```text
//!            raise met            for `hold`
//!   Ok ───────────────► Pending ───────────────► Firing ◄──────────────┐ clear no longer met
//!    ▲  raise not met      │                        │ clear met         │
//!    ├─────────────────────┘                        ▼                   │
//!    └──────────────────────────────────────────  Clearing ─────────────┘
//!                       for `release`
//! ```
//!
//! Time spent in a condition is *added up* on the signal's own clock, only over spans in which the value was
//! known, and never by a negative amount: a media clock that stands still, steps back or is absent makes no
//! progress. While the value is unmeasurable the state stays and the timers pause; when that lasts for
//! [`FORGET_AFTER`] of arrival time, what was only half decided is dropped: a pending rule is Ok again, a
//! clearing one fires on.

use std::time::Duration;

use detectors::base::{Arrival, Basis, MediaTime, RuleSpec};

use super::Moment;

/// How long (arrival time) a pending or clearing rule survives without a measurement.
pub const FORGET_AFTER: Duration = Duration::from_secs(5);

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing wrong.
    #[default]
    Ok,
    /// The raise limit is met, not yet for long enough.
    Pending {
        /// Where it was first met.
        first: Moment,
    },
    /// A defect is open.
    Firing {
        /// Where the defect began.
        start: Moment,
    },
    /// A defect is open, the clear limit is met, not yet for long enough.
    Clearing {
        /// Where the defect began.
        start: Moment,
        /// Where the clear limit was first met, or the detector says that the defect ended.
        first: Moment,
    },
}

/// State of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    phase: Phase,
    /// Time added up in Pending or Clearing.
    spent: Duration,
    /// Moment of the newest measurement, while measurable.
    last: Option<Moment>,
    /// Since when nothing could be measured.
    dark_since: Option<Arrival>,
}

impl State {
    /// Of a rule whose defect has been open since `start`.
    pub fn firing(start: Moment) -> Self {
        Self {
            phase: Phase::Firing { start },
            ..Self::default()
        }
    }

    /// Where the rule stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }
}

/// What a step decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing changed that anybody is told.
    Stay,
    /// A defect begins.
    Raise {
        /// Where it began, back-dated.
        start: Moment,
    },
    /// The defect is over.
    Clear {
        /// Where it began.
        start: Moment,
        /// Where it ended, back-dated.
        end: Moment,
    },
}

/// One step. `value` is `None` when unmeasurable (a value that is not finite counts as that); `since` is where
/// the detector says the present run began, `until` where the one before ended.
pub fn step(
    spec: &RuleSpec,
    basis: Basis,
    mut state: State,
    now: Moment,
    value: Option<f64>,
    since: Option<MediaTime>,
    until: Option<MediaTime>,
) -> (State, Turn) {
    let progress = state
        .last
        .map_or(Duration::ZERO, |last| span(basis, last, now));
    let Some(value) = value.filter(|v| v.is_finite()) else {
        return (in_the_dark(state, now, progress), Turn::Stay);
    };
    state.dark_since = None;
    state.last = match (basis, now.media, state.last) {
        // Without media time the clock stands still, it does not start over.
        (Basis::Media, None, Some(last)) => Some(last),
        _ => Some(now),
    };
    let raise = spec.raise.met(value);
    let clear = !raise && spec.clear.met(value);
    match state.phase {
        Phase::Ok if raise => {
            state.spent = Duration::ZERO;
            decide_raise(spec, state, now, now, since)
        }
        Phase::Pending { first } if raise => {
            state.spent = state.spent.saturating_add(progress);
            decide_raise(spec, state, first, now, since)
        }
        Phase::Ok | Phase::Pending { .. } => {
            state.phase = Phase::Ok;
            (state, Turn::Stay)
        }
        Phase::Firing { start } if clear => {
            state.spent = Duration::ZERO;
            // What ends before it began ended when it was seen to.
            let first = Some(back_dated(now, now, until))
                .filter(|end| end.media > start.media && end.arrival >= start.arrival);
            decide_clear(spec, state, start, first.unwrap_or(now))
        }
        Phase::Clearing { start, first } if clear => {
            state.spent = state.spent.saturating_add(progress);
            decide_clear(spec, state, start, first)
        }
        Phase::Firing { start } | Phase::Clearing { start, .. } => {
            state.phase = Phase::Firing { start };
            (state, Turn::Stay)
        }
    }
}

fn in_the_dark(mut state: State, now: Moment, progress: Duration) -> State {
    // The condition held up to here; from here on the timers pause.
    state.spent = state.spent.saturating_add(progress);
    state.last = None;
    let dark_since = *state.dark_since.get_or_insert(now.arrival);
    if now.arrival.since(dark_since) >= FORGET_AFTER {
        state.phase = match state.phase {
            Phase::Pending { .. } => Phase::Ok,
            Phase::Clearing { start, .. } => Phase::Firing { start },
            other => other,
        };
    }
    state
}

fn decide_raise(
    spec: &RuleSpec,
    mut state: State,
    first: Moment,
    now: Moment,
    since: Option<MediaTime>,
) -> (State, Turn) {
    if state.spent < spec.hold {
        state.phase = Phase::Pending { first };
        return (state, Turn::Stay);
    }
    let start = back_dated(first, now, since);
    state.phase = Phase::Firing { start };
    (state, Turn::Raise { start })
}

fn decide_clear(spec: &RuleSpec, mut state: State, start: Moment, first: Moment) -> (State, Turn) {
    if state.spent < spec.release {
        state.phase = Phase::Clearing { start, first };
        return (state, Turn::Stay);
    }
    state.phase = Phase::Ok;
    (state, Turn::Clear { start, end: first })
}

/// Where a defect began, or ended: where the detector says, unless that lies ahead, else where the limit was first
/// met.
fn back_dated(first: Moment, now: Moment, said: Option<MediaTime>) -> Moment {
    let Some(since) = said.filter(|s| now.media.is_none_or(|m| *s <= m)) else {
        return first;
    };
    let ago = now.media.map_or(Duration::ZERO, |m| m.since(since));
    let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    let computed = Arrival::from_nanos(now.arrival.nanos().saturating_sub(ago));
    Moment {
        media: Some(since),
        arrival: computed.min(first.arrival),
    }
}

fn span(basis: Basis, from: Moment, to: Moment) -> Duration {
    match basis {
        Basis::Arrival => to.arrival.since(from.arrival),
        Basis::Media => match (from.media, to.media) {
            (Some(from), Some(to)) => to.since(from),
            _ => Duration::ZERO,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "rule_tests.rs"]
mod tests;

//! Restart policy: pure, time passed in.

use std::time::Duration;

use detectors::base::Arrival;

use super::source::Retry;
use crate::config::Protocol;

/// A run that brought media for this long starts the backoff anew.
const STABLE: Duration = Duration::from_secs(10);
/// First wait. With the jitter added there are never more than two attempts a second.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait of inputs that share a server with many others.
const CEILING: Duration = Duration::from_secs(30);
/// Longest wait of inputs that have their peer to themselves and must be back soon after it.
const CEILING_PEER: Duration = Duration::from_secs(3);

/// Where a stream's input stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A run is on.
    Running {
        /// Since when.
        since: Arrival,
        /// Failures in a row before it.
        failures: u32,
    },
    /// Between runs.
    Waiting {
        /// Failures in a row so far.
        failures: u32,
    },
    /// Over.
    Over,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The run ended.
    Ended {
        /// What the source thinks of another attempt.
        retry: Retry,
        /// Whether it had brought media.
        fruitful: bool,
    },
    /// The wait is over.
    Waited,
    /// Stop was asked for.
    Stop,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Wait, then report [`Event::Waited`].
    Wait(Duration),
    /// Start a run.
    Start,
    /// Nothing more.
    Finish,
}

/// Backoff of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    ceiling: Duration,
}

impl Policy {
    /// The policy of a protocol.
    pub fn of(protocol: Protocol) -> Self {
        let ceiling = match protocol {
            Protocol::Http | Protocol::Hls | Protocol::Dash | Protocol::File => CEILING,
            Protocol::Srt | Protocol::Udp | Protocol::Rtp | Protocol::Rtmp | Protocol::Rtsp => {
                CEILING_PEER
            }
        };
        Self { ceiling }
    }

    /// The first state.
    pub fn start(now: Arrival) -> State {
        State::Running {
            since: now,
            failures: 0,
        }
    }

    /// What follows an event. `jitter`, 0.0..1.0, spreads restarts of many streams.
    pub fn next(&self, state: State, event: Event, now: Arrival, jitter: f64) -> (State, Action) {
        match (state, event) {
            (State::Over, _) | (_, Event::Stop) => (State::Over, Action::Finish),
            (
                State::Running { .. },
                Event::Ended {
                    retry: Retry::Never,
                    ..
                },
            ) => (State::Over, Action::Finish),
            (State::Running { since, failures }, Event::Ended { fruitful, .. }) => {
                let stable = fruitful && now.since(since) >= STABLE;
                let failures = if stable {
                    1
                } else {
                    failures.saturating_add(1)
                };
                (
                    State::Waiting { failures },
                    Action::Wait(self.wait(failures, jitter)),
                )
            }
            (State::Waiting { failures }, Event::Waited) => (
                State::Running {
                    since: now,
                    failures,
                },
                Action::Start,
            ),
            // A report from a run or a wait that is over already changes nothing.
            (State::Waiting { failures }, Event::Ended { .. }) => {
                (state, Action::Wait(self.wait(failures, jitter)))
            }
            (State::Running { .. }, Event::Waited) => (state, Action::Start),
        }
    }

    fn wait(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let wait = FIRST.saturating_mul(1 << doublings).min(self.ceiling);
        wait + wait.mul_f64(0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Event = Event::Ended {
        retry: Retry::Backoff,
        fruitful: false,
    };

    #[test]
    fn waits_double_up_to_the_ceiling() {
        let rows: &[(Protocol, &[u64])] = &[
            (
                Protocol::Hls,
                &[500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000],
            ),
            (Protocol::Srt, &[500, 1000, 2000, 3000, 3000]),
        ];
        for (protocol, waits) in rows {
            let policy = Policy::of(*protocol);
            let mut state = Policy::start(Arrival::from_millis(0));
            for wait in *waits {
                let now = Arrival::from_millis(1);
                let (waiting, action) = policy.next(state, FAILED, now, 0.0);
                assert_eq!(action, Action::Wait(Duration::from_millis(*wait)));
                let (running, action) = policy.next(waiting, Event::Waited, now, 0.0);
                assert_eq!(action, Action::Start);
                state = running;
            }
        }
    }

    #[test]
    fn jitter_only_lengthens_a_wait() {
        let policy = Policy::of(Protocol::Hls);
        let start = Policy::start(Arrival::default());
        for jitter in [0.0, 0.3, 0.999, 7.0, -1.0] {
            let (_, action) = policy.next(start, FAILED, Arrival::default(), jitter);
            let Action::Wait(wait) = action else {
                unreachable!("a failed run is followed by a wait")
            };
            assert!(wait >= FIRST && wait <= FIRST.mul_f64(1.5), "{wait:?}");
        }
    }

    #[test]
    fn only_a_stable_and_fruitful_run_starts_the_backoff_anew() {
        let policy = Policy::of(Protocol::Hls);
        let tired = State::Running {
            since: Arrival::from_millis(0),
            failures: 5,
        };
        let rows = [(true, 10_000, 1), (false, 10_000, 6), (true, 9_999, 6)];
        for (fruitful, ran_millis, failures) in rows {
            let event = Event::Ended {
                retry: Retry::Backoff,
                fruitful,
            };
            let (state, _) = policy.next(tired, event, Arrival::from_millis(ran_millis), 0.0);
            assert_eq!(state, State::Waiting { failures });
        }
    }

    #[test]
    fn the_end_is_final() {
        let policy = Policy::of(Protocol::File);
        let start = Policy::start(Arrival::default());
        let ended = Event::Ended {
            retry: Retry::Never,
            fruitful: true,
        };
        let over = (State::Over, Action::Finish);
        for event in [ended, Event::Stop] {
            assert_eq!(policy.next(start, event, Arrival::default(), 0.0), over);
        }
        for event in [ended, Event::Stop, Event::Waited, FAILED] {
            assert_eq!(
                policy.next(State::Over, event, Arrival::default(), 0.0),
                over
            );
        }
    }
}

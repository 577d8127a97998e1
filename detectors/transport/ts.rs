//! The transport stream itself: the checks of ETSI TR 101 290, as seconds with errors.
//!
//! The analyser of the input counts errors by check ([`Fact::Ts`]); here they become *errored seconds*: of the newest
//! ten seconds of media, how many held an error of a priority. One lost packet and a thousand in the same second weigh
//! the same, so that a burst is told from a lasting fault, and ten quiet seconds end it. The cause is the check that
//! spoiled most seconds.
//!
//! What is judged by time (tables, clock references, timestamps that stay away) is only judged where the multiplex is
//! one unbroken whole: UDP, RTP, SRT, plain HTTP, files. Segments of HLS and DASH begin with tables of their own and
//! need none between, so of them sync, continuity, transport errors and CRCs are judged, and priority 3 is
//! unmeasurable. So is everything where there is no transport stream, and the accuracy of clock references where the
//! rate is not constant: only on a constant rate does the place of a packet say when it was meant to be sent.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, InputEvent, Limit, Media, MediaTime,
    Needs, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, TsCheck, TsErrors, Unit, Why,
};

/// Seconds of media looked at.
const WINDOW: i64 = 10;
/// Largest inaccuracy emitted, nanoseconds; what is further off is no constant rate.
const INACCURACY_MAX: f64 = 1e6;
/// Without a report for so long there is no input, until the source tells its own patience.
const PATIENCE: Duration = Duration::from_secs(10);

static SIGNALS: [Signal; 4] = [
    Signal {
        name: "priority1_error_secs",
        unit: "seconds of the last 10",
        range: (0.0, WINDOW as f64),
        basis: Basis::Media,
        help: "Seconds with an error of priority 1 (TR 101 290 1.1 to 1.6: sync, PAT, continuity, PMT, missing \
               PIDs), among the last ten.",
    },
    Signal {
        name: "priority2_error_secs",
        unit: "seconds of the last 10",
        range: (0.0, WINDOW as f64),
        basis: Basis::Media,
        help: "Seconds with an error of priority 2 (TR 101 290 2.1 to 2.3 and 2.5 to 2.6: transport errors, CRCs, \
               PCR later than 100 ms or jumping, PTS later than 700 ms, CAT), among the last ten.",
    },
    Signal {
        name: "priority3_error_secs",
        unit: "seconds of the last 10",
        range: (0.0, WINDOW as f64),
        basis: Basis::Media,
        help: "Seconds with an error of priority 3 (TR 101 290 3.1, 3.4 to 3.6, 3.8: service information that was \
               there and stays away, PIDs that no table refers to), among the last ten.",
    },
    Signal {
        name: "pcr_inaccuracy_nanos",
        unit: "nanoseconds",
        range: (0.0, INACCURACY_MAX),
        basis: Basis::Media,
        help: "How far the worst PCR of the last seconds lies from a constant rate (TR 101 290 2.4 allows 500); \
               unmeasurable unless stuffing makes the rate constant.",
    },
];
static PRIORITIES: [&Signal; 3] = [&SIGNALS[0], &SIGNALS[1], &SIGNALS[2]];
static PCR_INACCURACY: &Signal = &SIGNALS[3];

/// A rule on errored seconds, which clears after ten without.
const fn errored(
    name: &'static str,
    signal: &'static str,
    at_least: f64,
    severity: Severity,
    cause: Cause,
    says: &'static str,
) -> RuleSpec {
    RuleSpec {
        name,
        signal,
        raise: Limit::AtLeast(at_least),
        clear: Limit::AtMost(0.0),
        hold: Duration::ZERO,
        release: Duration::ZERO,
        severity,
        cause,
        says,
    }
}

/// Errors of the transport stream.
pub static DETECTOR: Descriptor = Descriptor {
    name: "ts",
    doc: "The transport stream breaks the rules that receivers rely on (ETSI TR 101 290): packets are lost, damaged \
          or out of order, tables stay away, the clock jumps. Viewers may see or hear it or not, which other \
          detectors tell; this one tells where to look. The cause names the check.",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: false,
    },
    signals: &SIGNALS,
    rules: &[
        errored(
            "priority1",
            "priority1_error_secs",
            1.0,
            Severity::Info,
            Cause::ContinuityCountError,
            "Packets of the transport stream are missing, or something that decoding needs is.",
        ),
        errored(
            "priority1_lasting",
            "priority1_error_secs",
            4.0,
            Severity::Warning,
            Cause::ContinuityCountError,
            "Packets of the transport stream go missing again and again, or something that decoding needs does.",
        ),
        errored(
            "priority2_lasting",
            "priority2_error_secs",
            4.0,
            Severity::Info,
            Cause::TransportError,
            "Tables, clock or timestamps of the transport stream keep being wrong: strict receivers may fail.",
        ),
        errored(
            "priority3_lasting",
            "priority3_error_secs",
            4.0,
            Severity::Info,
            Cause::UnreferencedPid,
            "Service information of the transport stream is incomplete: programme guides and tuning may suffer.",
        ),
        RuleSpec {
            name: "pcr_inaccurate",
            signal: "pcr_inaccuracy_nanos",
            raise: Limit::AtLeast(501.0),
            clear: Limit::AtMost(500.0),
            hold: Duration::from_secs(5),
            release: Duration::from_secs(10),
            severity: Severity::Info,
            cause: Cause::PcrAccuracyError,
            says: "The clock of the transport stream is inaccurate: strict receivers may lose it.",
        },
    ],
    options: &[],
    list: None,
    build: |_| {
        Box::new(Ts {
            patience: PATIENCE,
            state: State::default(),
        })
    },
};

/// A second of media with errors.
#[derive(Debug)]
struct Second {
    number: i64,
    errors: TsErrors,
    /// Where its first errors were told.
    first: Option<MediaTime>,
}

#[derive(Debug, Default)]
struct State {
    /// When the newest report came.
    told: Option<Arrival>,
    /// Newest second reported.
    newest: i64,
    /// Those of the window that have errors, oldest first.
    errored: VecDeque<Second>,
    timed: bool,
    pcr_inaccuracy_nanos: Option<u32>,
    ended: bool,
}

impl State {
    fn take(&mut self, errors: &TsErrors, media: Option<MediaTime>) {
        let number = media.map_or(self.newest, |m| m.nanos().div_euclid(1_000_000_000));
        if number > self.newest || number <= self.newest.saturating_sub(WINDOW) {
            self.newest = number;
        }
        let window = self.newest.saturating_sub(WINDOW) + 1..=self.newest;
        self.errored.retain(|s| window.contains(&s.number));
        self.timed = errors.timed;
        self.pcr_inaccuracy_nanos = errors.pcr_inaccuracy_nanos;
        if !errors.any() {
            return;
        }
        let at = self.errored.partition_point(|s| s.number < number);
        match self.errored.get_mut(at).filter(|s| s.number == number) {
            Some(second) => {
                second.errors.absorb(errors);
                second.first = second.first.min(media);
            }
            None => self.errored.insert(
                at,
                Second {
                    number,
                    errors: errors.clone(),
                    first: media,
                },
            ),
        }
    }

    /// Seconds spoiled by a check.
    fn spoiled(&self, check: TsCheck) -> usize {
        let with = |s: &&Second| s.errors.count(check) > 0;
        self.errored.iter().filter(with).count()
    }

    fn reading(&self, priority: u8) -> Reading {
        let checks = || TsCheck::ALL.iter().filter(|c| c.priority() == priority);
        let mut seconds = self
            .errored
            .iter()
            .filter(|s| checks().any(|c| s.errors.count(*c) > 0))
            .peekable();
        let since = seconds.peek().and_then(|s| s.first);
        let count = seconds.count();
        let reading = Reading::measured(count as f64);
        // Of checks that spoiled as many seconds the first of the standard: the others often follow from it.
        let worst = checks()
            .rev()
            .max_by_key(|c| self.spoiled(**c))
            .filter(|_| count > 0);
        match worst {
            Some(check) => reading.cause(check.cause()).since(since),
            None => reading,
        }
    }

    fn emit(&self, out: &mut Sink<'_>) {
        for (signal, priority) in PRIORITIES.into_iter().zip(1..) {
            let measurable = priority < 3 || self.timed;
            let blind = Reading::unmeasurable(Why::NotApplicable);
            out.put(
                signal,
                if measurable {
                    self.reading(priority)
                } else {
                    blind
                },
            );
        }
        let pcr = self.pcr_inaccuracy_nanos.filter(|_| self.timed);
        let pcr = pcr.map_or(Reading::unmeasurable(Why::NotApplicable), |nanos| {
            Reading::measured(f64::from(nanos).min(INACCURACY_MAX))
        });
        out.put(PCR_INACCURACY, pcr);
    }
}

struct Ts {
    patience: Duration,
    state: State,
}

impl Detector for Ts {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let now = unit.at.arrival;
        match unit.media {
            Media::Fact(Fact::Ts(errors)) => {
                self.state.told = Some(now);
                self.state.take(errors, unit.at.media);
                self.state.emit(out);
            }
            Media::Fact(Fact::Input(event)) => match event {
                InputEvent::Patience { page_after, .. } => self.patience = *page_after,
                InputEvent::Reopened => self.state = State::default(),
                InputEvent::Ended => self.state.ended = true,
                InputEvent::FromStart | InputEvent::Receiving | InputEvent::Failed { .. } => {}
            },
            Media::Tick if !self.state.ended => {
                let why = match self.state.told {
                    None => Why::NotApplicable,
                    Some(told) if now.since(told) > self.patience => Why::NoInput,
                    Some(_) => return,
                };
                for signal in &SIGNALS {
                    out.put(signal, Reading::unmeasurable(why));
                }
            }
            _ => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.patience = PATIENCE;
        self.state = State::default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::base::Value;
    use crate::testkit::{Bench, Item, Step};

    fn report(millis: i64, found: &[(TsCheck, u32)]) -> Step {
        let mut errors = TsErrors {
            timed: true,
            ..TsErrors::default()
        };
        for (check, count) in found {
            errors.add(*check, *count);
        }
        Step::fact(millis, None, Fact::Ts(errors))
    }

    fn tick(millis: i64) -> Step {
        Step::at(millis, None, Item::Tick)
    }

    fn value(bench: &Bench, signal: &str) -> Value {
        bench.newest(signal).unwrap().value
    }

    const P1: &str = "priority1_error_secs";
    const P2: &str = "priority2_error_secs";
    const P3: &str = "priority3_error_secs";

    #[test]
    fn a_clean_stream_shows_zero() {
        let mut bench = Bench::new(&DETECTOR);
        for n in 0..60 {
            bench.step(&report(500 * n, &[]));
        }
        for signal in [P1, P2, P3] {
            assert_eq!(bench.peak(signal), 0.0, "{signal}");
        }
        assert!(bench.emitted.iter().all(|e| e.reading.cause.is_none()));
    }

    #[test]
    fn a_burst_is_one_second_and_over_after_ten() {
        let mut bench = Bench::new(&DETECTOR);
        bench.step(&report(2_500, &[]));
        bench.step(&report(3_000, &[(TsCheck::ContinuityCountError, 166)]));
        bench.step(&report(3_500, &[(TsCheck::ContinuityCountError, 3)]));
        let reading = bench.newest(P1).unwrap();
        assert_eq!(reading.value, Value::Measured(1.0));
        assert_eq!(reading.cause, Some(Cause::ContinuityCountError));
        assert_eq!(reading.since, Some(MediaTime::from_millis(3_000)));
        assert_eq!(bench.value(P2), 0.0);
        for n in 8..26 {
            bench.step(&report(500 * n, &[]));
            assert_eq!(bench.value(P1), 1.0, "{n}");
        }
        bench.step(&report(13_000, &[]));
        assert_eq!(bench.value(P1), 0.0);
    }

    #[test]
    fn seconds_are_counted_by_priority_and_the_check_with_most_names_the_cause() {
        let mut bench = Bench::new(&DETECTOR);
        for n in 0..8 {
            let mut found = vec![(TsCheck::CrcError, 1)];
            if n % 2 == 0 {
                found.push((TsCheck::PatError, 2));
            }
            if n == 3 {
                found.push((TsCheck::TsSyncLoss, 1));
                found.push((TsCheck::UnreferencedPid, 9));
            }
            bench.step(&report(1_000 * n, &found));
        }
        assert_eq!(bench.value(P1), 5.0);
        assert_eq!(bench.newest(P1).unwrap().cause, Some(Cause::PatError));
        assert_eq!(bench.value(P2), 8.0);
        assert_eq!(bench.newest(P2).unwrap().cause, Some(Cause::CrcError));
        assert_eq!(bench.value(P3), 1.0);
        // Of equals the first of the standard.
        bench.step(&report(
            60_000,
            &[(TsCheck::PidError, 1), (TsCheck::TsSyncLoss, 1)],
        ));
        assert_eq!(bench.newest(P1).unwrap().cause, Some(Cause::TsSyncLoss));
    }

    #[test]
    fn what_cannot_be_judged_is_unmeasurable() {
        let mut bench = Bench::new(&DETECTOR);
        bench.step(&tick(0));
        for signal in &SIGNALS {
            let blind = Value::Unmeasurable(Why::NotApplicable);
            assert_eq!(value(&bench, signal.name), blind, "no transport stream");
        }
        // Segments.
        bench.step(&Step::fact(0, None, Fact::Ts(TsErrors::default())));
        assert_eq!(bench.value(P1), 0.0);
        assert_eq!(bench.value(P2), 0.0);
        let blind = Value::Unmeasurable(Why::NotApplicable);
        assert_eq!(value(&bench, P3), blind);
        // A whole at a rate that is not constant.
        bench.step(&report(500, &[]));
        assert_eq!(bench.value(P3), 0.0);
        assert_eq!(value(&bench, "pcr_inaccuracy_nanos"), blind);
        let exact = TsErrors {
            timed: true,
            pcr_inaccuracy_nanos: Some(37),
            ..TsErrors::default()
        };
        bench.step(&Step::fact(1_000, None, Fact::Ts(exact)));
        assert_eq!(bench.value("pcr_inaccuracy_nanos"), 37.0);
        // The input stays away, and comes back as something else.
        bench.step(&tick(10_900));
        assert_eq!(bench.value(P1), 0.0);
        bench.step(&tick(11_100));
        assert_eq!(value(&bench, P1), Value::Unmeasurable(Why::NoInput));
        let reopened = Fact::Input(InputEvent::Reopened);
        bench.step(&Step::fact(12_000, None, reopened));
        bench.step(&tick(12_100));
        assert_eq!(value(&bench, P1), blind);
    }

    #[test]
    fn the_window_is_bounded_whatever_the_media_clock_does() {
        let mut detector = Ts {
            patience: PATIENCE,
            state: State::default(),
        };
        for n in 0..5_000_i64 {
            let mut errors = TsErrors::default();
            errors.add(TsCheck::ContinuityCountError, 1);
            let millis = n.wrapping_mul(7_919).wrapping_mul(n) % 100_000;
            detector
                .state
                .take(&errors, Some(MediaTime::from_millis(millis)));
            let numbers: Vec<i64> = detector.state.errored.iter().map(|s| s.number).collect();
            assert!(numbers.len() <= WINDOW as usize && numbers.is_sorted());
        }
    }
}

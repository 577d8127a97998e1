use detectors::base::{Cause, Limit, Severity};

use super::*;

fn spec(hold_ms: u64, release_ms: u64) -> RuleSpec {
    RuleSpec {
        name: "high",
        signal: "level",
        raise: Limit::AtLeast(10.0),
        clear: Limit::AtMost(5.0),
        hold: Duration::from_millis(hold_ms),
        release: Duration::from_millis(release_ms),
        severity: Severity::Warning,
        cause: Cause::Frozen,
        says: "High.",
    }
}

fn at(media_ms: impl Into<Option<i64>>, arrival_ms: u64) -> Moment {
    Moment {
        media: media_ms.into().map(MediaTime::from_millis),
        arrival: Arrival::from_millis(arrival_ms),
    }
}

/// Media ms, arrival ms, value, since ms (of a value that clears: until).
type Row = (Option<i64>, u64, Option<f64>, Option<i64>);

/// Runs rows and writes down what was decided.
fn run(spec: &RuleSpec, basis: Basis, rows: &[Row]) -> Vec<(usize, Turn)> {
    let mut state = State::default();
    let mut told = Vec::new();
    for (row, (media, arrival, value, since)) in rows.iter().enumerate() {
        let since = since.map(MediaTime::from_millis);
        let now = at(*media, *arrival);
        let clears = value.is_some_and(|v| spec.clear.met(v));
        let (since, until) = if clears { (None, since) } else { (since, None) };
        let (next, turn) = step(spec, basis, state, now, *value, since, until);
        state = next;
        if turn != Turn::Stay {
            told.push((row, turn));
        }
    }
    told
}

/// Rows where media and arrival time are the same.
fn same(rows: &[(i64, Option<f64>)]) -> Vec<Row> {
    rows.iter()
        .map(|(ms, value)| (Some(*ms), *ms as u64, *value, None))
        .collect()
}

#[test]
fn raises_after_hold_and_clears_after_release_both_back_dated() {
    let rows = same(&[
        (0, Some(0.0)),
        (1000, Some(10.0)),
        (1999, Some(12.0)),
        (2000, Some(12.0)),
        (3000, Some(7.0)), // between the limits: stays
        (4000, Some(5.0)),
        (4500, Some(5.0)),
        (5000, Some(4.0)),
    ]);
    for basis in [Basis::Media, Basis::Arrival] {
        assert_eq!(
            run(&spec(1000, 1000), basis, &rows),
            [
                (
                    3,
                    Turn::Raise {
                        start: at(1000, 1000)
                    }
                ),
                (
                    7,
                    Turn::Clear {
                        start: at(1000, 1000),
                        end: at(4000, 4000)
                    }
                ),
            ]
        );
    }
}

#[test]
fn without_hold_and_release_it_turns_at_once() {
    let rows = same(&[(0, Some(10.0)), (40, Some(6.0)), (80, Some(5.0))]);
    let told = run(&spec(0, 0), Basis::Media, &rows);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], (0, Turn::Raise { start: at(0, 0) }));
    assert_eq!(
        told[1],
        (
            2,
            Turn::Clear {
                start: at(0, 0),
                end: at(80, 80)
            }
        )
    );
}

#[test]
fn an_interrupted_hold_starts_over_and_an_interrupted_release_too() {
    let rows = same(&[
        (0, Some(10.0)),
        (900, Some(9.0)), // below the raise limit: no longer pending
        (1000, Some(10.0)),
        (1900, Some(10.0)),
        (2000, Some(10.0)), // raised, from 1000
        (3000, Some(1.0)),
        (3900, Some(9.0)), // not clear: release starts over
        (4000, Some(1.0)),
        (4900, Some(1.0)),
        (5000, Some(1.0)), // cleared, at 4000
    ]);
    let told = run(&spec(1000, 1000), Basis::Media, &rows);
    assert_eq!(
        told[0],
        (
            4,
            Turn::Raise {
                start: at(1000, 1000)
            }
        )
    );
    assert_eq!(
        told[1],
        (
            9,
            Turn::Clear {
                start: at(1000, 1000),
                end: at(4000, 4000)
            }
        )
    );
    assert_eq!(told.len(), 2);
}

#[test]
fn the_detectors_own_start_wins_unless_it_lies_ahead() {
    let start = |since: i64| {
        let rows = [(Some(9000), 19_000, Some(10.0), Some(since))];
        run(&spec(0, 0), Basis::Media, &rows)
    };
    assert_eq!(
        start(7000),
        [(
            0,
            Turn::Raise {
                start: at(7000, 17_000)
            }
        )]
    );
    assert_eq!(
        start(9001),
        [(
            0,
            Turn::Raise {
                start: at(9000, 19_000)
            }
        )]
    );
    // Nothing began before the process did.
    assert_eq!(
        start(-60_000),
        [(
            0,
            Turn::Raise {
                start: at(-60_000, 0)
            }
        )]
    );
}

#[test]
fn the_detectors_own_end_wins_unless_it_lies_ahead_or_before_the_start() {
    let end = |until: i64, release_ms: u64| {
        let rows = [
            (Some(5000), 15_000, Some(10.0), Some(4000)),
            (Some(9000), 19_000, Some(10.0), Some(4000)),
            (Some(9500), 19_500, Some(0.0), Some(until)),
            (Some(9540), 19_540, Some(0.0), None),
            (Some(9600), 19_600, Some(0.0), Some(9580)),
        ];
        let told = run(&spec(0, release_ms), Basis::Media, &rows);
        let Some((row, Turn::Clear { start, end })) = told.get(1) else {
            panic!("{told:?}");
        };
        assert_eq!(*start, at(4000, 14_000));
        (*row, *end)
    };
    assert_eq!(end(9100, 0), (2, at(9100, 19_100)));
    // The release is counted from when it was seen; only the first word counts.
    assert_eq!(end(9100, 100), (4, at(9100, 19_100)));
    assert_eq!(end(9501, 0), (2, at(9500, 19_500)));
    assert_eq!(end(4000, 0), (2, at(9500, 19_500)));
    assert_eq!(end(-60_000, 0), (2, at(9500, 19_500)));
}

#[test]
fn media_time_that_stands_steps_back_or_is_absent_makes_no_progress() {
    let still = [
        (Some(0), 0, Some(10.0), None),
        (Some(0), 10_000, Some(10.0), None),
        (None, 20_000, Some(10.0), None),
        (Some(-5000), 30_000, Some(10.0), None),
        (Some(-4001), 40_000, Some(10.0), None),
    ];
    assert_eq!(run(&spec(1000, 0), Basis::Media, &still), []);
    let mut goes_on = still.to_vec();
    goes_on.push((Some(-4000), 40_001, Some(10.0), None));
    assert_eq!(
        run(&spec(1000, 0), Basis::Media, &goes_on),
        [(5, Turn::Raise { start: at(0, 0) })]
    );
    // On the arrival clock the same rows raise early.
    assert_eq!(run(&spec(1000, 0), Basis::Arrival, &still)[0].0, 1);
}

#[test]
fn unmeasurable_pauses_the_timers_and_keeps_the_state() {
    let rows = same(&[
        (0, Some(10.0)),
        (500, None), // half of the hold is behind us
        (4000, None),
        (4500, Some(10.0)),
        (4999, Some(10.0)),
        (5000, Some(10.0)), // and here is the other half
        (6000, None),
        (60_000, None), // still open
        (60_001, Some(1.0)),
    ]);
    let told = run(&spec(1000, 0), Basis::Media, &rows);
    assert_eq!(told[0], (5, Turn::Raise { start: at(0, 0) }));
    assert_eq!(told[1].0, 8);
    assert_eq!(told.len(), 2);
}

#[test]
fn what_is_half_decided_is_forgotten_in_lasting_darkness() {
    let pending = same(&[
        (0, Some(10.0)),
        (900, None),
        (5899, None),
        (5900, None), // five seconds: forgotten
        (6000, Some(10.0)),
        (6900, Some(10.0)),
        (7000, Some(10.0)),
    ]);
    assert_eq!(
        run(&spec(1000, 0), Basis::Media, &pending),
        [(
            6,
            Turn::Raise {
                start: at(6000, 6000)
            }
        )]
    );
    let clearing = same(&[
        (0, Some(10.0)),
        (100, Some(1.0)),
        (1000, None),
        (6000, None), // forgotten: fires on
        (6100, Some(1.0)),
        (6200, Some(1.0)),
        (7100, Some(1.0)),
    ]);
    let told = run(&spec(0, 1000), Basis::Media, &clearing);
    assert_eq!(
        told[1],
        (
            6,
            Turn::Clear {
                start: at(0, 0),
                end: at(6100, 6100)
            }
        )
    );
}

#[test]
fn a_value_that_is_not_finite_counts_as_unmeasurable() {
    let rows = same(&[
        (0, Some(f64::NAN)),
        (1, Some(f64::INFINITY)),
        (2, Some(10.0)),
        (3, Some(f64::NEG_INFINITY)),
    ]);
    assert_eq!(run(&spec(0, 0), Basis::Media, &rows).len(), 1);
}

#[test]
fn limits_that_overlap_do_not_flap() {
    let mut odd = spec(0, 0);
    odd.clear = Limit::AtMost(20.0);
    let rows = same(&[(0, Some(15.0)), (1, Some(15.0)), (2, Some(15.0))]);
    assert_eq!(run(&odd, Basis::Media, &rows).len(), 1);
}

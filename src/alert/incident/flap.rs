//! Flap damping: how much of the recent past was change (the weighted method of Nagios and Icinga).

use std::time::Duration;

use jiff::Timestamp;

/// Evaluations that are looked back on.
const EVALUATIONS: u32 = 20;
/// Share of change from which on it flaps.
const ENTER: f64 = 0.30;
/// ... and below which it no longer does.
const LEAVE: f64 = 0.25;
/// Weight of the oldest and of the newest evaluation.
const WEIGHTS: (f64, f64) = (0.8, 1.2);
/// Where nothing changes, that is one evaluation.
const EVERY: Duration = Duration::from_secs(30);

/// The past of one incident key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Flaps {
    /// The newest is the lowest bit.
    changed: u32,
    last: Option<Timestamp>,
    flapping: bool,
}

impl Flaps {
    /// It turned bad, or well.
    pub(super) fn turned(&mut self, now: Timestamp) {
        self.stood(now);
        self.push(true);
        self.last = Some(now);
    }

    /// Time has passed. Returns whether it flaps.
    pub(super) fn stood(&mut self, now: Timestamp) -> bool {
        if let Some(last) = self.last {
            let mut last = last;
            for _ in 0..EVALUATIONS {
                let next = last + EVERY;
                if next > now {
                    break;
                }
                self.push(false);
                last = next;
            }
            // Longer than everything that is looked back on: all of it is forgotten.
            self.last = Some(if last + EVERY > now { last } else { now });
        }
        self.flapping
    }

    fn push(&mut self, changed: bool) {
        let kept = (1u32 << EVALUATIONS) - 1;
        self.changed = ((self.changed << 1) | u32::from(changed)) & kept;
        let ratio = self.ratio();
        self.flapping = match self.flapping {
            false => ratio >= ENTER,
            true => ratio > LEAVE,
        };
    }

    fn ratio(&self) -> f64 {
        let (oldest, newest) = WEIGHTS;
        let step = (newest - oldest) / f64::from(EVALUATIONS - 1);
        let weight = |age: u32| newest - step * f64::from(age);
        let sum: f64 = (0..EVALUATIONS)
            .filter(|age| self.changed >> age & 1 == 1)
            .map(weight)
            .sum();
        sum / f64::from(EVALUATIONS)
    }

    /// Whether nothing of the past is left to remember.
    pub(super) fn is_quiet(&self) -> bool {
        self.changed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + secs).unwrap_or_default()
    }

    #[test]
    fn it_flaps_from_six_changes_of_twenty_and_calms_down() {
        let mut flaps = Flaps::default();
        for turn in 0..5 {
            flaps.turned(at(turn * 3));
        }
        assert!(!flaps.stood(at(15)));
        flaps.turned(at(15));
        assert!(flaps.stood(at(16)), "{}", flaps.ratio());
        assert!(flaps.stood(at(300)));
        assert!(!flaps.stood(at(15 + 30 * 20)));
        assert!(flaps.is_quiet());
    }

    #[test]
    fn a_fault_now_and_then_is_no_flapping() {
        let mut flaps = Flaps::default();
        for hour in 0..20 {
            flaps.turned(at(hour * 3600));
            flaps.turned(at(hour * 3600 + 200));
            assert!(!flaps.stood(at(hour * 3600 + 300)));
        }
    }
}

//! Steps of a measured offset against its own past.

use std::collections::VecDeque;

use crate::av::median;

/// Measurements that make the past: with one a second, a step is part of it after half a minute.
const PAST: usize = 60;
/// Least of them before a step is told.
const PAST_MIN: usize = 8;
/// A step is told when so many measurements in a row confirm it.
const CONFIRMATIONS: usize = 2;

/// Follows the offset of one track.
#[derive(Debug, Default)]
pub struct Steps {
    /// The newest last.
    offsets: VecDeque<f64>,
}

impl Steps {
    /// Takes the next measurement, seconds; answers by how much the newest ones lie off the median of those before, by
    /// the one that lies off least. `None` while too little is known.
    pub fn note(&mut self, offset_secs: f64) -> Option<f64> {
        self.offsets.push_back(offset_secs);
        if self.offsets.len() > PAST + CONFIRMATIONS {
            self.offsets.pop_front();
        }
        let count = self.offsets.len().checked_sub(CONFIRMATIONS)?;
        if count < PAST_MIN {
            return None;
        }
        let usual = median(self.offsets.iter().take(count).copied())?;
        let off = (self.offsets.iter().skip(count)).map(|offset| offset - usual);
        let (low, high) = (
            off.clone().fold(f64::MAX, f64::min),
            off.fold(f64::MIN, f64::max),
        );
        Some(low.max(0.0) + high.min(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_when_confirmed_and_is_the_new_usual_after_half_a_minute() {
        let mut steps = Steps::default();
        let noise = |n: usize| [0.002, -0.001, 0.0][n % 3];
        for n in 0..PAST_MIN + 1 {
            assert_eq!(steps.note(0.03 + noise(n)), None);
        }
        assert!(steps.note(0.03).is_some_and(|step| step.abs() < 0.003));
        // One measurement off is none.
        assert!(steps.note(-0.5).is_some_and(|step| step.abs() < 0.003));
        assert!(steps.note(0.03).is_some_and(|step| step.abs() < 0.003));
        for n in 0..60 {
            steps.note(0.03 + noise(n));
        }
        let told: Vec<f64> = (0..60)
            .filter_map(|n| steps.note(-0.02 + noise(n)))
            .collect();
        assert!(told[0].abs() < 0.003, "{told:?}");
        assert!((told[1] + 0.05).abs() < 0.004, "{told:?}");
        let lasts = told.iter().filter(|step| **step < -0.045).count();
        assert!((25..40).contains(&lasts), "{lasts}");
    }
}

//! The last minute.

use std::collections::VecDeque;

use crate::base::MediaTime;

const MINUTE_SECS: f64 = 60.0;

/// Stutters and measurable time of the last minute, kept by the second.
#[derive(Debug, Default)]
pub(super) struct Window {
    seconds: VecDeque<Second>,
}

#[derive(Debug)]
struct Second {
    from: MediaTime,
    measured_secs: f64,
    stutters: u32,
    worst_secs: f64,
}

impl Window {
    /// Time goes on to `now`; `measured_secs` of it could be measured.
    pub(super) fn pass(&mut self, now: MediaTime, measured_secs: f64) {
        if (self.seconds.back()).is_none_or(|s| now.secs_after(s.from) >= 1.0) {
            self.seconds.push_back(Second {
                from: now,
                measured_secs: 0.0,
                stutters: 0,
                worst_secs: 0.0,
            });
        }
        while (self.seconds.front()).is_some_and(|s| now.secs_after(s.from) > MINUTE_SECS) {
            self.seconds.pop_front();
        }
        if let Some(second) = self.seconds.back_mut() {
            second.measured_secs += measured_secs;
        }
    }

    /// Counts a stutter.
    pub(super) fn count(&mut self, secs: f64) {
        if let Some(second) = self.seconds.back_mut() {
            second.stutters = second.stutters.saturating_add(1);
            second.worst_secs = second.worst_secs.max(secs);
        }
    }

    /// Seconds that could be measured.
    pub(super) fn measured_secs(&self) -> f64 {
        self.seconds.iter().map(|s| s.measured_secs).sum()
    }

    /// Stutters.
    pub(super) fn stutters(&self) -> u32 {
        self.seconds
            .iter()
            .fold(0, |sum, s| sum.saturating_add(s.stutters))
    }

    /// The longest of them, seconds.
    pub(super) fn worst_secs(&self) -> f64 {
        self.seconds
            .iter()
            .map(|s| s.worst_secs)
            .fold(0.0, f64::max)
    }
}

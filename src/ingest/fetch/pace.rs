//! How often a failing origin is asked.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Shortest time between two attempts of one stream while something fails: 2 requests a second.
pub const RETRY_SPACING: Duration = Duration::from_millis(500);

/// Longest backoff. Short, because a monitor must see the recovery: at most this late.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// A longer `Retry-After` counts as this: an origin may ask for rest, not for blindness.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Spaces the retries of all loops of one stream.
///
/// Loops that work do not wait here; they only note that they asked. A loop that failed waits for a slot, so that
/// one failing rendition cannot slow the others and all failing together ask no more often than one.
#[derive(Debug, Default)]
pub struct Pacer {
    last: Mutex<Option<Instant>>,
}

impl Pacer {
    /// A request goes out now.
    pub fn note(&self, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        *last = Some(last.map_or(now, |at| at.max(now)));
    }

    /// Reserves the next moment at or after `wish` when a retry may go out.
    pub fn slot(&self, wish: Instant) -> Instant {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        let slot = last.map_or(wish, |at| wish.max(at + RETRY_SPACING));
        *last = Some(slot);
        slot
    }
}

/// Exponential backoff with jitter of one retry loop.
#[derive(Debug, Default, Clone)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether the last attempt failed.
    pub fn failing(&self) -> bool {
        self.failures > 0
    }

    /// It worked.
    pub fn worked(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait. `jitter` in 0..1 shortens the wait by up to 30 %, never below
    /// [`RETRY_SPACING`]; `retry_after` is honoured up to [`RETRY_AFTER_MAX`].
    pub fn failed(&mut self, retry_after: Option<Duration>, jitter: f64) -> Duration {
        let doubled = RETRY_SPACING.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled
            .min(BACKOFF_MAX)
            .mul_f64(1.0 - 0.3 * jitter.clamp(0.0, 1.0));
        wait.max(RETRY_SPACING)
            .max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_cap_and_honours_retry_after() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..6).map(|_| backoff.failed(None, 0.0)).collect();
        assert_eq!(waits[0], RETRY_SPACING);
        assert_eq!(waits[1], RETRY_SPACING * 2);
        assert_eq!(waits[5], BACKOFF_MAX);
        assert_eq!(
            backoff.failed(Some(Duration::from_secs(7)), 1.0),
            Duration::from_secs(7)
        );
        assert_eq!(
            backoff.failed(Some(Duration::from_secs(86_400)), 0.0),
            RETRY_AFTER_MAX
        );
        backoff.worked();
        assert_eq!(backoff.failed(None, 1.0), RETRY_SPACING);
    }

    #[test]
    fn retries_of_many_loops_share_two_a_second() {
        let pacer = Pacer::default();
        let start = Instant::now();
        let slots: Vec<_> = (0..9).map(|_| pacer.slot(start)).collect();
        assert_eq!(slots[0], start);
        assert_eq!(slots[8], start + RETRY_SPACING * 8);
        pacer.note(start);
        assert_eq!(pacer.slot(start), start + RETRY_SPACING * 9);
    }

    #[test]
    fn a_retry_keeps_away_from_a_request_that_just_went_out() {
        let pacer = Pacer::default();
        let start = Instant::now();
        pacer.note(start);
        assert_eq!(
            pacer.slot(start + Duration::from_millis(100)),
            start + RETRY_SPACING
        );
        let later = start + Duration::from_secs(5);
        assert_eq!(pacer.slot(later), later);
    }
}

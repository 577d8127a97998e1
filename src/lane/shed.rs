//! The shedding ladder: what a lane leaves out when it cannot keep up. Pure; time is passed in.

use std::time::Duration;

use detectors::base::Arrival;

/// A unit older than this when its turn comes means that the lane lags.
pub const LAG_LIMIT: Duration = Duration::from_millis(500);
/// Below this the lane has caught up.
const LAG_CALM: Duration = Duration::from_millis(200);
/// A mailbox fuller than this means that the lane lags.
const FILL_LIMIT: f64 = 0.5;
/// Below this the lane has caught up.
const FILL_CALM: f64 = 0.25;
/// How long it must lag before costly detectors skip pictures (a burst of decoded pictures is no lag).
const SKIP_AFTER: Duration = Duration::from_millis(200);
/// How much longer before they are suspended.
const SUSPEND_AFTER: Duration = Duration::from_secs(2);
/// How long it must have been calm before one step is taken back.
const RECOVER_AFTER: Duration = Duration::from_secs(3);

/// Steps of the ladder. Cheap detectors never notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Everything runs.
    #[default]
    Full,
    /// Costly detectors skip every other picture.
    Skipping,
    /// Costly detectors are suspended.
    Suspended,
}

/// How far behind the lane is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Newest arrival known: now, as far as the lane can tell without a clock.
    pub now: Arrival,
    /// Age of the unit whose turn it is.
    pub lag: Duration,
    /// Fill of the mailbox, 0..=1.
    pub fill: f64,
}

/// The ladder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ladder {
    level: Level,
    behind_since: Option<Arrival>,
    calm_since: Option<Arrival>,
}

impl Ladder {
    /// Where it stands.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes one look at the load.
    pub fn step(&mut self, load: Load) -> Level {
        let behind = load.lag > LAG_LIMIT || load.fill > FILL_LIMIT;
        let calm = load.lag < LAG_CALM && load.fill <= FILL_CALM;
        if behind {
            self.calm_since = None;
            let since = *self.behind_since.get_or_insert(load.now);
            let (patience, next) = match self.level {
                Level::Full => (SKIP_AFTER, Level::Skipping),
                Level::Skipping | Level::Suspended => (SUSPEND_AFTER, Level::Suspended),
            };
            if self.level != next && load.now.since(since) >= patience {
                self.level = next;
                self.behind_since = Some(load.now);
            }
        } else if calm {
            self.behind_since = None;
            let since = *self.calm_since.get_or_insert(load.now);
            if self.level != Level::Full && load.now.since(since) >= RECOVER_AFTER {
                self.level = match self.level {
                    Level::Suspended => Level::Skipping,
                    Level::Skipping | Level::Full => Level::Full,
                };
                self.calm_since = Some(load.now);
            }
        } else {
            self.behind_since = None;
            self.calm_since = None;
        }
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(now_ms: u64, lag_ms: u64, fill: f64) -> Load {
        Load {
            now: Arrival::from_millis(now_ms),
            lag: Duration::from_millis(lag_ms),
            fill,
        }
    }

    #[test]
    fn climbs_by_lasting_lag_and_returns_step_by_step() {
        let mut ladder = Ladder::default();
        let table = [
            (load(0, 600, 0.0), Level::Full),
            (load(199, 600, 0.0), Level::Full),
            (load(200, 600, 0.0), Level::Skipping),
            (load(2199, 0, 0.9), Level::Skipping),
            (load(2200, 0, 0.9), Level::Suspended),
            (load(60_000, 600, 0.9), Level::Suspended),
            (load(61_000, 100, 0.1), Level::Suspended),
            (load(63_999, 100, 0.1), Level::Suspended),
            (load(64_000, 100, 0.1), Level::Skipping),
            (load(66_999, 100, 0.1), Level::Skipping),
            (load(67_000, 100, 0.1), Level::Full),
            (load(90_000, 100, 0.1), Level::Full),
        ];
        for (at, (load, expected)) in table.into_iter().enumerate() {
            assert_eq!(ladder.step(load), expected, "row {at}");
        }
    }

    #[test]
    fn a_burst_or_the_middle_ground_changes_nothing() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.step(load(0, 0, 0.9)), Level::Full);
        assert_eq!(ladder.step(load(150, 0, 0.4)), Level::Full);
        assert_eq!(ladder.step(load(300, 0, 0.9)), Level::Full);
        assert_eq!(ladder.step(load(450, 0, 0.9)), Level::Full);
        assert_eq!(ladder.step(load(500, 0, 0.9)), Level::Skipping);
        for at in 0..100 {
            assert_eq!(ladder.step(load(600 + at * 100, 300, 0.3)), Level::Skipping);
        }
    }
}

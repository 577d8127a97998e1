//! The process-wide monotonic clock behind every arrival time.

use std::sync::OnceLock;
use std::time::Duration;

use detectors::base::Arrival;
use tokio::time::Instant;

/// The clock begins so long before the process, so that what was open before a restart has a time on it as well.
const BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Now, on a clock that began 30 days before the first call.
pub fn now() -> Arrival {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed() + BEFORE;
    Arrival::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

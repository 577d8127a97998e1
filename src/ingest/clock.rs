//! The process-wide monotonic clock behind every arrival time.

use std::sync::OnceLock;
use std::time::Instant;

use detectors::base::Arrival;

/// Now, in nanoseconds since the first call.
pub fn now() -> Arrival {
    static START: OnceLock<Instant> = OnceLock::new();
    let nanos = START.get_or_init(Instant::now).elapsed().as_nanos();
    Arrival::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

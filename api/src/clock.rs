//! The one place of this crate that reads the wall clock.

use berth_model::Timestamp;
use std::time::{Duration, SystemTime};

/// Milliseconds since 1970 UTC, on this machine's clock. For spans shown to people and for the
/// times of answers; nothing is decided by it.
pub fn now() -> Timestamp {
    Timestamp(u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the edge where wall-clock time comes in")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

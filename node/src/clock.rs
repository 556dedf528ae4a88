//! The one place of this crate that reads the wall clock.
//!
//! Promises: milliseconds since 1970, as facts and records carry them. Does not: measure durations;
//! those come from the timers of the runtime, which never go back.

use berth_model::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time of day on this host.
#[expect(
    clippy::disallowed_methods,
    reason = "facts carry the host's clock, and it is read here alone"
)]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

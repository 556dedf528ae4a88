//! The one place in this crate that reads clocks: for latencies, deadlines and nothing that is
//! replicated.

use berth_model::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "measures latencies at the edge")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// This machine's wall clock, for the deadline in a command; the leader's stamp is what counts.
#[expect(clippy::disallowed_methods, reason = "a client's deadline becomes a point in time here")]
pub(super) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

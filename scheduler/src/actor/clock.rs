//! The one place in this crate that reads clocks: for latencies, deadlines and nothing that is
//! replicated.

use berth_model::Timestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Milliseconds since it was made, for pure code that counts time and reads no clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticker(Instant);

impl Ticker {
    pub fn new() -> Self {
        Self(now())
    }

    pub fn ms(self) -> u64 {
        millis(self.0.elapsed())
    }

    /// The instant at which it shows `ms`.
    pub fn at(self, ms: u64) -> Instant {
        self.0 + Duration::from_millis(ms)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Waiting for a condition, with a deadline and a word on what was waited for.

use std::time::{Duration, Instant};

/// Reads the clock for a test's own deadlines and measurements.
#[expect(clippy::disallowed_methods, reason = "tests over real processes wait in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `condition` until it gives a value.
///
/// # Panics
/// After `limit`, with `what` and the last reason that `condition` gave.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = now() + limit;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(reason) if now() >= deadline => {
                panic!("{what}: not after {} s; at the end: {reason}", limit.as_secs_f64());
            }
            Err(_) => pause(),
        }
    }
}

/// Between two looks at something that gives no notice of its change.
#[expect(clippy::disallowed_methods, reason = "the one pause between two looks of `until`")]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

//! The one place where this binary reads a clock.

use std::time::{Duration, Instant};

/// For deadlines of waits and backoff of restarts.
#[expect(clippy::disallowed_methods, reason = "the binary waits for real processes in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `condition` every 100 ms until it answers `Ok`, or until `limit` has passed; then the last
/// reason is the answer.
pub async fn wait_until<T, F>(
    limit: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = now() + limit;
    loop {
        let reason = match condition().await {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if now() >= deadline {
            return Err(reason);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

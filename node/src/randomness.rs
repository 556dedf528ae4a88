//! The one place of this crate that draws random numbers outside of ids.
//!
//! Promises: words that no two processes draw alike. Does not: serve secrets.

use rand::Rng as _;
use std::time::Duration;

/// Sixteen hex digits for the name of a file in the making.
pub fn word() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}

/// Between half and all of `longest`, so that many nodes do not come back in one beat.
pub fn jitter(longest: Duration) -> Duration {
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

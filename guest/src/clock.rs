//! The guest's clocks and the kernel's random pool: the one place that reads or sets them.

use crate::calls;
use crate::trouble::{Trouble, While as _};
use rustix::time::{ClockId, Timespec};

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since 1970 UTC, by the guest's clock.
pub fn wall_ns() -> u64 {
    nanoseconds(rustix::time::clock_gettime(ClockId::Realtime))
}

/// Nanoseconds since the kernel started.
pub fn uptime_ns() -> u64 {
    nanoseconds(rustix::time::clock_gettime(ClockId::Boottime))
}

/// Sets the wall clock.
pub fn set_wall_ns(unix_ns: u64) -> Result<(), Trouble> {
    let time = Timespec {
        tv_sec: i64::try_from(unix_ns / SECOND).unwrap_or(i64::MAX),
        tv_nsec: (unix_ns % SECOND) as i64,
    };
    rustix::time::clock_settime(ClockId::Realtime, time).during(|| "set the clock")
}

/// Credits the host's random bytes to the kernel's pool and reseeds from it at once.
pub fn add_entropy(bytes: &[u8]) -> Result<(), Trouble> {
    let device = std::fs::File::open("/dev/urandom").during(|| "open /dev/urandom")?;
    calls::add_entropy(&device, bytes).during(|| "add entropy")
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(SECOND).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

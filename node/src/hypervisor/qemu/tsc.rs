//! The rate of the host's time stamp counter, which translated guests read as it is.
//!
//! Measured against the monotonic clock, because `/proc/cpuinfo` shows the rate of the moment. A
//! guest that is told a wrong rate has a wrong clock, so on any doubt there is no answer and guests
//! calibrate themselves.

use std::time::Duration;

/// Long enough for an error below a thousandth on a busy machine.
const INTERVAL: Duration = Duration::from_millis(100);

/// Thousands of counts per second, if two measurements agree.
pub async fn measure_khz() -> Option<u64> {
    let first = once().await?;
    let second = once().await?;
    let apart = first.abs_diff(second);
    (apart * 1000 < first).then_some(first.midpoint(second))
}

async fn once() -> Option<u64> {
    let (ticks_before, before) = read()?;
    tokio::time::sleep(INTERVAL).await;
    let (ticks_after, after) = read()?;
    let nanoseconds = u64::try_from(after.checked_sub(before)?.as_nanos()).ok()?;
    let ticks = ticks_after.checked_sub(ticks_before)?;
    let khz = u128::from(ticks) * 1_000_000 / u128::from(nanoseconds.max(1));
    u64::try_from(khz).ok().filter(|khz| (500_000..10_000_000).contains(khz))
}

/// Counter and clock at one moment: of several pairs the one that took least time.
#[cfg(target_arch = "x86_64")]
fn read() -> Option<(u64, Duration)> {
    (0..10)
        .map(|_| {
            let before = monotonic();
            // SAFETY: the instruction exists on every x86-64 processor.
            #[expect(unsafe_code, reason = "there is no safe way to read the counter")]
            let ticks = unsafe { core::arch::x86_64::_rdtsc() };
            let after = monotonic();
            (after.saturating_sub(before), (ticks, before + (after.saturating_sub(before)) / 2))
        })
        .min_by_key(|(took, _)| *took)
        .map(|(_, pair)| pair)
}

#[cfg(not(target_arch = "x86_64"))]
fn read() -> Option<(u64, Duration)> {
    None
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

//! Resident memory of processes, as the kernel counts it.

/// Bytes; `None` where the process is gone.
pub fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Of this process.
pub fn own() -> u64 {
    resident(std::process::id()).unwrap_or(0)
}

//! A container that fights for memory and gets nowhere is ended as if the kernel had run out of it.
//!
//! Near its limit a container can starve without an end: the kernel keeps taking away pages of the
//! image that the next instruction needs, reads them again, and since each round frees something
//! it never calls itself out of memory. The kernel tells of that: it measures how long all
//! processes of a group waited for memory at once (pressure stall information, "full"). When that
//! was much of the time for [`ROUNDS`] windows one after the other, and next to nothing is left
//! that could be freed, the largest process is killed.
//!
//! Measured in such a guest under QEMU's translator: 38 to 47 % of stall for as long as it was
//! watched, 12 pages of files left of 32 MiB, 5,000 of them read again each second. A container
//! that merely reads a lot stalls too, but over files that can be freed.
//!
//! Does not replace the kernel's own killer, which acts at once where nothing can be freed. A
//! kernel that does not measure stalls leaves the container to that killer alone, and the console
//! says so.

use crate::cgroup;
use crate::power::say;
use crate::source::{Poller, Token};
use crate::trouble::{Trouble, While as _};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

const SECOND: u64 = 1_000_000_000;
/// The kernel looks at stalls over this time; it takes at most 10 s.
const WINDOW_NS: u64 = 10 * SECOND;
/// In microseconds: 2.5 s of stall in each 10 s.
const TRIGGER: &[u8] = b"full 2500000 10000000\0";
/// Windows in a row after which the container is held to be lost.
const ROUNDS: u32 = 3;

/// Counts windows of stall that follow one another. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Streak {
    rounds: u32,
    latest_ns: u64,
}

impl Streak {
    /// One more window was spent stalled; whether that was the last that is borne. The kernel
    /// gives at most one notice a window, so a gap of two means that there was progress.
    fn extend(&mut self, now_ns: u64) -> bool {
        let follows = now_ns.saturating_sub(self.latest_ns) < 2 * WINDOW_NS;
        self.rounds = if self.rounds > 0 && follows { self.rounds + 1 } else { 1 };
        self.latest_ns = now_ns;
        self.rounds >= ROUNDS
    }
}

/// The kernel's promise to tell of stalls; it ends with the descriptor.
pub struct StallWatch {
    _trigger: rustix::fd::OwnedFd,
    streak: Streak,
    /// A process was killed for want of memory.
    pub killed: bool,
}

impl StallWatch {
    pub fn set(poller: &Poller) -> Result<StallWatch, Trouble> {
        let path = format!("{}/memory.pressure", cgroup::CONTAINER);
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let trigger = rustix::fs::open(&path, flags, Mode::empty())
            .during(|| format!("open {path} to watch for memory stalls"))?;
        rustix::io::write(&trigger, TRIGGER).during(|| format!("set a trigger on {path}"))?;
        poller.add_notice(Token::MemoryStall, &trigger)?;
        Ok(StallWatch { _trigger: trigger, streak: Streak::default(), killed: false })
    }

    /// The kernel told of a window of stall.
    pub fn woken(&mut self, now_ns: u64) {
        if !cgroup::memory_spent() {
            self.streak = Streak::default();
            return;
        }
        if !self.streak.extend(now_ns) {
            return;
        }
        self.streak = Streak::default();
        let Some(pid) = cgroup::largest_process() else { return };
        let seconds = u64::from(ROUNDS) * WINDOW_NS / SECOND;
        let number = shown(pid);
        say(&format!("process {number} is killed: the container got no memory for {seconds} s"));
        match rustix::process::kill_process(pid, Signal::KILL) {
            Ok(()) => self.killed = true,
            // It ended meanwhile.
            Err(rustix::io::Errno::SRCH) => {}
            Err(error) => say(&format!("process {number} cannot be killed: {error}")),
        }
    }
}

fn shown(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_windows_in_a_row_are_the_end() {
        let mut streak = Streak::default();
        assert!(!streak.extend(100 * SECOND));
        assert!(!streak.extend(110 * SECOND));
        assert!(streak.extend(121 * SECOND));
    }

    #[test]
    fn progress_in_between_starts_the_count_again() {
        let mut streak = Streak::default();
        assert!(!streak.extend(0));
        assert!(!streak.extend(10 * SECOND));
        assert!(!streak.extend(30 * SECOND));
        assert!(!streak.extend(40 * SECOND));
        assert!(streak.extend(50 * SECOND));
    }
}

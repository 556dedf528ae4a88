//! Recognises a process again after the program that started it is gone.
//!
//! Promises: a mark matches only the very process that it was taken of: a reused pid has another
//! start time, and after a reboot nothing matches. A zombie does not match.

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// What is kept of a process in its pid file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    pub pid: u32,
    /// Clock ticks between boot and the start of the process.
    pub start_ticks: u64,
    pub boot_id: String,
}

impl Mark {
    /// The mark of a live process; `None` if there is none with this pid.
    pub fn of(pid: u32) -> Result<Option<Mark>> {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return Ok(None);
        };
        match start_ticks(&text) {
            Some(start_ticks) => Ok(Some(Mark { pid, start_ticks, boot_id: boot_id()? })),
            None => Ok(None),
        }
    }

    /// Whether the process that the mark was taken of still runs.
    pub fn is_alive(&self) -> bool {
        matches!(Mark::of(self.pid), Ok(Some(now)) if now == *self)
    }

    pub fn read(path: &Path) -> Option<Mark> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        replace_file(path, serde_json::to_string(self)?.as_bytes())
    }

    /// Sends a signal to the process, unless it is gone. False if it was.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<bool> {
        let Some(pidfd) = self.pidfd()? else { return Ok(false) };
        match rustix::process::pidfd_send_signal(&pidfd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("cannot send a signal to process {}", self.pid))
            }
        }
    }

    /// Blocks until the process has ended, child of ours or not; false if `limit` passed before.
    pub fn wait(&self, limit: Option<Duration>) -> Result<bool> {
        let Some(pidfd) = self.pidfd()? else { return Ok(true) };
        let limit = limit.map(rustix::time::Timespec::try_from).transpose()?;
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut polled, limit.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                // A signal cut it short; the process goes on or not all the same.
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot wait for process {}", self.pid));
                }
            }
        }
    }

    /// A descriptor of the process that becomes readable when it ends; `None` if it is gone.
    fn pidfd(&self) -> Result<Option<std::os::fd::OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw)
        else {
            return Ok(None);
        };
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) {
            // The pid could have been reused before it was opened, but not after.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot watch process {}", self.pid)),
        }
    }
}

/// Writes a file so that a reader sees the old content or the new, never a part.
pub fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".new");
    let written = (|| {
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    })();
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().to_owned())
}

/// The start time in a line of /proc/<pid>/stat; `None` for a zombie and for nonsense. The name in
/// brackets may itself hold brackets and blanks.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // Field 22 of the line; the state was field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_and_another_with_its_pid_is_not() {
        let own = Mark::of(std::process::id()).unwrap().unwrap();
        assert!(own.is_alive());
        let earlier = Mark { start_ticks: own.start_ticks - 1, ..own.clone() };
        assert!(!earlier.is_alive());
        let before_reboot = Mark { boot_id: "other".to_owned(), ..own };
        assert!(!before_reboot.is_alive());
    }

    #[test]
    fn a_process_that_ended_is_not_alive_even_as_a_zombie() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let mark = Mark::of(child.id()).unwrap().unwrap();
        assert!(mark.is_alive());
        assert!(!mark.wait(Some(Duration::ZERO)).unwrap());
        child.kill().unwrap();
        assert!(mark.wait(None).unwrap());
        assert!(!mark.is_alive(), "it is a zombie now");
        child.wait().unwrap();
        assert!(!mark.is_alive());
        assert!(!mark.signal(rustix::process::Signal::TERM).unwrap());
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=22).map(|number| number.to_string()).collect();
        let line = format!("12 (a) b (c)) S {}", fields.join(" "));
        assert_eq!(start_ticks(&line), Some(22));
        assert_eq!(start_ticks(&line.replace(" S ", " Z ")), None);
        assert_eq!(start_ticks("nonsense"), None);
    }

    #[test]
    fn a_mark_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid.json");
        let own = Mark::of(std::process::id()).unwrap().unwrap();
        own.write(&path).unwrap();
        assert_eq!(Mark::read(&path), Some(own));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Mark::read(&path), None);
    }
}

//! One QEMU process with its monitor and its sockets, whoever started it.

use super::confinement::Hold;
use super::process::{self, Process};
use super::qmp::Monitor;
use super::{MONITOR_LIMIT, program, sockets};
use crate::hypervisor::{
    CONSOLE_FILE, Ended, GuestStream, MonitorError, ProcessUsage, RunningVm, until_ended,
};
use berth_model::Bytes;
use rustix::process::Signal;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// QEMU closes its disks and goes within milliseconds, unless it is stuck.
const ORDERLY_END: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct QemuVm {
    process: Arc<Process>,
    /// `None` if it did not answer when it was last tried.
    monitor: Mutex<Option<Monitor>>,
    run_directory: PathBuf,
    ended: watch::Receiver<Option<Ended>>,
}

impl QemuVm {
    /// Must be called on a tokio runtime: a task there waits for the process's end.
    /// Then it gives up what `hold` stands for, before anybody hears of the end.
    pub fn new(
        process: Process,
        monitor: Option<Monitor>,
        run_directory: &Path,
        hold: Hold,
    ) -> QemuVm {
        let process = Arc::new(process);
        let (tell, ended) = watch::channel(None);
        tokio::spawn({
            // What the monitor hears, not the monitor: QEMU serves one connection, which ends with
            // its last holder.
            let heard = monitor.as_ref().map(Monitor::shutdown);
            let (process, run_directory) = (process.clone(), run_directory.to_owned());
            async move {
                process.ended().await;
                hold.release().await;
                let shutdown = heard.and_then(|heard| *heard.borrow());
                let by_guest = shutdown.is_some_and(|shutdown| shutdown.by_guest);
                tell.send_replace(Some(Ended { by_guest, last_words: last_words(&run_directory) }));
            }
        });
        let monitor = Mutex::new(monitor);
        QemuVm { process, monitor, run_directory: run_directory.to_owned(), ended }
    }

    /// The connection that stands, or a new one.
    pub async fn monitor(&self) -> Result<Monitor, MonitorError> {
        let mut held = self.monitor.lock().await;
        if let Some(monitor) = held.as_ref().filter(|monitor| monitor.is_open()) {
            return Ok(monitor.clone());
        }
        let monitor = Monitor::connect(&self.run_directory, MONITOR_LIMIT).await?;
        *held = Some(monitor.clone());
        Ok(monitor)
    }
}

/// What QEMU said, and what the guest's kernel said, last.
pub fn last_words(run_directory: &Path) -> String {
    let hypervisor = program::last_lines_of(&run_directory.join(process::WORDS_FILE), 3);
    let console = program::last_lines_of(&run_directory.join(CONSOLE_FILE), 3);
    match (hypervisor.is_empty(), console.is_empty()) {
        (true, true) => String::new(),
        (false, true) => hypervisor,
        (true, false) => format!("console: {console}"),
        (false, false) => format!("{hypervisor}; console: {console}"),
    }
}

#[async_trait::async_trait]
impl RunningVm for QemuVm {
    async fn guest_link(&self) -> io::Result<Box<dyn GuestStream>> {
        Ok(Box::new(sockets::connect(&self.run_directory, sockets::AGENT).await?))
    }

    async fn ended(&self) -> Ended {
        until_ended(self.ended.clone()).await
    }

    async fn power_off(&self) {
        let orderly = self.process.signal(Signal::TERM);
        if orderly.is_ok() && tokio::time::timeout(ORDERLY_END, self.ended()).await.is_ok() {
            return;
        }
        if let Err(error) = self.process.signal(Signal::KILL) {
            let pid = self.process.pid();
            tracing::error!(pid, %error, "cannot kill the hypervisor; it still runs");
        }
    }

    async fn executing(&self) -> Result<bool, MonitorError> {
        Ok(self.monitor().await?.status().await? == "running")
    }

    async fn unstall(&self) -> Result<bool, MonitorError> {
        let monitor = self.monitor().await?;
        let stalled = monitor.status().await? == "io-error";
        if stalled {
            monitor.execute("cont", serde_json::Value::Null).await?;
        }
        Ok(stalled)
    }

    async fn pause(&self) -> Result<(), MonitorError> {
        self.monitor().await?.execute("stop", serde_json::Value::Null).await.map(drop)
    }

    async fn resume(&self) -> Result<(), MonitorError> {
        self.monitor().await?.execute("cont", serde_json::Value::Null).await.map(drop)
    }

    fn usage(&self) -> Option<ProcessUsage> {
        usage(self.process.pid())
    }
}

/// From `/proc`; `None` once the process is gone.
fn usage(pid: u32) -> Option<ProcessUsage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; the fields begin behind its last bracket.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)?;
    let pages = number(21)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(ProcessUsage {
        cpu: Duration::from_millis(ticks.saturating_mul(1000) / per_second),
        resident: Bytes(pages.saturating_mul(rustix::param::page_size() as u64)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_process_is_read() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.resident > Bytes::mib(1), "{usage:?}");
        assert!(super::usage(u32::MAX).is_none());
    }
}

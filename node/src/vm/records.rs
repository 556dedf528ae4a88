//! What is kept of a run.
//!
//! ```text
//! <run>/<id>/<epoch>/settings.json      what to run, before anything is started
//! <run>/<id>/<epoch>/started.json       when its process started
//! <datastore>/containers/<id>/exit.<epoch>.json      how it ended, before that is told
//! ```
//! The first two vanish with a boot of the machine, as what they tell of does.
//!
//! Promises: files appear whole or not at all; the exit is on the disk when [`record_exit`] answers; a
//! file of a newer format is an error.

use super::VmSettings;
use super::lifecycle::{Kind, Verdict};
use berth_model::guest::ExitStatus;
use berth_model::{ContainerId, Epoch, Exit, Fact, Timestamp};
use berth_wire::record::Stream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FORMAT: u16 = 2;
const SETTINGS_FILE: &str = "settings.json";
const STARTED_FILE: &str = "started.json";

/// How a run ended, as it is kept beside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedExit {
    pub container: ContainerId,
    pub epoch: Epoch,
    pub started_at: Option<Timestamp>,
    pub verdict: Verdict,
}

impl RecordedExit {
    /// What is told of it.
    pub fn fact(&self) -> Fact {
        let (container, epoch) = (self.container, self.epoch);
        let (exit, finished_at) = (self.verdict.exit.clone(), self.verdict.finished_at);
        match self.verdict.kind {
            Kind::Exited => Fact::VmExited { container, epoch, exit, finished_at },
            Kind::StartFailed => Fact::VmStartFailed { container, epoch, exit, finished_at },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u16,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Started {
    started_at: Timestamp,
}

/// Where the end of one run is kept.
pub fn exit_path(directory: &Path, epoch: Epoch) -> PathBuf {
    directory.join(format!("exit.{epoch}.json"))
}

/// How a run ended, if that was recorded.
pub async fn recorded_exit(directory: &Path, epoch: Epoch) -> io::Result<Option<RecordedExit>> {
    let path = exit_path(directory, epoch);
    off_thread(move || read(&path)).await
}

/// Settings of all runs that an earlier node left in the host's run directory, in any state.
pub async fn saved_settings(run: &Path) -> io::Result<Vec<VmSettings>> {
    let run = run.to_owned();
    off_thread(move || {
        let mut found = Vec::new();
        for container in directories(&run)? {
            for epoch in directories(&container)? {
                let path = epoch.join(SETTINGS_FILE);
                match read(&path) {
                    Ok(Some(settings)) => found.push(settings),
                    // A node died before anything was started.
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "cannot read what ran here");
                    }
                }
            }
        }
        Ok(found)
    })
    .await
}

pub(super) fn save_settings(settings: &VmSettings) -> io::Result<()> {
    std::fs::create_dir_all(&settings.run_directory)?;
    std::fs::create_dir_all(&settings.directory)?;
    write(&settings.run_directory.join(SETTINGS_FILE), settings, false)
}

pub(super) fn save_started(run_directory: &Path, started_at: Timestamp) -> io::Result<()> {
    write(&run_directory.join(STARTED_FILE), &Started { started_at }, false)
}

pub(super) fn started_at(run_directory: &Path) -> Option<Timestamp> {
    let path = run_directory.join(STARTED_FILE);
    let started: Option<Started> = read(&path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "cannot read when the process started");
        None
    });
    started.map(|started| started.started_at)
}

pub(super) fn record_exit(directory: &Path, exit: &RecordedExit) -> io::Result<()> {
    write(&exit_path(directory, exit.epoch), exit, true)
}

/// How the process ended, by the agent's last record in the log.
pub(super) fn end_in_log(log: &Path) -> Option<(Exit, Timestamp)> {
    let record = match crate::output::last_record(log) {
        Ok(record) => record?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(log = %log.display(), %error, "cannot read how a run ended");
            return None;
        }
    };
    if record.stream != Stream::Exit {
        return None;
    }
    let status: ExitStatus = berth_wire::codec::decode(&record.payload, 1024).ok()?;
    Some((exit_of(&status), Timestamp(status.time_ns / 1_000_000)))
}

pub(super) fn exit_of(status: &ExitStatus) -> Exit {
    Exit { code: status.code(), oom_killed: status.oom_killed, error: String::new() }
}

/// Removes a run directory, and the container's directory above it when that was the last.
pub(super) fn clean(run_directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(run_directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if let Some(parent) = run_directory.parent() {
        // Another epoch may be there.
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kept: Versioned<T> = serde_json::from_slice(&bytes)?;
    if kept.format != FORMAT {
        let found = kept.format;
        return Err(io::Error::other(format!(
            "format {found} is not known, this build reads {FORMAT}; run the release that wrote it"
        )));
    }
    Ok(Some(kept.content))
}

fn write<T: Serialize>(path: &Path, content: &T, durable: bool) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let making = path.with_file_name(format!(".{name}.{}", crate::randomness::word()));
    let written = (|| {
        let mut file = File::create(&making)?;
        file.write_all(&serde_json::to_vec(&Versioned { format: FORMAT, content })?)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&making, path)?;
        if durable && let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&making);
    }
    written
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

//! The state directory of a cell: where it is, and that only one program at a time works on it.

use super::mark::Mark;
use super::members::ended_within;
use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;
use rustix::process::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK: &str = "up.lock";

/// The directory to use if none is named: `$XDG_STATE_HOME/berth` or `~/.local/state/berth`.
pub fn default_directory() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("XDG_STATE_HOME")
        .map(|folder| PathBuf::from(folder).join("berth"))
        .or_else(|| variable("HOME").map(|folder| PathBuf::from(folder).join(".local/state/berth")))
        .context("no place for the state: give --state, or set HOME")
}

/// Makes the directory if need be, and says whether it was made; for its owner only, since keys lie
/// in it.
pub fn open(directory: Option<PathBuf>) -> Result<(PathBuf, bool)> {
    let directory = match directory {
        Some(directory) => directory,
        None => default_directory()?,
    };
    let made = !directory.exists();
    if made {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let whole = directory.canonicalize();
    Ok((whole.with_context(|| format!("cannot find {}", directory.display()))?, made))
}

/// Removes a directory in which nothing but the lock came to be; anything else stays.
pub fn discard_unused(state: &Path) {
    let _stays = std::fs::remove_file(state.join(LOCK)).and_then(|()| std::fs::remove_dir(state));
}

/// Held by the one `berth up` or `berth down` that works on a state directory. The kernel lets it
/// go when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock; if another holds it, its mark is the answer.
    pub fn take(state: &Path) -> Result<std::result::Result<StateLock, Option<Mark>>> {
        let path = state.join(LOCK);
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(serde_json::to_string(&Mark::of(std::process::id())?)?.as_bytes())?;
                Ok(Ok(StateLock { _file: file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                Ok(Err(serde_json::from_str(&text).ok()))
            }
            Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// For `up`: nobody else may be at work.
    pub fn take_or_fail(state: &Path) -> Result<StateLock> {
        match Self::take(state)? {
            Ok(lock) => Ok(lock),
            Err(holder) => {
                let holder = holder.map_or_else(String::new, |mark| format!(" (pid {})", mark.pid));
                bail!(
                    "another `berth up` or `berth down`{holder} works on {}; end it with `berth \
                     down --state {0}`, or choose another --state, --name and --port-base",
                    state.display()
                )
            }
        }
    }

    /// For `down`: whoever supervises is told to let go, and waited for.
    pub async fn take_over(state: &Path, limit: Duration) -> Result<StateLock> {
        let mut told: Option<Mark> = None;
        let taken = crate::clock::wait_until(limit, || {
            let outcome = match Self::take(state) {
                Ok(Ok(lock)) => Ok(Ok(lock)),
                Ok(Err(holder)) => match &holder {
                    Some(holder) if told.as_ref() != Some(holder) => {
                        told = Some(holder.clone());
                        holder.signal(Signal::USR1).map(|_| Err(holder.pid.to_string()))
                    }
                    Some(holder) => Ok(Err(holder.pid.to_string())),
                    None => Ok(Err("unknown".to_owned())),
                },
                Err(error) => Err(error),
            };
            async move {
                match outcome {
                    Ok(Ok(lock)) => Ok(Ok(lock)),
                    Ok(Err(pid)) => Err(format!("`berth` with pid {pid} does not let go")),
                    Err(error) => Ok(Err(error)),
                }
            }
        })
        .await;
        match taken {
            Ok(lock) => lock,
            Err(reason) => bail!("{reason} of {}; end it first", state.display()),
        }
    }

    /// Waits until `successor` holds the lock, or has ended.
    pub async fn handed_to(state: &Path, successor: &Mark, limit: Duration) -> Result<()> {
        let held = crate::clock::wait_until(limit, || async {
            // Only looked at: taking it for a moment could make the successor fail.
            match Mark::read(&state.join(LOCK)) {
                Some(holder) if holder == *successor => Ok(()),
                Some(_) | None => Err("it has not taken over".to_owned()),
            }
        });
        tokio::select! {
            held = held => held.map_err(|reason| anyhow::anyhow!(reason)),
            ended = ended_within(successor, limit) => {
                ended?;
                bail!("it ended at once; see {}", state.join("log/up.log").display())
            }
        }
    }
}

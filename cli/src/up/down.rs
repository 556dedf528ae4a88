//! Takes a cell down: container VMs first and cleanly, then what runs them, then what was made on
//! the machine. State stays.

use super::arguments::DownArguments;
use super::cell_file::{CellFile, Kind, Process};
use super::members;
use super::network::Network;
use super::progress::Progress;
use super::signals::Signals;
use super::state::{self, StateLock};
use super::{api, guests};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// For the supervisor to let go, or for a start that is under way to be undone.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(60);
/// For a process to end by itself.
const GRACE: Duration = Duration::from_secs(15);

pub async fn down(arguments: DownArguments) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut progress = Progress::new();
    let state = match arguments.state {
        Some(state) => state,
        None => state::default_directory()?,
    };
    if !state.exists() {
        anyhow::bail!(
            "{} is not there; name the --state that `berth up` was given",
            state.display()
        );
    }
    let (state, _) = state::open(Some(state))?;
    let lock = StateLock::take_over(&state, TAKE_OVER_LIMIT).await?;
    match CellFile::read(&state)? {
        Some(cell) => take_down(&state, &cell, &mut progress, &mut signals).await?,
        None => progress.note(format!("nothing runs from {}", state.display())),
    }
    drop(lock);
    Ok(())
}

/// The whole way down. A signal on the way cuts the clean stop of the container VMs short.
pub async fn take_down(
    state: &Path,
    cell: &CellFile,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<()> {
    progress.begin("container VMs");
    let stopped = tokio::select! {
        stopped = api::stop_all(cell, progress) => stopped,
        _ = signals.next() => Err("interrupted".to_owned()),
    };
    match stopped {
        Ok(0) => progress.done("none ran"),
        Ok(count) => progress.done(format!("{count} stopped")),
        Err(reason) => progress.done(format!("not stopped through the API ({reason})")),
    }

    progress.begin("processes");
    let of = |kinds: &[Kind]| -> Vec<&Process> {
        cell.processes.iter().filter(|process| kinds.contains(&process.kind)).collect()
    };
    let mut forced = Vec::new();
    for kinds in [&[Kind::Node][..], &[Kind::Keeper, Kind::Switch], &[Kind::Scheduler]] {
        forced.extend(members::stop(&of(kinds), GRACE).await?);
    }
    progress.done(match forced.is_empty() {
        true => "all ended".to_owned(),
        false => format!("all ended, by force: {}", forced.join(", ")),
    });
    match guests::power_off(cell).await? {
        0 => {}
        count => progress.note(format!("{count} container VMs were still there: powered off")),
    }

    if cell.subnet.is_some() {
        progress.begin("network");
        remove_network(cell)?;
        progress.done("removed");
    }
    forget(state, cell)?;
    progress.note(format!("state stays in {}", state.display()));
    Ok(())
}

/// Removes namespaces, bridge and firewall table.
pub fn remove_network(cell: &CellFile) -> Result<()> {
    let Some(subnet) = cell.subnet else { return Ok(()) };
    let hosts = cell.hosts.iter().map(|host| host.number).max().unwrap_or_default();
    Network { name: cell.name.clone(), subnet, hosts }.tear_down()
}

/// Removes what says that anything runs.
pub fn forget(state: &Path, cell: &CellFile) -> Result<()> {
    for host in &cell.hosts {
        if host.run.exists() {
            std::fs::remove_dir_all(&host.run)
                .with_context(|| format!("cannot remove {}", host.run.display()))?;
        }
    }
    let path = CellFile::path(state);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

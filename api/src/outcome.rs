//! When what was asked for is so, or cannot be, read off the fleet.
//!
//! Each question is a function of a fleet that answers `None` while it is open; [`settled`] asks
//! it of every fleet that comes. What came and went between two fleets is told by the record that
//! it left (epoch, last exit, the departed), or owned up to as unseen.

use berth_model::{ContainerId, ContainerVm, Epoch, Exit, Explanation, HostState, VmState};
use berth_scheduler::Fleet;
use std::sync::Arc;
use tokio::sync::watch;

/// No fleet will come any more: this scheduler is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this scheduler is shutting down; ask another")]
pub struct Ending;

/// Asks `question` of the newest fleet and of each that comes, until it is answered. Fleets older
/// than `index` are passed over: a replica that lags would answer for a time before the request.
pub async fn settled<T>(
    fleets: &mut watch::Receiver<Arc<Fleet>>,
    index: u64,
    mut question: impl FnMut(&Fleet) -> Option<T>,
) -> Result<T, Ending> {
    loop {
        let fleet = fleets.borrow_and_update().clone();
        if fleet.index() >= index
            && let Some(answer) = question(&fleet)
        {
            return Ok(answer);
        }
        fleets.changed().await.map_err(|_| Ending)?;
    }
}

/// What became of a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    Placed,
    Refused(Explanation),
    /// Somebody removed it meanwhile.
    Removed,
}

pub fn created(fleet: &Fleet, id: ContainerId) -> Option<Created> {
    let Some(vm) = fleet.container(id) else { return Some(Created::Removed) };
    match &vm.state {
        VmState::Pending { refused: None } => None,
        VmState::Pending { refused: Some(explanation) } => {
            Some(Created::Refused(explanation.clone()))
        }
        VmState::Removing { .. } => Some(Created::Removed),
        VmState::Created
        | VmState::Waiting { .. }
        | VmState::Starting { .. }
        | VmState::Running { .. }
        | VmState::Exited { .. } => Some(Created::Placed),
    }
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The process runs, or has run.
    Ran,
    Refused(Explanation),
    /// The process never ran.
    Failed(Exit),
    /// Somebody stopped it before it started.
    TakenBack,
    Removed,
}

/// `before` is the epoch that the container VM had when the start was asked for.
pub fn started(fleet: &Fleet, id: ContainerId, before: Epoch) -> Option<Started> {
    let by_exit = |exit: &Exit| {
        if exit.error.is_empty() { Started::Ran } else { Started::Failed(exit.clone()) }
    };
    let Some(vm) = fleet.container(id) else {
        let exit = fleet.departed(id).and_then(|departed| departed.exit.as_ref());
        return Some(exit.map_or(Started::Removed, by_exit));
    };
    match &vm.state {
        VmState::Pending { .. } | VmState::Waiting { refused: None, .. } => None,
        VmState::Waiting { refused: Some(explanation), .. } => {
            Some(Started::Refused(explanation.clone()))
        }
        VmState::Created => Some(Started::TakenBack),
        VmState::Starting { .. } => None,
        VmState::Running { .. } => Some(Started::Ran),
        VmState::Exited { .. } if vm.epoch == before => Some(Started::TakenBack),
        VmState::Exited { started_at: Some(_), .. } => Some(Started::Ran),
        VmState::Exited { started_at: None, exit, .. } => Some(Started::Failed(exit.clone())),
        VmState::Removing { exit, .. } => Some(exit.as_ref().map_or(Started::Removed, by_exit)),
    }
}

/// Whether a process runs or is about to.
pub fn is_up(state: &VmState) -> bool {
    match state {
        VmState::Starting { .. } | VmState::Running { .. } => true,
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => false,
    }
}

/// Answered once nothing of it runs.
pub fn stopped(fleet: &Fleet, id: ContainerId) -> Option<()> {
    match fleet.container(id) {
        Some(vm) if is_up(&vm.state) || matches!(vm.state, VmState::Waiting { .. }) => None,
        Some(ContainerVm { state: VmState::Removing { charge: Some(_), .. }, .. }) => None,
        Some(_) | None => Some(()),
    }
}

/// Answered once what was removed holds nothing on a host that could let go of it.
pub fn released(fleet: &Fleet, id: ContainerId) -> Option<()> {
    let Some((host, _)) = fleet.container(id).and_then(|vm| vm.state.charged()) else {
        return Some(());
    };
    let host = fleet.host(host);
    let silent = host.is_none_or(|host| matches!(host.state, HostState::Silent { .. }));
    silent.then_some(())
}

/// What a wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The end of this run.
    Run(Epoch),
    Removal,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Exit(Exit),
    /// It went without a run.
    NeverRan,
    /// It ended, but how was not seen.
    Unseen,
}

pub fn ended(fleet: &Fleet, id: ContainerId, awaited: Awaited) -> Option<End> {
    let Some(vm) = fleet.container(id) else {
        return Some(match fleet.departed(id) {
            None => End::Unseen,
            Some(departed) => departed.exit.clone().map_or(End::NeverRan, End::Exit),
        });
    };
    if let VmState::Removing { exit, charge, .. } = &vm.state {
        return match (exit, charge) {
            (Some(exit), _) => Some(End::Exit(exit.clone())),
            (None, Some(_)) => None,
            (None, None) => Some(End::NeverRan),
        };
    }
    match awaited {
        Awaited::Removal => None,
        Awaited::Run(epoch) if vm.epoch < epoch => None,
        Awaited::Run(epoch) if vm.epoch > epoch => Some(End::Unseen),
        Awaited::Run(_) => last_exit(vm).map(|exit| End::Exit(exit.clone())),
    }
}

/// How the latest run ended, unless it goes on.
pub fn last_exit(vm: &ContainerVm) -> Option<&Exit> {
    match &vm.state {
        VmState::Exited { exit, .. } => Some(exit),
        VmState::Waiting { ended: Some(ended), .. } => Some(&ended.exit),
        VmState::Removing { exit, .. } => exit.as_ref(),
        VmState::Waiting { ended: None, .. }
        | VmState::Pending { .. }
        | VmState::Created
        | VmState::Starting { .. }
        | VmState::Running { .. } => None,
    }
}

//! What to do so that a host runs what its assignment says, and nothing else.
//!
//! Promises: a run is never started twice under one epoch, nor under a lower one than was seen
//! here; what the assignment does not name is ended; steps that were taken are not taken again, so
//! a repeated call with nothing changed is free; without an assignment nothing is done at all.
//! Pure: the agent looks, calls this, and carries out what it answers. Does not: look at
//! datastores. [`Step::Start`] means "find out whether this run ever was, and start it if not":
//! that a run ended while no node was there is read from the files that it left.

use berth_model::assignment::{Assignment, RunOrder, VmOrder, Want};
use berth_model::container::StopOrder;
use berth_model::{ContainerId, DatastoreId, Epoch};
use std::collections::BTreeMap;

/// What the agent knows of one container VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// The agent is finding out whether to start it, or it starts, runs or ends.
    Run { epoch: Epoch, ending: Ending },
    /// The run is over. `told`: its exit was reported to this session or waits to be.
    Ended { epoch: Epoch, told: bool },
    /// Its directory is being deleted, or could not be yet.
    Discarding,
    /// Its directory is gone. `told` as above.
    Discarded { told: bool },
}

/// What was already said to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    NotAsked,
    Stopping(StopOrder),
    Killed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Start {
        container: ContainerId,
        epoch: Epoch,
        datastore: DatastoreId,
        order: Box<RunOrder>,
    },
    Stop {
        container: ContainerId,
        order: StopOrder,
    },
    /// Take the power away.
    Kill {
        container: ContainerId,
    },
    /// Nothing of it runs: delete its directory.
    Discard {
        container: ContainerId,
        datastore: DatastoreId,
    },
    /// The control plane has not heard of this end, or has forgotten it.
    ReportExit {
        container: ContainerId,
        epoch: Epoch,
    },
    ReportDiscarded {
        container: ContainerId,
    },
    /// It is over and nobody wants it: no need to remember.
    Forget {
        container: ContainerId,
    },
}

impl Step {
    /// One word for logs and metrics; `None` where nothing happens in the world.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Step::Start { .. } => Some("start"),
            Step::Stop { .. } => Some("stop"),
            Step::Kill { .. } => Some("kill"),
            Step::Discard { .. } => Some("discard"),
            Step::ReportExit { .. } => Some("report_exit"),
            Step::ReportDiscarded { .. } => Some("report_discarded"),
            Step::Forget { .. } => None,
        }
    }
}

/// The steps from `local` towards `assignment`, in the order of ids. `None` means that no
/// assignment came yet in this session: whatever was held before may be out of date.
pub fn diff(local: &BTreeMap<ContainerId, Local>, assignment: Option<&Assignment>) -> Vec<Step> {
    let Some(assignment) = assignment else {
        return Vec::new();
    };
    let ordered = assignment
        .vms
        .iter()
        .filter_map(|(container, order)| follow(*container, local.get(container), order));
    let unwanted = local
        .iter()
        .filter(|(container, _)| !assignment.vms.contains_key(container))
        .filter_map(|(container, state)| abandon(*container, state));
    ordered.chain(unwanted).collect()
}

fn follow(container: ContainerId, local: Option<&Local>, order: &VmOrder) -> Option<Step> {
    match &order.want {
        Want::Run(run) => keep_running(container, local, order, run, None),
        Want::Stop { run, order: stop } => keep_running(container, local, order, run, Some(*stop)),
        Want::Discard => discard(container, local, order.datastore),
    }
}

fn keep_running(
    container: ContainerId,
    local: Option<&Local>,
    order: &VmOrder,
    run: &RunOrder,
    stop: Option<StopOrder>,
) -> Option<Step> {
    let start = || Step::Start {
        container,
        epoch: order.epoch,
        datastore: order.datastore,
        order: Box::new(run.clone()),
    };
    match local {
        None | Some(Local::Discarded { .. }) => Some(start()),
        Some(Local::Run { epoch, ending }) if *epoch == order.epoch => match (stop, ending) {
            (Some(stop), Ending::NotAsked) => Some(Step::Stop { container, order: stop }),
            (Some(stop), Ending::Stopping(told)) if stop != *told => {
                Some(Step::Stop { container, order: stop })
            }
            (Some(_), Ending::Stopping(_) | Ending::Killed) | (None, _) => None,
        },
        Some(Local::Run { epoch, ending }) if *epoch < order.epoch => match ending {
            Ending::NotAsked | Ending::Stopping(_) => Some(Step::Kill { container }),
            Ending::Killed => None,
        },
        Some(Local::Ended { epoch, told }) if *epoch == order.epoch => {
            (!told).then_some(Step::ReportExit { container, epoch: *epoch })
        }
        Some(Local::Ended { epoch, .. }) if *epoch < order.epoch => Some(start()),
        // An order of an epoch that this host is past comes from a state that forgot a start. What
        // runs cannot be got back once it is ended, so it is left for people to look at.
        Some(Local::Run { .. } | Local::Ended { .. }) => None,
        Some(Local::Discarding) => None,
    }
}

fn discard(container: ContainerId, local: Option<&Local>, datastore: DatastoreId) -> Option<Step> {
    match local {
        None | Some(Local::Ended { .. }) => Some(Step::Discard { container, datastore }),
        Some(Local::Run { ending: Ending::NotAsked | Ending::Stopping(_), .. }) => {
            Some(Step::Kill { container })
        }
        Some(Local::Run { ending: Ending::Killed, .. } | Local::Discarding) => None,
        Some(Local::Discarded { told }) => (!told).then_some(Step::ReportDiscarded { container }),
    }
}

fn abandon(container: ContainerId, local: &Local) -> Option<Step> {
    match local {
        Local::Run { ending: Ending::NotAsked | Ending::Stopping(_), .. } => {
            Some(Step::Kill { container })
        }
        Local::Run { ending: Ending::Killed, .. } | Local::Discarding => None,
        Local::Ended { .. } | Local::Discarded { .. } => Some(Step::Forget { container }),
    }
}

#[cfg(test)]
mod tests;

//! Container VMs.

use super::place::{demand, numa_nodes};
use super::{datastore_name, explanation, host_name, meta};
use berth_model::container::StopOrder;
use berth_model::view::{ContainerVmView, StateView};
use berth_model::{ContainerVm, VmState};
use berth_scheduler::Fleet;

pub fn container_vm(fleet: &Fleet, vm: &ContainerVm) -> ContainerVmView {
    let host = vm.state.charged().map(|(host, _)| host).or(vm.last_host);
    let mut shown = meta(fleet, &vm.meta);
    // Docker's labels are the container's too; those given through `/v1` win.
    for (name, value) in &vm.spec.labels {
        shown.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    ContainerVmView {
        id: vm.id.to_string(),
        name: vm.name.clone(),
        meta: shown,
        image: format!("sha256:{}", vm.spec.image),
        image_reference: vm.spec.image_reference.clone(),
        entrypoint: vm.spec.entrypoint.clone(),
        command: vm.spec.command.clone(),
        state: state(fleet, &vm.state),
        epoch: vm.epoch.0,
        host: host.map(|id| host_name(fleet, id)),
        datastore: vm.datastore.map(|id| datastore_name(fleet, id)),
        numa_nodes: numa_nodes(vm.numa),
        reservation: vm.reservation.map(|id| id.to_string()),
        displaced: vm.displaced,
        demand: demand(fleet, &vm.spec.demand),
    }
}

fn state(fleet: &Fleet, state: &VmState) -> StateView {
    let stopping = |stop: &Option<StopOrder>| stop.is_some();
    match state {
        VmState::Pending { refused } => {
            StateView::Pending { refused: refused.as_ref().map(|e| explanation(fleet, e)) }
        }
        VmState::Created => StateView::Created,
        VmState::Waiting { refused, .. } => {
            StateView::Waiting { refused: refused.as_ref().map(|e| explanation(fleet, e)) }
        }
        VmState::Starting { stop, .. } => StateView::Starting { stopping: stopping(stop) },
        VmState::Running { started_at, stop, .. } => {
            StateView::Running { started_at_ms: started_at.0, stopping: stopping(stop) }
        }
        VmState::Exited { exit, started_at, finished_at } => StateView::Exited {
            exit_code: exit.code,
            oom_killed: exit.oom_killed,
            error: exit.error.clone(),
            started_at_ms: started_at.map(|at| at.0),
            finished_at_ms: finished_at.0,
        },
        VmState::Removing { .. } => StateView::Removing,
    }
}

/// The name of a state by its position in `VmState::NAMES`.
pub fn state_name(position: u8) -> Option<String> {
    VmState::NAMES.get(usize::from(position)).map(|name| (*name).to_owned())
}

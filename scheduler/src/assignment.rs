//! What one node should run, computed from a fleet.
//!
//! Promises: the same fleet gives the same assignment, on every replica. Looks only at the
//! container VMs of that host. Does not: know what the node was told before; the session does.

use crate::fleet::Fleet;
use berth_model::{
    Assignment, ContainerId, ContainerVm, DatastoreId, Generation, HostId, RunOrder, VmOrder,
    VmState, Want,
};

/// The whole for `host` as of the fleet's index, which becomes its generation.
pub fn assignment_for(fleet: &Fleet, host: HostId) -> Assignment {
    let vms = fleet.containers_on(host).filter_map(|vm| order(fleet, host, vm)).collect();
    Assignment { generation: Generation(fleet.index()), vms }
}

fn order(fleet: &Fleet, host: HostId, vm: &ContainerVm) -> Option<(ContainerId, VmOrder)> {
    let want = match &vm.state {
        VmState::Starting { stop, .. } | VmState::Running { stop, .. } => {
            let run = Box::new(run_order(fleet, host, vm)?);
            match stop {
                None => Want::Run(run),
                Some(order) => Want::Stop { run, order: *order },
            }
        }
        VmState::Removing { .. } => Want::Discard,
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Exited { .. } => return None,
    };
    Some((vm.id, VmOrder { epoch: vm.epoch, datastore: vm.datastore?, want }))
}

fn run_order(fleet: &Fleet, host: HostId, vm: &ContainerVm) -> Option<RunOrder> {
    let host = fleet.host(host)?;
    Some(RunOrder {
        name: vm.name.clone(),
        spec: vm.spec.clone(),
        image_datastore: image_datastore(fleet, host, vm)?,
        cpu_model: fleet.cluster(host.cluster)?.policy.cpu_model.clone(),
    })
}

/// Where the base disk is read: beside the delta disk if it is there too, else the least id. If
/// the host reaches none any more, an order must still stand, or what runs would be ended: then
/// the least id of all.
fn image_datastore(
    fleet: &Fleet,
    host: &berth_model::Host,
    vm: &ContainerVm,
) -> Option<DatastoreId> {
    let own = vm.datastore?;
    let Some(holding) = fleet.image_datastores(vm) else { return Some(own) };
    if holding.contains(&own) {
        return Some(own);
    }
    let reached = holding.iter().find(|id| host.facts.datastores.contains_key(*id));
    Some(reached.or(holding.first()).copied().unwrap_or(own))
}

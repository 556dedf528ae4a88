//! What one node should run, computed from a fleet.
//!
//! Promises: the same fleet gives the same assignment, on every replica. Looks only at the
//! container VMs of that host. Does not: know what the node was told before; the session does.

use crate::fleet::Fleet;
use berth_model::{
    Assignment, ContainerId, ContainerVm, DatastoreId, Generation, HostId, NumaNodes, RunOrder,
    VmOrder, VmState, Want,
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
        numa: numa_ids(host, vm.numa),
    })
}

/// The operating system's numbers of the nodes that are bound. One that the host lost since is left
/// out: what runs keeps running, and a start that finds none of its nodes runs unbound.
fn numa_ids(host: &berth_model::Host, nodes: NumaNodes) -> Vec<u16> {
    let known = &host.facts.supply.numa;
    nodes.positions().filter_map(|position| known.get(position)).map(|node| node.id).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::testing::*;
    use berth_model::Epoch;
    use berth_model::command::CommandBody;

    fn wants(cell: &Cell, host: u8) -> Vec<(u8, Epoch, &'static str)> {
        assignment_for(&cell.fleet, host_id(host))
            .vms
            .iter()
            .map(|(id, order)| {
                let want = match order.want {
                    Want::Run(_) => "run",
                    Want::Stop { .. } => "stop",
                    Want::Discard => "discard",
                };
                (id.as_bytes()[0], order.epoch, want)
            })
            .collect()
    }

    #[test]
    fn an_assignment_says_what_to_run_stop_and_discard_on_that_host_alone() {
        let mut cell = Cell::shared(2);
        cell.run(1, 1);
        cell.start(2, 1);
        cell.run(3, 1);
        cell.run(4, 2);
        let epoch = cell.run(5, 1);
        cell.exited(5, 1, epoch, 0);
        cell.apply(CommandBody::StopContainer { id: vm_id(2), order: None }).unwrap();
        cell.apply(CommandBody::RemoveContainer { id: vm_id(3), force: true }).unwrap();
        let one = Epoch(1);
        assert_eq!(wants(&cell, 1), [(1, one, "run"), (2, one, "stop"), (3, one, "discard")]);
        assert_eq!(wants(&cell, 2), [(4, one, "run")]);
        let generation = assignment_for(&cell.fleet, host_id(1)).generation;
        assert_eq!(generation, Generation(cell.index));
        cell.discarded(3, 1);
        assert_eq!(wants(&cell, 1), [(1, one, "run"), (2, one, "stop")]);
    }

    fn image_at(cell: &Cell, host: u8, n: u8) -> DatastoreId {
        let assignment = assignment_for(&cell.fleet, host_id(host));
        let Want::Run(run) = &assignment.vms[&vm_id(n)].want else { panic!("{assignment:?}") };
        run.image_datastore
    }

    #[test]
    fn the_base_disk_is_read_beside_the_delta_or_where_the_host_reaches_it() {
        let mut cell = Cell::shared(0);
        cell.host(1, facts(1, "main", &[101, 102, 103]));
        cell.apply(new_image(&[], 102)).unwrap();
        cell.create(1, 103, demand());
        cell.start(1, 1);
        assert_eq!(image_at(&cell, 1, 1), store_id(102));
        cell.apply(new_image(&[], 101)).unwrap();
        assert_eq!(image_at(&cell, 1, 1), store_id(101));
        cell.apply(new_image(&[], 103)).unwrap();
        assert_eq!(image_at(&cell, 1, 1), store_id(103));
    }

    #[test]
    fn an_order_stands_even_if_the_host_lost_its_datastores() {
        let mut cell = Cell::shared(1);
        cell.run(1, 1);
        cell.host(1, facts(1, "main", &[]));
        assert_eq!(wants(&cell, 1), [(1, Epoch(1), "run")]);
    }

    #[test]
    fn hosts_whose_assignment_changed_are_named_and_no_others() {
        let mut cell = Cell::shared(3);
        let since = cell.index;
        cell.start(1, 2);
        let changed: Vec<HostId> = cell.fleet.hosts_changed_since(since).collect();
        assert_eq!(changed, [host_id(2)]);
        assert_eq!(cell.fleet.hosts_changed_since(cell.index).count(), 0);
    }
}

//! The one door through which container VMs enter, change and leave, and the books that are kept
//! beside it: what hosts and datastores are charged, who is on which host, who waits for a place.
//!
//! Promises: after each call every sum equals its parts and every index its objects (checked by
//! `invariants` in the tests). Does not: judge a change; callers did.

use super::{At, Fleet};
use berth_model::{
    Bytes, ContainerId, ContainerVm, DatastoreId, Host, HostId, HostState, Resources, VmState,
};
use imbl::{OrdMap, OrdSet};
use std::sync::Arc;

/// Found again from the objects by [`Fleet::rebuild`]; never stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Indexes {
    /// Container VMs that a host's assignment speaks of.
    pub on_host: OrdMap<HostId, OrdSet<ContainerId>>,
    /// Pending and waiting ones, by the index that made them.
    pub unplaced: OrdSet<(u64, ContainerId)>,
    /// Being removed, and no connected host reaches what they left behind.
    pub homeless: OrdSet<ContainerId>,
    /// By state, in the order of `VmState::NAMES`.
    pub counts: [u64; VmState::NAMES.len()],
    pub hosts: HostCounts,
    /// When each host's assignment may last have changed, found by index and by host.
    pub host_changes: OrdSet<(u64, HostId)>,
    pub host_changed: OrdMap<HostId, u64>,
    pub opportunity: u64,
}

/// How many hosts are in which state. One in maintenance is connected or silent too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    pub connected: u64,
    pub silent: u64,
    pub maintenance: u64,
}

impl HostCounts {
    fn of(host: &Host) -> HostCounts {
        let (connected, silent) = match host.state {
            HostState::Connected { .. } => (1, 0),
            HostState::Silent { .. } => (0, 1),
        };
        HostCounts { connected, silent, maintenance: u64::from(host.maintenance) }
    }

    fn add(&mut self, host: &Host) {
        let one = HostCounts::of(host);
        self.connected += one.connected;
        self.silent += one.silent;
        self.maintenance += one.maintenance;
    }

    fn take(&mut self, host: &Host) {
        let one = HostCounts::of(host);
        self.connected -= one.connected;
        self.silent -= one.silent;
        self.maintenance -= one.maintenance;
    }
}

impl Indexes {
    pub fn mark_host(&mut self, host: HostId, index: u64) {
        if let Some(before) = self.host_changed.insert(host, index) {
            self.host_changes.remove(&(before, host));
        }
        self.host_changes.insert((index, host));
    }
}

/// The host whose assignment speaks of the container VM.
pub(super) fn assigned_host(state: &VmState) -> Option<HostId> {
    match state {
        VmState::Starting { host, .. } | VmState::Running { host, .. } => Some(*host),
        VmState::Removing { host, .. } => *host,
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Exited { .. } => None,
    }
}

/// What the container VM takes of its datastore.
fn disk_charge(vm: &ContainerVm) -> Option<(DatastoreId, Bytes)> {
    vm.datastore.map(|datastore| (datastore, vm.spec.demand.disk))
}

fn waits_for_place(state: &VmState) -> bool {
    matches!(state, VmState::Pending { .. } | VmState::Waiting { .. })
}

fn is_homeless(state: &VmState) -> bool {
    matches!(state, VmState::Removing { host: None, .. })
}

fn position(state: &VmState) -> usize {
    match state {
        VmState::Pending { .. } => 0,
        VmState::Created => 1,
        VmState::Waiting { .. } => 2,
        VmState::Starting { .. } => 3,
        VmState::Running { .. } => 4,
        VmState::Exited { .. } => 5,
        VmState::Removing { .. } => 6,
    }
}

impl Fleet {
    pub(super) fn add_container(&mut self, at: At, vm: ContainerVm) {
        self.enter(at.index, &vm);
        self.containers.insert(vm.id, Arc::new(vm));
    }

    /// Changes one container VM; nothing happens if it is unknown.
    pub(super) fn change_container(
        &mut self,
        at: At,
        id: ContainerId,
        change: impl FnOnce(&mut ContainerVm),
    ) {
        let Some(before) = self.containers.get(&id).cloned() else { return };
        let mut after = ContainerVm::clone(&before);
        change(&mut after);
        after.meta.modified = at.index;
        self.leave(at.index, &before);
        self.enter(at.index, &after);
        let gave_back =
            before.state.charged().is_some_and(|held| after.state.charged() != Some(held));
        if gave_back {
            self.note_opportunity(at.index);
        }
        self.containers.insert(id, Arc::new(after));
    }

    pub(super) fn set_state(&mut self, at: At, id: ContainerId, state: VmState) {
        self.change_container(at, id, |vm| vm.state = state);
    }

    pub(super) fn drop_container(&mut self, at: At, id: ContainerId) {
        if let Some(vm) = self.containers.remove(&id) {
            self.leave(at.index, &vm);
            self.note_opportunity(at.index);
        }
    }

    /// Puts a host in place of what was known of it.
    pub(super) fn put_host(&mut self, host: Host) {
        self.indexes.hosts.add(&host);
        if let Some(before) = self.hosts.insert(host.id, Arc::new(host)) {
            self.indexes.hosts.take(&before);
        }
    }

    /// Something became free or reachable: refused ones may fit now.
    pub(super) fn note_opportunity(&mut self, index: u64) {
        self.indexes.opportunity = self.indexes.opportunity.max(index);
    }

    fn enter(&mut self, index: u64, vm: &ContainerVm) {
        if let Some((host, charge)) = vm.state.charged() {
            self.charge_host(host, charge);
        }
        if let Some((datastore, disk)) = disk_charge(vm)
            && let Some(datastore) = self.datastores.get_mut(&datastore)
        {
            Arc::make_mut(datastore).charged += disk;
        }
        self.index_container(index, vm);
    }

    fn leave(&mut self, index: u64, vm: &ContainerVm) {
        if let Some((host, charge)) = vm.state.charged() {
            self.discharge_host(host, charge);
        }
        if let Some((datastore, disk)) = disk_charge(vm)
            && let Some(datastore) = self.datastores.get_mut(&datastore)
        {
            Arc::make_mut(datastore).charged -= disk;
        }
        if waits_for_place(&vm.state) {
            self.indexes.unplaced.remove(&(vm.meta.created, vm.id));
        }
        if is_homeless(&vm.state) {
            self.indexes.homeless.remove(&vm.id);
        }
        self.indexes.counts[position(&vm.state)] -= 1;
        if let Some(host) = assigned_host(&vm.state) {
            if let Some(on_host) = self.indexes.on_host.get_mut(&host) {
                on_host.remove(&vm.id);
                if on_host.is_empty() {
                    self.indexes.on_host.remove(&host);
                }
            }
            self.indexes.mark_host(host, index);
        }
    }

    fn charge_host(&mut self, host: HostId, charge: Resources) {
        if let Some(host) = self.hosts.get_mut(&host) {
            let host = Arc::make_mut(host);
            host.charged = host.charged + charge;
            host.placed += 1;
        }
    }

    fn discharge_host(&mut self, host: HostId, charge: Resources) {
        if let Some(host) = self.hosts.get_mut(&host) {
            let host = Arc::make_mut(host);
            host.charged = host.charged - charge;
            host.placed -= 1;
        }
    }

    fn index_container(&mut self, index: u64, vm: &ContainerVm) {
        if waits_for_place(&vm.state) {
            self.indexes.unplaced.insert((vm.meta.created, vm.id));
        }
        if is_homeless(&vm.state) {
            self.indexes.homeless.insert(vm.id);
        }
        self.indexes.counts[position(&vm.state)] += 1;
        if let Some(host) = assigned_host(&vm.state) {
            self.indexes.on_host.entry(host).or_default().insert(vm.id);
            self.indexes.mark_host(host, index);
        }
    }

    /// Makes names and indexes from the objects of a snapshot. Every host counts as changed and
    /// every refusal as worth another try: a new reader knows nothing yet.
    pub(super) fn rebuild(&mut self) {
        self.indexes = Indexes { opportunity: self.index, ..Indexes::default() };
        let containers = self.containers.clone();
        for vm in containers.values() {
            self.index_container(self.index, vm);
        }
        for host in self.hosts.values() {
            self.indexes.hosts.add(host);
            self.indexes.mark_host(host.id, self.index);
        }
        self.rebuild_names();
    }
}

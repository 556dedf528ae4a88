//! How container VMs leave: their name at once, their record when a node has discarded what lies
//! on the datastore.
//!
//! ```text
//!  rm of one that never started ────────────────────────────────────────────► gone
//!  rm of one that ran ──────► Removing { host: any connected one that reaches } ── Discarded ──► gone
//!  rm --force of a running ─► Removing { host: where it runs, charge } ── VmExited, Discarded ──► gone
//! ```
//!
//! Promises: what may still run is only ever given up by the host that it runs on; what is merely
//! stored goes to another host when its own falls silent, and waits when none reaches it.

use super::{At, Departed, Fleet};
use berth_model::change::{Answer, Change};
use berth_model::{
    ContainerId, ContainerVm, DatastoreId, Epoch, Exit, HostId, HostState, Rejection, VmState,
};

/// What Docker shows for a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;

impl Fleet {
    pub(super) fn remove_container(&mut self, at: At, id: ContainerId, force: bool) -> Answer {
        let vm = self.touchable(at, id)?;
        match &vm.state {
            VmState::Removing { .. } => return Err(Rejection::BeingRemoved(id)),
            VmState::Pending { .. } | VmState::Created => self.remove_stored(at, id, None),
            VmState::Waiting { ended, .. } => {
                let exit = ended.as_ref().map(|ended| ended.exit.clone());
                self.remove_stored(at, id, exit);
            }
            VmState::Exited { exit, .. } => {
                let exit = Some(exit.clone());
                self.remove_stored(at, id, exit);
            }
            VmState::Starting { .. } | VmState::Running { .. } if !force => {
                return Err(Rejection::StillRunning(id));
            }
            VmState::Starting { host, charge, .. } | VmState::Running { host, charge, .. } => {
                let (host, charge) = (Some(*host), Some(*charge));
                self.free_name(id);
                self.change_container(at, id, |vm| {
                    vm.state = VmState::Removing { host, charge, exit: None };
                    vm.displaced = false;
                });
            }
        }
        Ok(Change::ContainerChanged { container: id })
    }

    /// A run of a container VM ended that removes itself: the host that ran it discards it.
    pub(super) fn remove_exited(&mut self, at: At, id: ContainerId, host: HostId, exit: Exit) {
        self.free_name(id);
        let exit = Some(exit);
        self.leave_host(at, id, VmState::Removing { host: Some(host), charge: None, exit });
        if !self.host(host).is_some_and(|host| is_connected(&host.state)) {
            self.evict_removals(at, host);
        }
    }

    /// A node says that nothing of the container VM is left.
    pub(super) fn discarded(&mut self, at: At, host: HostId, id: ContainerId) -> bool {
        let Some(vm) = self.container(id) else { return false };
        let VmState::Removing { host: chosen, charge, exit } = &vm.state else { return false };
        // While it may run on one host, no other host can say that it is gone.
        if charge.is_some() && *chosen != Some(host) {
            return false;
        }
        let killed = Exit { code: KILLED, oom_killed: false, error: String::new() };
        let exit = exit.clone().or_else(|| charge.is_some().then_some(killed));
        self.depart(at, id, exit);
        true
    }

    /// Gives removals that wait for a host to one that is connected now.
    pub(super) fn house_removals(&mut self, at: At) {
        let homeless = self.indexes.homeless.clone();
        for id in homeless {
            self.rehouse(at, id);
        }
    }

    /// A host fell silent: what it was to discard, and does not run, another can discard.
    pub(super) fn evict_removals(&mut self, at: At, host: HostId) {
        let stored: Vec<ContainerId> = self
            .containers_on(host)
            .filter(|vm| matches!(vm.state, VmState::Removing { charge: None, .. }))
            .map(|vm| vm.id)
            .collect();
        for id in stored {
            self.rehouse(at, id);
        }
    }

    fn rehouse(&mut self, at: At, id: ContainerId) {
        let Some(vm) = self.container(id) else { return };
        let VmState::Removing { host: before, charge: None, exit } = &vm.state else { return };
        let host = vm.datastore.and_then(|datastore| self.discarding_host(vm, datastore));
        if host != *before {
            let exit = exit.clone();
            self.set_state(at, id, VmState::Removing { host, charge: None, exit });
        }
    }

    fn remove_stored(&mut self, at: At, id: ContainerId, exit: Option<Exit>) {
        let Some(vm) = self.container(id) else { return };
        let stored = vm.datastore.filter(|_| vm.epoch > Epoch(0));
        let host = stored.and_then(|datastore| self.discarding_host(vm, datastore));
        self.free_name(id);
        if stored.is_some() {
            self.set_state(at, id, VmState::Removing { host, charge: None, exit });
        } else {
            // A node makes the directory at the first start; before it there is nothing to discard.
            self.depart(at, id, exit);
        }
    }

    /// The last host if it will do, else the one with the least id.
    fn discarding_host(&self, vm: &ContainerVm, datastore: DatastoreId) -> Option<HostId> {
        let will_do = |id: &HostId| {
            self.host(*id).is_some_and(|host| {
                is_connected(&host.state) && host.facts.datastores.contains_key(&datastore)
            })
        };
        vm.last_host
            .filter(will_do)
            .or_else(|| self.datastore(datastore)?.hosts.iter().copied().find(will_do))
    }

    fn depart(&mut self, at: At, id: ContainerId, exit: Option<Exit>) {
        self.drop_container(at, id);
        self.departed.add(id, Departed { exit, at: at.time });
    }

    fn free_name(&mut self, id: ContainerId) {
        let Some(vm) = self.containers.get(&id) else { return };
        self.names.containers.remove(&(vm.endpoint(), vm.name.clone()));
    }
}

fn is_connected(state: &HostState) -> bool {
    match state {
        HostState::Connected { .. } => true,
        HostState::Silent { .. } => false,
    }
}

//! What is found again from the objects at any time, kept so that nobody has to look for it: who
//! is where, who waits, whose time ends next, sums by endpoint and cluster.
//!
//! Promises: equal to what [`Fleet::rebuild`] makes from the objects (checked by `invariants`);
//! never stored. Does not: decide; the ledger calls it with every object that comes and goes.

use super::Fleet;
use super::events::state_code;
use super::ledger::waits_for_place;
use super::rules::{Levels, Stand};
use berth_model::{
    Bytes, ClusterId, ContainerId, ContainerVm, DatastoreId, EndpointId, Host, HostId, HostState,
    Reservation, ReservationId, Resources, Timestamp, Usage, VmState,
};
use imbl::{OrdMap, OrdSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The order in which container VMs are placed: the most important first, then the oldest.
pub(super) type Turn = (i32, u64, ContainerId);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Indexes {
    /// Reservations that end by themselves, the next first.
    pub expiries: OrdSet<(Timestamp, ReservationId)>,
    /// Reservations that a container VM is made on.
    pub claims: OrdMap<ReservationId, ContainerId>,
    /// Pending and waiting ones.
    pub unplaced: OrdSet<Turn>,
    pub unplaced_of: OrdMap<EndpointId, OrdSet<Turn>>,
    /// Being removed, and no connected host reaches what they left behind.
    pub homeless: OrdSet<ContainerId>,
    /// What endpoints hold; none stands at nothing.
    pub usage: OrdMap<EndpointId, Usage>,
    pub loads: OrdMap<ClusterId, ClusterLoad>,
    /// By state, in the order of `VmState::NAMES`.
    pub counts: [u64; VmState::NAMES.len()],
    pub hosts: HostCounts,
    /// When each host's assignment may last have changed.
    pub host_changes: OrdSet<(u64, HostId)>,
    pub opportunity: u64,
    /// Index and number of the last change of hosts, policies or rules.
    pub topology: (u64, u64),
}

/// A host, and who is there: in one place, since both change with each placement.
///
/// `Eq` lets the difference of two fleets tell a shared record by its pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostRecord {
    pub host: Host,
    /// Container VMs that its assignment speaks of.
    pub vms: OrdSet<ContainerId>,
    pub reserved: OrdSet<ReservationId>,
    /// Index at which its assignment may last have changed.
    pub changed: u64,
}

impl HostRecord {
    pub fn new(host: Host) -> Self {
        Self { host, vms: OrdSet::new(), reserved: OrdSet::new(), changed: 0 }
    }
}

impl Deref for HostRecord {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.host
    }
}

impl DerefMut for HostRecord {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

/// How many hosts are in which state. One in maintenance is connected or silent too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    pub connected: u64,
    pub silent: u64,
    pub maintenance: u64,
}

/// Sums over the hosts of a cluster that are connected and not in maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterLoad {
    pub hosts: u32,
    /// What may be charged.
    pub limit: Resources,
    pub charged: Resources,
}

impl HostCounts {
    fn of(host: &Host) -> HostCounts {
        let (connected, silent) = match host.state {
            HostState::Connected { .. } => (1, 0),
            HostState::Silent { .. } => (0, 1),
        };
        HostCounts { connected, silent, maintenance: u64::from(host.maintenance) }
    }

    pub(super) fn add(&mut self, host: &Host) {
        let one = HostCounts::of(host);
        self.connected += one.connected;
        self.silent += one.silent;
        self.maintenance += one.maintenance;
    }

    pub(super) fn take(&mut self, host: &Host) {
        let one = HostCounts::of(host);
        self.connected -= one.connected;
        self.silent -= one.silent;
        self.maintenance -= one.maintenance;
    }
}

impl Indexes {
    pub fn add_reservation(&mut self, held: &Reservation) {
        if let Some(until) = held.expires_at {
            self.expiries.insert((until, held.id));
        }
    }

    pub fn take_reservation(&mut self, held: &Reservation) {
        if let Some(until) = held.expires_at {
            self.expiries.remove(&(until, held.id));
        }
    }

    fn add_container(&mut self, vm: &ContainerVm) {
        if waits_for_place(&vm.state) {
            self.unplaced.insert(turn(vm));
            self.unplaced_of.entry(vm.endpoint()).or_default().insert(turn(vm));
        }
        if is_homeless(&vm.state) {
            self.homeless.insert(vm.id);
        }
        self.counts[usize::from(state_code(&vm.state))] += 1;
    }

    fn take_container(&mut self, vm: &ContainerVm) {
        if waits_for_place(&vm.state) {
            self.unplaced.remove(&turn(vm));
            if let Some(waiting) = self.unplaced_of.get_mut(&vm.endpoint()) {
                waiting.remove(&turn(vm));
                if waiting.is_empty() {
                    self.unplaced_of.remove(&vm.endpoint());
                }
            }
        }
        if is_homeless(&vm.state) {
            self.homeless.remove(&vm.id);
        }
        self.counts[usize::from(state_code(&vm.state))] -= 1;
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

/// What a reservation takes of datastores, disk by disk.
pub(super) fn disks_of(held: &Reservation) -> impl Iterator<Item = (DatastoreId, Bytes)> {
    let (demand, place) = (&held.wish.demand, &held.place);
    let delta = place.delta.map(|delta| (delta, demand.disk));
    let others = place.disks.iter().copied().zip(demand.disks.iter().map(|disk| disk.size));
    delta.into_iter().chain(others)
}

fn turn(vm: &ContainerVm) -> Turn {
    (-i32::from(vm.spec.demand.priority), vm.meta.created, vm.id)
}

fn is_homeless(state: &VmState) -> bool {
    matches!(state, VmState::Removing { host: None, .. })
}

impl Fleet {
    /// The host's assignment may differ from now on.
    pub(super) fn mark_host(&mut self, id: HostId, index: u64) {
        let Some(record) = self.hosts.get_mut(&id) else { return };
        if record.changed == index {
            return;
        }
        let record = Arc::make_mut(record);
        self.indexes.host_changes.remove(&(record.changed, id));
        record.changed = index;
        self.indexes.host_changes.insert((index, id));
    }

    pub(super) fn index_container(&mut self, index: u64, vm: &ContainerVm) {
        self.indexes.add_container(vm);
        let Some(host) = assigned_host(&vm.state) else { return };
        if let Some(record) = self.hosts.get_mut(&host) {
            Arc::make_mut(record).vms.insert(vm.id);
        }
        self.mark_host(host, index);
    }

    pub(super) fn unindex_container(&mut self, index: u64, vm: &ContainerVm) {
        self.indexes.take_container(vm);
        let Some(host) = assigned_host(&vm.state) else { return };
        if let Some(record) = self.hosts.get_mut(&host) {
            Arc::make_mut(record).vms.remove(&vm.id);
        }
        self.mark_host(host, index);
    }

    /// Makes names, indexes, counts and the hash from the objects of a snapshot. Every host counts
    /// as changed and every refusal as worth another try: a new reader knows nothing yet.
    pub(super) fn rebuild(&mut self) {
        self.indexes =
            Indexes { opportunity: self.index, topology: (self.index, 0), ..Indexes::default() };
        self.levels = Levels::default();
        let hosts: Vec<Arc<HostRecord>> = self.hosts.values().cloned().collect();
        for host in &hosts {
            let record = HostRecord { changed: self.index, ..HostRecord::new(host.host.clone()) };
            self.hosts.insert(host.id, Arc::new(record));
            self.indexes.hosts.add(host);
            self.indexes.host_changes.insert((self.index, host.id));
            self.levels.put(host.id, Stand::of(host, false));
        }
        for host in &hosts {
            if self.is_kept(host) {
                self.levels.put(host.id, Stand::of(host, true));
            }
        }
        let clusters: Vec<ClusterId> = self.clusters.keys().copied().collect();
        for cluster in clusters {
            self.reload_cluster(cluster);
        }
        let containers: Vec<Arc<ContainerVm>> = self.containers.values().cloned().collect();
        for vm in containers {
            self.index_container(self.index, &vm);
            if let Some(id) = vm.reservation.filter(|id| self.reservations.contains_key(id)) {
                self.indexes.claims.insert(id, vm.id);
            }
            self.rebuild_usage(vm.endpoint(), usage_of(&vm));
        }
        let reservations: Vec<Arc<Reservation>> = self.reservations.values().cloned().collect();
        for held in reservations {
            self.indexes.add_reservation(&held);
            if let Some(record) = self.hosts.get_mut(&held.place.host) {
                Arc::make_mut(record).reserved.insert(held.id);
            }
            let claimed = self.indexes.claims.contains_key(&held.id);
            self.rebuild_usage(held.meta.endpoint, usage_of_reservation(&held, claimed));
        }
        self.rebuild_names();
        self.recount_all();
        self.hash = self.fresh_hash();
    }

    fn rebuild_usage(&mut self, endpoint: EndpointId, more: Usage) {
        if more == Usage::default() {
            return;
        }
        let usage = self.indexes.usage.entry(endpoint).or_default();
        usage.cpu += more.cpu;
        usage.memory += more.memory;
        usage.disk += more.disk;
        usage.containers += more.containers;
    }
}

fn usage_of(vm: &ContainerVm) -> Usage {
    let charge = vm.state.charged().map_or(Resources::default(), |(_, charge)| charge);
    let disk = vm.spec.demand.disk_total();
    Usage { cpu: charge.cpu, memory: charge.memory, disk, containers: 1 }
}

/// A claimed one counts as the container VM that claims it, but for cpu and memory.
fn usage_of_reservation(held: &Reservation, claimed: bool) -> Usage {
    let Resources { cpu, memory } = held.charge;
    if claimed {
        return Usage { cpu, memory, ..Usage::default() };
    }
    Usage { cpu, memory, disk: held.wish.demand.disk_total(), containers: 1 }
}

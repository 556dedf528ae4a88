//! The one door through which container VMs and reservations enter, change and leave, and the books
//! that are kept beside it: what hosts, datastores and endpoints are charged, what rules count.
//!
//! Promises: after each call every sum equals its parts and every index its objects (checked by
//! `invariants` in the tests). Does not: judge a change; callers did.

use super::admit::numa_share;
use super::events::state_code;
use super::indexes::disks_of;
use super::loads::is_available;
use super::reservations::datastores_of;
use super::rules::{Matched, Way};
use super::{At, Fleet, hash};
use berth_model::event::{Subject, What};
use berth_model::{
    Bytes, ContainerId, ContainerVm, DatastoreId, Demand, EndpointId, Host, HostId, NumaNodes,
    Reservation, ReservationId, Resources, Usage, VmState,
};
use std::sync::Arc;

/// What is held on one host.
#[derive(Clone, Copy)]
struct Hold<'a> {
    host: HostId,
    charge: Resources,
    numa: NumaNodes,
    demand: &'a Demand,
    /// Listed on the host with it; container VMs are listed by their assignment.
    reservation: Option<ReservationId>,
}

impl<'a> Hold<'a> {
    fn of(vm: &'a ContainerVm) -> Option<Hold<'a>> {
        let (host, charge) = vm.state.charged()?;
        let demand = &vm.spec.demand;
        Some(Hold { host, charge, numa: vm.numa, demand, reservation: None })
    }

    fn of_reservation(held: &'a Reservation) -> Hold<'a> {
        Hold {
            host: held.place.host,
            charge: held.charge,
            numa: held.place.numa,
            demand: &held.wish.demand,
            reservation: Some(held.id),
        }
    }

    /// The demand of one container VM never changes.
    fn same(&self, other: &Hold<'_>) -> bool {
        self.host == other.host && self.charge == other.charge && self.numa == other.numa
    }
}

impl Fleet {
    pub(super) fn add_container(&mut self, at: At, vm: ContainerVm) {
        self.hash.add(hash::container_made(&vm));
        let more = Usage { disk: vm.spec.demand.disk_total(), containers: 1, ..Usage::default() };
        self.use_up(vm.endpoint(), more, Way::In);
        self.container_in(at.index, &vm, None);
        self.tell(at, vm.endpoint(), Subject::ContainerVm(vm.id), What::Created);
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
        self.container_out(at.index, &before, Some(&after));
        self.container_in(at.index, &after, Some(&before));
        let gave_back =
            before.state.charged().is_some_and(|held| after.state.charged() != Some(held));
        if gave_back {
            self.note_opportunity(at.index);
        }
        if let Some(what) = told(&before, &after) {
            self.tell(at, after.endpoint(), Subject::ContainerVm(id), what);
        }
        self.containers.insert(id, Arc::new(after));
    }

    pub(super) fn drop_container(&mut self, at: At, id: ContainerId) {
        let Some(vm) = self.containers.remove(&id) else { return };
        self.hash.take(hash::container_made(&vm));
        let less = Usage { disk: vm.spec.demand.disk_total(), containers: 1, ..Usage::default() };
        self.use_up(vm.endpoint(), less, Way::Out);
        self.container_out(at.index, &vm, None);
        self.note_opportunity(at.index);
        self.tell(at, vm.endpoint(), Subject::ContainerVm(id), What::Removed);
        if let Some(held) = vm.reservation {
            self.end_reservation(at, held, What::Removed);
        }
    }

    pub(super) fn set_state(&mut self, at: At, id: ContainerId, state: VmState) {
        self.change_container(at, id, |vm| vm.state = state);
    }

    /// `matched` and `wish_hash` are those of its wish, worked out by the caller for many at once.
    pub(super) fn hold(&mut self, held: Reservation, matched: &Matched, wish_hash: u64) {
        self.hash.add(hash::reservation(&held, wish_hash));
        self.indexes.add_reservation(&held);
        self.reservation_books(&held, matched, Way::In);
        self.reservations.insert(held.id, Arc::new(held));
    }

    /// Takes out one that no container VM claims any more.
    pub(super) fn let_go(&mut self, held: &Reservation) {
        let matched = self.matched(held.meta.endpoint, &held.wish.labels);
        self.hash.take(hash::reservation(held, hash::wish(&held.wish)));
        self.indexes.take_reservation(held);
        self.reservation_books(held, &matched, Way::Out);
        self.reservations.remove(&held.id);
    }

    /// Changes what is not charged: its end, and whether it holds room for a delta.
    pub(super) fn change_reservation(
        &mut self,
        at: At,
        id: ReservationId,
        change: impl FnOnce(&mut Reservation),
    ) {
        let Some(before) = self.reservations.get(&id).cloned() else { return };
        let mut after = Reservation::clone(&before);
        change(&mut after);
        after.meta.modified = at.index;
        let wish = hash::wish(&before.wish);
        self.hash.take(hash::reservation(&before, wish));
        self.hash.add(hash::reservation(&after, wish));
        self.indexes.take_reservation(&before);
        self.indexes.add_reservation(&after);
        if before.place.delta != after.place.delta {
            let matched = self.matched(before.meta.endpoint, &before.wish.labels);
            self.hold_disks(&before, &matched, Way::Out);
            self.hold_disks(&after, &matched, Way::In);
        }
        self.reservations.insert(id, Arc::new(after));
    }

    fn container_in(&mut self, index: u64, vm: &ContainerVm, before: Option<&ContainerVm>) {
        self.container_books(vm, before, Way::In);
        self.index_container(index, vm);
        self.hash.add(hash::container_state(vm));
        if let Some(id) = vm.reservation.filter(|id| self.reservations.contains_key(id)) {
            self.claim(id, vm.id, Way::In);
        }
    }

    fn container_out(&mut self, index: u64, vm: &ContainerVm, after: Option<&ContainerVm>) {
        if let Some(id) = vm.reservation {
            self.claim(id, vm.id, Way::Out);
        }
        self.hash.take(hash::container_state(vm));
        self.unindex_container(index, vm);
        self.container_books(vm, after, Way::Out);
    }

    /// What one holds goes into the books, or out of them, but for what the other holds too.
    fn container_books(&mut self, vm: &ContainerVm, other: Option<&ContainerVm>, way: Way) {
        let hold = Hold::of(vm)
            .filter(|hold| !other.and_then(Hold::of).is_some_and(|other| hold.same(&other)));
        let datastore =
            vm.datastore.filter(|_| other.is_none_or(|other| other.datastore != vm.datastore));
        if hold.is_none() && datastore.is_none() {
            return;
        }
        let matched = self.matched(vm.endpoint(), vm.labels());
        if let Some(hold) = hold {
            self.hold_on_host(hold, way);
            let Resources { cpu, memory } = hold.charge;
            self.use_up(vm.endpoint(), Usage { cpu, memory, ..Usage::default() }, way);
            self.count_on_host(&matched, hold.host, way);
        }
        if let Some(datastore) = datastore {
            self.hold_disk(datastore, vm.spec.demand.disk, way);
            self.count_on_datastores(&matched, &[datastore], way);
        }
    }

    fn reservation_books(&mut self, held: &Reservation, matched: &Matched, way: Way) {
        self.hold_on_host(Hold::of_reservation(held), way);
        self.count_on_host(matched, held.place.host, way);
        self.hold_disks(held, matched, way);
        let Resources { cpu, memory } = held.charge;
        let demand = &held.wish.demand;
        let usage = Usage { cpu, memory, disk: demand.disk_total(), containers: 1 };
        self.use_up(held.meta.endpoint, usage, way);
    }

    fn hold_disks(&mut self, held: &Reservation, matched: &Matched, way: Way) {
        for (datastore, size) in disks_of(held) {
            self.hold_disk(datastore, size, way);
        }
        if !matched.is_empty() {
            self.count_on_datastores(matched, &datastores_of(&held.place), way);
        }
    }

    /// A container VM that is made on a reservation counts in its stead, but for cpu and memory,
    /// which the reservation holds until the container VM is placed.
    fn claim(&mut self, id: ReservationId, by: ContainerId, way: Way) {
        let Some(held) = self.reservations.get(&id).cloned() else { return };
        let disk = held.wish.demand.disk_total();
        let counted = Usage { disk, containers: 1, ..Usage::default() };
        match way {
            Way::In => {
                self.indexes.claims.insert(id, by);
                self.use_up(held.meta.endpoint, counted, Way::Out);
            }
            Way::Out => {
                if self.indexes.claims.remove(&id).is_some() {
                    self.use_up(held.meta.endpoint, counted, Way::In);
                }
            }
        }
    }

    fn hold_on_host(&mut self, hold: Hold<'_>, way: Way) {
        let Some(host) = self.hosts.get_mut(&hold.host) else { return };
        let host = Arc::make_mut(host);
        self.hash.take(hash::host_charge(host));
        match way {
            Way::In => {
                host.charged = host.charged + hold.charge;
                host.placed += 1;
                host.held.reserved += hold.demand.memory_reservation;
            }
            Way::Out => {
                host.charged = host.charged - hold.charge;
                host.placed -= 1;
                host.held.reserved -= hold.demand.memory_reservation;
            }
        }
        if let Some(id) = hold.reservation {
            match way {
                Way::In => host.reserved.insert(id),
                Way::Out => host.reserved.remove(&id),
            };
        }
        hold_things(host, hold.demand, way);
        hold_nodes(host, &hold, way);
        self.hash.add(hash::host_charge(host));
        if is_available(host) {
            let cluster = host.cluster;
            self.load(cluster, hold.charge, way);
        }
    }

    fn load(&mut self, cluster: berth_model::ClusterId, charge: Resources, way: Way) {
        let Some(load) = self.indexes.loads.get_mut(&cluster) else { return };
        load.charged = match way {
            Way::In => load.charged + charge,
            Way::Out => load.charged - charge,
        };
    }

    fn hold_disk(&mut self, datastore: DatastoreId, size: Bytes, way: Way) {
        let Some(datastore) = self.datastores.get_mut(&datastore) else { return };
        let datastore = Arc::make_mut(datastore);
        self.hash.take(hash::datastore_charge(datastore));
        match way {
            Way::In => datastore.charged += size,
            Way::Out => datastore.charged -= size,
        }
        self.hash.add(hash::datastore_charge(datastore));
    }

    /// Adds to what an endpoint holds, or takes from it.
    fn use_up(&mut self, endpoint: EndpointId, amount: Usage, way: Way) {
        let usage = self.indexes.usage.entry(endpoint).or_default();
        match way {
            Way::In => {
                usage.cpu += amount.cpu;
                usage.memory += amount.memory;
                usage.disk += amount.disk;
                usage.containers += amount.containers;
            }
            Way::Out => {
                usage.cpu -= amount.cpu;
                usage.memory -= amount.memory;
                usage.disk -= amount.disk;
                usage.containers -= amount.containers;
            }
        }
        if *usage == Usage::default() {
            self.indexes.usage.remove(&endpoint);
        }
    }

    /// Something became free or reachable: refused ones may fit now.
    pub(super) fn note_opportunity(&mut self, index: u64) {
        self.indexes.opportunity = self.indexes.opportunity.max(index);
    }

    /// Hosts, where they stand, policies or rules are not what they were.
    pub(super) fn topology_changed(&mut self) {
        let (_, count) = self.indexes.topology;
        self.indexes.topology = (self.index, count + 1);
    }
}

fn hold_things(host: &mut Host, demand: &Demand, way: Way) {
    for (name, amount) in &demand.resources {
        let held = &mut host.held.resources;
        match way {
            Way::In => *held.entry(name.clone()).or_default() += amount,
            Way::Out => {
                let left = held.get(name).copied().unwrap_or(0) - amount;
                if left == 0 {
                    held.remove(name);
                } else {
                    held.insert(name.clone(), left);
                }
            }
        }
    }
}

fn hold_nodes(host: &mut Host, hold: &Hold<'_>, way: Way) {
    let share = numa_share(hold.charge, hold.numa.count());
    let held = &mut host.held.numa;
    for position in hold.numa.positions() {
        if held.len() <= position {
            held.resize(position + 1, Resources::default());
        }
        held[position] = match way {
            Way::In => held[position] + share,
            Way::Out => held[position] - share,
        };
    }
    // Short where none is bound, so that equal holds are equal values.
    while held.last() == Some(&Resources::default()) {
        held.pop();
    }
}

/// What a change of a container VM is to those who watch.
fn told(before: &ContainerVm, after: &ContainerVm) -> Option<What> {
    let code = state_code(&after.state);
    let waits = matches!(after.state, VmState::Waiting { .. });
    if before.displaced && waits {
        Some(What::Displaced)
    } else if state_code(&before.state) != code {
        Some(What::State(code))
    } else if before.datastore != after.datastore || before.displaced != after.displaced {
        Some(What::Changed)
    } else {
        None
    }
}

/// Whether a state is one in which a placement is awaited.
pub(super) fn waits_for_place(state: &VmState) -> bool {
    matches!(state, VmState::Pending { .. } | VmState::Waiting { .. })
}

//! Who takes room in a cluster, as far as restarts look at it.

use crate::failover::Room;
use crate::fleet::Fleet;
use berth_model::reservation::Victim;
use berth_model::{ContainerVm, DatastoreId, Demand, EndpointId, Reservation, Resources, VmState};
use std::collections::BTreeMap;

/// A member of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The fleet shows it.
    Placed(Victim),
    /// A decision that is on its way.
    Ticket(u32),
}

/// One that is to take a place, or has it.
#[derive(Clone, Debug)]
pub struct Newcomer<'a> {
    pub endpoint: EndpointId,
    pub demand: &'a Demand,
    pub labels: &'a BTreeMap<String, String>,
    /// The first eight bytes of its id: where its search for a host begins.
    pub seed: u64,
    pub charge: Resources,
    /// Where its delta lies, if it has one.
    pub delta: Option<DatastoreId>,
    pub disks: Vec<DatastoreId>,
    /// It only takes room: pinned to its host, or on its way out.
    pub bound: bool,
}

impl<'a> Newcomer<'a> {
    pub fn of_container(vm: &'a ContainerVm) -> Option<Newcomer<'a>> {
        let (_, charge) = vm.state.charged()?;
        Some(Newcomer {
            endpoint: vm.endpoint(),
            demand: &vm.spec.demand,
            labels: vm.labels(),
            seed: seed_of(vm.id.as_bytes()),
            charge,
            delta: vm.datastore,
            disks: Vec::new(),
            bound: vm.spec.demand.host.is_some()
                || vm.displaced
                || matches!(vm.state, VmState::Removing { .. }),
        })
    }

    pub fn of_reservation(held: &'a Reservation) -> Newcomer<'a> {
        Newcomer {
            endpoint: held.meta.endpoint,
            demand: &held.wish.demand,
            labels: &held.wish.labels,
            seed: seed_of(held.id.as_bytes()),
            charge: held.charge,
            delta: held.place.delta,
            disks: held.place.disks.clone(),
            bound: held.wish.demand.host.is_some(),
        }
    }

    pub(super) fn room(&self) -> Room {
        Room { cpu: self.charge.cpu.0, memory: self.charge.memory.0 }
    }

    /// The datastores that a host must reach to start it again. A delta that no other host reaches
    /// is lost with its host, and a fresh one takes its place.
    pub(super) fn stores(&self, fleet: &Fleet) -> Vec<DatastoreId> {
        let shared = |id: &DatastoreId| {
            fleet.datastore(*id).is_some_and(|datastore| datastore.hosts.len() > 1)
        };
        let mut stores: Vec<DatastoreId> = self.delta.into_iter().filter(shared).collect();
        stores.extend(&self.disks);
        stores.sort_unstable();
        stores.dedup();
        stores
    }
}

/// The first eight bytes of an id.
pub fn seed_of(id: &[u8]) -> u64 {
    id.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

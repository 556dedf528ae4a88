//! Everything of a request that decides whether and how well a host suits it, apart from what the
//! counts of rules, quotas and pins to few hosts say.
//!
//! Requests of one shape share a class and its tree. Promises: [`Shape::key`] says of a host what
//! the filters and the score say of it, these exceptions apart. Does not: borrow from the request,
//! so that a class outlives it.

use super::dense::Dense;
use super::layout::NONE;
use super::tree::REFUSED;
use crate::fleet::Fleet;
use crate::fleet::rules::{Matched, Spoken, cost, datastore_breaks, host_breaks};
use crate::placement::score::{self, Score};
use crate::placement::{Ask, Delta, Load};
use berth_model::demand::DiskDemand;
use berth_model::{
    Bytes, DatastoreId, Demand, MilliCpus, Resources, RuleId, RuleKind, Scope, Strength,
};
use std::collections::{BTreeMap, BTreeSet};

/// A datastore could take the one disk that is to be made.
pub const TAKES: u8 = 1;
/// It holds the image.
pub const HOLDS: u8 = 2;
/// The delta lies there.
pub const IS: u8 = 4;

#[derive(Clone, Debug)]
pub struct Shape {
    pub cpu: MilliCpus,
    /// The container VM's, without what its hypervisor costs.
    pub memory: Bytes,
    reservation: Bytes,
    pub numa: Option<u8>,
    shares: bool,
    resources: BTreeMap<String, u64>,
    networks: BTreeSet<String>,
    host_labels: BTreeMap<String, String>,
    delta: Delta,
    disk: Bytes,
    datastore_labels: BTreeMap<String, String>,
    disks: Vec<DiskDemand>,
    image: Option<BTreeSet<DatastoreId>>,
    pub load: Load,
    /// Rules about hosts and datastores alone, required and preferred.
    fixed: Vec<Spoken>,
    /// Which of `TAKES`, `HOLDS` and `IS` the datastores of a host must have among them.
    needs: u8,
    preference: bool,
    /// Its datastores have to be sorted out host by host.
    pub sorts: bool,
    seeks: bool,
}

/// The one disk that is to be made.
pub struct OneDisk<'a> {
    pub size: Bytes,
    labels: &'a BTreeMap<String, String>,
    only: Option<DatastoreId>,
}

impl Shape {
    /// `seeks` is a datastore for a delta of any size, as a create does.
    pub fn of(ask: &Ask<'_>, matched: &Matched, seeks: bool) -> Shape {
        let demand = ask.demand;
        let mut shape = Shape {
            cpu: demand.cpu,
            memory: demand.memory_class(),
            reservation: demand.memory_reservation,
            numa: demand.numa,
            shares: demand.shares.any(),
            resources: demand.resources.clone(),
            networks: demand.networks.clone(),
            host_labels: demand.host_labels.clone(),
            delta: ask.delta,
            disk: demand.disk,
            datastore_labels: demand.datastore_labels.clone(),
            disks: demand.disks.clone(),
            image: ask.image.cloned(),
            load: ask.load,
            fixed: fixed(matched).cloned().collect(),
            needs: 0,
            preference: false,
            sorts: Shape::sorts(ask, matched),
            seeks,
        };
        shape.preference = shape.fixed.iter().any(is_preferred);
        shape.needs = (u8::from(shape.one_disk().is_some()) * TAKES)
            | (u8::from(shape.image.is_some()) * HOLDS)
            | (u8::from(matches!(shape.delta, Delta::Placed(_))) * IS);
        shape
    }

    /// Whether a request is of this shape.
    pub fn is_of(&self, ask: &Ask<'_>, matched: &Matched, seeks: bool) -> bool {
        let demand = ask.demand;
        self.cpu == demand.cpu
            && self.seeks == seeks
            && self.memory == demand.memory_class()
            && self.disk == demand.disk
            && self.delta == ask.delta
            && self.load == ask.load
            && self.reservation == demand.memory_reservation
            && self.numa == demand.numa
            && self.shares == demand.shares.any()
            && self.disks == demand.disks
            && self.resources == demand.resources
            && self.networks == demand.networks
            && self.host_labels == demand.host_labels
            && self.datastore_labels == demand.datastore_labels
            && self.image.as_ref() == ask.image
            && self.sorts == Shape::sorts(ask, matched)
            && self.fixed.iter().map(identity).eq(fixed(matched).map(identity))
    }

    /// Equal for requests of one shape; seldom for others.
    pub fn hash_of(ask: &Ask<'_>) -> u64 {
        let Demand { cpu, memory, machine_memory, disk, memory_reservation, .. } = ask.demand;
        let machine = machine_memory.map_or(0, |memory| memory.0.rotate_left(32) | 1);
        let delta = match ask.delta {
            Delta::Anywhere => 0,
            Delta::New(id) => word(&id) | 1,
            Delta::Placed(id) => word(&id) << 1 | 1,
        };
        let load = u64::from(ask.load == Load::Ever);
        let words = [cpu.0, memory.0, machine, disk.0, memory_reservation.0, delta, load];
        // Of the FNV family: cheap, and the same everywhere.
        words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| {
            (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        })
    }

    /// The disk that is to be made, where it is the only one.
    pub fn one_disk(&self) -> Option<OneDisk<'_>> {
        let delta = match self.delta {
            Delta::Anywhere if self.disk == Bytes::ZERO && !self.seeks => None,
            Delta::Anywhere => Some(None),
            Delta::New(id) => Some(Some(id)),
            Delta::Placed(_) => None,
        };
        match (delta, self.disks.as_slice()) {
            (Some(only), []) => {
                Some(OneDisk { size: self.disk, labels: &self.datastore_labels, only })
            }
            (None, [disk]) => {
                Some(OneDisk { size: disk.size, labels: &disk.labels, only: disk.datastore })
            }
            (None | Some(_), _) => None,
        }
    }

    /// Whether datastores have to be sorted out host by host: there are several disks to be made,
    /// or rules that count on datastores.
    pub fn sorts(ask: &Ask<'_>, matched: &Matched) -> bool {
        let delta = match ask.delta {
            Delta::Anywhere => ask.demand.disk > Bytes::ZERO,
            Delta::New(_) => true,
            Delta::Placed(_) => false,
        };
        let disks = ask.demand.disks.len() + usize::from(delta);
        disks > 1
            || (disks == 1
                && matched.iter().any(|spoken| spoken.scope() == Some(&Scope::Datastore)))
    }

    pub fn charge(&self, overhead: Bytes) -> Resources {
        Resources { cpu: self.cpu, memory: self.memory + overhead }
    }

    /// What of the needed a datastore gives.
    pub fn mask(&self, fleet: &Fleet, dense: &Dense, store: usize) -> u8 {
        let store = &dense.stores[store];
        let takes = self.one_disk().is_some_and(|disk| {
            disk.only.is_none_or(|only| only == store.id)
                && disk.size <= store.free()
                && self.suits(fleet, store.id, disk.labels)
        });
        let holds = self.image.as_ref().is_some_and(|image| image.contains(&store.id));
        let is = self.delta == Delta::Placed(store.id);
        (u8::from(takes) * TAKES) | (u8::from(holds) * HOLDS) | (u8::from(is) * IS)
    }

    fn suits(&self, fleet: &Fleet, id: DatastoreId, labels: &BTreeMap<String, String>) -> bool {
        if labels.is_empty() && self.fixed.is_empty() {
            return true;
        }
        let Some(store) = fleet.datastore(id) else { return false };
        let labelled = labels.iter().all(|(name, value)| {
            store.meta.labels.get(name) == Some(value)
                || (name == "class" && !store.class.is_empty() && store.class == *value)
        });
        labelled
            && self
                .fixed
                .iter()
                .all(|spoken| is_preferred(spoken) || datastore_breaks(spoken, store) == 0)
    }

    /// What preferred rules say against a datastore.
    pub fn store_penalty(&self, fleet: &Fleet, dense: &Dense, store: usize) -> u32 {
        if !self.preference {
            return 0;
        }
        let Some(store) = fleet.datastore(dense.stores[store].id) else { return 0 };
        let costs = self.fixed.iter().map(|spoken| cost(spoken, datastore_breaks(spoken, store)));
        costs.fold(0, u32::saturating_add)
    }

    /// Whether any preferred rule about hosts or datastores speaks of it.
    pub fn has_preference(&self) -> bool {
        self.preference
    }

    /// Whether the host is one of those that it asks for: labels, networks, required rules about
    /// hosts.
    pub fn demands(&self, fleet: &Fleet, dense: &Dense, leaf: usize) -> bool {
        let Some(cold) = &dense.cold[leaf] else { return false };
        let facts = &cold.facts;
        let labelled =
            self.host_labels.iter().all(|(name, value)| facts.labels.get(name) == Some(value));
        let reached = self.networks.iter().all(|network| facts.supply.networks.contains(network));
        labelled
            && reached
            && self
                .fixed
                .iter()
                .all(|spoken| is_preferred(spoken) || host_broken(spoken, fleet, dense, leaf) == 0)
    }

    /// What preferred rules say against the host.
    pub fn host_penalty(&self, fleet: &Fleet, dense: &Dense, leaf: usize) -> u32 {
        if !self.preference {
            return 0;
        }
        let broken = |spoken| cost(spoken, host_broken(spoken, fleet, dense, leaf));
        self.fixed.iter().map(broken).fold(0, u32::saturating_add)
    }

    /// The key of a host that has what is demanded; `mask` and `penalty` of its datastores by
    /// their number.
    #[inline]
    pub fn key(
        &self,
        dense: &Dense,
        leaf: usize,
        mask: impl Fn(usize) -> u8,
        store_penalty: impl Fn(usize) -> u32,
        host_penalty: u32,
    ) -> u64 {
        let row = &dense.rows[leaf];
        let charge = self.charge(row.overhead);
        let held = match self.load {
            Load::Now => row.charged,
            Load::Ever => Resources::default(),
        };
        if !row.open
            || charge.cpu > row.limit.cpu.saturating_sub(held.cpu)
            || charge.memory > row.limit.memory.saturating_sub(held.memory)
            || (self.shares && !row.shares)
        {
            return REFUSED;
        }
        let mut penalty = host_penalty;
        let rare =
            self.reservation > Bytes::ZERO || self.numa.is_some() || !self.resources.is_empty();
        if rare {
            let Some(cold) = &dense.cold[leaf] else { return REFUSED };
            let reserved = if self.load == Load::Now { cold.held.reserved } else { Bytes::ZERO };
            if self.reservation > cold.reservable.saturating_sub(reserved)
                || !self.has_resources(cold)
                || !self.has_nodes(cold, charge)
            {
                return REFUSED;
            }
        }
        if self.needs != 0 {
            let one = [row.only_store];
            let stores = match (row.only_store, &dense.cold[leaf]) {
                (NONE, Some(cold)) => &*cold.stores,
                (NONE, None) => return REFUSED,
                (_, _) => &one,
            };
            let found = stores.iter().fold(0, |found, store| found | mask(*store as usize));
            if found & self.needs != self.needs {
                return REFUSED;
            }
            if self.preference && !self.sorts && self.needs & TAKES != 0 {
                let takers = stores.iter().filter(|store| mask(**store as usize) & TAKES != 0);
                let least = takers.map(|store| store_penalty(*store as usize)).min();
                penalty = penalty.saturating_add(least.unwrap_or(0));
            }
        }
        let Some(policy) = dense.policy(leaf) else { return REFUSED };
        let score = Score::of(policy.rank, &policy.guide, &dense.fill(leaf), charge);
        score::worse(score.key(), penalty)
    }

    fn has_resources(&self, cold: &super::dense::Cold) -> bool {
        self.resources.iter().all(|(name, needed)| {
            let all = cold.facts.supply.resources.get(name).copied().unwrap_or(0);
            let held = match self.load {
                Load::Now => cold.held.resources.get(name).copied().unwrap_or(0),
                Load::Ever => 0,
            };
            *needed <= all.saturating_sub(held)
        })
    }

    fn has_nodes(&self, cold: &super::dense::Cold, charge: Resources) -> bool {
        let Some(width) = self.numa else { return true };
        super::numa::fitting(cold, charge, u32::from(width), self.load).count()
            >= usize::from(width)
    }
}

/// Rules that count nothing.
fn fixed(matched: &Matched) -> impl Iterator<Item = &Spoken> {
    matched.iter().filter(|spoken| spoken.subject && spoken.scope().is_none())
}

fn identity(spoken: &Spoken) -> RuleId {
    spoken.rule.id
}

fn is_preferred(spoken: &Spoken) -> bool {
    match spoken.rule.spec.strength {
        Strength::Required => false,
        Strength::Preferred { .. } => true,
    }
}

fn host_broken(spoken: &Spoken, fleet: &Fleet, dense: &Dense, leaf: usize) -> u32 {
    let RuleKind::Hosts { .. } = spoken.kind() else { return 0 };
    let host = dense.layout.hosts[leaf].and_then(|id| fleet.host(id));
    let cluster = dense.policy(leaf).map_or("", |policy| policy.name.as_str());
    host.map_or(0, |host| host_breaks(spoken, host, cluster))
}

fn word(id: &DatastoreId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

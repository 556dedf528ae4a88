//! What decides of hosts, datastores and clusters, in rows.
//!
//! Promises: a row is what the fleet says of the host plus what the tickets on it took. Does not:
//! remember changes; `Mirror` writes the journals.

use super::layout::{Layout, NONE};
use super::tickets::{Taken, Tickets};
use crate::fleet::Fleet;
use crate::packing::Guide;
use crate::placement::Guides;
use crate::placement::score::{Fill, Rank};
use berth_model::cluster::{Admission, ClusterPolicy, Strategy};
use berth_model::{
    Bytes, Cluster, ClusterId, Datastore, DatastoreId, Held, Host, HostFacts, NumaNodes, Permille,
    Resources,
};
use std::sync::Arc;

/// What nearly every decision looks at: one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
pub struct Row {
    pub limit: Resources,
    pub charged: Resources,
    /// Memory that a hypervisor process costs there.
    pub overhead: Bytes,
    pub placed: u32,
    /// Its number.
    pub cluster: u32,
    /// The datastore that it reaches, if it is just one; else `NONE`.
    pub only_store: u32,
    /// Whether anything may be placed there now.
    pub open: bool,
    /// Whether its node can weigh container VMs against each other.
    pub shares: bool,
}

/// What few decisions look at.
#[derive(Clone, Debug)]
pub struct Cold {
    pub facts: Arc<HostFacts>,
    /// Numbers of the datastores that it reaches.
    pub stores: Box<[u32]>,
    pub held: Held,
    /// Memory that may be reserved.
    pub reservable: Bytes,
    /// What may be charged on each NUMA node.
    pub numa: Box<[Resources]>,
    /// Tickets that take reserved memory, countable things or NUMA nodes of it.
    pub tickets: Vec<u32>,
}

/// What tickets took of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taking {
    charge: Resources,
    count: u32,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub id: DatastoreId,
    pub limit: Bytes,
    /// With what tickets took.
    pub charged: Bytes,
    /// When its name, labels or size last changed.
    modified: u64,
    /// What tickets took.
    taken: Bytes,
    /// Leaves of the hosts that reach it.
    pub leaves: Box<[u32]>,
}

impl Store {
    pub fn free(&self) -> Bytes {
        self.limit.saturating_sub(self.charged)
    }

    /// All that may decide whether it takes a disk.
    pub fn books(&self) -> (Bytes, Bytes, u64) {
        (self.limit, self.charged, self.modified)
    }
}

/// What decides of a cluster.
#[derive(Clone, Debug)]
pub struct Policy {
    pub id: ClusterId,
    pub name: String,
    pub rank: Rank,
    pub guide: Guide,
    pub admission: Admission,
    /// What tickets took on its hosts.
    pub taken: Resources,
}

#[derive(Clone, Debug, Default)]
pub struct Dense {
    pub layout: Layout,
    /// By leaf.
    pub rows: Vec<Row>,
    /// By leaf.
    taking: Vec<Taking>,
    /// By leaf; `None` where no host is.
    pub cold: Vec<Option<Cold>>,
    pub stores: Vec<Store>,
    /// By cluster number.
    pub policies: Vec<Policy>,
    /// What the policies were read from.
    clusters: Vec<Cluster>,
}

impl Dense {
    pub fn of(fleet: &Fleet, guides: &Guides) -> Dense {
        let layout = Layout::of(fleet);
        let leaves = layout.hosts.len();
        let mut dense = Dense {
            rows: vec![Row { cluster: NONE, ..Row::default() }; leaves],
            taking: vec![Taking::default(); leaves],
            cold: vec![None; leaves],
            layout,
            ..Dense::default()
        };
        dense.read_policies(fleet, guides);
        for leaf in 0..leaves {
            let host = dense.layout.hosts[leaf].and_then(|id| fleet.host(id));
            if let Some(host) = host {
                dense.cold[leaf] = Some(dense.cold_of(fleet, host));
                dense.rows[leaf] = dense.row_of(fleet, host, leaf);
            }
        }
        dense.stores = fleet.datastores().map(|store| dense.store_of(fleet, store)).collect();
        dense
    }

    /// Takes over what packing has learned.
    pub fn read_guides(&mut self, guides: &Guides) {
        for policy in &mut self.policies {
            policy.guide = guides.of(policy.id).clone();
        }
    }

    fn read_policies(&mut self, fleet: &Fleet, guides: &Guides) {
        let ids = self.layout.clusters.buckets.iter().map(|bucket| ClusterId::from_bytes(bucket.0));
        let clusters = ids.map(|id| policy_of(guides, id, fleet.cluster(id)));
        self.policies = clusters.collect();
        self.clusters = fleet.clusters().cloned().collect();
    }

    /// Whether the fleet has the clusters and policies that were read.
    pub fn has_policies_of(&self, fleet: &Fleet) -> bool {
        self.clusters.iter().eq(fleet.clusters())
    }

    /// Takes over a host that is where it was, its size and facts too. What tickets took is added
    /// by `read_host`.
    pub fn read_whole_host(&mut self, fleet: &Fleet, host: &Host, leaf: usize) {
        let tickets = self.cold[leaf].take().map_or_else(Vec::new, |cold| cold.tickets);
        self.cold[leaf] = Some(Cold { tickets, ..self.cold_of(fleet, host) });
        self.rows[leaf] = self.row_of(fleet, host, leaf);
    }

    /// Opens and shuts hosts that are kept for the loss of others, as the fleet does when one is
    /// lost or comes back; says which changed.
    pub fn open_again(&mut self, fleet: &Fleet) -> Vec<usize> {
        let mut changed = Vec::new();
        for (leaf, id) in self.layout.taken() {
            let keeps = self
                .policy(leaf)
                .is_some_and(|policy| matches!(policy.admission, Admission::FailoverHosts { .. }));
            if !keeps {
                continue;
            }
            let open = fleet.stand(id).is_some_and(|stand| stand.open);
            if self.rows[leaf].open != open {
                changed.push(leaf);
            }
        }
        for leaf in &changed {
            self.rows[*leaf].open = !self.rows[*leaf].open;
        }
        changed
    }

    fn cold_of(&self, fleet: &Fleet, host: &Host) -> Cold {
        let reached = host.facts.datastores.keys();
        let policy = fleet.cluster(host.cluster).map(|cluster| &cluster.policy);
        let numa = host.facts.supply.numa.iter().take(NumaNodes::MAX);
        let numa = numa.map(|node| limit_of_node(policy, node.capacity));
        Cold {
            facts: Arc::clone(&host.facts),
            stores: reached.filter_map(|id| Some(self.layout.store(*id)? as u32)).collect(),
            held: host.held.clone(),
            reservable: fleet.reservable_on_host(host),
            numa: numa.collect(),
            tickets: Vec::new(),
        }
    }

    fn row_of(&self, fleet: &Fleet, host: &Host, leaf: usize) -> Row {
        Row {
            limit: fleet.limit_of_host(host),
            charged: host.charged,
            overhead: host.facts.vm_overhead,
            placed: host.placed,
            cluster: self.layout.clusters.of_leaf[leaf],
            open: fleet.stand(host.id).is_some_and(|stand| stand.open),
            shares: host.facts.supply.shares,
            only_store: self.cold[leaf].as_ref().map_or(NONE, |cold| match &*cold.stores {
                [only] => *only,
                _ => NONE,
            }),
        }
    }

    fn store_of(&self, fleet: &Fleet, datastore: &Datastore) -> Store {
        let leaves = datastore.hosts.iter().filter_map(|id| Some(self.layout.leaf(*id)? as u32));
        Store {
            id: datastore.id,
            limit: fleet.limit_of_datastore(datastore),
            charged: datastore.charged,
            modified: datastore.meta.modified,
            taken: Bytes::ZERO,
            leaves: leaves.collect(),
        }
    }

    /// Takes over what the fleet says of a host now, and adds what tickets took.
    pub fn read_host(&mut self, host: &Host, leaf: usize, tickets: &Tickets) {
        let row = &mut self.rows[leaf];
        let taking = &self.taking[leaf];
        row.charged = host.charged + taking.charge;
        row.placed = host.placed + taking.count;
        let Some(cold) = &mut self.cold[leaf] else { return };
        if cold.held != host.held {
            cold.held.clone_from(&host.held);
        }
        for number in std::mem::take(&mut cold.tickets) {
            if let Some(taken) = tickets.get(number) {
                cold.tickets.push(number);
                add_things(cold, taken);
            }
        }
    }

    /// The same of a datastore.
    pub fn read_store(&mut self, fleet: &Fleet, datastore: &Datastore, number: usize) {
        let store = &mut self.stores[number];
        store.limit = fleet.limit_of_datastore(datastore);
        store.charged = datastore.charged + store.taken;
        store.modified = datastore.meta.modified;
    }

    /// Counts a new ticket everywhere.
    pub fn enter(&mut self, number: u32, taken: &Taken) {
        if let Some(row) = self.rows.get_mut(taken.leaf) {
            row.charged = row.charged + taken.charge;
            row.placed += taken.count;
            let taking = &mut self.taking[taken.leaf];
            taking.charge = taking.charge + taken.charge;
            taking.count += taken.count;
            if taken.has_things()
                && let Some(cold) = &mut self.cold[taken.leaf]
            {
                cold.tickets.push(number);
                add_things(cold, taken);
            }
        }
        if let Some(policy) = self.policies.get_mut(taken.cluster as usize) {
            policy.taken = policy.taken + taken.charge;
        }
        for (_, store, size) in &taken.disks {
            let Some(store) = self.stores.get_mut(*store as usize) else { continue };
            store.charged += *size;
            store.taken += *size;
        }
    }

    /// Forgets a ticket; the rows that it took of have to be read again.
    pub fn leave(&mut self, taken: &Taken) {
        if let Some(taking) = self.taking.get_mut(taken.leaf) {
            taking.charge = taking.charge - taken.charge;
            taking.count -= taken.count;
        }
        if let Some(policy) = self.policies.get_mut(taken.cluster as usize) {
            policy.taken = policy.taken - taken.charge;
        }
        for (_, store, size) in &taken.disks {
            if let Some(store) = self.stores.get_mut(*store as usize) {
                store.taken -= *size;
            }
        }
    }

    #[inline]
    pub fn policy(&self, leaf: usize) -> Option<&Policy> {
        self.policies.get(self.rows[leaf].cluster as usize)
    }

    #[inline]
    pub fn fill(&self, leaf: usize) -> Fill {
        let Row { limit, charged, placed, .. } = self.rows[leaf];
        Fill { limit, charged, placed }
    }
}

/// As `Fleet::limit_of_host` counts, for a part of a host.
fn limit_of_node(policy: Option<&ClusterPolicy>, capacity: Resources) -> Resources {
    let Some(policy) = policy else { return capacity };
    let left = |reserve: Permille| Permille(1000_u32.saturating_sub(reserve.0));
    Resources {
        cpu: capacity.cpu.permille(left(policy.cpu_reserve)).permille(policy.cpu_overcommit),
        memory: capacity
            .memory
            .permille(left(policy.memory_reserve))
            .permille(policy.memory_overcommit),
    }
}

fn add_things(cold: &mut Cold, taken: &Taken) {
    cold.held.reserved += taken.reserved;
    for (name, amount) in &taken.resources {
        *cold.held.resources.entry(name.clone()).or_default() += amount;
    }
    let nodes = cold.numa.len();
    for position in taken.numa.positions().filter(|position| *position < nodes) {
        if cold.held.numa.len() <= position {
            cold.held.numa.resize(position + 1, Resources::default());
        }
        cold.held.numa[position] = cold.held.numa[position] + taken.numa_share;
    }
}

fn policy_of(guides: &Guides, id: ClusterId, found: Option<&Cluster>) -> Policy {
    Policy {
        id,
        name: found.map_or_else(String::new, |cluster| cluster.name.clone()),
        rank: found.map_or(Strategy::Spread, |cluster| cluster.policy.strategy).into(),
        guide: guides.of(id).clone(),
        admission: found.map_or(Admission::Off, |cluster| cluster.policy.admission.clone()),
        taken: Resources::default(),
    }
}

//! Where each host stands among the leaves: by fault domain, then cluster, then id.
//!
//! A fault domain, and most often a cluster, is a range of leaves then, so that a search in it looks
//! at few blocks of the tree. Domains of a block's size or more begin with a block of their own;
//! the leaves left over between them hold no host.
//!
//! Promises: leaves with hosts are in the order of `score::host_order`. Does not: change; a fleet
//! whose hosts, domains or clusters changed gets a new layout.

use super::tree::BLOCK;
use crate::fleet::Fleet;
use crate::fleet::rules::Bucket;
use crate::placement::score::host_order;
use berth_model::{ClusterId, DatastoreId, Host, HostId, Scope};
use std::collections::BTreeMap;
use std::ops::Range;

/// No host, or no bucket.
pub const NONE: u32 = u32::MAX;
/// Of a block whose leaves are in several buckets.
pub const MIXED: u32 = u32::MAX - 1;

#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// By leaf.
    pub hosts: Vec<Option<HostId>>,
    leaves: Vec<(HostId, u32)>,
    /// In the order of their ids.
    pub stores: Vec<DatastoreId>,
    pub clusters: Axis,
    /// Fault domains by the name of their level.
    levels: BTreeMap<String, Axis>,
}

/// The buckets of one scope, numbered, and which leaves they hold.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    pub of_leaf: Vec<u32>,
    /// `MIXED` where the leaves of the block differ; leaves without a host do not count.
    pub of_block: Vec<u32>,
    pub buckets: Vec<Bucket>,
    /// From the first leaf to the last; others may lie between.
    pub hulls: Vec<Range<usize>>,
    numbers: BTreeMap<Bucket, u32>,
}

impl Axis {
    pub fn number(&self, bucket: Bucket) -> Option<usize> {
        self.numbers.get(&bucket).map(|number| *number as usize)
    }

    fn add(&mut self, leaf: usize, bucket: Bucket) {
        let next = self.buckets.len() as u32;
        let number = *self.numbers.entry(bucket).or_insert(next);
        if number == next {
            self.buckets.push(bucket);
            self.hulls.push(leaf..leaf + 1);
        }
        self.hulls[number as usize].end = leaf + 1;
        self.of_leaf[leaf] = number;
    }

    fn close(&mut self, hosts: &[Option<HostId>]) {
        let blocks = self.of_leaf.chunks(BLOCK).zip(hosts.chunks(BLOCK));
        self.of_block = blocks
            .map(|(numbers, hosts)| {
                let mut held = numbers.iter().zip(hosts).filter(|(_, host)| host.is_some());
                let first = held.next().map_or(NONE, |(number, _)| *number);
                if held.all(|(number, _)| *number == first) { first } else { MIXED }
            })
            .collect();
    }
}

impl Layout {
    pub fn of(fleet: &Fleet) -> Layout {
        let mut sorted: Vec<&Host> = fleet.hosts().collect();
        sorted.sort_by_key(|host| host_order(host));
        let mut layout = Layout {
            stores: fleet.datastores().map(|store| store.id).collect(),
            ..Layout::default()
        };
        let stand = |host: &Host| (host.facts.supply.domain.clone(), host.cluster);
        for group in sorted.chunk_by(|a, b| stand(a) == stand(b)) {
            if group.len() >= BLOCK {
                layout.hosts.resize(layout.hosts.len().next_multiple_of(BLOCK), None);
            }
            layout.hosts.extend(group.iter().map(|host| Some(host.id)));
        }
        layout.hosts.resize(layout.hosts.len().next_multiple_of(BLOCK), None);
        layout.number(fleet);
        layout
    }

    fn number(&mut self, fleet: &Fleet) {
        let size = self.hosts.len();
        let axis = move || Axis { of_leaf: vec![NONE; size], ..Axis::default() };
        self.clusters = Axis { of_leaf: vec![NONE; size], ..Axis::default() };
        for (leaf, id) in self.hosts.iter().enumerate() {
            let Some(host) = id.and_then(|id| fleet.host(id)) else { continue };
            self.leaves.push((host.id, leaf as u32));
            self.clusters.add(leaf, Bucket::cluster(host.cluster));
            let path = &host.facts.supply.domain;
            for (depth, (level, _)) in path.iter().enumerate() {
                let domains = self.levels.entry(level.clone()).or_insert_with(axis);
                domains.add(leaf, Bucket::domain(&path[..=depth]));
            }
        }
        self.leaves.sort_unstable();
        self.clusters.close(&self.hosts);
        for domains in self.levels.values_mut() {
            domains.close(&self.hosts);
        }
    }

    pub fn leaf(&self, host: HostId) -> Option<usize> {
        let at = self.leaves.binary_search_by_key(&host, |(id, _)| *id).ok()?;
        Some(self.leaves[at].1 as usize)
    }

    /// The leaves of hosts in the order of their ids; each search goes on where the one before
    /// ended.
    pub fn leaves_of<'a>(
        &'a self,
        hosts: &'a [HostId],
    ) -> impl Iterator<Item = (HostId, Option<usize>)> + 'a {
        let mut from = 0;
        hosts.iter().map(move |host| {
            let rest = &self.leaves[from..];
            // Doubling steps first: the next is seldom far.
            let mut step = 1;
            while rest.get(step).is_some_and(|(id, _)| id < host) {
                step *= 2;
            }
            let near = &rest[..rest.len().min(step + 1)];
            match near.binary_search_by_key(host, |(id, _)| *id) {
                Ok(at) => {
                    from += at;
                    (*host, Some(near[at].1 as usize))
                }
                Err(at) => {
                    from += at;
                    (*host, None)
                }
            }
        })
    }

    pub fn store(&self, datastore: DatastoreId) -> Option<usize> {
        self.stores.binary_search(&datastore).ok()
    }

    /// Leaves with a host, in their order.
    pub fn taken(&self) -> impl Iterator<Item = (usize, HostId)> {
        self.hosts.iter().enumerate().filter_map(|(leaf, id)| Some((leaf, (*id)?)))
    }

    pub fn cluster_range(&self, cluster: ClusterId) -> Range<usize> {
        let number = self.clusters.number(Bucket::cluster(cluster));
        number.map_or(0..0, |number| self.clusters.hulls[number].clone())
    }

    /// `None` for scopes whose buckets are the leaves themselves or no leaves at all, and for a
    /// level that no host has.
    pub fn axis(&self, scope: &Scope) -> Option<&Axis> {
        match scope {
            Scope::Cluster => Some(&self.clusters),
            Scope::Domain(level) => self.levels.get(level),
            Scope::Host | Scope::Datastore => None,
        }
    }
}

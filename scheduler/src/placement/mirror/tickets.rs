//! Decisions that are on their way: they count here although the fleet does not show them yet.
//!
//! Promises: what a ticket took is given back when it is settled and the next fleet is taken over,
//! neither earlier nor later. Does not: know whether the decision was committed; the fleet tells.

use super::dense::Row;
use super::layout::{Layout, NONE};
use crate::fleet::admit::numa_share;
use crate::fleet::rules::{Bucket, GroupKey, Spoken};
use crate::placement::keeping::Newcomer;
use berth_model::{Bytes, DatastoreId, Demand, EndpointId, HostId, NumaNodes, Resources, Usage};
use std::collections::BTreeMap;

/// A decision that the mirror counts until it is settled.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) u32);

/// What one decision took.
#[derive(Clone, Debug)]
pub struct Taken {
    pub host: HostId,
    /// Beyond all leaves where the host is gone.
    pub leaf: usize,
    /// Its number.
    pub cluster: u32,
    pub charge: Resources,
    pub reserved: Bytes,
    pub resources: BTreeMap<String, u64>,
    pub numa: NumaNodes,
    /// On each of the nodes.
    pub numa_share: Resources,
    /// How many more stand on the host: one, or none where only disks are taken.
    pub count: u32,
    /// Datastores, their numbers, and what is taken there.
    pub disks: Vec<(DatastoreId, u32, Bytes)>,
    pub endpoint: EndpointId,
    pub usage: Usage,
    pub labels: BTreeMap<String, String>,
    pub groups: Vec<Counts>,
    /// For restart plans; `None` where only disks are taken.
    pub kept: Option<Box<KeptTicket>>,
}

/// What restart plans look at.
#[derive(Clone, Debug)]
pub struct KeptTicket {
    pub demand: Demand,
    pub seed: u64,
    pub delta: Option<DatastoreId>,
    pub disks: Vec<DatastoreId>,
}

impl Taken {
    /// As what a cluster keeps is judged by.
    pub fn newcomer(&self) -> Option<Newcomer<'_>> {
        let kept = self.kept.as_deref()?;
        Some(Newcomer {
            endpoint: self.endpoint,
            demand: &kept.demand,
            labels: &self.labels,
            seed: kept.seed,
            charge: self.charge,
            delta: kept.delta,
            disks: kept.disks.clone(),
            bound: kept.demand.host.is_some(),
        })
    }

    /// Whether it takes reserved memory, countable things or NUMA nodes.
    pub fn has_things(&self) -> bool {
        self.reserved > Bytes::ZERO || !self.resources.is_empty() || !self.numa.is_empty()
    }
}

/// The counts of a rule that one is in, as what, and in which buckets.
pub type Counts = (GroupKey, Spoken, Vec<Bucket>);

/// Tickets by number; numbers are used again.
#[derive(Debug, Default)]
pub struct Tickets {
    slots: Vec<Option<Taken>>,
    vacant: Vec<u32>,
    /// Given back with the next fleet.
    settled: Vec<u32>,
    pub usage: BTreeMap<EndpointId, Usage>,
    pub by_group: BTreeMap<GroupKey, Vec<u32>>,
}

impl Tickets {
    pub fn add(&mut self, taken: Taken) -> u32 {
        let number = self.vacant.pop().unwrap_or(self.slots.len() as u32);
        let usage = self.usage.entry(taken.endpoint).or_default();
        usage.cpu += taken.usage.cpu;
        usage.memory += taken.usage.memory;
        usage.disk += taken.usage.disk;
        usage.containers += taken.usage.containers;
        for (key, ..) in &taken.groups {
            self.by_group.entry(key.clone()).or_default().push(number);
        }
        match self.slots.get_mut(number as usize) {
            Some(slot) => *slot = Some(taken),
            None => self.slots.push(Some(taken)),
        }
        number
    }

    pub fn get(&self, number: u32) -> Option<&Taken> {
        self.slots.get(number as usize)?.as_ref()
    }

    /// All that count, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Taken)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    pub fn settle(&mut self, number: u32) {
        self.settled.push(number);
    }

    pub fn take_settled(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.settled)
    }

    pub fn remove(&mut self, number: u32) -> Option<Taken> {
        let taken = self.slots.get_mut(number as usize)?.take()?;
        if let Some(usage) = self.usage.get_mut(&taken.endpoint) {
            usage.cpu -= taken.usage.cpu;
            usage.memory -= taken.usage.memory;
            usage.disk -= taken.usage.disk;
            usage.containers -= taken.usage.containers;
        }
        for (key, ..) in &taken.groups {
            self.ungroup(key, number);
        }
        self.vacant.push(number);
        Some(taken)
    }

    /// The rules changed: it is in these counts now.
    pub fn regroup(&mut self, number: u32, groups: Vec<Counts>) {
        let Some(Some(taken)) = self.slots.get_mut(number as usize) else { return };
        let before = std::mem::replace(&mut taken.groups, groups);
        let after: Vec<GroupKey> = taken.groups.iter().map(|(key, ..)| key.clone()).collect();
        for (key, ..) in before {
            self.ungroup(&key, number);
        }
        for key in after {
            self.by_group.entry(key).or_default().push(number);
        }
    }

    fn ungroup(&mut self, key: &GroupKey, number: u32) {
        if let Some(numbers) = self.by_group.get_mut(key) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_group.remove(key);
            }
        }
    }

    /// Numbers of hosts and datastores as a new layout has them, and charges as they are now.
    pub fn move_to(&mut self, layout: &Layout, rows: &[Row]) {
        for taken in self.slots.iter_mut().flatten() {
            taken.leaf = layout.leaf(taken.host).unwrap_or(usize::MAX);
            taken.cluster = layout.clusters.of_leaf.get(taken.leaf).copied().unwrap_or(NONE);
            if let (Some(kept), Some(row)) = (&taken.kept, rows.get(taken.leaf)) {
                let charge = kept.demand.charge(row.overhead);
                if let Some(usage) = self.usage.get_mut(&taken.endpoint) {
                    usage.memory -= taken.usage.memory;
                    usage.memory += charge.memory;
                }
                taken.usage.memory = charge.memory;
                taken.charge = charge;
                taken.numa_share = numa_share(charge, taken.numa.count());
            }
            for (id, number, _) in &mut taken.disks {
                *number = layout.store(*id).map_or(NONE, |store| store as u32);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.len() == self.vacant.len()
    }
}

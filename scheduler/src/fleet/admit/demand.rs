//! Which demands can stand at all, wherever they would go.

use super::Disks;
use crate::fleet::Fleet;
use berth_model::{Bytes, Demand, MilliCpus, NumaNodes, Place, Rejection, Shares};
use std::collections::BTreeSet;

/// Most labels, networks or countable resources that one demand names of each.
const NAMED_MAX: usize = 64;

impl Fleet {
    /// Says what is wrong with a demand: values out of range, and things that are not there.
    pub(in super::super) fn check_demand(&self, demand: &Demand) -> Result<(), Rejection> {
        check_sizes(demand)?;
        check_named(demand)?;
        if let Some(cluster) = demand.cluster.filter(|id| !self.clusters.contains_key(id)) {
            return Err(Rejection::NoSuchCluster(cluster.to_string()));
        }
        if demand.host.is_some_and(|id| !self.hosts.contains_key(&id)) {
            return Err(Rejection::NoSuchHost);
        }
        let pinned = demand.disks.iter().filter_map(|disk| disk.datastore);
        let mut pinned = demand.datastore.into_iter().chain(pinned);
        match pinned.find(|id| !self.datastores.contains_key(id)) {
            Some(datastore) => Err(Rejection::NoSuchDatastore(datastore)),
            None => Ok(()),
        }
    }
}

/// Whether a place names what the demand needs named, no more and no less.
pub(in super::super) fn check_shape(demand: &Demand, place: &Place) -> Result<(), Rejection> {
    if place.delta.is_some() != (demand.disk > Bytes::ZERO) {
        return Err(invalid("place", "delta", "a datastore for the delta if there is one"));
    }
    if place.disks.len() != demand.disks.len() {
        let got = place.disks.len().to_string();
        return Err(invalid("place", &got, "one datastore for each disk of the demand"));
    }
    if demand.numa.is_none() && place.numa != NumaNodes::NONE {
        return Err(invalid("place", "numa", "NUMA nodes only for a demand that binds to them"));
    }
    Ok(())
}

impl<'a> Disks<'a> {
    pub fn of(place: &'a Place) -> Self {
        Disks::At(&place.disks)
    }
}

fn check_sizes(demand: &Demand) -> Result<(), Rejection> {
    if demand.cpu == MilliCpus::ZERO {
        return Err(invalid("cpu demand", "0", "more than zero"));
    }
    if demand.memory == Bytes::ZERO && demand.machine_memory.is_none() {
        return Err(invalid("memory demand", "0", "more than zero"));
    }
    if demand.machine_memory.is_some_and(|whole| whole < demand.memory || whole == Bytes::ZERO) {
        let rule = "more than zero, and no less than the container's memory";
        return Err(invalid("machine memory", &demand.memory_class().to_string(), rule));
    }
    if demand.memory_reservation > demand.memory_class() {
        let value = demand.memory_reservation.to_string();
        let rule = format!("at most the container VM's memory of {}", demand.memory_class());
        return Err(invalid("memory reservation", &value, &rule));
    }
    if demand.numa.is_some_and(|width| !(1..=2).contains(&width)) {
        let value = demand.numa.unwrap_or_default().to_string();
        return Err(invalid("NUMA width", &value, "1 or 2"));
    }
    if demand.priority.unsigned_abs() > Demand::PRIORITY_MAX.unsigned_abs() {
        return Err(invalid("priority", &demand.priority.to_string(), "-1000 to 1000"));
    }
    let Shares { cpu, memory } = demand.shares;
    for (what, share) in [("cpu shares", cpu), ("memory shares", memory)] {
        if share.is_some_and(|share| !(1..=10_000).contains(&share)) {
            let value = share.unwrap_or_default().to_string();
            return Err(invalid(what, &value, "1 to 10000"));
        }
    }
    Ok(())
}

fn check_named(demand: &Demand) -> Result<(), Rejection> {
    if demand.disks.len() > Demand::DISKS_MAX {
        let rule = format!("at most {}", Demand::DISKS_MAX);
        return Err(invalid("number of disks", &demand.disks.len().to_string(), &rule));
    }
    let mut names = BTreeSet::new();
    for disk in &demand.disks {
        if disk.name.is_empty() || disk.name.len() > 255 || !names.insert(&disk.name) {
            return Err(invalid("disk name", &disk.name, "1 to 255 characters, each once"));
        }
        if disk.size == Bytes::ZERO {
            return Err(invalid("disk size", "0", "more than zero"));
        }
    }
    let labels = demand.disks.iter().map(|disk| disk.labels.len());
    let counts = [
        demand.resources.len(),
        demand.networks.len(),
        demand.host_labels.len(),
        demand.datastore_labels.len(),
    ];
    if let Some(most) = labels.chain(counts).max().filter(|most| *most > NAMED_MAX) {
        let rule = format!("at most {NAMED_MAX} labels, networks and resources of each");
        return Err(invalid("demand", &most.to_string(), &rule));
    }
    match demand.resources.iter().find(|(name, amount)| name.is_empty() || **amount == 0) {
        Some((name, _)) => {
            Err(invalid("resource demand", name, "a name, and an amount of more than zero"))
        }
        None => Ok(()),
    }
}

fn invalid(what: &str, value: &str, rule: &str) -> Rejection {
    Rejection::Invalid {
        what: what.to_owned(),
        value: value.chars().take(80).collect(),
        rule: rule.to_owned(),
    }
}

//! What must hold of a fleet after every command, for tests and simulations.

use super::Fleet;
use super::admit::numa_share;
use super::indexes::{Indexes, assigned_host, disks_of};
use berth_model::{Bytes, Demand, Held, HostId, NumaNodes, Place, Resources, VmState};
use std::collections::BTreeMap;

impl Fleet {
    /// Names the first invariant that does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_sums()?;
        self.check_references()?;
        self.check_indexes()
    }

    /// Sums equal their parts.
    fn check_sums(&self) -> Result<(), String> {
        let mut on_hosts: BTreeMap<HostId, Sum> = BTreeMap::new();
        let mut on_datastores = BTreeMap::new();
        for vm in self.containers() {
            if let Some((host, charge)) = vm.state.charged() {
                on_hosts.entry(host).or_default().add(charge, vm.numa, &vm.spec.demand);
            }
            if let Some(datastore) = vm.datastore {
                *on_datastores.entry(datastore).or_insert(Bytes::ZERO) += vm.spec.demand.disk;
            }
        }
        for held in self.reservations() {
            let Place { host, numa, .. } = &held.place;
            on_hosts.entry(*host).or_default().add(held.charge, *numa, &held.wish.demand);
            for (datastore, size) in disks_of(held) {
                *on_datastores.entry(datastore).or_insert(Bytes::ZERO) += size;
            }
        }
        for host in self.hosts() {
            let sum = on_hosts.remove(&host.id).unwrap_or_default();
            let kept = Sum { charged: host.charged, placed: host.placed, held: host.held.clone() };
            if kept != sum {
                return Err(format!("{} says {kept:?}, its parts sum up to {sum:?}", host.id));
            }
        }
        for datastore in self.datastores() {
            let sum = on_datastores.remove(&datastore.id).unwrap_or_default();
            if datastore.charged != sum {
                let id = datastore.id;
                return Err(format!("{id} says {}, disks sum up to {sum}", datastore.charged));
            }
        }
        match (on_hosts.first_key_value(), on_datastores.first_key_value()) {
            (None, None) => Ok(()),
            (host, datastore) => {
                Err(format!("charged on what is unknown: {host:?}, {datastore:?}"))
            }
        }
    }

    /// What objects point at is there, and points back where it should.
    fn check_references(&self) -> Result<(), String> {
        for host in self.hosts() {
            if self.cluster(host.cluster).is_none() {
                return Err(format!("{} is in an unknown cluster", host.id));
            }
            for id in host.facts.datastores.keys() {
                if !self.datastore(*id).is_some_and(|store| store.hosts.contains(&host.id)) {
                    return Err(format!("{} reaches {id}, which does not say so", host.id));
                }
            }
        }
        for datastore in self.datastores() {
            for id in datastore.hosts.iter() {
                let host = self.host(*id);
                if !host.is_some_and(|host| host.facts.datastores.contains_key(&datastore.id)) {
                    return Err(format!("{} says that {id} reaches it", datastore.id));
                }
            }
        }
        for vm in self.containers() {
            let placed = assigned_host(&vm.state).is_some();
            if placed && (vm.datastore.is_none() || vm.epoch.0 == 0) {
                return Err(format!("{} is on a host without datastore or epoch", vm.id));
            }
            if self.departed(vm.id).is_some() {
                return Err(format!("{} is both there and gone", vm.id));
            }
            let runs = matches!(vm.state, VmState::Starting { .. } | VmState::Running { .. });
            if vm.displaced && !runs || vm.state.charged().is_none() && !vm.numa.is_empty() {
                return Err(format!("{} is displaced or bound where it is not placed", vm.id));
            }
            if let Some(id) = vm.reservation
                && self.indexes.claims.get(&id) != Some(&vm.id)
            {
                return Err(format!("{} claims {id}, which is not its own", vm.id));
            }
        }
        for held in self.reservations() {
            if held.expires_at.is_some_and(|until| until <= self.time) {
                return Err(format!("the time of {} is over", held.id));
            }
        }
        Ok(())
    }

    /// Names and indexes are those that the objects give.
    fn check_indexes(&self) -> Result<(), String> {
        let mut fresh = self.clone();
        fresh.rebuild();
        if fresh.names != self.names {
            return Err(format!("names are {:?}, should be {:?}", self.names, fresh.names));
        }
        let timeless = |indexes: &Indexes| Indexes {
            host_changes: Default::default(),
            opportunity: 0,
            topology: (0, 0),
            ..indexes.clone()
        };
        if timeless(&fresh.indexes) != timeless(&self.indexes) {
            return Err(format!("indexes are {:?}, should be {:?}", self.indexes, fresh.indexes));
        }
        for (kept, fresh) in self.hosts.values().zip(fresh.hosts.values()) {
            if (&kept.vms, &kept.reserved) != (&fresh.vms, &fresh.reserved) {
                return Err(format!("{kept:?} should list {fresh:?}"));
            }
            if !self.indexes.host_changes.contains(&(kept.changed, kept.id)) {
                return Err(format!("{} is not found by its last change", kept.id));
            }
        }
        if self.indexes.host_changes.len() != self.hosts.len() {
            return Err("some host is found by an older change".to_owned());
        }
        if fresh.levels != self.levels {
            return Err(format!("levels are {:?}, should be {:?}", self.levels, fresh.levels));
        }
        if fresh.groups != self.groups {
            return Err(format!("counts are {:?}, should be {:?}", self.groups, fresh.groups));
        }
        if fresh.hash != self.hash {
            return Err("the state hash is not that of the state".to_owned());
        }
        Ok(())
    }
}

/// What is held on one host.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    charged: Resources,
    placed: u32,
    held: Held,
}

impl Sum {
    fn add(&mut self, charge: Resources, numa: NumaNodes, demand: &Demand) {
        self.charged = self.charged + charge;
        self.placed += 1;
        self.held.reserved += demand.memory_reservation;
        for (name, amount) in &demand.resources {
            *self.held.resources.entry(name.clone()).or_default() += amount;
        }
        for position in numa.positions() {
            if self.held.numa.len() <= position {
                self.held.numa.resize(position + 1, Resources::default());
            }
            let share = numa_share(charge, numa.count());
            self.held.numa[position] = self.held.numa[position] + share;
        }
    }
}

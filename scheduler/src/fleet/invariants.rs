//! What must hold of a fleet after every command, for tests and simulations.

use super::Fleet;
use super::ledger::{Indexes, assigned_host};
use berth_model::{Bytes, HostId, Resources};
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
        let mut on_hosts: BTreeMap<HostId, (Resources, u32)> = BTreeMap::new();
        let mut on_datastores = BTreeMap::new();
        for vm in self.containers() {
            if let Some((host, charge)) = vm.state.charged() {
                let (sum, count) = on_hosts.entry(host).or_default();
                *sum = *sum + charge;
                *count += 1;
            }
            if let Some(datastore) = vm.datastore {
                *on_datastores.entry(datastore).or_insert(Bytes::ZERO) += vm.spec.demand.disk;
            }
        }
        for host in self.hosts() {
            let (sum, count) = on_hosts.remove(&host.id).unwrap_or_default();
            if host.charged != sum || host.placed != count {
                return Err(format!(
                    "{} says {:?} for {} container VMs, they sum up to {sum:?} for {count}",
                    host.id, host.charged, host.placed
                ));
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
            for id in &datastore.hosts {
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
            host_changed: Default::default(),
            opportunity: 0,
            ..indexes.clone()
        };
        if timeless(&fresh.indexes) != timeless(&self.indexes) {
            return Err(format!("indexes are {:?}, should be {:?}", self.indexes, fresh.indexes));
        }
        Ok(())
    }
}

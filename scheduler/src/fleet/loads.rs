//! Hosts as they enter, change and leave, and what a cluster's hosts have together.
//!
//! Promises: sums over a cluster's hosts equal their parts, and where hosts stand follows from their
//! facts and the policies (checked by `invariants`). Does not: touch what is charged; the ledger
//! does.

use super::indexes::HostRecord;
use super::rules::Way;
use super::{Fleet, hash};
use berth_model::{ClusterId, Host, HostId, HostState};
use std::sync::Arc;

impl Fleet {
    /// Puts a host in place of what was known of it, with the same charges.
    pub(super) fn put_host(&mut self, host: Host) {
        let id = host.id;
        let cluster = host.cluster;
        let before = self.hosts.get(&id).cloned();
        if let Some(before) = &before {
            self.hash.take(hash::host(before));
            self.hash.take(hash::host_charge(before));
            self.indexes.hosts.take(before);
            self.load_host(before, Way::Out);
        }
        self.hash.add(hash::host(&host));
        self.hash.add(hash::host_charge(&host));
        self.indexes.hosts.add(&host);
        self.load_host(&host, Way::In);
        match self.hosts.get_mut(&id) {
            Some(record) => Arc::make_mut(record).host = host,
            None => {
                let record = HostRecord::new(host);
                self.indexes.host_changes.insert((record.changed, id));
                self.hosts.insert(id, Arc::new(record));
            }
        }
        self.restand(id);
        self.restand_kept(cluster);
        if let Some(before) = before.filter(|before| before.cluster != cluster) {
            self.restand_kept(before.cluster);
        }
    }

    /// Takes out a host that holds nothing.
    pub(super) fn take_host(&mut self, host: &Host) {
        self.hash.take(hash::host(host));
        self.hash.take(hash::host_charge(host));
        self.indexes.hosts.take(host);
        self.load_host(host, Way::Out);
        self.levels.take(host.id);
        if let Some(record) = self.hosts.remove(&host.id) {
            self.indexes.host_changes.remove(&(record.changed, host.id));
        }
        self.restand_kept(host.cluster);
        self.topology_changed();
    }

    /// Whether failover hosts are kept depends on the others of their cluster.
    fn restand_kept(&mut self, cluster: ClusterId) {
        let Some(cluster) = self.clusters.get(&cluster) else { return };
        let kept = super::admit::kept_hosts(&cluster.policy.admission).cloned();
        for host in kept.unwrap_or_default() {
            self.restand(host);
        }
    }

    /// What the host adds to its cluster's load, by the policy as it stands.
    fn load_host(&mut self, host: &Host, way: Way) {
        if !is_available(host) {
            return;
        }
        let limit = self.limit_of_host(host);
        let load = self.indexes.loads.entry(host.cluster).or_default();
        match way {
            Way::In => {
                load.limit = load.limit + limit;
                load.charged = load.charged + host.charged;
            }
            Way::Out => {
                load.limit = load.limit - limit;
                load.charged = load.charged - host.charged;
            }
        }
        load.hosts = match way {
            Way::In => load.hosts + 1,
            Way::Out => load.hosts - 1,
        };
        if load.hosts == 0 {
            self.indexes.loads.remove(&host.cluster);
        }
    }

    /// The load of a cluster from nothing: its policy changed.
    pub(super) fn reload_cluster(&mut self, cluster: ClusterId) {
        self.indexes.loads.remove(&cluster);
        let hosts: Vec<HostId> = self.levels.hosts_of(cluster).collect();
        for id in hosts {
            if let Some(host) = self.hosts.get(&id).cloned() {
                self.load_host(&host, Way::In);
            }
        }
    }
}

/// Whether what the host has counts for its cluster.
pub(super) fn is_available(host: &Host) -> bool {
    match host.state {
        HostState::Connected { .. } => !host.maintenance,
        HostState::Silent { .. } => false,
    }
}

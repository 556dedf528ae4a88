//! What hosts give: hosts, datastores, networks.

use super::{cell_name, cluster_name, host_name, meta, resources};
use berth_model::view::{DatastoreView, DomainView, HostView, NetworkView, NumaNodeView};
use berth_model::{Datastore, Host, HostState};
use berth_scheduler::Fleet;
use std::collections::BTreeMap;

pub fn host(fleet: &Fleet, host: &Host) -> HostView {
    let (state, since) = match host.state {
        HostState::Connected { since } => ("connected", since),
        HostState::Silent { since } => ("silent", since),
    };
    let facts = &host.facts;
    let mut shown = meta(fleet, &host.meta);
    shown.labels.extend(facts.labels.clone());
    let numa = facts.supply.numa.iter().enumerate().map(|(position, node)| NumaNodeView {
        id: node.id,
        capacity: resources(node.capacity),
        charged: resources(host.held.numa.get(position).copied().unwrap_or_default()),
    });
    let domain = facts.supply.domain.iter();
    HostView {
        id: host.id.to_string(),
        name: facts.name.clone(),
        meta: shown,
        cluster: cluster_name(fleet, host.cluster),
        state: state.to_owned(),
        state_since_ms: since.0,
        maintenance: host.maintenance,
        capacity: resources(facts.capacity),
        charged: resources(host.charged),
        reserved_memory_bytes: host.held.reserved.0,
        placed: host.placed,
        vm_overhead_bytes: facts.vm_overhead.0,
        accelerator: facts.accelerator,
        datastores: facts.datastores.values().map(|facts| facts.name.clone()).collect(),
        networks: facts.supply.networks.iter().cloned().collect(),
        domain: domain
            .map(|(level, name)| DomainView { level: level.clone(), name: name.clone() })
            .collect(),
        cores: facts.supply.cores,
        threads: facts.supply.threads,
        numa: numa.collect(),
        resources: facts.supply.resources.clone(),
        resources_held: host.held.resources.clone(),
        shares: facts.supply.shares,
        kernel: facts.kernel.clone(),
        hypervisor: facts.hypervisor.clone(),
        build: facts.build.clone(),
        stream_address: facts.stream_address.clone(),
    }
}

pub fn datastore(fleet: &Fleet, datastore: &Datastore) -> DatastoreView {
    DatastoreView {
        id: datastore.id.to_string(),
        name: datastore.name.clone(),
        meta: meta(fleet, &datastore.meta),
        class: datastore.class.clone(),
        capacity_bytes: datastore.capacity.0,
        free_bytes: datastore.free.0,
        charged_bytes: datastore.charged.0,
        hosts: datastore.hosts.iter().map(|id| host_name(fleet, *id)).collect(),
    }
}

/// Every network that a host reaches, by name.
pub fn networks(fleet: &Fleet) -> BTreeMap<String, NetworkView> {
    let mut networks: BTreeMap<String, NetworkView> = BTreeMap::new();
    for host in fleet.hosts() {
        for name in &host.facts.supply.networks {
            let network = networks.entry(name.clone()).or_insert_with(|| NetworkView {
                cell: cell_name(fleet),
                name: name.clone(),
                hosts: Vec::new(),
            });
            network.hosts.push(host.facts.name.clone());
        }
    }
    networks
}

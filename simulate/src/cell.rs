//! Cells of benchmarks that hold no containers: hosts and policies, ready to be set up.
//!
//! Promises: the same for the same arguments; ids of hosts are in the order of their numbers.
//! Does not: choose sizes; `made_up` and the traces do.

use berth_model::command::{Bootstrap, CommandBody};
use berth_model::endpoint::EndpointDefaults;
use berth_model::host::Accelerator;
use berth_model::{
    Bytes, CellId, ClusterId, ClusterPolicy, EndpointId, HostFacts, HostId, Permille, Resources,
    Strategy, Supply,
};
use std::collections::BTreeMap;

/// The one tenant of every benchmark.
pub const ENDPOINT: EndpointId = EndpointId::from_bytes([1; 16]);
/// Where hosts are that name no other.
pub const CLUSTER: &str = "cluster-0";
/// What the tenant is called.
pub const ENDPOINT_NAME: &str = "bench";

#[derive(Clone, Debug)]
pub struct Cell {
    pub clusters: Vec<(String, ClusterPolicy)>,
    pub hosts: Vec<(HostId, HostFacts)>,
}

impl Cell {
    /// One cluster of these hosts, whose names are made unique by their number.
    pub fn of(facts: impl IntoIterator<Item = HostFacts>, policy: ClusterPolicy) -> Cell {
        let numbered = (0..).zip(facts).map(|(number, mut facts)| {
            facts.name = format!("{}-{number}", facts.name);
            (host_id(number), facts)
        });
        Cell { clusters: vec![(CLUSTER.to_owned(), policy)], hosts: numbered.collect() }
    }

    /// The commands that set it up, in order.
    pub fn commands(self) -> impl Iterator<Item = CommandBody> {
        let clusters = (1_u32..).zip(self.clusters);
        let clusters = clusters.map(|(number, (name, policy))| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            (ClusterId::from_bytes(id), name, policy)
        });
        let bootstrap = Bootstrap {
            cell: CellId::from_bytes([1; 16]),
            clusters: clusters.collect(),
            endpoints: vec![(ENDPOINT, ENDPOINT_NAME.to_owned(), EndpointDefaults::default())],
        };
        let seen = |(host, facts)| CommandBody::HostSeen { host, facts: Box::new(facts) };
        std::iter::once(CommandBody::Bootstrap(bootstrap)).chain(self.hosts.into_iter().map(seen))
    }
}

/// A policy under which a host holds what it has and no more.
pub fn policy(strategy: Strategy) -> ClusterPolicy {
    ClusterPolicy { strategy, cpu_overcommit: Permille(1000), ..ClusterPolicy::default() }
}

/// A host with nothing but cpu and memory.
pub fn facts(name: String, capacity: Resources, vm_overhead: Bytes) -> HostFacts {
    HostFacts {
        name,
        cluster: CLUSTER.to_owned(),
        capacity,
        accelerator: Accelerator::Simulated,
        vm_overhead,
        datastores: BTreeMap::new(),
        stream_address: "127.0.0.1:1".to_owned(),
        boot_id: "simulated".to_owned(),
        kernel: "simulated".to_owned(),
        hypervisor: "simulated".to_owned(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        labels: BTreeMap::new(),
        supply: Supply::default(),
    }
}

/// In the order of the numbers.
pub fn host_id(number: u32) -> HostId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.saturating_add(1).to_be_bytes());
    HostId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_made_unique() {
        let one = facts("node".to_owned(), Resources::default(), Bytes::ZERO);
        let cell = Cell::of([one.clone(), one], policy(Strategy::Pack));
        let names: Vec<_> = cell.hosts.iter().map(|(_, facts)| facts.name.as_str()).collect();
        assert_eq!(names, ["node-0", "node-1"]);
        assert!(cell.hosts[0].0 < cell.hosts[1].0);
        assert_eq!(cell.commands().count(), 3);
    }
}

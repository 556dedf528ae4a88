//! The cell that benchmarks run on: made up, the same for the same seed.
//!
//! Clusters of up to 32 hosts that share two datastores, as clusters with shared storage are built.
//! A rack holds 16 hosts, a zone 16 racks. All hosts are equal in size, so that all container VMs
//! together fill a chosen share of them; every other one has local flash, as a label says.

use crate::cell::{self, Cell};
use berth_model::command::{NewContainer, NewImage};
use berth_model::container::{ContainerSpec, NetworkMode};
use berth_model::host::DatastoreFacts;
use berth_model::image::ImageConfig;
use berth_model::{
    Bytes, ClusterPolicy, ContainerId, DatastoreId, Demand, HostFacts, HostId, ImageId, MilliCpus,
    Permille, Resources, Strategy, Supply,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

/// The levels of fault domains, outermost first.
pub const ZONE: &str = "zone";
pub const RACK: &str = "rack";
/// The class of each cluster's first datastore.
pub const FAST: &str = "fast";
/// The label that every other host has, with the value `yes`.
pub const FLASH: &str = "flash";

const RACK_HOSTS: u32 = 16;
const ZONE_RACKS: u32 = 16;
/// Hosts of one cluster.
const CLUSTER_HOSTS: u32 = 32;
/// Datastores that all hosts of one cluster reach.
const CLUSTER_DATASTORES: u32 = 2;
pub const VM_OVERHEAD: Bytes = Bytes::mib(96);
pub const IMAGE: ImageId = ImageId::from_bytes([1; 32]);

/// How many shapes the mix has.
pub const SHAPES: u32 = 6;

/// What container VMs ask for, in turn: thousandths of a CPU, MiB of memory, GiB of disk.
const DEMANDS: [(u64, u64, u64); SHAPES as usize] = [
    (250, 128, 8),
    (500, 256, 8),
    (1000, 512, 8),
    (1000, 1024, 16),
    (2000, 2048, 16),
    (500, 512, 8),
];

#[derive(Clone, Debug)]
pub struct MadeUp {
    seed: u64,
    hosts: u32,
    capacity: Resources,
    datastore: Bytes,
}

impl MadeUp {
    /// `fill`: the share of all hosts' memory that `vms` container VMs take together. Hosts are
    /// never too small for the largest container VM, so fewer than that where there are few.
    pub fn new(hosts: u32, vms: u32, fill: Permille, seed: u64) -> Self {
        let charges: Vec<Resources> =
            (0..vms.max(1)).map(|number| demand(number).charge(VM_OVERHEAD)).collect();
        let cpu: MilliCpus = charges.iter().map(|charge| charge.cpu).sum();
        let memory: Bytes = charges.iter().map(|charge| charge.memory).sum();
        let largest = charges.iter().map(|charge| charge.memory).max().unwrap_or_default();
        let each = |all: u64| {
            (all.saturating_mul(1000) / u64::from(fill.0.max(1))).div_ceil(u64::from(hosts.max(1)))
        };
        let capacity = Resources {
            cpu: MilliCpus(each(cpu.0).max(4000)),
            memory: Bytes(each(memory.0)).max(largest),
        };
        let disk: Bytes = (0..vms.max(1)).map(|number| demand(number).disk).sum();
        let datastore = Bytes(disk.0.max(Bytes::gib(64).0));
        Self { seed, hosts, capacity, datastore }
    }

    /// Of each host.
    pub fn capacity(&self) -> Resources {
        self.capacity
    }

    pub fn clusters(&self) -> Vec<(String, ClusterPolicy)> {
        let policy = cell::policy(Strategy::Spread);
        (0..self.hosts.div_ceil(CLUSTER_HOSTS))
            .map(|number| (cluster_name(number), policy.clone()))
            .collect()
    }

    pub fn hosts(&self) -> impl Iterator<Item = (HostId, HostFacts)> {
        (0..self.hosts).map(|number| (cell::host_id(number), self.facts(number)))
    }

    fn facts(&self, number: u32) -> HostFacts {
        let cluster = number / CLUSTER_HOSTS;
        let datastores = (0..CLUSTER_DATASTORES).map(|which| {
            let facts = DatastoreFacts {
                name: format!("store-{cluster}-{which}"),
                capacity: self.datastore,
                free: self.datastore,
                class: if which == 0 { FAST.to_owned() } else { String::new() },
                labels: BTreeMap::new(),
            };
            (datastore_id(cluster, which), facts)
        });
        HostFacts {
            cluster: cluster_name(cluster),
            datastores: datastores.collect(),
            labels: labels(number),
            supply: Supply { domain: domain(number), ..Supply::default() },
            ..cell::facts(format!("host-{number}"), self.capacity, VM_OVERHEAD)
        }
    }

    /// For benchmarks in memory.
    pub fn cell(&self, strategy: Strategy) -> Cell {
        let clusters = self
            .clusters()
            .into_iter()
            .map(|(name, policy)| (name, ClusterPolicy { strategy, ..policy }));
        Cell { clusters: clusters.collect(), hosts: self.hosts().collect() }
    }

    /// The one image, once a datastore that it lies on: one of each cluster.
    pub fn images(&self) -> impl Iterator<Item = NewImage> {
        (0..self.hosts.div_ceil(CLUSTER_HOSTS)).map(|cluster| NewImage {
            id: IMAGE,
            references: vec!["bench:latest".to_owned()],
            config: ImageConfig::default(),
            document: "{}".to_owned(),
            size: Bytes::mib(4),
            datastore: datastore_id(cluster, 0),
        })
    }

    /// The container VM with this number.
    pub fn container(&self, number: u32) -> NewContainer {
        NewContainer {
            id: self.container_id(number),
            name: format!("vm-{number}"),
            spec: spec(demand(number)),
            labels: BTreeMap::new(),
            reservation: None,
        }
    }

    pub fn container_id(&self, number: u32) -> ContainerId {
        let mut source = StdRng::seed_from_u64(self.seed ^ (u64::from(number) << 32));
        ContainerId::random(&mut source)
    }
}

fn domain(number: u32) -> Vec<(String, String)> {
    let rack = number / RACK_HOSTS;
    let zone = rack / ZONE_RACKS;
    vec![(ZONE.to_owned(), format!("zone-{zone}")), (RACK.to_owned(), format!("rack-{rack}"))]
}

fn labels(number: u32) -> BTreeMap<String, String> {
    let flash = number.is_multiple_of(2);
    flash.then(|| (FLASH.to_owned(), "yes".to_owned())).into_iter().collect()
}

fn cluster_name(number: u32) -> String {
    format!("cluster-{number}")
}

fn datastore_id(cluster: u32, which: u32) -> DatastoreId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&(cluster * CLUSTER_DATASTORES + which + 1).to_be_bytes());
    DatastoreId::from_bytes(bytes)
}

/// What the container VM with this number needs.
pub fn demand(number: u32) -> Demand {
    let (cpu, memory, disk) = DEMANDS[number as usize % DEMANDS.len()];
    Demand {
        cpu: MilliCpus(cpu),
        memory: Bytes::mib(memory),
        disk: Bytes::gib(disk),
        ..Demand::default()
    }
}

fn spec(demand: Demand) -> ContainerSpec {
    ContainerSpec {
        image: IMAGE,
        image_reference: "bench:latest".to_owned(),
        entrypoint: Vec::new(),
        command: vec!["sleep".to_owned(), "infinity".to_owned()],
        environment: vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        ],
        working_directory: "/".to_owned(),
        user: String::new(),
        hostname: String::new(),
        domain_name: String::new(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        stop_signal: 15,
        stop_timeout_seconds: None,
        demand,
        network: NetworkMode::Egress,
        auto_remove: false,
        volumes: Vec::new(),
        exposed_ports: Vec::new(),
        extra_hosts: Vec::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        shm_size: Bytes::mib(64),
        labels: BTreeMap::new(),
        docker_request: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_holds_its_share_and_at_least_the_largest() {
        let made_up = MadeUp::new(10, 600, Permille(500), 1);
        let all: Bytes = (0..600).map(|n| demand(n).charge(VM_OVERHEAD).memory).sum();
        let (_, facts) = made_up.hosts().next().unwrap();
        assert!(facts.capacity.memory.0 * 10 >= all.0 * 2);
        let (_, small) = MadeUp::new(100, 6, Permille(850), 1).hosts().next().unwrap();
        assert!(small.capacity.memory >= demand(4).charge(VM_OVERHEAD).memory);
    }

    #[test]
    fn hosts_of_a_cluster_share_datastores_and_others_do_not() {
        let made_up = MadeUp::new(40, 1, Permille(500), 1);
        let stores = |number: u32| made_up.facts(number).datastores.into_keys().collect::<Vec<_>>();
        assert_eq!(stores(0), stores(31));
        assert!(stores(0).iter().all(|id| !stores(32).contains(id)));
        assert_eq!(made_up.clusters().len(), 2);
        assert_eq!(made_up.images().count(), 2);
    }

    #[test]
    fn ids_are_those_of_the_seed() {
        let one = MadeUp::new(1, 1, Permille(500), 7);
        assert_eq!(one.container_id(3), one.clone().container_id(3));
        assert_ne!(one.container_id(3), one.container_id(4));
        assert_ne!(one.container_id(3), MadeUp::new(1, 1, Permille(500), 8).container_id(3));
    }
}

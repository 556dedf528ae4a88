//! What this host is and has, as its node tells the leader.
//!
//! Promises: the same machine gives the same facts, so that only a change is told; what an option
//! says instead of the machine is taken at its word. Blocks on the slowest datastore.

use crate::datastore::Registrar;
use crate::options::Settings;
use crate::topology::Topology;
use berth_metrics::node::NodeMetrics;
use berth_model::host::{Accelerator, HostFacts, NumaNode, NumaNodes, Supply};
use berth_model::{Bytes, MilliCpus, Resources};
use std::fs;
use std::io;
use std::path::Path;

/// Memory of a hypervisor process beside its guest's, under QEMU's own translator. Measured with
/// Debian's cloud kernel: 217 MiB resident for a guest of 128 MiB, of which the translated code and
/// the blobs of kernel and initramfs are most.
const OVERHEAD_TCG: Bytes = Bytes::mib(96);
/// The same where the processor runs the guest: nothing is translated.
const OVERHEAD_KVM: Bytes = Bytes::mib(48);

/// What stays as it is while the node runs.
pub struct Machine {
    pub accelerator: Accelerator,
    /// Name and version of the hypervisor.
    pub hypervisor: String,
    /// `address:port` that schedulers dial for streams.
    pub stream_address: String,
    /// Whether container VMs are weighed against each other here.
    pub shares: bool,
}

pub struct Gatherer {
    settings: Settings,
    machine: Machine,
    registrar: Registrar,
    metrics: NodeMetrics,
}

/// The kernel does not say what every machine has.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path} of this machine")]
pub struct FactsError {
    path: &'static str,
    #[source]
    source: io::Error,
}

impl Gatherer {
    pub fn new(
        settings: Settings,
        machine: Machine,
        registrar: Registrar,
        metrics: NodeMetrics,
    ) -> Gatherer {
        Gatherer { settings, machine, registrar, metrics }
    }

    pub fn gather(&mut self) -> Result<HostFacts, FactsError> {
        let survey = self.registrar.survey();
        for (name, space) in &survey.space {
            self.metrics.datastore_is(name, *space);
        }
        let settings = &self.settings;
        let capacity = capacity(settings)?;
        Ok(HostFacts {
            name: settings.host_name.clone(),
            cluster: settings.cluster.clone(),
            capacity,
            accelerator: self.machine.accelerator,
            vm_overhead: overhead(self.machine.accelerator),
            datastores: survey.facts,
            stream_address: self.machine.stream_address.clone(),
            boot_id: read("/proc/sys/kernel/random/boot_id")?,
            kernel: read("/proc/sys/kernel/osrelease")?,
            hypervisor: self.machine.hypervisor.clone(),
            build: crate::BUILD.to_owned(),
            labels: settings.labels.clone(),
            supply: self.supply(capacity)?,
        })
    }

    fn supply(&self, capacity: Resources) -> Result<Supply, FactsError> {
        let settings = &self.settings;
        let topology = Topology::here()
            .map_err(|source| FactsError { path: crate::topology::SYSTEM, source })?;
        let numa = if settings.numa.is_empty() {
            numa_nodes(&topology, capacity)
        } else {
            settings.numa.clone()
        };
        Ok(Supply {
            cores: topology.cores,
            threads: topology.threads,
            numa,
            domain: settings.domain.clone(),
            networks: settings.networks.clone(),
            resources: settings.resources.clone(),
            shares: self.machine.shares,
        })
    }
}

/// Changes when the machine boots.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What container VMs may use of this host.
pub fn capacity(settings: &Settings) -> Result<Resources, FactsError> {
    let cpu = match settings.cpu {
        Some(cpu) => cpu,
        None => {
            MilliCpus::whole(std::thread::available_parallelism().map_or(1, |n| n.get() as u64))
        }
    };
    let memory = match settings.memory {
        Some(memory) => memory,
        None => total_memory(&read("/proc/meminfo")?).ok_or(FactsError {
            path: "/proc/meminfo",
            source: io::ErrorKind::InvalidData.into(),
        })?,
    };
    Ok(Resources {
        cpu: cpu.saturating_sub(settings.reserve_cpu),
        memory: memory.saturating_sub(settings.reserve_memory),
    })
}

/// Each NUMA node's share of what container VMs may use: as much of it as the machine's own memory
/// and processors lie there, so that the reserve is taken off all of them alike. What is rounded
/// off belongs to no node. Nodes without processors or memory bind nothing and are left out.
fn numa_nodes(topology: &Topology, capacity: Resources) -> Vec<NumaNode> {
    let processors: u64 = topology.nodes.iter().map(|node| node.processors.len() as u64).sum();
    let memory: Bytes = topology.nodes.iter().map(|node| node.memory).sum();
    let share = |whole: u64, part: u64, all: u64| {
        let share = u128::from(whole) * u128::from(part) / u128::from(all.max(1));
        u64::try_from(share).unwrap_or(whole)
    };
    let bound = topology.nodes.iter().filter(|node| node.can_bind()).take(NumaNodes::MAX);
    bound
        .map(|node| NumaNode {
            id: node.id,
            capacity: Resources {
                cpu: MilliCpus(share(capacity.cpu.0, node.processors.len() as u64, processors)),
                memory: Bytes(share(capacity.memory.0, node.memory.0, memory.0)),
            },
        })
        .collect()
}

/// Memory that a hypervisor process costs beside its guest's.
pub const fn overhead(accelerator: Accelerator) -> Bytes {
    match accelerator {
        Accelerator::Kvm => OVERHEAD_KVM,
        Accelerator::Tcg => OVERHEAD_TCG,
        Accelerator::Simulated => Bytes::ZERO,
    }
}

fn total_memory(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes::kib(kib))
}

fn read(path: &'static str) -> Result<String, FactsError> {
    let text = fs::read_to_string(Path::new(path));
    text.map(|text| text.trim().to_owned()).map_err(|source| FactsError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Node;

    #[test]
    fn memory_is_read_from_what_the_kernel_says() {
        let text = "MemTotal:       24691228 kB\nMemFree:        20000000 kB\n";
        assert_eq!(total_memory(text), Some(Bytes::kib(24_691_228)));
        assert_eq!(total_memory("MemTotal: much\n"), None);
        assert!(total_memory(&read("/proc/meminfo").unwrap()).unwrap() > Bytes::mib(64));
    }

    fn node(id: u16, processors: std::ops::Range<usize>, memory: Bytes) -> Node {
        Node { id, processors: processors.collect(), memory }
    }

    #[test]
    fn a_numa_node_gets_its_share_of_what_container_vms_may_use() {
        let nodes = vec![
            node(0, 0..2, Bytes::gib(3)),
            node(1, 2..8, Bytes::gib(3)),
            node(2, 0..0, Bytes::gib(2)),
        ];
        let topology = Topology { cores: 4, threads: 8, nodes };
        // Of 8 GiB and 8 processors, half is kept back.
        let capacity = Resources { cpu: MilliCpus(4000), memory: Bytes::gib(4) };
        let shares = numa_nodes(&topology, capacity);
        let of = |cpu, memory| Resources { cpu: MilliCpus(cpu), memory: Bytes::mib(memory) };
        assert_eq!(shares[0], NumaNode { id: 0, capacity: of(1000, 1536) });
        assert_eq!(shares[1], NumaNode { id: 1, capacity: of(3000, 1536) });
        assert_eq!(shares.len(), 2, "memory without processors binds nothing");
    }

    #[test]
    fn one_node_has_everything_and_no_node_binds_nothing() {
        let capacity = Resources { cpu: MilliCpus(1500), memory: Bytes::mib(700) };
        let mut topology = Topology { cores: 1, threads: 1, nodes: vec![] };
        assert_eq!(numa_nodes(&topology, capacity), []);
        topology.nodes.push(node(3, 0..1, Bytes::gib(1)));
        assert_eq!(numa_nodes(&topology, capacity), [NumaNode { id: 3, capacity }]);
    }

    #[test]
    fn a_boot_has_an_id() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}

//! Machines that run container VMs, as the fleet knows them and as their nodes describe them.

use crate::ids::{ClusterId, DatastoreId, HostId};
use crate::meta::Meta;
use crate::units::{Bytes, Resources, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub id: HostId,
    pub cluster: ClusterId,
    pub state: HostState,
    /// Nothing new is placed on a host in maintenance.
    pub maintenance: bool,
    /// As last registered by its node.
    pub facts: Arc<HostFacts>,
    /// Sum of what the container VMs and reservations placed here are charged; kept by apply.
    pub charged: Resources,
    /// What they hold beside cpu and memory; kept by apply.
    pub held: Held,
    /// How many container VMs and reservations hold a charge here; kept by apply.
    pub placed: u32,
    pub meta: Meta,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostState {
    /// Its node has a session with the leader.
    Connected { since: Timestamp },
    /// Its node has been silent past the timer. What runs there is left alone.
    Silent { since: Timestamp },
}

/// What placed container VMs and reservations hold of a host beside cpu and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Memory reservations.
    pub reserved: Bytes,
    /// Countable things by name; none stands at zero.
    pub resources: BTreeMap<String, u64>,
    /// Charges bound to NUMA nodes, in the order of `Supply::numa`; short where none is bound.
    pub numa: Vec<Resources>,
}

/// A set of a host's NUMA nodes: bit `n` is the `n`th of `Supply::numa`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NumaNodes(pub u16);

impl NumaNodes {
    pub const NONE: NumaNodes = NumaNodes(0);
    /// Most NUMA nodes of one host.
    pub const MAX: usize = 16;

    pub fn of(positions: &[usize]) -> NumaNodes {
        NumaNodes(positions.iter().fold(0, |set, position| set | 1 << position))
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Positions in `Supply::numa`, ascending.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX).filter(move |position| self.0 >> position & 1 == 1)
    }
}

/// What a host has beside cpu, memory and datastores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Physical cores and hardware threads; zero where the node could not tell.
    pub cores: u32,
    pub threads: u32,
    /// NUMA nodes; empty where container VMs cannot be bound.
    pub numa: Vec<NumaNode>,
    /// Where it stands, outermost level first: `[("zone", "a"), ("rack", "r17")]`.
    pub domain: Vec<(String, String)>,
    /// Names of networks that it reaches.
    pub networks: BTreeSet<String>,
    /// Countable things that its configuration names.
    pub resources: BTreeMap<String, u64>,
    /// Whether its node can weigh container VMs against each other (`Demand::shares`).
    pub shares: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The operating system's number.
    pub id: u16,
    /// What container VMs may use of it.
    pub capacity: Resources,
}

/// What a node says of its host when it registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Unique in the cell.
    pub name: String,
    /// The cluster that the host's configuration names.
    pub cluster: String,
    /// What container VMs may use, the reserve for the host itself already taken off.
    pub capacity: Resources,
    pub accelerator: Accelerator,
    /// Memory that a hypervisor process costs beside its guest's, measured.
    pub vm_overhead: Bytes,
    pub datastores: BTreeMap<DatastoreId, DatastoreFacts>,
    /// `address:port` of the node's stream listener.
    pub stream_address: String,
    /// Changes when the machine boots.
    pub boot_id: String,
    pub kernel: String,
    pub hypervisor: String,
    /// Version of berth that the node runs.
    pub build: String,
    pub labels: BTreeMap<String, String>,
    pub supply: Supply,
}

/// How guest code is executed, found by booting a guest, not by looking for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    Kvm,
    /// QEMU's own translator: ten to thirty times slower than the hardware.
    Tcg,
    /// The simulated hypervisor of benchmarks and simulations.
    Simulated,
}

/// A datastore as one host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreFacts {
    pub name: String,
    /// Of the file system that it lies on.
    pub capacity: Bytes,
    /// Free in that file system, rounded down to whole GiB so that it seldom changes.
    pub free: Bytes,
    /// What kind of storage it is, in the operator's words (`ssd`, `archive`); may be empty.
    pub class: String,
    pub labels: BTreeMap<String, String>,
}

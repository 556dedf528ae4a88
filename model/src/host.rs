//! Machines that run container VMs, as the fleet knows them and as their nodes describe them.

use crate::ids::{ClusterId, DatastoreId, HostId};
use crate::meta::Meta;
use crate::units::{Bytes, Resources, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub id: HostId,
    pub cluster: ClusterId,
    pub state: HostState,
    /// Nothing new is placed on a host in maintenance.
    pub maintenance: bool,
    /// As last registered by its node.
    pub facts: HostFacts,
    /// Sum of what the container VMs placed here are charged; kept by apply.
    pub charged: Resources,
    /// How many container VMs hold a charge here; kept by apply.
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
}

/// How guest code is executed, found by booting a guest, not by looking for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub labels: BTreeMap<String, String>,
}

//! What is asked of a place.

use super::bounds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked of a host and of the datastore of the delta disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DemandRequest {
    /// Thousandths of a CPU; the endpoint's default if absent. The container VM has this many
    /// virtual CPUs, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CPU_MAX))]
    pub cpu_millis: Option<u64>,
    /// The container's memory limit; the endpoint's default if absent. What is charged is the
    /// class that holds it beside the guest's own, and the hypervisor's overhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::MEMORY_MIN, max = bounds::MEMORY_MAX))]
    pub memory_bytes: Option<u64>,
    /// The machine's whole memory, in place of a class: whole MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = bounds::MACHINE_MEMORY_MIN, max = bounds::MEMORY_MAX),
        extend("multipleOf" = 1_048_576)
    )]
    pub machine_memory_bytes: Option<u64>,
    /// Memory that is never overcommitted; at most the machine's whole memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::MEMORY_MAX))]
    pub memory_reservation_bytes: Option<u64>,
    /// Weight among the container VMs of a host when cpu is short; 100 if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub cpu_shares: Option<u16>,
    /// The same for memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub memory_shares: Option<u16>,
    /// Size of the delta disk. Of a container VM, the endpoint's default if absent; a placement
    /// that names none has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::DISK_MIN, max = bounds::DISK_MAX))]
    pub disk_bytes: Option<u64>,
    /// NUMA nodes that cpu and memory are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2))]
    pub numa: Option<u8>,
    /// Countable things of the host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::resources")]
    pub resources: BTreeMap<String, u64>,
    /// Labels that the host must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::label_terms")]
    pub host_labels: BTreeMap<String, String>,
    /// Labels that the delta's datastore must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::label_terms")]
    pub datastore_labels: BTreeMap<String, String>,
    /// Name or id of the only cluster that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub cluster: Option<String>,
    /// Name or id of the only host that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub host: Option<String>,
    /// Name or id of the only datastore that will do for the delta disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub datastore: Option<String>,
    /// The higher is placed first, and may displace the lower where the cluster's policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: Option<i16>,
}

/// A disk beside the delta.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskRequest {
    /// Unique in the request.
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub name: String,
    #[schemars(range(min = bounds::DISK_MIN, max = bounds::DISK_MAX))]
    pub size_bytes: u64,
    /// Labels that its datastore must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::label_terms")]
    pub labels: BTreeMap<String, String>,
    /// Name or id of the only datastore that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub datastore: Option<String>,
}

/// A demand, defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DemandView {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_reservation_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_shares: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u8>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub datastore_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskRequest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Names of what it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    pub priority: i16,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

//! Machines, as the fleet knows them.

use super::MetaView;
use crate::host::Accelerator;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub cluster: String,
    /// `connected` or `silent`.
    pub state: String,
    pub state_since_ms: u64,
    pub maintenance: bool,
    pub capacity: ResourcesView,
    /// By what is placed here.
    pub charged: ResourcesView,
    /// Memory that is reserved here; never overcommitted.
    pub reserved_memory_bytes: u64,
    /// Container VMs and reservations that hold a charge here.
    pub placed: u32,
    pub vm_overhead_bytes: u64,
    pub accelerator: Accelerator,
    pub datastores: Vec<String>,
    pub networks: Vec<String>,
    /// Where it stands, outermost level first.
    pub domain: Vec<DomainView>,
    /// Physical cores and hardware threads; zero where its node could not tell.
    pub cores: u32,
    pub threads: u32,
    pub numa: Vec<NumaNodeView>,
    /// Countable things, all of each.
    pub resources: BTreeMap<String, u64>,
    pub resources_held: BTreeMap<String, u64>,
    /// Whether its node can weigh container VMs against each other.
    pub shares: bool,
    pub kernel: String,
    pub hypervisor: String,
    pub build: String,
    pub stream_address: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourcesView {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
}

/// One level of a host's fault domain path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DomainView {
    pub level: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NumaNodeView {
    /// The operating system's number.
    pub id: u16,
    pub capacity: ResourcesView,
    /// By what is bound to it.
    pub charged: ResourcesView,
}

/// The body of `PATCH /v1/hosts/{host}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPatch {
    /// Nothing new is placed on a host in maintenance.
    pub maintenance: bool,
}

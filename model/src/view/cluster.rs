//! Clusters: hosts that share datastores, networks and policies.

use super::{MetaView, PolicyRequest, PolicyView, ResourcesView, bounds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub policy: PolicyView,
    pub hosts: u32,
    /// Container VMs and reservations that hold a charge on its hosts.
    pub placed: u32,
    pub capacity: ResourcesView,
    pub charged: ResourcesView,
}

/// The body of `POST /v1/clusters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterRequest {
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub name: String,
    /// What is not said takes its default.
    #[serde(default)]
    pub policy: PolicyRequest,
}

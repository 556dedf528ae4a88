//! Placements: places decided, and places held.

use super::{
    DemandRequest, DemandView, DiskRequest, ExplanationView, MetaView, ResourcesView, bounds,
};
use crate::revision::OpaqueRevision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The body of `POST /v1/placements`: one request, a batch of them, or a gang that is placed whole
/// or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["request"]}, {"required": ["batch"]}, {"required": ["gang"]}
]))]
pub struct PlacementRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlacementItem")]
    pub request: Option<PlacementItem>,
    /// Each is placed or refused for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<PlacementItem>", length(min = 1, max = bounds::BATCH_MAX))]
    pub batch: Option<Vec<PlacementItem>>,
    /// All are placed, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<PlacementItem>", length(min = 1, max = bounds::BATCH_MAX))]
    pub gang: Option<Vec<PlacementItem>>,
    /// Whose it is to be; `system` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub endpoint: Option<String>,
    /// Hold the places that are found.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reserve: bool,
    /// With `reserve`: how long they are held; until they are released if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::HOLD_MAX))]
    pub hold_seconds: Option<u64>,
    /// Hosts whose own reasons are told of each refusal; the counts cover all hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::EXPLAIN_MAX))]
    pub explain_hosts: Option<u32>,
}

/// One thing to be placed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementItem {
    #[serde(default)]
    pub demand: DemandRequest,
    /// Disks beside the delta.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::DISKS_MAX))]
    pub disks: Vec<DiskRequest>,
    /// Names of networks that the host must reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::networks")]
    pub networks: Vec<String>,
    /// What rules select by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::labels")]
    pub labels: BTreeMap<String, String>,
}

/// The answer to `POST /v1/placements`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementsView {
    pub cell: String,
    /// The state that it was decided on.
    pub revision: OpaqueRevision,
    /// One for each that was asked for, in their order.
    pub items: Vec<DecisionView>,
    pub placed: u32,
    pub refused: u32,
    /// Id of the gang whose places are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<String>,
}

/// Where one would go or is held a place, or why nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionView {
    /// Id of the reservation, if it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceView>,
    /// What has to give way for it, or gave way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<VictimView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationView>,
}

/// Host and datastores, chosen together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceView {
    pub cluster: String,
    pub host: String,
    /// Of the delta disk, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskPlaceView>,
    /// Positions of the host's NUMA nodes that it is bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa_nodes: Vec<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskPlaceView {
    pub name: String,
    pub datastore: String,
}

/// What gives way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VictimView {
    /// `container-vm` or `placement`.
    pub kind: String,
    pub id: String,
}

/// A place that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservationView {
    pub id: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub place: PlaceView,
    /// What it holds on the host.
    pub charged: ResourcesView,
    pub demand: DemandView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<String>,
    /// Milliseconds since 1970 UTC; absent if it is held until it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// The body of `PATCH /v1/placements/{placement}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// From now; until it is released if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::HOLD_MAX))]
    pub hold_seconds: Option<u64>,
}

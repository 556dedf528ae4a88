//! JSON resources of `/v1`, as the API gives them and the client reads them: one file a resource.
//!
//! Promises: names carry their unit; ids, revisions and page tokens are opaque texts; every object
//! shows its cell and its endpoint. What a request does not know is an error, so that a misspelt
//! wish is never ignored. Answers may gain members: readers must not refuse them. The bounds that
//! stand in the attributes are those of the API's document, and the API holds every body against
//! them.
//!
//! Does not: hold the rules of the API; those stand in `berth-api`.

pub mod bounds;
mod capacity;
mod cell;
mod cluster;
mod container_vm;
mod datastore;
mod demand;
mod endpoint;
mod event;
mod explanation;
mod host;
mod image;
mod network;
mod placement;
mod policy;
mod problem;
mod rule;
mod what_if;

pub use capacity::{AfterLossView, CapacityRequest, CapacityView, ClusterCapacityView};
pub use cell::{CellView, ReadinessView, ReplicaView};
pub use cluster::{ClusterRequest, ClusterView};
pub use container_vm::{ContainerVmRequest, ContainerVmView, StateView, StopRequest, TrialView};
pub use datastore::DatastoreView;
pub use demand::{DemandRequest, DemandView, DiskRequest};
pub use endpoint::{
    EndpointPatch, EndpointRequest, EndpointSettings, EndpointView, QuotaPatch, QuotaView,
    UsageView,
};
pub use event::{EventPageView, EventView, RevisionView};
pub use explanation::{ExplanationView, HostRefusalView};
pub use host::{DomainView, HostPatch, HostView, NumaNodeView, ResourcesView};
pub use image::ImageView;
pub use network::NetworkView;
pub use placement::{
    DecisionView, DiskPlaceView, ExtendRequest, PlaceView, PlacementItem, PlacementRequest,
    PlacementsView, ReservationView, VictimView,
};
pub use policy::{AdmissionView, ClusterPolicyView, PolicyRequest, PolicyView};
pub use problem::ProblemView;
pub use rule::{
    BreachView, RuleKindView, RulePut, RuleRequest, RuleStatusView, RuleView, TermView,
};
pub use what_if::{MoveView, WhatIfRequest, WhatIfView};

use crate::revision::OpaqueRevision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the endpoint that owns what was made through `/v1` for no other.
pub const SYSTEM_ENDPOINT: &str = "system";

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct ListView<T> {
    pub cell: String,
    /// The state that the page shows.
    pub revision: OpaqueRevision,
    pub items: Vec<T>,
    /// Token of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What every object shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetaView {
    pub cell: String,
    /// Name of the endpoint that owns it.
    pub endpoint: String,
    pub created: OpaqueRevision,
    /// The state that last changed it: what `If-Match` takes, in quotes.
    pub modified: OpaqueRevision,
    /// Milliseconds since 1970 UTC.
    pub created_at_ms: u64,
    pub labels: BTreeMap<String, String>,
}

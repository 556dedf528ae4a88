//! The cell, and the replica that answers.

use crate::revision::OpaqueRevision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CellView {
    pub cell: String,
    pub revision: OpaqueRevision,
    pub incarnation: u32,
    pub replica: ReplicaView,
    /// Container VMs by phase.
    pub container_vms: BTreeMap<String, u64>,
    /// Places that are held.
    pub placements: u64,
    pub build: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaView {
    pub id: u64,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    pub term: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
    pub commit: u64,
    pub applied: u64,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadinessView {
    pub ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
    /// Committed commands that are not applied here yet.
    pub lag: u64,
}

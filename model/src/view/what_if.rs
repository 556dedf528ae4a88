//! What would become of container VMs if hosts were lost or drained.

use super::{ExplanationView, PlaceView, bounds};
use crate::revision::OpaqueRevision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /v1/what-if`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["lose"]}, {"required": ["drain"]}]))]
pub struct WhatIfRequest {
    /// Names or ids of hosts that are lost together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::some_hosts")]
    pub lose: Option<Vec<String>>,
    /// Name or id of a host that is to be emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = bounds::NAME_MAX),
        regex(pattern = bounds::NAME)
    )]
    pub drain: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIfView {
    pub cell: String,
    pub revision: OpaqueRevision,
    /// All that is on those hosts, in the order in which it would be placed.
    pub moves: Vec<MoveView>,
    pub placed: u32,
    pub refused: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveView {
    /// `container-vm` or `placement`.
    pub kind: String,
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the host that it is on.
    pub from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PlaceView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationView>,
}

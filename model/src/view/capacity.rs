//! How many more of one shape fit.

use super::{PlacementItem, bounds};
use crate::revision::OpaqueRevision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /v1/capacity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapacityRequest {
    pub request: PlacementItem,
    /// Whose it is to be; `system` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub endpoint: Option<String>,
    /// Count no further than this; 100,000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CAPACITY_MAX))]
    pub most: Option<u64>,
}

/// How many more fit: all counts stop at `most`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapacityView {
    pub cell: String,
    pub revision: OpaqueRevision,
    pub most: u64,
    pub now: u64,
    /// Each cluster alone.
    pub clusters: Vec<ClusterCapacityView>,
    /// After the worst loss of one host; absent where no host is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_loss: Option<AfterLossView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterCapacityView {
    pub cluster: String,
    pub now: u64,
}

/// The worst loss of a single host, once what ran there was started elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AfterLossView {
    pub host: String,
    /// How many more fit then.
    pub fit: u64,
    /// How many of those that ran there would have no place.
    pub homeless: u64,
    /// How many losses were tried; the largest hosts come first.
    pub tried: u64,
    /// Whether those were all.
    pub exact: bool,
}

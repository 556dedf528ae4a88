//! Why no host will do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplanationView {
    /// One line for people.
    pub summary: String,
    pub considered: u32,
    /// Hosts by the filter that refused them.
    pub refused: BTreeMap<String, u32>,
    /// Each host's own reason, for as many hosts as were asked for.
    pub hosts: Vec<HostRefusalView>,
    /// The smallest change of the request that would let it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relaxation: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostRefusalView {
    pub host: String,
    pub filter: String,
    pub reason: String,
}

//! What happened, in the order of the log.

use crate::revision::OpaqueRevision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    pub revision: OpaqueRevision,
    /// Milliseconds since 1970 UTC, by the leader's clock.
    pub at_ms: u64,
    /// Name of the endpoint whose object it is.
    pub endpoint: String,
    /// `cluster`, `host`, `datastore`, `endpoint`, `image`, `container-vm`, `placement` or `rule`.
    pub kind: String,
    pub id: String,
    /// The object's name, while it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happened: `created`, `changed`, `removed`, `state`, `refused`, `displaced`, `expired`,
    /// `connected`, `silent`, `maintenance-began`, `maintenance-ended`.
    pub what: String,
    /// With `state`: the phase that a container VM came into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}

/// All that one revision changed: the data of one message of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionView {
    pub revision: OpaqueRevision,
    pub events: Vec<EventView>,
}

/// A page of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventPageView {
    pub cell: String,
    pub items: Vec<EventView>,
    /// Give it as `after` to go on.
    pub after: OpaqueRevision,
    /// Whether there are more after it already.
    pub more: bool,
}

//! Container VMs: how they are asked for, and where each stands.

use super::{DemandRequest, DemandView, ExplanationView, MetaView, PlaceView, VictimView, bounds};
use crate::container::NetworkMode;
use crate::revision::OpaqueRevision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerVmView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub image: String,
    /// As the client named it.
    pub image_reference: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub state: StateView,
    /// Number of the latest start; 0 before the first.
    pub epoch: u64,
    /// Name of the host that it is on or was last on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    /// Positions of the host's NUMA nodes that it is bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa_nodes: Vec<u16>,
    /// The reservation that it is made on, until it is placed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// It is being ended for one of a higher priority.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub displaced: bool,
    pub demand: DemandView,
}

/// Where a container VM stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum StateView {
    Pending {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<ExplanationView>,
    },
    Created,
    Waiting {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<ExplanationView>,
    },
    Starting {
        stopping: bool,
    },
    Running {
        started_at_ms: u64,
        stopping: bool,
    },
    Exited {
        exit_code: i32,
        oom_killed: bool,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        error: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started_at_ms: Option<u64>,
        finished_at_ms: u64,
    },
    Removing,
}

impl StateView {
    /// One word for tables.
    pub const fn phase(&self) -> &'static str {
        match self {
            StateView::Pending { .. } => "pending",
            StateView::Created => "created",
            StateView::Waiting { .. } => "waiting",
            StateView::Starting { .. } => "starting",
            StateView::Running { .. } => "running",
            StateView::Exited { .. } => "exited",
            StateView::Removing => "removing",
        }
    }
}

/// The answer of a dry run: where it would go, or why nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialView {
    pub cell: String,
    /// The state that it was decided on.
    pub revision: OpaqueRevision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceView>,
    /// What would have to give way for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<VictimView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationView>,
    pub demand: DemandView,
}

/// The body of `POST /v1/container-vms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerVmRequest {
    /// Reference or id of an image that the endpoint sees; `system` sees everyone's.
    #[schemars(length(min = 1, max = bounds::IMAGE_MAX), regex(pattern = bounds::IMAGE))]
    pub image: String,
    /// Made up if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = bounds::NAME_MAX), regex(pattern = bounds::CONTAINER_NAME))]
    pub name: Option<String>,
    /// Name of the endpoint that is to own it; `system` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub endpoint: Option<String>,
    /// The image's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::words")]
    pub command: Vec<String>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::variables")]
    pub environment: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::USER))]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::PATH_MAX), regex(pattern = bounds::PATH))]
    pub working_directory: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::HOST_NAME_MAX), regex(pattern = bounds::HOST_NAME))]
    pub hostname: Option<String>,
    /// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = bounds::SIGNAL))]
    pub stop_signal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub stop_timeout_seconds: Option<u32>,
    /// What it needs of its place.
    #[serde(default)]
    pub demand: DemandRequest,
    /// Id of a reservation that it is made on: with its host and its datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 44, max = 44), regex(pattern = "^reservation-[0-9a-f]{32}$"))]
    pub reservation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkMode>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_remove: bool,
    /// What rules select by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::labels")]
    pub labels: BTreeMap<String, String>,
    /// Start it once it is created.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start: bool,
}

/// The body of `POST /v1/container-vms/{container}/stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Name or number; the container's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = bounds::SIGNAL))]
    pub signal: Option<String>,
    /// The container's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub grace_seconds: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_wish_is_an_error() {
        let wrong = serde_json::from_str::<ContainerVmRequest>(r#"{"image":"a","memory":1}"#);
        assert!(wrong.unwrap_err().to_string().contains("unknown field `memory`"));
    }

    #[test]
    fn a_state_names_its_phase() {
        let state = StateView::Exited {
            exit_code: 3,
            oom_killed: false,
            error: String::new(),
            started_at_ms: Some(1),
            finished_at_ms: 2,
        };
        let json = serde_json::to_value(&state).unwrap();
        assert_eq!((&json["phase"], &json["exit_code"]), (&"exited".into(), &3.into()));
        assert_eq!(serde_json::from_value::<StateView>(json).unwrap(), state);
        assert_eq!(state.phase(), "exited");
    }
}

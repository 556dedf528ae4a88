//! JSON resources of `/v1`, as the API gives them and the client reads them.
//!
//! Promises: names carry their unit; ids, revisions and page tokens are opaque texts; every object
//! shows its cell and its endpoint. What a request does not know is an error, so that a misspelt
//! wish is never ignored. Answers may gain members: readers must not refuse them.
//!
//! Does not: hold the rules of the API; those stand in `berth-api`.

use crate::cluster::{ClusterPolicy, Strategy};
use crate::container::NetworkMode;
use crate::host::Accelerator;
use crate::revision::OpaqueRevision;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the endpoint that owns what was made through `/v1` for no other.
pub const SYSTEM_ENDPOINT: &str = "system";

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaView {
    pub cell: String,
    /// Name of the endpoint that owns it.
    pub endpoint: String,
    pub created: OpaqueRevision,
    pub modified: OpaqueRevision,
    /// Milliseconds since 1970 UTC.
    pub created_at_ms: u64,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
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
    pub demand: DemandView,
}

/// Where a container VM stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandView {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// Names of what it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Container VMs that hold a charge here.
    pub placed: u32,
    pub vm_overhead_bytes: u64,
    pub accelerator: Accelerator,
    pub datastores: Vec<String>,
    pub kernel: String,
    pub hypervisor: String,
    pub build: String,
    pub stream_address: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcesView {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub policy: PolicyView,
    pub hosts: u32,
    /// Container VMs that hold a charge on its hosts.
    pub placed: u32,
    pub capacity: ResourcesView,
    pub charged: ResourcesView,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    pub strategy: Strategy,
    pub cpu_overcommit_permille: u32,
    pub memory_overcommit_permille: u32,
    pub disk_overcommit_permille: u32,
    pub cpu_model: String,
}

impl From<&ClusterPolicy> for PolicyView {
    fn from(policy: &ClusterPolicy) -> Self {
        Self {
            strategy: policy.strategy,
            cpu_overcommit_permille: policy.cpu_overcommit.0,
            memory_overcommit_permille: policy.memory_overcommit.0,
            disk_overcommit_permille: policy.disk_overcommit.0,
            cpu_model: policy.cpu_model.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub capacity_bytes: u64,
    pub free_bytes: u64,
    /// Sizes of all disks placed here, thin or not.
    pub charged_bytes: u64,
    /// Names of the hosts that reach it.
    pub hosts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_store: Option<String>,
    pub default_cpu_millis: u64,
    pub default_memory_bytes: u64,
    pub default_disk_bytes: u64,
    pub containers: u32,
    pub images: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    pub id: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub references: Vec<String>,
    pub size_bytes: u64,
    /// Names of the datastores that hold its base disk.
    pub datastores: Vec<String>,
    pub architecture: String,
}

/// The cell, and the replica that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellView {
    pub cell: String,
    pub revision: OpaqueRevision,
    pub incarnation: u32,
    pub replica: ReplicaView,
    /// Container VMs by phase.
    pub containers: BTreeMap<String, u64>,
    pub build: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why no host will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationView {
    /// One line for people.
    pub summary: String,
    pub considered: u32,
    /// Hosts by the filter that refused them.
    pub refused: BTreeMap<String, u32>,
    pub hosts: Vec<HostRefusalView>,
    /// The smallest change of the request that would let it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relaxation: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRefusalView {
    pub host: String,
    pub filter: String,
    pub reason: String,
}

/// The answer of a dry run: where it would go, or why nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementView {
    pub cell: String,
    /// The state that it was decided on.
    pub revision: OpaqueRevision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationView>,
    pub demand: DemandView,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    pub cluster: String,
    pub host: String,
    pub datastore: String,
}

/// The body of `POST /v1/containers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRequest {
    /// Reference or id of an image that the endpoint sees; `system` sees everyone's.
    pub image: String,
    /// Made up if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the endpoint that is to own it; `system` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Name or id of the only cluster, host or datastore that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkMode>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_remove: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Start it once it is created.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start: bool,
}

/// The body of `POST /v1/containers/{id}/stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Name or number; the container's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The container's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
}

/// The body of `POST /v1/clusters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRequest {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_overcommit_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_overcommit_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_overcommit_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
}

/// The body of `POST /v1/endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointRequest {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_disk_bytes: Option<u64>,
}

/// Trouble, as RFC 9457 has it (`application/problem+json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// `urn:berth:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same text for every problem of this type.
    pub title: String,
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// A word for programs: `name-taken`, `no-room`.
    pub code: String,
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationView>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_wish_is_an_error() {
        let wrong = serde_json::from_str::<ContainerRequest>(r#"{"image":"a","memory":1}"#);
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

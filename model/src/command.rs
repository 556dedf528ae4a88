//! What the log carries: one envelope, one body a kind of intent or fact.

use crate::cluster::ClusterPolicy;
use crate::container::{ContainerSpec, StopOrder};
use crate::endpoint::EndpointDefaults;
use crate::explanation::Explanation;
use crate::host::HostFacts;
use crate::ids::{
    CellId, ClusterId, ContainerId, DatastoreId, EndpointId, Epoch, HostId, IdempotencyKey,
    ImageId, RequestId,
};
use crate::image::ImageConfig;
use crate::report::Fact;
use crate::units::{Bytes, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One entry of intent or observation. The time is not in it: the leader stamps the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub principal: Principal,
    pub endpoint: EndpointId,
    pub request: RequestId,
    /// W3C trace context of the client, if it sent one.
    pub traceparent: Option<String>,
    pub key: Option<IdempotencyKey>,
    /// Applied after this, by the leader's stamp, the command is rejected and changes nothing.
    pub deadline: Option<Timestamp>,
    pub body: CommandBody,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Principal {
    /// A scheduler replica on its own account: planner, dispatcher, timers.
    Scheduler(u64),
    Node(HostId),
    /// Whoever reaches the loopback listeners of a machine.
    Local,
    /// The id in a client certificate.
    Client(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandBody {
    /// The first command of a cell; once applied, another is `Change::Nothing`.
    Bootstrap(Bootstrap),
    CreateCluster {
        id: ClusterId,
        name: String,
        policy: ClusterPolicy,
    },
    CreateEndpoint {
        id: EndpointId,
        name: String,
        defaults: EndpointDefaults,
    },
    /// A node registered or its facts changed.
    HostSeen {
        host: HostId,
        facts: Box<HostFacts>,
    },
    /// A node has been silent past the timer.
    HostSilent {
        host: HostId,
    },
    SetMaintenance {
        host: HostId,
        maintenance: bool,
    },
    RecordImage(Box<NewImage>),
    CreateContainer(Box<NewContainer>),
    StartContainer {
        id: ContainerId,
    },
    /// `order: None` takes signal and grace from the container's spec.
    StopContainer {
        id: ContainerId,
        order: Option<StopOrder>,
    },
    /// `force` ends what runs.
    RemoveContainer {
        id: ContainerId,
        force: bool,
    },
    /// What the planner decided on the fleet as of `planned_at`; each item is checked again.
    Place {
        planned_at: u64,
        items: Vec<PlaceItem>,
    },
    Observe {
        host: HostId,
        facts: Vec<Fact>,
    },
}

impl CommandBody {
    /// One word for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            CommandBody::Bootstrap(_) => "bootstrap",
            CommandBody::CreateCluster { .. } => "create_cluster",
            CommandBody::CreateEndpoint { .. } => "create_endpoint",
            CommandBody::HostSeen { .. } => "host_seen",
            CommandBody::HostSilent { .. } => "host_silent",
            CommandBody::SetMaintenance { .. } => "set_maintenance",
            CommandBody::RecordImage(_) => "record_image",
            CommandBody::CreateContainer(_) => "create_container",
            CommandBody::StartContainer { .. } => "start_container",
            CommandBody::StopContainer { .. } => "stop_container",
            CommandBody::RemoveContainer { .. } => "remove_container",
            CommandBody::Place { .. } => "place",
            CommandBody::Observe { .. } => "observe",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    pub cell: CellId,
    pub clusters: Vec<(ClusterId, String, ClusterPolicy)>,
    pub endpoints: Vec<(EndpointId, String, EndpointDefaults)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewImage {
    pub id: ImageId,
    /// `name:tag`; each is taken from the image that held it before.
    pub references: Vec<String>,
    pub config: ImageConfig,
    pub document: String,
    pub size: Bytes,
    pub datastore: DatastoreId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewContainer {
    pub id: ContainerId,
    pub name: String,
    pub spec: ContainerSpec,
    /// Labels of the object, for `/v1`; Docker's are in the spec too.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceItem {
    pub container: ContainerId,
    pub decision: Decision,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// For a pending one: where its delta disk goes.
    Datastore(DatastoreId),
    /// For a waiting one: where it runs, under which epoch.
    Host { host: HostId, epoch: Epoch },
    /// For either: nowhere, and why.
    Nowhere(Explanation),
}

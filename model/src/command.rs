//! What the log carries: one envelope, one body a kind of intent or fact.

use crate::cluster::ClusterPolicy;
use crate::container::{ContainerSpec, StopOrder};
use crate::endpoint::{EndpointDefaults, Quota};
use crate::event::Subject;
use crate::explanation::Explanation;
use crate::host::{HostFacts, NumaNodes};
use crate::ids::{
    CellId, ClusterId, ContainerId, DatastoreId, EndpointId, Epoch, GangId, HostId, IdempotencyKey,
    ImageId, RequestId, ReservationId, RuleId,
};
use crate::image::ImageConfig;
use crate::report::Fact;
use crate::reservation::{Place, PlacementWish, Victim};
use crate::rule::RuleSpec;
use crate::units::{Bytes, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// Applied only if the object was last changed at this index.
    pub condition: Option<Condition>,
    pub body: CommandBody,
}

/// What must still be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub subject: Subject,
    /// `Meta::modified`.
    pub modified: u64,
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
    SetPolicy {
        cluster: ClusterId,
        policy: ClusterPolicy,
    },
    /// Only one without hosts.
    RemoveCluster {
        cluster: ClusterId,
    },
    /// Only one that is silent and holds nothing.
    RemoveHost {
        host: HostId,
    },
    ConfigureEndpoint {
        id: EndpointId,
        defaults: EndpointDefaults,
        quota: Quota,
    },
    /// Only one that owns nothing.
    RemoveEndpoint {
        id: EndpointId,
    },
    CreateRule(Box<NewRule>),
    ReplaceRule {
        id: RuleId,
        spec: RuleSpec,
    },
    RemoveRule {
        id: RuleId,
    },
    /// Places that are to be held; each item is checked again.
    Reserve(Box<Reserve>),
    /// Ends reservations before their time.
    Release {
        ids: Vec<ReservationId>,
    },
    /// `None` holds until it is released.
    Extend {
        id: ReservationId,
        expires_at: Option<Timestamp>,
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
            CommandBody::SetPolicy { .. } => "set_policy",
            CommandBody::RemoveCluster { .. } => "remove_cluster",
            CommandBody::RemoveHost { .. } => "remove_host",
            CommandBody::ConfigureEndpoint { .. } => "configure_endpoint",
            CommandBody::RemoveEndpoint { .. } => "remove_endpoint",
            CommandBody::CreateRule(_) => "create_rule",
            CommandBody::ReplaceRule { .. } => "replace_rule",
            CommandBody::RemoveRule { .. } => "remove_rule",
            CommandBody::Reserve(_) => "reserve",
            CommandBody::Release { .. } => "release",
            CommandBody::Extend { .. } => "extend",
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
    /// Made on what this holds: the same host and datastore, and the room is its own.
    pub reservation: Option<ReservationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRule {
    pub id: RuleId,
    pub name: String,
    pub spec: RuleSpec,
    pub labels: BTreeMap<String, String>,
}

/// Decisions on placement requests that are to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Index of the fleet that they were decided on.
    pub planned_at: u64,
    /// Each shape once; `ReserveItem::wish` is a position in it.
    pub wishes: Vec<Arc<PlacementWish>>,
    pub items: Vec<ReserveItem>,
    /// Set: all items are taken, or none.
    pub gang: Option<GangId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveItem {
    pub id: ReservationId,
    pub wish: u32,
    /// Owner; a command of `SYSTEM` may hold for any endpoint, others for their own only.
    pub endpoint: EndpointId,
    pub place: Place,
    /// Counted from the leader's stamp; `None` holds until it is released.
    pub hold_ms: Option<u64>,
    /// Reservations that give way, of a lower priority; never container VMs.
    pub victims: Vec<Victim>,
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
    /// The same, bound to NUMA nodes.
    Bound { host: HostId, epoch: Epoch, numa: NumaNodes },
    /// For a waiting one: these are to give way on the host; it goes on waiting until they have.
    Displace { host: HostId, victims: Vec<Victim> },
    /// For either: nowhere, and why.
    Nowhere(Explanation),
}

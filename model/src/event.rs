//! What happened, in the order of the log: kept for a while and streamed to who watches.

use crate::ids::{
    ClusterId, ContainerId, DatastoreId, EndpointId, HostId, ImageId, ReservationId, RuleId,
};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// One change of one object. Several may share an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub index: u64,
    pub at: Timestamp,
    /// Whose object it is; `SYSTEM` for the cell's own.
    pub endpoint: EndpointId,
    pub subject: Subject,
    pub what: What,
}

/// An object of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    Cluster(ClusterId),
    Host(HostId),
    Datastore(DatastoreId),
    Endpoint(EndpointId),
    Image(ImageId),
    ContainerVm(ContainerId),
    Reservation(ReservationId),
    Rule(RuleId),
}

impl Subject {
    /// One word, as paths of the API write it in the plural.
    pub const fn kind(&self) -> &'static str {
        match self {
            Subject::Cluster(_) => "cluster",
            Subject::Host(_) => "host",
            Subject::Datastore(_) => "datastore",
            Subject::Endpoint(_) => "endpoint",
            Subject::Image(_) => "image",
            Subject::ContainerVm(_) => "container-vm",
            Subject::Reservation(_) => "placement",
            Subject::Rule(_) => "rule",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Created,
    Changed,
    Removed,
    /// A container VM came into a state: the position of its name in `VmState::NAMES`.
    State(u8),
    /// No place was found for it.
    Refused,
    /// It had to give way to one of a higher priority.
    Displaced,
    /// A reservation's time ran out.
    Expired,
    HostConnected,
    HostSilent,
    MaintenanceBegan,
    MaintenanceEnded,
}

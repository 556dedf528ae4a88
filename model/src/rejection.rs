//! Why apply says no. The same on every replica; changes nothing.

use crate::explanation::Refusal;
use crate::ids::{ContainerId, DatastoreId, Epoch, HostId, ImageId, ReservationId, RuleId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    #[error("the cell is not set up yet; wait for its first leader")]
    NotBootstrapped,
    #[error("no cluster named `{0}`; create it, or name one that `berth get clusters` shows")]
    NoSuchCluster(String),
    #[error("no such endpoint")]
    NoSuchEndpoint,
    #[error("no such host")]
    NoSuchHost,
    #[error("no such datastore: {0}")]
    NoSuchDatastore(DatastoreId),
    #[error("no such container VM: {0}")]
    NoSuchContainer(ContainerId),
    #[error("no such image: {0}")]
    NoSuchImage(ImageId),
    #[error("the {kind} name `{name}` is in use; choose another")]
    NameTaken { kind: NameKind, name: String, holder: Option<ContainerId> },
    #[error("`{value}` is not a valid {what}: {rule}")]
    Invalid { what: String, value: String, rule: String },
    #[error("container VM {0} is already running")]
    AlreadyRunning(ContainerId),
    #[error("container VM {0} is not running")]
    NotRunning(ContainerId),
    #[error("container VM {0} is running; stop it first, or remove it by force")]
    StillRunning(ContainerId),
    #[error("container VM {0} is being removed")]
    BeingRemoved(ContainerId),
    #[error("container VM {0} is not waiting for a place any more")]
    NotWaiting(ContainerId),
    #[error("container VM {0} has no datastore yet; start it once it is created")]
    NotPlaced(ContainerId),
    #[error("epoch {offered} is not the one after {held}")]
    StaleEpoch { held: Epoch, offered: Epoch },
    #[error("host {host} will not do any more: {refusal}")]
    HostRefuses { host: HostId, refusal: Refusal },
    #[error("the datastore will not do any more: {0}")]
    DatastoreRefuses(Refusal),
    #[error("the request's deadline had passed when it was applied; send it again")]
    DeadlinePassed,
    #[error("no such reservation: {0}; it was released or has expired, ask for another place")]
    NoSuchReservation(ReservationId),
    #[error("no such rule: {0}")]
    NoSuchRule(RuleId),
    #[error("it was changed since it was read; read it again")]
    ConditionFailed { modified: u64 },
    #[error(
        "the endpoint's quota of {limit} {what} would be exceeded: {used} in use, {needed} more \
         asked for; remove something or raise the quota"
    )]
    QuotaExceeded { what: QuotaKind, limit: u64, used: u64, needed: u64 },
    #[error("{what} is in use: {by}; remove that first")]
    InUse { what: String, by: String },
    #[error("another of the gang has no place any more: {0}")]
    GangBroken(Box<Rejection>),
    #[error("{0} cannot be displaced for this any more")]
    NotDisplaceable(String),
    #[error("the reservation is another's, or for another shape; ask for a place of your own")]
    OtherReservation(ReservationId),
    #[error("the idempotency key was used for a different request; draw a new one")]
    KeyReused,
}

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaKind {
    /// Thousandths of a CPU.
    Cpu,
    /// Bytes.
    Memory,
    /// Bytes.
    Disk,
    Containers,
}

impl std::fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            QuotaKind::Cpu => "thousandths of a cpu",
            QuotaKind::Memory => "bytes of memory",
            QuotaKind::Disk => "bytes of disk",
            QuotaKind::Containers => "container VMs",
        })
    }
}

/// Kinds of objects whose names are unique within an endpoint (containers) or the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameKind {
    Cluster,
    Host,
    Datastore,
    Endpoint,
    Container,
    Rule,
}

impl std::fmt::Display for NameKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NameKind::Cluster => "cluster",
            NameKind::Host => "host",
            NameKind::Datastore => "datastore",
            NameKind::Endpoint => "endpoint",
            NameKind::Container => "container",
            NameKind::Rule => "rule",
        })
    }
}

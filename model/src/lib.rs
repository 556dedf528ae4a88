//! The nouns of berth: what the fleet holds, what is asked of it, what is observed, and the
//! messages that carry these between processes.
//!
//! Pure: no IO, no clock, no randomness of its own. Everything here that is stored or sent is
//! encoded by `berth-wire`; the types of this crate are format version 1, held by golden bytes
//! in the tests. JSON for people lives apart, in `view`.

pub mod assignment;
pub mod change;
pub mod cluster;
pub mod command;
pub mod container;
pub mod datastore;
pub mod demand;
pub mod endpoint;
pub mod event;
pub mod explanation;
pub mod guest;
pub mod host;
pub mod ids;
pub mod image;
pub mod meta;
pub mod rejection;
pub mod report;
pub mod reservation;
pub mod revision;
pub mod rule;
pub mod session;
pub mod stream;
pub mod units;
pub mod view;

pub use assignment::{Assignment, AssignmentUpdate, RunOrder, VmOrder, Want};
pub use change::Change;
pub use cluster::{Admission, Cluster, ClusterPolicy, Strategy};
pub use command::{Command, CommandBody};
pub use container::{ContainerSpec, ContainerVm, Exit, VmState};
pub use datastore::Datastore;
pub use demand::{Demand, DiskDemand, Shares};
pub use endpoint::{Endpoint, Quota, Usage};
pub use event::{Event, Subject, What};
pub use explanation::{Explanation, Filter, Refusal};
pub use host::{Held, Host, HostFacts, HostState, NumaNodes, Supply};
pub use ids::{
    CellId, ClusterId, ContainerId, DatastoreId, EndpointId, Epoch, GangId, Generation, HostId,
    IdempotencyKey, ImageId, RequestId, ReservationId, RuleId,
};
pub use image::Image;
pub use meta::Meta;
pub use rejection::Rejection;
pub use report::{Fact, Report};
pub use reservation::{Place, PlacementWish, Reservation, Victim};
pub use revision::{Incarnation, Revision};
pub use rule::{Rule, RuleKind, RuleSpec, Scope, Selector, Strength};
pub use units::{Bytes, MilliCpus, Permille, Resources, Timestamp};

//! Places that are held: the answer to a placement request that asked to reserve.
//!
//! A reservation takes room on its host and datastores as a running container VM does, until it is
//! released, has expired, or a container VM was made on it.

use crate::demand::Demand;
use crate::host::NumaNodes;
use crate::ids::{ContainerId, DatastoreId, GangId, HostId, ReservationId};
use crate::meta::Meta;
use crate::units::{Resources, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub id: ReservationId,
    pub wish: Arc<PlacementWish>,
    pub gang: Option<GangId>,
    pub place: Place,
    /// What is charged on the host.
    pub charge: Resources,
    /// `None` holds until it is released.
    pub expires_at: Option<Timestamp>,
    /// Labels stand in the wish.
    pub meta: Meta,
}

/// What is asked for: many requests of one shape share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementWish {
    pub demand: Demand,
    /// What rules select by.
    pub labels: BTreeMap<String, String>,
}

/// Host and datastores, chosen together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub host: HostId,
    /// Bound to these, if the demand names a width.
    pub numa: NumaNodes,
    /// For the delta, if the demand has one.
    pub delta: Option<DatastoreId>,
    /// For each of the demand's other disks, in order.
    pub disks: Vec<DatastoreId>,
}

/// What has to give way for a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Victim {
    ContainerVm(ContainerId),
    Reservation(ReservationId),
}

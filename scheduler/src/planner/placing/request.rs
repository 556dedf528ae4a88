//! What is asked of a replica about placements, and what it answers.

use berth_model::command::Principal;
use berth_model::{
    EndpointId, Explanation, GangId, Place, PlacementWish, Rejection, RequestId, ReservationId,
    Victim,
};
use std::sync::Arc;

/// Places for one or many, decided together or each for itself.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub principal: Principal,
    pub request_id: RequestId,
    /// W3C trace context, if the client sent one.
    pub traceparent: Option<String>,
    /// Each shape once.
    pub wishes: Vec<Arc<PlacementWish>>,
    pub items: Vec<PlaceWish>,
    /// Set: all have a place, or none is held.
    pub gang: Option<GangId>,
    pub mode: PlaceMode,
    /// Of how many hosts an explanation gives each one's own reason.
    pub explain_hosts: usize,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceWish {
    /// Position in `wishes`.
    pub wish: u32,
    pub endpoint: EndpointId,
    /// The reservation's id, if one is held. A request that is repeated repeats it.
    pub id: ReservationId,
}

/// What becomes of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceMode {
    /// It is told and forgotten.
    Decide,
    /// The place is held, from its commit on; `None` holds until it is released.
    Hold { hold_ms: Option<u64> },
}

/// Where one would go, or is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub place: Place,
    /// What holds it.
    pub reservation: Option<ReservationId>,
    /// What has to give way, or had to.
    pub victims: Vec<Victim>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceAnswer {
    /// Of the fleet that this is true of: the decision's, or the last commit's.
    pub revision_index: u64,
    /// In the order of the request.
    pub items: Vec<Result<Placed, Box<Explanation>>>,
    /// Of a gang without a place: the first that has none, beside those before it. Every item then
    /// carries this one's explanation.
    pub blocker: Option<u32>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceTrouble {
    /// The request cannot stand, whatever room there is.
    Rejected(Rejection),
    /// It was not decided in time.
    Full,
    NoLeader,
    /// Some of it may be held; asking again with the same ids tells.
    Unknown,
    TooLarge,
    Stopped,
}

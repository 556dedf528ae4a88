//! Where placement requests come in, and the way to the desks that decide them.
//!
//! ```text
//!  Scheduler::place ─► slots ─► one of the desks' inboxes ─► desk (its own thread) ─► answer
//! ```
//!
//! Promises: what is under way on this replica is bounded in items; past the bound a request is
//! refused at once. A request is answered by its deadline, or a moment later if the thread is
//! busy. Does not: decide; [`crate::planner::placing`] does, and [`run`] carries it out.

mod run;

pub(super) use run::{Around, Placer};

use super::clock;
use super::handle::SubmitError;
use crate::planner::placing::{PlaceAnswer, PlaceMode, PlaceTrouble, PlaceWish, Wanted};
use berth_model::command::Principal;
use berth_model::{GangId, PlacementWish, RequestId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Places for one or many: decided on this replica, held through the log.
#[derive(Clone, Debug)]
pub struct PlaceRequest {
    pub principal: Principal,
    pub request_id: RequestId,
    /// W3C trace context, if the client sent one.
    pub traceparent: Option<String>,
    /// From now. What was not applied by then is not applied later.
    pub deadline: Duration,
    /// Each shape once; many requests may share one.
    pub wishes: Vec<Arc<PlacementWish>>,
    pub items: Vec<PlaceWish>,
    /// Set: all items have a place, or none is held.
    pub gang: Option<GangId>,
    pub mode: PlaceMode,
    /// How long what has no place stays in the queue; `None` refuses it at once. It counts for
    /// `PlaceMode::Hold` alone, and ends half a second before the deadline at the latest, so that
    /// there is time to say why.
    pub wait: Option<Duration>,
    /// Of how many hosts an explanation gives each one's own reason.
    pub explain_hosts: usize,
}

/// Left of the deadline when a wait ends.
const TO_EXPLAIN: Duration = Duration::from_millis(500);

/// The doors of all desks.
#[derive(Debug)]
pub(super) struct Placers {
    inboxes: Vec<mpsc::Sender<Arrived>>,
    /// Whose turn is next.
    next: AtomicUsize,
    slots: Slots,
}

/// A request on its way to a desk.
#[derive(Debug)]
pub(super) struct Arrived {
    wanted: Wanted,
    deadline: Duration,
    wait: Duration,
    reply: Reply,
}

/// Where an answer goes; the request counts as under way until this is dropped.
#[derive(Debug)]
pub(super) struct Reply {
    answer: oneshot::Sender<Result<PlaceAnswer, PlaceTrouble>>,
    came: Instant,
    request_id: RequestId,
    _slots: Taken,
}

/// Items under way on this replica.
#[derive(Clone, Debug)]
struct Slots {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

#[derive(Debug)]
struct Taken {
    slots: Arc<AtomicUsize>,
    count: usize,
}

impl Slots {
    fn take(&self, count: usize) -> Result<Taken, SubmitError> {
        if count > self.limit {
            return Err(SubmitError::TooLarge);
        }
        let before = self.taken.fetch_add(count, Ordering::Relaxed);
        let taken = Taken { slots: Arc::clone(&self.taken), count };
        if before + count > self.limit { Err(SubmitError::Full) } else { Ok(taken) }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.slots.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Placers {
    /// `limit` bounds the items under way. The inboxes are for the desks.
    pub fn new(desks: usize, limit: usize) -> (Self, Vec<mpsc::Receiver<Arrived>>) {
        let (inboxes, outboxes) = (0..desks).map(|_| mpsc::channel(limit)).unzip();
        let slots = Slots { taken: Arc::default(), limit };
        (Self { inboxes, next: AtomicUsize::new(0), slots }, outboxes)
    }

    pub async fn place(&self, request: PlaceRequest) -> Result<PlaceAnswer, SubmitError> {
        let slots = self.slots.take(request.items.len().max(1))?;
        let (answer, answered) = oneshot::channel();
        let (came, request_id) = (clock::now(), request.request_id);
        let reply = Reply { answer, came, request_id, _slots: slots };
        let wait = match request.mode {
            PlaceMode::Hold { .. } => {
                request.wait.unwrap_or_default().min(request.deadline.saturating_sub(TO_EXPLAIN))
            }
            PlaceMode::Decide => Duration::ZERO,
        };
        let arrived = Arrived {
            wanted: Wanted {
                principal: request.principal,
                request_id: request.request_id,
                traceparent: request.traceparent,
                wishes: request.wishes,
                items: request.items,
                gang: request.gang,
                mode: request.mode,
                explain_hosts: request.explain_hosts,
            },
            deadline: request.deadline,
            wait,
            reply,
        };
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        self.inboxes[turn].try_send(arrived).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Full,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Stopped,
        })?;
        match answered.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(trouble)) => Err(trouble.into()),
            // The desk ended with the scheduler, perhaps with a command under way.
            Err(_) => Err(match request.mode {
                PlaceMode::Hold { .. } => SubmitError::Unknown,
                PlaceMode::Decide => SubmitError::Stopped,
            }),
        }
    }
}

impl From<PlaceTrouble> for SubmitError {
    fn from(trouble: PlaceTrouble) -> Self {
        match trouble {
            PlaceTrouble::Rejected(rejection) => SubmitError::Rejected(rejection),
            PlaceTrouble::Full => SubmitError::Full,
            PlaceTrouble::NoLeader => SubmitError::NoLeader,
            PlaceTrouble::Unknown => SubmitError::Unknown,
            PlaceTrouble::TooLarge => SubmitError::TooLarge,
            PlaceTrouble::Stopped => SubmitError::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_bounded_in_items() {
        let slots = Slots { taken: Arc::default(), limit: 10 };
        assert!(matches!(slots.take(11), Err(SubmitError::TooLarge)));
        let first = slots.take(6).unwrap();
        assert!(matches!(slots.take(5), Err(SubmitError::Full)));
        let second = slots.take(4).unwrap();
        drop((first, second));
        assert!(slots.take(10).is_ok());
    }
}

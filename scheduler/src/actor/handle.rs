//! The handle that the rest of the process holds: submit a command, read a fleet, watch it.
//!
//! Promises: an accepted command is in the log of a majority and applied on this replica, so that
//! a later look at [`Scheduler::watch`] shows it. A request that was tried twice has one effect:
//! every command carries an idempotency key. Does not: check who asks; the listeners do.

use super::clock;
use super::machine::Published;
use super::placer::{PlaceRequest, Placers};
use super::proposer::decode_answer;
use super::start::Running;
use crate::fleet::{Fleet, format};
use crate::placement::{self, Ask, Guides};
use crate::planner::placing::PlaceAnswer;
use crate::whatif::{self, Question};
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::change::Change;
use berth_model::command::{Command, CommandBody, Condition, Principal};
use berth_model::{
    CellId, EndpointId, Explanation, IdempotencyKey, Place, Rejection, RequestId, Revision,
    Timestamp,
};
use berth_raft::{ProposeError, ReplicaHandle};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One wish of one client.
#[derive(Clone, Debug)]
pub struct Request {
    pub principal: Principal,
    /// `EndpointId::SYSTEM` may touch what any endpoint owns.
    pub endpoint: EndpointId,
    /// Drawn here if the client sent none.
    pub key: Option<IdempotencyKey>,
    pub request_id: RequestId,
    /// W3C trace context, if the client sent one.
    pub traceparent: Option<String>,
    /// From now. What was not applied by then is not applied later.
    pub deadline: Duration,
    /// Applied only if the object was last changed at this index.
    pub condition: Option<Condition>,
    pub body: CommandBody,
}

/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub revision: Revision,
    pub change: Change,
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The fleet says no; nothing changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("too many commands are in flight; try again in a second")]
    Full,
    #[error("the cell has no leader at the moment; try again")]
    NoLeader,
    #[error(
        "the command was sent, but its fate is unknown; ask again with the same idempotency key"
    )]
    Unknown,
    #[error("the command is larger than the log takes; make it smaller")]
    TooLarge,
    #[error("this scheduler is shutting down; ask another")]
    Stopped,
}

/// How new a reading must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Everything that was acknowledged before the call, anywhere in the cell, is in it.
    Linearizable,
    /// Whatever this replica has.
    Stale,
}

/// A fleet, and how old it may be.
#[derive(Clone, Debug)]
pub struct Reading {
    pub fleet: Arc<Fleet>,
    pub index: u64,
    /// How long ago this state may have been overtaken, at most. For a stale read on a follower:
    /// since the leader's last stamp, by this machine's clock, so an idle cell seems old.
    pub age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("too many reads wait; try again in a second")]
    Full,
    #[error("the cell has no leader at the moment; try again, or read with consistency=stale")]
    NoLeader,
    #[error("the read was not confirmed in time; try again, or read with consistency=stale")]
    TimedOut,
    #[error("this scheduler is shutting down; ask another")]
    Stopped,
}

/// Cheap to clone; every clone is the same scheduler.
#[derive(Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

struct Shared {
    cell: CellId,
    replica: ReplicaHandle,
    published: Published,
    placers: Placers,
    metrics: SchedulerMetrics,
    nodes_address: SocketAddr,
    /// Taken at shutdown.
    running: Mutex<Option<Running>>,
}

/// What `start` made.
pub(super) struct Parts {
    pub cell: CellId,
    pub replica: ReplicaHandle,
    pub published: Published,
    pub placers: Placers,
    pub metrics: SchedulerMetrics,
    pub nodes_address: SocketAddr,
    pub running: Running,
}

/// One try to commit; a commit that an election swallowed is tried again within the deadline.
const TRY: Duration = Duration::from_secs(2);
/// Pause between tries, so that a cell without leader is not asked in a busy loop.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a linearizable read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

impl Scheduler {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { cell, replica, published, placers, metrics, nodes_address, running } = parts;
        let running = Mutex::new(Some(running));
        let shared = Shared { cell, replica, published, placers, metrics, nodes_address, running };
        Self { shared: Arc::new(shared) }
    }

    /// Commits a command and waits until this replica has applied it. A commit of unknown fate is
    /// asked for again, under the same key, until the deadline.
    pub async fn submit(&self, request: Request) -> Result<Accepted, SubmitError> {
        let began = clock::now();
        let outcome = self.submit_until(request, began).await;
        let word = match &outcome {
            Ok(_) => "accepted",
            Err(SubmitError::Rejected(_)) => "rejected",
            Err(SubmitError::Full) => "full",
            Err(SubmitError::NoLeader) => "no_leader",
            Err(SubmitError::Unknown) => "unknown",
            Err(SubmitError::Stopped) => "stopped",
            Err(SubmitError::TooLarge) => "too_large",
        };
        self.shared.metrics.submitted(word);
        if outcome.is_ok() {
            self.shared.metrics.committed("client", began.elapsed().as_secs_f64());
        }
        outcome
    }

    async fn submit_until(
        &self,
        request: Request,
        began: Instant,
    ) -> Result<Accepted, SubmitError> {
        let deadline = request.deadline;
        let key = request.key.unwrap_or_else(|| IdempotencyKey::random(&mut rand::rng()));
        let mut command = Command {
            principal: request.principal,
            endpoint: request.endpoint,
            request: request.request_id,
            traceparent: request.traceparent,
            key: Some(key),
            deadline: None,
            condition: request.condition,
            body: request.body,
        };
        // Once a try may have been applied, only an answer ends the doubt.
        let mut in_doubt = false;
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            command.deadline = Some(self.in_leader_time(left));
            let bytes = format::encode_command(&command);
            let refusal = match self.shared.replica.propose(bytes, left.min(TRY)).await {
                Ok(applied) => match decode_answer(&applied.answer) {
                    Ok(change) => {
                        let left = deadline.saturating_sub(began.elapsed());
                        self.catch_up(applied.index, left).await;
                        return Ok(Accepted { revision: self.revision(applied.index), change });
                    }
                    // By the leader's clock; if ours says otherwise, the clocks differ, and the
                    // fleet has the leader's time now.
                    Err(Rejection::DeadlinePassed) if !left.is_zero() => {
                        SubmitError::Rejected(Rejection::DeadlinePassed)
                    }
                    Err(rejection) => return Err(SubmitError::Rejected(rejection)),
                },
                Err(ProposeError::Full) if in_doubt => SubmitError::Unknown,
                Err(ProposeError::Full) => return Err(SubmitError::Full),
                Err(ProposeError::TooLarge) => return Err(SubmitError::TooLarge),
                Err(ProposeError::Stopped) if in_doubt => return Err(SubmitError::Unknown),
                Err(ProposeError::Stopped) => return Err(SubmitError::Stopped),
                Err(ProposeError::NoLeader) if in_doubt => SubmitError::Unknown,
                Err(ProposeError::NoLeader) => SubmitError::NoLeader,
                Err(ProposeError::Unknown) => {
                    in_doubt = true;
                    SubmitError::Unknown
                }
            };
            if began.elapsed() + PAUSE >= deadline {
                return Err(refusal);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A point `left` from now, on the later of this machine's clock and the leader's last stamp.
    fn in_leader_time(&self, left: Duration) -> Timestamp {
        let now = self.shared.published.fleet.borrow().time().max(clock::wall());
        Timestamp(now.0.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Until this replica shows the state at `index`. If it lags, the command is accepted still.
    async fn catch_up(&self, index: u64, left: Duration) {
        let mut applied = self.shared.published.applied.clone();
        let caught_up = applied.wait_for(|applied| *applied >= index);
        // Either it was reached, or time is up, or the replica stopped: the caller learns no more.
        let _ = tokio::time::timeout(left, caught_up).await;
    }

    fn revision(&self, index: u64) -> Revision {
        let fleet = self.shared.published.fleet.borrow();
        Revision { cell: self.shared.cell, incarnation: fleet.incarnation(), index }
    }

    /// A fleet to read from.
    pub async fn read(&self, consistency: Consistency) -> Result<Reading, ReadError> {
        match consistency {
            Consistency::Stale => {
                let index = *self.shared.published.applied.borrow();
                let fleet = Arc::clone(&self.shared.published.fleet.borrow());
                Ok(Reading { index: index.max(fleet.index()), fleet, age: self.age() })
            }
            Consistency::Linearizable => {
                let began = clock::now();
                let index =
                    self.shared.replica.read_index(READ_TIMEOUT).await.map_err(ReadError::from)?;
                let mut applied = self.shared.published.applied.clone();
                let left = READ_TIMEOUT.saturating_sub(began.elapsed());
                let reached = applied.wait_for(|applied| *applied >= index);
                match tokio::time::timeout(left, reached).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return Err(ReadError::Stopped),
                    Err(_) => return Err(ReadError::TimedOut),
                }
                let fleet = Arc::clone(&self.shared.published.fleet.borrow());
                Ok(Reading { fleet, index, age: began.elapsed() })
            }
        }
    }

    /// Since the leader's last stamp, by this machine's clock; nothing on a leader.
    fn age(&self) -> Duration {
        if self.shared.published.reign.borrow().is_ours() {
            return Duration::ZERO;
        }
        let stamp = self.shared.published.fleet.borrow().time();
        Duration::from_millis(clock::wall().0.saturating_sub(stamp.0))
    }

    /// The newest fleet applied on this replica.
    pub fn watch(&self) -> watch::Receiver<Arc<Fleet>> {
        self.shared.published.fleet.clone()
    }

    /// Decides places, on this replica, and holds them if asked to: one or many, each for itself or
    /// all together. What is answered as held is applied here. Asked again with the same ids, it
    /// answers what is held already.
    pub async fn place(&self, request: PlaceRequest) -> Result<PlaceAnswer, SubmitError> {
        self.shared.placers.place(request).await
    }

    /// Where this would go, against what is free in `fleet`, or why nowhere, with the reasons of
    /// `hosts` hosts. Changes nothing. For what [`Scheduler::place`] cannot say, such as an image.
    pub fn explain(
        &self,
        fleet: &Fleet,
        ask: &Ask<'_>,
        hosts: usize,
    ) -> Result<Place, Box<Explanation>> {
        placement::scan::decide(fleet, &Guides::learn(fleet), ask)
            .ok_or_else(|| Box::new(placement::explain(fleet, ask, hosts)))
    }

    /// What would be, on the newest fleet of this replica; nothing changes. It is computed beside
    /// everything else, and may take seconds where there are many hosts.
    pub async fn what_if(&self, question: Question) -> Result<whatif::Answer, ReadError> {
        let fleet = Arc::clone(&self.shared.published.fleet.borrow());
        let answering = tokio::task::spawn_blocking(move || whatif::answer(&fleet, &question));
        answering.await.map_err(|_| ReadError::Stopped)
    }

    /// Role, term, leader and indexes of this replica.
    pub fn replica(&self) -> berth_raft::Status {
        self.shared.replica.status().borrow().clone()
    }

    /// Whether this replica can serve: the cell is set up, a leader is known, and the state at
    /// hand is that of a running cell.
    pub fn is_ready(&self) -> bool {
        self.replica().leader.is_some() && self.shared.published.fleet.borrow().cell().is_some()
    }

    /// The cell that this scheduler's certificate names.
    pub fn cell(&self) -> CellId {
        self.shared.cell
    }

    /// Where nodes dial in.
    pub fn nodes_address(&self) -> SocketAddr {
        self.shared.nodes_address
    }

    /// Waits until the replica has ended, by `shutdown` or because it cannot go on, and says why.
    /// The process should end then.
    pub async fn stopped(&self) -> berth_raft::StopReason {
        self.shared.replica.stopped().await
    }

    /// Ends the node sessions, gives leadership away if it is here, and stops the replica.
    pub async fn shutdown(&self) {
        let running = self.shared.running.lock().expect("nothing panics under this lock").take();
        if let Some(running) = running {
            running.dissolve().await;
            self.shared.replica.clone().shutdown().await;
            running.stop();
        }
    }
}

impl From<berth_raft::ReadError> for ReadError {
    fn from(error: berth_raft::ReadError) -> Self {
        match error {
            berth_raft::ReadError::Full => ReadError::Full,
            berth_raft::ReadError::NoLeader => ReadError::NoLeader,
            berth_raft::ReadError::Stopped => ReadError::Stopped,
        }
    }
}

#[cfg(test)]
impl Scheduler {
    /// Ends as if the process had been killed: nothing is handed over or told.
    pub(super) async fn crash(&self) {
        let running = self.shared.running.lock().expect("nothing panics under this lock").take();
        if let Some(running) = running {
            running.stop();
            self.shared.replica.clone().crash().await;
        }
    }
}

//! What the rest of the process holds of a replica.
//!
//! Promises: nothing here blocks a thread; every call ends by its deadline. A command that is not
//! known to have failed is `Unknown`, never reported as refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use berth_metrics::raft::RaftMetrics;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::core::Input;
use crate::core::proposals::Proposal;
use crate::core::reads::Read;
use crate::options::ReplicaId;
use crate::status::{Role, Status, StopReason};

/// The loop answers at a deadline; if it does not within this time after it, nobody knows.
const GRACE: Duration = Duration::from_secs(1);

/// A command was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Index of the entry that held it.
    pub index: u64,
    /// What this group's state machine answered.
    pub answer: Vec<u8>,
}

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("too many commands are in flight, try again later")]
    Full,
    #[error("no leader took the command in time, it was not applied")]
    NoLeader,
    /// Ask again with the same idempotency key.
    #[error("command may or may not have been applied")]
    Unknown,
    #[error("command is larger than the log takes")]
    TooLarge,
    #[error("replica is stopping, the command was not applied")]
    Stopped,
}

/// Why a read has no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("too many reads wait, try again later")]
    Full,
    #[error("no leader confirmed the read in time")]
    NoLeader,
    #[error("replica is stopping")]
    Stopped,
}

/// A replica's inbox: never blocks; from outside bounded by a count, for the loop has one channel
/// only.
#[derive(Clone)]
pub(crate) struct Inbox {
    queue: Sender<Input>,
    depth: Arc<AtomicUsize>,
}

/// Inputs from outside that may wait for the loop.
const INBOX: usize = 16_384;

impl Inbox {
    pub(crate) fn new(queue: Sender<Input>) -> Self {
        Self { queue, depth: Arc::new(AtomicUsize::new(0)) }
    }

    /// For what must not be lost and is bounded by its nature.
    pub(crate) fn push(&self, input: Input) -> Result<(), Refused> {
        self.depth.fetch_add(1, Ordering::Relaxed);
        self.queue.send(input).map_err(|_| Refused::Gone)
    }

    /// For what others send as they like.
    pub(crate) fn offer(&self, input: Input) -> Result<(), Refused> {
        if self.depth.load(Ordering::Relaxed) >= INBOX {
            return Err(Refused::Full);
        }
        self.push(input)
    }

    /// The loop took one.
    pub(crate) fn taken(&self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Gone,
}

/// Where an answer goes that somebody in this process waits for.
pub(crate) type ReplyTo<T> = oneshot::Sender<T>;

/// Who waits for a command's outcome.
pub(crate) enum Reply {
    Local(ReplyTo<Result<Applied, ProposeError>>),
    Remote { peer: ReplicaId, request: u64 },
}

/// A running replica. Cheap to clone; the replica goes on when all handles are dropped.
#[derive(Clone)]
pub struct ReplicaHandle {
    pub(crate) inbox: Inbox,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) stopped: watch::Receiver<Option<StopReason>>,
    pub(crate) metrics: RaftMetrics,
    pub(crate) command_limit: usize,
}

impl ReplicaHandle {
    /// Proposes a command through this replica, whichever one leads, and waits until it is applied.
    pub async fn propose(
        &self,
        command: Vec<u8>,
        deadline: Duration,
    ) -> Result<Applied, ProposeError> {
        self.propose_in(command, deadline, false).await
    }

    /// As [`Self::propose`], before all others and with room kept free: for fencing and node
    /// reports.
    pub async fn propose_urgent(
        &self,
        command: Vec<u8>,
        deadline: Duration,
    ) -> Result<Applied, ProposeError> {
        self.propose_in(command, deadline, true).await
    }

    /// Waits until this replica has applied everything that any replica had acknowledged when this
    /// was called; answers that index.
    pub async fn read_index(&self, deadline: Duration) -> Result<u64, ReadError> {
        let (reply, answer) = oneshot::channel();
        let read = Read { deadline: clock::now() + deadline, reply };
        self.inbox.offer(Input::Read(read)).map_err(|refused| match refused {
            Refused::Full => ReadError::Full,
            Refused::Gone => ReadError::Stopped,
        })?;
        let outcome = match tokio::time::timeout(deadline + GRACE, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::NoLeader),
        };
        match &outcome {
            Ok(_) => self.metrics.reads_confirmed.inc(),
            Err(_) => self.metrics.reads_failed.inc(),
        }
        outcome
    }

    /// What this replica knows; changes wake the receiver.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Hands the leadership over and waits until this replica sees the new leader, or for about an
    /// election's time. Does nothing on a replica that does not lead.
    pub async fn transfer_leader(&self, to: ReplicaId) {
        let mut status = self.status.clone();
        if status.borrow_and_update().role != Role::Leader {
            return;
        }
        if self.inbox.push(Input::Transfer(to)).is_err() {
            return;
        }
        let changed =
            status.wait_for(|status| status.role != Role::Leader && status.leader.is_some());
        // Whether it worked is in the status; an error means that the replica stopped.
        let _ = tokio::time::timeout(Duration::from_secs(2), changed).await;
    }

    /// Hands leadership over if it leads, writes what is left and ends.
    pub async fn shutdown(self) {
        if self.inbox.push(Input::Stop).is_ok() {
            self.stopped().await;
        }
    }

    /// Waits until the replica has ended and says why. The process should end too.
    pub async fn stopped(&self) -> StopReason {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => StopReason::Asked,
        }
    }

    /// Ends without handing over or writing what is left, as a crash would.
    #[doc(hidden)]
    pub async fn crash(self) {
        if self.inbox.push(Input::Crash).is_ok() {
            self.stopped().await;
        }
    }

    async fn propose_in(
        &self,
        command: Vec<u8>,
        deadline: Duration,
        urgent: bool,
    ) -> Result<Applied, ProposeError> {
        let outcome = self.propose_once(command, deadline, urgent).await;
        match &outcome {
            Ok(_) => self.metrics.proposals_applied.inc(),
            Err(ProposeError::Full) => self.metrics.proposals_full.inc(),
            Err(ProposeError::NoLeader) => self.metrics.proposals_no_leader.inc(),
            Err(ProposeError::Unknown) => self.metrics.proposals_unknown.inc(),
            Err(ProposeError::TooLarge) => self.metrics.proposals_too_large.inc(),
            Err(ProposeError::Stopped) => self.metrics.proposals_stopped.inc(),
        }
        outcome
    }

    async fn propose_once(
        &self,
        command: Vec<u8>,
        deadline: Duration,
        urgent: bool,
    ) -> Result<Applied, ProposeError> {
        if command.len() > self.command_limit {
            return Err(ProposeError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal {
            command: Bytes::from(command),
            deadline: clock::now() + deadline,
            urgent,
            reply: Reply::Local(reply),
        };
        self.inbox.offer(Input::Propose(proposal)).map_err(|refused| match refused {
            Refused::Full => ProposeError::Full,
            Refused::Gone => ProposeError::Stopped,
        })?;
        match tokio::time::timeout(deadline + GRACE, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        }
    }
}

//! The loop: one thread that owns raft-rs's node and the state machine.
//!
//! ```text
//!   inbox ─► take inputs ─► tick ─► propose, forward, ask ─► ready: send, store, apply ─► publish
//!     ▲                                                               │
//!     └── persisted ── writer thread (write + sync, then messages) ◄──┘
//! ```
//!
//! Promises: nothing here waits for a disk or a network but for a snapshot that replaces the log.
//! Time comes in as ticks; a loop that comes back late makes two ticks at most, so that a process
//! which was paused hears its peers before it takes them for dead.
//! Does not: change the membership. An entry that would is refused by stopping.

mod commands;
pub(crate) mod hashes;
mod peers;
pub(crate) mod proposals;
pub(crate) mod reads;
mod ready;
mod snapshot;
mod stop;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Instant;

use berth_metrics::raft::RaftMetrics;
use raft::{RawNode, StateRole};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::clock;
use crate::handle::{Inbox, ReadError, Reply, ReplyTo};
use crate::log::storage::RaftStorage;
use crate::log::writer::{Fatal, Writer};
use crate::log::{Durable, Position};
use crate::machine::StateMachine;
use crate::message::{PeerMessage, RaftMessage};
use crate::net::{Net, SendSnapshot};
use crate::options::{Options, ReplicaId};
use crate::outbox::Outbox;
use crate::snapshots::{Header, SnapshotError, Snapshots};
use crate::status::{Role, Status, StopReason};

use hashes::Hashes;
use proposals::{Proposal, Proposals};
use reads::{Read, Reads};

/// Inputs of one turn.
const TURN_INPUTS: usize = 8192;

/// All that can happen to a replica.
pub(crate) enum Input {
    Propose(Proposal<Reply>),
    Read(Read<ReplyTo<Result<u64, ReadError>>>),
    Peer {
        from: ReplicaId,
        message: PeerMessage,
    },
    LinkUp,
    LinkDown(ReplicaId),
    /// The ready with this number, and all before it, are on disk.
    Persisted(u64),
    SnapshotMade {
        position: Position,
        outcome: Result<u64, SnapshotError>,
    },
    SnapshotReceived(Box<ReceivedSnapshot>),
    SnapshotSent {
        to: ReplicaId,
        delivered: bool,
    },
    Transfer(ReplicaId),
    Stop,
    Crash,
}

/// A checked snapshot of a peer; it takes effect only if raft takes it.
pub(crate) struct ReceivedSnapshot {
    pub(crate) from: ReplicaId,
    pub(crate) message: RaftMessage,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) bytes: Vec<u8>,
    pub(crate) accepted: ReplyTo<bool>,
}

/// A received snapshot between its message and the ready that installs it.
struct Incoming {
    position: Position,
    path: PathBuf,
    header: Header,
    bytes: Vec<u8>,
}

pub(crate) struct Core<M> {
    pub(crate) options: Options,
    pub(crate) node: RawNode<RaftStorage>,
    pub(crate) machine: M,
    pub(crate) own: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) send_snapshot: UnboundedSender<SendSnapshot>,
    pub(crate) writer: Writer,
    pub(crate) snapshots: Snapshots,
    /// What the disk holds or will hold once the writer has done its work.
    pub(crate) durable: Durable,
    pub(crate) proposals: Proposals<Reply>,
    pub(crate) reads: Reads<ReplyTo<Result<u64, ReadError>>>,
    pub(crate) hashes: Hashes,
    pub(crate) progress: Progress,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) metrics: RaftMetrics,
    pub(crate) fatal: Fatal,
}

/// The loop's own counters and flags.
pub(crate) struct Progress {
    pub(crate) applied: u64,
    /// Newest stamp that was applied, in milliseconds.
    pub(crate) applied_ms: u64,
    /// Newest stamp that this replica gave as leader, in milliseconds.
    stamped_ms: u64,
    /// Numbers of readies that the writer has and has not reported.
    unwritten: std::collections::VecDeque<u64>,
    entries_since_snapshot: u64,
    bytes_since_snapshot: u64,
    snapshot_thread: Option<JoinHandle<()>>,
    incoming: Option<Incoming>,
    /// Whether passing commands on is worth trying; a peer that says it does not lead ends it until
    /// the next tick.
    may_forward: bool,
    leader: ReplicaId,
    stopping: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(applied: u64, applied_ms: u64) -> Self {
        Self {
            applied,
            applied_ms,
            stamped_ms: applied_ms,
            unwritten: std::collections::VecDeque::new(),
            entries_since_snapshot: 0,
            bytes_since_snapshot: 0,
            snapshot_thread: None,
            incoming: None,
            may_forward: true,
            leader: 0,
            stopping: None,
        }
    }
}

/// Why the loop ends: as a replica should, or as a crash would.
enum End {
    Reason(StopReason),
    Crash,
}

impl From<StopReason> for End {
    fn from(reason: StopReason) -> Self {
        End::Reason(reason)
    }
}

impl<M: StateMachine> Core<M> {
    /// Runs until the replica ends; then everything of it is gone but its files.
    pub(crate) fn run(
        mut self,
        inbox: Receiver<Input>,
        net: Net,
        stopped: watch::Sender<Option<StopReason>>,
    ) {
        let fatal = self.fatal.clone();
        let outcome = catch_unwind(AssertUnwindSafe(move || {
            let end = match self.turns(&inbox) {
                Ok(never) => match never {},
                Err(end) => end,
            };
            let reason = self.finish(end, &inbox);
            net.stop();
            drop(inbox);
            reason
        }));
        match outcome {
            Ok(reason) => {
                if reason == StopReason::Asked {
                    tracing::info!(%reason, "raft replica ended");
                } else {
                    tracing::error!(%reason, "raft replica ended, this process must not go on");
                }
                // Nobody may be waiting.
                let _ = stopped.send(Some(reason));
            }
            Err(_) => fatal("raft loop or state machine panicked, see above; the process ends"),
        }
    }

    fn turns(&mut self, inbox: &Receiver<Input>) -> Result<std::convert::Infallible, End> {
        let tick = self.options.tick;
        let mut next_tick = clock::now() + tick;
        // What was committed before the start is applied before anybody is listened to.
        self.readies()?;
        self.publish();
        loop {
            let wait = next_tick.saturating_duration_since(clock::now());
            let first = match inbox.recv_timeout(wait) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err(StopReason::Asked.into()),
            };
            let started = clock::now();
            let inputs = first.into_iter().chain(inbox.try_iter()).take(TURN_INPUTS);
            for input in inputs {
                self.own.taken();
                self.take(input)?;
            }
            if started >= next_tick {
                next_tick = self.ticks(started, next_tick);
            }
            self.pump();
            self.readies()?;
            self.publish();
            self.check_stop(started)?;
            self.metrics.loop_seconds.observe(started.elapsed().as_secs_f64());
        }
    }

    fn take(&mut self, input: Input) -> Result<(), End> {
        match input {
            Input::Propose(proposal) => self.take_proposal(proposal),
            Input::Read(read) => {
                if let Some((reply, answer)) = self.reads.take(read) {
                    // Whoever asked may have given up.
                    let _ = reply.send(answer);
                }
            }
            Input::Peer { from, message } => self.hear(from, message)?,
            Input::LinkUp => self.progress.may_forward = true,
            Input::LinkDown(peer) => {
                self.node.report_unreachable(peer);
                let lost = self.proposals.link_lost(peer);
                self.deliver(lost);
            }
            Input::Persisted(number) => self.persisted(number),
            Input::SnapshotMade { position, outcome } => self.snapshot_made(position, outcome),
            Input::SnapshotReceived(received) => self.snapshot_received(*received)?,
            Input::SnapshotSent { to, delivered } => self.snapshot_sent(to, delivered),
            Input::Transfer(to) => self.node.transfer_leader(to),
            Input::Stop => self.begin_stop(),
            Input::Crash => return Err(End::Crash),
        }
        Ok(())
    }

    fn persisted(&mut self, number: u64) {
        while self.progress.unwritten.front().is_some_and(|first| *first <= number) {
            self.progress.unwritten.pop_front();
        }
        self.node.on_persist_ready(number);
        self.node.mut_store().evict(number);
    }

    /// Makes the ticks that are due; answers when the next is.
    fn ticks(&mut self, now: Instant, due: Instant) -> Instant {
        let tick = self.options.tick;
        let late = now.saturating_duration_since(due);
        if late > 3 * tick {
            self.metrics.loop_stalls.inc();
            tracing::warn!(late_ms = late.as_millis() as u64, "raft loop came back late");
        }
        self.node.tick();
        let next = if late > tick {
            self.node.tick();
            now + tick
        } else {
            due + tick
        };
        self.progress.may_forward = true;
        let expired = self.proposals.expire(now);
        self.deliver(expired);
        for (reply, answer) in self.reads.tick(now) {
            // Whoever asked may have given up.
            let _ = reply.send(answer);
        }
        next
    }

    /// Tells everybody what changed in this turn.
    fn publish(&mut self) {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        };
        let status = Status {
            id: self.options.id,
            role,
            term: raft.term,
            leader: (raft.leader_id != 0).then_some(raft.leader_id),
            commit: raft.raft_log.committed,
            applied: self.progress.applied,
            settled: role == Role::Leader && raft.apply_to_current_term(),
        };
        let metrics = &self.metrics;
        metrics.commit_index.set(status.commit as i64);
        metrics.applied_index.set(status.applied as i64);
        metrics.last_index.set(raft.raft_log.last_index() as i64);
        metrics.in_flight.set(self.proposals.in_flight() as i64);
        let before = self.status.borrow().clone();
        if before == status {
            return;
        }
        let role_changed = (before.role, before.term, before.leader, before.settled)
            != (status.role, status.term, status.leader, status.settled);
        if role_changed {
            metrics.set_role(role.as_str());
            metrics.term.set(status.term as i64);
            if let Some(leader) = status.leader
                && leader != self.progress.leader
            {
                self.progress.leader = leader;
                self.progress.may_forward = true;
                metrics.leader_changes.inc();
                tracing::info!(id = status.id, leader, term = status.term, "raft has a leader");
            }
            self.machine.role_changed(&status);
        }
        self.status.send_replace(status);
    }
}

//! The loop's part that moves commands and reads on: into the log, to the leader, or nowhere yet.

use bytes::Bytes;
use raft::StateRole;

use super::Core;
use super::proposals::{self, Proposal};
use crate::batch::{Batch, Blob};
use crate::clock;
use crate::handle::{ProposeError, Reply};
use crate::log::Position;
use crate::machine::StateMachine;
use crate::message::{Outcome, PeerMessage};

/// Writes under way beyond which commands are held back to share the next entry: the disk is busy
/// anyway, and fewer, larger entries cost less on every replica.
const WRITES_AHEAD: usize = 2;
/// Commands that are enough for an entry however busy the disk is.
const ENOUGH_COMMANDS: usize = 512;

impl<M: StateMachine> Core<M> {
    pub(super) fn take_proposal(&mut self, proposal: Proposal<Reply>) {
        let refused = if self.progress.stopping.is_some() {
            Some((proposal.reply, Err(ProposeError::Stopped)))
        } else {
            self.proposals.take(proposal)
        };
        self.deliver(refused);
    }

    /// Moves commands and reads on: into the log, to the leader, or nowhere yet.
    pub(super) fn pump(&mut self) {
        if self.leads() {
            while self.proposals.waiting() > 0
                && (self.progress.unwritten.len() < WRITES_AHEAD
                    || self.proposals.waiting() >= ENOUGH_COMMANDS)
            {
                if !self.propose_pack() {
                    break;
                }
            }
        } else if self.progress.may_forward {
            self.forward();
        }
        if self.node.raft.leader_id != 0
            && (self.node.raft.state != StateRole::Leader
                || self.node.raft.commit_to_current_term())
            && let Some(context) = self.reads.ask()
        {
            self.node.read_index(context);
        }
    }

    /// Whether commands can go into the log here now.
    pub(super) fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.lead_transferee.is_none()
    }

    fn propose_pack(&mut self) -> bool {
        let Some(pack) = self.proposals.pack() else { return false };
        let progress = &mut self.progress;
        progress.stamped_ms = clock::wall_ms().max(progress.stamped_ms).max(progress.applied_ms);
        let commands = pack.commands.iter().cloned().map(Blob).collect();
        let batch = Batch { time_ms: progress.stamped_ms, commands };
        // Refused while too much is uncommitted; the commands wait, and new ones are soon `Full`.
        if let Err(error) = self.node.propose(Vec::new(), batch.encode()) {
            tracing::debug!(%error, "raft takes no commands now");
            self.proposals.unpack(pack);
            return false;
        }
        self.metrics.entry_commands.observe(pack.commands.len() as f64);
        let index = self.node.raft.raft_log.last_index();
        self.proposals.proposed(Position { index, term: self.node.raft.term }, pack);
        true
    }

    fn forward(&mut self) {
        let leader = self.node.raft.leader_id;
        if leader == 0 || leader == self.options.id || !self.outbox.is_connected(leader) {
            return;
        }
        let now = clock::now();
        while let Some(proposal) = self.proposals.next() {
            let left = proposal.deadline.saturating_duration_since(now);
            let urgent = proposal.urgent;
            let command = Blob(proposal.command.clone());
            let request = self.proposals.forward(leader, proposal);
            let deadline_ms = left.as_millis() as u64;
            let message = PeerMessage::Propose { request, urgent, deadline_ms, command };
            if !self.outbox.send(leader, message) {
                self.proposals.not_sent(request);
                self.progress.may_forward = false;
                return;
            }
            self.metrics.proposals_forwarded.inc();
        }
    }

    pub(super) fn deliver(&self, answers: impl IntoIterator<Item = (Reply, proposals::Answer)>) {
        for (reply, answer) in answers {
            match reply {
                Reply::Local(reply) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(answer);
                }
                Reply::Remote { peer, request } => {
                    let outcome = match answer {
                        Ok(applied) => Outcome::Applied {
                            index: applied.index,
                            answer: Blob(Bytes::from(applied.answer)),
                        },
                        Err(ProposeError::Full) => Outcome::Full,
                        Err(ProposeError::TooLarge) => Outcome::TooLarge,
                        Err(ProposeError::Unknown) => Outcome::Unknown,
                        Err(ProposeError::NoLeader | ProposeError::Stopped) => Outcome::NotLeader,
                    };
                    // A lost answer is Unknown at the other end, by its deadline.
                    self.outbox.send(peer, PeerMessage::Proposed { request, outcome });
                }
            }
        }
    }
}

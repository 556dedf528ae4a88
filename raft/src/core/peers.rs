//! The loop's part that hears other replicas.

use std::time::Duration;

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::hashes::Verdict;
use super::proposals::Proposal;
use super::{Core, End};
use crate::clock;
use crate::handle::{Applied, ProposeError, Reply};
use crate::machine::StateMachine;
use crate::message::{Outcome, PeerMessage, RaftMessage};
use crate::options::ReplicaId;
use crate::status::StopReason;

/// A peer's deadline is believed up to this.
const LONGEST_DEADLINE: Duration = Duration::from_secs(600);

impl<M: StateMachine> Core<M> {
    pub(super) fn hear(&mut self, from: ReplicaId, message: PeerMessage) -> Result<(), End> {
        match message {
            PeerMessage::Pulse => {}
            PeerMessage::Raft(message) => self.hear_raft(from, message)?,
            PeerMessage::Propose { request, urgent, deadline_ms, command } => {
                let reply = Reply::Remote { peer: from, request };
                let deadline = Duration::from_millis(deadline_ms).min(LONGEST_DEADLINE);
                let too_large = command.0.len() > self.options.command_limit;
                if !self.leads() || self.progress.stopping.is_some() {
                    self.deliver([(reply, Err(ProposeError::NoLeader))]);
                } else if too_large {
                    self.deliver([(reply, Err(ProposeError::TooLarge))]);
                } else {
                    let deadline = clock::now() + deadline;
                    let command = command.0;
                    self.take_proposal(Proposal { command, deadline, urgent, reply });
                }
            }
            PeerMessage::Proposed { request, outcome } => self.hear_outcome(from, request, outcome),
            PeerMessage::StateHash { index, hash } => {
                let verdict = self.hashes.leaders(index, hash);
                self.judge(index, verdict)?;
            }
        }
        Ok(())
    }

    fn hear_raft(&mut self, from: ReplicaId, message: RaftMessage) -> Result<(), End> {
        match message.into_raft(from, self.options.id) {
            Ok(message) => self.step(message),
            Err(refused) => {
                tracing::warn!(from, %refused, "message of a peer was refused");
                self.metrics.messages_dropped.inc();
                Ok(())
            }
        }
    }

    /// Shows a checked message to raft.
    pub(super) fn step(&mut self, message: Message) -> Result<(), End> {
        let last = self.node.raft.raft_log.last_index();
        // A leader names only what we acknowledged to it. raft-rs would panic here.
        if message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= self.node.raft.term
            && message.commit > last
        {
            return Err(StopReason::LostLog { last, acknowledged: message.commit }.into());
        }
        let from = message.from;
        if let Err(error) = self.node.step(message) {
            tracing::debug!(from, %error, "raft refused a message");
        }
        Ok(())
    }

    fn hear_outcome(&mut self, from: ReplicaId, request: u64, outcome: Outcome) {
        let answer = match outcome {
            Outcome::NotLeader => {
                self.proposals.not_leader(from, request);
                self.progress.may_forward = false;
                return;
            }
            Outcome::Applied { index, answer } => Ok(Applied { index, answer: answer.0.to_vec() }),
            Outcome::Full => Err(ProposeError::Full),
            Outcome::TooLarge => Err(ProposeError::TooLarge),
            Outcome::Unknown => Err(ProposeError::Unknown),
        };
        // Nobody waits any more when the deadline has passed.
        let answered = self.proposals.answered_by(from, request);
        self.deliver(answered.map(|proposal| (proposal.reply, answer)));
    }

    /// Our state's hash after `index`: remembered, told to the others if we lead, and compared.
    pub(super) fn hash_state(&mut self, index: u64) -> Result<(), End> {
        let hash = self.machine.state_hash();
        if self.node.raft.state == StateRole::Leader {
            for peer in self.outbox.peers() {
                // Only a comparison is lost with it.
                self.outbox.send(peer, PeerMessage::StateHash { index, hash });
            }
        }
        let verdict = self.hashes.ours(index, hash);
        self.judge(index, verdict)
    }

    fn judge(&mut self, index: u64, verdict: Verdict) -> Result<(), End> {
        match verdict {
            Verdict::Open => Ok(()),
            Verdict::Same => {
                self.metrics.state_hashes_compared.inc();
                Ok(())
            }
            Verdict::Different => {
                self.metrics.state_hashes_compared.inc();
                self.metrics.state_hash_mismatches.inc();
                Err(StopReason::Diverged { index }.into())
            }
        }
    }
}

//! The loop's part that ends a replica: hands over, answers everybody, leaves the files whole.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use raft::StateRole;

use super::{Core, End, Input};
use crate::clock;
use crate::handle::{ProposeError, ReadError};
use crate::machine::StateMachine;
use crate::status::StopReason;

impl<M: StateMachine> Core<M> {
    /// Hands the leadership over, if there is any, to the peer that is furthest.
    pub(super) fn begin_stop(&mut self) {
        if self.progress.stopping.is_some() {
            return;
        }
        let patience = self.options.tick * (2 * self.options.election_ticks) as u32;
        self.progress.stopping = Some(clock::now() + patience.max(Duration::from_secs(1)));
        if self.node.raft.state != StateRole::Leader {
            return;
        }
        let best = self
            .outbox
            .peers()
            .filter(|peer| self.outbox.is_connected(*peer))
            .filter_map(|peer| Some((self.node.raft.prs().get(peer)?.matched, peer)))
            .max();
        if let Some((_, peer)) = best {
            self.node.transfer_leader(peer);
        }
    }

    pub(super) fn check_stop(&mut self, now: Instant) -> Result<(), End> {
        let Some(patience) = self.progress.stopping else { return Ok(()) };
        let alone = self.outbox.peers().next().is_none();
        let led = self.node.raft.state == StateRole::Leader && !alone;
        if (!led && self.proposals.in_flight() == 0) || now >= patience {
            return Err(StopReason::Asked.into());
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, end: End, inbox: &Receiver<Input>) -> StopReason {
        let reason = match end {
            End::Reason(reason) => reason,
            End::Crash => {
                self.writer.abandon();
                StopReason::Asked
            }
        };
        if let Some(thread) = self.progress.snapshot_thread.take() {
            // A panic in it was printed; the snapshot just is not there.
            let _ = thread.join();
        }
        for input in inbox.try_iter() {
            self.take_last(input);
        }
        let answers = self.proposals.stop();
        self.deliver(answers);
        for (reply, answer) in self.reads.stop() {
            // Whoever asked may have given up.
            let _ = reply.send(answer);
        }
        self.writer.stop();
        reason
    }

    /// What still came: nobody is left without an answer, and a snapshot that was made is used.
    fn take_last(&mut self, input: Input) {
        match input {
            Input::Propose(proposal) => {
                self.deliver([(proposal.reply, Err(ProposeError::Stopped))]);
            }
            Input::Read(read) => {
                // Whoever asked may have given up.
                let _ = read.reply.send(Err(ReadError::Stopped));
            }
            Input::SnapshotMade { position, outcome } => self.snapshot_made(position, outcome),
            Input::Peer { .. }
            | Input::LinkUp
            | Input::LinkDown(_)
            | Input::Persisted(_)
            | Input::SnapshotReceived(_)
            | Input::SnapshotSent { .. }
            | Input::Transfer(_)
            | Input::Stop
            | Input::Crash => {}
        }
    }
}

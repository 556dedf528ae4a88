//! The loop's part that makes, takes and hands out snapshots.

use std::fs;

use raft::{Ready, SnapshotStatus};

use super::{Core, End, Incoming, Input, ReceivedSnapshot};
use crate::log::Position;
use crate::machine::StateMachine;
use crate::options::ReplicaId;
use crate::snapshots::SnapshotError;
use crate::status::StopReason;

/// A snapshot is made early when this much was applied since the last one, in bytes.
const SNAPSHOT_BYTES: u64 = 64 << 20;

impl<M: StateMachine> Core<M> {
    /// Begins a snapshot when one is due: copied here, encoded and written on a thread of its own.
    pub(super) fn maybe_snapshot(&mut self) {
        let progress = &self.progress;
        let due = progress.entries_since_snapshot >= self.options.snapshot_every
            || progress.bytes_since_snapshot >= SNAPSHOT_BYTES;
        if !due || progress.snapshot_thread.is_some() {
            return;
        }
        let index = progress.applied;
        let Some(term) = self.node.store().term_of(index) else { return };
        let position = Position { index, term };
        let encode = self.machine.snapshot();
        let (snapshots, own) = (self.snapshots.clone(), self.own.clone());
        let (voters, time_ms) = (self.durable.voters.clone(), progress.applied_ms);
        let write = move || {
            let outcome = snapshots.write(position, voters, time_ms, &encode());
            // The loop may have ended; then nobody needs it.
            let _ = own.push(Input::SnapshotMade { position, outcome });
        };
        match std::thread::Builder::new().name("raft-snapshot".into()).spawn(write) {
            Ok(thread) => {
                self.progress.snapshot_thread = Some(thread);
                self.progress.entries_since_snapshot = 0;
                self.progress.bytes_since_snapshot = 0;
            }
            Err(error) => tracing::error!(%error, "no thread for a snapshot, trying again later"),
        }
    }

    /// A snapshot is on disk: the log gets shorter.
    pub(super) fn snapshot_made(
        &mut self,
        position: Position,
        outcome: Result<u64, SnapshotError>,
    ) {
        if let Some(thread) = self.progress.snapshot_thread.take() {
            // It has sent its last word.
            let _ = thread.join();
        }
        let bytes = match outcome {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "snapshot could not be written, the log grows until one can"
                );
                self.metrics.snapshots_failed.inc();
                return;
            }
        };
        // A peer's snapshot may have overtaken ours.
        if self.durable.snapshot.is_some_and(|newest| newest.index >= position.index) {
            return;
        }
        self.metrics.snapshots_made.inc();
        self.metrics.snapshot_bytes.set(bytes as i64);
        self.durable.snapshot = Some(position);
        let store = self.node.store();
        let wanted = position.index.saturating_sub(self.options.snapshot_trailing);
        if wanted > store.truncated().index
            && let Some(term) = store.term_of(wanted)
        {
            self.durable.truncated = Position { index: wanted, term };
        }
        self.node.mut_store().compact(&self.durable);
        self.writer.compact(self.durable.clone());
    }

    /// Shows a peer's snapshot to raft, which installs it or has no use for it.
    pub(super) fn snapshot_received(&mut self, received: ReceivedSnapshot) -> Result<(), End> {
        let ReceivedSnapshot { from, message, path, header, bytes, accepted } = received;
        let position = header.position;
        // What was ready before must not be mixed up with what this brings.
        self.readies()?;
        let known = match message.into_raft(from, self.options.id) {
            Ok(message) => {
                self.progress.incoming = Some(Incoming { position, path, header, bytes });
                self.step(message)?;
                self.readies()?;
                self.progress.applied >= position.index
            }
            Err(refused) => {
                tracing::warn!(from, %refused, "snapshot of a peer was refused");
                false
            }
        };
        if let Some(unused) = self.progress.incoming.take()
            && let Err(error) = fs::remove_file(&unused.path)
        {
            tracing::warn!(path = %unused.path.display(), %error, "unused snapshot stays");
        }
        // The peer may be gone.
        let _ = accepted.send(known);
        Ok(())
    }

    /// Replaces state and log by the snapshot that raft took. Waits for the disk: raft must not
    /// step on before a snapshot is there.
    pub(super) fn install(&mut self, mut ready: Ready) -> Result<(), End> {
        let number = ready.number();
        let metadata = ready.snapshot().get_metadata();
        let position = Position { index: metadata.index, term: metadata.term };
        let unusable =
            |detail: String| StopReason::UnusableSnapshot { index: position.index, detail };
        let incoming = self.progress.incoming.take().filter(|i| i.position == position);
        let Some(Incoming { path, header, bytes, .. }) = incoming else {
            return Err(unusable("its bytes never came".into()).into());
        };
        if header.voters != self.durable.voters {
            return Err(unusable("it is of another group".into()).into());
        }
        self.snapshots.place(&path, position).map_err(|error| unusable(error.to_string()))?;
        self.machine.restore(position.index, &bytes).map_err(unusable)?;
        self.durable.truncated = position;
        self.durable.snapshot = Some(position);
        let entries = ready.take_entries();
        let messages = self.mail(ready.take_persisted_messages());
        self.writer.reset(self.durable.clone(), entries.clone());
        self.node.mut_store().reset(&self.durable);
        self.node.mut_store().append(&entries, number);
        self.node.advance_append_async(ready);
        self.node.on_persist_ready(number);
        self.node.advance_apply_to(position.index);
        self.progress.applied = position.index;
        self.progress.applied_ms = self.progress.applied_ms.max(header.time_ms);
        self.progress.entries_since_snapshot = 0;
        self.progress.bytes_since_snapshot = 0;
        self.metrics.snapshots_received.inc();
        self.metrics.snapshot_bytes.set(bytes.len() as i64);
        tracing::info!(index = position.index, "installed the leader's snapshot");
        self.machine.applied(position.index);
        for (to, message) in messages {
            self.outbox.send(to, message);
        }
        let lost = self.proposals.lost_up_to(position.index);
        self.deliver(lost);
        for (reply, answer) in self.reads.applied(position.index) {
            // Whoever asked may have given up.
            let _ = reply.send(answer);
        }
        Ok(())
    }

    /// Raft sends a peer nothing while a snapshot is on its way, so it must hear of every end.
    pub(super) fn snapshot_sent(&mut self, to: ReplicaId, delivered: bool) {
        if delivered {
            self.metrics.snapshots_sent.inc();
            self.node.report_snapshot(to, SnapshotStatus::Finish);
        } else {
            self.metrics.snapshots_failed.inc();
            self.node.report_snapshot(to, SnapshotStatus::Failure);
        }
    }
}

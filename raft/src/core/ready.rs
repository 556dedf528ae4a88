//! The loop's part that carries out what raft wants done.

use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{ReadState, Ready};

use super::{Core, End};
use crate::batch::Batch;
use crate::log::Position;
use crate::log::writer::Append;
use crate::machine::StateMachine;
use crate::message::{PeerMessage, RaftMessage};
use crate::net::SendSnapshot;
use crate::options::ReplicaId;
use crate::status::StopReason;

impl<M: StateMachine> Core<M> {
    pub(super) fn readies(&mut self) -> Result<(), End> {
        while self.node.has_ready() {
            self.ready()?;
        }
        Ok(())
    }

    /// Carries out one ready. A leader's messages go at once, while its own disk still works; all
    /// others wait until what they promise is on disk.
    fn ready(&mut self) -> Result<(), End> {
        let mut ready = self.node.ready();
        for (to, message) in self.mail(ready.take_messages()) {
            self.outbox.send(to, message);
        }
        if let Some(state) = ready.hs() {
            self.durable.term = state.term;
            self.durable.vote = state.vote;
            self.durable.commit = state.commit;
        }
        let read_states = ready.take_read_states();
        if ready.snapshot().is_empty() {
            let committed = ready.take_committed_entries();
            self.store(ready);
            self.apply(committed)?;
        } else {
            self.install(ready)?;
        }
        self.confirm_reads(read_states);
        Ok(())
    }

    fn store(&mut self, mut ready: Ready) {
        let number = ready.number();
        let entries = ready.take_entries();
        let messages = self.mail(ready.take_persisted_messages());
        let must_sync = ready.must_sync();
        self.node.mut_store().append(&entries, number);
        self.node.advance_append_async(ready);
        if must_sync || !self.progress.unwritten.is_empty() {
            self.progress.unwritten.push_back(number);
            let state = must_sync.then(|| self.durable.clone());
            self.writer.append(Append { number, entries, state, messages });
        } else {
            // Nothing to write and nothing being written: the promise holds already. A new commit
            // index alone goes with the next write, for it can be learned again.
            for (to, message) in messages {
                self.outbox.send(to, message);
            }
            self.node.on_persist_ready(number);
        }
    }

    /// Turns raft's messages into what travels. Snapshots go another way, on a link of their own.
    pub(super) fn mail(&self, messages: Vec<Message>) -> Vec<(ReplicaId, PeerMessage)> {
        let mut mail = Vec::with_capacity(messages.len());
        for message in messages {
            let to = message.to;
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let Some(message) = RaftMessage::from_raft(message) else {
                tracing::debug!(to, "raft's own message does not travel");
                continue;
            };
            if is_snapshot {
                self.mail_snapshot(to, message);
            } else {
                mail.push((to, PeerMessage::Raft(message)));
            }
        }
        mail
    }

    /// The outcome comes back as an input in any case, for raft sends that peer nothing until then.
    fn mail_snapshot(&self, to: ReplicaId, message: RaftMessage) {
        let path = message.snapshot_position().map(|position| self.snapshots.path(position));
        let Some(path) = path else { return };
        let offer = SendSnapshot::new(to, message, path, self.own.clone());
        // When the network part is gone, dropping the offer reports the failure.
        let _ = self.send_snapshot.send(offer);
    }

    pub(super) fn apply(&mut self, committed: Vec<Entry>) -> Result<(), End> {
        if committed.is_empty() {
            return Ok(());
        }
        let mut answers = Vec::new();
        for entry in committed {
            let at = Position { index: entry.index, term: entry.term };
            let results = self.apply_entry(&entry)?;
            self.progress.applied = at.index;
            self.progress.entries_since_snapshot += 1;
            self.progress.bytes_since_snapshot += entry.data.len() as u64;
            answers.extend(self.proposals.applied(at, results));
            if at.index.is_multiple_of(self.options.hash_every) {
                self.hash_state(at.index)?;
            }
        }
        let applied = self.progress.applied;
        self.node.advance_apply_to(applied);
        // Readers first: who hears that its command was applied may look at once.
        self.machine.applied(applied);
        self.deliver(answers);
        for (reply, answer) in self.reads.applied(applied) {
            // Whoever asked may have given up.
            let _ = reply.send(answer);
        }
        self.maybe_snapshot();
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<Vec<Vec<u8>>, End> {
        let unreadable =
            |detail: String| StopReason::UnreadableEntry { index: entry.index, detail };
        match entry.get_entry_type() {
            EntryType::EntryNormal => {}
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                return Err(unreadable("it changes the membership".into()).into());
            }
        }
        // A new leader begins with an empty entry.
        if entry.data.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::decode(&entry.data).map_err(|error| unreadable(error.to_string()))?;
        // A new leader's clock may be behind an entry that it had not applied yet when it stamped.
        let time_ms = batch.time_ms.max(self.progress.applied_ms);
        self.progress.applied_ms = time_ms;
        let machine = &mut self.machine;
        let apply = |command: &crate::batch::Blob| machine.apply(entry.index, time_ms, &command.0);
        Ok(batch.commands.iter().map(apply).collect())
    }

    fn confirm_reads(&mut self, states: Vec<ReadState>) {
        let applied = self.progress.applied;
        for state in states {
            for (reply, answer) in self.reads.confirmed(&state.request_ctx, state.index, applied) {
                // Whoever asked may have given up.
                let _ = reply.send(answer);
            }
        }
    }
}

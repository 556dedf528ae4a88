//! The log as raft-rs reads it: on the loop's thread, with the newest entries in memory.
//!
//! Promises: an entry is readable from the moment that raft handed it out, before it is on disk;
//! async writes need that. An entry leaves memory only when the write that brought it is on disk.
//! Does not: write. The loop hands entries to the writer.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::{Durable, LogError, LogStore, Position};

/// Entries that are on disk leave memory once more than this many bytes are held.
const TAIL_BYTES: usize = 32 << 20;

pub(crate) struct RaftStorage {
    log: Arc<dyn LogStore>,
    initial: RaftState,
    truncated: Position,
    last: u64,
    /// Terms of the log as runs: each holds from its index on.
    terms: VecDeque<Position>,
    /// The newest entries without a gap up to `last`, each with the number of the write that brings
    /// it.
    tail: VecDeque<(Entry, u64)>,
    tail_bytes: usize,
    snapshot: Option<Snapshot>,
}

impl RaftStorage {
    /// Reads the terms of all entries once, so that asking for one later needs no disk.
    pub(crate) fn open(
        log: Arc<dyn LogStore>,
        state: &Durable,
        last: u64,
    ) -> Result<Self, LogError> {
        let hard_state = HardState {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
            ..HardState::default()
        };
        if state.commit > last || state.commit < state.truncated.index {
            return Err(LogError::Damaged(format!(
                "entries up to {} are committed, but the log has {} to {last}",
                state.commit,
                state.truncated.index + 1
            )));
        }
        let initial = RaftState::new(hard_state, conf_state(&state.voters));
        let mut storage = Self {
            log,
            initial,
            truncated: state.truncated,
            last: state.truncated.index,
            terms: VecDeque::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            snapshot: None,
        };
        storage.set_snapshot(state);
        let mut next = state.truncated.index + 1;
        while next <= last {
            let entries = storage.log.entries(next, last + 1, 4 << 20)?;
            for entry in &entries {
                if entry.index != next {
                    return Err(LogError::Damaged(format!("entry {next} is missing")));
                }
                next += 1;
            }
            storage.append(&entries, 0);
            storage.evict(0);
        }
        Ok(storage)
    }

    /// Takes entries that raft handed out in ready number `write`.
    pub(crate) fn append(&mut self, entries: &[Entry], write: u64) {
        let Some(first) = entries.first() else { return };
        self.cut(first.index);
        for entry in entries {
            if self.terms.back().is_none_or(|run| run.term != entry.term) {
                self.terms.push_back(Position { index: entry.index, term: entry.term });
            }
            self.tail_bytes += size(entry);
            self.tail.push_back((entry.clone(), write));
            self.last = entry.index;
        }
    }

    /// Forgets entries from `index` on: others replace them.
    fn cut(&mut self, index: u64) {
        while self.tail.back().is_some_and(|(entry, _)| entry.index >= index) {
            if let Some((entry, _)) = self.tail.pop_back() {
                self.tail_bytes -= size(&entry);
            }
        }
        while self.terms.back().is_some_and(|run| run.index >= index) {
            self.terms.pop_back();
        }
        self.last = self.last.min(index.saturating_sub(1));
    }

    /// Writes up to number `write` are on disk: memory may be freed.
    pub(crate) fn evict(&mut self, write: u64) {
        while self.tail_bytes > TAIL_BYTES
            && self.tail.front().is_some_and(|(_, brought)| *brought <= write)
        {
            if let Some((entry, _)) = self.tail.pop_front() {
                self.tail_bytes -= size(&entry);
            }
        }
    }

    /// Entries up to `state.truncated` go; the log on disk follows.
    pub(crate) fn compact(&mut self, state: &Durable) {
        self.truncated = state.truncated;
        while self.tail.front().is_some_and(|(entry, _)| entry.index <= self.truncated.index) {
            if let Some((entry, _)) = self.tail.pop_front() {
                self.tail_bytes -= size(&entry);
            }
        }
        while self.terms.len() > 1 && self.terms[1].index <= self.truncated.index + 1 {
            self.terms.pop_front();
        }
        self.set_snapshot(state);
    }

    /// A snapshot replaced the log.
    pub(crate) fn reset(&mut self, state: &Durable) {
        self.tail.clear();
        self.tail_bytes = 0;
        self.terms.clear();
        self.truncated = state.truncated;
        self.last = state.truncated.index;
        self.set_snapshot(state);
    }

    pub(crate) fn truncated(&self) -> Position {
        self.truncated
    }

    /// The term of an entry that is in the log, or was the last one before it.
    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        if index < self.truncated.index || index > self.last {
            return None;
        }
        let behind = self.terms.partition_point(|run| run.index <= index);
        self.terms.get(behind.checked_sub(1)?).map(|run| run.term)
    }

    /// What raft sends to a follower that is too far behind. The bytes travel beside it, from a
    /// file.
    fn set_snapshot(&mut self, state: &Durable) {
        self.snapshot = state.snapshot.map(|position| {
            let mut snapshot = Snapshot::default();
            snapshot.mut_metadata().index = position.index;
            snapshot.mut_metadata().term = position.term;
            snapshot.mut_metadata().set_conf_state(conf_state(&state.voters));
            snapshot
        });
    }

    fn read(&self, low: u64, high: u64, max_bytes: u64) -> raft::Result<Vec<Entry>> {
        let tail_first = self.last + 1 - self.tail.len() as u64;
        let mut entries = Vec::new();
        if low < tail_first {
            entries = self
                .log
                .entries(low, high.min(tail_first), max_bytes)
                .map_err(|error| StorageError::Other(Box::new(error)))?;
        }
        let next = low + entries.len() as u64;
        if next >= tail_first && next < high {
            let from = (next - tail_first) as usize;
            let to = (high - tail_first) as usize;
            entries.extend(self.tail.range(from..to).map(|(entry, _)| entry.clone()));
        }
        Ok(entries)
    }
}

impl Storage for RaftStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let max_size = max_size.into();
        let mut entries = self.read(low, high, max_size.unwrap_or(u64::MAX))?;
        raft::util::limit_size(&mut entries, max_size);
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_of(index) {
            Some(term) => Ok(term),
            None if index < self.truncated.index => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.snapshot {
            Some(snapshot) if snapshot.get_metadata().index >= request_index => {
                Ok(snapshot.clone())
            }
            Some(_) | None => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}

fn conf_state(voters: &[u64]) -> ConfState {
    ConfState { voters: voters.to_vec(), ..ConfState::default() }
}

fn size(entry: &Entry) -> usize {
    raft::util::entry_approximate_size(entry)
}

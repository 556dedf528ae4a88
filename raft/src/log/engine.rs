//! The log on raft-engine: one group in one directory.
//!
//! Promises: what a call wrote is synced when it returns. A torn tail of the newest file, which
//! only a crash in the middle of a write leaves, is dropped at start; nothing in it was
//! acknowledged.
//! Does not: retry a failed sync. raft-engine panics there; the writer turns that into the end of
//! the process.

use std::path::Path;

use raft::eraftpb::Entry;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};

use super::{Durable, LogError, LogStore};
use crate::options::Options;

const GROUP: u64 = 1;
const STATE_KEY: &[u8] = b"state";

/// A log in a directory of its own.
pub struct EngineLog {
    engine: Engine,
}

struct EntryCodec;

impl MessageExt for EntryCodec {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

impl EngineLog {
    /// Opens the log in `directory`, or makes one. Fails while another process has it open.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, LogError> {
        let prefill = options.log_prefill_bytes >= options.log_file_bytes;
        let config = Config {
            dir: directory.to_string_lossy().into_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            target_file_size: ReadableSize(options.log_file_bytes),
            purge_threshold: ReadableSize(options.log_purge_bytes),
            enable_log_recycle: true,
            prefill_for_recycle: prefill,
            prefill_limit: prefill.then_some(ReadableSize(options.log_prefill_bytes)),
            recovery_threads: 2,
            ..Config::default()
        };
        let engine = Engine::open(config).map_err(failed("opened"))?;
        Ok(Self { engine })
    }

    fn write(&self, batch: &mut LogBatch) -> Result<(), LogError> {
        self.engine.write(batch, true).map(drop).map_err(failed("written"))
    }

    fn last_index(&self) -> Option<u64> {
        self.engine.last_index(GROUP)
    }

    fn put_state(batch: &mut LogBatch, state: &Durable) -> Result<(), LogError> {
        batch.put(GROUP, STATE_KEY.to_vec(), state.encode()).map_err(failed("written"))
    }
}

impl LogStore for EngineLog {
    fn load(&self) -> Result<Option<(Durable, u64)>, LogError> {
        let Some(bytes) = self.engine.get(GROUP, STATE_KEY) else {
            return match self.last_index() {
                None => Ok(None),
                Some(last) => {
                    Err(LogError::Damaged(format!("it has entries up to {last} but no state")))
                }
            };
        };
        let state = Durable::decode(&bytes)?;
        let Some(mut last) = self.last_index() else {
            let last = state.truncated.index;
            return Ok(Some((state, last)));
        };
        let first = self.engine.first_index(GROUP).unwrap_or(last);
        if first > state.truncated.index + 1 {
            return Err(LogError::Damaged(format!(
                "entries {} to {} are missing",
                state.truncated.index + 1,
                first - 1
            )));
        }
        // A reset leaves an entry of term 0 as the mark of where stale entries were cut off.
        let newest = self.entries(last, last + 1, u64::MAX)?;
        if newest.first().is_some_and(|entry| entry.term == 0) {
            last -= 1;
        }
        let last = last.max(state.truncated.index);
        Ok(Some((state, last)))
    }

    fn append(&self, entries: &[Entry], state: &Durable) -> Result<(), LogError> {
        let mut batch = LogBatch::default();
        batch.add_entries::<EntryCodec>(GROUP, entries).map_err(failed("written"))?;
        Self::put_state(&mut batch, state)?;
        self.write(&mut batch)
    }

    fn compact(&self, state: &Durable) -> Result<(), LogError> {
        let mut batch = LogBatch::default();
        batch.add_command(GROUP, Command::Compact { index: state.truncated.index + 1 });
        Self::put_state(&mut batch, state)?;
        self.write(&mut batch)?;
        self.engine.purge_expired_files().map(drop).map_err(failed("purged"))
    }

    /// raft-engine's compaction may only go forward, so stale entries behind the snapshot are not
    /// compacted but overwritten: an entry of term 0, which raft never makes, cuts them off.
    fn reset(&self, state: &Durable) -> Result<(), LogError> {
        let next = state.truncated.index + 1;
        let mut batch = LogBatch::default();
        if self.last_index().is_some_and(|last| last >= next) {
            let mark = Entry { index: next, ..Entry::default() };
            batch.add_entries::<EntryCodec>(GROUP, &[mark]).map_err(failed("written"))?;
        }
        batch.add_command(GROUP, Command::Compact { index: next });
        Self::put_state(&mut batch, state)?;
        self.write(&mut batch)
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.engine
            .fetch_entries_to::<EntryCodec>(GROUP, low, high, Some(max), &mut entries)
            .map_err(failed("read"))?;
        Ok(entries)
    }

    fn used_bytes(&self) -> u64 {
        self.engine.get_used_size() as u64
    }
}

fn failed(verb: &'static str) -> impl Fn(raft_engine::Error) -> LogError {
    move |source| LogError::Engine { verb, source }
}

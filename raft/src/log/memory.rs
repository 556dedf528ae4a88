//! The log in memory, for tests and simulation. Forgets everything with its last handle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft::eraftpb::Entry;

use super::{Durable, LogError, LogStore};

/// A log whose clones share one content, so that a "restart" finds it again.
#[derive(Clone, Default)]
pub struct MemoryLog {
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    state: Option<Durable>,
    entries: Vec<Entry>,
}

impl MemoryLog {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemoryLog {
    fn load(&self) -> Result<Option<(Durable, u64)>, LogError> {
        let content = self.content();
        Ok(content.state.clone().map(|state| {
            let last = content.entries.last().map_or(state.truncated.index, |entry| entry.index);
            (state, last)
        }))
    }

    fn append(&self, entries: &[Entry], state: &Durable) -> Result<(), LogError> {
        let mut content = self.content();
        if let Some(first) = entries.first() {
            content.entries.retain(|entry| entry.index < first.index);
            content.entries.extend_from_slice(entries);
        }
        content.state = Some(state.clone());
        Ok(())
    }

    fn compact(&self, state: &Durable) -> Result<(), LogError> {
        let mut content = self.content();
        content.entries.retain(|entry| entry.index > state.truncated.index);
        content.state = Some(state.clone());
        Ok(())
    }

    fn reset(&self, state: &Durable) -> Result<(), LogError> {
        let mut content = self.content();
        content.entries.clear();
        content.state = Some(state.clone());
        Ok(())
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let content = self.content();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in content.entries.iter().filter(|entry| (low..high).contains(&entry.index)) {
            bytes += entry.data.len() as u64;
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        if low < high && entries.first().is_none_or(|entry| entry.index != low) {
            return Err(LogError::Damaged(format!("entry {low} is missing")));
        }
        Ok(entries)
    }

    fn used_bytes(&self) -> u64 {
        self.content().entries.iter().map(|entry| entry.data.len() as u64).sum()
    }
}

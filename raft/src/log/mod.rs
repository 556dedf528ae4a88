//! The log on disk: what a replica must not forget.
//!
//! [`LogStore`] is the durable part, with two implementations: [`EngineLog`] on raft-engine and
//! [`MemoryLog`] for tests and simulation. `storage` is the view that raft-rs reads, with the
//! newest entries in memory; `writer` is the thread that writes and syncs, so that the loop never
//! waits for a disk.

mod engine;
mod memory;
pub(crate) mod storage;
pub(crate) mod writer;

pub use engine::EngineLog;
pub use memory::MemoryLog;

use berth_wire::codec::{self, CodecError};
use berth_wire::envelope::{self, EnvelopeError, Format};
use raft::eraftpb::Entry;
use serde::{Deserialize, Serialize};

use crate::options::ReplicaId;

const FORMAT: Format = Format(0x5201);
const VERSION: u16 = 1;
const LIMIT: usize = 1 << 20;

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub index: u64,
    pub term: u64,
}

/// All that a replica keeps beside its entries; version 1, frozen. Written whole, as it is small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Whose log this is, so that directories cannot be mixed up.
    pub cell: String,
    pub replica: ReplicaId,
    /// The configuration of the group (Raft's ConfState). It does not change yet.
    pub voters: Vec<ReplicaId>,
    pub term: u64,
    pub vote: ReplicaId,
    pub commit: u64,
    /// Entries up to here are gone from the log; a snapshot has them.
    pub truncated: Position,
    /// The snapshot that a restart begins with.
    pub snapshot: Option<Position>,
}

/// Trouble with the log. After a failed write the process must end: what the disk holds is unknown.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log could not be {verb}")]
    Engine {
        verb: &'static str,
        #[source]
        source: raft_engine::Error,
    },
    #[error("log's state record cannot be read")]
    Envelope(#[from] EnvelopeError),
    #[error("log's state record cannot be read")]
    Codec(#[from] CodecError),
    #[error("log is damaged: {0}; replace this replica's directory from a backup or a new replica")]
    Damaged(String),
}

/// The durable part of a log. Every writing call is on disk when it returns. One thread writes,
/// another may read at the same time.
pub trait LogStore: Send + Sync + 'static {
    /// What the log held when it was opened: the state and the last entry's index. `None` when new.
    fn load(&self) -> Result<Option<(Durable, u64)>, LogError>;

    /// Writes entries, which follow each other and replace whatever was at their index and behind,
    /// and the state, in one step.
    fn append(&self, entries: &[Entry], state: &Durable) -> Result<(), LogError>;

    /// Writes the state and forgets entries up to `state.truncated`.
    fn compact(&self, state: &Durable) -> Result<(), LogError>;

    /// Writes the state and forgets all entries: a snapshot replaced them. The log goes on behind
    /// `state.truncated`.
    fn reset(&self, state: &Durable) -> Result<(), LogError>;

    /// Entries of `[low, high)` until they exceed `max_bytes`, one at least. The range must be
    /// there.
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError>;

    /// How large the log is, in bytes.
    fn used_bytes(&self) -> u64;
}

impl Durable {
    pub(crate) fn encode(&self) -> Vec<u8> {
        envelope::seal(FORMAT, VERSION, &codec::encode(self))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let (_, payload) = envelope::open(FORMAT, VERSION..=VERSION, bytes)?;
        Ok(codec::decode(payload, LIMIT)?)
    }
}

#[cfg(test)]
mod tests;

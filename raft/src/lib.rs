//! A replicated log of opaque bytes: raft-rs for consensus, raft-engine for the disk, mutual TLS
//! between replicas.
//!
//! Promises: a command that was acknowledged is on the disks of a quorum and applied in the same
//! order everywhere; a read index is linearizable on every replica; a replica whose disk failed or
//! whose state differs ends instead of going on.
//! Does not: know what the bytes mean, deduplicate commands (whoever retries an `Unknown` needs a
//! key in its state machine), or change the group's members yet.
//!
//! Threads of one replica: `raft` owns consensus and state machine (`core`), `raft-log` writes and
//! syncs (`log::writer`), `raft-net` has the links (`net`), and one more while a snapshot is
//! written.
//!
//! A replica's directory is its vote and its word: one whose directory was lost must not come back
//! under the same id, for it may have acknowledged what it no longer has.

mod batch;
mod clock;
mod core;
mod handle;
pub mod log;
mod machine;
mod message;
mod net;
mod options;
mod outbox;
mod replica;
mod slog_bridge;
mod snapshots;
mod status;

pub use handle::{Applied, ProposeError, ReadError, ReplicaHandle};
pub use machine::StateMachine;
pub use options::{Options, OptionsError, ReplicaId};
pub use replica::{Replica, StartError};
pub use snapshots::SnapshotError;
pub use status::{Role, Status, StopReason};

#[cfg(test)]
mod tests;

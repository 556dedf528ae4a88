//! What the log is for: the state machine that every replica applies it to.

use crate::status::Status;

/// A deterministic state machine. It lives on the replica's own thread; a panic in it ends the
/// process, for a replica that applied half a command must not go on.
pub trait StateMachine: Send + 'static {
    /// Applies one command of the entry at `index` and answers the proposer. Commands of one entry
    /// come in order under the same index. `time_ms` was stamped by the leader and never goes back.
    /// A refused command is an answer too. Must give the same result on every replica.
    fn apply(&mut self, index: u64, time_ms: u64, command: &[u8]) -> Vec<u8>;

    /// All entries up to `index` are applied: publish what readers see.
    fn applied(&mut self, index: u64);

    /// Role, term, leader or `settled` changed.
    fn role_changed(&mut self, status: &Status);

    /// A cheap copy now; the answer encodes it on another thread.
    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send>;

    /// Replaces the whole state by a snapshot, which holds everything up to `index`. An error stops
    /// the replica.
    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String>;

    /// A hash of the replicated state; equal on all replicas after the same entries.
    fn state_hash(&self) -> u64;
}

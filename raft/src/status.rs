//! What a replica is and knows, for everybody outside its thread.

use crate::options::ReplicaId;

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    /// Receives the log but has no vote.
    Learner,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
        }
    }
}

/// A replica's view of its group. Another replica may know more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: ReplicaId,
    pub role: Role,
    pub term: u64,
    pub leader: Option<ReplicaId>,
    pub commit: u64,
    pub applied: u64,
    /// This replica leads and has applied everything that was committed under earlier leaders.
    /// Before that its state may be old, so nothing may be decided on it.
    pub settled: bool,
}

/// Why a replica ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was asked to.
    Asked,
    /// Its state after `index` is another than the leader's. Its disk must not be used again:
    /// remove the directory only after the other replicas have been checked.
    Diverged { index: u64 },
    /// The leader knows that this replica stored entries which are not on its disk any more.
    LostLog { last: u64, acknowledged: u64 },
    /// The log holds something that this build cannot read; run a newer one.
    UnreadableEntry { index: u64, detail: String },
    /// A snapshot could not be restored.
    UnusableSnapshot { index: u64, detail: String },
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StopReason::Asked => write!(f, "stopped as asked"),
            StopReason::Diverged { index } => {
                write!(f, "state after index {index} differs from the leader's")
            }
            StopReason::LostLog { last, acknowledged } => write!(
                f,
                "log ends at {last} but {acknowledged} had been acknowledged: the disk lost data"
            ),
            StopReason::UnreadableEntry { index, detail } => {
                write!(f, "entry {index} cannot be read: {detail}")
            }
            StopReason::UnusableSnapshot { index, detail } => {
                write!(f, "snapshot of index {index} cannot be used: {detail}")
            }
        }
    }
}

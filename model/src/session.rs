//! The link between a node and the leader: nodes dial, one session with the leader at a time.
//!
//! After TLS and Hello the node sends `Register`; a follower answers `Redirect` and closes. Then
//! heartbeats each second one way, assignments the other way, reports until acknowledged.

use crate::assignment::AssignmentUpdate;
use crate::host::HostFacts;
use crate::ids::{CellId, Generation};
use crate::report::Report;
use crate::revision::Incarnation;
use serde::{Deserialize, Serialize};

/// Versions of this protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
pub const PROTOCOL_MAX: u16 = 1;

/// Largest message in either direction, in bytes.
pub const MESSAGE_MAX: usize = 32 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNode {
    /// The first message; its host id is the one in the node's certificate.
    Register {
        facts: Box<HostFacts>,
        held: Option<Generation>,
    },
    /// Each second. Silence past the timer makes the host silent.
    Heartbeat {
        sequence: u64,
    },
    /// The facts of the host changed.
    Facts(Box<HostFacts>),
    /// Sent again after each new session until acknowledged.
    Report(Report),
    Obeyed {
        generation: Generation,
    },
    /// The update did not fit; the whole is wanted.
    WholeWanted {
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromScheduler {
    /// The node is registered; silence is counted from now.
    Welcome {
        cell: CellId,
        incarnation: Incarnation,
        silent_after_ms: u64,
    },
    /// Ask the leader instead, if one is known.
    Redirect {
        leader: Option<u64>,
    },
    /// The registration cannot stand (no such cluster, name taken); the node tries again later.
    Refused {
        reason: String,
    },
    Assignment(Box<AssignmentUpdate>),
    /// Answers each heartbeat. A node that misses answers looks for a leader before it counts as
    /// silent itself.
    Heard {
        sequence: u64,
    },
    /// Everything up to `last` is in the log.
    ReportKept {
        last: u64,
    },
}

//! Placement rules at work: found by label, counted by bucket, evaluated for apply and for the
//! planners' mirror by the same code.
//!
//! ```text
//!  labels of a request ──► book: which rules speak of it, and as what (subject, peer)
//!                              │
//!  host, datastores ──► buckets (host, fault domain, cluster, datastore)
//!                              │
//!  group (rule, value of `each`): how many stand in each bucket ──► evaluate: breaks or none
//! ```
//!
//! Promises: counts are those of what is placed now, kept by the ledger and equal to a fresh count
//! (checked by `invariants`). `evaluate` needs no fleet: who plans ahead asks it with counts of
//! his own. Does not: act on a rule that is broken after placing; `broken` lists such.
//!
//! What counts where: on hosts, fault domains and clusters, what is charged on a host; on
//! datastores, everything that has a disk there, running or not.

mod book;
mod broken;
mod change;
mod counts;
mod evaluate;
mod group;
mod levels;

pub(super) use book::RuleBook;
pub use book::{Matched, Spoken};
pub use broken::{Broken, Placed};
pub(super) use counts::Way;
pub use evaluate::{
    Where, allows, breaks, cost, datastore_breaks, datastore_matches, host_breaks, host_matches,
    least,
};
pub use group::{Counted, Group, Tally};
pub(super) use levels::Levels;
pub use levels::{Level, Members, Stand};

use berth_model::{ClusterId, DatastoreId, HostId, RuleId};
use std::sync::Arc;

/// What a rule counts in: a host, a cluster or a datastore (the bytes of its id), or a fault
/// domain (the first bytes of the SHA-256 over its level and the path down to it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub [u8; 16]);

impl Bucket {
    pub const fn host(id: HostId) -> Bucket {
        Bucket(*id.as_bytes())
    }

    pub const fn cluster(id: ClusterId) -> Bucket {
        Bucket(*id.as_bytes())
    }

    pub const fn datastore(id: DatastoreId) -> Bucket {
        Bucket(*id.as_bytes())
    }

    /// The domain at the end of `path`, whose outermost level comes first.
    pub fn domain(path: &[(String, String)]) -> Bucket {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for text in path.iter().flat_map(|(level, name)| [level, name]) {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Bucket(bytes)
    }
}

/// Those that one rule counts together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    pub rule: RuleId,
    /// The value of the rule's `each`; empty for a rule without.
    pub value: Arc<str>,
}

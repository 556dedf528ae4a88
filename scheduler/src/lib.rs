//! The scheduler: what the fleet is, where container VMs go, and who tells the nodes.
//!
//! Dependencies run one way: `actor -> planner -> placement -> fleet -> model`. `fleet`,
//! `placement`, `planner`, `whatif`, `packing`, `balancing`, `failover`, `assignment` and
//! `liveness` are pure: they decide. `actor` carries out what they decided: it owns the replica,
//! the node sessions and the planning loops, and hands the rest of the process a [`Scheduler`].
//!
//! Promises: whatever [`Scheduler::submit`] acknowledged is in the log of a majority; every replica
//! at one index holds the same [`Fleet`]. Does not: speak HTTP, nor read configuration files.

pub mod actor;
pub mod assignment;
pub mod balancing;
pub mod failover;
pub mod fleet;
pub mod liveness;
pub mod options;
pub mod packing;
pub mod placement;
pub mod planner;
pub mod whatif;

pub use actor::handle::{
    Accepted, Consistency, ReadError, Reading, Request, Scheduler, SubmitError,
};
pub use actor::placer::PlaceRequest;
pub use actor::start::{StartError, start};
pub use fleet::Fleet;
pub use options::{BootstrapOptions, Options, OptionsError};
pub use planner::placing::{PlaceAnswer, PlaceMode, PlaceWish, Placed};
pub use whatif::{Answer, Question};

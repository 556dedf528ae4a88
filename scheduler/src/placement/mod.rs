//! Where container VMs and reservations go: filters say which hosts may, scores say which of them
//! is taken.
//!
//! Two ways to the same answer. [`scan`] asks every host of a fleet: the plain reference. [`Mirror`]
//! is a dense mirror of a fleet that gives that answer in a microsecond or so, and holds decisions
//! that are on their way to the log. [`explain`] says why there is no answer: how many hosts each
//! filter refused, and the smallest change of the request that would help.
//!
//! Promises: exact and deterministic: the best by score among all that pass, ties by the order of
//! hosts. Does not: change the fleet; apply has the last word on every decision.

mod ask;
mod datastore;
mod explain;
mod guides;
pub mod keeping;
pub mod mirror;
mod relax;
pub mod scan;
mod score;
#[cfg(test)]
mod tests;
mod victims;

pub use crate::fleet::admit::{Delta, FILTERS, Filter, Load, Wish};
pub use ask::Ask;
pub use explain::explain;
pub use guides::Guides;
pub use mirror::{Mirror, Ticket};
pub use score::{DatastoreScore, Score};

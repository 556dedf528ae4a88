//! Balancing: which container VMs to migrate so that no host is much busier than another.
//!
//! [`plan`] takes dense rows and a predicate and returns moves in an order in which each one is
//! legal. It works in rounds of three: single moves, the best first (`search`), until balance is
//! good enough or no move is worth its cost; then the moves are improved without adding one, by
//! choosing other targets or other container VMs, and those that are no longer needed are dropped
//! (`refine`); then they are put in an order in which they fit (`schedule`). Imbalance is the sum
//! of the standard deviations of the hosts' cpu shares and memory shares ([`Imbalance`] says why).
//!
//! Promises: deterministic whole numbers; each candidate is judged in constant time; no move breaks
//! a capacity or what the predicate forbids at its turn; a second run on the result plans nothing,
//! unless the budget cut the first one short. Does not: measure load, know fleets, or migrate.
//!
//! Peers and sources: Ganeti `hbal` (a sum of standard deviations, brought down move by move) and
//! Gulati et al., "VMware Distributed Resource Management: Design, Implementation, and Lessons
//! Learned", VMware Technical Journal 2012 (standard deviation of normalised load, cost against
//! benefit of each migration). Improving a finished plan is ours.

mod plan;
mod refine;
mod rows;
mod schedule;
mod search;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use plan::{Move, Plan, plan};
pub use rows::{HostRow, Imbalance, VmRow, imbalance};
pub use settings::{Settings, SettingsError};

//! Packing: how to use few hosts for a mix of shapes that comes and goes.
//!
//! Three parts, each a function of its arguments. [`Guide`] learns the mix and says what a
//! placement wastes, for the placement engine's pack strategy. [`plan_moves`] empties hosts by live
//! migration within a budget, for the background. [`lower_bound`] says how few hosts could do, for
//! people.
//!
//! Promises: deterministic, bounded, no panic on any input. Does not: know fleets, hosts' names or
//! rules; who calls it brings dense rows and a predicate. Learning uses floats (inside `prices` and
//! `simplex`); what comes out are whole numbers, and apply never calls any of it.

mod bound;
mod grid;
mod guide;
mod knapsack;
mod moves;
mod prices;
mod rooms;
mod settings;
mod shapes;
mod simplex;

pub use bound::lower_bound;
pub use guide::Guide;
pub use moves::{Budget, HostRow, Move, Plan, VmRow, plan_moves};
pub use settings::{Settings, SettingsError};

//! Benchmarks of the control plane, on the code that ships.
//!
//! In memory: `plan` (the planning process as a whole), `rules` (what rules cost and whether they
//! are kept), `failover` (admission control), `drs` (balancing) and `pack` (packing). Through
//! replicas in processes of their own, with fsync and mutual TLS, and simulated nodes that obey
//! them: `place`. What they found is a [`Sheet`]: figures, and checks that must hold for the
//! figures to mean anything.
//!
//! Promises: the hypervisor and the network are the only things that are simulated, and each
//! sheet says so. Does not: print; the binary does.

mod cell;
mod checks;
mod clock;
pub mod drs;
mod engine;
pub mod failover;
mod made_up;
mod memory;
mod mix;
pub mod pack;
pub mod place;
pub mod plan;
pub mod rules;
mod sheet;
mod spread;
pub mod trace;
mod watch;

pub use mix::host_size;
pub use sheet::{Check, Figure, Line, Sheet};

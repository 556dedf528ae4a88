//! Benchmarks of the control plane, on the code that ships.
//!
//! `plan` measures the pure planner on one fleet in memory; `place` measures replicas in processes
//! of their own, with fsync and mutual TLS, and simulated nodes that obey them. What they found is
//! a [`Sheet`]: figures, and checks that must hold for the figures to mean anything.
//!
//! Promises: the hypervisor and the network are the only things that are simulated, and each
//! sheet says so. Does not: print; the binary does.

mod clock;
mod made_up;
pub mod place;
pub mod plan;
mod sheet;
mod spread;

pub use sheet::{Check, Figure, Line, Sheet};

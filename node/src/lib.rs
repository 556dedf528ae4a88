//! One host: obeys assignments, runs container VMs, reports what it saw, serves their streams.
//!
//! Three processes live here: [`run`] is the node, [`keeper::run`] renews the host's leases,
//! [`switch::run`] holds its network state. Each goes on without the others.

pub mod agent;
pub mod assignment_diff;
mod causes;
pub mod clock;
pub mod control;
pub mod datastore;
pub mod facts;
pub mod hypervisor;
pub mod images;
pub mod keeper;
mod mailbox;
pub mod metrics_server;
pub mod options;
pub mod output;
mod randomness;
mod readiness;
mod run;
pub mod session;
#[cfg(test)]
mod stage;
pub mod streams;
pub mod switch;
mod topology;
pub mod vm;

pub use run::{NodeError, run};

/// Version of berth, as peers and people see it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

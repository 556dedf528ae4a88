//! One host: obeys assignments, runs container VMs, reports what it saw, serves their streams.
//!
//! Three processes live here: [`run`] is the node, [`keeper::run`] renews the host's leases,
//! [`switch::run`] holds its network state. Each goes on without the others.

pub mod assignment_diff;
mod causes;
pub mod clock;
pub mod datastore;
pub mod images;
pub mod options;
mod randomness;

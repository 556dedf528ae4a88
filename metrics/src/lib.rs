//! Every metric of berth: names, labels and help stand here and nowhere else.
//!
//! Promises: a process makes one [`Registry`], each part registers its handles in it by `register`,
//! and the handles are passed in, never global. [`exposition::text`] is what `/metrics` serves.
//! Does not: measure anything; the parts do.

pub mod api;
pub mod exposition;
pub mod node;
pub mod raft;
pub mod scheduler;
pub mod vm;

pub use prometheus::{Error, IntCounter, IntGauge, Registry};

//! The two HTTP APIs of a scheduler: the Docker endpoint and the placement API `/v1`.
//!
//! Promises: what a client asks for is done or refused by name; both APIs change the fleet through
//! [`berth_scheduler::Scheduler::submit`] alone and read it as of a read index. Neither listens
//! beyond loopback without mutual TLS.
//!
//! `docker` and `placement` are the APIs; `outcome` says when what was asked for is so, `streams`
//! speaks to nodes, `listener` and `clock` are edges.

mod clock;
pub mod docker;
pub mod listener;
mod outcome;
pub mod placement;
mod streams;

pub use listener::{Listener, ServeError, Serving};

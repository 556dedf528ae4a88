//! Whole groups of replicas over real sockets and real logs.

mod availability;
mod durability;
mod group;
mod refusals;

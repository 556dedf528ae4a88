//! Three schedulers over loopback with real logs and mutual TLS, and nodes that only pretend.

mod availability;
mod cell;
mod life;
mod node;
mod places;
mod sessions;

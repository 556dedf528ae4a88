//! What would be: room for more of a shape, the loss of hosts, a drain. Nothing changes.
//!
//! Promises: every answer is that of the shipped code on a copy of the fleet: the mirror decides,
//! apply takes. Does not: propose, nor know what will really happen meanwhile.

mod capacity;
mod moves;
#[cfg(test)]
mod tests;

pub use capacity::{AfterLoss, Capacity};
pub use moves::{Move, Moves, Subject};

use crate::fleet::Fleet;
use berth_model::{ClusterId, EndpointId, HostId, PlacementWish};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Question {
    /// How many more of this shape fit, `most` at most, now and after the loss of any one host.
    Capacity { endpoint: EndpointId, wish: Arc<PlacementWish>, most: u64 },
    /// These hosts are gone: what ran there is started elsewhere, if there is a place.
    LoseHosts { hosts: Vec<HostId> },
    /// This host is to be emptied: what runs there moves, if there is a place.
    Drain { host: HostId },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Capacity(Capacity),
    /// To `LoseHosts` and `Drain`.
    Moves(Moves),
}

/// Answers on this fleet. Capacity after a loss is asked host by host, so it may take seconds.
pub fn answer(fleet: &Arc<Fleet>, question: &Question) -> Answer {
    match question {
        Question::Capacity { endpoint, wish, most } => {
            Answer::Capacity(capacity::answer(fleet, *endpoint, wish, *most))
        }
        Question::LoseHosts { hosts } => Answer::Moves(moves::lose(fleet, hosts)),
        Question::Drain { host } => Answer::Moves(moves::drain(fleet, *host)),
    }
}

/// Room in one cluster alone.
pub type ByCluster = Vec<(ClusterId, u64)>;

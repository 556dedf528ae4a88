//! Turns what waits for a place into decisions.
//!
//! Two kinds wait. Container VMs stand in the log; the leader decides about them ([`Planner`]).
//! Placement requests come to any replica and are decided there ([`placing`]). Both decide on a
//! mirror of their own that counts what they decided before the fleet shows it, so several plans
//! may be under way at once, and several planners may work on shares of the queue: where two of
//! them take the same room, apply rejects the later one, item by item, and it is planned again.
//!
//! Promises: a plan is exact for the fleet that it was made on and what its own planner has under
//! way. Does not: propose, or read a clock; actors do, and apply has the last word.

mod containers;
mod displacing;
mod draft;
mod fair;
mod hopes;
mod parked;
pub mod placing;
#[cfg(test)]
mod tests;

pub use containers::{ITEMS_MAX, Outcome, Planner};

use berth_model::command::PlaceItem;
use berth_model::{ContainerId, Explanation};

/// Decisions made on one fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names it when its outcome is told.
    pub number: u64,
    pub planned_at: u64,
    pub items: Vec<PlaceItem>,
    /// For each item, when its container VM was first seen to wait for this step.
    pub since: Vec<u64>,
    /// How many were asked for and refused, recorded anew or not.
    pub refusals: Vec<Explanation>,
    /// There was more to decide than one plan holds.
    pub more: bool,
}

/// One planner's part of what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    number: u64,
    of: u64,
}

impl Share {
    pub const WHOLE: Share = Share { number: 0, of: 1 };

    /// The `number`th, from 0, of `of` parts.
    pub fn new(number: usize, of: usize) -> Share {
        let of = (of as u64).max(1);
        Share { number: number as u64 % of, of }
    }

    /// Ids are random, so shares are even.
    fn holds(self, id: ContainerId) -> bool {
        let [a, b, c, d, ..] = *id.as_bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) % self.of == self.number
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::WHOLE
    }
}

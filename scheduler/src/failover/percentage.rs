//! Admission control by percentage: a share of the cluster's cpu and memory stays free.
//!
//! Promises: O(1) a change and a question, exact in whole numbers. Does not: know fragmentation; a
//! share that is free in crumbs on every host may restart nothing. [`super::Failover`] knows.
//!
//! Source: the "cluster resource percentage" policy of vSphere HA.

use super::room::Room;
use super::shortfall::{Dimension, Shortfall};

/// Totals of a cluster, and which percentage of them is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentage {
    cpu_percent: u8,
    memory_percent: u8,
    total: Room,
    used: Room,
}

impl Percentage {
    /// An empty cluster that keeps these percentages; more than 100 is 100.
    #[must_use]
    pub fn new(cpu_percent: u8, memory_percent: u8) -> Self {
        Self {
            cpu_percent: cpu_percent.min(100),
            memory_percent: memory_percent.min(100),
            total: Room::NONE,
            used: Room::NONE,
        }
    }

    /// What a host offers changed: from nothing for one that came, to nothing for one that left or
    /// receives no restarts.
    pub fn set_host(&mut self, before: Room, after: Room) {
        self.total = self.total.less(before).plus(after);
    }

    pub fn place(&mut self, demand: Room) {
        self.used = self.used.plus(demand);
    }

    pub fn remove(&mut self, demand: Room) {
        self.used = self.used.less(demand);
    }

    /// Whether the kept share would still be free with one VM more.
    ///
    /// # Errors
    /// The dimension that is short; cpu before memory.
    pub fn would_hold(&self, demand: Room) -> Result<(), Shortfall> {
        let (total, used) = (self.total, self.used);
        short(Dimension::Cpu, self.cpu_percent, total.cpu, used.cpu, demand.cpu)?;
        short(Dimension::Memory, self.memory_percent, total.memory, used.memory, demand.memory)
    }

    /// Whether the kept share is free.
    ///
    /// # Errors
    /// As [`Percentage::would_hold`].
    pub fn holds(&self) -> Result<(), Shortfall> {
        self.would_hold(Room::NONE)
    }
}

fn short(
    dimension: Dimension,
    kept_percent: u8,
    total: u64,
    used: u64,
    wanted: u64,
) -> Result<(), Shortfall> {
    // Rounded up: a kept share is never less than what was asked for.
    let kept = (u128::from(total) * u128::from(kept_percent)).div_ceil(100) as u64;
    let offered = total - kept;
    if u128::from(used) + u128::from(wanted) <= u128::from(offered) {
        return Ok(());
    }
    let free = offered.saturating_sub(used);
    Err(Shortfall::Percentage { dimension, kept_percent, total, kept, free, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_four_hosts_is_kept_and_the_refusal_says_so() {
        let mut policy = Percentage::new(25, 25);
        for _ in 0..4 {
            policy.set_host(Room::NONE, Room::new(8_000, 800));
        }
        policy.place(Room::new(20_000, 1_000));
        assert_eq!(policy.would_hold(Room::new(4_000, 1_400)), Ok(()));
        let refusal = policy.would_hold(Room::new(4_001, 10)).expect_err("a core too much");
        assert_eq!(
            refusal,
            Shortfall::Percentage {
                dimension: Dimension::Cpu,
                kept_percent: 25,
                total: 32_000,
                kept: 8_000,
                free: 4_000,
                wanted: 4_001,
            }
        );
        assert!(refusal.to_string().contains("8000 of 32000"), "{refusal}");
        policy.set_host(Room::new(8_000, 800), Room::NONE);
        policy.set_host(Room::new(8_000, 800), Room::NONE);
        assert!(policy.holds().is_err(), "two hosts drained: less than a quarter is free");
        policy.remove(Room::new(20_000, 1_000));
        assert_eq!(policy.holds(), Ok(()));
    }

    #[test]
    fn a_kept_share_is_rounded_up() {
        let mut policy = Percentage::new(50, 0);
        policy.set_host(Room::NONE, Room::new(3, 3));
        assert_eq!(policy.would_hold(Room::new(1, 3)), Ok(()));
        assert!(policy.would_hold(Room::new(2, 3)).is_err());
    }
}

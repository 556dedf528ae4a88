//! Hosts and container VMs as balancing sees them, and how unequal the hosts are.
//!
//! Promises: whole numbers; a host or container VM is its place in its slice. Does not: check that
//! rows agree with a fleet.

use super::state::State;
use berth_model::{Bytes, Resources};

/// One host that is to be balanced with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// What loads are shares of: the cpu and memory that it has.
    pub size: Resources,
    /// What may be charged to it, after overcommit and reserves.
    pub limit: Resources,
    /// Load on it by anything that is no row of the container VMs.
    pub held_load: Resources,
    /// Charged to it by anything that is no row of the container VMs.
    pub held_charge: Resources,
    /// Its container VMs may be moved away.
    pub may_give: bool,
    pub may_receive: bool,
}

/// One container VM on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmRow {
    pub host: usize,
    /// What it uses: this is balanced.
    pub load: Resources,
    /// What is kept for it: this has to fit.
    pub charge: Resources,
    /// What a live migration has to copy.
    pub memory: Bytes,
    pub movable: bool,
}

/// How unequal hosts are: standard deviations over the hosts of the share of each that is in use,
/// in millionths.
///
/// The two are added and not the larger taken: with the larger one alone a move that helps the
/// other dimension would gain nothing, and one that ruins it would cost nothing until it became the
/// larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imbalance {
    pub cpu: u64,
    pub memory: u64,
}

impl Imbalance {
    pub fn sum(self) -> u64 {
        self.cpu + self.memory
    }
}

/// How unequal `hosts` are with `vms` where they are.
pub fn imbalance(hosts: &[HostRow], vms: &[VmRow]) -> Imbalance {
    State::new(hosts, vms).imbalance()
}

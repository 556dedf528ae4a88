//! What clusters keep for the loss of hosts: the fleet as the restart planner of
//! [`failover`](crate::failover) sees it, followed from state to state.
//!
//! One [`Watch`] a cluster whose policy keeps room for restarts (host failures, failover hosts, slots).
//! Hosts are numbered in the order of hosts, so that what admission control checks is the plan that a
//! restart makes. What a plan looks at of a container VM or reservation: cpu and memory, priority,
//! which hosts reach its disks and networks and carry its labels, required rules that keep apart or
//! limit a number, and required rules on hosts.
//!
//! Promises: "yes" exactly when the restart plan of the cluster, with the newcomer in it, places
//! everything after each loss that the policy names (for slots: when the kept slots stay free).
//! Does not: count what is pinned to its host, which no restart can move, nor what is being removed;
//! both only take room. Does not look at rules of other kinds, countable things and NUMA nodes: a
//! restart that breaks one of these is refused when it is placed.

mod subject;
mod watch;

pub use subject::{Key, Newcomer, seed_of};

use crate::failover::{Handle, Slot};
use crate::fleet::Fleet;
use berth_model::cluster::Admission;
use berth_model::{ClusterId, Host, HostId, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use watch::Watch;

#[derive(Debug, Default)]
pub struct Keeping {
    watches: BTreeMap<ClusterId, Watch>,
}

impl Keeping {
    /// Whether the policy keeps something that only this module can judge.
    pub fn is_asked(admission: &Admission) -> bool {
        match admission {
            Admission::HostFailures { .. }
            | Admission::FailoverHosts { .. }
            | Admission::Slots { .. } => true,
            Admission::Off | Admission::Percentage { .. } => false,
        }
    }

    /// Everything that the fleet's policies keep.
    pub fn of(fleet: &Fleet) -> Keeping {
        let kept = fleet.clusters().filter(|cluster| Self::is_asked(&cluster.policy.admission));
        let watches = kept.map(|cluster| (cluster.id, Watch::new(fleet, cluster))).collect();
        Keeping { watches }
    }

    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Takes over what is on a host in this fleet.
    pub fn follow(&mut self, fleet: &Fleet, host: &Host) {
        if let Some(watch) = self.watches.get_mut(&host.cluster) {
            watch.follow(fleet, host);
        }
    }

    /// Whether everything that is kept would still be there with the newcomer on the host.
    pub fn admit(
        &mut self,
        fleet: &Fleet,
        host: &Host,
        newcomer: &Newcomer<'_>,
    ) -> Result<(), Refusal> {
        match self.watches.get_mut(&host.cluster) {
            Some(watch) => watch.admit(fleet, host, newcomer),
            None => Ok(()),
        }
    }

    /// Counts a decision that the fleet does not show yet.
    pub fn take(&mut self, fleet: &Fleet, host: &Host, ticket: u32, newcomer: &Newcomer<'_>) {
        if let Some(watch) = self.watches.get_mut(&host.cluster) {
            watch.take(fleet, host, Key::Ticket(ticket), newcomer);
        }
    }

    /// Counts it no longer.
    pub fn give_back(&mut self, ticket: u32) {
        for watch in self.watches.values_mut() {
            watch.leave(Key::Ticket(ticket));
        }
    }
}

/// The restart plan for the loss of hosts: where each container VM and reservation there would go, in
/// the order of the plan. What cannot be moved is not in it.
pub fn restart_plan(fleet: &Fleet, lost: &BTreeSet<HostId>) -> Vec<(Key, HostId, Option<HostId>)> {
    let mut planned = Vec::new();
    for cluster in fleet.clusters() {
        let here = |id: &HostId| fleet.host(*id).is_some_and(|host| host.cluster == cluster.id);
        let lost: Vec<HostId> = lost.iter().copied().filter(here).collect();
        if !lost.is_empty() {
            planned.extend(Watch::planning(fleet, cluster).restart_plan(&lost));
        }
    }
    planned
}

/// Dense numbers of one member and its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    handle: Handle,
    slot: Slot,
}

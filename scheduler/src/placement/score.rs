//! How good a place is. Smallest wins; the order of the fields is the policy, the id ends ties.

use crate::fleet::Fleet;
use berth_model::cluster::Strategy;
use berth_model::{Datastore, DatastoreId, Demand, Host, HostId};
use std::cmp::Reverse;

/// Millionths: finer than permille, so that two hosts seldom tie.
type Millionths = u64;

/// How good a host is for one container VM. A strategy leaves the fields at zero that it does not
/// look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Balance: how far apart cpu and memory in use would be.
    pub skew: Millionths,
    /// Spread: container VMs that the host holds.
    pub placed: u32,
    /// The fuller of cpu and memory afterwards; for pack, what is left of it.
    pub load: Millionths,
    pub host: HostId,
}

impl Score {
    pub fn of(fleet: &Fleet, host: &Host, demand: &Demand) -> Score {
        let limit = fleet.limit_of_host(host);
        let after = host.charged + demand.charge(host.facts.vm_overhead);
        let cpu = share(after.cpu.0, limit.cpu.0);
        let memory = share(after.memory.0, limit.memory.0);
        let load = cpu.max(memory);
        let strategy = fleet.cluster(host.cluster).map(|cluster| cluster.policy.strategy);
        let (skew, placed, load) = match strategy.unwrap_or(Strategy::Spread) {
            Strategy::Pack => (0, 0, share(1, 1).saturating_sub(load)),
            Strategy::Spread => (0, host.placed, load),
            Strategy::Balance => (cpu.abs_diff(memory), 0, load),
        };
        Score { skew, placed, load, host: host.id }
    }
}

/// How good a datastore is for one new delta disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatastoreScore {
    /// No host that reaches it has cpu and memory free at the moment.
    pub crowded: bool,
    /// The more hosts, the more places to start it again.
    pub hosts: Reverse<u32>,
    /// What would be charged, of what may be.
    pub load: Millionths,
    pub datastore: DatastoreId,
}

impl DatastoreScore {
    pub fn of(
        fleet: &Fleet,
        datastore: &Datastore,
        demand: &Demand,
        crowded: bool,
        hosts: u32,
    ) -> DatastoreScore {
        let limit = fleet.limit_of_datastore(datastore);
        DatastoreScore {
            crowded,
            hosts: Reverse(hosts),
            load: share((datastore.charged + demand.disk).0, limit.0),
            datastore: datastore.id,
        }
    }
}

/// `part` of `whole`; all of it where there is nothing.
fn share(part: u64, whole: u64) -> Millionths {
    const ONE: u128 = 1_000_000;
    let share = (u128::from(part) * ONE).checked_div(u128::from(whole)).unwrap_or(ONE);
    u64::try_from(share).unwrap_or(u64::MAX)
}

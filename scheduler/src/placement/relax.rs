//! The smallest change of a refused request that would let it in.
//!
//! Changes are compared by their share of what was asked: a tenth less memory is smaller than a
//! fifth less cpu. Giving up a wish (this host, this cluster, this datastore) counts as a tenth.
//! Promises: with the change made, some host passes every filter. Does not: combine changes; where
//! only several together would help, there is none.

use super::{Delta, Wish};
use crate::fleet::Fleet;
use berth_model::explanation::Relaxation;
use berth_model::{Bytes, Demand, Host, MilliCpus};

/// What giving up a wish counts as, in thousandths of the request.
const WISH_COST: u64 = 100;

pub(super) fn smallest(fleet: &Fleet, wish: &Wish<'_>) -> Option<Relaxation> {
    let cuts = fleet.hosts().flat_map(|host| cuts_for(fleet, host, wish));
    let wishes = given_up(wish).into_iter().filter(|(demand, delta, _)| {
        let freer = Wish { demand, delta: *delta, ..*wish };
        fleet.hosts().any(|host| fleet.admit(host, &freer).is_ok())
    });
    let wishes = wishes.map(|(_, _, relaxation)| (WISH_COST, relaxation));
    // The first of equals, so that the answer is the same everywhere.
    cuts.chain(wishes).min_by_key(|(cost, _)| *cost).map(|(_, relaxation)| relaxation)
}

/// Smaller demands that would fit on this one host.
fn cuts_for(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Vec<(u64, Relaxation)> {
    let demand = wish.demand;
    let free = match wish.load {
        super::Load::Now => fleet.free_on_host(host),
        super::Load::Ever => fleet.limit_of_host(host),
    };
    let mut cuts = Vec::new();
    let fits = |demand: &Demand| fleet.admit(host, &Wish { demand, ..*wish }).is_ok();

    if MilliCpus::ZERO < free.cpu && free.cpu < demand.cpu {
        let less = Demand { cpu: free.cpu, ..demand.clone() };
        if fits(&less) {
            let cut = demand.cpu.saturating_sub(less.cpu);
            cuts.push((cost(cut.0, demand.cpu.0), Relaxation::LessCpu(cut)));
        }
    }
    let room = free.memory.saturating_sub(host.facts.vm_overhead);
    if let Some(memory) = largest_limit(demand, room).filter(|limit| *limit < demand.memory) {
        let less = Demand { memory, ..demand.clone() };
        if fits(&less) {
            let cut = demand.memory.saturating_sub(memory);
            cuts.push((cost(cut.0, demand.memory.0), Relaxation::LessMemory(cut)));
        }
    }
    let disk = free_disk(fleet, host, wish.delta);
    if Bytes::ZERO < disk && disk < demand.disk {
        let less = Demand { disk, ..demand.clone() };
        if fits(&less) {
            let cut = demand.disk.saturating_sub(disk);
            cuts.push((cost(cut.0, demand.disk.0), Relaxation::LessDisk(cut)));
        }
    }
    cuts
}

/// The most container memory, in whole MiB, whose class fits into `room`. Classes rise with the
/// limit, so halving finds it.
fn largest_limit(demand: &Demand, room: Bytes) -> Option<Bytes> {
    let fits =
        |mib: u64| Demand { memory: Bytes::mib(mib), ..demand.clone() }.memory_class() <= room;
    let (mut low, mut high) = (0, demand.memory.0 >> 20);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    (low > 0).then(|| Bytes::mib(low))
}

/// The most that one delta disk could take on a datastore of this host.
fn free_disk(fleet: &Fleet, host: &Host, delta: Delta) -> Bytes {
    let free = |id| fleet.datastore(id).map(|store| fleet.free_on_datastore(store));
    match delta {
        Delta::Placed(_) => Bytes::ZERO,
        Delta::New(datastore) => free(datastore).unwrap_or(Bytes::ZERO),
        Delta::Anywhere => {
            host.facts.datastores.keys().filter_map(|id| free(*id)).max().unwrap_or(Bytes::ZERO)
        }
    }
}

/// The request with one of its wishes given up.
fn given_up(wish: &Wish<'_>) -> Vec<(Demand, Delta, Relaxation)> {
    let demand = wish.demand;
    let mut freer = Vec::new();
    if demand.host.is_some() {
        let demand = Demand { host: None, ..demand.clone() };
        freer.push((demand, wish.delta, Relaxation::AnyHost));
    }
    if demand.datastore.is_some() && matches!(wish.delta, Delta::New(_)) {
        let demand = Demand { datastore: None, ..demand.clone() };
        freer.push((demand, Delta::Anywhere, Relaxation::AnyDatastore));
    }
    if demand.cluster.is_some() {
        let demand = Demand { cluster: None, ..demand.clone() };
        freer.push((demand, wish.delta, Relaxation::AnyCluster));
    }
    freer
}

/// A cut in thousandths of what was asked, at least one.
fn cost(cut: u64, asked: u64) -> u64 {
    let share = u128::from(cut) * 1000 / u128::from(asked.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}

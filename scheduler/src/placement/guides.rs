//! The packing guides of a fleet: one for each cluster that packs, learned from what runs there.
//!
//! Promises: a function of the fleet that it was learned from. Does not: follow the fleet; whoever
//! holds it decides when the mix has changed enough to learn again (see [`Guides::differ`]).

use crate::fleet::Fleet;
use crate::packing::Guide;
use berth_model::cluster::Strategy;
use berth_model::{Bytes, ClusterId, MilliCpus, Resources};
use std::collections::BTreeMap;

/// Fewer placed than this say nothing about a mix.
const PLACED_MIN: u64 = 64;

/// Guides by cluster; a cluster without one packs by best fit.
#[derive(Clone, Debug, Default)]
pub struct Guides {
    by_cluster: BTreeMap<ClusterId, (Seen, Guide)>,
    best_fit: BestFit,
}

#[derive(Clone, Debug)]
struct BestFit(Guide);

impl Default for BestFit {
    fn default() -> Self {
        BestFit(Guide::best_fit())
    }
}

/// Sizes of hosts and shapes of what is placed, each with how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    sizes: BTreeMap<(u64, u64), u32>,
    mix: BTreeMap<(u64, u64), u64>,
}

impl Guides {
    pub fn learn(fleet: &Fleet) -> Guides {
        Guides::default().learn_again(fleet)
    }

    /// Learns anew where sizes or mix moved by more than a twentieth, else keeps what was learned.
    pub fn learn_again(mut self, fleet: &Fleet) -> Guides {
        let mut before = std::mem::take(&mut self.by_cluster);
        for (cluster, seen) in look(fleet) {
            let kept = before.remove(&cluster).filter(|(old, _)| near(old, &seen));
            let learned = kept.unwrap_or_else(|| {
                let guide = guide_of(&seen);
                (seen, guide)
            });
            self.by_cluster.insert(cluster, learned);
        }
        self
    }

    pub fn of(&self, cluster: ClusterId) -> &Guide {
        self.by_cluster.get(&cluster).map_or(&self.best_fit.0, |(_, guide)| guide)
    }
}

fn guide_of(seen: &Seen) -> Guide {
    let size =
        |&(cpu, memory): &(u64, u64)| Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) };
    let hosts: Vec<_> = seen.sizes.iter().map(|(key, count)| (size(key), *count)).collect();
    let mix: Vec<_> = seen.mix.iter().map(|(key, count)| (size(key), *count)).collect();
    Guide::learn(&hosts, &mix)
}

/// What each cluster that packs has and runs, where that is enough to learn from.
fn look(fleet: &Fleet) -> BTreeMap<ClusterId, Seen> {
    let mut clusters: BTreeMap<ClusterId, Seen> = fleet
        .clusters()
        .filter(|cluster| cluster.policy.strategy == Strategy::Pack)
        .map(|cluster| (cluster.id, Seen::default()))
        .collect();
    if clusters.is_empty() {
        return clusters;
    }
    for host in fleet.hosts() {
        if let Some(seen) = clusters.get_mut(&host.cluster) {
            let limit = fleet.limit_of_host(host);
            *seen.sizes.entry((limit.cpu.0, limit.memory.0)).or_default() += 1;
        }
    }
    let charges = fleet.containers().filter_map(|vm| vm.state.charged());
    let held = fleet.reservations().map(|held| (held.place.host, held.charge));
    for (host, charge) in charges.chain(held) {
        let cluster = fleet.host(host).map(|host| host.cluster);
        if let Some(seen) = cluster.and_then(|cluster| clusters.get_mut(&cluster)) {
            *seen.mix.entry((charge.cpu.0, charge.memory.0)).or_default() += 1;
        }
    }
    clusters.retain(|_, seen| seen.mix.values().sum::<u64>() >= PLACED_MIN);
    clusters
}

/// Whether less than a twentieth of both hosts and shapes is of another kind.
fn near(old: &Seen, new: &Seen) -> bool {
    let sizes = |seen: &Seen| {
        seen.sizes.iter().map(|(key, count)| (*key, u64::from(*count))).collect::<BTreeMap<_, _>>()
    };
    moved(&sizes(old), &sizes(new)) < 50 && moved(&old.mix, &new.mix) < 50
}

/// How far apart two mixes are, in thousandths of all there is: half the sum of the differences of
/// their shares.
fn moved(old: &BTreeMap<(u64, u64), u64>, new: &BTreeMap<(u64, u64), u64>) -> u64 {
    let (all_old, all_new) = (old.values().sum::<u64>().max(1), new.values().sum::<u64>().max(1));
    let share = |map: &BTreeMap<_, u64>, key, all: u64| {
        u128::from(map.get(key).copied().unwrap_or(0)) * 1_000_000 / u128::from(all)
    };
    let gone = old.keys().map(|key| share(old, key, all_old).abs_diff(share(new, key, all_new)));
    let fresh = new.keys().filter(|key| !old.contains_key(*key));
    let sum = gone.sum::<u128>() + fresh.map(|key| share(new, key, all_new)).sum::<u128>();
    u64::try_from(sum / 2000).unwrap_or(u64::MAX)
}

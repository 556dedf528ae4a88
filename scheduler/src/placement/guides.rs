//! What packing has learned of a fleet: one guide for all clusters that pack, from what runs there.
//!
//! One, not one for each cluster: costs of different guides cannot be compared, and a request that
//! may go to several clusters that pack goes where it costs least.
//!
//! Promises: a function of the fleet that it was learned from. Does not: follow the fleet; whoever
//! holds it decides when the mix may have changed enough to learn again.

use crate::fleet::Fleet;
use crate::packing::{Guide, Settings};
use berth_model::cluster::Strategy;
use berth_model::{Bytes, Cluster, ClusterId, MilliCpus, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// Fewer placed than this say nothing about a mix.
const PLACED_MIN: u64 = 64;

/// Where more is there, each so-manieth is looked at: ids are random, so that is a fair sample of
/// the mix, and the same whenever the fleet is.
const LOOKED_AT_MAX: usize = 1 << 14;

/// See the module; best fit where too little is placed.
#[derive(Clone, Debug, Default)]
pub struct Guides {
    learned: Option<(Seen, Guide)>,
    /// What was learned, weighed by how much lay idle when it was last looked at.
    adapted: Option<Guide>,
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

    /// Learns anew where sizes or mix moved by more than a twentieth, else keeps what was learned;
    /// weighs it by what lies idle now.
    pub fn learn_again(mut self, fleet: &Fleet) -> Guides {
        let packing = packing_clusters(fleet);
        let Some(seen) = look(fleet, &packing) else { return Guides::default() };
        let kept = self.learned.take().filter(|(old, _)| near(old, &seen));
        let (seen, guide) = kept.unwrap_or_else(|| {
            let guide = guide_of(&seen);
            (seen, guide)
        });
        let in_use =
            fleet.hosts().filter(|host| host.placed > 0 && packing.contains(&host.cluster));
        let rooms = in_use.map(|host| {
            let (limit, charged) = (fleet.limit_of_host(host), host.charged);
            let cpu = limit.cpu.saturating_sub(charged.cpu);
            let memory = limit.memory.saturating_sub(charged.memory);
            (limit, Resources { cpu, memory })
        });
        self.adapted = Some(guide.adapt(rooms, &Settings::default()));
        self.learned = Some((seen, guide));
        self
    }

    /// For any cluster that packs.
    pub fn of(&self, _: ClusterId) -> &Guide {
        self.adapted.as_ref().unwrap_or(&self.best_fit.0)
    }
}

fn guide_of(seen: &Seen) -> Guide {
    let size =
        |&(cpu, memory): &(u64, u64)| Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) };
    let hosts: Vec<_> = seen.sizes.iter().map(|(key, count)| (size(key), *count)).collect();
    let mix: Vec<_> = seen.mix.iter().map(|(key, count)| (size(key), *count)).collect();
    Guide::learn(&hosts, &mix)
}

fn packing_clusters(fleet: &Fleet) -> BTreeSet<ClusterId> {
    let packs = |cluster: &&Cluster| cluster.policy.strategy == Strategy::Pack;
    fleet.clusters().filter(packs).map(|cluster| cluster.id).collect()
}

/// What the clusters that pack have and run, where that is enough to learn from.
fn look(fleet: &Fleet, packing: &BTreeSet<ClusterId>) -> Option<Seen> {
    if packing.is_empty() {
        return None;
    }
    let mut seen = Seen::default();
    for host in fleet.hosts().filter(|host| packing.contains(&host.cluster)) {
        let limit = fleet.limit_of_host(host);
        *seen.sizes.entry((limit.cpu.0, limit.memory.0)).or_default() += 1;
    }
    let all = fleet.clusters().all(|cluster| packing.contains(&cluster.id));
    let objects = fleet.containers().len() + fleet.reservations().len();
    let step = objects / LOOKED_AT_MAX + 1;
    let charges = fleet.containers().step_by(step).filter_map(|vm| vm.state.charged());
    let held = fleet.reservations().step_by(step).map(|held| (held.place.host, held.charge));
    for (host, charge) in charges.chain(held) {
        if all || fleet.host(host).is_some_and(|host| packing.contains(&host.cluster)) {
            *seen.mix.entry((charge.cpu.0, charge.memory.0)).or_default() += 1;
        }
    }
    (seen.mix.values().sum::<u64>() >= PLACED_MIN).then_some(seen)
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

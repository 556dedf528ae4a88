//! What is asked for, one wish after the other, and a cell that it fills to a chosen share.
//!
//! Promises: equal demands are one shared wish, as requests of one batch are. Does not: know rules;
//! labels are those that the caller gives.

use crate::cell::{self, Cell};
use crate::made_up::{self, MadeUp};
use crate::trace::Trace;
use berth_model::{
    Bytes, Demand, HostFacts, MilliCpus, Permille, PlacementWish, Resources, Strategy, Supply,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hosts of one rack where the trace names none.
const RACK_HOSTS: usize = 40;

/// Wishes in an order that begins again at its end.
#[derive(Clone, Debug)]
pub struct Mix {
    wishes: Vec<Arc<PlacementWish>>,
    labels: Option<fn(u64) -> BTreeMap<String, String>>,
}

impl Mix {
    /// The made-up one, of six shapes.
    pub fn made_up() -> Mix {
        Mix::of((0..made_up::SHAPES).map(made_up::demand))
    }

    pub fn of(demands: impl IntoIterator<Item = Demand>) -> Mix {
        let mut known: BTreeMap<Demand, Arc<PlacementWish>> = BTreeMap::new();
        let wish = |demand: Demand| {
            let wish = known.entry(demand).or_insert_with_key(|demand| {
                let labels = BTreeMap::new();
                Arc::new(PlacementWish { demand: demand.clone(), labels })
            });
            Arc::clone(wish)
        };
        Mix { wishes: demands.into_iter().map(wish).collect(), labels: None }
    }

    /// The same demands with labels by number; no two wishes are shared then.
    pub fn labelled(self, labels: fn(u64) -> BTreeMap<String, String>) -> Mix {
        Mix { labels: Some(labels), ..self }
    }

    /// The first `count`.
    pub fn demands(&self, count: usize) -> Vec<Demand> {
        (0..count as u64).map(|number| self.wish(number).demand.clone()).collect()
    }

    /// The wish with this number.
    pub fn wish(&self, number: u64) -> Arc<PlacementWish> {
        let many = self.wishes.len().max(1) as u64;
        let position = usize::try_from(number % many).unwrap_or(0);
        let wish = self.wishes.get(position).cloned().unwrap_or_default();
        match self.labels {
            None => wish,
            Some(labels) => {
                Arc::new(PlacementWish { demand: wish.demand.clone(), labels: labels(number) })
            }
        }
    }

    pub fn batch(&self, from: u64, count: u64) -> Vec<Arc<PlacementWish>> {
        (from..from + count).map(|number| self.wish(number)).collect()
    }

    /// What the first `count` of them take together, and the most that one takes.
    fn totals(&self, count: u64) -> (Resources, Resources) {
        let (mut all, mut most) = (Resources::default(), Resources::default());
        for number in 0..count {
            let charge = self.wish(number).demand.charge(Bytes::ZERO);
            all = all + charge;
            most.cpu = most.cpu.max(charge.cpu);
            most.memory = most.memory.max(charge.memory);
        }
        (all, most)
    }
}

/// A mix, and the cell for it.
#[derive(Clone, Debug)]
pub struct Workload {
    pub mix: Mix,
    pub cell: Cell,
    /// Where the hosts come from, in words.
    pub about: String,
}

impl Workload {
    /// `hosts` hosts that `vms` of the mix fill to `fill`. Hosts that the trace names are taken in
    /// turn as they are; others are made equal, and never too small for the largest.
    pub fn new(
        trace: Option<&Trace>,
        hosts: u32,
        vms: u32,
        fill: Permille,
        strategy: Strategy,
    ) -> Workload {
        let Some(trace) = trace else {
            let cell = MadeUp::new(hosts, vms, fill, 0).cell(strategy);
            let about = "made-up mix of six shapes, equal hosts with shared datastores".to_owned();
            return Workload { mix: Mix::made_up(), cell, about };
        };
        let mix = Mix::of(trace.demands());
        let named = trace.hosts();
        let policy = cell::policy(strategy);
        let many = usize::try_from(hosts).unwrap_or(usize::MAX);
        if named.is_empty() {
            let size = equal_hosts(&mix, hosts, vms, fill);
            let about = format!(
                "shapes of the {} trace in its order, equal hosts of {} and {}",
                trace.name(),
                size.cpu,
                size.memory
            );
            let facts = (0..many).map(|number| sized(number, size));
            return Workload { cell: Cell::of(facts, policy), mix, about };
        }
        let about = format!(
            "shapes of the {} trace in its order, on its {} hosts in turn",
            trace.name(),
            named.len()
        );
        let facts = named.into_iter().cycle().take(many);
        Workload { cell: Cell::of(facts, policy), mix, about }
    }
}

/// A host of this size in a rack of forty.
pub fn sized(number: usize, size: Resources) -> HostFacts {
    let rack = format!("rack-{}", number / RACK_HOSTS);
    let domain = vec![(made_up::RACK.to_owned(), rack)];
    let supply = Supply { domain, ..Supply::default() };
    HostFacts { supply, ..cell::facts("host".to_owned(), size, Bytes::ZERO) }
}

/// What a host of so many cores and GiB has.
pub fn host_size(cpus: u32, gib: u32) -> Resources {
    Resources { cpu: MilliCpus::whole(cpus.into()), memory: Bytes::gib(gib.into()) }
}

fn equal_hosts(mix: &Mix, hosts: u32, vms: u32, fill: Permille) -> Resources {
    let (all, most) = mix.totals(vms.into());
    let each = |all: u64| {
        (all.saturating_mul(1000) / u64::from(fill.0.max(1))).div_ceil(u64::from(hosts.max(1)))
    };
    // Whole cores and GiB, as machines have them.
    let cpu = MilliCpus(each(all.cpu.0).next_multiple_of(1000)).max(most.cpu);
    let memory = Bytes(each(all.memory.0).next_multiple_of(1 << 30)).max(most.memory);
    Resources { cpu, memory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_demands_share_one_wish_and_the_order_begins_again() {
        let mix = Mix::made_up();
        assert!(Arc::ptr_eq(&mix.wish(0), &mix.wish(6)));
        assert_eq!(mix.batch(5, 2)[1], mix.wish(0));
        let twice = Mix::of([made_up::demand(0), made_up::demand(6)]);
        assert!(Arc::ptr_eq(&twice.wish(0), &twice.wish(1)));
    }

    #[test]
    fn made_equal_hosts_hold_the_largest_and_all_together() {
        let demand = |cpu, gib| {
            let size = Resources { cpu: MilliCpus::whole(cpu), memory: Bytes::gib(gib) };
            crate::trace::azure::demand(size)
        };
        let mix = Mix::of([demand(1, 1), demand(16, 112)]);
        let size = equal_hosts(&mix, 1000, 2, Permille(850));
        assert_eq!(size, Resources { cpu: MilliCpus::whole(16), memory: Bytes::gib(112) });
        let size = equal_hosts(&mix, 10, 1000, Permille(850));
        assert!(size.cpu.0 * 10 >= 8_500_000 && size.memory >= Bytes::gib(5650 * 10 / 9));
    }
}

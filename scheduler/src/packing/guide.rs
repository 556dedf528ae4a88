//! Where a container VM does least harm to what the workload's mix could still put there.
//!
//! The guide prices the shapes that it has learned (see `prices`) and keeps, for every free vector
//! of a grid, what the best fill of it is worth at these prices. Putting a shape on a host costs
//! what the host's free room loses in worth beyond the price of the shape itself: nothing on a host
//! where the shape is part of a best fill, much where it takes the cpu that memory-hungry shapes
//! need beside them. A little weight on the room that stays free makes it prefer full hosts to
//! empty ones, as best fit does. That room is measured in shares of both dimensions, not by price:
//! what the mix of today leaves unused is worth nothing today, and the mix of tomorrow may need it.
//!
//! How much weight depends on how much lies idle. While a fleet grows, hosts that wait for what
//! they lack are few and soon filled, and avoiding waste is all. Once container VMs leave as often
//! as they come, holes are many, arrivals cannot fill them all, and each host opened is one that
//! did not empty: [`Guide::adapt`] raises both weights with the worth that lies idle in hosts in
//! use.
//!
//! Promises: [`Guide::learn`] is a function of its arguments, in bounded time; [`Guide::cost`]
//! takes `&self`, two look-ups and whole numbers. Without anything learned it is best fit.
//! Does not: check whether the shape fits for any other reason than room, nor remember hosts.
//! Floats are used while learning only, by the planner, never by apply.
//!
//! Sources: bid prices (Talluri and van Ryzin, "An Analysis of Bid-Price Controls for Network
//! Revenue Management", 1998); the idea of packing online by the duals of the offline relaxation:
//! Gupta and Radovanović, "Interior-Point-Based Online Stochastic Bin Packing", 2020.

use super::Settings;
use super::grid::Step;
use super::knapsack::{Limits, Table};
use super::prices::{Effort, Priced, fits, price};
use super::shapes::{count_shapes, most_telling};
use berth_model::Resources;
use std::sync::Arc;

/// The most valuable host, in the units of [`Guide::cost`] before weights.
const ONE: u64 = 1 << 20;

/// The cost of a shape where it does not fit; no cost of one that fits is as high.
const DOES_NOT_FIT: u32 = u32::MAX;

/// What was learned of a mix of shapes on hosts of some sizes. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guide {
    learned: Option<Arc<Learned>>,
    weights: Weights,
}

/// What counts besides waste, in 256ths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weights {
    /// Of the room that stays free.
    stay: u32,
    /// Of opening an empty host, in its worth.
    opening: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Learned {
    cpu: Step,
    memory: Step,
    worth: Table,
    prices: Vec<Priced>,
    /// Sizes of hosts: a free vector of exactly this size is an empty host.
    sizes: Vec<Resources>,
    /// The most of each dimension that any host has.
    largest: Resources,
}

impl Guide {
    /// A guide that knows nothing: best fit.
    pub fn best_fit() -> Guide {
        Guide { learned: None, weights: Weights::default() }
    }

    /// Learns from the hosts (size, how many) and the shapes present (charge, how many), with the
    /// settings that suit most.
    pub fn learn(hosts: &[(Resources, u32)], mix: &[(Resources, u64)]) -> Guide {
        Guide::learn_with(hosts, mix, &Settings::default())
    }

    pub fn learn_with(
        hosts: &[(Resources, u32)],
        mix: &[(Resources, u64)],
        settings: &Settings,
    ) -> Guide {
        let kinds = count_shapes(hosts.iter().map(|&(size, count)| (size, u64::from(count))));
        let Some(largest) = largest(&kinds) else { return Guide::best_fit() };
        let kinds = most_telling(kinds, largest, settings.host_kinds as usize);
        let shapes = count_shapes(mix.iter().copied().filter(|&(charge, _)| {
            (charge.cpu.0 > 0 || charge.memory.0 > 0)
                && kinds.iter().any(|&(size, _)| fits(size, charge) > 0)
        }));
        let shapes = most_telling(shapes, largest, settings.shapes as usize);
        if shapes.is_empty() {
            return Guide::best_fit();
        }
        let effort = Effort {
            patterns: settings.patterns,
            search: Limits {
                nodes: u64::from(settings.nodes),
                slack_millionths: u64::from(settings.gap_millionths) / 4,
            },
            gap_millionths: settings.gap_millionths,
            only_present: false,
        };
        let prices = price(&kinds, &shapes, effort, ONE);
        let cells = u64::from(settings.cells);
        let amounts: Vec<_> = shapes.iter().map(|&(charge, n)| (charge.cpu.0, n)).collect();
        let cpu = Step::choose(largest.cpu.0, cells.isqrt(), &amounts);
        let amounts: Vec<_> = shapes.iter().map(|&(charge, n)| (charge.memory.0, n)).collect();
        let memory = Step::choose(largest.memory.0, cells / (cpu.most as u64 + 1), &amounts);
        let items: Vec<(usize, usize, u32)> = prices
            .iter()
            .map(|row| {
                let price = u32::try_from(row.price).unwrap_or(u32::MAX);
                (cpu.up(row.charge.cpu.0), memory.up(row.charge.memory.0), price)
            })
            .collect();
        Guide {
            learned: Some(Arc::new(Learned {
                cpu,
                memory,
                worth: Table::new(cpu.most, memory.most, &items),
                prices,
                largest,
                sizes: kinds.into_iter().map(|(size, _)| size).collect(),
            })),
            weights: Weights { stay: settings.stay_weight, opening: settings.opening_weight },
        }
    }

    /// The same guide with weights for how much of the hosts in use lies idle: give (size, free) of
    /// each host that holds anything. A linear pass; what was learned is shared.
    pub fn adapt(
        &self,
        in_use: impl IntoIterator<Item = (Resources, Resources)>,
        settings: &Settings,
    ) -> Guide {
        let Some(learned) = &self.learned else { return self.clone() };
        let (mut whole, mut idle, mut hosts) = (0_u64, 0_u64, 0_u64);
        for (size, free) in in_use {
            whole += u64::from(learned.worth(size));
            idle += u64::from(learned.worth(free));
            hosts += 1;
        }
        // A few hosts are always being filled, whatever the size of the fleet.
        let spared = whole * u64::from(settings.open_hosts) / hosts.max(1);
        let idle = idle.saturating_sub(spared);
        let raise = |weight: u32, slope: u32, most: u32| {
            let more = u128::from(idle) * u128::from(slope) / u128::from(whole.max(1));
            weight.max(most.min(weight.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))))
        };
        let weights = Weights {
            stay: raise(settings.stay_weight, settings.stay_slope, settings.stay_most),
            opening: raise(settings.opening_weight, settings.opening_slope, settings.opening_most),
        };
        Guide { learned: self.learned.clone(), weights }
    }

    /// What is lost by putting `shape` where `free_before` is free; the smaller the better.
    pub fn cost(&self, free_before: Resources, shape: Resources) -> u32 {
        if shape.cpu > free_before.cpu || shape.memory > free_before.memory {
            return DOES_NOT_FIT;
        }
        let after = free_before - shape;
        match &self.learned {
            Some(learned) => learned.cost(free_before, after, shape, self.weights),
            None => room_left(after),
        }
    }

    /// What one of `shape` is worth, where the most valuable host is worth 2^20. None for a shape
    /// that was not learned.
    pub fn price(&self, shape: Resources) -> Option<u32> {
        self.learned.as_ref()?.price(shape)
    }

    /// What the best fill of `free` is worth to the mix, in the same unit; 0 when nothing was
    /// learned.
    pub fn worth(&self, free: Resources) -> u32 {
        self.learned.as_ref().map_or(0, |learned| learned.worth(free))
    }
}

impl Learned {
    /// What is free of both dimensions, in shares of what the largest host has: at most 2^20.
    fn room(&self, free: Resources) -> u32 {
        let share = |part: u64, whole: u64| {
            u128::from(part.min(whole)) * u128::from(ONE / 2) / u128::from(whole.max(1))
        };
        let Resources { cpu, memory } = self.largest;
        let both = share(free.cpu.0, cpu.0) + share(free.memory.0, memory.0);
        u32::try_from(both).unwrap_or(u32::MAX)
    }

    fn worth(&self, free: Resources) -> u32 {
        self.worth.value(self.cpu.down(free.cpu.0), self.memory.down(free.memory.0))
    }

    fn price(&self, shape: Resources) -> Option<u32> {
        let key = (shape.cpu.0, shape.memory.0);
        let at = self
            .prices
            .binary_search_by_key(&key, |row| (row.charge.cpu.0, row.charge.memory.0))
            .ok()?;
        u32::try_from(self.prices[at].price).ok()
    }

    fn cost(&self, before: Resources, after: Resources, shape: Resources, weights: Weights) -> u32 {
        let had = self.worth(before);
        let stays = self.worth(after);
        let waste = had.saturating_sub(stays).saturating_sub(self.price(shape).unwrap_or(0));
        let opens = if self.sizes.contains(&before) { weights.opening } else { 0 };
        // Worth is about 2^20 at most and weights are below 2^10, so nothing saturates in practice.
        waste
            .saturating_mul(WEIGHT_ONE)
            .saturating_add(self.room(after).saturating_mul(weights.stay))
            .saturating_add(had.saturating_mul(opens))
            .min(DOES_NOT_FIT - 1)
    }
}

/// One, in the unit of the weights.
const WEIGHT_ONE: u32 = 256;

/// Best fit without a host to measure by: a core weighs as much as four GiB, half a MiB is the
/// finest that counts.
fn room_left(after: Resources) -> u32 {
    let cpu = after.cpu.0.saturating_mul(8);
    let memory = after.memory.0 >> 19;
    u32::try_from(cpu.saturating_add(memory)).unwrap_or(DOES_NOT_FIT).min(DOES_NOT_FIT - 1)
}

/// The most of each dimension that any host has.
fn largest(kinds: &[(Resources, u64)]) -> Option<Resources> {
    kinds
        .iter()
        .map(|&(size, _)| size)
        .reduce(|a, b| Resources { cpu: a.cpu.max(b.cpu), memory: a.memory.max(b.memory) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{Bytes, MilliCpus};
    use proptest::prelude::*;

    fn shape(cpu: u64, memory: u64) -> Resources {
        Resources { cpu: MilliCpus::whole(cpu), memory: Bytes::gib(memory) }
    }

    #[test]
    fn what_wants_memory_is_kept_from_what_would_share_its_cpu() {
        // One hungry container VM and eight lean ones fill a host; two hungry ones strand its cpu.
        let host = shape(40, 112);
        let (hungry, lean) = (shape(8, 56), shape(4, 7));
        let guide = Guide::learn(&[(host, 100)], &[(hungry, 100), (lean, 800)]);
        let beside_hungry = host - hungry;
        assert!(guide.cost(beside_hungry, lean) < guide.cost(host, lean));
        assert!(guide.cost(beside_hungry, hungry) > guide.cost(host, hungry));
        // Best fit would put the second one beside the first.
        let plain = Guide::best_fit();
        assert!(plain.cost(beside_hungry, hungry) < plain.cost(host, hungry));
    }

    #[test]
    fn what_does_not_fit_costs_most() {
        let host = shape(40, 112);
        for guide in [Guide::best_fit(), Guide::learn(&[(host, 1)], &[(shape(1, 1), 5)])] {
            assert_eq!(guide.cost(shape(4, 4), shape(5, 1)), u32::MAX);
            assert_eq!(guide.cost(shape(4, 4), shape(1, 5)), u32::MAX);
            assert!(guide.cost(shape(4, 4), shape(4, 4)) < u32::MAX);
        }
    }

    #[test]
    fn a_shape_that_was_never_seen_goes_where_least_is_lost() {
        let host = shape(40, 112);
        let guide = Guide::learn(&[(host, 10)], &[(shape(8, 56), 10), (shape(4, 7), 80)]);
        let odd = shape(3, 5);
        assert_eq!(guide.price(odd), None);
        assert!(guide.cost(shape(3, 6), odd) < guide.cost(shape(8, 56), odd));
    }

    #[test]
    fn idle_room_raises_the_price_of_an_empty_host() {
        let (host, settings) = (shape(40, 112), Settings::default());
        let guide = Guide::learn(&[(host, 100)], &[(shape(4, 11), 500), (shape(8, 22), 100)]);
        let full = guide.adapt(vec![(host, shape(0, 0)); 100], &settings);
        let idle = guide.adapt(vec![(host, shape(20, 56)); 100], &settings);
        let lean = shape(4, 11);
        assert_eq!(full, guide);
        assert!(idle.cost(host, lean) > guide.cost(host, lean));
        assert!(idle.cost(shape(12, 40), lean) < idle.cost(host, lean));
    }

    #[test]
    fn hosts_of_several_sizes_are_priced_together() {
        let hosts = [(shape(40, 112), 10), (shape(96, 192), 10)];
        let guide = Guide::learn(&hosts, &[(shape(8, 14), 40), (shape(8, 56), 20)]);
        assert!(guide.worth(shape(96, 192)) > guide.worth(shape(40, 112)));
        assert!(guide.worth(shape(40, 112)) > 0);
    }

    fn mix() -> impl Strategy<Value = Vec<(Resources, u64)>> {
        let one = (0_u64..9_000, 0_u64..(40 << 30), 0_u64..1_000);
        prop::collection::vec(one, 0..40).prop_map(|rows| {
            rows.into_iter()
                .map(|(cpu, memory, count)| {
                    (Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) }, count)
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn whatever_was_learned_costs_are_the_same_again_and_room_is_never_worth_less(
            mix in mix(),
            hosts in prop::collection::vec((0_u64..64, 0_u64..256, 0_u32..50), 0..9),
            (cpu, memory) in (0_u64..64_000, 0_u64..(256 << 30)),
        ) {
            let hosts: Vec<_> = hosts.into_iter().map(|(c, m, n)| (shape(c, m), n)).collect();
            let settings = Settings { nodes: 500, cells: 1 << 12, ..Settings::default() };
            let guide = Guide::learn_with(&hosts, &mix, &settings);
            prop_assert_eq!(&guide, &Guide::learn_with(&hosts, &mix, &settings));
            let free = Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) };
            let more = free + shape(1, 1);
            prop_assert!(guide.worth(free) <= guide.worth(more));
            for (charge, _) in &mix {
                let fits = charge.cpu <= free.cpu && charge.memory <= free.memory;
                prop_assert_eq!(guide.cost(free, *charge) < u32::MAX, fits);
            }
        }
    }
}

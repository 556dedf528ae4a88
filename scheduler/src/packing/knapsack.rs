//! The best fill of one free vector: an unbounded or bounded knapsack over cpu and memory.
//!
//! Promises: two exact ways. [`fill`] searches one free vector in exact units and gives the counts
//! too; [`Table`] holds the value of every free vector of a grid at once, for lookups in
//! nanoseconds. Integers only, so that every machine finds the same.
//! Does not: round; what it is given are already whole units.
//!
//! Sources: depth-first branch and bound in order of density with fractional bounds (Kellerer,
//! Pferschy and Pisinger, "Knapsack Problems", 2004, chapters 2 and 9: a surrogate bound per
//! weighting of the dimensions); the table is the textbook dynamic programme in two dimensions.

use std::cmp::Reverse;

/// One kind of thing that may be put in, in whole units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub cpu: u64,
    pub memory: u64,
    pub value: u64,
    /// How many there are at most.
    pub most: u64,
}

/// How one free vector is filled best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    pub value: u64,
    /// How many of each item, in the order that they were given.
    pub counts: Vec<u64>,
    /// No fill is worth more than this. It is `value` unless the search was cut short or had slack.
    pub ceiling: u64,
}

/// Weights of (cpu, memory) for the surrogate bounds, where the whole free vector weighs one in
/// each dimension. Several are cheap to keep, and the best of them cuts off most of the tree.
const WEIGHTINGS: [(u64, u64); 5] = [(1, 0), (0, 1), (1, 1), (1, 3), (3, 1)];

/// Fixed point of shares of the whole free vector.
const SHARE_BITS: u32 = 32;

/// Fixed point of the densities: value per weight.
const DENSITY_BITS: u32 = 24;

/// The density of what weighs nothing.
const NO_BOUND: u128 = u128::MAX;

/// How long to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes of the tree at most.
    pub nodes: u64,
    /// A branch that could be better by less than so many millionths is not worth a look. Shapes
    /// that are multiples of each other tie by the thousand, and differ by rounding alone.
    pub slack_millionths: u64,
}

/// The best fill of `cpu` and `memory` within the limits.
pub fn fill(cpu: u64, memory: u64, items: &[Item], limits: Limits) -> Fill {
    let mut order: Vec<usize> = (0..items.len())
        .filter(|&at| {
            let item = &items[at];
            item.value > 0
                && item.most > 0
                && item.cpu <= cpu
                && item.memory <= memory
                && (item.cpu > 0 || item.memory > 0)
        })
        .collect();
    let whole = (cpu, memory);
    order.sort_by_key(|&at| (Reverse(density(&items[at], whole, (1, 1))), at));
    let sorted: Vec<Item> = order.iter().map(|&at| items[at]).collect();
    let mut search = Search {
        densities: suffix_densities(&sorted, whole),
        shares: sorted.iter().map(|item| shares(item, whole)).collect(),
        counts: vec![0; sorted.len()],
        best_counts: vec![0; sorted.len()],
        best: 0,
        enough: 0,
        slack_millionths: limits.slack_millionths,
        nodes_left: limits.nodes,
        cut: false,
        items: sorted,
    };
    let root = Left { cpu, memory, shares: (1 << SHARE_BITS, 1 << SHARE_BITS), value: 0 };
    let ceiling = search.bound(0, root);
    search.descend(0, root);
    let mut counts = vec![0; items.len()];
    for (at, count) in order.iter().zip(&search.best_counts) {
        counts[*at] = *count;
    }
    let ceiling = if search.cut { ceiling.max(search.enough) } else { search.enough };
    Fill { value: search.best, counts, ceiling }
}

/// What an item takes of the whole in each dimension, rounded down.
fn shares(item: &Item, whole: (u64, u64)) -> (u64, u64) {
    let share = |part: u64, whole: u64| {
        let share = (u128::from(part) << SHARE_BITS) / u128::from(whole.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    (share(item.cpu, whole.0), share(item.memory, whole.1))
}

/// Value per weight, rounded up, so that a bound made of it stays a bound.
fn density(item: &Item, whole: (u64, u64), weighting: (u64, u64)) -> u128 {
    let (cpu, memory) = shares(item, whole);
    let weight =
        u128::from(cpu) * u128::from(weighting.0) + u128::from(memory) * u128::from(weighting.1);
    if weight == 0 {
        // What weighs nothing in this weighting is not bounded by it.
        return NO_BOUND;
    }
    (u128::from(item.value) << DENSITY_BITS).div_ceil(weight)
}

/// For each depth and weighting, the densest item from there on.
fn suffix_densities(items: &[Item], whole: (u64, u64)) -> Vec<[u128; WEIGHTINGS.len()]> {
    let mut densities = vec![[0; WEIGHTINGS.len()]; items.len() + 1];
    for (depth, item) in items.iter().enumerate().rev() {
        let mut row = densities[depth + 1];
        for (densest, weighting) in row.iter_mut().zip(WEIGHTINGS) {
            *densest = density(item, whole, weighting).max(*densest);
        }
        densities[depth] = row;
    }
    densities
}

/// A node of the tree: what is left of the free vector, and what was put in is worth. The shares
/// left are never less than the truth, since those of items are rounded down.
#[derive(Clone, Copy)]
struct Left {
    cpu: u64,
    memory: u64,
    shares: (u64, u64),
    value: u64,
}

struct Search {
    items: Vec<Item>,
    densities: Vec<[u128; WEIGHTINGS.len()]>,
    shares: Vec<(u64, u64)>,
    counts: Vec<u64>,
    best_counts: Vec<u64>,
    best: u64,
    /// The best and the slack: what cannot be more than this is let go.
    enough: u64,
    slack_millionths: u64,
    nodes_left: u64,
    cut: bool,
}

impl Search {
    /// No fill with the items from `depth` on is worth more.
    fn bound(&self, depth: usize, left: Left) -> u64 {
        let mut bound = u128::MAX;
        for (density, weighting) in self.densities[depth].iter().zip(WEIGHTINGS) {
            if *density == NO_BOUND {
                continue;
            }
            let weight = left.shares.0 * weighting.0 + left.shares.1 * weighting.1;
            bound = bound.min(u128::from(weight).saturating_mul(*density) >> DENSITY_BITS);
        }
        left.value.saturating_add(u64::try_from(bound).unwrap_or(u64::MAX))
    }

    fn descend(&mut self, depth: usize, left: Left) {
        if left.value > self.best {
            self.best = left.value;
            let slack = u128::from(self.best) * u128::from(self.slack_millionths) / 1_000_000;
            self.enough = self.best.saturating_add(u64::try_from(slack).unwrap_or(u64::MAX));
            self.best_counts.copy_from_slice(&self.counts);
        }
        if depth == self.items.len() {
            return;
        }
        if self.nodes_left == 0 {
            self.cut = true;
            return;
        }
        self.nodes_left -= 1;
        let (item, shares) = (self.items[depth], self.shares[depth]);
        let by_cpu = left.cpu.checked_div(item.cpu).unwrap_or(u64::MAX);
        let by_memory = left.memory.checked_div(item.memory).unwrap_or(u64::MAX);
        for count in (0..=by_cpu.min(by_memory).min(item.most)).rev() {
            let next = Left {
                cpu: left.cpu - count * item.cpu,
                memory: left.memory - count * item.memory,
                shares: (left.shares.0 - count * shares.0, left.shares.1 - count * shares.1),
                value: left.value.saturating_add(count.saturating_mul(item.value)),
            };
            // With fewer of this item the bound may grow again, where another uses the other
            // dimension better: so look on.
            if self.bound(depth + 1, next) <= self.enough && next.value <= self.best {
                continue;
            }
            self.counts[depth] = count;
            self.descend(depth + 1, next);
            if self.cut {
                break;
            }
        }
        self.counts[depth] = 0;
    }
}

/// The value of the best fill of every free vector of a grid, with as many of each item as fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    cpu_steps: usize,
    memory_steps: usize,
    values: Vec<u32>,
}

impl Table {
    /// Free vectors from nothing to `cpu_steps` and `memory_steps`, both included. `items` are
    /// (cpu, memory, value) in steps.
    pub fn new(cpu_steps: usize, memory_steps: usize, items: &[(usize, usize, u32)]) -> Table {
        let width = memory_steps + 1;
        let mut values = vec![0_u32; (cpu_steps + 1) * width];
        for cpu in 0..=cpu_steps {
            let (done, rest) = values.split_at_mut(cpu * width);
            let row = &mut rest[..width];
            if let Some(last) = done.len().checked_sub(width) {
                row.copy_from_slice(&done[last..]);
            }
            for &(item_cpu, item_memory, value) in items {
                if item_cpu == 0 || item_cpu > cpu || item_memory > memory_steps {
                    continue;
                }
                let from = &done[(cpu - item_cpu) * width..][..width - item_memory];
                for (cell, before) in row[item_memory..].iter_mut().zip(from) {
                    *cell = (*cell).max(before.saturating_add(value));
                }
            }
            for memory in 1..width {
                let mut best = row[memory].max(row[memory - 1]);
                for &(item_cpu, item_memory, value) in items {
                    if item_cpu == 0 && item_memory > 0 && item_memory <= memory {
                        best = best.max(row[memory - item_memory].saturating_add(value));
                    }
                }
                row[memory] = best;
            }
        }
        Table { cpu_steps, memory_steps, values }
    }

    /// The value of the best fill of so many steps; what lies beyond the grid counts as its edge.
    pub fn value(&self, cpu: u64, memory: u64) -> u32 {
        let cpu = usize::try_from(cpu).map_or(self.cpu_steps, |cpu| cpu.min(self.cpu_steps));
        let memory = usize::try_from(memory)
            .map_or(self.memory_steps, |memory| memory.min(self.memory_steps));
        self.values[cpu * (self.memory_steps + 1) + memory]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute(cpu: u64, memory: u64, items: &[Item]) -> u64 {
        let Some((item, rest)) = items.split_first() else { return 0 };
        let mut best = 0;
        for count in 0..=item.most {
            if count * item.cpu > cpu || count * item.memory > memory {
                break;
            }
            let below = brute(cpu - count * item.cpu, memory - count * item.memory, rest);
            best = best.max(count * item.value + below);
        }
        best
    }

    const EXACT: Limits = Limits { nodes: u64::MAX, slack_millionths: 0 };

    fn items() -> impl Strategy<Value = Vec<Item>> {
        prop::collection::vec((0_u64..6, 0_u64..9, 1_u64..50, 1_u64..5), 1..5).prop_map(|rows| {
            rows.into_iter()
                .filter(|row| row.0 + row.1 > 0)
                .map(|(cpu, memory, value, most)| Item { cpu, memory, value, most })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_search_finds_what_trying_everything_finds(
            cpu in 0_u64..20, memory in 0_u64..30, items in items()
        ) {
            let fill = fill(cpu, memory, &items, EXACT);
            prop_assert_eq!(fill.value, brute(cpu, memory, &items));
            prop_assert_eq!(fill.ceiling, fill.value);
            let sum = |pick: fn(&Item) -> u64| -> u64 {
                fill.counts.iter().zip(&items).map(|(count, item)| count * pick(item)).sum()
            };
            prop_assert!(sum(|item| item.cpu) <= cpu && sum(|item| item.memory) <= memory);
            prop_assert_eq!(sum(|item| item.value), fill.value);
        }

        #[test]
        fn a_search_cut_short_still_bounds_from_above(
            cpu in 0_u64..20, memory in 0_u64..30, items in items(),
            nodes in 0_u64..40, slack_millionths in 0_u64..300_000,
        ) {
            let fill = fill(cpu, memory, &items, Limits { nodes, slack_millionths });
            let best = brute(cpu, memory, &items);
            prop_assert!(fill.value <= best && best <= fill.ceiling);
        }

        #[test]
        fn the_table_holds_what_the_search_finds(items in items()) {
            let unbounded: Vec<Item> =
                items.iter().map(|item| Item { most: u64::MAX, ..*item }).collect();
            let rows: Vec<(usize, usize, u32)> = items
                .iter()
                .map(|item| (item.cpu as usize, item.memory as usize, item.value as u32))
                .collect();
            let table = Table::new(14, 21, &rows);
            for cpu in 0..=14 {
                for memory in 0..=21 {
                    let found = fill(cpu, memory, &unbounded, EXACT).value;
                    prop_assert_eq!(u64::from(table.value(cpu, memory)), found);
                }
            }
        }
    }
}

//! What each shape of a mix is worth, so that hosts filled well are worth as little as possible.
//!
//! The linear programme asks how often the whole mix fits into the hosts: maximise t so that
//! patterns (fills of one host) in the numbers of hosts that there are hold t times the mix. Its
//! duals price the shapes: a fill worth less than its host wastes the difference. With hosts of one
//! size this is the cutting-stock relaxation turned round: hosts over t is its optimum.
//!
//! Promises: bounded work; prices that sum over the mix to more than nothing. Every set of prices
//! is usable: one from a search cut short only ranks a little worse.
//! Does not: decide anything. Floats stay inside and leave as whole numbers.
//!
//! Sources: Gilmore and Gomory, "A Linear Programming Approach to the Cutting-Stock Problem" I and
//! II, Operations Research 1961 and 1963 (column generation with a knapsack as its pricing);
//! Farley, "A Note on Bounding a Class of Linear Programming Problems", 1990 (when to stop).

use super::knapsack::{Fill, Item, Limits, fill};
use super::simplex::Simplex;
use berth_model::Resources;

/// One shape, how many of it there are, and (once solved) what one of it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priced {
    pub charge: Resources,
    pub count: u64,
    pub price: u64,
}

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Patterns made at most.
    pub patterns: u32,
    /// Of the knapsack search per pattern.
    pub search: Limits,
    /// Stops when the bound is within this many millionths of the value.
    pub gap_millionths: u32,
    /// A pattern holds no more of a shape than there are: right for a bound. A guide looks at what
    /// may come, where rare shapes must not be dear only because no pattern may hold two.
    pub only_present: bool,
}

/// The fixed point in which floats become whole prices for the knapsack.
const FINE: f64 = (1_u64 << 40) as f64;

/// Prices `shapes` against `hosts` (size, how many). Shapes that fit no host must not be among
/// them. Prices are scaled so that the most valuable host is worth `one`.
pub fn price(
    hosts: &[(Resources, u64)],
    shapes: &[(Resources, u64)],
    effort: Effort,
    one: u64,
) -> Vec<Priced> {
    let mut priced: Vec<Priced> =
        shapes.iter().map(|&(charge, count)| Priced { charge, count, price: 0 }).collect();
    let Some(values) = Master::start(hosts, shapes).map(|master| master.solve(effort)) else {
        return priced;
    };
    let items = items_of(shapes, &values, effort.only_present);
    let dearest = hosts
        .iter()
        .map(|(size, _)| fill(size.cpu.0, size.memory.0, &items, effort.search).value)
        .max()
        .unwrap_or(0)
        .max(1);
    for (priced, item) in priced.iter_mut().zip(&items) {
        let scaled = u128::from(item.value) * u128::from(one) / u128::from(dearest);
        priced.price = u64::try_from(scaled).unwrap_or(one).min(one);
    }
    priced
}

fn items_of(shapes: &[(Resources, u64)], values: &[f64], only_present: bool) -> Vec<Item> {
    shapes
        .iter()
        .zip(values)
        .map(|(&(charge, count), &value)| Item {
            cpu: charge.cpu.0,
            memory: charge.memory.0,
            value: (value.max(0.0) * FINE) as u64,
            most: if only_present { count } else { u64::MAX },
        })
        .collect()
}

/// Nodes of the first searches: while prices are still far off, any improving pattern will do.
const FEW_NODES: u64 = 250;

/// By how much the search widens when it finds none.
const LOOK_HARDER: u64 = 9;

/// The restricted master problem: rows are the shapes, then the kinds of host.
struct Master {
    simplex: Simplex,
    kinds: Vec<(Resources, f64)>,
    shapes: Vec<(Resources, u64)>,
    /// Shares of the mix, scaled so that prices come out near one.
    shares: Vec<f64>,
}

impl Master {
    /// The basis in which each shape fills a host alone, at level nothing.
    fn start(hosts: &[(Resources, u64)], shapes: &[(Resources, u64)]) -> Option<Master> {
        let total: u64 = hosts.iter().map(|(_, count)| count).sum();
        if shapes.is_empty() || total == 0 {
            return None;
        }
        let kinds: Vec<(Resources, f64)> =
            hosts.iter().map(|&(size, count)| (size, count as f64 / total as f64)).collect();
        let (width, rows) = (shapes.len(), shapes.len() + kinds.len());
        let mut inverse = vec![0.0; rows * rows];
        let mut level = vec![0.0; rows];
        let mut shares = Vec::with_capacity(width);
        let mut whole = 0.0;
        for (row, &(charge, count)) in shapes.iter().enumerate() {
            let (alone, kind) = kinds
                .iter()
                .enumerate()
                .map(|(kind, &(size, _))| (fits(size, charge).min(count), kind))
                .max_by_key(|&(alone, kind)| (alone, std::cmp::Reverse(kind)))?;
            if alone == 0 {
                return None;
            }
            inverse[row * rows + row] = 1.0 / alone as f64;
            inverse[(width + kind) * rows + row] = -1.0 / alone as f64;
            shares.push(count as f64);
            whole += count as f64 / alone as f64;
        }
        for (kind, &(_, share)) in kinds.iter().enumerate() {
            inverse[(width + kind) * rows + width + kind] = 1.0;
            level[width + kind] = share;
        }
        for share in &mut shares {
            *share /= whole;
        }
        let simplex = Simplex::new(inverse, level);
        Some(Master { simplex, kinds, shapes: shapes.to_vec(), shares })
    }

    /// Values of the shapes, at the best bound that was met.
    fn solve(mut self, effort: Effort) -> Vec<f64> {
        let (width, rows) = (self.shapes.len(), self.shapes.len() + self.kinds.len());
        let mut column = vec![0.0; rows];
        for (entry, share) in column.iter_mut().zip(&self.shares) {
            *entry = -share;
        }
        self.simplex.enter(&column, 1.0);
        let mut best: (f64, Vec<f64>) = (f64::INFINITY, vec![1.0; width]);
        let mut search = effort.search;
        search.nodes = FEW_NODES.min(search.nodes);
        for _ in 0..effort.patterns {
            let duals = self.simplex.duals();
            if let Some(row) = most_negative(&duals, width) {
                // A shape priced below nothing is one of which too many fit: let some go unfilled.
                column.fill(0.0);
                column[row] = if row < width { -1.0 } else { 1.0 };
                if !self.simplex.enter(&column, 0.0) {
                    break;
                }
                continue;
            }
            let values: Vec<f64> = duals[..width].iter().map(|dual| (-dual).max(0.0)).collect();
            let items = items_of(&self.shapes, &values, effort.only_present);
            let fills: Vec<Fill> = self
                .kinds
                .iter()
                .map(|(size, _)| fill(size.cpu.0, size.memory.0, &items, search))
                .collect();
            let paid: f64 = self.kinds.iter().zip(&duals[width..]).map(|(k, u)| k.1 * u).sum();
            let bound: f64 = self
                .kinds
                .iter()
                .zip(&fills)
                .map(|(kind, fill)| kind.1 * (fill.ceiling as f64 / FINE))
                .sum();
            if bound < best.0 {
                best = (bound, values.clone());
            }
            if bound <= paid * (1.0 + f64::from(effort.gap_millionths) / 1e6) {
                break;
            }
            if self.enter_best(&fills, &duals, &mut column) {
                continue;
            }
            if search.nodes >= effort.search.nodes {
                // No pattern improves as far as anybody looked: better than any proven so far.
                best.1 = values;
                break;
            }
            search.nodes = search.nodes.saturating_mul(LOOK_HARDER).min(effort.search.nodes);
        }
        best.1
    }

    /// Brings in the pattern that promises most over the price of its kind of host.
    fn enter_best(&mut self, fills: &[Fill], duals: &[f64], column: &mut [f64]) -> bool {
        let width = self.shapes.len();
        let mut best: Option<(f64, usize)> = None;
        for (kind, fill) in fills.iter().enumerate() {
            let promise = fill.value as f64 / FINE - duals[width + kind];
            if promise > 1e-9 && best.is_none_or(|(most, _)| promise > most) {
                best = Some((promise, kind));
            }
        }
        let Some((_, kind)) = best else { return false };
        column.fill(0.0);
        for (entry, count) in column.iter_mut().zip(&fills[kind].counts) {
            *entry = *count as f64;
        }
        column[width + kind] = 1.0;
        self.simplex.enter(column, 0.0)
    }
}

/// The row whose slack would earn most, if any: shapes' rows have it negative, hosts' positive.
fn most_negative(duals: &[f64], width: usize) -> Option<usize> {
    let mut worst: Option<(f64, usize)> = None;
    for (row, dual) in duals.iter().enumerate() {
        let gain = if row < width { *dual } else { -dual };
        if gain > 1e-9 && worst.is_none_or(|(most, _)| gain > most) {
            worst = Some((gain, row));
        }
    }
    worst.map(|(_, row)| row)
}

/// How many of `charge` alone `size` holds.
pub fn fits(size: Resources, charge: Resources) -> u64 {
    let by_cpu = size.cpu.0.checked_div(charge.cpu.0).unwrap_or(u64::MAX);
    let by_memory = size.memory.0.checked_div(charge.memory.0).unwrap_or(u64::MAX);
    by_cpu.min(by_memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{Bytes, MilliCpus};

    fn shape(cpu: u64, memory: u64) -> Resources {
        Resources { cpu: MilliCpus::whole(cpu), memory: Bytes::gib(memory) }
    }

    const EFFORT: Effort = Effort {
        patterns: 200,
        search: Limits { nodes: 100_000, slack_millionths: 0 },
        gap_millionths: 10,
        only_present: true,
    };

    #[test]
    fn where_only_cpu_is_short_a_shape_is_worth_its_cpu() {
        let shapes = [(shape(1, 1), 600), (shape(2, 2), 200), (shape(8, 40), 10)];
        let priced = price(&[(shape(40, 200), 10)], &shapes, EFFORT, 1_000_000);
        for row in &priced {
            let due = row.charge.cpu.0 * 1_000_000 / 40_000;
            assert!(row.price.abs_diff(due) < 100, "{priced:?}");
        }
    }

    #[test]
    fn shapes_that_only_fit_in_pairs_are_worth_half_a_host() {
        let shapes = [(shape(6, 2), 100), (shape(4, 8), 100)];
        let priced = price(&[(shape(10, 10), 100)], &shapes, EFFORT, 1_000_000);
        assert!(priced[0].price + priced[1].price >= 999_000, "{priced:?}");
    }
}

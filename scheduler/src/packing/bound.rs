//! How few hosts of one size could hold a set of container VMs, if halves of patterns were allowed.
//!
//! Promises: a bound that no packing beats. It is what the prices prove, in whole numbers, so that
//! neither an unfinished search nor an error of rounding can make it too high.
//! Does not: say that so few hosts suffice.
//!
//! Source: with any prices, all container VMs together are worth more than so many times the best
//! fill of one host (weak duality; Farley 1990 for prices of a search that has not ended).

use super::knapsack::{Item, Limits, fill};
use super::prices::{Effort, fits, price};
use super::shapes::count_shapes;
use berth_model::Resources;

/// As thorough as a benchmark may be: seconds at most.
const EFFORT: Effort = Effort {
    patterns: 3_000,
    search: Limits { nodes: 2_000_000, slack_millionths: 0 },
    gap_millionths: 0,
    only_present: true,
};

/// Prices are whole numbers of this fineness.
const ONE: u64 = 1 << 44;

/// Hosts of `size` that `charges` need at least. What fits no host counts as one host.
pub fn lower_bound(size: Resources, charges: &[Resources]) -> u64 {
    let shapes = count_shapes(charges.iter().map(|charge| (*charge, 1)));
    let (fitting, oversized): (Vec<_>, Vec<_>) =
        shapes.into_iter().partition(|&(charge, _)| fits(size, charge) > 0);
    let beyond: u64 = oversized.iter().map(|(_, count)| count).sum();
    beyond + by_volume(size, &fitting).max(by_prices(size, &fitting))
}

/// The fuller dimension, as if everything were liquid.
fn by_volume(size: Resources, shapes: &[(Resources, u64)]) -> u64 {
    let sum = |of: fn(Resources) -> u64| -> u128 {
        shapes.iter().map(|&(charge, count)| u128::from(of(charge)) * u128::from(count)).sum()
    };
    let cpu = sum(|charge| charge.cpu.0).div_ceil(u128::from(size.cpu.0.max(1)));
    let memory = sum(|charge| charge.memory.0).div_ceil(u128::from(size.memory.0.max(1)));
    u64::try_from(cpu.max(memory)).unwrap_or(u64::MAX)
}

fn by_prices(size: Resources, shapes: &[(Resources, u64)]) -> u64 {
    let priced = price(&[(size, 1)], shapes, EFFORT, ONE);
    let items: Vec<Item> = priced
        .iter()
        .map(|row| Item {
            cpu: row.charge.cpu.0,
            memory: row.charge.memory.0,
            value: row.price,
            most: row.count,
        })
        .collect();
    let ceiling = fill(size.cpu.0, size.memory.0, &items, EFFORT.search).ceiling;
    let worth: u128 = priced.iter().map(|row| u128::from(row.price) * u128::from(row.count)).sum();
    // A host may be worth `ceiling`; rounding the prices down lost less than one each, which the
    // ceiling, computed from the rounded prices, does not have either.
    u64::try_from(worth.div_ceil(u128::from(ceiling.max(1)))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{Bytes, MilliCpus};

    fn shape(cpu: u64, memory: u64) -> Resources {
        Resources { cpu: MilliCpus::whole(cpu), memory: Bytes::gib(memory) }
    }

    #[test]
    fn what_only_fits_in_pairs_needs_half_as_many_hosts() {
        let mut charges = vec![shape(6, 2); 100];
        charges.extend(vec![shape(4, 8); 100]);
        assert_eq!(lower_bound(shape(10, 10), &charges), 100);
    }

    #[test]
    fn three_halves_of_a_host_that_do_not_share_need_three() {
        // By volume two hosts would do.
        assert_eq!(lower_bound(shape(10, 10), &[shape(6, 1), shape(6, 1), shape(6, 1)]), 3);
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(lower_bound(shape(10, 10), &[]), 0);
    }
}

//! The multiset of shapes, in an order that every machine agrees on.
//!
//! Promises: [`count_shapes`] merges equal charges; [`most_telling`] keeps the shapes that take
//! most room and gives the count of each rare one to the kept shape that most resembles it.
//! Does not: change what anything is charged; it only says what the mix looks like from afar.

use berth_model::Resources;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Equal charges once, with how many there are; ascending by cpu, then memory.
pub fn count_shapes(charges: impl IntoIterator<Item = (Resources, u64)>) -> Vec<(Resources, u64)> {
    let mut counts: BTreeMap<(u64, u64), (Resources, u64)> = BTreeMap::new();
    for (charge, count) in charges {
        counts.entry((charge.cpu.0, charge.memory.0)).or_insert((charge, 0)).1 += count;
    }
    counts.into_values().filter(|(_, count)| *count > 0).collect()
}

/// At most `most` shapes: those that take most of `largest`, all counts together.
pub fn most_telling(
    mut shapes: Vec<(Resources, u64)>,
    largest: Resources,
    most: usize,
) -> Vec<(Resources, u64)> {
    if shapes.len() <= most {
        return shapes;
    }
    shapes.sort_by_key(|&(charge, count)| {
        (Reverse(room(charge, largest) * u128::from(count)), charge.cpu.0, charge.memory.0)
    });
    let rare = shapes.split_off(most);
    for (charge, count) in rare {
        let nearest = shapes.iter_mut().min_by_key(|(kept, _)| distance(*kept, charge, largest));
        if let Some((kept, all)) = nearest {
            // Room, not number, is what the rare shape adds to the mix.
            let equal = room(charge, largest) * u128::from(count) / room(*kept, largest).max(1);
            *all = all.saturating_add(u64::try_from(equal).unwrap_or(u64::MAX));
        }
    }
    shapes.sort_by_key(|(charge, _)| (charge.cpu.0, charge.memory.0));
    shapes
}

/// The shares of cpu and memory together, in millionths.
fn room(charge: Resources, largest: Resources) -> u128 {
    share(charge.cpu.0, largest.cpu.0) + share(charge.memory.0, largest.memory.0)
}

fn distance(a: Resources, b: Resources, largest: Resources) -> u128 {
    share(a.cpu.0.abs_diff(b.cpu.0), largest.cpu.0)
        + share(a.memory.0.abs_diff(b.memory.0), largest.memory.0)
}

fn share(part: u64, whole: u64) -> u128 {
    u128::from(part) * 1_000_000 / u128::from(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{Bytes, MilliCpus};

    fn shape(cpu: u64, memory: u64) -> Resources {
        Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) }
    }

    #[test]
    fn a_rare_shape_counts_for_the_one_it_resembles() {
        let shapes = count_shapes([(shape(1, 1), 50), (shape(8, 8), 50), (shape(7, 9), 1)]);
        let kept = most_telling(shapes, shape(16, 16), 2);
        assert_eq!(kept, vec![(shape(1, 1), 50), (shape(8, 8), 51)]);
    }
}

//! Whole steps for amounts that are not multiples of each other.
//!
//! Promises: shapes are rounded up and free room down, so that what fits in steps fits in truth;
//! the step is the one, of those that shapes suggest, that loses least, which is nothing where the
//! amounts have a common measure that is not too fine.
//! Does not: decide whether anything fits. Steps only feed a table of values.

/// The step of one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub size: u64,
    /// How many of them the largest host has.
    pub most: usize,
}

impl Step {
    /// The step for hosts up to `largest`, of which it must not be more than `most_steps`, and for
    /// `amounts` (what one takes, how many there are).
    pub fn choose(largest: u64, most_steps: u64, amounts: &[(u64, u64)]) -> Step {
        let most_steps = most_steps.max(1);
        let finest = largest.div_ceil(most_steps).max(1);
        let common = amounts.iter().fold(0, |common, &(amount, _)| measure(common, amount));
        if common >= finest {
            return Step::of(common, largest);
        }
        let mut best = (loss(finest, amounts), finest);
        for &(amount, _) in amounts {
            // A step that divides the smallest shapes well tends to suit their multiples.
            for parts in 1..=MOST_PARTS {
                let step = amount.div_ceil(parts);
                if step < finest {
                    break;
                }
                let lost = loss(step, amounts);
                if lost < best.0 || (lost == best.0 && step > best.1) {
                    best = (lost, step);
                }
            }
        }
        Step::of(best.1, largest)
    }

    fn of(size: u64, largest: u64) -> Step {
        Step { size, most: usize::try_from(largest / size).unwrap_or(usize::MAX) }
    }

    pub fn up(self, amount: u64) -> usize {
        usize::try_from(amount.div_ceil(self.size)).unwrap_or(usize::MAX)
    }

    pub fn down(self, amount: u64) -> u64 {
        amount / self.size
    }
}

/// Into how many parts a shape is cut at most in search of a step.
const MOST_PARTS: u64 = 128;

/// The greatest common measure.
fn measure(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// What rounding up to `step` adds to all amounts together.
fn loss(step: u64, amounts: &[(u64, u64)]) -> u128 {
    amounts
        .iter()
        .map(|&(amount, count)| {
            u128::from(amount.div_ceil(step) * step - amount) * u128::from(count)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_common_measure_loses_nothing() {
        let step = Step::choose(112 << 10, 1024, &[(1792, 5), (3584, 3), (57_344, 1)]);
        assert_eq!(step, Step { size: 1792, most: 64 });
    }

    #[test]
    fn an_overhead_on_each_shape_costs_little() {
        let amounts = [(1792 + 25, 6856), (3584 + 25, 1859), (7168 + 25, 725), (14_336 + 25, 301)];
        let step = Step::choose(112 << 10, 2048, &amounts);
        let whole: u128 = amounts.iter().map(|&(a, n)| u128::from(a) * u128::from(n)).sum();
        assert!(loss(step.size, &amounts) * 50 < whole, "{step:?}");
    }

    proptest! {
        #[test]
        fn what_fits_in_steps_fits_in_truth(
            largest in 1_u64..5_000_000, most in 1_u64..3000,
            amounts in prop::collection::vec((0_u64..3_000_000, 0_u64..100), 0..6)
        ) {
            let step = Step::choose(largest, most, &amounts);
            prop_assert!(step.most as u64 <= most);
            for (amount, _) in amounts {
                prop_assert!(step.up(amount) as u64 * step.size >= amount);
                prop_assert!(step.down(amount) * step.size <= amount);
            }
        }
    }
}

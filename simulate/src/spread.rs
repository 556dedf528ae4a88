//! Quantiles of what was measured, by nearest rank.

/// The smallest sample that `permille` of all samples do not exceed; `None` without samples.
pub fn quantile(samples: &[f64], permille: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * permille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_of_the_nearest_rank() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&samples, 500), Some(50.0));
        assert_eq!(quantile(&samples, 990), Some(99.0));
        assert_eq!(quantile(&samples, 1000), Some(100.0));
        assert_eq!(quantile(&[7.0], 990), Some(7.0));
        assert_eq!(quantile(&[], 500), None);
    }
}

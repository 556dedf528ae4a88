//! How much memory each container VM of a host is entitled to when there is not enough for all.
//! Pure.
//!
//! The weighted max-min share: every container VM gets its weight's part, but never less than its
//! reservation nor more than its size; what one cannot use is dealt among the others. That is the
//! level to which one vessel fills when water is poured into vessels of those bottoms and brims
//! (see Bertsekas and Gallager, "Data Networks", §6.5.2, on max-min fairness).
//!
//! Promises: the sum is at most what there is, unless the reservations alone are more; when there is
//! enough, each gets its whole size.

use berth_model::Bytes;
use serde::{Deserialize, Serialize};

/// Fractional bits of the level.
const FRACTION: u32 = 16;

/// What one container VM may claim of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its hypervisor process with the whole guest in it.
    pub size: Bytes,
    /// Must be there whatever the others do; at most `size`.
    pub reservation: Bytes,
    /// 1 to 10,000.
    pub cpu_weight: u16,
    /// 1 to 10,000.
    pub memory_weight: u16,
}

impl Claim {
    fn at(&self, level: u128) -> u128 {
        let share = (level * u128::from(self.memory_weight)) >> FRACTION;
        share.clamp(self.reservation.min(self.size).0.into(), self.size.0.into())
    }
}

/// Of `memory`, in the order of `claims`.
pub fn entitlements(memory: Bytes, claims: &[Claim]) -> Vec<Bytes> {
    let total = |level: u128| claims.iter().map(|claim| claim.at(level)).sum::<u128>();
    // At this level the lightest is full, and so is every other.
    let largest = claims.iter().map(|claim| claim.size.0).max().unwrap_or(0);
    let (mut low, mut high) = (0, (u128::from(largest) + 1) << FRACTION);
    let room = u128::from(memory.0);
    if total(high) <= room {
        low = high;
    }
    // The highest level that does not overflow; the total never falls as the level rises.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if total(middle) <= room { low = middle } else { high = middle }
    }
    // A share is at most the size, which is 64 bits wide.
    claims.iter().map(|claim| Bytes(u64::try_from(claim.at(low)).unwrap_or(claim.size.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(size: u64, memory_weight: u16, reservation: u64) -> Claim {
        let (size, reservation) = (Bytes::mib(size), Bytes::mib(reservation));
        Claim { size, reservation, cpu_weight: 100, memory_weight }
    }

    /// In MiB.
    fn check(memory: u64, claims: &[Claim]) -> Vec<u64> {
        let shares = entitlements(Bytes::mib(memory), claims);
        // The level has finite steps, which cost less than a MiB.
        shares.into_iter().map(|bytes| (bytes.0 + (1 << 19)) >> 20).collect()
    }

    #[test]
    fn with_enough_for_all_each_gets_its_size() {
        assert_eq!(check(1000, &[claim(600, 1, 0), claim(400, 10_000, 0)]), [600, 400]);
        assert_eq!(check(1000, &[]), [0_u64; 0]);
    }

    #[test]
    fn what_is_short_is_shared_by_weight() {
        assert_eq!(check(600, &[claim(600, 100, 0), claim(600, 200, 0)]), [200, 400]);
    }

    #[test]
    fn what_one_cannot_use_is_dealt_among_the_others() {
        let claims = [claim(100, 10_000, 0), claim(900, 100, 0), claim(900, 100, 0)];
        assert_eq!(check(1000, &claims), [100, 450, 450]);
    }

    #[test]
    fn a_reservation_is_kept_whatever_the_weights() {
        assert_eq!(check(500, &[claim(500, 1, 400), claim(500, 10_000, 0)]), [400, 100]);
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_nor_outside_what_each_may_have(
            memory in 0_u64..10_000,
            claims in proptest::collection::vec((1_u64..4000, 1_u16..=10_000, 0_u64..4000), 0..12),
        ) {
            let claims: Vec<Claim> =
                claims.iter().map(|(size, weight, least)| claim(*size, *weight, *least)).collect();
            let shares = entitlements(Bytes::mib(memory), &claims);
            let mut least = Bytes::ZERO;
            for (claim, share) in claims.iter().zip(&shares) {
                let bottom = claim.reservation.min(claim.size);
                least += bottom;
                prop_assert!((bottom..=claim.size).contains(share));
            }
            let sum: Bytes = shares.iter().copied().sum();
            prop_assert!(sum <= Bytes::mib(memory).max(least));
        }
    }
}

//! How good a place is. Smallest wins; the order of the fields is the policy.
//!
//! All quantities are whole numbers of a fixed width, so that a score is one machine word
//! ([`Score::key`]) that compares as the struct does. Ties go by the order of hosts: fault domain,
//! cluster, id ([`host_order`]).
//!
//! | strategy | `first` | `load` |
//! |---|---|---|
//! | pack | what the workload's mix loses by it: [`Guide::cost`] | room left of the fuller dimension |
//! | spread | container VMs and reservations on the host | dominant share afterwards |
//! | balance | skew: 128ths between the shares of cpu and memory | dominant share afterwards |
//!
//! - *Dominant share*: `max((charged + demand) / limit)` over cpu and memory, the measure that makes
//!   several dimensions one (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011). Least first it
//!   levels hosts out (LeastAllocated of Kubernetes), most first it is best fit, the greedy of
//!   vector bin packing (Panigrahy et al., "Heuristics for Vector Bin Packing", 2011).
//! - *Pack* follows the prices of what the mix can still use of a host, see `packing::Guide`; among
//!   equals the fullest host wins.
//! - *Skew* as in Kubernetes' BalancedAllocation, but in steps of 1/128: differences that no
//!   container VM would feel do not outweigh a far emptier host.
//!
//! A request that may go to clusters of several strategies goes to one that packs while it has
//! room, then to one that spreads, then to one that balances: who packs has few hosts busy and means
//! to fill them, who balances wants only what fits well. Scores of different strategies are never
//! compared otherwise.

use crate::packing::Guide;
use berth_model::cluster::Strategy;
use berth_model::{ClusterId, DatastoreId, Host, HostId, Resources};
use std::cmp::Reverse;

/// The largest penalty that counts: sixteen broken rules of the highest weight.
pub const PENALTY_MAX: u32 = (1 << 14) - 2;
const PENALTY_SHIFT: u32 = 50;
const FIRST_MAX: u32 = (1 << 31) - 1;
/// The whole in shares of hosts.
const ONE: u64 = (1 << 17) - 1;
/// The whole in shares of datastores.
const STORE_ONE: u64 = (1 << 24) - 1;
const STORE_HOSTS_MAX: u32 = (1 << 24) - 1;

/// How good a host is for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Weights of the preferred rules that it would break, at most [`PENALTY_MAX`].
    pub rule_penalty: u32,
    pub strategy: Rank,
    pub first: u32,
    pub load: u32,
}

/// Strategies in the order in which their clusters are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Pack,
    Spread,
    Balance,
}

impl From<Strategy> for Rank {
    fn from(strategy: Strategy) -> Rank {
        match strategy {
            Strategy::Pack => Rank::Pack,
            Strategy::Spread => Rank::Spread,
            Strategy::Balance => Rank::Balance,
        }
    }
}

/// What a score looks at of a host.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub limit: Resources,
    pub charged: Resources,
    pub placed: u32,
}

impl Score {
    #[inline]
    pub fn of(rank: Rank, guide: &Guide, fill: &Fill, charge: Resources) -> Score {
        let Fill { limit, charged, placed } = *fill;
        let cpu = share(charged.cpu.0.saturating_add(charge.cpu.0), limit.cpu.0, ONE);
        let memory = share(charged.memory.0.saturating_add(charge.memory.0), limit.memory.0, ONE);
        let load = cpu.max(memory);
        let (first, load) = match rank {
            Rank::Pack => {
                let free = Resources {
                    cpu: limit.cpu.saturating_sub(charged.cpu),
                    memory: limit.memory.saturating_sub(charged.memory),
                };
                (guide.cost(free, charge), ONE as u32 - load)
            }
            Rank::Spread => (placed, load),
            Rank::Balance => (cpu.abs_diff(memory) >> 10, load),
        };
        Score { rule_penalty: 0, strategy: rank, first: first.min(FIRST_MAX), load }
    }

    /// The same order in one word; below `u64::MAX`, which means refused.
    #[inline]
    pub fn key(self) -> u64 {
        let Score { rule_penalty, strategy, first, load } = self;
        u64::from(rule_penalty.min(PENALTY_MAX)) << PENALTY_SHIFT
            | (strategy as u64) << 48
            | u64::from(first) << 17
            | u64::from(load)
    }
}

/// The key of the same place with more broken.
#[inline]
pub fn worse(key: u64, penalty: u32) -> u64 {
    if penalty == 0 {
        return key;
    }
    let before = key >> PENALTY_SHIFT;
    let after = (before + u64::from(penalty)).min(u64::from(PENALTY_MAX));
    after << PENALTY_SHIFT | key & ((1 << PENALTY_SHIFT) - 1)
}

/// Which of two hosts comes first: by where they stand, then cluster, then id.
pub type HostOrder<'a> = (&'a [(String, String)], ClusterId, HostId);

pub fn host_order(host: &Host) -> HostOrder<'_> {
    (&host.facts.supply.domain, host.cluster, host.id)
}

/// How good a datastore is for one new disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatastoreScore {
    /// Weights of the preferred rules that it would break, at most [`PENALTY_MAX`].
    pub rule_penalty: u32,
    /// No host that reaches it has room at the moment.
    pub crowded: bool,
    /// The more hosts, the more places to start it again.
    pub hosts: Reverse<u32>,
    /// What would be charged, of what may be.
    pub load: u32,
    /// Ends ties.
    pub datastore: DatastoreId,
}

impl DatastoreScore {
    /// The load of a datastore with `charged` of `limit`, in 2^24ths.
    pub fn load(charged: u64, limit: u64) -> u32 {
        share(charged, limit, STORE_ONE)
    }

    /// The same order in one word, ties left open; below `u64::MAX`, which means refused.
    pub fn key(&self) -> u64 {
        let hosts = STORE_HOSTS_MAX - self.hosts.0.min(STORE_HOSTS_MAX);
        u64::from(self.rule_penalty.min(PENALTY_MAX)) << PENALTY_SHIFT
            | u64::from(self.crowded) << 49
            | u64::from(hosts) << 25
            | u64::from(self.load)
    }
}

/// `part` of `whole` in parts of `one`; all of it where there is nothing or more than that.
#[inline]
fn share(part: u64, whole: u64, one: u64) -> u32 {
    if part >= whole {
        return one as u32;
    }
    let share = match part.checked_mul(one) {
        Some(scaled) => scaled / whole,
        None => {
            let scaled = u128::from(part) * u128::from(one) / u128::from(whole);
            u64::try_from(scaled).unwrap_or(one)
        }
    };
    u32::try_from(share).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{Bytes, MilliCpus};
    use proptest::prelude::*;
    use proptest::strategy::Strategy as _;

    fn score() -> impl proptest::strategy::Strategy<Value = Score> {
        let rank = prop_oneof![Just(Rank::Pack), Just(Rank::Spread), Just(Rank::Balance)];
        (0..=PENALTY_MAX, rank, 0..=FIRST_MAX, 0..=ONE as u32).prop_map(
            |(rule_penalty, strategy, first, load)| Score { rule_penalty, strategy, first, load },
        )
    }

    proptest! {
        #[test]
        fn a_key_compares_as_its_score_does(a in score(), b in score(), more in 0..20_000_u32) {
            prop_assert_eq!(a.cmp(&b), a.key().cmp(&b.key()));
            let rule_penalty = (a.rule_penalty + more).min(PENALTY_MAX);
            prop_assert_eq!(worse(a.key(), more), Score { rule_penalty, ..a }.key());
            prop_assert!(worse(a.key(), more) < u64::MAX);
        }
    }

    #[test]
    fn a_share_of_any_size_is_at_most_the_whole() {
        assert_eq!(share(1, 2, ONE), 65535);
        assert_eq!(share(u64::MAX - 1, u64::MAX, ONE), 131_070);
        assert_eq!(share(5, 0, ONE), ONE as u32);
        assert_eq!(share(0, 0, ONE), ONE as u32);
        assert_eq!(share(7, 3, ONE), ONE as u32);
    }

    #[test]
    fn balance_takes_an_emptier_host_before_a_hair_less_skew() {
        let limit = Resources { cpu: MilliCpus(1000), memory: Bytes(1000) };
        let charge = Resources { cpu: MilliCpus(10), memory: Bytes(10) };
        let of = |cpu, memory| {
            let charged = Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) };
            Score::of(
                Rank::Balance,
                &Guide::best_fit(),
                &Fill { limit, charged, placed: 1 },
                charge,
            )
        };
        assert!(of(103, 100) < of(800, 800));
        assert!(of(800, 800) < of(300, 100));
    }
}

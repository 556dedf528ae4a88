//! What the keeper makes of what it knows: which leases stand, and whether the node lives.
//!
//! Promises: time is ticks of the keeper's own clock, and no answer waits for IO: a write that
//! hangs is seen by its absence. Pure. Does not: fence anything yet; it names the state that
//! fencing will act on.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Seconds on the keeper's clock.
pub type Ticks = u64;

/// When what is late. All in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub slow_after: Ticks,
    pub gone_after: Ticks,
    pub node_silent_after: Ticks,
}

/// What is known at one tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub now: Ticks,
    pub leases: BTreeMap<String, Renewals>,
    /// When the node was heard last; the keeper's start if never.
    pub node_heard: Ticks,
}

/// The lease of one datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewals {
    /// When the last renewal that reached the disk began; the keeper's start if none has.
    pub renewed: Ticks,
    /// Whether one has at all.
    pub ever: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseState {
    /// Never renewed yet, and not for long.
    Starting,
    Kept,
    /// Renewals are late; the lease still stands.
    Slow,
    /// Whoever watches the counter may hold this host for dead.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    Alive,
    Silent,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    pub leases: BTreeMap<String, LeaseState>,
    pub node: Option<NodeState>,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    Lease { datastore: String, state: LeaseState },
    Node(NodeState),
}

pub fn decide(policy: &Policy, known: &Known) -> Judgement {
    let leases = known.leases.iter().map(|(name, renewals)| {
        let age = known.now.saturating_sub(renewals.renewed);
        let state = if age >= policy.gone_after {
            LeaseState::Gone
        } else if age >= policy.slow_after {
            LeaseState::Slow
        } else if renewals.ever {
            LeaseState::Kept
        } else {
            LeaseState::Starting
        };
        (name.clone(), state)
    });
    let silent = known.now.saturating_sub(known.node_heard) >= policy.node_silent_after;
    let node = if silent { NodeState::Silent } else { NodeState::Alive };
    Judgement { leases: leases.collect(), node: Some(node) }
}

/// What `after` says that `before` did not.
pub fn turns(before: &Judgement, after: &Judgement) -> Vec<Turn> {
    let leases = after
        .leases
        .iter()
        .filter(|(name, state)| before.leases.get(*name) != Some(state))
        .map(|(name, state)| Turn::Lease { datastore: name.clone(), state: *state });
    let node = after.node.filter(|state| before.node != Some(*state)).map(Turn::Node);
    leases.chain(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy { slow_after: 3, gone_after: 15, node_silent_after: 5 };

    fn check(now: Ticks, renewed: Ticks, ever: bool, node_heard: Ticks) -> (LeaseState, NodeState) {
        let renewals = Renewals { renewed, ever };
        let leases = BTreeMap::from([("local".to_owned(), renewals)]);
        let judgement = decide(&POLICY, &Known { now, leases, node_heard });
        (judgement.leases["local"], judgement.node.unwrap())
    }

    #[test]
    fn a_lease_is_kept_then_slow_then_gone() {
        assert_eq!(check(100, 100, true, 100).0, LeaseState::Kept);
        assert_eq!(check(102, 100, true, 100).0, LeaseState::Kept);
        assert_eq!(check(103, 100, true, 100).0, LeaseState::Slow);
        assert_eq!(check(114, 100, true, 100).0, LeaseState::Slow);
        assert_eq!(check(115, 100, true, 100).0, LeaseState::Gone);
    }

    #[test]
    fn a_datastore_that_never_answered_is_gone_in_the_end() {
        assert_eq!(check(1, 0, false, 0).0, LeaseState::Starting);
        assert_eq!(check(15, 0, false, 0).0, LeaseState::Gone);
    }

    #[test]
    fn a_silent_node_says_nothing_of_the_leases() {
        assert_eq!(check(100, 99, true, 95), (LeaseState::Kept, NodeState::Silent));
    }

    #[test]
    fn people_hear_of_a_turn_once() {
        let judge = |now| {
            let renewals = Renewals { renewed: 10, ever: true };
            let leases = BTreeMap::from([("local".to_owned(), renewals)]);
            decide(&POLICY, &Known { now, leases, node_heard: 10 })
        };
        let slow = Turn::Lease { datastore: "local".into(), state: LeaseState::Slow };
        assert_eq!(turns(&judge(12), &judge(13)), [slow]);
        assert_eq!(turns(&judge(13), &judge(14)), []);
        assert_eq!(turns(&judge(14), &judge(15)), [Turn::Node(NodeState::Silent)]);
    }

    proptest! {
        #[test]
        fn a_lease_never_gets_better_by_waiting(
            renewed in 0_u64..100, ever: bool, now in 0_u64..200, later in 0_u64..200,
        ) {
            let rank = |state| match state {
                LeaseState::Starting | LeaseState::Kept => 0,
                LeaseState::Slow => 1,
                LeaseState::Gone => 2,
            };
            let (first, _) = check(now, renewed, ever, now);
            let (second, _) = check(now + later, renewed, ever, now);
            prop_assert!(rank(second) >= rank(first));
        }
    }
}

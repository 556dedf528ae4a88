//! What waits for a decision, in the order in which it gets one: by priority, then in turn between
//! endpoints, then by age.
//!
//! Promises: among those of the highest priority each endpoint that has one waiting is served once
//! before any is served twice; an endpoint with 10,000 waiting holds up one with a single request
//! by one decision. Does not: know what it holds.
//!
//! Source: round robin over flows, Nagle, "On packet switches with infinite storage", RFC 970.

use berth_model::EndpointId;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

/// `K` orders the entries of one endpoint, the least first, and names them: pushing a key again
/// replaces its entry.
#[derive(Clone, Debug)]
pub(super) struct FairQueue<K, V> {
    levels: BTreeMap<Reverse<i16>, Level<K, V>>,
    len: usize,
}

/// Entries of one priority.
#[derive(Clone, Debug)]
struct Level<K, V> {
    /// None is empty.
    lanes: BTreeMap<EndpointId, BTreeMap<K, V>>,
    /// Whose turn was last.
    served: Option<EndpointId>,
}

impl<K, V> Default for FairQueue<K, V> {
    fn default() -> Self {
        Self { levels: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord, V> FairQueue<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, priority: i16, endpoint: EndpointId, key: K, value: V) {
        let level = self
            .levels
            .entry(Reverse(priority))
            .or_insert_with(|| Level { lanes: BTreeMap::new(), served: None });
        if level.lanes.entry(endpoint).or_default().insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub fn pop(&mut self) -> Option<(K, V)> {
        let mut first = self.levels.first_entry()?;
        let level = first.get_mut();
        let after = level.served.map_or(Bound::Unbounded, Bound::Excluded);
        let next = level.lanes.range((after, Bound::Unbounded)).next();
        let endpoint = *next.or_else(|| level.lanes.first_key_value())?.0;
        let lane = level.lanes.get_mut(&endpoint)?;
        let entry = lane.pop_first()?;
        if lane.is_empty() {
            level.lanes.remove(&endpoint);
        }
        level.served = Some(endpoint);
        if level.lanes.is_empty() {
            first.remove();
        }
        self.len -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(n: u8) -> EndpointId {
        EndpointId::from_bytes([n; 16])
    }

    fn drained(queue: &mut FairQueue<u32, &'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).map(|(_, value)| value).collect()
    }

    #[test]
    fn an_endpoint_with_many_does_not_hold_up_one_with_a_single_request() {
        let mut queue = FairQueue::default();
        for key in 0..10_000 {
            queue.push(0, endpoint(1), key, "many");
        }
        queue.push(0, endpoint(2), 10_000, "single");
        assert_eq!(queue.len(), 10_001);
        assert_eq!(queue.pop(), Some((0, "many")));
        assert_eq!(queue.pop(), Some((10_000, "single")));
    }

    #[test]
    fn priority_goes_before_turns_and_turns_before_age() {
        let mut queue = FairQueue::default();
        queue.push(0, endpoint(1), 1, "old");
        queue.push(0, endpoint(1), 2, "new");
        queue.push(0, endpoint(2), 3, "other");
        queue.push(7, endpoint(3), 4, "urgent");
        assert_eq!(drained(&mut queue), ["urgent", "old", "other", "new"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_key_that_is_pushed_again_replaces_its_entry() {
        let mut queue = FairQueue::default();
        queue.push(0, endpoint(1), 1, "first");
        queue.push(0, endpoint(1), 1, "second");
        assert_eq!(queue.len(), 1);
        assert_eq!(drained(&mut queue), ["second"]);
    }
}

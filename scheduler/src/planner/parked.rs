//! Refused requests, by classes that get the same answer.
//!
//! Promises: when something changed that could help, one of each class is asked again, the first;
//! only if that one has found a place is the next one asked. So a thousand that wait for the same
//! thing cost one decision a change, not a thousand. Does not: decide what a class is.

use super::hopes::{Hopes, Kinds};
use berth_model::EndpointId;
use std::collections::BTreeMap;

/// `K` orders those of one class and names them; `V` is whatever goes with it.
#[derive(Clone, Debug)]
pub(super) struct Parked<C, K, V> {
    classes: BTreeMap<C, Class<K, V>>,
}

#[derive(Clone, Debug)]
struct Class<K, V> {
    endpoint: EndpointId,
    /// What could help, and when the last one that was asked was refused.
    kinds: Kinds,
    since: u64,
    members: BTreeMap<K, V>,
}

/// Why and when one was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub endpoint: EndpointId,
    pub kinds: Kinds,
    /// `Hopes::now` of the refusal.
    pub at: u64,
}

impl<C, K, V> Default for Parked<C, K, V> {
    fn default() -> Self {
        Self { classes: BTreeMap::new() }
    }
}

impl<C: Ord + Clone, K: Ord, V> Parked<C, K, V> {
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    pub fn park(&mut self, class: C, refused: Refused, key: K, value: V) {
        let Refused { endpoint, kinds, at } = refused;
        let class = self.classes.entry(class).or_insert_with(|| Class {
            endpoint,
            kinds,
            since: at,
            members: BTreeMap::new(),
        });
        class.kinds = kinds;
        class.since = class.since.max(at);
        class.members.insert(key, value);
    }

    /// Takes one out, wherever it stands in its class.
    pub fn remove(&mut self, class: &C, key: &K) -> Option<V> {
        let found = self.classes.get_mut(class)?;
        let value = found.members.remove(key);
        if found.members.is_empty() {
            self.classes.remove(class);
        }
        value
    }

    /// The first of each class that may fit now.
    pub fn hopeful(&mut self, hopes: &Hopes) -> Vec<(K, V)> {
        let mut found = Vec::new();
        self.classes.retain(|_, class| {
            if hopes.any(class.endpoint, class.kinds, class.since) {
                class.since = hopes.now();
                found.extend(class.members.pop_first());
            }
            !class.members.is_empty()
        });
        found
    }

    /// The next of a class, now that one of it has found a place or is gone.
    pub fn next(&mut self, class: &C) -> Option<(K, V)> {
        let found = self.classes.get_mut(class)?;
        let next = found.members.pop_first();
        if found.members.is_empty() {
            self.classes.remove(class);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: EndpointId = EndpointId::from_bytes([1; 16]);

    fn refused(at: u64) -> Refused {
        Refused { endpoint: ENDPOINT, kinds: Kinds::ALL, at }
    }

    #[test]
    fn one_of_each_class_is_asked_again_and_the_next_when_it_found_a_place() {
        let mut parked = Parked::default();
        for key in [3, 1, 2] {
            parked.park("same", refused(0), key, ());
        }
        parked.park("other", refused(0), 4, ());
        let mut hopes = Hopes::default();
        assert_eq!(parked.hopeful(&hopes), []);
        hopes.note_dropped();
        assert_eq!(parked.hopeful(&hopes), [(4, ()), (1, ())]);
        assert_eq!(parked.hopeful(&hopes), []);
        assert_eq!(parked.next(&"same"), Some((2, ())));
        assert_eq!(parked.remove(&"same", &3), Some(()));
        assert!(parked.is_empty());
        assert_eq!(parked.next(&"same"), None);
    }

    #[test]
    fn a_class_that_was_refused_anew_waits_for_a_newer_change() {
        let mut parked = Parked::default();
        parked.park("same", refused(0), 1, ());
        let mut hopes = Hopes::default();
        hopes.note_dropped();
        assert_eq!(parked.hopeful(&hopes).len(), 1);
        parked.park("same", refused(hopes.now()), 1, ());
        assert_eq!(parked.hopeful(&hopes), []);
        hopes.note_dropped();
        assert_eq!(parked.hopeful(&hopes).len(), 1);
    }
}

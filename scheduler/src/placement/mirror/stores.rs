//! For creates: which datastore, by how many hosts could take the container VM from there.
//!
//! Promises: counts and keys are right after each refresh; asking is looking at the root of a tree.
//! Does not: handle requests with several disks or rules that count on datastores; those are asked
//! the plain way.

use super::class::Class;
use super::dense::Dense;
use super::tree::{REFUSED, Tree};
use crate::placement::score::DatastoreScore;
use std::cmp::Reverse;

/// A host could take it ever; it has cpu and memory free now.
const EVER: u8 = 1;
const NOW: u8 = 2;

#[derive(Clone, Debug)]
pub struct StoreKeys {
    /// By leaf: `EVER` and `NOW`.
    hosts: Vec<u8>,
    /// By datastore: hosts that reach it and could take the container VM ever, and now.
    counts: Vec<(u32, u32)>,
    tree: Tree,
}

impl StoreKeys {
    pub fn of(class: &Class, dense: &Dense) -> StoreKeys {
        let mut keys = StoreKeys {
            hosts: vec![0; dense.rows.len()],
            counts: vec![(0, 0); dense.stores.len()],
            tree: Tree::default(),
        };
        for leaf in 0..dense.rows.len() {
            let state = state_of(class, dense, leaf);
            keys.hosts[leaf] = state;
            if state != 0 {
                keys.count(dense, leaf, 0, state);
            }
        }
        let all = (0..dense.stores.len()).map(|store| keys.key(class, dense, store)).collect();
        keys.tree = Tree::new(all);
        keys
    }

    pub fn least(&self) -> Option<usize> {
        self.tree.least().map(|(_, store)| store)
    }

    /// Takes all changes into account.
    pub fn close(&mut self) {
        self.tree.close();
    }

    pub fn refresh_store(&mut self, class: &Class, dense: &Dense, store: usize) {
        self.tree.set(store, self.key(class, dense, store));
    }

    pub fn refresh_leaf(&mut self, class: &Class, dense: &Dense, leaf: usize) {
        let state = state_of(class, dense, leaf);
        let before = std::mem::replace(&mut self.hosts[leaf], state);
        if before == state {
            return;
        }
        self.count(dense, leaf, before, state);
        if let Some(cold) = &dense.cold[leaf] {
            for store in &cold.stores {
                let store = *store as usize;
                self.tree.set(store, self.key(class, dense, store));
            }
        }
    }

    fn count(&mut self, dense: &Dense, leaf: usize, before: u8, state: u8) {
        let Some(cold) = &dense.cold[leaf] else { return };
        for store in &cold.stores {
            let (ever, now) = &mut self.counts[*store as usize];
            *ever = *ever + u32::from(state & EVER) - u32::from(before & EVER);
            *now = *now + u32::from(state & NOW != 0) - u32::from(before & NOW != 0);
        }
    }

    fn key(&self, class: &Class, dense: &Dense, store: usize) -> u64 {
        let (ever, now) = self.counts[store];
        if ever == 0 || !class.takes(store) {
            return REFUSED;
        }
        let row = &dense.stores[store];
        let size = class.shape.one_disk().map_or(0, |disk| disk.size.0);
        let score = DatastoreScore {
            rule_penalty: class.store_penalty(store),
            crowded: now == 0,
            hosts: Reverse(ever),
            load: DatastoreScore::load(row.charged.0.saturating_add(size), row.limit.0),
            datastore: row.id,
        };
        score.key()
    }
}

/// The keys of a class that asks for a datastore are refused for what a host lacks; that some other
/// of its datastores takes the disk is not enough, so each is asked on its own.
fn state_of(class: &Class, dense: &Dense, leaf: usize) -> u8 {
    if class.tree.key(leaf) == REFUSED {
        return 0;
    }
    let row = &dense.rows[leaf];
    let charge = class.shape.charge(row.overhead);
    let now = charge.cpu <= row.limit.cpu.saturating_sub(row.charged.cpu)
        && charge.memory <= row.limit.memory.saturating_sub(row.charged.memory);
    EVER | if now { NOW } else { 0 }
}

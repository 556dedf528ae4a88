//! One shape's keys over all hosts, kept as hosts and datastores change, and a bounded table of
//! such.
//!
//! Promises: after [`Class::refresh`] the key of each leaf is what [`Shape::key`] says now; the work
//! is as much as changed since the last time. Does not: follow changes that nobody asks about.

use super::dense::Dense;
use super::journal::Journal;
use super::shape::{Shape, TAKES};
use super::stores::StoreKeys;
use super::tree::{REFUSED, Tree};
use crate::fleet::Fleet;
use crate::fleet::rules::Matched;
use crate::placement::Ask;
use std::collections::BTreeMap;

/// Leaves that are refreshed together.
const RUN: usize = 32;

/// Shapes that are remembered at once.
const CLASSES_MAX: usize = 256;

#[derive(Clone, Debug)]
pub struct Class {
    pub shape: Shape,
    hash: u64,
    used: u64,
    /// Positions in the journals up to which this is right; `None` before the first refresh.
    at: Option<(usize, usize)>,
    /// By leaf: it is one of the hosts that the shape asks for.
    pub demanded: Vec<bool>,
    host_penalties: Vec<u32>,
    /// By datastore.
    pub masks: Vec<u8>,
    store_penalties: Vec<u32>,
    pub tree: Tree,
    /// For those that ask for a datastore first.
    pub store_keys: Option<StoreKeys>,
}

impl Class {
    fn new(shape: Shape, hash: u64) -> Class {
        Class {
            shape,
            hash,
            used: 0,
            at: None,
            demanded: Vec::new(),
            host_penalties: Vec::new(),
            masks: Vec::new(),
            store_penalties: Vec::new(),
            tree: Tree::default(),
            store_keys: None,
        }
    }

    /// Catches up with the journals of hosts and datastores.
    pub fn refresh(&mut self, fleet: &Fleet, dense: &Dense, hosts: &Journal, stores: &Journal) {
        let now = Some((hosts.end(), stores.end()));
        if self.at == now {
            return;
        }
        // Beyond a quarter of the leaves, all of them at once is cheaper.
        let at = self.at.filter(|(host, _)| hosts.end() - host <= dense.rows.len() / 4 + 64);
        let changed = at.and_then(|(host, store)| Some((hosts.since(host)?, stores.since(store)?)));
        let Some((changed_hosts, changed_stores)) = changed else {
            self.rebuild(fleet, dense);
            self.at = now;
            return;
        };
        for store in changed_stores {
            self.refresh_store(fleet, dense, store);
        }
        // The memory that a run of leaves needs is asked for at once, not leaf by leaf.
        let mut run = [0; RUN];
        let mut changed_hosts = changed_hosts.peekable();
        while changed_hosts.peek().is_some() {
            let mut length = 0;
            for (place, leaf) in run.iter_mut().zip(&mut changed_hosts) {
                *place = leaf;
                length += 1;
            }
            let touch = |leaf: &usize| self.tree.key(*leaf) ^ u64::from(dense.rows[*leaf].placed);
            std::hint::black_box(run[..length].iter().map(touch).fold(0, |all, one| all ^ one));
            for leaf in &run[..length] {
                self.refresh_leaf(dense, *leaf);
            }
        }
        self.tree.close();
        if let Some(keys) = &mut self.store_keys {
            keys.close();
        }
        self.at = now;
    }

    fn rebuild(&mut self, fleet: &Fleet, dense: &Dense) {
        let (leaves, stores) = (dense.rows.len(), dense.stores.len());
        let shape = &self.shape;
        if self.demanded.is_empty() {
            self.demanded = (0..leaves).map(|leaf| shape.demands(fleet, dense, leaf)).collect();
            if shape.has_preference() {
                let penalty = |leaf| shape.host_penalty(fleet, dense, leaf);
                self.host_penalties = (0..leaves).map(penalty).collect();
            }
        }
        self.masks = (0..stores).map(|store| shape.mask(fleet, dense, store)).collect();
        if shape.has_preference() {
            let penalty = |store| shape.store_penalty(fleet, dense, store);
            self.store_penalties = (0..stores).map(penalty).collect();
        }
        self.tree = Tree::new((0..leaves).map(|leaf| self.key(dense, leaf)).collect());
        if self.store_keys.is_some() {
            self.store_keys = Some(StoreKeys::of(self, dense));
        }
    }

    /// Begins to keep keys of datastores, if it does not yet; to be called after a refresh.
    pub fn keep_stores(&mut self, dense: &Dense) {
        if self.store_keys.is_none() {
            self.store_keys = Some(StoreKeys::of(self, dense));
        }
    }

    fn refresh_store(&mut self, fleet: &Fleet, dense: &Dense, store: usize) {
        let mask = self.shape.mask(fleet, dense, store);
        let before = std::mem::replace(&mut self.masks[store], mask);
        let mut penalty_moved = false;
        if self.shape.has_preference() {
            let penalty = self.shape.store_penalty(fleet, dense, store);
            penalty_moved = std::mem::replace(&mut self.store_penalties[store], penalty) != penalty;
        }
        if before != mask || penalty_moved {
            for leaf in &dense.stores[store].leaves {
                self.refresh_leaf(dense, *leaf as usize);
            }
        }
        if let Some(mut keys) = self.store_keys.take() {
            keys.refresh_store(self, dense, store);
            self.store_keys = Some(keys);
        }
    }

    #[inline]
    fn refresh_leaf(&mut self, dense: &Dense, leaf: usize) {
        let key = self.key(dense, leaf);
        self.tree.set(leaf, key);
        if let Some(mut keys) = self.store_keys.take() {
            keys.refresh_leaf(self, dense, leaf);
            self.store_keys = Some(keys);
        }
    }

    #[inline]
    fn key(&self, dense: &Dense, leaf: usize) -> u64 {
        if !self.demanded[leaf] {
            return REFUSED;
        }
        let host_penalty = self.host_penalties.get(leaf).copied().unwrap_or(0);
        let mask = |store: usize| self.masks[store];
        let penalty = |store: usize| self.store_penalty(store);
        self.shape.key(dense, leaf, mask, penalty, host_penalty)
    }

    pub fn store_penalty(&self, store: usize) -> u32 {
        self.store_penalties.get(store).copied().unwrap_or(0)
    }

    pub fn takes(&self, store: usize) -> bool {
        self.masks[store] & TAKES != 0
    }
}

/// Classes by shape; the one that was not asked for longest goes first.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    all: Vec<Class>,
    by_hash: BTreeMap<u64, Vec<u32>>,
    latest: usize,
    clock: u64,
}

impl Classes {
    /// The class of a request, made if there is none yet.
    pub fn of(&mut self, ask: &Ask<'_>, matched: &Matched, seeks: bool) -> usize {
        self.clock += 1;
        let latest = self.all.get(self.latest);
        if !latest.is_some_and(|class| class.shape.is_of(ask, matched, seeks)) {
            self.latest = self.find(ask, matched, seeks);
        }
        self.all[self.latest].used = self.clock;
        self.latest
    }

    pub fn get(&self, number: usize) -> &Class {
        &self.all[number]
    }

    pub fn get_mut(&mut self, number: usize) -> &mut Class {
        &mut self.all[number]
    }

    /// Every key has to be made anew.
    pub fn rebuild_all(&mut self) {
        for class in &mut self.all {
            class.at = None;
        }
    }

    fn find(&mut self, ask: &Ask<'_>, matched: &Matched, seeks: bool) -> usize {
        let hash = Shape::hash_of(ask);
        let candidates = self.by_hash.get(&hash);
        let known = candidates.into_iter().flatten().map(|number| *number as usize);
        let mut known = known.into_iter();
        let known = known.find(|number| self.all[*number].shape.is_of(ask, matched, seeks));
        known.unwrap_or_else(|| self.add(Class::new(Shape::of(ask, matched, seeks), hash)))
    }

    fn add(&mut self, class: Class) -> usize {
        let hash = class.hash;
        let number = if self.all.len() < CLASSES_MAX {
            self.all.push(class);
            self.all.len() - 1
        } else {
            let used = |number: &usize| self.all[*number].used;
            let oldest = (0..self.all.len()).min_by_key(used).unwrap_or(0);
            let gone = std::mem::replace(&mut self.all[oldest], class);
            if let Some(numbers) = self.by_hash.get_mut(&gone.hash) {
                numbers.retain(|number| *number as usize != oldest);
                if numbers.is_empty() {
                    self.by_hash.remove(&gone.hash);
                }
            }
            oldest
        };
        self.by_hash.entry(hash).or_default().push(number as u32);
        number
    }
}

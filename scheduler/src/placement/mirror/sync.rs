//! Following the fleet.

use super::Mirror;
use super::class::Classes;
use super::dense::{Cold, Dense};
use super::journal::Journal;
use super::views::group_of;
use crate::fleet::rules::GroupKey;
use crate::fleet::{Diff, Fleet, HostBooks};
use crate::placement::keeping::Keeping;
use berth_model::{Held, Host, HostFacts};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Packing learns again when this many were placed since, or a quarter of what was placed then.
const LEARN_AFTER: u64 = 256;

impl Mirror {
    /// Takes over a fleet. Settled tickets are given back: what became of them shows in it.
    pub fn sync(&mut self, fleet: &Arc<Fleet>) {
        let settled = self.tickets.take_settled();
        if Arc::ptr_eq(&self.fleet, fleet) && settled.is_empty() {
            return;
        }
        let diff = fleet.diff(&self.fleet);
        self.fleet = Arc::clone(fleet);
        self.foreseen = None;
        let leaves = if self.stale { None } else { self.leaves_of(&diff, fleet) };
        let Some(leaves) = leaves else {
            for ticket in settled {
                self.tickets.remove(ticket);
            }
            self.stale = true;
            return;
        };
        if diff.topology {
            self.follow_topology(&leaves);
        }
        let mut touched =
            Touched { leaves: Vec::with_capacity(settled.len()), ..Touched::default() };
        for ticket in settled {
            self.give_back(ticket, &mut touched);
        }
        let layout = &self.dense.layout;
        touched.stores.extend(diff.datastores.iter().filter_map(|id| layout.store(*id)));
        touched.groups.extend(diff.groups);
        // Most that were settled changed in the fleet too.
        touched.leaves.sort_unstable();
        let mut known = leaves.iter().map(|(leaf, _)| *leaf).collect::<Vec<_>>();
        known.sort_unstable();
        touched.leaves.retain(|leaf| known.binary_search(leaf).is_err());
        for (leaf, host) in leaves {
            self.read_leaf(leaf, host);
        }
        self.read_again(touched);
        self.learn_if_due();
    }

    /// The leaves that changed; `None` where hosts or datastores came or went, stand elsewhere or
    /// are other hosts to a request than before, or where policies changed.
    fn leaves_of<'a>(&self, diff: &Diff, fleet: &'a Fleet) -> Option<Vec<(usize, &'a Host)>> {
        if diff.topology && !self.dense.has_policies_of(fleet) {
            return None;
        }
        let known =
            |id| self.dense.layout.store(id).is_some() && self.fleet.datastore(id).is_some();
        if !diff.datastores.iter().all(|id| known(*id)) {
            return None;
        }
        let mut leaves = Vec::with_capacity(diff.hosts.len());
        for (id, leaf) in self.dense.layout.leaves_of(&diff.hosts) {
            let leaf = leaf?;
            let (cold, host) = (self.dense.cold[leaf].as_ref()?, fleet.host(id)?);
            let moved = self.dense.policy(leaf).is_none_or(|policy| policy.id != host.cluster);
            if moved || (!Arc::ptr_eq(&cold.facts, &host.facts) && !alike(&cold.facts, &host.facts))
            {
                return None;
            }
            leaves.push((leaf, host));
        }
        Some(leaves)
    }

    /// Hosts are where they were, but may be larger, shut or open, and rules may be others.
    fn follow_topology(&mut self, leaves: &[(usize, &Host)]) {
        if !self.rules.iter().eq(self.fleet.rules()) {
            self.rules = self.fleet.rules().cloned().collect();
            self.classes = Classes::default();
            self.views.clear();
            self.match_again();
            self.regroup();
        }
        for (leaf, host) in leaves {
            self.dense.read_whole_host(&self.fleet, host, *leaf);
            self.hosts.add(*leaf);
        }
        for leaf in self.dense.open_again(&self.fleet) {
            self.hosts.add(leaf);
        }
        if !self.keeping.is_empty() {
            self.keep_anew();
        }
    }

    fn keep_anew(&mut self) {
        self.keeping = Keeping::of(&self.fleet);
        let numbers: Vec<u32> = self.tickets.iter().map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| self.keep(number));
    }

    /// Takes a ticket out of the books; the rows are read again afterwards.
    pub(super) fn give_back(&mut self, ticket: u32, touched: &mut Touched) {
        let Some(taken) = self.tickets.remove(ticket) else { return };
        self.keeping.give_back(ticket);
        self.dense.leave(&taken);
        if taken.leaf < self.dense.rows.len() {
            touched.leaves.push(taken.leaf);
        }
        let stores = taken.disks.iter().map(|(_, store, _)| *store as usize);
        touched.stores.extend(stores.filter(|store| *store < self.dense.stores.len()));
        touched.groups.extend(taken.groups.into_iter().map(|(key, ..)| key));
    }

    /// Rows of hosts and datastores and counts of rules, from fleet and tickets.
    pub(super) fn read_again(&mut self, touched: Touched) {
        let Touched { mut leaves, mut stores, groups } = touched;
        leaves.sort_unstable();
        leaves.dedup();
        let fleet = Arc::clone(&self.fleet);
        for leaf in leaves {
            if let Some(host) = self.dense.layout.hosts[leaf].and_then(|id| fleet.host(id)) {
                self.read_leaf(leaf, host);
            }
        }
        stores.sort_unstable();
        stores.dedup();
        for store in stores {
            let before = self.dense.stores[store].books();
            if let Some(datastore) = self.fleet.datastore(self.dense.stores[store].id) {
                self.dense.read_store(&self.fleet, datastore, store);
            }
            if before != self.dense.stores[store].books() {
                self.stores.add(store);
            }
        }
        for key in groups {
            self.views.forget(&key);
        }
    }

    fn read_leaf(&mut self, leaf: usize, host: &Host) {
        if !self.keeping.is_empty() {
            self.keeping.follow(&self.fleet, host);
        }
        let before = self.dense.rows[leaf];
        let things = |cold: &Option<Cold>| {
            let held = cold.as_ref().map(|cold| &cold.held);
            held.filter(|held| **held != Held::default()).cloned()
        };
        let held = things(&self.dense.cold[leaf]);
        self.dense.read_host(host, leaf, &self.tickets);
        let after = &self.dense.rows[leaf];
        self.arrivals += u64::from(after.placed.saturating_sub(before.placed));
        if before != *after || held != things(&self.dense.cold[leaf]) {
            self.hosts.add(leaf);
        }
    }

    /// Makes everything anew if hosts, policies or rules changed.
    pub(super) fn refresh(&mut self) {
        if !self.stale {
            return;
        }
        self.stale = false;
        if self.learning_is_due() {
            self.learn();
        }
        self.dense = Dense::of(&self.fleet, &self.guides);
        self.hosts = Journal::new(self.dense.rows.len());
        self.stores = Journal::new(self.dense.stores.len());
        self.classes = Classes::default();
        self.views.clear();
        self.foreseen = None;
        self.latest.1 = usize::MAX;
        self.match_again();
        self.tickets.move_to(&self.dense.layout, &self.dense.rows);
        self.regroup();
        for (number, taken) in self.tickets.iter() {
            self.dense.enter(number, taken);
        }
        self.rules = self.fleet.rules().cloned().collect();
        self.keep_anew();
    }

    fn learning_is_due(&self) -> bool {
        self.arrivals >= LEARN_AFTER.max(self.learned_at / 4)
    }

    fn learn(&mut self) {
        self.guides = std::mem::take(&mut self.guides).learn_again(&self.fleet);
        self.arrivals = 0;
        self.learned_at = self.fleet.hosts().map(|host| u64::from(host.placed)).sum();
    }

    fn learn_if_due(&mut self) {
        if self.learning_is_due() {
            self.learn();
            self.dense.read_guides(&self.guides);
            self.classes.rebuild_all();
        }
    }

    /// The fleet with every ticket applied, to be asked what the rows do not tell.
    pub(super) fn foreseen(&mut self) -> Arc<Fleet> {
        if self.tickets.is_empty() {
            return Arc::clone(&self.fleet);
        }
        let made = self.foreseen.take().unwrap_or_else(|| Arc::new(self.foresee()));
        self.foreseen = Some(Arc::clone(&made));
        made
    }

    fn foresee(&self) -> Fleet {
        let (dense, tickets) = (&self.dense, &self.tickets);
        let mut fleet = Fleet::clone(&self.fleet);
        let taken = || tickets.iter().map(|(_, taken)| taken);
        let leaves: BTreeSet<usize> = taken().map(|taken| taken.leaf).collect();
        fleet.foresee_hosts(leaves.into_iter().filter_map(|leaf| {
            let row = dense.rows.get(leaf)?;
            let held = dense.cold[leaf].as_ref()?.held.clone();
            let id = dense.layout.hosts[leaf]?;
            Some(HostBooks { id, charged: row.charged, held, placed: row.placed })
        }));
        let disks = taken().flat_map(|taken| &taken.disks);
        let stores: BTreeSet<u32> = disks.map(|(_, store, _)| *store).collect();
        let stores = stores.into_iter().filter_map(|store| dense.stores.get(store as usize));
        fleet.foresee_datastores(stores.map(|store| (store.id, store.charged)));
        let groups = tickets.by_group.keys();
        let groups = groups.map(|key| (key.clone(), group_of(key, &self.fleet, tickets)));
        fleet.foresee_counts(groups);
        let loads = dense.policies.iter().map(|policy| (policy.id, policy.taken));
        fleet.foresee_more(&tickets.usage, loads);
        fleet
    }
}

/// Whether a host with the one facts is the same to every request, and to those that run there, as
/// with the other, its size and what it has to give apart.
fn alike(one: &HostFacts, other: &HostFacts) -> bool {
    one.name == other.name
        && one.vm_overhead == other.vm_overhead
        && one.labels == other.labels
        && one.supply.domain == other.supply.domain
        && one.supply.networks == other.supply.networks
        && one.datastores.keys().eq(other.datastores.keys())
}

/// What has to be read again.
#[derive(Debug, Default)]
pub struct Touched {
    pub leaves: Vec<usize>,
    pub stores: Vec<usize>,
    pub groups: Vec<GroupKey>,
}

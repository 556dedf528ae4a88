//! The counts of rules as the mirror sees them: the fleet's and what tickets added, numbered as the
//! layout numbers buckets.
//!
//! Promises: a view equals the fleet's group with every ticket of the group entered. Does not: keep
//! views that nobody asks for; beyond a bound all are forgotten and made again on demand.

use super::layout::Layout;
use super::tickets::{Taken, Tickets};
use crate::fleet::Fleet;
use crate::fleet::rules::{Bucket, Group, GroupKey, Spoken};
use berth_model::Scope;
use std::collections::BTreeMap;

/// Views that are kept at once.
const VIEWS_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub struct View {
    pub group: Group,
    scope: Scope,
    /// By the bucket's number, for fault domains and clusters.
    pub subjects: Vec<u32>,
    pub peers: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Views {
    by_key: BTreeMap<GroupKey, View>,
}

impl Views {
    pub fn get(&self, key: &GroupKey) -> Option<&View> {
        self.by_key.get(key)
    }

    pub fn clear(&mut self) {
        self.by_key.clear();
    }

    /// Makes the view of a rule that counts, if it is not there.
    pub fn ensure(&mut self, spoken: &Spoken, fleet: &Fleet, layout: &Layout, tickets: &Tickets) {
        let Some(scope) = spoken.scope() else { return };
        let key = spoken.key();
        if self.by_key.contains_key(&key) {
            return;
        }
        if self.by_key.len() >= VIEWS_MAX {
            self.by_key.clear();
        }
        let view = View::of(&key, scope.clone(), fleet, layout, tickets);
        self.by_key.insert(key, view);
    }

    /// Enters what a new ticket counts in.
    pub fn add(&mut self, taken: &Taken, layout: &Layout) {
        for (key, spoken, buckets) in &taken.groups {
            if let Some(view) = self.by_key.get_mut(key) {
                view.group.enter(spoken.counted(), buckets);
                for bucket in buckets {
                    view.renumber(*bucket, layout);
                }
            }
        }
    }

    /// The counts changed in the fleet, or a ticket left: the view is made anew when it is asked
    /// for.
    pub fn forget(&mut self, key: &GroupKey) {
        self.by_key.remove(key);
    }
}

impl View {
    fn of(key: &GroupKey, scope: Scope, fleet: &Fleet, layout: &Layout, tickets: &Tickets) -> View {
        let group = group_of(key, fleet, tickets);
        let size = layout.axis(&scope).map_or(0, |axis| axis.buckets.len());
        let mut view = View { group, scope, subjects: vec![0; size], peers: vec![0; size] };
        if let Some(axis) = layout.axis(&view.scope) {
            for (bucket, tally) in view.group.buckets() {
                if let Some(number) = axis.number(bucket) {
                    view.subjects[number] = tally.subjects;
                    view.peers[number] = tally.peers;
                }
            }
        }
        view
    }

    fn renumber(&mut self, bucket: Bucket, layout: &Layout) {
        let number = layout.axis(&self.scope).and_then(|axis| axis.number(bucket));
        if let Some(number) = number {
            self.subjects[number] = self.group.subjects_in(bucket);
            self.peers[number] = self.group.peers_in(bucket);
        }
    }
}

/// The fleet's counts with every ticket entered.
pub fn group_of(key: &GroupKey, fleet: &Fleet, tickets: &Tickets) -> Group {
    let mut group = fleet.group(key).map_or_else(Group::default, |group| (**group).clone());
    for number in tickets.by_group.get(key).into_iter().flatten() {
        let groups = tickets.get(*number).map(|taken| taken.groups.as_slice());
        for (_, spoken, buckets) in groups.into_iter().flatten().filter(|(own, ..)| own == key) {
            group.enter(spoken.counted(), buckets);
        }
    }
    group
}

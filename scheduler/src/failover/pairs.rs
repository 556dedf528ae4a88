//! The loss of two hosts: which pairs need a plan of their own.
//!
//! A pair is left alone while its merged plan is exactly the union of the single plans. That is so
//! when (a) neither plan uses the other host, (b) on each target of both there is room for both
//! loads, and (c) no group with members on both hosts can make them meet: no bucket receives
//! members of both, and neither host's members, having passed over hosts, could have been stopped
//! from one by the other's members on its bucket, which the loss takes away. Then, step by step:
//! a host passed over is passed over still, because it has no more room and no fewer members than
//! before; and the target takes the VM still.
//!
//! Every event that can end this is looked at: a single plan made anew (all pairs of its host), and
//! less room on a host that several plans use. More room, or fewer members, without a change of a
//! single plan end it never. Pairs that are kept come off when they are found harmless again.
//!
//! Promises: pairs without a plan are harmless in this sense. Does not: look at three losses.

use std::collections::BTreeSet;

use super::book::{Change, Kept, Lost, Place};
use super::plan::Step;
use super::ring::{NOWHERE, holds};
use super::room::Room;
use super::{Failover, Undo};

/// With more changes than this in a single plan, its pairs are made anew unasked.
const CHANGES_MAX: usize = 8;

impl Failover {
    /// Adds to `pairs` the plans that must be made anew after the singles were.
    pub(super) fn find_pairs(&mut self, changed: &[(u32, Vec<Change>)], pairs: &mut Vec<u32>) {
        let mut meeting: BTreeSet<Lost> = BTreeSet::new();
        let altered = |host: u32| {
            let found = changed.binary_search_by_key(&host, |(position, _)| *position);
            found.is_ok_and(|at| !changed[at].1.is_empty())
        };
        for (position, changes) in changed {
            let disturbed = |(other, plan): &(&u32, &u32)| {
                changes.len() > CHANGES_MAX
                    || altered(**other)
                    || self.disturbs(*position, changes, **other, **plan)
            };
            let known = self.partners[*position as usize].iter();
            let found: Vec<u32> = match changes.as_slice() {
                [] => Vec::new(),
                _ => known.filter(disturbed).map(|(_, plan)| *plan).collect(),
            };
            for plan in found {
                if self.book.mark(plan) {
                    pairs.push(plan);
                }
            }
            let rivals = self.rivals(*position, changes).into_iter();
            meeting.extend(rivals.map(|other| Lost::two(*position, other)));
        }
        let mut squeezed = std::mem::take(&mut self.squeezed);
        squeezed.sort_unstable();
        squeezed.dedup();
        for position in squeezed {
            self.crowd(position, &mut meeting);
        }
        for lost in meeting {
            let [a, b] = lost.positions() else { continue };
            if !self.partners[*a as usize].contains_key(b) {
                let plan = self.add_pair(lost);
                if let Some(trial) = &mut self.trial {
                    trial.undo.push(Undo::Added { lost });
                }
                self.book.mark(plan);
                pairs.push(plan);
            }
        }
    }

    pub(super) fn remake_pair(&mut self, plan: u32) -> Option<Lost> {
        let lost = self.book.plan(plan).lost;
        self.plans_made += 1;
        if !self.merge(lost) {
            let steps = self.book.plan(plan).steps.iter().map(|kept| kept.step).collect();
            if let Some(trial) = &mut self.trial {
                trial.undo.push(Undo::Discarded { lost, steps });
            }
            self.discard_pair(lost);
            return None;
        }
        let steps = std::mem::take(&mut self.merged);
        self.keep(plan, &steps);
        self.merged = steps;
        self.book.uncovered().get(&lost).copied()
    }

    pub(super) fn add_pair(&mut self, lost: Lost) -> u32 {
        let plan = self.book.add(lost);
        if let [a, b] = *lost.positions() {
            self.partners[a as usize].insert(b, plan);
            self.partners[b as usize].insert(a, plan);
        }
        plan
    }

    pub(super) fn discard_pair(&mut self, lost: Lost) {
        let [a, b] = *lost.positions() else { return };
        if let Some(plan) = self.partners[a as usize].remove(&b) {
            self.partners[b as usize].remove(&a);
            self.book.discard(plan);
        }
    }

    /// Makes the plan for the loss of both hosts, and leaves in `merged` the steps to keep; false
    /// where the pair needs no plan.
    ///
    /// The single plans are the guide: a step comes out as there, unless its target is lost or
    /// full, or it passed over a host from which an earlier step was diverted, because that host
    /// may have more room than in the single plan, or it has groups. Only then is the ring
    /// searched. Kept are steps that come out differently, by target or by load on it, and those
    /// that could have; whatever alters the others alters the single plan too, and that makes all
    /// its pairs anew.
    fn merge(&mut self, lost: Lost) -> bool {
        self.merged.clear();
        let [a, b] = *lost.positions() else { return false };
        if !self.cluster.counted(a) || !self.cluster.counted(b) {
            return false;
        }
        let Self { cluster, book, scratch, merged, diverted, .. } = self;
        scratch.clear(cluster.hosts());
        diverted.clear();
        let grouped = cluster.grouped(a) || cluster.grouped(b);
        let steps = |plan: u32| {
            let ranks = cluster.vms_of(plan).iter();
            ranks.zip(book.plan(plan).steps.iter().map(|kept| &kept.step)).peekable()
        };
        for (rank, _) in steps(a).chain(steps(b)).filter(|_| grouped) {
            let placed = cluster.known(rank.vm);
            scratch.shift(cluster, placed, placed.home, -1);
        }
        let (mut at_a, mut at_b) = (steps(a), steps(b));
        let mut same = true;
        loop {
            let from_b = match (at_a.peek(), at_b.peek()) {
                (Some((x, _)), Some((y, _))) => y < x,
                (head, _) => head.is_none(),
            };
            let next = if from_b { at_b.next() } else { at_a.next() };
            let Some((rank, single)) = next else { break };
            let demand = rank.demand();
            let bound = grouped && !cluster.known(rank.vm).vm.groups.is_empty();
            let roomier = !diverted.is_empty() && {
                let passed = cluster.passed(single);
                diverted.iter().any(|position| holds(&passed, *position))
            };
            let stays = single.target == NOWHERE
                || single.target != a && single.target != b && {
                    let load = scratch.load[single.target as usize].plus(demand);
                    cluster.free(single.target).is_some_and(|free| free.covers(load))
                };
            let mut step = *single;
            if !stays || roomier || bound {
                let placed = cluster.known(rank.vm);
                step.target = cluster.find(placed, &[a, b], scratch).unwrap_or(NOWHERE);
                if step.target != NOWHERE && bound {
                    scratch.shift(cluster, placed, step.target, 1);
                }
            }
            step.after = match step.target {
                NOWHERE => Room::NONE,
                target => scratch.charge(demand, target),
            };
            if step.target != single.target {
                same = false;
                if single.target != NOWHERE && single.target != a && single.target != b {
                    diverted.push(single.target);
                }
            }
            if step != *single || roomier || bound {
                merged.push(step);
            }
        }
        !same || grouped && self.share_groups_that_meet(a, b)
    }

    /// Whether the plan that is kept for `a` and `b` may come out differently because the single
    /// plan for `a` did, the one for `b` being what it was.
    ///
    /// It does not when the change stays among hosts and VMs that the pair leaves to the plan for
    /// `a`: no changed VM has groups, or a step in the pair; on no old or new target of them does
    /// the pair have anything beside the plan for `a`, nor is it `b`; no step in the pair passed
    /// over such a target, which may have more room now; and no host from which the pair diverted
    /// a step, which has more room in the pair than in the plan for `a`, is such a target or was
    /// passed over by a changed VM. Then the steps of the pair and those of the plan for `a`, the
    /// changed ones included, find the same loads as before or as in their single plan.
    fn disturbs(&self, a: u32, changes: &[Change], b: u32, pair: u32) -> bool {
        let own = &self.book.plan(pair).steps;
        let at_b = &self.book.plan(b).steps;
        let touches = |host: u32| {
            host == b
                || at_b.iter().any(|kept| kept.step.target == host)
                || own.iter().any(|Kept { step, .. }| {
                    step.target == host || holds(&self.cluster.passed(step), host)
                })
        };
        let both = |change: &Change| [change.before, change.now].into_iter().flatten();
        let grouped = |step: Step| !self.cluster.known(step.vm).vm.groups.is_empty();
        let concerns = |change: &Change| {
            let new = change.now.is_some_and(grouped);
            new || both(change).any(|step| {
                own.iter().any(|kept| kept.step.vm == step.vm)
                    || step.target != NOWHERE && touches(step.target)
            })
        };
        changes.iter().any(concerns)
            || own.iter().any(|Kept { step, .. }| {
                let home = self.cluster.known(step.vm).home;
                let single = self.book.plan(if home == a { a } else { b }).steps.iter();
                let from = single.map(|kept| kept.step).find(|single| single.vm == step.vm);
                let Some(from) = from.map(|from| from.target) else { return true };
                from != step.target
                    && changes.iter().any(|change| {
                        both(change).any(|changed| changed.target == from)
                            || change.now.is_some_and(|now| holds(&self.cluster.passed(&now), from))
                    })
            })
    }

    /// The hosts whose plans may not simply be added to the changed one for `a`.
    fn rivals(&self, a: u32, changes: &[Change]) -> BTreeSet<u32> {
        let mut rivals = BTreeSet::new();
        if !self.cluster.counted(a) {
            return rivals;
        }
        rivals.extend(self.single_users(a).map(|(plan, _)| plan));
        let steps = &self.book.plan(a).steps;
        for step in changes.iter().filter_map(|change| change.now) {
            for group in &self.cluster.known(step.vm).vm.groups {
                for member in self.cluster.group(*group).members() {
                    let home = self.cluster.known(*member).home;
                    let new = home != a && !rivals.contains(&home);
                    if new && self.cluster.counted(home) && self.groups_meet(a, home, *group) {
                        rivals.insert(home);
                    }
                }
            }
            if step.target == NOWHERE {
                continue;
            }
            if self.cluster.counted(step.target) {
                rivals.insert(step.target);
            }
            let load = steps.iter().rev().find(|kept| kept.step.target == step.target);
            let load = load.map_or(step.after, |kept| kept.step.after);
            let spare = self.cluster.free(step.target).map_or(Room::NONE, |free| free.less(load));
            let others = self.single_users(step.target).filter(|(plan, _)| *plan != a);
            rivals.extend(others.filter(|(_, load)| !spare.covers(*load)).map(|(plan, _)| plan));
        }
        rivals
    }

    /// Adds the pairs of plans that together put more on a host than it has room for.
    fn crowd(&self, position: u32, meeting: &mut BTreeSet<Lost>) {
        let free = self.cluster.free(position).unwrap_or(Room::NONE);
        let mut loads: Vec<(u32, Room)> = self.single_users(position).collect();
        loads.sort_unstable();
        // The last entry of a plan is its whole load.
        loads.reverse();
        loads.dedup_by_key(|(plan, _)| *plan);
        let widest = loads.iter().fold(Room::NONE, |widest, (_, load)| widest.widest(*load));
        loads.retain(|(_, load)| !free.covers(load.plus(widest)));
        for (nth, (a, load)) in loads.iter().enumerate() {
            let spare = free.less(*load);
            let others = loads[nth + 1..].iter().filter(|(_, load)| !spare.covers(*load));
            meeting.extend(others.map(|(b, _)| Lost::two(*a, *b)));
        }
    }

    /// The plans for single losses that use a host, with what they have put there; the largest
    /// entry of a plan is its whole load.
    fn single_users(&self, position: u32) -> impl Iterator<Item = (u32, Room)> {
        let hosts = self.cluster.hosts();
        let users = self.book.users(position).iter().filter(move |place| place.plan < hosts);
        users.map(|Place { plan, step }| {
            (*plan, self.book.plan(*plan).steps[*step as usize].step.after)
        })
    }

    fn share_groups_that_meet(&self, a: u32, b: u32) -> bool {
        let mut groups: BTreeSet<u32> = BTreeSet::new();
        for kept in &self.book.plan(a).steps {
            groups.extend(&self.cluster.known(kept.step.vm).vm.groups);
        }
        groups.into_iter().any(|group| self.groups_meet(a, b, group))
    }

    fn groups_meet(&self, a: u32, b: u32, group: u32) -> bool {
        let scope = self.cluster.scope(group);
        let members = |plan: u32| -> Vec<&Step> {
            let steps = self.book.plan(plan).steps.iter().map(|kept| &kept.step);
            let within = |step: &&Step| self.cluster.known(step.vm).vm.groups.contains(&group);
            steps.filter(within).collect()
        };
        let (at_a, at_b) = (members(a), members(b));
        if at_a.is_empty() || at_b.is_empty() {
            return false;
        }
        // Members lost with one host make room in its bucket, where that has other hosts, for
        // members of the other that had to pass over these.
        let freed = |home: u32, steps: &[&Step]| {
            let hosts = scope.bucket(home).map_or(&[][..], |bucket| scope.hosts(bucket));
            hosts
                .iter()
                .filter(|host| **host != home)
                .any(|host| steps.iter().any(|step| holds(&self.cluster.passed(step), *host)))
        };
        if freed(a, &at_b) || freed(b, &at_a) {
            return true;
        }
        let bucket = |step: &Step| (step.target != NOWHERE).then(|| scope.bucket(step.target));
        at_a.iter().any(|x| {
            let put = bucket(x).flatten();
            put.is_some() && at_b.iter().any(|y| bucket(y).flatten() == put)
        })
    }
}

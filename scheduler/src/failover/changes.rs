//! Which plans a change can alter; the head of the module says why these are all.
//!
//! Promises: a plan that is not marked is the plan that would be made now. The questions asked
//! here are exact or err on the side of marking: a plan marked for nothing costs its making.
//! Does not: make plans.

use super::book::Place;
use super::cluster::{Cluster, Vm};
use super::plan::Step;
use super::ring::{Stretches, holds};
use super::room::Room;
use super::{Failover, NOWHERE, book};

impl Cluster {
    /// Where a step looked in vain.
    pub(super) fn passed(&self, step: &Step) -> Stretches {
        self.ring.passed(step.entry, step.target)
    }
}

impl Failover {
    pub(super) fn mark(&mut self, plan: u32) {
        if self.book.mark(plan) {
            self.marked.push(plan);
        }
    }

    pub(super) fn mark_homes(&mut self, concerned: impl Fn(&Vm) -> bool) {
        let placed = self.cluster.handles().filter(|(_, placed)| concerned(&placed.vm));
        let homes: Vec<u32> = placed.map(|(_, placed)| placed.home).collect();
        for home in homes {
            self.mark_with_pairs(home);
        }
    }

    /// Marks a single plan and all its pairs, for changes that pairs do not watch.
    pub(super) fn mark_with_pairs(&mut self, home: u32) {
        self.mark(home);
        let pairs: Vec<u32> = self.partners[home as usize].values().copied().collect();
        for plan in pairs {
            self.mark(plan);
        }
    }

    /// Whether the plan for these hosts may change when the marked plans are made anew.
    pub(super) fn in_doubt(&self, lost: &book::Lost) -> bool {
        let marked = |plan: &u32| self.book.plan(*plan).dirty;
        match lost.positions() {
            [a, b] => {
                let own = self.partners[*a as usize].get(b);
                marked(a) || marked(b) || own.is_some_and(marked)
            }
            single => single.iter().any(marked),
        }
    }

    pub(super) fn room_fell(&mut self, position: u32) {
        let free = self.cluster.free(position);
        let fits = |step: &Step| free.is_some_and(|free| free.covers(step.after));
        let users = self.book.users(position).iter();
        let burst = users.filter(|place| self.clean_step(place).is_some_and(|step| !fits(step)));
        let plans: Vec<u32> = burst.map(|place| place.plan).collect();
        for plan in plans {
            self.mark(plan);
        }
        self.squeezed.push(position);
    }

    pub(super) fn room_rose(&mut self, position: u32) {
        let passing = self.book.passing(position);
        let drawn = passing.filter(|place| self.could_move(place, position));
        let plans: Vec<u32> = drawn.map(|place| place.plan).collect();
        for plan in plans {
            self.mark(plan);
        }
    }

    /// A member of the group came to `home`.
    pub(super) fn count_rose(&mut self, group: u32, home: u32) {
        let Some(bucket) = self.cluster.bucket(group, home) else { return };
        let plans: Vec<u32> = self
            .plans_with_members(group)
            .into_iter()
            .filter(|(plan, _)| self.overfills(*plan, group, bucket))
            .map(|(plan, _)| plan)
            .collect();
        for plan in plans {
            self.mark(plan);
        }
    }

    /// A member of the group left `home`.
    pub(super) fn count_fell(&mut self, group: u32, home: u32) {
        let Some(bucket) = self.cluster.bucket(group, home) else { return };
        let mut plans = Vec::new();
        for (plan, member) in self.plans_with_members(group) {
            let kept = self.book.plan(plan);
            let found = kept.steps.iter().position(|kept| kept.step.vm == member);
            let Some(step) = found.filter(|_| !kept.dirty) else { continue };
            let passed = self.cluster.passed(&kept.steps[step].step);
            let place = Place { plan, step: step as u32 };
            let mut hosts = self.cluster.scope(group).hosts(bucket).iter();
            if hosts.any(|host| holds(&passed, *host) && self.could_move(&place, *host)) {
                plans.push(plan);
            }
        }
        for plan in plans {
            self.mark(plan);
        }
    }

    /// The plans that restart members of a group, with these.
    fn plans_with_members(&self, group: u32) -> Vec<(u32, u32)> {
        let mut plans = Vec::new();
        for member in self.cluster.group(group).members() {
            let home = self.cluster.known(*member).home;
            plans.push((home, *member));
            plans.extend(self.partners[home as usize].values().map(|plan| (*plan, *member)));
        }
        plans
    }

    /// Whether a clean plan puts members into a bucket that no longer has room for all of them.
    fn overfills(&self, plan: u32, group: u32, bucket: u32) -> bool {
        let plan = self.book.plan(plan);
        let (mut put, mut lost) = (0, 0);
        for kept in plan.steps.iter().filter(|_| !plan.dirty) {
            let Some(placed) = self.cluster.placed(kept.step.vm) else { continue };
            if !placed.vm.groups.contains(&group) {
                continue;
            }
            let scope = self.cluster.scope(group);
            let target = kept.step.target;
            let within = target != NOWHERE && scope.bucket(target) == Some(bucket);
            put += u32::from(within);
            lost += u32::from(scope.bucket(placed.home) == Some(bucket));
        }
        let group = self.cluster.group(group);
        put > 0 && group.count(bucket) + put > group.limit + lost
    }

    /// Whether a step of a clean plan that passed over a host could stop there now, as far as room
    /// and class go; groups may still forbid it. A pair knows only part of its load there, so that
    /// its step may be marked for nothing.
    fn could_move(&self, place: &Place, position: u32) -> bool {
        let Some(step) = self.clean_step(place) else { return false };
        let Some(free) = self.cluster.free(position) else { return false };
        let Some(placed) = self.cluster.placed(step.vm) else { return false };
        if !free.covers(placed.vm.demand) {
            return false;
        }
        let plan = self.book.plan(place.plan);
        let earlier = &plan.steps[..place.step as usize];
        let load = earlier.iter().rev().find(|kept| kept.step.target == position);
        let load = load.map_or(Room::NONE, |kept| kept.step.after);
        free.covers(load.plus(placed.vm.demand))
            && !plan.lost.positions().contains(&position)
            && self.cluster.allowed(placed.vm.class).is_none_or(|hosts| hosts.contains(position))
    }

    fn clean_step(&self, place: &Place) -> Option<&Step> {
        let plan = self.book.plan(place.plan);
        if plan.dirty {
            return None;
        }
        plan.steps.get(place.step as usize).map(|kept| &kept.step)
    }
}

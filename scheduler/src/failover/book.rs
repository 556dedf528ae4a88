//! The plans that stand, and which of them a change of room can alter.
//!
//! Two reverse indexes. `users`: per host, the steps that put a VM there. `passes`: per stretch of
//! the ring, the steps that tried it in vain; a stretch is kept at the nodes of a segment tree, so
//! that a step costs O(log n) entries however far it went, and the steps that passed over one host
//! are those on the path from its leaf to the root.
//!
//! Promises: each step that a plan keeps is in both. Entries of `passes` whose step has come out
//! differently since are recognised by their stamp, and swept when they outnumber the living; one
//! that a stamp used up and begun again makes look alive costs a question, not an error.
//! Does not: decide what a change means (see `changes`), nor know the cluster.

use std::collections::BTreeSet;

use super::plan::Step;
use super::ring::{NOWHERE, Ring};

/// The hosts whose loss a plan is for: one, or two ascending ring positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lost([u32; 2]);

impl Lost {
    pub(super) fn one(position: u32) -> Self {
        Self([position, NOWHERE])
    }

    pub(super) fn two(a: u32, b: u32) -> Self {
        Self([a.min(b), a.max(b)])
    }

    pub(super) fn positions(&self) -> &[u32] {
        if self.0[1] == NOWHERE { &self.0[..1] } else { &self.0 }
    }
}

/// A step that stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) step: Step,
    /// Where it stands among the users of its target; [`NOWHERE`] if it has no target.
    seat: u32,
    /// Entries of `passes` for this step bear the same.
    stamp: u32,
}

/// What a plan says differently about one VM: before, and now; nothing where it had no such VM.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) before: Option<Step>,
    pub(super) now: Option<Step>,
}

/// What differs between two plans for the same hosts.
pub(super) fn changes(before: &[Step], now: &[Step]) -> Vec<Change> {
    let alike = before.iter().zip(now).take_while(|(x, y)| x == y).count();
    let (before, now) = (&before[alike..], &now[alike..]);
    let mut changes = Vec::new();
    for old in before {
        let new = now.iter().find(|new| new.vm == old.vm);
        if new != Some(old) {
            changes.push(Change { before: Some(*old), now: new.copied() });
        }
    }
    let new = now.iter().filter(|new| !before.iter().any(|old| old.vm == new.vm));
    changes.extend(new.map(|new| Change { before: None, now: Some(*new) }));
    changes
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) lost: Lost,
    /// Of a pair, only those that its single plans do not say.
    pub(super) steps: Vec<Kept>,
    /// Whether something changed that the plan may depend on.
    pub(super) dirty: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pass {
    plan: u32,
    step: u32,
    stamp: u32,
}

#[derive(Clone, Debug, Default)]
struct Passes {
    entries: Vec<Pass>,
    /// How many were living at the last sweep.
    living: usize,
}

/// One step of one plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) plan: u32,
    pub(super) step: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Book {
    /// Plan `p` below the number of hosts is for the loss of position `p`; the others are pairs.
    plans: Vec<Plan>,
    vacant: Vec<u32>,
    users: Vec<Vec<Place>>,
    passes: Vec<Passes>,
    width: u32,
    stamp: u32,
    /// Which plans leave a VM without a place.
    uncovered: BTreeSet<Lost>,
}

impl Book {
    pub(super) fn new(hosts: u32) -> Self {
        let width = hosts.next_power_of_two().max(1);
        let empty = |position| Plan { lost: Lost::one(position), steps: Vec::new(), dirty: false };
        Self {
            plans: (0..hosts).map(empty).collect(),
            vacant: Vec::new(),
            users: vec![Vec::new(); hosts as usize],
            passes: vec![Passes::default(); 2 * width as usize],
            width,
            stamp: 0,
            uncovered: BTreeSet::new(),
        }
    }

    pub(super) fn plan(&self, plan: u32) -> &Plan {
        &self.plans[plan as usize]
    }

    pub(super) fn uncovered(&self) -> &BTreeSet<Lost> {
        &self.uncovered
    }

    /// Marks a plan; says whether it was unmarked.
    pub(super) fn mark(&mut self, plan: u32) -> bool {
        !std::mem::replace(&mut self.plans[plan as usize].dirty, true)
    }

    pub(super) fn unmark(&mut self, plan: u32) {
        self.plans[plan as usize].dirty = false;
    }

    /// An empty plan for a pair of losses.
    pub(super) fn add(&mut self, lost: Lost) -> u32 {
        if let Some(plan) = self.vacant.pop() {
            let entry = &mut self.plans[plan as usize];
            entry.lost = lost;
            entry.dirty = false;
            return plan;
        }
        self.plans.push(Plan { lost, steps: Vec::new(), dirty: false });
        self.plans.len() as u32 - 1
    }

    /// Forgets the plan of a pair.
    pub(super) fn discard(&mut self, plan: u32) {
        for step in 0..self.plans[plan as usize].steps.len() {
            self.unwatch(plan, step);
        }
        let entry = &mut self.plans[plan as usize];
        entry.dirty = false;
        entry.steps.clear();
        self.uncovered.remove(&entry.lost);
        self.vacant.push(plan);
    }

    /// Puts new steps in the place of a plan's old ones, and gives these back if they differ.
    pub(super) fn replace(&mut self, ring: &Ring, plan: u32, steps: &[Step]) -> Option<Vec<Step>> {
        let entry = &mut self.plans[plan as usize];
        entry.dirty = false;
        if entry.steps.iter().map(|kept| &kept.step).eq(steps) {
            return None;
        }
        let lost = entry.lost;
        let old: Vec<Step> = entry.steps.iter().map(|kept| kept.step).collect();
        let differs = |nth: &usize| old.get(*nth) != steps.get(*nth);
        for nth in (0..old.len()).filter(differs) {
            self.unwatch(plan, nth);
        }
        self.plans[plan as usize].steps.truncate(steps.len());
        for nth in (0..steps.len()).filter(differs) {
            self.watch(ring, plan, nth, steps[nth]);
        }
        if steps.iter().any(|step| step.target == NOWHERE) {
            self.uncovered.insert(lost);
        } else {
            self.uncovered.remove(&lost);
        }
        Some(old)
    }

    /// The steps that put a VM on a host.
    pub(super) fn users(&self, position: u32) -> &[Place] {
        &self.users[position as usize]
    }

    /// The steps that tried a host in vain. Some of them may be of plans made anew since.
    pub(super) fn passing(&self, position: u32) -> impl Iterator<Item = Place> {
        let leaf = self.width + position;
        let path = (0..=self.width.ilog2()).map(move |level| leaf >> level);
        path.flat_map(|node| &self.passes[node as usize].entries)
            .filter(|pass| lives(&self.plans, pass))
            .map(|pass| Place { plan: pass.plan, step: pass.step })
    }

    /// How many entries the reverse indexes hold, for the measuring example.
    pub(super) fn entries(&self) -> usize {
        let users: usize = self.users.iter().map(Vec::len).sum();
        let passes: usize = self.passes.iter().map(|passes| passes.entries.len()).sum();
        users + passes
    }

    pub(super) fn pairs(&self) -> usize {
        self.plans.len() - self.users.len() - self.vacant.len()
    }

    fn unwatch(&mut self, plan: u32, step: usize) {
        let kept = self.plans[plan as usize].steps[step];
        if kept.seat == NOWHERE {
            return;
        }
        let users = &mut self.users[kept.step.target as usize];
        users.swap_remove(kept.seat as usize);
        if let Some(moved) = users.get(kept.seat as usize) {
            self.plans[moved.plan as usize].steps[moved.step as usize].seat = kept.seat;
        }
    }

    /// Writes a step over an old one that is not watched, or behind the last.
    fn watch(&mut self, ring: &Ring, plan: u32, nth: usize, step: Step) {
        self.stamp = self.stamp.wrapping_add(1);
        let (stamp, place) = (self.stamp, Place { plan, step: nth as u32 });
        let mut kept = Kept { step, seat: NOWHERE, stamp };
        if step.target != NOWHERE {
            let users = &mut self.users[step.target as usize];
            kept.seat = users.len() as u32;
            users.push(place);
        }
        let steps = &mut self.plans[plan as usize].steps;
        match steps.get_mut(nth) {
            Some(old) => *old = kept,
            None => steps.push(kept),
        }
        for (from, to) in ring.passed(step.entry, step.target) {
            self.enter(from, to, Pass { plan, step: place.step, stamp });
        }
    }

    fn enter(&mut self, from: u32, to: u32, pass: Pass) {
        let (mut low, mut high) = (self.width + from, self.width + to);
        while low < high {
            if low % 2 == 1 {
                self.push(low, pass);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                self.push(high, pass);
            }
            low /= 2;
            high /= 2;
        }
    }

    fn push(&mut self, node: u32, pass: Pass) {
        let (passes, plans) = (&mut self.passes[node as usize], &self.plans);
        if passes.entries.len() >= 2 * passes.living + 8 {
            passes.entries.retain(|pass| lives(plans, pass));
            passes.living = passes.entries.len();
        }
        passes.entries.push(pass);
    }
}

fn lives(plans: &[Plan], pass: &Pass) -> bool {
    let step = plans[pass.plan as usize].steps.get(pass.step as usize);
    step.is_some_and(|kept| kept.stamp == pass.stamp)
}

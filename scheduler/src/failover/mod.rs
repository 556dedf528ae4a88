//! The restart planner, and admission control that keeps its plans possible.
//!
//! [`Cluster::restart_plan`] says where the VMs of lost hosts go; high availability carries it out.
//! [`Failover`] answers the question before it: would that plan still place everything, for the
//! loss of any one host (or any two), if this VM ran here? The answer is exact, because it keeps
//! the very plans and makes anew those that a change can alter. Cheaper, coarser policies stand
//! beside it: [`Percentage`], [`SlotPolicy`] and [`Dedicated`]. All refuse with a [`Shortfall`].
//!
//! Why it is cheap. The plan is first fit on a ring (`plan`, `ring`), and first fit is local: a
//! VM's host depends only on the host itself and on those passed over before it. So a change on
//! host `s` alters a plan only in these ways (`changes`):
//! - a VM on `s` came or went: the plan for the loss of `s`, about 20 steps;
//! - `s` has less room: plans that use `s`, and of these only those whose load there no longer
//!   fits. A host that a plan does not use it passes over or never meets, with less room as before;
//! - `s` has more room, or now receives: plans with a step that passed over `s`, and of these only
//!   those whose step now fits there beside what the plan put there earlier;
//! - a group has one member more in a bucket: plans that put a member into this bucket, if the
//!   limit is now passed; one member less: plans with a member that passed over a host of the
//!   bucket with room for it;
//! - a class, a limit of a group, or whether a host counts: every plan that holds such a VM.
//!
//! These are all: take the first step of a plan that comes out differently. The plan's own loads
//! and counts are the same up to there. Either its old target refuses it now, and a target refuses
//! for want of room, a full bucket, the class or for not receiving; or a host that refused it takes
//! it now, and that host lies on its passed stretch. Each is in the list above. The tests hold
//! every plan against one from scratch after random operations.
//!
//! Two losses (`pairs`). Losing two hosts is one loss of both, VMs merged into one order. Where
//! neither plan uses the other host, shared targets have room for both loads, and no group can
//! make them meet, the merged plan is exactly the union of the two single plans, and nothing is
//! computed or kept. The remaining pairs are kept as plans of their own and follow the same rules.
//!
//! Promises: `would_hold` says yes exactly when every plan, made from scratch after the placement,
//! places everything. Does not: decide whether the VM fits where it is to be placed, or name hosts;
//! it speaks of slots and handles, numbers from 0 that the caller keeps dense.
//!
//! Sources: the question is that of Ganeti's N+1 check, which asks for memory alone and from
//! scratch, and of admission control in vSphere, which approximates it by slots or percentages.
//! First fit decreasing: Johnson, "Near-optimal bin packing algorithms", 1973. Stabbing queries by
//! canonical nodes: Bentley, "Solutions to Klee's rectangle problems", 1977.

mod book;
mod changes;
mod cluster;
mod dedicated;
mod group;
mod pairs;
mod percentage;
mod plan;
mod ring;
mod room;
mod shortfall;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use cluster::{ANY_HOST, Cluster, Host, Vm};
pub use dedicated::Dedicated;
pub use percentage::Percentage;
pub use room::Room;
pub use shortfall::{Dimension, Shortfall};
pub use slots::{SlotPolicy, SlotSize};

use book::{Book, Change, Lost};
use plan::{Scratch, Step};
use ring::NOWHERE;

/// A host, by its dense number.
pub type Slot = u32;
/// A VM, by its dense number; free again once the VM is removed.
pub type Handle = u32;

/// How many hosts may fail at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    One,
    /// Any two hosts. Costs more: about a tenth of all pairs of hosts are planned.
    Two,
}

/// A placement that has been tried and can be kept or undone.
#[derive(Clone, Debug)]
struct Trial {
    handle: Handle,
    slot: Slot,
    undo: Vec<Undo>,
}

#[derive(Clone, Debug)]
enum Undo {
    Replaced { plan: u32, steps: Vec<Step> },
    Added { lost: Lost },
    Discarded { lost: Lost, steps: Vec<Step> },
}

/// Restart plans for every loss that is tolerated, kept up to date.
#[derive(Clone, Debug)]
pub struct Failover {
    cluster: Cluster,
    tolerance: Tolerance,
    book: Book,
    /// Per position, the other hosts of pairs that are planned, and their plans.
    partners: Vec<BTreeMap<u32, u32>>,
    scratch: Scratch,
    /// What `pairs` made last: the steps of a pair, and hosts that steps were diverted from.
    merged: Vec<Step>,
    diverted: Vec<u32>,
    /// Plans marked since the last settling.
    marked: Vec<u32>,
    /// Positions that have less room since the last settling.
    squeezed: Vec<u32>,
    trial: Option<Trial>,
    plans_made: u64,
}

impl Failover {
    /// Hosts by slot, without VMs; classes, scopes, groups and then VMs follow. Plans are made at
    /// the first question, so filling costs no more than planning once.
    #[must_use]
    pub fn new(hosts: &[Host], tolerance: Tolerance) -> Self {
        Self::of(Cluster::new(hosts), tolerance)
    }

    /// Takes over a cluster with its VMs.
    #[must_use]
    pub fn of(cluster: Cluster, tolerance: Tolerance) -> Self {
        let hosts = cluster.hosts();
        let mut failover = Self {
            cluster,
            tolerance,
            book: Book::new(hosts),
            partners: vec![BTreeMap::new(); hosts as usize],
            scratch: Scratch::default(),
            merged: Vec::new(),
            diverted: Vec::new(),
            marked: Vec::new(),
            squeezed: Vec::new(),
            trial: None,
            plans_made: 0,
        };
        for position in 0..hosts {
            failover.mark(position);
        }
        failover
    }

    /// The cluster as it stands, without a placement that was only asked about.
    pub fn cluster(&mut self) -> &Cluster {
        self.withdraw();
        &self.cluster
    }

    /// Whether every tolerated loss would be covered with this VM on this host.
    ///
    /// Keeps what it computed: [`Failover::place`] of the same VM on the same host is then free,
    /// and any other call takes it back.
    ///
    /// # Errors
    /// The first loss, by ring position, of those that were found not to be covered.
    ///
    /// # Panics
    /// As [`Cluster::place`].
    pub fn would_hold(&mut self, handle: Handle, vm: &Vm, slot: Slot) -> Result<(), Shortfall> {
        self.withdraw();
        self.settle(false);
        self.trial = Some(Trial { handle, slot, undo: Vec::new() });
        self.enter(handle, vm.clone(), slot);
        let standing = self.book.uncovered().iter().find(|lost| !self.in_doubt(lost)).copied();
        let found = standing.or_else(|| self.settle(true));
        let Some(lost) = found else { return Ok(()) };
        let shortfall = self.shortfall(lost);
        self.withdraw();
        Err(shortfall)
    }

    /// Records that a VM runs on a host, whether or not it should.
    ///
    /// # Panics
    /// As [`Cluster::place`].
    pub fn place(&mut self, handle: Handle, vm: Vm, slot: Slot) {
        if let Some(trial) =
            self.trial.take_if(|trial| trial.handle == handle && trial.slot == slot)
        {
            if self.cluster.known(handle).vm == vm {
                return;
            }
            self.trial = Some(trial);
        }
        self.withdraw();
        self.enter(handle, vm, slot);
    }

    /// Records that a VM is gone; says what it was and where. Nothing for a handle not in use.
    pub fn remove(&mut self, handle: Handle) -> Option<(Vm, Slot)> {
        self.withdraw();
        let (vm, slot) = self.cluster.remove(handle)?;
        let home = self.cluster.ring.position(slot);
        self.mark(home);
        self.room_rose(home);
        for group in &vm.groups {
            self.count_fell(*group, home);
        }
        Some((vm, slot))
    }

    /// Records what a host has and does now.
    ///
    /// # Panics
    /// When there is no such slot, or the host became or ceased to be standby.
    pub fn set_host(&mut self, slot: Slot, host: Host) {
        self.withdraw();
        let position = self.cluster.ring.position(slot);
        let (was, before) = (self.cluster.host(slot), self.cluster.free(position));
        self.cluster.set_host(slot, host);
        if was.counted != host.counted {
            self.mark_with_pairs(position);
        }
        match (before, self.cluster.free(position)) {
            (None, None) => {}
            (None, Some(_)) => self.room_rose(position),
            (Some(_), None) => self.room_fell(position),
            (Some(before), Some(after)) => {
                if !after.covers(before) {
                    self.room_fell(position);
                }
                if !before.covers(after) {
                    self.room_rose(position);
                }
            }
        }
    }

    /// See [`Cluster::set_class`].
    pub fn set_class(&mut self, class: u32, allowed: impl Fn(Slot) -> bool) {
        self.withdraw();
        self.cluster.set_class(class, allowed);
        self.mark_homes(|vm| vm.class == class);
    }

    /// See [`Cluster::set_scope`].
    ///
    /// # Panics
    /// When the scope is set already.
    pub fn set_scope(&mut self, scope: u32, bucket: impl Fn(Slot) -> Option<u32>) {
        self.withdraw();
        self.cluster.set_scope(scope, bucket);
    }

    /// See [`Cluster::set_group`].
    ///
    /// # Panics
    /// As there.
    pub fn set_group(&mut self, group: u32, scope: u32, limit: u32) {
        self.withdraw();
        let known = self.cluster.has_group(group);
        self.cluster.set_group(group, scope, limit);
        if known {
            self.mark_homes(|vm| vm.groups.contains(&group));
        }
    }

    /// Whether every tolerated loss is covered as things stand.
    ///
    /// # Errors
    /// The first loss, by ring position, that is not.
    pub fn holds(&mut self) -> Result<(), Shortfall> {
        self.withdraw();
        self.settle(false);
        match self.book.uncovered().first() {
            None => Ok(()),
            Some(lost) => Err(self.shortfall(*lost)),
        }
    }

    /// See [`Cluster::restart_plan`]; the state is the one that [`Failover::cluster`] shows.
    pub fn restart_plan(&mut self, lost: &[Slot]) -> Vec<(Handle, Option<Slot>)> {
        self.cluster().restart_plan(lost)
    }

    /// How many plans have been made so far, how many pairs are kept as plans, and how many
    /// entries the reverse indexes hold.
    #[must_use]
    pub fn effort(&self) -> Effort {
        Effort {
            plans_made: self.plans_made,
            pairs_kept: self.book.pairs(),
            entries: self.book.entries(),
        }
    }

    fn enter(&mut self, handle: Handle, vm: Vm, slot: Slot) {
        let home = self.cluster.ring.position(slot);
        let groups = vm.groups.clone();
        self.cluster.place(handle, vm, slot);
        self.mark(home);
        self.room_fell(home);
        for group in &groups {
            self.count_rose(*group, home);
        }
    }

    /// Makes the marked plans anew. With `early`, stops at the first that leaves a VM without a
    /// place and names it; the rest stay marked, and the trial must be withdrawn.
    fn settle(&mut self, early: bool) -> Option<Lost> {
        let mut singles = std::mem::take(&mut self.marked);
        let hosts = self.cluster.hosts();
        // Pairs that a change marked by itself; those of the singles come with them.
        let mut pairs: Vec<u32> = singles.extract_if(.., |plan| *plan >= hosts).collect();
        singles.sort_unstable();
        let mut found = None;
        let mut changed = Vec::new();
        for plan in &singles {
            let lost = Lost::one(*plan);
            changed.push((*plan, self.remake_single(lost, *plan)));
            found = self.book.uncovered().get(&lost).copied().filter(|_| early);
            if found.is_some() {
                break;
            }
        }
        if found.is_none() && self.tolerance == Tolerance::Two {
            self.find_pairs(&changed, &mut pairs);
            for plan in &pairs {
                found = self.remake_pair(*plan).filter(|_| early);
                if found.is_some() {
                    break;
                }
            }
        }
        if found.is_some() {
            self.marked = singles;
            self.marked.append(&mut pairs);
        }
        self.squeezed.clear();
        found
    }

    /// Says what came out differently, where pairs want to know.
    fn remake_single(&mut self, lost: Lost, position: u32) -> Vec<Change> {
        let steps = if self.cluster.counted(position) {
            self.plans_made += 1;
            self.cluster.steps(lost.positions(), &mut self.scratch)
        } else {
            Vec::new()
        };
        let before = self.book.replace(&self.cluster.ring, position, &steps);
        let Some(before) = before else { return Vec::new() };
        let changes = match self.tolerance {
            Tolerance::One => Vec::new(),
            Tolerance::Two => book::changes(&before, &steps),
        };
        if let Some(trial) = &mut self.trial {
            trial.undo.push(Undo::Replaced { plan: position, steps: before });
        }
        changes
    }

    fn keep(&mut self, plan: u32, steps: &[Step]) {
        let before = self.book.replace(&self.cluster.ring, plan, steps);
        if let (Some(trial), Some(steps)) = (&mut self.trial, before) {
            trial.undo.push(Undo::Replaced { plan, steps });
        }
    }

    /// Takes back a placement that was only asked about.
    fn withdraw(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        self.cluster.remove(trial.handle);
        for undo in trial.undo.into_iter().rev() {
            match undo {
                Undo::Replaced { plan, steps } => self.keep(plan, &steps),
                Undo::Added { lost } => self.discard_pair(lost),
                Undo::Discarded { lost, steps } => {
                    let plan = self.add_pair(lost);
                    self.keep(plan, &steps);
                }
            }
        }
        for plan in std::mem::take(&mut self.marked) {
            self.book.unmark(plan);
        }
        self.squeezed.clear();
    }

    /// Names what the loss leaves without a place. The plan is made again for it, because a pair
    /// keeps only a part of its own.
    fn shortfall(&mut self, lost: Lost) -> Shortfall {
        let steps = self.cluster.steps(lost.positions(), &mut self.scratch);
        let unplaced: Vec<Handle> =
            steps.iter().filter(|step| step.target == NOWHERE).map(|step| step.vm).collect();
        let first = *unplaced.first().expect("an uncovered loss has a VM without a place");
        let needs = |vm: Handle| self.cluster.known(vm).vm.demand;
        let slot = |position: &u32| self.cluster.ring.slot(*position);
        Shortfall::Loss {
            lost: lost.positions().iter().map(slot).collect(),
            vms: unplaced.len() as u32,
            missing: unplaced.iter().fold(Room::NONE, |sum, vm| sum.plus(needs(*vm))),
            vm: first,
            needs: needs(first),
        }
    }
}

/// What the plans cost so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    pub plans_made: u64,
    pub pairs_kept: usize,
    pub entries: usize,
}

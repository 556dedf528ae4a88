//! The restart plan: where the VMs of lost hosts go.
//!
//! VMs are taken in a fixed order: priority descending, memory and processor descending, hash,
//! handle. Each goes to the first host, in ring order from where its hash enters, that is not lost,
//! receives, is allowed to its class, has room left and breaks no anti-affinity group. Members on
//! lost hosts no longer count in their groups; members that the plan has placed do. Several lost
//! hosts are one loss: their VMs are merged into one order.
//!
//! Promises: a function of the [`Cluster`] alone; what it says does not depend on which plans were
//! made before, nor on the tree that it searches with (`tests::plain` is the same without it).
//! Does not: move VMs that run in order to make room, nor wait; a VM without a place is reported.

use std::collections::BTreeMap;

use super::cluster::{Cluster, Placed, Rank};
use super::ring::{Entry, NOWHERE};
use super::room::Room;
use super::{Handle, Slot};

/// What became of one VM in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) vm: Handle,
    /// Of the VM: a step for another under the same handle is another step.
    pub(super) birth: u32,
    /// The ring position that takes it, or [`NOWHERE`].
    pub(super) target: u32,
    /// Where it began to look.
    pub(super) entry: Entry,
    /// What the plan has put on the target so far, this VM included.
    pub(super) after: Room,
}

/// What a plan in the making has taken; kept between plans only for its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    pub(super) load: Vec<Room>,
    touched: Vec<u32>,
    /// By (group, bucket): members placed less members lost.
    counts: BTreeMap<(u32, u32), i64>,
}

impl Scratch {
    pub(super) fn clear(&mut self, hosts: u32) {
        self.load.resize(hosts as usize, Room::NONE);
        for position in self.touched.drain(..) {
            self.load[position as usize] = Room::NONE;
        }
        self.counts.clear();
    }

    /// Puts a load on a host; says what the host has then.
    pub(super) fn charge(&mut self, demand: Room, target: u32) -> Room {
        let load = &mut self.load[target as usize];
        *load = load.plus(demand);
        self.touched.push(target);
        *load
    }

    /// Counts a VM in, or out, of its groups' buckets at a host.
    pub(super) fn shift(&mut self, cluster: &Cluster, placed: &Placed, position: u32, by: i64) {
        for group in &placed.vm.groups {
            if let Some(bucket) = cluster.bucket(*group, position) {
                *self.counts.entry((*group, bucket)).or_default() += by;
            }
        }
    }
}

impl Cluster {
    /// The restart plan for the loss of `lost`: for each VM there, in the order of restart, the
    /// host that takes it, or nothing where no host can.
    #[must_use]
    pub fn restart_plan(&self, lost: &[Slot]) -> Vec<(Handle, Option<Slot>)> {
        let mut lost: Vec<u32> = lost.iter().map(|slot| self.ring.position(*slot)).collect();
        lost.sort_unstable();
        lost.dedup();
        let slot = |step: &Step| (step.target != NOWHERE).then(|| self.ring.slot(step.target));
        let steps = self.steps(&lost, &mut Scratch::default());
        steps.iter().map(|step| (step.vm, slot(step))).collect()
    }

    /// The same by ring positions, which must be distinct.
    pub(super) fn steps(&self, lost: &[u32], scratch: &mut Scratch) -> Vec<Step> {
        scratch.clear(self.hosts());
        let order = self.restart_order(lost);
        for rank in order.iter().filter(|_| lost.iter().any(|home| self.grouped(*home))) {
            let placed = self.known(rank.vm);
            scratch.shift(self, placed, placed.home, -1);
        }
        let mut steps = Vec::with_capacity(order.len());
        for Rank { vm, .. } in order {
            let placed = self.known(vm);
            let found = self.find(placed, lost, scratch);
            let after = found.map(|target| {
                scratch.shift(self, placed, target, 1);
                scratch.charge(placed.vm.demand, target)
            });
            steps.push(Step {
                vm,
                target: found.unwrap_or(NOWHERE),
                birth: placed.birth,
                entry: placed.entry,
                after: after.unwrap_or(Room::NONE),
            });
        }
        steps
    }

    /// The first host that takes a VM beside what the plan has placed.
    pub(super) fn find(&self, placed: &Placed, lost: &[u32], scratch: &Scratch) -> Option<u32> {
        let allowed = self.allowed(placed.vm.class);
        for (mut from, to) in self.ring.tried(placed.entry) {
            while let Some(position) = self.rooms.first(from, to, placed.vm.demand) {
                // Both the tree and the class know the next host that they do not refuse: leap to
                // the farther one until they agree.
                let next = allowed.map_or(position, |allowed| allowed.next(position));
                if next > position {
                    from = next;
                    continue;
                }
                if !lost.contains(&position) && self.takes(position, placed, scratch) {
                    return Some(position);
                }
                from = position + 1;
            }
        }
        None
    }

    fn takes(&self, position: u32, placed: &Placed, scratch: &Scratch) -> bool {
        let Some(free) = self.free(position) else { return false };
        free.covers(scratch.load[position as usize].plus(placed.vm.demand))
            && placed.vm.groups.iter().all(|group| {
                let Some(bucket) = self.bucket(*group, position) else { return false };
                let shift = scratch.counts.get(&(*group, bucket)).copied().unwrap_or(0);
                let known = self.group(*group);
                i64::from(known.count(bucket)) + shift < i64::from(known.limit)
            })
    }
}

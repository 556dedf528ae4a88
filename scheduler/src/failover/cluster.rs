//! Hosts, VMs, classes and groups, as far as restarts depend on them.
//!
//! Promises: room is always limit less what the VMs placed there ask for; the tree, the orders and
//! the counts agree with it after each change. Every change is undone exactly by its opposite.
//! Does not: remember plans (see `book`), nor refuse a placement that does not fit: what was
//! decided elsewhere is a fact here, and an overfull host simply has no room.

use std::cmp::Reverse;

use super::group::{Allowed, Group, Scope};
use super::ring::{Entry, Ring};
use super::room::{Room, Rooms};
use super::{Handle, Slot};

/// The class of VMs that may use every host.
pub const ANY_HOST: u32 = u32::MAX;

/// A host, as restarts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// What container VMs may take in all: capacity times overcommit, less reserves.
    pub limit: Room,
    /// Whether it may receive restarts (available, not drained).
    pub receives: bool,
    /// Whether its failure is to be tolerated.
    pub counted: bool,
    /// Whether restarts try it before ordinary hosts. Fixed for the life of a [`Cluster`].
    pub standby: bool,
}

/// A VM, as restarts see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    pub demand: Room,
    /// The larger, the earlier.
    pub priority: i16,
    /// A hash of its id, uniform over 64 bits: where its search for a host begins.
    pub hash: u64,
    /// Which hosts may take it: a class that was set, or [`ANY_HOST`].
    pub class: u32,
    /// Anti-affinity groups that were set; each named once.
    pub groups: Box<[u32]>,
}

#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) vm: Vm,
    /// The ring position of its host.
    pub(super) home: u32,
    pub(super) entry: Entry,
    /// Tells it from another that had the handle before, even if all else is the same.
    pub(super) birth: u32,
}

#[derive(Clone, Debug)]
struct HostState {
    host: Host,
    charged: Room,
    /// Ascending: the order in which they restart.
    vms: Vec<Rank>,
    /// How many of them have groups.
    grouped: u32,
}

/// The state that a restart plan is made from.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) ring: Ring,
    pub(super) rooms: Rooms,
    hosts: Vec<HostState>,
    vms: Vec<Option<Placed>>,
    births: u32,
    classes: Vec<Option<Allowed>>,
    scopes: Vec<Option<Scope>>,
    groups: Vec<Option<Group>>,
}

/// Decides who restarts first; the smallest does. Field order is the policy: priority, then size
/// (first fit wastes least when large ones go first), then hash and handle, so that it is total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    priority: Reverse<i16>,
    memory: Reverse<u64>,
    cpu: Reverse<u64>,
    hash: u64,
    pub(super) vm: Handle,
}

impl Rank {
    fn of(vm: Handle, placed: &Vm) -> Self {
        let Room { cpu, memory } = placed.demand;
        Self {
            priority: Reverse(placed.priority),
            memory: Reverse(memory),
            cpu: Reverse(cpu),
            hash: placed.hash,
            vm,
        }
    }

    pub(super) fn demand(&self) -> Room {
        Room { cpu: self.cpu.0, memory: self.memory.0 }
    }
}

impl Cluster {
    /// Hosts by slot, without VMs. Hosts that join or leave need a new cluster, because where a
    /// search begins depends on their number.
    #[must_use]
    pub fn new(hosts: &[Host]) -> Self {
        let standby: Vec<bool> = hosts.iter().map(|host| host.standby).collect();
        let ring = Ring::new(&standby);
        let mut cluster = Self {
            rooms: Rooms::new(hosts.len()),
            hosts: (0..ring.len())
                .map(|position| HostState {
                    host: hosts[ring.slot(position) as usize],
                    charged: Room::NONE,
                    vms: Vec::new(),
                    grouped: 0,
                })
                .collect(),
            ring,
            vms: Vec::new(),
            births: 0,
            classes: Vec::new(),
            scopes: Vec::new(),
            groups: Vec::new(),
        };
        for position in 0..cluster.ring.len() {
            cluster.refresh(position);
        }
        cluster
    }

    /// Says which hosts the VMs of a class may use; classes are small numbers.
    pub fn set_class(&mut self, class: u32, allowed: impl Fn(Slot) -> bool) {
        let allowed = Allowed::new(self.ring.len(), |position| allowed(self.ring.slot(position)));
        put(&mut self.classes, class, allowed);
    }

    /// Says how hosts fall into buckets. A host without a bucket takes no member of the groups of
    /// this scope. Scopes are small numbers, set before the groups that use them and only once.
    ///
    /// # Panics
    /// When the scope is set already.
    pub fn set_scope(&mut self, scope: u32, bucket: impl Fn(Slot) -> Option<u32>) {
        assert!(at(&self.scopes, scope).is_none(), "scope {scope} is set already");
        let buckets = (0..self.ring.len()).map(|position| bucket(self.ring.slot(position)));
        put(&mut self.scopes, scope, Scope::new(buckets.collect()));
    }

    /// Allows at most `limit` members of a group in one bucket of `scope`. Groups are small
    /// numbers, set before their first member; setting one again changes only its limit.
    ///
    /// # Panics
    /// When the scope is not set, or differs from the one that the group has.
    pub fn set_group(&mut self, group: u32, scope: u32, limit: u32) {
        assert!(at(&self.scopes, scope).is_some(), "scope {scope} is not set");
        match self.groups.get_mut(group as usize).and_then(Option::as_mut) {
            Some(known) => {
                assert_eq!(known.scope, scope, "group {group} has another scope");
                known.limit = limit;
            }
            None => put(&mut self.groups, group, Group::new(scope, limit)),
        }
    }

    /// Whether the group has been set.
    #[must_use]
    pub fn has_group(&self, group: u32) -> bool {
        at(&self.groups, group).is_some()
    }

    pub fn set_host(&mut self, slot: Slot, host: Host) {
        let position = self.ring.position(slot);
        let state = &mut self.hosts[position as usize];
        assert_eq!(state.host.standby, host.standby, "whether host {slot} is standby is fixed");
        state.host = host;
        self.refresh(position);
    }

    /// Records that a VM runs on a host.
    ///
    /// # Panics
    /// When the handle is in use, or the VM names a class or a group that is not set.
    pub fn place(&mut self, handle: Handle, vm: Vm, slot: Slot) {
        assert!(self.placed(handle).is_none(), "handle {handle} is in use");
        let known = vm.class == ANY_HOST || at(&self.classes, vm.class).is_some();
        assert!(known, "class {} is not set", vm.class);
        let home = self.ring.position(slot);
        for group in &vm.groups {
            let bucket = self.bucket(*group, home);
            if let Some(group) = self.groups[*group as usize].as_mut() {
                group.enter(handle, bucket);
            }
        }
        let entry = self.ring.entry(vm.hash);
        let rank = Rank::of(handle, &vm);
        let grouped = u32::from(!vm.groups.is_empty());
        self.births = self.births.wrapping_add(1);
        put(&mut self.vms, handle, Placed { vm, home, entry, birth: self.births });
        let at = self.seat(home, rank);
        let state = &mut self.hosts[home as usize];
        state.vms.insert(at, rank);
        state.charged = state.charged.plus(rank.demand());
        state.grouped += grouped;
        self.refresh(home);
    }

    /// Records that a VM is gone; says what it was and where. Nothing for a handle not in use.
    pub fn remove(&mut self, handle: Handle) -> Option<(Vm, Slot)> {
        let rank = Rank::of(handle, &self.placed(handle)?.vm);
        let home = self.placed(handle)?.home;
        let at = self.seat(home, rank);
        let Placed { vm, .. } = self.vms.get_mut(handle as usize)?.take()?;
        let state = &mut self.hosts[home as usize];
        state.vms.remove(at);
        state.charged = state.charged.less(vm.demand);
        state.grouped -= u32::from(!vm.groups.is_empty());
        self.refresh(home);
        for group in &vm.groups {
            let bucket = self.bucket(*group, home);
            if let Some(group) = self.groups[*group as usize].as_mut() {
                group.leave(handle, bucket);
            }
        }
        Some((vm, self.ring.slot(home)))
    }

    /// How many hosts there are.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        self.ring.len()
    }

    #[must_use]
    pub fn host(&self, slot: Slot) -> Host {
        self.hosts[self.ring.position(slot) as usize].host
    }

    pub(super) fn placed(&self, handle: Handle) -> Option<&Placed> {
        at(&self.vms, handle)
    }

    /// A VM of which the caller knows that it is placed.
    pub(super) fn known(&self, handle: Handle) -> &Placed {
        self.placed(handle).expect("plans and orders name only placed VMs")
    }

    pub(super) fn counted(&self, position: u32) -> bool {
        self.hosts[position as usize].host.counted
    }

    /// The room that restarts find on a host; nothing where it receives none.
    pub(super) fn free(&self, position: u32) -> Option<Room> {
        let state = &self.hosts[position as usize];
        state.host.receives.then(|| state.host.limit.less(state.charged))
    }

    pub(super) fn allowed(&self, class: u32) -> Option<&Allowed> {
        at(&self.classes, class)
    }

    pub(super) fn group(&self, group: u32) -> &Group {
        at(&self.groups, group).expect("VMs name only groups that are set")
    }

    pub(super) fn scope(&self, group: u32) -> &Scope {
        at(&self.scopes, self.group(group).scope).expect("groups name only scopes that are set")
    }

    pub(super) fn bucket(&self, group: u32, position: u32) -> Option<u32> {
        self.scope(group).bucket(position)
    }

    /// The VMs of one host, in the order in which they restart.
    pub(super) fn vms_of(&self, position: u32) -> &[Rank] {
        &self.hosts[position as usize].vms
    }

    /// Whether any VM of a host has groups.
    pub(super) fn grouped(&self, position: u32) -> bool {
        self.hosts[position as usize].grouped > 0
    }

    /// The VMs of several hosts, in the order in which they restart.
    pub(super) fn restart_order(&self, lost: &[u32]) -> Vec<Rank> {
        let ranks = lost.iter().flat_map(|position| self.vms_of(*position));
        let mut order: Vec<Rank> = ranks.copied().collect();
        if lost.len() > 1 {
            order.sort_unstable();
        }
        order
    }

    /// Every handle in use.
    pub(super) fn handles(&self) -> impl Iterator<Item = (Handle, &Placed)> {
        let numbered = self.vms.iter().enumerate();
        numbered.filter_map(|(handle, placed)| Some((handle as Handle, placed.as_ref()?)))
    }

    fn seat(&self, home: u32, new: Rank) -> usize {
        self.hosts[home as usize].vms.partition_point(|other| *other < new)
    }

    fn refresh(&mut self, position: u32) {
        let free = self.free(position).unwrap_or(Room::NONE);
        self.rooms.set(position, free);
    }
}

fn at<T>(list: &[Option<T>], number: u32) -> Option<&T> {
    list.get(number as usize)?.as_ref()
}

fn put<T>(list: &mut Vec<Option<T>>, number: u32, value: T) {
    let number = number as usize;
    if list.len() <= number {
        list.resize_with(number + 1, || None);
    }
    list[number] = Some(value);
}

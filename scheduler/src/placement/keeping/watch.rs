//! One cluster, in the dense numbers of the restart planner.

use super::Standing;
use super::subject::{Key, Newcomer};
use crate::failover::{
    ANY_HOST, Dedicated, Failover, Handle, Host as Seen, Room, Shortfall, Slot, SlotPolicy,
    SlotSize, Tolerance, Vm,
};
use crate::fleet::Fleet;
use crate::fleet::rules::{Bucket, GroupKey, host_matches};
use crate::placement::score::host_order;
use berth_model::cluster::{Admission, Cluster};
use berth_model::reservation::Victim;
use berth_model::{
    Bytes, DatastoreId, Host, HostId, HostState, MilliCpus, Refusal, RuleId, RuleKind, Scope,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is kept, by policy.
#[derive(Debug)]
enum Kept {
    Failures(Box<Failover>),
    Dedicated(Box<Dedicated>),
    Slots(SlotPolicy),
}

/// Which hosts may start a container VM again: all that differs is in here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    stores: Vec<DatastoreId>,
    host_labels: BTreeMap<String, String>,
    networks: BTreeSet<String>,
    /// Required rules on hosts that speak of it.
    rules: Vec<RuleId>,
}

#[derive(Debug)]
pub(super) struct Watch {
    kept: Kept,
    hosts: Vec<HostId>,
    slots: BTreeMap<HostId, Slot>,
    members: BTreeMap<Key, Member>,
    on_host: BTreeMap<HostId, BTreeSet<Key>>,
    /// What only takes room on a host.
    bound: BTreeMap<HostId, Room>,
    classes: BTreeMap<Class, u32>,
    scopes: BTreeMap<Scope, u32>,
    groups: BTreeMap<(GroupKey, u32), u32>,
    free: Vec<Handle>,
    next: Handle,
}

/// One that is counted.
#[derive(Clone, Copy, Debug)]
enum Member {
    Standing(Standing, Room),
    Bound(HostId, Room),
}

impl Watch {
    pub fn new(fleet: &Fleet, cluster: &Cluster) -> Watch {
        Self::with(fleet, cluster, &cluster.policy.admission)
    }

    /// For the plan alone, whatever the policy keeps.
    pub fn planning(fleet: &Fleet, cluster: &Cluster) -> Watch {
        let admission = match &cluster.policy.admission {
            kept @ Admission::FailoverHosts { .. } => kept.clone(),
            Admission::Off
            | Admission::HostFailures { .. }
            | Admission::Percentage { .. }
            | Admission::Slots { .. } => Admission::HostFailures { count: 1 },
        };
        Self::with(fleet, cluster, &admission)
    }

    fn with(fleet: &Fleet, cluster: &Cluster, admission: &Admission) -> Watch {
        let mut here: Vec<&Host> =
            fleet.hosts().filter(|host| host.cluster == cluster.id).collect();
        here.sort_by(|a, b| host_order(a).cmp(&host_order(b)));
        let seen: Vec<Seen> =
            here.iter().map(|host| as_seen(fleet, host, Room::default())).collect();
        let slots: BTreeMap<HostId, Slot> =
            here.iter().zip(0..).map(|(host, slot)| (host.id, slot)).collect();
        let kept = match admission {
            Admission::FailoverHosts { hosts } => {
                let kept = hosts.iter().filter_map(|id| slots.get(id).copied()).collect();
                Kept::Dedicated(Box::new(Dedicated::new(&seen, kept)))
            }
            Admission::Slots { cpu, memory, failures } => {
                let size = SlotSize::Fixed(Room { cpu: cpu.0, memory: memory.0 });
                Kept::Slots(SlotPolicy::new(size, u32::from(*failures)))
            }
            Admission::HostFailures { count: 2 } => {
                Kept::Failures(Box::new(Failover::new(&seen, Tolerance::Two)))
            }
            Admission::Off | Admission::Percentage { .. } | Admission::HostFailures { .. } => {
                Kept::Failures(Box::new(Failover::new(&seen, Tolerance::One)))
            }
        };
        let mut watch = Watch {
            kept,
            hosts: here.iter().map(|host| host.id).collect(),
            slots,
            members: BTreeMap::new(),
            on_host: BTreeMap::new(),
            bound: BTreeMap::new(),
            classes: BTreeMap::new(),
            scopes: BTreeMap::new(),
            groups: BTreeMap::new(),
            free: Vec::new(),
            next: 0,
        };
        for host in here {
            watch.follow(fleet, host);
        }
        watch
    }

    /// Takes over what is on the host in this fleet, tickets apart.
    pub fn follow(&mut self, fleet: &Fleet, host: &Host) {
        let (vms, held) = fleet.placed_on(host.id);
        let mut here: BTreeMap<Key, Newcomer<'_>> = BTreeMap::new();
        for vm in vms {
            if let Some(newcomer) = Newcomer::of_container(vm) {
                here.insert(Key::Placed(Victim::ContainerVm(vm.id)), newcomer);
            }
        }
        for held in held {
            let key = Key::Placed(Victim::Reservation(held.id));
            here.insert(key, Newcomer::of_reservation(held));
        }
        let known = self.on_host.get(&host.id).cloned().unwrap_or_default();
        for key in known {
            let stays = match key {
                Key::Ticket(_) => true,
                Key::Placed(_) => here.get(&key).is_some_and(|now| self.is_as(key, host.id, now)),
            };
            if !stays {
                self.leave(key);
            }
        }
        for (key, newcomer) in here {
            if !self.members.contains_key(&key) {
                self.take(fleet, host, key, &newcomer);
            }
        }
        self.set_host(fleet, host);
    }

    /// Whether the member is counted as it is now.
    fn is_as(&self, key: Key, host: HostId, now: &Newcomer<'_>) -> bool {
        match self.members.get(&key) {
            Some(Member::Standing(standing, room)) => {
                !now.bound && *room == now.room() && self.hosts[standing.slot as usize] == host
            }
            Some(Member::Bound(at, room)) => now.bound && *room == now.room() && *at == host,
            None => false,
        }
    }

    fn set_host(&mut self, fleet: &Fleet, host: &Host) {
        let Some(slot) = self.slots.get(&host.id).copied() else { return };
        let bound = self.bound.get(&host.id).copied().unwrap_or_default();
        let seen = as_seen(fleet, host, bound);
        match &mut self.kept {
            Kept::Failures(failover) => {
                if failover.cluster().host(slot) != seen {
                    failover.set_host(slot, seen);
                }
            }
            Kept::Dedicated(dedicated) => dedicated.set_host(slot, seen),
            Kept::Slots(policy) => policy.set_host(slot, seen.receives.then_some(seen.limit)),
        }
    }

    pub fn admit(
        &mut self,
        fleet: &Fleet,
        host: &Host,
        newcomer: &Newcomer<'_>,
    ) -> Result<(), Refusal> {
        let Some(slot) = self.slots.get(&host.id).copied() else { return Ok(()) };
        if newcomer.bound {
            return self.admit_bound(fleet, host, slot, newcomer.room());
        }
        let handle = self.free.last().copied().unwrap_or(self.next);
        let vm = self.vm(fleet, newcomer);
        let outcome = match &mut self.kept {
            Kept::Failures(failover) => failover.would_hold(handle, &vm, slot),
            Kept::Dedicated(dedicated) => dedicated.would_hold(handle, &vm, slot),
            Kept::Slots(policy) => policy.would_hold(vm.demand),
        };
        outcome.map_err(|shortfall| self.refusal(fleet, &shortfall))
    }

    /// What cannot be moved needs no place after a loss, and takes room that others counted on.
    fn admit_bound(
        &mut self,
        fleet: &Fleet,
        host: &Host,
        slot: Slot,
        room: Room,
    ) -> Result<(), Refusal> {
        let bound = self.bound.get(&host.id).copied().unwrap_or_default();
        let (now, then) = (as_seen(fleet, host, bound), as_seen(fleet, host, bound.plus(room)));
        let outcome = match &mut self.kept {
            Kept::Failures(failover) => {
                failover.set_host(slot, then);
                let outcome = failover.holds();
                failover.set_host(slot, now);
                outcome
            }
            Kept::Dedicated(dedicated) => dedicated.admits(slot).and_then(|()| {
                dedicated.set_host(slot, then);
                let outcome = dedicated.failover().holds();
                dedicated.set_host(slot, now);
                outcome
            }),
            Kept::Slots(policy) => policy.would_hold(room),
        };
        outcome.map_err(|shortfall| self.refusal(fleet, &shortfall))
    }

    pub fn take(&mut self, fleet: &Fleet, host: &Host, key: Key, newcomer: &Newcomer<'_>) {
        let Some(slot) = self.slots.get(&host.id).copied() else { return };
        let room = newcomer.room();
        let member = if newcomer.bound {
            let bound = self.bound.entry(host.id).or_default();
            *bound = bound.plus(room);
            self.set_host(fleet, host);
            Member::Bound(host.id, room)
        } else {
            let handle = self.free.pop().unwrap_or_else(|| {
                self.next += 1;
                self.next - 1
            });
            let vm = self.vm(fleet, newcomer);
            match &mut self.kept {
                Kept::Failures(failover) => failover.place(handle, vm, slot),
                Kept::Dedicated(dedicated) => dedicated.failover().place(handle, vm, slot),
                Kept::Slots(policy) => policy.place(room),
            }
            Member::Standing(Standing { handle, slot }, room)
        };
        self.members.insert(key, member);
        self.on_host.entry(host.id).or_default().insert(key);
    }

    /// A host that something bound has left is followed afterwards, which gives back its room.
    pub fn leave(&mut self, key: Key) {
        let Some(member) = self.members.remove(&key) else { return };
        let host = match member {
            Member::Bound(host, room) => {
                if let Some(bound) = self.bound.get_mut(&host) {
                    *bound = bound.less(room);
                }
                host
            }
            Member::Standing(Standing { handle, slot }, room) => {
                match &mut self.kept {
                    Kept::Failures(failover) => drop(failover.remove(handle)),
                    Kept::Dedicated(dedicated) => drop(dedicated.failover().remove(handle)),
                    Kept::Slots(policy) => policy.remove(room),
                }
                self.free.push(handle);
                self.hosts[slot as usize]
            }
        };
        if let Some(keys) = self.on_host.get_mut(&host) {
            keys.remove(&key);
        }
    }

    /// Who goes where after the loss of these hosts.
    pub fn restart_plan(&mut self, lost: &[HostId]) -> Vec<(Key, HostId, Option<HostId>)> {
        let slots: Vec<Slot> = lost.iter().filter_map(|id| self.slots.get(id).copied()).collect();
        let plan = match &mut self.kept {
            Kept::Failures(failover) => failover.restart_plan(&slots),
            Kept::Dedicated(dedicated) => dedicated.failover().restart_plan(&slots),
            Kept::Slots(_) => Vec::new(),
        };
        let standing = self.members.iter().filter_map(|(key, member)| match member {
            Member::Standing(standing, _) => {
                Some((standing.handle, (*key, self.hosts[standing.slot as usize])))
            }
            Member::Bound(..) => None,
        });
        let by_handle: BTreeMap<Handle, (Key, HostId)> = standing.collect();
        plan.into_iter()
            .filter_map(|(handle, target)| {
                let (key, from) = *by_handle.get(&handle)?;
                Some((key, from, target.map(|slot| self.hosts[slot as usize])))
            })
            .collect()
    }

    /// The newcomer in dense numbers; classes and groups that are new are set.
    fn vm(&mut self, fleet: &Fleet, newcomer: &Newcomer<'_>) -> Vm {
        let demand = newcomer.room();
        let priority = newcomer.demand.priority;
        let hash = newcomer.seed;
        if matches!(self.kept, Kept::Slots(_)) {
            return Vm { demand, priority, hash, class: ANY_HOST, groups: Box::new([]) };
        }
        let matched = fleet.matched(newcomer.endpoint, newcomer.labels);
        let mut groups = Vec::new();
        let mut rules = Vec::new();
        for spoken in matched.required.iter().filter(|spoken| spoken.subject) {
            match spoken.kind() {
                RuleKind::Hosts { .. } => rules.push(spoken.rule.id),
                RuleKind::Apart { scope, unless_same: None } => {
                    groups.extend(self.group(fleet, spoken.key(), scope, 1));
                }
                RuleKind::AtMost { scope, count } => {
                    groups.extend(self.group(fleet, spoken.key(), scope, *count));
                }
                RuleKind::Apart { unless_same: Some(_), .. }
                | RuleKind::Together { .. }
                | RuleKind::Spread { .. }
                | RuleKind::Near { .. }
                | RuleKind::Away { .. }
                | RuleKind::Datastores { .. } => {}
            }
        }
        let class = Class {
            stores: newcomer.stores(fleet),
            host_labels: newcomer.demand.host_labels.clone(),
            networks: newcomer.demand.networks.clone(),
            rules,
        };
        let class = self.class(fleet, class);
        Vm { demand, priority, hash, class, groups: groups.into() }
    }

    fn class(&mut self, fleet: &Fleet, class: Class) -> u32 {
        if class == Class::default() {
            return ANY_HOST;
        }
        if let Some(number) = self.classes.get(&class) {
            return *number;
        }
        let number = u32::try_from(self.classes.len()).expect("fewer classes than 2^32");
        let allowed: Vec<bool> = self.hosts.iter().map(|id| allows(fleet, *id, &class)).collect();
        let allowed = |slot: Slot| allowed.get(slot as usize).copied().unwrap_or(false);
        match &mut self.kept {
            Kept::Failures(failover) => failover.set_class(number, allowed),
            Kept::Dedicated(dedicated) => dedicated.failover().set_class(number, allowed),
            Kept::Slots(_) => {}
        }
        self.classes.insert(class, number);
        number
    }

    fn group(&mut self, fleet: &Fleet, key: GroupKey, scope: &Scope, limit: u32) -> Option<u32> {
        if matches!(scope, Scope::Datastore) {
            return None;
        }
        if let Some(number) = self.groups.get(&(key.clone(), limit)) {
            return Some(*number);
        }
        let scope_number = match self.scopes.get(scope) {
            Some(number) => *number,
            None => self.scope(fleet, scope),
        };
        let number = u32::try_from(self.groups.len()).expect("fewer groups than 2^32");
        match &mut self.kept {
            Kept::Failures(failover) => failover.set_group(number, scope_number, limit),
            Kept::Dedicated(dedicated) => {
                dedicated.failover().set_group(number, scope_number, limit);
            }
            Kept::Slots(_) => {}
        }
        self.groups.insert((key, limit), number);
        Some(number)
    }

    fn scope(&mut self, fleet: &Fleet, scope: &Scope) -> u32 {
        let number = u32::try_from(self.scopes.len()).expect("fewer scopes than 2^32");
        let mut numbers: BTreeMap<Bucket, u32> = BTreeMap::new();
        let bucket_of = |id: &HostId| {
            let bucket = fleet.host(*id).and_then(|host| fleet.bucket(host, scope))?;
            let next = u32::try_from(numbers.len()).expect("fewer buckets than hosts");
            Some(*numbers.entry(bucket).or_insert(next))
        };
        let buckets: Vec<Option<u32>> = self.hosts.iter().map(bucket_of).collect();
        let bucket = |slot: Slot| buckets.get(slot as usize).copied().flatten();
        match &mut self.kept {
            Kept::Failures(failover) => failover.set_scope(number, bucket),
            Kept::Dedicated(dedicated) => dedicated.failover().set_scope(number, bucket),
            Kept::Slots(_) => {}
        }
        self.scopes.insert(scope.clone(), number);
        number
    }

    /// The shortfall in names that people know.
    fn refusal(&self, fleet: &Fleet, shortfall: &Shortfall) -> Refusal {
        let id = |slot: &Slot| self.hosts.get(*slot as usize).copied();
        let name = |slot: &Slot| {
            let host = id(slot).and_then(|id| fleet.host(id));
            host.map_or(String::new(), |host| host.facts.name.clone())
        };
        match shortfall {
            Shortfall::Loss { lost, vms, missing, .. } => {
                let names: Vec<String> = lost.iter().map(name).collect();
                let (cpu, memory) = (MilliCpus(missing.cpu), Bytes(missing.memory));
                let kept = format!(
                    "room is kept for the loss of {}: {vms} of what runs there would have no \
                     place ({cpu}, {memory} of memory)",
                    names.join(" and ")
                );
                Refusal::FailoverShort { lost: lost.iter().filter_map(id).collect(), kept }
            }
            Shortfall::Slots { hosts, kept, total, used, .. } => Refusal::FailoverShort {
                lost: Vec::new(),
                kept: format!(
                    "{kept} of {total} slots are kept for the loss of the {hosts} largest hosts: \
                     {used} would be in use"
                ),
            },
            Shortfall::Percentage { kept_percent, .. } => Refusal::FailoverShort {
                lost: Vec::new(),
                kept: format!("{kept_percent} percent of the cluster is kept"),
            },
            Shortfall::Dedicated { .. } => Refusal::FailoverHost,
        }
    }
}

/// A host as restarts see it. What is bound there takes its room for good.
fn as_seen(fleet: &Fleet, host: &Host, bound: Room) -> Seen {
    let limit = fleet.limit_of_host(host);
    let connected = match host.state {
        HostState::Connected { .. } => true,
        HostState::Silent { .. } => false,
    };
    Seen {
        limit: Room { cpu: limit.cpu.0, memory: limit.memory.0 }.less(bound),
        receives: connected && !host.maintenance,
        counted: connected,
        standby: false,
    }
}

/// Whether the host may start again what is of this class.
fn allows(fleet: &Fleet, id: HostId, class: &Class) -> bool {
    let Some(host) = fleet.host(id) else { return false };
    let facts = &host.facts;
    let cluster = fleet.cluster(host.cluster).map_or("", |cluster| cluster.name.as_str());
    let kept = |id: &RuleId| match fleet.rule(*id).map(|rule| &rule.spec.kind) {
        Some(RuleKind::Hosts { within, not }) => host_matches(within, host, cluster) != *not,
        Some(
            RuleKind::Together { .. }
            | RuleKind::Apart { .. }
            | RuleKind::AtMost { .. }
            | RuleKind::Spread { .. }
            | RuleKind::Near { .. }
            | RuleKind::Away { .. }
            | RuleKind::Datastores { .. },
        )
        | None => true,
    };
    class.stores.iter().all(|store| facts.datastores.contains_key(store))
        && class.networks.iter().all(|network| facts.supply.networks.contains(network))
        && class.host_labels.iter().all(|(name, value)| facts.labels.get(name) == Some(value))
        && class.rules.iter().all(kept)
}

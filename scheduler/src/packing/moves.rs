//! The background packing plan: which container VMs to migrate so that hosts become empty.
//!
//! Hosts are emptied one by one, the one whose container VMs cost least to move first. Each of them
//! goes where the guide says that it wastes least among the hosts in use; where it fits nowhere, a
//! smaller one may be moved on to make room, and one for that, to the depth set. A host that cannot
//! be emptied whole is left as it was: half a plan costs and gains nothing.
//!
//! Promises: in the order given every move fits when it is made and is allowed; no container VM
//! moves twice; no host that was empty is filled; no more moves and memory than the budget;
//! deterministic.
//! Does not: move for balance, nor know why a move is refused later (it is planned again then).
//!
//! Sources: server consolidation by least-cost emptying (Beloglazov and Buyya, "Energy Efficient
//! Allocation of Virtual Machines in Cloud Data Centers", 2010); making room by ejection chains
//! (Glover, "Ejection Chains, Reference Structures and Alternating Path Methods", 1996).

use super::Settings;
use super::guide::Guide;
use super::rooms::Rooms;
use berth_model::{Bytes, Resources};
use std::cmp::Reverse;

/// One host. Rows are dense: a host is its place in the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// What may be charged to it, after overcommit and reserves.
    pub limit: Resources,
    /// What is charged to it by anything that is no row of the container VMs.
    pub held: Resources,
    /// Its container VMs may be moved away.
    pub may_give: bool,
    pub may_receive: bool,
}

/// One container VM on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmRow {
    pub host: usize,
    pub charge: Resources,
    /// What a live migration has to copy.
    pub memory: Bytes,
    pub movable: bool,
}

/// How much may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub moves: u32,
    /// Memory of all that is moved together.
    pub memory: Bytes,
}

/// One live migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub vm: usize,
    pub from: usize,
    pub to: usize,
    pub memory: Bytes,
}

/// Moves in the order in which they fit, and the hosts that are empty after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub moves: Vec<Move>,
    pub emptied: Vec<usize>,
}

/// Plans at most `budget`. `allowed(vm, host, at)` says whether rules let a container VM move there
/// while each container VM `v` is on host `at[v]`.
pub fn plan_moves(
    hosts: &[HostRow],
    vms: &[VmRow],
    budget: Budget,
    guide: &Guide,
    settings: &Settings,
    allowed: impl Fn(usize, usize, &[usize]) -> bool,
) -> Plan {
    let mut packer = Packer::new(hosts, vms, guide, settings, allowed);
    let mut plan = Plan::default();
    let mut left = budget;
    let mut failures = 0;
    let candidates = packer.candidates();
    packer.set_aside(&candidates);
    for (_, _, host) in candidates {
        if failures >= settings.tries || left.moves == 0 {
            break;
        }
        // Who received something since the order was made would have to move it again.
        if packer.touched[host] {
            continue;
        }
        let start = packer.journal.len();
        if packer.empty(host, left) {
            failures = 0;
            for made in &packer.journal[start..] {
                left.moves -= 1;
                left.memory -= made.memory;
            }
            plan.emptied.push(host);
        } else {
            failures += 1;
        }
    }
    plan.moves = packer.journal;
    plan
}

struct Packer<'a, A> {
    hosts: &'a [HostRow],
    vms: &'a [VmRow],
    guide: &'a Guide,
    settings: &'a Settings,
    allowed: A,
    rooms: Rooms,
    /// Hosts in use that may receive and are within their limit.
    receives: Vec<bool>,
    /// Where each container VM is after the moves so far.
    at: Vec<usize>,
    /// The container VMs on each host that have not moved: who came stays.
    on: Vec<Vec<usize>>,
    /// A host that took part in a plan already.
    touched: Vec<bool>,
    journal: Vec<Move>,
    /// Looks at places left for the emptying under way.
    looks: u32,
}

impl<'a, A: Fn(usize, usize, &[usize]) -> bool> Packer<'a, A> {
    fn new(
        hosts: &'a [HostRow],
        vms: &'a [VmRow],
        guide: &'a Guide,
        settings: &'a Settings,
        allowed: A,
    ) -> Self {
        let mut on = vec![Vec::new(); hosts.len()];
        let mut used: Vec<Resources> = hosts.iter().map(|host| host.held).collect();
        for (vm, row) in vms.iter().enumerate() {
            if let Some(host) = on.get_mut(row.host) {
                host.push(vm);
                used[row.host] = used[row.host] + row.charge;
            }
        }
        let rooms = Rooms::new(hosts.iter().enumerate().map(|(host, row)| {
            let free = Resources {
                cpu: row.limit.cpu.saturating_sub(used[host].cpu),
                memory: row.limit.memory.saturating_sub(used[host].memory),
            };
            let over = used[host].cpu > row.limit.cpu || used[host].memory > row.limit.memory;
            // Filling an empty host would undo what is wanted; one over its limit takes nothing.
            (free, row.may_receive && !over && used[host] != Resources::default())
        }));
        Packer {
            receives: (0..hosts.len()).map(|host| rooms.is_open(host)).collect(),
            hosts,
            vms,
            guide,
            settings,
            allowed,
            rooms,
            touched: vec![false; hosts.len()],
            at: vms.iter().map(|row| row.host).collect(),
            on,
            journal: Vec::new(),
            looks: 0,
        }
    }

    /// Hosts that could be emptied: (memory to move, moves, host), the cheapest first.
    fn candidates(&self) -> Vec<(u64, usize, usize)> {
        let mut candidates: Vec<(u64, usize, usize)> = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(host, row)| {
                row.may_give
                    && row.held == Resources::default()
                    && !self.on[*host].is_empty()
                    && self.on[*host].iter().all(|&vm| self.vms[vm].movable)
            })
            .map(|(host, _)| {
                let memory: Bytes = self.on[host].iter().map(|&vm| self.vms[vm].memory).sum();
                (memory.0, self.on[host].len(), host)
            })
            .collect();
        candidates.sort_unstable();
        candidates
    }

    /// Closes as many of the cheapest hosts as could be emptied if all idle room were good for
    /// something: a host that is to be emptied soon is no place to move to.
    fn set_aside(&mut self, candidates: &[(u64, usize, usize)]) {
        let (mut idle, mut whole, mut open) = (Rooming::default(), Rooming::default(), 0_u64);
        for (host, row) in self.hosts.iter().enumerate() {
            if self.rooms.is_open(host) {
                idle.add(self.guide, self.rooms.free(host));
                whole.add(self.guide, row.limit);
                open += 1;
            }
        }
        let hosts = idle.share_of(whole).saturating_mul(u128::from(open)) / 1_000_000;
        let hosts = usize::try_from(hosts).unwrap_or(usize::MAX);
        for (_, _, host) in candidates.iter().take(hosts) {
            self.rooms.close(*host);
        }
    }

    /// Moves everything off `host`, or nothing; then it may receive again.
    fn empty(&mut self, host: usize, budget: Budget) -> bool {
        let start = self.journal.len();
        self.rooms.close(host);
        self.looks = self.settings.looks;
        let mut vms = self.on[host].clone();
        vms.sort_by_key(|&vm| (Reverse(self.bulk(self.vms[vm].charge, host)), vm));
        for vm in vms {
            let settled = self.settle(vm, self.settings.chain);
            let made = &self.journal[start..];
            let memory: Bytes = made.iter().map(|made| made.memory).sum();
            let within = made.len() <= budget.moves as usize && memory <= budget.memory;
            if !settled || !within {
                self.undo(start);
                if self.receives[host] {
                    self.rooms.open(host);
                }
                return false;
            }
        }
        for made in &self.journal[start..] {
            self.touched[made.to] = true;
            self.touched[made.from] = true;
        }
        true
    }

    /// How much of `host` a charge takes, in millionths of its fuller dimension.
    fn bulk(&self, charge: Resources, host: usize) -> u128 {
        let limit = self.hosts[host].limit;
        let share = |part: u64, whole: u64| u128::from(part) * 1_000_000 / u128::from(whole.max(1));
        share(charge.cpu.0, limit.cpu.0).max(share(charge.memory.0, limit.memory.0))
    }

    /// Finds a new host for `vm`, where need be by moving up to `chain` smaller ones on.
    fn settle(&mut self, vm: usize, chain: u32) -> bool {
        let from = self.vms[vm].host;
        let charge = self.vms[vm].charge;
        let (allowed, at) = (&self.allowed, &self.at);
        let to = self.rooms.best(self.guide, charge, |host| host != from && allowed(vm, host, at));
        if let Some(to) = to {
            self.make(vm, to);
            return true;
        }
        if chain == 0 {
            return false;
        }
        for to in self.rooms.nearly(charge, self.settings.neighbours as usize) {
            if to == from || !(self.allowed)(vm, to, &self.at) {
                continue;
            }
            for other in self.who_makes_room(to, charge) {
                if self.looks == 0 {
                    return false;
                }
                self.looks -= 1;
                let start = self.journal.len();
                // While the smaller one looks for a place, its host is none for anybody else.
                self.rooms.close(to);
                let settled = self.settle(other, chain - 1);
                self.rooms.open(to);
                // Asked again: whoever made room may have changed what the rules say.
                if settled && (self.allowed)(vm, to, &self.at) {
                    self.make(vm, to);
                    return true;
                }
                self.undo(start);
            }
        }
        false
    }

    /// Container VMs of `host` that would leave enough room for `charge` and are smaller, the
    /// cheapest to move first.
    fn who_makes_room(&self, host: usize, charge: Resources) -> Vec<usize> {
        let free = self.rooms.free(host);
        let bulk = self.bulk(charge, host);
        if !self.hosts[host].may_give {
            return Vec::new();
        }
        let mut fit: Vec<usize> = self.on[host]
            .iter()
            .copied()
            .filter(|&vm| {
                let row = &self.vms[vm];
                let room = free + row.charge;
                row.movable
                    && room.cpu >= charge.cpu
                    && room.memory >= charge.memory
                    && self.bulk(row.charge, host) < bulk
            })
            .collect();
        fit.sort_by_key(|&vm| (self.vms[vm].memory, vm));
        fit.dedup_by_key(|vm| (self.vms[*vm].memory, key(self.vms[*vm].charge)));
        fit
    }

    fn make(&mut self, vm: usize, to: usize) {
        let row = &self.vms[vm];
        self.on[row.host].retain(|other| *other != vm);
        self.rooms.give(row.host, row.charge);
        self.rooms.take(to, row.charge);
        self.at[vm] = to;
        self.journal.push(Move { vm, from: row.host, to, memory: row.memory });
    }

    /// Takes back all moves from `start` on.
    fn undo(&mut self, start: usize) {
        while self.journal.len() > start {
            let Some(made) = self.journal.pop() else { return };
            let row = &self.vms[made.vm];
            self.rooms.give(made.to, row.charge);
            self.rooms.take(made.from, row.charge);
            self.at[made.vm] = made.from;
            self.on[made.from].push(made.vm);
        }
    }
}

/// Sums of room, by worth and by volume.
#[derive(Clone, Copy, Debug, Default)]
struct Rooming {
    worth: u128,
    cpu: u128,
    memory: u128,
}

impl Rooming {
    fn add(&mut self, guide: &Guide, room: Resources) {
        self.worth += u128::from(guide.worth(room));
        self.cpu += u128::from(room.cpu.0);
        self.memory += u128::from(room.memory.0);
    }

    /// In millionths, of the scarcest of what can be told.
    fn share_of(self, whole: Rooming) -> u128 {
        let share = |part: u128, whole: u128| (part * 1_000_000).checked_div(whole);
        [(self.worth, whole.worth), (self.cpu, whole.cpu), (self.memory, whole.memory)]
            .into_iter()
            .filter_map(|(part, whole)| share(part, whole))
            .min()
            .unwrap_or(0)
    }
}

fn key(charge: Resources) -> (u64, u64) {
    (charge.cpu.0, charge.memory.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::MilliCpus;
    use proptest::prelude::*;

    fn shape(cpu: u64, memory: u64) -> Resources {
        Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) }
    }

    fn host(cpu: u64, memory: u64) -> HostRow {
        HostRow {
            limit: shape(cpu, memory),
            held: Resources::default(),
            may_give: true,
            may_receive: true,
        }
    }

    fn vm(host: usize, cpu: u64, memory: u64) -> VmRow {
        VmRow { host, charge: shape(cpu, memory), memory: Bytes(memory), movable: true }
    }

    const PLENTY: Budget = Budget { moves: 1_000, memory: Bytes(u64::MAX) };

    fn plan(hosts: &[HostRow], vms: &[VmRow], budget: Budget) -> Plan {
        let guide = Guide::best_fit();
        plan_moves(hosts, vms, budget, &guide, &Settings::default(), |_, _, _| true)
    }

    #[test]
    fn the_host_that_is_cheapest_to_empty_is_emptied() {
        let hosts = [host(10, 10); 3];
        let vms = [vm(0, 5, 5), vm(1, 2, 2), vm(2, 8, 8)];
        let plan = plan(&hosts, &vms, PLENTY);
        assert_eq!(plan.moves, [Move { vm: 1, from: 1, to: 2, memory: Bytes(2) }]);
        assert_eq!(plan.emptied, [1]);
    }

    #[test]
    fn a_smaller_one_makes_room_and_moves_first() {
        // Five fits nowhere until two has left the second host for the third.
        let hosts = [host(10, 10); 3];
        let vms = [vm(0, 5, 5), vm(1, 4, 4), vm(1, 2, 2), vm(2, 8, 8)];
        let plan = plan(&hosts, &vms, PLENTY);
        let order: Vec<_> = plan.moves.iter().map(|made| (made.vm, made.to)).collect();
        assert_eq!(order, [(2, 2), (0, 1)]);
        assert_eq!(plan.emptied, [0]);
    }

    #[test]
    fn half_a_host_is_not_emptied() {
        let hosts = [host(10, 10); 2];
        let vms = [vm(0, 3, 3), vm(0, 3, 3), vm(1, 6, 6)];
        assert_eq!(plan(&hosts, &vms, Budget { moves: 1, memory: Bytes(100) }), Plan::default());
        assert_eq!(plan(&hosts, &vms, Budget { moves: 9, memory: Bytes(5) }), Plan::default());
    }

    #[test]
    fn what_cannot_move_keeps_its_host() {
        let hosts = [host(10, 10); 2];
        let vms = [VmRow { movable: false, ..vm(0, 1, 1) }, vm(1, 5, 5)];
        let plan = plan(&hosts, &vms, PLENTY);
        assert_eq!(plan.emptied, [1]);
    }

    fn fleet() -> impl Strategy<Value = (Vec<HostRow>, Vec<VmRow>, Vec<bool>)> {
        let hosts = prop::collection::vec(
            (4_u64..20, 4_u64..20, 0_u64..3, any::<bool>(), prop::bool::weighted(0.9)),
            1..8,
        );
        let vms = prop::collection::vec((any::<usize>(), 0_u64..6, 0_u64..6, 0_u8..10), 0..30);
        (hosts, vms, prop::collection::vec(prop::bool::weighted(0.8), 240)).prop_map(
            |(hosts, wishes, rules)| {
                let hosts: Vec<HostRow> = hosts
                    .into_iter()
                    .map(|(cpu, memory, held, give, receive)| HostRow {
                        limit: shape(cpu, memory),
                        held: shape(held / 2, held / 2),
                        may_give: give,
                        may_receive: receive,
                    })
                    .collect();
                let mut free: Vec<Resources> = hosts.iter().map(|h| h.limit - h.held).collect();
                let mut vms = Vec::new();
                for (at, cpu, memory, movable) in wishes {
                    let at = at % hosts.len();
                    if cpu <= free[at].cpu.0 && memory <= free[at].memory.0 {
                        free[at] = free[at] - shape(cpu, memory);
                        vms.push(VmRow { movable: movable > 0, ..vm(at, cpu, memory) });
                    }
                }
                (hosts, vms, rules)
            },
        )
    }

    proptest! {
        #[test]
        fn every_move_fits_and_is_allowed_when_it_is_made(
            (hosts, vms, rules) in fleet(), moves in 0_u32..12, memory in 0_u64..60
        ) {
            // Besides fixed rules, every fifth container VM keeps to itself.
            let allowed = |vm: usize, host: usize, at: &[usize]| {
                let lone = |vm: usize| vm.is_multiple_of(5);
            let apart = |other: usize| lone(vm) && lone(other) && other != vm;
                let meets = (0..at.len()).any(|other| apart(other) && at[other] == host);
                rules[vm * 8 + host] && !meets
            };
            let budget = Budget { moves, memory: Bytes(memory) };
            let mix: Vec<_> = vms.iter().map(|vm| (vm.charge, 1)).collect();
            let sizes: Vec<_> = hosts.iter().map(|host| (host.limit, 1)).collect();
            let guide = Guide::learn(&sizes, &mix);
            let settings = Settings::default();
            let plan = plan_moves(&hosts, &vms, budget, &guide, &settings, allowed);
            let again = plan_moves(&hosts, &vms, budget, &guide, &settings, allowed);
            prop_assert_eq!(&plan, &again);
            let start: Vec<usize> = vms.iter().map(|vm| vm.host).collect();
            let mut at = start.clone();
            let used = |at: &[usize], host: usize| {
                let mut used = hosts[host].held;
                for (vm, row) in vms.iter().enumerate() {
                    if at[vm] == host {
                        used = used + row.charge;
                    }
                }
                used
            };
            let mut moved = std::collections::BTreeSet::new();
            let mut copied = Bytes::ZERO;
            for step in &plan.moves {
                prop_assert_eq!(at[step.vm], step.from);
                prop_assert!(step.from != step.to && allowed(step.vm, step.to, &at));
                prop_assert!(vms[step.vm].movable && hosts[step.from].may_give);
                prop_assert!(hosts[step.to].may_receive);
                prop_assert!(moved.insert(step.vm), "moved twice");
                prop_assert!(used(&start, step.to) != Resources::default(), "filled an empty host");
                at[step.vm] = step.to;
                copied += step.memory;
                let after = used(&at, step.to);
                prop_assert!(after.cpu <= hosts[step.to].limit.cpu);
                prop_assert!(after.memory <= hosts[step.to].limit.memory);
            }
            prop_assert!(plan.moves.len() <= moves as usize && copied <= budget.memory);
            for host in &plan.emptied {
                prop_assert!(!at.contains(host));
            }
            let in_use = |at: &[usize]| {
                let held = |host: usize| hosts[host].held != Resources::default();
                (0..hosts.len()).filter(|host| held(*host) || at.contains(host)).count()
            };
            let before = in_use(&start);
            let after = in_use(&at);
            prop_assert_eq!(before - after, plan.emptied.len());
        }
    }
}

//! Where everything is while a plan is made, with the sums that make a move's gain cheap.
//!
//! Promises: after any sequence of moves all sums are what they would be if computed anew (loads
//! are kept exactly, shares follow from them); a move costs constant time. Does not: choose.
//!
//! With s the shares of n hosts, n times their standard deviation is sqrt(n Σs² − (Σs)²). Both sums
//! follow a move in constant time, so neither judging nor making one looks at other hosts.

use super::rows::{HostRow, Imbalance, VmRow};
use berth_model::{Bytes, Resources};

/// One in the unit of shares.
pub const ONE: u64 = 1_000_000;

/// Sums over the hosts of one dimension's shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub shares: u64,
    squares: u128,
}

impl Sums {
    fn add(&mut self, share: u64) {
        self.shares += share;
        self.squares += u128::from(share) * u128::from(share);
    }

    fn remove(&mut self, share: u64) {
        self.shares -= share;
        self.squares -= u128::from(share) * u128::from(share);
    }

    /// The standard deviation times the number of hosts, in millionths.
    pub fn spread(&self, hosts: u64) -> u64 {
        let shares = u128::from(self.shares);
        let deviation = (u128::from(hosts) * self.squares).saturating_sub(shares * shares);
        u64::try_from(deviation.isqrt()).unwrap_or(u64::MAX)
    }
}

/// Shares of one host's cpu and memory that are in use, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub cpu: u64,
    pub memory: u64,
}

impl Shares {
    pub fn of(load: Resources, size: Resources) -> Shares {
        Shares { cpu: share(load.cpu.0, size.cpu.0), memory: share(load.memory.0, size.memory.0) }
    }
}

/// The size of a host turned round, so that shares of it cost a multiplication. They are a little
/// below the exact ones: good for ranking, where one and the same function ranks all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole {
    cpu: u64,
    memory: u64,
}

/// Fixed point of [`Whole`]: a size of one still fits.
const WHOLE_BITS: u32 = 43;

impl Whole {
    fn of(size: Resources) -> Whole {
        let one = |whole: u64| (ONE << WHOLE_BITS) / whole.max(1);
        Whole { cpu: one(size.cpu.0), memory: one(size.memory.0) }
    }

    pub fn shares(self, load: Resources) -> Shares {
        let share = |part: u64, whole: u64| {
            let share = (u128::from(part) * u128::from(whole)) >> WHOLE_BITS;
            u64::try_from(share).unwrap_or(u64::MAX).min(1_000 * ONE)
        };
        Shares { cpu: share(load.cpu.0, self.cpu), memory: share(load.memory.0, self.memory) }
    }
}

/// `part` of `whole`. Nobody uses a thousand times what there is: the cap keeps sums small.
fn share(part: u64, whole: u64) -> u64 {
    if part == 0 {
        return 0;
    }
    let share = u128::from(part) * u128::from(ONE) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).min(1_000 * ONE)
}

/// Positions, loads and charges.
#[derive(Clone, Debug)]
pub struct State<'a> {
    pub hosts: &'a [HostRow],
    pub vms: &'a [VmRow],
    /// Where each container VM is.
    pub at: Vec<usize>,
    /// Which container VMs each host has.
    pub on: Vec<Vec<usize>>,
    pub shares: Vec<Shares>,
    pub wholes: Vec<Whole>,
    pub cpu: Sums,
    pub memory: Sums,
    loads: Vec<Resources>,
    charges: Vec<Resources>,
}

impl<'a> State<'a> {
    /// Container VMs on a host that is not listed take part in nothing.
    pub fn new(hosts: &'a [HostRow], vms: &'a [VmRow]) -> State<'a> {
        let mut state = State {
            hosts,
            vms,
            at: vms.iter().map(|vm| vm.host).collect(),
            on: vec![Vec::new(); hosts.len()],
            shares: vec![Shares::default(); hosts.len()],
            wholes: hosts.iter().map(|host| Whole::of(host.size)).collect(),
            cpu: Sums::default(),
            memory: Sums::default(),
            loads: hosts.iter().map(|host| host.held_load).collect(),
            charges: hosts.iter().map(|host| host.held_charge).collect(),
        };
        for (vm, row) in vms.iter().enumerate() {
            if row.host < hosts.len() {
                state.on[row.host].push(vm);
                state.loads[row.host] = state.loads[row.host] + row.load;
                state.charges[row.host] = state.charges[row.host] + row.charge;
            }
        }
        for (host, row) in hosts.iter().enumerate() {
            let shares = Shares::of(state.loads[host], row.size);
            state.shares[host] = shares;
            state.cpu.add(shares.cpu);
            state.memory.add(shares.memory);
        }
        state
    }

    pub fn count(&self) -> u64 {
        self.hosts.len() as u64
    }

    /// Imbalance times the number of hosts: what plans bring down.
    pub fn spread(&self) -> u64 {
        self.cpu.spread(self.count()) + self.memory.spread(self.count())
    }

    pub fn imbalance(&self) -> Imbalance {
        let hosts = self.count().max(1);
        Imbalance {
            cpu: self.cpu.spread(self.count()) / hosts,
            memory: self.memory.spread(self.count()) / hosts,
        }
    }

    /// Whether rows allow the move, its load apart: flags and capacity.
    pub fn may_move(&self, vm: usize, to: usize) -> bool {
        let (row, from) = (&self.vms[vm], self.at[vm]);
        row.movable && from != to && self.hosts[to].may_receive && self.fits(vm, to)
    }

    pub fn may_leave(&self, vm: usize) -> bool {
        let row = &self.vms[vm];
        row.movable && self.hosts.get(row.host).is_some_and(|host| host.may_give)
    }

    /// Whether `to` has room for one more.
    pub fn fits(&self, vm: usize, to: usize) -> bool {
        let after = self.charges[to] + self.vms[vm].charge;
        let limit = self.hosts[to].limit;
        after.cpu <= limit.cpu && after.memory <= limit.memory
    }

    /// Whether no more is charged than may be.
    pub fn is_within(&self, host: usize) -> bool {
        let (charged, limit) = (self.charges[host], self.hosts[host].limit);
        charged.cpu <= limit.cpu && charged.memory <= limit.memory
    }

    /// Puts `vm` onto `to`, whatever is charged there.
    pub fn shift(&mut self, vm: usize, to: usize) {
        let from = self.at[vm];
        if from == to {
            return;
        }
        let row = &self.vms[vm];
        self.on[from].retain(|other| *other != vm);
        self.on[to].push(vm);
        self.at[vm] = to;
        self.charges[from] = without(self.charges[from], row.charge);
        self.charges[to] = self.charges[to] + row.charge;
        let (left, came) = (without(self.loads[from], row.load), self.loads[to] + row.load);
        self.set_load(from, left);
        self.set_load(to, came);
    }

    /// The spread as it would be with `vm` on `to`.
    pub fn spread_after(&self, vm: usize, to: usize) -> u64 {
        let (from, load) = (self.at[vm], self.vms[vm].load);
        let left = Shares::of(without(self.loads[from], load), self.hosts[from].size);
        let came = Shares::of(self.loads[to] + load, self.hosts[to].size);
        let (mut cpu, mut memory) = (self.cpu, self.memory);
        for (host, shares) in [(from, left), (to, came)] {
            cpu.remove(self.shares[host].cpu);
            memory.remove(self.shares[host].memory);
            cpu.add(shares.cpu);
            memory.add(shares.memory);
        }
        cpu.spread(self.count()) + memory.spread(self.count())
    }

    fn set_load(&mut self, host: usize, load: Resources) {
        let shares = Shares::of(load, self.hosts[host].size);
        self.cpu.remove(self.shares[host].cpu);
        self.memory.remove(self.shares[host].memory);
        self.cpu.add(shares.cpu);
        self.memory.add(shares.memory);
        self.shares[host] = shares;
        self.loads[host] = load;
    }
}

/// What is left of a sum; sums of absurd loads stop at the largest number instead of panicking.
fn without(sum: Resources, part: Resources) -> Resources {
    Resources {
        cpu: sum.cpu.saturating_sub(part.cpu),
        memory: sum.memory.saturating_sub(part.memory),
    }
}

/// What moving `memory` has to gain, in host-millionths.
pub fn cost(memory: Bytes, per_move: u32, per_gib: u32) -> u64 {
    let mib = u128::from(memory.as_mib());
    let copying = mib * u128::from(per_gib) / 1024;
    u64::from(per_move).saturating_add(u64::try_from(copying).unwrap_or(u64::MAX))
}

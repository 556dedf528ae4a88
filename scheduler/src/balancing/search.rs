//! The single move that gains most.
//!
//! Promises: of all legal moves the one whose gain, less its cost, is largest by the estimate, and
//! that is worth its cost exactly; None only if no such move is. Ties go to the lowest container
//! VM, then the lowest host. Does not: look two moves ahead.
//!
//! With deviations x and y from the mean of the host that gives a share a and the one that receives
//! b, the sum of squares changes by a² − 2ax + b² + 2by, and the standard deviation, to first
//! order, by that over twice itself. This estimate ranks. It is bounded twice before all hosts are
//! looked at: by a target as idle in each dimension as the idlest host there, and by the hosts that
//! no other one undercuts in both dimensions, of which there are few. Branch and bound, best bound
//! first, then leaves a handful of container VMs of thousands.

use super::settings::Settings;
use super::state::{Shares, State, Whole, cost};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A move that was found worth making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub vm: usize,
    pub to: usize,
}

/// What stays the same while one plan is made.
pub struct Search<'a> {
    settings: &'a Settings,
    /// Hosts that may receive, by size, so that what a load is there is computed once for each.
    kinds: Vec<(Whole, Vec<usize>)>,
    costs: Vec<u64>,
}

/// Fixed point of the weights.
const WEIGHT_BITS: u32 = 32;

/// How the dimensions weigh at the moment: the derivative of the spread by the sum of squares.
pub struct Weights {
    cpu: i128,
    memory: i128,
    mean: (i64, i64),
}

impl Weights {
    pub fn of(state: &State<'_>) -> Weights {
        let hosts = state.count().max(1);
        let weight =
            |spread: u64| (i128::from(hosts) << WEIGHT_BITS) / i128::from(2 * spread.max(1));
        Weights {
            cpu: weight(state.cpu.spread(hosts)),
            memory: weight(state.memory.spread(hosts)),
            mean: ((state.cpu.shares / hosts) as i64, (state.memory.shares / hosts) as i64),
        }
    }

    /// What the spread gains when `host` takes `came` for `left`, before it follows from a change
    /// of the mean; times 2^32.
    pub fn swapping(&self, host: Shares, left: Shares, came: Shares) -> i128 {
        let cpu = swaps(host.cpu, left.cpu, came.cpu, self.mean.0);
        let memory = swaps(host.memory, left.memory, came.memory, self.mean.1);
        self.cpu * i128::from(cpu) + self.memory * i128::from(memory)
    }

    /// What the spread loses when a host at `x` gives `a`.
    fn giving(&self, x: Shares, a: Shares) -> i128 {
        let cpu = gives(x.cpu, a.cpu, self.mean.0);
        let memory = gives(x.memory, a.memory, self.mean.1);
        self.cpu * i128::from(cpu) + self.memory * i128::from(memory)
    }

    /// What the spread gains when a host at `y` receives `b`.
    fn receiving(&self, y: Shares, b: Shares) -> i128 {
        let cpu = receives(y.cpu, b.cpu, self.mean.0);
        let memory = receives(y.memory, b.memory, self.mean.1);
        self.cpu * i128::from(cpu) + self.memory * i128::from(memory)
    }
}

fn gives(x: u64, a: u64, mean: i64) -> i64 {
    let (x, a) = (x as i64 - mean, a as i64);
    a.saturating_mul(2 * x - a)
}

fn receives(y: u64, b: u64, mean: i64) -> i64 {
    let (y, b) = (y as i64 - mean, b as i64);
    b.saturating_mul(2 * y + b)
}

fn swaps(x: u64, left: u64, came: u64, mean: i64) -> i64 {
    let (x, change) = (x as i64 - mean, came as i64 - left as i64);
    change.saturating_mul(2 * x + change)
}

impl<'a> Search<'a> {
    pub fn new(state: &State<'_>, settings: &'a Settings) -> Search<'a> {
        let costs = state
            .vms
            .iter()
            .map(|vm| cost(vm.memory, settings.cost_per_move, settings.cost_per_gib))
            .collect();
        Search { settings, kinds: kinds(state), costs }
    }

    pub fn cost(&self, vm: usize) -> u64 {
        self.costs[vm]
    }

    pub fn settings(&self) -> &Settings {
        self.settings
    }

    /// The best move that is worth its cost. `allowed` is asked last and about few.
    pub fn best(
        &self,
        state: &State<'_>,
        allowed: &impl Fn(usize, usize, &[usize]) -> bool,
    ) -> Option<Found> {
        let weights = Weights::of(state);
        let idlest: Vec<[Shares; 1]> =
            self.kinds.iter().map(|(_, hosts)| [idlest(state, hosts)]).collect();
        let skylines: Vec<Vec<Shares>> =
            self.kinds.iter().map(|(_, hosts)| skyline(state, hosts)).collect();
        let bounds: Vec<(i128, Reverse<usize>)> = (0..state.vms.len())
            .filter(|&vm| state.may_leave(vm) && state.hosts[state.at[vm]].may_give)
            .filter_map(|vm| Some((self.bound(state, &weights, &idlest, vm)?, Reverse(vm))))
            .filter(|(bound, _)| *bound > 0)
            .collect();
        // A heap, since only the first few are ever looked at.
        let mut order = BinaryHeap::from(bounds);
        let now = state.spread();
        let mut best: Option<(i128, Found)> = None;
        while let Some((bound, Reverse(vm))) = order.pop() {
            let most = best.map_or(0, |(most, _)| most);
            if bound <= most {
                break;
            }
            if self.bound(state, &weights, &skylines, vm).is_none_or(|bound| bound <= most) {
                continue;
            }
            self.target(state, &weights, vm, now, allowed, &mut best);
        }
        best.map(|(_, found)| found)
    }

    /// The most that moving `vm` could be worth if it may go to any of `targets`, which are given
    /// for each kind of host.
    fn bound<T: AsRef<[Shares]>>(
        &self,
        state: &State<'_>,
        weights: &Weights,
        targets: &[T],
        vm: usize,
    ) -> Option<i128> {
        let (from, load) = (state.at[vm], state.vms[vm].load);
        let given = weights.giving(state.shares[from], state.wholes[from].shares(load));
        let received = self
            .kinds
            .iter()
            .zip(targets)
            .filter_map(|((whole, _), targets)| {
                let share = whole.shares(load);
                targets.as_ref().iter().map(|target| weights.receiving(*target, share)).min()
            })
            .min()?;
        Some(given - received - self.weighted_cost(vm))
    }

    fn weighted_cost(&self, vm: usize) -> i128 {
        i128::from(self.costs[vm]) << WEIGHT_BITS
    }

    /// Takes the best target of `vm` into `best` if it beats what is there.
    fn target(
        &self,
        state: &State<'_>,
        weights: &Weights,
        vm: usize,
        now: u64,
        allowed: &impl Fn(usize, usize, &[usize]) -> bool,
        best: &mut Option<(i128, Found)>,
    ) {
        let (from, load) = (state.at[vm], state.vms[vm].load);
        let given = weights.giving(state.shares[from], state.wholes[from].shares(load));
        let base = given - self.weighted_cost(vm);
        for (whole, hosts) in &self.kinds {
            let share = whole.shares(load);
            for &to in hosts {
                let worth = base - weights.receiving(state.shares[to], share);
                let least = best.map_or(0, |(most, _)| most);
                if worth <= least || to == from || !state.fits(vm, to) {
                    continue;
                }
                if self.is_worth(state, vm, to, now) && allowed(vm, to, &state.at) {
                    *best = Some((worth, Found { vm, to }));
                }
            }
        }
    }

    /// Exactly, where the estimate only ranks.
    fn is_worth(&self, state: &State<'_>, vm: usize, to: usize, now: u64) -> bool {
        now.saturating_sub(state.spread_after(vm, to)) >= self.costs[vm]
    }
}

/// A host as little loaded in each dimension as the least loaded one.
fn idlest(state: &State<'_>, hosts: &[usize]) -> Shares {
    let least = |of: fn(&Shares) -> u64| {
        hosts.iter().map(|&host| of(&state.shares[host])).min().unwrap_or(0)
    };
    Shares { cpu: least(|shares| shares.cpu), memory: least(|shares| shares.memory) }
}

/// The hosts that no other one undercuts in both dimensions: one of them is the best target for any
/// load, as far as balance goes.
fn skyline(state: &State<'_>, hosts: &[usize]) -> Vec<Shares> {
    let mut all: Vec<Shares> = hosts.iter().map(|&host| state.shares[host]).collect();
    all.sort_unstable_by_key(|shares| (shares.cpu, shares.memory));
    let mut least = u64::MAX;
    all.retain(|shares| {
        let undercuts = shares.memory < least;
        least = least.min(shares.memory);
        undercuts
    });
    all
}

fn kinds(state: &State<'_>) -> Vec<(Whole, Vec<usize>)> {
    let mut kinds: BTreeMap<Whole, Vec<usize>> = BTreeMap::new();
    for (host, row) in state.hosts.iter().enumerate() {
        if row.may_receive {
            kinds.entry(state.wholes[host]).or_default().push(host);
        }
    }
    kinds.into_iter().collect()
}

//! A better plan with no more moves.
//!
//! Promises: every change lowers the spread, or drops a move and keeps the spread within what is
//! wanted; nobody moves who did not, but in exchange for another; flags and capacity hold in the
//! end state. Does not: say in which order the moves fit (see `schedule`).
//!
//! The single moves were chosen one after the other, each the best at its time. Seen together some
//! are not: a target that was idle has filled, a large container VM now makes an earlier small one
//! superfluous. Local search over four changes of the set of moves: another target, two targets
//! exchanged, another container VM of the same host instead, no move.

use super::search::{Search, Weights};
use super::state::State;

/// Improves where `state` has put everything. `enough` is the spread that is good enough.
pub fn refine(
    state: &mut State<'_>,
    search: &Search<'_>,
    enough: u64,
    allowed: &impl Fn(usize, usize, &[usize]) -> bool,
) {
    let mut refiner = Refiner { state, search, allowed };
    for _ in 0..search.settings().passes {
        let before = (refiner.moved().len(), refiner.state.spread());
        refiner.retarget();
        refiner.exchange();
        refiner.substitute();
        refiner.drop_needless(enough);
        if (refiner.moved().len(), refiner.state.spread()) == before {
            break;
        }
    }
}

struct Refiner<'s, 'a, 'b, A> {
    state: &'s mut State<'a>,
    search: &'b Search<'b>,
    allowed: &'b A,
}

impl<A: Fn(usize, usize, &[usize]) -> bool> Refiner<'_, '_, '_, A> {
    /// Who is not where it was.
    fn moved(&self) -> Vec<usize> {
        (0..self.state.vms.len())
            .filter(|&vm| self.state.at[vm] != self.state.vms[vm].host)
            .collect()
    }

    fn is_allowed(&self, vm: usize) -> bool {
        let host = self.state.at[vm];
        host == self.state.vms[vm].host
            || (self.state.hosts[host].may_receive && (self.allowed)(vm, host, &self.state.at))
    }

    /// Another target for each that moved.
    fn retarget(&mut self) {
        for vm in self.moved() {
            let now = self.state.spread();
            let mut best: Option<(u64, usize)> = None;
            for to in 0..self.state.hosts.len() {
                if to == self.state.vms[vm].host || !self.state.may_move(vm, to) {
                    continue;
                }
                let after = self.state.spread_after(vm, to);
                if after < best.map_or(now, |(least, _)| least)
                    && (self.allowed)(vm, to, &self.state.at)
                {
                    best = Some((after, to));
                }
            }
            if let Some((_, to)) = best {
                self.state.shift(vm, to);
            }
        }
    }

    /// Two that moved exchange their targets. Nearly all pairs gain nothing, which the estimate
    /// sees.
    fn exchange(&mut self) {
        let moved = self.moved();
        let mut weights = Weights::of(self.state);
        for (place, &one) in moved.iter().enumerate() {
            for &other in &moved[place + 1..] {
                let (here, there) = (self.state.at[one], self.state.at[other]);
                if here == there
                    || there == self.state.vms[one].host
                    || here == self.state.vms[other].host
                    || self.exchanging(&weights, one, other) >= 0
                {
                    continue;
                }
                if self.try_shifts([(one, there), (other, here)]) {
                    weights = Weights::of(self.state);
                }
            }
        }
    }

    /// What the spread would gain, as estimated.
    fn exchanging(&self, weights: &Weights, one: usize, other: usize) -> i128 {
        let change = |host: usize, left: usize, came: usize| {
            let whole = self.state.wholes[host];
            let left = whole.shares(self.state.vms[left].load);
            let came = whole.shares(self.state.vms[came].load);
            weights.swapping(self.state.shares[host], left, came)
        };
        change(self.state.at[one], one, other) + change(self.state.at[other], other, one)
    }

    /// Another container VM of the same host goes instead.
    fn substitute(&mut self) {
        for vm in self.moved() {
            let (home, target) = (self.state.vms[vm].host, self.state.at[vm]);
            for other in self.state.on[home].clone() {
                let stays = self.state.vms[other].host == home && self.state.may_leave(other);
                let dearer = self.search.cost(other) > self.search.cost(vm);
                if stays && !dearer && self.try_shifts([(vm, home), (other, target)]) {
                    break;
                }
            }
        }
    }

    /// Makes both shifts if the spread falls and all is legal afterwards.
    fn try_shifts(&mut self, shifts: [(usize, usize); 2]) -> bool {
        let before = self.state.spread();
        let back = shifts.map(|(vm, _)| (vm, self.state.at[vm]));
        for (vm, to) in shifts {
            self.state.shift(vm, to);
        }
        let legal = self.state.spread() < before
            && shifts.iter().all(|&(vm, to)| self.state.is_within(to) && self.is_allowed(vm));
        if !legal {
            for (vm, to) in back {
                self.state.shift(vm, to);
            }
        }
        legal
    }

    /// Drops moves that are not worth their cost any more, and then, while the spread stays within
    /// `enough`, those that add least.
    fn drop_needless(&mut self, enough: u64) {
        loop {
            let now = self.state.spread();
            let mut best: Option<(u64, usize)> = None;
            for vm in self.moved() {
                let home = self.state.vms[vm].host;
                if !self.state.fits(vm, home) {
                    continue;
                }
                let after = self.state.spread_after(vm, home);
                let worth = now.saturating_add(self.search.cost(vm)) > after;
                if (after <= enough || worth) && best.is_none_or(|(least, _)| after < least) {
                    best = Some((after, vm));
                }
            }
            let Some((_, vm)) = best else { return };
            let home = self.state.vms[vm].host;
            self.state.shift(vm, home);
        }
    }
}

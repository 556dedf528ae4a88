//! The plan: single moves, made better together, in an order in which they fit.
//!
//! Promises and sources: see the module. Does not: start while imbalance is within the threshold.

use super::refine::refine;
use super::rows::{HostRow, Imbalance, VmRow};
use super::schedule::schedule;
use super::search::Search;
use super::settings::Settings;
use super::state::State;

/// One live migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub vm: usize,
    pub from: usize,
    pub to: usize,
    /// By how much the spread falls at this turn, in host-millionths; below nothing for one that
    /// only makes way.
    pub gain: i64,
    /// What it was weighed with, in host-millionths.
    pub cost: u64,
}

/// Moves in the order in which each of them is legal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub moves: Vec<Move>,
    pub before: Imbalance,
    pub after: Imbalance,
}

/// How often single moves and their improvement take turns at most.
const ROUNDS: u32 = 4;

/// Plans moves for `hosts` and `vms`. `allowed(vm, host, at)` says whether rules let a container VM
/// move there while each container VM `v` is on host `at[v]`.
pub fn plan(
    hosts: &[HostRow],
    vms: &[VmRow],
    settings: &Settings,
    allowed: impl Fn(usize, usize, &[usize]) -> bool,
) -> Plan {
    let start = State::new(hosts, vms);
    let before = start.imbalance();
    let unchanged = Plan { moves: Vec::new(), before, after: before };
    if before.sum() <= u64::from(settings.threshold) {
        return unchanged;
    }
    let search = Search::new(&start, settings);
    let enough = u64::from(settings.target).saturating_mul(start.count());
    let mut plan = unchanged;
    // What single moves alone reach, kept in an order that is legal because it was made.
    let mut state = start.clone();
    for round in 0..ROUNDS {
        let made = plan.moves.len();
        let singles = descend(&mut state, &search, enough, settings.moves, made, &allowed);
        if singles.is_empty() && round > 0 {
            break;
        }
        let mut better = state.clone();
        refine(&mut better, &search, enough, &allowed);
        match schedule(start.clone(), &better.at, &search, &allowed) {
            Some(moves) => {
                state = better;
                plan.moves = moves;
            }
            None => plan.moves.extend(singles),
        }
    }
    settle(&mut plan, &mut state, &start, &search, enough, &allowed);
    plan.after = state.imbalance();
    plan
}

/// Ends where single moves find nothing more, so that a second run finds nothing either.
fn settle(
    plan: &mut Plan,
    state: &mut State<'_>,
    start: &State<'_>,
    search: &Search<'_>,
    enough: u64,
    allowed: &impl Fn(usize, usize, &[usize]) -> bool,
) {
    let most = search.settings().moves;
    let singles = descend(state, search, enough, most, plan.moves.len(), allowed);
    if singles.is_empty() {
        return;
    }
    match schedule(start.clone(), &state.at, search, allowed) {
        Some(moves) => plan.moves = moves,
        None => plan.moves.extend(singles),
    }
}

/// Single moves, the best first, until balance is good enough, none is worth it, or `most` were
/// made.
fn descend(
    state: &mut State<'_>,
    search: &Search<'_>,
    enough: u64,
    most: u32,
    made: usize,
    allowed: &impl Fn(usize, usize, &[usize]) -> bool,
) -> Vec<Move> {
    let mut moves = Vec::new();
    while made + moves.len() < most as usize && state.spread() > enough {
        let Some(found) = search.best(state, allowed) else { break };
        let (from, before) = (state.at[found.vm], state.spread());
        state.shift(found.vm, found.to);
        let gain = i128::from(before) - i128::from(state.spread());
        let cost = search.cost(found.vm);
        moves.push(Move { vm: found.vm, from, to: found.to, gain: gain as i64, cost });
    }
    moves
}

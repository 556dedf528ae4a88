//! An order in which moves fit, each when its turn comes.
//!
//! Promises: each move that is returned is legal after those before it. None where moves wait for
//! each other in a ring: then the caller keeps the order in which it found them.
//! Does not: break rings by a third host; that would be a move more.

use super::plan::Move;
use super::search::Search;
use super::state::State;

/// Orders the moves that bring `start` to `goal` (where each container VM is in the end), the most
/// gainful of those that fit first.
pub fn schedule(
    mut state: State<'_>,
    goal: &[usize],
    search: &Search<'_>,
    allowed: &impl Fn(usize, usize, &[usize]) -> bool,
) -> Option<Vec<Move>> {
    let mut waiting: Vec<usize> = (0..goal.len()).filter(|&vm| goal[vm] != state.at[vm]).collect();
    let mut moves = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let before = state.spread();
        let next = waiting
            .iter()
            .enumerate()
            .filter(|&(_, &vm)| state.fits(vm, goal[vm]))
            .map(|(place, &vm)| (state.spread_after(vm, goal[vm]), vm, place))
            .filter(|&(_, vm, _)| allowed(vm, goal[vm], &state.at))
            .min()?;
        let (after, vm, place) = next;
        moves.push(Move {
            vm,
            from: state.at[vm],
            to: goal[vm],
            gain: i128::from(before).saturating_sub(i128::from(after)) as i64,
            cost: search.cost(vm),
        });
        state.shift(vm, goal[vm]);
        waiting.swap_remove(place);
    }
    Some(moves)
}

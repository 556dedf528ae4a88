//! Comparing states: a replica remembers its hash at some indexes and holds the leader's against
//! it.
//!
//! Promises: what was compared once is not kept. Does no IO; the loop stops the replica that
//! differs.

use std::collections::VecDeque;

/// How many indexes a replica remembers; the leader may be this many comparisons ahead or behind.
const KEPT: usize = 64;

#[derive(Default)]
pub(crate) struct Hashes {
    ours: VecDeque<(u64, u64)>,
    leaders: VecDeque<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The other side has not got there yet, or we never were there.
    Open,
    Same,
    Different,
}

impl Hashes {
    /// Our state after `index` has this hash.
    pub(crate) fn ours(&mut self, index: u64, hash: u64) -> Verdict {
        let verdict = compare(&mut self.leaders, index, hash);
        if verdict == Verdict::Open {
            keep(&mut self.ours, index, hash);
        }
        verdict
    }

    /// The leader's state after `index` has this hash.
    pub(crate) fn leaders(&mut self, index: u64, hash: u64) -> Verdict {
        let verdict = compare(&mut self.ours, index, hash);
        if verdict == Verdict::Open {
            keep(&mut self.leaders, index, hash);
        }
        verdict
    }
}

fn compare(others: &mut VecDeque<(u64, u64)>, index: u64, hash: u64) -> Verdict {
    match others.iter().position(|(at, _)| *at == index) {
        Some(position) => match others.remove(position) {
            Some((_, other)) if other == hash => Verdict::Same,
            Some(_) => Verdict::Different,
            None => Verdict::Open,
        },
        None => Verdict::Open,
    }
}

fn keep(list: &mut VecDeque<(u64, u64)>, index: u64, hash: u64) {
    list.retain(|(at, _)| *at != index);
    list.push_back((index, hash));
    if list.len() > KEPT {
        list.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_compared_whichever_comes_first() {
        let mut hashes = Hashes::default();
        assert_eq!(hashes.ours(1024, 7), Verdict::Open);
        assert_eq!(hashes.leaders(1024, 7), Verdict::Same);
        assert_eq!(hashes.leaders(2048, 8), Verdict::Open);
        assert_eq!(hashes.ours(2048, 9), Verdict::Different);
    }

    #[test]
    fn memory_is_bounded() {
        let mut hashes = Hashes::default();
        for index in 0..1000 {
            hashes.ours(index, 1);
            hashes.leaders(index + 5000, 1);
        }
        assert_eq!((hashes.ours.len(), hashes.leaders.len()), (KEPT, KEPT));
    }
}

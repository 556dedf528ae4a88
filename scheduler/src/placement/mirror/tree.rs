//! The least of many keys, found again after few of them changed.
//!
//! Leaves hold a key each; above sixteen leaves stands a block with their least, above sixteen
//! blocks a super block with theirs. Three flat arrays of whole numbers: setting a leaf touches at
//! most three cache lines beside its own, and the least of 10,000 leaves is found by looking at
//! about seventy numbers. A tournament tree with a fan-out that fits the cache line instead of two
//! (Knuth, TAOCP vol. 3, 5.4.1, has the binary one).
//!
//! Promises: [`Tree::least`] is the leftmost leaf of the least key; [`Tree::search`] the same among
//! leaves that a test admits, exact with any test, by branch and bound. Does not: know what a key
//! means, but that `REFUSED` is no answer.

use crate::placement::score::worse;
use std::ops::Range;

/// The key of a leaf that is no answer.
pub const REFUSED: u64 = u64::MAX;

/// Leaves in a block and blocks in a super block.
pub const BLOCK: usize = 16;
const SUPER: usize = BLOCK * BLOCK;

#[derive(Clone, Debug, Default)]
pub struct Tree {
    keys: Vec<u64>,
    blocks: Vec<u64>,
    supers: Vec<u64>,
    /// Super blocks whose least is to be found again, and which those are.
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
}

/// What a search asks beside the key.
pub trait Test {
    /// The least penalty of any leaf of the block; `None` if all are refused.
    fn block(&mut self, block: usize) -> Option<u32>;

    /// The penalty of this leaf; `None` if it is refused.
    fn leaf(&mut self, leaf: usize) -> Option<u32>;
}

impl Tree {
    /// A tree of these keys.
    pub fn new(mut keys: Vec<u64>) -> Tree {
        keys.resize(keys.len().next_multiple_of(SUPER), REFUSED);
        let blocks: Vec<u64> = keys.chunks_exact(BLOCK).map(least_of).collect();
        let supers: Vec<u64> = blocks.chunks_exact(BLOCK).map(least_of).collect();
        let is_dirty = vec![false; supers.len()];
        Tree { keys, blocks, supers, dirty: Vec::new(), is_dirty }
    }

    pub fn key(&self, leaf: usize) -> u64 {
        self.keys[leaf]
    }

    /// Changes one key; [`Tree::close`] is due before the next question.
    #[inline]
    pub fn set(&mut self, leaf: usize, key: u64) {
        let before = std::mem::replace(&mut self.keys[leaf], key);
        if before == key {
            return;
        }
        let block = leaf / BLOCK;
        let least = self.blocks[block];
        let least = if key <= least {
            key
        } else if before == least {
            least_of(row(&self.keys, block))
        } else {
            return;
        };
        let before = std::mem::replace(&mut self.blocks[block], least);
        let above = block / BLOCK;
        if before != least && !self.is_dirty[above] {
            self.is_dirty[above] = true;
            self.dirty.push(above as u32);
        }
    }

    /// Takes all changes into account.
    pub fn close(&mut self) {
        while let Some(above) = self.dirty.pop() {
            let above = above as usize;
            self.is_dirty[above] = false;
            self.supers[above] = least_of(row(&self.blocks, above));
        }
    }

    /// The leftmost leaf of the least key.
    pub fn least(&self) -> Option<(u64, usize)> {
        let (above, key) = position_of_least(&self.supers);
        if key == REFUSED {
            return None;
        }
        let block = above * BLOCK + first(row(&self.blocks, above), key);
        let leaf = block * BLOCK + first(row(&self.keys, block), key);
        Some((key, leaf))
    }

    /// The leftmost leaf of the least key, made worse by the penalties of `test`, among leaves in
    /// `range` that it admits.
    pub fn search(&self, range: Range<usize>, test: &mut impl Test) -> Option<(u64, usize)> {
        let mut best = (REFUSED, usize::MAX);
        // The least of all is most often admitted, or near to one that is: a good bound early.
        if let Some((_, leaf)) = self.least()
            && range.contains(&leaf)
        {
            self.search_super(leaf / SUPER, &range, test, &mut best);
        }
        for above in range.start / SUPER..range.end.min(self.keys.len()).div_ceil(SUPER) {
            if self.supers[above] <= best.0 {
                self.search_super(above, &range, test, &mut best);
            }
        }
        (best.0 != REFUSED).then_some(best)
    }

    fn search_super(
        &self,
        above: usize,
        range: &Range<usize>,
        test: &mut impl Test,
        best: &mut (u64, usize),
    ) {
        let first = above * BLOCK;
        for block in first..first + BLOCK {
            let least = self.blocks[block];
            let leaf = block * BLOCK;
            // Equal keys count only further left.
            if least == REFUSED
                || (least, leaf) >= *best
                || leaf + BLOCK <= range.start
                || leaf >= range.end
            {
                continue;
            }
            let Some(added) = test.block(block) else { continue };
            if (worse(least, added), leaf) < *best {
                self.search_block(block, range, test, best);
            }
        }
    }

    fn search_block(
        &self,
        block: usize,
        range: &Range<usize>,
        test: &mut impl Test,
        best: &mut (u64, usize),
    ) {
        let from = block * BLOCK;
        for leaf in from.max(range.start)..(from + BLOCK).min(range.end) {
            let key = self.keys[leaf];
            if key == REFUSED || (key, leaf) >= *best {
                continue;
            }
            let Some(added) = test.leaf(leaf) else { continue };
            let found = (worse(key, added), leaf);
            if found < *best {
                *best = found;
            }
        }
    }
}

fn row(keys: &[u64], above: usize) -> &[u64] {
    &keys[above * BLOCK..(above + 1) * BLOCK]
}

/// In four lanes, so that no comparison waits for the one before it.
fn least_of(keys: &[u64]) -> u64 {
    let mut lanes = [REFUSED; 4];
    let mut fours = keys.chunks_exact(4);
    for four in &mut fours {
        for (lane, key) in lanes.iter_mut().zip(four) {
            *lane = (*lane).min(*key);
        }
    }
    let rest = fours.remainder().iter().copied().fold(REFUSED, u64::min);
    rest.min(lanes[0].min(lanes[1]).min(lanes[2].min(lanes[3])))
}

fn first(keys: &[u64], key: u64) -> usize {
    keys.iter().position(|found| *found == key).unwrap_or(0)
}

fn position_of_least(keys: &[u64]) -> (usize, u64) {
    let least = least_of(keys);
    (first(keys, least), least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Leaves below it are refused, others get something added.
    struct Odd {
        from: usize,
        added: Vec<u32>,
    }

    impl Test for Odd {
        fn block(&mut self, block: usize) -> Option<u32> {
            let leaves = block * BLOCK..(block + 1) * BLOCK;
            leaves.filter_map(|leaf| self.leaf(leaf)).min()
        }

        fn leaf(&mut self, leaf: usize) -> Option<u32> {
            let added = self.added.get(leaf).copied().unwrap_or(0);
            (leaf >= self.from && added != 3).then_some(added)
        }
    }

    proptest! {
        #[test]
        fn the_least_is_found_after_any_changes_and_with_any_test(
            keys in prop::collection::vec(0..40_u64, 1..700),
            changes in prop::collection::vec((0..700_usize, 0..45_u64), 0..60),
            added in prop::collection::vec(0..4_u32, 700),
            from in 0..300_usize,
            (start, end) in (0..700_usize, 0..900_usize),
        ) {
            let mut keys = keys;
            let mut tree = Tree::new(keys.clone());
            for (leaf, key) in changes {
                let leaf = leaf % keys.len();
                let key = if key > 40 { REFUSED } else { key };
                tree.set(leaf, key);
                keys[leaf] = key;
            }
            tree.close();
            let numbered = || keys.iter().enumerate().filter(|(_, key)| **key != REFUSED);
            let least = numbered().map(|(leaf, key)| (*key, leaf)).min();
            prop_assert_eq!(tree.least(), least);
            let mut test = Odd { from, added };
            let expected = numbered()
                .filter(|(leaf, _)| (start..end).contains(leaf))
                .filter_map(|(leaf, key)| Some((worse(*key, test.leaf(leaf)?), leaf)))
                .min();
            prop_assert_eq!(tree.search(start..end, &mut test), expected);
        }
    }
}

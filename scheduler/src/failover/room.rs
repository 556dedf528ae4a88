//! Room of a host and demand of a VM, and a tree that finds the first host with enough of it.
//!
//! Promises: [`Rooms::first`] answers what a scan from left to right would answer. It costs
//! O(log n) where hosts are short of one dimension only, and more where a subtree has the
//! processor on one host and the memory on another, because then both maxima promise too much.
//! Does not: know who may use a host; a caller that refuses an answer asks again one further.
//!
//! Source: a segment tree of maxima; descending to the first leaf that fits is the way in which
//! first fit runs in O(n log n) (Johnson, "Near-optimal bin packing algorithms", 1973).

use std::fmt;

/// An amount of processor and memory: what a host has free, or what a VM asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

impl Room {
    pub const NONE: Self = Self { cpu: 0, memory: 0 };

    #[must_use]
    pub fn new(cpu: u64, memory: u64) -> Self {
        Self { cpu, memory }
    }

    /// Whether `self` is enough for `need`, in both dimensions.
    #[must_use]
    pub fn covers(self, need: Self) -> bool {
        self.cpu >= need.cpu && self.memory >= need.memory
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    /// What is left of `self` after `other`; none where `other` is more.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    pub(super) fn widest(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        write!(f, "{}m cpu and {} MiB memory", self.cpu, self.memory.div_ceil(MIB))
    }
}

/// The largest room of each subtree over a row of leaves.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    /// Node 1 is the root, node `i` has the children `2i` and `2i + 1`, leaves start at `width`.
    nodes: Vec<Room>,
    width: usize,
}

impl Rooms {
    pub(super) fn new(leaves: usize) -> Self {
        let width = leaves.next_power_of_two().max(1);
        Self { nodes: vec![Room::NONE; 2 * width], width }
    }

    pub(super) fn set(&mut self, leaf: u32, room: Room) {
        let mut node = self.width + leaf as usize;
        self.nodes[node] = room;
        while node > 1 {
            node /= 2;
            let widest = self.nodes[2 * node].widest(self.nodes[2 * node + 1]);
            if self.nodes[node] == widest {
                break;
            }
            self.nodes[node] = widest;
        }
    }

    /// The first leaf of `from..to` that covers `need`.
    pub(super) fn first(&self, from: u32, to: u32, need: Room) -> Option<u32> {
        if from >= to {
            return None;
        }
        let mut node = self.width + from as usize;
        loop {
            if self.nodes[node].covers(need) {
                if node >= self.width {
                    let leaf = (node - self.width) as u32;
                    return (leaf < to).then_some(leaf);
                }
                node *= 2;
                continue;
            }
            // Nothing below: on to the next subtree on the right, as high up as it starts there.
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
            if self.first_leaf(node) >= to {
                return None;
            }
        }
    }

    /// The leftmost leaf below `node`.
    fn first_leaf(&self, node: usize) -> u32 {
        let depth = self.width.ilog2() - node.ilog2();
        ((node << depth) - self.width) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_tree_finds_what_a_scan_finds(
            rooms in prop::collection::vec((0u64..6, 0u64..6), 1..40),
            from in 0u32..40,
            to in 0u32..41,
            need in (0u64..6, 0u64..6),
        ) {
            let to = to.min(rooms.len() as u32);
            let mut tree = Rooms::new(rooms.len());
            for (leaf, room) in rooms.iter().enumerate() {
                tree.set(leaf as u32, Room::new(9, 9));
                tree.set(leaf as u32, Room::new(room.0, room.1));
            }
            let need = Room::new(need.0, need.1);
            let scanned = (from..to)
                .find(|leaf| {
                    let room = rooms[*leaf as usize];
                    Room::new(room.0, room.1).covers(need)
                });
            prop_assert_eq!(tree.first(from, to, need), scanned);
        }
    }
}

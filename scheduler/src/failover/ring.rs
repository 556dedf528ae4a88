//! The order in which hosts are tried: a ring that mixes them, entered where a VM's hash says.
//!
//! The ring is a fixed pseudo-random permutation of the slots. Slots that lie side by side belong
//! to one rack and, under the strategy `pack`, are full side by side; mixed, the hosts with room
//! lie evenly among those without, so that a VM passes over few hosts and restarts spread over all
//! that have room. Standby hosts stand in a ring of their own, which is tried first.
//!
//! Promises: the order depends on the number of slots and on which are standby, on nothing else.
//! Does not: change; hosts that join or leave make a new ring.
//!
//! Source: the mixing function is the finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable
//! pseudorandom number generators", 2014).

/// No position: a VM without a place, or the missing second host of a single loss.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Where a VM enters the standby ring and the ring of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    standby: u32,
    ordinary: u32,
}

/// Stretches `from..to` of positions, in the order in which they are tried.
pub(super) type Stretches = [(u32, u32); 4];

#[derive(Clone, Debug)]
pub(super) struct Ring {
    positions: Vec<u32>,
    slots: Vec<u32>,
    /// Positions below this one are standby.
    standby: u32,
}

impl Ring {
    pub(super) fn new(standby: &[bool]) -> Self {
        let mut slots: Vec<u32> = (0..standby.len() as u32).collect();
        slots.sort_unstable_by_key(|slot| (!standby[*slot as usize], mixed(*slot), *slot));
        let mut positions = vec![0; slots.len()];
        for (position, slot) in slots.iter().enumerate() {
            positions[*slot as usize] = position as u32;
        }
        let standby = standby.iter().filter(|standby| **standby).count() as u32;
        Self { positions, slots, standby }
    }

    pub(super) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// # Panics
    /// When there is no such slot.
    pub(super) fn position(&self, slot: u32) -> u32 {
        assert!((slot as usize) < self.positions.len(), "there is no host slot {slot}");
        self.positions[slot as usize]
    }

    pub(super) fn slot(&self, position: u32) -> u32 {
        self.slots[position as usize]
    }

    pub(super) fn entry(&self, hash: u64) -> Entry {
        Entry {
            standby: scaled(hash, 0, self.standby),
            ordinary: scaled(hash, self.standby, self.len()),
        }
    }

    /// Every position, from the entry round and back to it, standby first.
    pub(super) fn tried(&self, entry: Entry) -> Stretches {
        let (standby, all) = (self.standby, self.len());
        [
            (entry.standby, standby),
            (0, entry.standby.min(standby)),
            (entry.ordinary, all),
            (standby, entry.ordinary.min(all)),
        ]
    }

    /// What was tried in vain before `target`; everything where the target is [`NOWHERE`].
    pub(super) fn passed(&self, entry: Entry, target: u32) -> Stretches {
        let mut stretches = self.tried(entry);
        let found = stretches.iter().position(|(from, to)| (*from..*to).contains(&target));
        if let Some(found) = found {
            stretches[found].1 = target;
            for later in &mut stretches[found + 1..] {
                *later = (0, 0);
            }
        }
        stretches
    }
}

pub(super) fn holds(stretches: &Stretches, position: u32) -> bool {
    stretches.iter().any(|(from, to)| (*from..*to).contains(&position))
}

/// `hash`, seen as a fraction of its range, as a position of `from..to`; `from` if that is empty.
fn scaled(hash: u64, from: u32, to: u32) -> u32 {
    let width = u128::from(to - from);
    from + ((u128::from(hash) * width) >> 64) as u32
}

fn mixed(slot: u32) -> u64 {
    let mut word = (u64::from(slot) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_tried_once_and_standby_first() {
        for hosts in 0..12u32 {
            let standby: Vec<bool> = (0..hosts).map(|slot| slot % 4 == 1).collect();
            let ring = Ring::new(&standby);
            let count = standby.iter().filter(|standby| **standby).count();
            for hash in [0, 1 << 62, 1 << 63, 3 << 62, u64::MAX] {
                let tried: Vec<u32> =
                    ring.tried(ring.entry(hash)).iter().flat_map(|(from, to)| *from..*to).collect();
                let slots: Vec<u32> = tried.iter().map(|at| ring.slot(*at)).collect();
                assert!(slots[..count].iter().all(|slot| standby[*slot as usize]));
                let mut sorted = slots.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..hosts).collect::<Vec<_>>());
                for (nth, target) in tried.iter().enumerate() {
                    let passed = ring.passed(ring.entry(hash), *target);
                    let flat: Vec<u32> = passed.iter().flat_map(|(from, to)| *from..*to).collect();
                    assert_eq!(flat, tried[..nth]);
                }
            }
        }
    }
}

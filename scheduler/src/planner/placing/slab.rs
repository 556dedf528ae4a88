//! Jobs by number: found in one step, and a number is never used for two of them.

/// Names one entry for ever: a later entry in the same slot has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop() {
            let (generation, entry) = &mut self.slots[slot as usize];
            *entry = Some(value);
            return Key { slot, generation: *generation };
        }
        let slot = u32::try_from(self.slots.len()).expect("memory ends before 2^32 jobs");
        self.slots.push((0, Some(value)));
        Key { slot, generation: 0 }
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, entry) = self.slots.get(key.slot as usize)?;
        entry.as_ref().filter(|_| *generation == key.generation)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, entry) = self.slots.get_mut(key.slot as usize)?;
        entry.as_mut().filter(|_| *generation == key.generation)
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, entry) = self.slots.get_mut(key.slot as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = entry.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> {
        (0..).zip(&self.slots).filter_map(|(slot, (generation, entry))| {
            entry.as_ref().map(|_| Key { slot, generation: *generation })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_entry_finds_nothing_in_its_slot() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&'b')));
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.len(), slab.keys().count()), (1, 1));
    }
}

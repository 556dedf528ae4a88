//! Which numbers changed, in order, so that each reader can catch up from where it was.
//!
//! Promises: bounded; a reader that lags too far behind is told to start anew. Does not: say what
//! changed.

#[derive(Clone, Debug, Default)]
pub struct Journal {
    entries: Vec<u32>,
    /// Position of the first entry.
    base: usize,
    /// By number: the position of its latest entry.
    latest: Vec<usize>,
}

impl Journal {
    /// For numbers below `size`.
    pub fn new(size: usize) -> Journal {
        Journal { entries: Vec::new(), base: 0, latest: vec![0; size] }
    }

    /// The position after the last entry.
    pub fn end(&self) -> usize {
        self.base + self.entries.len()
    }

    pub fn add(&mut self, number: usize) {
        if self.entries.len() > 2 * self.latest.len() + 1024 {
            let half = self.entries.len() / 2;
            self.entries.drain(..half);
            self.base += half;
        }
        self.latest[number] = self.end();
        self.entries.push(number as u32);
    }

    /// Each number that changed since `position`, once; `None` for one that lags too far behind.
    pub fn since(&self, position: usize) -> Option<impl Iterator<Item = usize> + '_> {
        let from = position.checked_sub(self.base)?;
        let entries = self.entries.get(from..)?.iter().enumerate();
        Some(entries.filter_map(move |(at, number)| {
            let number = *number as usize;
            (self.latest[number] == position + at).then_some(number)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_changed_twice_is_told_once() {
        let mut journal = Journal::new(3);
        for number in [0, 1, 0, 2, 0] {
            journal.add(number);
        }
        let since = |at| journal.since(at).map(Iterator::collect::<Vec<_>>);
        assert_eq!(since(0), Some(vec![1, 2, 0]));
        assert_eq!(since(4), Some(vec![0]));
        assert_eq!(since(5), Some(vec![]));
    }

    #[test]
    fn one_that_lags_too_far_behind_is_told_so() {
        let mut journal = Journal::new(1);
        for _ in 0..5000 {
            journal.add(0);
        }
        assert!(journal.since(0).is_none());
        assert_eq!(journal.since(journal.end() - 3).map(Iterator::count), Some(1));
    }
}

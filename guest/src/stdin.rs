//! The container's input on its way from the node to the process, with its credit.

use berth_model::guest::STDIN_WINDOW;
use std::collections::VecDeque;

#[derive(Default)]
pub struct Stdin {
    queue: VecDeque<u8>,
    received: u64,
    /// Bytes that the process took, or that nobody will take any more.
    taken: u64,
    /// The credit that the node was told last.
    told: u64,
    ended: bool,
}

impl Stdin {
    pub fn new() -> Stdin {
        Stdin { told: STDIN_WINDOW, ..Stdin::default() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.queue.extend(bytes);
    }

    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes to offer to the process.
    pub fn front(&self) -> &[u8] {
        self.queue.as_slices().0
    }

    pub fn took(&mut self, count: usize) {
        self.queue.drain(..count);
        self.taken += count as u64;
    }

    /// Nobody reads any more: what is here and what comes is dropped.
    pub fn discard(&mut self) {
        self.took(self.queue.len());
    }

    /// Whether the process should see the end now.
    pub fn at_end(&self) -> bool {
        self.ended && self.queue.is_empty()
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn upto(&self) -> u64 {
        self.taken + STDIN_WINDOW
    }

    /// A credit that is worth telling: half a window more than the last.
    pub fn credit_to_tell(&mut self) -> Option<u64> {
        let upto = self.upto();
        (upto >= self.told + STDIN_WINDOW / 2).then(|| {
            self.told = upto;
            upto
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_follows_what_the_process_took() {
        let mut stdin = Stdin::new();
        let window = usize::try_from(STDIN_WINDOW).unwrap();
        stdin.push(&vec![1; window]);
        assert_eq!(stdin.credit_to_tell(), None);
        while !stdin.front().is_empty() {
            stdin.took(stdin.front().len().min(1000));
        }
        assert_eq!(stdin.credit_to_tell(), Some(2 * STDIN_WINDOW));
        assert_eq!(stdin.credit_to_tell(), None);
    }

    #[test]
    fn the_end_comes_after_the_bytes() {
        let mut stdin = Stdin::new();
        stdin.push(b"x");
        stdin.end();
        assert!(!stdin.at_end());
        stdin.took(1);
        assert!(stdin.at_end());
    }
}

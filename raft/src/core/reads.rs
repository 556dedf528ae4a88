//! Linearizable reads: all that arrive before a turn of the loop share one read index.
//!
//! ```text
//!   arrived ──one request per turn──► asked ──leader confirmed──► confirmed ──applied here──► done
//!      ▲                                │ no answer within RETRY_TICKS
//!      └────────────────────────────────┘
//! ```
//!
//! raft-rs drops a request silently while a leader has nothing committed in its own term, and
//! messages get lost, so an unanswered request is asked again. Does no IO.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::handle::ReadError;

/// Requests that may be under way at once; more reads wait and share the next.
const ASKED_MAX: usize = 16;
const RETRY_TICKS: u32 = 4;

pub(crate) struct Read<R> {
    pub(crate) deadline: Instant,
    pub(crate) reply: R,
}

struct Asked<R> {
    reads: Vec<Read<R>>,
    age_ticks: u32,
}

pub(crate) type Answer = Result<u64, ReadError>;

pub(crate) struct Reads<R> {
    limit: usize,
    count: usize,
    /// Makes contexts of this replica and this start differ from all others.
    prefix: [u8; 16],
    next: u64,
    arrived: Vec<Read<R>>,
    asked: BTreeMap<u64, Asked<R>>,
    confirmed: BTreeMap<u64, Vec<Read<R>>>,
}

impl<R> Reads<R> {
    pub(crate) fn new(limit: usize, id: u64, nonce: u64) -> Self {
        let mut prefix = [0; 16];
        prefix[..8].copy_from_slice(&id.to_le_bytes());
        prefix[8..].copy_from_slice(&nonce.to_le_bytes());
        Self {
            limit,
            count: 0,
            prefix,
            next: 0,
            arrived: Vec::new(),
            asked: BTreeMap::new(),
            confirmed: BTreeMap::new(),
        }
    }

    /// Takes a read, or answers that there is no room.
    pub(crate) fn take(&mut self, read: Read<R>) -> Option<(R, Answer)> {
        if self.count >= self.limit {
            return Some((read.reply, Err(ReadError::Full)));
        }
        self.count += 1;
        self.arrived.push(read);
        None
    }

    /// The context of a request to make now, if there is anything to ask.
    pub(crate) fn ask(&mut self) -> Option<Vec<u8>> {
        if self.arrived.is_empty() || self.asked.len() >= ASKED_MAX {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let reads = std::mem::take(&mut self.arrived);
        self.asked.insert(number, Asked { reads, age_ticks: 0 });
        let mut context = self.prefix.to_vec();
        context.extend_from_slice(&number.to_le_bytes());
        Some(context)
    }

    /// The leader confirmed the request with `context`. Answers reads that are served already.
    pub(crate) fn confirmed(
        &mut self,
        context: &[u8],
        index: u64,
        applied: u64,
    ) -> Vec<(R, Answer)> {
        let Some(number) = self.number(context) else { return Vec::new() };
        // An answer to a request that was given up: its reads were asked for again.
        let Some(asked) = self.asked.remove(&number) else { return Vec::new() };
        self.confirmed.entry(index).or_default().extend(asked.reads);
        self.applied(applied)
    }

    /// Everything up to `applied` is applied here.
    pub(crate) fn applied(&mut self, applied: u64) -> Vec<(R, Answer)> {
        let mut out = Vec::new();
        while let Some(first) = self.confirmed.first_entry() {
            if *first.key() > applied {
                break;
            }
            let index = *first.key();
            out.extend(first.remove().into_iter().map(|read| (read.reply, Ok(index))));
        }
        self.count -= out.len();
        out
    }

    /// Gives up on requests that were not answered and on reads whose deadline has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<(R, Answer)> {
        let mut out = Vec::new();
        let mut late = Vec::new();
        for (number, asked) in &mut self.asked {
            asked.age_ticks += 1;
            if asked.age_ticks >= RETRY_TICKS {
                late.push(*number);
            }
        }
        for number in late {
            if let Some(asked) = self.asked.remove(&number) {
                self.arrived.extend(asked.reads);
            }
        }
        expire(&mut self.arrived, now, &mut out);
        for reads in self.confirmed.values_mut() {
            expire(reads, now, &mut out);
        }
        self.confirmed.retain(|_, reads| !reads.is_empty());
        self.count -= out.len();
        out
    }

    /// Answers everything, for this replica ends.
    pub(crate) fn stop(&mut self) -> Vec<(R, Answer)> {
        let mut reads = std::mem::take(&mut self.arrived);
        reads.extend(std::mem::take(&mut self.asked).into_values().flat_map(|asked| asked.reads));
        reads.extend(std::mem::take(&mut self.confirmed).into_values().flatten());
        self.count = 0;
        reads.into_iter().map(|read| (read.reply, Err(ReadError::Stopped))).collect()
    }

    fn number(&self, context: &[u8]) -> Option<u64> {
        let number = context.strip_prefix(&self.prefix[..])?;
        Some(u64::from_le_bytes(number.try_into().ok()?))
    }
}

fn expire<R>(reads: &mut Vec<Read<R>>, now: Instant, out: &mut Vec<(R, Answer)>) {
    if reads.iter().any(|read| read.deadline <= now) {
        for read in std::mem::take(reads) {
            if read.deadline <= now {
                out.push((read.reply, Err(ReadError::NoLeader)));
            } else {
                reads.push(read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    fn reads() -> Reads<u32> {
        Reads::new(10, 1, 7)
    }

    fn read(reply: u32) -> Read<u32> {
        Read { deadline: clock::now() + Duration::from_secs(60), reply }
    }

    #[test]
    fn reads_of_one_turn_share_one_request() {
        let mut reads = reads();
        reads.take(read(1));
        reads.take(read(2));
        let context = reads.ask().unwrap();
        assert_eq!(reads.ask(), None);
        assert_eq!(reads.confirmed(&context, 5, 5), [(1, Ok(5)), (2, Ok(5))]);
    }

    #[test]
    fn a_read_waits_until_its_index_is_applied_here() {
        let mut reads = reads();
        reads.take(read(1));
        let context = reads.ask().unwrap();
        assert_eq!(reads.confirmed(&context, 5, 4), []);
        assert_eq!(reads.applied(5), [(1, Ok(5))]);
    }

    #[test]
    fn an_unanswered_request_is_made_again_and_its_late_answer_ignored() {
        let mut reads = reads();
        reads.take(read(1));
        let first = reads.ask().unwrap();
        for _ in 0..RETRY_TICKS {
            assert_eq!(reads.tick(clock::now()), []);
        }
        let second = reads.ask().unwrap();
        assert_ne!(first, second);
        assert_eq!(reads.confirmed(&first, 5, 9), []);
        assert_eq!(reads.confirmed(&second, 6, 9), [(1, Ok(6))]);
    }

    #[test]
    fn contexts_of_another_replica_or_start_are_not_ours() {
        let mut reads = reads();
        reads.take(read(1));
        reads.ask().unwrap();
        for mut other in [Reads::<u32>::new(10, 2, 7), Reads::new(10, 1, 8)] {
            other.take(read(2));
            let context = other.ask().unwrap();
            assert_eq!(reads.confirmed(&context, 5, 9), []);
        }
    }

    #[test]
    fn a_read_past_its_deadline_is_told_so_and_room_is_bounded() {
        let mut reads = reads();
        let now = clock::now();
        for reply in 0..10 {
            assert!(reads.take(Read { deadline: now, reply }).is_none());
        }
        assert_eq!(reads.take(read(10)), Some((10, Err(ReadError::Full))));
        assert_eq!(reads.tick(now).len(), 10);
        assert!(reads.take(read(11)).is_none());
    }
}

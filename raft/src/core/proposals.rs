//! Commands that wait for their outcome: not yet proposed, in the log, or passed on to the leader.
//!
//! ```text
//!             leader          committed here
//!   waiting ─────────► proposed ───────────► Applied
//!      ▲ │ other leader               another entry took the index
//!      │ └───────────► forwarded      ───────────► Unknown
//!      └──── NotLeader ────┘  link lost, deadline ► Unknown
//! ```
//!
//! Promises: every command gets one answer; `NoLeader` and `Full` only if it certainly was not and
//! will not be applied. Does no IO; who calls delivers the answers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::handle::{Applied, ProposeError};
use crate::log::Position;
use crate::options::ReplicaId;

/// Bounds of what one entry holds.
const ENTRY_BYTES: usize = 256 << 10;
const ENTRY_COMMANDS: usize = 512;

pub(crate) type Answer = Result<Applied, ProposeError>;

/// A command, and who wants to know. `R` is where the answer goes.
pub(crate) struct Proposal<R> {
    pub(crate) command: Bytes,
    pub(crate) deadline: Instant,
    /// Goes before others, and has room when others are refused.
    pub(crate) urgent: bool,
    pub(crate) reply: R,
}

struct Waiter<R> {
    deadline: Instant,
    reply: R,
}

struct Proposed<R> {
    at: Position,
    /// `None` once the deadline has passed; the place keeps the order of the answers.
    waiters: Vec<Option<Waiter<R>>>,
}

struct Forwarded<R> {
    to: ReplicaId,
    proposal: Proposal<R>,
}

pub(crate) struct Proposals<R> {
    limit: usize,
    urgent: VecDeque<Proposal<R>>,
    waiting: VecDeque<Proposal<R>>,
    proposed: VecDeque<Proposed<R>>,
    proposed_count: usize,
    forwarded: BTreeMap<u64, Forwarded<R>>,
    next_request: u64,
}

/// Commands that go into one entry together.
pub(crate) struct Pack<R> {
    pub(crate) commands: Vec<Bytes>,
    waiters: Vec<Option<Waiter<R>>>,
    originals: Vec<bool>,
}

impl<R> Proposals<R> {
    /// `limit` bounds commands without an outcome; urgent ones have a quarter more room. Requests
    /// to other replicas are numbered from `first_request`, which must differ from start to start.
    pub(crate) fn new(limit: usize, first_request: u64) -> Self {
        Self {
            limit,
            urgent: VecDeque::new(),
            waiting: VecDeque::new(),
            proposed: VecDeque::new(),
            proposed_count: 0,
            forwarded: BTreeMap::new(),
            next_request: first_request,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.urgent.len() + self.waiting.len() + self.proposed_count + self.forwarded.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.urgent.len() + self.waiting.len()
    }

    /// Takes a command, or answers that there is no room.
    pub(crate) fn take(&mut self, proposal: Proposal<R>) -> Option<(R, Answer)> {
        let limit = if proposal.urgent { self.limit + self.limit / 4 } else { self.limit };
        if self.in_flight() >= limit {
            return Some((proposal.reply, Err(ProposeError::Full)));
        }
        self.queue(proposal);
        None
    }

    fn queue(&mut self, proposal: Proposal<R>) {
        if proposal.urgent {
            self.urgent.push_back(proposal);
        } else {
            self.waiting.push_back(proposal);
        }
    }

    /// The next command to pass on.
    pub(crate) fn next(&mut self) -> Option<Proposal<R>> {
        self.urgent.pop_front().or_else(|| self.waiting.pop_front())
    }

    /// Puts a command back that could not be passed on, in front.
    pub(crate) fn put_back(&mut self, proposal: Proposal<R>) {
        if proposal.urgent {
            self.urgent.push_front(proposal);
        } else {
            self.waiting.push_front(proposal);
        }
    }

    /// What the leader packs into its next entry.
    pub(crate) fn pack(&mut self) -> Option<Pack<R>> {
        let mut pack = Pack { commands: Vec::new(), waiters: Vec::new(), originals: Vec::new() };
        let mut bytes = 0;
        while pack.commands.len() < ENTRY_COMMANDS {
            let next = self.urgent.front().or_else(|| self.waiting.front());
            let Some(length) = next.map(|proposal| proposal.command.len()) else { break };
            if bytes > 0 && bytes + length > ENTRY_BYTES {
                break;
            }
            bytes += length;
            let Some(proposal) = self.next() else { break };
            pack.commands.push(proposal.command);
            pack.originals.push(proposal.urgent);
            let Proposal { deadline, reply, .. } = proposal;
            pack.waiters.push(Some(Waiter { deadline, reply }));
        }
        (!pack.commands.is_empty()).then_some(pack)
    }

    /// The pack is in the leader's log at `at`.
    pub(crate) fn proposed(&mut self, at: Position, pack: Pack<R>) {
        self.proposed_count += pack.waiters.len();
        self.proposed.push_back(Proposed { at, waiters: pack.waiters });
    }

    /// The pack was not proposed: its commands wait again, in their order.
    pub(crate) fn unpack(&mut self, pack: Pack<R>) {
        let parts = pack.commands.into_iter().zip(pack.waiters).zip(pack.originals);
        for ((command, waiter), urgent) in parts.rev() {
            if let Some(Waiter { deadline, reply }) = waiter {
                self.put_back(Proposal { command, deadline, urgent, reply });
            }
        }
    }

    /// The entry at `at` was applied with these answers, one per command; none for an entry without
    /// commands. Whatever else was proposed for this index or before it has lost its place.
    pub(crate) fn applied(&mut self, at: Position, answers: Vec<Vec<u8>>) -> Vec<(R, Answer)> {
        let mut out = self.lost_up_to(at.index - 1);
        if self.proposed.front().is_none_or(|first| first.at.index != at.index) {
            return out;
        }
        let Some(first) = self.proposed.pop_front() else { return out };
        self.proposed_count -= first.waiters.iter().flatten().count();
        if first.at != at || first.waiters.len() != answers.len() {
            out.extend(first.waiters.into_iter().flatten().map(unknown));
            return out;
        }
        for (waiter, answer) in first.waiters.into_iter().zip(answers) {
            if let Some(waiter) = waiter {
                out.push((waiter.reply, Ok(Applied { index: at.index, answer })));
            }
        }
        out
    }

    /// Everything up to `index` is decided and was not seen here: a snapshot skipped it.
    pub(crate) fn lost_up_to(&mut self, index: u64) -> Vec<(R, Answer)> {
        let mut out = Vec::new();
        while self.proposed.front().is_some_and(|first| first.at.index <= index) {
            if let Some(first) = self.proposed.pop_front() {
                self.proposed_count -= first.waiters.iter().flatten().count();
                out.extend(first.waiters.into_iter().flatten().map(unknown));
            }
        }
        out
    }

    /// Notes that `proposal` goes to `to`; answers the request's number.
    pub(crate) fn forward(&mut self, to: ReplicaId, proposal: Proposal<R>) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        self.forwarded.insert(request, Forwarded { to, proposal });
        request
    }

    /// The request certainly did not leave: the command waits again, in front.
    pub(crate) fn not_sent(&mut self, request: u64) {
        if let Some(forwarded) = self.forwarded.remove(&request) {
            self.put_back(forwarded.proposal);
        }
    }

    /// The other replica says that it did not propose the command: it waits again.
    pub(crate) fn not_leader(&mut self, from: ReplicaId, request: u64) {
        if let Some(proposal) = self.answered_by(from, request) {
            self.queue(proposal);
        }
    }

    /// The command whose request `from` answers; `None` for what was never asked of it.
    pub(crate) fn answered_by(&mut self, from: ReplicaId, request: u64) -> Option<Proposal<R>> {
        if self.forwarded.get(&request)?.to != from {
            return None;
        }
        self.forwarded.remove(&request).map(|forwarded| forwarded.proposal)
    }

    /// The link to `peer` broke: nobody knows what became of what was passed on to it.
    pub(crate) fn link_lost(&mut self, peer: ReplicaId) -> Vec<(R, Answer)> {
        let lost: Vec<u64> = self
            .forwarded
            .iter()
            .filter(|(_, forwarded)| forwarded.to == peer)
            .map(|(request, _)| *request)
            .collect();
        lost.into_iter()
            .filter_map(|request| self.forwarded.remove(&request))
            .map(|forwarded| (forwarded.proposal.reply, Err(ProposeError::Unknown)))
            .collect()
    }

    /// Answers whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(R, Answer)> {
        let mut out = Vec::new();
        for queue in [&mut self.urgent, &mut self.waiting] {
            if queue.iter().any(|proposal| proposal.deadline <= now) {
                for proposal in std::mem::take(queue) {
                    if proposal.deadline <= now {
                        out.push((proposal.reply, Err(ProposeError::NoLeader)));
                    } else {
                        queue.push_back(proposal);
                    }
                }
            }
        }
        for proposed in &mut self.proposed {
            for waiter in &mut proposed.waiters {
                if waiter.as_ref().is_some_and(|waiter| waiter.deadline <= now) {
                    out.extend(waiter.take().map(unknown));
                    self.proposed_count -= 1;
                }
            }
        }
        let late: Vec<u64> = self
            .forwarded
            .iter()
            .filter(|(_, forwarded)| forwarded.proposal.deadline <= now)
            .map(|(request, _)| *request)
            .collect();
        for request in late {
            if let Some(forwarded) = self.forwarded.remove(&request) {
                out.push((forwarded.proposal.reply, Err(ProposeError::Unknown)));
            }
        }
        out
    }

    /// Answers everything, for this replica ends. What may be in a log is unknown, the rest was
    /// stopped.
    pub(crate) fn stop(&mut self) -> Vec<(R, Answer)> {
        let mut out = self.lost_up_to(u64::MAX);
        let forwarded = std::mem::take(&mut self.forwarded);
        out.extend(
            forwarded
                .into_values()
                .map(|forwarded| (forwarded.proposal.reply, Err(ProposeError::Unknown))),
        );
        while let Some(proposal) = self.next() {
            out.push((proposal.reply, Err(ProposeError::Stopped)));
        }
        out
    }
}

fn unknown<R>(waiter: Waiter<R>) -> (R, Answer) {
    (waiter.reply, Err(ProposeError::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    fn proposals(limit: usize) -> Proposals<u32> {
        Proposals::new(limit, 100)
    }

    fn proposal(reply: u32) -> Proposal<u32> {
        let deadline = clock::now() + Duration::from_secs(60);
        Proposal { command: Bytes::from(vec![0; 100]), deadline, urgent: false, reply }
    }

    fn at(index: u64, term: u64) -> Position {
        Position { index, term }
    }

    fn applied(index: u64, answer: u8) -> Answer {
        Ok(Applied { index, answer: vec![answer] })
    }

    #[test]
    fn commands_of_one_entry_get_their_own_answers() {
        let mut proposals = proposals(10);
        assert!(proposals.take(proposal(1)).is_none());
        assert!(proposals.take(proposal(2)).is_none());
        let pack = proposals.pack().unwrap();
        proposals.proposed(at(5, 2), pack);
        assert_eq!(proposals.in_flight(), 2);
        let answers = proposals.applied(at(5, 2), vec![vec![8], vec![9]]);
        assert_eq!(answers, [(1, applied(5, 8)), (2, applied(5, 9))]);
        assert_eq!(proposals.in_flight(), 0);
    }

    #[test]
    fn an_entry_of_another_leader_leaves_the_outcome_unknown() {
        let mut proposals = proposals(10);
        proposals.take(proposal(1));
        let pack = proposals.pack().unwrap();
        proposals.proposed(at(5, 2), pack);
        let answers = proposals.applied(at(5, 3), vec![vec![8]]);
        assert_eq!(answers, [(1, Err(ProposeError::Unknown))]);
    }

    #[test]
    fn more_than_the_limit_is_full_but_urgent_commands_still_fit() {
        let mut proposals = proposals(4);
        for reply in 0..4 {
            assert!(proposals.take(proposal(reply)).is_none());
        }
        assert_eq!(proposals.take(proposal(4)), Some((4, Err(ProposeError::Full))));
        let urgent = Proposal { urgent: true, ..proposal(5) };
        assert!(proposals.take(urgent).is_none());
        let pack = proposals.pack().unwrap();
        assert!(matches!(&pack.waiters[0], Some(waiter) if waiter.reply == 5));
    }

    #[test]
    fn an_entry_is_bounded_in_commands_and_bytes() {
        let mut proposals = proposals(10_000);
        for reply in 0..1000 {
            proposals.take(proposal(reply));
        }
        assert_eq!(proposals.pack().unwrap().commands.len(), ENTRY_COMMANDS);
        let mut proposals = self::proposals(10);
        for reply in 0..3 {
            let command = Bytes::from(vec![0; 200 << 10]);
            proposals.take(Proposal { command, ..proposal(reply) });
        }
        assert_eq!(proposals.pack().unwrap().commands.len(), 1);
    }

    #[test]
    fn a_pack_that_was_not_proposed_waits_again_in_order() {
        let mut proposals = proposals(10);
        for reply in 0..3 {
            proposals.take(proposal(reply));
        }
        let pack = proposals.pack().unwrap();
        proposals.unpack(pack);
        assert_eq!(proposals.waiting(), 3);
        assert_eq!(proposals.next().unwrap().reply, 0);
        assert_eq!(proposals.next().unwrap().reply, 1);
    }

    #[test]
    fn a_forwarded_command_waits_again_only_when_it_was_surely_not_proposed() {
        let mut proposals = proposals(10);
        let request = proposals.forward(2, proposal(1));
        assert!(proposals.answered_by(3, request).is_none(), "3 was not asked");
        proposals.not_leader(2, request);
        assert_eq!(proposals.waiting(), 1);
        let again = proposals.next().unwrap();
        proposals.forward(2, again);
        assert_eq!(proposals.link_lost(3), []);
        assert_eq!(proposals.link_lost(2), [(1, Err(ProposeError::Unknown))]);
    }

    #[test]
    fn deadlines_tell_what_was_never_proposed_from_what_may_have_been() {
        let mut proposals = proposals(10);
        let now = clock::now();
        let late = |reply| Proposal { deadline: now, ..proposal(reply) };
        proposals.take(late(1));
        let pack = proposals.pack().unwrap();
        proposals.proposed(at(5, 2), pack);
        proposals.take(late(2));
        proposals.take(proposal(3));
        proposals.forward(2, late(4));
        let mut answers = proposals.expire(now);
        answers.sort_by_key(|(reply, _)| *reply);
        let expected = [
            (1, Err(ProposeError::Unknown)),
            (2, Err(ProposeError::NoLeader)),
            (4, Err(ProposeError::Unknown)),
        ];
        assert_eq!(answers, expected);
        assert_eq!(proposals.in_flight(), 1);
        assert_eq!(proposals.applied(at(5, 2), vec![vec![8]]), []);
    }

    #[test]
    fn a_stop_answers_everything() {
        let mut proposals = proposals(10);
        proposals.take(proposal(1));
        let pack = proposals.pack().unwrap();
        proposals.proposed(at(5, 2), pack);
        proposals.take(proposal(2));
        proposals.forward(2, proposal(3));
        assert_eq!(proposals.stop().len(), 3);
        assert_eq!(proposals.in_flight(), 0);
    }
}

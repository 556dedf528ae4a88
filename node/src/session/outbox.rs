//! Facts that no leader has acknowledged, numbered from 1 for each start of the node process.
//!
//! Promises: facts leave in the order in which they came, none is dropped before it is kept, and
//! after a new session all that are not kept are sent again. Few reports are under way at once;
//! what comes meanwhile goes together in the next. Pure.

use berth_model::report::{Fact, Report};
use std::collections::VecDeque;

/// Reports sent and not yet acknowledged.
const UNDER_WAY_MAX: usize = 16;
/// Facts of one report.
const FACTS_MAX: usize = 256;

#[derive(Debug, Default)]
pub struct Outbox {
    /// Facts from number `kept + 1` on.
    pending: VecDeque<Fact>,
    /// Number of the last fact that is in the log.
    kept: u64,
    /// How many of `pending` were sent in this session.
    sent: usize,
    /// Last numbers of the reports under way, oldest first.
    under_way: VecDeque<u64>,
}

impl Outbox {
    pub fn post(&mut self, facts: impl IntoIterator<Item = Fact>) {
        self.pending.extend(facts);
    }

    /// The next report to send, if one may go now. It counts as sent.
    pub fn next_report(&mut self) -> Option<Report> {
        if self.under_way.len() >= UNDER_WAY_MAX || self.sent >= self.pending.len() {
            return None;
        }
        let facts: Vec<Fact> = self.pending.range(self.sent..).take(FACTS_MAX).cloned().collect();
        self.sent += facts.len();
        let last = self.kept + self.sent as u64;
        self.under_way.push_back(last);
        Some(Report { last, facts })
    }

    /// Everything up to `last` is in the log. Answers how many facts that settles.
    pub fn keep(&mut self, last: u64) -> usize {
        let newly = usize::try_from(last.saturating_sub(self.kept)).unwrap_or(usize::MAX);
        // A number that was never sent is the peer's mistake; nothing is dropped for it.
        if newly > self.sent {
            return 0;
        }
        self.pending.drain(..newly);
        self.sent -= newly;
        self.kept += newly as u64;
        while self.under_way.front().is_some_and(|number| *number <= self.kept) {
            self.under_way.pop_front();
        }
        newly
    }

    /// A new session: what was under way in the last one may have been lost with it.
    pub fn rewind(&mut self) {
        self.sent = 0;
        self.under_way.clear();
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::ContainerId;
    use proptest::prelude::*;

    fn fact(number: u64) -> Fact {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Fact::Discarded { container: ContainerId::from_bytes(bytes) }
    }

    #[test]
    fn facts_that_come_while_many_reports_are_under_way_go_together() {
        let mut outbox = Outbox::default();
        for number in 1..=40 {
            outbox.post([fact(number)]);
            outbox.next_report();
        }
        assert!(outbox.next_report().is_none());
        assert_eq!(outbox.keep(1), 1);
        let report = outbox.next_report().unwrap();
        assert_eq!((report.last, report.facts.len()), (40, 24));
    }

    #[test]
    fn a_number_that_was_never_sent_keeps_nothing() {
        let mut outbox = Outbox::default();
        outbox.post([fact(1), fact(2)]);
        assert_eq!(outbox.keep(2), 0);
        assert_eq!(outbox.next_report().unwrap().last, 2);
        assert_eq!(outbox.keep(9), 0);
        assert_eq!(outbox.keep(2), 2);
        assert_eq!(outbox.keep(1), 0);
        assert_eq!(outbox.len(), 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Post(u8),
        Send,
        /// The oldest report under way reaches the log, and that is heard.
        Kept,
        /// It reaches the log, but the session breaks before that is heard.
        KeptUnheard,
        Broken,
    }

    proptest! {
        #[test]
        fn every_fact_reaches_the_log_in_order(events in prop::collection::vec(prop_oneof![
            (1_u8..5).prop_map(Event::Post),
            Just(Event::Send),
            Just(Event::Kept),
            Just(Event::KeptUnheard),
            Just(Event::Broken),
        ], 0..200)) {
            let (mut outbox, mut posted) = (Outbox::default(), 0_u64);
            let mut wire: VecDeque<Report> = VecDeque::new();
            let mut log: Vec<Fact> = Vec::new();
            // Repeats are harmless, gaps are not: the log takes what is new of a report.
            let take = |log: &mut Vec<Fact>, report: &Report| {
                let first = report.last - report.facts.len() as u64;
                assert!(first <= log.len() as u64, "gap before {report:?}");
                for (offset, fact) in report.facts.iter().enumerate() {
                    let number = first + offset as u64;
                    if number == log.len() as u64 {
                        log.push(fact.clone());
                    }
                    assert_eq!(&log[number as usize], fact);
                }
            };
            for event in events {
                match event {
                    Event::Post(count) => {
                        outbox.post((0..u64::from(count)).map(|offset| fact(posted + offset)));
                        posted += u64::from(count);
                    }
                    Event::Send => wire.extend(outbox.next_report()),
                    Event::Kept => {
                        if let Some(report) = wire.pop_front() {
                            take(&mut log, &report);
                            outbox.keep(report.last);
                        }
                    }
                    Event::KeptUnheard => {
                        if let Some(report) = wire.pop_front() {
                            take(&mut log, &report);
                        }
                        wire.clear();
                        outbox.rewind();
                    }
                    Event::Broken => {
                        wire.clear();
                        outbox.rewind();
                    }
                }
            }
            wire.clear();
            outbox.rewind();
            while let Some(report) = outbox.next_report() {
                take(&mut log, &report);
                outbox.keep(report.last);
            }
            prop_assert_eq!(outbox.len(), 0);
            prop_assert_eq!(log, (0..posted).map(fact).collect::<Vec<_>>());
        }
    }
}

//! What happened lately, in the order of the log.
//!
//! Promises: bounded; when there are more than [`EVENTS_MAX`], the oldest go, and who asks for
//! those is told so instead of getting a list with a hole. Part of snapshots: a replica that starts
//! from one serves watches without a gap.

use super::hash::{self, Sum};
use super::{At, Fleet};
use berth_model::event::{Event, Subject, What};
use berth_model::{EndpointId, VmState};
use imbl::Vector;

pub(super) const EVENTS_MAX: usize = 65_536;

/// Events that were asked for are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events up to index {oldest} are gone; list the objects anew and watch from there")]
pub struct Compacted {
    /// The first index after which all events are there.
    pub oldest: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct EventLog {
    /// Ascending by index.
    ring: Vector<Event>,
    /// Index of the newest that was dropped.
    dropped: u64,
    hash: Sum,
}

impl EventLog {
    pub fn from_parts(ring: Vec<Event>, dropped: u64) -> Self {
        let mut hash = Sum::default();
        ring.iter().for_each(|event| hash.add(hash::event(event)));
        Self { ring: ring.into(), dropped, hash }
    }

    pub fn push(&mut self, event: Event) {
        self.hash.add(hash::event(&event));
        self.ring.push_back(event);
        while self.ring.len() > EVENTS_MAX {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.hash.take(hash::event(&oldest));
            self.dropped = oldest.index;
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Event> {
        self.ring.iter()
    }

    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn hash(&self) -> Sum {
        self.hash
    }

    fn after(&self, index: u64) -> Result<impl Iterator<Item = &Event>, Compacted> {
        if index < self.dropped {
            return Err(Compacted { oldest: self.dropped });
        }
        // Several share an index: the search ends between two indexes, never on one.
        let before = |event: &Event| match event.index <= index {
            true => std::cmp::Ordering::Less,
            false => std::cmp::Ordering::Greater,
        };
        let (Ok(first) | Err(first)) = self.ring.binary_search_by(before);
        Ok(self.ring.focus().narrow(first..).into_iter())
    }
}

/// A number for each, those with data apart.
pub(super) fn code(what: What) -> u64 {
    match what {
        What::Created => 1,
        What::Changed => 2,
        What::Removed => 3,
        What::State(state) => 0x100 | u64::from(state),
        What::Refused => 4,
        What::Displaced => 5,
        What::Expired => 6,
        What::HostConnected => 7,
        What::HostSilent => 8,
        What::MaintenanceBegan => 9,
        What::MaintenanceEnded => 10,
    }
}

/// The state's place in `VmState::NAMES`.
pub(super) fn state_code(state: &VmState) -> u8 {
    match state {
        VmState::Pending { .. } => 0,
        VmState::Created => 1,
        VmState::Waiting { .. } => 2,
        VmState::Starting { .. } => 3,
        VmState::Running { .. } => 4,
        VmState::Exited { .. } => 5,
        VmState::Removing { .. } => 6,
    }
}

impl Fleet {
    /// Everything that happened after `index`, in order.
    pub fn events_after(&self, index: u64) -> Result<impl Iterator<Item = &Event>, Compacted> {
        self.events.after(index)
    }

    pub(super) fn tell(&mut self, at: At, endpoint: EndpointId, subject: Subject, what: What) {
        self.events.push(Event { index: at.index, at: at.time, endpoint, subject, what });
    }

    /// Of an object of the cell's own.
    pub(super) fn tell_all(&mut self, at: At, subject: Subject, what: What) {
        self.tell(at, EndpointId::SYSTEM, subject, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{HostId, Timestamp};

    fn event(index: u64) -> Event {
        Event {
            index,
            at: Timestamp(index),
            endpoint: EndpointId::SYSTEM,
            subject: Subject::Host(HostId::from_bytes([1; 16])),
            what: What::Changed,
        }
    }

    #[test]
    fn what_is_kept_is_given_from_any_index_and_what_is_gone_is_said_to_be() {
        let mut log = EventLog::default();
        let most = EVENTS_MAX as u64;
        for index in 1..=most {
            log.push(event(index / 2));
        }
        let after = |log: &EventLog, index| log.after(index).map(Iterator::count);
        assert_eq!(after(&log, most / 2), Ok(0));
        assert_eq!(after(&log, most / 2 - 1), Ok(1));
        assert_eq!(after(&log, 10), Ok(EVENTS_MAX - 21));
        assert_eq!(after(&log, 0), Ok(EVENTS_MAX - 1));
        for index in 0..10 {
            log.push(event(most + index));
        }
        assert_eq!(after(&log, 4), Err(Compacted { oldest: 5 }));
        assert_eq!(after(&log, 5), Ok(EVENTS_MAX - 1));
        let copy = EventLog::from_parts(log.iter().cloned().collect(), log.dropped());
        assert_eq!(copy, log);
    }
}

//! Which scheduler to dial next, and how long to wait before.
//!
//! Promises: a replica that another named as leader is dialled at once; every replica is tried once
//! without waiting, after that waits grow up to a second; a named leader that is none does not make
//! two replicas send us back and forth without a wait; a leader whose session broke is dialled
//! last, for its host may swallow what is sent, and the others may not have noticed. Pure: the
//! caller adds the jitter.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Route {
    replicas: Vec<(u64, SocketAddr)>,
    /// Position of the one to dial next, unless another is named.
    next: usize,
    named: Option<u64>,
    /// The leader whose session broke last.
    lost: Option<u64>,
    /// Since the last welcome.
    attempts: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub replica: u64,
    pub address: SocketAddr,
    pub wait: Duration,
}

impl Route {
    /// `start` spreads many nodes over the replicas. There is at least one replica.
    pub fn new(replicas: &BTreeMap<u64, SocketAddr>, start: usize) -> Route {
        let replicas: Vec<_> = replicas.iter().map(|(id, address)| (*id, *address)).collect();
        assert!(!replicas.is_empty(), "options name at least one scheduler");
        let next = start % replicas.len();
        Route { replicas, next, named: None, lost: None, attempts: 0 }
    }

    pub fn next_attempt(&mut self) -> Attempt {
        let named = self.named.take();
        let known = named.and_then(|id| self.replicas.iter().find(|(replica, _)| *replica == id));
        let (replica, address) = match known {
            Some(leader) => *leader,
            None => {
                let position = self.next;
                self.next = (position + 1) % self.replicas.len();
                self.replicas[position]
            }
        };
        let wait = self.wait();
        self.attempts += 1;
        Attempt { replica, address, wait }
    }

    /// A follower answered; it may know the leader.
    pub fn redirected(&mut self, leader: Option<u64>) {
        let believed = self.attempts > self.replicas.len();
        self.named = leader.filter(|leader| believed || self.lost != Some(*leader));
    }

    /// This replica is the leader. When its session breaks the others are asked first.
    pub fn welcomed(&mut self, replica: u64) {
        self.attempts = 0;
        self.lost = Some(replica);
        if let Some(position) = self.replicas.iter().position(|(id, _)| *id == replica) {
            self.next = (position + 1) % self.replicas.len();
        }
    }

    fn wait(&self) -> Duration {
        let Some(beyond) = self.attempts.checked_sub(self.replicas.len() + 1) else {
            return Duration::ZERO;
        };
        let doublings = u32::try_from(beyond.min(8)).unwrap_or(8);
        LONGEST_WAIT.min(FIRST_WAIT * 2_u32.pow(doublings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        let address = |id: u64| SocketAddr::from(([127, 0, 0, 1], 7000 + id as u16));
        Route::new(&(1..=3).map(|id| (id, address(id))).collect(), 0)
    }

    #[test]
    fn every_replica_is_tried_without_waiting_and_then_waits_grow_to_a_second() {
        let mut route = route();
        let attempts: Vec<_> = (0..12).map(|_| route.next_attempt()).collect();
        let replicas: Vec<_> = attempts.iter().map(|attempt| attempt.replica).collect();
        assert_eq!(replicas, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
        assert!(attempts[..4].iter().all(|attempt| attempt.wait.is_zero()));
        assert_eq!(attempts[4].wait, FIRST_WAIT);
        assert_eq!(attempts[11].wait, LONGEST_WAIT);
    }

    #[test]
    fn a_named_leader_is_dialled_at_once() {
        let mut route = route();
        route.next_attempt();
        route.redirected(Some(3));
        assert_eq!(route.next_attempt().replica, 3);
        route.redirected(Some(77));
        assert_eq!(route.next_attempt().replica, 2, "an unknown one is not dialled");
    }

    #[test]
    fn replicas_that_name_each_other_do_not_make_us_spin() {
        let mut route = route();
        for round in 0..10 {
            route.redirected(Some(1 + round % 2));
            let wait = route.next_attempt().wait;
            assert_eq!(wait.is_zero(), round < 4, "round {round}");
        }
    }

    #[test]
    fn after_a_session_the_others_are_asked_before_its_leader() {
        let mut route = route();
        for _ in 0..10 {
            route.next_attempt();
        }
        route.welcomed(2);
        let mut dialled = Vec::new();
        for _ in 0..3 {
            let attempt = route.next_attempt();
            assert!(attempt.wait.is_zero());
            dialled.push(attempt.replica);
            // They have not noticed that it is gone.
            route.redirected(Some(2));
        }
        assert_eq!(dialled, [3, 1, 2]);
        route.next_attempt();
        route.redirected(Some(2));
        assert_eq!(route.next_attempt().replica, 2, "in the end they are believed");
    }
}

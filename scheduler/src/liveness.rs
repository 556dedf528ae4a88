//! Which hosts were not heard of for too long, as the leader counts it: in ticks.
//!
//! Promises: after [`Liveness::restart`] (an election) every host has the full time again. A tick
//! that comes late counts as one, so a leader that was stalled itself calls nobody silent for it.
//! Does not: read a clock, nor change the fleet; it names hosts.

use berth_model::HostId;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Liveness {
    silent_after_ticks: u64,
    now: u64,
    /// When each host that counts as connected was last heard.
    heard: BTreeMap<HostId, u64>,
}

impl Liveness {
    pub fn new(silent_after_ticks: u64) -> Self {
        Self { silent_after_ticks, now: 0, heard: BTreeMap::new() }
    }

    /// Forgets everything and gives each of `connected` the full time from now.
    pub fn restart(&mut self, connected: impl IntoIterator<Item = HostId>) {
        self.heard = connected.into_iter().map(|host| (host, self.now)).collect();
    }

    pub fn heard(&mut self, host: HostId) {
        self.heard.insert(host, self.now);
    }

    /// One tick has passed. Hosts that are silent as of this tick are named, and named again a full
    /// time later unless they are heard or forgotten: the first word may have been lost.
    pub fn tick(&mut self) -> Vec<HostId> {
        self.now += 1;
        let (now, limit) = (self.now, self.silent_after_ticks);
        let mut silent = Vec::new();
        for (host, heard) in &mut self.heard {
            if now - *heard > limit {
                *heard = now;
                silent.push(*host);
            }
        }
        silent
    }

    /// The host is recorded as silent: nothing to wait for any more.
    pub fn forget(&mut self, host: HostId) {
        self.heard.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8) -> HostId {
        HostId::from_bytes([n; 16])
    }

    fn ticks(liveness: &mut Liveness, count: u64) -> Vec<HostId> {
        (0..count).flat_map(|_| liveness.tick()).collect()
    }

    #[test]
    fn a_host_that_is_heard_in_time_is_never_silent() {
        let mut liveness = Liveness::new(3);
        for _ in 0..10 {
            liveness.heard(host(1));
            assert_eq!(ticks(&mut liveness, 3), []);
        }
    }

    #[test]
    fn a_silent_host_is_named_once_a_full_time() {
        let mut liveness = Liveness::new(3);
        liveness.heard(host(1));
        liveness.heard(host(2));
        assert_eq!(ticks(&mut liveness, 3), []);
        liveness.heard(host(2));
        assert_eq!(liveness.tick(), [host(1)]);
        liveness.forget(host(1));
        assert_eq!(ticks(&mut liveness, 2), []);
        assert_eq!(liveness.tick(), [host(2)]);
        assert_eq!(ticks(&mut liveness, 3), []);
        assert_eq!(liveness.tick(), [host(2)]);
    }

    #[test]
    fn an_election_gives_everyone_the_full_time_again() {
        let mut liveness = Liveness::new(3);
        liveness.heard(host(1));
        assert_eq!(ticks(&mut liveness, 3), []);
        liveness.restart([host(1), host(2)]);
        assert_eq!(ticks(&mut liveness, 3), []);
        assert_eq!(liveness.tick(), [host(1), host(2)]);
    }
}

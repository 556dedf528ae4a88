//! Settings of one replica, checked once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Names a replica in its group; never 0, never reused for another disk.
pub type ReplicaId = u64;

/// Settings of one replica. [`Options::new`] has the values that a cell runs with.
#[derive(Clone, Debug)]
pub struct Options {
    pub id: ReplicaId,
    /// Every voter of the group and where it listens for the others, this replica too. A group
    /// starts with the same list on every replica; the list is kept in the log, and another list
    /// later is refused, for membership does not change yet.
    pub peers: BTreeMap<ReplicaId, SocketAddr>,
    pub listen: SocketAddr,
    /// Holds the log and the snapshots of this replica alone.
    pub directory: PathBuf,
    pub tick: Duration,
    /// A follower that hears nothing for one to two times this many ticks stands for election.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    /// Commands that may wait for their outcome at one replica; more are refused as `Full`.
    pub in_flight_limit: usize,
    /// Bound of one command in bytes.
    pub command_limit: usize,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries that stay in the log behind a snapshot, for followers that are a little late.
    pub snapshot_trailing: u64,
    /// Replicas compare their state's hash whenever the index is a multiple of this.
    pub hash_every: u64,
    /// Size of one log file in bytes.
    pub log_file_bytes: u64,
    /// Old log files are cleared once the log is larger than this, in bytes.
    pub log_purge_bytes: u64,
    /// Log files that are written with zeros ahead of time, in bytes; 0 for none. An append into
    /// such a file needs no file system metadata, which makes its fsync several times faster.
    pub log_prefill_bytes: u64,
}

/// Why settings make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("replica id 0 is reserved; number replicas from 1")]
    ZeroId,
    #[error("replica {0} is not in its own list of peers; every replica needs the same full list")]
    NotAmongPeers(ReplicaId),
    #[error("{0} must be greater than {1}")]
    TooSmall(&'static str, u64),
    #[error("two replicas share the address {0}")]
    SharedAddress(SocketAddr),
    #[error("log_purge_bytes must not be below log_file_bytes")]
    PurgeBelowFile,
}

impl Options {
    pub fn new(
        id: ReplicaId,
        peers: BTreeMap<ReplicaId, SocketAddr>,
        listen: SocketAddr,
        directory: PathBuf,
    ) -> Self {
        Self {
            id,
            peers,
            listen,
            directory,
            tick: Duration::from_millis(50),
            election_ticks: 14,
            heartbeat_ticks: 3,
            in_flight_limit: 4096,
            command_limit: 1 << 20,
            snapshot_every: 10_000,
            snapshot_trailing: 2_000,
            hash_every: 1024,
            log_file_bytes: 16 << 20,
            log_purge_bytes: 64 << 20,
            log_prefill_bytes: 32 << 20,
        }
    }

    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.id == 0 || self.peers.contains_key(&0) {
            return Err(OptionsError::ZeroId);
        }
        if !self.peers.contains_key(&self.id) {
            return Err(OptionsError::NotAmongPeers(self.id));
        }
        let mut addresses: Vec<SocketAddr> = self.peers.values().copied().collect();
        addresses.sort_unstable();
        if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(OptionsError::SharedAddress(pair[0]));
        }
        let above = |name, value: u64, bound: u64| {
            if value > bound { Ok(()) } else { Err(OptionsError::TooSmall(name, bound)) }
        };
        above("tick (in milliseconds)", self.tick.as_millis() as u64, 0)?;
        above("heartbeat_ticks", self.heartbeat_ticks as u64, 0)?;
        above("election_ticks", self.election_ticks as u64, self.heartbeat_ticks as u64)?;
        above("in_flight_limit", self.in_flight_limit as u64, 0)?;
        above("command_limit", self.command_limit as u64, 0)?;
        above("snapshot_every", self.snapshot_every, 0)?;
        above("hash_every", self.hash_every, 0)?;
        above("log_file_bytes", self.log_file_bytes, 0)?;
        if self.log_purge_bytes < self.log_file_bytes {
            return Err(OptionsError::PurgeBelowFile);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let peers = (1..=3u16).map(|id| (u64::from(id), address(7000 + id))).collect();
        Options::new(1, peers, address(7001), PathBuf::from("raft"))
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(options().validate(), Ok(()));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let refused = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            options.validate().unwrap_err()
        };
        assert_eq!(refused(|o| o.id = 0), OptionsError::ZeroId);
        assert_eq!(refused(|o| o.id = 9), OptionsError::NotAmongPeers(9));
        assert!(matches!(refused(|o| o.election_ticks = 3), OptionsError::TooSmall(..)));
        assert!(matches!(refused(|o| o.in_flight_limit = 0), OptionsError::TooSmall(..)));
        assert_eq!(refused(|o| o.log_purge_bytes = 1), OptionsError::PurgeBelowFile);
        let shared = refused(|o| {
            let address = o.listen;
            o.peers.insert(2, address);
        });
        assert!(matches!(shared, OptionsError::SharedAddress(_)));
    }
}

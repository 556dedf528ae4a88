//! What a scheduler is told at start. Plain data; `validate` says what cannot stand.
//!
//! Does not: read files or the environment; the binary does, and fills these.

use berth_model::cluster::ClusterPolicy;
use berth_model::endpoint::EndpointDefaults;
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Options {
    /// Checked by the replica itself.
    pub raft: berth_raft::Options,
    /// Where nodes dial in (mutual TLS).
    pub nodes_listen: SocketAddr,
    /// A host whose node was not heard for this long is marked silent. 1 s to 10 min.
    pub silent_after: Duration,
    /// How long one try to commit a command of the scheduler's own may take. 100 ms to 1 min.
    pub propose_timeout: Duration,
    /// Threads that plan container VMs on the leader, and as many that decide placement requests
    /// on every replica, each with a mirror of the fleet of its own. 1 to 64.
    pub planners: usize,
    /// Placement requests, counted in items, that may be under way on this replica; more are
    /// refused as `SubmitError::Full`, and a request of more as `SubmitError::TooLarge`. 1,024 to
    /// 1,048,576.
    pub placement_queue: usize,
    /// The longest time for which a place may be held; `None` lets one be held until it is
    /// released. 1 s to 366 days.
    pub max_hold: Option<Duration>,
    /// What the first leader of a new cell sets up. The cell's id is the one in the certificates.
    pub bootstrap: BootstrapOptions,
}

#[derive(Clone, Debug, Default)]
pub struct BootstrapOptions {
    pub clusters: Vec<(String, ClusterPolicy)>,
    pub endpoints: Vec<(String, EndpointDefaults)>,
}

/// Options that cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("silent_after is {0:?}; set it between 1 s and 10 min")]
    SilentAfter(Duration),
    #[error("propose_timeout is {0:?}; set it between 100 ms and 1 min")]
    ProposeTimeout(Duration),
    #[error("planners is {0}; set it between 1 and 64")]
    Planners(usize),
    #[error("placement_queue is {0}; set it between 1024 and 1048576")]
    PlacementQueue(usize),
    #[error("max_hold is {0:?}; set it between 1 s and 366 days, or leave it out")]
    MaxHold(Duration),
    #[error("bootstrap names no cluster; a cell needs at least one")]
    NoCluster,
}

impl Options {
    pub const SILENT_AFTER: Duration = Duration::from_secs(5);
    pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
    /// More pay only on a machine that has cores to spare beside the replica's own threads.
    pub const PLANNERS: usize = 1;
    pub const PLACEMENT_QUEUE: usize = 1 << 16;

    /// Options with every timer at its default.
    pub fn new(
        raft: berth_raft::Options,
        nodes_listen: SocketAddr,
        bootstrap: BootstrapOptions,
    ) -> Self {
        Self {
            raft,
            nodes_listen,
            silent_after: Self::SILENT_AFTER,
            propose_timeout: Self::PROPOSE_TIMEOUT,
            planners: Self::PLANNERS,
            placement_queue: Self::PLACEMENT_QUEUE,
            max_hold: None,
            bootstrap,
        }
    }

    pub fn validate(&self) -> Result<(), OptionsError> {
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.silent_after) {
            return Err(OptionsError::SilentAfter(self.silent_after));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.propose_timeout) {
            return Err(OptionsError::ProposeTimeout(self.propose_timeout));
        }
        if !(1..=64).contains(&self.planners) {
            return Err(OptionsError::Planners(self.planners));
        }
        if !(1 << 10..=1 << 20).contains(&self.placement_queue) {
            return Err(OptionsError::PlacementQueue(self.placement_queue));
        }
        let longest = Duration::from_secs(366 * 24 * 60 * 60);
        if let Some(max_hold) = self.max_hold
            && !(Duration::from_secs(1)..=longest).contains(&max_hold)
        {
            return Err(OptionsError::MaxHold(max_hold));
        }
        if self.bootstrap.clusters.is_empty() {
            return Err(OptionsError::NoCluster);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn options() -> Options {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let raft = berth_raft::Options::new(1, BTreeMap::new(), address, "data".into());
        let clusters = vec![("main".to_owned(), ClusterPolicy::default())];
        Options::new(raft, address, BootstrapOptions { clusters, endpoints: Vec::new() })
    }

    #[test]
    fn defaults_stand_and_what_is_out_of_range_is_named() {
        assert_eq!(options().validate(), Ok(()));
        let check = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            options.validate().unwrap_err()
        };
        assert_eq!(check(|options| options.planners = 0), OptionsError::Planners(0));
        assert_eq!(check(|options| options.planners = 65), OptionsError::Planners(65));
        assert_eq!(
            check(|options| options.placement_queue = 100),
            OptionsError::PlacementQueue(100)
        );
        let blink = Duration::from_millis(1);
        assert_eq!(
            check(|options| options.max_hold = Some(Duration::from_millis(1))),
            OptionsError::MaxHold(blink)
        );
        assert_eq!(check(|options| options.bootstrap.clusters.clear()), OptionsError::NoCluster);
    }
}

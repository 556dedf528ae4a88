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
    #[error("bootstrap names no cluster; a cell needs at least one")]
    NoCluster,
}

impl Options {
    pub const SILENT_AFTER: Duration = Duration::from_secs(5);
    pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

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
        if self.bootstrap.clusters.is_empty() {
            return Err(OptionsError::NoCluster);
        }
        Ok(())
    }
}

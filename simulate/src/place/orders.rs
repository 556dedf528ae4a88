//! What the benchmark and a replica's process say to each other: one JSON object a line, one
//! answer for each order. The end of the orders ends the replica.

use super::Options;
use super::load::{Alone, Step};
use super::placing::{Placings, Wave};
use berth_wire::tls::TlsFiles;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The file that a replica starts with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Configuration {
    pub options: Options,
    pub replica: u64,
    pub peers: BTreeMap<u64, SocketAddr>,
    pub nodes_listen: SocketAddr,
    pub data: PathBuf,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Configuration {
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Wait until the cell is set up and this replica knows its leader.
    Ready,
    /// Wait until so many hosts are connected.
    AwaitHosts(u64),
    /// Record the image on every cluster.
    RecordImages,
    /// Make all hosts known without sessions.
    RegisterHosts,
    /// Ask for places.
    Place(Wave),
    /// End what the placements with these numbers hold.
    Release { from: u32, to: u32 },
    /// Create the container VMs with these numbers, and wait until they have datastores.
    Create { from: u32, to: u32 },
    /// Start them, and wait until they run.
    Start { from: u32, to: u32 },
    /// Create and start these one after the other.
    OneAtATime { from: u32, to: u32 },
    /// Wait until this index is applied, then tell of the state.
    Check { index: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Told {
    Done,
    Ready { leader: u64, term: u64 },
    Stepped(Step),
    Placed(Placings),
    WentAlone(Alone),
    Checked(Checked),
    Failed(String),
}

/// The fleet of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    pub index: u64,
    pub term: u64,
    pub state_hash: u64,
    /// What does not hold.
    pub broken: Option<String>,
    pub over_capacity: Vec<String>,
    pub silent_hosts: u64,
    pub running: u64,
    pub reservations: u64,
}

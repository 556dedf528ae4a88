//! `berth bench place`: a cell of real scheduler replicas, each a process of its own with its log
//! on disk, fsync and mutual TLS, and simulated nodes that register, obey and report.
//!
//! ```text
//!  this process ── orders, stdin and stdout ──► replica 1..R   (one of them leads and gives load)
//!        └─ simulated nodes ── TLS sessions ──────►  │
//! ```
//! Requests are made inside the leader's process, as its HTTP listeners make them; with `http` they
//! come over HTTP/1.1 from this process to replicas that run as `berth scheduler`. A simulated node
//! starts what it is told to at once: the figures hold no time of a hypervisor, a guest or an image.
//!
//! Cases: `batch` (every placement held, many in a request), `single-1` and `single-K` (one in a
//! request, one request or K at once), then the life of container VMs: all but the last few are
//! created, with many commands in flight; then all are started the same way; then the last few are
//! created and started one at a time, as a single user would.
//!
//! Cells that are larger than [`SESSIONS_MAX`], and several cells at once, have hosts that are known
//! to the fleet without a session of a node; there the lives of container VMs are left out.

mod cell;
mod http;
mod lives;
mod load;
mod many;
mod node;
mod orders;
mod placing;
mod replica;
mod story;

pub use replica::run as run_replica;

use crate::made_up::MadeUp;
use crate::sheet::Sheet;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most placements that a replica takes at once; what is more would only be refused.
pub const ITEMS_MAX: u64 = 1 << 16;
/// Hosts with a session each, at most: each is a socket here and one at the leader.
pub const SESSIONS_MAX: u32 = 10_000;
/// Container VMs whose lives are measured, at most.
const LIVES_MAX: u32 = 5_000;
/// Hosts of a cell in which they are.
const LIVES_HOSTS_MAX: u32 = 2_000;
/// Commands that one client sends at once before it waits for all their answers, in lives.
const LIFE_BATCH: usize = 1;
/// Clients at work at once, in lives.
const LIFE_IN_FLIGHT: usize = 64;
/// Placements that are under way in the batch cases.
const BATCH_ITEMS: u32 = 16_384;
/// Placements that are asked for one after the other.
const ONE_BY_ONE: u32 = 2_000;
/// Placements that are asked for one a request with many in flight, at most.
const SINGLES_MAX: u32 = 100_000;
/// One client's command that has no answer by then has failed.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// A step in which nothing came on for so long is over.
const STALL: Duration = Duration::from_secs(30);
const ENDPOINT: &str = "bench";

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Options {
    pub hosts: u32,
    /// Placements, at least 2.
    pub vms: u32,
    /// An odd number.
    pub replicas: u32,
    /// Placements in one request of the batch case.
    pub batch: u32,
    /// Requests for one placement each that are in flight at once.
    pub in_flight: u32,
    /// Threads that decide placements, of each replica.
    pub planners: u32,
    /// Through the HTTP API.
    pub http: bool,
    /// Cells that share hosts and placements.
    pub cells: u32,
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("{0} replicas: an odd number of 1 to 7 is wanted")]
    Replicas(u32),
    #[error("{0} container VMs are too few, at least 2 are wanted")]
    Vms(u32),
    #[error(
        "{items} placements in flight are more than the {ITEMS_MAX} that a replica takes at once; \
         lower --in-flight or --batch"
    )]
    TooMany { items: u64 },
    #[error("{0} cells: with --http there is one; leave one of both out")]
    HttpCells(u32),
    #[error("{0} hosts: with --http each has a session, and {SESSIONS_MAX} are the most")]
    HttpHosts(u32),
    #[error("an answer over HTTP does not fit: {0}")]
    Http(String),
    #[error("cannot {verb} {path}")]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("limit of open files is {limit}, {needed} are needed; raise it with `ulimit -n`")]
    OpenFiles { limit: u64, needed: u64 },
    #[error("no free port on loopback")]
    Port(#[source] std::io::Error),
    #[error(transparent)]
    Pki(#[from] berth_wire::pki::PkiError),
    #[error(transparent)]
    Tls(#[from] berth_wire::tls::TlsError),
    #[error("replica {0} cannot be started")]
    Spawn(u64, #[source] std::io::Error),
    #[error("replica {replica} {trouble}; the end of its log: {log}")]
    Replica { replica: u64, trouble: String, log: String },
    #[error("replica's configuration cannot be read")]
    Configuration(#[source] serde_json::Error),
    #[error("an order or answer cannot be read")]
    Order(#[source] serde_json::Error),
    #[error("a replica's answer does not fit the order")]
    OddAnswer,
    #[error("interrupted")]
    Interrupted,
    #[error("no replica knows a leader")]
    NoLeader,
    #[error("the replica stopped: {0}")]
    Stopped(String),
    #[error("a scheduler cannot be started")]
    Scheduler(#[from] berth_scheduler::StartError),
}

impl PlaceError {
    fn file(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PlaceError + use<> {
        let path = path.to_owned();
        move |source| PlaceError::File { verb, path, source }
    }
}

impl Options {
    pub fn validate(&self) -> Result<(), PlaceError> {
        if !(1..=7).contains(&self.replicas) || self.replicas.is_multiple_of(2) {
            return Err(PlaceError::Replicas(self.replicas));
        }
        if self.vms < 2 {
            return Err(PlaceError::Vms(self.vms));
        }
        if self.http && self.cells > 1 {
            return Err(PlaceError::HttpCells(self.cells));
        }
        let items = u64::from(self.in_flight.max(self.batch));
        if items > ITEMS_MAX {
            return Err(PlaceError::TooMany { items });
        }
        Ok(())
    }

    /// Whether each host has a node with a session.
    fn has_sessions(&self) -> bool {
        self.cells == 1 && self.hosts <= SESSIONS_MAX
    }

    /// How many container VMs live: some are created under load, some one at a time.
    fn lives(&self) -> u32 {
        if self.has_sessions() && self.hosts <= LIVES_HOSTS_MAX {
            self.vms.min(LIVES_MAX)
        } else {
            0
        }
    }

    /// How many of these are created and started one at a time, at the end.
    fn alone(&self) -> u32 {
        (self.lives() / 10).clamp(1, 200)
    }

    /// Batches in flight at once.
    fn batches(&self) -> u32 {
        (BATCH_ITEMS / self.batch.max(1)).clamp(1, 64)
    }

    fn made_up(&self) -> MadeUp {
        MadeUp::new(self.hosts, self.vms, berth_model::Permille(500), self.seed)
    }
}

/// Runs the benchmark. `program` is `berth`: with `bench replica FILE` it must end up in
/// [`run_replica`] with that path. Everything is kept below `directory` and removed at the end.
pub async fn run(options: Options, program: &Path, directory: &Path) -> Result<Sheet, PlaceError> {
    options.validate()?;
    let work = async {
        if options.cells > 1 {
            many::tell(options, program, directory).await
        } else if options.http {
            http::tell(options, program, directory).await
        } else {
            let cell = cell::Cell::start(options, program, directory).await?;
            story::tell(options, cell).await
        }
    };
    // Dropping the work ends the replicas and removes the directory.
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(PlaceError::Interrupted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Options = Options {
        hosts: 1,
        vms: 2,
        replicas: 3,
        batch: 1000,
        in_flight: 1000,
        planners: 1,
        http: false,
        cells: 1,
        seed: 1,
    };

    #[test]
    fn what_cannot_be_measured_is_refused() {
        GOOD.validate().unwrap();
        let refused = |options: Options| options.validate().unwrap_err();
        assert!(matches!(refused(Options { replicas: 2, ..GOOD }), PlaceError::Replicas(2)));
        assert!(matches!(refused(Options { vms: 1, ..GOOD }), PlaceError::Vms(1)));
        let flood = Options { in_flight: 65_537, ..GOOD };
        assert!(matches!(refused(flood), PlaceError::TooMany { items: 65_537 }));
        let both = Options { http: true, cells: 2, ..GOOD };
        assert!(matches!(refused(both), PlaceError::HttpCells(2)));
    }

    #[test]
    fn large_cells_and_many_have_no_sessions_and_no_lives() {
        let small = Options { hosts: 100, vms: 1000, ..GOOD };
        assert!(small.has_sessions() && small.lives() == 1000);
        let large = Options { hosts: 20_000, ..small };
        assert!(!large.has_sessions() && large.lives() == 0);
        assert!(!Options { cells: 10, ..small }.has_sessions());
        assert_eq!(Options { hosts: 10_000, ..small }.lives(), 0);
    }
}

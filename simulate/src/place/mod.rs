//! `berth bench place`: a cell of real scheduler replicas, each a process of its own with its log
//! on disk, fsync and mutual TLS, and simulated nodes that register, obey and report.
//!
//! ```text
//!  this process ── orders, stdin and stdout ──► replica 1..R   (one of them leads and gives load)
//!        └─ simulated nodes ── TLS sessions ──────►  │
//! ```
//! Commands are submitted inside the leader's process, as its HTTP listeners submit them; HTTP
//! itself is not measured. A simulated node starts what it is told to at once: the figures hold no
//! time of a hypervisor, a guest or an image.
//!
//! Steps: every container VM but the last few is created, with as many commands in flight as
//! asked; then all are started the same way; then the last few are created and started one at a
//! time, as a single user would.

mod cell;
mod load;
mod node;
mod orders;
mod replica;
mod story;

pub use replica::run as run_replica;

use crate::sheet::Sheet;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most commands that a replica takes at once; what is more would only be refused.
pub const COMMANDS_MAX: u32 = 4096;
/// One client's command that has no answer by then has failed.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// A step in which nothing came on for so long is over.
const STALL: Duration = Duration::from_secs(30);
const ENDPOINT: &str = "bench";

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Options {
    pub hosts: u32,
    /// At least 2: some are created under load, some one at a time.
    pub vms: u32,
    /// An odd number.
    pub replicas: u32,
    /// Commands that one client sends at once before it waits for all their answers.
    pub batch: u32,
    /// Clients at work at once.
    pub in_flight: u32,
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("{0} replicas: an odd number of 1 to 7 is wanted")]
    Replicas(u32),
    #[error("{0} container VMs are too few, at least 2 are wanted")]
    Vms(u32),
    #[error(
        "{in_flight} clients with {batch} commands each are more than the {COMMANDS_MAX} commands \
         that a replica takes at once; lower one of them"
    )]
    TooManyCommands { in_flight: u32, batch: u32 },
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
        let Options { in_flight, batch, .. } = *self;
        if u64::from(in_flight) * u64::from(batch) > u64::from(COMMANDS_MAX) {
            return Err(PlaceError::TooManyCommands { in_flight, batch });
        }
        Ok(())
    }

    /// How many are created and started one at a time, at the end.
    fn alone(&self) -> u32 {
        (self.vms / 10).clamp(1, 200)
    }

    fn made_up(&self) -> crate::made_up::MadeUp {
        crate::made_up::MadeUp::new(self.hosts, self.vms, berth_model::Permille(500), self.seed)
    }
}

/// Runs the benchmark. `program` followed by `arguments` and the path of a file must end up in
/// [`run_replica`] with that path. Everything is kept below `directory` and removed at the end.
pub async fn run(
    options: Options,
    program: &Path,
    arguments: &[&str],
    directory: &Path,
) -> Result<Sheet, PlaceError> {
    options.validate()?;
    let work = async {
        let cell = cell::Cell::start(options, program, arguments, directory).await?;
        story::tell(options, cell).await
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

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let good = Options { hosts: 1, vms: 2, replicas: 3, batch: 1, in_flight: 64, seed: 1 };
        good.validate().unwrap();
        let refused = |options: Options| options.validate().unwrap_err();
        assert!(matches!(refused(Options { replicas: 2, ..good }), PlaceError::Replicas(2)));
        assert!(matches!(refused(Options { vms: 1, ..good }), PlaceError::Vms(1)));
        let flood = Options { batch: 65, ..good };
        assert!(matches!(refused(flood), PlaceError::TooManyCommands { .. }));
    }
}

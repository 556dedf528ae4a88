//! What runs container VMs on a host: one trait, two implementations.
//!
//! ```text
//!  vm::actor ──► Hypervisor::prepare ──► launch ──► RunningVm ──► guest_link, ended, power_off
//!                     (delta disk)         └─ after a restart of the node: adopt ─┘
//! ```
//!
//! [`qemu`] runs real machines, each in a session of its own, so that they outlive the node.
//! [`simulated`] plays scripted ones for benchmarks, simulations and the tests of the actor.
//!
//! Promises: `launch` either answers with a machine or leaves nothing running; a machine is found
//! again by its run directory alone; `ended` answers once the machine's process is gone for certain.
//! Does not: decide anything (that is `vm::lifecycle`) or know what the guest's messages mean.

mod plan;
pub mod qemu;
pub mod simulated;

pub use plan::{CONSOLE_FILE, Deadlines, LaunchPlan};

use berth_model::host::Accelerator;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Runs container VMs.
#[async_trait::async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Name and version, for people: `qemu 7.2.22`.
    fn description(&self) -> String;

    fn accelerator(&self) -> Accelerator;

    /// How long what may take, on this host.
    fn deadlines(&self) -> Deadlines;

    /// Most bytes of output that one run may leave in its log.
    fn log_limit(&self) -> berth_model::Bytes;

    /// Whether container VMs are weighed against each other here (`Demand::shares`).
    fn weighs(&self) -> bool;

    /// Makes the delta disk if the container VM has none yet.
    async fn prepare(&self, plan: &LaunchPlan) -> Result<(), LaunchError>;

    /// Waits for a turn to boot, first come, first served. Held until the agent is heard.
    async fn boot_slot(&self) -> BootSlot;

    /// Starts the machine; answers when its hypervisor is there and the guest is about to boot.
    async fn launch(&self, plan: &LaunchPlan) -> Result<Arc<dyn RunningVm>, LaunchError>;

    /// Finds the machine that an earlier node process launched in this run directory under `name`
    /// ([`LaunchPlan::name`]); `None` if it is gone.
    async fn adopt(
        &self,
        run_directory: &Path,
        name: &str,
    ) -> Result<Option<Arc<dyn RunningVm>>, LaunchError>;
}

/// A turn to boot, given back when it is dropped.
#[derive(Debug, Default)]
pub struct BootSlot(pub Option<tokio::sync::OwnedSemaphorePermit>);

/// Both directions of a byte stream.
pub trait GuestStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> GuestStream for S {}

/// One machine that was started.
#[async_trait::async_trait]
pub trait RunningVm: Send + Sync {
    /// A new connection to the agent's port. Only the newest one is served.
    async fn guest_link(&self) -> io::Result<Box<dyn GuestStream>>;

    /// Waits until the machine's process is gone; any number of callers.
    async fn ended(&self) -> Ended;

    /// Takes the power away at once. Nothing is lost that the guest had written through.
    async fn power_off(&self);

    /// Whether the virtual CPUs run; an error if the hypervisor does not answer in time, as when
    /// it is frozen.
    async fn executing(&self) -> Result<bool, MonitorError>;

    /// If it halted because a disk could not be written, lets it try again; answers whether it had.
    async fn unstall(&self) -> Result<bool, MonitorError>;

    /// Halts the virtual CPUs, and lets them go on.
    async fn pause(&self) -> Result<(), MonitorError>;
    async fn resume(&self) -> Result<(), MonitorError>;

    /// What the hypervisor process itself costs, `None` if there is none.
    fn usage(&self) -> Option<ProcessUsage>;
}

/// How a machine's process came to its end, as far as this node can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether the guest itself had the power switched off.
    pub by_guest: bool,
    /// What the hypervisor and the guest's kernel said last; empty if nothing.
    pub last_words: String,
}

/// Waits until a machine's end is told.
async fn until_ended(mut ended: tokio::sync::watch::Receiver<Option<Ended>>) -> Ended {
    let known = ended.wait_for(Option::is_some).await.ok().map(|known| known.clone());
    match known {
        Some(known) => known.unwrap_or_default(),
        // The runtime shuts down, and whoever asks with it.
        None => std::future::pending().await,
    }
}

/// Of the hypervisor process, its guest's work included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    pub cpu: Duration,
    pub resident: berth_model::Bytes,
}

/// The hypervisor's monitor did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    #[error("the hypervisor did not answer within {0:?}; it may be frozen")]
    Silent(Duration),
    #[error("the hypervisor closed its monitor connection")]
    Closed,
    #[error("the hypervisor said something that is no answer: {0}")]
    Malformed(String),
    #[error("the hypervisor refused `{command}`: {reason}")]
    Refused { command: String, reason: String },
    #[error("cannot talk to the hypervisor's monitor")]
    Io(#[source] io::Error),
}

/// Why a machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("guest {what} {} is missing; run `cargo xtask assets` or set the node's assets directory", path.display())]
    AssetMissing { what: &'static str, path: PathBuf },
    #[error("base disk {} is missing; load the image again", .0.display())]
    BaseMissing(PathBuf),
    #[error("datastore is full: no space left for {}; free space there or choose another datastore", .0.display())]
    DatastoreFull(PathBuf),
    #[error("`{program}` is not installed; install the package {package}")]
    ProgramMissing { program: String, package: &'static str },
    #[error("`{program}` failed: {last_words}")]
    ProgramFailed { program: String, last_words: String },
    #[error("the hypervisor did not start: {last_words}")]
    NotStarted { last_words: String },
    #[error("disk {} is in use by another process; a container VM of an earlier epoch may still run", .0.display())]
    DiskInUse(PathBuf),
    #[error("the hypervisor started but its monitor did not answer: {0}")]
    Monitor(MonitorError),
    #[error(
        "container VM was placed on NUMA nodes {nodes:?}, but {reason}; the facts that placed it no \
         longer hold, start it again"
    )]
    Numa { nodes: Vec<u16>, reason: String },
    #[error(
        "container VMs cannot be weighed against each other on this host: {reason}; start it on \
         another host or without shares"
    )]
    NoShares { reason: String },
    #[error("no control group for the hypervisor: {}", crate::causes::with_causes(.0))]
    Group(qemu::confinement::GroupsError),
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

impl LaunchError {
    /// For `map_err`: what was being done, to which file; a full disk keeps its own name.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
        let path = path.to_owned();
        move |source| {
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                LaunchError::DatastoreFull(path)
            } else {
                LaunchError::Io { what, path, source }
            }
        }
    }
}

//! The keeper: a process of its own that renews this host's lease on every datastore and knows
//! whether the node lives.
//!
//! ```text
//!  each second:  one writer thread a datastore ─ renewed ─►┐
//!                node's beats on the socket ──────────────►├─ decide ─► log, status for the node
//!                the keeper's own clock ──────────────────►┘
//! ```
//!
//! Promises: it goes on without the node and without any scheduler; a datastore that hangs holds up
//! neither the clock nor the other datastores. Does not yet: freeze or kill container VMs, feed a
//! watchdog, or read other hosts' leases; what it decides is shown and logged.

pub mod decide;
pub mod lease;
mod link;

pub use link::attend;

use crate::causes::with_causes;
use crate::control::{self, ControlError, ControlLink};
use crate::datastore::{Datastore, DatastoreOptions};
use crate::options::{OptionsError, absolute, word};
use berth_model::HostId;
use decide::{Judgement, Known, LeaseState, NodeState, Policy, Renewals, Ticks, Turn};
use lease::LeaseFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

const PERIOD: Duration = Duration::from_secs(1);
const SOCKET: &str = "keeper.sock";
/// Links from nodes that are served at once; there is one node, and one that is going.
const LINKS_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The same as the node's.
    pub host_id: HostId,
    /// The same as the node's: the socket between the two lies there.
    pub run_directory: PathBuf,
    /// The same as the node's.
    #[serde(default)]
    pub datastores: Vec<DatastoreOptions>,
    #[serde(default)]
    pub timers: Timers,
}

/// When what is late, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// Renewals of a lease are called slow after so long, 2 to 3,600.
    pub slow_after: u32,
    /// And the lease gone after so long, more than `slow_after`, up to 3,600.
    pub gone_after: u32,
    /// The node is called silent after so long, 2 to 3,600.
    pub node_silent_after: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self { slow_after: 3, gone_after: 15, node_silent_after: 5 }
    }
}

/// Why the keeper cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("cannot read the id of this boot")]
    BootId(#[source] std::io::Error),
}

/// From the node, each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    Beat,
}

/// The answer to each beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    Judged(Judgement),
}

impl Options {
    /// Checks everything that can be checked without looking at the machine.
    pub fn validate(&self) -> Result<(), OptionsError> {
        absolute("run_directory", &self.run_directory)?;
        for datastore in &self.datastores {
            word("datastores.name", &datastore.name)?;
            absolute("datastores.path", &datastore.path)?;
        }
        let timers = &self.timers;
        let between = |option, value: u32, low, rule| {
            if (low..=3600).contains(&value) {
                return Ok(());
            }
            Err(OptionsError::Refused { option, value: value.to_string(), rule })
        };
        between("timers.slow_after", timers.slow_after, 2, "it is 2 to 3,600")?;
        let rule = "it is more than slow_after, up to 3,600";
        between("timers.gone_after", timers.gone_after, timers.slow_after + 1, rule)?;
        between("timers.node_silent_after", timers.node_silent_after, 2, "it is 2 to 3,600")
    }
}

/// Where the keeper of a host listens.
pub fn socket(run_directory: &Path) -> PathBuf {
    run_directory.join(SOCKET)
}

/// Runs until `shutdown` answers.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), KeeperError> {
    options.validate()?;
    let boot = crate::facts::boot_id().map_err(KeeperError::BootId)?;
    let listener = control::bind(&socket(&options.run_directory)).await?;
    let (beats, mut heard) = mpsc::channel(16);
    let (publisher, judgements) = watch::channel(Judgement::default());
    let serving = actix_rt::spawn(serve(listener, beats, judgements));
    let (renewed, mut renewals) = mpsc::channel(64);
    let writers: Vec<Writer> = options
        .datastores
        .iter()
        .map(|datastore| Writer::start(datastore.clone(), options.host_id, &boot, renewed.clone()))
        .collect();
    let mut keeper = Keeper::new(&options);
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let began = tokio::time::Instant::now();
    tokio::pin!(shutdown);
    tracing::info!(host = %options.host_id, datastores = writers.len(), "keeper runs");
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = clock.tick() => {
                // Seconds that passed, not beats: a keeper that was held up knows how long.
                keeper.known.now = began.elapsed().as_secs();
                for writer in &writers {
                    writer.renew(keeper.known.now);
                }
                keeper.judge(&publisher);
            }
            Some(renewal) = renewals.recv() => keeper.renewed(renewal),
            Some(()) = heard.recv() => keeper.known.node_heard = began.elapsed().as_secs(),
        }
    }
    serving.abort();
    tracing::info!("keeper ends; its leases run out");
    Ok(())
}

struct Keeper {
    policy: Policy,
    known: Known,
    judgement: Judgement,
    /// Troubles that were logged, by datastore.
    troubles: BTreeMap<String, String>,
}

/// How a renewal went that began at a tick.
struct Renewal {
    datastore: String,
    began: Ticks,
    outcome: Result<u64, String>,
}

impl Keeper {
    fn new(options: &Options) -> Keeper {
        let policy = Policy {
            slow_after: options.timers.slow_after.into(),
            gone_after: options.timers.gone_after.into(),
            node_silent_after: options.timers.node_silent_after.into(),
        };
        let never = Renewals { renewed: 0, ever: false };
        let leases = options.datastores.iter().map(|store| (store.name.clone(), never)).collect();
        let known = Known { now: 0, leases, node_heard: 0 };
        Keeper { policy, known, judgement: Judgement::default(), troubles: BTreeMap::new() }
    }

    fn renewed(&mut self, renewal: Renewal) {
        let name = renewal.datastore;
        match renewal.outcome {
            Ok(_) => {
                self.troubles.remove(&name);
                let renewals = Renewals { renewed: renewal.began, ever: true };
                self.known.leases.insert(name, renewals);
            }
            Err(trouble) => {
                if self.troubles.get(&name) != Some(&trouble) {
                    tracing::error!(datastore = name, trouble, "lease was not renewed");
                    self.troubles.insert(name, trouble);
                }
            }
        }
    }

    fn judge(&mut self, publisher: &watch::Sender<Judgement>) {
        let judgement = decide::decide(&self.policy, &self.known);
        for turn in decide::turns(&self.judgement, &judgement) {
            match turn {
                Turn::Lease { datastore, state: LeaseState::Starting } => {
                    tracing::debug!(datastore, "lease is taken up");
                }
                Turn::Lease { datastore, state: LeaseState::Kept } => {
                    tracing::info!(datastore, "lease is kept");
                }
                Turn::Lease { datastore, state: LeaseState::Slow } => {
                    tracing::warn!(datastore, "lease is renewed too slowly");
                }
                Turn::Lease { datastore, state: LeaseState::Gone } => {
                    tracing::error!(datastore, "lease is gone");
                }
                Turn::Node(NodeState::Alive) => tracing::info!("node lives"),
                Turn::Node(NodeState::Silent) => tracing::warn!("node is silent"),
            }
        }
        publisher.send_if_modified(|held| {
            let differs = *held != judgement;
            held.clone_from(&judgement);
            differs
        });
        self.judgement = judgement;
    }
}

/// The thread that writes one lease; only it waits for that datastore.
struct Writer {
    ticks: std::sync::mpsc::SyncSender<Ticks>,
}

impl Writer {
    fn start(
        options: DatastoreOptions,
        host: HostId,
        boot: &str,
        renewed: mpsc::Sender<Renewal>,
    ) -> Writer {
        let (ticks, due) = std::sync::mpsc::sync_channel::<Ticks>(1);
        let boot = boot.to_owned();
        std::thread::spawn(move || {
            let mut file = None;
            while let Ok(began) = due.recv() {
                let outcome = renew(&mut file, &options, host, &boot);
                let datastore = options.name.clone();
                if renewed.blocking_send(Renewal { datastore, began, outcome }).is_err() {
                    return;
                }
            }
        });
        Writer { ticks }
    }

    /// A writer that still waits for its datastore misses this turn.
    fn renew(&self, now: Ticks) {
        // Full: it hangs, and `decide` sees the age. Disconnected: the keeper ends.
        let _ = self.ticks.try_send(now);
    }
}

/// After any trouble the file is opened again: the datastore may have been mounted anew.
fn renew(
    held: &mut Option<LeaseFile>,
    options: &DatastoreOptions,
    host: HostId,
    boot: &str,
) -> Result<u64, String> {
    let mut file = match held.take() {
        Some(file) => file,
        None => {
            let datastore = Datastore::register(options).map_err(|error| with_causes(&error))?;
            let period = u64::try_from(PERIOD.as_millis()).unwrap_or(u64::MAX);
            LeaseFile::open(&datastore.lease(host), host, boot, period)
                .map_err(|error| error.to_string())?
        }
    };
    let counter = file.renew().map_err(|error| error.to_string())?;
    *held = Some(file);
    Ok(counter)
}

async fn serve(
    listener: UnixListener,
    beats: mpsc::Sender<()>,
    judgements: watch::Receiver<Judgement>,
) {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(LINKS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "keeper cannot take a connection");
                tokio::time::sleep(PERIOD).await;
                continue;
            }
        };
        let (beats, judgements) = (beats.clone(), judgements.clone());
        actix_rt::spawn(async move {
            let _slot = slot;
            if let Err(error) = answer(stream, beats, judgements).await {
                tracing::warn!(error = with_causes(&error), "link of a node broke");
            }
        });
    }
}

async fn answer(
    stream: tokio::net::UnixStream,
    beats: mpsc::Sender<()>,
    judgements: watch::Receiver<Judgement>,
) -> Result<(), ControlError> {
    let mut link = ControlLink::open(stream, &control::hello()).await?;
    while let Some(ToKeeper::Beat) = link.receive().await? {
        // A full channel holds beats that say the same.
        let _ = beats.try_send(());
        let judgement = judgements.borrow().clone();
        link.send(&FromKeeper::Judged(judgement)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

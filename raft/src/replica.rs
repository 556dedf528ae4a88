//! Starting a replica: from its files to its running threads.
//!
//! ```text
//!   log state ─► snapshot it names ─► machine.restore ─► raft applies the entries behind it again
//! ```
//!
//! Promises: a directory of another cell, replica or group is refused, and so is a damaged one;
//! nothing is guessed. What is told to raft as applied is exactly what the restored snapshot holds.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;

use berth_metrics::raft::RaftMetrics;
use berth_wire::tls::{Identity, Role, Tls};
use raft::{Config, RawNode, ReadOnlyOption};
use tokio::sync::watch;

use crate::clock;
use crate::core::hashes::Hashes;
use crate::core::proposals::Proposals;
use crate::core::reads::Reads;
use crate::core::{Core, Input, Progress};
use crate::handle::{Inbox, ReplicaHandle};
use crate::log::storage::RaftStorage;
use crate::log::writer::{Fatal, Writer};
use crate::log::{Durable, EngineLog, LogError, LogStore, Position};
use crate::machine::StateMachine;
use crate::net::{Context, Net};
use crate::options::{Options, OptionsError, ReplicaId};
use crate::outbox::Outbox;
use crate::slog_bridge;
use crate::snapshots::{self, SnapshotError, Snapshots};
use crate::status::{self, Status};

/// Starts replicas.
pub struct Replica;

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("raft settings make no sense")]
    Options(#[from] OptionsError),
    #[error(
        "certificate {found} cannot speak for replica {id}; it needs the role scheduler and the \
         replica id as its id"
    )]
    Identity { found: Identity, id: ReplicaId },
    #[error("cannot {verb} {path}")]
    Directory {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(
        "log belongs to replica {found} of cell {found_cell}, not to {expected} of \
         {expected_cell}; choose the right directory"
    )]
    ForeignLog { found: ReplicaId, found_cell: String, expected: ReplicaId, expected_cell: String },
    #[error(
        "log belongs to a group of replicas {found:?}, the settings name {expected:?}; membership \
         cannot change yet, restore the old list"
    )]
    VotersChanged { found: Vec<ReplicaId>, expected: Vec<ReplicaId> },
    #[error("snapshot {index} cannot be restored: {detail}")]
    Restore { index: u64, detail: String },
    #[error("raft does not start from this log")]
    Raft(#[from] raft::Error),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl Replica {
    /// Starts a replica on the files in its directory. A failed write to its log ends the process.
    pub async fn start(
        options: Options,
        tls: Tls,
        machine: impl StateMachine,
        metrics: RaftMetrics,
    ) -> Result<ReplicaHandle, StartError> {
        let fatal: Fatal = Arc::new(|message| {
            tracing::error!("{message}");
            std::process::abort();
        });
        Self::start_with(options, tls, machine, metrics, None, fatal).await
    }

    /// As [`Self::start`], with another log and another way to end.
    pub(crate) async fn start_with(
        options: Options,
        tls: Tls,
        machine: impl StateMachine,
        metrics: RaftMetrics,
        log: Option<Arc<dyn LogStore>>,
        fatal: Fatal,
    ) -> Result<ReplicaHandle, StartError> {
        let start = move || {
            options.validate()?;
            check_identity(&options, &tls)?;
            let log = match log {
                Some(log) => log,
                None => open_log(&options)?,
            };
            Start { options, tls, machine, metrics, log, fatal }.run()
        };
        // Reading the log and a snapshot takes a while; the caller's runtime goes on meanwhile.
        match tokio::task::spawn_blocking(start).await {
            Ok(started) => started,
            Err(error) => Err(StartError::Thread(io::Error::other(error))),
        }
    }
}

fn check_identity(options: &Options, tls: &Tls) -> Result<(), StartError> {
    let identity = tls.identity();
    if identity.role != Role::Scheduler || identity.id != options.id.to_string() {
        return Err(StartError::Identity { found: identity.clone(), id: options.id });
    }
    Ok(())
}

fn open_log(options: &Options) -> Result<Arc<dyn LogStore>, StartError> {
    let path = options.directory.join("log");
    std::fs::create_dir_all(&path).map_err(|source| StartError::Directory {
        verb: "create",
        path: path.clone(),
        source,
    })?;
    let log = EngineLog::open(&path, options)?;
    // raft-engine syncs its directory when it changes files, not for the first one. A vote must not
    // be lost because the name of its file was.
    let own = options.directory.as_path();
    let parent = own.parent().filter(|parent| !parent.as_os_str().is_empty());
    for path in [Some(path.as_path()), Some(own), parent].into_iter().flatten() {
        File::open(path).and_then(|directory| directory.sync_all()).map_err(|source| {
            StartError::Directory { verb: "sync", path: path.to_owned(), source }
        })?;
    }
    Ok(Arc::new(log))
}

struct Start<M> {
    options: Options,
    tls: Tls,
    machine: M,
    metrics: RaftMetrics,
    log: Arc<dyn LogStore>,
    fatal: Fatal,
}

impl<M: StateMachine> Start<M> {
    fn run(mut self) -> Result<ReplicaHandle, StartError> {
        let snapshots = Snapshots::open(self.options.directory.join("snapshots"))?;
        let (durable, last) = self.load()?;
        snapshots.clear(durable.snapshot)?;
        let (applied, applied_ms) = self.restore(&snapshots, durable.snapshot)?;
        let storage = RaftStorage::open(self.log.clone(), &durable, last)?;
        let node = RawNode::new(&self.config(applied), storage, &slog_bridge::logger())?;
        let address = self.options.listen;
        let listener =
            TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?;
        self.launch(node, durable, snapshots, Progress::new(applied, applied_ms), listener)
    }

    /// What the log says, or the beginning that all replicas of a group share.
    fn load(&self) -> Result<(Durable, u64), StartError> {
        let cell = self.tls.identity().cell.clone();
        let id = self.options.id;
        let voters: Vec<ReplicaId> = self.options.peers.keys().copied().collect();
        let Some((durable, last)) = self.log.load()? else {
            let durable = Durable {
                cell,
                replica: id,
                voters,
                term: 0,
                vote: 0,
                commit: 0,
                truncated: Position::default(),
                snapshot: None,
            };
            self.log.append(&[], &durable)?;
            return Ok((durable, 0));
        };
        if durable.cell != cell || durable.replica != id {
            return Err(StartError::ForeignLog {
                found: durable.replica,
                found_cell: durable.cell,
                expected: id,
                expected_cell: cell,
            });
        }
        if durable.voters != voters {
            return Err(StartError::VotersChanged { found: durable.voters, expected: voters });
        }
        Ok((durable, last))
    }

    /// Restores the machine; answers the applied index and the newest stamp.
    fn restore(
        &mut self,
        snapshots: &Snapshots,
        position: Option<Position>,
    ) -> Result<(u64, u64), StartError> {
        let Some(position) = position else { return Ok((0, 0)) };
        let (header, bytes) = snapshots::read(&snapshots.path(position))?;
        let index = position.index;
        self.machine
            .restore(index, &bytes)
            .map_err(|detail| StartError::Restore { index, detail })?;
        self.machine.applied(index);
        self.metrics.snapshot_bytes.set(bytes.len() as i64);
        Ok((index, header.time_ms))
    }

    fn config(&self, applied: u64) -> Config {
        Config {
            id: self.options.id,
            election_tick: self.options.election_ticks,
            heartbeat_tick: self.options.heartbeat_ticks,
            applied,
            check_quorum: true,
            pre_vote: true,
            // A peer that is behind gets up to 32 MiB ahead of its answers.
            max_size_per_msg: 512 << 10,
            max_inflight_msgs: 64,
            // We pack commands ourselves; this would merge messages beyond any bound.
            batch_append: false,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: 16 << 20,
            // A lease counts ticks of the leader's own loop, which a paused process does not make.
            read_only_option: ReadOnlyOption::Safe,
            ..Config::default()
        }
    }

    fn launch(
        self,
        node: RawNode<RaftStorage>,
        durable: Durable,
        snapshots: Snapshots,
        progress: Progress,
        listener: TcpListener,
    ) -> Result<ReplicaHandle, StartError> {
        let Self { options, tls, machine, metrics, log, fatal } = self;
        let (queue, inbox) = channel();
        let own = Inbox::new(queue);
        let others = options.peers.keys().copied().filter(|peer| *peer != options.id);
        let (outbox, queues) = Outbox::new(others, metrics.clone());
        let (send_snapshot, to_send) = tokio::sync::mpsc::unbounded_channel();
        let context = Context {
            id: options.id,
            tls,
            peers: Arc::new(options.peers.clone()),
            inbox: own.clone(),
            snapshots: snapshots.clone(),
            metrics: metrics.clone(),
            receiving: Arc::new(AtomicBool::new(false)),
        };
        let net = Net::start(context, listener, queues, to_send).map_err(StartError::Thread)?;
        let persisted = {
            let own = own.clone();
            Box::new(move |number| {
                // The loop may have ended.
                let _ = own.push(Input::Persisted(number));
            })
        };
        let writer = Writer::start(
            log,
            snapshots.clone(),
            outbox.clone(),
            persisted,
            metrics.clone(),
            fatal.clone(),
        )
        .map_err(StartError::Thread)?;
        let (status, status_seen) = watch::channel(Status {
            id: options.id,
            role: status::Role::Follower,
            term: durable.term,
            leader: None,
            commit: durable.commit,
            applied: progress.applied,
            settled: false,
        });
        let (stopped, stopped_seen) = watch::channel(None);
        let handle = ReplicaHandle {
            inbox: own.clone(),
            status: status_seen,
            stopped: stopped_seen,
            metrics: metrics.clone(),
            command_limit: options.command_limit,
        };
        let nonce = clock::start_nonce();
        let core = Core {
            proposals: Proposals::new(options.in_flight_limit, nonce),
            reads: Reads::new(options.in_flight_limit, options.id, nonce),
            hashes: Hashes::default(),
            options,
            node,
            machine,
            own,
            outbox,
            send_snapshot,
            writer,
            snapshots,
            durable,
            progress,
            status,
            metrics,
            fatal,
        };
        std::thread::Builder::new()
            .name("raft".into())
            .spawn(move || core.run(inbox, net, stopped))
            .map_err(StartError::Thread)?;
        Ok(handle)
    }
}

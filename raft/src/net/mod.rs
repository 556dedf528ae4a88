//! Links to the other replicas, on a thread and a runtime of their own, so that no flood at another
//! door of the process can keep heartbeats waiting.
//!
//! ```text
//!   outbox queue ─► dial: one link to each peer, messages one way, pulses back
//!   listener     ─► accept: a peer's messages, or a snapshot of it ─► inbox
//! ```
//!
//! Promises: a peer is known by its certificate: role scheduler, our cell, and its replica id as
//! id. A silent link is dropped and dialled again. Does not: deliver; a lost message is raft's
//! business, a lost request ends as `Unknown`.

mod accept;
mod dial;
mod snapshot;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use berth_metrics::raft::RaftMetrics;
use berth_wire::hello::Hello;
use berth_wire::link::{Link, LinkError};
use berth_wire::tls::{Identity, Role, Tls};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::handle::Inbox;
use crate::message::{Open, PROTOCOL_MAX, PROTOCOL_MIN, Purpose};
use crate::options::ReplicaId;
use crate::outbox::PeerQueue;
use crate::snapshots::Snapshots;

pub(crate) use snapshot::SendSnapshot;

/// Bound of one frame between replicas in bytes: an entry is far smaller, a few may travel
/// together.
const FRAME_LIMIT: usize = 32 << 20;
/// Each side of a link says something at least this often.
const PULSE: Duration = Duration::from_secs(1);
/// A link that was silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(5);

/// What every link needs.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) id: ReplicaId,
    pub(crate) tls: Tls,
    pub(crate) peers: Arc<BTreeMap<ReplicaId, SocketAddr>>,
    pub(crate) inbox: Inbox,
    pub(crate) snapshots: Snapshots,
    pub(crate) metrics: RaftMetrics,
    /// Only one snapshot is received at a time.
    pub(crate) receiving: Arc<AtomicBool>,
}

/// Why a link to a peer is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{0} is not the replica that was expected; its certificate must carry its replica id")]
    WrongPeer(Identity),
    #[error("replica {named} spoke over the link of {identity}")]
    NotItself { named: ReplicaId, identity: Identity },
    #[error("replica {0} is not in our list of peers")]
    Stranger(ReplicaId),
    #[error("link was silent for too long")]
    Silent,
    #[error("link was closed")]
    Closed,
    #[error("snapshot could not be handed over")]
    Snapshot(#[from] crate::snapshots::SnapshotError),
    #[error("snapshot file failed")]
    File(#[source] io::Error),
    #[error("snapshot is not the one that was offered")]
    WrongSnapshot,
    #[error("replica is ending")]
    Ending,
}

/// The running network part.
pub(crate) struct Net {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Net {
    pub(crate) fn start(
        context: Context,
        listener: TcpListener,
        queues: Vec<PeerQueue>,
        snapshots: UnboundedReceiver<SendSnapshot>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("raft-net-file")
            .max_blocking_threads(4)
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("raft-net".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(accept::run(context.clone(), listener));
                tokio::spawn(snapshot::send_all(context.clone(), snapshots));
                for queue in queues {
                    tokio::spawn(dial::run(context.clone(), queue));
                }
                // An error is a stop too: the loop is gone.
                let _ = stopped.await;
            });
            // Ends every task and closes every socket, without waiting for a file.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop, thread })
    }

    pub(crate) fn stop(self) {
        // An error means that the thread ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn hello() -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        features: Vec::new(),
    }
}

impl Context {
    /// Dials a peer for one purpose.
    async fn connect(&self, peer: ReplicaId, purpose: Purpose) -> Result<Link, PeerError> {
        let address = *self.peers.get(&peer).ok_or(PeerError::Stranger(peer))?;
        let (mut link, identity) = self.tls.connect(address, Role::Scheduler).await?;
        if identity.id != peer.to_string() {
            return Err(PeerError::WrongPeer(identity));
        }
        link.set_limit(FRAME_LIMIT);
        link.hello(&hello()).await?;
        link.send(&Open { from: self.id, purpose }).await?;
        Ok(link)
    }
}

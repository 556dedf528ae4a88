//! Where messages to other replicas go: a bounded queue per peer, emptied by that peer's link.
//!
//! Promises: sending never waits. A message to a peer without a link, or with a full queue, is
//! dropped, which Raft allows. Does not: keep messages for a peer that comes back; they would be
//! old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_metrics::raft::RaftMetrics;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::message::PeerMessage;
use crate::options::ReplicaId;

const QUEUE: usize = 4096;

/// Queues to all peers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbox {
    peers: Arc<BTreeMap<ReplicaId, Peer>>,
    metrics: RaftMetrics,
}

struct Peer {
    queue: Sender<PeerMessage>,
    connected: Arc<AtomicBool>,
}

/// The link's end of a queue.
pub(crate) struct PeerQueue {
    pub(crate) peer: ReplicaId,
    pub(crate) queue: Receiver<PeerMessage>,
    pub(crate) connected: Arc<AtomicBool>,
}

impl Outbox {
    pub(crate) fn new(
        peers: impl Iterator<Item = ReplicaId>,
        metrics: RaftMetrics,
    ) -> (Self, Vec<PeerQueue>) {
        let mut ends = Vec::new();
        let mut queues = BTreeMap::new();
        for peer in peers {
            let (queue, end) = channel(QUEUE);
            let connected = Arc::new(AtomicBool::new(false));
            ends.push(PeerQueue { peer, queue: end, connected: connected.clone() });
            queues.insert(peer, Peer { queue, connected });
        }
        (Self { peers: Arc::new(queues), metrics }, ends)
    }

    /// Whether the message is on its way. `false` means that it certainly is not.
    pub(crate) fn send(&self, to: ReplicaId, message: PeerMessage) -> bool {
        let sent = self.peers.get(&to).is_some_and(|peer| {
            peer.connected.load(Ordering::Acquire) && peer.queue.try_send(message).is_ok()
        });
        if sent {
            self.metrics.messages_sent.inc();
        } else {
            self.metrics.messages_dropped.inc();
        }
        sent
    }

    pub(crate) fn is_connected(&self, to: ReplicaId) -> bool {
        self.peers.get(&to).is_some_and(|peer| peer.connected.load(Ordering::Acquire))
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.peers.keys().copied()
    }
}

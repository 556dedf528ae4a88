//! A group of replicas in one process: mutual TLS on loopback, raft-engine in temporary
//! directories.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_metrics::Registry;
use berth_metrics::raft::RaftMetrics;
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role as Peer, Tls};
use tempfile::TempDir;

use crate::{Options, Replica, ReplicaHandle, ReplicaId, StartError, StateMachine, Status};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a machine lets the test see.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) commands: Mutex<Vec<Vec<u8>>>,
    pub(super) times: Mutex<Vec<u64>>,
    pub(super) restored: AtomicBool,
    /// Makes the state's hash another than it should be.
    pub(super) corrupt: AtomicBool,
}

/// Keeps every command in order; answers how many there are.
pub(super) struct Journal {
    commands: Vec<Vec<u8>>,
    seen: Arc<Seen>,
}

impl StateMachine for Journal {
    fn apply(&mut self, _index: u64, time_ms: u64, command: &[u8]) -> Vec<u8> {
        self.commands.push(command.to_vec());
        self.seen.times.lock().unwrap().push(time_ms);
        (self.commands.len() as u64).to_le_bytes().to_vec()
    }

    fn applied(&mut self, _index: u64) {
        let mut seen = self.seen.commands.lock().unwrap();
        if seen.len() < self.commands.len() {
            let new = self.commands[seen.len()..].to_vec();
            seen.extend(new);
        }
    }

    fn role_changed(&mut self, _status: &Status) {}

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let commands = self.commands.clone();
        Box::new(move || berth_wire::codec::encode(&commands))
    }

    fn restore(&mut self, _index: u64, bytes: &[u8]) -> Result<(), String> {
        let commands = berth_wire::codec::decode(bytes, usize::MAX);
        self.commands = commands.map_err(|error| error.to_string())?;
        self.seen.restored.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn state_hash(&self) -> u64 {
        let corrupt = u64::from(self.seen.corrupt.load(Ordering::SeqCst));
        let hash = crc32fast::hash(&berth_wire::codec::encode(&self.commands));
        u64::from(hash) + corrupt
    }
}

pub(super) struct Group {
    pub(super) directory: TempDir,
    pub(super) authority: Authority,
    peers: BTreeMap<ReplicaId, SocketAddr>,
    pub(super) tune: fn(&mut Options),
    pub(super) replicas: BTreeMap<ReplicaId, ReplicaHandle>,
    pub(super) seen: BTreeMap<ReplicaId, Arc<Seen>>,
}

impl Group {
    /// A group of which nothing runs yet.
    pub(super) fn new(size: u64, tune: fn(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create("cell-1", directory.path()).unwrap();
        let peers = (1..=size).map(|id| (id, free_address())).collect();
        let (replicas, seen) = (BTreeMap::new(), BTreeMap::new());
        Self { directory, authority, peers, tune, replicas, seen }
    }

    pub(super) async fn started(size: u64, tune: fn(&mut Options)) -> Self {
        let mut group = Self::new(size, tune);
        group.start_all().await;
        group
    }

    pub(super) fn options(&self, id: ReplicaId) -> Options {
        let directory = self.directory.path().join(format!("replica-{id}"));
        let mut options = Options::new(id, self.peers.clone(), self.peers[&id], directory);
        options.tick = Duration::from_millis(20);
        options.log_file_bytes = 1 << 20;
        options.log_purge_bytes = 4 << 20;
        options.log_prefill_bytes = 0;
        (self.tune)(&mut options);
        options
    }

    pub(super) fn tls(&self, role: Peer, id: &str) -> Tls {
        let identity = Identity::new("cell-1", role, id);
        let stem = format!("{role}-{id}");
        let files = self.authority.issue_files(&identity, &[], self.directory.path(), &stem);
        Tls::load(&files.unwrap()).unwrap()
    }

    pub(super) fn journal(&mut self, id: ReplicaId) -> Journal {
        let seen = Arc::new(Seen::default());
        self.seen.insert(id, seen.clone());
        Journal { commands: Vec::new(), seen }
    }

    pub(super) async fn try_start(&mut self, id: ReplicaId) -> Result<(), StartError> {
        let (options, tls) = (self.options(id), self.tls(Peer::Scheduler, &id.to_string()));
        let journal = self.journal(id);
        let metrics = RaftMetrics::register(&Registry::new()).unwrap();
        let handle = Replica::start(options, tls, journal, metrics).await?;
        self.replicas.insert(id, handle);
        Ok(())
    }

    pub(super) async fn start(&mut self, id: ReplicaId) {
        self.try_start(id).await.unwrap();
    }

    pub(super) async fn start_all(&mut self) {
        let ids: Vec<ReplicaId> = self.peers.keys().copied().collect();
        for id in ids {
            if !self.replicas.contains_key(&id) {
                self.start(id).await;
            }
        }
    }

    pub(super) async fn crash(&mut self, id: ReplicaId) {
        self.replicas.remove(&id).unwrap().crash().await;
    }

    pub(super) async fn crash_all(&mut self) {
        let ids: Vec<ReplicaId> = self.replicas.keys().copied().collect();
        for id in ids {
            self.crash(id).await;
        }
    }

    pub(super) fn handle(&self, id: ReplicaId) -> &ReplicaHandle {
        &self.replicas[&id]
    }

    /// Waits until a running replica leads and has settled.
    pub(super) async fn leader(&self) -> ReplicaId {
        let wait = self.replicas.iter().map(|(id, handle)| {
            let mut status = handle.status();
            Box::pin(async move {
                let settled = status.wait_for(|status| status.settled).await.is_ok();
                if !settled {
                    std::future::pending::<()>().await;
                }
                *id
            })
        });
        let first = first_of(wait.collect());
        tokio::time::timeout(PATIENCE, first).await.expect("a replica leads")
    }

    pub(super) async fn follower(&self) -> ReplicaId {
        let leader = self.leader().await;
        *self.replicas.keys().find(|id| **id != leader).unwrap()
    }

    pub(super) async fn propose(&self, id: ReplicaId, command: &str) -> u64 {
        let applied = self.handle(id).propose(command.into(), PATIENCE).await.unwrap();
        applied.index
    }

    /// All commands that replica `id` has applied, as of now by any replica's knowledge.
    pub(super) async fn read(&self, id: ReplicaId) -> Vec<String> {
        self.handle(id).read_index(PATIENCE).await.unwrap();
        self.seen_now(id)
    }

    pub(super) fn seen_now(&self, id: ReplicaId) -> Vec<String> {
        let commands = self.seen[&id].commands.lock().unwrap();
        commands.iter().map(|command| String::from_utf8(command.clone()).unwrap()).collect()
    }

    /// Waits until a replica's status is as wanted.
    pub(super) async fn wait(&self, id: ReplicaId, wanted: impl FnMut(&Status) -> bool) {
        let mut status = self.handle(id).status();
        let reached = tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await;
        reached.expect("status in time").expect("replica runs");
    }
}

async fn first_of<T>(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    std::future::poll_fn(|context| {
        for future in &mut futures {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                return std::task::Poll::Ready(value);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// A loopback address of this process alone: outgoing connections never take its ports.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(7001);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, 64 | (high & 63), middle, low.max(2)), port))
}

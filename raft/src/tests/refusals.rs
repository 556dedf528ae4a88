//! What a replica must not do: start on the wrong files, go on with a broken disk, hear strangers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_metrics::Registry;
use berth_metrics::raft::RaftMetrics;
use berth_wire::hello::Hello;
use berth_wire::tls::Role as Peer;
use raft::eraftpb::Entry;

use super::group::{Group, PATIENCE};
use crate::log::{Durable, LogError, LogStore, MemoryLog};
use crate::{ProposeError, Replica, StartError};

#[tokio::test]
async fn a_certificate_of_another_replica_or_role_cannot_start() {
    let mut group = Group::new(3, |_| {});
    for tls in [group.tls(Peer::Scheduler, "2"), group.tls(Peer::Node, "1")] {
        let (options, journal) = (group.options(1), group.journal(1));
        let metrics = RaftMetrics::register(&Registry::new()).unwrap();
        let refused = Replica::start(options, tls, journal, metrics).await.err();
        assert!(matches!(refused, Some(StartError::Identity { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_directory_of_another_replica_or_group_is_refused() {
    let mut group = Group::started(3, |_| {}).await;
    group.crash_all().await;
    group.tune = |options| options.directory.set_file_name("replica-2");
    let refused = group.try_start(1).await;
    assert!(matches!(refused, Err(StartError::ForeignLog { .. })), "{refused:?}");
    group.tune = |options| options.peers.retain(|id, _| *id != 3);
    let refused = group.try_start(1).await;
    assert!(matches!(refused, Err(StartError::VotersChanged { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_at_the_start() {
    let mut group = Group::started(1, |options| options.snapshot_every = 5).await;
    for number in 0..20 {
        group.propose(1, &number.to_string()).await;
    }
    group.replicas.remove(&1).unwrap().shutdown().await;
    let snapshots = group.options(1).directory.join("snapshots");
    for file in std::fs::read_dir(snapshots).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let refused = group.try_start(1).await;
    assert!(matches!(refused, Err(StartError::Snapshot(_))), "{refused:?}");
}

#[tokio::test]
async fn a_node_is_turned_away_at_the_raft_door() {
    let group = Group::started(1, |_| {}).await;
    let node = group.tls(Peer::Node, "n1");
    let address = group.options(1).listen;
    let hello = Hello { protocol_min: 1, protocol_max: 1, build: "test".into(), features: vec![] };
    // In TLS 1.3 a client hears of it only after its own handshake.
    let met = async {
        let (mut link, _) = node.connect(address, Peer::Scheduler).await?;
        link.hello(&hello).await
    };
    assert!(met.await.is_err());
    group.propose(1, "the group goes on").await;
}

/// A log whose disk breaks when it is told to.
#[derive(Default)]
struct BreakingLog {
    log: MemoryLog,
    broken: AtomicBool,
}

impl BreakingLog {
    fn check(&self) -> Result<(), LogError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(LogError::Damaged("disk is broken".into()));
        }
        Ok(())
    }
}

impl LogStore for BreakingLog {
    fn load(&self) -> Result<Option<(Durable, u64)>, LogError> {
        self.log.load()
    }

    fn append(&self, entries: &[Entry], state: &Durable) -> Result<(), LogError> {
        self.check()?;
        self.log.append(entries, state)
    }

    fn compact(&self, state: &Durable) -> Result<(), LogError> {
        self.check()?;
        self.log.compact(state)
    }

    fn reset(&self, state: &Durable) -> Result<(), LogError> {
        self.check()?;
        self.log.reset(state)
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        self.log.entries(low, high, max_bytes)
    }

    fn used_bytes(&self) -> u64 {
        self.log.used_bytes()
    }
}

#[tokio::test]
async fn a_failed_write_ends_the_process_and_acknowledges_nothing() {
    let mut group = Group::new(1, |_| {});
    let log = Arc::new(BreakingLog::default());
    let (options, tls) = (group.options(1), group.tls(Peer::Scheduler, "1"));
    let journal = group.journal(1);
    let metrics = RaftMetrics::register(&Registry::new()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let fatal = {
        let told = told.clone();
        Arc::new(move |message: &str| told.lock().unwrap().push(message.to_owned()))
    };
    let store: Arc<dyn LogStore> = log.clone();
    let started = Replica::start_with(options, tls, journal, metrics, Some(store), fatal);
    let handle = started.await.unwrap();
    handle.propose(b"whole".to_vec(), PATIENCE).await.unwrap();
    log.broken.store(true, Ordering::SeqCst);
    let outcome = handle.propose(b"broken".to_vec(), Duration::from_millis(300)).await;
    assert_eq!(outcome, Err(ProposeError::Unknown));
    assert_eq!(group.seen_now(1), ["whole"]);
    let told = told.lock().unwrap().clone();
    assert!(told.len() == 1 && told[0].contains("disk is broken"), "{told:?}");
}

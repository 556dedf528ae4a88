//! Measures commands per second through three replicas in one process: mutual TLS on loopback, real
//! logs, every write synced. Not a test: it prints figures and asserts nothing about them.
//!
//! `cargo run --release -p berth-raft --example throughput -- [directory] [seconds]`

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring program")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_metrics::Registry;
use berth_metrics::raft::RaftMetrics;
use berth_raft::{Options, Replica, ReplicaHandle, Role, StateMachine, Status};
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role as Peer, Tls};

const COMMAND_BYTES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts; so the figures are those of the log alone.
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _index: u64, _time_ms: u64, _command: &[u8]) -> Vec<u8> {
        self.0 += 1;
        self.0.to_le_bytes().to_vec()
    }

    fn applied(&mut self, _index: u64) {}

    fn role_changed(&mut self, _status: &Status) {}

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let count = self.0;
        Box::new(move || count.to_le_bytes().to_vec())
    }

    fn restore(&mut self, _index: u64, bytes: &[u8]) -> Result<(), String> {
        let bytes = bytes.try_into().map_err(|_| "not eight bytes".to_owned())?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }

    fn state_hash(&self) -> u64 {
        self.0
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = match arguments.next() {
        Some(directory) => PathBuf::from(directory),
        None => std::env::temp_dir().join(format!("raft-throughput-{}", std::process::id())),
    };
    let seconds = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&directory, Duration::from_secs(seconds)))?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

async fn measure(directory: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    let authority = Authority::create("throughput", directory)?;
    let address = |id: u64| SocketAddr::from(([127, 9, 9, id as u8], 7001));
    let peers: BTreeMap<u64, SocketAddr> = (1..=3).map(|id| (id, address(id))).collect();
    let mut replicas = Vec::new();
    for id in 1..=3u64 {
        let identity = Identity::new("throughput", Peer::Scheduler, id.to_string());
        let files = authority.issue_files(&identity, &[], directory, &id.to_string())?;
        let home = directory.join(format!("replica-{id}"));
        let options = Options::new(id, peers.clone(), address(id), home);
        let metrics = RaftMetrics::register(&Registry::new())?;
        let tls = Tls::load(&files)?;
        let handle = Replica::start(options, tls, Counter(0), metrics.clone()).await?;
        replicas.push((handle, metrics));
    }
    let mut status = replicas[0].0.status();
    status.wait_for(|status| status.leader.is_some()).await?;
    let leads = status.borrow().leader;
    let place = |leader: bool| {
        replicas.iter().find(|(handle, _)| {
            let status = handle.status();
            let role = status.borrow().role;
            (role == Role::Leader) == leader
        })
    };
    println!("three replicas, {COMMAND_BYTES}-byte commands, leader {leads:?}");
    for (name, leader) in [("leader", true), ("follower", false)] {
        for in_flight in [1, 64, 1000] {
            let (handle, _) = place(leader).ok_or("no such replica")?;
            let (metrics_leader, _) = place(true).map(|(_, m)| (m, ())).ok_or("no leader")?;
            run(name, handle, metrics_leader, in_flight, time).await?;
        }
    }
    let (handle, _) = place(false).ok_or("no follower")?;
    reads(handle, 1, time).await?;
    reads(handle, 64, time).await?;
    for (handle, _) in replicas {
        handle.shutdown().await;
    }
    Ok(())
}

async fn run(
    name: &str,
    handle: &ReplicaHandle,
    leader: &RaftMetrics,
    in_flight: usize,
    time: Duration,
) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + time;
    let started = Instant::now();
    let (syncs, entries) =
        (leader.fsync_seconds.get_sample_count(), leader.entry_commands.get_sample_count());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let handle = handle.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                handle.propose(vec![7; COMMAND_BYTES], PATIENCE).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, berth_raft::ProposeError>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    let seconds = started.elapsed().as_secs_f64();
    let syncs = leader.fsync_seconds.get_sample_count() - syncs;
    let entries = leader.entry_commands.get_sample_count() - entries;
    let count = times.len();
    print("propose through the", name, in_flight, &mut times, seconds);
    println!(
        "    {:.0} syncs/s on the leader, {:.1} commands an entry",
        syncs as f64 / seconds,
        count as f64 / entries as f64
    );
    Ok(())
}

async fn reads(
    handle: &ReplicaHandle,
    in_flight: usize,
    time: Duration,
) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + time;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let handle = handle.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                handle.read_index(PATIENCE).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, berth_raft::ReadError>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    print("read index on a", "follower", in_flight, &mut times, started.elapsed().as_secs_f64());
    Ok(())
}

fn print(what: &str, who: &str, in_flight: usize, times: &mut [Duration], seconds: f64) {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
    println!(
        "{what} {who}, {in_flight} in flight: {:.0}/s, p50 {:?}, p99 {:?}",
        times.len() as f64 / seconds,
        at(0.5).unwrap_or_default(),
        at(0.99).unwrap_or_default()
    );
}

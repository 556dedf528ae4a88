//! The cell of the benchmark: an authority, replicas in processes of their own, simulated nodes.
//!
//! Promises: everything lies in one directory that is removed at the end, and no process outlives
//! this one: replicas end with their standard input.

use super::node::{Node, Tally};
use super::orders::{Checked, Configuration, Order, Told};
use super::{Options, PlaceError};
use crate::{clock, memory};
use berth_model::CellId;
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role, Tls};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The longest that one order may take.
const ORDER_LIMIT: Duration = Duration::from_secs(1800);
/// For a replica to end by itself.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Of `statfs`: file systems that keep nothing when the power goes.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

pub struct Cell {
    replicas: BTreeMap<u64, Replica>,
    pub tally: Rc<Tally>,
    directory: TempDir,
}

struct Replica {
    id: u64,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Cell {
    pub async fn start(
        options: Options,
        program: &Path,
        directory: &Path,
    ) -> Result<Cell, PlaceError> {
        if options.has_sessions() {
            raise_open_files(u64::from(options.hosts) + 200)?;
        }
        let directory = tempfile::Builder::new()
            .prefix("berth-bench-")
            .tempdir_in(directory)
            .map_err(PlaceError::file("make a directory in", directory))?;
        let cell = CellId::random(&mut rand::rng()).to_string();
        let authority = Authority::create(&cell, &directory.path().join("pki"))?;
        let count = u64::from(options.replicas);
        let raft = free_addresses(count)?;
        let nodes = free_addresses(count)?;
        let mut replicas = BTreeMap::new();
        for (id, nodes_listen) in &nodes {
            let folder = directory.path().join(format!("scheduler-{id}"));
            std::fs::create_dir_all(&folder).map_err(PlaceError::file("make", &folder))?;
            let identity = Identity::new(authority.cell(), Role::Scheduler, id.to_string());
            let files = authority.issue_files(&identity, &["127.0.0.1"], &folder, "scheduler")?;
            let configuration = Configuration {
                options,
                replica: *id,
                peers: raft.clone(),
                nodes_listen: *nodes_listen,
                data: folder.join("data"),
                ca: files.ca,
                certificate: files.certificate,
                key: files.key,
            };
            let replica = Replica::start(&configuration, &folder, program)?;
            replicas.insert(*id, replica);
        }
        let tally = Rc::new(Tally::default());
        if options.has_sessions() {
            start_nodes(options, &authority, directory.path(), &nodes, &tally)?;
        }
        Ok(Cell { replicas, tally, directory })
    }

    pub fn ids(&self) -> Vec<u64> {
        self.replicas.keys().copied().collect()
    }

    pub async fn order(&mut self, replica: u64, order: &Order) -> Result<Told, PlaceError> {
        let replica = self.replicas.get_mut(&replica).ok_or(PlaceError::NoLeader)?;
        match replica.order(order).await {
            Ok(Told::Failed(trouble)) => Err(replica.trouble(trouble)),
            Ok(told) => Ok(told),
            Err(trouble) => Err(replica.trouble(trouble)),
        }
    }

    pub async fn check(&mut self, replica: u64, index: u64) -> Result<Checked, PlaceError> {
        let Told::Checked(checked) = self.order(replica, &Order::Check { index }).await? else {
            return Err(PlaceError::OddAnswer);
        };
        Ok(checked)
    }

    /// Resident memory of one replica's process, in bytes.
    pub fn resident(&self, replica: u64) -> Option<u64> {
        memory::resident(self.replicas.get(&replica)?.child.id()?)
    }

    /// CPU that all replicas have used so far.
    pub fn cpu(&self) -> Duration {
        let pids = self.replicas.values().filter_map(|replica| replica.child.id());
        pids.filter_map(clock::cpu_of).sum()
    }

    /// Whether the logs lie on a file system that fsync means something to.
    pub fn log_is_on_disk(&self) -> Result<String, String> {
        is_on_disk(self.directory.path())
    }

    /// Ends the replicas in order; whichever does not end is killed.
    pub async fn stop(self) {
        for (id, replica) in self.replicas {
            let Replica { mut child, orders, answers, .. } = replica;
            drop((orders, answers));
            if tokio::time::timeout(END_LIMIT, child.wait()).await.is_err() {
                tracing::warn!(replica = id, "the replica did not end by itself");
                // An error means that it has ended meanwhile.
                let _ = child.kill().await;
            }
        }
    }
}

impl Replica {
    fn start(
        configuration: &Configuration,
        folder: &Path,
        program: &Path,
    ) -> Result<Replica, PlaceError> {
        let id = configuration.replica;
        let file = folder.join("replica.json");
        let text = serde_json::to_vec(configuration).map_err(PlaceError::Configuration)?;
        std::fs::write(&file, text).map_err(PlaceError::file("write", &file))?;
        let log = folder.join("log");
        let stderr = std::fs::File::create(&log).map_err(PlaceError::file("make", &log))?;
        let mut child = Command::new(program)
            .args(["bench", "replica"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| PlaceError::Spawn(id, source))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, answers) = pipes.ok_or_else(|| {
            PlaceError::Spawn(id, std::io::Error::other("its pipes were not made"))
        })?;
        Ok(Replica { id, child, orders, answers: BufReader::new(answers).lines(), log })
    }

    async fn order(&mut self, order: &Order) -> Result<Told, String> {
        let exchange = async {
            let mut line = serde_json::to_string(order).map_err(|error| error.to_string())?;
            line.push('\n');
            let told = |error: std::io::Error| format!("takes no orders: {error}");
            self.orders.write_all(line.as_bytes()).await.map_err(told)?;
            self.orders.flush().await.map_err(told)?;
            match self.answers.next_line().await {
                Ok(Some(line)) => serde_json::from_str(&line).map_err(|error| error.to_string()),
                Ok(None) => Err("ended".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        };
        match tokio::time::timeout(ORDER_LIMIT, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("did not carry out {order:?} in time")),
        }
    }

    fn trouble(&self, trouble: String) -> PlaceError {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let log = lines[lines.len().saturating_sub(5)..].join("\n");
        PlaceError::Replica { replica: self.id, trouble, log }
    }
}

/// Simulated nodes, each with a certificate and a session of its own.
pub fn start_nodes(
    options: Options,
    authority: &Authority,
    directory: &Path,
    schedulers: &BTreeMap<u64, SocketAddr>,
    tally: &Rc<Tally>,
) -> Result<(), PlaceError> {
    let folder = directory.join("nodes");
    for (id, facts) in options.made_up().hosts() {
        let identity = Identity::new(authority.cell(), Role::Node, id.to_string());
        let files = authority.issue_files(&identity, &[], &folder, &id.to_string())?;
        let node = Node::new(Tls::load(&files)?, facts, schedulers.clone(), Rc::clone(tally));
        actix_rt::spawn(node.run());
    }
    Ok(())
}

pub fn is_on_disk(path: &Path) -> Result<String, String> {
    let stat = rustix::fs::statfs(path).map_err(|error| error.to_string())?;
    let kind = stat.f_type;
    if IN_MEMORY.contains(&kind) {
        return Err(format!("{} is in memory; choose another --directory", path.display()));
    }
    Ok(format!("{} (file system type {kind:#x}), fsync on", path.display()))
}

/// Free at this moment; held until all are known, so that none comes twice.
pub fn free_addresses(count: u64) -> Result<BTreeMap<u64, SocketAddr>, PlaceError> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(PlaceError::Port)?;
    let addresses = held.iter().map(TcpListener::local_addr);
    (1..).zip(addresses).map(|(id, at)| Ok((id, at.map_err(PlaceError::Port)?))).collect()
}

/// Each host is a socket here and one at the leader, which inherits the limit.
pub fn raise_open_files(needed: u64) -> Result<(), PlaceError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let held = limit.maximum.unwrap_or(u64::MAX);
    if held < needed || setrlimit(Resource::Nofile, raised).is_err() {
        return Err(PlaceError::OpenFiles { limit: held, needed });
    }
    Ok(())
}

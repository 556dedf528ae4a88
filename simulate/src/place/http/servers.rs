//! Schedulers as they ship, each a process of its own, and the nodes of their hosts.
//!
//! Promises: everything lies in one directory that is removed at the end; a process that does not
//! end at SIGTERM is killed.

use super::super::cell::{free_addresses, is_on_disk, raise_open_files, start_nodes};
use super::super::node::Tally;
use super::super::{ENDPOINT, Options, PlaceError};
use super::client::Client;
use crate::clock;
use berth_model::CellId;
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role, TlsFiles};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// For a replica to serve, and for all nodes to have a session.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// How often it is looked whether they do: nobody tells this process.
const LOOK: Duration = Duration::from_millis(50);
const END_LIMIT: Duration = Duration::from_secs(20);

pub struct Servers {
    replicas: Vec<Replica>,
    pub tally: Rc<Tally>,
    directory: TempDir,
}

struct Replica {
    id: u64,
    child: Child,
    api: SocketAddr,
    log: PathBuf,
}

/// The addresses of all replicas, by kind of listener.
struct Addresses {
    raft: BTreeMap<u64, SocketAddr>,
    nodes: BTreeMap<u64, SocketAddr>,
    api: BTreeMap<u64, SocketAddr>,
    docker: BTreeMap<u64, SocketAddr>,
}

impl Servers {
    pub async fn start(
        options: Options,
        program: &Path,
        directory: &Path,
    ) -> Result<Servers, PlaceError> {
        let connections = options.in_flight.max(options.batches());
        raise_open_files(u64::from(options.hosts) + u64::from(connections) + 200)?;
        let directory = tempfile::Builder::new()
            .prefix("berth-bench-")
            .tempdir_in(directory)
            .map_err(PlaceError::file("make a directory in", directory))?;
        let cell = CellId::random(&mut rand::rng()).to_string();
        let authority = Authority::create(&cell, &directory.path().join("pki"))?;
        let count = u64::from(options.replicas);
        let addresses = Addresses {
            raft: free_addresses(count)?,
            nodes: free_addresses(count)?,
            api: free_addresses(count)?,
            docker: free_addresses(count)?,
        };
        let mut replicas = Vec::new();
        for (id, api) in &addresses.api {
            let folder = directory.path().join(format!("scheduler-{id}"));
            std::fs::create_dir_all(&folder).map_err(PlaceError::file("make", &folder))?;
            let identity = Identity::new(authority.cell(), Role::Scheduler, id.to_string());
            let tls = authority.issue_files(&identity, &["127.0.0.1"], &folder, "scheduler")?;
            let text = configuration(options, *id, &addresses, &folder, &tls);
            replicas.push(Replica::start(*id, *api, &text, &folder, program)?);
        }
        let servers = Servers { replicas, tally: Rc::default(), directory };
        for replica in &servers.replicas {
            replica.until_ready().await?;
        }
        let path = servers.directory.path();
        start_nodes(options, &authority, path, &addresses.nodes, &servers.tally)?;
        let all = || servers.tally.sessions.get() >= u64::from(options.hosts);
        until(all, "not all hosts have a session").await?;
        Ok(servers)
    }

    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.replicas.iter().map(|replica| replica.api)
    }

    /// Where the leader serves.
    pub async fn leader(&self) -> Result<SocketAddr, PlaceError> {
        let first = self.addresses().next().ok_or(PlaceError::NoLeader)?;
        let leader = Client::new(first)?.cell().await?.replica.leader;
        let replica = self.replicas.iter().find(|replica| Some(replica.id) == leader);
        replica.map(|replica| replica.api).ok_or(PlaceError::NoLeader)
    }

    /// CPU that all replicas have used so far.
    pub fn cpu(&self) -> Duration {
        let pids = self.replicas.iter().filter_map(|replica| replica.child.id());
        pids.filter_map(clock::cpu_of).sum()
    }

    pub fn log_is_on_disk(&self) -> Result<String, String> {
        is_on_disk(self.directory.path())
    }

    pub async fn stop(self) {
        for Replica { id, mut child, .. } in self.replicas {
            let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
            // An error means that it has ended.
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            if tokio::time::timeout(END_LIMIT, child.wait()).await.is_err() {
                tracing::warn!(replica = id, "the scheduler did not end by itself");
                let _ = child.kill().await;
            }
        }
    }
}

impl Replica {
    fn start(
        id: u64,
        api: SocketAddr,
        configuration: &str,
        folder: &Path,
        program: &Path,
    ) -> Result<Replica, PlaceError> {
        let file = folder.join("scheduler.toml");
        std::fs::write(&file, configuration).map_err(PlaceError::file("write", &file))?;
        let log = folder.join("log");
        let stderr = std::fs::File::create(&log).map_err(PlaceError::file("make", &log))?;
        let child = Command::new(program)
            .args(["scheduler", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| PlaceError::Spawn(id, source))?;
        Ok(Replica { id, child, api, log })
    }

    async fn until_ready(&self) -> Result<(), PlaceError> {
        let client = Client::new(self.api)?;
        let began = clock::now();
        while !client.is_ready().await {
            if began.elapsed() > READY_LIMIT {
                let text = std::fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let log = lines[lines.len().saturating_sub(5)..].join("\n");
                let trouble = "does not serve".to_owned();
                return Err(PlaceError::Replica { replica: self.id, trouble, log });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

async fn until(is_so: impl Fn() -> bool, otherwise: &str) -> Result<(), PlaceError> {
    let began = clock::now();
    while !is_so() {
        if began.elapsed() > READY_LIMIT {
            return Err(PlaceError::Stopped(otherwise.to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What `berth scheduler` reads.
fn configuration(
    options: Options,
    id: u64,
    addresses: &Addresses,
    folder: &Path,
    tls: &TlsFiles,
) -> String {
    let at = |of: &BTreeMap<u64, SocketAddr>| of.get(&id).map(ToString::to_string);
    let peers: Vec<String> =
        addresses.raft.iter().map(|(id, at)| format!("{id} = \"{at}\"")).collect();
    let mut text = format!(
        "replica = {id}\ndata = {:?}\n\
         [tls]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n\
         [raft]\nlisten = {:?}\npeers = {{ {} }}\n\
         [nodes]\nlisten = {:?}\n[api]\nlisten = {:?}\n\
         [docker]\nlisten = {:?}\nendpoint = \"{ENDPOINT}\"\n\
         [planning]\nplanners = {}\n",
        folder.join("data"),
        tls.ca,
        tls.certificate,
        tls.key,
        at(&addresses.raft).unwrap_or_default(),
        peers.join(", "),
        at(&addresses.nodes).unwrap_or_default(),
        at(&addresses.api).unwrap_or_default(),
        at(&addresses.docker).unwrap_or_default(),
        options.planners,
    );
    for (name, policy) in options.made_up().clusters() {
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "[[clusters]]\nname = {name:?}\nstrategy = \"spread\"\ncpu_overcommit_permille = {}\n\
             memory_overcommit_permille = {}\ndisk_overcommit_permille = {}\n",
            policy.cpu_overcommit.0, policy.memory_overcommit.0, policy.disk_overcommit.0
        );
    }
    text
}

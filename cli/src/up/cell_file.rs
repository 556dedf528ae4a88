//! `<state>/cell.json`: what runs, for tests, tools and the next `berth up` or `down`.
//!
//! It is written before anything is made, so that `down` knows what a killed `up` may have left,
//! and removed once nothing is left.

use super::isolation::Isolation;
use super::mark::{Mark, replace_file};
use super::subnet::Subnet;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellFile {
    pub format: u32,
    /// Version of berth that wrote it.
    pub build: String,
    pub name: String,
    pub cell: berth_model::CellId,
    pub isolation: Isolation,
    pub port_base: u16,
    /// With namespaces only.
    pub subnet: Option<Subnet>,
    /// Certificate of the cell's authority, and a client's certificate and key, for curl and
    /// Prometheus against the listeners that are not on loopback.
    pub ca: PathBuf,
    pub client_certificate: PathBuf,
    pub client_key: PathBuf,
    pub processes: Vec<Process>,
    pub hosts: Vec<HostEntry>,
    pub datastores: Vec<DatastoreEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Scheduler,
    Node,
    Keeper,
    Switch,
}

impl Kind {
    /// Also the name of the subcommand.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Scheduler => "scheduler",
            Kind::Node => "node",
            Kind::Keeper => "keeper",
            Kind::Switch => "switch",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub kind: Kind,
    /// Replica number, or number of the host.
    pub number: u16,
    /// The id in its certificate.
    pub id: String,
    /// Name of the host that it belongs to; none for schedulers.
    pub host: Option<String>,
    pub namespace: Option<String>,
    /// What it sees as /etc/resolv.conf, if not the machine's.
    pub resolv_conf: Option<PathBuf>,
    /// `None` until it is started.
    pub pid: Option<u32>,
    pub pid_file: PathBuf,
    pub log: PathBuf,
    pub config: PathBuf,
    /// What it serves where: `api`, `docker`, `raft`, `nodes`, `stream`, `metrics`.
    pub addresses: BTreeMap<String, SocketAddr>,
}

impl Process {
    /// As people read it: `scheduler 1`, `node h2`.
    pub fn label(&self) -> String {
        match &self.host {
            None => format!("{} {}", self.kind.name(), self.number),
            Some(host) => format!("{} {host}", self.kind.name()),
        }
    }

    /// The running process, if it runs.
    pub fn running(&self) -> Option<Mark> {
        Mark::read(&self.pid_file).filter(Mark::is_alive)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    pub number: u16,
    pub name: String,
    pub id: berth_model::HostId,
    pub cluster: String,
    /// Sockets and pid files of its container VMs.
    pub run: PathBuf,
    pub namespace: Option<String>,
    pub address: std::net::IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatastoreEntry {
    pub name: String,
    pub path: PathBuf,
    /// Names of the hosts that reach it.
    pub hosts: Vec<String>,
}

impl CellFile {
    pub const FORMAT: u32 = FORMAT;

    pub fn path(state: &Path) -> PathBuf {
        state.join("cell.json")
    }

    /// `None` where nothing runs from this state directory.
    pub fn read(state: &Path) -> Result<Option<CellFile>> {
        let path = Self::path(state);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let file: CellFile = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not from this version of berth", path.display()))?;
        anyhow::ensure!(
            file.format == FORMAT,
            "{} has format {}, this build knows {FORMAT}; use the berth that wrote it ({})",
            path.display(),
            file.format,
            file.build
        );
        Ok(Some(file))
    }

    pub fn write(&self, state: &Path) -> Result<()> {
        replace_file(&Self::path(state), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Where all its processes write their logs.
    pub fn log_directory(&self) -> &Path {
        self.processes.first().and_then(|process| process.log.parent()).unwrap_or(Path::new(""))
    }

    /// Addresses of one kind, in the order of the processes.
    pub fn addresses<'a>(&'a self, what: &'a str) -> impl Iterator<Item = SocketAddr> + 'a {
        self.processes.iter().filter_map(move |process| process.addresses.get(what).copied())
    }
}

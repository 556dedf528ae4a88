//! Writes the configuration of every process that is to be started.

use super::cell_file::{CellFile, HostEntry, Kind, Process};
use super::isolation::Isolation;
use super::mark::replace_file;
use super::{certificates, plan};
use crate::config::listener::ListenerSection;
use crate::config::scheduler::{ClusterSection, DockerSection, NodesSection, RaftSection};
use crate::config::{KeeperConfig, NodeConfig, SchedulerConfig, SwitchConfig};
use anyhow::{Context, Result};
use berth_node::datastore::DatastoreOptions;
use berth_node::hypervisor::qemu::AcceleratorChoice;
use berth_node::keeper::Timers;
use berth_node::options::{
    CapacityOptions, DeadlineOptions, GuestEgress, HypervisorKind, Limits, ReserveOptions,
    TlsOptions,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the processes are told beside where they are.
#[derive(Clone, Debug)]
pub struct Choices {
    pub clusters: Vec<String>,
    pub assets: PathBuf,
    pub hypervisor: HypervisorKind,
    pub host_cpu_milli: u64,
    pub host_memory_mib: u64,
}

/// Name of the endpoint that every replica serves.
pub const ENDPOINT: &str = "default";

/// Writes one file for each process that does not run.
pub fn write(state: &Path, cell: &CellFile, choices: &Choices) -> Result<()> {
    for process in cell.processes.iter().filter(|process| process.running().is_none()) {
        let text = match process.kind {
            Kind::Scheduler => toml::to_string(&scheduler(state, cell, process, choices)?),
            Kind::Node => toml::to_string(&node(state, cell, process, choices)?),
            Kind::Keeper => toml::to_string(&keeper(cell, process)?),
            Kind::Switch => toml::to_string(&switch(state, cell, process)?),
        };
        let text = text.with_context(|| format!("cannot write down {}", process.label()))?;
        replace_file(&process.config, text.as_bytes())?;
    }
    Ok(())
}

fn address(process: &Process, what: &str) -> Result<SocketAddr> {
    process
        .addresses
        .get(what)
        .copied()
        .with_context(|| format!("{} has no {what} listener", process.label()))
}

/// Replica numbers, as text, to addresses of one kind.
fn replicas(cell: &CellFile, what: &str) -> BTreeMap<String, SocketAddr> {
    cell.processes
        .iter()
        .filter(|process| process.kind == Kind::Scheduler)
        .filter_map(|process| {
            Some((process.number.to_string(), process.addresses.get(what).copied()?))
        })
        .collect()
}

fn host<'a>(cell: &'a CellFile, process: &Process) -> Result<&'a HostEntry> {
    cell.hosts
        .iter()
        .find(|host| Some(&host.name) == process.host.as_ref())
        .with_context(|| format!("{} has no host", process.label()))
}

/// Those that a host reaches.
fn datastores(cell: &CellFile, host: &HostEntry) -> Vec<DatastoreOptions> {
    cell.datastores
        .iter()
        .filter(|datastore| datastore.hosts.contains(&host.name))
        .map(|datastore| DatastoreOptions {
            name: datastore.name.clone(),
            path: datastore.path.clone(),
            class: String::new(),
            labels: BTreeMap::new(),
        })
        .collect()
}

fn scheduler(
    state: &Path,
    cell: &CellFile,
    process: &Process,
    choices: &Choices,
) -> Result<SchedulerConfig> {
    Ok(SchedulerConfig {
        replica: process.number.into(),
        data: plan::data_directory(state, process),
        tls: certificates::files(state, cell, &process.config).into(),
        raft: RaftSection { listen: address(process, "raft")?, peers: replicas(cell, "raft") },
        nodes: NodesSection::at(address(process, "nodes")?),
        api: ListenerSection::at(address(process, "api")?),
        docker: DockerSection {
            listen: address(process, "docker")?,
            tls: None,
            endpoint: ENDPOINT.to_owned(),
        },
        planning: Default::default(),
        clusters: choices.clusters.iter().map(|name| ClusterSection::named(name)).collect(),
    })
}

fn node(state: &Path, cell: &CellFile, process: &Process, choices: &Choices) -> Result<NodeConfig> {
    let host = host(cell, process)?;
    let files = certificates::files(state, cell, &process.config);
    Ok(NodeConfig {
        host_id: host.id,
        host_name: host.name.clone(),
        cluster: host.cluster.clone(),
        domain: Vec::new(),
        networks: Vec::new(),
        labels: BTreeMap::new(),
        resources: BTreeMap::new(),
        schedulers: replicas(cell, "nodes")
            .into_iter()
            .filter_map(|(number, address)| Some((number.parse().ok()?, address)))
            .collect(),
        tls: TlsOptions { ca: files.ca, certificate: files.certificate, key: files.key },
        stream_listen: address(process, "stream")?,
        stream_advertise: None,
        metrics_listen: address(process, "metrics")?,
        run_directory: host.run.clone(),
        state_directory: plan::data_directory(state, process),
        datastores: datastores(cell, host),
        assets_directory: choices.assets.clone(),
        qemu: "qemu-system-x86_64".into(),
        qemu_img: "qemu-img".into(),
        mkfs: "mkfs.ext4".into(),
        sqfstar: "sqfstar".into(),
        hypervisor: choices.hypervisor,
        accelerator: AcceleratorChoice::default(),
        deadlines: DeadlineOptions::default(),
        capacity: CapacityOptions {
            cpu_milli: Some(choices.host_cpu_milli),
            memory_mib: Some(choices.host_memory_mib),
            numa: Vec::new(),
        },
        // The machine's own share was taken off before the rest was dealt to the hosts.
        reserve: ReserveOptions { cpu_milli: 0, memory_mib: 0 },
        // A namespace has a loopback of its own; without one it is the machine's, and guests would
        // reach the cell's own listeners.
        guest_egress: match cell.isolation {
            Isolation::Namespaces => GuestEgress::Allow,
            Isolation::Processes => GuestEgress::LoopbackProtected,
        },
        cgroup_parent: "/".into(),
        limits: Limits::default(),
    })
}

fn keeper(cell: &CellFile, process: &Process) -> Result<KeeperConfig> {
    let host = host(cell, process)?;
    Ok(KeeperConfig {
        host_id: host.id,
        run_directory: host.run.clone(),
        datastores: datastores(cell, host),
        timers: Timers::default(),
    })
}

fn switch(state: &Path, cell: &CellFile, process: &Process) -> Result<SwitchConfig> {
    Ok(SwitchConfig {
        run_directory: host(cell, process)?.run.clone(),
        state_directory: plan::data_directory(state, process),
    })
}

/// Every directory that a process of this cell expects to be there.
pub fn make_directories(state: &Path, cell: &CellFile) -> Result<()> {
    let fixed = ["certificates", "config", "pid", "log"].map(|name| state.join(name));
    let own = cell.processes.iter().map(|process| plan::data_directory(state, process));
    let run = cell.hosts.iter().map(|host| host.run.clone());
    let datastores = cell.datastores.iter().map(|datastore| datastore.path.clone());
    for folder in fixed.into_iter().chain(own).chain(run).chain(datastores) {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(())
}

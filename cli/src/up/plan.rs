//! What a cell on one machine consists of: every process with its files and addresses. Pure.
//!
//! ```text
//! <state>/identity.json  cell.json  pki/  certificates/  config/  pid/  log/
//! <state>/scheduler-1/…             log and snapshots of replica 1
//! <state>/hosts/h1/{node,keeper,switch}/   what they keep
//! <state>/datastores/h1-local  shared
//! <state>/run/h1                    sockets and pid files of container VMs
//! ```

use super::cell_file::{CellFile, DatastoreEntry, HostEntry, Kind, Process};
use super::identity::{HostIdentity, Identity};
use super::isolation::Isolation;
use super::network;
use super::ports::Ports;
use super::resolver::Resolver;
use super::subnet::Subnet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Everything that the plan follows from.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    pub identity: &'a Identity,
    pub name: &'a str,
    /// Absolute.
    pub state: &'a Path,
    pub ports: Ports,
    pub port_base: u16,
    /// `None`: hosts are plain processes.
    pub subnet: Option<Subnet>,
    pub resolver: &'a Resolver,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Basis<'_> {
    pub fn plan(&self) -> CellFile {
        let certificates = self.state.join("certificates");
        let identity = self.identity;
        let mut processes: Vec<Process> =
            (1..=identity.replicas).map(|replica| self.scheduler(replica)).collect();
        for host in &identity.hosts {
            processes.extend(
                [Kind::Keeper, Kind::Switch, Kind::Node].map(|kind| self.host_process(kind, host)),
            );
        }
        CellFile {
            format: CellFile::FORMAT,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.to_owned(),
            cell: identity.cell,
            isolation: match self.subnet {
                Some(_) => Isolation::Namespaces,
                None => Isolation::Processes,
            },
            port_base: self.port_base,
            subnet: self.subnet,
            ca: self.state.join("pki/ca.pem"),
            client_certificate: certificates.join("client.pem"),
            client_key: certificates.join("client.key"),
            processes,
            hosts: identity.hosts.iter().map(|host| self.host(host)).collect(),
            datastores: self.datastores(),
        }
    }

    fn scheduler(&self, replica: u16) -> Process {
        let machine = self.subnet.map_or(LOOPBACK, |subnet| IpAddr::V4(subnet.bridge()));
        let addresses = [
            ("api", LOOPBACK, self.ports.api(replica)),
            // Served by the API's listener.
            ("metrics", LOOPBACK, self.ports.api(replica)),
            ("docker", LOOPBACK, self.ports.docker(replica)),
            ("raft", LOOPBACK, self.ports.raft(replica)),
            ("nodes", machine, self.ports.nodes(replica)),
        ];
        self.process(Kind::Scheduler, replica, replica.to_string(), None, &addresses)
    }

    fn host_process(&self, kind: Kind, host: &HostIdentity) -> Process {
        let address = self.address(host);
        let own = self.subnet.is_some();
        let addresses = match kind {
            Kind::Node => vec![
                ("stream", address, self.ports.stream(host.number, own)),
                ("metrics", address, self.ports.metrics(host.number)),
            ],
            Kind::Scheduler | Kind::Keeper | Kind::Switch => Vec::new(),
        };
        self.process(kind, host.number, host.id.to_string(), Some(host), &addresses)
    }

    fn process(
        &self,
        kind: Kind,
        number: u16,
        id: String,
        host: Option<&HostIdentity>,
        addresses: &[(&str, IpAddr, u16)],
    ) -> Process {
        let stem = match host {
            None => format!("{}-{number}", kind.name()),
            Some(host) => format!("{}-{}", kind.name(), host.name),
        };
        let addresses: BTreeMap<String, SocketAddr> = addresses
            .iter()
            .map(|(what, ip, port)| ((*what).to_owned(), SocketAddr::new(*ip, *port)))
            .collect();
        Process {
            kind,
            number,
            id,
            host: host.map(|host| host.name.clone()),
            namespace: host.and_then(|host| self.namespace(host)),
            resolv_conf: host
                .and_then(|host| self.namespace(host))
                .and_then(|_| self.resolver.file(self.state)),
            pid: None,
            pid_file: self.state.join(format!("pid/{stem}.json")),
            log: self.state.join(format!("log/{stem}.log")),
            config: self.state.join(format!("config/{stem}.toml")),
            addresses,
        }
    }

    fn namespace(&self, host: &HostIdentity) -> Option<String> {
        self.subnet.map(|_| network::namespace(self.name, host.number))
    }

    fn address(&self, host: &HostIdentity) -> IpAddr {
        self.subnet.map_or(LOOPBACK, |subnet| IpAddr::V4(subnet.host(host.number)))
    }

    fn host(&self, host: &HostIdentity) -> HostEntry {
        HostEntry {
            number: host.number,
            name: host.name.clone(),
            id: host.id,
            cluster: host.cluster.clone(),
            run: self.state.join("run").join(&host.name),
            namespace: self.namespace(host),
            address: self.address(host),
        }
    }

    /// One of its own for every host, and one that the hosts of a cluster share.
    fn datastores(&self) -> Vec<DatastoreEntry> {
        let folder = self.state.join("datastores");
        let local = self
            .identity
            .hosts
            .iter()
            .map(|host| (format!("{}-local", host.name), vec![host.name.clone()]));
        let shared = self.identity.clusters.iter().enumerate().map(|(position, cluster)| {
            let members = self.identity.hosts.iter().filter(|host| host.cluster == *cluster);
            let name =
                if position == 0 { "shared".to_owned() } else { format!("shared-{cluster}") };
            (name, members.map(|host| host.name.clone()).collect())
        });
        local
            .chain(shared)
            .map(|(name, hosts)| DatastoreEntry { path: folder.join(&name), name, hosts })
            .collect()
    }
}

/// Where a process of this state directory keeps things.
pub fn data_directory(state: &Path, process: &Process) -> PathBuf {
    match &process.host {
        None => state.join(format!("{}-{}", process.kind.name(), process.number)),
        Some(host) => state.join("hosts").join(host).join(process.kind.name()),
    }
}

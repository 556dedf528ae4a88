//! What a node is told by its configuration, and the settings that come of it.
//!
//! Promises: every option is honoured or refused with the name of the option; unknown ones are
//! refused. [`Options`] is what a file may say, [`Settings`] is what the parts of the node take.
//! Does not: look at the machine; a directory that is missing is reported when it is first used.

mod checks;

pub(crate) use checks::{absolute, word};

use crate::datastore::DatastoreOptions;
use crate::hypervisor::Deadlines;
use crate::hypervisor::qemu::AcceleratorChoice;
use berth_model::host::NumaNode;
use berth_model::{Bytes, HostId, MilliCpus, Resources};
use berth_wire::tls::TlsFiles;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The id in the node's certificate.
    pub host_id: HostId,
    /// Unique in the cell.
    pub host_name: String,
    /// Name of the cluster that the host belongs to.
    pub cluster: String,
    /// Where it stands, outermost level first, each as `level=name`: `["zone=a", "rack=r17"]`.
    #[serde(default)]
    pub domain: Vec<String>,
    /// Names of networks that it reaches.
    #[serde(default)]
    pub networks: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Countable things that container VMs may ask for, by name.
    #[serde(default)]
    pub resources: BTreeMap<String, u64>,
    /// Replica id and address of the listener for nodes, of every scheduler.
    #[serde(with = "replicas")]
    pub schedulers: BTreeMap<u64, SocketAddr>,
    pub tls: TlsOptions,
    /// Where schedulers open streams.
    pub stream_listen: SocketAddr,
    /// `address:port` that schedulers dial for streams; `stream_listen` if not set.
    #[serde(default)]
    pub stream_advertise: Option<String>,
    /// Serves `/metrics` and `/healthz`: plain on loopback, mutual TLS elsewhere.
    pub metrics_listen: SocketAddr,
    /// What vanishes with a boot: sockets and process ids of container VMs.
    pub run_directory: PathBuf,
    /// What outlives a boot: the last obeyed generation, probe results.
    pub state_directory: PathBuf,
    #[serde(default)]
    pub datastores: Vec<DatastoreOptions>,
    /// Holds `vmlinuz` and `initramfs.img`.
    pub assets_directory: PathBuf,
    #[serde(default = "default_qemu")]
    pub qemu: PathBuf,
    #[serde(default = "default_qemu_img")]
    pub qemu_img: PathBuf,
    #[serde(default = "default_mkfs")]
    pub mkfs: PathBuf,
    #[serde(default = "default_sqfstar")]
    pub sqfstar: PathBuf,
    #[serde(default)]
    pub hypervisor: HypervisorKind,
    #[serde(default)]
    pub accelerator: AcceleratorChoice,
    #[serde(default)]
    pub deadlines: DeadlineOptions,
    #[serde(default)]
    pub capacity: CapacityOptions,
    #[serde(default)]
    pub reserve: ReserveOptions,
    #[serde(default)]
    pub guest_egress: GuestEgress,
    /// The control group, of every hierarchy, in which the node makes its own: `/` is the root.
    #[serde(default = "default_cgroup_parent")]
    pub cgroup_parent: PathBuf,
    #[serde(default)]
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl TlsOptions {
    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HypervisorKind {
    #[default]
    Qemu,
    /// No guests at all: container VMs that exist only in this process, for benchmarks and tests.
    Simulated,
}

/// What the host is said to have instead of what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityOptions {
    #[serde(default)]
    pub cpu_milli: Option<u64>,
    #[serde(default)]
    pub memory_mib: Option<u64>,
    /// NUMA nodes of a host that is simulated; a real hypervisor binds to what the machine has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa: Vec<NumaOptions>,
}

/// One NUMA node that a simulated host is said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaOptions {
    pub id: u16,
    /// What container VMs may use of it; no reserve is taken off.
    pub cpu_milli: u64,
    pub memory_mib: u64,
}

/// What is kept back for the host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReserveOptions {
    #[serde(default)]
    pub cpu_milli: u64,
    #[serde(default = "default_reserve_memory_mib")]
    pub memory_mib: u64,
}

impl Default for ReserveOptions {
    fn default() -> Self {
        Self { cpu_milli: 0, memory_mib: default_reserve_memory_mib() }
    }
}

/// What container VMs with the egress network may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestEgress {
    /// Everything that the host reaches, its own loopback included. Right where the host is a
    /// machine or a network namespace of its own.
    Allow,
    /// Nothing of the host's own loopback. QEMU's user network cannot leave out that alone, so no
    /// packet leaves the host at all.
    #[default]
    LoopbackProtected,
}

/// How long the parts of a container VM's life may take, in seconds, each 1 to 3,600.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineOptions {
    /// From the hypervisor's start to the agent's first word.
    pub boot_seconds: u64,
    /// From there to the process running.
    pub setup_seconds: u64,
    /// From SIGKILL to the process's end.
    pub end_seconds: u64,
    /// Silence of an agent whose machine executes.
    pub silence_seconds: u64,
}

impl Default for DeadlineOptions {
    fn default() -> Self {
        let Deadlines { boot, setup, end, silence } = Deadlines::default();
        Self {
            boot_seconds: boot.as_secs(),
            setup_seconds: setup.as_secs(),
            end_seconds: end.as_secs(),
            silence_seconds: silence.as_secs(),
        }
    }
}

impl DeadlineOptions {
    fn deadlines(&self) -> Deadlines {
        Deadlines {
            boot: Duration::from_secs(self.boot_seconds),
            setup: Duration::from_secs(self.setup_seconds),
            end: Duration::from_secs(self.end_seconds),
            silence: Duration::from_secs(self.silence_seconds),
        }
    }
}

/// Bounds on what others make this node do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Streams open at once, 1 to 65,536.
    pub streams: usize,
    /// Archives read at once, 1 to 64.
    pub image_loads: usize,
    /// Size of one archive, and of its content when it is compressed, in MiB.
    pub archive_mib: u64,
    /// Output that one run may leave on its datastore, in MiB.
    pub log_mib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams: 1024, image_loads: 2, archive_mib: 64 << 10, log_mib: 1024 }
    }
}

/// Options that were checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: HostId,
    pub host_name: String,
    pub cluster: String,
    /// Levels and names, outermost first.
    pub domain: Vec<(String, String)>,
    pub networks: BTreeSet<String>,
    pub labels: BTreeMap<String, String>,
    pub resources: BTreeMap<String, u64>,
    pub schedulers: BTreeMap<u64, SocketAddr>,
    pub tls: TlsFiles,
    pub stream_listen: SocketAddr,
    /// `None`: whatever address the listener has.
    pub stream_advertise: Option<String>,
    pub metrics_listen: SocketAddr,
    pub run_directory: PathBuf,
    pub state_directory: PathBuf,
    pub datastores: Vec<DatastoreOptions>,
    pub assets_directory: PathBuf,
    pub qemu: PathBuf,
    pub qemu_img: PathBuf,
    pub mkfs: PathBuf,
    pub sqfstar: PathBuf,
    pub hypervisor: HypervisorKind,
    pub accelerator: AcceleratorChoice,
    pub deadlines: Deadlines,
    pub cpu: Option<MilliCpus>,
    pub memory: Option<Bytes>,
    /// Only with the simulated hypervisor; empty: those of the machine.
    pub numa: Vec<NumaNode>,
    pub reserve_cpu: MilliCpus,
    pub reserve_memory: Bytes,
    pub guest_egress: GuestEgress,
    pub cgroup_parent: PathBuf,
    pub limits: Limits,
}

/// An option that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("option `{option}`: {rule}, `{value}` is not")]
    Refused { option: &'static str, value: String, rule: &'static str },
    #[error("option `{option}`: {what} `{value}` stands there twice")]
    Twice { option: &'static str, what: &'static str, value: String },
}

impl Options {
    fn settings(self, domain: Vec<(String, String)>) -> Settings {
        let numa = self.capacity.numa.iter().map(|node| NumaNode {
            id: node.id,
            capacity: Resources {
                cpu: MilliCpus(node.cpu_milli),
                memory: Bytes::mib(node.memory_mib),
            },
        });
        Settings {
            host: self.host_id,
            host_name: self.host_name,
            cluster: self.cluster,
            domain,
            networks: self.networks.into_iter().collect(),
            labels: self.labels,
            resources: self.resources,
            schedulers: self.schedulers,
            tls: self.tls.files(),
            stream_listen: self.stream_listen,
            stream_advertise: self.stream_advertise,
            metrics_listen: self.metrics_listen,
            run_directory: self.run_directory,
            state_directory: self.state_directory,
            datastores: self.datastores,
            assets_directory: self.assets_directory,
            qemu: self.qemu,
            qemu_img: self.qemu_img,
            mkfs: self.mkfs,
            sqfstar: self.sqfstar,
            hypervisor: self.hypervisor,
            accelerator: self.accelerator,
            deadlines: self.deadlines.deadlines(),
            cpu: self.capacity.cpu_milli.map(MilliCpus),
            memory: self.capacity.memory_mib.map(Bytes::mib),
            numa: numa.collect(),
            reserve_cpu: MilliCpus(self.reserve.cpu_milli),
            reserve_memory: Bytes::mib(self.reserve.memory_mib),
            guest_egress: self.guest_egress,
            cgroup_parent: self.cgroup_parent,
            limits: self.limits,
        }
    }
}

fn default_qemu() -> PathBuf {
    PathBuf::from("qemu-system-x86_64")
}

fn default_qemu_img() -> PathBuf {
    PathBuf::from("qemu-img")
}

fn default_mkfs() -> PathBuf {
    PathBuf::from("mkfs.ext4")
}

fn default_sqfstar() -> PathBuf {
    PathBuf::from("sqfstar")
}

fn default_cgroup_parent() -> PathBuf {
    PathBuf::from("/")
}

const fn default_reserve_memory_mib() -> u64 {
    512
}

/// Keys of tables are text in every configuration format; replica ids are numbers.
pub mod replicas {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    pub fn serialize<S: Serializer>(
        replicas: &BTreeMap<u64, SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let named: BTreeMap<String, String> =
            replicas.iter().map(|(id, address)| (id.to_string(), address.to_string())).collect();
        named.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u64, SocketAddr>, D::Error> {
        let named = BTreeMap::<String, String>::deserialize(deserializer)?;
        let parse = |(id, address): (String, String)| {
            let replica = id.parse().map_err(|_| {
                D::Error::custom(format!("replica id `{id}` is not a whole number"))
            })?;
            let parsed = address.parse().map_err(|_| {
                D::Error::custom(format!("`{address}` of replica {id} is not `address:port`"))
            })?;
            Ok((replica, parsed))
        };
        named.into_iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests;

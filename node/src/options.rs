//! What a node is told by its configuration, and the settings that come of it.
//!
//! Promises: every option is honoured or refused with the name of the option; unknown ones are
//! refused. [`Options`] is what a file may say, [`Settings`] is what the parts of the node take.
//! Does not: look at the machine; a directory that is missing is reported when it is first used.

use crate::datastore::DatastoreOptions;
use crate::hypervisor::Deadlines;
use crate::hypervisor::qemu::AcceleratorChoice;
use berth_model::{Bytes, HostId, MilliCpus};
use berth_wire::tls::TlsFiles;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
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
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityOptions {
    #[serde(default)]
    pub cpu_milli: Option<u64>,
    #[serde(default)]
    pub memory_mib: Option<u64>,
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
    pub labels: BTreeMap<String, String>,
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
    pub reserve_cpu: MilliCpus,
    pub reserve_memory: Bytes,
    pub guest_egress: GuestEgress,
    pub limits: Limits,
}

/// An option that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("option `{option}`: {rule}, `{value}` is not")]
    Refused { option: &'static str, value: String, rule: &'static str },
    #[error("option `datastores`: {what} `{value}` stands there twice")]
    Twice { what: &'static str, value: String },
}

impl Options {
    /// Checks everything that can be checked without looking at the machine.
    pub fn validate(self) -> Result<Settings, OptionsError> {
        word("host_name", &self.host_name)?;
        word("cluster", &self.cluster)?;
        if self.schedulers.is_empty() {
            return refuse("schedulers", "{}", "at least one replica is named");
        }
        for (option, path) in [
            ("run_directory", &self.run_directory),
            ("state_directory", &self.state_directory),
            ("assets_directory", &self.assets_directory),
        ] {
            absolute(option, path)?;
        }
        self.check_datastores()?;
        if let Some(advertised) = &self.stream_advertise {
            if !has_port(advertised) {
                return refuse("stream_advertise", advertised, "it has the form `address:port`");
            }
        } else if self.stream_listen.ip().is_unspecified() {
            let rule = "`stream_advertise` is set when this listens on every address";
            return refuse("stream_listen", &self.stream_listen.to_string(), rule);
        }
        self.check_limits()?;
        Ok(self.settings())
    }

    fn check_datastores(&self) -> Result<(), OptionsError> {
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for datastore in &self.datastores {
            word("datastores.name", &datastore.name)?;
            absolute("datastores.path", &datastore.path)?;
            if !names.insert(&datastore.name) {
                return Err(OptionsError::Twice { what: "name", value: datastore.name.clone() });
            }
            if !paths.insert(&datastore.path) {
                let value = datastore.path.display().to_string();
                return Err(OptionsError::Twice { what: "path", value });
            }
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), OptionsError> {
        let limits = &self.limits;
        let between = |option, value: u64, low, high, rule| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                refuse(option, &value.to_string(), rule)
            }
        };
        between("limits.streams", limits.streams as u64, 1, 65_536, "it is 1 to 65,536")?;
        between("limits.image_loads", limits.image_loads as u64, 1, 64, "it is 1 to 64")?;
        between("limits.archive_mib", limits.archive_mib, 1, 1 << 24, "it is 1 to 16,777,216")?;
        between("limits.log_mib", limits.log_mib, 1, 1 << 24, "it is 1 to 16,777,216")?;
        for (option, seconds) in [
            ("deadlines.boot_seconds", self.deadlines.boot_seconds),
            ("deadlines.setup_seconds", self.deadlines.setup_seconds),
            ("deadlines.end_seconds", self.deadlines.end_seconds),
            ("deadlines.silence_seconds", self.deadlines.silence_seconds),
        ] {
            between(option, seconds, 1, 3600, "it is 1 to 3,600")?;
        }
        if let Some(cpu) = self.capacity.cpu_milli {
            let rule = "it is 1 to 4,096,000 and above the reserve";
            let low = self.reserve.cpu_milli.saturating_add(1);
            between("capacity.cpu_milli", cpu, low, 4_096_000, rule)?;
        }
        if let Some(memory) = self.capacity.memory_mib {
            let rule = "it is 1 to 1,073,741,824 and above the reserve";
            let low = self.reserve.memory_mib.saturating_add(1);
            between("capacity.memory_mib", memory, low, 1 << 30, rule)?;
        }
        Ok(())
    }

    fn settings(self) -> Settings {
        Settings {
            host: self.host_id,
            host_name: self.host_name,
            cluster: self.cluster,
            labels: self.labels,
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
            reserve_cpu: MilliCpus(self.reserve.cpu_milli),
            reserve_memory: Bytes::mib(self.reserve.memory_mib),
            guest_egress: self.guest_egress,
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

const fn default_reserve_memory_mib() -> u64 {
    512
}

fn refuse<T>(option: &'static str, value: &str, rule: &'static str) -> Result<T, OptionsError> {
    Err(OptionsError::Refused { option, value: value.to_owned(), rule })
}

/// Names of hosts, clusters and datastores: what fits in a label, a path and a table.
pub(crate) fn word(option: &'static str, text: &str) -> Result<(), OptionsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && text.len() <= 63 && text.chars().all(allowed) {
        return Ok(());
    }
    let rule =
        "it is 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first";
    refuse(option, text, rule)
}

pub(crate) fn absolute(option: &'static str, path: &Path) -> Result<(), OptionsError> {
    if path.is_absolute() {
        return Ok(());
    }
    refuse(option, &path.display().to_string(), "the path is absolute")
}

fn has_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // Schedulers dial addresses; they look no names up.
    host.parse::<IpAddr>().is_ok() && port.parse::<u16>().is_ok_and(|port| port != 0)
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
mod tests {
    use super::*;

    fn options() -> Options {
        let json = serde_json::json!({
            "host_id": HostId::from_bytes([1; 16]),
            "host_name": "host-1",
            "cluster": "main",
            "schedulers": { "1": "127.0.0.1:7001", "2": "127.0.0.1:7002" },
            "tls": { "ca": "/c/ca.pem", "certificate": "/c/n.pem", "key": "/c/n.key" },
            "stream_listen": "127.0.0.1:7100",
            "metrics_listen": "127.0.0.1:7101",
            "run_directory": "/run/berth/h1",
            "state_directory": "/var/lib/berth/h1",
            "assets_directory": "/usr/lib/berth",
            "datastores": [{ "name": "local-1", "path": "/srv/local" }],
        });
        serde_json::from_value(json).unwrap()
    }

    fn check(change: impl FnOnce(&mut Options)) -> Result<Settings, String> {
        let mut options = options();
        change(&mut options);
        options.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_file_says_becomes_settings() {
        let settings = check(|_| ()).unwrap();
        assert_eq!(settings.schedulers.len(), 2);
        assert_eq!(settings.reserve_memory, Bytes::mib(512));
        assert_eq!(settings.guest_egress, GuestEgress::LoopbackProtected);
    }

    #[test]
    fn options_survive_their_text() {
        let text = serde_json::to_string(&options()).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options());
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let mut json = serde_json::to_value(options()).unwrap();
        json["colour"] = "blue".into();
        assert!(serde_json::from_value::<Options>(json).is_err());
    }

    #[test]
    fn an_option_that_cannot_be_honoured_is_named() {
        let refused = |change: fn(&mut Options)| check(change).unwrap_err();
        assert!(refused(|o| o.schedulers.clear()).contains("`schedulers`"));
        assert!(refused(|o| o.host_name = "a b".into()).contains("`host_name`"));
        assert!(refused(|o| o.run_directory = "run".into()).contains("`run_directory`"));
        assert!(refused(|o| o.limits.streams = 0).contains("`limits.streams`"));
        assert!(refused(|o| o.stream_advertise = Some("host".into())).contains("advertise"));
        assert!(refused(|o| o.stream_listen = "0.0.0.0:1".parse().unwrap()).contains("listen"));
        assert!(refused(|o| o.datastores.push(o.datastores[0].clone())).contains("twice"));
        assert!(refused(|o| o.capacity.memory_mib = Some(100)).contains("capacity.memory_mib"));
    }
}

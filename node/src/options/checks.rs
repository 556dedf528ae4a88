//! Rules that options are held to, each refusal with the name of the option. Pure.

use super::{HypervisorKind, Options, OptionsError, Settings};
use berth_model::host::NumaNodes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Component, Path};

/// Levels of a fault domain path.
const DOMAIN_LEVELS_MAX: usize = 8;
/// Networks, resources and labels of one host, each.
const NAMES_MAX: usize = 64;
const RESOURCE_COUNT_MAX: u64 = 1_000_000;
const LABEL_VALUE_MAX: usize = 255;

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
        let domain = self.checked_domain()?;
        self.check_supply()?;
        if !is_group_path(&self.cgroup_parent) {
            let value = self.cgroup_parent.display().to_string();
            return refuse("cgroup_parent", &value, "it is an absolute path without `..`");
        }
        if let Some(advertised) = &self.stream_advertise {
            if !has_port(advertised) {
                return refuse("stream_advertise", advertised, "it has the form `address:port`");
            }
        } else if self.stream_listen.ip().is_unspecified() {
            let rule = "`stream_advertise` is set when this listens on every address";
            return refuse("stream_listen", &self.stream_listen.to_string(), rule);
        }
        self.check_limits()?;
        Ok(self.settings(domain))
    }

    /// The fault domain, taken apart.
    fn checked_domain(&self) -> Result<Vec<(String, String)>, OptionsError> {
        if self.domain.len() > DOMAIN_LEVELS_MAX {
            let count = self.domain.len().to_string();
            return refuse("domain", &count, "it has at most 8 levels");
        }
        let mut levels = Vec::with_capacity(self.domain.len());
        let mut seen = BTreeSet::new();
        for step in &self.domain {
            let Some((level, name)) = step.split_once('=') else {
                return refuse("domain", step, "each level has the form `level=name`");
            };
            word("domain", level)?;
            word("domain", name)?;
            if !seen.insert(level) {
                let value = level.to_owned();
                return Err(OptionsError::Twice { option: "domain", what: "level", value });
            }
            levels.push((level.to_owned(), name.to_owned()));
        }
        Ok(levels)
    }

    /// Everything else that placement reads of a host.
    fn check_supply(&self) -> Result<(), OptionsError> {
        for (option, count) in [
            ("networks", self.networks.len()),
            ("resources", self.resources.len()),
            ("labels", self.labels.len()),
        ] {
            if count > NAMES_MAX {
                return refuse(option, &count.to_string(), "it has at most 64 entries");
            }
        }
        let mut networks = BTreeSet::new();
        for network in &self.networks {
            word("networks", network)?;
            if !networks.insert(network) {
                let value = network.clone();
                return Err(OptionsError::Twice { option: "networks", what: "name", value });
            }
        }
        for (name, count) in &self.resources {
            word("resources", name)?;
            if !(1..=RESOURCE_COUNT_MAX).contains(count) {
                return refuse("resources", &count.to_string(), "a count is 1 to 1,000,000");
            }
        }
        labels("labels", &self.labels)?;
        self.check_numa()
    }

    fn check_numa(&self) -> Result<(), OptionsError> {
        let numa = &self.capacity.numa;
        if !numa.is_empty() && self.hypervisor != HypervisorKind::Simulated {
            let rule = "it is for `hypervisor = \"simulated\"`, a real one binds to the machine's";
            return refuse("capacity.numa", &format!("{} nodes", numa.len()), rule);
        }
        if numa.len() > NumaNodes::MAX {
            return refuse("capacity.numa", &numa.len().to_string(), "it has at most 16 nodes");
        }
        let mut ids = BTreeSet::new();
        for node in numa {
            if !ids.insert(node.id) {
                let value = node.id.to_string();
                return Err(OptionsError::Twice { option: "capacity.numa", what: "id", value });
            }
            if !(1..=4_096_000).contains(&node.cpu_milli) {
                let value = node.cpu_milli.to_string();
                return refuse("capacity.numa.cpu_milli", &value, "it is 1 to 4,096,000");
            }
            if !(1..=1 << 30).contains(&node.memory_mib) {
                let value = node.memory_mib.to_string();
                return refuse("capacity.numa.memory_mib", &value, "it is 1 to 1,073,741,824");
            }
        }
        Ok(())
    }

    fn check_datastores(&self) -> Result<(), OptionsError> {
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for datastore in &self.datastores {
            word("datastores.name", &datastore.name)?;
            if !datastore.class.is_empty() {
                word("datastores.class", &datastore.class)?;
            }
            labels("datastores.labels", &datastore.labels)?;
            absolute("datastores.path", &datastore.path)?;
            if !names.insert(&datastore.name) {
                let (what, value) = ("name", datastore.name.clone());
                return Err(OptionsError::Twice { option: "datastores", what, value });
            }
            if !paths.insert(&datastore.path) {
                let value = datastore.path.display().to_string();
                return Err(OptionsError::Twice { option: "datastores", what: "path", value });
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

/// What placement selects by: names as everywhere, values of any printable text.
fn labels(option: &'static str, labels: &BTreeMap<String, String>) -> Result<(), OptionsError> {
    for (name, value) in labels {
        word(option, name)?;
        if value.len() > LABEL_VALUE_MAX || value.chars().any(char::is_control) {
            return refuse(option, value, "a value has at most 255 printable characters");
        }
    }
    Ok(())
}

fn is_group_path(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
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

//! The body of `POST /containers/create`, as far as it is honoured.
//!
//! Read from what `fields` let through, so that nothing in here can be asked for and be ignored.

use super::Invalid;
use super::signal;
use super::spec::{DiskSize, FOR_EVER, Wanted};
use berth_model::container::NetworkMode;
use berth_model::{Bytes, MilliCpus};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub user: Option<String>,
    pub attach_stdin: Option<bool>,
    pub attach_stdout: Option<bool>,
    pub attach_stderr: Option<bool>,
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    pub tty: Option<bool>,
    pub open_stdin: Option<bool>,
    pub stdin_once: Option<bool>,
    pub env: Option<Vec<String>>,
    pub cmd: Option<Words>,
    pub image: Option<String>,
    pub volumes: Option<BTreeMap<String, Value>>,
    pub working_dir: Option<String>,
    pub entrypoint: Option<Words>,
    pub network_disabled: Option<bool>,
    pub labels: Option<BTreeMap<String, String>>,
    pub stop_signal: Option<String>,
    pub stop_timeout: Option<i64>,
    pub host_config: Option<HostConfig>,
    pub networking_config: Option<NetworkingConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    pub memory: Option<i64>,
    pub memory_swap: Option<i64>,
    pub cpu_period: Option<i64>,
    pub cpu_quota: Option<i64>,
    pub nano_cpus: Option<i64>,
    /// Empty, or it was refused; here so that what is no list is refused too.
    pub binds: Option<Vec<String>>,
    pub mounts: Option<Vec<Value>>,
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: Option<String>,
    pub network_mode: Option<String>,
    pub auto_remove: Option<bool>,
    pub console_size: Option<[u16; 2]>,
    pub dns: Option<Vec<String>>,
    pub dns_search: Option<Vec<String>>,
    pub extra_hosts: Option<Vec<String>>,
    pub storage_opt: Option<BTreeMap<String, String>>,
    pub shm_size: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    pub endpoints_config: Option<BTreeMap<String, Value>>,
}

/// A command line: a list of words, or one text that is one word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::One(word) => Words(vec![word]),
            Form::Many(words) => Words(words),
        })
    }
}

const CPU_PERIOD_DEFAULT: u64 = 100_000;

impl CreateRequest {
    /// Reads what `fields::check_container_create` let through.
    pub fn read(checked: Value) -> Result<Self, Invalid> {
        serde_json::from_value(checked)
            .map_err(|error| Invalid::bad(format!("invalid container configuration: {error}")))
    }

    /// What it asks for, in our terms; the image's part not yet merged in.
    pub fn wanted(&self) -> Result<Wanted, Invalid> {
        let nothing = HostConfig::default();
        let host = self.host_config.as_ref().unwrap_or(&nothing);
        let memory = host.memory()?;
        host.check_swap(memory)?;
        Ok(Wanted {
            entrypoint: self.entrypoint.clone().map(|words| words.0),
            command: self.cmd.clone().map(|words| words.0).unwrap_or_default(),
            environment: self.env.clone().unwrap_or_default(),
            working_directory: self.working_dir.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            hostname: self.hostname.clone().unwrap_or_default(),
            domain_name: self.domainname.clone().unwrap_or_default(),
            tty: self.tty.unwrap_or(false),
            open_stdin: self.open_stdin.unwrap_or(false),
            stdin_once: self.stdin_once.unwrap_or(false),
            stop_signal: match self.stop_signal.as_deref() {
                None | Some("") => None,
                Some(text) => Some(signal::parse(text)?),
            },
            stop_timeout: self.stop_timeout.map(|s| u32::try_from(s).unwrap_or(FOR_EVER)),
            cpu: host.cpu()?,
            memory,
            disk: host.disk()?,
            network: Some(self.network(host)?),
            auto_remove: host.auto_remove.unwrap_or(false),
            volumes: self.volumes.iter().flat_map(|all| all.keys().cloned()).collect(),
            exposed_ports: self.exposed_ports.iter().flat_map(|all| all.keys().cloned()).collect(),
            extra_hosts: host
                .extra_hosts
                .iter()
                .flatten()
                .map(|line| extra_host(line))
                .collect::<Result<_, _>>()?,
            dns: host.dns.clone().unwrap_or_default(),
            dns_search: host.dns_search.clone().unwrap_or_default(),
            shm_size: match host.shm_size.unwrap_or(0) {
                0 => None,
                size => Some(bytes("ShmSize", size)?),
            },
            labels: self.labels.clone().unwrap_or_default(),
        })
    }

    /// Rows and columns that the client's terminal had, if it told them.
    pub fn console_size(&self) -> Option<(u16, u16)> {
        let [rows, columns] = self.host_config.as_ref()?.console_size?;
        (rows > 0 && columns > 0).then_some((rows, columns))
    }

    fn network(&self, host: &HostConfig) -> Result<NetworkMode, Invalid> {
        let mode = host.network_mode.as_deref().unwrap_or_default();
        let disabled = self.network_disabled.unwrap_or(false) || mode == "none";
        let named = self.networking_config.iter().flat_map(|c| c.endpoints_config.iter().flatten());
        for (name, _) in named {
            if disabled != (name == "none") {
                return Err(Invalid::bad(format!(
                    "conflicting options: network mode {mode:?} and a connection to {name:?}"
                )));
            }
        }
        Ok(if disabled { NetworkMode::None } else { NetworkMode::Egress })
    }
}

impl HostConfig {
    fn memory(&self) -> Result<Option<Bytes>, Invalid> {
        match self.memory.unwrap_or(0) {
            0 => Ok(None),
            memory => bytes("Memory", memory).map(Some),
        }
    }

    /// A container VM has no swap: what says so is true, what asks for some is refused.
    fn check_swap(&self, memory: Option<Bytes>) -> Result<(), Invalid> {
        match self.memory_swap.unwrap_or(0) {
            0 => Ok(()),
            total if memory.is_some_and(|m| u64::try_from(total) == Ok(m.0)) => Ok(()),
            _ => Err(Invalid::bad(
                "HostConfig.MemorySwap is refused: a container VM has no swap; leave --memory-swap \
                 out, or give it the value of --memory",
            )),
        }
    }

    fn cpu(&self) -> Result<Option<MilliCpus>, Invalid> {
        let nano = self.nano_cpus.unwrap_or(0);
        let quota = self.cpu_quota.unwrap_or(0);
        let period = self.cpu_period.unwrap_or(0);
        if nano != 0 && (quota > 0 || period != 0) {
            return Err(Invalid::bad(
                "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.",
            ));
        }
        if nano != 0 {
            return match u64::try_from(nano) {
                Ok(nano) if nano >= 10_000_000 => {
                    exact_milli(nano, 1_000_000_000, "--cpus").map(Some)
                }
                Ok(_) | Err(_) => Err(Invalid::bad("range of CPUs is from 0.01 up")),
            };
        }
        // A quota of 0 or -1 is none; a period alone then limits nothing.
        let Ok(quota) = u64::try_from(quota) else { return Ok(None) };
        if quota == 0 {
            return Ok(None);
        }
        let period = match period {
            0 => CPU_PERIOD_DEFAULT,
            period => {
                u64::try_from(period).ok().filter(|p| (1_000..=1_000_000).contains(p)).ok_or_else(
                    || Invalid::bad("CPU cfs period can not be less than 1ms or larger than 1s"),
                )?
            }
        };
        if quota < 1_000 {
            return Err(Invalid::bad("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
        }
        exact_milli(quota, period, "--cpu-quota over --cpu-period").map(Some)
    }

    fn disk(&self) -> Result<Option<DiskSize>, Invalid> {
        let mut size = None;
        for (name, value) in self.storage_opt.iter().flatten() {
            if name != "size" {
                return Err(Invalid::bad(format!(
                    "storage option {name} is unknown; only size can be given"
                )));
            }
            size = Some(DiskSize(disk_size(value)?));
        }
        Ok(size)
    }
}

/// `part` of `whole` CPUs in thousandths, if it is a whole number of them.
fn exact_milli(part: u64, whole: u64, option: &str) -> Result<MilliCpus, Invalid> {
    let scaled = part.saturating_mul(1000);
    if scaled.is_multiple_of(whole) && scaled < u64::MAX {
        Ok(MilliCpus(scaled / whole))
    } else {
        Err(Invalid::bad(format!("{option} must come to a whole number of thousandths of a CPU")))
    }
}

fn bytes(name: &str, value: i64) -> Result<Bytes, Invalid> {
    u64::try_from(value)
        .map(Bytes)
        .map_err(|_| Invalid::bad(format!("{name} must not be negative, but is {value}")))
}

/// `10G`, `512m`, `1048576`.
fn disk_size(text: &str) -> Result<Bytes, Invalid> {
    let wrong = || Invalid::bad(format!("invalid size: {text:?}; write it as 10G or 512M"));
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|size| *size > 0).map(Bytes).ok_or_else(wrong)
}

/// `name:address`.
fn extra_host(line: &str) -> Result<(String, String), Invalid> {
    let (name, address) = line
        .split_once([':', '='])
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Invalid::bad(format!("bad format for add-host: {line:?}")))?;
    if address == "host-gateway" {
        return Err(Invalid::NotYet(
            "host-gateway is not supported yet: it comes with networks; give an address".to_owned(),
        ));
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => Ok((name.to_owned(), address.to_string())),
        Err(_) => Err(Invalid::bad(format!("invalid IP address in add-host: {address:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(body: Value) -> Result<Wanted, Invalid> {
        CreateRequest::read(body)?.wanted()
    }

    fn host(member: &str, value: Value) -> Result<Wanted, Invalid> {
        wanted(json!({"HostConfig": {member: value}}))
    }

    #[test]
    fn a_command_may_be_a_list_or_one_word() {
        assert_eq!(wanted(json!({"Cmd": "a b"})).unwrap().command, ["a b"]);
        assert_eq!(wanted(json!({"Cmd": ["a", "b"]})).unwrap().command, ["a", "b"]);
        assert_eq!(wanted(json!({"Cmd": null})).unwrap().command, [""; 0]);
        assert_eq!(wanted(json!({"Entrypoint": []})).unwrap().entrypoint, Some(vec![]));
    }

    #[test]
    fn cpus_are_exact_or_refused() {
        let cpu = |member, value: i64| host(member, json!(value)).map(|w| w.cpu);
        assert_eq!(cpu("NanoCpus", 1_500_000_000).unwrap(), Some(MilliCpus(1500)));
        assert_eq!(cpu("NanoCpus", 0).unwrap(), None);
        assert!(cpu("NanoCpus", 1).is_err());
        assert!(cpu("NanoCpus", 100_000_001).is_err());
        assert_eq!(cpu("CpuQuota", 50_000).unwrap(), Some(MilliCpus(500)));
        assert_eq!(cpu("CpuQuota", -1).unwrap(), None);
        let both = json!({"HostConfig": {"NanoCpus": 1_000_000_000, "CpuQuota": 50_000}});
        assert!(wanted(both).unwrap_err().to_string().starts_with("Conflicting options"));
    }

    #[test]
    fn swap_that_says_there_is_none_passes() {
        let both = |memory: i64, swap: i64| {
            wanted(json!({"HostConfig": {"Memory": memory, "MemorySwap": swap}}))
        };
        assert!(both(64 << 20, 64 << 20).is_ok());
        assert!(both(64 << 20, 128 << 20).is_err());
        assert!(both(64 << 20, -1).is_err());
        assert!(both(0, -1).is_err());
    }

    #[test]
    fn sizes_and_hosts_are_read_strictly() {
        let disk = |text: &str| host("StorageOpt", json!({"size": text})).map(|w| w.disk);
        assert_eq!(disk("10G").unwrap(), Some(DiskSize(Bytes::gib(10))));
        assert!(disk("ten").is_err() && disk("10X").is_err() && disk("99999999999T").is_err());
        assert!(host("StorageOpt", json!({"dm.basesize": "1"})).is_err());
        let hosts = host("ExtraHosts", json!(["a:1.2.3.4", "b=::1"])).unwrap().extra_hosts;
        assert_eq!(hosts, [("a".into(), "1.2.3.4".into()), ("b".into(), "::1".into())]);
        assert!(host("ExtraHosts", json!(["a"])).is_err());
        let gateway = host("ExtraHosts", json!(["a:host-gateway"]));
        assert!(matches!(gateway, Err(Invalid::NotYet(_))));
        assert!(host("Memory", json!(-1)).is_err());
        assert!(host("ShmSize", json!(-1)).is_err());
        assert!(host("Binds", json!("x")).is_err());
    }

    #[test]
    fn no_network_is_none_by_either_word() {
        assert_eq!(host("NetworkMode", json!("none")).unwrap().network, Some(NetworkMode::None));
        let disabled = wanted(json!({"NetworkDisabled": true})).unwrap();
        assert_eq!(disabled.network, Some(NetworkMode::None));
        let conflict = json!({"HostConfig": {"NetworkMode": "none"},
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}});
        assert!(wanted(conflict).is_err());
    }
}

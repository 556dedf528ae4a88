//! Configuration of `berth scheduler`.

use super::listener::ListenerSection;
use super::tls::TlsSection;
use super::{Configuration, Role};
use berth_model::{ClusterPolicy, Permille, Strategy};
use berth_scheduler::Options;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulerConfig {
    /// Number of this replica; it must be a key of `raft.peers`.
    pub replica: u64,
    /// Holds the log and the snapshots; nothing else may use it.
    pub data: PathBuf,
    pub tls: TlsSection,
    pub raft: RaftSection,
    pub nodes: NodesSection,
    pub api: ListenerSection,
    pub docker: DockerSection,
    /// How places are decided.
    #[serde(default)]
    pub planning: PlanningSection,
    /// Made when the cell is first set up; afterwards the fleet rules and this is ignored.
    pub clusters: Vec<ClusterSection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaftSection {
    pub listen: SocketAddr,
    /// Replica number to the address of its raft listener, this one included.
    pub peers: BTreeMap<String, SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesSection {
    /// Node sessions; always mutual TLS.
    pub listen: SocketAddr,
    /// A node that is silent for so long makes its host silent. 1,000 to 600,000 ms.
    #[serde(default = "silent_after_ms")]
    pub silent_after_ms: u64,
}

impl NodesSection {
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, silent_after_ms: silent_after_ms() }
    }
}

const fn silent_after_ms() -> u64 {
    5000
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanningSection {
    /// Threads that plan container VMs on the leader, and as many that decide placement requests
    /// on every replica. 1 to 64; more than 1 pays on a machine with cores to spare.
    pub planners: usize,
    /// Placement requests, counted in items, that may be under way on this replica. 1,024 to
    /// 1,048,576.
    pub queue_items: usize,
    /// The longest time for which a place may be held. 1,000 to 31,622,400,000 ms; without it, one
    /// may be held until it is released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_hold_ms: Option<u64>,
}

impl Default for PlanningSection {
    fn default() -> Self {
        Self {
            planners: Options::PLANNERS,
            queue_items: Options::PLACEMENT_QUEUE,
            max_hold_ms: None,
        }
    }
}

impl PlanningSection {
    fn validate(&self) -> Result<(), String> {
        if !(1..=64).contains(&self.planners) {
            return Err("planning.planners must lie in 1 to 64".to_owned());
        }
        if !(1 << 10..=1 << 20).contains(&self.queue_items) {
            return Err("planning.queue_items must lie in 1024 to 1048576".to_owned());
        }
        match self.max_hold_ms {
            Some(most) if !(1000..=31_622_400_000).contains(&most) => {
                Err("planning.max_hold_ms must lie in 1000 to 31622400000".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerSection {
    pub listen: SocketAddr,
    /// As for the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// Name of the endpoint that this listener serves; made when the cell is first set up.
    #[serde(default = "endpoint")]
    pub endpoint: String,
}

impl DockerSection {
    pub fn listener(&self) -> ListenerSection {
        ListenerSection { listen: self.listen, tls: self.tls }
    }
}

fn endpoint() -> String {
    "default".to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    pub name: String,
    #[serde(default = "strategy")]
    pub strategy: Strategy,
    #[serde(default = "cpu_overcommit")]
    pub cpu_overcommit_permille: u32,
    #[serde(default = "memory_overcommit")]
    pub memory_overcommit_permille: u32,
    #[serde(default = "disk_overcommit")]
    pub disk_overcommit_permille: u32,
    #[serde(default = "cpu_model")]
    pub cpu_model: String,
}

fn strategy() -> Strategy {
    ClusterPolicy::default().strategy
}

fn cpu_overcommit() -> u32 {
    ClusterPolicy::default().cpu_overcommit.0
}

fn memory_overcommit() -> u32 {
    ClusterPolicy::default().memory_overcommit.0
}

fn disk_overcommit() -> u32 {
    ClusterPolicy::default().disk_overcommit.0
}

fn cpu_model() -> String {
    ClusterPolicy::default().cpu_model
}

impl ClusterSection {
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            strategy: strategy(),
            cpu_overcommit_permille: cpu_overcommit(),
            memory_overcommit_permille: memory_overcommit(),
            disk_overcommit_permille: disk_overcommit(),
            cpu_model: cpu_model(),
        }
    }

    pub fn policy(&self) -> ClusterPolicy {
        ClusterPolicy {
            strategy: self.strategy,
            cpu_overcommit: Permille(self.cpu_overcommit_permille),
            memory_overcommit: Permille(self.memory_overcommit_permille),
            disk_overcommit: Permille(self.disk_overcommit_permille),
            cpu_model: self.cpu_model.clone(),
            // Reserves, admission control and preemption are set through `/v1/policies`.
            ..ClusterPolicy::default()
        }
    }

    fn validate(&self) -> Result<(), String> {
        let ranges = [
            ("cpu_overcommit_permille", self.cpu_overcommit_permille, 1000..=16_000),
            ("memory_overcommit_permille", self.memory_overcommit_permille, 1000..=4000),
            ("disk_overcommit_permille", self.disk_overcommit_permille, 1000..=20_000),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                return Err(format!(
                    "clusters.{key} of `{}` is {value}; it must lie in {} to {}",
                    self.name,
                    range.start(),
                    range.end()
                ));
            }
        }
        Ok(())
    }
}

impl SchedulerConfig {
    /// The peers by number.
    pub fn peers(&self) -> Result<BTreeMap<u64, SocketAddr>, String> {
        self.raft
            .peers
            .iter()
            .map(|(number, address)| match number.parse::<u64>() {
                Ok(number) if number > 0 => Ok((number, *address)),
                Ok(_) | Err(_) => {
                    Err(format!("raft.peers: `{number}` is not the number of a replica"))
                }
            })
            .collect()
    }
}

impl Configuration for SchedulerConfig {
    const ROLE: Role = Role::Scheduler;

    fn validate(&self) -> Result<(), String> {
        let peers = self.peers()?;
        if !peers.contains_key(&self.replica) {
            return Err(format!(
                "replica {} is not in raft.peers; add its address there",
                self.replica
            ));
        }
        if peers.len() % 2 == 0 {
            return Err(format!(
                "raft.peers names {} replicas; an even number survives no more losses than one \
                 less, so use an odd one",
                peers.len()
            ));
        }
        if !(1000..=600_000).contains(&self.nodes.silent_after_ms) {
            return Err("nodes.silent_after_ms must lie in 1000 to 600000".to_owned());
        }
        self.api.listener("api")?;
        self.docker.listener().listener("docker")?;
        self.planning.validate()?;
        if self.clusters.is_empty() {
            return Err("clusters is empty; name at least one".to_owned());
        }
        self.clusters.iter().try_for_each(ClusterSection::validate)
    }
}

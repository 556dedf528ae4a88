//! Hosts that share datastores and networks, under one set of policies.

use crate::ids::{ClusterId, HostId};
use crate::meta::Meta;
use crate::units::{Bytes, MilliCpus, Permille};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    /// Unique in the cell.
    pub name: String,
    pub policy: ClusterPolicy,
    pub meta: Meta,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPolicy {
    pub strategy: Strategy,
    /// CPU that may be charged, over CPU that is there. 1,000 to 16,000.
    pub cpu_overcommit: Permille,
    /// Memory that may be charged, over memory that is there. 1,000 to 4,000.
    pub memory_overcommit: Permille,
    /// Disk that may be charged, over disk that is there. Deltas are thin. 1,000 to 20,000.
    pub disk_overcommit: Permille,
    /// Shares of each host's cpu and memory, and of each datastore, that nothing is charged on:
    /// 0 to 900.
    pub cpu_reserve: Permille,
    pub memory_reserve: Permille,
    pub disk_reserve: Permille,
    /// What is kept for the loss of hosts.
    pub admission: Admission,
    /// Whether a request may displace what has a lower priority.
    pub preemption: bool,
    /// The CPU model that every host of the cluster can give, as QEMU names it.
    pub cpu_model: String,
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self {
            strategy: Strategy::Spread,
            cpu_overcommit: Permille(4000),
            memory_overcommit: Permille(1000),
            disk_overcommit: Permille(2000),
            cpu_reserve: Permille(0),
            memory_reserve: Permille(0),
            disk_reserve: Permille(0),
            admission: Admission::Off,
            preemption: false,
            // Every x86-64-v2 instruction, and nothing that a host since 2009 lacks.
            cpu_model: "Nehalem".to_owned(),
        }
    }
}

/// Which capacity a cluster keeps so that it can restart what a lost host ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// Nothing is kept.
    #[default]
    Off,
    /// After the loss of any `count` hosts (1 or 2) everything that ran there has a place.
    HostFailures { count: u8 },
    /// These shares of the cluster's cpu and memory are kept: 1 to 900.
    Percentage { cpu: Permille, memory: Permille },
    /// These hosts take nothing until another host is lost; after the loss of any one other,
    /// everything that ran there has a place on them or elsewhere.
    FailoverHosts { hosts: BTreeSet<HostId> },
    /// Each container VM takes one slot or more of this size; the slots of the `failures` largest
    /// hosts (1 to 4) are kept.
    Slots { cpu: MilliCpus, memory: Bytes, failures: u8 },
}

/// Which of the hosts that would do is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The fullest: keeps whole hosts free.
    Pack,
    /// The one with the fewest container VMs, then the emptiest.
    Spread,
    /// The one whose cpu and memory stay nearest to each other in use.
    Balance,
}

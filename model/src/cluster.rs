//! Hosts that share datastores and networks, under one set of policies.

use crate::ids::ClusterId;
use crate::meta::Meta;
use crate::units::Permille;
use serde::{Deserialize, Serialize};

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
            // Every x86-64-v2 instruction, and nothing that a host since 2009 lacks.
            cpu_model: "Nehalem".to_owned(),
        }
    }
}

/// Which of the hosts that would do is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The fullest: keeps whole hosts free.
    Pack,
    /// The one with the fewest container VMs, then the emptiest.
    Spread,
    /// The one whose cpu and memory stay nearest to each other in use.
    Balance,
}

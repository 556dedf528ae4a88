//! All that a hypervisor needs to know to start one machine, and how long it may take.

use berth_model::container::{ContainerSpec, NetworkMode};
use berth_model::{Bytes, ContainerId, Epoch};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a guest's kernel writes on its console, in the run directory. It may be emptied at any time.
pub const CONSOLE_FILE: &str = "console.log";

/// One machine to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchPlan {
    pub container: ContainerId,
    pub epoch: Epoch,
    pub vcpus: u64,
    /// Of the whole machine.
    pub memory: Bytes,
    /// As QEMU names it.
    pub cpu_model: String,
    /// Root of the datastore that holds the delta disk.
    pub datastore: PathBuf,
    /// The image's file system, read-only and shared.
    pub base: PathBuf,
    pub delta: PathBuf,
    pub delta_size: Bytes,
    /// The file that output is appended to.
    pub log: PathBuf,
    pub run_directory: PathBuf,
    pub network: NetworkMode,
    /// The operating system's numbers of the NUMA nodes that it is bound to, evenly.
    pub numa: Vec<u16>,
    /// Its demand says how it is weighed; the simulated hypervisor plays what it says.
    pub spec: Arc<ContainerSpec>,
}

impl LaunchPlan {
    /// Name of the machine: unique among all machines that ever run on a host.
    pub fn name(&self) -> String {
        format!("berth-{}-{}", self.container, self.epoch)
    }

    /// Hardware address of its network device: locally administered, the same at every start.
    pub fn mac(&self) -> [u8; 6] {
        let id = self.container.as_bytes();
        [0x52, 0x54, 0x00, id[0], id[1], id[2]]
    }
}

/// How long a start may take until it is given up, and a silent agent until it is held for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// From the hypervisor's start to the agent's first word.
    pub boot: Duration,
    /// From there to the process running.
    pub setup: Duration,
    /// From SIGKILL to the process's end, and from there to the power going off by itself.
    pub end: Duration,
    /// Silence of an agent whose machine executes.
    pub silence: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(60),
            setup: Duration::from_secs(60),
            end: Duration::from_secs(10),
            silence: Duration::from_secs(120),
        }
    }
}

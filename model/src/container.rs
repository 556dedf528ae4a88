//! Container VMs: what was asked for, and where each stands.
//!
//! ```text
//!            Place(datastore)        start             Place(host)        VmStarted
//!  Pending ─────────────────► Created ─────► Waiting ─────────────► Starting ─────────► Running
//!                                ▲  ▲           │                      │                  │
//!                                │  └───────────┘ stop                 │ VmStartFailed    │ VmExited
//!                                │                                     ▼                  ▼
//!                                └──────── (start again) ─────────── Exited ◄─────────────┘
//!  any of them ── rm ──► Removing ── Discarded ──► gone
//! ```
//!
//! A stop takes a waiting one back to `Created`, or back to `Exited` if it ran before.
//!
//! `Starting` and `Running` hold a charge of cpu and memory on their host; every state but
//! `Pending` holds disk on its datastore.

use crate::demand::Demand;
use crate::explanation::Explanation;
use crate::host::NumaNodes;
use crate::ids::{ContainerId, DatastoreId, EndpointId, Epoch, HostId, ImageId, ReservationId};
use crate::meta::Meta;
use crate::units::{Bytes, Resources, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerVm {
    pub id: ContainerId,
    /// Without the slash that Docker puts before it. Unique in the endpoint.
    pub name: String,
    pub spec: Arc<ContainerSpec>,
    pub state: VmState,
    /// The epoch of the latest start, `Epoch(0)` before the first.
    pub epoch: Epoch,
    /// Holds delta disk and output; chosen at create.
    pub datastore: Option<DatastoreId>,
    /// Where it last ran.
    pub last_host: Option<HostId>,
    /// What its cpu and memory are bound to while it is on a host.
    pub numa: NumaNodes,
    /// The reservation that it is made on; given up when it is placed there.
    pub reservation: Option<ReservationId>,
    /// It runs, and is being ended for one of a higher priority; then it waits for a place again.
    pub displaced: bool,
    pub meta: Meta,
}

impl ContainerVm {
    pub fn endpoint(&self) -> EndpointId {
        self.meta.endpoint
    }

    /// What rules select by: the object's labels, else the container's.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        if self.meta.labels.is_empty() { &self.spec.labels } else { &self.meta.labels }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmState {
    /// Created by a client; no datastore chosen yet. `refused` says why the last plan found none.
    Pending {
        refused: Option<Explanation>,
    },
    /// On its datastore, never started or taken back before it started.
    Created,
    /// To be started; no host chosen yet. `refused` says why the last plan found none; `ended` is
    /// how its last run ended, if it ever ran: a stop takes it back there.
    Waiting {
        refused: Option<Explanation>,
        ended: Option<Ended>,
    },
    /// Placed; its node has not yet said that the process runs.
    Starting {
        host: HostId,
        charge: Resources,
        stop: Option<StopOrder>,
    },
    Running {
        host: HostId,
        charge: Resources,
        started_at: Timestamp,
        stop: Option<StopOrder>,
    },
    Exited {
        exit: Exit,
        started_at: Option<Timestamp>,
        finished_at: Timestamp,
    },
    /// Its name is free again; `host`, if chosen, ends what runs and discards what is stored.
    /// `charge` is what it still holds there; `exit` is how its last run ended, for those who
    /// wait for it.
    Removing {
        host: Option<HostId>,
        charge: Option<Resources>,
        exit: Option<Exit>,
    },
}

impl VmState {
    /// The host on which cpu and memory are charged, and how much.
    pub fn charged(&self) -> Option<(HostId, Resources)> {
        match self {
            VmState::Starting { host, charge, .. } | VmState::Running { host, charge, .. } => {
                Some((*host, *charge))
            }
            VmState::Removing { host, charge, .. } => (*host).zip(*charge),
            VmState::Pending { .. }
            | VmState::Created
            | VmState::Waiting { .. }
            | VmState::Exited { .. } => None,
        }
    }

    /// One word for tables, metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            VmState::Pending { .. } => "pending",
            VmState::Created => "created",
            VmState::Waiting { .. } => "waiting",
            VmState::Starting { .. } => "starting",
            VmState::Running { .. } => "running",
            VmState::Exited { .. } => "exited",
            VmState::Removing { .. } => "removing",
        }
    }

    pub const NAMES: [&'static str; 7] =
        ["pending", "created", "waiting", "starting", "running", "exited", "removing"];
}

/// How a running container VM is to be stopped: the signal, then after the grace SIGKILL, then
/// the power goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// Linux signal number, 1 to 64.
    pub signal: u8,
    /// Seconds between signal and SIGKILL; `None` waits for ever.
    pub grace_seconds: Option<u32>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As Docker counts: 128 + signal for a process that a signal ended; 255 where the VM ended
    /// without telling (power lost, hypervisor killed).
    pub code: i32,
    pub oom_killed: bool,
    /// Why the process did not start or the VM ended without telling; empty otherwise.
    pub error: String,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub exit: Exit,
    /// `None` if the process never ran.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
}

/// What was asked for, image defaults merged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub image: ImageId,
    /// The image as the client named it.
    pub image_reference: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `NAME=value`, the image's first, the client's replacing same names.
    pub environment: Vec<String>,
    pub working_directory: String,
    /// `""`, `user`, `uid`, `user:group`, `uid:gid`.
    pub user: String,
    pub hostname: String,
    pub domain_name: String,
    pub tty: bool,
    pub open_stdin: bool,
    /// Close stdin when the first client that attached to it leaves.
    pub stdin_once: bool,
    /// Linux signal number that asks the process to end.
    pub stop_signal: u8,
    /// Grace of a stop that names none; Docker's default is 10.
    pub stop_timeout_seconds: Option<u32>,
    pub demand: Demand,
    pub network: NetworkMode,
    /// Removed by the control plane once it has exited.
    pub auto_remove: bool,
    /// Declared by the image or the client; they live in the delta disk.
    pub volumes: Vec<String>,
    pub exposed_ports: Vec<String>,
    /// `NAME -> address` lines for /etc/hosts.
    pub extra_hosts: Vec<(String, String)>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub shm_size: Bytes,
    pub labels: BTreeMap<String, String>,
    /// The body of the Docker create request, kept to the letter for inspect; empty if the
    /// container VM was made through `/v1`.
    pub docker_request: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// No network device.
    None,
    /// Outbound connections only, through the hypervisor's user-mode network.
    Egress,
}

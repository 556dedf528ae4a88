//! Container VMs of this node: one actor each, over a pure lifecycle.
//!
//! ```text
//!  agent ── start, adopt ──► VmHandle ── wishes ──► actor ◄── events ── hypervisor, guest link, timers
//!                               │                     │
//!                               │                     └─ lifecycle::step ─► actions ─► facts
//!                               └── signals, stdin, samples ──► guest_link ──► agent in the guest
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `lifecycle` | every decision; pure |
//! | `actor` | carries decisions out |
//! | `guest_link` | the resumable channel to the agent, stdin with credit |
//! | `guest_spec` | what the agent is told, from what was ordered |
//! | `translation` | what others say, in the words of the lifecycle |
//! | `records` | what is kept: settings and start in the run directory, the exit beside the container |
//!
//! Promises: exactly one terminal fact for each run, told after the machine is gone and the end is
//! recorded; what runs goes on without this process and is found again by [`adopt`].
//! Does not: decide what should run, or talk to schedulers.

mod actor;
mod guest_link;
mod guest_spec;
mod handle;
pub mod lifecycle;
mod records;
mod translation;

pub use handle::{Phase, VmError, VmHandle};
pub use records::{RecordedExit, exit_path, recorded_exit, saved_settings};

use crate::hypervisor::{Hypervisor, LaunchPlan};
use berth_metrics::vm::VmMetrics;
use berth_model::{ContainerId, Epoch, RunOrder};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Where facts go, in order. The actor waits where it is full.
pub type VmFacts = tokio::sync::mpsc::Sender<berth_model::Fact>;

/// One run of a container VM on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSettings {
    pub container: ContainerId,
    pub epoch: Epoch,
    pub order: RunOrder,
    /// `<datastore>/containers/<id>`.
    pub directory: PathBuf,
    /// The image's base disk, on any datastore that the host reaches.
    pub base: PathBuf,
    /// `<run>/<id>/<epoch>`.
    pub run_directory: PathBuf,
}

/// Starts it. Must be called on a thread with an actix system.
pub fn start(
    settings: VmSettings,
    hypervisor: Arc<dyn Hypervisor>,
    facts: VmFacts,
    metrics: VmMetrics,
) -> VmHandle {
    actor::spawn(settings, hypervisor, facts, metrics, lifecycle::Event::Begin)
}

/// Takes over whatever an earlier node left of it: running, ended meanwhile, half started, or lost with
/// the host. Ends in the right fact in every case; a start that is known is told again.
pub fn adopt(
    settings: VmSettings,
    hypervisor: Arc<dyn Hypervisor>,
    facts: VmFacts,
    metrics: VmMetrics,
) -> VmHandle {
    actor::spawn(settings, hypervisor, facts, metrics, lifecycle::Event::Adopt)
}

impl VmSettings {
    /// What the hypervisor is told.
    pub fn plan(&self) -> LaunchPlan {
        let spec = &self.order.spec;
        // `<datastore>/containers/<id>`: two levels up.
        let datastore = self.directory.parent().and_then(|path| path.parent());
        LaunchPlan {
            container: self.container,
            epoch: self.epoch,
            vcpus: spec.demand.vcpus(),
            memory: spec.demand.memory_class(),
            cpu_model: self.order.cpu_model.clone(),
            datastore: datastore.unwrap_or(&self.directory).to_owned(),
            base: self.base.clone(),
            delta: self.directory.join("delta.qcow2"),
            delta_size: spec.demand.disk,
            log: crate::output::log_path(&self.directory, self.epoch),
            run_directory: self.run_directory.clone(),
            network: spec.network,
            numa: self.order.numa.clone(),
            spec: spec.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::scripted;

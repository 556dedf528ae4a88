//! What a hypervisor process is confined to on its host: NUMA nodes, and a control group that weighs
//! it against its neighbours.
//!
//! | file | holds |
//! |---|---|
//! | `binding` | processors of NUMA nodes |
//! | `groups` | control groups: made, removed, dealt out |
//! | `hierarchy` | where groups are and what stands in them; pure |
//! | `entitlement` | how short memory is shared; pure |
//!
//! Where groups work every container VM has one, for weights mean something only among groups. Where
//! they do not, one that asks for shares is refused, and a memory reservation is what the scheduler
//! reckons with and no more: nothing is allocated ahead.
//!
//! Promises: what was made for a process is written in its run directory first, so that the node that
//! finds it ended can take it away.

mod binding;
mod entitlement;
mod groups;
mod hierarchy;

pub use binding::Binding;
pub use groups::{Groups, GroupsError, GroupsOptions};

use crate::hypervisor::{LaunchError, LaunchPlan};
use berth_metrics::IntGauge;
use berth_model::Bytes;
use entitlement::Claim;
use groups::Group;
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "confinement.json";
const FORMAT: u16 = 1;
/// What one has that names no weight.
const WEIGHT: u16 = 100;

/// What confines the hypervisors of a host.
#[derive(Clone, Debug)]
pub struct Confiner {
    /// Or why there are none.
    groups: Result<Arc<Groups>, String>,
    gauges: Option<Gauges>,
}

/// How many container VMs are confined how.
#[derive(Clone, Debug)]
pub struct Gauges {
    pub bound: IntGauge,
    pub grouped: IntGauge,
}

/// What is kept beside a process that is confined.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u16,
    numa: Vec<u16>,
    group: Option<GroupRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupRecord {
    directories: Vec<PathBuf>,
    claim: Claim,
}

/// What is to be given up when one process has ended.
#[derive(Debug, Default)]
pub struct Hold {
    group: Option<Group>,
    counted: Vec<IntGauge>,
}

/// What a process is put into before its program is loaded.
#[derive(Debug, Default)]
pub struct Entrance {
    pub processors: Option<CpuSet>,
    /// Writing `0` to each puts the writer into its group.
    pub doors: Vec<File>,
}

impl Confiner {
    /// Groups as they can be had; a host without them is none that needs repair.
    pub fn new(groups: Result<Arc<Groups>, GroupsError>, gauges: Option<Gauges>) -> Confiner {
        let groups = groups.map_err(|error| crate::causes::with_causes(&error));
        if let Err(reason) = &groups {
            tracing::warn!(
                reason,
                "container VMs cannot be weighed against each other on this host; run the node as \
                 root, or set `cgroup_parent` to a group that is delegated to it"
            );
        }
        Confiner { groups, gauges }
    }

    /// For tools and tests that need none.
    pub fn without_groups() -> Confiner {
        Confiner { groups: Err("this process makes no control groups".to_owned()), gauges: None }
    }

    /// Whether container VMs are weighed against each other.
    pub fn weighs(&self) -> bool {
        self.groups.is_ok()
    }

    /// Leaves nothing behind where nothing runs; for a node that ends.
    pub fn close(&self) {
        if let Ok(groups) = &self.groups {
            groups.close();
        }
    }

    /// Makes what the process of `plan` is confined to; its hypervisor costs `overhead`.
    pub async fn confine(
        &self,
        plan: &LaunchPlan,
        overhead: Bytes,
        binding: Option<&Binding>,
    ) -> Result<(Entrance, Hold), LaunchError> {
        let demand = &plan.spec.demand;
        if demand.shares.any()
            && let Err(reason) = &self.groups
        {
            return Err(LaunchError::NoShares { reason: reason.clone() });
        }
        let numa = binding.map(Binding::numbers).unwrap_or_default();
        let mut entrance = Entrance { processors: binding.map(Binding::processors), doors: vec![] };
        let mut hold = Hold::default();
        let size = plan.memory + overhead;
        let claim = Claim {
            size,
            reservation: demand.memory_reservation.min(size),
            cpu_weight: demand.shares.cpu.unwrap_or(WEIGHT),
            memory_weight: demand.shares.memory.unwrap_or(WEIGHT),
        };
        let (groups, name) = (self.groups.clone().ok(), plan.name());
        let run_directory = plan.run_directory.clone();
        let record = Record { format: FORMAT, numa, group: None };
        let made = off_thread(move || make(&run_directory, record, groups, &name, claim)).await?;
        if let Some((group, doors)) = made {
            entrance.doors = doors;
            hold.group = Some(group);
        }
        self.count(&mut hold, binding.is_some());
        Ok((entrance, hold))
    }

    /// Takes over what confines the process that an earlier node started as `name`.
    pub async fn resume(&self, run_directory: &Path, name: &str) -> Hold {
        let (groups, name) = (self.groups.clone().ok(), name.to_owned());
        let path = run_directory.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let record = read(&path)?;
            let bound = !record.numa.is_empty();
            let group = record.group.map(|GroupRecord { directories, claim }| match groups {
                Some(groups) => groups.resume(&name, claim, directories),
                None => Group::of_another_node(&name, directories),
            });
            Some((bound, group))
        });
        let Some((bound, group)) = found.await.ok().flatten() else { return Hold::default() };
        let mut hold = Hold { group, counted: Vec::new() };
        self.count(&mut hold, bound);
        hold
    }

    fn count(&self, hold: &mut Hold, bound: bool) {
        let Some(gauges) = &self.gauges else { return };
        if bound {
            hold.counted.push(gauges.bound.clone());
        }
        if hold.group.is_some() {
            hold.counted.push(gauges.grouped.clone());
        }
        hold.counted.iter().for_each(IntGauge::inc);
    }
}

impl Hold {
    /// To be called when the process is gone.
    pub async fn release(self) {
        self.counted.iter().for_each(IntGauge::dec);
        if let Some(group) = self.group {
            // It panics nowhere, and a runtime that shuts down leaves it to the next node.
            let _ = tokio::task::spawn_blocking(move || group.remove()).await;
        }
    }
}

/// Removes what was made for a process that is gone.
pub async fn forget(run_directory: &Path) {
    let path = run_directory.to_owned();
    let forget = tokio::task::spawn_blocking(move || {
        if let Some(group) = read(&path).and_then(|record| record.group) {
            groups::remove_all(&group.directories);
        }
    });
    // As above.
    let _ = forget.await;
}

fn make(
    run_directory: &Path,
    mut record: Record,
    groups: Option<Arc<Groups>>,
    name: &str,
    claim: Claim,
) -> Result<Option<(Group, Vec<File>)>, LaunchError> {
    let Some(groups) = groups else {
        if !record.numa.is_empty() {
            keep(run_directory, &record)?;
        }
        return Ok(None);
    };
    let directories = groups.directories(name);
    record.group = Some(GroupRecord { directories, claim });
    keep(run_directory, &record)?;
    let group = groups.make(name, claim).map_err(LaunchError::Group)?;
    match group.doors() {
        Ok(doors) => Ok(Some((group, doors))),
        Err(error) => {
            group.remove();
            Err(LaunchError::Group(error))
        }
    }
}

fn keep(run_directory: &Path, record: &Record) -> Result<(), LaunchError> {
    let path = run_directory.join(FILE);
    let bytes = serde_json::to_vec(record).map_err(io::Error::from);
    bytes.and_then(|bytes| fs::write(&path, bytes)).map_err(LaunchError::io("write", &path))
}

/// `None` if the process was not confined.
fn read(run_directory: &Path) -> Option<Record> {
    let path = run_directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read what confines a container VM");
            return None;
        }
    };
    match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) if record.format == FORMAT => Some(record),
        Ok(Record { format, .. }) => {
            tracing::warn!(path = %path.display(), format, "written by another release of berth");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read what confines a container VM");
            None
        }
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LaunchError> + Send + 'static,
) -> Result<T, LaunchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            let source = io::Error::other(error);
            Err(LaunchError::Io { what: "confine", path: PathBuf::new(), source })
        }
    }
}

#[cfg(test)]
mod tests;

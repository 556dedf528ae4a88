//! Turns what waits for a place into `Place` decisions. Runs on the leader only.
//!
//! Promises: a plan is exact: each decision was made on the fleet as it will be when those before
//! it have been applied, by applying them to a copy. Oldest first. A refusal is decided again only
//! when something became free or reachable since, and proposed only if it reads differently from
//! the one that is recorded. Does not: propose; an actor does, and apply has the last word.

#[cfg(test)]
mod tests;

use crate::fleet::Fleet;
use crate::placement;
use berth_model::command::{Decision, PlaceItem};
use berth_model::{ContainerId, ContainerVm, DatastoreId, Demand, Explanation, ImageId, VmState};
use std::collections::BTreeMap;

/// Most decisions of one plan: one command must stay small, and others want the log too.
pub const ITEMS_MAX: usize = 256;

/// What a planner remembers between plans. All of it can be lost at any time: a fresh planner
/// decides the same, it only asks again what an old one knows to be refused still.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    /// Refused ones, and the index of the fleet that refused them.
    refused: BTreeMap<ContainerId, u64>,
}

/// Decisions made on one fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub planned_at: u64,
    pub items: Vec<PlaceItem>,
    /// How many were asked for and refused, recorded anew or not.
    pub refusals: Vec<Explanation>,
    /// There was more to decide than one plan holds.
    pub more: bool,
}

/// Requests that get the same answer as long as nothing becomes free.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    image: ImageId,
    /// `None` while a datastore is sought.
    datastore: Option<DatastoreId>,
    demand: DemandKey,
}

/// A demand in an order, whichever.
type DemandKey = (
    u64,
    u64,
    u64,
    Option<berth_model::ClusterId>,
    Option<berth_model::HostId>,
    Option<DatastoreId>,
);

/// Plans everything that waits, as if for the first time.
pub fn plan(fleet: &Fleet) -> Vec<PlaceItem> {
    Planner::default().plan(fleet).items
}

impl Planner {
    /// Decides for what waits in `fleet`, at most `ITEMS_MAX` decisions.
    pub fn plan(&mut self, fleet: &Fleet) -> Plan {
        let mut plan = Plan { planned_at: fleet.index(), ..Plan::default() };
        let mut working = fleet.clone();
        let mut refused_classes: BTreeMap<(Class, bool), Explanation> = BTreeMap::new();
        let mut still_refused = BTreeMap::new();
        for vm in fleet.unplaced() {
            if let Some(since) = self.refused.get(&vm.id).filter(|at| **at >= fleet.opportunity())
                && recorded_refusal(vm).is_some()
            {
                still_refused.insert(vm.id, *since);
                continue;
            }
            if plan.items.len() == ITEMS_MAX {
                plan.more = true;
                break;
            }
            let class = (class_of(vm), vm.endpoint() == berth_model::EndpointId::SYSTEM);
            let decision = match refused_classes.get(&class) {
                Some(explanation) => Err(explanation.clone()),
                None => decide(&working, vm),
            };
            let decision = match decision {
                Ok(decision) => decision,
                Err(explanation) => {
                    refused_classes.entry(class).or_insert_with(|| explanation.clone());
                    still_refused.insert(vm.id, fleet.index());
                    plan.refusals.push(explanation.clone());
                    if recorded_refusal(vm) == Some(&explanation) {
                        continue;
                    }
                    Decision::Nowhere(explanation)
                }
            };
            let item = PlaceItem { container: vm.id, decision };
            if working.place_at(fleet.index(), item.clone()).is_ok() {
                plan.items.push(item);
            }
        }
        self.refused = still_refused;
        plan
    }
}

fn decide(fleet: &Fleet, vm: &ContainerVm) -> Result<Decision, Explanation> {
    let demand = &vm.spec.demand;
    let image = fleet.image_datastores(vm);
    match vm.datastore {
        None => placement::place_datastore(fleet, demand, image).map(Decision::Datastore),
        Some(datastore) => placement::place_host(fleet, demand, image, datastore)
            .map(|host| Decision::Host { host, epoch: vm.epoch.next() }),
    }
}

fn recorded_refusal(vm: &ContainerVm) -> Option<&Explanation> {
    match &vm.state {
        VmState::Pending { refused } | VmState::Waiting { refused, .. } => refused.as_ref(),
        VmState::Created
        | VmState::Starting { .. }
        | VmState::Running { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => None,
    }
}

fn class_of(vm: &ContainerVm) -> Class {
    let Demand { cpu, memory, disk, cluster, host, datastore } = &vm.spec.demand;
    Class {
        image: vm.spec.image,
        datastore: vm.datastore,
        demand: (cpu.0, memory.0, disk.0, *cluster, *host, *datastore),
    }
}

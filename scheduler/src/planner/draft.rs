//! A plan in the making, and what is known of container VMs that wait.

use crate::fleet::Fleet;
use crate::placement::{Ask, Ticket, explain};
use berth_model::command::{Decision, PlaceItem};
use berth_model::{
    ContainerId, ContainerVm, DatastoreId, Demand, EndpointId, Explanation, HostId, ImageId,
    ReservationId, VmState,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Age, then id.
pub(super) type Order = (u64, ContainerId);

/// Requests that get the same answer as long as nothing changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    endpoint: EndpointId,
    image: ImageId,
    /// `None` while a datastore is sought.
    datastore: Option<DatastoreId>,
    demand: Demand,
    labels: BTreeMap<String, String>,
    reservation: Option<ReservationId>,
}

/// A plan whose outcome is not known yet.
#[derive(Debug)]
pub(super) struct Open {
    pub items: Vec<OpenItem>,
}

#[derive(Debug)]
pub(super) struct OpenItem {
    pub item: PlaceItem,
    pub ticket: Option<Ticket>,
    pub since: u64,
}

/// Whether the fleet shows this decision: it, or something after it, was applied.
pub(super) fn shows(fleet: &Fleet, item: &PlaceItem) -> bool {
    let Some(vm) = fleet.container(item.container) else { return true };
    match &item.decision {
        Decision::Datastore(datastore) => vm.datastore == Some(*datastore),
        Decision::Host { epoch, .. } | Decision::Bound { epoch, .. } => vm.epoch >= *epoch,
        // The victims' room is held until they are gone.
        Decision::Displace { .. } | Decision::Nowhere(_) => false,
    }
}

/// A plan in the making.
pub(super) struct Draft {
    pub number: u64,
    pub fleet: Arc<Fleet>,
    pub items: Vec<OpenItem>,
    pub refusals: Vec<Explanation>,
    pub more: bool,
    pub explained: BTreeMap<Arc<Class>, Explanation>,
    /// The fleet with everything open applied; made when an explanation needs it.
    ahead: Option<Fleet>,
}

impl Draft {
    pub fn new(number: u64, fleet: &Arc<Fleet>) -> Self {
        Self {
            number,
            fleet: Arc::clone(fleet),
            items: Vec::new(),
            refusals: Vec::new(),
            more: false,
            explained: BTreeMap::new(),
            ahead: None,
        }
    }

    pub fn displaces_on(&self, host: HostId) -> bool {
        self.items.iter().any(|open| {
            matches!(&open.item.decision, Decision::Displace { host: on, .. } if *on == host)
        })
    }

    /// Keeps the fleet ahead up with what was decided.
    pub fn note(&mut self, item: &PlaceItem) {
        if let Some(ahead) = &mut self.ahead {
            // What is rejected leaves its room free, as it will when it is applied.
            let _ = ahead.place_at(ahead.index(), item.clone());
        }
    }

    pub fn explain(&mut self, open: &BTreeMap<u64, Open>, vm: &ContainerVm) -> Explanation {
        let ahead = self.ahead.get_or_insert_with(|| {
            let mut ahead = Fleet::clone(&self.fleet);
            let before = open.values().flat_map(|open| &open.items).chain(&self.items);
            for open in before {
                let _ = ahead.place_at(ahead.index(), open.item.clone());
            }
            ahead
        });
        let image = ahead.image(vm.endpoint(), vm.spec.image).map(|image| &image.datastores);
        let (demand, labels) = (&vm.spec.demand, vm.labels());
        let ask = match vm.datastore {
            None => Ask::create(vm.endpoint(), demand, labels, image),
            Some(datastore) => Ask::start(vm.endpoint(), demand, labels, image, datastore),
        };
        let ask = Ask { instead_of: vm.reservation, ..ask }.with_id(vm.id.as_bytes());
        explain(ahead, &ask, Explanation::HOSTS_MAX)
    }
}

pub(super) fn order_of(vm: &ContainerVm) -> Order {
    (vm.meta.created, vm.id)
}

pub(super) fn is_unplaced(vm: &ContainerVm) -> bool {
    matches!(vm.state, VmState::Pending { .. } | VmState::Waiting { .. })
}

pub(super) fn recorded_refusal(vm: &ContainerVm) -> Option<&Explanation> {
    match &vm.state {
        VmState::Pending { refused } | VmState::Waiting { refused, .. } => refused.as_ref(),
        VmState::Created
        | VmState::Starting { .. }
        | VmState::Running { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => None,
    }
}

pub(super) fn class_of(vm: &ContainerVm) -> Class {
    Class {
        endpoint: vm.endpoint(),
        image: vm.spec.image,
        datastore: vm.datastore,
        demand: vm.spec.demand.clone(),
        labels: vm.labels().clone(),
        reservation: vm.reservation,
    }
}

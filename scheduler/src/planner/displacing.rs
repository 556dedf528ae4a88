//! Container VMs that wait for others to give way.
//!
//! Promises: one displaces once: until its victims are gone, their room counts as its own in the
//! mirror, and it is not decided about. While victims of an earlier leader are on their way out,
//! nothing new is displaced: whose room that will be is not known any more.

use crate::fleet::Fleet;
use crate::placement::Ticket;
use berth_model::command::{Decision, PlaceItem};
use berth_model::{ContainerId, HostId, Victim};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Displacing {
    by_container: BTreeMap<ContainerId, Pending>,
    /// Displaced by an earlier leader, and still there.
    leaving: BTreeSet<ContainerId>,
}

#[derive(Debug)]
struct Pending {
    host: HostId,
    victims: Vec<Victim>,
    ticket: Ticket,
}

impl Displacing {
    /// Takes note of those that an earlier leader displaced.
    pub fn find(&mut self, fleet: &Fleet) {
        let leaving = fleet.containers().filter(|vm| vm.displaced && vm.state.charged().is_some());
        self.leaving = leaving.map(|vm| vm.id).collect();
    }

    /// Whether victims may be chosen on this host: nobody's victims are on their way out there.
    pub fn may_begin(&self, host: HostId) -> bool {
        self.leaving.is_empty() && !self.by_container.values().any(|pending| pending.host == host)
    }

    pub fn waits(&self, container: ContainerId) -> bool {
        self.by_container.contains_key(&container)
    }

    /// The victims are told to go.
    pub fn confirm(&mut self, item: PlaceItem, ticket: Ticket) {
        if let Decision::Displace { host, victims } = item.decision {
            self.by_container.insert(item.container, Pending { host, victims, ticket });
        }
    }

    /// Those whose victims are gone, or that do not wait any more.
    pub fn follow(&mut self, fleet: &Fleet) -> Vec<(ContainerId, Ticket)> {
        self.leaving.retain(|id| is_on(fleet, *id, None));
        let over: Vec<ContainerId> = self
            .by_container
            .iter()
            .filter(|(container, pending)| pending.is_over(fleet, **container))
            .map(|(container, _)| *container)
            .collect();
        let taken = |id: ContainerId| Some((id, self.by_container.remove(&id)?.ticket));
        over.into_iter().filter_map(taken).collect()
    }
}

impl Pending {
    /// The victims are gone, or nobody waits for their room any more.
    fn is_over(&self, fleet: &Fleet, container: ContainerId) -> bool {
        let waits = fleet.container(container).is_some_and(super::draft::is_unplaced);
        let there = |victim: &Victim| match victim {
            Victim::ContainerVm(id) => is_on(fleet, *id, Some(self.host)),
            Victim::Reservation(id) => fleet.reservation(*id).is_some(),
        };
        !waits || !self.victims.iter().any(there)
    }
}

fn is_on(fleet: &Fleet, id: ContainerId, host: Option<HostId>) -> bool {
    let charged = fleet.container(id).and_then(|vm| vm.state.charged());
    charged.is_some_and(|(on, _)| host.is_none_or(|host| host == on))
}

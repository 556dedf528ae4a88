//! What the planner decided, checked again on the fleet as it is now.
//!
//! Promises: an item is taken whole or refused alone; a taken one breaks no filter at the index
//! that takes it, and each start gets the epoch after the last. A reservation that a container VM is
//! made on gives up its room in the step that takes it: the delta's part when the delta is placed,
//! the rest when it is to run.

use super::admit::Wish;
use super::containers::own_stop;
use super::{At, Fleet};
use berth_model::command::{Decision, PlaceItem};
use berth_model::event::{Subject, What};
use berth_model::{
    ContainerId, ContainerVm, DatastoreId, Epoch, Explanation, HostId, NumaNodes, Refusal,
    Rejection, Victim, VmState,
};
use std::collections::BTreeSet;

impl Fleet {
    /// Takes one decision, or says why it cannot stand any more.
    pub(crate) fn place_at(
        &mut self,
        index: u64,
        item: PlaceItem,
    ) -> Result<ContainerId, Rejection> {
        let at = At { index, time: self.time, endpoint: berth_model::EndpointId::SYSTEM };
        self.place(at, item)
    }

    pub(super) fn place(&mut self, at: At, item: PlaceItem) -> Result<ContainerId, Rejection> {
        let PlaceItem { container, decision } = item;
        match decision {
            Decision::Datastore(datastore) => {
                self.on_reservation(container, |fleet| fleet.place_delta(at, container, datastore))
            }
            Decision::Host { host, epoch } => self.on_reservation(container, |fleet| {
                fleet.place_run(at, container, host, epoch, None)
            }),
            Decision::Bound { host, epoch, numa } => self.on_reservation(container, |fleet| {
                fleet.place_run(at, container, host, epoch, Some(numa))
            }),
            Decision::Displace { host, victims } => self.displace(at, container, host, &victims),
            Decision::Nowhere(explanation) => self.refuse(at, container, explanation),
        }
    }

    /// A step that first gives up what a reservation holds is undone whole if it is refused.
    fn on_reservation(
        &mut self,
        id: ContainerId,
        step: impl FnOnce(&mut Fleet) -> Result<ContainerId, Rejection>,
    ) -> Result<ContainerId, Rejection> {
        if self.container(id).is_none_or(|vm| self.claimed(vm).is_none()) {
            return step(self);
        }
        let before = self.clone();
        let answer = step(self);
        if answer.is_err() {
            *self = before;
        }
        answer
    }

    fn place_delta(
        &mut self,
        at: At,
        id: ContainerId,
        datastore: DatastoreId,
    ) -> Result<ContainerId, Rejection> {
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        if !matches!(vm.state, VmState::Pending { .. }) {
            return Err(Rejection::NotWaiting(id));
        }
        if self.datastore(datastore).is_none() {
            return Err(Rejection::NoSuchDatastore(datastore));
        }
        if vm.spec.demand.datastore.is_some_and(|wanted| wanted != datastore) {
            let refusal = Refusal::DatastoreUnreachable { datastore };
            return Err(Rejection::DatastoreRefuses(refusal));
        }
        if let Some(held) = self.claimed(vm).map(|held| held.id) {
            self.change_reservation(at, held, |held| held.place.delta = None);
        }
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        let store = self.datastore(datastore).ok_or(Rejection::NoSuchDatastore(datastore))?;
        let matched = self.matched(vm.endpoint(), vm.labels());
        let wish =
            Wish::create(&vm.spec.demand, self.image_datastores(vm)).by(vm.endpoint(), &matched);
        self.admit_delta(store, &wish).map_err(Rejection::DatastoreRefuses)?;
        self.change_container(at, id, |vm| {
            vm.datastore = Some(datastore);
            vm.state = VmState::Created;
        });
        Ok(id)
    }

    fn place_run(
        &mut self,
        at: At,
        id: ContainerId,
        host: HostId,
        epoch: Epoch,
        numa: Option<NumaNodes>,
    ) -> Result<ContainerId, Rejection> {
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        let (VmState::Waiting { .. }, Some(datastore)) = (&vm.state, vm.datastore) else {
            return Err(Rejection::NotWaiting(id));
        };
        if epoch != vm.epoch.next() {
            return Err(Rejection::StaleEpoch { held: vm.epoch, offered: epoch });
        }
        if let Some(held) = self.claimed(vm).map(|held| held.id) {
            self.end_reservation(at, held, What::Removed);
        }
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        let target = self.host(host).ok_or(Rejection::NoSuchHost)?;
        let matched = self.matched(vm.endpoint(), vm.labels());
        let demand = &vm.spec.demand;
        let wish = Wish::start(demand, self.image_datastores(vm), datastore);
        let wish = Wish { numa, ..wish.by(vm.endpoint(), &matched) };
        let refuses = |refusal| Rejection::HostRefuses { host, refusal };
        self.admit(target, &wish).map_err(refuses)?;
        let charge = demand.charge(target.facts.vm_overhead);
        // A planner that names no nodes leaves the choice, which is the same everywhere.
        let width = demand.numa.unwrap_or(0);
        let numa = match demand.numa {
            None => NumaNodes::NONE,
            Some(_) => numa
                .or_else(|| self.choose_numa(target, demand))
                .ok_or_else(|| refuses(Refusal::NumaShort { needed: width, fitting: 0 }))?,
        };
        self.change_container(at, id, |vm| {
            vm.epoch = epoch;
            vm.last_host = Some(host);
            vm.numa = numa;
            vm.reservation = None;
            vm.state = VmState::Starting { host, charge, stop: None };
        });
        Ok(id)
    }

    /// Orders what runs there to end, and ends reservations, for one that goes on waiting.
    fn displace(
        &mut self,
        at: At,
        id: ContainerId,
        host: HostId,
        victims: &[Victim],
    ) -> Result<ContainerId, Rejection> {
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        if !matches!(vm.state, VmState::Waiting { .. }) {
            return Err(Rejection::NotWaiting(id));
        }
        if self.host(host).is_none() {
            return Err(Rejection::NoSuchHost);
        }
        let priority = vm.spec.demand.priority;
        let before = self.clone();
        for victim in victims {
            let displaced = match victim {
                Victim::ContainerVm(victim) => self.displace_vm(at, host, priority, *victim),
                Victim::Reservation(held) => self.displace_reservation(at, host, priority, *held),
            };
            if let Err(rejection) = displaced {
                *self = before;
                return Err(rejection);
            }
        }
        Ok(id)
    }

    fn displace_vm(
        &mut self,
        at: At,
        host: HostId,
        priority: i16,
        id: ContainerId,
    ) -> Result<(), Rejection> {
        let not = || Rejection::NotDisplaceable(format!("container VM {id}"));
        let vm = self.container(id).ok_or_else(not)?;
        let may = self.preempts(host) && vm.spec.demand.priority < priority;
        let order = own_stop(vm);
        let mut state = vm.state.clone();
        match &mut state {
            // One that is being stopped already leaves anyway, and does not come back.
            VmState::Starting { host: on, stop, .. } | VmState::Running { host: on, stop, .. }
                if may && *on == host && stop.is_none() =>
            {
                *stop = Some(order);
            }
            VmState::Starting { .. }
            | VmState::Running { .. }
            | VmState::Pending { .. }
            | VmState::Created
            | VmState::Waiting { .. }
            | VmState::Exited { .. }
            | VmState::Removing { .. } => return Err(not()),
        }
        self.change_container(at, id, |vm| {
            vm.state = state;
            vm.displaced = true;
        });
        Ok(())
    }

    fn refuse(
        &mut self,
        at: At,
        id: ContainerId,
        explanation: Explanation,
    ) -> Result<ContainerId, Rejection> {
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        let owner = vm.endpoint();
        let mut state = vm.state.clone();
        match &mut state {
            VmState::Pending { refused } | VmState::Waiting { refused, .. } => {
                if refused.as_ref() != Some(&explanation) {
                    *refused = Some(explanation);
                    self.set_state(at, id, state);
                    self.tell(at, owner, Subject::ContainerVm(id), What::Refused);
                }
                Ok(id)
            }
            VmState::Created
            | VmState::Starting { .. }
            | VmState::Running { .. }
            | VmState::Exited { .. }
            | VmState::Removing { .. } => Err(Rejection::NotWaiting(id)),
        }
    }

    /// Datastores with the image's base disk; `None` only if the record is gone.
    pub(crate) fn image_datastores(&self, vm: &ContainerVm) -> Option<&BTreeSet<DatastoreId>> {
        self.image(vm.endpoint(), vm.spec.image).map(|image| &image.datastores)
    }
}

//! What the planner decided, checked again on the fleet as it is now.
//!
//! Promises: an item is taken whole or refused alone; a taken one breaks no filter at the index
//! that takes it, and each start gets the epoch after the last.

use super::admit::Wish;
use super::{At, Fleet};
use berth_model::command::{Decision, PlaceItem};
use berth_model::{
    ContainerId, ContainerVm, DatastoreId, Epoch, Explanation, HostId, Refusal, Rejection, VmState,
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
            Decision::Datastore(datastore) => self.place_delta(at, container, datastore),
            Decision::Host { host, epoch } => self.place_run(at, container, host, epoch),
            Decision::Nowhere(explanation) => self.refuse(at, container, explanation),
        }
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
        let store = self.datastore(datastore).ok_or(Rejection::NoSuchDatastore(datastore))?;
        if vm.spec.demand.datastore.is_some_and(|wanted| wanted != datastore) {
            let refusal = Refusal::DatastoreUnreachable { datastore };
            return Err(Rejection::DatastoreRefuses(refusal));
        }
        let wish = Wish::create(&vm.spec.demand, self.image_datastores(vm));
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
    ) -> Result<ContainerId, Rejection> {
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        let (VmState::Waiting { .. }, Some(datastore)) = (&vm.state, vm.datastore) else {
            return Err(Rejection::NotWaiting(id));
        };
        if epoch != vm.epoch.next() {
            return Err(Rejection::StaleEpoch { held: vm.epoch, offered: epoch });
        }
        let target = self.host(host).ok_or(Rejection::NoSuchHost)?;
        let wish = Wish::start(&vm.spec.demand, self.image_datastores(vm), datastore);
        self.admit(target, &wish).map_err(|refusal| Rejection::HostRefuses { host, refusal })?;
        let charge = vm.spec.demand.charge(target.facts.vm_overhead);
        self.change_container(at, id, |vm| {
            vm.epoch = epoch;
            vm.last_host = Some(host);
            vm.state = VmState::Starting { host, charge, stop: None };
        });
        Ok(id)
    }

    fn refuse(
        &mut self,
        at: At,
        id: ContainerId,
        explanation: Explanation,
    ) -> Result<ContainerId, Rejection> {
        let vm = self.container(id).ok_or(Rejection::NoSuchContainer(id))?;
        let mut state = vm.state.clone();
        match &mut state {
            VmState::Pending { refused } | VmState::Waiting { refused, .. } => {
                if refused.as_ref() != Some(&explanation) {
                    *refused = Some(explanation);
                    self.set_state(at, id, state);
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

//! What clients ask of container VMs: create, start, stop, remove.
//!
//! These record intent only. Where a container VM goes comes in later as `Place`, what became of
//! it as `Observe`. A command of one endpoint never sees another's container VM.

use super::bootstrap::id_taken;
use super::names::check_name;
use super::{At, Fleet};
use berth_model::change::{Answer, Change};
use berth_model::command::NewContainer;
use berth_model::container::{Ended, StopOrder};
use berth_model::rejection::NameKind;
use berth_model::{
    Bytes, ContainerId, ContainerVm, Demand, EndpointId, Epoch, NumaNodes, Rejection, Usage,
    VmState,
};
use std::sync::Arc;

/// Docker's grace where neither the request nor the container names one.
const STOP_GRACE_SECONDS: u32 = 10;

impl Fleet {
    pub(super) fn create_container(&mut self, at: At, new: NewContainer) -> Answer {
        let endpoint = at.endpoint;
        if endpoint != EndpointId::SYSTEM && !self.endpoints.contains_key(&endpoint) {
            return Err(Rejection::NoSuchEndpoint);
        }
        check_name(NameKind::Container, &new.name)?;
        if let Some(holder) = self.names.containers.get(&(endpoint, new.name.clone())) {
            let holder = Some(*holder);
            return Err(Rejection::NameTaken { kind: NameKind::Container, name: new.name, holder });
        }
        if self.containers.contains_key(&new.id) || self.departed.get(new.id).is_some() {
            return Err(id_taken("container id", &new.id));
        }
        if self.image(endpoint, new.spec.image).is_none() {
            return Err(Rejection::NoSuchImage(new.spec.image));
        }
        self.check_container_demand(&new.spec.demand)?;
        let mut spec = new.spec;
        let more = Usage { disk: spec.demand.disk_total(), containers: 1, ..Usage::default() };
        match new.reservation {
            None => self.check_quota(endpoint, more)?,
            Some(id) => {
                // It counts in the reservation's stead, and asks for no more than that.
                let held = self.claimable(endpoint, id, &spec.demand)?;
                spec.demand.host = Some(held.place.host);
                spec.demand.datastore = held.place.delta;
            }
        }
        self.names.containers.insert((endpoint, new.name.clone()), new.id);
        let vm = ContainerVm {
            id: new.id,
            name: new.name,
            spec: Arc::new(spec),
            state: VmState::Pending { refused: None },
            epoch: Epoch(0),
            datastore: None,
            last_host: None,
            numa: NumaNodes::NONE,
            reservation: new.reservation,
            displaced: false,
            meta: at.meta(endpoint, new.labels),
        };
        self.add_container(at, vm);
        Ok(Change::ContainerCreated { container: new.id })
    }

    /// What a container VM can be made with; a placement may ask for more.
    fn check_container_demand(&self, demand: &Demand) -> Result<(), Rejection> {
        if demand.disk == Bytes::ZERO {
            return Err(Rejection::Invalid {
                what: "disk demand".to_owned(),
                value: "0".to_owned(),
                rule: "more than zero".to_owned(),
            });
        }
        if !demand.disks.is_empty() {
            return Err(Rejection::Invalid {
                what: "number of disks".to_owned(),
                value: demand.disks.len().to_string(),
                rule: "none beside the delta; container VMs have no other disks yet".to_owned(),
            });
        }
        self.check_demand(demand)
    }

    pub(super) fn start_container(&mut self, at: At, id: ContainerId) -> Answer {
        let ended = match &self.touchable(at, id)?.state {
            VmState::Pending { .. } => return Err(Rejection::NotPlaced(id)),
            VmState::Waiting { .. } => return Ok(Change::Nothing),
            VmState::Starting { .. } | VmState::Running { .. } => {
                return Err(Rejection::AlreadyRunning(id));
            }
            VmState::Removing { .. } => return Err(Rejection::BeingRemoved(id)),
            VmState::Created => None,
            VmState::Exited { exit, started_at, finished_at } => Some(Ended {
                exit: exit.clone(),
                started_at: *started_at,
                finished_at: *finished_at,
            }),
        };
        self.set_state(at, id, VmState::Waiting { refused: None, ended });
        Ok(Change::ContainerChanged { container: id })
    }

    pub(super) fn stop_container(
        &mut self,
        at: At,
        id: ContainerId,
        order: Option<StopOrder>,
    ) -> Answer {
        let vm = self.touchable(at, id)?;
        let order = order.unwrap_or_else(|| own_stop(vm));
        check_signal(order.signal)?;
        let displaced = vm.displaced;
        let mut state = vm.state.clone();
        match &mut state {
            VmState::Pending { .. } | VmState::Created | VmState::Exited { .. } => {
                return Ok(Change::Nothing);
            }
            VmState::Removing { .. } => return Err(Rejection::BeingRemoved(id)),
            VmState::Waiting { ended, .. } => {
                state = match ended.take() {
                    None => VmState::Created,
                    Some(Ended { exit, started_at, finished_at }) => {
                        VmState::Exited { exit, started_at, finished_at }
                    }
                };
            }
            VmState::Starting { stop, .. } | VmState::Running { stop, .. } => {
                let joined = stop.map_or(order, |earlier| join_orders(earlier, order));
                if *stop == Some(joined) && !displaced {
                    return Ok(Change::Nothing);
                }
                *stop = Some(joined);
            }
        }
        // One that was displaced too is not to come back: whoever stops it wants it stopped.
        self.change_container(at, id, |vm| {
            vm.state = state;
            vm.displaced = false;
        });
        Ok(Change::ContainerChanged { container: id })
    }

    /// The container VM, if the command may touch it. To other endpoints it does not exist.
    pub(super) fn touchable(&self, at: At, id: ContainerId) -> Result<&ContainerVm, Rejection> {
        self.container(id)
            .filter(|vm| at.may_touch(vm.endpoint()))
            .ok_or(Rejection::NoSuchContainer(id))
    }
}

/// How the container VM is stopped where nobody says how.
pub(super) fn own_stop(vm: &ContainerVm) -> StopOrder {
    StopOrder {
        signal: vm.spec.stop_signal,
        grace_seconds: Some(vm.spec.stop_timeout_seconds.unwrap_or(STOP_GRACE_SECONDS)),
    }
}

fn check_signal(signal: u8) -> Result<(), Rejection> {
    if (1..=64).contains(&signal) {
        return Ok(());
    }
    Err(Rejection::Invalid {
        what: "signal".to_owned(),
        value: signal.to_string(),
        rule: "1 to 64".to_owned(),
    })
}

/// Two stops at once: the later signal is sent, and whichever grace is shorter ends both.
fn join_orders(earlier: StopOrder, later: StopOrder) -> StopOrder {
    let grace_seconds = match (earlier.grace_seconds, later.grace_seconds) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    };
    StopOrder { signal: later.signal, grace_seconds }
}

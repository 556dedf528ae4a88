//! What nodes saw, made true in the fleet.
//!
//! Promises: each fact is harmless twice and harmless late: one of another epoch or another host
//! than the container VM's own changes nothing.

use super::{At, Fleet};
use berth_model::change::{Answer, Change};
use berth_model::container::{Ended, Exit};
use berth_model::report::Fact;
use berth_model::{ContainerId, Epoch, HostId, NumaNodes, Rejection, Timestamp, VmState};

impl Fleet {
    pub(super) fn observe(&mut self, at: At, host: HostId, facts: Vec<Fact>) -> Answer {
        if !self.hosts.contains_key(&host) {
            return Err(Rejection::NoSuchHost);
        }
        let mut changed = 0;
        for fact in facts {
            changed += u32::from(self.observe_one(at, host, fact));
        }
        Ok(if changed == 0 { Change::Nothing } else { Change::Observed { changed } })
    }

    fn observe_one(&mut self, at: At, host: HostId, fact: Fact) -> bool {
        match fact {
            Fact::VmStarted { container, epoch, started_at } => {
                self.vm_started(at, host, container, epoch, started_at)
            }
            Fact::VmExited { container, epoch, exit, finished_at }
            | Fact::VmStartFailed { container, epoch, exit, finished_at } => {
                self.vm_ended(at, host, container, epoch, exit, finished_at)
            }
            Fact::Discarded { container } => self.discarded(at, host, container),
        }
    }

    fn vm_started(
        &mut self,
        at: At,
        host: HostId,
        id: ContainerId,
        epoch: Epoch,
        started_at: Timestamp,
    ) -> bool {
        let Some(vm) = self.container(id).filter(|vm| vm.epoch == epoch) else { return false };
        match vm.state {
            VmState::Starting { host: placed, charge, stop } if placed == host => {
                self.set_state(at, id, VmState::Running { host, charge, started_at, stop });
                true
            }
            VmState::Starting { .. }
            | VmState::Running { .. }
            | VmState::Pending { .. }
            | VmState::Created
            | VmState::Waiting { .. }
            | VmState::Exited { .. }
            | VmState::Removing { .. } => false,
        }
    }

    /// The run is over, whether or not its process ever ran.
    fn vm_ended(
        &mut self,
        at: At,
        host: HostId,
        id: ContainerId,
        epoch: Epoch,
        exit: Exit,
        finished_at: Timestamp,
    ) -> bool {
        let Some(vm) = self.container(id).filter(|vm| vm.epoch == epoch) else { return false };
        let started_at = match &vm.state {
            VmState::Starting { host: placed, .. } if *placed == host => None,
            VmState::Running { host: placed, started_at, .. } if *placed == host => {
                Some(*started_at)
            }
            VmState::Removing { host: Some(placed), charge: Some(_), .. } if *placed == host => {
                let state = VmState::Removing { host: Some(host), charge: None, exit: Some(exit) };
                self.leave_host(at, id, state);
                return true;
            }
            VmState::Starting { .. }
            | VmState::Running { .. }
            | VmState::Removing { .. }
            | VmState::Pending { .. }
            | VmState::Created
            | VmState::Waiting { .. }
            | VmState::Exited { .. } => return false,
        };
        if vm.displaced {
            let ended = Some(Ended { exit, started_at, finished_at });
            self.leave_host(at, id, VmState::Waiting { refused: None, ended });
        } else if vm.spec.auto_remove {
            self.remove_exited(at, id, host, exit);
        } else {
            self.leave_host(at, id, VmState::Exited { exit, started_at, finished_at });
        }
        true
    }

    /// Into a state without cpu and memory: nothing is bound, nobody is displaced any more.
    pub(super) fn leave_host(&mut self, at: At, id: ContainerId, state: VmState) {
        self.change_container(at, id, |vm| {
            vm.state = state;
            vm.numa = NumaNodes::NONE;
            vm.displaced = false;
        });
    }
}

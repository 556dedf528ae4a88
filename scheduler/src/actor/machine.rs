//! The fleet as the replica's state machine: decodes, applies, publishes.
//!
//! Promises: what is published was applied whole, and a [`Reign`] that says this replica leads is
//! published after the fleet that it leads with. A command or snapshot that cannot be read ends
//! the process: a replica that skipped it would hold another fleet than its peers.

use super::clock;
use crate::fleet::{Fleet, format};
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::{Timestamp, VmState};
use berth_raft::{ReplicaId, Role, StateMachine, Status};
use berth_wire::codec;
use std::sync::Arc;
use tokio::sync::watch;

/// Who leads, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reign {
    /// This replica, with everything applied that earlier leaders committed.
    Ours { term: u64 },
    /// Another, or none, or this one but not settled yet.
    Other { leader: Option<ReplicaId> },
}

impl Reign {
    pub fn is_ours(self) -> bool {
        match self {
            Reign::Ours { .. } => true,
            Reign::Other { .. } => false,
        }
    }

    fn of(status: &Status) -> Reign {
        match status.role {
            Role::Leader if status.settled => Reign::Ours { term: status.term },
            Role::Leader => Reign::Other { leader: None },
            Role::Follower | Role::Candidate | Role::Learner => {
                Reign::Other { leader: status.leader }
            }
        }
    }
}

/// What the machine publishes.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub fleet: watch::Receiver<Arc<Fleet>>,
    /// Everything up to this index is in the published fleet, or changed nothing.
    pub applied: watch::Receiver<u64>,
    pub reign: watch::Receiver<Reign>,
}

pub(super) struct SchedulerMachine {
    state: Fleet,
    /// Applied, but not published yet.
    fresh: bool,
    fleet: watch::Sender<Arc<Fleet>>,
    applied: watch::Sender<u64>,
    reign: watch::Sender<Reign>,
    metrics: SchedulerMetrics,
}

impl SchedulerMachine {
    pub fn new(metrics: SchedulerMetrics) -> (Self, Published) {
        let (fleet, fleet_receiver) = watch::channel(Arc::new(Fleet::default()));
        let (applied, applied_receiver) = watch::channel(0);
        let (reign, reign_receiver) = watch::channel(Reign::Other { leader: None });
        let machine =
            Self { state: Fleet::default(), fresh: false, fleet, applied, reign, metrics };
        let published =
            Published { fleet: fleet_receiver, applied: applied_receiver, reign: reign_receiver };
        (machine, published)
    }

    fn publish(&mut self) {
        if !self.fresh {
            return;
        }
        self.fresh = false;
        self.count();
        self.fleet.send_replace(Arc::new(self.state.clone()));
    }

    fn count(&self) {
        let counts = self.state.counts();
        for (name, count) in VmState::NAMES.iter().zip(counts) {
            self.metrics.set_container_vms(name, count);
        }
        let pending = self.state.unplaced_count();
        self.metrics.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        let hosts = self.state.host_counts();
        self.metrics.set_hosts("connected", hosts.connected);
        self.metrics.set_hosts("silent", hosts.silent);
        self.metrics.set_hosts("maintenance", hosts.maintenance);
    }
}

impl StateMachine for SchedulerMachine {
    fn apply(&mut self, index: u64, time_ms: u64, command: &[u8]) -> Vec<u8> {
        let command = match format::decode_command(command) {
            Ok(command) => command,
            Err(error) => panic!("command at index {index} cannot be read: {error}"),
        };
        let began = clock::now();
        let answer = self.state.apply(index, Timestamp(time_ms), command);
        self.metrics.apply_seconds.observe(began.elapsed().as_secs_f64());
        self.fresh = true;
        codec::encode(&answer)
    }

    fn applied(&mut self, index: u64) {
        self.publish();
        self.applied.send_replace(index);
    }

    fn role_changed(&mut self, status: &Status) {
        self.publish();
        let reign = Reign::of(status);
        self.reign.send_if_modified(|held| {
            let changed = *held != reign;
            *held = reign;
            changed
        });
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let fleet = self.state.clone();
        Box::new(move || fleet.encode())
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        self.state = Fleet::decode(bytes).map_err(|error| error.to_string())?;
        self.fresh = true;
        self.applied(index);
        Ok(())
    }

    fn state_hash(&self) -> u64 {
        self.state.state_hash()
    }
}

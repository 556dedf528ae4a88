//! The replicated state: everything that the cell knows, and the one function that changes it.
//!
//! Promises: [`Fleet::apply`] is total and deterministic; it reads no clock, draws no number and
//! does no IO. A rejection changes nothing but the index, the time, and what that time lets
//! expire. Sums (what hosts and datastores are charged) equal their parts after every command;
//! `check_invariants` says so in the tests. A clone is a copy of a few pointers.
//!
//! Does not: choose. Where something is to go is decided by `placement` and comes in as a `Place`
//! command; here it is checked again. The one exception is who discards what a removed container
//! VM left behind, in `removal`: any host that reaches the datastore will do.
//!
//! One file a kind of object; whatever changes a container VM goes through `ledger`, which keeps
//! sums and indexes.

pub mod admit;
mod bootstrap;
mod clusters;
mod containers;
mod datastores;
mod departed;
mod diff;
mod events;
mod foresee;
pub mod format;
mod hash;
mod hosts;
mod images;
mod indexes;
mod invariants;
mod keys;
mod ledger;
mod loads;
mod names;
mod observe;
mod place;
mod query;
mod removal;
mod reservations;
pub mod rules;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use departed::Departed;
pub use diff::Diff;
pub use events::Compacted;
pub(crate) use foresee::HostBooks;
pub use indexes::{ClusterLoad, HostCounts};
pub use query::Prefixed;

use berth_model::change::{Answer, Change};
use berth_model::command::{Command, CommandBody, Condition};
use berth_model::{
    CellId, Cluster, ClusterId, ContainerId, ContainerVm, Datastore, DatastoreId, Endpoint,
    EndpointId, HostId, Image, ImageId, Incarnation, Meta, Rejection, Reservation, ReservationId,
    Subject, Timestamp,
};
use departed::DepartedLog;
use events::EventLog;
use imbl::OrdMap;
use indexes::{HostRecord, Indexes};
use keys::Keys;
use names::Names;
use rules::{Group, GroupKey, Levels, RuleBook};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that a cell knows as of one index.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    index: u64,
    time: Timestamp,
    cell: Option<CellId>,
    incarnation: Incarnation,
    clusters: OrdMap<ClusterId, Arc<Cluster>>,
    endpoints: OrdMap<EndpointId, Arc<Endpoint>>,
    hosts: OrdMap<HostId, Arc<HostRecord>>,
    datastores: OrdMap<DatastoreId, Arc<Datastore>>,
    /// One record an endpoint that sees the image; the bytes on datastores are shared.
    images: OrdMap<(ImageId, EndpointId), Arc<Image>>,
    containers: OrdMap<ContainerId, Arc<ContainerVm>>,
    reservations: OrdMap<ReservationId, Arc<Reservation>>,
    /// The rules; how they are found is derived from them.
    rules: RuleBook,
    departed: DepartedLog,
    keys: Keys,
    events: EventLog,
    // What follows is derived from the objects and not in snapshots.
    names: Names,
    indexes: Indexes,
    levels: Levels,
    /// Counts of what is placed, for rules.
    groups: OrdMap<GroupKey, Arc<Group>>,
    /// Over all objects above but those that hold a sum of their own.
    hash: hash::Sum,
}

/// Where in the log a command stands, and for whom it speaks.
#[derive(Clone, Copy, Debug)]
struct At {
    index: u64,
    time: Timestamp,
    endpoint: EndpointId,
}

impl At {
    fn meta(self, endpoint: EndpointId, labels: BTreeMap<String, String>) -> Meta {
        Meta { endpoint, created: self.index, modified: self.index, created_at: self.time, labels }
    }

    /// Whether the command may touch what `owner` owns.
    fn may_touch(self, owner: EndpointId) -> bool {
        self.endpoint == EndpointId::SYSTEM || self.endpoint == owner
    }
}

impl Fleet {
    /// Applies one committed command. Several commands of one batch share an index and a time;
    /// `time` is stamped by the leader.
    pub fn apply(&mut self, index: u64, time: Timestamp, command: Command) -> Answer {
        self.advance(index, time);
        let Command {
            principal,
            endpoint,
            request: _,
            traceparent: _,
            key,
            deadline,
            condition,
            body,
        } = command;
        let key = key.map(|key| (key, keys::fingerprint(&principal, endpoint, &body)));
        if let Some((key, fingerprint)) = &key
            && let Some(answer) = self.keys.answer(key, fingerprint)
        {
            return answer;
        }
        if deadline.is_some_and(|deadline| deadline < self.time) {
            return Err(Rejection::DeadlinePassed);
        }
        if let Some(condition) = condition {
            self.check_condition(condition)?;
        }
        let at = At { index: self.index, time: self.time, endpoint };
        let change = self.carry_out(at, body)?;
        if let Some((key, fingerprint)) = key {
            self.keys.keep(key, fingerprint, change.clone(), self.time);
        }
        Ok(change)
    }

    /// Index and time go on even where nothing else does, and with the time go the things that
    /// are kept for a while only.
    fn advance(&mut self, index: u64, time: Timestamp) {
        self.index = self.index.max(index);
        self.time = self.time.max(time);
        self.keys.expire(self.time);
        self.departed.expire(self.time);
        self.expire_reservations();
    }

    /// An object that is gone was last changed never.
    fn check_condition(&self, condition: Condition) -> Result<(), Rejection> {
        let modified = match condition.subject {
            Subject::Cluster(id) => self.cluster(id).map(|one| one.meta.modified),
            Subject::Host(id) => self.host(id).map(|one| one.meta.modified),
            Subject::Datastore(id) => self.datastore(id).map(|one| one.meta.modified),
            Subject::Endpoint(id) => self.endpoint(id).map(|one| one.meta.modified),
            Subject::Image(id) => {
                let owners = self.images_of(EndpointId::SYSTEM).filter(|image| image.id == id);
                owners.map(|image| image.meta.modified).max()
            }
            Subject::ContainerVm(id) => self.container(id).map(|one| one.meta.modified),
            Subject::Reservation(id) => self.reservation(id).map(|one| one.meta.modified),
            Subject::Rule(id) => self.rule(id).map(|one| one.meta.modified),
        };
        let modified = modified.unwrap_or(0);
        if modified == condition.modified {
            return Ok(());
        }
        Err(Rejection::ConditionFailed { modified })
    }

    fn carry_out(&mut self, at: At, body: CommandBody) -> Answer {
        if let CommandBody::Bootstrap(bootstrap) = body {
            return self.bootstrap(at, bootstrap);
        }
        if self.cell.is_none() {
            return Err(Rejection::NotBootstrapped);
        }
        match body {
            CommandBody::Bootstrap(_) => Ok(Change::Nothing),
            CommandBody::CreateCluster { id, name, policy } => {
                self.create_cluster(at, id, name, policy)
            }
            CommandBody::CreateEndpoint { id, name, defaults } => {
                self.create_endpoint(at, id, name, defaults)
            }
            CommandBody::HostSeen { host, facts } => self.host_seen(at, host, *facts),
            CommandBody::HostSilent { host } => self.host_silent(at, host),
            CommandBody::SetMaintenance { host, maintenance } => {
                self.set_maintenance(at, host, maintenance)
            }
            CommandBody::RecordImage(image) => self.record_image(at, *image),
            CommandBody::CreateContainer(new) => self.create_container(at, *new),
            CommandBody::StartContainer { id } => self.start_container(at, id),
            CommandBody::StopContainer { id, order } => self.stop_container(at, id, order),
            CommandBody::RemoveContainer { id, force } => self.remove_container(at, id, force),
            CommandBody::Place { planned_at: _, items } => {
                let items = items.into_iter().map(|item| self.place(at, item)).collect();
                Ok(Change::Placed { items })
            }
            CommandBody::Observe { host, facts } => self.observe(at, host, facts),
            CommandBody::SetPolicy { cluster, policy } => self.set_policy(at, cluster, policy),
            CommandBody::RemoveCluster { cluster } => self.remove_cluster(at, cluster),
            CommandBody::RemoveHost { host } => self.remove_host(at, host),
            CommandBody::ConfigureEndpoint { id, defaults, quota } => {
                self.configure_endpoint(at, id, defaults, quota)
            }
            CommandBody::RemoveEndpoint { id } => self.remove_endpoint(at, id),
            CommandBody::CreateRule(new) => self.create_rule(at, *new),
            CommandBody::ReplaceRule { id, spec } => self.replace_rule(at, id, spec),
            CommandBody::RemoveRule { id } => self.remove_rule(at, id),
            CommandBody::Reserve(reserve) => self.reserve(at, *reserve),
            CommandBody::Release { ids } => self.release(at, &ids),
            CommandBody::Extend { id, expires_at } => self.extend(at, id, expires_at),
        }
    }
}

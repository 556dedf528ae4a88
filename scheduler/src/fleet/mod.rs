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
mod containers;
mod datastores;
mod departed;
pub mod format;
mod hosts;
mod images;
mod invariants;
mod keys;
mod ledger;
mod names;
mod observe;
mod place;
mod query;
mod removal;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use departed::Departed;
pub use ledger::HostCounts;
pub use query::Prefixed;

use berth_model::change::{Answer, Change};
use berth_model::command::{Command, CommandBody};
use berth_model::{
    CellId, Cluster, ClusterId, ContainerId, ContainerVm, Datastore, DatastoreId, Endpoint,
    EndpointId, Host, HostId, Image, ImageId, Incarnation, Meta, Rejection, Timestamp,
};
use departed::DepartedLog;
use imbl::OrdMap;
use keys::Keys;
use ledger::Indexes;
use names::Names;
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
    hosts: OrdMap<HostId, Arc<Host>>,
    datastores: OrdMap<DatastoreId, Arc<Datastore>>,
    /// One record an endpoint that sees the image; the bytes on datastores are shared.
    images: OrdMap<(ImageId, EndpointId), Arc<Image>>,
    containers: OrdMap<ContainerId, Arc<ContainerVm>>,
    departed: DepartedLog,
    keys: Keys,
    /// Derived from the objects; not in snapshots.
    names: Names,
    /// Derived from the objects; not in snapshots.
    indexes: Indexes,
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
        let Command { principal, endpoint, request: _, traceparent: _, key, deadline, body } =
            command;
        let key = key.map(|key| (key, keys::fingerprint(&principal, endpoint, &body)));
        if let Some((key, fingerprint)) = &key
            && let Some(answer) = self.keys.answer(key, fingerprint)
        {
            return answer;
        }
        if deadline.is_some_and(|deadline| deadline < self.time) {
            return Err(Rejection::DeadlinePassed);
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
        }
    }
}

//! Reading a fleet: every lookup that other code makes. Nothing here changes anything.

use super::{ClusterLoad, Departed, Fleet, HostCounts};
use berth_model::{
    CellId, Cluster, ClusterId, ContainerId, ContainerVm, Datastore, DatastoreId, Endpoint,
    EndpointId, Host, HostId, Image, ImageId, Incarnation, Reservation, ReservationId, Revision,
    Rule, RuleId, Timestamp, Usage, VmState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a prefix of an id names.
#[derive(Clone, Copy, Debug)]
pub enum Prefixed<'a, T> {
    None,
    One(&'a T),
    Many,
}

impl<'a, T> Prefixed<'a, T> {
    fn of(mut found: impl Iterator<Item = &'a T>) -> Self {
        match (found.next(), found.next()) {
            (None, _) => Prefixed::None,
            (Some(one), None) => Prefixed::One(one),
            (Some(_), Some(_)) => Prefixed::Many,
        }
    }
}

impl Fleet {
    /// Everything up to this index of the log is applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The leader's stamp on the last command applied.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// When the next reservation's time is over.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.indexes.expiries.get_min().map(|(until, _)| *until)
    }

    /// `None` until the first leader has set the cell up.
    pub fn cell(&self) -> Option<CellId> {
        self.cell
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// This state's name for clients; `None` until the cell is set up.
    pub fn revision(&self) -> Option<Revision> {
        self.revision_at(self.index)
    }

    /// The name of the state at `index`, for objects' created and modified.
    pub fn revision_at(&self, index: u64) -> Option<Revision> {
        Some(Revision { cell: self.cell?, incarnation: self.incarnation, index })
    }

    pub fn clusters(&self) -> impl ExactSizeIterator<Item = &Cluster> {
        self.clusters.values().map(AsRef::as_ref)
    }

    pub fn cluster(&self, id: ClusterId) -> Option<&Cluster> {
        self.clusters.get(&id).map(AsRef::as_ref)
    }

    pub fn cluster_named(&self, name: &str) -> Option<&Cluster> {
        self.cluster(*self.names.clusters.get(name)?)
    }

    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = &Endpoint> {
        self.endpoints.values().map(AsRef::as_ref)
    }

    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(&id).map(AsRef::as_ref)
    }

    pub fn endpoint_named(&self, name: &str) -> Option<&Endpoint> {
        self.endpoint(*self.names.endpoints.get(name)?)
    }

    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &Host> {
        self.hosts.values().map(|record| &record.host)
    }

    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(&id).map(|record| &record.host)
    }

    pub fn host_named(&self, name: &str) -> Option<&Host> {
        self.host(*self.names.hosts.get(name)?)
    }

    pub fn datastores(&self) -> impl ExactSizeIterator<Item = &Datastore> {
        self.datastores.values().map(AsRef::as_ref)
    }

    pub fn datastore(&self, id: DatastoreId) -> Option<&Datastore> {
        self.datastores.get(&id).map(AsRef::as_ref)
    }

    pub fn datastore_named(&self, name: &str) -> Option<&Datastore> {
        self.datastore(*self.names.datastores.get(name)?)
    }

    /// All images that `endpoint` sees; `EndpointId::SYSTEM` sees everyone's, each owner's record.
    pub fn images_of(&self, endpoint: EndpointId) -> impl Iterator<Item = &Image> {
        self.images
            .iter()
            .filter(move |((_, owner), _)| endpoint == EndpointId::SYSTEM || *owner == endpoint)
            .map(|(_, image)| image.as_ref())
    }

    /// An image as `endpoint` sees it; `EndpointId::SYSTEM` gets the first owner's record.
    pub fn image(&self, endpoint: EndpointId, id: ImageId) -> Option<&Image> {
        let own = self.images.get(&(id, endpoint)).map(AsRef::as_ref);
        if own.is_some() || endpoint != EndpointId::SYSTEM {
            return own;
        }
        let first = self.images.range((id, EndpointId::SYSTEM)..).next();
        first.filter(|((found, _), _)| *found == id).map(|(_, image)| image.as_ref())
    }

    /// The image that holds `name:tag` in `endpoint`; for `EndpointId::SYSTEM`, its own or else
    /// that of the first endpoint that has one.
    pub fn image_by_reference(&self, endpoint: EndpointId, reference: &str) -> Option<&Image> {
        if let Some(id) = self.names.references.get(&(endpoint, reference.to_owned())) {
            return self.image(endpoint, *id);
        }
        if endpoint != EndpointId::SYSTEM {
            return None;
        }
        self.endpoints.keys().find_map(|owner| {
            let id = self.names.references.get(&(*owner, reference.to_owned()))?;
            self.image(*owner, *id)
        })
    }

    /// The image of `endpoint` whose id in hex starts with `prefix`.
    pub fn image_by_prefix(&self, endpoint: EndpointId, prefix: &str) -> Prefixed<'_, Image> {
        let Some(first) = first_id(prefix) else { return Prefixed::None };
        let start = (ImageId::from_bytes(first), EndpointId::SYSTEM);
        let mut last = None;
        Prefixed::of(
            self.images
                .range(start..)
                .take_while(|((id, _), _)| id.to_string().starts_with(prefix))
                .filter(|((_, owner), _)| endpoint == EndpointId::SYSTEM || *owner == endpoint)
                // Several endpoints' records of one image are one image.
                .filter(move |((id, _), _)| last.replace(*id) != Some(*id))
                .map(|(_, image)| image.as_ref()),
        )
    }

    /// Every container VM, those being removed too, in the order of their ids.
    pub fn containers(&self) -> impl ExactSizeIterator<Item = &ContainerVm> {
        self.containers.values().map(AsRef::as_ref)
    }

    /// Those of one endpoint, or all for `EndpointId::SYSTEM`, without those being removed.
    pub fn containers_of(&self, endpoint: EndpointId) -> impl Iterator<Item = &ContainerVm> {
        self.containers().filter(move |vm| is_seen_by(vm, endpoint))
    }

    /// Also one that is being removed: whoever waits for it needs its exit.
    pub fn container(&self, id: ContainerId) -> Option<&ContainerVm> {
        self.containers.get(&id).map(AsRef::as_ref)
    }

    pub fn container_named(&self, endpoint: EndpointId, name: &str) -> Option<&ContainerVm> {
        self.container(*self.names.containers.get(&(endpoint, name.to_owned()))?)
    }

    /// The container VM of `endpoint`, not being removed, whose id in hex starts with `prefix`.
    pub fn container_by_prefix(
        &self,
        endpoint: EndpointId,
        prefix: &str,
    ) -> Prefixed<'_, ContainerVm> {
        let Some(first) = first_id(prefix) else { return Prefixed::None };
        Prefixed::of(
            self.containers
                .range(ContainerId::from_bytes(first)..)
                .take_while(|(id, _)| id.to_string().starts_with(prefix))
                .map(|(_, vm)| vm.as_ref())
                .filter(|vm| is_seen_by(vm, endpoint)),
        )
    }

    /// Those that run, start or are to be discarded on one host, in the order of their ids.
    pub fn containers_on(&self, host: HostId) -> impl Iterator<Item = &ContainerVm> {
        let vms = self.hosts.get(&host).map(|record| &record.vms);
        vms.into_iter().flatten().filter_map(|id| self.container(*id))
    }

    pub fn reservation(&self, id: ReservationId) -> Option<&Reservation> {
        self.reservations.get(&id).map(AsRef::as_ref)
    }

    /// All reservations, in the order of their ids.
    pub fn reservations(&self) -> impl ExactSizeIterator<Item = &Reservation> {
        self.reservations.values().map(AsRef::as_ref)
    }

    /// Those of one endpoint, or all for `EndpointId::SYSTEM`.
    pub fn reservations_of(&self, endpoint: EndpointId) -> impl Iterator<Item = &Reservation> {
        self.reservations()
            .filter(move |held| endpoint == EndpointId::SYSTEM || held.meta.endpoint == endpoint)
    }

    /// The container VM that is made on a reservation.
    pub fn claimant(&self, id: ReservationId) -> Option<&ContainerVm> {
        self.container(*self.indexes.claims.get(&id)?)
    }

    /// What holds cpu and memory on a host: container VMs and reservations.
    pub fn placed_on(
        &self,
        host: HostId,
    ) -> (impl Iterator<Item = &ContainerVm>, impl Iterator<Item = &Reservation>) {
        let vms = self.containers_on(host).filter(|vm| vm.state.charged().is_some());
        let reserved = self.hosts.get(&host).map(|record| &record.reserved);
        let reservations = reserved.into_iter().flatten().filter_map(|id| self.reservation(*id));
        (vms, reservations)
    }

    /// All rules, in the order of their ids.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Arc<Rule>> {
        self.rules.rules.values()
    }

    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.rules.get(&id).map(AsRef::as_ref)
    }

    pub fn rule_named(&self, endpoint: EndpointId, name: &str) -> Option<&Rule> {
        self.rule(*self.names.rules.get(&(endpoint, name.to_owned()))?)
    }

    /// What an endpoint holds.
    pub fn usage(&self, endpoint: EndpointId) -> Usage {
        self.indexes.usage.get(&endpoint).copied().unwrap_or_default()
    }

    /// What the hosts of a cluster that are connected and not in maintenance may be charged, and
    /// are.
    pub fn load_of_cluster(&self, cluster: ClusterId) -> ClusterLoad {
        self.indexes.loads.get(&cluster).copied().unwrap_or_default()
    }

    /// Networks by name, with the hosts that reach them.
    pub fn networks(&self) -> BTreeMap<String, BTreeSet<HostId>> {
        let mut networks: BTreeMap<String, BTreeSet<HostId>> = BTreeMap::new();
        for host in self.hosts() {
            for name in &host.facts.supply.networks {
                networks.entry(name.clone()).or_default().insert(host.id);
            }
        }
        networks
    }

    /// Pending and waiting ones: the highest priority first, of one priority the oldest.
    pub fn unplaced(&self) -> impl Iterator<Item = &ContainerVm> {
        self.indexes.unplaced.iter().filter_map(|(_, _, id)| self.container(*id))
    }

    /// The same, each endpoint's own, for those who take turns among endpoints.
    pub fn unplaced_by_endpoint(
        &self,
    ) -> impl Iterator<Item = (EndpointId, impl Iterator<Item = &ContainerVm>)> {
        self.indexes.unplaced_of.iter().map(|(endpoint, waiting)| {
            let waiting = waiting.iter().filter_map(|(_, _, id)| self.container(*id));
            (*endpoint, waiting)
        })
    }

    /// How many are pending or waiting.
    pub fn unplaced_count(&self) -> usize {
        self.indexes.unplaced.len()
    }

    /// How many container VMs are in each state, in the order of `VmState::NAMES`.
    pub fn counts(&self) -> [u64; VmState::NAMES.len()] {
        self.indexes.counts
    }

    pub fn host_counts(&self) -> HostCounts {
        self.indexes.hosts
    }

    /// How a container VM ended that is gone since a few minutes at most.
    pub fn departed(&self, id: ContainerId) -> Option<&Departed> {
        self.departed.get(id)
    }

    /// Hosts whose assignment may have changed after `index`.
    pub fn hosts_changed_since(&self, index: u64) -> impl Iterator<Item = HostId> {
        self.indexes
            .host_changes
            .range((index + 1, HostId::from_bytes([0; 16]))..)
            .map(|(_, host)| *host)
    }

    /// Index of the last command that may have made room for a container VM that was refused.
    pub fn opportunity(&self) -> u64 {
        self.indexes.opportunity
    }
}

fn is_seen_by(vm: &ContainerVm, endpoint: EndpointId) -> bool {
    (endpoint == EndpointId::SYSTEM || vm.endpoint() == endpoint)
        && !matches!(vm.state, VmState::Removing { .. })
}

/// The least id whose hex form starts with `prefix`; `None` if none does.
fn first_id(prefix: &str) -> Option<[u8; 32]> {
    if prefix.is_empty() || prefix.len() > 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (position, digit) in prefix.bytes().enumerate() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        bytes[position / 2] |= if position % 2 == 0 { value << 4 } else { value };
    }
    Some(bytes)
}

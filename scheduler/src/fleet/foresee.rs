//! A fleet as somebody foresees it: with sums as if decisions that are on their way had been
//! applied, without what is to give way, or with one host more.
//!
//! Promises: all else is as in the fleet that it was made from. Does not: stand beside the log; it
//! is made to be asked, never to be applied to.

use super::rules::{Group, GroupKey};
use super::{At, Fleet};
use berth_model::event::What;
use berth_model::{
    Bytes, ClusterId, DatastoreId, EndpointId, Held, HostFacts, HostId, Resources, Usage, Victim,
    VmState,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one host would hold.
pub(crate) struct HostBooks {
    pub id: HostId,
    pub charged: Resources,
    pub held: Held,
    pub placed: u32,
}

impl Fleet {
    pub(crate) fn foresee_hosts(&mut self, hosts: impl IntoIterator<Item = HostBooks>) {
        for books in hosts {
            if let Some(host) = self.hosts.get_mut(&books.id) {
                let host = Arc::make_mut(host);
                host.charged = books.charged;
                host.held = books.held;
                host.placed = books.placed;
            }
        }
    }

    pub(crate) fn foresee_datastores(
        &mut self,
        charged: impl IntoIterator<Item = (DatastoreId, Bytes)>,
    ) {
        for (id, charged) in charged {
            if let Some(datastore) = self.datastores.get_mut(&id) {
                Arc::make_mut(datastore).charged = charged;
            }
        }
    }

    pub(crate) fn foresee_counts(&mut self, groups: impl IntoIterator<Item = (GroupKey, Group)>) {
        for (key, group) in groups {
            self.groups.insert(key, Arc::new(group));
        }
    }

    /// What endpoints and clusters would hold more.
    pub(crate) fn foresee_more<'a>(
        &mut self,
        usage: impl IntoIterator<Item = (&'a EndpointId, &'a Usage)>,
        loads: impl IntoIterator<Item = (ClusterId, Resources)>,
    ) {
        for (endpoint, more) in usage {
            let usage = self.indexes.usage.entry(*endpoint).or_default();
            usage.cpu += more.cpu;
            usage.memory += more.memory;
            usage.disk += more.disk;
            usage.containers += more.containers;
        }
        for (cluster, more) in loads {
            if let Some(load) = self.indexes.loads.get_mut(&cluster) {
                load.charged = load.charged + more;
            }
        }
    }

    /// As it will be once these have given way.
    pub(crate) fn without(&self, victims: &[Victim]) -> Fleet {
        let mut fleet = self.clone();
        let at = At { index: self.index, time: self.time, endpoint: EndpointId::SYSTEM };
        for victim in victims {
            match victim {
                Victim::Reservation(id) => fleet.end_reservation(at, *id, What::Displaced),
                Victim::ContainerVm(id) => fleet.set_state(at, *id, VmState::Created),
            }
        }
        fleet
    }

    /// With one more host like `like`, with nothing on it: where that one stands, on the datastores
    /// that it shares with others and on fresh ones in place of its own. `None` where there is no
    /// such host or another cannot be.
    pub(crate) fn with_one_like(&self, like: HostId) -> Option<(Fleet, HostId)> {
        let host = self.host(like)?;
        let fresh = |mut bytes: [u8; 16]| {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            bytes
        };
        let id = HostId::from_bytes(fresh(*like.as_bytes()));
        let mut datastores = BTreeMap::new();
        for (store, facts) in &host.facts.datastores {
            let mut facts = facts.clone();
            let shared = self.datastore(*store).is_some_and(|store| store.hosts.len() > 1);
            let store = if shared {
                *store
            } else {
                facts.name = format!("{}-another", facts.name);
                DatastoreId::from_bytes(fresh(*store.as_bytes()))
            };
            datastores.insert(store, facts);
        }
        let name = format!("{}-another", host.facts.name);
        let facts = HostFacts { name, datastores, ..HostFacts::clone(&host.facts) };
        let at = At { index: self.index, time: self.time, endpoint: EndpointId::SYSTEM };
        let mut fleet = self.clone();
        fleet.host_seen(at, id, facts).ok()?;
        Some((fleet, id))
    }
}

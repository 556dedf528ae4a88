//! Datastores exist because a node said that its host reaches them.
//!
//! Promises: `hosts` of a datastore and `facts.datastores` of hosts say the same. Does not: forget
//! a datastore that no host reaches any more; disks may still be charged there.

use super::names::{check_name, taken};
use super::{At, Fleet};
use berth_model::host::DatastoreFacts;
use berth_model::rejection::NameKind;
use berth_model::{Bytes, Datastore, DatastoreId, EndpointId, HostId, Rejection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Fleet {
    /// Whether these facts can stand beside what the fleet holds.
    pub(super) fn check_datastores(
        &self,
        reached: &BTreeMap<DatastoreId, DatastoreFacts>,
    ) -> Result<(), Rejection> {
        let mut names = BTreeSet::new();
        for (id, facts) in reached {
            check_name(NameKind::Datastore, &facts.name)?;
            let holder = self.names.datastores.get(&facts.name);
            if holder.is_some_and(|holder| holder != id) || !names.insert(&facts.name) {
                return Err(taken(NameKind::Datastore, &facts.name));
            }
        }
        Ok(())
    }

    /// Takes over what one host says of the datastores that it reaches.
    pub(super) fn datastores_seen(
        &mut self,
        at: At,
        host: HostId,
        before: &BTreeMap<DatastoreId, DatastoreFacts>,
        reached: &BTreeMap<DatastoreId, DatastoreFacts>,
    ) {
        for id in before.keys().filter(|id| !reached.contains_key(*id)) {
            if let Some(datastore) = self.datastores.get_mut(id) {
                let datastore = Arc::make_mut(datastore);
                datastore.hosts.remove(&host);
                datastore.meta.modified = at.index;
            }
        }
        for (id, facts) in reached {
            self.datastore_seen(at, host, *id, facts);
        }
    }

    fn datastore_seen(&mut self, at: At, host: HostId, id: DatastoreId, facts: &DatastoreFacts) {
        let mut after = match self.datastores.get(&id) {
            Some(before) => Datastore::clone(before),
            None => Datastore {
                id,
                name: String::new(),
                capacity: Bytes::ZERO,
                free: Bytes::ZERO,
                charged: Bytes::ZERO,
                hosts: BTreeSet::new(),
                meta: at.meta(EndpointId::SYSTEM, BTreeMap::new()),
            },
        };
        if after.name != facts.name {
            self.names.datastores.remove(&after.name);
            self.names.datastores.insert(facts.name.clone(), id);
            after.name.clone_from(&facts.name);
        }
        after.capacity = facts.capacity;
        after.free = facts.free;
        after.hosts.insert(host);
        after.meta.labels.clone_from(&facts.labels);
        if self.datastores.get(&id).is_none_or(|before| **before != after) {
            after.meta.modified = at.index;
            self.datastores.insert(id, Arc::new(after));
        }
    }
}

//! Datastores exist because a node said that its host reaches them.
//!
//! Promises: `hosts` of a datastore and `facts.datastores` of hosts say the same. Does not: forget
//! a datastore that no host reaches any more; disks may still be charged there.

use super::names::{check_name, taken};
use super::{At, Fleet, hash};
use berth_model::event::{Subject, What};
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
            let Some(datastore) = self.datastores.get_mut(id) else { continue };
            let datastore = Arc::make_mut(datastore);
            self.hash.take(hash::datastore(datastore));
            Arc::make_mut(&mut datastore.hosts).remove(&host);
            datastore.meta.modified = at.index;
            self.hash.add(hash::datastore(datastore));
            self.tell_all(at, Subject::Datastore(*id), What::Changed);
        }
        for (id, facts) in reached {
            self.datastore_seen(at, host, *id, facts);
        }
    }

    fn datastore_seen(&mut self, at: At, host: HostId, id: DatastoreId, facts: &DatastoreFacts) {
        if self.datastores.get(&id).is_some_and(|known| says_the_same(known, host, facts)) {
            return;
        }
        let what = if self.datastores.contains_key(&id) { What::Changed } else { What::Created };
        let datastore = self.datastores.entry(id).or_insert_with(|| {
            let datastore = Datastore {
                id,
                name: String::new(),
                capacity: Bytes::ZERO,
                class: String::new(),
                free: Bytes::ZERO,
                charged: Bytes::ZERO,
                hosts: Arc::default(),
                meta: at.meta(EndpointId::SYSTEM, BTreeMap::new()),
            };
            self.hash.add(hash::datastore_charge(&datastore));
            Arc::new(datastore)
        });
        // Thousands of hosts may reach it: it is changed where it lies, not copied.
        let datastore = Arc::make_mut(datastore);
        if what == What::Changed {
            self.hash.take(hash::datastore(datastore));
        }
        if datastore.name != facts.name {
            self.names.datastores.remove(&datastore.name);
            self.names.datastores.insert(facts.name.clone(), id);
            datastore.name.clone_from(&facts.name);
        }
        datastore.capacity = facts.capacity;
        datastore.class.clone_from(&facts.class);
        datastore.free = facts.free;
        if !datastore.hosts.contains(&host) {
            Arc::make_mut(&mut datastore.hosts).insert(host);
        }
        datastore.meta.labels.clone_from(&facts.labels);
        datastore.meta.modified = at.index;
        self.hash.add(hash::datastore(datastore));
        self.tell_all(at, Subject::Datastore(id), what);
    }
}

fn says_the_same(known: &Datastore, host: HostId, facts: &DatastoreFacts) -> bool {
    known.hosts.contains(&host)
        && known.name == facts.name
        && known.capacity == facts.capacity
        && known.class == facts.class
        && known.free == facts.free
        && known.meta.labels == facts.labels
}

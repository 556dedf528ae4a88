//! What differs between two states of one fleet, found without looking at what is the same.
//!
//! The maps are persistent trees that share what did not change, and imbl's difference skips nodes
//! that are shared by pointer: the cost grows with what changed since, not with the fleet. Two
//! fleets that share nothing give the same answer more slowly.

use super::Fleet;
use super::rules::GroupKey;
use berth_model::{ContainerId, ContainerVm, DatastoreId, EndpointId, HostId};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::collections::BTreeSet;

/// Ids of what came, went or changed, ascending, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    pub hosts: Vec<HostId>,
    pub datastores: Vec<DatastoreId>,
    /// Counts of rules.
    pub groups: Vec<GroupKey>,
    /// Whose usage or quota changed.
    pub endpoints: Vec<EndpointId>,
    /// Hosts came or went, or are connected, in maintenance, labelled or standing otherwise than
    /// before, or policies or rules changed: whatever was derived from those is out of date.
    pub topology: bool,
}

impl Diff {
    pub fn is_empty(&self) -> bool {
        *self == Diff::default()
    }
}

impl Fleet {
    /// What changed from `older` to `self`.
    pub fn diff(&self, older: &Fleet) -> Diff {
        let endpoints: BTreeSet<EndpointId> = changed(&older.indexes.usage, &self.indexes.usage)
            .chain(changed(&older.endpoints, &self.endpoints))
            .collect();
        Diff {
            hosts: self.changed_hosts(older),
            datastores: changed(&older.datastores, &self.datastores).collect(),
            groups: changed(&older.groups, &self.groups).collect(),
            endpoints: endpoints.into_iter().collect(),
            topology: older.indexes.topology != self.indexes.topology,
        }
    }

    /// Container VMs that came, went or changed since `older`, as they are now; `None` for those
    /// that are gone.
    pub fn containers_changed<'a>(
        &'a self,
        older: &'a Fleet,
    ) -> impl Iterator<Item = (ContainerId, Option<&'a ContainerVm>)> {
        changed(&older.containers, &self.containers).map(|id| (id, self.container(id)))
    }

    /// Whether images, or where they lie, differ from `older`'s.
    pub fn has_other_images(&self, older: &Fleet) -> bool {
        !self.images.ptr_eq(&older.images)
    }
}

impl Fleet {
    /// Who is listed on a host, and when its assignment changed, is not the host's own.
    fn changed_hosts(&self, older: &Fleet) -> Vec<HostId> {
        if older.hosts.ptr_eq(&self.hosts) {
            return Vec::new();
        }
        let changed = older.hosts.diff(&self.hosts).filter_map(|item| match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) => Some(*id),
            DiffItem::Update { old: (_, old), new: (id, new) } => {
                (old.host != new.host).then_some(*id)
            }
        });
        changed.collect()
    }
}

fn changed<'a, K: Ord + Clone, V: PartialEq>(
    older: &'a OrdMap<K, V>,
    newer: &'a OrdMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    let same = older.ptr_eq(newer);
    let items = (!same).then(|| older.diff(newer));
    items.into_iter().flatten().map(|item| match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) => key.clone(),
        DiffItem::Update { new: (key, _), .. } => key.clone(),
    })
}

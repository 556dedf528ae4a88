//! Where hosts stand: which buckets there are, and which of them could take anything at all.
//!
//! Promises: a bucket is there as long as a host stands in it (or reaches it, for a datastore), and
//! is open while one of these hosts is. A host is open when it is connected, not in maintenance
//! and not kept for the loss of another. Kept by the fleet whenever a host or a policy changes;
//! never stored.

use super::Bucket;
use berth_model::{ClusterId, DatastoreId, Host, HostId, HostState, Scope};
use imbl::{OrdMap, OrdSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where one host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    pub cluster: ClusterId,
    /// Whether anything may be placed there now.
    pub open: bool,
    /// Its fault domains, outermost level first.
    pub domains: Vec<(String, Bucket)>,
    pub datastores: Vec<DatastoreId>,
}

impl Stand {
    pub(in super::super) fn of(host: &Host, kept: bool) -> Stand {
        let path = &host.facts.supply.domain;
        let connected = match host.state {
            HostState::Connected { .. } => true,
            HostState::Silent { .. } => false,
        };
        Stand {
            cluster: host.cluster,
            open: connected && !host.maintenance && !kept,
            domains: (1..=path.len())
                .map(|depth| (path[depth - 1].0.clone(), Bucket::domain(&path[..depth])))
                .collect(),
            datastores: host.facts.datastores.keys().copied().collect(),
        }
    }

    /// The fault domain of a level; `None` if it has none.
    pub fn domain(&self, level: &str) -> Option<Bucket> {
        self.domains.iter().find(|(name, _)| name == level).map(|(_, bucket)| *bucket)
    }

    /// Whether one placed there counts in the same buckets.
    pub(super) fn same_buckets(&self, other: &Stand) -> bool {
        self.cluster == other.cluster && self.domains == other.domains
    }
}

/// The buckets of one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    open: u32,
    shut: OrdSet<Bucket>,
    /// Empty for hosts: there each bucket is its own and only member.
    members: OrdMap<Bucket, Members>,
}

/// The hosts that stand in one bucket, or reach one datastore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub hosts: OrdSet<HostId>,
    pub open: u32,
}

impl Level {
    /// How many buckets have an open host.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Buckets without one.
    pub fn shut(&self) -> impl Iterator<Item = Bucket> {
        self.shut.iter().copied()
    }

    pub fn is_shut(&self, bucket: Bucket) -> bool {
        self.shut.contains(&bucket)
    }

    pub fn members(&self, bucket: Bucket) -> Option<&Members> {
        self.members.get(&bucket)
    }

    pub fn buckets(&self) -> impl Iterator<Item = (Bucket, &Members)> {
        self.members.iter().map(|(bucket, members)| (*bucket, members))
    }

    fn enter(&mut self, bucket: Bucket, host: HostId, open: bool) {
        let members = self.members.entry(bucket).or_default();
        let was_open = members.open > 0;
        members.hosts.insert(host);
        members.open += u32::from(open);
        let is_open = members.open > 0;
        self.turn(bucket, was_open, is_open);
    }

    fn leave(&mut self, bucket: Bucket, host: HostId, open: bool) {
        let Some(members) = self.members.get_mut(&bucket) else { return };
        let was_open = members.open > 0;
        members.hosts.remove(&host);
        members.open -= u32::from(open);
        let (is_open, gone) = (members.open > 0, members.hosts.is_empty());
        self.turn(bucket, was_open, is_open);
        if gone {
            self.members.remove(&bucket);
            self.shut.remove(&bucket);
        }
    }

    fn turn(&mut self, bucket: Bucket, was_open: bool, is_open: bool) {
        if is_open {
            self.shut.remove(&bucket);
            self.open += u32::from(!was_open);
        } else {
            self.shut.insert(bucket);
            self.open -= u32::from(was_open);
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Levels {
    pub stands: OrdMap<HostId, Arc<Stand>>,
    hosts: Level,
    clusters: Level,
    datastores: Level,
    domains: OrdMap<String, Level>,
    /// How many hosts of which clusters reach a datastore.
    clusters_at: OrdMap<DatastoreId, Arc<BTreeMap<ClusterId, u32>>>,
}

impl Levels {
    /// `None` for a fault domain level that no host names.
    pub fn level(&self, scope: &Scope) -> Option<&Level> {
        match scope {
            Scope::Host => Some(&self.hosts),
            Scope::Domain(name) => self.domains.get(name),
            Scope::Cluster => Some(&self.clusters),
            Scope::Datastore => Some(&self.datastores),
        }
    }

    pub fn domains(&self) -> impl Iterator<Item = (&String, &Level)> {
        self.domains.iter()
    }

    /// The hosts of a cluster, in the order of their ids.
    pub fn hosts_of(&self, cluster: ClusterId) -> impl Iterator<Item = HostId> {
        let members = self.clusters.members(Bucket::cluster(cluster));
        members.into_iter().flat_map(|members| &members.hosts).copied()
    }

    /// The clusters whose hosts reach a datastore.
    pub fn clusters_at(&self, datastore: DatastoreId) -> impl Iterator<Item = ClusterId> {
        let clusters = self.clusters_at.get(&datastore);
        clusters.into_iter().flat_map(|clusters| clusters.keys().copied())
    }

    fn leave_cluster(&mut self, datastore: DatastoreId, cluster: ClusterId) {
        let Some(clusters) = self.clusters_at.get_mut(&datastore) else { return };
        let clusters = Arc::make_mut(clusters);
        if let Some(count) = clusters.get_mut(&cluster) {
            *count -= 1;
            if *count == 0 {
                clusters.remove(&cluster);
            }
        }
        if clusters.is_empty() {
            self.clusters_at.remove(&datastore);
        }
    }

    /// Puts a stand in place of the one that was known, which it gives back.
    pub fn put(&mut self, id: HostId, stand: Stand) -> Option<Arc<Stand>> {
        let before = self.take(id);
        let open = stand.open;
        if open {
            self.hosts.open += 1;
        } else {
            self.hosts.shut.insert(Bucket::host(id));
        }
        self.clusters.enter(Bucket::cluster(stand.cluster), id, open);
        for datastore in &stand.datastores {
            self.datastores.enter(Bucket::datastore(*datastore), id, open);
            let clusters = self.clusters_at.entry(*datastore).or_default();
            *Arc::make_mut(clusters).entry(stand.cluster).or_default() += 1;
        }
        for (name, bucket) in &stand.domains {
            self.domains.entry(name.clone()).or_default().enter(*bucket, id, open);
        }
        self.stands.insert(id, Arc::new(stand));
        before
    }

    pub fn take(&mut self, id: HostId) -> Option<Arc<Stand>> {
        let stand = self.stands.remove(&id)?;
        let open = stand.open;
        if open {
            self.hosts.open -= 1;
        } else {
            self.hosts.shut.remove(&Bucket::host(id));
        }
        self.clusters.leave(Bucket::cluster(stand.cluster), id, open);
        for datastore in &stand.datastores {
            self.datastores.leave(Bucket::datastore(*datastore), id, open);
            self.leave_cluster(*datastore, stand.cluster);
        }
        for (name, bucket) in &stand.domains {
            let Some(level) = self.domains.get_mut(name) else { continue };
            level.leave(*bucket, id, open);
            if level.members.is_empty() {
                self.domains.remove(name);
            }
        }
        Some(stand)
    }
}

//! Hosts: registered by their nodes, silent when nothing was heard of them, in maintenance when an
//! operator says so.
//!
//! Promises: capacity that is lowered is recorded as it is; what is charged above it stays and
//! nothing new is placed there. Does not: touch what runs on a silent host.

use super::admit::kept_hosts;
use super::names::{check_name, taken};
use super::{At, Fleet};
use berth_model::change::{Answer, Change};
use berth_model::event::{Subject, What};
use berth_model::rejection::NameKind;
use berth_model::{EndpointId, Held, Host, HostFacts, HostId, HostState, Rejection, Resources};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Fleet {
    /// A node registered, or what it says of its host changed.
    pub(super) fn host_seen(&mut self, at: At, id: HostId, facts: HostFacts) -> Answer {
        check_name(NameKind::Host, &facts.name)?;
        if self.names.hosts.get(&facts.name).is_some_and(|holder| *holder != id) {
            return Err(taken(NameKind::Host, &facts.name));
        }
        let Some(cluster) = self.names.clusters.get(&facts.cluster).copied() else {
            return Err(Rejection::NoSuchCluster(facts.cluster));
        };
        self.check_datastores(&facts.datastores)?;

        let before = self.hosts.get(&id).cloned();
        let connected = match before.as_ref().map(|host| &host.state) {
            Some(state @ HostState::Connected { .. }) => Some(state.clone()),
            Some(HostState::Silent { .. }) | None => None,
        };
        if let Some(before) = &before
            && connected.is_some()
            && *before.facts == facts
            && before.cluster == cluster
        {
            return Ok(Change::Nothing);
        }
        let old_datastores =
            before.as_ref().map_or_else(BTreeMap::new, |host| host.facts.datastores.clone());
        self.datastores_seen(at, id, &old_datastores, &facts.datastores);
        if let Some(before) = &before {
            self.names.hosts.remove(&before.facts.name);
        }
        self.names.hosts.insert(facts.name.clone(), id);
        let told = match (&before, &connected) {
            (None, _) => What::Created,
            (Some(_), None) => What::HostConnected,
            (Some(_), Some(_)) => What::Changed,
        };
        let mut host = match before {
            Some(before) => Host::clone(&before),
            None => Host {
                id,
                cluster,
                state: HostState::Connected { since: at.time },
                maintenance: false,
                facts: Arc::new(facts.clone()),
                charged: Resources::default(),
                held: Held::default(),
                placed: 0,
                // Its labels are those of its facts.
                meta: at.meta(EndpointId::SYSTEM, BTreeMap::new()),
            },
        };
        host.cluster = cluster;
        host.state = connected.unwrap_or(HostState::Connected { since: at.time });
        host.meta.modified = at.index;
        host.facts = Arc::new(facts);
        self.put_host(host);
        self.topology_changed();
        self.mark_host(id, at.index);
        self.note_opportunity(at.index);
        self.tell_all(at, Subject::Host(id), told);
        self.evict_removals(at, id);
        self.house_removals(at);
        Ok(Change::HostChanged { host: id })
    }

    /// Nothing was heard of a host past the timer. What runs there is left alone.
    pub(super) fn host_silent(&mut self, at: At, id: HostId) -> Answer {
        let Some(before) = self.hosts.get(&id) else { return Err(Rejection::NoSuchHost) };
        match before.state {
            HostState::Silent { .. } => Ok(Change::Nothing),
            HostState::Connected { .. } => {
                let mut host = Host::clone(before);
                host.state = HostState::Silent { since: at.time };
                host.meta.modified = at.index;
                self.put_host(host);
                self.mark_host(id, at.index);
                self.note_opportunity_of_failover(at, id);
                self.tell_all(at, Subject::Host(id), What::HostSilent);
                self.evict_removals(at, id);
                Ok(Change::HostChanged { host: id })
            }
        }
    }

    pub(super) fn set_maintenance(&mut self, at: At, id: HostId, maintenance: bool) -> Answer {
        let Some(before) = self.hosts.get(&id) else { return Err(Rejection::NoSuchHost) };
        if before.maintenance == maintenance {
            return Ok(Change::Nothing);
        }
        let mut host = Host::clone(before);
        host.maintenance = maintenance;
        host.meta.modified = at.index;
        self.put_host(host);
        if !maintenance {
            self.note_opportunity(at.index);
        }
        let what = if maintenance { What::MaintenanceBegan } else { What::MaintenanceEnded };
        self.tell_all(at, Subject::Host(id), what);
        Ok(Change::HostChanged { host: id })
    }

    /// A host is given up. Its datastores stay: others may reach them, and disks may lie there.
    pub(super) fn remove_host(&mut self, at: At, id: HostId) -> Answer {
        let Some(host) = self.hosts.get(&id).cloned() else { return Err(Rejection::NoSuchHost) };
        let what = format!("host {}", host.facts.name);
        if let HostState::Connected { .. } = host.state {
            return Err(Rejection::InUse { what, by: "its node, which is connected".to_owned() });
        }
        if let Some(by) = self.held_on(id) {
            return Err(Rejection::InUse { what, by });
        }
        let cluster = self.cluster(host.cluster);
        let kept = cluster.and_then(|cluster| kept_hosts(&cluster.policy.admission));
        if kept.is_some_and(|kept| kept.contains(&id)) {
            let by = "the cluster's policy, which keeps it for failover".to_owned();
            return Err(Rejection::InUse { what, by });
        }
        self.datastores_seen(at, id, &host.facts.datastores, &BTreeMap::new());
        self.names.hosts.remove(&host.facts.name);
        self.take_host(&host);
        self.tell_all(at, Subject::Host(id), What::Removed);
        Ok(Change::HostRemoved { host: id })
    }

    /// Something on the host that is still to end, in words.
    fn held_on(&self, id: HostId) -> Option<String> {
        let vm = self.containers_on(id).next();
        vm.map(|vm| format!("container VM {}", vm.name)).or_else(|| {
            let (_, mut reservations) = self.placed_on(id);
            reservations.next().map(|held| held.id.to_string())
        })
    }

    /// With a host lost, those that were kept for it take what was refused.
    fn note_opportunity_of_failover(&mut self, at: At, lost: HostId) {
        let cluster = self.host(lost).and_then(|host| self.cluster(host.cluster));
        if cluster.is_some_and(|cluster| kept_hosts(&cluster.policy.admission).is_some()) {
            self.note_opportunity(at.index);
        }
    }
}

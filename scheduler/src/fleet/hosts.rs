//! Hosts: registered by their nodes, silent when nothing was heard of them, in maintenance when an
//! operator says so.
//!
//! Promises: capacity that is lowered is recorded as it is; what is charged above it stays and
//! nothing new is placed there. Does not: touch what runs on a silent host.

use super::names::{check_name, taken};
use super::{At, Fleet};
use berth_model::change::{Answer, Change};
use berth_model::rejection::NameKind;
use berth_model::{EndpointId, Host, HostFacts, HostId, HostState, Rejection, Resources};
use std::collections::BTreeMap;

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
            && before.facts == facts
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
        let mut host = match before {
            Some(before) => Host::clone(&before),
            None => Host {
                id,
                cluster,
                state: HostState::Connected { since: at.time },
                maintenance: false,
                facts: facts.clone(),
                charged: Resources::default(),
                placed: 0,
                meta: at.meta(EndpointId::SYSTEM, BTreeMap::new()),
            },
        };
        host.cluster = cluster;
        host.state = connected.unwrap_or(HostState::Connected { since: at.time });
        host.meta.labels.clone_from(&facts.labels);
        host.meta.modified = at.index;
        host.facts = facts;
        self.put_host(host);
        self.indexes.mark_host(id, at.index);
        self.note_opportunity(at.index);
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
                self.indexes.mark_host(id, at.index);
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
        Ok(Change::HostChanged { host: id })
    }
}

//! Clusters and endpoints: made, configured, removed.

use super::bootstrap::{check_defaults, check_policy, id_taken};
use super::names::{check_name, taken};
use super::{At, Fleet, hash};
use berth_model::change::{Answer, Change};
use berth_model::cluster::ClusterPolicy;
use berth_model::endpoint::{EndpointDefaults, Quota};
use berth_model::event::{Subject, What};
use berth_model::rejection::NameKind;
use berth_model::{Cluster, ClusterId, Endpoint, EndpointId, HostId, Rejection};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Fleet {
    pub(super) fn create_cluster(
        &mut self,
        at: At,
        id: ClusterId,
        name: String,
        policy: ClusterPolicy,
    ) -> Answer {
        check_name(NameKind::Cluster, &name)?;
        self.check_policy_of(id, &policy)?;
        if self.names.clusters.contains_key(&name) {
            return Err(taken(NameKind::Cluster, &name));
        }
        if self.clusters.contains_key(&id) {
            return Err(id_taken("cluster id", &id));
        }
        self.add_cluster(at, id, name, policy);
        Ok(Change::ClusterCreated { cluster: id })
    }

    pub(super) fn create_endpoint(
        &mut self,
        at: At,
        id: EndpointId,
        name: String,
        defaults: EndpointDefaults,
    ) -> Answer {
        check_name(NameKind::Endpoint, &name)?;
        check_defaults(&defaults)?;
        if id == EndpointId::SYSTEM {
            return Err(id_taken("endpoint id", &id));
        }
        if self.names.endpoints.contains_key(&name) {
            return Err(taken(NameKind::Endpoint, &name));
        }
        if self.endpoints.contains_key(&id) {
            return Err(id_taken("endpoint id", &id));
        }
        self.add_endpoint(at, id, name, defaults);
        Ok(Change::EndpointCreated { endpoint: id })
    }

    /// What is placed against the new policy stays; nothing new is.
    pub(super) fn set_policy(&mut self, at: At, id: ClusterId, policy: ClusterPolicy) -> Answer {
        let Some(before) = self.clusters.get(&id).cloned() else {
            return Err(Rejection::NoSuchCluster(id.to_string()));
        };
        if before.policy == policy {
            return Ok(Change::Nothing);
        }
        self.check_policy_of(id, &policy)?;
        let mut cluster = Cluster::clone(&before);
        let models_differ = cluster.policy.cpu_model != policy.cpu_model;
        cluster.policy = policy;
        cluster.meta.modified = at.index;
        self.put_cluster(cluster);
        let hosts: Vec<HostId> = self.levels.hosts_of(id).collect();
        for host in hosts {
            self.restand(host);
            if models_differ {
                self.mark_host(host, at.index);
            }
        }
        self.reload_cluster(id);
        self.topology_changed();
        self.note_opportunity(at.index);
        self.tell_all(at, Subject::Cluster(id), What::Changed);
        Ok(Change::PolicySet { cluster: id })
    }

    pub(super) fn remove_cluster(&mut self, at: At, id: ClusterId) -> Answer {
        let Some(cluster) = self.clusters.get(&id).cloned() else {
            return Err(Rejection::NoSuchCluster(id.to_string()));
        };
        if let Some(host) = self.hosts_of(id).next() {
            let by = format!("host {}", host.facts.name);
            return Err(in_use(format!("cluster {}", cluster.name), by));
        }
        self.names.clusters.remove(&cluster.name);
        self.hash.take(hash::cluster(&cluster));
        self.clusters.remove(&id);
        self.indexes.loads.remove(&id);
        self.topology_changed();
        self.tell_all(at, Subject::Cluster(id), What::Removed);
        Ok(Change::ClusterRemoved { cluster: id })
    }

    /// What is held above a lowered quota stays; nothing is added to it.
    pub(super) fn configure_endpoint(
        &mut self,
        at: At,
        id: EndpointId,
        defaults: EndpointDefaults,
        quota: Quota,
    ) -> Answer {
        let Some(before) = self.endpoint(id) else { return Err(Rejection::NoSuchEndpoint) };
        if before.defaults == defaults && before.quota == quota {
            return Ok(Change::Nothing);
        }
        check_defaults(&defaults)?;
        let mut endpoint = Endpoint::clone(before);
        endpoint.defaults = defaults;
        endpoint.quota = quota;
        endpoint.meta.modified = at.index;
        self.put_endpoint(endpoint);
        self.note_opportunity(at.index);
        self.tell(at, id, Subject::Endpoint(id), What::Changed);
        Ok(Change::EndpointConfigured { endpoint: id })
    }

    pub(super) fn remove_endpoint(&mut self, at: At, id: EndpointId) -> Answer {
        let Some(endpoint) = self.endpoints.get(&id).cloned() else {
            return Err(Rejection::NoSuchEndpoint);
        };
        if let Some(by) = self.owned_by(id) {
            return Err(in_use(format!("endpoint {}", endpoint.name), by));
        }
        self.names.endpoints.remove(&endpoint.name);
        self.hash.take(hash::endpoint(&endpoint));
        self.endpoints.remove(&id);
        self.tell(at, id, Subject::Endpoint(id), What::Removed);
        Ok(Change::EndpointRemoved { endpoint: id })
    }

    /// Something that the endpoint owns, in words.
    fn owned_by(&self, id: EndpointId) -> Option<String> {
        let vm = self.containers().find(|vm| vm.endpoint() == id);
        vm.map(|vm| format!("container VM {}", vm.name))
            .or_else(|| self.reservations_of(id).next().map(|held| held.id.to_string()))
            .or_else(|| self.images_of(id).next().map(|image| format!("image {}", image.id)))
            .or_else(|| {
                let mut rules = self.rules().filter(|rule| rule.meta.endpoint == id);
                rules.next().map(|rule| format!("rule {}", rule.name))
            })
    }

    pub(super) fn check_policy_of(
        &self,
        id: ClusterId,
        policy: &ClusterPolicy,
    ) -> Result<(), Rejection> {
        check_policy(policy)?;
        let kept = super::admit::kept_hosts(&policy.admission).into_iter().flatten();
        for host in kept {
            if self.host(*host).is_none_or(|host| host.cluster != id) {
                return Err(Rejection::Invalid {
                    what: "failover host".to_owned(),
                    value: host.to_string(),
                    rule: "a host of the cluster".to_owned(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn add_cluster(
        &mut self,
        at: At,
        id: ClusterId,
        name: String,
        policy: ClusterPolicy,
    ) {
        let meta = at.meta(EndpointId::SYSTEM, BTreeMap::new());
        self.names.clusters.insert(name.clone(), id);
        self.put_cluster(Cluster { id, name, policy, meta });
        self.topology_changed();
        self.tell_all(at, Subject::Cluster(id), What::Created);
    }

    pub(super) fn add_endpoint(
        &mut self,
        at: At,
        id: EndpointId,
        name: String,
        defaults: EndpointDefaults,
    ) {
        let meta = at.meta(id, BTreeMap::new());
        self.names.endpoints.insert(name.clone(), id);
        let quota = Quota::default();
        self.put_endpoint(Endpoint { id, name, image_store: None, defaults, quota, meta });
        self.tell(at, id, Subject::Endpoint(id), What::Created);
    }

    pub(super) fn put_cluster(&mut self, cluster: Cluster) {
        self.hash.add(hash::cluster(&cluster));
        if let Some(before) = self.clusters.insert(cluster.id, Arc::new(cluster)) {
            self.hash.take(hash::cluster(&before));
        }
    }

    fn put_endpoint(&mut self, endpoint: Endpoint) {
        self.hash.add(hash::endpoint(&endpoint));
        if let Some(before) = self.endpoints.insert(endpoint.id, Arc::new(endpoint)) {
            self.hash.take(hash::endpoint(&before));
        }
    }
}

fn in_use(what: String, by: String) -> Rejection {
    Rejection::InUse { what, by }
}

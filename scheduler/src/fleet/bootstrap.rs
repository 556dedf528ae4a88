//! The first command of a cell, and the clusters and endpoints that it and later ones make.

use super::names::{check_name, taken};
use super::{At, Fleet};
use berth_model::change::{Answer, Change};
use berth_model::cluster::ClusterPolicy;
use berth_model::command::Bootstrap;
use berth_model::endpoint::EndpointDefaults;
use berth_model::rejection::NameKind;
use berth_model::{
    Bytes, Cluster, ClusterId, Endpoint, EndpointId, MilliCpus, Permille, Rejection,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Fleet {
    /// Sets the cell up, once. Several replicas may try; all but the first change nothing.
    pub(super) fn bootstrap(&mut self, at: At, bootstrap: Bootstrap) -> Answer {
        if self.cell.is_some() {
            return Ok(Change::Nothing);
        }
        check_distinct(
            NameKind::Cluster,
            bootstrap.clusters.iter().map(|(id, name, _)| (id, name)),
        )?;
        check_distinct(
            NameKind::Endpoint,
            bootstrap.endpoints.iter().map(|(id, name, _)| (id, name)),
        )?;
        for (_, _, policy) in &bootstrap.clusters {
            check_policy(policy)?;
        }
        for (id, _, defaults) in &bootstrap.endpoints {
            check_endpoint(*id, defaults)?;
        }
        self.cell = Some(bootstrap.cell);
        for (id, name, policy) in bootstrap.clusters {
            self.put_cluster(at, id, name, policy);
        }
        for (id, name, defaults) in bootstrap.endpoints {
            self.put_endpoint(at, id, name, defaults);
        }
        Ok(Change::Bootstrapped)
    }

    pub(super) fn create_cluster(
        &mut self,
        at: At,
        id: ClusterId,
        name: String,
        policy: ClusterPolicy,
    ) -> Answer {
        check_name(NameKind::Cluster, &name)?;
        check_policy(&policy)?;
        if self.names.clusters.contains_key(&name) {
            return Err(taken(NameKind::Cluster, &name));
        }
        if self.clusters.contains_key(&id) {
            return Err(id_taken("cluster id", &id));
        }
        self.put_cluster(at, id, name, policy);
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
        check_endpoint(id, &defaults)?;
        if self.names.endpoints.contains_key(&name) {
            return Err(taken(NameKind::Endpoint, &name));
        }
        if self.endpoints.contains_key(&id) {
            return Err(id_taken("endpoint id", &id));
        }
        self.put_endpoint(at, id, name, defaults);
        Ok(Change::EndpointCreated { endpoint: id })
    }

    fn put_cluster(&mut self, at: At, id: ClusterId, name: String, policy: ClusterPolicy) {
        let meta = at.meta(EndpointId::SYSTEM, BTreeMap::new());
        self.names.clusters.insert(name.clone(), id);
        self.clusters.insert(id, Arc::new(Cluster { id, name, policy, meta }));
    }

    fn put_endpoint(&mut self, at: At, id: EndpointId, name: String, defaults: EndpointDefaults) {
        let meta = at.meta(id, BTreeMap::new());
        self.names.endpoints.insert(name.clone(), id);
        let endpoint = Endpoint { id, name, image_store: None, defaults, meta };
        self.endpoints.insert(id, Arc::new(endpoint));
    }
}

pub(super) fn id_taken(what: &str, id: &impl ToString) -> Rejection {
    Rejection::Invalid {
        what: what.to_owned(),
        value: id.to_string(),
        rule: "it is in use; draw another".to_owned(),
    }
}

fn check_distinct<'a, Id: Ord + ToString + 'a>(
    kind: NameKind,
    pairs: impl Iterator<Item = (&'a Id, &'a String)>,
) -> Result<(), Rejection> {
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (id, name) in pairs {
        check_name(kind, name)?;
        if !names.insert(name) {
            return Err(taken(kind, name));
        }
        if !ids.insert(id) {
            return Err(id_taken(&format!("{kind} id"), id));
        }
    }
    Ok(())
}

fn check_policy(policy: &ClusterPolicy) -> Result<(), Rejection> {
    check_permille("cpu overcommit", policy.cpu_overcommit, 16_000)?;
    check_permille("memory overcommit", policy.memory_overcommit, 4_000)?;
    check_permille("disk overcommit", policy.disk_overcommit, 20_000)?;
    let model = &policy.cpu_model;
    // It becomes part of a hypervisor's command line, where a comma starts the next setting.
    let fits = model.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if model.is_empty() || model.len() > 64 || !fits {
        return Err(Rejection::Invalid {
            what: "cpu model".to_owned(),
            value: model.chars().take(80).collect(),
            rule: "1 to 64 letters, digits, `_`, `-` and `.`".to_owned(),
        });
    }
    Ok(())
}

fn check_permille(what: &str, value: Permille, max: u32) -> Result<(), Rejection> {
    if (1000..=max).contains(&value.0) {
        return Ok(());
    }
    Err(Rejection::Invalid {
        what: what.to_owned(),
        value: value.0.to_string(),
        rule: format!("thousandths from 1000 to {max}"),
    })
}

fn check_endpoint(id: EndpointId, defaults: &EndpointDefaults) -> Result<(), Rejection> {
    if id == EndpointId::SYSTEM {
        return Err(id_taken("endpoint id", &id));
    }
    let zero = |what: &str| Rejection::Invalid {
        what: what.to_owned(),
        value: "0".to_owned(),
        rule: "more than zero".to_owned(),
    };
    if defaults.cpu == MilliCpus::ZERO {
        return Err(zero("default cpu"));
    }
    if defaults.memory == Bytes::ZERO {
        return Err(zero("default memory"));
    }
    if defaults.disk == Bytes::ZERO {
        return Err(zero("default disk"));
    }
    Ok(())
}

//! Who holds which name, and which texts can be names at all.
//!
//! Promises: a name leads to exactly the object that shows it (checked by `invariants`). Names of
//! clusters, hosts, datastores and endpoints are unique in the cell; those of container VMs, rules
//! and image references in their endpoint. A container VM that is being removed holds no name.

use super::Fleet;
use berth_model::rejection::NameKind;
use berth_model::{
    ClusterId, ContainerId, DatastoreId, EndpointId, HostId, ImageId, Rejection, RuleId, VmState,
};
use imbl::OrdMap;

/// Longest name in bytes; longest image reference too.
const NAME_MAX: usize = 255;
/// Image references are longer: registry, path, tag.
const REFERENCE_MAX: usize = 512;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Names {
    pub clusters: OrdMap<String, ClusterId>,
    pub endpoints: OrdMap<String, EndpointId>,
    pub hosts: OrdMap<String, HostId>,
    pub datastores: OrdMap<String, DatastoreId>,
    pub containers: OrdMap<(EndpointId, String), ContainerId>,
    pub rules: OrdMap<(EndpointId, String), RuleId>,
    pub references: OrdMap<(EndpointId, String), ImageId>,
}

/// A name that holds in every place where names are shown: letters, digits, `_`, `.` and `-`, the
/// first a letter or digit.
pub(super) fn check_name(kind: NameKind, name: &str) -> Result<(), Rejection> {
    let wrong = |rule: String| Rejection::Invalid {
        what: format!("{kind} name"),
        value: name.chars().take(80).collect(),
        rule,
    };
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(wrong(format!("1 to {NAME_MAX} characters")));
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let all_fit = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if starts_well && all_fit {
        Ok(())
    } else {
        Err(wrong("letters, digits, `_`, `.` and `-`, first a letter or digit".to_owned()))
    }
}

pub(super) fn check_reference(reference: &str) -> Result<(), Rejection> {
    if reference.is_empty() || reference.len() > REFERENCE_MAX {
        return Err(Rejection::Invalid {
            what: "image reference".to_owned(),
            value: reference.chars().take(80).collect(),
            rule: format!("1 to {REFERENCE_MAX} characters"),
        });
    }
    Ok(())
}

pub(super) fn taken(kind: NameKind, name: &str) -> Rejection {
    Rejection::NameTaken { kind, name: name.to_owned(), holder: None }
}

impl Fleet {
    pub(super) fn rebuild_names(&mut self) {
        self.names = Names::default();
        let names = &mut self.names;
        for cluster in self.clusters.values() {
            names.clusters.insert(cluster.name.clone(), cluster.id);
        }
        for endpoint in self.endpoints.values() {
            names.endpoints.insert(endpoint.name.clone(), endpoint.id);
        }
        for host in self.hosts.values() {
            names.hosts.insert(host.facts.name.clone(), host.id);
        }
        for datastore in self.datastores.values() {
            names.datastores.insert(datastore.name.clone(), datastore.id);
        }
        for vm in self.containers.values() {
            if !matches!(vm.state, VmState::Removing { .. }) {
                names.containers.insert((vm.endpoint(), vm.name.clone()), vm.id);
            }
        }
        for rule in self.rules.rules.values() {
            names.rules.insert((rule.meta.endpoint, rule.name.clone()), rule.id);
        }
        for ((id, endpoint), image) in &self.images {
            for reference in &image.references {
                names.references.insert((*endpoint, reference.clone()), *id);
            }
        }
    }
}

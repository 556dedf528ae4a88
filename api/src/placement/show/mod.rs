//! The fleet's objects as JSON resources.

mod container_vm;
mod owner;
mod place;
mod rule;
mod supply;

pub use container_vm::{container_vm, state_name};
pub use owner::{cluster, cluster_policy, endpoint, image};
pub use place::{decision, demand, place, reservation, victim};
pub use rule::{rule, rule_spec};
pub use supply::{datastore, host, networks};

use super::page::revision;
use berth_model::view::{
    ExplanationView, HostRefusalView, MetaView, ResourcesView, SYSTEM_ENDPOINT,
};
use berth_model::{
    ClusterId, DatastoreId, EndpointId, Explanation, HostId, Meta, Refusal, Resources,
};
use berth_scheduler::Fleet;

/// What `berth` calls the owner of an object.
pub fn endpoint_name(fleet: &Fleet, id: EndpointId) -> String {
    if id == EndpointId::SYSTEM {
        return SYSTEM_ENDPOINT.to_owned();
    }
    fleet.endpoint(id).map_or_else(|| id.to_string(), |endpoint| endpoint.name.clone())
}

pub fn host_name(fleet: &Fleet, id: HostId) -> String {
    fleet.host(id).map_or_else(|| id.to_string(), |host| host.facts.name.clone())
}

pub fn datastore_name(fleet: &Fleet, id: DatastoreId) -> String {
    fleet.datastore(id).map_or_else(|| id.to_string(), |datastore| datastore.name.clone())
}

pub fn cluster_name(fleet: &Fleet, id: ClusterId) -> String {
    fleet.cluster(id).map_or_else(|| id.to_string(), |cluster| cluster.name.clone())
}

pub fn cell_name(fleet: &Fleet) -> String {
    fleet.cell().map(|cell| cell.to_string()).unwrap_or_default()
}

fn meta(fleet: &Fleet, meta: &Meta) -> MetaView {
    MetaView {
        cell: cell_name(fleet),
        endpoint: endpoint_name(fleet, meta.endpoint),
        created: revision(fleet, meta.created),
        modified: revision(fleet, meta.modified),
        created_at_ms: meta.created_at.0,
        labels: meta.labels.clone(),
    }
}

fn resources(resources: Resources) -> ResourcesView {
    ResourcesView { cpu_millis: resources.cpu.0, memory_bytes: resources.memory.0 }
}

pub fn explanation(fleet: &Fleet, explanation: &Explanation) -> ExplanationView {
    let refused = explanation.refused.iter();
    let hosts = explanation.hosts.iter().map(|(host, refusal)| HostRefusalView {
        host: host_name(fleet, *host),
        filter: refusal.filter().name().to_owned(),
        reason: reason(fleet, refusal),
    });
    ExplanationView {
        summary: explanation.to_string(),
        considered: explanation.considered,
        refused: refused.map(|(filter, count)| (filter.name().to_owned(), *count)).collect(),
        hosts: hosts.collect(),
        relaxation: explanation.relaxation.as_ref().map(ToString::to_string),
    }
}

/// A refusal in words, with the names of what it only knows by id.
fn reason(fleet: &Fleet, refusal: &Refusal) -> String {
    match refusal {
        Refusal::DatastoreUnreachable { datastore } => {
            format!("it does not reach {}", datastore_name(fleet, *datastore))
        }
        Refusal::Silent
        | Refusal::Maintenance
        | Refusal::OtherCluster
        | Refusal::OtherHost
        | Refusal::CpuShort { .. }
        | Refusal::MemoryShort { .. }
        | Refusal::DiskShort { .. }
        | Refusal::NoDatastore
        | Refusal::ImageUnreachable
        | Refusal::LabelMissing { .. }
        | Refusal::RuleBroken { .. }
        | Refusal::ReservationShort { .. }
        | Refusal::ResourceShort { .. }
        | Refusal::NumaShort { .. }
        | Refusal::NoShares
        | Refusal::NetworkUnreachable { .. }
        | Refusal::NoSuchDatastore { .. }
        | Refusal::QuotaExceeded { .. }
        | Refusal::FailoverHost
        | Refusal::FailoverShort { .. } => refusal.to_string(),
    }
}

//! Clusters with their policies, endpoints, images.

use super::{datastore_name, host_name, meta, resources};
use berth_model::cluster::ClusterPolicy;
use berth_model::view::{
    AdmissionView, ClusterPolicyView, ClusterView, EndpointView, ImageView, PolicyView, QuotaView,
    UsageView,
};
use berth_model::{Admission, Cluster, Endpoint, Image, Resources};
use berth_scheduler::Fleet;

pub fn cluster(fleet: &Fleet, cluster: &Cluster) -> ClusterView {
    let (mut hosts, mut placed) = (0, 0);
    let (mut capacity, mut charged) = (Resources::default(), Resources::default());
    for host in fleet.hosts().filter(|host| host.cluster == cluster.id) {
        hosts += 1;
        placed += host.placed;
        capacity = capacity + host.facts.capacity;
        charged = charged + host.charged;
    }
    ClusterView {
        id: cluster.id.to_string(),
        name: cluster.name.clone(),
        meta: meta(fleet, &cluster.meta),
        policy: policy(fleet, &cluster.policy),
        hosts,
        placed,
        capacity: resources(capacity),
        charged: resources(charged),
    }
}

pub fn cluster_policy(fleet: &Fleet, cluster: &Cluster) -> ClusterPolicyView {
    ClusterPolicyView {
        id: cluster.id.to_string(),
        cluster: cluster.name.clone(),
        meta: meta(fleet, &cluster.meta),
        policy: policy(fleet, &cluster.policy),
    }
}

fn policy(fleet: &Fleet, policy: &ClusterPolicy) -> PolicyView {
    let admission = match &policy.admission {
        Admission::Off => AdmissionView::Off,
        Admission::HostFailures { count } => AdmissionView::HostFailures { count: *count },
        Admission::Percentage { cpu, memory } => {
            AdmissionView::Percentage { cpu_permille: cpu.0, memory_permille: memory.0 }
        }
        Admission::FailoverHosts { hosts } => AdmissionView::FailoverHosts {
            hosts: hosts.iter().map(|id| host_name(fleet, *id)).collect(),
        },
        Admission::Slots { cpu, memory, failures } => {
            AdmissionView::Slots { cpu_millis: cpu.0, memory_bytes: memory.0, failures: *failures }
        }
    };
    PolicyView::of(policy, admission)
}

pub fn endpoint(fleet: &Fleet, endpoint: &Endpoint) -> EndpointView {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let usage = fleet.usage(endpoint.id);
    EndpointView {
        id: endpoint.id.to_string(),
        name: endpoint.name.clone(),
        meta: meta(fleet, &endpoint.meta),
        image_store: endpoint.image_store.map(|id| datastore_name(fleet, id)),
        default_cpu_millis: endpoint.defaults.cpu.0,
        default_memory_bytes: endpoint.defaults.memory.0,
        default_disk_bytes: endpoint.defaults.disk.0,
        quota: QuotaView {
            cpu_millis: endpoint.quota.cpu.map(|cpu| cpu.0),
            memory_bytes: endpoint.quota.memory.map(|memory| memory.0),
            disk_bytes: endpoint.quota.disk.map(|disk| disk.0),
            container_vms: endpoint.quota.containers,
        },
        usage: UsageView {
            cpu_millis: usage.cpu.0,
            memory_bytes: usage.memory.0,
            disk_bytes: usage.disk.0,
            container_vms: usage.containers,
        },
        container_vms: count(fleet.containers_of(endpoint.id).count()),
        images: count(fleet.images_of(endpoint.id).count()),
    }
}

pub fn image(fleet: &Fleet, image: &Image) -> ImageView {
    let mut shown = meta(fleet, &image.meta);
    shown.labels.extend(image.config.labels.clone());
    ImageView {
        id: format!("sha256:{}", image.id),
        meta: shown,
        references: image.references.iter().cloned().collect(),
        size_bytes: image.size.0,
        datastores: image.datastores.iter().map(|id| datastore_name(fleet, *id)).collect(),
        architecture: image.config.architecture.clone(),
    }
}

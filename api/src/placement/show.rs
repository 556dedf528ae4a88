//! The fleet's objects as JSON resources.

use super::page::revision;
use berth_model::container::StopOrder;
use berth_model::view::{
    ClusterView, ContainerView, DatastoreView, DemandView, EndpointView, ExplanationView,
    HostRefusalView, HostView, ImageView, MetaView, ResourcesView, SYSTEM_ENDPOINT, StateView,
};
use berth_model::{
    Cluster, ContainerVm, Datastore, DatastoreId, Demand, Endpoint, EndpointId, Explanation, Host,
    HostId, HostState, Image, Meta, Resources, VmState,
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

pub fn cluster_name(fleet: &Fleet, id: berth_model::ClusterId) -> String {
    fleet.cluster(id).map_or_else(|| id.to_string(), |cluster| cluster.name.clone())
}

fn meta(fleet: &Fleet, meta: &Meta) -> MetaView {
    MetaView {
        cell: fleet.cell().map(|cell| cell.to_string()).unwrap_or_default(),
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

pub fn container(fleet: &Fleet, vm: &ContainerVm) -> ContainerView {
    let host = vm.state.charged().map(|(host, _)| host).or(vm.last_host);
    let mut shown = meta(fleet, &vm.meta);
    // Docker's labels are the container's too; those given through `/v1` win.
    for (name, value) in &vm.spec.labels {
        shown.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    ContainerView {
        id: vm.id.to_string(),
        name: vm.name.clone(),
        meta: shown,
        image: format!("sha256:{}", vm.spec.image),
        image_reference: vm.spec.image_reference.clone(),
        entrypoint: vm.spec.entrypoint.clone(),
        command: vm.spec.command.clone(),
        state: state(fleet, &vm.state),
        epoch: vm.epoch.0,
        host: host.map(|id| host_name(fleet, id)),
        datastore: vm.datastore.map(|id| datastore_name(fleet, id)),
        demand: demand(fleet, &vm.spec.demand),
    }
}

pub fn demand(fleet: &Fleet, demand: &Demand) -> DemandView {
    DemandView {
        cpu_millis: demand.cpu.0,
        memory_bytes: demand.memory.0,
        disk_bytes: demand.disk.0,
        cluster: demand.cluster.map(|id| cluster_name(fleet, id)),
        host: demand.host.map(|id| host_name(fleet, id)),
        datastore: demand.datastore.map(|id| datastore_name(fleet, id)),
    }
}

fn state(fleet: &Fleet, state: &VmState) -> StateView {
    let stopping = |stop: &Option<StopOrder>| stop.is_some();
    match state {
        VmState::Pending { refused } => {
            StateView::Pending { refused: refused.as_ref().map(|e| explanation(fleet, e)) }
        }
        VmState::Created => StateView::Created,
        VmState::Waiting { refused, .. } => {
            StateView::Waiting { refused: refused.as_ref().map(|e| explanation(fleet, e)) }
        }
        VmState::Starting { stop, .. } => StateView::Starting { stopping: stopping(stop) },
        VmState::Running { started_at, stop, .. } => {
            StateView::Running { started_at_ms: started_at.0, stopping: stopping(stop) }
        }
        VmState::Exited { exit, started_at, finished_at } => StateView::Exited {
            exit_code: exit.code,
            oom_killed: exit.oom_killed,
            error: exit.error.clone(),
            started_at_ms: started_at.map(|at| at.0),
            finished_at_ms: finished_at.0,
        },
        VmState::Removing { .. } => StateView::Removing,
    }
}

pub fn explanation(fleet: &Fleet, explanation: &Explanation) -> ExplanationView {
    ExplanationView {
        summary: explanation.to_string(),
        considered: explanation.considered,
        refused: explanation
            .refused
            .iter()
            .map(|(filter, count)| (filter.name().to_owned(), *count))
            .collect(),
        hosts: explanation
            .hosts
            .iter()
            .map(|(host, refusal)| HostRefusalView {
                host: host_name(fleet, *host),
                filter: refusal.filter().name().to_owned(),
                reason: refusal.to_string(),
            })
            .collect(),
        relaxation: explanation.relaxation.as_ref().map(ToString::to_string),
    }
}

pub fn host(fleet: &Fleet, host: &Host) -> HostView {
    let (state, since) = match host.state {
        HostState::Connected { since } => ("connected", since),
        HostState::Silent { since } => ("silent", since),
    };
    let mut shown = meta(fleet, &host.meta);
    shown.labels.extend(host.facts.labels.clone());
    HostView {
        id: host.id.to_string(),
        name: host.facts.name.clone(),
        meta: shown,
        cluster: cluster_name(fleet, host.cluster),
        state: state.to_owned(),
        state_since_ms: since.0,
        maintenance: host.maintenance,
        capacity: resources(host.facts.capacity),
        charged: resources(host.charged),
        placed: host.placed,
        vm_overhead_bytes: host.facts.vm_overhead.0,
        accelerator: host.facts.accelerator,
        datastores: host.facts.datastores.values().map(|facts| facts.name.clone()).collect(),
        kernel: host.facts.kernel.clone(),
        hypervisor: host.facts.hypervisor.clone(),
        build: host.facts.build.clone(),
        stream_address: host.facts.stream_address.clone(),
    }
}

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
        policy: (&cluster.policy).into(),
        hosts,
        placed,
        capacity: resources(capacity),
        charged: resources(charged),
    }
}

pub fn datastore(fleet: &Fleet, datastore: &Datastore) -> DatastoreView {
    DatastoreView {
        id: datastore.id.to_string(),
        name: datastore.name.clone(),
        meta: meta(fleet, &datastore.meta),
        capacity_bytes: datastore.capacity.0,
        free_bytes: datastore.free.0,
        charged_bytes: datastore.charged.0,
        hosts: datastore.hosts.iter().map(|id| host_name(fleet, *id)).collect(),
    }
}

pub fn endpoint(fleet: &Fleet, endpoint: &Endpoint) -> EndpointView {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    EndpointView {
        id: endpoint.id.to_string(),
        name: endpoint.name.clone(),
        meta: meta(fleet, &endpoint.meta),
        image_store: endpoint.image_store.map(|id| datastore_name(fleet, id)),
        default_cpu_millis: endpoint.defaults.cpu.0,
        default_memory_bytes: endpoint.defaults.memory.0,
        default_disk_bytes: endpoint.defaults.disk.0,
        containers: count(fleet.containers_of(endpoint.id).count()),
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

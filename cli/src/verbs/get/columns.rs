//! The columns in which each kind of object is shown.

use super::super::{selector, units};
use berth_client::view::{
    AdmissionView, ClusterPolicyView, ClusterView, ContainerVmView, DatastoreView, EndpointView,
    HostView, ImageView, NetworkView, QuotaView, ReservationView, RuleKindView, RuleView,
    StateView,
};

/// How objects of one kind are shown.
pub struct Columns<T> {
    pub header: &'static [&'static str],
    pub row: fn(&T) -> Vec<String>,
    /// What lists are sorted by.
    pub name: fn(&T) -> &str,
}

pub const CLUSTERS: Columns<ClusterView> = Columns {
    header: &["name", "strategy", "hosts", "placed", "cpu charged", "memory charged"],
    row: |cluster| {
        let [cpu, memory] = units::of(&cluster.charged, &cluster.capacity);
        vec![
            cluster.name.clone(),
            format!("{:?}", cluster.policy.strategy).to_lowercase(),
            cluster.hosts.to_string(),
            cluster.placed.to_string(),
            cpu,
            memory,
        ]
    },
    name: |cluster| &cluster.name,
};

pub const POLICIES: Columns<ClusterPolicyView> = Columns {
    header: &[
        "cluster",
        "strategy",
        "cpu",
        "memory",
        "disk",
        "reserves (permille)",
        "admission",
        "preemption",
    ],
    row: |one| {
        let policy = &one.policy;
        let ratio = |permille: u32| units::cpus(u64::from(permille));
        vec![
            one.cluster.clone(),
            format!("{:?}", policy.strategy).to_lowercase(),
            ratio(policy.cpu_overcommit_permille),
            ratio(policy.memory_overcommit_permille),
            ratio(policy.disk_overcommit_permille),
            format!(
                "{}/{}/{}",
                policy.cpu_reserve_permille,
                policy.memory_reserve_permille,
                policy.disk_reserve_permille
            ),
            admission(&policy.admission),
            if policy.preemption { "yes" } else { "no" }.to_owned(),
        ]
    },
    name: |one| &one.cluster,
};

fn admission(admission: &AdmissionView) -> String {
    match admission {
        AdmissionView::Off => "off".to_owned(),
        AdmissionView::HostFailures { count } => format!("{count} host failures"),
        AdmissionView::Percentage { cpu_permille, memory_permille } => {
            format!("{cpu_permille}/{memory_permille} permille")
        }
        AdmissionView::FailoverHosts { hosts } => format!("hosts {}", hosts.join(",")),
        AdmissionView::Slots { cpu_millis, memory_bytes, failures } => format!(
            "{failures} hosts' slots of {} cpu, {}",
            units::cpus(*cpu_millis),
            units::bytes(*memory_bytes)
        ),
    }
}

pub const HOSTS: Columns<HostView> = Columns {
    header: &[
        "name",
        "cluster",
        "domain",
        "state",
        "accelerator",
        "placed",
        "cpu charged",
        "memory charged",
        "datastores",
    ],
    row: |host| {
        let [cpu, memory] = units::of(&host.charged, &host.capacity);
        let state = match host.maintenance {
            true => format!("{}, maintenance", host.state),
            false => host.state.clone(),
        };
        let domain: Vec<&str> = host.domain.iter().map(|level| level.name.as_str()).collect();
        vec![
            host.name.clone(),
            host.cluster.clone(),
            domain.join("/"),
            state,
            units::accelerator(host.accelerator).to_owned(),
            host.placed.to_string(),
            cpu,
            memory,
            host.datastores.join(","),
        ]
    },
    name: |host| &host.name,
};

pub const DATASTORES: Columns<DatastoreView> = Columns {
    header: &["name", "class", "free", "capacity", "charged", "hosts"],
    row: |store| {
        vec![
            store.name.clone(),
            store.class.clone(),
            units::bytes(store.free_bytes),
            units::bytes(store.capacity_bytes),
            units::bytes(store.charged_bytes),
            store.hosts.join(","),
        ]
    },
    name: |store| &store.name,
};

pub const NETWORKS: Columns<NetworkView> = Columns {
    header: &["name", "hosts"],
    row: |network| vec![network.name.clone(), network.hosts.join(",")],
    name: |network| &network.name,
};

pub const ENDPOINTS: Columns<EndpointView> = Columns {
    header: &["name", "image store", "containers", "cpu", "memory", "disk", "images"],
    row: |endpoint| {
        let QuotaView { cpu_millis, memory_bytes, disk_bytes, container_vms } = endpoint.quota;
        let usage = &endpoint.usage;
        let of = |used: String, quota: Option<String>| match quota {
            Some(quota) => format!("{used} / {quota}"),
            None => used,
        };
        vec![
            endpoint.name.clone(),
            endpoint.image_store.clone().unwrap_or_default(),
            of(usage.container_vms.to_string(), container_vms.map(|most| most.to_string())),
            of(units::cpus(usage.cpu_millis), cpu_millis.map(units::cpus)),
            of(units::bytes(usage.memory_bytes), memory_bytes.map(units::bytes)),
            of(units::bytes(usage.disk_bytes), disk_bytes.map(units::bytes)),
            endpoint.images.to_string(),
        ]
    },
    name: |endpoint| &endpoint.name,
};

pub const IMAGES: Columns<ImageView> = Columns {
    header: &["id", "references", "endpoint", "size", "datastores"],
    row: |image| {
        vec![
            short(&image.id),
            image.references.join(","),
            image.meta.endpoint.clone(),
            units::bytes(image.size_bytes),
            image.datastores.join(","),
        ]
    },
    name: |image| image.references.first().map_or(&image.id, |first| first),
};

pub const CONTAINER_VMS: Columns<ContainerVmView> = Columns {
    header: &["id", "name", "endpoint", "image", "state", "host", "datastore", "cpu", "memory"],
    row: |container| {
        vec![
            short(&container.id),
            container.name.clone(),
            container.meta.endpoint.clone(),
            container.image_reference.clone(),
            state(container),
            container.host.clone().unwrap_or_default(),
            container.datastore.clone().unwrap_or_default(),
            units::cpus(container.demand.cpu_millis),
            units::bytes(container.demand.memory_bytes),
        ]
    },
    name: |container| &container.name,
};

pub const PLACEMENTS: Columns<ReservationView> = Columns {
    header: &["id", "endpoint", "host", "datastore", "cpu", "memory", "priority", "expires at ms"],
    row: |held| {
        vec![
            held.id.clone(),
            held.meta.endpoint.clone(),
            held.place.host.clone(),
            held.place.datastore.clone().unwrap_or_default(),
            units::cpus(held.charged.cpu_millis),
            units::bytes(held.charged.memory_bytes),
            held.demand.priority.to_string(),
            held.expires_at_ms.map_or("never".to_owned(), |at| at.to_string()),
        ]
    },
    name: |held| &held.id,
};

pub const RULES: Columns<RuleView> = Columns {
    header: &["name", "endpoint", "select", "each", "rule", "strength", "speaks of", "kept"],
    row: |rule| {
        let status = rule.status.as_ref();
        let kept = status.map_or(String::new(), |status| match status.kept {
            true => "yes".to_owned(),
            false => format!("broken in {}", status.broken.len()),
        });
        vec![
            rule.name.clone(),
            rule.meta.endpoint.clone(),
            selector::written(&rule.select),
            rule.each.clone().unwrap_or_default(),
            kind(&rule.rule),
            rule.weight.map_or("required".to_owned(), |weight| format!("preferred {weight}")),
            status.map_or(String::new(), |status| status.subjects.to_string()),
            kept,
        ]
    },
    name: |rule| &rule.name,
};

fn kind(rule: &RuleKindView) -> String {
    let word = rule.kind();
    let not = |not: bool| if not { " not" } else { "" };
    match rule {
        RuleKindView::Together { scope } => format!("{word} {scope}"),
        RuleKindView::Apart { scope, unless_same: None } => format!("{word} {scope}"),
        RuleKindView::Apart { scope, unless_same: Some(label) } => {
            format!("{word} {scope} unless same {label}")
        }
        RuleKindView::AtMost { scope, count } => format!("{word} {count} {scope}"),
        RuleKindView::Spread { scope, max_skew } => format!("{word} {scope} skew {max_skew}"),
        RuleKindView::Near { scope, with } => {
            format!("{word} {} {scope}", selector::written(with))
        }
        RuleKindView::Away { scope, from } => {
            format!("{word} {} {scope}", selector::written(from))
        }
        RuleKindView::Hosts { names, clusters, labels, not: is_not } => {
            let written = selector::written(labels);
            let words = [names.join(","), clusters.join(","), written];
            let words: Vec<String> = words.into_iter().filter(|text| !text.is_empty()).collect();
            format!("{word}{} {}", not(*is_not), words.join(" "))
        }
        RuleKindView::Datastores { names, class, labels, not: is_not } => {
            let written = selector::written(labels);
            let words = [names.join(","), class.clone().unwrap_or_default(), written];
            let words: Vec<String> = words.into_iter().filter(|text| !text.is_empty()).collect();
            format!("{word}{} {}", not(*is_not), words.join(" "))
        }
    }
}

fn state(container: &ContainerVmView) -> String {
    if container.displaced {
        return "displaced".to_owned();
    }
    let state = &container.state;
    match state {
        StateView::Pending { refused: Some(_) } | StateView::Waiting { refused: Some(_) } => {
            format!("{}, refused", state.phase())
        }
        StateView::Starting { stopping: true } | StateView::Running { stopping: true, .. } => {
            "stopping".to_owned()
        }
        StateView::Exited { exit_code, oom_killed: true, .. } => {
            format!("exited ({exit_code}, out of memory)")
        }
        StateView::Exited { exit_code, oom_killed: false, .. } => format!("exited ({exit_code})"),
        StateView::Pending { refused: None }
        | StateView::Created
        | StateView::Waiting { refused: None }
        | StateView::Starting { stopping: false }
        | StateView::Running { stopping: false, .. }
        | StateView::Removing => state.phase().to_owned(),
    }
}

/// The first twelve digits of an id, its kind left out.
fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

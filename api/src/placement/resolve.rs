//! What requests name, found in the fleet: container VMs, images, where something is bound to.

use super::errors::{Kind, Problem};
use super::objects::endpoint_named;
use super::wish::Wish;
use crate::docker::translate::reference::{self, Reference};
use crate::docker::translate::spec::{self, DiskSize, Wanted, Within};
use crate::docker::translate::{name, signal};
use berth_model::command::NewContainer;
use berth_model::endpoint::EndpointDefaults;
use berth_model::view::ContainerRequest;
use berth_model::{Bytes, ContainerId, ContainerVm, EndpointId, Image, MilliCpus};
use berth_scheduler::Fleet;
use berth_scheduler::fleet::Prefixed;

/// By id, the start of one, `endpoint/name`, or a name that only one endpoint has.
pub fn find<'a>(fleet: &'a Fleet, wanted: &str) -> Result<&'a ContainerVm, Problem> {
    let missing = || Problem::not_found(format!("no container VM `{wanted}`"));
    if let Some((owner, name)) = wanted.split_once('/') {
        let owner = endpoint_named(fleet, owner)?;
        return fleet.container_named(owner, name).ok_or_else(missing);
    }
    let owners = std::iter::once(EndpointId::SYSTEM).chain(fleet.endpoints().map(|e| e.id));
    let mut named = owners.filter_map(|owner| fleet.container_named(owner, wanted));
    match (named.next(), named.next()) {
        (Some(vm), None) => return Ok(vm),
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                Kind::Ambiguous,
                format!(
                    "several endpoints have a container VM `{wanted}`; write endpoint/{wanted}"
                ),
            ));
        }
        (None, _) => {}
    }
    match fleet.container_by_prefix(EndpointId::SYSTEM, wanted) {
        Prefixed::One(vm) => Ok(vm),
        Prefixed::None => Err(missing()),
        Prefixed::Many => Err(Problem::new(
            Kind::Ambiguous,
            format!("several ids start with `{wanted}`; write more of it"),
        )),
    }
}

/// A request, resolved against a fleet.
pub struct Resolved {
    pub owner: EndpointId,
    pub new: NewContainer,
    pub image: Image,
}

/// A create request as a container VM of its owner's.
pub fn resolve(fleet: &Fleet, wish: &Wish, body: ContainerRequest) -> Result<Resolved, Problem> {
    let owner = match &body.endpoint {
        None => EndpointId::SYSTEM,
        Some(name) => endpoint_named(fleet, name)?,
    };
    let image = image(fleet, owner, &body.image)?.clone();
    let within = within(fleet, &body)?;
    let id = ContainerId::from_bytes(wish.derive("container id"));
    let name = match &body.name {
        Some(name) => name::checked(name)?.to_owned(),
        // The id is as good as random, so names seldom meet; a repeated request makes the same.
        None => name::made_up(draw(id), 1),
    };
    let defaults = match fleet.endpoint(owner) {
        Some(endpoint) => endpoint.defaults.clone(),
        None => EndpointDefaults::default(),
    };
    let labels = body.labels.clone();
    let reference = body.image.clone();
    let wanted = Wanted {
        entrypoint: body.entrypoint,
        command: body.command,
        environment: body.environment,
        working_directory: body.working_directory.unwrap_or_default(),
        user: body.user.unwrap_or_default(),
        hostname: body.hostname.unwrap_or_default(),
        stop_signal: body.stop_signal.as_deref().map(signal::parse).transpose()?,
        stop_timeout: body.stop_timeout_seconds,
        cpu: body.cpu_millis.map(MilliCpus),
        memory: body.memory_bytes.map(Bytes),
        disk: body.disk_bytes.map(|bytes| DiskSize(Bytes(bytes))),
        network: body.network,
        auto_remove: body.auto_remove,
        labels: body.labels,
        ..Wanted::default()
    };
    let merged = spec::merge(id, wanted, &image, &reference, &defaults, within, String::new())?;
    let new = NewContainer { id, name, spec: merged.spec, labels };
    Ok(Resolved { owner, new, image })
}

fn draw(id: ContainerId) -> u64 {
    id.as_bytes()[..8].iter().fold(0, |draw, byte| draw << 8 | u64::from(*byte))
}

fn image<'a>(fleet: &'a Fleet, owner: EndpointId, wanted: &str) -> Result<&'a Image, Problem> {
    let missing = || Problem::not_found(format!("no image `{wanted}`; load it with docker load"));
    let digits = match reference::parse(wanted)? {
        Reference::Tag(tag) => {
            if let Some(image) = fleet.image_by_reference(owner, &tag) {
                return Ok(image);
            }
            wanted.to_owned()
        }
        Reference::Id(digits) => digits,
        Reference::Digest(_) => return Err(missing()),
    };
    match fleet.image_by_prefix(owner, &digits) {
        Prefixed::One(image) => Ok(image),
        Prefixed::None => Err(missing()),
        Prefixed::Many => {
            Err(Problem::new(Kind::Ambiguous, format!("several images start with `{wanted}`")))
        }
    }
}

/// Where it is bound to, by names or ids.
fn within(fleet: &Fleet, body: &ContainerRequest) -> Result<Within, Problem> {
    let missing = |kind: &str, name: &str| Problem::not_found(format!("no {kind} named `{name}`"));
    let cluster = body.cluster.as_deref().map(|name| {
        let by_id = || name.parse().ok().and_then(|id| fleet.cluster(id));
        let found = fleet.cluster_named(name).or_else(by_id);
        found.map(|cluster| cluster.id).ok_or_else(|| missing("cluster", name))
    });
    let host = body.host.as_deref().map(|name| {
        let by_id = || name.parse().ok().and_then(|id| fleet.host(id));
        let found = fleet.host_named(name).or_else(by_id);
        found.map(|host| host.id).ok_or_else(|| missing("host", name))
    });
    let datastore = body.datastore.as_deref().map(|name| {
        let by_id = || name.parse().ok().and_then(|id| fleet.datastore(id));
        let found = fleet.datastore_named(name).or_else(by_id);
        found.map(|datastore| datastore.id).ok_or_else(|| missing("datastore", name))
    });
    Ok(Within {
        cluster: cluster.transpose()?,
        host: host.transpose()?,
        datastore: datastore.transpose()?,
    })
}

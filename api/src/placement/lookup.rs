//! What requests name, found in the fleet: by name, by id, or by what only one can be meant.

use super::errors::{Kind, Problem};
use crate::docker::translate::reference::{self, Reference};
use berth_model::view::SYSTEM_ENDPOINT;
use berth_model::{
    Cluster, ContainerVm, Datastore, Endpoint, EndpointId, Host, Image, Reservation, Rule,
};
use berth_scheduler::Fleet;
use berth_scheduler::fleet::Prefixed;

fn missing(kind: &str, name: &str) -> Problem {
    let name: String = name.chars().take(80).collect();
    Problem::not_found(format!("no {kind} `{name}`"))
}

/// The endpoint of that name; `system` is the cell's own.
pub fn owner(fleet: &Fleet, name: Option<&str>) -> Result<EndpointId, Problem> {
    match name {
        None | Some(SYSTEM_ENDPOINT) => Ok(EndpointId::SYSTEM),
        Some(name) => endpoint(fleet, name).map(|endpoint| endpoint.id),
    }
}

pub fn endpoint<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Endpoint, Problem> {
    let by_id = || name.parse().ok().and_then(|id| fleet.endpoint(id));
    fleet.endpoint_named(name).or_else(by_id).ok_or_else(|| match name {
        SYSTEM_ENDPOINT => {
            Problem::not_found("`system` is the cell itself and no endpoint; see /v1/cell")
        }
        name => missing("endpoint", name),
    })
}

pub fn cluster<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Cluster, Problem> {
    let by_id = || name.parse().ok().and_then(|id| fleet.cluster(id));
    fleet.cluster_named(name).or_else(by_id).ok_or_else(|| missing("cluster", name))
}

pub fn host<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Host, Problem> {
    let by_id = || name.parse().ok().and_then(|id| fleet.host(id));
    fleet.host_named(name).or_else(by_id).ok_or_else(|| missing("host", name))
}

pub fn datastore<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Datastore, Problem> {
    let by_id = || name.parse().ok().and_then(|id| fleet.datastore(id));
    fleet.datastore_named(name).or_else(by_id).ok_or_else(|| missing("datastore", name))
}

pub fn reservation<'a>(fleet: &'a Fleet, id: &str) -> Result<&'a Reservation, Problem> {
    let found = id.parse().ok().and_then(|id| fleet.reservation(id));
    found.ok_or_else(|| missing("placement", id))
}

/// By id, `endpoint/name`, or a name that only one endpoint has.
pub fn rule<'a>(fleet: &'a Fleet, wanted: &str) -> Result<&'a Rule, Problem> {
    if let Some((owner_name, name)) = wanted.split_once('/') {
        let owner = owner(fleet, Some(owner_name))?;
        return fleet.rule_named(owner, name).ok_or_else(|| missing("rule", wanted));
    }
    if let Some(rule) = wanted.parse().ok().and_then(|id| fleet.rule(id)) {
        return Ok(rule);
    }
    let mut named = owners(fleet).filter_map(|owner| fleet.rule_named(owner, wanted));
    match (named.next(), named.next()) {
        (Some(rule), None) => Ok(rule),
        (Some(_), Some(_)) => Err(ambiguous("rule", wanted)),
        (None, _) => Err(missing("rule", wanted)),
    }
}

fn owners(fleet: &Fleet) -> impl Iterator<Item = EndpointId> {
    std::iter::once(EndpointId::SYSTEM).chain(fleet.endpoints().map(|endpoint| endpoint.id))
}

fn ambiguous(kind: &str, name: &str) -> Problem {
    Problem::new(
        Kind::Ambiguous,
        format!("several endpoints have a {kind} `{name}`; write endpoint/{name}"),
    )
}

/// By id, the start of one, `endpoint/name`, or a name that only one endpoint has.
pub fn container_vm<'a>(fleet: &'a Fleet, wanted: &str) -> Result<&'a ContainerVm, Problem> {
    let none = || missing("container VM", wanted);
    if let Some((owner_name, name)) = wanted.split_once('/') {
        let owner = owner(fleet, Some(owner_name))?;
        return fleet.container_named(owner, name).ok_or_else(none);
    }
    let mut named = owners(fleet).filter_map(|owner| fleet.container_named(owner, wanted));
    match (named.next(), named.next()) {
        (Some(vm), None) => return Ok(vm),
        (Some(_), Some(_)) => return Err(ambiguous("container VM", wanted)),
        (None, _) => {}
    }
    match fleet.container_by_prefix(EndpointId::SYSTEM, wanted) {
        Prefixed::One(vm) => Ok(vm),
        Prefixed::None => Err(none()),
        Prefixed::Many => Err(Problem::new(
            Kind::Ambiguous,
            format!("several ids start with `{wanted}`; write more of it"),
        )),
    }
}

pub fn image<'a>(fleet: &'a Fleet, owner: EndpointId, wanted: &str) -> Result<&'a Image, Problem> {
    let none = || Problem::not_found(format!("no image `{wanted}`; load it with docker load"));
    let digits = match reference::parse(wanted)? {
        Reference::Tag(tag) => {
            if let Some(image) = fleet.image_by_reference(owner, &tag) {
                return Ok(image);
            }
            wanted.to_owned()
        }
        Reference::Id(digits) => digits,
        Reference::Digest(_) => return Err(none()),
    };
    match fleet.image_by_prefix(owner, &digits) {
        Prefixed::One(image) => Ok(image),
        Prefixed::None => Err(none()),
        Prefixed::Many => {
            Err(Problem::new(Kind::Ambiguous, format!("several images start with `{wanted}`")))
        }
    }
}

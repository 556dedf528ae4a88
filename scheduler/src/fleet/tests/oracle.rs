//! What one step may do to a fleet, told in the plainest way: no sum is raised above its limit, no
//! newly placed one stands against a required rule, what differs is what `diff` says.

use super::super::Fleet;
use super::super::rules::Spoken;
use berth_model::{Bytes, DatastoreId, EndpointId, HostId, MilliCpus, Resources, Strength};
use proptest::prelude::*;
use std::collections::BTreeSet;

type Outcome = Result<(), TestCaseError>;

pub(super) fn check_step(before: &Fleet, after: &Fleet) -> Outcome {
    limits(before, after)?;
    quotas(before, after)?;
    difference(before, after)?;
    matching(after)
}

fn limits(before: &Fleet, after: &Fleet) -> Outcome {
    for host in after.hosts() {
        let was = before.host(host.id);
        let charged = was.map_or(Resources::default(), |host| host.charged);
        let limit = after.limit_of_host(host);
        prop_assert!(host.charged.cpu <= charged.cpu.max(limit.cpu));
        prop_assert!(host.charged.memory <= charged.memory.max(limit.memory));
        let held = was.map(|host| host.held.clone()).unwrap_or_default();
        let reservable = after.reservable_on_host(host);
        prop_assert!(host.held.reserved <= held.reserved.max(reservable));
        for (name, amount) in &host.held.resources {
            let was = held.resources.get(name).copied().unwrap_or(0);
            let there = host.facts.supply.resources.get(name).copied().unwrap_or(0);
            prop_assert!(*amount <= was.max(there));
        }
        for (position, bound) in host.held.numa.iter().enumerate() {
            let was = held.numa.get(position).copied().unwrap_or_default();
            let node = host.facts.supply.numa.get(position);
            let most = node.map_or(MilliCpus(0), |node| {
                node.capacity.cpu.permille(berth_model::Permille(4000))
            });
            prop_assert!(bound.cpu <= was.cpu.max(most));
        }
    }
    for store in after.datastores() {
        let was = before.datastore(store.id).map_or(Bytes::ZERO, |store| store.charged);
        prop_assert!(store.charged <= was.max(after.limit_of_datastore(store)));
    }
    Ok(())
}

fn quotas(before: &Fleet, after: &Fleet) -> Outcome {
    for endpoint in after.endpoints() {
        let (was, is) = (before.usage(endpoint.id), after.usage(endpoint.id));
        let quota = &endpoint.quota;
        prop_assert!(quota.cpu.is_none_or(|most| is.cpu <= was.cpu.max(most)));
        prop_assert!(quota.memory.is_none_or(|most| is.memory <= was.memory.max(most)));
        prop_assert!(quota.disk.is_none_or(|most| is.disk <= was.disk.max(most)));
        prop_assert!(quota.containers.is_none_or(|most| is.containers <= was.containers.max(most)));
    }
    Ok(())
}

/// What `diff` names is what a plain comparison finds.
fn difference(before: &Fleet, after: &Fleet) -> Outcome {
    let diff = after.diff(before);
    let hosts: BTreeSet<HostId> = before.hosts().chain(after.hosts()).map(|host| host.id).collect();
    let changed: Vec<HostId> =
        hosts.into_iter().filter(|id| before.host(*id) != after.host(*id)).collect();
    prop_assert_eq!(diff.hosts, changed);
    let stores: BTreeSet<DatastoreId> =
        before.datastores().chain(after.datastores()).map(|store| store.id).collect();
    let changed: Vec<DatastoreId> =
        stores.into_iter().filter(|id| before.datastore(*id) != after.datastore(*id)).collect();
    prop_assert_eq!(diff.datastores, changed);
    let endpoints = diff.endpoints;
    for endpoint in after.endpoints().map(|endpoint| endpoint.id) {
        let same = before.usage(endpoint) == after.usage(endpoint)
            && before.endpoint(endpoint) == after.endpoint(endpoint);
        prop_assert_eq!(endpoints.contains(&endpoint), !same);
    }
    for key in &diff.groups {
        prop_assert!(before.group(key) != after.group(key));
    }
    Ok(())
}

/// Rules are found as if each were asked.
fn matching(fleet: &Fleet) -> Outcome {
    for vm in fleet.containers() {
        let found = fleet.matched(vm.endpoint(), vm.labels());
        let theirs = |owner: EndpointId| owner == EndpointId::SYSTEM || owner == vm.endpoint();
        let all = fleet.rules().filter(|rule| theirs(rule.meta.endpoint));
        let (required, preferred): (Vec<Spoken>, Vec<Spoken>) = all
            .filter_map(|rule| Spoken::of(rule, vm.labels()))
            .partition(|spoken| spoken.rule.spec.strength == Strength::Required);
        prop_assert_eq!(&found.required, &required);
        prop_assert_eq!(&found.preferred, &preferred);
    }
    Ok(())
}

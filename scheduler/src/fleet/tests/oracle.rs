//! What one step may do to a fleet, told in the plainest way: no sum is raised above its limit, no
//! newly placed one stands against a required rule, what differs is what `diff` says.

use super::super::Fleet;
use super::super::admit::Wish;
use super::super::rules::{Bucket, Spoken, datastore_matches, host_matches};
use berth_model::{
    Bytes, DatastoreId, Demand, EndpointId, Host, HostId, MilliCpus, Resources, RuleKind, RuleSpec,
    Scope, Selector, Strength,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One that takes room, as a rule sees it.
struct One<'a> {
    owner: EndpointId,
    labels: &'a BTreeMap<String, String>,
    demand: &'a Demand,
    host: Option<HostId>,
    stores: BTreeSet<DatastoreId>,
    /// It has come in this step: to its host, to its datastores.
    fresh: (bool, bool),
}

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

/// After a step that placed: no fresh one stands against a required rule, told by comparing each
/// with each. `alone` says that nothing else came or went with it.
pub(super) fn check_rules(before: &Fleet, after: &Fleet, alone: bool) -> Outcome {
    prop_assert_eq!(rule_against(before, after, after, alone), None);
    Ok(())
}

/// The first required rule of `judge` that something stands against which came from `before` to
/// `after`. The three hold the same hosts.
pub(super) fn rule_against(
    before: &Fleet,
    after: &Fleet,
    judge: &Fleet,
    alone: bool,
) -> Option<String> {
    let all = ones(before, after);
    for one in all.iter().filter(|one| one.fresh.0 || one.fresh.1) {
        for rule in judge.rules().filter(|rule| rule.spec.strength == Strength::Required) {
            let theirs = |other: &One<'_>| {
                let owner = rule.meta.endpoint;
                owner == EndpointId::SYSTEM || owner == other.owner
            };
            let value = |other: &One<'_>| {
                rule.spec.each.as_ref().map(|each| other.labels.get(each).cloned())
            };
            if !theirs(one) || value(one) == Some(None) {
                continue;
            }
            let others: Vec<&One<'_>> = all
                .iter()
                .filter(|other| !std::ptr::eq(*other, one))
                .filter(|other| theirs(other) && value(other) == value(one))
                .collect();
            if !keeps(judge, &rule.spec, one, &others, alone) {
                return Some(format!("{rule:?} on {:?} {:?}", one.host, one.stores));
            }
        }
    }
    None
}

fn keeps(fleet: &Fleet, spec: &RuleSpec, one: &One<'_>, others: &[&One<'_>], alone: bool) -> bool {
    let subject = spec.selector.matches(one.labels);
    let scope = match &spec.kind {
        RuleKind::Hosts { within, not } => {
            let host = one.host.filter(|_| one.fresh.0 && subject).and_then(|id| fleet.host(id));
            return host.is_none_or(|host| {
                let cluster = &fleet.cluster(host.cluster).unwrap().name;
                host_matches(within, host, cluster) != *not
            });
        }
        RuleKind::Datastores { within, not } => {
            let mut stores = one.stores.iter().filter_map(|id| fleet.datastore(*id));
            return !one.fresh.1
                || !subject
                || stores.all(|store| datastore_matches(within, store) != *not);
        }
        RuleKind::Together { scope }
        | RuleKind::Apart { scope, .. }
        | RuleKind::AtMost { scope, .. }
        | RuleKind::Spread { scope, .. }
        | RuleKind::Near { scope, .. }
        | RuleKind::Away { scope, .. } => scope,
    };
    let fresh = if *scope == Scope::Datastore { one.fresh.1 } else { one.fresh.0 };
    let own = buckets(fleet, one, scope);
    if !fresh || (*scope == Scope::Datastore && own.is_empty()) {
        return true;
    }
    let in_one = |other: &&&One<'_>| !buckets(fleet, other, scope).is_disjoint(&own);
    let placed = |other: &&&One<'_>| !buckets(fleet, other, scope).is_empty();
    let subjects = || {
        others
            .iter()
            .copied()
            .filter(|other| spec.selector.matches(other.labels))
            .collect::<Vec<_>>()
    };
    let of = |selector: &Selector| {
        others.iter().copied().filter(|other| selector.matches(other.labels)).collect::<Vec<_>>()
    };
    let somewhere = !own.is_empty();
    match &spec.kind {
        RuleKind::Together { .. } => {
            let subjects = subjects();
            let alone = !subjects.iter().any(|other| placed(&other));
            !subject || somewhere && (alone || subjects.iter().any(|other| in_one(&other)))
        }
        RuleKind::Apart { unless_same, .. } => {
            let label =
                |other: &One<'_>| unless_same.as_ref().and_then(|l| other.labels.get(l).cloned());
            let shares = |other: &One<'_>| label(one).is_some() && label(other) == label(one);
            let together = subjects();
            !subject
                || somewhere
                    && together.iter().filter(|other| in_one(other)).all(|other| shares(other))
        }
        RuleKind::AtMost { count, .. } => {
            let most = own.iter().map(|bucket| {
                let held = |other: &&&One<'_>| buckets(fleet, other, scope).contains(bucket);
                1 + subjects().iter().filter(held).count()
            });
            !subject || somewhere && most.max().unwrap_or(0) <= *count as usize
        }
        RuleKind::Spread { max_skew, .. } => {
            if !subject || !alone {
                return !subject || somewhere;
            }
            let subjects = subjects();
            let count = |bucket: &Bucket| {
                let held = |other: &&&One<'_>| buckets(fleet, other, scope).contains(bucket);
                subjects.iter().filter(held).count()
            };
            let matched = fleet.matched(one.owner, one.labels);
            let wish = Wish::run(one.demand, None).by(one.owner, &matched);
            let open: Vec<&Host> =
                fleet.hosts().filter(|host| fleet.could_take(host, &wish)).collect();
            let least = if *scope == Scope::Datastore {
                let stores = open.iter().flat_map(|host| host.facts.datastores.keys().copied());
                stores.map(|id| count(&Bucket::datastore(id))).min()
            } else {
                open.iter().filter_map(|host| fleet.bucket(host, scope)).map(|b| count(&b)).min()
            };
            let fullest = own.iter().map(count).max().unwrap_or(0) + 1;
            somewhere && fullest <= least.unwrap_or(0) + *max_skew as usize
        }
        RuleKind::Near { with, .. } => {
            let company = of(with);
            let first = with.matches(one.labels) && !company.iter().any(|other| placed(&other));
            !subject || somewhere && (first || company.iter().any(|other| in_one(&other)))
        }
        RuleKind::Away { from, .. } => {
            let peer = from.matches(one.labels);
            let far = !subject || !of(from).iter().any(|other| in_one(&other));
            let other_way = !peer || !subjects().iter().any(|other| in_one(&other));
            !(subject || peer) || somewhere && far && other_way
        }
        RuleKind::Hosts { .. } | RuleKind::Datastores { .. } => true,
    }
}

fn buckets(fleet: &Fleet, one: &One<'_>, scope: &Scope) -> BTreeSet<Bucket> {
    if *scope == Scope::Datastore {
        return one.stores.iter().copied().map(Bucket::datastore).collect();
    }
    let host = one.host.and_then(|id| fleet.host(id));
    host.and_then(|host| fleet.bucket(host, scope)).into_iter().collect()
}

fn ones<'a>(before: &Fleet, after: &'a Fleet) -> Vec<One<'a>> {
    let vms = after.containers().map(|vm| {
        let host = vm.state.charged().map(|(host, _)| host);
        let was = before.container(vm.id);
        let was_on = was.and_then(|vm| vm.state.charged()).map(|(host, _)| host);
        let stored = was.and_then(|vm| vm.datastore);
        One {
            owner: vm.endpoint(),
            labels: vm.labels(),
            demand: &vm.spec.demand,
            host,
            stores: vm.datastore.into_iter().collect(),
            fresh: (host.is_some() && host != was_on, vm.datastore != stored),
        }
    });
    let held = after.reservations().map(|held| {
        let fresh =
            before.reservation(held.id).is_none_or(|was| was.meta.created != held.meta.created);
        One {
            owner: held.meta.endpoint,
            labels: &held.wish.labels,
            demand: &held.wish.demand,
            host: Some(held.place.host),
            stores: held.place.delta.into_iter().chain(held.place.disks.clone()).collect(),
            fresh: (fresh, fresh),
        }
    });
    vms.chain(held).collect()
}

//! Rules, and how they are kept.

use super::{cluster_name, datastore_name, host_name, meta};
use berth_model::rule::{DatastoreSelector, HostSelector, Term};
use berth_model::view::{BreachView, RuleKindView, RuleStatusView, RuleView, TermView};
use berth_model::{
    ClusterId, DatastoreId, EndpointId, HostId, Rule, RuleKind, RuleSpec, Scope, Selector, Strength,
};
use berth_scheduler::Fleet;
use berth_scheduler::fleet::rules::{Broken, Bucket, Placed};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Breaches of one rule that are told, and of each who breaks it.
const TOLD_MAX: usize = 100;

pub fn rule(fleet: &Fleet, rule: &Rule, with_status: bool) -> RuleView {
    let Rule { id, name, spec, meta: owner } = rule;
    let weight = match spec.strength {
        Strength::Required => None,
        Strength::Preferred { weight } => Some(weight),
    };
    RuleView {
        id: id.to_string(),
        name: name.clone(),
        meta: meta(fleet, owner),
        select: terms(&spec.selector),
        each: spec.each.clone(),
        weight,
        rule: kind(fleet, &spec.kind),
        status: with_status.then(|| status(fleet, rule)),
    }
}

fn status(fleet: &Fleet, rule: &Rule) -> RuleStatusView {
    let broken = fleet.broken(&Arc::new(rule.clone()));
    let scope = rule.spec.kind.scope();
    RuleStatusView {
        subjects: subjects(fleet, rule),
        kept: broken.is_empty(),
        broken: broken.iter().take(TOLD_MAX).map(|one| breach(fleet, scope, one)).collect(),
    }
}

/// Placed ones that the rule speaks of.
fn subjects(fleet: &Fleet, rule: &Rule) -> u64 {
    let RuleSpec { selector, each, .. } = &rule.spec;
    let owner = rule.meta.endpoint;
    let spoken_of = |endpoint: EndpointId, labels: &BTreeMap<String, String>| {
        (owner == EndpointId::SYSTEM || owner == endpoint)
            && selector.matches(labels)
            && each.as_ref().is_none_or(|each| labels.contains_key(each))
    };
    let placed = fleet.containers().filter(|vm| vm.state.charged().is_some());
    let vms = placed.filter(|vm| spoken_of(vm.endpoint(), vm.labels())).count();
    let held = fleet.reservations();
    let held = held.filter(|held| spoken_of(held.meta.endpoint, &held.wish.labels)).count();
    (vms + held) as u64
}

fn breach(fleet: &Fleet, scope: Option<&Scope>, broken: &Broken) -> BreachView {
    let who = broken.who.iter().take(TOLD_MAX).map(|placed| match placed {
        Placed::ContainerVm(id) => id.to_string(),
        Placed::Reservation(id) => id.to_string(),
    });
    BreachView {
        at: scope.zip(broken.bucket).map(|(scope, bucket)| bucket_name(fleet, scope, bucket)),
        each: Some(broken.value.to_string()).filter(|value| !value.is_empty()),
        who: who.collect(),
    }
}

fn bucket_name(fleet: &Fleet, scope: &Scope, bucket: Bucket) -> String {
    match scope {
        Scope::Host => host_name(fleet, HostId::from_bytes(bucket.0)),
        Scope::Cluster => cluster_name(fleet, ClusterId::from_bytes(bucket.0)),
        Scope::Datastore => datastore_name(fleet, DatastoreId::from_bytes(bucket.0)),
        Scope::Domain(level) => domain_name(fleet, scope, level, bucket),
    }
}

/// `zone=a/rack=r17`, as a host of it says.
fn domain_name(fleet: &Fleet, scope: &Scope, level: &str, bucket: Bucket) -> String {
    let members = fleet.level(scope).and_then(|level| level.members(bucket));
    let host = members.and_then(|members| members.hosts.iter().next());
    let Some(host) = host.and_then(|id| fleet.host(*id)) else { return level.to_owned() };
    let mut path = String::new();
    for (name, value) in &host.facts.supply.domain {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&format!("{name}={value}"));
        if name == level {
            break;
        }
    }
    path
}

fn terms(selector: &Selector) -> Vec<TermView> {
    let term = |term: &Term| match term.clone() {
        Term::Exists(label) => TermView::Exists { label },
        Term::Absent(label) => TermView::Absent { label },
        Term::In(label, values) => TermView::In { label, values: values.into_iter().collect() },
        Term::NotIn(label, values) => {
            TermView::NotIn { label, values: values.into_iter().collect() }
        }
    };
    selector.terms.iter().map(term).collect()
}

fn kind(fleet: &Fleet, kind: &RuleKind) -> RuleKindView {
    match kind {
        RuleKind::Together { scope } => RuleKindView::Together { scope: scope_name(scope) },
        RuleKind::Apart { scope, unless_same } => {
            RuleKindView::Apart { scope: scope_name(scope), unless_same: unless_same.clone() }
        }
        RuleKind::AtMost { scope, count } => {
            RuleKindView::AtMost { scope: scope_name(scope), count: *count }
        }
        RuleKind::Spread { scope, max_skew } => {
            RuleKindView::Spread { scope: scope_name(scope), max_skew: *max_skew }
        }
        RuleKind::Near { scope, with } => {
            RuleKindView::Near { scope: scope_name(scope), with: terms(with) }
        }
        RuleKind::Away { scope, from } => {
            RuleKindView::Away { scope: scope_name(scope), from: terms(from) }
        }
        RuleKind::Hosts { within, not } => RuleKindView::Hosts {
            names: within.names.iter().cloned().collect(),
            clusters: within.clusters.iter().cloned().collect(),
            labels: terms(&within.labels),
            not: *not,
        },
        RuleKind::Datastores { within, not } => RuleKindView::Datastores {
            names: within.ids.iter().map(|id| datastore_name(fleet, *id)).collect(),
            class: within.class.clone(),
            labels: terms(&within.labels),
            not: *not,
        },
    }
}

fn scope_name(scope: &Scope) -> String {
    match scope {
        Scope::Host => "host".to_owned(),
        Scope::Cluster => "cluster".to_owned(),
        Scope::Datastore => "datastore".to_owned(),
        Scope::Domain(level) => format!("domain:{level}"),
    }
}

/// A rule as a client wrote it; `datastore` finds one by name or id.
pub fn rule_spec<E>(
    select: Vec<TermView>,
    each: Option<String>,
    weight: Option<u16>,
    rule: RuleKindView,
    datastore: impl Fn(&str) -> Result<DatastoreId, E>,
) -> Result<RuleSpec, E> {
    let strength = weight.map_or(Strength::Required, |weight| Strength::Preferred { weight });
    let kind = match rule {
        RuleKindView::Together { scope } => RuleKind::Together { scope: scope_of(&scope) },
        RuleKindView::Apart { scope, unless_same } => {
            RuleKind::Apart { scope: scope_of(&scope), unless_same }
        }
        RuleKindView::AtMost { scope, count } => {
            RuleKind::AtMost { scope: scope_of(&scope), count }
        }
        RuleKindView::Spread { scope, max_skew } => {
            RuleKind::Spread { scope: scope_of(&scope), max_skew }
        }
        RuleKindView::Near { scope, with } => {
            RuleKind::Near { scope: scope_of(&scope), with: selector(with) }
        }
        RuleKindView::Away { scope, from } => {
            RuleKind::Away { scope: scope_of(&scope), from: selector(from) }
        }
        RuleKindView::Hosts { names, clusters, labels, not } => RuleKind::Hosts {
            within: HostSelector {
                names: names.into_iter().collect(),
                clusters: clusters.into_iter().collect(),
                labels: selector(labels),
            },
            not,
        },
        RuleKindView::Datastores { names, class, labels, not } => RuleKind::Datastores {
            within: DatastoreSelector {
                ids: names.iter().map(|name| datastore(name)).collect::<Result<_, E>>()?,
                class,
                labels: selector(labels),
            },
            not,
        },
    };
    Ok(RuleSpec { selector: selector(select), each, strength, kind })
}

/// The schema lets no other text through.
fn scope_of(text: &str) -> Scope {
    match text {
        "host" => Scope::Host,
        "cluster" => Scope::Cluster,
        "datastore" => Scope::Datastore,
        other => Scope::Domain(other.strip_prefix("domain:").unwrap_or(other).to_owned()),
    }
}

fn selector(terms: Vec<TermView>) -> Selector {
    let term = |term| match term {
        TermView::Exists { label } => Term::Exists(label),
        TermView::Absent { label } => Term::Absent(label),
        TermView::In { label, values } => Term::In(label, values.into_iter().collect()),
        TermView::NotIn { label, values } => Term::NotIn(label, values.into_iter().collect()),
    };
    Selector { terms: terms.into_iter().map(term).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_as_it_was_written() {
        let fleet = Fleet::default();
        let written = [
            RuleKindView::Together { scope: "domain:rack".to_owned() },
            RuleKindView::Apart { scope: "host".to_owned(), unless_same: Some("app".to_owned()) },
            RuleKindView::AtMost { scope: "cluster".to_owned(), count: 3 },
            RuleKindView::Spread { scope: "datastore".to_owned(), max_skew: 1 },
            RuleKindView::Near {
                scope: "host".to_owned(),
                with: vec![TermView::Exists { label: "db".to_owned() }],
            },
            RuleKindView::Away { scope: "host".to_owned(), from: Vec::new() },
            RuleKindView::Hosts {
                names: vec!["a".to_owned()],
                clusters: Vec::new(),
                labels: vec![TermView::NotIn {
                    label: "os".to_owned(),
                    values: vec!["old".to_owned()],
                }],
                not: true,
            },
        ];
        for view in written {
            let no = |_: &str| Err::<DatastoreId, ()>(());
            let spec = rule_spec(Vec::new(), None, Some(3), view.clone(), no).unwrap();
            assert_eq!(spec.strength, Strength::Preferred { weight: 3 });
            assert_eq!(kind(&fleet, &spec.kind), view);
        }
    }
}

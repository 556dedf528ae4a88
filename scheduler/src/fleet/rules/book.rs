//! The rules themselves, found by the labels that they ask for.
//!
//! Promises: [`RuleBook::matched`] gives exactly the rules that asking each one would give (held
//! by a property test), in the order of their ids; its cost grows with the labels of the request
//! and the rules that share a label with it, not with all rules.
//!
//! Each selector is filed under one of its terms: under the values of an `In`, else under the name
//! of an `Exists` (a rule's `each` is one), else with those that must be asked every time.

use super::group::Counted;
use super::{GroupKey, RuleId};
use berth_model::rule::Term;
use berth_model::{EndpointId, Rule, RuleKind, Scope, Selector, Strength};
use imbl::{OrdMap, OrdSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Labels = BTreeMap<String, String>;

/// The rules that speak of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// In the order of their ids, as those that follow.
    pub required: Vec<Spoken>,
    pub preferred: Vec<Spoken>,
}

impl Matched {
    /// No rule speaks of it.
    pub const NONE: &'static Matched = &Matched { required: Vec::new(), preferred: Vec::new() };

    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.preferred.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Spoken> {
        self.required.iter().chain(&self.preferred)
    }
}

/// One rule that speaks of a request, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub rule: Arc<Rule>,
    /// The request's value of the rule's `each`; empty for a rule without.
    pub value: Arc<str>,
    /// The selector matches it.
    pub subject: bool,
    /// It is one that others are to be near to or away from.
    pub peer: bool,
    /// Its value of the rule's `unless_same`.
    pub same: Option<Arc<str>>,
}

impl Spoken {
    pub fn kind(&self) -> &RuleKind {
        &self.rule.spec.kind
    }

    pub fn scope(&self) -> Option<&Scope> {
        self.rule.spec.kind.scope()
    }

    pub fn key(&self) -> GroupKey {
        GroupKey { rule: self.rule.id, value: Arc::clone(&self.value) }
    }

    pub fn counted(&self) -> Counted<'_> {
        Counted { subject: self.subject, peer: self.peer, same: self.same.as_deref() }
    }

    /// What the rule makes of one with these labels, if it speaks of it at all.
    pub fn of(rule: &Arc<Rule>, labels: &Labels) -> Option<Spoken> {
        let spec = &rule.spec;
        let value = match &spec.each {
            Some(name) => Arc::from(labels.get(name)?.as_str()),
            None => Arc::default(),
        };
        let subject = spec.selector.matches(labels);
        let peer = peers_of(&spec.kind).is_some_and(|peers| peers.matches(labels));
        let same = match &spec.kind {
            RuleKind::Apart { unless_same: Some(name), .. } => {
                labels.get(name).map(|value| Arc::from(value.as_str()))
            }
            RuleKind::Apart { unless_same: None, .. }
            | RuleKind::Together { .. }
            | RuleKind::AtMost { .. }
            | RuleKind::Spread { .. }
            | RuleKind::Near { .. }
            | RuleKind::Away { .. }
            | RuleKind::Hosts { .. }
            | RuleKind::Datastores { .. } => None,
        };
        (subject || peer).then(|| Spoken { rule: Arc::clone(rule), value, subject, peer, same })
    }
}

fn peers_of(kind: &RuleKind) -> Option<&Selector> {
    match kind {
        RuleKind::Near { with, .. } => Some(with),
        RuleKind::Away { from, .. } => Some(from),
        RuleKind::Together { .. }
        | RuleKind::Apart { .. }
        | RuleKind::AtMost { .. }
        | RuleKind::Spread { .. }
        | RuleKind::Hosts { .. }
        | RuleKind::Datastores { .. } => None,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct RuleBook {
    pub rules: OrdMap<RuleId, Arc<Rule>>,
    shelves: OrdMap<EndpointId, Shelf>,
}

/// The rules of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shelf {
    by_value: OrdMap<String, OrdMap<String, OrdSet<RuleId>>>,
    by_name: OrdMap<String, OrdSet<RuleId>>,
    rest: OrdSet<RuleId>,
}

/// Where a selector is filed.
enum Filed<'a> {
    Values(&'a str, &'a BTreeSet<String>),
    Name(&'a str),
    Rest,
}

fn filed<'a>(selector: &'a Selector, each: Option<&'a str>) -> Filed<'a> {
    let value = selector.terms.iter().find_map(|term| match term {
        Term::In(name, values) => Some(Filed::Values(name, values)),
        Term::Exists(_) | Term::Absent(_) | Term::NotIn(..) => None,
    });
    let name = || {
        selector.terms.iter().find_map(|term| match term {
            Term::Exists(name) => Some(Filed::Name(name)),
            Term::In(..) | Term::Absent(_) | Term::NotIn(..) => None,
        })
    };
    value.or_else(name).or_else(|| each.map(Filed::Name)).unwrap_or(Filed::Rest)
}

impl RuleBook {
    pub fn put(&mut self, rule: Arc<Rule>) {
        self.take(rule.id);
        let shelf = self.shelves.entry(rule.meta.endpoint).or_default();
        let each = rule.spec.each.as_deref();
        let selectors = [Some(&rule.spec.selector), peers_of(&rule.spec.kind)];
        for selector in selectors.into_iter().flatten() {
            match filed(selector, each) {
                Filed::Values(name, values) => {
                    let by_value = shelf.by_value.entry(name.to_owned()).or_default();
                    for value in values {
                        by_value.entry(value.clone()).or_default().insert(rule.id);
                    }
                }
                Filed::Name(name) => {
                    shelf.by_name.entry(name.to_owned()).or_default().insert(rule.id);
                }
                Filed::Rest => drop(shelf.rest.insert(rule.id)),
            }
        }
        self.rules.insert(rule.id, rule);
    }

    pub fn take(&mut self, id: RuleId) -> Option<Arc<Rule>> {
        let rule = self.rules.remove(&id)?;
        let shelf = self.shelves.get_mut(&rule.meta.endpoint)?;
        let each = rule.spec.each.as_deref();
        let selectors = [Some(&rule.spec.selector), peers_of(&rule.spec.kind)];
        for selector in selectors.into_iter().flatten() {
            match filed(selector, each) {
                Filed::Values(name, values) => {
                    let Some(by_value) = shelf.by_value.get_mut(name) else { continue };
                    for value in values {
                        take_from(by_value, value, id);
                    }
                    if by_value.is_empty() {
                        shelf.by_value.remove(name);
                    }
                }
                Filed::Name(name) => take_from(&mut shelf.by_name, name, id),
                Filed::Rest => drop(shelf.rest.remove(&id)),
            }
        }
        if *shelf == Shelf::default() {
            self.shelves.remove(&rule.meta.endpoint);
        }
        Some(rule)
    }

    /// The rules that speak of a container VM of `endpoint` with these labels.
    pub fn matched(&self, endpoint: EndpointId, labels: &Labels) -> Matched {
        let mut matched = Matched::default();
        if self.rules.is_empty() {
            return matched;
        }
        let mut candidates = Vec::new();
        self.gather(EndpointId::SYSTEM, labels, &mut candidates);
        if endpoint != EndpointId::SYSTEM {
            self.gather(endpoint, labels, &mut candidates);
        }
        candidates.sort_unstable();
        candidates.dedup();
        for rule in candidates.iter().filter_map(|id| self.rules.get(id)) {
            if let Some(spoken) = Spoken::of(rule, labels) {
                match rule.spec.strength {
                    Strength::Required => matched.required.push(spoken),
                    Strength::Preferred { .. } => matched.preferred.push(spoken),
                }
            }
        }
        matched
    }

    fn gather(&self, endpoint: EndpointId, labels: &Labels, candidates: &mut Vec<RuleId>) {
        let Some(shelf) = self.shelves.get(&endpoint) else { return };
        candidates.extend(&shelf.rest);
        if shelf.by_value.is_empty() && shelf.by_name.is_empty() {
            return;
        }
        for (name, value) in labels {
            if let Some(ids) = shelf.by_value.get(name).and_then(|values| values.get(value)) {
                candidates.extend(ids);
            }
            if let Some(ids) = shelf.by_name.get(name) {
                candidates.extend(ids);
            }
        }
    }
}

fn take_from(map: &mut OrdMap<String, OrdSet<RuleId>>, key: &str, id: RuleId) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

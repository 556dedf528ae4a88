//! Rules that do not hold any more: kept at placing, broken since, by a host that moved, a rule
//! that came later, or a place that was taken with a preference against it.
//!
//! Computed on demand, rule by rule, from all that is placed.

use super::{Bucket, Group, Level, Spoken, Where, evaluate};
use crate::fleet::Fleet;
use crate::fleet::reservations::datastores_of;
use berth_model::{
    ContainerId, DatastoreId, EndpointId, HostId, ReservationId, Rule, RuleKind, Scope,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One that takes room on a host or datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placed {
    ContainerVm(ContainerId),
    Reservation(ReservationId),
}

/// One place where a rule does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub rule: Arc<Rule>,
    /// The value of the rule's `each`; empty for a rule without.
    pub value: Arc<str>,
    /// `None` for those that are in no bucket of the rule's scope, and for rules that count
    /// nothing.
    pub bucket: Option<Bucket>,
    /// Who stands there against the rule, ascending.
    pub who: Vec<Placed>,
}

/// One that a rule speaks of, where it stands.
struct Standing {
    who: Placed,
    spoken: Spoken,
    host: Option<HostId>,
    buckets: Vec<Bucket>,
    datastores: Vec<DatastoreId>,
}

impl Fleet {
    /// Everything that stands against a rule, required or preferred, by rule, value and bucket.
    pub fn broken_rules(&self) -> Vec<Broken> {
        self.rules().flat_map(|rule| self.broken(rule)).collect()
    }

    /// The same of one rule.
    pub fn broken(&self, rule: &Arc<Rule>) -> Vec<Broken> {
        let mut groups: BTreeMap<Arc<str>, Vec<Standing>> = BTreeMap::new();
        for standing in self.standing(rule) {
            groups.entry(Arc::clone(&standing.spoken.value)).or_default().push(standing);
        }
        let mut broken = Vec::new();
        for (value, standing) in groups {
            let mut found: BTreeMap<Option<Bucket>, Vec<Placed>> = BTreeMap::new();
            match rule.spec.kind.scope() {
                None => {
                    let against = standing.iter().filter(|one| self.is_misplaced(one));
                    found.entry(None).or_default().extend(against.map(|one| one.who));
                }
                Some(scope) => self.against(scope, &standing, &mut found),
            }
            for (bucket, mut who) in found {
                who.sort_unstable();
                who.dedup();
                if !who.is_empty() {
                    let (rule, value) = (Arc::clone(rule), Arc::clone(&value));
                    broken.push(Broken { rule, value, bucket, who });
                }
            }
        }
        broken
    }

    fn standing(&self, rule: &Arc<Rule>) -> Vec<Standing> {
        let theirs =
            |owner| rule.meta.endpoint == EndpointId::SYSTEM || rule.meta.endpoint == owner;
        let mut all = Vec::new();
        for vm in self.containers().filter(|vm| theirs(vm.endpoint())) {
            let Some(spoken) = Spoken::of(rule, vm.labels()) else { continue };
            let host = vm.state.charged().map(|(host, _)| host);
            let datastores = vm.datastore.into_iter().collect();
            let who = Placed::ContainerVm(vm.id);
            all.extend(self.stands(who, spoken, host, datastores));
        }
        for held in self.reservations().filter(|held| theirs(held.meta.endpoint)) {
            let Some(spoken) = Spoken::of(rule, &held.wish.labels) else { continue };
            let (host, datastores) = (Some(held.place.host), datastores_of(&held.place));
            all.extend(self.stands(Placed::Reservation(held.id), spoken, host, datastores));
        }
        all
    }

    /// `None` for one that takes no place in the rule's scope.
    fn stands(
        &self,
        who: Placed,
        spoken: Spoken,
        host: Option<HostId>,
        datastores: Vec<DatastoreId>,
    ) -> Option<Standing> {
        let buckets = match spoken.scope() {
            None => Vec::new(),
            Some(Scope::Datastore) => datastores.iter().copied().map(Bucket::datastore).collect(),
            Some(scope @ (Scope::Host | Scope::Domain(_) | Scope::Cluster)) => {
                self.bucket(self.host(host?)?, scope).into_iter().collect()
            }
        };
        let stands = host.is_some() || !datastores.is_empty();
        stands.then_some(Standing { who, spoken, host, buckets, datastores })
    }

    fn is_misplaced(&self, one: &Standing) -> bool {
        let on_host = one.host.and_then(|id| self.host(id)).is_some_and(|host| {
            let cluster = self.cluster(host.cluster).map_or("", |c| c.name.as_str());
            evaluate::host_breaks(&one.spoken, host, cluster) > 0
        });
        let stores = one.datastores.iter().filter_map(|id| self.datastore(*id));
        on_host || stores.into_iter().any(|id| evaluate::datastore_breaks(&one.spoken, id) > 0)
    }

    /// A bucket is broken for one that could not be placed there, were it not there yet. `Spread`
    /// and `Together` are not judged one by one: there the fullest buckets, or all but the fullest,
    /// stand against the rule.
    fn against(
        &self,
        scope: &Scope,
        standing: &[Standing],
        found: &mut BTreeMap<Option<Bucket>, Vec<Placed>>,
    ) {
        let mut group = Group::default();
        for one in standing {
            group.enter(one.spoken.counted(), &one.buckets);
        }
        for one in standing {
            if one.buckets.is_empty() && *scope != Scope::Datastore {
                if evaluate::breaks(&one.spoken, None, Where::Nowhere, 0) > 0 {
                    found.entry(None).or_default().push(one.who);
                }
                continue;
            }
            for bucket in &one.buckets {
                if self.is_broken(&group, one, *bucket, scope) {
                    found.entry(Some(*bucket)).or_default().push(one.who);
                }
            }
        }
    }

    fn is_broken(&self, group: &Group, one: &Standing, bucket: Bucket, scope: &Scope) -> bool {
        let subjects = group.subjects_in(bucket);
        match one.spoken.kind() {
            RuleKind::Together { .. } => one.spoken.subject && apart_from_most(group, bucket),
            RuleKind::Spread { max_skew, .. } => {
                let level = self.level(scope);
                let least = level.map_or(0, |level: &Level| evaluate::least(Some(group), level));
                one.spoken.subject && subjects > least.saturating_add(*max_skew)
            }
            RuleKind::AtMost { count, .. } => one.spoken.subject && subjects > *count,
            RuleKind::Apart { .. } | RuleKind::Near { .. } | RuleKind::Away { .. } => {
                let mut without = group.clone();
                without.leave(one.spoken.counted(), &one.buckets);
                let place = Where::In(std::slice::from_ref(&bucket));
                evaluate::breaks(&one.spoken, Some(&without), place, 0) > 0
            }
            RuleKind::Hosts { .. } | RuleKind::Datastores { .. } => false,
        }
    }
}

/// Whether most subjects stand in another bucket; of two as full, the first holds most.
fn apart_from_most(group: &Group, bucket: Bucket) -> bool {
    let fullest = group
        .buckets()
        .filter(|(_, tally)| tally.subjects > 0)
        .max_by_key(|(bucket, tally)| (tally.subjects, std::cmp::Reverse(*bucket)));
    fullest.is_some_and(|(fullest, _)| fullest != bucket)
}

//! The fleet's upkeep of counts, and its answers about them.

use super::levels::{Level, Stand};
use super::{Bucket, Group, GroupKey, Matched, Spoken, Where, evaluate};
use crate::fleet::Fleet;
use crate::fleet::admit::Wish;
use berth_model::{
    ClusterId, Datastore, DatastoreId, EndpointId, Host, HostId, Refusal, Rule, RuleKind, Scope,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Into the counts, or out of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Way {
    In,
    Out,
}

impl Fleet {
    /// The rules that speak of a container VM of `endpoint` with these labels.
    pub fn matched(&self, endpoint: EndpointId, labels: &BTreeMap<String, String>) -> Matched {
        self.rules.matched(endpoint, labels)
    }

    /// The counts of one rule and value of its `each`; `None` while nothing is counted.
    pub fn group(&self, key: &GroupKey) -> Option<&Arc<Group>> {
        self.groups.get(key)
    }

    /// The counts that a rule looks at for one that it speaks of.
    pub fn group_of(&self, spoken: &Spoken) -> Option<&Group> {
        if self.groups.is_empty() {
            None
        } else {
            self.groups.get(&spoken.key()).map(AsRef::as_ref)
        }
    }

    /// Where a host stands in the scopes of rules.
    pub fn stand(&self, host: HostId) -> Option<&Arc<Stand>> {
        self.levels.stands.get(&host)
    }

    /// The buckets of one scope; `None` for a fault domain level that no host names.
    pub fn level(&self, scope: &Scope) -> Option<&Level> {
        self.levels.level(scope)
    }

    /// Every fault domain level that a host names, by name.
    pub fn domain_levels(&self) -> impl Iterator<Item = (&String, &Level)> {
        self.levels.domains()
    }

    pub fn hosts_of(&self, cluster: ClusterId) -> impl Iterator<Item = &Host> {
        self.levels.hosts_of(cluster).filter_map(|id| self.host(id))
    }

    /// The bucket that one placed on `host` counts in. `None` for datastores, which are not the
    /// host's, and where the host has no fault domain of that level.
    pub fn bucket(&self, host: &Host, scope: &Scope) -> Option<Bucket> {
        match scope {
            Scope::Host => Some(Bucket::host(host.id)),
            Scope::Cluster => Some(Bucket::cluster(host.cluster)),
            Scope::Domain(level) => self.stand(host.id)?.domain(level),
            Scope::Datastore => None,
        }
    }

    /// The first required rule that a placement on `host` would break, datastores apart.
    /// `counting: false` asks only those that count nothing: what is placed may be gone tomorrow.
    pub fn rule_against_host(
        &self,
        host: &Host,
        wish: &Wish<'_>,
        counting: bool,
    ) -> Result<(), Refusal> {
        for spoken in &wish.matched.required {
            let kept = match spoken.scope() {
                None => {
                    let cluster = self.cluster(host.cluster).map_or("", |c| c.name.as_str());
                    evaluate::host_breaks(spoken, host, cluster) == 0
                }
                Some(Scope::Datastore) => true,
                Some(_) if !counting => true,
                Some(scope) => {
                    let bucket = self.bucket(host, scope);
                    let place = bucket
                        .as_ref()
                        .map_or(Where::Nowhere, |bucket| Where::In(std::slice::from_ref(bucket)));
                    let group = self.group_of(spoken);
                    let least = || self.least(spoken, group, wish);
                    evaluate::allows(spoken, group, place, least_if_spread(spoken, least))
                }
            };
            if !kept {
                return Err(refusal(&spoken.rule));
            }
        }
        Ok(())
    }

    /// The first required rule that a disk on `datastore` would break on its own. Whether several
    /// disks may lie apart is up to [`Self::disks_together`].
    pub fn rule_against_datastore(
        &self,
        datastore: &Datastore,
        wish: &Wish<'_>,
    ) -> Result<(), Refusal> {
        for spoken in &wish.matched.required {
            let kept = match spoken.scope() {
                None => evaluate::datastore_breaks(spoken, datastore) == 0,
                Some(Scope::Datastore) => {
                    let bucket = [Bucket::datastore(datastore.id)];
                    let group = self.group_of(spoken);
                    let least = || self.least(spoken, group, wish);
                    let least = least_if_spread(spoken, least);
                    evaluate::allows(spoken, group, Where::In(&bucket), least)
                }
                Some(Scope::Host | Scope::Domain(_) | Scope::Cluster) => true,
            };
            if !kept {
                return Err(refusal(&spoken.rule));
            }
        }
        Ok(())
    }

    /// The required rule that wants all disks of a placement on one datastore, whichever: one that
    /// keeps its subjects together on a datastore, and counts none yet.
    pub fn disks_together<'a>(&self, wish: &Wish<'a>) -> Option<&'a Spoken> {
        wish.matched.required.iter().find(|spoken| {
            spoken.subject
                && matches!(spoken.kind(), RuleKind::Together { scope: Scope::Datastore })
                && self.group_of(spoken).is_none_or(|group| group.occupied() == 0)
        })
    }

    /// For a `Spread`: the fewest subjects of any bucket that could take the wish. A bucket could
    /// if one of its hosts is open and is what the request demands: its cluster, host, labels and
    /// networks, and the required rules about hosts. How full it is does not count.
    pub fn least(&self, spoken: &Spoken, group: Option<&Group>, wish: &Wish<'_>) -> u32 {
        let (Some(group), Some(scope)) = (group, spoken.scope()) else { return 0 };
        let Some(level) = self.level(scope) else { return 0 };
        if let Scope::Datastore = scope {
            return self.least_of_datastores(group, wish);
        }
        if !wish.picks_hosts() {
            return evaluate::least(Some(group), level);
        }
        let mut least = None;
        for host in self.hosts_for(wish) {
            let Some(bucket) = self.bucket(host, scope) else { continue };
            let subjects = group.subjects_in(bucket);
            if least.is_none_or(|least| subjects < least) && self.could_take(host, wish) {
                if subjects == 0 {
                    return 0;
                }
                least = Some(subjects);
            }
        }
        least.unwrap_or(0)
    }

    fn least_of_datastores(&self, group: &Group, wish: &Wish<'_>) -> u32 {
        let fewest = |datastore: &Datastore| group.subjects_in(Bucket::datastore(datastore.id));
        let could = |datastore: &&Datastore| {
            self.suits_any_disk(datastore, wish)
                && datastore
                    .hosts
                    .iter()
                    .filter_map(|id| self.host(*id))
                    .any(|host| self.could_take(host, wish))
        };
        self.datastores().filter(could).map(fewest).min().unwrap_or(0)
    }

    /// Whether the host is open and is what the request demands, whatever it holds now.
    pub fn could_take(&self, host: &Host, wish: &Wish<'_>) -> bool {
        self.stand(host.id).is_some_and(|stand| stand.open)
            && wish.is_demanded(host)
            && (!wish.has_host_rules() || self.rule_against_host(host, wish, false).is_ok())
    }

    /// The hosts among which a request picks, as narrow as is cheap to tell.
    pub fn hosts_for<'a>(&'a self, wish: &Wish<'_>) -> Box<dyn Iterator<Item = &'a Host> + 'a> {
        match (wish.demand.host, wish.demand.cluster) {
            (Some(host), _) => Box::new(self.host(host).into_iter()),
            (None, Some(cluster)) => Box::new(self.hosts_of(cluster)),
            (None, None) => Box::new(self.hosts()),
        }
    }

    /// Counts one on a host, or takes it out.
    pub(in super::super) fn count_on_host(&mut self, matched: &Matched, host: HostId, way: Way) {
        if matched.is_empty() {
            return;
        }
        let Some(stand) = self.levels.stands.get(&host).cloned() else { return };
        for spoken in matched.iter() {
            let bucket = match spoken.scope() {
                Some(Scope::Host) => Some(Bucket::host(host)),
                Some(Scope::Cluster) => Some(Bucket::cluster(stand.cluster)),
                Some(Scope::Domain(level)) => stand.domain(level),
                Some(Scope::Datastore) | None => continue,
            };
            self.count(spoken, bucket.as_slice(), way);
        }
    }

    /// Counts one with disks on these datastores, each named once, or takes it out.
    pub(in super::super) fn count_on_datastores(
        &mut self,
        matched: &Matched,
        datastores: &[DatastoreId],
        way: Way,
    ) {
        if datastores.is_empty() {
            return;
        }
        let of_datastores =
            matched.iter().filter(|spoken| spoken.scope() == Some(&Scope::Datastore));
        let mut buckets = Vec::new();
        for spoken in of_datastores {
            if buckets.is_empty() {
                buckets.extend(datastores.iter().copied().map(Bucket::datastore));
            }
            self.count(spoken, &buckets, way);
        }
    }

    fn count(&mut self, spoken: &Spoken, buckets: &[Bucket], way: Way) {
        let key = spoken.key();
        match way {
            Way::In => {
                let group = self.groups.entry(key).or_default();
                Arc::make_mut(group).enter(spoken.counted(), buckets);
            }
            Way::Out => {
                let Some(group) = self.groups.get_mut(&key) else { return };
                let group = Arc::make_mut(group);
                group.leave(spoken.counted(), buckets);
                if group.is_empty() {
                    self.groups.remove(&key);
                }
            }
        }
    }

    /// Counts everything that one rule speaks of from the beginning.
    pub(in super::super) fn recount(&mut self, rule: &Arc<Rule>) {
        self.forget_counts(rule.id);
        if rule.spec.kind.scope().is_some() {
            self.count_all(|_, labels, owner| {
                let theirs =
                    rule.meta.endpoint == EndpointId::SYSTEM || rule.meta.endpoint == owner;
                let spoken = if theirs { Spoken::of(rule, labels) } else { None };
                Matched { required: spoken.into_iter().collect(), preferred: Vec::new() }
            });
        }
    }

    pub(in super::super) fn forget_counts(&mut self, rule: berth_model::RuleId) {
        let first = GroupKey { rule, value: Arc::default() };
        let keys: Vec<GroupKey> = self
            .groups
            .range(first..)
            .map(|(key, _)| key.clone())
            .take_while(|key| key.rule == rule)
            .collect();
        for key in keys {
            self.groups.remove(&key);
        }
    }

    /// Counts all that is placed, by all rules; there are no counts before.
    pub(in super::super) fn recount_all(&mut self) {
        self.groups = imbl::OrdMap::new();
        if self.rules.rules.is_empty() {
            return;
        }
        self.count_all(|fleet, labels, owner| fleet.matched(owner, labels));
    }

    fn count_all(
        &mut self,
        matched: impl Fn(&Fleet, &BTreeMap<String, String>, EndpointId) -> Matched,
    ) {
        let containers = self.containers.clone();
        for vm in containers.values() {
            let matched = matched(self, vm.labels(), vm.endpoint());
            if let Some((host, _)) = vm.state.charged() {
                self.count_on_host(&matched, host, Way::In);
            }
            self.count_on_datastores(&matched, vm.datastore.as_slice(), Way::In);
        }
        let reservations = self.reservations.clone();
        for reservation in reservations.values() {
            let (labels, owner) = (&reservation.wish.labels, reservation.meta.endpoint);
            let matched = matched(self, labels, owner);
            self.count_on_host(&matched, reservation.place.host, Way::In);
            let datastores = super::super::reservations::datastores_of(&reservation.place);
            self.count_on_datastores(&matched, &datastores, Way::In);
        }
    }

    /// Takes over where a host stands now. Counts of what is placed there move with it.
    pub(in super::super) fn restand(&mut self, id: HostId) {
        let Some(host) = self.host(id) else { return };
        let stand = Stand::of(host, self.is_kept(host));
        let before = self.levels.stands.get(&id).cloned();
        if before.as_deref() == Some(&stand) {
            return;
        }
        let moves = before.is_some_and(|before| !before.same_buckets(&stand));
        let placed = if moves { self.matched_on(id) } else { Vec::new() };
        for matched in &placed {
            self.count_on_host(matched, id, Way::Out);
        }
        self.levels.put(id, stand);
        for matched in &placed {
            self.count_on_host(matched, id, Way::In);
        }
        self.topology_changed();
    }

    fn matched_on(&self, host: HostId) -> Vec<Matched> {
        if self.rules.rules.is_empty() {
            return Vec::new();
        }
        let (vms, reservations) = self.placed_on(host);
        let of_vms = vms.map(|vm| self.matched(vm.endpoint(), vm.labels()));
        let of_reservations =
            reservations.map(|held| self.matched(held.meta.endpoint, &held.wish.labels));
        of_vms.chain(of_reservations).collect()
    }
}

fn refusal(rule: &Rule) -> Refusal {
    Refusal::RuleBroken {
        rule: rule.id,
        name: rule.name.clone(),
        kind: rule.spec.kind.name().to_owned(),
    }
}

fn least_if_spread(spoken: &Spoken, least: impl FnOnce() -> u32) -> u32 {
    match spoken.kind() {
        RuleKind::Spread { .. } => least(),
        RuleKind::Together { .. }
        | RuleKind::Apart { .. }
        | RuleKind::AtMost { .. }
        | RuleKind::Near { .. }
        | RuleKind::Away { .. }
        | RuleKind::Hosts { .. }
        | RuleKind::Datastores { .. } => 0,
    }
}

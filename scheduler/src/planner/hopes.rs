//! Which changes of the fleet could let in what was refused, and when the last of each kind was.
//!
//! A refusal names the filter that refused each host first. Unless something of the kind that this
//! filter looks at changes for the better, the same request is refused again, so it is not asked
//! again. Promises: never misses a change that could help; may hope in vain. Does not: look at
//! requests.

use crate::fleet::Fleet;
use berth_model::{EndpointId, Explanation, Filter, Host};
use std::collections::BTreeMap;

/// A set of kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    /// A host has more room, or came back.
    const HOSTS: Kinds = Kinds(1);
    /// A datastore has more room.
    const DATASTORES: Kinds = Kinds(1 << 1);
    /// A rule counts others in some bucket.
    const GROUPS: Kinds = Kinds(1 << 2);
    /// The endpoint holds less, or may hold more.
    const QUOTA: Kinds = Kinds(1 << 3);
    /// Hosts, labels, domains, policies, rules or images.
    const TOPOLOGY: Kinds = Kinds(1 << 4);
    pub const ALL: Kinds = Kinds(0b1_1111);

    const EACH: [Kinds; 5] =
        [Kinds::HOSTS, Kinds::DATASTORES, Kinds::GROUPS, Kinds::QUOTA, Kinds::TOPOLOGY];

    const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    const fn has(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// What could end a refusal by one filter.
    const fn against(filter: Filter) -> Kinds {
        let kinds = match filter {
            Filter::Availability | Filter::Capacity => Kinds::HOSTS,
            Filter::Rules => Kinds::GROUPS,
            Filter::Datastores => Kinds::DATASTORES,
            Filter::Networks => Kinds::TOPOLOGY,
            Filter::Quota => Kinds::QUOTA,
            Filter::Admission => Kinds::HOSTS.and(Kinds::GROUPS),
        };
        kinds.and(Kinds::TOPOLOGY)
    }

    /// What could end this refusal. One that names no filter may be ended by anything.
    pub fn that_help(explanation: &Explanation) -> Kinds {
        if explanation.refused.is_empty() {
            return Kinds::ALL;
        }
        let filters = explanation.refused.keys();
        filters.fold(Kinds(0), |kinds, filter| kinds.and(Kinds::against(*filter)))
    }
}

/// When the last change of each kind was seen, counted in looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Hopes {
    looks: u64,
    last: [u64; Kinds::EACH.len()],
    quotas: BTreeMap<EndpointId, u64>,
}

impl Hopes {
    /// How many looks there were: the `at` of a refusal.
    pub fn now(&self) -> u64 {
        self.looks
    }

    /// Takes note of what lies between two states.
    pub fn note(&mut self, older: &Fleet, newer: &Fleet) {
        self.looks += 1;
        let diff = newer.diff(older);
        if diff.topology || newer.has_other_images(older) {
            self.mark(Kinds::TOPOLOGY);
        }
        let better = |id| match (older.host(id), newer.host(id)) {
            (Some(before), Some(after)) => has_more_room(before, after),
            (None, _) | (_, None) => true,
        };
        if diff.hosts.iter().copied().any(better) {
            self.mark(Kinds::HOSTS);
        }
        let freer = |id| match (older.datastore(id), newer.datastore(id)) {
            (Some(before), Some(after)) => {
                after.charged < before.charged || after.capacity > before.capacity
            }
            (None, _) | (_, None) => true,
        };
        if diff.datastores.iter().copied().any(freer) {
            self.mark(Kinds::DATASTORES);
        }
        if !diff.groups.is_empty() {
            self.mark(Kinds::GROUPS);
        }
        for endpoint in diff.endpoints {
            self.quotas.insert(endpoint, self.looks);
        }
    }

    /// Something that was decided here came to nothing: what it took is free again.
    pub fn note_dropped(&mut self) {
        self.looks += 1;
        self.mark(Kinds::ALL);
    }

    /// Whether a request of `endpoint` that was refused at `since` could fit now.
    pub fn any(&self, endpoint: EndpointId, kinds: Kinds, since: u64) -> bool {
        let seen = |kind: &Kinds, last: u64| kinds.has(*kind) && last > since;
        Kinds::EACH.iter().zip(self.last).any(|(kind, last)| seen(kind, last))
            || kinds.has(Kinds::QUOTA) && self.quotas.get(&endpoint).is_some_and(|at| *at > since)
    }

    fn mark(&mut self, kinds: Kinds) {
        for (kind, last) in Kinds::EACH.iter().zip(&mut self.last) {
            if kinds.has(*kind) {
                *last = self.looks;
            }
        }
    }
}

/// More of anything is free, or it takes container VMs again.
fn has_more_room(before: &Host, after: &Host) -> bool {
    after.charged.cpu < before.charged.cpu
        || after.charged.memory < before.charged.memory
        || after.placed < before.placed
        || after.held.reserved < before.held.reserved
        || after.facts != before.facts
        || after.state != before.state
        || after.maintenance != before.maintenance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::testing::*;

    /// Hopes of one look, for refusals before it.
    fn noted(before: &Fleet, after: &Fleet) -> Hopes {
        let mut hopes = Hopes::default();
        hopes.note(before, after);
        hopes
    }

    fn refused_by(filter: Filter) -> Kinds {
        let mut explanation = Explanation::default();
        explanation.refused.insert(filter, 1);
        Kinds::that_help(&explanation)
    }

    #[test]
    fn an_exit_gives_hope_to_those_without_room_and_not_to_those_over_quota_elsewhere() {
        let mut cell = Cell::shared(1);
        let epoch = cell.run(1, 1);
        let before = cell.fleet.clone();
        cell.exited(1, 1, epoch, 0);
        let hopes = noted(&before, &cell.fleet);
        let hope = |filter| hopes.any(OTHER_ENDPOINT, refused_by(filter), 0);
        assert!(hope(Filter::Capacity));
        assert!(!hope(Filter::Quota));
        assert!(!hope(Filter::Networks));
        assert!(hopes.any(ENDPOINT, refused_by(Filter::Quota), 0));
    }

    #[test]
    fn what_only_takes_room_gives_no_hope() {
        let mut cell = Cell::shared(1);
        let before = cell.fleet.clone();
        cell.run(1, 1);
        let hopes = noted(&before, &cell.fleet);
        assert!(!hopes.any(OTHER_ENDPOINT, refused_by(Filter::Capacity), 0));
    }

    #[test]
    fn a_new_host_gives_hope_to_all() {
        let mut cell = Cell::shared(1);
        let before = cell.fleet.clone();
        cell.host(2, facts(2, "main", &[100]));
        let hopes = noted(&before, &cell.fleet);
        for filter in Filter::ALL {
            assert!(hopes.any(ENDPOINT, refused_by(filter), 0), "{filter:?}");
        }
    }
}

//! Which datastores of a chosen host the disks of a request go to.
//!
//! One after the other, the delta first, each on the best by score on which all that follow still
//! find room. Promises: an answer wherever the filters admit the host. Does not: weigh hosts.

use super::score::PENALTY_MAX;
use super::{Ask, DatastoreScore, Delta, Wish};
use crate::fleet::Fleet;
use crate::fleet::admit::Disks;
use crate::fleet::rules::{Bucket, Matched, Where, breaks, cost, datastore_breaks};
use berth_model::{Bytes, Datastore, DatastoreId, Host, RuleKind, Scope};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Where the disks go, and what preferred rules say against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// For the delta, made or placed already; `None` for a request without one.
    pub delta: Option<DatastoreId>,
    pub disks: Vec<DatastoreId>,
    pub penalty: u32,
}

/// `None` if they find no room.
pub fn choose(fleet: &Fleet, host: &Host, ask: &Ask<'_>, matched: &Matched) -> Option<Chosen> {
    let wish = ask.wish(matched);
    let mut choice = Choice { fleet, host, wish, taken: BTreeMap::new(), penalty: 0 };
    let delta = match ask.delta {
        Delta::Placed(id) => Some(id),
        Delta::Anywhere if ask.demand.disk == Bytes::ZERO => None,
        Delta::Anywhere | Delta::New(_) => Some(choice.best(ask.demand.disk, |id| {
            let only = match ask.delta {
                Delta::New(only) => only == id,
                Delta::Anywhere | Delta::Placed(_) => true,
            };
            only && fleet.choose_disks(host, &Wish { delta: Delta::New(id), ..wish }).is_ok()
        })?),
    };
    let wish = Wish { delta: delta.map_or(ask.delta, |id| fixed_delta(ask.delta, id)), ..wish };
    let mut disks = Vec::with_capacity(ask.demand.disks.len());
    for disk in &ask.demand.disks {
        let id = choice.best(disk.size, |id| {
            let mut prefix = disks.clone();
            prefix.push(id);
            fleet.choose_disks(host, &Wish { disks: Disks::At(&prefix), ..wish }).is_ok()
        })?;
        disks.push(id);
    }
    Some(Chosen { delta, disks, penalty: choice.penalty.min(PENALTY_MAX) })
}

/// One that lies somewhere stays; one that is to be made is made there.
fn fixed_delta(delta: Delta, id: DatastoreId) -> Delta {
    match delta {
        Delta::Placed(_) => delta,
        Delta::Anywhere | Delta::New(_) => Delta::New(id),
    }
}

struct Choice<'a> {
    fleet: &'a Fleet,
    host: &'a Host,
    wish: Wish<'a>,
    /// By the disks before.
    taken: BTreeMap<DatastoreId, Bytes>,
    penalty: u32,
}

impl Choice<'_> {
    /// The best datastore that `fits`, counted as taken.
    fn best(&mut self, size: Bytes, fits: impl Fn(DatastoreId) -> bool) -> Option<DatastoreId> {
        let reached = self.host.facts.datastores.keys().filter_map(|id| self.fleet.datastore(*id));
        let mut scores: Vec<DatastoreScore> =
            reached.map(|store| self.score(store, size)).collect();
        scores.sort_unstable();
        let best = scores.into_iter().find(|score| fits(score.datastore))?;
        *self.taken.entry(best.datastore).or_default() += size;
        self.penalty = self.penalty.saturating_add(best.rule_penalty);
        Some(best.datastore)
    }

    fn score(&self, store: &Datastore, size: Bytes) -> DatastoreScore {
        let taken = self.taken.get(&store.id).copied().unwrap_or_default();
        let charged = store.charged + taken + size;
        DatastoreScore {
            rule_penalty: penalty(self.fleet, store, &self.wish),
            crowded: false,
            hosts: Reverse(u32::try_from(store.hosts.len()).unwrap_or(u32::MAX)),
            load: DatastoreScore::load(charged.0, self.fleet.limit_of_datastore(store).0),
            datastore: store.id,
        }
    }
}

/// What preferred rules say against a new disk on the datastore.
pub fn penalty(fleet: &Fleet, store: &Datastore, wish: &Wish<'_>) -> u32 {
    let costs = wish.matched.preferred.iter().map(|spoken| match spoken.scope() {
        None => cost(spoken, datastore_breaks(spoken, store)),
        Some(Scope::Datastore) => {
            let group = fleet.group_of(spoken);
            let least = match spoken.kind() {
                RuleKind::Spread { .. } => fleet.least(spoken, group, wish),
                RuleKind::Together { .. }
                | RuleKind::Apart { .. }
                | RuleKind::AtMost { .. }
                | RuleKind::Near { .. }
                | RuleKind::Away { .. }
                | RuleKind::Hosts { .. }
                | RuleKind::Datastores { .. } => 0,
            };
            let bucket = [Bucket::datastore(store.id)];
            cost(spoken, breaks(spoken, group, Where::In(&bucket), least))
        }
        Some(Scope::Host | Scope::Domain(_) | Scope::Cluster) => 0,
    });
    costs.fold(0, u32::saturating_add).min(PENALTY_MAX)
}

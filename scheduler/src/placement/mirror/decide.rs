//! The decisions.

use super::Mirror;
use super::checks::{Checks, Done, Last, Rule};
use super::dense::Dense;
use super::numa;
use super::shape::{Shape, TAKES};
use super::tree::{REFUSED, Test};
use crate::fleet::Fleet;
use crate::fleet::rules::{Bucket, Matched, Spoken, least};
use crate::placement::keeping::Keeping;
use crate::placement::score::{DatastoreScore, worse};
use crate::placement::{Ask, Delta, Load, datastore, scan};
use berth_model::host::NumaNodes;
use berth_model::reservation::Place;
use berth_model::{Bytes, DatastoreId, RuleKind, Scope};
use std::cmp::Reverse;

/// Fewer hosts than this are asked one by one: no class is made for what only they could take.
const FEW: usize = 32;

impl Mirror {
    /// Host, NUMA nodes and datastores in one decision.
    pub fn decide(&mut self, ask: &Ask<'_>) -> Option<Place> {
        self.refresh();
        if self.takes_over(ask.instead_of) {
            return scan::decide(&self.foreseen(), &self.guides, ask);
        }
        let matched = self.matched(ask);
        let (leaf, class) = self.best(ask, &matched)?;
        self.place(ask, &matched, leaf, class)
    }

    /// The datastore for the delta of one that is to be created.
    pub fn decide_datastore(&mut self, ask: &Ask<'_>) -> Option<DatastoreId> {
        self.refresh();
        let ask = &Ask { load: Load::Ever, ..*ask };
        let matched = self.matched(ask);
        let plain = !self.takes_over(ask.instead_of)
            && matches!(ask.delta, Delta::Anywhere)
            && ask.demand.host.is_none()
            && ask.demand.cluster.is_none()
            && ask.demand.disks.is_empty()
            && !matched.iter().any(|spoken| spoken.scope() == Some(&Scope::Datastore));
        if !plain {
            return scan::decide_datastore(&self.foreseen(), ask);
        }
        let class = self.classes.of(ask, &matched, true);
        let class = self.classes.get_mut(class);
        class.refresh(&self.fleet, &self.dense, &self.hosts, &self.stores);
        class.keep_stores(&self.dense);
        let store = class.store_keys.as_ref()?.least()?;
        Some(self.dense.stores[store].id)
    }

    /// The best host, and the class that it was found by.
    fn best(&mut self, ask: &Ask<'_>, matched: &Matched) -> Option<(usize, Option<usize>)> {
        let few = self.few(ask);
        let class = if few.is_some() { None } else { Some(self.classes.of(ask, matched, false)) };
        if let Some(class) = class {
            let class = self.classes.get_mut(class);
            class.refresh(&self.fleet, &self.dense, &self.hosts, &self.stores);
        }
        if ask.load == Load::Now {
            for spoken in matched.iter() {
                self.views.ensure(spoken, &self.fleet, &self.dense.layout, &self.tickets);
            }
        }
        let keeps = ask.load == Load::Now && !self.keeping.is_empty();
        let sorts = Shape::sorts(ask, matched);
        if !keeps && !sorts {
            return self.search(ask, matched, few, class, Done);
        }
        let foreseen = self.foreseen();
        let mut keeping = std::mem::take(&mut self.keeping);
        let last = Lasts {
            foreseen: &foreseen,
            dense: &self.dense,
            ask,
            matched,
            sorts,
            keeping: keeps.then_some(&mut keeping),
        };
        let found = self.search(ask, matched, few, class, last);
        self.keeping = keeping;
        found
    }

    fn search<L: Last>(
        &self,
        ask: &Ask<'_>,
        matched: &Matched,
        few: Option<Vec<usize>>,
        class: Option<usize>,
        last: L,
    ) -> Option<(usize, Option<usize>)> {
        let clusters = self.gates(ask)?;
        let found = match (few, class) {
            (Some(leaves), _) => {
                let shape = Shape::of(ask, matched, false);
                let demands = |leaf| shape.demands(&self.fleet, &self.dense, leaf);
                let rules = self.rules(ask, matched, &demands);
                let mut checks = Checks { dense: &self.dense, rules, clusters, last };
                self.search_few(ask, &shape, leaves, &mut checks)
            }
            (None, Some(class)) => {
                let class = self.classes.get(class);
                let rules = self.rules(ask, matched, &|leaf| class.demanded[leaf]);
                let mut checks = Checks { dense: &self.dense, rules, clusters, last };
                if checks.none() {
                    class.tree.least()
                } else {
                    let ranges = checks.narrowest();
                    let ranges = ranges.unwrap_or_else(|| vec![self.range(ask)]);
                    let found =
                        ranges.into_iter().map(|range| class.tree.search(range, &mut checks));
                    found.flatten().min()
                }
            }
            (None, None) => None,
        };
        found.map(|(_, leaf)| (leaf, class))
    }

    fn search_few<L: Last>(
        &self,
        ask: &Ask<'_>,
        shape: &Shape,
        leaves: Vec<usize>,
        checks: &mut Checks<'_, L>,
    ) -> Option<(u64, usize)> {
        let (fleet, dense) = (&*self.fleet, &self.dense);
        let wanted = |leaf: usize| {
            ask.demand.host.is_none_or(|host| dense.layout.hosts[leaf] == Some(host))
                && shape.demands(fleet, dense, leaf)
        };
        let mut best = None;
        for leaf in leaves.into_iter().filter(|leaf| wanted(*leaf)) {
            let mask = |store| shape.mask(fleet, dense, store);
            let store_penalty = |store| shape.store_penalty(fleet, dense, store);
            let host_penalty = shape.host_penalty(fleet, dense, leaf);
            let key = shape.key(dense, leaf, mask, store_penalty, host_penalty);
            if key == REFUSED {
                continue;
            }
            let Some(added) = checks.leaf(leaf) else { continue };
            let found = (worse(key, added), leaf);
            if best.is_none_or(|best| found < best) {
                best = Some(found);
            }
        }
        best
    }

    /// The leaves that come into question, where pins leave few.
    fn few(&self, ask: &Ask<'_>) -> Option<Vec<usize>> {
        if let Some(host) = ask.demand.host {
            return Some(self.dense.layout.leaf(host).into_iter().collect());
        }
        let store = match ask.delta {
            Delta::New(id) | Delta::Placed(id) => self.dense.layout.store(id),
            Delta::Anywhere => return None,
        };
        let Some(store) = store else { return Some(Vec::new()) };
        let leaves = &self.dense.stores[store].leaves;
        (leaves.len() <= FEW).then(|| leaves.iter().map(|leaf| *leaf as usize).collect())
    }

    fn range(&self, ask: &Ask<'_>) -> std::ops::Range<usize> {
        match ask.demand.cluster {
            Some(cluster) => self.dense.layout.cluster_range(cluster),
            None => 0..self.dense.rows.len(),
        }
    }

    /// The rules that count, ready to be asked of hosts.
    fn rules<'a>(
        &'a self,
        ask: &Ask<'_>,
        matched: &'a Matched,
        demanded: &dyn Fn(usize) -> bool,
    ) -> Vec<Rule<'a>> {
        if ask.load == Load::Ever || matched.is_empty() {
            return Vec::new();
        }
        let on_hosts = matched.iter().filter(|spoken| match spoken.scope() {
            Some(Scope::Host | Scope::Domain(_) | Scope::Cluster) => true,
            Some(Scope::Datastore) | None => false,
        });
        on_hosts
            .filter_map(|spoken| {
                let least = self.least(ask, matched, spoken, demanded);
                let view = self.views.get(&spoken.key())?;
                Some(Rule::of(spoken, view, &self.dense, least))
            })
            .collect()
    }

    /// For a `Spread`: the fewest subjects of any bucket that could take the request, as
    /// `Fleet::least` says with every ticket applied.
    fn least(
        &self,
        ask: &Ask<'_>,
        matched: &Matched,
        spoken: &Spoken,
        demanded: &dyn Fn(usize) -> bool,
    ) -> u32 {
        let (RuleKind::Spread { scope, .. }, true) = (spoken.kind(), spoken.subject) else {
            return 0;
        };
        let Some(view) = self.views.get(&spoken.key()) else { return 0 };
        if view.group.is_empty() {
            return 0;
        }
        if !ask.wish(matched).picks_hosts() {
            return self.fleet.level(scope).map_or(0, |level| least(Some(&view.group), level));
        }
        let (dense, demand) = (&self.dense, ask.demand);
        let cluster = demand.cluster.map(|id| dense.layout.clusters.number(Bucket::cluster(id)));
        let could = |leaf: usize| {
            let row = &dense.rows[leaf];
            row.open
                && cluster.is_none_or(|number| number == Some(row.cluster as usize))
                && demand.host.is_none_or(|host| dense.layout.hosts[leaf] == Some(host))
                && demanded(leaf)
        };
        let fewest = match dense.layout.axis(scope) {
            Some(axis) => {
                let mut fewest: Option<u32> = None;
                for (number, hull) in axis.hulls.iter().enumerate() {
                    let subjects = view.subjects[number];
                    let fewer = fewest.is_none_or(|fewest| subjects < fewest);
                    let here = |leaf: usize| axis.of_leaf[leaf] as usize == number && could(leaf);
                    if fewer && hull.clone().any(here) {
                        fewest = Some(subjects);
                    }
                }
                fewest
            }
            None if matches!(scope, Scope::Host) => {
                let hosts = self.dense.layout.taken().filter(|(leaf, _)| could(*leaf));
                let counts = hosts.map(|(_, id)| view.group.subjects_in(Bucket::host(id)));
                least_of(counts)
            }
            None => None,
        };
        fewest.unwrap_or(0)
    }

    /// The whole answer, once the host is chosen.
    fn place(
        &mut self,
        ask: &Ask<'_>,
        matched: &Matched,
        leaf: usize,
        class: Option<usize>,
    ) -> Option<Place> {
        let host = self.dense.layout.hosts[leaf]?;
        self.latest = (host, leaf);
        let numa = self.nodes(ask, leaf)?;
        if Shape::sorts(ask, matched) {
            let foreseen = self.foreseen();
            let chosen = datastore::choose(&foreseen, foreseen.host(host)?, ask, matched)?;
            return Some(Place { host, numa, delta: chosen.delta, disks: chosen.disks });
        }
        let made = match class {
            Some(class) => {
                let class = self.classes.get(class);
                let mask = |store| class.masks[store];
                self.store_on(&class.shape, leaf, mask, |store| class.store_penalty(store))
            }
            None => {
                let shape = Shape::of(ask, matched, false);
                let mask = |store| shape.mask(&self.fleet, &self.dense, store);
                let penalty = |store| shape.store_penalty(&self.fleet, &self.dense, store);
                self.store_on(&shape, leaf, mask, penalty)
            }
        };
        let (delta, disks) = match (ask.delta, made, ask.demand.disks.is_empty()) {
            (Delta::Placed(id), None, _) => (Some(id), Vec::new()),
            (Delta::Placed(id), Some(disk), _) => (Some(id), vec![disk]),
            (Delta::Anywhere | Delta::New(_), Some(delta), true) => (Some(delta), Vec::new()),
            (Delta::Anywhere | Delta::New(_), Some(disk), false) => (None, vec![disk]),
            (Delta::Anywhere | Delta::New(_), None, _) => (None, Vec::new()),
        };
        Some(Place { host, numa, delta, disks })
    }

    fn nodes(&self, ask: &Ask<'_>, leaf: usize) -> Option<NumaNodes> {
        let (Some(width), Load::Now) = (ask.demand.numa, ask.load) else {
            return Some(NumaNodes::NONE);
        };
        let charge = ask.demand.charge(self.dense.rows[leaf].overhead);
        numa::choose(self.dense.cold[leaf].as_ref()?, charge, width)
    }

    /// The best of the host's datastores for the one disk that is to be made.
    fn store_on(
        &self,
        shape: &Shape,
        leaf: usize,
        mask: impl Fn(usize) -> u8,
        penalty: impl Fn(usize) -> u32,
    ) -> Option<DatastoreId> {
        let size = shape.one_disk()?.size;
        let only = self.dense.rows[leaf].only_store;
        if let Some(store) = self.dense.stores.get(only as usize) {
            return (mask(only as usize) & TAKES != 0).then_some(store.id);
        }
        let reached = &self.dense.cold[leaf].as_ref()?.stores;
        let takers =
            reached.iter().map(|store| *store as usize).filter(|store| mask(*store) & TAKES != 0);
        let scores = takers.map(|number| {
            let store = &self.dense.stores[number];
            DatastoreScore {
                rule_penalty: penalty(number),
                crowded: false,
                hosts: Reverse(store.leaves.len() as u32),
                load: DatastoreScore::load((store.charged + size).0, store.limit.0),
                datastore: store.id,
            }
        });
        scores.min().map(|score| score.datastore)
    }
}

/// The least of the counts; looks no further than a zero.
fn least_of(counts: impl Iterator<Item = u32>) -> Option<u32> {
    let mut least: Option<u32> = None;
    for count in counts {
        least = Some(least.map_or(count, |least| least.min(count)));
        if count == 0 {
            break;
        }
    }
    least
}

/// Datastores have to be sorted out, or restart plans asked.
struct Lasts<'a> {
    foreseen: &'a Fleet,
    dense: &'a Dense,
    ask: &'a Ask<'a>,
    matched: &'a Matched,
    sorts: bool,
    keeping: Option<&'a mut Keeping>,
}

impl Last for Lasts<'_> {
    fn ask(&mut self, leaf: usize) -> Option<u32> {
        let mut penalty = 0;
        if self.sorts {
            let host = self.foreseen.host(self.dense.layout.hosts[leaf]?)?;
            penalty = datastore::choose(self.foreseen, host, self.ask, self.matched)?.penalty;
        }
        if let Some(keeping) = &mut self.keeping {
            let host = self.foreseen.host(self.dense.layout.hosts[leaf]?)?;
            let (delta, disks) = lie(self.foreseen, self.dense, self.ask, self.matched, leaf)?;
            let newcomer = self.ask.newcomer(host.facts.vm_overhead, delta, &disks);
            keeping.admit(self.foreseen, host, &newcomer).ok()?;
        }
        Some(penalty)
    }
}

/// Where its disks would lie, on this host: the delta, and the others.
fn lie(
    foreseen: &Fleet,
    dense: &Dense,
    ask: &Ask<'_>,
    matched: &Matched,
    leaf: usize,
) -> Option<(Option<DatastoreId>, Vec<DatastoreId>)> {
    let only = dense.stores.get(dense.rows[leaf].only_store as usize);
    if ask.demand.disks.is_empty() {
        match (ask.delta, only) {
            (Delta::Placed(id) | Delta::New(id), _) => return Some((Some(id), Vec::new())),
            (Delta::Anywhere, _) if ask.demand.disk == Bytes::ZERO => {
                return Some((None, Vec::new()));
            }
            (Delta::Anywhere, Some(only)) => return Some((Some(only.id), Vec::new())),
            (Delta::Anywhere, None) => {}
        }
    }
    let host = foreseen.host(dense.layout.hosts[leaf]?)?;
    let chosen = datastore::choose(foreseen, host, ask, matched)?;
    Some((chosen.delta, chosen.disks))
}

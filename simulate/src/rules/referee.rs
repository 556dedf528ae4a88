//! An independent judge of placements: rules in plain words over plain maps.
//!
//! Promises: it shares no code with the engine; it sees each place as it is held and each one that
//! ends, in their order, and judges every place by what stood when it was made. Does not: judge
//! what is broken afterwards by someone's leaving.

use super::kinds::{ANCHOR, AT_MOST, GROUP, Kind, MAX_SKEW, QUICK, ROLE, TIER};
use crate::engine::Held;
use crate::made_up::{FAST, FLASH, RACK};
use crate::watch::Watch;
use berth_model::{DatastoreId, HostId, PlacementWish, ReservationId};
use berth_scheduler::Fleet;
use std::collections::{BTreeMap, BTreeSet};

/// What the judge knows of a host.
#[derive(Clone, Debug)]
struct Site {
    rack: String,
    flash: bool,
}

/// Of one group, what is placed.
#[derive(Clone, Debug, Default)]
struct Present {
    hosts: BTreeMap<HostId, u32>,
    racks: BTreeMap<String, u32>,
    anchor_hosts: BTreeMap<HostId, u32>,
    anchor_racks: BTreeMap<String, u32>,
}

#[derive(Debug)]
pub struct Referee {
    kind: Kind,
    sites: BTreeMap<HostId, Site>,
    /// Racks that there are.
    racks: usize,
    fast: BTreeSet<DatastoreId>,
    groups: BTreeMap<String, Present>,
    placed: BTreeMap<ReservationId, (String, HostId, bool)>,
    pub violations: Vec<String>,
    /// Pairs of a group on one host that the preferred rule would rather not have.
    pub unwanted: u64,
}

impl Referee {
    pub fn new(kind: Kind, fleet: &Fleet) -> Referee {
        let sites: BTreeMap<HostId, Site> = fleet
            .hosts()
            .map(|host| {
                let level = |(level, _): &&(String, String)| level == RACK;
                let rack = host.facts.supply.domain.iter().find(level);
                let rack = rack.map(|(_, name)| name.clone()).unwrap_or_default();
                let flash = host.facts.labels.get(FLASH).is_some_and(|value| value == "yes");
                (host.id, Site { rack, flash })
            })
            .collect();
        let racks: BTreeSet<&String> = sites.values().map(|site| &site.rack).collect();
        let racks = racks.len();
        let fast = fleet.datastores().filter(|store| store.class == FAST).map(|store| store.id);
        Referee {
            kind,
            racks,
            fast: fast.collect(),
            sites,
            groups: BTreeMap::new(),
            placed: BTreeMap::new(),
            violations: Vec::new(),
            unwanted: 0,
        }
    }

    /// What is wrong with one more of this group on this host.
    fn judge(
        &self,
        wish: &PlacementWish,
        present: &Present,
        site: &Site,
        held: &Held,
    ) -> Option<String> {
        let host = held.place.host;
        let here = present.hosts.get(&host).copied().unwrap_or(0);
        let in_rack = present.racks.get(&site.rack).copied().unwrap_or(0);
        let is = |label: &str, value: &str| wish.labels.get(label).is_some_and(|is| is == value);
        let anchor = is(ROLE, ANCHOR);
        let wrong = match self.kind {
            Kind::Plain | Kind::PreferredApart => false,
            Kind::Apart => here > 0,
            Kind::Together => in_rack == 0 && !present.racks.is_empty(),
            Kind::Spread => {
                let some_rack_is_empty = present.racks.len() < self.racks;
                let least = if some_rack_is_empty { 0 } else { least(&present.racks) };
                in_rack + 1 > least + MAX_SKEW
            }
            Kind::Near => !anchor && !present.anchor_racks.contains_key(&site.rack),
            Kind::Away if anchor => here > 0,
            Kind::Away => present.anchor_hosts.contains_key(&host),
            Kind::AtMost => here >= AT_MOST,
            Kind::Hosts => is(TIER, QUICK) && !site.flash,
            Kind::Datastores => {
                let mut disks = held.place.delta.iter().chain(&held.place.disks);
                is(TIER, QUICK) && !disks.all(|disk| self.fast.contains(disk))
            }
        };
        wrong.then(|| format!("{} on {host} beside {here} and {in_rack} in its rack", held.id))
    }
}

impl Watch for Referee {
    fn held(&mut self, wish: &PlacementWish, held: &Held) {
        let group = wish.labels.get(GROUP).cloned().unwrap_or_default();
        let host = held.place.host;
        let Some(site) = self.sites.get(&host).cloned() else {
            self.violations.push(format!("{host} does not exist"));
            return;
        };
        let present = self.groups.get(&group).cloned().unwrap_or_default();
        let wrong = self.judge(wish, &present, &site, held);
        self.violations.extend(wrong);
        let anchor = wish.labels.get(ROLE).is_some_and(|role| role == ANCHOR);
        let present = self.groups.entry(group.clone()).or_default();
        let here = present.hosts.entry(host).or_default();
        if self.kind == Kind::PreferredApart {
            self.unwanted += u64::from(*here);
        }
        *here += 1;
        *present.racks.entry(site.rack.clone()).or_default() += 1;
        if anchor {
            *present.anchor_hosts.entry(host).or_default() += 1;
            *present.anchor_racks.entry(site.rack).or_default() += 1;
        }
        self.placed.insert(held.id, (group, host, anchor));
    }

    fn ended(&mut self, id: ReservationId) {
        let Some((group, host, anchor)) = self.placed.remove(&id) else { return };
        let (Some(present), Some(site)) = (self.groups.get_mut(&group), self.sites.get(&host))
        else {
            return;
        };
        fall(&mut present.hosts, &host);
        fall(&mut present.racks, &site.rack);
        if anchor {
            fall(&mut present.anchor_hosts, &host);
            fall(&mut present.anchor_racks, &site.rack);
        }
        if present.hosts.is_empty() {
            self.groups.remove(&group);
        }
    }
}

fn least(counts: &BTreeMap<String, u32>) -> u32 {
    counts.values().copied().min().unwrap_or(0)
}

/// None stands at zero.
fn fall<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Commits;
    use crate::made_up::MadeUp;
    use crate::rules::kinds::labels;
    use berth_model::{NumaNodes, Permille, Place, Strategy};

    /// Places of the first requests, each on the host with the number given.
    fn check(kind: Kind, hosts: &[usize]) -> usize {
        let cell = MadeUp::new(64, 640, Permille(850), 1).cell(Strategy::Spread);
        let fleet = Commits::new(cell).unwrap();
        let ids: Vec<HostId> = fleet.fleet().hosts().map(|host| host.id).collect();
        let slow = fleet.fleet().datastores().find(|store| store.class.is_empty()).unwrap().id;
        let mut referee = Referee::new(kind, fleet.fleet());
        for (number, host) in (0_u64..).zip(hosts) {
            let wish = PlacementWish { labels: labels(number), ..PlacementWish::default() };
            let host = ids[*host];
            let place = Place { host, numa: NumaNodes::NONE, delta: Some(slow), disks: Vec::new() };
            let id = ReservationId::from_bytes(u128::from(number).to_be_bytes());
            referee.held(&wish, &Held { id, place });
        }
        referee.violations.len()
    }

    #[test]
    fn each_kind_is_judged_by_what_stands_when_it_is_placed() {
        assert_eq!(check(Kind::Plain, &[0, 0, 0]), 0);
        assert_eq!(check(Kind::Apart, &[0, 1, 0]), 1);
        assert_eq!(check(Kind::Together, &[0, 15, 16]), 1);
        assert_eq!(check(Kind::Spread, &[0, 16, 32, 1]), 1);
        assert_eq!(check(Kind::Spread, &[0, 16, 32, 48, 1]), 0);
        assert_eq!(check(Kind::Near, &[0, 15, 16]), 1);
        assert_eq!(check(Kind::Away, &[0, 1, 1, 0]), 1);
        assert_eq!(check(Kind::AtMost, &[0, 0, 0]), 1);
        assert_eq!(check(Kind::Hosts, &[0, 1]), 1);
        assert_eq!(check(Kind::Datastores, &[0]), 1);
        assert_eq!(check(Kind::PreferredApart, &[0, 0]), 0);
    }

    #[test]
    fn who_has_left_is_not_in_the_way() {
        let cell = MadeUp::new(2, 20, Permille(850), 1).cell(Strategy::Spread);
        let fleet = Commits::new(cell).unwrap();
        let host = fleet.fleet().hosts().next().unwrap().id;
        let mut referee = Referee::new(Kind::Apart, fleet.fleet());
        for number in 0_u8..2 {
            let wish = PlacementWish { labels: labels(number.into()), ..PlacementWish::default() };
            let place = Place { host, numa: NumaNodes::NONE, delta: None, disks: Vec::new() };
            let id = ReservationId::from_bytes([number; 16]);
            referee.held(&wish, &Held { id, place });
            referee.ended(id);
        }
        assert!(referee.violations.is_empty() && referee.groups.is_empty());
    }
}

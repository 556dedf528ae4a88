//! The plain way: asks every host of the fleet. The reference that the mirror is held against.
//!
//! Promises: the same filters as apply, the same scores as the mirror. Does not: remember anything.

use super::datastore::{self, Chosen};
use super::keeping::Keeping;
use super::score::{self, Fill, Score};
use super::{Ask, DatastoreScore, Delta, Guides, Load};
use crate::fleet::Fleet;
use crate::fleet::rules::{Matched, Where, breaks, cost, host_breaks};
use berth_model::cluster::Strategy;
use berth_model::host::NumaNodes;
use berth_model::reservation::{Place, Victim};
use berth_model::{Datastore, DatastoreId, Host, ReservationId, RuleKind, Scope};
use std::cmp::Reverse;

/// The best host, and the best datastores on it. One that takes over a reservation gets the place
/// that this holds.
pub fn decide(fleet: &Fleet, guides: &Guides, ask: &Ask<'_>) -> Option<Place> {
    if let Some(id) = ask.instead_of.filter(|id| fleet.reservation(*id).is_some()) {
        return decide_on_reservation(fleet, ask, id);
    }
    let matched = ask.matched(fleet);
    let wish = ask.wish(&matched);
    let admitted = fleet.hosts().filter(|host| fleet.admit(host, &wish).is_ok());
    let scored = admitted.filter_map(|host| {
        let chosen = datastore::choose(fleet, host, ask, &matched)?;
        let score = host_score(fleet, guides, host, ask, &matched, &chosen);
        Some((score.key(), score::host_order(host), host, chosen))
    });
    let mut keeping = match ask.load {
        Load::Now => Keeping::of(fleet),
        Load::Ever => Keeping::default(),
    };
    let (_, _, host, chosen) = if keeping.is_empty() {
        scored.min_by_key(|(key, order, ..)| (*key, *order))?
    } else {
        let mut scored: Vec<_> = scored.collect();
        scored.sort_by_key(|(key, order, ..)| (*key, *order));
        scored.into_iter().find(|(_, _, host, chosen)| {
            let overhead = host.facts.vm_overhead;
            let newcomer = ask.newcomer(overhead, chosen.delta, &chosen.disks);
            keeping.admit(fleet, host, &newcomer).is_ok()
        })?
    };
    let numa = match ask.load {
        Load::Now => fleet.choose_numa(host, ask.demand)?,
        Load::Ever => NumaNodes::NONE,
    };
    Some(Place { host: host.id, numa, delta: chosen.delta, disks: chosen.disks })
}

/// The place that a reservation holds, if its host would have it without the reservation.
fn decide_on_reservation(fleet: &Fleet, ask: &Ask<'_>, id: ReservationId) -> Option<Place> {
    let held = fleet.reservation(id)?;
    let host = fleet.host(held.place.host)?;
    let matched = ask.matched(fleet);
    let freed = fleet.without(&[Victim::Reservation(id)]);
    let freed_host = freed.host(host.id)?;
    freed.admit(freed_host, &ask.wish(&matched)).ok()?;
    let delta = match ask.delta {
        Delta::Placed(id) | Delta::New(id) => Some(id),
        Delta::Anywhere => held.place.delta,
    };
    Some(Place { delta, ..held.place.clone() })
}

/// The best datastore for the delta of one that is to be created.
pub fn decide_datastore(fleet: &Fleet, ask: &Ask<'_>) -> Option<DatastoreId> {
    if let Some(id) = ask.instead_of.filter(|id| fleet.reservation(*id).is_some()) {
        let freed = fleet.without(&[Victim::Reservation(id)]);
        return decide_datastore(&freed, &Ask { instead_of: None, ..*ask });
    }
    let matched = ask.matched(fleet);
    let pinned = match ask.delta {
        Delta::New(datastore) | Delta::Placed(datastore) => Some(datastore),
        Delta::Anywhere => None,
    };
    fleet
        .datastores()
        .filter(|datastore| pinned.is_none_or(|pinned| pinned == datastore.id))
        .filter_map(|datastore| datastore_score(fleet, datastore, ask, &matched))
        .min()
        .map(|score| score.datastore)
}

fn host_score(
    fleet: &Fleet,
    guides: &Guides,
    host: &Host,
    ask: &Ask<'_>,
    matched: &Matched,
    chosen: &Chosen,
) -> Score {
    let strategy = fleet.cluster(host.cluster).map(|cluster| cluster.policy.strategy);
    let fill =
        Fill { limit: fleet.limit_of_host(host), charged: host.charged, placed: host.placed };
    let charge = ask.demand.charge(host.facts.vm_overhead);
    let rank = strategy.unwrap_or(Strategy::Spread).into();
    let score = Score::of(rank, guides.of(host.cluster), &fill, charge);
    let rule_penalty = penalty(fleet, host, ask, matched).saturating_add(chosen.penalty);
    Score { rule_penalty, ..score }
}

/// What preferred rules say against the host, its datastores apart. A create asks only those that
/// count nothing.
fn penalty(fleet: &Fleet, host: &Host, ask: &Ask<'_>, matched: &Matched) -> u32 {
    let wish = ask.wish(matched);
    let costs = matched.preferred.iter().map(|spoken| {
        let broken = match spoken.scope() {
            None => {
                let cluster = fleet.cluster(host.cluster).map_or("", |c| c.name.as_str());
                host_breaks(spoken, host, cluster)
            }
            Some(Scope::Datastore) => 0,
            Some(_) if ask.load == Load::Ever => 0,
            Some(scope) => {
                let bucket = fleet.bucket(host, scope);
                let place = bucket.as_ref().map(std::slice::from_ref);
                let place = place.map_or(Where::Nowhere, Where::In);
                let group = fleet.group_of(spoken);
                let least = match spoken.kind() {
                    RuleKind::Spread { .. } => fleet.least(spoken, group, &wish),
                    RuleKind::Together { .. }
                    | RuleKind::Apart { .. }
                    | RuleKind::AtMost { .. }
                    | RuleKind::Near { .. }
                    | RuleKind::Away { .. }
                    | RuleKind::Hosts { .. }
                    | RuleKind::Datastores { .. } => 0,
                };
                breaks(spoken, group, place, least)
            }
        };
        cost(spoken, broken)
    });
    costs.fold(0, u32::saturating_add)
}

fn datastore_score(
    fleet: &Fleet,
    datastore: &Datastore,
    ask: &Ask<'_>,
    matched: &Matched,
) -> Option<DatastoreScore> {
    let ask = Ask { delta: Delta::New(datastore.id), load: Load::Ever, ..*ask };
    let wish = ask.wish(matched);
    let (mut hosts, mut crowded) = (0_u32, true);
    for host in datastore.hosts.iter().filter_map(|id| fleet.host(*id)) {
        if fleet.admit(host, &wish).is_ok() {
            hosts += 1;
            crowded = crowded && !has_room(fleet, host, &ask);
        }
    }
    let charged = (datastore.charged + ask.demand.disk).0;
    let limit = fleet.limit_of_datastore(datastore).0;
    (hosts > 0).then(|| DatastoreScore {
        rule_penalty: datastore::penalty(fleet, datastore, &wish),
        crowded,
        hosts: Reverse(hosts),
        load: DatastoreScore::load(charged, limit),
        datastore: datastore.id,
    })
}

/// Whether cpu and memory are free now.
fn has_room(fleet: &Fleet, host: &Host, ask: &Ask<'_>) -> bool {
    let (free, charge) = (fleet.free_on_host(host), ask.demand.charge(host.facts.vm_overhead));
    charge.cpu <= free.cpu && charge.memory <= free.memory
}

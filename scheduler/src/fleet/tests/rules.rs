//! Rules, each kind on a small cell.

use super::super::testing::*;
use berth_model::command::CommandBody;
use berth_model::explanation::Refusal;
use berth_model::rejection::NameKind;
use berth_model::rule::{DatastoreSelector, HostSelector};
use berth_model::{
    Demand, HostFacts, Place, PlacementWish, Rejection, RuleId, RuleKind, RuleSpec, Scope, Strength,
};
use std::collections::BTreeSet;

/// Four hosts, two racks of two: 1 and 2 in `a`, 3 and 4 in `b`.
fn racks() -> Cell {
    let mut cell = Cell::shared(0);
    for n in 1..=4 {
        cell.host(n, racked(n, if n <= 2 { "a" } else { "b" }));
    }
    cell.apply(new_image(&[], 100)).unwrap();
    cell
}

fn racked(n: u8, rack: &str) -> HostFacts {
    let mut facts = facts(n, "main", &[100, 101]);
    facts.supply.domain =
        vec![("zone".to_owned(), "z".to_owned()), ("rack".to_owned(), rack.to_owned())];
    facts
}

fn rack() -> Scope {
    Scope::Domain("rack".to_owned())
}

/// Which of the four hosts take one more with these labels.
fn taken_by(cell: &Cell, labels: &str) -> Vec<u8> {
    let wish = wish(labels);
    (1..=4).filter(|n| trial(cell, &wish, on(*n)).is_ok()).collect()
}

fn trial(cell: &Cell, wish: &PlacementWish, place: Place) -> Result<(), Rejection> {
    let mut copy = Cell { fleet: cell.fleet.clone(), index: cell.index, time: cell.time };
    copy.reserve(200, wish.clone(), place).map(drop)
}

fn broken(cell: &Cell) -> Vec<usize> {
    cell.fleet.broken_rules().iter().map(|broken| broken.who.len()).collect()
}

#[test]
fn the_first_of_those_together_chooses_and_the_others_follow() {
    let mut cell = racks();
    cell.apply(rule(1, "app=web", RuleKind::Together { scope: rack() })).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [1, 2, 3, 4]);
    cell.reserve(1, wish("app=web"), on(3)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [3, 4]);
    assert_eq!(taken_by(&cell, "app=db"), [1, 2, 3, 4]);
    let refused = cell.reserve(2, wish("app=web"), on(1)).unwrap_err();
    let Rejection::HostRefuses { refusal: Refusal::RuleBroken { name, kind, .. }, .. } = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((name.as_str(), kind.as_str()), ("rule-1", "together"));
}

#[test]
fn no_two_of_those_apart_share_a_host_unless_they_share_a_label() {
    let mut cell = racks();
    let apart = |unless_same: Option<&str>| RuleKind::Apart {
        scope: Scope::Host,
        unless_same: unless_same.map(str::to_owned),
    };
    cell.apply(rule(1, "app=web", apart(None))).unwrap();
    cell.reserve(1, wish("app=web,team=x"), on(1)).unwrap();
    assert_eq!(taken_by(&cell, "app=web,team=x"), [2, 3, 4]);
    let id = RuleId::from_bytes([1; 16]);
    let spec = RuleSpec { kind: apart(Some("team")), ..cell.fleet.rule(id).unwrap().spec.clone() };
    cell.apply(CommandBody::ReplaceRule { id, spec }).unwrap();
    assert_eq!(taken_by(&cell, "app=web,team=x"), [1, 2, 3, 4]);
    assert_eq!(taken_by(&cell, "app=web,team=y"), [2, 3, 4]);
    assert_eq!(taken_by(&cell, "app=web"), [2, 3, 4]);
}

#[test]
fn at_most_so_many_are_counted_for_each_value() {
    let mut cell = racks();
    let CommandBody::CreateRule(mut new) =
        rule(1, "", RuleKind::AtMost { scope: rack(), count: 1 })
    else {
        unreachable!("a create")
    };
    new.spec.each = Some("app".to_owned());
    cell.apply(CommandBody::CreateRule(new)).unwrap();
    cell.reserve(1, wish("app=web"), on(1)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [3, 4]);
    assert_eq!(taken_by(&cell, "app=db"), [1, 2, 3, 4]);
    assert_eq!(taken_by(&cell, ""), [1, 2, 3, 4]);
}

#[test]
fn a_spread_levels_the_buckets_that_could_take_one() {
    let mut cell = racks();
    cell.apply(rule(1, "app=web", RuleKind::Spread { scope: rack(), max_skew: 1 })).unwrap();
    cell.reserve(1, wish("app=web"), on(1)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [3, 4]);
    cell.reserve(2, wish("app=web"), on(3)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [1, 2, 3, 4]);
    cell.reserve(3, wish("app=web"), on(1)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [3, 4]);
    // A rack without an open host could take none.
    for n in [3, 4] {
        let host = host_id(n);
        cell.apply(CommandBody::SetMaintenance { host, maintenance: true }).unwrap();
    }
    assert_eq!(taken_by(&cell, "app=web"), [1, 2]);
    cell.apply(CommandBody::SetMaintenance { host: host_id(4), maintenance: false }).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [4]);
    // Nor one that the request does not want.
    let pinned = Demand { host: Some(host_id(1)), ..wish("").demand };
    let pinned = PlacementWish { demand: pinned, labels: labels("app=web") };
    assert_eq!(trial(&cell, &pinned, on(1)), Ok(()));
}

#[test]
fn one_near_another_waits_for_it_and_one_that_is_its_own_company_does_not() {
    let mut cell = racks();
    let near = |with: &str| RuleKind::Near { scope: rack(), with: selector(with) };
    cell.apply(rule(1, "app=web", near("app=db"))).unwrap();
    cell.apply(rule(2, "app=peer", near("app=peer"))).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [0_u8; 0]);
    cell.reserve(1, wish("app=db"), on(3)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [3, 4]);
    cell.reserve(2, wish("app=peer"), on(1)).unwrap();
    assert_eq!(taken_by(&cell, "app=peer"), [1, 2]);
}

#[test]
fn away_holds_both_ways() {
    let mut cell = racks();
    let away = RuleKind::Away { scope: Scope::Host, from: selector("app=noisy") };
    cell.apply(rule(1, "app=web", away)).unwrap();
    cell.reserve(1, wish("app=web"), on(1)).unwrap();
    cell.reserve(2, wish("app=noisy"), on(2)).unwrap();
    assert_eq!(taken_by(&cell, "app=noisy"), [2, 3, 4]);
    assert_eq!(taken_by(&cell, "app=web"), [1, 3, 4]);
}

#[test]
fn hosts_are_asked_for_by_name_cluster_and_label() {
    let mut cell = racks();
    cell.host(5, facts(5, "side", &[100]));
    let within = |names: &[&str]| HostSelector {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..HostSelector::default()
    };
    let hosts = |within, not| RuleKind::Hosts { within, not };
    cell.apply(rule(1, "app=web", hosts(within(&["host-1", "host-2"]), false))).unwrap();
    cell.apply(rule(2, "app=db", hosts(within(&["host-1"]), true))).unwrap();
    let side = HostSelector { clusters: BTreeSet::from(["side".to_owned()]), ..within(&[]) };
    cell.apply(rule(3, "app=far", hosts(side, false))).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [1, 2]);
    assert_eq!(taken_by(&cell, "app=db"), [2, 3, 4]);
    assert_eq!(taken_by(&cell, "app=far"), [0_u8; 0]);
    assert!(trial(&cell, &wish("app=far"), on(5)).is_ok());
}

#[test]
fn a_host_without_the_level_is_refused_by_a_required_rule_over_it() {
    let mut cell = racks();
    cell.host(4, facts(4, "main", &[100]));
    cell.apply(rule(1, "app=web", RuleKind::AtMost { scope: rack(), count: 9 })).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [1, 2, 3]);
}

fn disk(store: u8) -> (PlacementWish, Place) {
    let wish = PlacementWish { demand: demand(), labels: labels("app=web") };
    (wish, Place { delta: Some(store_id(store)), ..on(1) })
}

#[test]
fn disks_are_kept_apart_and_on_the_datastores_that_a_rule_names() {
    let mut cell = racks();
    let apart = RuleKind::Apart { scope: Scope::Datastore, unless_same: None };
    cell.apply(rule(1, "app=web", apart)).unwrap();
    let (wish, place) = disk(100);
    cell.reserve(1, wish.clone(), place.clone()).unwrap();
    assert!(trial(&cell, &wish, place.clone()).is_err());
    assert!(trial(&cell, &wish, disk(101).1).is_ok());
    let within = DatastoreSelector { ids: BTreeSet::from([store_id(101)]), ..Default::default() };
    cell.apply(rule(2, "app=web", RuleKind::Datastores { within, not: true })).unwrap();
    assert!(trial(&cell, &wish, disk(101).1).is_err());
    // A stopped container VM has its disk there all the same.
    cell.apply(CommandBody::RemoveRule { id: RuleId::from_bytes([2; 16]) }).unwrap();
    cell.apply(CommandBody::Release { ids: vec![reservation_id(1)] }).unwrap();
    let mut spec = spec(demand());
    spec.labels = labels("app=web");
    cell.create_spec(1, 100, spec);
    assert!(trial(&cell, &wish, place).is_err());
}

#[test]
fn a_rule_that_comes_later_counts_what_is_there_and_reports_it() {
    let mut cell = racks();
    cell.reserve(1, wish("app=web"), on(1)).unwrap();
    cell.reserve(2, wish("app=web"), on(1)).unwrap();
    cell.reserve(3, wish("app=web"), on(2)).unwrap();
    cell.apply(rule(1, "app=web", RuleKind::AtMost { scope: rack(), count: 2 })).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [3, 4]);
    assert_eq!(broken(&cell), [3]);
    // A host that moves takes its counts along.
    cell.host(2, racked(2, "b"));
    assert_eq!(broken(&cell), [0_usize; 0]);
    assert_eq!(taken_by(&cell, "app=web"), [2, 3, 4]);
    cell.apply(CommandBody::RemoveRule { id: RuleId::from_bytes([1; 16]) }).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [1, 2, 3, 4]);
}

#[test]
fn a_rule_of_an_endpoint_does_not_speak_of_anothers_but_the_systems_does() {
    let mut cell = racks();
    let apart = RuleKind::Apart { scope: Scope::Host, unless_same: None };
    let body = rule(1, "app=web", apart);
    cell.apply_command(command(OTHER_ENDPOINT, body.clone())).unwrap();
    cell.reserve(1, wish("app=web"), on(1)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [1, 2, 3, 4]);
    let id = RuleId::from_bytes([1; 16]);
    assert_eq!(cell.apply(CommandBody::RemoveRule { id }), Err(Rejection::NoSuchRule(id)));
    cell.apply_command(command(OTHER_ENDPOINT, CommandBody::RemoveRule { id })).unwrap();
    cell.apply_command(command(berth_model::EndpointId::SYSTEM, body)).unwrap();
    assert_eq!(taken_by(&cell, "app=web"), [2, 3, 4]);
}

#[test]
fn a_rule_says_what_is_wrong_with_it() {
    let mut cell = racks();
    let apart = || RuleKind::Apart { scope: Scope::Host, unless_same: None };
    cell.apply(rule(1, "app=web", apart())).unwrap();
    let mut refused = |n: u8, change: fn(&mut berth_model::command::NewRule)| {
        let CommandBody::CreateRule(mut new) = rule(n, "app=web", apart()) else {
            unreachable!("a create")
        };
        change(&mut new);
        cell.apply(CommandBody::CreateRule(new)).unwrap_err()
    };
    let name = |new: &mut berth_model::command::NewRule| new.name = "rule-1".to_owned();
    assert!(matches!(refused(2, name), Rejection::NameTaken { kind: NameKind::Rule, .. }));
    assert!(matches!(refused(1, |new| new.name = "x".to_owned()), Rejection::Invalid { .. }));
    for change in [
        (|new| new.spec.strength = Strength::Preferred { weight: 0 })
            as fn(&mut berth_model::command::NewRule),
        |new| new.spec.strength = Strength::Preferred { weight: 1001 },
        |new| new.spec.kind = RuleKind::AtMost { scope: Scope::Host, count: 0 },
        |new| new.spec.kind = RuleKind::Spread { scope: Scope::Host, max_skew: 0 },
        |new| new.spec.kind = RuleKind::Together { scope: Scope::Domain(String::new()) },
        |new| {
            let term = new.spec.selector.terms[0].clone();
            new.spec.selector.terms = vec![term; 17];
        },
    ] {
        assert!(matches!(refused(3, change), Rejection::Invalid { .. }));
    }
}

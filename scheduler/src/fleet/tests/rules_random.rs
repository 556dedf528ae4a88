//! Random rules over placements that have room everywhere: what apply takes and refuses is what
//! comparing each with each says.

use super::super::Fleet;
use super::super::testing::*;
use super::oracle;
use super::random::{labels, rule_spec};
use berth_model::change::Change;
use berth_model::command::{CommandBody, NewRule, Reserve, ReserveItem};
use berth_model::{
    Bytes, Demand, EndpointId, MilliCpus, NumaNodes, Place, PlacementWish, Refusal, Rejection,
    ReservationId, Resources, RuleId, RuleSpec, Strength,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Five hosts in two racks and two clusters, the last in no rack; three datastores.
fn roomy() -> Cell {
    let mut cell = Cell::new();
    for n in 1..=5_u8 {
        let cluster = if n < 4 { "main" } else { "side" };
        let mut facts = facts(n, cluster, &[100, 101, 102]);
        facts.capacity = Resources { cpu: MilliCpus::whole(99), memory: Bytes::gib(99) };
        facts.labels = host_labels(n);
        if n < 5 {
            facts.supply.domain = vec![("rack".to_owned(), (n % 2).to_string())];
        }
        cell.host(n, facts);
    }
    cell
}

fn host_labels(n: u8) -> BTreeMap<String, String> {
    super::super::testing::labels(if n.is_multiple_of(2) { "a=x" } else { "a=y,b=x" })
}

#[derive(Clone, Debug)]
enum Step {
    Put { labels: BTreeMap<String, String>, host: u8, store: Option<u8>, pinned: bool },
    Release(usize),
    Maintenance { host: u8, maintenance: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let store = prop::option::of(100..103_u8);
    prop_oneof![
        8 => (labels(), 1..6_u8, store, prop::bool::weighted(0.2)).prop_map(
            |(labels, host, store, pinned)| Step::Put { labels, host, store, pinned }
        ),
        1 => (0..20_usize).prop_map(Step::Release),
        1 => (1..6_u8, any::<bool>())
            .prop_map(|(host, maintenance)| Step::Maintenance { host, maintenance }),
    ]
}

fn put(
    n: usize,
    labels: BTreeMap<String, String>,
    host: u8,
    store: Option<u8>,
    pinned: bool,
) -> CommandBody {
    let demand = Demand {
        cpu: MilliCpus(10),
        memory: Bytes::mib(10),
        disk: store.map_or(Bytes::ZERO, |_| Bytes::mib(1)),
        cluster: pinned.then_some(if host < 4 { CLUSTER } else { OTHER_CLUSTER }),
        ..Demand::default()
    };
    let mut id = [9; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let place = Place {
        host: host_id(host),
        numa: NumaNodes::NONE,
        delta: store.map(store_id),
        disks: Vec::new(),
    };
    let item = ReserveItem { id: ReservationId::from_bytes(id), ..reserve_item(0, place) };
    CommandBody::Reserve(Box::new(Reserve {
        planned_at: 0,
        wishes: vec![Arc::new(PlacementWish { demand, labels })],
        items: vec![item],
        gang: None,
    }))
}

fn without_rules(fleet: &Fleet) -> Cell {
    let mut cell = Cell { fleet: fleet.clone(), index: fleet.index(), time: fleet.time().0 };
    let ids: Vec<RuleId> = fleet.rules().map(|rule| rule.id).collect();
    for id in ids {
        let remove = command(EndpointId::SYSTEM, CommandBody::RemoveRule { id });
        cell.apply_command(remove).unwrap();
    }
    cell
}

fn check_put(cell: &mut Cell, body: CommandBody) -> Result<(), TestCaseError> {
    let before = cell.fleet.clone();
    let answer = cell.apply(body.clone());
    let Ok(Change::Reserved { items }) = answer else { panic!("{answer:?}") };
    match &items[0] {
        Ok(_) => {
            prop_assert_eq!(oracle::rule_against(&before, &cell.fleet, &before, true), None);
        }
        Err(Rejection::HostRefuses { refusal: Refusal::RuleBroken { .. }, .. }) => {
            let mut free = without_rules(&before);
            let from = free.fleet.clone();
            free.apply(body).unwrap();
            prop_assert!(oracle::rule_against(&from, &free.fleet, &before, true).is_some());
        }
        Err(Rejection::HostRefuses { refusal: Refusal::Maintenance, .. }) => {}
        Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn apply_takes_what_keeps_the_rules_and_nothing_else(
        specs in prop::collection::vec(rule_spec(), 1..4),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let mut cell = roomy();
        for (n, spec) in (0..).zip(specs) {
            let spec = RuleSpec { strength: Strength::Required, ..spec };
            let id = RuleId::from_bytes([n; 16]);
            let new = NewRule { id, name: format!("rule-{n}"), spec, labels: BTreeMap::new() };
            // Some cannot stand; the others do.
            cell.apply(CommandBody::CreateRule(Box::new(new))).ok();
        }
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { labels, host, store, pinned } => {
                    check_put(&mut cell, put(n, labels, host, store, pinned))?;
                }
                Step::Release(which) => {
                    let ids = cell.fleet.reservations().skip(which).take(1).map(|held| held.id);
                    let ids = ids.collect();
                    cell.apply(CommandBody::Release { ids }).unwrap();
                }
                Step::Maintenance { host, maintenance } => {
                    let host = host_id(host);
                    cell.apply(CommandBody::SetMaintenance { host, maintenance }).unwrap();
                }
            }
        }
    }
}

//! Plans as text, for people to judge, and what a planner remembers.

use super::{ITEMS_MAX, Planner, plan};
use crate::fleet::testing::*;
use berth_model::change::Change;
use berth_model::command::{CommandBody, Decision, PlaceItem};
use berth_model::{Bytes, Demand, MilliCpus};
use expect_test::{Expect, expect};
use std::fmt::Write as _;

fn shown(items: &[PlaceItem]) -> String {
    let mut text = String::new();
    for PlaceItem { container, decision } in items {
        let vm = container.as_bytes()[0];
        match decision {
            Decision::Datastore(store) => {
                writeln!(text, "vm-{vm}: datastore {}", store.as_bytes()[0])
            }
            Decision::Host { host, epoch } => {
                writeln!(text, "vm-{vm}: host {} epoch {}", host.as_bytes()[0], epoch.0)
            }
            Decision::Nowhere(explanation) => writeln!(text, "vm-{vm}: {explanation}"),
        }
        .expect("a string takes all");
    }
    text
}

fn check(cell: &Cell, expected: &Expect) {
    expected.assert_eq(&shown(&plan(&cell.fleet)));
}

fn wait(cell: &mut Cell, n: u8, demand: Demand) {
    cell.create(n, 100, demand);
    cell.apply(CommandBody::StartContainer { id: vm_id(n) }).unwrap();
}

fn apply_plan(cell: &mut Cell, items: Vec<PlaceItem>) {
    let answer = cell.apply(CommandBody::Place { planned_at: cell.index, items });
    let Ok(Change::Placed { items }) = answer else { panic!("{answer:?}") };
    assert!(items.iter().all(Result::is_ok), "{items:?}");
}

#[test]
fn starts_are_spread_and_each_decision_counts_those_before_it() {
    let mut cell = Cell::shared(3);
    for n in 1..=5 {
        wait(&mut cell, n, demand());
    }
    check(
        &cell,
        &expect![[r#"
            vm-1: host 1 epoch 1
            vm-2: host 2 epoch 1
            vm-3: host 3 epoch 1
            vm-4: host 1 epoch 1
            vm-5: host 2 epoch 1
        "#]],
    );
}

#[test]
fn creates_fill_datastores_one_after_the_other() {
    let mut cell = Cell::shared(0);
    cell.host(1, facts(1, "main", &[100, 101]));
    cell.apply(new_image(&[], 100)).unwrap();
    for n in 1..=4 {
        let demand = Demand { disk: Bytes::gib(60), ..demand() };
        cell.apply(new_container(n, spec(demand))).unwrap();
    }
    check(
        &cell,
        &expect![[r#"
            vm-1: datastore 100
            vm-2: datastore 101
            vm-3: 0 of 1 hosts fit: 1 refused by datastores; it would fit with 20 GiB less disk
            vm-4: 0 of 1 hosts fit: 1 refused by datastores; it would fit with 20 GiB less disk
        "#]],
    );
}

#[test]
fn the_oldest_goes_first_and_a_small_one_passes_one_that_does_not_fit() {
    let mut cell = Cell::shared(1);
    wait(&mut cell, 9, Demand { cpu: MilliCpus::whole(3), ..demand() });
    wait(&mut cell, 5, Demand { cpu: MilliCpus::whole(2), ..demand() });
    wait(&mut cell, 7, demand());
    check(
        &cell,
        &expect![[r#"
            vm-9: host 1 epoch 1
            vm-5: 0 of 1 hosts fit: 1 refused by capacity; it would fit with 1 cpu less
            vm-7: host 1 epoch 1
        "#]],
    );
}

#[test]
fn a_recorded_refusal_is_not_proposed_again() {
    let mut cell = Cell::shared(1);
    cell.run(2, 1);
    wait(&mut cell, 1, Demand { cpu: MilliCpus::whole(4), ..demand() });
    let items = plan(&cell.fleet);
    assert_eq!(items.len(), 1);
    apply_plan(&mut cell, items);
    assert_eq!(plan(&cell.fleet), []);
}

#[test]
fn a_refused_one_is_asked_for_again_only_when_something_became_free() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    wait(&mut cell, 2, Demand { cpu: MilliCpus::whole(4), ..demand() });
    let mut planner = Planner::default();
    let first = planner.plan(&cell.fleet);
    assert_eq!((first.items.len(), first.refusals.len()), (1, 1));
    apply_plan(&mut cell, first.items);
    assert_eq!(planner.plan(&cell.fleet).refusals, []);
    // Nothing that helps: another one is created.
    cell.create(3, 100, demand());
    assert_eq!(planner.plan(&cell.fleet).refusals, []);
    cell.exited(1, 1, epoch, 0);
    let last = planner.plan(&cell.fleet);
    assert_eq!(shown(&last.items), "vm-2: host 1 epoch 1\n");
}

#[test]
fn a_refusal_that_was_never_recorded_is_proposed_again() {
    let mut cell = Cell::shared(1);
    cell.run(2, 1);
    wait(&mut cell, 1, Demand { cpu: MilliCpus::whole(4), ..demand() });
    let mut planner = Planner::default();
    assert_eq!(planner.plan(&cell.fleet).items.len(), 1);
    assert_eq!(planner.plan(&cell.fleet).items.len(), 1);
}

#[test]
fn a_restarted_one_gets_the_next_epoch() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    cell.exited(1, 1, epoch, 0);
    cell.apply(CommandBody::StartContainer { id: vm_id(1) }).unwrap();
    check(
        &cell,
        &expect![[r#"
        vm-1: host 1 epoch 2
    "#]],
    );
}

#[test]
fn nothing_is_planned_where_nothing_waits() {
    let mut cell = Cell::shared(2);
    cell.run(1, 1);
    check(&cell, &expect![""]);
}

#[test]
fn a_plan_is_bounded_and_says_that_there_is_more() {
    let mut cell = Cell::shared(2);
    let many = u32::try_from(ITEMS_MAX).expect("small") + 10;
    for n in 0..many {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let small = Demand { disk: Bytes::mib(1), ..demand() };
        let new = berth_model::command::NewContainer {
            id: berth_model::ContainerId::from_bytes(bytes),
            name: format!("many-{n}"),
            spec: spec(small),
            labels: Default::default(),
        };
        cell.apply(CommandBody::CreateContainer(Box::new(new))).unwrap();
    }
    let mut planner = Planner::default();
    let first = planner.plan(&cell.fleet);
    assert_eq!((first.items.len(), first.more), (ITEMS_MAX, true));
    apply_plan(&mut cell, first.items);
    let second = planner.plan(&cell.fleet);
    assert_eq!((second.items.len(), second.more), (10, false));
}

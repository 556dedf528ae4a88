//! Plans as text, for people to judge, what a planner remembers, and plans of random fleets that
//! apply takes whole.

use super::{ITEMS_MAX, Outcome, Plan, Planner, Share};
use crate::fleet::Fleet;
use crate::fleet::testing::*;
use berth_model::change::Change;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{CommandBody, Decision, NewContainer, NewRule, PlaceItem};
use berth_model::{
    Bytes, ContainerId, Demand, EndpointId, MilliCpus, Permille, Rejection, RuleId, RuleKind,
    RuleSpec, Scope, Selector, Strength,
};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;

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
            Decision::Bound { host, epoch, numa } => {
                let numa: Vec<_> = numa.positions().collect();
                let host = host.as_bytes()[0];
                writeln!(text, "vm-{vm}: host {host} numa {numa:?} epoch {}", epoch.0)
            }
            Decision::Displace { host, victims } => {
                let victims: Vec<_> = victims
                    .iter()
                    .map(|victim| match victim {
                        berth_model::Victim::ContainerVm(id) => format!("vm-{}", id.as_bytes()[0]),
                        berth_model::Victim::Reservation(id) => {
                            format!("place-{}", id.as_bytes()[0])
                        }
                    })
                    .collect();
                let host = host.as_bytes()[0];
                writeln!(text, "vm-{vm}: on host {host} {} give way", victims.join(", "))
            }
            Decision::Nowhere(explanation) => writeln!(text, "vm-{vm}: {explanation}"),
        }
        .expect("a string takes all");
    }
    text
}

fn plan(cell: &Cell) -> Vec<PlaceItem> {
    Planner::default().plan(&Arc::new(cell.fleet.clone()), 0).items
}

fn check(cell: &Cell, expected: &Expect) {
    expected.assert_eq(&shown(&plan(cell)));
}

fn wait(cell: &mut Cell, n: u8, demand: Demand) {
    cell.create(n, 100, demand);
    cell.apply(CommandBody::StartContainer { id: vm_id(n) }).unwrap();
}

fn cpus(count: u64) -> Demand {
    Demand { cpu: MilliCpus::whole(count), ..demand() }
}

fn allow_preemption(cell: &mut Cell) {
    let once = Permille(1000);
    let policy = ClusterPolicy {
        preemption: true,
        cpu_overcommit: once,
        disk_overcommit: once,
        ..ClusterPolicy::default()
    };
    cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy }).unwrap();
}

/// A planner that follows a cell.
struct Story {
    cell: Cell,
    planner: Planner,
}

impl Story {
    fn of(cell: Cell) -> Story {
        Story { cell, planner: Planner::default() }
    }

    fn fleet(&self) -> Arc<Fleet> {
        Arc::new(self.cell.fleet.clone())
    }

    fn plan(&mut self) -> Plan {
        let fleet = self.fleet();
        self.planner.plan(&fleet, 0)
    }

    fn apply(&mut self, plan: &Plan) -> Vec<Result<ContainerId, Rejection>> {
        let body = CommandBody::Place { planned_at: plan.planned_at, items: plan.items.clone() };
        match self.cell.apply(body) {
            Ok(Change::Placed { items }) => items,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, plan: &Plan, answers: &[Result<ContainerId, Rejection>]) -> u64 {
        let fleet = self.fleet();
        self.planner.settle(plan.number, &Outcome::Applied(answers), &fleet, 0)
    }

    /// Plans, applies and settles; every decision is to be taken.
    fn step(&mut self) -> String {
        let plan = self.plan();
        if plan.items.is_empty() {
            return String::new();
        }
        let answers = self.apply(&plan);
        assert!(answers.iter().all(Result::is_ok), "{answers:?} of {plan:?}");
        assert_eq!(self.settle(&plan, &answers), 0);
        shown(&plan.items)
    }
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
    wait(&mut cell, 9, cpus(3));
    wait(&mut cell, 5, cpus(2));
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
fn the_more_important_goes_before_the_older() {
    let mut cell = Cell::shared(1);
    wait(&mut cell, 1, cpus(3));
    wait(&mut cell, 2, Demand { priority: 1, ..cpus(3) });
    let text = shown(&plan(&cell));
    assert!(text.starts_with("vm-2: host 1 epoch 1\nvm-1: 0 of 1 hosts fit"), "{text}");
}

#[test]
fn an_endpoint_with_many_does_not_hold_up_one_with_a_single_container() {
    let mut cell = Cell::shared(1);
    cell.apply_command(command(OTHER_ENDPOINT, new_image(&[], 100))).unwrap();
    for n in 1..=9 {
        cell.apply(new_container(n, spec(demand()))).unwrap();
    }
    cell.apply_command(command(OTHER_ENDPOINT, new_container(99, spec(demand())))).unwrap();
    let order: Vec<u8> = plan(&cell).iter().map(|item| item.container.as_bytes()[0]).collect();
    assert_eq!(order, [1, 99, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_recorded_refusal_is_not_proposed_again() {
    let mut cell = Cell::shared(1);
    cell.run(2, 1);
    wait(&mut cell, 1, cpus(4));
    let mut story = Story::of(cell);
    assert!(story.step().starts_with("vm-1: 0 of 1 hosts fit"));
    assert_eq!(plan(&story.cell), []);
}

#[test]
fn a_refused_one_is_asked_for_again_only_when_something_that_could_help_has_changed() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    wait(&mut cell, 2, cpus(4));
    let mut story = Story::of(cell);
    assert!(story.step().starts_with("vm-2: 0 of 1 hosts fit"));
    assert_eq!(story.plan().refusals, []);
    // Nothing that helps: another one is created.
    story.cell.create(3, 100, demand());
    assert_eq!(story.plan().refusals, []);
    story.cell.exited(1, 1, epoch, 0);
    assert_eq!(story.step(), "vm-2: host 1 epoch 1\n");
}

#[test]
fn a_refusal_that_was_never_recorded_is_proposed_again() {
    let mut cell = Cell::shared(1);
    cell.run(2, 1);
    wait(&mut cell, 1, cpus(4));
    let mut story = Story::of(cell);
    let first = story.plan();
    assert_eq!(first.items.len(), 1);
    assert_eq!(story.plan().items, []);
    let fleet = story.fleet();
    story.planner.settle(first.number, &Outcome::Lost, &fleet, 0);
    assert_eq!(story.plan().items, first.items);
}

#[test]
fn one_that_was_stopped_and_started_while_refused_is_asked_again() {
    let mut cell = Cell::shared(1);
    cell.run(2, 1);
    wait(&mut cell, 1, cpus(4));
    let mut story = Story::of(cell);
    story.step();
    story.cell.apply(CommandBody::StopContainer { id: vm_id(1), order: None }).unwrap();
    story.cell.apply(CommandBody::StartContainer { id: vm_id(1) }).unwrap();
    assert!(story.step().starts_with("vm-1: 0 of 1 hosts fit"));
}

#[test]
fn of_many_that_wait_for_the_same_one_is_asked_and_the_next_when_it_fits() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    for n in 2..=9 {
        wait(&mut cell, n, cpus(4));
    }
    let mut story = Story::of(cell);
    assert_eq!(story.step().lines().count(), 8);
    story.cell.exited(1, 1, epoch, 0);
    let plan = story.plan();
    assert_eq!(plan.items[0].container, vm_id(2));
    // The next one of the class was asked and refused, and nobody else.
    assert_eq!(plan.refusals.len(), 1);
}

#[test]
fn one_that_is_gone_gives_its_turn_to_the_next_of_its_class() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    for n in [2, 3] {
        wait(&mut cell, n, cpus(4));
    }
    let mut story = Story::of(cell);
    story.step();
    story.cell.exited(1, 1, epoch, 0);
    story.cell.apply(CommandBody::RemoveContainer { id: vm_id(2), force: false }).unwrap();
    assert_eq!(story.step(), "vm-3: host 1 epoch 1\n");
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
        let new = NewContainer {
            id: ContainerId::from_bytes(bytes),
            name: format!("many-{n}"),
            spec: spec(small),
            labels: Default::default(),
            reservation: None,
        };
        cell.apply(CommandBody::CreateContainer(Box::new(new))).unwrap();
    }
    let mut story = Story::of(cell);
    let first = story.plan();
    assert_eq!((first.items.len(), first.more), (ITEMS_MAX, true));
    // The second is made while the first is under way.
    let second = story.plan();
    assert_eq!((second.items.len(), second.more), (10, false));
    for plan in [&first, &second] {
        let answers = story.apply(plan);
        assert!(answers.iter().all(Result::is_ok));
    }
    // Their outcomes come later, in whichever order.
    for plan in [&second, &first] {
        let answers: Vec<_> = plan.items.iter().map(|item| Ok(item.container)).collect();
        assert_eq!(story.settle(plan, &answers), 0);
    }
    assert_eq!(story.plan().items, []);
}

#[test]
fn plans_under_way_count_until_the_fleet_shows_them() {
    let mut cell = Cell::shared(1);
    wait(&mut cell, 1, cpus(3));
    let mut story = Story::of(cell);
    let first = story.plan();
    wait(&mut story.cell, 2, cpus(3));
    wait(&mut story.cell, 3, cpus(1));
    let second = story.plan();
    let text = shown(&second.items);
    assert!(text.contains("vm-3: host 1 epoch 1"), "{text}");
    assert!(text.contains("vm-2: 0 of 1 hosts fit: 1 refused by capacity"), "{text}");
    for plan in [&first, &second] {
        assert!(story.apply(plan).iter().all(Result::is_ok));
    }
}

#[test]
fn what_others_took_meanwhile_is_planned_again() {
    let mut cell = Cell::shared(2);
    wait(&mut cell, 1, cpus(4));
    let mut story = Story::of(cell);
    let plan = story.plan();
    // Another planner was quicker.
    story.cell.run(7, 1);
    let answers = story.apply(&plan);
    assert!(answers[0].is_err());
    assert_eq!(story.settle(&plan, &answers), 1);
    assert_eq!(story.step(), "vm-1: host 2 epoch 1\n");
}

#[test]
fn shares_cover_everything_once() {
    let ids: Vec<ContainerId> = (0..=255).map(vm_id).collect();
    for of in 1..5 {
        for id in &ids {
            let holders = (0..of).filter(|number| Share::new(*number, of).holds(*id)).count();
            assert_eq!(holders, 1);
        }
    }
}

#[test]
fn a_more_important_one_displaces_waits_and_takes_the_room() {
    let mut cell = Cell::shared(1);
    allow_preemption(&mut cell);
    let epoch = {
        cell.create(1, 100, cpus(4));
        let epoch = cell.start(1, 1);
        cell.started(1, 1, epoch);
        epoch
    };
    wait(&mut cell, 2, Demand { priority: 9, ..cpus(4) });
    let mut story = Story::of(cell);
    assert_eq!(story.step(), "vm-2: on host 1 vm-1 give way\n");
    assert!(story.cell.fleet.container(vm_id(1)).unwrap().displaced);
    // Until they have, nothing more is decided about it.
    assert_eq!(story.step(), "");
    story.cell.exited(1, 1, epoch, 143);
    let text = story.step();
    assert!(text.starts_with("vm-2: host 1 epoch 1\nvm-1: 0 of 1 hosts fit"), "{text}");
    assert_eq!(story.cell.state_name(1), "waiting");
}

#[test]
fn a_new_leader_displaces_nobody_while_others_are_on_their_way_out() {
    let mut cell = Cell::shared(1);
    allow_preemption(&mut cell);
    for n in [1, 2] {
        cell.create(n, 100, cpus(2));
        let epoch = cell.start(n, 1);
        cell.started(n, 1, epoch);
    }
    wait(&mut cell, 3, Demand { priority: 9, ..cpus(2) });
    let mut story = Story::of(cell);
    assert!(story.step().contains("give way"));
    story.planner = Planner::default();
    let text = story.step();
    assert!(!text.contains("give way"), "{text}");
}

fn rule(number: u8) -> CommandBody {
    let scope = Scope::Host;
    let kind = match number {
        0 => RuleKind::Apart { scope, unless_same: None },
        1 => RuleKind::Together { scope },
        2 => RuleKind::AtMost { scope, count: 2 },
        3 => RuleKind::Spread { scope, max_skew: 1 },
        _ => RuleKind::Apart { scope: Scope::Datastore, unless_same: Some("app".to_owned()) },
    };
    let spec = RuleSpec {
        selector: Selector::default(),
        each: Some("app".to_owned()),
        strength: Strength::Required,
        kind,
    };
    let id = RuleId::from_bytes([1; 16]);
    CommandBody::CreateRule(Box::new(NewRule {
        id,
        name: "kept".to_owned(),
        spec,
        labels: Default::default(),
    }))
}

/// What one container VM asks for: cpus, priority, endpoint, value of the label `app`.
type One = (u64, i16, bool, Option<u8>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_plan_is_taken_whole_however_many_are_under_way(
        hosts in 1..5_u8,
        ones in prop::collection::vec(
            (1..4_u64, 0..3_i16, any::<bool>(), prop::option::of(0..2_u8)), 1..24),
        ends in prop::collection::vec(1..24_u8, 0..6),
        kept in prop::option::of(0..5_u8),
    ) {
        let ones: Vec<One> = ones;
        let mut cell = Cell::shared(hosts);
        cell.apply_command(command(OTHER_ENDPOINT, new_image(&[], 100))).unwrap();
        if let Some(number) = kept {
            cell.apply(rule(number)).unwrap();
        }
        let mut story = Story::of(cell);
        let mut under_way: Vec<Plan> = Vec::new();
        let mut endpoints: Vec<EndpointId> = Vec::new();
        for (n, (cpus, priority, other, app)) in (1..).zip(&ones) {
            let endpoint = if *other { OTHER_ENDPOINT } else { ENDPOINT };
            endpoints.push(endpoint);
            let demand = Demand {
                cpu: MilliCpus::whole(*cpus),
                priority: *priority,
                disk: Bytes::gib(7),
                ..demand()
            };
            let mut spec = spec(demand);
            if let Some(app) = app {
                spec.labels.insert("app".to_owned(), app.to_string());
            }
            story.cell.apply_command(command(endpoint, new_container(n, spec))).unwrap();
            under_way.push(story.plan());
            if under_way.len() > 2 {
                take(&mut story, &mut under_way, &endpoints);
            }
        }
        for round in 0..40 {
            under_way.push(story.plan());
            take(&mut story, &mut under_way, &endpoints);
            if let Some(end) = ends.get(round) {
                let vm = story.cell.fleet.container(vm_id(*end)).map(|vm| (vm.epoch, vm.last_host));
                if let (Some((epoch, Some(host))), "starting" | "running") =
                    (vm, story.cell.state_name(*end))
                {
                    story.cell.exited(*end, host.as_bytes()[0], epoch, 0);
                }
            }
        }
        // What waits still has no place: a fresh planner finds none either.
        let nowhere = |item: &PlaceItem| matches!(item.decision, Decision::Nowhere(_));
        let left = plan(&story.cell);
        prop_assert!(left.iter().all(nowhere), "{}", shown(&left));
    }
}

/// The oldest plan is applied and settled, and what was created is started.
fn take(story: &mut Story, under_way: &mut Vec<Plan>, endpoints: &[EndpointId]) {
    let plan = under_way.remove(0);
    if plan.items.is_empty() {
        return;
    }
    let answers = story.apply(&plan);
    assert!(answers.iter().all(Result::is_ok), "{answers:?} of {}", shown(&plan.items));
    story.settle(&plan, &answers);
    for item in &plan.items {
        if matches!(item.decision, Decision::Datastore(_)) {
            let n = item.container.as_bytes()[0];
            let start = CommandBody::StartContainer { id: item.container };
            let endpoint = endpoints[usize::from(n) - 1];
            story.cell.apply_command(command(endpoint, start)).unwrap();
        }
    }
}

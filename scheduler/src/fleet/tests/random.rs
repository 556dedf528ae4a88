//! Random commands, sensible and not: apply never panics, every invariant holds after each, two
//! fleets fed alike are alike, a rejection changes nothing, and a snapshot gives back the fleet.

use super::super::testing::*;
use super::super::{Fleet, admit::Wish};
use crate::planner::{self, Planner};
use berth_model::change::Change;
use berth_model::command::{Command, CommandBody, Decision, PlaceItem};
use berth_model::container::StopOrder;
use berth_model::report::Fact;
use berth_model::{
    Bytes, Demand, EndpointId, Epoch, Explanation, IdempotencyKey, MilliCpus, Resources, Timestamp,
};
use proptest::prelude::*;

/// Small ranges, so that commands meet the same objects.
fn body() -> impl Strategy<Value = CommandBody> {
    let vm = 1..6_u8;
    let host = 1..5_u8;
    let store = prop_oneof![Just(100_u8), 101..104_u8];
    let stores = prop::collection::vec(prop_oneof![Just(100_u8), 101..104_u8], 0..3);
    let epoch = 0..4_u64;
    prop_oneof![
        1 => Just(bootstrap()),
        3 => (host.clone(), any::<bool>(), stores, 0..6_u64).prop_map(|(n, main, stores, cpus)| {
            let mut facts = facts(n, if main { "main" } else { "side" }, &stores);
            facts.capacity = Resources { cpu: MilliCpus::whole(cpus), memory: Bytes::gib(cpus) };
            CommandBody::HostSeen { host: host_id(n), facts: Box::new(facts) }
        }),
        1 => host.clone().prop_map(|n| CommandBody::HostSilent { host: host_id(n) }),
        1 => (host.clone(), any::<bool>()).prop_map(|(n, maintenance)| {
            CommandBody::SetMaintenance { host: host_id(n), maintenance }
        }),
        2 => store.clone().prop_map(|n| new_image(&["busybox:latest"], n)),
        4 => (vm.clone(), new_demand(), any::<bool>()).prop_map(|(n, demand, auto_remove)| {
            let mut spec = spec(demand);
            spec.auto_remove = auto_remove;
            new_container(n, spec)
        }),
        4 => vm.clone().prop_map(|n| CommandBody::StartContainer { id: vm_id(n) }),
        2 => (vm.clone(), prop::option::of((0..70_u8, prop::option::of(0..5_u32)))).prop_map(
            |(n, order)| CommandBody::StopContainer {
                id: vm_id(n),
                order: order.map(|(signal, grace_seconds)| StopOrder { signal, grace_seconds }),
            }
        ),
        2 => (vm.clone(), any::<bool>()).prop_map(|(n, force)| {
            CommandBody::RemoveContainer { id: vm_id(n), force }
        }),
        4 => (vm.clone(), prop_oneof![
            store.prop_map(|n| Decision::Datastore(store_id(n))),
            (host.clone(), epoch.clone())
                .prop_map(|(n, e)| Decision::Host { host: host_id(n), epoch: Epoch(e) }),
            Just(Decision::Nowhere(Explanation::default())),
        ]).prop_map(|(n, decision)| CommandBody::Place {
            planned_at: 0,
            items: vec![PlaceItem { container: vm_id(n), decision }],
        }),
        6 => (host, vm, epoch, 0..4_u8).prop_map(|(host, vm, epoch, kind)| {
            let (container, epoch, at) = (vm_id(vm), Epoch(epoch), Timestamp(1));
            let fact = match kind {
                0 => Fact::VmStarted { container, epoch, started_at: at },
                1 => Fact::VmExited { container, epoch, exit: exit(1), finished_at: at },
                2 => Fact::VmStartFailed { container, epoch, exit: exit(2), finished_at: at },
                _ => Fact::Discarded { container },
            };
            CommandBody::Observe { host: host_id(host), facts: vec![fact] }
        }),
    ]
}

fn new_demand() -> impl Strategy<Value = Demand> {
    let host = prop::option::weighted(0.2, (1..5_u8).prop_map(host_id));
    let cluster = prop::option::weighted(0.2, Just(CLUSTER));
    let datastore = prop::option::weighted(0.2, (100..104_u8).prop_map(store_id));
    (0..4_u64, 0..4_u64, 0..60_u64, host, cluster, datastore).prop_map(
        |(cpus, gib, disk, host, cluster, datastore)| Demand {
            cpu: MilliCpus::whole(cpus),
            memory: Bytes::gib(gib),
            disk: Bytes::gib(disk),
            cluster,
            host,
            datastore,
        },
    )
}

/// A command, what may decorate it, and what the planner may do after it.
fn step() -> impl Strategy<Value = (Command, u64, bool)> {
    let endpoint = prop_oneof![
        6 => Just(ENDPOINT),
        1 => Just(OTHER_ENDPOINT),
        1 => Just(EndpointId::SYSTEM)
    ];
    let key = prop::option::weighted(0.3, 0..4_u8);
    (body(), endpoint, key, 0..400_000_u64, prop::bool::weighted(0.3)).prop_map(
        |(body, endpoint, key, pass, plan)| {
            let key = key.map(|key| IdempotencyKey::from_bytes([key; 16]));
            (Command { key, ..command(endpoint, body) }, pass, plan)
        },
    )
}

/// The encoded fleet without what goes on by itself: index, time, and what expires.
fn essence(fleet: &Fleet, index: u64, time: Timestamp) -> Vec<u8> {
    let mut fleet = fleet.clone();
    fleet.advance(index, time);
    fleet.encode()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_comes_the_fleet_stays_whole(steps in prop::collection::vec(step(), 1..60)) {
        let (mut one, mut two) = (Fleet::default(), Fleet::default());
        let (mut index, mut time) = (0, Timestamp(0));
        one.apply(0, time, command(ENDPOINT, bootstrap())).unwrap();
        two.apply(0, time, command(ENDPOINT, bootstrap())).unwrap();
        for (command, pass, plan) in steps {
            index += 1;
            time = Timestamp(time.0 + pass);
            let before = essence(&one, index, time);
            let answer = one.apply(index, time, command.clone());
            prop_assert_eq!(&answer, &two.apply(index, time, command));
            prop_assert_eq!(one.check_invariants(), Ok(()));
            if answer.is_err() {
                prop_assert_eq!(&before, &one.encode());
            }
            if plan {
                plan_and_apply(&mut one, &mut two, index + 1, time)?;
                index += 2;
            }
        }
        prop_assert_eq!(one.state_hash(), two.state_hash());
        let restored = Fleet::decode(&one.encode()).unwrap();
        prop_assert_eq!(restored.encode(), one.encode());
        prop_assert_eq!(restored.state_hash(), one.state_hash());
    }
}

/// A plan made on a fleet is taken whole by that fleet, raises no charge above the limit, and
/// leaves nothing undecided. Takes two indexes, from `index` on.
fn plan_and_apply(
    one: &mut Fleet,
    two: &mut Fleet,
    index: u64,
    time: Timestamp,
) -> Result<(), TestCaseError> {
    let mut planner = Planner::default();
    let items = planner.plan(one).items;
    apply_plan(one, two, index, time, &items)?;
    for item in &items {
        match &item.decision {
            Decision::Host { host, .. } => {
                let host = one.host(*host).unwrap();
                let limit = one.limit_of_host(host);
                prop_assert!(host.charged.cpu <= limit.cpu);
                prop_assert!(host.charged.memory <= limit.memory);
            }
            Decision::Datastore(datastore) => {
                let datastore = one.datastore(*datastore).unwrap();
                prop_assert!(datastore.charged <= one.limit_of_datastore(datastore));
            }
            Decision::Nowhere(_) => {}
        }
    }
    // What still waits fits nowhere, and says so.
    for vm in one.unplaced() {
        let image = one.image_datastores(vm);
        let demand = &vm.spec.demand;
        let wish = match vm.datastore {
            Some(datastore) => Wish::start(demand, image, datastore),
            None => Wish::create(demand, image),
        };
        prop_assert!(one.hosts().all(|host| one.admit(host, &wish).is_err()));
    }
    // The planner that refused remembers it, and has nothing to add.
    prop_assert_eq!(planner.plan(one).items, Vec::new());
    // One that remembers nothing, as after an election, may find other words for a refusal: what
    // was placed after it in the plan took more. It places nothing, and that settles it.
    let reworded = planner::plan(one);
    let refused = |item: &PlaceItem| matches!(item.decision, Decision::Nowhere(_));
    prop_assert!(reworded.iter().all(refused), "{reworded:?}");
    apply_plan(one, two, index + 1, time, &reworded)?;
    prop_assert_eq!(planner::plan(one), Vec::new());
    Ok(())
}

/// Both fleets take every item and stay equal.
fn apply_plan(
    one: &mut Fleet,
    two: &mut Fleet,
    index: u64,
    time: Timestamp,
    items: &[PlaceItem],
) -> Result<(), TestCaseError> {
    let body = CommandBody::Place { planned_at: one.index(), items: items.to_vec() };
    let command = command(EndpointId::SYSTEM, body);
    let answer = one.apply(index, time, command.clone());
    prop_assert_eq!(&answer, &two.apply(index, time, command));
    prop_assert_eq!(one.check_invariants(), Ok(()));
    let Ok(Change::Placed { items: answers }) = answer else {
        return Err(TestCaseError::fail(format!("{answer:?}")));
    };
    prop_assert!(answers.iter().all(Result::is_ok), "{items:?} {answers:?}");
    Ok(())
}

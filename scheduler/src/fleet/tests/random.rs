//! Random commands, sensible and not: apply never panics, every invariant holds after each, two
//! fleets fed alike are alike, a rejection changes nothing, and a snapshot gives back the fleet.

use super::super::testing::*;
use super::super::{At, Fleet, admit::Wish};
use super::oracle;
use berth_model::change::Change;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{
    Command, CommandBody, Decision, NewContainer, NewRule, PlaceItem, Reserve, ReserveItem,
};
use berth_model::container::StopOrder;
use berth_model::endpoint::{EndpointDefaults, Quota};
use berth_model::event::What;
use berth_model::host::NumaNode;
use berth_model::report::Fact;
use berth_model::rule::{HostSelector, Term};
use berth_model::{
    Admission, Bytes, ContainerId, Demand, DiskDemand, EndpointId, Epoch, Explanation, GangId,
    IdempotencyKey, MilliCpus, NumaNodes, Permille, Place, PlacementWish, Resources, RuleId,
    RuleKind, RuleSpec, Scope, Selector, Strength, Timestamp, Victim,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Small ranges, so that commands meet the same objects.
fn body() -> impl Strategy<Value = CommandBody> {
    prop_oneof![
        8 => about_hosts(),
        20 => about_containers(),
        8 => about_places(),
        8 => about_reservations(),
        6 => about_rules(),
        3 => about_policies(),
    ]
}

fn vm() -> std::ops::Range<u8> {
    1..6
}

fn host() -> std::ops::Range<u8> {
    1..5
}

fn store() -> impl Strategy<Value = u8> {
    prop_oneof![Just(100_u8), 101..104_u8]
}

pub(super) fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("a|b", "x|y", 0..3)
}

fn about_hosts() -> impl Strategy<Value = CommandBody> {
    let stores = prop::collection::vec(store(), 0..3);
    let supply = (0..3_u64, prop::option::of(0..2_u8), 0..3_usize, labels());
    prop_oneof![
        1 => Just(bootstrap()),
        5 => (host(), any::<bool>(), stores, 0..6_u64, supply).prop_map(
            |(n, main, stores, cpus, (gpus, rack, nodes, labels))| {
                let mut facts = facts(n, if main { "main" } else { "side" }, &stores);
                facts.capacity =
                    Resources { cpu: MilliCpus::whole(cpus), memory: Bytes::gib(cpus) };
                facts.labels = labels;
                let supply = &mut facts.supply;
                supply.resources.insert("gpu".to_owned(), gpus);
                supply.domain =
                    rack.map(|n| ("rack".to_owned(), n.to_string())).into_iter().collect();
                let capacity = Resources { cpu: MilliCpus::whole(2), memory: Bytes::gib(2) };
                supply.numa = (0..nodes).map(|id| NumaNode { id: id as u16, capacity }).collect();
                CommandBody::HostSeen { host: host_id(n), facts: Box::new(facts) }
            }
        ),
        1 => host().prop_map(|n| CommandBody::HostSilent { host: host_id(n) }),
        1 => (host(), any::<bool>()).prop_map(|(n, maintenance)| {
            CommandBody::SetMaintenance { host: host_id(n), maintenance }
        }),
        1 => host().prop_map(|n| CommandBody::RemoveHost { host: host_id(n) }),
        2 => store().prop_map(|n| new_image(&["busybox:latest"], n)),
    ]
}

fn about_containers() -> impl Strategy<Value = CommandBody> {
    let reservation = prop::option::weighted(0.2, 0..4_u8);
    let fact = (host(), vm(), 0..4_u64, 0..4_u8);
    prop_oneof![
        4 => (vm(), new_demand(), any::<bool>(), labels(), reservation).prop_map(
            |(n, demand, auto_remove, labels, reservation)| {
                let mut spec = spec(demand);
                spec.auto_remove = auto_remove;
                let CommandBody::CreateContainer(new) = new_container(n, spec) else {
                    unreachable!("a create");
                };
                let reservation = reservation.map(reservation_id);
                CommandBody::CreateContainer(Box::new(NewContainer { labels, reservation, ..*new }))
            }
        ),
        4 => vm().prop_map(|n| CommandBody::StartContainer { id: vm_id(n) }),
        2 => (vm(), prop::option::of((0..70_u8, prop::option::of(0..5_u32)))).prop_map(
            |(n, order)| CommandBody::StopContainer {
                id: vm_id(n),
                order: order.map(|(signal, grace_seconds)| StopOrder { signal, grace_seconds }),
            }
        ),
        2 => (vm(), any::<bool>()).prop_map(|(n, force)| {
            CommandBody::RemoveContainer { id: vm_id(n), force }
        }),
        6 => fact.prop_map(|(host, vm, epoch, kind)| {
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

fn victims() -> impl Strategy<Value = Vec<Victim>> {
    let victim = prop_oneof![
        vm().prop_map(|n| Victim::ContainerVm(vm_id(n))),
        (0..4_u8).prop_map(|n| Victim::Reservation(reservation_id(n))),
    ];
    prop::collection::vec(victim, 0..3)
}

fn about_places() -> impl Strategy<Value = CommandBody> {
    let decision = prop_oneof![
        2 => store().prop_map(|n| Decision::Datastore(store_id(n))),
        2 => (host(), 0..4_u64)
            .prop_map(|(n, e)| Decision::Host { host: host_id(n), epoch: Epoch(e) }),
        1 => (host(), 0..4_u64, 0..4_u16).prop_map(|(n, e, nodes)| Decision::Bound {
            host: host_id(n),
            epoch: Epoch(e),
            numa: NumaNodes(nodes)
        }),
        1 => (host(), victims())
            .prop_map(|(n, victims)| Decision::Displace { host: host_id(n), victims }),
        1 => Just(Decision::Nowhere(Explanation::default())),
    ];
    (vm(), decision).prop_map(|(n, decision)| CommandBody::Place {
        planned_at: 0,
        items: vec![PlaceItem { container: vm_id(n), decision }],
    })
}

fn about_reservations() -> impl Strategy<Value = CommandBody> {
    let wish = (new_demand(), labels(), prop::collection::vec(1..60_u64, 0..3)).prop_map(
        |(demand, labels, disks)| {
            let disks = (0..).zip(disks).map(|(n, size)| DiskDemand {
                name: format!("disk-{n}"),
                size: Bytes::gib(size),
                ..DiskDemand::default()
            });
            Arc::new(PlacementWish { demand: Demand { disks: disks.collect(), ..demand }, labels })
        },
    );
    let item = (0..4_u8, 0..2_u32, any::<bool>(), host(), store(), 0..4_u16, victims());
    let items = prop::collection::vec((item, prop::option::of(0..600_000_u64)), 1..4);
    let wishes = prop::collection::vec(wish, 1..3);
    let id = 0..4_u8;
    prop_oneof![
        5 => (wishes, items, any::<bool>()).prop_map(|(wishes, items, gang)| {
            let items = items.into_iter().map(|(item, hold_ms)| {
                let (id, wish, own, host, store, numa, victims) = item;
                let demand = wishes.get(wish as usize).map(|wish| wish.demand.clone());
                let demand = demand.unwrap_or_default();
                let place = Place {
                    host: host_id(host),
                    numa: if demand.numa.is_some() { NumaNodes(numa) } else { NumaNodes::NONE },
                    delta: (demand.disk > Bytes::ZERO).then(|| store_id(store)),
                    disks: demand.disks.iter().map(|_| store_id(store)).collect(),
                };
                let endpoint = if own { ENDPOINT } else { OTHER_ENDPOINT };
                ReserveItem { id: reservation_id(id), wish, endpoint, place, hold_ms, victims }
            });
            CommandBody::Reserve(Box::new(Reserve {
                planned_at: 0,
                items: items.collect(),
                wishes,
                gang: gang.then(|| GangId::from_bytes([1; 16])),
            }))
        }),
        1 => prop::collection::vec(id.clone(), 0..3).prop_map(|ids| CommandBody::Release {
            ids: ids.into_iter().map(reservation_id).collect()
        }),
        1 => (id, prop::option::of(0..9_000_000_u64)).prop_map(|(id, at)| CommandBody::Extend {
            id: reservation_id(id),
            expires_at: at.map(Timestamp)
        }),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let term = ("a|b", "x|y", 0..4_u8).prop_map(|(name, value, kind)| match kind {
        0 => Term::Exists(name),
        1 => Term::Absent(name),
        2 => Term::In(name, BTreeSet::from([value])),
        _ => Term::NotIn(name, BTreeSet::from([value])),
    });
    prop::collection::vec(term, 0..2).prop_map(|terms| Selector { terms })
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Host),
        Just(Scope::Cluster),
        Just(Scope::Datastore),
        Just(Scope::Domain("rack".to_owned()))
    ]
}

pub(super) fn rule_spec() -> impl Strategy<Value = RuleSpec> {
    let kind = (scope(), selector(), 0..3_u32, any::<bool>(), 0..8_u8).prop_map(
        |(scope, with, count, flag, kind)| match kind {
            0 => RuleKind::Together { scope },
            1 => RuleKind::Apart { scope, unless_same: flag.then(|| "b".to_owned()) },
            2 => RuleKind::AtMost { scope, count },
            3 => RuleKind::Spread { scope, max_skew: count },
            4 => RuleKind::Near { scope, with },
            5 => RuleKind::Away { scope, from: with },
            6 => {
                let within = HostSelector { labels: with, ..HostSelector::default() };
                RuleKind::Hosts { within, not: flag }
            }
            _ => {
                let ids = BTreeSet::from([store_id(100)]);
                let within = berth_model::rule::DatastoreSelector { ids, ..Default::default() };
                RuleKind::Datastores { within, not: flag }
            }
        },
    );
    let each = prop::option::weighted(0.3, "a|b");
    (selector(), each, prop::option::weighted(0.3, 0..3_u16), kind).prop_map(
        |(selector, each, weight, kind)| {
            let strength =
                weight.map_or(Strength::Required, |weight| Strength::Preferred { weight });
            RuleSpec { selector, each, strength, kind }
        },
    )
}

fn about_rules() -> impl Strategy<Value = CommandBody> {
    let id = (0..4_u8).prop_map(|n| RuleId::from_bytes([n; 16]));
    prop_oneof![
        4 => (id.clone(), rule_spec()).prop_map(|(id, spec)| {
            let name = format!("rule-{}", id.as_bytes()[0]);
            CommandBody::CreateRule(Box::new(NewRule { id, name, spec, labels: BTreeMap::new() }))
        }),
        1 => (id.clone(), rule_spec()).prop_map(|(id, spec)| CommandBody::ReplaceRule { id, spec }),
        2 => id.prop_map(|id| CommandBody::RemoveRule { id }),
    ]
}

fn about_policies() -> impl Strategy<Value = CommandBody> {
    let quota = (
        prop::option::of(0..9_u64),
        prop::option::of(0..9_u64),
        prop::option::of(0..99_u64),
        prop::option::of(0..9_u32),
    );
    let admission = prop_oneof![
        Just(Admission::Off),
        host().prop_map(|n| Admission::FailoverHosts { hosts: BTreeSet::from([host_id(n)]) }),
        (0..1000_u32).prop_map(|n| Admission::Percentage { cpu: Permille(n), memory: Permille(1) }),
    ];
    let cluster = prop_oneof![Just(CLUSTER), Just(OTHER_CLUSTER)];
    prop_oneof![
        2 => quota.prop_map(|(cpu, memory, disk, containers)| CommandBody::ConfigureEndpoint {
            id: ENDPOINT,
            defaults: EndpointDefaults::default(),
            quota: Quota {
                cpu: cpu.map(MilliCpus::whole),
                memory: memory.map(Bytes::gib),
                disk: disk.map(Bytes::gib),
                containers,
            },
        }),
        3 => (cluster.clone(), admission, any::<bool>(), 0..3_u32).prop_map(
            |(cluster, admission, preemption, reserve)| {
                let policy = ClusterPolicy {
                    cpu_overcommit: Permille(1000 + 500 * reserve),
                    cpu_reserve: Permille(100 * reserve),
                    disk_reserve: Permille(100 * reserve),
                    admission,
                    preemption,
                    ..ClusterPolicy::default()
                };
                CommandBody::SetPolicy { cluster, policy }
            }
        ),
        1 => cluster.prop_map(|cluster| CommandBody::RemoveCluster { cluster }),
        1 => Just(CommandBody::RemoveEndpoint { id: OTHER_ENDPOINT }),
    ]
}

fn new_demand() -> impl Strategy<Value = Demand> {
    let host = prop::option::weighted(0.2, (1..5_u8).prop_map(host_id));
    let cluster = prop::option::weighted(0.2, Just(CLUSTER));
    let datastore = prop::option::weighted(0.2, store().prop_map(store_id));
    let more = (
        prop::option::weighted(0.2, 1..3_u8),
        prop::option::weighted(0.2, 1..3_u64),
        prop::option::weighted(0.2, 1..3_u64),
        -1..2_i16,
        prop::option::weighted(0.1, Just(("a".to_owned(), "x".to_owned()))),
    );
    (0..4_u64, 0..4_u64, 0..60_u64, host, cluster, datastore, more).prop_map(
        |(cpus, gib, disk, host, cluster, datastore, (numa, gpus, reserved, priority, label))| {
            Demand {
                cpu: MilliCpus::whole(cpus),
                memory: Bytes::gib(gib),
                memory_reservation: Bytes::gib(reserved.unwrap_or(0)),
                disk: Bytes::gib(disk),
                numa,
                resources: gpus.map(|n| ("gpu".to_owned(), n)).into_iter().collect(),
                host_labels: label.into_iter().collect(),
                cluster,
                host,
                datastore,
                priority,
                ..Demand::default()
            }
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

/// How many things a command places or ends; `None` for one that places nothing.
fn placed_items(body: &CommandBody) -> Option<usize> {
    if let CommandBody::Place { items, .. } = body {
        return Some(items.len());
    }
    let CommandBody::Reserve(reserve) = body else { return None };
    Some(reserve.items.iter().map(|item| 1 + item.victims.len()).sum())
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
            let untouched = one.clone();
            let placed = placed_items(&command.body);
            let answer = one.apply(index, time, command.clone());
            prop_assert_eq!(&answer, &two.apply(index, time, command));
            prop_assert_eq!(one.check_invariants(), Ok(()));
            if answer.is_err() {
                prop_assert_eq!(&before, &one.encode());
            }
            oracle::check_step(&untouched, &one)?;
            if let Some(items) = placed {
                oracle::check_rules(&untouched, &one, items == 1)?;
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

/// A first-fit plan made on a fleet is taken whole by that fleet, raises no charge above the limit,
/// and what still waits then fits nowhere.
fn plan_and_apply(
    one: &mut Fleet,
    two: &mut Fleet,
    index: u64,
    time: Timestamp,
) -> Result<(), TestCaseError> {
    let mut working = one.clone();
    let mut items = Vec::new();
    let waiting: Vec<ContainerId> = one.unplaced().map(|vm| vm.id).collect();
    for id in waiting {
        if let Some(decision) = first_fit(&working, id) {
            let item = PlaceItem { container: id, decision };
            prop_assert_eq!(working.place_at(index, item.clone()), Ok(id));
            items.push(item);
        }
    }
    let before = one.clone();
    apply_plan(one, two, index, time, &items)?;
    oracle::check_step(&before, one)?;
    oracle::check_rules(&before, one, items.len() == 1)?;
    for vm in one.unplaced().filter(|vm| !items.iter().any(|item| item.container == vm.id)) {
        prop_assert_eq!(first_fit(one, vm.id), None);
    }
    Ok(())
}

fn first_fit(fleet: &Fleet, id: ContainerId) -> Option<Decision> {
    let vm = fleet.container(id)?;
    let matched = fleet.matched(vm.endpoint(), vm.labels());
    let image = fleet.image_datastores(vm);
    // What a reservation holds for it is free for it.
    let mut without = fleet.clone();
    if let Some(held) = vm.reservation {
        without.end_reservation(
            At { index: fleet.index(), time: fleet.time(), endpoint: EndpointId::SYSTEM },
            held,
            What::Removed,
        );
    }
    let Some(datastore) = vm.datastore else {
        let wish = Wish::create(&vm.spec.demand, image).by(vm.endpoint(), &matched);
        let wanted = vm.spec.demand.datastore;
        let mut stores =
            without.datastores().filter(|store| wanted.is_none_or(|wanted| wanted == store.id));
        let fits = stores.find(|store| without.admit_delta(store, &wish).is_ok())?;
        return Some(Decision::Datastore(fits.id));
    };
    let wish = Wish::start(&vm.spec.demand, image, datastore).by(vm.endpoint(), &matched);
    let host = without.hosts().find(|host| without.admit(host, &wish).is_ok())?;
    Some(Decision::Host { host: host.id, epoch: vm.epoch.next() })
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

//! Policies, quotas and endpoints: what they allow, and what they keep.

use super::super::admit::Wish;
use super::super::testing::*;
use berth_model::change::Change;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{Command, CommandBody, Condition, Decision};
use berth_model::endpoint::{EndpointDefaults, Quota};
use berth_model::event::{Subject, What};
use berth_model::explanation::Refusal;
use berth_model::rejection::QuotaKind;
use berth_model::{
    Admission, Bytes, Demand, DiskDemand, Epoch, MilliCpus, NumaNodes, Permille, Place,
    PlacementWish, Rejection, Resources,
};
use proptest::prelude::*;

fn policy(cell: &Cell) -> ClusterPolicy {
    cell.fleet.cluster(CLUSTER).unwrap().policy.clone()
}

fn set(cell: &mut Cell, policy: ClusterPolicy) -> Result<Change, Rejection> {
    cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy })
}

fn quota(cell: &mut Cell, quota: Quota) {
    let defaults = EndpointDefaults::default();
    cell.apply(CommandBody::ConfigureEndpoint { id: ENDPOINT, defaults, quota }).unwrap();
}

#[test]
fn reserves_and_overcommit_make_the_limit() {
    let mut cell = Cell::shared(1);
    let half = ClusterPolicy {
        cpu_reserve: Permille(500),
        cpu_overcommit: Permille(3000),
        memory_reserve: Permille(250),
        disk_reserve: Permille(100),
        ..policy(&cell)
    };
    set(&mut cell, half).unwrap();
    let host = cell.fleet.host(host_id(1)).unwrap();
    let limit = Resources { cpu: MilliCpus::whole(6), memory: Bytes::gib(3) };
    assert_eq!(cell.fleet.limit_of_host(host), limit);
    let store = cell.fleet.datastore(store_id(100)).unwrap();
    assert_eq!(cell.fleet.limit_of_datastore(store), Bytes::gib(90));
    assert_eq!(cell.fleet.load_of_cluster(CLUSTER).limit, limit);
}

#[test]
fn a_policy_says_what_is_wrong_with_it() {
    let mut cell = Cell::shared(1);
    let admissions = [
        Admission::HostFailures { count: 0 },
        Admission::HostFailures { count: 3 },
        Admission::Percentage { cpu: Permille(901), memory: Permille(1) },
        Admission::FailoverHosts { hosts: [].into() },
        Admission::FailoverHosts { hosts: [host_id(9)].into() },
        Admission::Slots { cpu: MilliCpus(0), memory: Bytes(1), failures: 1 },
        Admission::Slots { cpu: MilliCpus(1), memory: Bytes(1), failures: 5 },
    ];
    for admission in admissions {
        let wrong = ClusterPolicy { admission, ..policy(&cell) };
        assert!(matches!(set(&mut cell, wrong), Err(Rejection::Invalid { .. })));
    }
    let wrong = ClusterPolicy { disk_reserve: Permille(901), ..policy(&cell) };
    assert!(matches!(set(&mut cell, wrong), Err(Rejection::Invalid { .. })));
    let same = policy(&cell);
    assert_eq!(set(&mut cell, same), Ok(Change::Nothing));
}

#[test]
fn a_percentage_of_the_cluster_is_kept() {
    let mut cell = Cell::shared(2);
    let admission = Admission::Percentage { cpu: Permille(500), memory: Permille(1) };
    let keeping = ClusterPolicy { admission, ..policy(&cell) };
    set(&mut cell, keeping).unwrap();
    for n in 1..=4 {
        cell.reserve(n, wish(""), on(1 + n % 2)).unwrap();
    }
    let refused = cell.reserve(5, wish(""), on(1)).unwrap_err();
    let Rejection::HostRefuses { refusal, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.to_string(), "50.0 % of the cluster's cpu is kept for the loss of a host");
    // A host in maintenance counts for nothing.
    cell.apply(CommandBody::SetMaintenance { host: host_id(2), maintenance: true }).unwrap();
    assert_eq!(cell.fleet.load_of_cluster(CLUSTER).hosts, 1);
}

#[test]
fn a_quota_is_asked_at_create_at_start_and_at_reserve() {
    let mut cell = Cell::shared(2);
    quota(&mut cell, Quota { containers: Some(2), cpu: Some(MilliCpus(1500)), ..Quota::default() });
    cell.run(1, 1);
    cell.create(2, 100, demand());
    assert_eq!(
        cell.apply(new_container(3, spec(demand()))),
        Err(Rejection::QuotaExceeded { what: QuotaKind::Containers, limit: 2, used: 2, needed: 1 })
    );
    cell.apply(CommandBody::StartContainer { id: vm_id(2) }).unwrap();
    let start = Decision::Host { host: host_id(2), epoch: Epoch(1) };
    let short = |what, limit, used, needed| Rejection::HostRefuses {
        host: host_id(2),
        refusal: Refusal::QuotaExceeded { what, limit, used, needed },
    };
    assert_eq!(cell.place(2, start.clone()), Err(short(QuotaKind::Cpu, 1500, 1000, 1000)));
    quota(&mut cell, Quota { containers: Some(2), ..Quota::default() });
    cell.place(2, start).unwrap();
    assert_eq!(cell.reserve(1, wish(""), on(2)), Err(short(QuotaKind::Containers, 2, 2, 1)));
    let usage = cell.fleet.usage(ENDPOINT);
    assert_eq!((usage.containers, usage.cpu), (2, MilliCpus::whole(2)));
    assert_eq!((usage.memory, usage.disk), (Bytes::gib(2), Bytes::gib(20)));
}

#[test]
fn what_is_in_use_is_not_removed() {
    let mut cell = Cell::shared(1);
    cell.run(1, 1);
    let host = CommandBody::RemoveHost { host: host_id(1) };
    let in_use = |answer| match answer {
        Err(Rejection::InUse { by, .. }) => by,
        other => panic!("{other:?}"),
    };
    assert_eq!(in_use(cell.apply(host.clone())), "its node, which is connected");
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    assert_eq!(in_use(cell.apply(host.clone())), "container VM vm-1");
    let cluster = CommandBody::RemoveCluster { cluster: CLUSTER };
    assert_eq!(in_use(cell.apply(cluster.clone())), "host host-1");
    let endpoint = CommandBody::RemoveEndpoint { id: ENDPOINT };
    assert_eq!(in_use(cell.apply(endpoint.clone())), "container VM vm-1");
    cell.host(1, facts(1, "main", &[100]));
    cell.exited(1, 1, Epoch(1), 0);
    cell.apply(CommandBody::RemoveContainer { id: vm_id(1), force: false }).unwrap();
    cell.discarded(1, 1);
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    cell.apply(host).unwrap();
    cell.apply(cluster).unwrap();
    assert!(in_use(cell.apply(endpoint)).starts_with("image"));
    cell.apply(CommandBody::RemoveEndpoint { id: OTHER_ENDPOINT }).unwrap();
    assert!(cell.fleet.datastore(store_id(100)).unwrap().hosts.is_empty());
    let last = cell.fleet.events_after(0).unwrap().last().unwrap();
    assert_eq!((last.subject, last.what), (Subject::Endpoint(OTHER_ENDPOINT), What::Removed));
}

#[test]
fn a_condition_that_does_not_hold_changes_nothing() {
    let mut cell = Cell::shared(1);
    let modified = cell.fleet.host(host_id(1)).unwrap().meta.modified;
    let subject = Subject::Host(host_id(1));
    let maintenance = |maintenance, modified| Command {
        condition: Some(Condition { subject, modified }),
        ..command(ENDPOINT, CommandBody::SetMaintenance { host: host_id(1), maintenance })
    };
    cell.apply_command(maintenance(true, modified)).unwrap();
    let newer = cell.index;
    assert_eq!(
        cell.apply_command(maintenance(false, modified)),
        Err(Rejection::ConditionFailed { modified: newer })
    );
    cell.apply_command(maintenance(false, newer)).unwrap();
}

fn gib(name: &str, size: u64) -> DiskDemand {
    DiskDemand { name: name.to_owned(), size: Bytes::gib(size), ..DiskDemand::default() }
}

#[test]
fn disks_of_many_sizes_go_where_they_fit() {
    let mut cell = Cell::shared(0);
    cell.host(1, facts(1, "main", &[100, 101, 102]));
    // Each datastore is filled by one pair and by no other.
    let disks = [("a", 60), ("b", 40), ("c", 70), ("d", 30), ("e", 55), ("f", 45)];
    let disks = disks.map(|(name, size)| gib(name, size)).to_vec();
    let demand = Demand { disk: Bytes::ZERO, disks, ..demand() };
    let matched = cell.fleet.matched(ENDPOINT, &Default::default());
    let wish = Wish::run(&demand, None).by(ENDPOINT, &matched);
    let host = cell.fleet.host(host_id(1)).unwrap();
    let (delta, stores) = cell.fleet.choose_disks(host, &wish).unwrap();
    assert_eq!(delta, None);
    for pair in [(0, 1), (2, 3), (4, 5)] {
        assert_eq!(stores[pair.0], stores[pair.1]);
    }
    let place = Place { disks: stores, ..on(1) };
    let labels = Default::default();
    cell.reserve(1, PlacementWish { demand, labels }, place).unwrap();
}

#[test]
fn numa_nodes_are_taken_where_they_fit_tightest() {
    let mut cell = Cell::shared(0);
    let mut facts = facts(1, "main", &[100]);
    let node = |id: u16, cpus| berth_model::host::NumaNode {
        id,
        capacity: Resources { cpu: MilliCpus::whole(cpus), memory: Bytes::gib(2) },
    };
    facts.supply.numa = vec![node(0, 3), node(1, 1), node(2, 2)];
    cell.host(1, facts);
    let demand =
        |width, cpus| Demand { numa: Some(width), cpu: MilliCpus::whole(cpus), ..wish("").demand };
    let choose = |cell: &Cell, width, cpus| {
        let host = cell.fleet.host(host_id(1)).unwrap();
        cell.fleet.choose_numa(host, &demand(width, cpus))
    };
    assert_eq!(choose(&cell, 1, 1), Some(NumaNodes::of(&[1])));
    assert_eq!(choose(&cell, 1, 2), Some(NumaNodes::of(&[2])));
    assert_eq!(choose(&cell, 2, 4), Some(NumaNodes::of(&[0, 2])));
    assert_eq!(choose(&cell, 2, 5), None);
    let labels = Default::default();
    let wish = PlacementWish { demand: demand(1, 1), labels };
    cell.reserve(1, wish.clone(), Place { numa: NumaNodes::of(&[1]), ..on(1) }).unwrap();
    assert_eq!(choose(&cell, 1, 1), Some(NumaNodes::of(&[2])));
    let full = cell.reserve(2, wish, Place { numa: NumaNodes::of(&[1]), ..on(1) }).unwrap_err();
    assert!(matches!(full, Rejection::HostRefuses { refusal: Refusal::NumaShort { .. }, .. }));
}

/// Whether some way to lay the disks out fits: every way is tried.
fn fits_somehow(free: &mut [u64], disks: &[u64]) -> bool {
    let Some((size, rest)) = disks.split_first() else { return true };
    (0..free.len()).any(|store| {
        if free[store] < *size {
            return false;
        }
        free[store] -= size;
        let fits = fits_somehow(free, rest);
        free[store] += size;
        fits
    })
}

proptest! {
    #[test]
    fn disks_go_where_they_fit_exactly_if_they_can(
        sizes in prop::collection::vec(1..50_u64, 1..7),
        rooms in prop::collection::vec(0..100_u64, 1..4),
        delta in 0..40_u64,
    ) {
        let mut cell = Cell::shared(0);
        let stores: Vec<u8> = (100..).take(rooms.len()).collect();
        let mut facts = facts(1, "main", &stores);
        for (store, room) in stores.iter().zip(&rooms) {
            facts.datastores.get_mut(&store_id(*store)).unwrap().capacity = Bytes::gib(*room);
        }
        cell.host(1, facts);
        let disks = sizes.iter().map(|size| gib(&format!("disk-{size}"), *size)).collect();
        let demand = Demand { disk: Bytes::gib(delta), disks, ..demand() };
        let wish = Wish::run(&demand, None);
        let host = cell.fleet.host(host_id(1)).unwrap();
        let chosen = cell.fleet.choose_disks(host, &wish);
        let all: Vec<u64> = sizes.iter().copied().chain([delta]).collect();
        prop_assert_eq!(chosen.is_ok(), fits_somehow(&mut rooms.clone(), &all));
        prop_assert_eq!(chosen.is_ok(), cell.fleet.admit(host, &wish).is_ok());
        if let Ok((delta, disks)) = chosen {
            let mut left: Vec<u64> = rooms.clone();
            for (store, size) in disks.iter().chain(&delta).zip(&all) {
                let at = stores.iter().position(|n| store_id(*n) == *store).unwrap();
                left[at] = left[at].checked_sub(*size).unwrap();
            }
        }
    }
}

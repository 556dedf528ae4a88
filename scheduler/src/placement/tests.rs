//! What is chosen and why not, and that a suggested change of a refused request really helps.

use super::{Placement, place, place_datastore, place_host};
use crate::fleet::testing::*;
use berth_model::cluster::{ClusterPolicy, Strategy};
use berth_model::command::CommandBody;
use berth_model::explanation::{Filter, Relaxation};
use berth_model::{
    Bytes, ClusterId, DatastoreId, Demand, Explanation, HostId, MilliCpus, Permille, Refusal,
    Resources,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn image() -> BTreeSet<DatastoreId> {
    BTreeSet::from([store_id(100)])
}

/// The host for a start from the shared datastore.
fn start(cell: &Cell, demand: &Demand) -> Result<HostId, Explanation> {
    place_host(&cell.fleet, demand, Some(&image()), store_id(100))
}

fn create(cell: &Cell, demand: &Demand) -> Result<DatastoreId, Explanation> {
    place_datastore(&cell.fleet, demand, Some(&image()))
}

/// Hosts 1 and 2 in a cluster of their own with this strategy, all on the shared datastore.
fn with_strategy(strategy: Strategy) -> Cell {
    let mut cell = Cell::shared(0);
    let policy = ClusterPolicy { strategy, ..ClusterPolicy::default() };
    let id = ClusterId::from_bytes([3; 16]);
    let name = "third".to_owned();
    cell.apply(CommandBody::CreateCluster { id, name, policy }).unwrap();
    for n in [1, 2] {
        cell.host(n, facts(n, "third", &[100]));
    }
    cell
}

fn sized(cpus: u64, gib: u64) -> Demand {
    // The class of `gib` GiB takes the guest's own off the limit.
    let limit = Bytes::gib(gib).0 - Bytes::mib(40).0 - (Bytes::gib(gib).0 >> 6);
    Demand { cpu: MilliCpus::whole(cpus), memory: Bytes(limit), ..demand() }
}

#[test]
fn spread_takes_the_host_with_the_fewest_and_pack_the_fullest() {
    for (strategy, expected) in [(Strategy::Spread, 2), (Strategy::Pack, 1)] {
        let mut cell = with_strategy(strategy);
        cell.run(1, 1);
        assert_eq!(start(&cell, &demand()), Ok(host_id(expected)), "{strategy:?}");
    }
}

#[test]
fn balance_takes_the_host_whose_cpu_and_memory_stay_together() {
    let mut cell = with_strategy(Strategy::Balance);
    cell.create(1, 100, sized(8, 1));
    cell.start(1, 1);
    assert_eq!(start(&cell, &sized(1, 2)), Ok(host_id(1)));
    assert_eq!(start(&cell, &sized(4, 1)), Ok(host_id(2)));
}

#[test]
fn ties_go_to_the_least_id() {
    let cell = Cell::shared(3);
    assert_eq!(start(&cell, &demand()), Ok(host_id(1)));
}

#[test]
fn a_datastore_that_more_hosts_reach_is_taken_before_an_emptier_one() {
    let mut cell = Cell::shared(0);
    cell.host(1, facts(1, "main", &[100, 101]));
    cell.host(2, facts(2, "main", &[100, 102]));
    cell.create(1, 100, demand());
    assert_eq!(create(&cell, &demand()), Ok(store_id(100)));
    let large = Demand { disk: Bytes::gib(95), ..demand() };
    assert_eq!(create(&cell, &large), Ok(store_id(101)));
    cell.create(2, 101, demand());
    assert_eq!(create(&cell, &large), Ok(store_id(102)));
}

#[test]
fn a_datastore_whose_hosts_are_full_is_taken_last() {
    let mut cell = Cell::shared(0);
    cell.host(1, facts(1, "main", &[100, 101]));
    cell.host(2, facts(2, "main", &[100, 102]));
    cell.create(1, 100, sized(4, 1));
    cell.start(1, 1);
    let local = Demand { disk: Bytes::gib(95), ..demand() };
    assert_eq!(create(&cell, &local), Ok(store_id(102)));
}

#[test]
fn a_create_fits_a_full_host_but_not_one_too_small() {
    let mut cell = Cell::shared(1);
    cell.create(1, 100, sized(4, 1));
    cell.start(1, 1);
    assert_eq!(create(&cell, &demand()), Ok(store_id(100)));
    assert!(start(&cell, &demand()).is_err());
    let too_much = create(&cell, &sized(5, 1)).unwrap_err();
    let short = Refusal::CpuShort { needed: MilliCpus::whole(5), free: MilliCpus::whole(4) };
    assert_eq!(too_much.hosts, [(host_id(1), short)]);
}

#[test]
fn overcommit_counts_for_each_cluster() {
    let mut cell = Cell::shared(0);
    let policy = ClusterPolicy {
        cpu_overcommit: Permille(2000),
        disk_overcommit: Permille(3000),
        ..ClusterPolicy::default()
    };
    let id = ClusterId::from_bytes([3; 16]);
    cell.apply(CommandBody::CreateCluster { id, name: "dense".to_owned(), policy }).unwrap();
    cell.host(1, facts(1, "main", &[101]));
    cell.host(2, facts(2, "dense", &[100]));
    assert_eq!(start(&cell, &sized(8, 1)), Ok(host_id(2)));
    let large = Demand { disk: Bytes::gib(300), ..demand() };
    assert_eq!(create(&cell, &large), Ok(store_id(100)));
    // With a host of a more careful cluster on it, the careful one counts.
    cell.host(1, facts(1, "main", &[100]));
    assert!(create(&cell, &large).is_err());
}

#[test]
fn a_demand_stays_in_its_cluster_host_and_datastore() {
    let mut cell = Cell::shared(2);
    cell.host(3, facts(3, "side", &[100, 103]));
    let side = Demand { cluster: Some(OTHER_CLUSTER), ..demand() };
    assert_eq!(start(&cell, &side), Ok(host_id(3)));
    let second = Demand { host: Some(host_id(2)), ..demand() };
    assert_eq!(start(&cell, &second), Ok(host_id(2)));
    let local = Demand { datastore: Some(store_id(103)), ..demand() };
    let placement = place(&cell.fleet, &local, Some(&image())).unwrap();
    assert_eq!(placement, Placement { datastore: store_id(103), host: host_id(3) });
    let torn = Demand { cluster: Some(CLUSTER), ..local };
    assert!(place(&cell.fleet, &torn, Some(&image())).is_err());
}

#[test]
fn a_refusal_counts_each_host_under_the_first_filter_that_refused_it() {
    let mut cell = Cell::shared(2);
    cell.host(3, facts(3, "side", &[100]));
    cell.host(4, facts(4, "main", &[104]));
    cell.host(5, facts(5, "main", &[]));
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    cell.create(1, 100, sized(4, 1));
    cell.start(1, 2);
    let wanted = Demand { cluster: Some(CLUSTER), ..demand() };
    let explanation = start(&cell, &wanted).unwrap_err();
    assert_eq!(explanation.considered, 5);
    let count = |filter| explanation.refused.get(&filter).copied().unwrap_or(0);
    assert_eq!(Filter::ALL.map(count), [1, 1, 1, 2, 0]);
    assert_eq!(explanation.relaxation, Some(Relaxation::AnyCluster));
    assert_eq!(
        explanation.to_string(),
        "0 of 5 hosts fit: 1 refused by availability, 1 refused by rules, 1 refused by capacity, \
         2 refused by datastores; it would fit with any cluster allowed"
    );
}

#[test]
fn an_empty_cell_explains_itself() {
    let explanation = create(&Cell::new(), &demand()).unwrap_err();
    assert_eq!(explanation, Explanation::default());
}

#[test]
fn the_smallest_cut_is_suggested_in_the_unit_that_is_short() {
    let cell = Cell::shared(1);
    let relaxation = |demand: &Demand| start(&cell, demand).unwrap_err().relaxation;
    assert_eq!(relaxation(&sized(5, 1)), Some(Relaxation::LessCpu(MilliCpus::whole(1))));
    let disk = Demand { disk: Bytes::gib(101), ..demand() };
    let refused = create(&cell, &disk).unwrap_err();
    assert_eq!(refused.relaxation, Some(Relaxation::LessDisk(Bytes::gib(1))));
    // Two things short at once: no single change helps.
    assert_eq!(relaxation(&sized(5, 8)), None);
    let Some(Relaxation::LessMemory(cut)) = relaxation(&sized(1, 5)) else { panic!("memory") };
    let less = |cut: Bytes| Demand { memory: sized(1, 5).memory.saturating_sub(cut), ..demand() };
    assert!(start(&cell, &less(cut)).is_ok());
    assert!(start(&cell, &less(cut.saturating_sub(Bytes::mib(1)))).is_err());
}

#[test]
fn giving_up_a_wish_counts_as_a_tenth() {
    let mut cell = Cell::shared(2);
    let mut small = facts(1, "main", &[100]);
    small.capacity = Resources { cpu: MilliCpus(950), memory: Bytes::gib(4) };
    cell.host(1, small.clone());
    let wanted = Demand { host: Some(host_id(1)), ..demand() };
    let relaxation = |cell: &Cell| start(cell, &wanted).unwrap_err().relaxation;
    assert_eq!(relaxation(&cell), Some(Relaxation::LessCpu(MilliCpus(50))));
    small.capacity.cpu = MilliCpus(500);
    cell.host(1, small);
    assert_eq!(relaxation(&cell), Some(Relaxation::AnyHost));
}

fn relaxed(demand: &Demand, relaxation: &Relaxation) -> Demand {
    let mut demand = demand.clone();
    match relaxation {
        Relaxation::LessCpu(cut) => demand.cpu = demand.cpu.saturating_sub(*cut),
        Relaxation::LessMemory(cut) => demand.memory = demand.memory.saturating_sub(*cut),
        Relaxation::LessDisk(cut) => demand.disk = demand.disk.saturating_sub(*cut),
        Relaxation::AnyHost => demand.host = None,
        Relaxation::AnyCluster => demand.cluster = None,
        Relaxation::AnyDatastore => demand.datastore = None,
    }
    demand
}

proptest! {
    #[test]
    fn a_suggested_change_lets_the_request_in_and_counts_add_up(
        hosts in prop::collection::vec((0..5_u64, 0..5_u64, any::<bool>(), 0..3_u8), 0..5),
        (cpus, gib, disk) in (1..6_u64, 1..6_u64, 1..130_u64),
        (host, cluster, store) in (any::<Option<bool>>(), any::<bool>(), any::<bool>()),
    ) {
        let mut cell = Cell::shared(0);
        for (n, (cpus, gib, main, stores)) in (1..).zip(&hosts) {
            let stores = [&[100_u8][..], &[100, 101], &[]][usize::from(*stores)];
            let mut facts = facts(n, if *main { "main" } else { "side" }, stores);
            facts.capacity =
                Resources { cpu: MilliCpus::whole(*cpus), memory: Bytes::gib(*gib) };
            cell.host(n, facts);
        }
        let demand = Demand {
            disk: Bytes::gib(disk),
            host: host.map(|first| host_id(if first { 1 } else { 2 })),
            cluster: cluster.then_some(CLUSTER),
            datastore: store.then(|| store_id(101)),
            ..sized(cpus, gib)
        };
        match place(&cell.fleet, &demand, Some(&image())) {
            Ok(Placement { datastore, host }) => {
                prop_assert!(demand.host.is_none_or(|wanted| wanted == host));
                prop_assert!(demand.datastore.is_none_or(|wanted| wanted == datastore));
                let host = cell.fleet.host(host).unwrap();
                prop_assert!(host.facts.datastores.contains_key(&datastore));
            }
            Err(explanation) => {
                prop_assert_eq!(explanation.considered as usize, hosts.len());
                prop_assert_eq!(
                    explanation.refused.values().sum::<u32>(),
                    explanation.considered
                );
                if let Some(relaxation) = &explanation.relaxation {
                    let relaxed = relaxed(&demand, relaxation);
                    prop_assert!(place(&cell.fleet, &relaxed, Some(&image())).is_ok());
                }
            }
        }
    }
}

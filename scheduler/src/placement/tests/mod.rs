//! What is chosen and why not, and that a suggested change of a refused request really helps.

mod agree;
mod giving_way;
mod relaxing;

use super::{Ask, Guides, Mirror, explain, scan};
use crate::fleet::Fleet;
use crate::fleet::testing::*;
use berth_model::cluster::{ClusterPolicy, Strategy};
use berth_model::command::CommandBody;
use berth_model::explanation::{Filter, Relaxation};
use berth_model::reservation::{Place, PlacementWish};
use berth_model::{
    Bytes, ClusterId, DatastoreId, Demand, Explanation, HostId, MilliCpus, Permille, Refusal,
    Resources,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn image() -> BTreeSet<DatastoreId> {
    BTreeSet::from([store_id(100)])
}

/// What scan and mirror say alike, or why not.
fn decide(fleet: &Fleet, ask: &Ask<'_>) -> Result<Place, Explanation> {
    let guides = Guides::learn(fleet);
    let found = scan::decide(fleet, &guides, ask);
    let mut mirror = Mirror::new(Arc::new(fleet.clone()));
    assert_eq!(mirror.decide(ask), found);
    found.ok_or_else(|| explain(fleet, ask, Explanation::HOSTS_MAX))
}

/// The host for a start from the shared datastore.
fn start(cell: &Cell, demand: &Demand) -> Result<HostId, Explanation> {
    let (labels, image) = (BTreeMap::new(), image());
    let ask = Ask::start(ENDPOINT, demand, &labels, Some(&image), store_id(100));
    decide(&cell.fleet, &ask).map(|place| place.host)
}

fn create(cell: &Cell, demand: &Demand) -> Result<DatastoreId, Explanation> {
    let (labels, image) = (BTreeMap::new(), image());
    let ask = Ask::create(ENDPOINT, demand, &labels, Some(&image));
    let found = scan::decide_datastore(&cell.fleet, &ask);
    let mut mirror = Mirror::new(Arc::new(cell.fleet.clone()));
    assert_eq!(mirror.decide_datastore(&ask), found);
    found.ok_or_else(|| explain(&cell.fleet, &ask, Explanation::HOSTS_MAX))
}

/// Both at once.
fn run(cell: &Cell, demand: &Demand) -> Result<(DatastoreId, HostId), Explanation> {
    let (labels, image) = (BTreeMap::new(), image());
    let ask = Ask::run(ENDPOINT, demand, &labels, Some(&image));
    decide(&cell.fleet, &ask).map(|place| (place.delta.unwrap(), place.host))
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
    assert_eq!(run(&cell, &local), Ok((store_id(103), host_id(3))));
    let torn = Demand { cluster: Some(CLUSTER), ..local };
    assert!(run(&cell, &torn).is_err());
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
    assert_eq!(Filter::ALL.map(count), [1, 1, 1, 2, 0, 0, 0]);
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

#[test]
fn one_that_takes_over_a_reservation_gets_its_place_on_a_host_that_is_full() {
    let mut cell = Cell::shared(2);
    let wish = PlacementWish { demand: sized(4, 4), labels: BTreeMap::new() };
    let hold = Ask::hold(ENDPOINT, &wish);
    for n in [1, 2] {
        let place = decide(&cell.fleet, &hold).unwrap();
        cell.apply(agree::reserve(n, &wish, place)).unwrap();
    }
    let (labels, image) = (BTreeMap::new(), image());
    let start = Ask::start(ENDPOINT, &wish.demand, &labels, Some(&image), store_id(100));
    assert!(decide(&cell.fleet, &start).is_err());
    let second = Ask { instead_of: Some(reservation_id(2)), ..start };
    assert_eq!(decide(&cell.fleet, &second).map(|place| place.host), Ok(host_id(2)));
    let gone = Ask { instead_of: Some(reservation_id(3)), ..start };
    assert!(decide(&cell.fleet, &gone).is_err());
}

#[test]
fn a_decision_on_its_way_counts_until_it_is_settled_and_the_next_fleet_shows() {
    let cell = Cell::shared(1);
    let fleet = Arc::new(cell.fleet.clone());
    let wish = PlacementWish { demand: sized(4, 1), labels: BTreeMap::new() };
    let ask = Ask::hold(ENDPOINT, &wish);
    let mut mirror = Mirror::new(Arc::clone(&fleet));
    let place = mirror.decide(&ask).unwrap();
    let ticket = mirror.take(&ask, &place);
    assert_eq!(mirror.decide(&ask), None);
    mirror.sync(&fleet);
    assert_eq!(mirror.decide(&ask), None);
    mirror.settle(ticket);
    assert_eq!(mirror.decide(&ask), None);
    mirror.sync(&fleet);
    assert_eq!(mirror.decide(&ask), Some(place));
}

#[test]
fn more_shapes_than_are_remembered_are_decided_all_the_same() {
    let cell = Cell::shared(3);
    let fleet = Arc::new(cell.fleet.clone());
    let mut mirror = Mirror::new(Arc::clone(&fleet));
    for round in 0..2 {
        for cpu in 1..400 {
            let demand = Demand { cpu: MilliCpus(cpu * 11), ..sized(1, 1) };
            let wish = PlacementWish { demand, labels: BTreeMap::new() };
            let ask = Ask::hold(ENDPOINT, &wish);
            let expected = scan::decide(&fleet, &Guides::default(), &ask);
            assert_eq!(mirror.decide(&ask), expected, "round {round}, {cpu}");
        }
    }
}

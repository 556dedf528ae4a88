//! What would be, on small cells.

use super::{Answer, Capacity, Move, Question, Subject, answer};
use crate::fleet::testing::*;
use berth_model::cluster::{Admission, ClusterPolicy};
use berth_model::command::{CommandBody, Reserve, ReserveItem};
use berth_model::{
    Bytes, Demand, Filter, HostId, MilliCpus, NumaNodes, Permille, Place, PlacementWish,
    ReservationId,
};
use std::sync::Arc;

fn cpus(count: u64) -> Demand {
    Demand { cpu: MilliCpus::whole(count), ..demand() }
}

fn capacity(cell: &Cell, demand: Demand, most: u64) -> Capacity {
    let wish = Arc::new(PlacementWish { demand, labels: Default::default() });
    let question = Question::Capacity { endpoint: ENDPOINT, wish, most };
    match answer(&Arc::new(cell.fleet.clone()), &question) {
        Answer::Capacity(capacity) => capacity,
        Answer::Moves(moves) => panic!("{moves:?}"),
    }
}

fn moves(cell: &Cell, question: &Question) -> Vec<Move> {
    match answer(&Arc::new(cell.fleet.clone()), question) {
        Answer::Moves(moves) => moves.moves,
        Answer::Capacity(capacity) => panic!("{capacity:?}"),
    }
}

fn targets(moves: &[Move]) -> Vec<Option<HostId>> {
    moves.iter().map(|one| one.to.as_ref().ok().map(|place| place.host)).collect()
}

fn run_of(cell: &mut Cell, n: u8, host: u8, demand: Demand) {
    cell.create(n, 100, demand);
    let epoch = cell.start(n, host);
    cell.started(n, host, epoch);
}

#[test]
fn capacity_is_what_fits_now_in_each_cluster_and_after_the_worst_loss() {
    let mut cell = Cell::shared(2);
    cell.host(3, facts(3, "side", &[100]));
    let mut large = facts(4, "side", &[100]);
    large.capacity.cpu = MilliCpus::whole(6);
    large.capacity.memory = Bytes::gib(16);
    cell.host(4, large);
    run_of(&mut cell, 1, 1, cpus(2));
    let small = Demand { disk: Bytes::mib(1), ..cpus(2) };
    let found = capacity(&cell, small.clone(), 100);
    assert_eq!(found.now, 1 + 2 + 2 + 3);
    assert_eq!(found.clusters, [(CLUSTER, 3), (OTHER_CLUSTER, 5)]);
    let loss = found.after_loss.unwrap();
    assert_eq!((loss.host, loss.fit, loss.homeless), (host_id(4), 5, 0));
    assert_eq!((loss.tried, loss.exact), (4, true));
    assert_eq!(capacity(&cell, small, 3).now, 3);
}

#[test]
fn an_empty_cell_has_no_capacity_and_nothing_to_lose() {
    let found = capacity(&Cell::new(), demand(), 10);
    assert_eq!((found.now, found.after_loss), (0, None));
}

#[test]
fn after_a_loss_the_more_important_find_a_place_first_and_the_rest_says_why_not() {
    let mut cell = Cell::shared(2);
    run_of(&mut cell, 1, 1, cpus(2));
    run_of(&mut cell, 2, 1, Demand { priority: 3, ..cpus(2) });
    run_of(&mut cell, 3, 2, cpus(2));
    let found = moves(&cell, &Question::LoseHosts { hosts: vec![host_id(1)] });
    assert_eq!(found[0].subject, Subject::ContainerVm(vm_id(2)));
    assert_eq!(targets(&found), [Some(host_id(2)), None]);
    let why = found[1].to.as_ref().unwrap_err();
    assert_eq!(why.refused.get(&Filter::Capacity), Some(&1));
    assert_eq!(why.refused.get(&Filter::Availability), Some(&1));
    // Nothing happened.
    assert_eq!(cell.fleet.host(host_id(1)).unwrap().placed, 2);
    let both = Question::LoseHosts { hosts: vec![host_id(1), host_id(2)] };
    assert_eq!(targets(&moves(&cell, &both)), [None, None, None]);
}

#[test]
fn what_is_kept_for_a_loss_is_there_for_it_and_not_for_a_drain() {
    let mut cell = Cell::shared(3);
    run_of(&mut cell, 1, 1, cpus(3));
    let policy = ClusterPolicy {
        admission: Admission::FailoverHosts { hosts: [host_id(3)].into() },
        cpu_overcommit: Permille(1000),
        disk_overcommit: Permille(1000),
        ..ClusterPolicy::default()
    };
    run_of(&mut cell, 2, 2, cpus(3));
    cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy }).unwrap();
    let lost = moves(&cell, &Question::LoseHosts { hosts: vec![host_id(1)] });
    assert_eq!(targets(&lost), [Some(host_id(3))]);
    let drained = moves(&cell, &Question::Drain { host: host_id(1) });
    assert_eq!(targets(&drained), [None]);
    let why = drained[0].to.as_ref().unwrap_err();
    assert_eq!(why.refused.get(&Filter::Admission), Some(&1));
}

#[test]
fn a_drain_moves_places_that_are_held_too() {
    let mut cell = Cell::shared(2);
    let wish = PlacementWish {
        demand: Demand { disk: Bytes::ZERO, ..cpus(4) },
        labels: Default::default(),
    };
    let id = ReservationId::from_bytes([5; 16]);
    let place = Place { host: host_id(1), numa: NumaNodes::NONE, delta: None, disks: Vec::new() };
    let item =
        ReserveItem { id, wish: 0, endpoint: ENDPOINT, place, hold_ms: None, victims: Vec::new() };
    let reserve =
        Reserve { planned_at: 0, wishes: vec![Arc::new(wish)], items: vec![item], gang: None };
    cell.apply(CommandBody::Reserve(Box::new(reserve))).unwrap();
    let found = moves(&cell, &Question::Drain { host: host_id(1) });
    assert_eq!(found[0].subject, Subject::Reservation(id));
    assert_eq!(targets(&found), [Some(host_id(2))]);
}

//! Who gives way, and that it is the fewest, then the least important, then the smallest.

use super::super::{Ask, Mirror};
use super::sized;
use crate::fleet::testing::*;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{CommandBody, Reserve, ReserveItem};
use berth_model::reservation::{Place, PlacementWish, Victim};
use berth_model::{ContainerId, Demand, HostId, NumaNodes, Permille, ReservationId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hosts of 4 cpus and 4 GiB, in a cluster where one may displace another.
fn cell(hosts: u8) -> Cell {
    let mut cell = Cell::shared(hosts);
    let policy = ClusterPolicy {
        cpu_overcommit: Permille(1000),
        preemption: true,
        ..ClusterPolicy::default()
    };
    cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy }).unwrap();
    cell
}

/// Runs on the host, with this priority.
fn run(cell: &mut Cell, n: u8, host: u8, priority: i16, cpus: u64) {
    cell.create(n, 100, Demand { priority, ..sized(cpus, 1) });
    cell.start(n, host);
}

fn hold(cell: &mut Cell, n: u8, host: u8, priority: i16, cpus: u64) {
    let demand = Demand { priority, disk: berth_model::Bytes::ZERO, ..sized(cpus, 1) };
    let wish = PlacementWish { demand, labels: BTreeMap::new() };
    let place =
        Place { host: host_id(host), numa: NumaNodes::NONE, delta: None, disks: Vec::new() };
    let item = ReserveItem {
        id: reservation_id(n),
        wish: 0,
        endpoint: ENDPOINT,
        place,
        hold_ms: None,
        victims: Vec::new(),
    };
    let reserve =
        Reserve { planned_at: 0, wishes: vec![Arc::new(wish)], items: vec![item], gang: None };
    let answer = cell.apply(CommandBody::Reserve(Box::new(reserve))).unwrap();
    assert!(cell.fleet.reservation(reservation_id(n)).is_some(), "{answer:?}");
}

fn displace(cell: &Cell, demand: &Demand) -> Option<(HostId, Vec<Victim>)> {
    let labels = BTreeMap::new();
    let ask = Ask::start(ENDPOINT, demand, &labels, None, store_id(100));
    let mut mirror = Mirror::new(Arc::new(cell.fleet.clone()));
    assert_eq!(mirror.decide(&ask), None);
    mirror.displace(&ask).map(|(place, victims)| (place.host, victims))
}

fn vms(ids: &[u8]) -> Vec<Victim> {
    ids.iter().map(|n| Victim::ContainerVm(ContainerId::from_bytes([*n; 32]))).collect()
}

fn urgent(cpus: u64) -> Demand {
    Demand { priority: 100, ..sized(cpus, 1) }
}

#[test]
fn the_fewest_give_way_even_if_they_are_more_important() {
    let mut cell = cell(2);
    for n in 1..=4 {
        run(&mut cell, n, 1, 0, 1);
    }
    run(&mut cell, 5, 2, 50, 3);
    run(&mut cell, 6, 2, 0, 1);
    assert_eq!(displace(&cell, &urgent(3)), Some((host_id(2), vms(&[5]))));
    assert_eq!(displace(&cell, &urgent(1)), Some((host_id(1), vms(&[1]))));
}

#[test]
fn of_as_many_the_least_important_then_the_smallest_give_way() {
    let mut cell = cell(2);
    run(&mut cell, 1, 1, 10, 2);
    run(&mut cell, 2, 1, 20, 2);
    run(&mut cell, 3, 2, 10, 3);
    run(&mut cell, 4, 2, 30, 1);
    assert_eq!(displace(&cell, &urgent(2)), Some((host_id(1), vms(&[1]))));
    assert_eq!(displace(&cell, &urgent(4)), Some((host_id(1), vms(&[1, 2]))));
}

#[test]
fn none_of_the_same_priority_gives_way_nor_where_the_policy_forbids_it() {
    let mut cell = cell(1);
    run(&mut cell, 1, 1, 100, 4);
    assert_eq!(displace(&cell, &urgent(1)), None);
    let mut cell = Cell::shared(1);
    run(&mut cell, 1, 1, 0, 4);
    assert_eq!(displace(&cell, &urgent(1)), None);
}

#[test]
fn for_a_reservation_only_reservations_give_way() {
    let mut cell = cell(2);
    run(&mut cell, 1, 1, 0, 4);
    hold(&mut cell, 2, 2, 0, 2);
    hold(&mut cell, 3, 2, 0, 2);
    let wish = PlacementWish {
        demand: Demand { disk: berth_model::Bytes::ZERO, ..urgent(3) },
        labels: BTreeMap::new(),
    };
    let mut mirror = Mirror::new(Arc::new(cell.fleet.clone()));
    let (place, victims) = mirror.displace(&Ask::hold(ENDPOINT, &wish)).unwrap();
    assert_eq!(place.host, host_id(2));
    let both = [2, 3].map(|n| Victim::Reservation(ReservationId::from_bytes([n; 16])));
    assert_eq!(victims, both);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Held against trying every set of what runs on each host.
    #[test]
    fn no_smaller_set_would_do(
        running in prop::collection::vec((1..3_u8, 0..3_i16, 1..4_u64, 1..3_u64), 1..7),
        cpus in 1..5_u64,
        gib in 1..5_u64,
    ) {
        let mut cell = cell(2);
        let mut runs = Vec::new();
        for (n, (host, priority, cpus, gib)) in (1_u8..).zip(running) {
            cell.create(n, 100, Demand { priority, ..sized(cpus, gib) });
            let target = cell.fleet.host(host_id(host)).unwrap();
            let free = cell.fleet.free_on_host(target);
            let charge = sized(cpus, gib).charge(berth_model::Bytes::ZERO);
            if charge.cpu <= free.cpu && charge.memory <= free.memory {
                cell.start(n, host);
                runs.push((n, host, priority));
            }
        }
        let demand = Demand { priority: 100, ..sized(cpus, gib) };
        let labels = BTreeMap::new();
        let ask = Ask::start(ENDPOINT, &demand, &labels, None, store_id(100));
        let mut mirror = Mirror::new(Arc::new(cell.fleet.clone()));
        if mirror.decide(&ask).is_some() {
            return Ok(());
        }
        let mut best: Option<(usize, i16)> = None;
        for set in 0..1_u32 << runs.len() {
            let chosen: Vec<_> = runs
                .iter()
                .enumerate()
                .filter(|(position, _)| set >> position & 1 == 1)
                .map(|(_, run)| *run)
                .collect();
            let one_host = chosen.windows(2).all(|pair| pair[0].1 == pair[1].1);
            let Some((_, host, _)) = chosen.first().copied().filter(|_| one_host) else { continue };
            let ids: Vec<u8> = chosen.iter().map(|(n, ..)| *n).collect();
            let freed = cell.fleet.without(&vms(&ids));
            let matched = ask.matched(&freed);
            if freed.admit(freed.host(host_id(host)).unwrap(), &ask.wish(&matched)).is_ok() {
                let highest = chosen.iter().map(|(.., priority)| *priority).max().unwrap();
                let harm = (chosen.len(), highest);
                best = Some(best.map_or(harm, |best| best.min(harm)));
            }
        }
        let found = mirror.displace(&ask).map(|(_, victims)| {
            let priority = |victim: &Victim| match victim {
                Victim::ContainerVm(id) => {
                    cell.fleet.container(*id).unwrap().spec.demand.priority
                }
                Victim::Reservation(_) => i16::MAX,
            };
            (victims.len(), victims.iter().map(priority).max().unwrap())
        });
        prop_assert_eq!(found, best);
    }
}

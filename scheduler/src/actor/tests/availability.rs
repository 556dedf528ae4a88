//! Leaders and whole cells go away and come back; what was acknowledged stays.

use super::cell::*;
use super::node::FakeNode;
use crate::fleet::testing::*;
use berth_model::HostState;
use berth_model::command::CommandBody;
use std::collections::BTreeSet;
use std::time::Duration;

/// Nothing ran twice under one epoch, and what runs for the fleet runs on a node.
fn check_runs(fleet: &crate::Fleet, nodes: &[FakeNode]) {
    let mut seen = BTreeSet::new();
    for node in nodes {
        for run in node.look(|machine| machine.runs.clone()) {
            assert!(seen.insert(run), "{run:?} started twice");
        }
    }
    for vm in fleet.containers().filter(|vm| vm.state.name() == "running") {
        assert!(seen.contains(&(vm.id, vm.epoch)));
    }
}

#[actix_rt::test]
async fn a_leader_that_dies_loses_no_acknowledged_container_and_starts_none_twice() {
    let mut cell = TestCell::started(3).await;
    let nodes: Vec<FakeNode> =
        (1..=2).map(|n| FakeNode::start(&cell, host_id(n), facts(n, "main", &[100]))).collect();
    with_image(cell.any()).await;
    for round in 0..3_u8 {
        let leader = cell.leader().await;
        let (_, survivor) = cell.schedulers.iter().find(|(id, _)| **id != leader).unwrap();
        let survivor = survivor.clone();
        let writing = async {
            for n in 1..=2 {
                run(&survivor, round * 2 + n).await;
            }
        };
        let crashing = async {
            let scheduler = cell.schedulers[&leader].clone();
            // In the middle of the first container's way.
            wait_for(&scheduler, |fleet| fleet.container(vm_id(round * 2 + 1)).is_some()).await;
            scheduler.crash().await;
        };
        tokio::join!(writing, crashing);
        cell.schedulers.remove(&leader);
        cell.start(leader).await;
    }
    cell.start_all().await;
    for scheduler in cell.schedulers.values() {
        let fleet = linearizable(scheduler).await;
        let running = fleet.containers().filter(|vm| vm.state.name() == "running").count();
        assert_eq!(running, 6);
        assert_eq!(fleet.check_invariants(), Ok(()));
        check_runs(&fleet, &nodes);
        for host in fleet.hosts() {
            assert!(matches!(host.state, HostState::Connected { .. }), "{}", host.facts.name);
        }
    }
}

#[actix_rt::test]
async fn a_cell_that_was_killed_whole_comes_back_with_everything() {
    let mut cell = TestCell::started(3).await;
    let nodes = vec![FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]))];
    with_image(cell.any()).await;
    run(cell.any(), 1).await;
    submit(cell.any(), new_container(2, spec(demand()))).await;
    let before = linearizable(cell.any()).await;
    cell.crash_all().await;
    nodes[0].end(vm_id(1), 9);
    cell.start_all().await;
    for scheduler in cell.schedulers.values() {
        wait_for_state(scheduler, vm_id(1), "exited").await;
        let fleet = wait_for_state(scheduler, vm_id(2), "created").await;
        assert_eq!(fleet.cell(), before.cell());
        assert_eq!(fleet.clusters().len(), 1);
        assert!(fleet.index() >= before.index());
        check_runs(&fleet, &nodes);
    }
}

#[actix_rt::test]
async fn hosts_that_do_not_return_after_an_election_are_marked_silent() {
    let mut cell = TestCell::with_timer(3, Duration::from_secs(1)).await;
    let mut nodes: Vec<FakeNode> =
        (1..=2).map(|n| FakeNode::start(&cell, host_id(n), facts(n, "main", &[100]))).collect();
    wait_for(cell.any(), |fleet| fleet.hosts().len() == 2).await;
    let leader = cell.leader().await;
    cell.crash(leader).await;
    nodes[0].kill();
    wait_for(cell.any(), |fleet| {
        let [gone, back] = [1, 2].map(|n| &fleet.host(host_id(n)).unwrap().state);
        matches!(gone, HostState::Silent { .. }) && matches!(back, HostState::Connected { .. })
    })
    .await;
}

#[actix_rt::test]
async fn a_leader_that_shuts_down_hands_over_and_its_nodes_follow() {
    let mut cell = TestCell::started(3).await;
    let node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    with_image(cell.any()).await;
    let leader = cell.leader().await;
    let leaving = cell.schedulers.remove(&leader).unwrap();
    let door = leaving.nodes_address();
    leaving.shutdown().await;
    assert_ne!(cell.leader().await, leader);
    run(cell.any(), 1).await;
    let last = node.look(|machine| machine.welcomes.last().copied());
    assert_ne!(last, Some(door));
    let fleet = linearizable(cell.any()).await;
    assert!(matches!(fleet.host(host_id(1)).unwrap().state, HostState::Connected { .. }));
    let stopped = leaving.submit(request(CommandBody::StartContainer { id: vm_id(1) })).await;
    assert!(stopped.is_err());
}

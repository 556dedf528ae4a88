//! Who may have a session, and what it does with what it hears.

use super::cell::*;
use super::node::{FakeNode, dial};
use crate::fleet::testing::*;
use berth_model::command::CommandBody;
use berth_model::session::{FromNode, FromScheduler};
use berth_model::{HostState, VmState};
use berth_wire::tls::Role;
use std::time::Duration;

fn is_connected(fleet: &crate::Fleet, n: u8) -> bool {
    let state = fleet.host(host_id(n)).map(|host| &host.state);
    matches!(state, Some(HostState::Connected { .. }))
}

fn is_silent(fleet: &crate::Fleet, n: u8) -> bool {
    let state = fleet.host(host_id(n)).map(|host| &host.state);
    matches!(state, Some(HostState::Silent { .. }))
}

#[actix_rt::test]
async fn a_registration_that_cannot_stand_is_refused_with_its_reason() {
    let cell = TestCell::started(1).await;
    let node = FakeNode::start(&cell, host_id(1), facts(1, "nowhere", &[100]));
    let reason =
        eventually("a refusal", || node.look(|machine| machine.refusals.first().cloned())).await;
    assert!(reason.contains("no cluster named `nowhere`"), "{reason}");
    assert!(cell.any().watch().borrow().host(host_id(1)).is_none());
}

#[actix_rt::test]
async fn a_certificate_of_another_role_or_without_a_host_id_is_turned_away() {
    let cell = TestCell::started(1).await;
    let door = cell.doors()[0];
    let keeper = cell.tls(Role::Keeper, &host_id(1).to_string());
    assert!(dial(&keeper, door).await.is_err());
    let nameless = cell.tls(Role::Node, "somebody");
    let mut link = dial(&nameless, door).await.unwrap();
    assert!(!matches!(link.receive::<FromScheduler>().await, Ok(Some(_))));
    let early = cell.tls(Role::Node, &host_id(1).to_string());
    let mut link = dial(&early, door).await.unwrap();
    link.send(&FromNode::Heartbeat { sequence: 1 }).await.unwrap();
    assert!(!matches!(link.receive::<FromScheduler>().await, Ok(Some(_))));
    eventually("three failures", || {
        let failed = cell.metric(1, "berth_scheduler_node_handshakes_failed_total");
        (failed >= 3.0).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn a_follower_sends_nodes_to_the_leader() {
    let cell = TestCell::started(3).await;
    let leader = cell.leader().await;
    let tls = cell.tls(Role::Node, &host_id(1).to_string());
    for (id, scheduler) in &cell.schedulers {
        let mut link = dial(&tls, scheduler.nodes_address()).await.unwrap();
        let facts = Box::new(facts(1, "main", &[100]));
        link.send(&FromNode::Register { facts, held: None }).await.unwrap();
        let answer = link.receive::<FromScheduler>().await.unwrap();
        if *id == leader {
            assert!(matches!(answer, Some(FromScheduler::Welcome { .. })), "{answer:?}");
        } else {
            assert_eq!(answer, Some(FromScheduler::Redirect { leader: Some(leader) }));
            assert_eq!(link.receive::<FromScheduler>().await.unwrap(), None);
        }
    }
}

#[actix_rt::test]
async fn a_node_that_falls_silent_is_recorded_and_what_runs_there_left_alone() {
    let cell = TestCell::with_timer(1, Duration::from_secs(1)).await;
    let mut node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    let scheduler = cell.any();
    with_image(scheduler).await;
    run(scheduler, 1).await;
    node.kill();
    wait_for(scheduler, |fleet| is_silent(fleet, 1)).await;
    assert_eq!(cell.any().watch().borrow().container(vm_id(1)).unwrap().state.name(), "running");
    // What happened meanwhile is told when the node is back.
    node.end(vm_id(1), 3);
    node.resume();
    wait_for(scheduler, |fleet| is_connected(fleet, 1)).await;
    wait_for_state(scheduler, vm_id(1), "exited").await;
    assert_eq!(node.look(|machine| machine.runs.len()), 1);
}

#[actix_rt::test]
async fn a_node_that_is_back_in_time_was_never_silent() {
    let cell = TestCell::started(1).await;
    let mut node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    for round in 0..5 {
        node.kill();
        node.resume();
        eventually("another welcome", || {
            node.look(|machine| machine.welcomes.len() > round).then_some(())
        })
        .await;
    }
    let silenced = cell.metric(1, "berth_scheduler_hosts_silenced_total");
    assert_eq!(silenced, 0.0);
    eventually("one session", || {
        (cell.metric(1, "berth_scheduler_node_sessions ") == 1.0).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn the_newer_of_two_sessions_of_one_host_stays() {
    let cell = TestCell::started(1).await;
    let tls = cell.tls(Role::Node, &host_id(1).to_string());
    let mut links = Vec::new();
    for _ in 0..2 {
        let mut link = dial(&tls, cell.doors()[0]).await.unwrap();
        let facts = Box::new(facts(1, "main", &[100]));
        link.send(&FromNode::Register { facts, held: None }).await.unwrap();
        let welcome = link.receive::<FromScheduler>().await.unwrap();
        assert!(matches!(welcome, Some(FromScheduler::Welcome { .. })));
        let whole = link.receive::<FromScheduler>().await.unwrap();
        assert!(matches!(whole, Some(FromScheduler::Assignment(_))));
        links.push(link);
    }
    assert_eq!(links[0].receive::<FromScheduler>().await.unwrap(), None);
    links[1].send(&FromNode::Heartbeat { sequence: 1 }).await.unwrap();
    assert_eq!(cell.metric(1, "berth_scheduler_node_sessions "), 1.0);
}

#[actix_rt::test]
async fn updates_are_differences_and_whole_when_the_node_asks() {
    let cell = TestCell::started(1).await;
    let node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    let scheduler = cell.any();
    with_image(scheduler).await;
    run(scheduler, 1).await;
    assert_eq!(node.look(|machine| machine.updates.clone()), [true, false]);
    node.look(|machine| machine.reject_next = true);
    run(scheduler, 2).await;
    assert_eq!(node.look(|machine| machine.updates.clone()), [true, false, false, true]);
    assert_eq!(node.look(|machine| machine.runs.len()), 2);
}

#[actix_rt::test]
async fn facts_that_change_are_recorded_and_used() {
    let cell = TestCell::started(1).await;
    let tls = cell.tls(Role::Node, &host_id(1).to_string());
    let mut link = dial(&tls, cell.doors()[0]).await.unwrap();
    let small = facts(1, "main", &[100]);
    link.send(&FromNode::Register { facts: Box::new(small.clone()), held: None }).await.unwrap();
    let scheduler = cell.any();
    wait_for(scheduler, |fleet| is_connected(fleet, 1)).await;
    let mut large = small;
    large.capacity.cpu = berth_model::MilliCpus::whole(64);
    link.send(&FromNode::Facts(Box::new(large.clone()))).await.unwrap();
    wait_for(scheduler, |fleet| *fleet.host(host_id(1)).unwrap().facts == large).await;
}

#[actix_rt::test]
async fn a_host_in_maintenance_gets_nothing_new() {
    let cell = TestCell::started(1).await;
    let _node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    let scheduler = cell.any();
    with_image(scheduler).await;
    run(scheduler, 1).await;
    let maintenance = |on| CommandBody::SetMaintenance { host: host_id(1), maintenance: on };
    submit(scheduler, maintenance(true)).await;
    submit(scheduler, new_container(2, spec(demand()))).await;
    wait_for(scheduler, |fleet| {
        let state = &fleet.container(vm_id(2)).unwrap().state;
        matches!(state, VmState::Pending { refused: Some(_) })
    })
    .await;
    assert_eq!(scheduler.watch().borrow().container(vm_id(1)).unwrap().state.name(), "running");
    submit(scheduler, maintenance(false)).await;
    wait_for_state(scheduler, vm_id(2), "created").await;
}

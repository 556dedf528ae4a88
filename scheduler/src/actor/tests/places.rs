//! Placement requests through a real cell: decided where they arrive, held through the log.

use super::cell::*;
use super::node::FakeNode;
use crate::fleet::testing::*;
use crate::{
    PlaceAnswer, PlaceMode, PlaceRequest, PlaceWish, Question, Scheduler, SubmitError, whatif,
};
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{CommandBody, Principal};
use berth_model::{
    Bytes, Demand, EndpointId, Filter, GangId, MilliCpus, Permille, PlacementWish, RequestId,
    ReservationId, VmState,
};
use std::sync::Arc;
use std::time::Duration;

/// One cpu and 512 MiB without a disk.
fn small() -> Demand {
    Demand { disk: Bytes::ZERO, ..demand() }
}

/// All memory of a host.
fn whole() -> Demand {
    Demand { machine_memory: Some(Bytes::gib(4)), ..small() }
}

fn ask(items: usize, demand: Demand) -> PlaceRequest {
    let mut random = rand::rng();
    let items = (0..items).map(|_| PlaceWish {
        wish: 0,
        endpoint: EndpointId::SYSTEM,
        id: ReservationId::random(&mut random),
    });
    PlaceRequest {
        principal: Principal::Local,
        items: items.collect(),
        request_id: RequestId::random(&mut rand::rng()),
        traceparent: None,
        deadline: PATIENCE,
        wishes: vec![Arc::new(PlacementWish { demand, labels: Default::default() })],
        gang: None,
        mode: PlaceMode::Hold { hold_ms: None },
        wait: None,
        explain_hosts: 4,
    }
}

fn held(answer: &PlaceAnswer) -> usize {
    answer.items.iter().filter(|item| item.is_ok()).count()
}

/// Hosts of 4 GiB without overcommit of memory.
fn nodes(cell: &TestCell, count: u8) -> Vec<FakeNode> {
    (1..=count).map(|n| FakeNode::start(cell, host_id(n), facts(n, "main", &[100]))).collect()
}

async fn with_hosts(scheduler: &Scheduler, count: usize) {
    wait_for(scheduler, |fleet| fleet.hosts().len() == count).await;
}

async fn all_with_hosts(cell: &TestCell, count: usize) {
    for scheduler in cell.schedulers.values() {
        with_hosts(scheduler, count).await;
    }
}

#[actix_rt::test]
async fn one_place_is_held_through_a_follower_and_every_replica_shows_it() {
    let cell = TestCell::started(3).await;
    let _nodes = nodes(&cell, 2);
    let follower = cell.follower().await;
    with_hosts(follower, 2).await;
    let request = ask(1, small());
    let answer = follower.place(request.clone()).await.unwrap();
    let placed = answer.items[0].as_ref().unwrap();
    // The replica that answered shows it at once.
    let fleet = follower.watch().borrow().clone();
    assert!(fleet.index() >= answer.revision_index);
    assert_eq!(fleet.reservation(request.items[0].id).unwrap().place, placed.place);
    for scheduler in cell.schedulers.values() {
        let fleet = linearizable(scheduler).await;
        assert_eq!(fleet.reservations().len(), 1);
        assert_eq!(fleet.check_invariants(), Ok(()));
    }
    // Asked again through another replica, it is the same place.
    let again = cell.any().place(request).await.unwrap();
    assert_eq!(again.items[0].as_ref().unwrap().place, placed.place);
    assert_eq!(linearizable(cell.any()).await.reservations().len(), 1);
}

#[actix_rt::test]
async fn a_batch_takes_what_there_is_and_says_why_the_rest_has_no_place() {
    let cell = TestCell::started(1).await;
    let _nodes = nodes(&cell, 2);
    with_hosts(cell.any(), 2).await;
    let answer = cell.any().place(ask(3, whole())).await.unwrap();
    assert_eq!(held(&answer), 2);
    let refused = answer.items.iter().find_map(|item| item.as_ref().err()).unwrap();
    assert_eq!(refused.refused.get(&Filter::Capacity), Some(&2));
    assert_eq!(refused.hosts.len(), 2);
    let series = "berth_scheduler_placement_items_total{outcome=\"held\"}";
    assert_eq!(cell.metric(1, series), 2.0);
    assert_eq!(cell.metric(1, "berth_scheduler_placement_items_total{outcome=\"refused\"}"), 1.0);
}

#[actix_rt::test]
async fn a_gang_is_held_whole_or_not_at_all() {
    let cell = TestCell::started(1).await;
    let _nodes = nodes(&cell, 2);
    with_hosts(cell.any(), 2).await;
    let gang = |items| PlaceRequest {
        gang: Some(GangId::random(&mut rand::rng())),
        ..ask(items, whole())
    };
    let torn = cell.any().place(gang(3)).await.unwrap();
    assert_eq!((held(&torn), torn.blocker), (0, Some(2)));
    assert_eq!(linearizable(cell.any()).await.reservations().len(), 0);
    let fits = cell.any().place(gang(2)).await.unwrap();
    assert_eq!((held(&fits), fits.blocker), (2, None));
}

#[actix_rt::test]
async fn a_dry_run_leaves_nothing() {
    let cell = TestCell::started(1).await;
    let _nodes = nodes(&cell, 1);
    with_hosts(cell.any(), 1).await;
    let before = linearizable(cell.any()).await.index();
    for _ in 0..3 {
        let dry = PlaceRequest { mode: PlaceMode::Decide, ..ask(2, whole()) };
        let answer = cell.any().place(dry).await.unwrap();
        assert_eq!(held(&answer), 1);
        assert!(answer.items[0].as_ref().unwrap().reservation.is_none());
    }
    let fleet = linearizable(cell.any()).await;
    assert_eq!(fleet.reservations().len(), 0);
    assert!(fleet.index() <= before + 3, "a dry run wrote something");
}

#[actix_rt::test]
async fn one_that_waits_is_answered_when_room_appears_or_its_time_is_up() {
    let cell = TestCell::started(3).await;
    let _nodes = nodes(&cell, 1);
    all_with_hosts(&cell, 1).await;
    let (holder, waiter) = (cell.any(), cell.follower().await);
    let first = ask(1, whole());
    let id = first.items[0].id;
    assert_eq!(held(&holder.place(first).await.unwrap()), 1);
    wait_for(waiter, |fleet| fleet.reservation(id).is_some()).await;
    let waiting = PlaceRequest { wait: Some(PATIENCE / 2), ..ask(1, whole()) };
    let vain = PlaceRequest { wait: Some(Duration::from_millis(200)), ..ask(1, whole()) };
    let vain = waiter.place(vain).await.unwrap();
    assert_eq!(vain.items[0].as_ref().unwrap_err().refused.get(&Filter::Capacity), Some(&1));
    let (answer, _) = tokio::join!(waiter.place(waiting), async {
        submit(holder, CommandBody::Release { ids: vec![id] }).await;
    });
    assert_eq!(held(&answer.unwrap()), 1);
}

#[actix_rt::test]
async fn replicas_that_decide_at_once_never_oversell() {
    let cell = TestCell::with_planners(3, 2).await;
    let _nodes = nodes(&cell, 4);
    all_with_hosts(&cell, 4).await;
    // 16 places of a quarter of a host, and 24 who want one, through three replicas.
    let quarter = Demand { machine_memory: Some(Bytes::gib(1)), ..small() };
    let mut asking = Vec::new();
    for scheduler in cell.schedulers.values() {
        for _ in 0..8 {
            asking.push(scheduler.place(ask(1, quarter.clone())));
        }
    }
    let answers = futures_util::future::join_all(asking).await;
    let held: usize = answers.iter().map(|answer| held(answer.as_ref().unwrap())).sum();
    assert_eq!(held, 16);
    let fleet = linearizable(cell.any()).await;
    assert_eq!(fleet.reservations().len(), 16);
    assert_eq!(fleet.check_invariants(), Ok(()));
    for host in fleet.hosts() {
        assert!(host.charged.memory <= fleet.limit_of_host(host).memory);
    }
}

#[actix_rt::test]
async fn a_place_that_is_held_for_a_while_is_free_again_after_it() {
    let cell = TestCell::started(1).await;
    let _nodes = nodes(&cell, 1);
    with_hosts(cell.any(), 1).await;
    let short = PlaceRequest { mode: PlaceMode::Hold { hold_ms: Some(50) }, ..ask(1, whole()) };
    let id = short.items[0].id;
    assert_eq!(held(&cell.any().place(short).await.unwrap()), 1);
    // Whatever is written next brings the time with it.
    let gone = async {
        while cell.any().watch().borrow().reservation(id).is_some() {
            submit(cell.any(), CommandBody::Release { ids: Vec::new() }).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(held(&cell.any().place(ask(1, whole())).await.unwrap()), 1);
}

#[actix_rt::test]
async fn a_request_ends_with_its_deadline_or_with_the_scheduler() {
    let cell = TestCell::started(1).await;
    let _nodes = nodes(&cell, 1);
    with_hosts(cell.any(), 1).await;
    let late = PlaceRequest { deadline: Duration::ZERO, ..ask(1, small()) };
    assert!(matches!(cell.any().place(late).await, Err(SubmitError::Full)));
    let huge = ask(1 << 17, small());
    assert!(matches!(cell.any().place(huge).await, Err(SubmitError::TooLarge)));
    cell.any().place(ask(1, whole())).await.unwrap();
    let waiting = PlaceRequest { wait: Some(PATIENCE / 2), ..ask(1, whole()) };
    let scheduler = cell.any().clone();
    let (answer, ()) = tokio::join!(scheduler.place(waiting), scheduler.shutdown());
    assert!(matches!(answer, Err(SubmitError::Unknown | SubmitError::Stopped)), "{answer:?}");
}

#[actix_rt::test]
async fn a_displaced_container_waits_and_comes_back() {
    let cell = TestCell::started(1).await;
    let _nodes = nodes(&cell, 1);
    let scheduler = cell.any();
    with_image(scheduler).await;
    let cluster = scheduler.watch().borrow().cluster_named("main").unwrap().id;
    let policy = ClusterPolicy {
        preemption: true,
        cpu_overcommit: Permille(1000),
        ..ClusterPolicy::default()
    };
    submit(scheduler, CommandBody::SetPolicy { cluster, policy }).await;
    let cpus = Demand { cpu: MilliCpus::whole(3), ..demand() };
    run_spec(scheduler, 1, spec(cpus.clone())).await;
    wait_for_state(scheduler, vm_id(1), "running").await;
    run_spec(scheduler, 2, spec(Demand { priority: 7, ..cpus })).await;
    wait_for_state(scheduler, vm_id(2), "running").await;
    wait_for(scheduler, |fleet| {
        let state = &fleet.container(vm_id(1)).unwrap().state;
        matches!(state, VmState::Waiting { refused: Some(_), .. })
    })
    .await;
    submit(scheduler, CommandBody::StopContainer { id: vm_id(2), order: None }).await;
    wait_for_state(scheduler, vm_id(1), "running").await;
    let series = "berth_scheduler_placements_total{outcome=\"displace\"}";
    assert_eq!(cell.metric(1, series), 1.0);
}

#[actix_rt::test]
async fn several_planners_share_what_waits() {
    let cell = TestCell::with_planners(1, 3).await;
    let _nodes = nodes(&cell, 8);
    let scheduler = cell.any();
    with_image(scheduler).await;
    with_hosts(scheduler, 8).await;
    for n in 1..=16 {
        submit(scheduler, new_container(n, spec(demand()))).await;
    }
    for n in 1..=16 {
        wait_for_state(scheduler, vm_id(n), "created").await;
        submit(scheduler, CommandBody::StartContainer { id: vm_id(n) }).await;
    }
    for n in 1..=16 {
        wait_for_state(scheduler, vm_id(n), "running").await;
    }
    let fleet = linearizable(scheduler).await;
    assert_eq!(fleet.check_invariants(), Ok(()));
}

#[actix_rt::test]
async fn what_would_be_is_answered_on_the_newest_fleet() {
    let cell = TestCell::started(1).await;
    let _nodes = nodes(&cell, 3);
    with_hosts(cell.any(), 3).await;
    let wish = Arc::new(PlacementWish { demand: whole(), labels: Default::default() });
    let question = Question::Capacity { endpoint: EndpointId::SYSTEM, wish, most: 100 };
    let whatif::Answer::Capacity(capacity) = cell.any().what_if(question).await.unwrap() else {
        panic!("an answer to another question");
    };
    assert_eq!(capacity.now, 3);
    assert_eq!(capacity.after_loss.unwrap().fit, 2);
}

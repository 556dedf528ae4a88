//! The whole trip of a container VM: intent, placement, assignment, report, and home.

use super::cell::*;
use super::node::FakeNode;
use crate::fleet::testing::*;
use crate::placement::{Ask, Load};
use crate::{Consistency, SubmitError};
use berth_model::command::CommandBody;
use berth_model::{Bytes, Change, Demand, Filter, IdempotencyKey, MilliCpus, Rejection, VmState};

#[actix_rt::test]
async fn a_container_is_created_started_stopped_and_removed_through_a_follower() {
    let cell = TestCell::started(3).await;
    let node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    let follower = cell.follower().await;
    with_image(follower).await;
    run(follower, 1).await;
    submit(follower, CommandBody::StopContainer { id: vm_id(1), order: None }).await;
    let fleet = wait_for_state(follower, vm_id(1), "exited").await;
    let VmState::Exited { exit, started_at, .. } = &fleet.container(vm_id(1)).unwrap().state else {
        unreachable!("just seen");
    };
    assert_eq!((exit.code, started_at.is_some()), (128 + 15, true));
    submit(follower, CommandBody::RemoveContainer { id: vm_id(1), force: false }).await;
    let fleet = wait_for_state(follower, vm_id(1), "gone").await;
    assert_eq!(fleet.departed(vm_id(1)).unwrap().exit.as_ref().unwrap().code, 128 + 15);
    assert_eq!(fleet.host(host_id(1)).unwrap().placed, 0);
    eventually("an empty assignment", || {
        node.look(|machine| machine.assignment.vms.is_empty()).then_some(())
    })
    .await;
    for scheduler in cell.schedulers.values() {
        let fleet = linearizable(scheduler).await;
        assert_eq!(fleet.containers().len(), 0);
        assert_eq!(fleet.check_invariants(), Ok(()));
    }
}

#[actix_rt::test]
async fn one_that_removes_itself_leaves_its_exit_code() {
    let cell = TestCell::started(1).await;
    let node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    node.look(|machine| machine.exit_code = Some(7));
    with_image(cell.any()).await;
    let mut spec = spec(demand());
    spec.auto_remove = true;
    run_spec(cell.any(), 1, spec).await;
    let fleet = wait_for_state(cell.any(), vm_id(1), "gone").await;
    assert_eq!(fleet.departed(vm_id(1)).unwrap().exit.as_ref().unwrap().code, 7);
}

#[actix_rt::test]
async fn starts_are_spread_over_hosts_and_the_dry_run_says_so_before() {
    let cell = TestCell::started(1).await;
    let nodes: Vec<FakeNode> =
        (1..=3).map(|n| FakeNode::start(&cell, host_id(n), facts(n, "main", &[100]))).collect();
    let scheduler = cell.any();
    with_image(scheduler).await;
    wait_for(scheduler, |fleet| fleet.hosts().len() == 3).await;
    for n in 1..=6 {
        let fleet = linearizable(scheduler).await;
        let system = berth_model::EndpointId::SYSTEM;
        let image = fleet.image(system, IMAGE).map(|image| &image.datastores);
        let (demand, labels) = (demand(), Default::default());
        let ask = Ask { load: Load::Now, ..Ask::create(system, &demand, &labels, image) };
        let planned = scheduler.explain(&fleet, &ask, 4).unwrap();
        run(scheduler, n).await;
        let fleet = linearizable(scheduler).await;
        assert_eq!(fleet.container(vm_id(n)).unwrap().last_host, Some(planned.host));
    }
    for node in &nodes {
        assert_eq!(node.look(|machine| machine.runs.len()), 2);
    }
}

#[actix_rt::test]
async fn what_does_not_fit_says_why_and_starts_when_there_is_room() {
    let cell = TestCell::started(1).await;
    let node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    let scheduler = cell.any();
    with_image(scheduler).await;
    let half = Demand { memory: Bytes::mib(1900), cpu: MilliCpus::whole(1), ..demand() };
    for n in [1, 2] {
        run_spec(scheduler, n, spec(half.clone())).await;
        wait_for_state(scheduler, vm_id(n), "running").await;
    }
    run_spec(scheduler, 3, spec(half)).await;
    let fleet = wait_for(scheduler, |fleet| {
        let state = &fleet.container(vm_id(3)).unwrap().state;
        matches!(state, VmState::Waiting { refused: Some(_), .. })
    })
    .await;
    let VmState::Waiting { refused: Some(why), .. } = &fleet.container(vm_id(3)).unwrap().state
    else {
        unreachable!("just seen");
    };
    assert_eq!(why.refused.get(&Filter::Capacity), Some(&1));
    node.end(vm_id(1), 0);
    wait_for_state(scheduler, vm_id(3), "running").await;
    let refusals = cell.metric(1, "berth_scheduler_refusals_total{filter=\"capacity\"}");
    assert!(refusals >= 1.0);
    assert!(cell.metric(1, "berth_scheduler_placements_total{outcome=\"host\"}") >= 3.0);
}

#[actix_rt::test]
async fn one_key_through_two_replicas_has_one_effect() {
    let cell = TestCell::started(3).await;
    let _node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    with_image(cell.any()).await;
    let key = IdempotencyKey::from_bytes([5; 16]);
    let mut answers = Vec::new();
    for scheduler in cell.schedulers.values() {
        let body = new_container(1, spec(demand()));
        answers.push(try_submit(scheduler, key, body).await.unwrap().change);
    }
    assert_eq!(answers, vec![Change::ContainerCreated { container: vm_id(1) }; 3]);
    let other = try_submit(cell.any(), key, new_container(2, spec(demand()))).await;
    assert!(matches!(other, Err(SubmitError::Rejected(Rejection::KeyReused))));
}

#[actix_rt::test]
async fn a_rejection_reaches_the_client_as_it_is() {
    let cell = TestCell::started(1).await;
    let start = CommandBody::StartContainer { id: vm_id(1) };
    let refused = cell.any().submit(request(start)).await;
    let expected = Rejection::NoSuchContainer(vm_id(1));
    assert!(matches!(refused, Err(SubmitError::Rejected(rejection)) if rejection == expected));
    let mut late = request(new_container(1, spec(demand())));
    late.deadline = std::time::Duration::ZERO;
    assert!(cell.any().submit(late).await.is_err());
}

#[actix_rt::test]
async fn every_acknowledged_write_is_in_a_read_that_begins_after_it_on_any_replica() {
    let cell = TestCell::started(3).await;
    let _node = FakeNode::start(&cell, host_id(1), facts(1, "main", &[100]));
    with_image(cell.any()).await;
    for (n, writer) in (1..=9).zip(cell.schedulers.values().cycle()) {
        let accepted = submit(writer, new_container(n, spec(demand()))).await;
        // The writer shows its own write at once, without asking anyone.
        let own = writer.read(Consistency::Stale).await.unwrap();
        assert!(own.index >= accepted.revision.index);
        assert!(own.fleet.container(vm_id(n)).is_some());
        for reader in cell.schedulers.values() {
            let reading = reader.read(Consistency::Linearizable).await.unwrap();
            assert!(reading.fleet.container(vm_id(n)).is_some());
        }
    }
}

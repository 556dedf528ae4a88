//! Leaders come and go, reads are linearizable, and what is too much is refused.

use std::time::Duration;

use super::group::{Group, PATIENCE};
use crate::{ProposeError, ReadError, Role};

#[tokio::test]
async fn when_the_leader_crashes_another_leads_and_accepts() {
    let mut group = Group::started(3, |_| {}).await;
    let first = group.leader().await;
    group.propose(first, "before").await;
    group.crash(first).await;
    let survivor = *group.replicas.keys().next().unwrap();
    group.propose(survivor, "after").await;
    assert_ne!(group.leader().await, first);
    group.start(first).await;
    assert_eq!(group.read(first).await, ["before", "after"]);
}

#[tokio::test]
async fn a_leader_that_shuts_down_hands_over() {
    let mut group = Group::started(3, |_| {}).await;
    let first = group.leader().await;
    let term = group.handle(first).status().borrow().term;
    group.propose(first, "before").await;
    group.replicas.remove(&first).unwrap().shutdown().await;
    let second = group.leader().await;
    // A transfer, not an election after a timeout: the very next term.
    assert_eq!(group.handle(second).status().borrow().term, term + 1);
    group.propose(second, "after").await;
}

#[tokio::test]
async fn leadership_goes_where_it_is_sent() {
    let group = Group::started(3, |_| {}).await;
    let first = group.leader().await;
    let second = group.follower().await;
    group.handle(first).transfer_leader(second).await;
    group.wait(second, |status| status.role == Role::Leader).await;
    group.propose(first, "through the old leader").await;
}

#[tokio::test]
async fn a_read_on_a_follower_sees_every_write_before_it() {
    let group = Group::started(3, |_| {}).await;
    let leader = group.leader().await;
    let follower = group.follower().await;
    for number in 0..50usize {
        group.propose(leader, &number.to_string()).await;
        let reads = (group.read(follower), group.read(follower));
        let (one, two) = tokio::join!(reads.0, reads.1);
        assert!(one.len() > number && two.len() > number);
    }
}

#[tokio::test]
async fn an_applied_command_is_visible_where_it_was_proposed() {
    let group = Group::started(3, |_| {}).await;
    let leader = group.leader().await;
    for number in 0..50usize {
        group.propose(leader, &number.to_string()).await;
        assert!(group.seen_now(leader).len() > number);
    }
}

#[tokio::test]
async fn commands_beyond_the_bound_are_refused_and_the_rest_told_in_time() {
    let mut group = Group::new(3, |options| options.in_flight_limit = 4);
    group.start(1).await;
    let handle = group.handle(1).clone();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6u8 {
        let handle = handle.clone();
        tasks.spawn(async move { handle.propose(vec![number], Duration::from_millis(500)).await });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        outcomes.push(outcome.unwrap().unwrap_err());
    }
    let count = |error| outcomes.iter().filter(|outcome| **outcome == error).count();
    assert_eq!((count(ProposeError::Full), count(ProposeError::NoLeader)), (2, 4));
    let read = handle.read_index(Duration::from_millis(100)).await;
    assert_eq!(read, Err(ReadError::NoLeader));
    let large = handle.propose(vec![0; 2 << 20], PATIENCE).await;
    assert_eq!(large, Err(ProposeError::TooLarge));
}

#[tokio::test]
async fn without_a_quorum_the_outcome_is_unknown_and_the_leader_steps_down() {
    let mut group = Group::started(3, |_| {}).await;
    let leader = group.leader().await;
    let others: Vec<u64> = group.replicas.keys().copied().filter(|id| *id != leader).collect();
    for other in &others {
        group.crash(*other).await;
    }
    let outcome = group.handle(leader).propose(vec![1], Duration::from_millis(200)).await;
    assert_eq!(outcome, Err(ProposeError::Unknown));
    group.wait(leader, |status| status.role != Role::Leader).await;
    for other in others {
        group.start(other).await;
    }
    group.propose(leader, "together again").await;
}

#[tokio::test]
async fn commands_wait_for_a_leader_until_their_deadline() {
    let mut group = Group::new(3, |_| {});
    group.start(1).await;
    let handle = group.handle(1).clone();
    let early = tokio::spawn(async move { handle.propose(b"early".to_vec(), PATIENCE).await });
    group.start(2).await;
    early.await.unwrap().unwrap();
    assert_eq!(group.read(2).await, ["early"]);
}

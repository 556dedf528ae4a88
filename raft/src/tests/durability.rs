//! What was acknowledged stays, whatever happens to the processes.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::group::{Group, PATIENCE};
use crate::{ProposeError, StopReason};

#[tokio::test]
async fn a_command_through_any_replica_is_applied_on_all_in_one_order() {
    let group = Group::started(3, |_| {}).await;
    for round in 0..5 {
        for id in 1..=3 {
            group.propose(id, &format!("{round}-{id}")).await;
        }
    }
    let first = group.read(1).await;
    assert_eq!(first.len(), 15);
    assert_eq!(first, group.read(2).await);
    assert_eq!(first, group.read(3).await);
    let times = group.seen[&1].times.lock().unwrap().clone();
    assert!(times.is_sorted() && times[0] > 0);
    assert_eq!(times, *group.seen[&2].times.lock().unwrap());
}

/// Also with commands in the air, which may or may not be there afterwards, but once at most.
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_all_replicas_crash() {
    let mut group = Group::started(3, |_| {}).await;
    group.leader().await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..120u64 {
            let handle = group.handle(number % 3 + 1).clone();
            tasks.spawn(async move {
                let command = format!("{round}-{number}");
                let outcome = handle.propose(command.clone().into(), PATIENCE).await;
                outcome.map(|_| command)
            });
        }
        for _ in 0..60 {
            acknowledged.extend(tasks.join_next().await.unwrap().unwrap());
        }
        group.crash_all().await;
        while let Some(outcome) = tasks.join_next().await {
            acknowledged.extend(outcome.unwrap());
        }
        group.start_all().await;
        group.leader().await;
    }
    assert!(acknowledged.len() >= 180);
    let first = group.read(1).await;
    let distinct: BTreeSet<String> = first.iter().cloned().collect();
    assert_eq!(distinct.len(), first.len(), "a command was applied twice");
    assert!(acknowledged.is_subset(&distinct), "an acknowledged command is gone");
    assert_eq!(first, group.read(2).await);
    assert_eq!(first, group.read(3).await);
}

#[tokio::test]
async fn a_follower_far_behind_gets_a_snapshot_and_starts_again_from_it() {
    let mut group = Group::started(3, |options| {
        options.snapshot_every = 40;
        options.snapshot_trailing = 5;
    })
    .await;
    let late = group.follower().await;
    group.propose(late, "before").await;
    group.crash(late).await;
    let leader = group.leader().await;
    for number in 0..150 {
        group.propose(leader, &format!("meanwhile-{number}")).await;
    }
    let snapshots = group.directory.path().join(format!("replica-{leader}/snapshots"));
    let made = || std::fs::read_dir(&snapshots).unwrap().count();
    assert!(made() >= 1, "the leader made a snapshot");
    group.start(late).await;
    let all = group.read(late).await;
    assert_eq!(all.len(), 151);
    assert!(group.seen[&late].restored.load(Ordering::SeqCst), "it came by snapshot");
    group.propose(late, "after").await;
    group.crash(late).await;
    group.start(late).await;
    assert!(group.seen[&late].restored.load(Ordering::SeqCst), "it starts from it too");
    assert_eq!(group.read(late).await.len(), 152);
    assert!(made() <= 2, "older snapshots are removed");
}

#[tokio::test]
async fn one_replica_alone_is_a_group_and_comes_back() {
    let mut group = Group::started(1, |options| {
        options.snapshot_every = 10;
        options.snapshot_trailing = 2;
    })
    .await;
    for number in 0..35 {
        group.propose(1, &number.to_string()).await;
    }
    group.replicas.remove(&1).unwrap().shutdown().await;
    group.start(1).await;
    assert_eq!(group.read(1).await.len(), 35);
}

#[tokio::test]
async fn a_replica_whose_state_differs_stops() {
    let group = Group::started(3, |options| options.hash_every = 8).await;
    let leader = group.leader().await;
    let follower = group.follower().await;
    for number in 0..20 {
        group.propose(leader, &number.to_string()).await;
    }
    group.seen[&follower].corrupt.store(true, Ordering::SeqCst);
    for number in 20..40 {
        group.propose(leader, &number.to_string()).await;
    }
    let stopped = tokio::time::timeout(PATIENCE, group.handle(follower).stopped()).await;
    assert!(matches!(stopped.unwrap(), StopReason::Diverged { index } if index % 8 == 0));
    let refused = group.handle(follower).propose(vec![1], PATIENCE).await;
    assert_eq!(refused, Err(ProposeError::Stopped));
    group.propose(leader, "the others go on").await;
}

/// raft-rs itself would panic here.
#[tokio::test]
async fn a_replica_that_lost_its_directory_stops() {
    let mut group = Group::started(3, |_| {}).await;
    let follower = group.follower().await;
    for number in 0..10 {
        group.propose(follower, &number.to_string()).await;
    }
    group.read(follower).await;
    group.crash(follower).await;
    let directory = group.options(follower).directory;
    std::fs::remove_dir_all(directory).unwrap();
    group.start(follower).await;
    let stopped = tokio::time::timeout(PATIENCE, group.handle(follower).stopped()).await;
    assert!(matches!(stopped.unwrap(), StopReason::LostLog { .. }));
}

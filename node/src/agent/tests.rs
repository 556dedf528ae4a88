//! The agent with the simulated hypervisor: orders in, facts out.

use super::*;
use crate::output;
use crate::stage::{Machine, Stage, container};
use berth_model::Timestamp;
use berth_model::assignment::Want;
use berth_model::container::StopOrder;

/// `started 1`, `exited 1 7`, `failed 1 128`, `discarded 1`: first byte of the id, and the code.
fn show(fact: &Fact) -> String {
    match fact {
        Fact::VmStarted { container, .. } => format!("started {}", container.as_bytes()[0]),
        Fact::VmExited { container, exit, .. } => {
            format!("exited {} {}", container.as_bytes()[0], exit.code)
        }
        Fact::VmStartFailed { container, exit, .. } => {
            format!("failed {} {}", container.as_bytes()[0], exit.code)
        }
        Fact::Discarded { container } => format!("discarded {}", container.as_bytes()[0]),
    }
}

async fn check(node: &mut Stage, expected: &[&str]) {
    for expected in expected {
        assert_eq!(show(&node.fact().await), *expected);
    }
}

#[actix_rt::test]
async fn what_is_assigned_runs_and_its_end_is_reported() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let run = node.run("print hello; exit 7");
    node.obey(true, &[(container(1), 1, run)]).await;
    check(&mut node, &["started 1", "exited 1 7"]).await;
}

#[actix_rt::test]
async fn what_is_not_assigned_any_more_is_ended() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let (one, two) = (node.run("sleep 1000"), node.run("sleep 1000"));
    node.obey(true, &[(container(1), 1, one)]).await;
    check(&mut node, &["started 1"]).await;
    node.obey(false, &[(container(2), 1, two)]).await;
    let facts = [show(&node.fact().await), show(&node.fact().await)];
    assert!(facts.contains(&"exited 1 137".to_owned()), "{facts:?}");
    assert!(facts.contains(&"started 2".to_owned()), "{facts:?}");
}

#[actix_rt::test]
async fn a_stop_order_ends_the_run_by_its_signal() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let run = node.run("sleep 1000");
    node.obey(true, &[(container(1), 1, run)]).await;
    check(&mut node, &["started 1"]).await;
    let run = Box::new(node.order("sleep 1000"));
    let order = StopOrder { signal: 15, grace_seconds: Some(100) };
    node.obey(false, &[(container(1), 1, Want::Stop { run, order })]).await;
    check(&mut node, &["exited 1 143"]).await;
}

#[actix_rt::test]
async fn a_run_under_a_new_epoch_begins_after_the_old_one_has_ended() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let run = node.run("sleep 1000");
    node.obey(true, &[(container(1), 1, run.clone())]).await;
    check(&mut node, &["started 1"]).await;
    node.obey(false, &[(container(1), 2, run)]).await;
    check(&mut node, &["exited 1 137", "started 1"]).await;
    assert_eq!(machine.hypervisor.running(), 1);
}

#[actix_rt::test]
async fn a_discarded_container_is_ended_and_its_directory_is_gone() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let run = node.run("sleep 1000");
    node.obey(true, &[(container(1), 1, run)]).await;
    check(&mut node, &["started 1"]).await;
    assert!(machine.datastore.container(container(1)).exists());
    node.obey(false, &[(container(1), 1, Want::Discard)]).await;
    check(&mut node, &["exited 1 137", "discarded 1"]).await;
    assert!(!machine.datastore.container(container(1)).exists());
    // The next leader may not have heard.
    node.obey(true, &[(container(1), 1, Want::Discard)]).await;
    check(&mut node, &["discarded 1"]).await;
}

#[actix_rt::test]
async fn an_exit_is_reported_again_to_the_next_session_and_nothing_starts_twice() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let run = node.run("exit 3");
    node.obey(true, &[(container(1), 1, run.clone())]).await;
    check(&mut node, &["started 1", "exited 1 3"]).await;
    node.obey(false, &[(container(1), 1, run.clone())]).await;
    node.lose_session().await;
    assert!(node.no_fact());
    node.obey(true, &[(container(1), 1, run)]).await;
    check(&mut node, &["exited 1 3"]).await;
    assert_eq!(machine.hypervisor.running(), 0);
}

#[actix_rt::test]
async fn a_restarted_node_reports_an_end_from_the_datastore_and_does_not_start_again() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let run = node.run("exit 3");
    node.obey(true, &[(container(1), 1, run.clone())]).await;
    check(&mut node, &["started 1", "exited 1 3"]).await;
    drop(node);
    let mut node = machine.node().await;
    node.obey(true, &[(container(1), 1, run)]).await;
    check(&mut node, &["exited 1 3"]).await;
    assert_eq!(machine.hypervisor.running(), 0);
}

#[actix_rt::test]
async fn a_run_that_was_lost_with_its_host_is_over() {
    let machine = Machine::new();
    let directory = machine.datastore.container(container(1));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(output::log_path(&directory, Epoch(1)), b"").unwrap();
    let mut node = machine.node().await;
    let run = node.run("exit 3");
    node.obey(true, &[(container(1), 1, run)]).await;
    let Fact::VmExited { exit, finished_at, .. } = node.fact().await else {
        panic!("it was started, as far as anybody knows");
    };
    assert_eq!(exit.code, 255);
    assert!(finished_at > Timestamp(0));
    assert_eq!(machine.hypervisor.running(), 0);
}

#[actix_rt::test]
async fn without_a_session_nothing_is_started() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let run = node.run("sleep 1000");
    node.obey(true, &[(container(1), 1, run.clone())]).await;
    check(&mut node, &["started 1"]).await;
    node.obey(false, &[(container(1), 2, run.clone())]).await;
    node.lose_session().await;
    // The old epoch was killed on a leader's word; the new one waits for the next.
    check(&mut node, &["exited 1 137"]).await;
    let located = node.locator().ask(Locate(container(1))).await.flatten().unwrap();
    assert!(located.run.is_none() && node.no_fact());
    node.obey(true, &[(container(1), 2, run)]).await;
    check(&mut node, &["started 1"]).await;
}

#[actix_rt::test]
async fn a_container_on_a_datastore_out_of_reach_fails_to_start_and_says_why() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    node.datastores.send_replace(Arc::default());
    let run = node.run("exit 0");
    node.obey(true, &[(container(1), 1, run)]).await;
    let Fact::VmStartFailed { exit, .. } = node.fact().await else {
        panic!("it cannot start");
    };
    assert!(exit.error.contains("does not reach"), "{}", exit.error);
}

#[actix_rt::test]
async fn a_discard_that_fails_is_tried_again() {
    let machine = Machine::new();
    let mut node = machine.node().await;
    let reached = node.datastores.borrow().clone();
    node.datastores.send_replace(Arc::default());
    node.obey(true, &[(container(1), 1, Want::Discard)]).await;
    assert!(node.no_fact());
    node.datastores.send_replace(reached);
    check(&mut node, &["discarded 1"]).await;
}

//! kill -9 of what runs a cell: nothing acknowledged is lost, nothing happens twice, container VMs
//! go on.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_tests::cell::Cell;
use berth_tests::wait;

/// Rounds of killing the leader; the full count belongs to `cargo xtask test --long`.
fn rounds() -> usize {
    if std::env::var_os("BERTH_LONG").is_some() { 20 } else { 3 }
}

#[test]
fn a_killed_leader_costs_no_acknowledged_container_and_doubles_none() {
    let cell = Cell::up("ll", 17700);
    let docker = cell.docker(1);
    let archive = Cell::image_archive("busybox");
    docker.ok(&["load", "-i", archive.to_str().expect("a text path")]);

    let mut acknowledged = BTreeSet::new();
    let mut names = 0;
    let mut gaps = Vec::new();
    for round in 0..rounds() {
        let leader = cell.leader();
        let survivors: Vec<u16> = (1..=3).filter(|r| *r != leader).collect();
        // A client that starts container VMs one after the other while the leader dies.
        let runs = std::thread::spawn({
            let docker = cell.docker(survivors[0]);
            move || {
                let mut started = Vec::new();
                for run in 0..2 {
                    let name = format!("run-{round}-{run}");
                    let run = ["run", "-d", "-m", "64m", "--name", &name, "busybox", "true"];
                    let outcome = docker.run(&run);
                    if outcome.code == Some(0) {
                        started.push((name, outcome.stdout.trim().to_owned()));
                    }
                }
                started
            }
        });
        cell.kill_scheduler(leader);
        let killed = wait::now();
        // The client of a replica that lives may be told to try again, never a false yes.
        wait::until(Duration::from_secs(30), "a write is accepted again", || {
            names += 1;
            let name = format!("n{names}");
            let at = survivors[names % survivors.len()];
            let outcome = cell.docker(at).run(&["create", "--name", &name, "busybox", "true"]);
            if outcome.code == Some(0) {
                acknowledged.insert((name, outcome.stdout.trim().to_owned()));
                Ok(())
            } else {
                Err(format!("{outcome:?}"))
            }
        });
        gaps.push(killed.elapsed());
        acknowledged.extend(runs.join().expect("the client's thread ends"));
        cell.await_scheduler(leader);
    }
    let runs = acknowledged.iter().filter(|(name, _)| name.starts_with("run-")).count();
    assert!(runs >= rounds(), "hardly any `docker run -d` came through: {acknowledged:?}");
    let run = cell.docker(2).ok(&["run", "-d", "--name", "runs", "busybox", "sleep", "3600"]);
    acknowledged.insert(("runs".to_owned(), run));

    for replica in 1..=3 {
        let listed =
            cell.docker(replica).ok(&["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
        let mut seen = BTreeSet::new();
        for line in listed.lines() {
            let (name, id) = line.split_once(' ').expect("a name and an id");
            assert!(seen.insert((name.to_owned(), id.to_owned())), "{line} twice");
        }
        let names: BTreeSet<&String> = seen.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), seen.len(), "a name twice: {seen:?}");
        for container in &acknowledged {
            assert!(seen.contains(container), "{container:?} was acknowledged; {listed}");
        }
    }
    gaps.sort();
    println_report(&format!(
        "leader loss to next accepted write, {} rounds: median {:.2} s, worst {:.2} s",
        gaps.len(),
        gaps[gaps.len() / 2].as_secs_f64(),
        gaps[gaps.len() - 1].as_secs_f64()
    ));
}

#[test]
fn container_vms_outlive_every_process_of_ours() {
    let mut cell = Cell::up("lp", 17800);
    let docker = cell.docker(1);
    let archive = Cell::image_archive("busybox");
    docker.ok(&["load", "-i", archive.to_str().expect("a text path")]);
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done";
    for name in ["one", "two", "three"] {
        docker.ok(&["run", "-d", "--name", name, "-m", "64m", "busybox", "sh", "-c", script]);
    }
    let before = cell.hypervisors();
    assert_eq!(before.len(), 3, "{before:?}");

    cell.kill_up();
    cell.kill_all_processes();
    assert_eq!(cell.hypervisors(), before, "the hypervisors run on");
    let lines = |text: &str| text.lines().count();
    let written = cell.output_bytes();
    wait::until(Duration::from_secs(30), "container VMs write on with nobody there", || {
        let now = cell.output_bytes();
        if now > written + 300 { Ok(()) } else { Err(format!("{written} -> {now} bytes")) }
    });

    cell.start();
    assert_eq!(cell.hypervisors(), before, "re-adopted, not started again");
    let docker = cell.docker(3);
    for name in ["one", "two", "three"] {
        wait::until(Duration::from_secs(60), "the node has it again", || {
            let status = docker.run(&["inspect", "-f", "{{.State.Status}}", name]);
            if status.stdout.trim() == "running" { Ok(()) } else { Err(format!("{status:?}")) }
        });
        let logs = wait::until(Duration::from_secs(60), "more than twenty lines are there", || {
            let logs = docker.ok(&["logs", name]);
            if lines(&logs) > 20 { Ok(logs) } else { Err(logs) }
        });
        for (number, line) in logs.lines().enumerate() {
            assert_eq!(line, format!("line {number}"), "{name} lost output");
        }
        docker.ok(&["kill", name]);
        assert_eq!(docker.ok(&["wait", name]), "137");
    }
}

/// A figure for people; timings are printed, never asserted.
fn println_report(text: &str) {
    eprintln!("{text}");
}

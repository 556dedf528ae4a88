//! A datastore and a delta disk that are full: each says so, nothing half made stays, and who was
//! running goes on once there is room.

use std::time::Duration;

use berth_tests::cell::{Cell, fetch};
use berth_tests::docker::Docker;
use berth_tests::exposition::Targets;
use berth_tests::tmpfs::{Tmpfs, put_datastores_on};
use berth_tests::{leftovers, wait};
use serde_json::Value;

/// Far beyond this machine's memory, and never filled: room for what placement reckons with.
const ROOMY_MIB: u64 = 64 << 10;

fn claim(what: &str) {
    eprintln!("-- {what}");
}

#[test]
fn a_full_disk_says_so_halts_nobody_for_good_and_leaves_nothing() {
    // Before the cell, so that it is unmounted after it.
    let disk = Tmpfs::mount(ROOMY_MIB);
    let cell = Cell::up_prepared("fd", 17600, |state| put_datastores_on(&disk, state));
    let docker = cell.docker(3);
    let busybox = Cell::image_archive("busybox");
    docker.ok(&["load", "-i", busybox.to_str().expect("a text path")]);

    claim("a delta disk that is full is the program's error, and its container goes on");
    let script = "dd if=/dev/zero of=/big bs=1M count=200; echo exit $?; rm /big; echo room > /small && cat /small";
    let outcome =
        docker.run(&["run", "--rm", "--storage-opt", "size=64m", "busybox", "sh", "-c", script]);
    assert_eq!(outcome.stdout, "exit 1\nroom\n", "{outcome:?}");
    assert!(outcome.stderr.contains("No space left on device"), "{outcome:?}");

    let blocks = "dd if=/dev/zero of=/big bs=1M count=24 conv=fsync 2>/dev/null && echo written";
    start_on_signal(&docker, "writer", blocks);
    start_on_signal(&docker, "talker", "seq 400000");

    claim("an archive that does not fit is refused, and leaves nothing");
    disk.shrink_to_free_mib(2);
    let redis = Cell::image_archive("redis");
    let outcome = docker.run(&["load", "-i", redis.to_str().expect("a text path")]);
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("no space left on datastore"), "{outcome:?}");
    assert_eq!(docker.ok(&["images", "--format", "{{.Repository}}"]), "busybox");

    claim("a container that does not fit is refused once the nodes have seen how full it is");
    wait::until(Duration::from_secs(60), "the full datastores are known", || {
        let text = fetch(&format!("{}/v1/datastores", cell.api(1)))?;
        let answer: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let items = answer["items"].as_array().ok_or_else(|| text.clone())?;
        let known = items.iter().all(|item| item["free_bytes"] == 0);
        if known { Ok(()) } else { Err(text) }
    });
    let outcome = docker.run(&["run", "--rm", "busybox", "true"]);
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    for word in ["0 of 3 hosts fit", "disk"] {
        assert!(outcome.stderr.contains(word), "{outcome:?}");
    }

    claim("a container VM that cannot write waits for room");
    let targets = Targets::of(&cell);
    docker.ok(&["kill", "-s", "USR1", "writer"]);
    docker.ok(&["kill", "-s", "USR1", "talker"]);
    wait::until(Duration::from_secs(60), "a container VM halts", || {
        let stalls = targets.sum_over_nodes("berth_node_vm_stalls_total")?;
        if stalls > 0.0 { Ok(()) } else { Err(format!("{stalls} stalls")) }
    });
    let running = docker.ok(&["ps", "--format", "{{.Names}}"]);
    assert_eq!(running.lines().count(), 2, "{running}");

    claim("with room it goes on, and nothing that was written is missing");
    disk.grow_to_mib(ROOMY_MIB);
    assert_eq!(docker.ok(&["wait", "writer", "talker"]), "0\n0");
    assert_eq!(docker.ok(&["logs", "writer"]), "ready\nwritten");
    let logs = docker.ok(&["logs", "talker"]);
    let want: Vec<String> = (1..=400_000).map(|n: u32| n.to_string()).collect();
    assert!(logs == format!("ready\n{}", want.join("\n")), "{} bytes of output", logs.len());
    wait::until(Duration::from_secs(60), "containers are placed again", || {
        let outcome = docker.run(&["run", "--rm", "busybox", "true"]);
        if outcome.code == Some(0) { Ok(()) } else { Err(outcome.stderr) }
    });

    docker.ok(&["rm", "writer", "talker"]);
    assert_eq!(docker.ok(&["ps", "-aq"]), "");
    leftovers::await_none(&cell);
}

/// Runs `then` once it gets SIGUSR1; ready for that when this returns.
fn start_on_signal(docker: &Docker, name: &str, then: &str) {
    let script = format!(
        "go=; trap go=1 USR1; echo ready; while [ -z \"$go\" ]; do sleep 0.1; done; {then}"
    );
    docker.ok(&["run", "-d", "--name", name, "-m", "64m", "busybox", "sh", "-c", &script]);
    wait::until(Duration::from_secs(30), "the container listens for the signal", || {
        let logs = docker.ok(&["logs", name]);
        if logs == "ready" { Ok(()) } else { Err(logs) }
    });
}

//! What cannot be done is refused by name, with what to do instead, and leaves nothing behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use berth_tests::cell::Cell;
use berth_tests::docker::{Docker, Outcome, finish};
use berth_tests::{from_environment, leftovers};

fn claim(what: &str) {
    eprintln!("-- {what}");
}

#[test]
fn what_cannot_be_done_is_refused_by_name_and_leaves_nothing() {
    let cell = Cell::up("rf", 17500);
    let docker = cell.docker(2);
    let archive = Cell::image_archive("busybox");

    claim("an unknown image");
    let outcome = docker.run(&["run", "--rm", "nope", "true"]);
    refused(&outcome, &["nope:latest", "docker load"]);
    nothing_was_made(&docker);

    claim("a broken archive");
    let whole = std::fs::read(&archive).expect("the busybox archive");
    let broken = cell.state.path().join("broken.tar");
    std::fs::write(&broken, &whole[..whole.len() / 2]).expect("half an archive");
    let outcome = docker.run(&["load", "-i", text(&broken)]);
    refused(&outcome, &["archive"]);
    assert_eq!(docker.ok(&["images", "-q"]), "");

    docker.ok(&["load", "-i", text(&archive)]);
    docker_refuses_options(&docker);

    claim("a cluster too full says which filter refused how many hosts");
    let outcome = docker.run(&["run", "-m", "900g", "busybox", "true"]);
    refused(&outcome, &["0 of 3 hosts fit", "3 refused by capacity", "less memory"]);
    nothing_was_made(&docker);

    claim("a name taken says by whom");
    let id = docker.ok(&["create", "--name", "taken", "busybox", "true"]);
    let outcome = docker.run(&["create", "--name", "taken", "busybox", "true"]);
    refused(&outcome, &["/taken", "already in use", &id]);
    docker.ok(&["rm", "taken"]);

    claim("a hypervisor that dies ends its container with an error");
    docker.ok(&["run", "-d", "--name", "doomed", "-m", "64m", "busybox", "sleep", "3600"]);
    signal(&cell.hypervisors(), "KILL");
    assert_eq!(docker.ok(&["wait", "doomed"]), "255");
    let error = docker.ok(&["inspect", "-f", "{{.State.Status}} {{.State.Error}}", "doomed"]);
    assert!(error.starts_with("exited ") && error.len() > "exited ".len(), "{error}");
    docker.ok(&["rm", "doomed"]);

    claim("a hypervisor that hangs with its guest's agent does not hinder the end");
    docker.ok(&["run", "-d", "--name", "hung", "-m", "64m", "busybox", "sleep", "3600"]);
    signal(&cell.hypervisors(), "STOP");
    docker.ok(&["rm", "-f", "hung"]);

    claim("ports taken and a missing kernel, before anything is started");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let outcome = up(elsewhere.path(), "rf2", 17500, &from_environment("BERTH_ASSETS"));
    refused(&outcome, &["port 1750", "--port-base"]);
    let outcome = up(elsewhere.path(), "rf3", 17580, text(elsewhere.path()));
    refused(&outcome, &["vmlinuz", "cargo xtask"]);

    assert!(!elsewhere.path().join("state").exists(), "a state directory is left");

    claim("nothing is left");
    nothing_was_made(&docker);
    berth_tests::wait::until(std::time::Duration::from_secs(30), "hypervisors are gone", || {
        let left = cell.hypervisors();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    leftovers::await_none(&cell);
}

fn docker_refuses_options(docker: &Docker) {
    let cases: &[(&[&str], &[&str])] = &[
        (&["-v", "/etc:/x"], &["Binds", "host paths"]),
        (&["--privileged"], &["Privileged"]),
        (&["--network", "host"], &["NetworkMode"]),
        (&["--pid", "host"], &["PidMode"]),
        (&["-p", "80:80"], &["PortBindings", "networks"]),
        (&["--restart", "always"], &["RestartPolicy"]),
        (&["-v", "data:/data"], &["olume"]),
        (&["--cap-add", "SYS_ADMIN"], &["CapAdd"]),
        (&["--memory-swap", "1g", "-m", "64m"], &["MemorySwap"]),
    ];
    for (options, words) in cases {
        claim(&format!("docker run {}", options.join(" ")));
        let mut run = vec!["run"];
        run.extend_from_slice(options);
        run.extend(["busybox", "true"]);
        refused(&docker.run(&run), words);
        nothing_was_made(docker);
    }
}

fn nothing_was_made(docker: &Docker) {
    assert_eq!(docker.ok(&["ps", "-aq"]), "");
}

fn signal(pids: &BTreeSet<u32>, signal: &str) {
    assert_eq!(pids.len(), 1, "{pids:?}");
    for pid in pids {
        let sent = Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
        assert!(sent.expect("`kill` is on PATH").success());
    }
}

fn refused(outcome: &Outcome, words: &[&str]) {
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

/// `berth up` that is expected to fail.
fn up(state: &Path, name: &str, port_base: u16, assets: &str) -> Outcome {
    let child = Command::new(from_environment("BERTH_BIN"))
        .args(["up", "--assets", assets, "--name", name])
        .args(["--port-base", &port_base.to_string(), "--state"])
        .arg(state.join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("BERTH_BIN names the berth binary");
    finish(child, "berth up")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

//! The whole trip with real images and real guests: what the stock Docker client sees on a cell
//! of three schedulers and three hosts.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use berth_tests::cell::Cell;
use berth_tests::docker::{Docker, finish};
use berth_tests::{from_environment, wait};
use serde_json::Value;

/// Names what is shown, so that a failure says how far the story went.
fn claim(what: &str) {
    eprintln!("-- {what}");
}

#[test]
fn docker_runs_containers_as_virtual_machines_on_three_hosts() {
    let cell = Cell::up("fl", 17100);
    let docker = cell.docker(1);

    claim("images load from archives and show");
    for image in ["busybox", "redis", "nginx"] {
        let archive = Cell::image_archive(image);
        let said = docker.ok(&["load", "-i", archive.to_str().expect("a text path")]);
        assert!(said.contains(&format!("Loaded image: {image}:latest")), "{said}");
    }
    let images = docker.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let images: BTreeSet<&str> = images.lines().collect();
    assert_eq!(images, BTreeSet::from(["busybox:latest", "redis:latest", "nginx:latest"]));

    a_container_has_its_own_kernel(&docker);
    output_input_and_exit_codes_come_through(&docker);
    options_of_run_are_honoured(&docker);
    a_terminal_has_a_size_and_follows_it(&docker);
    services_answer_inside(&docker);
    a_detached_container_lives_its_life(&docker);
    ten_containers_spread_over_three_hosts(&cell);
}

fn a_container_has_its_own_kernel(docker: &Docker) {
    claim("uname -r prints the guest's kernel");
    let assets =
        std::fs::read_to_string(format!("{}/assets.json", from_environment("BERTH_ASSETS")))
            .expect("assets.json beside the guest's kernel");
    let assets: Value = serde_json::from_str(&assets).expect("assets.json is JSON");
    let kernel = docker.ok(&["run", "--rm", "busybox", "uname", "-r"]);
    assert_eq!(Some(kernel.as_str()), assets["kernel_release"].as_str());
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a Linux host");
    assert_ne!(kernel, host.trim());
}

fn output_input_and_exit_codes_come_through(docker: &Docker) {
    claim("an exit code comes back");
    let outcome = docker.run(&["run", "--rm", "busybox", "sh", "-c", "exit 7"]);
    assert_eq!(outcome.code, Some(7), "{outcome:?}");

    claim("stdout and stderr stay apart, and all of both comes");
    let script = "i=0; while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let outcome = docker.run(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let lines = |word: &str| (0..500).map(|i| format!("{word} {i}\n")).collect::<String>();
    assert_eq!(outcome.stdout, lines("out"));
    assert_eq!(outcome.stderr, lines("err"));

    claim("standard input reaches the process, and its end too");
    let input: Vec<u8> = (0..20_000).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
    let outcome = docker.run_with_input(&["run", "--rm", "-i", "busybox", "cat"], Some(&input));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.stdout.as_bytes(), input, "cat gives back what it got");

    claim("a missing program is exit code 127, and nothing is left");
    let outcome = docker.run(&["run", "--rm", "busybox", "no-such-program"]);
    assert_eq!(outcome.code, Some(127), "{outcome:?}");
    assert!(outcome.stderr.contains("executable file not found"), "{outcome:?}");
    assert_eq!(docker.ok(&["ps", "-aq"]), "");
}

fn options_of_run_are_honoured(docker: &Docker) {
    claim("-e, -w, -u, --entrypoint, --hostname, -m, --cpus are honoured");
    let script = "echo $GREETING; pwd; id -u; hostname; cat /sys/fs/cgroup/memory.max; nproc";
    let out = docker.ok(&[
        "run",
        "--rm",
        "-e",
        "GREETING=hello",
        "-w",
        "/tmp",
        "-u",
        "nobody",
        "--hostname",
        "ship",
        "-m",
        "96m",
        "--cpus",
        "2",
        "--entrypoint",
        "sh",
        "busybox",
        "-c",
        script,
    ]);
    let want = format!("hello\n/tmp\n65534\nship\n{}\n2", 96 << 20);
    assert_eq!(out, want);
}

fn a_terminal_has_a_size_and_follows_it(docker: &Docker) {
    claim("docker run -it has the terminal's size and is told of a new one");
    // `script` gives the client a terminal; the inner `stty` of that terminal sets its size first,
    // and again once the container has asked for it.
    let run = "stty rows 33 cols 101; docker run --rm -it --name tty busybox sh -c \
               'until [ \"$(stty size)\" = \"33 101\" ]; do :; done; echo first; \
                until [ \"$(stty size)\" = \"44 120\" ]; do :; done; echo second'";
    let mut command = std::process::Command::new("script");
    command
        .args(["-qec", run, "/dev/null"])
        .env("DOCKER_HOST", &docker.host)
        .env("DOCKER_CONFIG", &docker.config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("`script` of util-linux is on PATH");
    let script = child.id();
    wait::until(Duration::from_secs(60), "the container has a terminal", || {
        let logs = docker.run(&["logs", "tty"]);
        if logs.stdout.contains("first") { Ok(()) } else { Err(format!("{logs:?}")) }
    });
    let terminal = terminal_of_child(script);
    let resized = std::process::Command::new("stty")
        .args(["-F", &terminal, "rows", "44", "cols", "120"])
        .status()
        .expect("`stty` is on PATH");
    assert!(resized.success());
    let outcome = finish(child, "docker run -it");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("second"), "{outcome:?}");
}

/// The terminal that a child of process `parent` has as its standard input.
fn terminal_of_child(parent: u32) -> String {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
        .expect("the kernel lists children");
    let child = children.split_whitespace().next().expect("`script` has a child");
    let terminal = std::fs::read_link(format!("/proc/{child}/fd/0")).expect("an open stdin");
    terminal.to_str().expect("a text path").to_owned()
}

fn services_answer_inside(docker: &Docker) {
    claim("redis answers inside its container VM");
    let script = "redis-server --daemonize yes >/dev/null; \
                  until redis-cli ping 2>/dev/null | grep -q PONG; do :; done; \
                  redis-cli set port berth; redis-cli get port";
    assert_eq!(docker.ok(&["run", "--rm", "redis", "sh", "-c", script]), "OK\nberth");

    claim("nginx answers inside its container VM");
    let script = "nginx; exec 3<>/dev/tcp/127.0.0.1/80; \
                  printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3";
    let out = docker.ok(&["run", "--rm", "nginx", "bash", "-c", script]);
    // Its access log is on the same output.
    assert!(out.lines().any(|line| line.trim() == "HTTP/1.1 200 OK"), "{out}");
}

fn a_detached_container_lives_its_life(docker: &Docker) {
    claim("-d, --name, ps, inspect, logs, attach, stop, start, kill, wait, rm");
    let script = "trap 'echo bye; exit 3' TERM; echo up; i=0; while :; do sleep 1; done";
    let id = docker.ok(&["run", "-d", "--name", "life", "busybox", "sh", "-c", script]);
    assert_eq!(id.len(), 64);
    assert_eq!(docker.ok(&["ps", "--format", "{{.Names}} {{.Image}}"]), "life busybox");
    assert_eq!(docker.ok(&["inspect", "-f", "{{.State.Status}}", "life"]), "running");
    let follower = docker
        .command(&["logs", "-f", "life"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the `docker` client is on PATH");
    let attached = docker
        .command(&["attach", "--no-stdin", "--sig-proxy=false", "life"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the `docker` client is on PATH");
    wait::until(Duration::from_secs(30), "the first line is in the log", || {
        let logs = docker.ok(&["logs", "life"]);
        if logs == "up" { Ok(()) } else { Err(logs) }
    });
    docker.ok(&["stop", "life"]);
    assert_eq!(finish(follower, "docker logs -f").stdout, "up\nbye\n");
    let outcome = finish(attached, "docker attach");
    // It came before the first line or after it; it gets all from then on, and the exit code.
    assert!(["bye\n", "up\nbye\n"].contains(&outcome.stdout.as_str()), "{outcome:?}");
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(docker.ok(&["inspect", "-f", "{{.State.ExitCode}}", "life"]), "3");
    assert_eq!(docker.ok(&["wait", "life"]), "3");
    docker.ok(&["start", "life"]);
    assert_eq!(docker.ok(&["inspect", "-f", "{{.State.Status}}", "life"]), "running");
    wait::until(Duration::from_secs(30), "the second run has begun to write", || {
        let logs = docker.ok(&["logs", "life"]);
        if logs == "up\nbye\nup" { Ok(()) } else { Err(logs) }
    });
    docker.ok(&["kill", "life"]);
    assert_eq!(docker.ok(&["wait", "life"]), "137");
    assert_eq!(docker.ok(&["logs", "life"]), "up\nbye\nup");
    docker.ok(&["rm", "life"]);
    let gone = docker.run(&["inspect", "life"]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

fn ten_containers_spread_over_three_hosts(cell: &Cell) {
    claim("10 containers spread over the three hosts, and every replica lists the same");
    let docker = cell.docker(1);
    let mut started = Vec::new();
    for number in 0..10 {
        let name = format!("spread-{number}");
        let run = ["run", "-d", "--name", &name, "-m", "64m", "busybox", "sleep", "3600"];
        started.push(docker.ok(&run));
    }
    let mut used = BTreeSet::new();
    for id in &started {
        let host = docker.ok(&["inspect", "-f", "{{index .Config.Labels \"berth.host\"}}", id]);
        used.insert(host);
    }
    assert_eq!(used.len(), 3, "{used:?}");
    let list = |replica| {
        let ids = cell.docker(replica).ok(&["ps", "-q", "--no-trunc"]);
        ids.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let want: BTreeSet<String> = started.iter().cloned().collect();
    for replica in 1..=3 {
        assert_eq!(list(replica), want, "as replica {replica} lists it");
    }
    let mut remove = vec!["rm", "-f"];
    remove.extend(started.iter().map(String::as_str));
    docker.ok(&remove);
}
